//! All ways to a server of a network have the same checks and the same kind of dial: by its
//! domain, after a loss, by a command, by the channel, and by a plugin.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use infrarust_test_support::game::{self, Ids, Speaker, refusal};
use tempfile::TempDir;
use tokio::time::timeout;

use super::channel::{GLOBAL, USES, expect_past_channels};
use super::fallback::{More, contains};
use super::switching::connect;
use super::text;
use crate::library::{build, sample};
use crate::support::{FakeBackend, Peer, TestProxy, server, wire, within};

const PROTOCOL: i32 = 767;

/// How a player comes to a server.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Domain,
    Loss,
    Command,
    Channel,
    Plugin,
}

const WAYS: [Way; 5] = [
    Way::Domain,
    Way::Loss,
    Way::Command,
    Way::Channel,
    Way::Plugin,
];

fn commander() -> &'static Path {
    static COMMANDER: OnceLock<PathBuf> = OnceLock::new();
    COMMANDER.get_or_init(|| build("tests/plugins/commander", "infrarust_test_commander"))
}

/// A proxy with a network of `a` and `b`. The file of `b` has these lines, and its plugin
/// refuses Eve and sends the backend another host.
async fn start([a, b]: [&FakeBackend; 2], more: &str, folder: &TempDir) -> TestProxy {
    start_with([a, b], "plugins = [\"commander\"]\n", more, folder).await
}

/// As [`start`], with these lines in the file of `a`.
async fn start_with(
    [a, b]: [&FakeBackend; 2],
    observed: &str,
    more: &str,
    folder: &TempDir,
) -> TestProxy {
    let events = folder.path().join("events");
    let global = format!(
        "{GLOBAL}[permissions]\nplayer_commands = [\"server\"]\n\
         [plugins.sample]\npath = {:?}\n[plugins.sample.config]\ntag = \"tag\"\n\
         [plugins.commander]\npath = {:?}\n[plugins.commander.config]\nevents = {events:?}\n",
        sample(),
        commander(),
    );
    let file = |host, backend: &FakeBackend, more: &str| {
        server("offline", host, backend.address, &format!("{USES}{more}"))
    };
    let servers = [
        ("a", file("play.example.com", a, observed)),
        ("b", file("b.example.com", b, more)),
    ];
    TestProxy::with_plugins(&global, &servers).await
}

/// A player of this name is in the game of a server.
async fn play(proxy: &TestProxy, backend: &FakeBackend, name: &str) -> (Speaker, Speaker) {
    let (mut client, mut server) =
        super::accepted(proxy, "play.example.com", backend, PROTOCOL, name).await;
    super::enter(&mut client, &mut server, PROTOCOL).await;
    let settings = More::of(PROTOCOL).settings;
    client.send(settings, b"settings of the client").await;
    expect_past_channels(&mut server, PROTOCOL, settings).await;
    (client, server)
}

/// Starts the move of the player to `b`. Returns the player's connection, and that to `a`
/// if it stays open.
async fn set_out(
    way: Way,
    proxy: &TestProxy,
    a: &FakeBackend,
    name: &str,
) -> (Speaker, Option<Speaker>) {
    if way == Way::Domain {
        let client = game::begin_at(proxy.address(), PROTOCOL, "b.example.com", name).await;
        return (client, None);
    }
    let (mut client, mut first) = play(proxy, a, name).await;
    // The packet of a command without a signature.
    let command = 0x04;
    match way {
        Way::Domain => unreachable!(),
        Way::Loss => {
            drop(first);
            return (client, None);
        }
        Way::Command => client.send(command, &wire::string("server b")).await,
        Way::Plugin => client.send(command, &wire::string("go b")).await,
        Way::Channel => connect(&mut first, PROTOCOL, "b").await,
    }
    (client, Some(first))
}

/// Checks that no login of this player has come to the backend. What comes from elsewhere
/// does not count: the system gives a free port again, and another proxy may still use the
/// address for its last owner.
async fn assert_not_dialled(backend: &FakeBackend, name: &str, what: &str) {
    let (now, patience) = (Duration::ZERO, Duration::from_secs(20));
    while let Ok(accepted) = timeout(now, backend.listener.accept()).await {
        let mut peer = Speaker::new(accepted.unwrap().0);
        let login = async {
            peer.next().await?;
            peer.next().await
        };
        if let Ok(Some((_, start))) = timeout(patience, login).await {
            assert_ne!(wire::string_in(&start), name, "{what}");
        }
    }
}

