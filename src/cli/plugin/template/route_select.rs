//! The plugin `template-name`: sends players of a list to another server.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. Its mistakes are shown in the
/// operator's own file.
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

    /// Called once, and again for each reload. An error keeps the proxy as it was.
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
        // Who the client claims to be; nobody has proved it yet.
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

    /// A mistake in the settings has its place.
    #[test]
    fn mistakes_have_their_place() {
        let config = "names = []\nserver = ''";
        let failure = TestHost::<Router>::start(config).unwrap_err();
        assert_eq!(failure.text, "a server has an id");
        assert_eq!(&config[failure.span.unwrap()], "''");
    }
}
