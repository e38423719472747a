//! A plugin for the benchmarks of the host: its hooks do nothing.
#![forbid(unsafe_code)]

use std::task::Poll;

use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {}

struct Idle;

impl Plugin for Idle {
    type Config = Config;

    fn new(_: Config, _: &Host<Self>) -> Result<Self> {
        Ok(Idle)
    }
}

impl HandshakeRewrite for Idle {
    fn handshake_rewrite(&self, _: &Handshake<'_>) -> Result<Rewrite> {
        Ok(Rewrite::keep())
    }
}

/// Answers at once.
#[async_trait]
impl LoginDecide for Idle {
    async fn login_decide(&self, _: Login<'_>) -> Result<Verdict> {
        Ok(Verdict::allow())
    }
}

/// Answers when it is polled for the second time.
#[async_trait]
impl ConnectionDecide for Idle {
    async fn connection_decide(&self, _: Connection<'_>) -> Result<Verdict> {
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
        Ok(Verdict::allow())
    }
}

impl SessionObserve for Idle {
    fn session_observe(&self, _: &Session<'_>) -> Result<()> {
        Ok(())
    }
}

export_plugin! {
    plugin: Idle,
    name: "idle",
    hooks: [HandshakeRewrite, LoginDecide, ConnectionDecide, SessionObserve],
}
