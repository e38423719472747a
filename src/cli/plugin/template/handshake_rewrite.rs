//! The plugin `template-name`: replaces the host that the player typed by another one
//! for the backend.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The host that the player typed, and the host that the backend gets.
    hosts: HashMap<String, Spanned<String>>,
}

struct Rewriter {
    hosts: HashMap<String, String>,
}

impl Plugin for Rewriter {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        let mut hosts = HashMap::new();
        for (from, to) in config.hosts {
            if to.get_ref().is_empty() {
                return Err(Error::at(to.span(), "a host is not empty"));
            }
            hosts.insert(from.to_ascii_lowercase(), to.into_inner());
        }
        tracing::info!(hosts = hosts.len(), "ready");
        Ok(Rewriter { hosts })
    }
}

impl HandshakeRewrite for Rewriter {
    // This hook is not async, and must not block.
    fn handshake_rewrite(&self, handshake: &Handshake<'_>) -> Result<Rewrite> {
        Ok(match self.hosts.get(handshake.virtual_host()) {
            Some(host) => Rewrite::host(host.clone()),
            None => Rewrite::keep(),
        })
    }
}

export_plugin! {
    plugin: Rewriter,
    name: "template-name",
    hooks: [HandshakeRewrite],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// Hosts of the table are rewritten, others stay.
    #[test]
    fn hosts_of_the_table_are_rewritten() {
        let plugin = TestHost::<Rewriter>::start(include_str!("../config.toml")).unwrap();
        let rewrite = |host: &str| {
            let client = Client::new().virtual_host(host);
            plugin.handshake_rewrite(&client, host).unwrap()
        };
        assert_eq!(rewrite("play.example.com"), Rewrite::host("lobby.internal"));
        assert_eq!(rewrite("other.example.com"), Rewrite::keep());
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "hosts = { 'a.b' = '' }";
        let failure = TestHost::<Rewriter>::start(config).unwrap_err();
        assert_eq!(failure.text, "a host is not empty");
        assert_eq!(&config[failure.span.unwrap()], "''");
    }
}
