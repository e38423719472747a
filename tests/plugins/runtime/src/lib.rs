//! A plugin for the tests of the host that shares nothing with it: it waits for timers and
//! tasks of its own tokio, inside futures that the proxy polls, and has another allocator
//! and another panic hook.
#![deny(unsafe_code)]

mod allocator;

use std::time::Duration;

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde")]
struct Config {
    /// `fails`, while a task runs that cannot be stopped.
    #[serde(default)]
    start: String,
}

struct Timed(Host<Self>);

impl Plugin for Timed {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        if config.start == "fails" {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(60)));
            return Err(Error::msg("no database"));
        }
        // In place of the one by which the SDK learns where a panic was.
        std::panic::set_hook(Box::new(|_| {}));
        // Threads of its own come and go, and one of them panics.
        for number in 0..4 {
            std::thread::spawn(move || assert!(number != 3, "a thread of the plugin"));
        }
        Ok(Timed(host.clone()))
    }
}

impl Timed {
    /// The number of tasks that the host accepts of this number.
    fn flood(&self, tasks: usize) -> usize {
        let spawn = |_: &usize| self.0.spawn(std::future::pending()).is_ok();
        (0..tasks).filter(spawn).count()
    }
}

impl HandshakeRewrite for Timed {
    fn handshake_rewrite(&self, handshake: &Handshake<'_>) -> Result<Rewrite> {
        Ok(Rewrite::host(format!("other.{}", handshake.host())))
    }
}

#[async_trait]
impl StatusRespond for Timed {
    async fn status_respond(&self, status: Status<'_>) -> Result<Reply> {
        Ok(Reply::json(format!("{{\"was\":{}}}", status.json())))
    }
}

#[async_trait]
impl LoginDecide for Timed {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        match login.name() {
            "Panic" => panic!("boom in {}", login.server()),
            "Flood" => return Ok(Verdict::refuse(self.flood(2000).to_string())),
            "Leak" => {
                Vec::leak(vec![1_u8; 1 << 20]);
                return Ok(Verdict::allow());
            }
            "Spin" => {
                let start = std::time::Instant::now();
                while start.elapsed() < Duration::from_millis(500) {
                    std::hint::spin_loop();
                }
                return Ok(Verdict::allow());
            }
            _ => {}
        }
        tracing::warn!(name = login.name(), odd = allocator::is_ours(), "asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.0.sleep(Duration::from_millis(1)).await;
        let name = login.name().to_owned();
        let checked = tokio::spawn(async move { format!("not you, {name}") }).await?;
        Ok(Verdict::refuse(checked))
    }
}

export_plugin! {
    plugin: Timed,
    name: "timed",
    hooks: [LoginDecide, HandshakeRewrite, StatusRespond],
}
