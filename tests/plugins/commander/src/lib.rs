//! A plugin for the tests of the intercepted modes: commands of players.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use infrarust_plugin_api::Grant;
use infrarust_plugin_api::prelude::*;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The file in which the plugin writes whether late answers were sent, one line each.
    events: PathBuf,
    /// The text that `/echo` prints before the typed text.
    #[serde(default)]
    prefix: String,
}

impl Config {
    fn write(&self, line: &str) {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&self.events);
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{line}");
        }
    }
}

struct Commander {
    config: Arc<Config>,
    host: Host<Self>,
}

impl Plugin for Commander {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let (config, host) = (Arc::new(config), host.clone());
        Ok(Commander { config, host })
    }
}

#[async_trait]
impl PlayerCommand for Commander {
    fn commands(&self) -> Vec<CommandSpec> {
        let everybody = [
            "echo", "wait", "hang", "panic", "error", "late", "go", "cookie", "who", "lines",
        ];
        let everybody = everybody.map(|name| CommandSpec::new(name, Audience::Everybody));
        let refused = ["stop", "server", "Bad Name", "echo", ""];
        let refused = refused.map(|name| CommandSpec::new(name, Audience::Everybody));
        let mut commands = Vec::from(everybody);
        commands.extend(refused);
        commands.push(CommandSpec::new("listed", Audience::PlayerCommands));
        commands.push(CommandSpec::new("secret", Audience::Admins));
        commands
    }

    async fn player_command(&self, command: Command<'_>) -> Result<CommandReply> {
        let arguments = command.arguments();
        match command.command() {
            "wait" => {
                self.host.sleep(Duration::from_millis(50)).await;
                Ok(CommandReply::say(format!("waited {arguments}")))
            }
            "hang" => std::future::pending().await,
            "panic" => panic!("as it was typed"),
            "error" => Err(Error::msg("it has no mind to")),
            "late" => {
                self.answer_late(command.player(), arguments)?;
                Ok(CommandReply::nothing())
            }
            "go" => {
                self.switch(command.player(), arguments)?;
                Ok(CommandReply::nothing())
            }
            "cookie" => self.cookie(command.player(), arguments).await,
            "who" => Ok(CommandReply::say(format!(
                "{} {:032x} {} {} {} {}",
                command.name(),
                command.uuid(),
                command.is_proved(),
                command.is_admin(),
                command.server(),
                command.protocol(),
            ))),
            name => Ok(CommandReply::say(format!(
                "{}{name} {arguments}",
                self.config.prefix
            ))),
        }
    }

    async fn complete(&self, command: Command<'_>) -> Result<Vec<String>> {
        match command.command() {
            "lines" => Ok((0..5000).map(|number| format!("word{number}")).collect()),
            "error" => Err(Error::msg("it has no words")),
            _ => Ok(vec![
                format!("<{}>", command.arguments()),
                "more".to_owned(),
                String::new(),
            ]),
        }
    }
}

impl Commander {
    /// Stores `KEY=DATA`, or prints what the client has under a key.
    async fn cookie(&self, player: PlayerId, what: &str) -> Result<CommandReply> {
        let cookies: Option<Grant<_>> = self.host.grant::<capability::PlayerCookie>();
        let cookies = cookies.ok_or_else(|| Error::msg("no service"))?;
        if let Some((key, data)) = what.split_once('=') {
            return Ok(match cookies.store(player, key, data.as_bytes()) {
                Ok(()) => CommandReply::say("stored"),
                Err(error) => CommandReply::say(error.to_string()),
            });
        }
        let answer = match cookies.request(player, what) {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        Ok(CommandReply::say(format!("{what}: {answer:?}")))
    }

    /// Moves a player to another server, and writes the result.
    fn switch(&self, player: PlayerId, server: &str) -> Result<()> {
        let switches: Option<Grant<_>> = self.host.grant::<capability::ServerSwitch>();
        let switches = switches.ok_or_else(|| Error::msg("no service"))?;
        let switching = switches.switch(player, server)?;
        let (config, server) = (Arc::clone(&self.config), server.to_owned());
        self.host.spawn(async move {
            let line = match switching.await {
                Ok(()) => format!("{server}: there"),
                Err(error) => format!("{server}: {error}"),
            };
            config.write(&line);
        })?;
        Ok(())
    }

    /// Answers in a chat line once a file of this name exists.
    fn answer_late(&self, player: PlayerId, file: &str) -> Result<()> {
        let messages: Option<Grant<_>> = self.host.grant::<capability::PlayerMessage>();
        let messages = messages.ok_or_else(|| Error::msg("no service"))?;
        let (host, config, file) = (
            self.host.clone(),
            Arc::clone(&self.config),
            PathBuf::from(file),
        );
        self.host.spawn(async move {
            while !file.exists() {
                host.sleep(Duration::from_millis(5)).await;
            }
            let line = match messages.chat(player, "late") {
                Ok(()) => "sent".to_owned(),
                Err(error) => error.to_string(),
            };
            config.write(&line);
        })?;
        Ok(())
    }
}

export_plugin! {
    plugin: Commander,
    name: "commander",
    hooks: [PlayerCommand],
    wants: [PlayerMessage, ServerSwitch, PlayerCookie],
}
