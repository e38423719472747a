//! Measures what a call of a plugin costs, compared with a call of a trait object that does
//! the same in this program.
//!
//! The plugins are built from this workspace in release, and loaded as a proxy
//! loads them. `docs/plugin-performance.md` has the results and their
//! bounds.

#![allow(missing_docs, clippy::unwrap_used)]

#[cfg(target_os = "linux")]
mod linux {
    use std::future::Future;
    use std::hint::black_box;
    use std::net::SocketAddr;
    use std::path::{Path, PathBuf};
    use std::pin::{Pin, pin};
    use std::process::Command;
    use std::sync::{Arc, mpsc};
    use std::task::{Context, Poll, Waker};
    use std::time::{Duration, Instant};

    use criterion::{Criterion, SamplingMode, criterion_group};
    use infrarust::config::model::Document;
    use infrarust::forward::Wanted;
    use infrarust::manifest;
    use infrarust::mode::Mode;
    use infrarust::plugin::{
        AskedPacket, Client, Environment, HookSet, PacketAsker, PacketFate, PacketHooks,
        PacketPlayer, Player, PlayerCounts, PluginHost, Refusal, Session, SessionEvent, Spec,
    };
    use infrarust::protocol::handshake::Intent;
    use infrarust::protocol::packet::view::{self, Value};
    use infrarust::protocol::packet::{Direction, State, Version};
    use infrarust_plugin_abi::{PacketField, PacketKind};
    use sha2::{Digest, Sha256};

    // ------------------------------------------------------------ the plugins

