//! The plugin `template-name`: closes connections from listed addresses, before the
//! client sends a name.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The addresses.
    block: Vec<IpAddr>,
}

struct Guard {
    block: Vec<IpAddr>,
}

impl Plugin for Guard {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        tracing::info!(addresses = config.block.len(), "ready");
        Ok(Guard {
            block: config.block,
        })
    }
}

#[async_trait]
impl ConnectionDecide for Guard {
    async fn connection_decide(&self, connection: Connection<'_>) -> Result<Verdict> {
        let address = connection.peer().ip();
        if self.block.contains(&address) {
            tracing::debug!(%address, "closed");
            return Ok(Verdict::drop());
        }
        Ok(Verdict::allow())
    }
}

export_plugin! {
    plugin: Guard,
    name: "template-name",
    hooks: [ConnectionDecide],
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// Connections from addresses of the list are closed, others continue.
    #[test]
    fn addresses_of_the_list_are_closed() {
        let plugin = TestHost::<Guard>::start(include_str!("../config.toml")).unwrap();
        let decide = |address: &str| {
            let peer: SocketAddr = address.parse().unwrap();
            plugin.connection_decide(&Client::new().peer(peer)).unwrap()
        };
        assert_eq!(decide("192.0.2.1:50000"), Verdict::drop());
        assert_eq!(decide("127.0.0.1:50000"), Verdict::allow());
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "block = ['nowhere']";
        let failure = TestHost::<Guard>::start(config).unwrap_err();
        assert_eq!(&config[failure.span.unwrap()], "'nowhere'");
    }
}
