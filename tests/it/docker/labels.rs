//! Labels of containers and their diagnostics.
//!
//! `tests/it/docker/labels/*.txt` are cases. A case has parts, each after a line `#! name`;
//! the name is a path, `container NAME`, or `the proxy in a container`. Without such a line
//! the whole file is the container `lobby`. Each line is a label and its value, as a JSON
//! text if it needs escapes, or a fact: `@network NAME ADDRESS/PREFIX`, `@port INSIDE
//! ADDRESS`, `@host`, `@container ID`. Beside each case is its snapshot: the diagnostics
//! and the resulting servers. `UPDATE_SNAPSHOTS=1` writes the snapshots again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use infrarust::config::container_checker::{CheckResult, ContainerChecker};
use infrarust::config::containers::{
    Container, Created, Network, NetworkOf, PREFIX, Published, State, Surroundings, names,
};
use infrarust::config::model::ServerConfig;
use infrarust::config::{LoadOptions, load};
use infrarust::diagnostic::render::{self, Colour};
use infrarust::diagnostic::{Code, Diagnostic};
use tempfile::TempDir;

/// The surroundings of the proxy in the cases: it runs on the engine's machine, which is
/// the gateway of one network.
fn around() -> Surroundings {
    Surroundings {
        network: None,
        own: vec!["172.18.0.1/16".parse().unwrap()],
        is_engine_here: true,
        published_at: Some("127.0.0.1".to_owned()),
    }
}

/// A container with the lines of a case. Later ones are younger.
fn container(name: &str, age: usize, text: &str) -> Container {
    let mut container = Container {
        id: format!("{age:04}"),
        name: name.to_owned(),
        created: Created::new(&format!("2026-01-01T00:00:{age:02}Z")),
        labels: BTreeMap::from([("infrarust.enable".to_owned(), "true".to_owned())]),
        networks: Vec::new(),
        published: Vec::new(),
        network_of: NetworkOf::Itself,
        state: State::Up,
    };
    let mut has_facts = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(fact) = line.strip_prefix('@') {
            has_facts = true;
            let words: Vec<_> = fact.split(' ').collect();
            match words[..] {
                ["network", name, address] => container.networks.push(Network {
                    name: name.to_owned(),
                    addresses: vec![address.parse().unwrap()],
                    gateways: Vec::new(),
                }),
                ["port", inside, at] => container.published.push(Published {
                    inside: inside.parse().unwrap(),
                    at: at.parse().unwrap(),
                }),
                ["host"] => container.network_of = NetworkOf::Machine,
                ["container", id] => container.network_of = NetworkOf::Another(id.to_owned()),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (label, value) = line.split_once(": ").unwrap();
        let [label, value] = [label, value].map(|text| match text.strip_prefix('"') {
            Some(_) => serde_json::from_str(text).unwrap(),
            None => text.to_owned(),
        });
        if value == "-" {
            container.labels.remove(&label);
        } else {
            container.labels.insert(label, value);
        }
    }
    if !has_facts {
        let address = format!("172.18.0.{}/16", age + 2);
        container.networks.push(Network {
            name: "games".to_owned(),
            addresses: vec![address.parse().unwrap()],
            gateways: Vec::new(),
        });
    }
    container
}

/// Checks a case: the diagnostics and the servers.
fn check_case(case: &str) -> String {
    let case = if case.starts_with("#! ") {
        case.to_owned()
    } else {
        format!("#! container lobby\n{case}")
    };
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("servers")).unwrap();
    fs::create_dir(dir.path().join("secrets")).unwrap();
    let global = "[docker]\nsecrets_dir = \"secrets\"\n";
    fs::write(dir.path().join("infrarust.toml"), global).unwrap();
    let mut containers = Vec::new();
    let mut around = around();
    for part in case.split("#! ").skip(1) {
        let (name, text) = part.split_once('\n').unwrap();
        match name.strip_prefix("container ") {
            Some(name) => containers.push(Arc::new(container(name, containers.len(), text))),
            None if name == "the proxy in a container" => around.published_at = None,
            None => {
                let is_plugin = name.ends_with(".so");
                let plugin = is_plugin.then(|| crate::elf::plugin(text));
                let bytes = plugin.unwrap_or_else(|| text.as_bytes().to_vec());
                fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
                fs::write(dir.path().join(name), bytes).unwrap();
            }
        }
    }
    let options = LoadOptions {
        config: Some(dir.path().join("infrarust.toml")),
        ..LoadOptions::default()
    };
    let loaded = load(&options);
    let problems = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    let (config, global) = match (loaded.config, loaded.global) {
        (Some(config), Some(global)) => (config, global),
        _ => panic!("{problems}"),
    };
    around.network = config.proxy.docker.as_ref().unwrap().network.clone();
    let mut checker = ContainerChecker::new(&options, &global);
    let first = reported(&checker.check(&config.servers, &containers, &around));
    // The order in which a provider names them makes no difference, nor does
    // what is remembered.
    containers.reverse();
    let again = reported(&checker.check(&config.servers, &containers, &around));
    assert_eq!(first, again);
    format!("{problems}{first}").replace(&format!("{}/", dir.path().display()), "")
}

