//! The plugin `template-name`: refuses the players of a list.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// Names of players.
    deny: Vec<Spanned<String>>,
    /// The text that they read.
    message: String,
}

struct Gate {
    deny: Vec<String>,
    message: String,
}

impl Plugin for Gate {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        let mut deny = Vec::new();
        for name in config.deny {
            if name.get_ref().contains(' ') {
                return Err(Error::at(name.span(), "a name has no spaces"));
            }
            deny.push(name.into_inner());
        }
        tracing::info!(names = deny.len(), "ready");
        Ok(Gate {
            deny,
            message: config.message,
        })
    }
}

#[async_trait]
impl LoginDecide for Gate {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        let name = login.name();
        if self.deny.iter().any(|deny| deny.eq_ignore_ascii_case(name)) {
            tracing::debug!(name, "refused");
            return Ok(Verdict::refuse(self.message.clone()));
        }
        Ok(Verdict::allow())
    }
}

export_plugin! {
    plugin: Gate,
    name: "template-name",
    hooks: [LoginDecide],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// Players of the list are refused, others are let in.
    #[test]
    fn players_of_the_list_are_refused() {
        let plugin = TestHost::<Gate>::start(include_str!("../config.toml")).unwrap();
        let decide = |name: &str| plugin.login_decide(&Client::new().name(name)).unwrap();
        assert_eq!(decide("eve"), Verdict::refuse("You may not join."));
        assert_eq!(decide("Steve"), Verdict::allow());
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "deny = ['Eve', 'two words']\nmessage = ''";
        let failure = TestHost::<Gate>::start(config).unwrap_err();
        assert_eq!(failure.text, "a name has no spaces");
        assert_eq!(&config[failure.span.unwrap()], "'two words'");
    }
}
