//! A plugin for the tests of the host. Its behaviour depends on its configuration, and on
//! the name or the host of the call.
#![forbid(unsafe_code)]

use std::time::Duration;

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// Written before hosts and texts.
    tag: String,
    /// `panic`, `error`, `abort`, `exit`, `overflow`, `hang` or `place` at the
    /// start; `again`: hang where it has started before; `login`: abort at the
    /// first login.
    #[serde(default)]
    start: Option<Spanned<String>>,
    /// How long its start takes, in milliseconds. Its data folder shows that the start has
    /// begun.
    #[serde(default)]
    start_ms: u64,
    /// How long its end takes, in milliseconds.
    #[serde(default)]
    end_ms: u64,
}

struct Sample {
    tag: String,
    aborts: bool,
    end: Duration,
    host: Host<Self>,
}

impl Plugin for Sample {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        if config.start_ms > 0 {
            std::fs::write(host.data_folder()?.join("starts"), "")?;
            std::thread::sleep(Duration::from_millis(config.start_ms));
        }
        if let Some(start) = &config.start {
            match start.get_ref().as_str() {
                "panic" => panic!("no start today"),
                "error" => return Err(Error::msg("no database")),
                "abort" => std::process::abort(),
                "exit" => std::process::exit(0),
                "overflow" => std::process::exit(deeper(1)),
                "hang" => hang(host),
                "again" if host.data_folder()?.join("started").exists() => hang(host),
                "again" => std::fs::write(host.data_folder()?.join("started"), "")?,
                "login" => {}
                _ => return Err(Error::at(start.span(), "that is not a start")),
            }
        }
        let ticks = host.gauge("ticks")?;
        let mut count = 0;
        host.every(Duration::from_millis(2), move || {
            count += 1;
            ticks.set(count);
            std::future::ready(())
        })?;
        tracing::info!(tag = config.tag, players = host.players(), "started");
        Ok(Self {
            tag: config.tag,
            aborts: config.start.is_some(),
            end: Duration::from_millis(config.end_ms),
            host: host.clone(),
        })
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        std::thread::sleep(self.end);
        if let Ok(folder) = self.host.data_folder() {
            let _ = std::fs::write(folder.join("ended"), &self.tag);
            // Of several that end, each is to be seen.
            let _ = std::fs::write(folder.join(format!("ended-{}", self.tag)), "");
        }
    }
}

/// Never returns. The data folder has the process id.
fn hang(host: &Host<Sample>) -> ! {
    if let Ok(folder) = host.data_folder() {
        let _ = std::fs::write(folder.join("hangs"), std::process::id().to_string());
    }
    loop {
        std::thread::park();
    }
}

/// Recurses without end.
fn deeper(depth: i32) -> i32 {
    let room = std::hint::black_box([depth; 1024]);
    if depth == 0 {
        return 0;
    }
    deeper(depth + 1) + room[1]
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("and again");
    }
}

impl HandshakeRewrite for Sample {
    fn handshake_rewrite(&self, handshake: &Handshake<'_>) -> Result<Rewrite> {
        Ok(match handshake.virtual_host() {
            "panic" => panic!("boom at {}", handshake.host()),
            "bomb" => std::panic::panic_any(Bomb),
            "garbage" => Rewrite::host("a\0b"),
            "long" => Rewrite::host("a".repeat(256)),
            "keep" => Rewrite::keep(),
            _ => Rewrite::host(format!("{}.{}", self.tag, handshake.host())),
        })
    }
}

#[async_trait]
impl ConnectionDecide for Sample {
    async fn connection_decide(&self, connection: Connection<'_>) -> Result<Verdict> {
        if connection.peer().ip().is_loopback() {
            Ok(Verdict::allow())
        } else {
            Ok(Verdict::drop())
        }
    }
}

#[async_trait]
impl StatusRespond for Sample {
    async fn status_respond(&self, status: Status<'_>) -> Result<Reply> {
        Ok(match status.virtual_host() {
            "garbage" => Reply::json("no json"),
            "keep" => Reply::keep(),
            _ => Reply::json(format!("{{\"{}\":{}}}", self.tag, status.json())),
        })
    }
}

#[async_trait]
impl LoginDecide for Sample {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        if self.aborts {
            std::process::abort();
        }
        match login.name() {
            "Panic" => panic!("boom"),
            "Error" => Err(Error::msg("no answer")),
            "Never" => std::future::pending().await,
            "Wait" => {
                self.host.sleep(Duration::from_millis(20)).await;
                Ok(Verdict::refuse("waited"))
            }
            // Until somebody opens.
            "Gate" => {
                let open = self.host.data_folder()?.join("open");
                while !open.exists() {
                    self.host.sleep(Duration::from_millis(2)).await;
                }
                Ok(Verdict::refuse(format!("{} has opened", self.tag)))
            }
            // The same, and the worker with it.
            "Hold" => {
                let open = self.host.data_folder()?.join("open");
                while !open.exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(Verdict::allow())
            }
            "Block" => {
                std::thread::sleep(Duration::from_millis(500));
                Ok(Verdict::allow())
            }
            "Huge" => Ok(Verdict::refuse("x".repeat(1 << 20))),
            "Eve" => Ok(Verdict::refuse(format!("{} says no", self.tag))),
            name => {
                tracing::debug!(
                    name,
                    may = login.may(Capability::PacketInject),
                    "let in\nnow\u{202e}\u{2028}"
                );
                Ok(Verdict::allow())
            }
        }
    }
}

#[async_trait]
impl RouteSelect for Sample {
    async fn route_select(&self, login: Login<'_>) -> Result<Choice> {
        Ok(match login.uuid() {
            Some(1) => Choice::server("other"),
            Some(_) => Choice::server("nowhere"),
            None => Choice::keep(),
        })
    }
}

impl SessionObserve for Sample {
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        let event = match session.event() {
            Event::Opened => "opened",
            Event::Connected { .. } => "connected",
            Event::Closed {
                serverbound_bytes,
                clientbound_bytes,
                ..
            } => {
                self.host
                    .counter("bytes")?
                    .add(serverbound_bytes + clientbound_bytes);
                "closed"
            }
            _ => return Ok(()),
        };
        self.host.counter(event)?.add(1);
        Ok(())
    }
}

export_plugin! {
    plugin: Sample,
    name: "sample",
    hooks: [ConnectionDecide, HandshakeRewrite, StatusRespond, LoginDecide, RouteSelect, SessionObserve],
    wants: [PacketInject],
}