/// Checks labels without any file.
fn check_labels(dir: &Path, labels: &[(String, String)]) -> CheckResult {
    let options = LoadOptions {
        config: Some(dir.join("infrarust.toml")),
        ..LoadOptions::default()
    };
    let global = load(&options).global.unwrap();
    let mut container = container("lobby", 0, "");
    container.labels.extend(labels.iter().cloned());
    ContainerChecker::new(&options, &global).check(&[], &[Arc::new(container)], &around())
}

fn reported(result: &CheckResult) -> String {
    let mut text = String::new();
    for problems in result.containers.iter().filter_map(|v| v.problems.as_ref()) {
        text += &render::to_text(&problems.diagnostics, &problems.sources, Colour::Never);
    }
    for server in &result.servers {
        let domains: Vec<_> = server.domains.iter().map(ToString::to_string).collect();
        let addresses: Vec<_> = server.addresses.iter().map(ToString::to_string).collect();
        let (id, mode) = (&server.id, server.mode());
        let (domains, addresses) = (domains.join(", "), addresses.join(", "));
        writeln!(text, "{id} ({mode}): {domains} to {addresses}").unwrap();
    }
    text
}

/// The diagnostics of each case equal its snapshot.
#[test]
fn the_diagnostics_of_each_case_equal_its_snapshot() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/docker/labels");
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let (mut stale, mut seen) = (Vec::new(), 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        seen += 1;
        let text = check_case(&fs::read_to_string(&path).unwrap());
        let snapshot = path.with_extension("stderr");
        if update {
            fs::write(&snapshot, &text).unwrap();
        } else if fs::read_to_string(&snapshot).unwrap_or_default() != text {
            stale.push(format!("{}\n{text}", snapshot.display()));
        }
    }
    assert!(seen >= 20, "only {seen} cases");
    assert!(
        stale.is_empty(),
        "other than the snapshots:\n{}",
        stale.join("\n")
    );
}

/// A value for each key of a server file, and the other lines that it needs.
const SAMPLES: &[(&str, &str, &str)] = &[
    ("id", "\"other\"", ""),
    ("name", "\"other\"", ""),
    ("domains", "[\"a.example\", \"*.b.example\"]", ""),
    ("addresses", "[\"10.0.0.6\", \"[::1]:5\"]", ""),
    ("proxy_mode", "\"zero_copy\"", ""),
    ("relay", "\"adaptive\"", ""),
    ("auth_guard", "false", "proxy_mode = \"server_only\"\n"),
    ("network", "\"main\"", INTERCEPTED),
    ("bungeecord_channel", "true", INTERCEPTED),
    ("limbo_handlers", "[\"a\", \"b\"]", INTERCEPTED),
    ("compression_threshold", "-1", INTERCEPTED),
    ("forwarding_mode", "\"bungeecord\"", ""),
    ("forwarding_secret", "\"123\"", GUARD),
    ("forwarding_secret.file", "\"secret.txt\"", GUARD),
    (
        "forwarding_secret.env",
        "\"INFRARUST_NO_SUCH_SECRET\"",
        GUARD,
    ),
    ("send_proxy_protocol", "true", ""),
    ("domain_rewrite", "\"from_backend\"", ""),
    ("domain_rewrite.explicit", "\"inner.example\"", ""),
    ("host_tail", "\"keep\"", ""),
    ("max_players", "7", ""),
    ("full_message", "\"a, b\"", "max_players = 5\n"),
    ("disconnect_message", "\"{\\\"text\\\":\\\"x\\\"}\"", ""),
    ("timeouts.connect", "\"7s\"", ""),
    ("timeouts.read", "\"1m 30s\"", ""),
    ("timeouts.write", "\"250ms\"", ""),
    ("half_close_timeout", "\"7s\"", ""),
    ("ip_filter.whitelist", "[\"10.0.0.0/8\", \"::1\"]", ""),
    ("ip_filter.blacklist", "[\"192.0.2.7\"]", ""),
    ("plugins", "[]", ""),
];