/// A check that keeps players out of a server does so on every way, and the server is not
/// dialled. Players of other servers stay there, new ones read why the session ends.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_has_the_same_checks() {
    let filter = "plugins = [\"sample\"]\n[ip_filter]\nblacklist = [\"127.0.0.0/8\"]\n";
    let full = "plugins = [\"sample\"]\nmax_players = 1\nfull_message = \"no room\"\n";
    let decides = "plugins = [\"sample\"]\n";
    for (gate, more, name) in [
        ("ip_filter", filter, "Notch"),
        ("max_players", full, "Notch"),
        ("login.decide", decides, "Eve"),
    ] {
        let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
        let folder = tempfile::tempdir().unwrap();
        let proxy = start([&a, &b], more, &folder).await;
        let mut occupant = None;
        if gate == "max_players" {
            let client = game::begin_at(proxy.address(), PROTOCOL, "b.example.com", "Other").await;
            occupant = Some((client, game::accept(&b).await.0));
        }
        for way in WAYS {
            println!("{gate}, {way:?}");
            let (mut client, first) = set_out(way, &proxy, &a, name).await;
            match (way, first) {
                (Way::Domain, _) if gate == "max_players" => {
                    // Its network takes him elsewhere.
                    let (mut elsewhere, ..) = game::accept(&a).await;
                    elsewhere.send(0, &wire::string(r#"{"text":"no"}"#)).await;
                    refusal(&mut client).await;
                }
                (Way::Domain, _) if gate == "ip_filter" => {
                    let _ = client.next().await;
                }
                (Way::Domain, _) => {
                    refusal(&mut client).await;
                }
                (_, None) => {
                    let body = client.expect(Ids::of(PROTOCOL).disconnect).await;
                    assert_eq!(text(PROTOCOL, &body), "lost", "{gate}");
                    client.expect_end().await;
                }
                (_, Some(mut first)) => {
                    let more = More::of(PROTOCOL);
                    let message = client.expect(more.chat).await;
                    let is_named = contains(&message, "moved to b");
                    assert!(is_named, "{gate}, {way:?}: {message:?}");
                    client.send(more.swing, b"still here").await;
                    let swung = expect_past_channels(&mut first, PROTOCOL, more.swing).await;
                    assert_eq!(swung, b"still here");
                    drop(client);
                    while first.next().await.is_some() {}
                }
            }
            assert_not_dialled(&b, name, &format!("{gate}, {way:?}")).await;
            let others = usize::from(occupant.is_some());
            within("the player's connection to end", async {
                while proxy.running.open_connections() > others {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }
}

/// Every dial of a server has its PROXY header, and the host of its file and its plugin.
/// `session.observe` sees one session, with a connection for each backend.
#[tokio::test(flavor = "multi_thread")]
async fn every_dial_has_the_same_header_and_host() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let folder = tempfile::tempdir().unwrap();
    let more = "plugins = [\"sample\"]\nsend_proxy_protocol = \"v1\"\n\
                domain_rewrite = { explicit = \"inner.example\" }\n";
    let proxy = start([&a, &b], more, &folder).await;
    for way in WAYS {
        println!("{way:?}");
        let (client, first) = set_out(way, &proxy, &a, "Notch").await;
        let accepted = within("a backend connection", b.listener.accept()).await;
        let mut second = Peer::new(accepted.unwrap().0);
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n") {
            header.extend(second.bytes(1).await);
        }
        let header = String::from_utf8(header).unwrap();
        assert!(
            header.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
            "{header}"
        );
        let (_, hello) = second.frame().await;
        let host = wire::parse_handshake(&hello).host;
        assert_eq!(host, "tag.inner.example", "{way:?}");
        second.frame().await;
        drop(client);
        drop(first);
        second.expect_end().await;
        proxy.idle().await;
    }
}

/// For a player who visits several servers `session.observe` sees one session, with a
/// connection to each backend.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_moves_is_observed_once() {
    let (a, b) = (FakeBackend::start().await, FakeBackend::start().await);
    let folder = tempfile::tempdir().unwrap();
    for way in WAYS.into_iter().filter(|way| *way != Way::Domain) {
        let both = "plugins = [\"sample\", \"commander\"]\n";
        let proxy = start_with([&a, &b], both, both, &folder).await;
        let (mut client, first) = set_out(way, &proxy, &a, "Notch").await;
        let (mut second, ..) = game::accept(&b).await;
        let success = game::login_success(PROTOCOL, [5; 16], "Notch");
        second.send(2, &success).await;
        super::switching::come_over(&mut client, &mut second, PROTOCOL, 2).await;
        drop((client, first));
        while second.next().await.is_some() {}
        drop(second);
        proxy.idle().await;
        let metrics = proxy.running.proxy().plugin_metrics();
        let count = |name: &str| {
            let metric = metrics.iter().find(|metric| metric.name == name);
            metric.map_or(0, |metric| metric.value)
        };
        let counts = (count("opened"), count("connected"), count("closed"));
        assert_eq!(counts, (1, 2, 1), "{way:?}");
    }
}
