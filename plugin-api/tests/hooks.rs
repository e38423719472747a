//! A plugin with every hook, called through its C tables.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::time::Duration;

use infrarust_plugin_api::prelude::*;
use infrarust_plugin_api::testing::{Client, FailureKind, Setup, TestHost};

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    deny: Vec<String>,
    #[serde(default)]
    limit: Option<Spanned<u32>>,
}

struct All {
    config: Config,
    host: Host<Self>,
    closed: Mutex<Vec<(u64, u64)>>,
}

impl Plugin for All {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        if let Some(limit) = &config.limit
            && *limit.get_ref() > 10
        {
            return Err(Error::at(limit.span(), "the limit is at most 10"));
        }
        host.gauge("denied")?.set(i64::try_from(config.deny.len())?);
        let ticks = host.gauge("ticks")?;
        let mut count = 0;
        host.every(Duration::from_millis(5), move || {
            count += 1;
            ticks.set(count);
            std::future::ready(())
        })?;
        Ok(All {
            config,
            host: host.clone(),
            closed: Mutex::default(),
        })
    }
}

/// A panic payload that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload panics too");
    }
}

#[async_trait]
impl ConnectionDecide for All {
    async fn connection_decide(&self, connection: Connection<'_>) -> Result<Verdict> {
        assert_eq!(connection.intent(), Intent::Login);
        match connection.virtual_host() {
            "panic" => panic!("boom {}", connection.protocol()),
            "bomb" => std::panic::panic_any(Bomb),
            "error" => Err(std::io::Error::other("no database"))?,
            _ => {}
        }
        if connection.peer().ip().is_loopback() {
            Ok(Verdict::allow())
        } else {
            Ok(Verdict::drop())
        }
    }
}

impl HandshakeRewrite for All {
    fn handshake_rewrite(&self, handshake: &Handshake<'_>) -> Result<Rewrite> {
        Ok(match handshake.host().strip_suffix(".example.com") {
            Some(label) => Rewrite::host(format!("{label}.internal")),
            None => Rewrite::keep(),
        })
    }
}

#[async_trait]
impl StatusRespond for All {
    async fn status_respond(&self, status: Status<'_>) -> Result<Reply> {
        if status.is_online() {
            Ok(Reply::keep())
        } else {
            Ok(Reply::json("{}"))
        }
    }
}

#[async_trait]
impl LoginDecide for All {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        self.host.counter("logins")?.add(1);
        if login.name() == "Slow" {
            self.host.sleep(Duration::from_millis(20)).await;
            let never = std::future::pending::<()>();
            let waited = self.host.timeout(Duration::from_millis(5), never).await;
            return Ok(Verdict::refuse(waited.unwrap_err().to_string()));
        }
        if login.name() == "Who" {
            return Ok(Verdict::refuse(format!(
                "{:?} {}",
                login.uuid(),
                login.is_proved()
            )));
        }
        if self.config.deny.iter().any(|name| name == login.name()) {
            return Ok(Verdict::refuse("not on the list"));
        }
        Ok(Verdict::allow())
    }
}

#[async_trait]
impl RouteSelect for All {
    async fn route_select(&self, login: Login<'_>) -> Result<Choice> {
        let is_full = self
            .host
            .players_on(login.server())
            .is_none_or(|count| count >= 2);
        if is_full && login.may(Capability::RouteSelect) {
            return Ok(Choice::server("overflow"));
        }
        Ok(Choice::keep())
    }
}

impl SessionObserve for All {
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        if let Event::Closed {
            clientbound_bytes, ..
        } = session.event()
        {
            self.closed
                .lock()
                .unwrap()
                .push((session.id(), clientbound_bytes));
            self.host.counter("bytes")?.add(clientbound_bytes);
        }
        Ok(())
    }
}

export_plugin! {
    plugin: All,
    name: "all",
    hooks: [ConnectionDecide, HandshakeRewrite, StatusRespond, LoginDecide, RouteSelect, SessionObserve],
    wants: [PacketInject],
}

fn start() -> TestHost<All> {
    Setup::new()
        .players("lobby", 2)
        .players("empty", 0)
        .start("deny = ['Eve']")
        .unwrap()
}

/// Only `login.decide` gets a proved identity, and only if the mode proves it.
#[test]
fn only_login_decide_gets_proved_identities() {
    let host = start();
    let who = Client::new().name("Who");
    let said = |client: &Client| host.login_decide(client).unwrap();
    assert_eq!(said(&who), Verdict::refuse("None false"));
    let claimed = who.clone().uuid(7);
    assert_eq!(said(&claimed), Verdict::refuse("Some(7) false"));
    assert_eq!(said(&who.proved(7)), Verdict::refuse("Some(7) true"));
}