const INTERCEPTED: &str = "proxy_mode = \"client_only\"\nforwarding_mode = \"bungeecord\"\n";
const GUARD: &str = "forwarding_mode = \"bungeeguard\"\n";

/// Writes a TOML table as labels.
fn flatten(prefix: &str, table: &toml::Table, labels: &mut Vec<(String, String)>) {
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(inner) => flatten(&format!("{name}."), inner, labels),
            toml::Value::Array(items) => {
                let items: Vec<_> = items.iter().map(text).collect();
                labels.push((name, items.join(", ")));
            }
            value => labels.push((name, text(value))),
        }
    }
}

/// Every key of a server file has a label, and it means the same.
#[test]
fn every_key_is_a_label() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("servers")).unwrap();
    let global = "[docker]\nsecrets_dir = \".\"\nfavicons_dir = \".\"\n";
    fs::write(dir.path().join("infrarust.toml"), global).unwrap();
    for path in ["secret.txt", "servers/secret.txt"] {
        fs::write(dir.path().join(path), "s").unwrap();
    }
    let mut samples: Vec<_> = SAMPLES
        .iter()
        .map(|(path, value, needs)| ((*path).to_owned(), *value, *needs))
        .collect();
    for state in ["online", "offline", "unreachable"] {
        for (key, value) in [
            ("text", "\"§a x, y\""),
            ("favicon", "\"nowhere.png\""),
            ("version_name", "\"1\""),
            ("max_players", "7"),
        ] {
            samples.push((format!("motd.{state}.{key}"), value, ""));
        }
    }
    let own = ["enable", "port", "pool", "motd.text"].map(|name| format!("{PREFIX}{name}"));
    let names = names().iter().filter(|name| !own.contains(name));
    let mut missing: Vec<_> = names.map(|name| name[PREFIX.len()..].to_owned()).collect();
    for (path, value, needs) in samples {
        let at = missing.iter().position(|name| *name == path);
        missing.remove(at.unwrap_or_else(|| panic!("`{path}` is not a label")));
        let mut text = format!("{path} = {value}\n{needs}");
        for base in [
            "domains = [\"mc.example\"]\n",
            "addresses = [\"10.0.0.5\"]\n",
        ] {
            if !text.starts_with(&base[..7]) {
                text += base;
            }
        }
        fs::write(dir.path().join("servers/lobby.toml"), &text).unwrap();
        let loaded = load(&LoadOptions {
            config: Some(dir.path().join("infrarust.toml")),
            ..LoadOptions::default()
        });
        let mut labels = Vec::new();
        flatten(PREFIX, &text.parse().unwrap(), &mut labels);
        let result = check_labels(dir.path(), &labels);
        let problems = result.containers[0].problems.as_ref();
        let codes = |of: &[Diagnostic]| {
            let codes = of.iter().map(|diagnostic| diagnostic.code);
            // Others of a network may come as files or as containers.
            codes
                .filter(|code| *code != Code::LonelyNetwork)
                .collect::<BTreeSet<_>>()
        };
        let said = codes(problems.map_or(&[], |problems| &problems.diagnostics));
        let of_file = codes(&loaded.diagnostics);
        assert_eq!(said, of_file, "{path}: {}", reported(&result));
        let by_file = loaded
            .config
            .map(|config| config.servers[0].as_ref().clone());
        let by_label = result.servers.first().map(|server| ServerConfig {
            file: by_file.as_ref().unwrap().file.clone(),
            ..server.as_ref().clone()
        });
        assert_eq!(by_label, by_file, "{path}");
    }
    assert!(missing.is_empty(), "labels without a sample: {missing:?}");
}

