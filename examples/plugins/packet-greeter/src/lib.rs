//! `packet-greeter`: declares that it injects packets, and so can only be attached to
//! servers in a mode that lets the proxy inject packets.
//!
//! Shows such a declaration and its effect: if the plugin is attached to a server in
//! `passthrough`, `zero_copy` or `server_only`, `infrarust check` reports an error with
//! both lines and the reason. On other servers the plugin only logs each session.
//! `welcome`, which ships with the proxy, is a plugin that greets players.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The plugin has no settings.
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
