//! The plugin `template-name`: closes connections from addresses of a list,
//! before their clients say who they are.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. Its mistakes are shown in the
/// operator's own file.
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

    /// Called once, and again for each reload. An error keeps the proxy as it was.
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

    /// A mistake in the settings has its place.
    #[test]
    fn mistakes_have_their_place() {
        let config = "block = ['nowhere']";
        let failure = TestHost::<Guard>::start(config).unwrap_err();
        assert_eq!(&config[failure.span.unwrap()], "'nowhere'");
    }
}