/// A label can only name files in the folder for them: not through `..` or a link, and none
/// without the folder.
#[cfg(unix)]
#[test]
fn files_of_labels_are_inside_their_folder() {
    use std::os::unix::fs::symlink;
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["in/sub", "out", "in-other"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    let mut png = b"\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR".to_vec();
    png.extend([0, 0, 0, 64, 0, 0, 0, 64]);
    for folder in ["in", "in/sub", "out", "in-other"] {
        fs::write(at(folder).join("secret"), "s").unwrap();
        fs::write(at(folder).join("icon"), &png).unwrap();
    }
    for name in ["secret", "icon"] {
        symlink(at("out").join(name), at("in").join(format!("{name}-link"))).unwrap();
        symlink("sub", at("in").join(format!("{name}-sub"))).unwrap();
    }
    symlink(at("out"), at("in/away")).unwrap();
    let absolute = |path: &str| at(path).display().to_string();
    let is_taken = |label: &str, path: String| {
        let guard = (format!("{PREFIX}forwarding_mode"), "bungeeguard".to_owned());
        let mut labels = vec![(format!("{PREFIX}{label}"), path)];
        labels.extend(label.starts_with("forwarding").then_some(guard));
        let result = check_labels(dir.path(), &labels);
        let text = reported(&result);
        let is_reported = text.contains("does not lie in the folder") || text.contains("without `");
        assert_ne!(result.servers.is_empty(), !is_reported, "{text}");
        !is_reported
    };
    for (label, name) in [
        ("forwarding_secret.file", "secret"),
        ("motd.online.favicon", "icon"),
    ] {
        let key = if name == "secret" {
            "secrets_dir"
        } else {
            "favicons_dir"
        };
        fs::write(at("infrarust.toml"), "[docker]\n").unwrap();
        assert!(!is_taken(label, format!("in/{name}")));
        fs::write(at("infrarust.toml"), format!("[docker]\n{key} = \"in\"\n")).unwrap();
        for inside in [
            format!("in/{name}"),
            format!("./in/sub/../{name}"),
            format!("in/{name}-sub/{name}"),
            absolute(&format!("in/sub/{name}")),
        ] {
            assert!(is_taken(label, inside.clone()), "{inside}");
        }
        for outside in [
            format!("out/{name}"),
            format!("in/../out/{name}"),
            format!("in-other/{name}"),
            format!("in/{name}-link"),
            format!("in/away/{name}"),
            absolute(&format!("out/{name}")),
            "/proc/kmsg".to_owned(),
        ] {
            assert!(!is_taken(label, outside.clone()), "{outside}");
        }
    }
}

/// Labels of Infrarust v2 with other names have the meaning that they have there.
#[test]
fn labels_of_v2_are_known() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("infrarust.toml"), "").unwrap();
    let read = |label: &str| {
        let labels = [(format!("{PREFIX}{label}"), "a, b".to_owned())];
        let result = check_labels(dir.path(), &labels);
        result.servers[0].as_ref().clone()
    };
    assert_eq!(read("motd.text"), read("motd.online.text"));
}

/// The labels of the services in a compose file, as our examples write them.
fn services(text: &str) -> Vec<(String, String)> {
    let mut services: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let inner = line.trim_start();
        match line.len() - inner.len() {
            2 if inner.ends_with(':') => {
                services.push((inner.trim_end_matches(':').to_owned(), String::new()));
            }
            6 if inner.starts_with(PREFIX) => {
                services.last_mut().unwrap().1 += &format!("{inner}\n");
            }
            _ => {}
        }
    }
    services.retain(|(_, labels)| !labels.is_empty());
    services
}

/// The labels in the compose file are valid, and so is the global file in it.
#[test]
fn the_compose_file_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/docker-compose.yml");
    let text = fs::read_to_string(path).unwrap();
    let (_, global) = text.split_once("content: |\n").unwrap();
    let global: Vec<_> = global.lines().map(str::trim).collect();
    let mut case = format!("#! infrarust.toml\n{}\n", global.join("\n"));
    let services = services(&text);
    for (name, labels) in &services {
        case += &format!("#! container {name}\n{labels}");
    }
    assert_eq!(
        check_case(&case),
        "creative (passthrough): creative.example.com to 172.18.0.3:25565\n\
         survival (zero_copy): survival.example.com, play.example.com to 172.18.0.2:25565\n"
    );
}

/// Diagnostics in the documents are those that are printed, and labels in them are valid.
#[test]
fn the_examples_of_the_documents_are_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/docker.md")).unwrap();
    let printed = check_case("infrarust.adresses: 10.0.0.1\n");
    assert!(page.contains(printed.trim_end()), "{printed}");
    for name in ["docs/docker.md", "README.md"] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        let (_, labels) = text.split_once("```yaml\nlabels:\n").unwrap();
        let (labels, _) = labels.split_once("```").unwrap();
        let labels: String = labels
            .lines()
            .map(|line| format!("{}\n", line.trim()))
            .collect();
        assert_eq!(
            check_case(&labels),
            "lobby (zero_copy): mc.example.com to 172.18.0.2:25565\n",
            "{name}"
        );
    }
}
