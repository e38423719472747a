//! `motd`: replaces the text of the server list.
//!
//! ```toml
//! [plugins.motd.config]
//! text = "§a{server}§r: {online} of {max} play"
//! offline = "{server} is asleep"
//! schedule = [
//!     { from = "22:00", to = "06:00", text = "Night shift: {online} awake" },
//! ]
//! ```
//!
//! Placeholders: `{server}`, `{host}` (the virtual host), `{online}` and
//! `{max}` (of the answer), `{players}` (on this server through this proxy).
//! Times are in UTC. A span may go over midnight, and the first span that has the
//! current time is used. `offline` is for answers that the proxy gives because the
//! backend does not; without `offline` the plugin does not change them. The plugin
//! changes nothing else in the answer.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use infrarust_plugin_api::prelude::*;
use serde_json::{Map, Value, json};

const MINUTES_PER_DAY: u64 = 24 * 60;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    text: Option<Spanned<String>>,
    offline: Option<Spanned<String>>,
    #[serde(default)]
    schedule: Vec<RawTimeSpan>,
}

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct RawTimeSpan {
    from: Spanned<String>,
    to: Spanned<String>,
    text: Spanned<String>,
}

struct Motd {
    host: Host<Self>,
    text: Option<Template>,
    offline: Option<Template>,
    schedule: Vec<TimeSpan>,
}

/// From one minute of the day, to another, which is not part of it.
struct TimeSpan {
    from: u64,
    to: u64,
    text: Template,
}

impl TimeSpan {
    fn covers(&self, minute: u64) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// A text with placeholders.
struct Template(Vec<Piece>);

/// A part of a template: a text or a placeholder.
enum Piece {
    Text(String),
    Server,
    Host,
    Online,
    Max,
    Players,
}

impl Plugin for Motd {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let span = |raw: &RawTimeSpan| {
            let (from, to) = (minute(&raw.from)?, minute(&raw.to)?);
            Ok(TimeSpan {
                from,
                to,
                text: template(&raw.text)?,
            })
        };
        Ok(Self {
            host: host.clone(),
            text: config.text.as_ref().map(template).transpose()?,
            offline: config.offline.as_ref().map(template).transpose()?,
            schedule: config.schedule.iter().map(span).collect::<Result<_>>()?,
        })
    }
}

#[async_trait]
impl StatusRespond for Motd {
    async fn status_respond(&self, status: Status<'_>) -> Result<Reply> {
        // No server has the host, and the answer is `default_motd`.
        if status.server().is_empty() {
            return Ok(Reply::keep());
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let Some(template) = self.template(status.is_online(), since_epoch.as_secs() / 60) else {
            return Ok(Reply::keep());
        };
        let mut answer: Map<String, Value> = serde_json::from_str(status.json())?;
        let text = self.fill(template, &status, &answer);
        answer.insert("description".to_owned(), json!({ "text": text }));
        Ok(Reply::json(Value::Object(answer).to_string()))
    }
}

impl Motd {
    fn template(&self, is_online: bool, minute: u64) -> Option<&Template> {
        if !is_online {
            return self.offline.as_ref();
        }
        let minute = minute % MINUTES_PER_DAY;
        let span = self.schedule.iter().find(|span| span.covers(minute));
        span.map(|span| &span.text).or(self.text.as_ref())
    }

    fn fill(
        &self,
        template: &Template,
        status: &Status<'_>,
        answer: &Map<String, Value>,
    ) -> String {
        let number = |key: &str| {
            let number = answer
                .get("players")
                .and_then(|players| players.get(key)?.as_i64());
            number.map_or_else(|| "?".to_owned(), |number| number.to_string())
        };
        let mut text = String::new();
        for piece in &template.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Server => text.push_str(status.server()),
                Piece::Host => text.push_str(status.virtual_host()),
                Piece::Online => text.push_str(&number("online")),
                Piece::Max => text.push_str(&number("max")),
                Piece::Players => {
                    let players = self.host.players_on(status.server()).unwrap_or(0);
                    text.push_str(&players.to_string());
                }
            }
        }
        text
    }
}

/// `HH:MM` as the minute of the day.
fn minute(text: &Spanned<String>) -> Result<u64> {
    let parse = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let is_two = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let (hour, minute): (u64, u64) = (is_two(hour) && is_two(minute))
            .then(|| Some((hour.parse().ok()?, minute.parse().ok()?)))??;
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    parse(text.get_ref())
        .ok_or_else(|| Error::at(text.span(), "a time is `HH:MM`, from 00:00 to 23:59"))
}

