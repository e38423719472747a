//! `welcome`: greets players who join the game.
//!
//! ```toml
//! [plugins.welcome]
//! servers = ["lobby"]
//!
//! [plugins.welcome.config]
//! message = "<gold>Welcome back, {player}!"
//! first = "<gold>Hello {player}, <hover:show_text:'No griefing.'><u>read the rules</u>"
//! title = "<aqua>{server}"
//! subtitle = "have fun"
//! ```
//!
//! `message` is a line of chat. A player who joins for the first time since the plugin
//! was loaded gets `first` instead. `title` and `subtitle` are for all players. A text
//! that is not set is not shown. Texts in the table
//! `[plugins.welcome.config.servers.ID]` replace those above on one server.
//!
//! Texts may have tags of MiniMessage, and the placeholders `{player}` and `{server}`.
//! The plugin works on servers with `proxy_mode` `client_only` or `offline`.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use infrarust_plugin_api::prelude::*;
use infrarust_plugin_api::{Grant, ServiceError};

/// The most players that the plugin remembers. If there are more, it forgets the oldest
/// and greets them as new players again.
const SEEN_MAX: usize = 100_000;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    message: Option<Spanned<String>>,
    first: Option<Spanned<String>>,
    title: Option<Spanned<String>>,
    subtitle: Option<Spanned<String>>,
    #[serde(default)]
    servers: HashMap<String, RawTexts>,
}

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct RawTexts {
    message: Option<Spanned<String>>,
    first: Option<Spanned<String>>,
    title: Option<Spanned<String>>,
    subtitle: Option<Spanned<String>>,
}

/// The texts for a server.
#[derive(Clone, Default)]
struct Texts {
    message: Option<String>,
    first: Option<String>,
    title: Option<String>,
    subtitle: Option<String>,
}

struct Welcome {
    messages: Grant<capability::PlayerMessage>,
    everywhere: Texts,
    servers: HashMap<String, Texts>,
    seen: Mutex<Seen>,
}

/// The players that the plugin has greeted, at most [`SEEN_MAX`].
#[derive(Default)]
struct Seen {
    players: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Seen {
    /// Adds a player. Returns whether the player is new.
    fn note(&mut self, player: u128) -> bool {
        if !self.players.insert(player) {
            return false;
        }
        self.order.push_back(player);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.players.remove(&oldest);
        }
        true
    }
}

impl Plugin for Welcome {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let messages = host.grant::<capability::PlayerMessage>();
        let messages = messages.ok_or_else(|| Error::msg("this proxy sends no messages"))?;
        let Config {
            message,
            first,
            title,
            subtitle,
            servers,
        } = config;
        let own = RawTexts {
            message,
            first,
            title,
            subtitle,
        };
        let everywhere = texts(own, &Texts::default())?;
        let servers = servers.into_iter().map(|(server, raw)| {
            let texts = texts(raw, &everywhere)?;
            Ok((server, texts))
        });
        Ok(Self {
            messages,
            servers: servers.collect::<Result<_>>()?,
            everywhere,
            seen: Mutex::default(),
        })
    }
}

/// The texts of a table. A text that the table does not have is that of `otherwise`.
fn texts(raw: RawTexts, otherwise: &Texts) -> Result<Texts> {
    let text = |raw: Option<Spanned<String>>, otherwise: &Option<String>| match raw {
        Some(text) => checked(text).map(Some),
        None => Ok(otherwise.clone()),
    };
    Ok(Texts {
        message: text(raw.message, &otherwise.message)?,
        first: text(raw.first, &otherwise.first)?,
        title: text(raw.title, &otherwise.title)?,
        subtitle: text(raw.subtitle, &otherwise.subtitle)?,
    })
}

/// Checks that a text has only known placeholders.
fn checked(text: Spanned<String>) -> Result<String> {
    let rest = text
        .get_ref()
        .replace("{player}", "")
        .replace("{server}", "");
    let placeholder = rest
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    if let Some((name, _)) = placeholder {
        let error =
            format!("there is no placeholder `{{{name}}}`; there are {{player}} and {{server}}");
        return Err(Error::at(text.span(), error));
    }
    Ok(text.into_inner())
}

