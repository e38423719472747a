//! Any labels make a server of a container or a refusal that can be shown, and
//! nothing of the container beside it.
#![no_main]

use std::sync::{Arc, LazyLock};

use infrarust::config::container_checker::ContainerChecker;
use infrarust::config::containers::{
    Container, Created, Network, NetworkOf, PREFIX, State, Surroundings,
};
use infrarust::config::{GlobalText, LoadOptions, load_texts};
use infrarust::diagnostic::render::{self, Colour};
use libfuzzer_sys::fuzz_target;

static GLOBAL: LazyLock<GlobalText> = LazyLock::new(|| load_texts(b"", &[]).global.unwrap());

fn container(name: &str, labels: &[(String, String)]) -> Arc<Container> {
    let enable = ("infrarust.enable".to_owned(), "true".to_owned());
    let labels = labels
        .iter()
        .map(|(key, value)| (format!("{PREFIX}{key}"), value.clone()));
    Arc::new(Container {
        id: name.to_owned(),
        name: name.to_owned(),
        created: Created::new(name),
        labels: std::iter::once(enable).chain(labels).collect(),
        networks: vec![Network {
            name: "net".to_owned(),
            addresses: vec!["172.18.0.2/16".parse().unwrap()],
            gateways: Vec::new(),
        }],
        published: Vec::new(),
        network_of: NetworkOf::Itself,
        state: State::Up,
    })
}

fuzz_target!(|labels: Vec<(String, String)>| {
    let around = Surroundings {
        own: vec!["172.18.0.1/16".parse().unwrap()],
        is_engine_here: true,
        ..Surroundings::default()
    };
    let mut checker = ContainerChecker::new(&LoadOptions::default(), &GLOBAL);
    // The older one, which is good, keeps what it claims.
    let containers = [container("1-good", &[]), container("2", &labels)];
    let result = checker.check(&[], &containers, &around);
    assert!(result.servers.iter().any(|server| server.id == "1-good"));
    for status in &result.containers {
        let Some(problems) = &status.problems else {
            assert!(status.server.is_some());
            continue;
        };
        let text = render::to_text(&problems.diagnostics, &problems.sources, Colour::Never);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }
});