    fn build(package: &str, library: &str) -> PathBuf {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
        let status = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "build",
                "--quiet",
                "--locked",
                "--release",
                "--package",
                package,
            ])
            .arg("--target-dir")
            .arg(&target)
            .status();
        assert!(status.unwrap().success(), "{package} is built");
        target.join(format!("release/lib{library}.so"))
    }

    /// Waits for the decisions about packets.
    struct Asker(mpsc::Sender<usize>);

    impl PacketAsker for Asker {
        fn is_gone(&self) -> bool {
            false
        }
        fn decided(self: Box<Self>, fates: Vec<PacketFate>, _: Option<Refusal>) -> Option<Waker> {
            let _ = self.0.send(fates.len());
            None
        }
    }

    struct Nobody;

    impl PlayerCounts for Nobody {
        fn count(&self, _: Option<&str>) -> Option<u64> {
            Some(0)
        }
    }

    fn spec(id: &str, file: &Path, document: &str) -> Spec {
        Spec {
            id: id.to_owned(),
            file: file.to_owned(),
            sha256: None,
            on_failure: None,
            deadline: None,
            checked: None,
            content: None,
            document: Document(document.into()),
            config_path: Vec::new(),
        }
    }

    /// Loads one plugin as the proxy would.
    fn load(environment: &Environment, spec: Spec) -> PluginHost {
        let host = PluginHost::new(environment.clone());
        host.reload(vec![spec], None).unwrap();
        host
    }

    fn hooks(host: &PluginHost) -> HookSet {
        hooks_in(host, Mode::Passthrough)
    }

    fn hooks_in(host: &PluginHost, mode: Mode) -> HookSet {
        let states = host.states();
        let ids = states.iter().map(|state| state.id.as_str());
        host.hooks(ids, mode)
    }

    fn client(virtual_host: &str) -> Client<'_> {
        Client {
            peer: SocketAddr::from(([192, 0, 2, 1], 50_000)),
            protocol: 767,
            intent: Intent::Login,
            virtual_host,
            server: "lobby",
        }
    }

    const STEVE: Player<'_> = Player {
        name: "Steve",
        uuid: Some(0x0123_4567_89ab_cdef),
        is_proved: false,
    };

    const RULES: &str = "rules = [{ from = '*.example.com', to = '$1.internal' }]";

    // ------------------------------------------------------ the direct calls

    type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// The same questions as a plugin gets, without the binary interface in between.
    trait Direct: Send + Sync {
        fn rewrite(&self, client: &Client<'_>, current: &str) -> Result<Option<String>, String>;
        fn login<'a>(&'a self, client: &'a Client<'_>, player: &'a Player<'_>) -> Answer<'a>;
        fn session(&self, client: &Client<'_>, player: &Player<'_>, event: &SessionEvent<'_>);
    }

    struct Idle;

    impl Direct for Idle {
        fn rewrite(&self, _: &Client<'_>, _: &str) -> Result<Option<String>, String> {
            Ok(None)
        }
        fn login<'a>(&'a self, _: &'a Client<'_>, _: &'a Player<'_>) -> Answer<'a> {
            Box::pin(async { Ok(()) })
        }
        fn session(&self, _: &Client<'_>, _: &Player<'_>, _: &SessionEvent<'_>) {}
    }

    /// Answers at the second poll, and rewrites `*.example.com`.
    struct Busy;

    impl Direct for Busy {
        fn rewrite(&self, client: &Client<'_>, _: &str) -> Result<Option<String>, String> {
            let label = client.virtual_host.strip_suffix(".example.com");
            let label = label.filter(|label| !label.is_empty() && !label.contains('.'));
            Ok(label.map(|label| [label, ".internal"].concat()))
        }
        fn login<'a>(&'a self, _: &'a Client<'_>, _: &'a Player<'_>) -> Answer<'a> {
            Box::pin(async {
                let mut was_polled = false;
                std::future::poll_fn(|cx| {
                    if was_polled {
                        return Poll::Ready(());
                    }
                    was_polled = true;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
                Ok(())
            })
        }
        fn session(&self, _: &Client<'_>, _: &Player<'_>, _: &SessionEvent<'_>) {}
    }

    /// Polls until the future is done, like a worker that has no other task.
    fn finish<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
        }
    }

    // ------------------------------------------------------------- the groups

    pub(crate) fn ask(c: &mut Criterion) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _entered = runtime.enter();
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(&runtime, folder.path());
        let idle = build("infrarust-test-idle", "infrarust_test_idle");
        let rewrite = build("infrarust-plugin-domain-rewrite", "domain_rewrite");
        let idle_host = load(&environment, spec("idle", &idle, ""));
        let rewrite_host = load(&environment, spec("domain-rewrite", &rewrite, RULES));
        let (idle, rewrite) = (hooks(&idle_host), hooks(&rewrite_host));
        let nobody = Arc::new(HookSet::default());
        let (direct_idle, direct_busy): (Box<dyn Direct>, Box<dyn Direct>) =
            (Box::new(Idle), Box::new(Busy));
        let (eu, other) = (client("eu.example.com"), client("play.example.org"));
        let closed = SessionEvent::Closed {
            reason: "client left",
            serverbound_bytes: 1,
            clientbound_bytes: 2,
            duration: Duration::from_secs(3),
        };
        assert_eq!(
            rewrite.handshake_rewrite(&eu, "b").unwrap(),
            direct_busy.rewrite(&eu, "b").unwrap()
        );

        let mut group = c.benchmark_group("plugin");
        group.bench_function("empty/hook", |b| {
            b.iter(|| {
                black_box(&nobody)
                    .handshake_rewrite(black_box(&eu), "b")
                    .is_ok()
            });
        });
        group.bench_function("sync/direct", |b| {
            b.iter(|| black_box(&direct_idle).rewrite(black_box(&eu), "b").is_ok());
        });
        group.bench_function("sync/plugin", |b| {
            b.iter(|| {
                black_box(&idle)
                    .handshake_rewrite(black_box(&eu), "b")
                    .is_ok()
            });
        });
        group.bench_function("rewrite, no match/direct", |b| {
            b.iter(|| {
                black_box(&direct_busy)
                    .rewrite(black_box(&other), "b")
                    .is_ok()
            });
        });
        group.bench_function("rewrite, no match/plugin", |b| {
            b.iter(|| {
                black_box(&rewrite)
                    .handshake_rewrite(black_box(&other), "b")
                    .is_ok()
            });
        });
        group.bench_function("rewrite, match/direct", |b| {
            b.iter(|| black_box(&direct_busy).rewrite(black_box(&eu), "b").is_ok());
        });
        group.bench_function("rewrite, match/plugin", |b| {
            b.iter(|| {
                black_box(&rewrite)
                    .handshake_rewrite(black_box(&eu), "b")
                    .is_ok()
            });
        });
        group.bench_function("async, ready/direct", |b| {
            b.iter(|| finish(black_box(&direct_idle).login(black_box(&eu), &STEVE)));
        });
        group.bench_function("async, ready/plugin", |b| {
            b.iter(|| finish(black_box(&idle).login_decide(black_box(&eu), &STEVE)));
        });
        group.bench_function("async, pending once/direct", |b| {
            b.iter(|| finish(black_box(&direct_busy).login(black_box(&eu), &STEVE)));
        });
        group.bench_function("async, pending once/plugin", |b| {
            b.iter(|| finish(black_box(&idle).connection_decide(black_box(&eu))));
        });
        group.bench_function("event/direct", |b| {
            b.iter(|| black_box(&direct_idle).session(black_box(&eu), &STEVE, black_box(&closed)));
        });
        let mut session = Session::new(1);
        idle.session_observe(&eu, &STEVE, &mut session, SessionEvent::Opened);
        group.bench_function("event/plugin", |b| {
            b.iter(|| {
                let session = black_box(&mut session);
                black_box(&idle).session_observe(
                    black_box(&eu),
                    &STEVE,
                    session,
                    black_box(closed),
                );
            });
        });
        group.finish();
        drop((idle, rewrite));
        for host in [idle_host, rewrite_host] {
            host.reload(Vec::new(), None).unwrap();
        }
    }

    /// Packets: the look-up of a packet that no plugin has asked for, and chat messages
    /// that a plugin sees or changes, called on this thread and called as a session calls
    /// them.
    pub(crate) fn packets(c: &mut Criterion) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _entered = runtime.enter();
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(&runtime, folder.path());
        let library = build("infrarust-test-packets", "infrarust_test_packets");
        let load = |name: &str, config: &str| {
            let document = format!("events = '/dev/null'\n{config}");
            load(&environment, spec(name, &library, &document))
        };
        let inspecting = load("inspecting", "inspect = ['chat_message']\ncounts = true");
        let modifying = load("modifying", "modify = ['chat_message']");
        let inspect = hooks_in(&inspecting, Mode::Offline);
        let modify = hooks_in(&modifying, Mode::Offline);
        let version = Version::of(770).unwrap();
        let player = Arc::new(PacketPlayer {
            number: 1,
            name: "Steve".to_owned(),
            uuid: 1,
            is_proved: true,
            server: "lobby".to_owned(),
            version,
            knows_chat_key: false,
        });
        let chat = |line: &str| {
            let values = [
                (PacketField::Message, Value::Str(line.to_owned().into())),
                (PacketField::Timestamp, Value::Int(1)),
                (PacketField::Seen, Value::Bytes(vec![0; 3].into())),
            ];
            view::build(version, State::Play, PacketKind::ChatMessage, &values).unwrap()
        };
        let (state, direction) = (State::Play, Direction::Serverbound);
        let loud = chat("shout hello");
        let asked = |packet: &[u8]| AskedPacket::new(&player, state, direction, packet.to_vec());
        let here = |hooks: &HookSet, asked: &AskedPacket| hooks.packet_hooks().ask_here(asked);
        assert_eq!(here(&inspect, &asked(&loud)), Ok(PacketFate::Pass));
        let changed = here(&modify, &asked(&loud));
        assert!(matches!(changed, Ok(PacketFate::Changed(_))));
        let elsewhere = |hooks: &HookSet, packets: Vec<Vec<u8>>| {
            let (sender, fates) = mpsc::channel();
            let asker = Box::new(Asker(sender));
            let hooks = hooks.packet_hooks();
            hooks.ask(&player, state, direction, packets, asker);
            PacketHooks::begin();
            fates.recv().unwrap()
        };

        let wanted = Wanted::default().with(state, direction, [1 << 7, 0, 0, 0]);
        let mut group = c.benchmark_group("packet");
        group.bench_function("nobody asked/look-up", |b| {
            b.iter(|| black_box(&wanted).has(state, direction, black_box(0x1D)));
        });
        for (name, hooks) in [("inspected", &inspect), ("modified", &modify)] {
            let known = asked(&loud);
            group.bench_function(format!("{name}/crossing"), |b| {
                b.iter(|| here(black_box(hooks), black_box(&known)).is_ok());
            });
            group.bench_function(format!("{name}/on this thread"), |b| {
                b.iter(|| here(black_box(hooks), &asked(black_box(&loud))).is_ok());
            });
            for packets in [1, 64] {
                group.bench_function(format!("{name}/{packets} as in a session"), |b| {
                    b.iter(|| elsewhere(hooks, vec![black_box(&loud).clone(); packets]));
                });
            }
        }
        group.bench_function("made by its kind", |b| {
            b.iter(|| chat(black_box("hello")).len());
        });
        group.finish();
        drop((inspect, modify));
        for host in [inspecting, modifying] {
            host.reload(Vec::new(), None).unwrap();
        }
    }

    fn environment(runtime: &tokio::runtime::Runtime, folder: &Path) -> Environment {
        Environment {
            runtime: runtime.handle().clone(),
            data_dir: folder.to_owned(),
            players: Arc::new(Nobody),
        }
    }

    /// Loaded plugins stay in memory until the process ends, so that the rounds are few.
    pub(crate) fn load_and_check(c: &mut Criterion) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(&runtime, folder.path());
        let file = build("infrarust-plugin-domain-rewrite", "domain_rewrite");
        // Bytes behind the last section belong to no segment.
        let megabyte = folder.path().join("megabyte.so");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.resize(bytes.len().max(1_000_000), 0);
        std::fs::write(&megabyte, &bytes).unwrap();

        let mut group = c.benchmark_group("plugin file");
        group.bench_function("check 1 MB/plugin", |b| {
            b.iter(|| {
                let bytes = std::fs::read(&megabyte).unwrap();
                let digest = Sha256::digest(&bytes);
                (digest, manifest::read(&bytes).unwrap())
            });
        });
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(50))
            .measurement_time(Duration::from_millis(200));
        group.bench_function("load/plugin", |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let start = Instant::now();
                    let host = load(&environment, spec("loaded", &megabyte, RULES));
                    total += start.elapsed();
                    host.reload(Vec::new(), None).unwrap();
                }
                total
            });
        });
        group.bench_function("reload/plugin", |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                let mut number = 0;
                let mut host = load(&environment, spec("again", &megabyte, RULES));
                for _ in 0..rounds {
                    number += 1;
                    if number % 30 == 0 {
                        // A host has a limit for the loads of one plugin.
                        host.reload(Vec::new(), None).unwrap();
                        host = load(&environment, spec("again", &megabyte, RULES));
                    }
                    let rules = format!(
                        "rules = [{{ from = '*.example.com', to = '$1.n{number}.internal' }}]"
                    );
                    let next = vec![spec("again", &megabyte, &rules)];
                    let start = Instant::now();
                    host.reload(next, None).unwrap();
                    total += start.elapsed();
                }
                host.reload(Vec::new(), None).unwrap();
                total
            });
        });
        group.finish();
    }

    criterion_group!(benches, ask, packets, load_and_check);
}

#[cfg(target_os = "linux")]
criterion::criterion_main!(linux::benches);

#[cfg(not(target_os = "linux"))]
fn main() {}
