//! Measures what relaying costs, compared with HAProxy where it is installed. These are the
//! figures of `docs/performance.md`. `benches/relay.sh` runs it.
//!
//! Each relay gets as many cores as it has workers. Players and backends get the other
//! cores, or all cores if none is left. What a relay costs is read from the kernel
//! (`/proc/<pid>/task/*/schedstat`). The relays take turns, a fresh process for each
//! measurement, and the tables show medians and ratios: those hold on other machines,
//! absolute figures do not.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout
)]

#[cfg(target_os = "linux")]
#[path = "relay/framed.rs"]
mod framed;
#[cfg(target_os = "linux")]
#[path = "relay/load.rs"]
mod load;
#[cfg(target_os = "linux")]
#[path = "relay/relays.rs"]
mod relays;

#[cfg(target_os = "linux")]
fn main() {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    // `cargo test --benches` runs this too, and `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let rounds: usize = setting("ROUNDS", 3);
    let seconds: f64 = setting("SECONDS", 2.0);
    let workers: usize = setting("WORKERS", 1);
    let wanted: String = setting("SCENARIOS", String::new());

    let allowed = sched_getaffinity(Pid::this()).unwrap();
    let cores: Vec<_> = (0..CpuSet::count())
        .filter(|core| allowed.is_set(*core).unwrap())
        .collect();
    assert!(workers > 0 && workers <= cores.len(), "WORKERS or cores");
    let (relay, mut others) = cores.split_at(workers);
    if others.is_empty() {
        others = &cores;
    }
    let mut own = CpuSet::new();
    others.iter().for_each(|core| own.set(*core).unwrap());
    sched_setaffinity(Pid::this(), &own).unwrap();
    println!("relays on cores {relay:?}, players and backends on {others:?}");
    let _limit = infrarust::socket::raise_open_files();

    let (all, framed) = (relays::all(relay), relays::framed(relay));
    let chosen: String = setting("RELAYS", String::new());
    let is_chosen = |relay: &relays::Relay| chosen.split(';').any(|word| relay.name.contains(word));
    let choose = |relays: Vec<relays::Relay>| relays.into_iter().filter(is_chosen).collect();
    let (all, framed): (Vec<_>, Vec<_>) = (choose(all), choose(framed));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for scenario in load::SCENARIOS {
        if !wanted.is_empty() && !wanted.split(',').any(|name| name == scenario.name) {
            continue;
        }
        let relays = if scenario.is_framed() { &framed } else { &all };
        let relays: Vec<&relays::Relay> = relays
            .iter()
            .filter(|relay| relay.authenticates() || !scenario.is_authenticated())
            .collect();
        relays.iter().for_each(|relay| relay.prepare());
        let mut measured = vec![Vec::new(); relays.len()];
        for round in 0..rounds {
            for turn in 0..relays.len() {
                // Each round begins with another relay, so that none always runs first.
                let index = (turn + round) % relays.len();
                let figures = runtime.block_on(load::measure(scenario, relays[index], seconds));
                measured[index].push(figures);
            }
        }
        print(scenario, &relays, &measured);
    }
}

#[cfg(target_os = "linux")]
fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Prints a table: the medians, and the median of the ratios of the first figure to that of
/// each base in the same round.
#[cfg(target_os = "linux")]
fn print(scenario: &load::Scenario, relays: &[&relays::Relay], measured: &[Vec<Vec<f64>>]) {
    let medians: Vec<Vec<f64>> = measured
        .iter()
        .map(|rounds| {
            (0..scenario.figures.len())
                .map(|at| median(rounds, at))
                .collect()
        })
        .collect();
    let bases: Vec<usize> = (0..relays.len()).filter(|at| relays[*at].is_base).collect();
    println!("\n## {}: {}\n", scenario.name, scenario.about);
    print!("| relay |");
    scenario
        .figures
        .iter()
        .for_each(|figure| print!(" {figure} |"));
    bases
        .iter()
        .for_each(|at| print!(" to {} |", relays[*at].name));
    print!("\n|---|");
    println!("{}", "---:|".repeat(scenario.figures.len() + bases.len()));
    for (at, relay) in relays.iter().enumerate() {
        print!("| {} |", relay.name);
        medians[at]
            .iter()
            .for_each(|figure| print!(" {} |", short(*figure)));
        for base in &bases {
            let rounds = measured[at].iter().zip(&measured[*base]);
            let ratios: Vec<_> = rounds.map(|(own, base)| vec![own[0] / base[0]]).collect();
            print!(" {:.2} |", median(&ratios, 0));
        }
        println!();
    }
}

#[cfg(target_os = "linux")]
fn median(rounds: &[Vec<f64>], at: usize) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(|figures| figures[at]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Three digits are more than the noise leaves.
#[cfg(target_os = "linux")]
fn short(figure: f64) -> String {
    match figure {
        _ if figure.is_nan() => "–".to_owned(),
        _ if figure >= 100.0 => format!("{figure:.0}"),
        _ if figure >= 10.0 => format!("{figure:.1}"),
        _ if figure >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the relay is measured on Linux only");
}
