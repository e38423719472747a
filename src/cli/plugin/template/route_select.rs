//! The plugin `template-name`: sends players of a list to another server.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// Names of players.
    names: Vec<String>,
    /// The id of the server.
    server: Spanned<String>,
}

struct Router {
    names: Vec<String>,
    server: String,
}

impl Plugin for Router {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        if config.server.get_ref().is_empty() {
            return Err(Error::at(config.server.span(), "a server has an id"));
        }
        tracing::info!(names = config.names.len(), "ready");
        Ok(Router {
            names: config.names,
            server: config.server.into_inner(),
        })
    }
}

#[async_trait]
impl RouteSelect for Router {
    async fn route_select(&self, login: Login<'_>) -> Result<Choice> {
        // The client claims this name, and nobody has proved it yet.
        let name = login.name();
        if self.names.iter().any(|one| one.eq_ignore_ascii_case(name)) {
            return Ok(Choice::server(self.server.clone()));
        }
        Ok(Choice::keep())
    }
}

export_plugin! {
    plugin: Router,
    name: "template-name",
    hooks: [RouteSelect],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// Players of the list go elsewhere, others stay.
    #[test]
    fn players_of_the_list_go_elsewhere() {
        let plugin = TestHost::<Router>::start(include_str!("../config.toml")).unwrap();
        let select = |name: &str| plugin.route_select(&Client::new().name(name)).unwrap();
        assert_eq!(select("alex"), Choice::server("beta"));
        assert_eq!(select("Steve"), Choice::keep());
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "names = []\nserver = ''";
        let failure = TestHost::<Router>::start(config).unwrap_err();
        assert_eq!(failure.text, "a server has an id");
        assert_eq!(&config[failure.span.unwrap()], "''");
    }
}
