//! The plugin `template-name`: writes its own line into the server list of the
//! players.
#![forbid(unsafe_code)]

use infrarust_plugin_api::prelude::*;
use serde_json::{Map, Value, json};

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The line.
    text: Spanned<String>,
}

struct Greeter {
    text: String,
}

impl Plugin for Greeter {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        if config.text.get_ref().lines().count() > 2 {
            let why = "the server list shows two lines";
            return Err(Error::at(config.text.span(), why));
        }
        tracing::info!("ready");
        Ok(Greeter {
            text: config.text.into_inner(),
        })
    }
}

#[async_trait]
impl StatusRespond for Greeter {
    async fn status_respond(&self, status: Status<'_>) -> Result<Reply> {
        let mut answer: Map<String, Value> = serde_json::from_str(status.json())?;
        answer.insert("description".to_owned(), json!({ "text": self.text }));
        Ok(Reply::json(serde_json::to_string(&answer)?))
    }
}

export_plugin! {
    plugin: Greeter,
    name: "template-name",
    hooks: [StatusRespond],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// The line is replaced, and the rest stays.
    #[test]
    fn the_line_is_replaced() {
        let plugin = TestHost::<Greeter>::start(include_str!("../config.toml")).unwrap();
        let before = r#"{"description":"old","players":{"max":20,"online":2}}"#;
        let after = r#"{"description":{"text":"Welcome!"},"players":{"max":20,"online":2}}"#;
        let reply = plugin.status_respond(&Client::new(), before).unwrap();
        assert_eq!(reply, Reply::json(after));
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = r#"text = "1\n2\n3""#;
        let failure = TestHost::<Greeter>::start(config).unwrap_err();
        assert_eq!(failure.text, "the server list shows two lines");
        assert_eq!(&config[failure.span.unwrap()], r#""1\n2\n3""#);
    }
}