impl PlayerObserve for Welcome {
    fn player_observe(&self, player: &Player<'_>) -> Result<()> {
        if player.event() != PlayerEvent::Joined {
            return Ok(());
        }
        match self.greet(player) {
            // The player has left in the meantime.
            Ok(()) | Err(ServiceError::Gone) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Welcome {
    fn greet(&self, player: &Player<'_>) -> Result<(), ServiceError> {
        let texts = self
            .servers
            .get(player.server())
            .unwrap_or(&self.everywhere);
        let text = |template: &str| {
            // A name could contain tags.
            let player_name = Text::escape_mini(player.name());
            let server = Text::escape_mini(player.server());
            let text = template
                .replace("{server}", &server)
                .replace("{player}", &player_name);
            Text::from_mini(&text)
        };
        let is_first = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.note(player.uuid())
        };
        let line = match is_first {
            true => texts.first.as_ref().or(texts.message.as_ref()),
            false => texts.message.as_ref(),
        };
        if let Some(line) = line {
            self.messages.chat(player.id(), text(line))?;
        }
        if texts.title.is_some() || texts.subtitle.is_some() {
            let part = |part: &Option<String>| text(part.as_deref().unwrap_or_default());
            let title = Title::new(part(&texts.title)).subtitle(part(&texts.subtitle));
            self.messages.title(player.id(), &title)?;
        }
        Ok(())
    }
}

export_plugin! {
    plugin: Welcome,
    name: "welcome",
    hooks: [PlayerObserve],
    needs: [PlayerMessage],
}

#[cfg(test)]
mod tests {
    use infrarust_plugin_api::testing::{Client, Sent, TestHost};

    use super::*;

    const CONFIG: &str = "message = '<red>Again, {player}'\nfirst = 'New, {player}'\n\
                          title = '{server}'\n[servers.pvp]\ntitle = 'Fight'\n";

    fn greeted(plugin: &TestHost<Welcome>, client: &Client) -> Vec<Sent> {
        let id = PlayerId::from_number(1);
        plugin
            .player_observe(client, id, PlayerEvent::Joined)
            .unwrap();
        let left = PlayerEvent::Left { reason: "closed" };
        plugin.player_observe(client, id, left).unwrap();
        plugin.take_sent(id)
    }

    /// A player gets `first` once and `message` afterwards, and a server can have its own
    /// texts.
    #[test]
    fn players_are_greeted() {
        let plugin = TestHost::<Welcome>::start(CONFIG).unwrap();
        let steve = Client::new().uuid(1);
        let lobby = Sent::Title(Title::new("lobby"));
        let new = Sent::Chat("New, Steve".into());
        assert_eq!(greeted(&plugin, &steve), [new, lobby.clone()]);
        let again = Sent::Chat(Text::from_mini("<red>Again, Steve"));
        assert_eq!(greeted(&plugin, &steve), [again.clone(), lobby]);
        let fight = Sent::Title(Title::new("Fight"));
        assert_eq!(greeted(&plugin, &steve.server("pvp")), [again, fight]);
    }

    /// A tag in a player's name is shown as plain text.
    #[test]
    fn tags_in_names_are_escaped() {
        let plugin = TestHost::<Welcome>::start("message = '{player}'").unwrap();
        let sent = greeted(&plugin, &Client::new().name("<red>x"));
        assert_eq!(sent, [Sent::Chat(Text::new("<red>x"))]);
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "message = 'Hi {name}'";
        let failure = TestHost::<Welcome>::start(config).unwrap_err();
        assert!(failure.text.starts_with("there is no placeholder `{name}`"));
        assert_eq!(&config[failure.span.unwrap()], "'Hi {name}'");
    }

    /// The plugin forgets the oldest players above `SEEN_MAX`.
    #[test]
    fn the_oldest_are_forgotten() {
        let mut seen = Seen::default();
        for player in 0..=SEEN_MAX {
            assert!(seen.note(player as u128));
        }
        assert!(!seen.note(1));
        assert!(seen.note(0));
        assert_eq!(seen.players.len(), SEEN_MAX);
    }
}
