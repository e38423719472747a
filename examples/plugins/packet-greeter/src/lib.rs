//! `packet-greeter`: declares that it injects packets, and so can only be
//! attached to servers whose mode lets the proxy see packets.
//!
//! What it shows is the declaration, and what it is for: a server in
//! `passthrough`, `zero_copy` or `server_only` that this plugin is attached to is
//! refused by `infrarust check`, with both lines and the reason. On other servers
//! it writes a line for each session. `welcome`, which ships with the proxy, is a
//! plugin that does greet.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The plugin's own table: none of it is needed.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {}

struct PacketGreeter;

impl Plugin for PacketGreeter {
    type Config = Config;

    fn new(_: Config, _: &Host<Self>) -> Result<Self> {
        Ok(Self)
    }
}

impl SessionObserve for PacketGreeter {
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        if session.event() == Event::Opened {
            tracing::info!(
                player = session.name(),
                "a session whose packets it could send"
            );
        }
        Ok(())
    }
}

export_plugin! {
    plugin: PacketGreeter,
    name: "packet-greeter",
    hooks: [SessionObserve],
    needs: [PacketInject],
}