/// Each hook gets its input and gives its answer.
#[test]
fn every_hook_answers() {
    let host = start();
    let client = Client::new();
    assert_eq!(host.connection_decide(&client).unwrap(), Verdict::allow());
    let stranger = client.clone().peer(([192, 0, 2, 1], 1));
    assert_eq!(host.connection_decide(&stranger).unwrap(), Verdict::drop());
    assert_eq!(
        host.handshake_rewrite(&client, "a.example.com").unwrap(),
        Rewrite::host("a.internal")
    );
    assert_eq!(
        host.handshake_rewrite(&client, "b.test").unwrap(),
        Rewrite::keep()
    );
    assert_eq!(host.status_respond(&client, "{}").unwrap(), Reply::keep());
    assert_eq!(
        host.status_respond_offline(&client, "{\"a\":1}").unwrap(),
        Reply::json("{}")
    );
    assert_eq!(host.login_decide(&client).unwrap(), Verdict::allow());
    let eve = client.clone().name("Eve");
    assert_eq!(
        host.login_decide(&eve).unwrap(),
        Verdict::refuse("not on the list")
    );
    assert_eq!(
        host.route_select(&client).unwrap(),
        Choice::server("overflow")
    );
    assert_eq!(
        host.route_select(&client.clone().server("empty")).unwrap(),
        Choice::keep()
    );
    host.session_observe(&client, 7, Event::Opened).unwrap();
    let closed = Event::Closed {
        reason: "client left",
        serverbound_bytes: 1,
        clientbound_bytes: 20,
        duration: Duration::from_secs(1),
    };
    host.session_observe(&client, 7, closed).unwrap();
    assert_eq!(host.counter("bytes"), Some(20));
    assert_eq!(host.counter("logins"), Some(2));
    assert_eq!(host.gauge("denied"), Some(1));
    assert_eq!(host.gauge("logins"), None);
}

/// A hook can wait on the host's clock without a runtime, and tasks run at the same time.
#[test]
fn hooks_and_tasks_wait_without_a_runtime() {
    let host = start();
    let slow = Client::new().name("Slow");
    assert_eq!(
        host.login_decide(&slow).unwrap(),
        Verdict::refuse("it took too long")
    );
    assert_eq!(host.counter("logins"), Some(1));
    assert!(host.gauge("ticks").is_some_and(|ticks| ticks > 0));
}

/// Errors, panics and panics within panics are reported as texts.
#[test]
fn failures_are_reported_as_texts() {
    let host = start();
    let at = |name: &str| {
        host.connection_decide(&Client::new().virtual_host(name))
            .unwrap_err()
    };
    let panic = at("panic");
    assert_eq!(panic.kind, FailureKind::Panic);
    assert!(
        panic
            .text
            .starts_with("`boom 767` at plugin-api/tests/hooks.rs:"),
        "{}",
        panic.text
    );
    let bomb = at("bomb");
    assert_eq!(bomb.kind, FailureKind::Panic);
    let error = at("error");
    assert_eq!(
        (error.kind, error.text.as_str()),
        (FailureKind::Error, "no database")
    );
    assert!(host.connection_decide(&Client::new()).is_ok());
}

/// A capability that the mode does not offer is not granted.
#[test]
fn grants_follow_the_mode() {
    let setup = Setup::new().without(Capability::RouteSelect);
    let host: TestHost<All> = setup.start("deny = []").unwrap();
    assert_eq!(host.route_select(&Client::new()).unwrap(), Choice::keep());
}

/// Mistakes in the configuration have their place.
#[test]
fn configuration_errors_have_a_place() {
    let bad = |text| TestHost::<All>::start(text).unwrap_err();
    let failure = bad("deny = []\nlimit = 11");
    assert_eq!(
        (failure.kind, failure.span),
        (FailureKind::Config, Some(18..20))
    );
    assert_eq!(failure.text, "the limit is at most 10");
    let failure = bad("deny = []\ndny = 1");
    assert_eq!(
        (failure.kind, failure.span),
        (FailureKind::Config, Some(10..13))
    );
    assert!(
        failure.text.contains("unknown field `dny`"),
        "{}",
        failure.text
    );
    assert!(bad("").text.contains("missing field `deny`"));
}
