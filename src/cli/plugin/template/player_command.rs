//! The plugin `template-name`: adds a command that answers with texts of its settings.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. Its mistakes are shown in the
/// operator's own file.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// What players read, by the word behind `/info`.
    answers: Spanned<BTreeMap<String, String>>,
}

struct Info {
    answers: BTreeMap<String, String>,
}

impl Plugin for Info {
    type Config = Config;

    /// Called once, and again for each reload. An error keeps the proxy as it was.
    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        if config.answers.get_ref().is_empty() {
            return Err(Error::at(config.answers.span(), "there is nothing to say"));
        }
        let answers = config.answers.into_inner();
        tracing::info!(answers = answers.len(), "ready");
        Ok(Info { answers })
    }
}

#[async_trait]
impl PlayerCommand for Info {
    fn commands(&self) -> Vec<CommandSpec> {
        vec![CommandSpec::new("info", Audience::Everybody)]
    }

    async fn player_command(&self, command: Command<'_>) -> Result<CommandReply> {
        tracing::debug!(name = command.name(), about = command.arguments(), "asked");
        Ok(match self.answers.get(command.arguments().trim()) {
            Some(answer) => CommandReply::say(answer.as_str()),
            None => CommandReply::say("Usage: /info <about>"),
        })
    }

    async fn complete(&self, command: Command<'_>) -> Result<Vec<String>> {
        let words = self.answers.keys();
        let words = words.filter(|word| word.starts_with(command.arguments()));
        Ok(words.cloned().collect())
    }
}

export_plugin! {
    plugin: Info,
    name: "template-name",
    hooks: [PlayerCommand],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// The command answers what the settings say, and completes their words.
    #[test]
    fn the_command_answers() {
        let plugin = TestHost::<Info>::start(include_str!("../config.toml")).unwrap();
        let (steve, id) = (Client::new(), PlayerId::from_number(1));
        assert_eq!(plugin.commands().unwrap()[0].name, "info");
        let answer = |line: &str| plugin.player_command(&steve, id, line).unwrap().text();
        assert_eq!(
            answer("/info map"),
            Some("The map is at map.example.com.".into())
        );
        assert_eq!(answer("/info"), Some("Usage: /info <about>".into()));
        assert_eq!(plugin.complete(&steve, id, "/info m").unwrap(), ["map"]);
    }

    /// A mistake in the settings has its place.
    #[test]
    fn mistakes_have_their_place() {
        let config = "answers = {}";
        let failure = TestHost::<Info>::start(config).unwrap_err();
        assert_eq!(failure.text, "there is nothing to say");
        assert_eq!(&config[failure.span.unwrap()], "{}");
    }
}