fn template(text: &Spanned<String>) -> Result<Template> {
    let bad = |why: String| Error::at(text.span(), why);
    let mut pieces = Vec::new();
    let mut rest = text.get_ref().as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after
            .split_once('}')
            .ok_or_else(|| bad("a `{` begins a placeholder, and no `}` ends it".to_owned()))?;
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(match name {
            "server" => Piece::Server,
            "host" => Piece::Host,
            "online" => Piece::Online,
            "max" => Piece::Max,
            "players" => Piece::Players,
            name => {
                return Err(bad(format!(
                    "there is no placeholder `{{{name}}}`; there are {{server}}, {{host}}, {{online}}, \
                     {{max}} and {{players}}"
                )));
            }
        });
        rest = behind;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(Template(pieces))
}

export_plugin! { plugin: Motd, name: "motd", hooks: [StatusRespond] }

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, Setup, TestHost};

    const ANSWER: &str = r#"{"version":{"name":"x"},"players":{"online":3,"max":20}}"#;

    /// The plugin fills placeholders, and does not change the rest of the answer.
    #[test]
    fn placeholders_are_filled() {
        let plugin = Setup::new()
            .players("lobby", 2)
            .start::<Motd>("text = '{server} {host} {online}/{max} {players}!'")
            .unwrap();
        let reply = plugin.status_respond(&Client::new(), ANSWER).unwrap();
        let wanted = json!({
            "version": { "name": "x" },
            "players": { "online": 3, "max": 20 },
            "description": { "text": "lobby play.example.com 3/20 2!" },
        });
        assert_eq!(reply, Reply::json(wanted.to_string()));
        let reply = plugin.status_respond(&Client::new(), "{}").unwrap();
        let wanted = json!({ "description": { "text": "lobby play.example.com ?/? 2!" } });
        assert_eq!(reply, Reply::json(wanted.to_string()));
        assert_eq!(
            plugin.status_respond_offline(&Client::new(), "{}").unwrap(),
            Reply::keep()
        );
        assert!(plugin.status_respond(&Client::new(), "[]").is_err());
    }

    /// The plugin does not change the answer for a host that no server has.
    #[test]
    fn unclaimed_hosts_keep_their_answer() {
        let plugin = TestHost::<Motd>::start("text = 'a'\noffline = 'b'").unwrap();
        let stranger = Client::new().server("");
        let reply = plugin.status_respond_offline(&stranger, "{}").unwrap();
        assert_eq!(reply, Reply::keep());
        assert_eq!(
            plugin.status_respond(&stranger, "{}").unwrap(),
            Reply::keep()
        );
        let known = plugin.status_respond_offline(&Client::new(), "{}").unwrap();
        assert_ne!(known, Reply::keep());
    }

    /// The first span that covers the minute is used, also over midnight.
    #[test]
    fn the_schedule_covers_midnight() {
        let config: Config = serde_json::from_value(json!({ "schedule": [] })).unwrap();
        assert!(config.text.is_none());
        let span = |from, to| TimeSpan {
            from,
            to,
            text: Template(Vec::new()),
        };
        assert!(span(60, 120).covers(60) && !span(60, 120).covers(120));
        let night = span(22 * 60, 6 * 60);
        assert!(night.covers(23 * 60) && night.covers(0) && !night.covers(6 * 60));
        let always = "schedule = [{ from = '00:00', to = '23:59', text = 'day' },\
                      { from = '23:59', to = '00:00', text = 'day' }]";
        let plugin = TestHost::<Motd>::start(always).unwrap();
        let reply = plugin.status_respond(&Client::new(), "{}").unwrap();
        assert_eq!(reply, Reply::json(r#"{"description":{"text":"day"}}"#));
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        for (config, place) in [
            ("text = '{sever}'", "'{sever}'"),
            ("offline = 'a {'", "'a {'"),
            (
                "schedule = [{ from = '24:00', to = '01:00', text = '' }]",
                "'24:00'",
            ),
            (
                "schedule = [{ from = '1:00', to = '01:00', text = '' }]",
                "'1:00'",
            ),
        ] {
            let failure = TestHost::<Motd>::start(config).unwrap_err();
            assert_eq!(&config[failure.span.unwrap()], place, "{}", failure.text);
        }
    }
}
