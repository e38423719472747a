//! `chat-guard`: drops lines of chat and commands that come too fast, are too long or
//! match a pattern.
//!
//! ```toml
//! [plugins.chat-guard]
//! servers = ["lobby"]
//!
//! [plugins.chat-guard.config]
//! lines = 5
//! seconds = 10
//! length = 120
//! patterns = ["*discord.gg/*", "buy * cheap*"]
//! bypass = ["Notch"]
//! pattern_text = "<red>No advertising, please."
//! ```
//!
//! A player may write at most `lines` lines and commands in `seconds`, and each may have
//! at most `length` characters. A pattern matches a whole line in upper or lower case:
//! `*` matches any characters, `?` matches one. Commands are matched with their `/`. A
//! limit that is not set does not apply. The plugin does not check players in `bypass`.
//!
//! A player whose line is dropped reads `rate_text`, `length_text` or `pattern_text`,
//! which may have tags of MiniMessage. An empty text is not shown.
//!
//! The plugin works on servers with `proxy_mode` `client_only` or `offline`, in every
//! version of the game.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infrarust_plugin_api::prelude::*;
use infrarust_plugin_api::{Counter, Grant};

/// The largest `lines`, and the most times that the plugin keeps for one player.
const LINES_MAX: usize = 1000;
/// The largest `seconds`: an hour.
const SECONDS_MAX: u64 = 3600;
/// The most patterns. Each line is compared with every pattern.
const PATTERNS_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    lines: Option<Spanned<usize>>,
    seconds: Option<Spanned<u64>>,
    length: Option<Spanned<usize>>,
    #[serde(default)]
    patterns: Vec<Spanned<String>>,
    #[serde(default)]
    bypass: Vec<String>,
    #[serde(default = "rate_text")]
    rate_text: String,
    #[serde(default = "length_text")]
    length_text: String,
    #[serde(default = "pattern_text")]
    pattern_text: String,
}

fn rate_text() -> String {
    "<red>You are writing too fast.".to_owned()
}

fn length_text() -> String {
    "<red>That line is too long.".to_owned()
}

fn pattern_text() -> String {
    "<red>That line is not allowed here.".to_owned()
}

struct ChatGuard {
    /// How many lines a player may write in which time.
    rate: Option<(usize, Duration)>,
    /// The most characters of a line.
    length: Option<usize>,
    patterns: Vec<Pattern>,
    bypass: Vec<String>,
    /// The text for the player, by [`Reason`].
    texts: [Option<Text>; 3],
    messages: Option<Grant<capability::PlayerMessage>>,
    /// The times of the last lines of each player in the game.
    written: Mutex<HashMap<PlayerId, Written>>,
    dropped: [Counter; 3],
}

/// Why a line is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Rate,
    Length,
    Pattern,
}

impl Plugin for ChatGuard {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let rate = match (config.lines, config.seconds) {
            (None, None) => None,
            (Some(lines), seconds) => {
                let per = match seconds {
                    None => 10,
                    Some(seconds) => limit(&seconds, SECONDS_MAX)?,
                };
                Some((limit(&lines, LINES_MAX)?, Duration::from_secs(per)))
            }
            (None, Some(seconds)) => {
                return Err(Error::at(seconds.span(), "`seconds` needs `lines`"));
            }
        };
        let length = config.length.map(|length| limit(&length, usize::MAX));
        if let Some(over) = config.patterns.get(PATTERNS_MAX) {
            let text = format!("there are more than {PATTERNS_MAX} patterns");
            return Err(Error::at(over.span(), text));
        }
        let patterns = config.patterns.iter().map(Pattern::new);
        let text = |text: String| (!text.is_empty()).then(|| Text::from_mini(&text));
        Ok(Self {
            rate,
            length: length.transpose()?,
            patterns: patterns.collect::<Result<_>>()?,
            bypass: config.bypass,
            texts: [config.rate_text, config.length_text, config.pattern_text].map(text),
            messages: host.grant::<capability::PlayerMessage>(),
            written: Mutex::default(),
            dropped: [
                host.counter("dropped_rate")?,
                host.counter("dropped_length")?,
                host.counter("dropped_pattern")?,
            ],
        })
    }
}

/// The number, if it is from 1 to `max`.
fn limit<T: Copy + From<u8> + Ord + std::fmt::Display>(given: &Spanned<T>, max: T) -> Result<T> {
    let number = *given.get_ref();
    if number < T::from(1) || number > max {
        let text = format!("it has to be 1 to {max}");
        return Err(Error::at(given.span(), text));
    }
    Ok(number)
}

impl PacketModify for ChatGuard {
    fn interest(&self) -> Interest {
        [PacketKind::ChatMessage, PacketKind::ChatCommand].into()
    }

    fn packet_modify(&self, packet: &mut Packet<'_>) -> Result<PacketVerdict> {
        let line = match (packet.chat_message(), packet.chat_command()) {
            (Some(chat), _) => chat.message()?,
            (_, Some(command)) => format!("/{}", command.command()?),
            _ => return Ok(PacketVerdict::pass()),
        };
        let name = packet.player_name();
        if self.bypass.iter().any(|one| one.eq_ignore_ascii_case(name)) {
            return Ok(PacketVerdict::pass());
        }
        let Some(reason) = self.reason(packet.player(), &line, Instant::now()) else {
            return Ok(PacketVerdict::pass());
        };
        self.dropped[reason as usize].add(1);
        tracing::debug!(name, ?reason, "a line is dropped");
        if let (Some(messages), Some(text)) = (&self.messages, &self.texts[reason as usize])
            && let Err(error) = messages.chat(packet.player(), text.clone())
        {
            tracing::debug!(name, %error, "the player does not read why");
        }
        Ok(PacketVerdict::drop())
    }
}

impl PlayerObserve for ChatGuard {
    fn player_observe(&self, player: &Player<'_>) -> Result<()> {
        if matches!(player.event(), PlayerEvent::Left { .. }) {
            self.written().remove(&player.id());
        }
        Ok(())
    }
}

impl ChatGuard {
    /// Why a line is dropped, or `None` if it passes. Counts the line for the rate.
    fn reason(&self, player: PlayerId, line: &str, now: Instant) -> Option<Reason> {
        let is_too_fast = self.is_too_fast(player, now);
        if self.length.is_some_and(|max| line.chars().count() > max) {
            return Some(Reason::Length);
        }
        let line = line.to_lowercase();
        if self.patterns.iter().any(|pattern| pattern.matches(&line)) {
            return Some(Reason::Pattern);
        }
        is_too_fast.then_some(Reason::Rate)
    }

    fn is_too_fast(&self, player: PlayerId, now: Instant) -> bool {
        let Some((lines, per)) = self.rate else {
            return false;
        };
        let mut written = self.written();
        !written.entry(player).or_default().takes(lines, per, now)
    }

    fn written(&self) -> MutexGuard<'_, HashMap<PlayerId, Written>> {
        // A poisoned lock is fine: a panic cannot leave half of a change behind.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The times of the last lines of a player.
#[derive(Default)]
struct Written(VecDeque<Instant>);

impl Written {
    /// Adds a line, if there are fewer than `lines` in the last `per`. Returns whether it
    /// did.
    fn takes(&mut self, lines: usize, per: Duration, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < per);
        let has_room = self.0.len() < lines;
        if has_room {
            self.0.push_back(now);
        }
        has_room
    }
}

/// A pattern in small letters: `*` matches any characters, `?` matches one.
struct Pattern(Vec<char>);

impl Pattern {
    fn new(pattern: &Spanned<String>) -> Result<Self> {
        let characters: Vec<char> = pattern.get_ref().to_lowercase().chars().collect();
        match characters.is_empty() {
            true => Err(Error::at(
                pattern.span(),
                "a pattern without characters matches nothing",
            )),
            false => Ok(Self(characters)),
        }
    }

    /// Whether it matches a line in small letters.
    fn matches(&self, line: &str) -> bool {
        let (pattern, line) = (&self.0, line.chars().collect::<Vec<_>>());
        let (mut at, mut in_line) = (0, 0);
        // The last `*`, and where in the line it was tried.
        let mut star = None;
        while in_line < line.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, in_line));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == line[in_line] => {
                    at += 1;
                    in_line += 1;
                }
                _ => match star {
                    Some((of_pattern, of_line)) => {
                        star = Some((of_pattern, of_line + 1));
                        at = of_pattern + 1;
                        in_line = of_line + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|c| *c == '*')
    }
}

export_plugin! {
    plugin: ChatGuard,
    name: "chat-guard",
    hooks: [PlayerObserve, PacketModify],
    wants: [PlayerMessage],
}

#[cfg(test)]
mod tests {
    use infrarust_plugin_api::testing::{Client, Sent, TestHost};

    use super::*;

    const STEVE: PlayerId = PlayerId::from_number(1);

    fn guard(config: &str) -> TestHost<ChatGuard> {
        let host = TestHost::start(config).unwrap();
        let joined = host.player_observe(&Client::new(), STEVE, PlayerEvent::Joined);
        joined.unwrap();
        host
    }

    /// The texts that the player gets for a dropped line, or `None` if the line passes.
    fn write(host: &TestHost<ChatGuard>, kind: PacketKind, line: &str) -> Option<Vec<Sent>> {
        let packet = Outgoing::new(kind).with(PacketField::Message, line);
        let passed = host.packet_modify(&Client::new(), STEVE, &packet).unwrap();
        let sent = host.take_sent(STEVE);
        match passed {
            Some(passed) => {
                assert_eq!((passed, sent.len()), (packet, 0));
                None
            }
            None => Some(sent),
        }
    }

    fn say(host: &TestHost<ChatGuard>, line: &str) -> Option<Vec<Sent>> {
        write(host, PacketKind::ChatMessage, line)
    }

    fn reads(text: &str) -> Option<Vec<Sent>> {
        Some(vec![Sent::Chat(Text::from_mini(text))])
    }

    /// A player may write `lines` lines and commands in `seconds`, counted for each
    /// player.
    #[test]
    fn lines_are_limited() {
        let host = guard("lines = 3\nseconds = 3600");
        assert_eq!(say(&host, "one"), None);
        assert_eq!(write(&host, PacketKind::ChatCommand, "hub"), None);
        assert_eq!(say(&host, "three"), None);
        assert_eq!(say(&host, "four"), reads("<red>You are writing too fast."));
        assert_eq!(host.counter("dropped_rate"), Some(1));
        let alex = PlayerId::from_number(2);
        let packet = Outgoing::new(PacketKind::ChatMessage).with(PacketField::Message, "hi");
        let passed = host.packet_modify(&Client::new().name("Alex"), alex, &packet);
        assert_eq!(passed.unwrap(), Some(packet));
        // A player who leaves and joins again starts at zero.
        let left = PlayerEvent::Left { reason: "closed" };
        host.player_observe(&Client::new(), STEVE, left).unwrap();
        assert_eq!(say(&host, "back"), None);
    }

    /// A line no longer counts after `per`, and dropped lines never count.
    #[test]
    fn lines_come_back() {
        let mut written = Written::default();
        let (now, per) = (Instant::now(), Duration::from_secs(10));
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(written.takes(2, per, now));
        assert!(written.takes(2, per, after(6)));
        assert!(!written.takes(2, per, after(9)));
        assert!(written.takes(2, per, after(10)));
        assert!(!written.takes(2, per, after(15)));
        assert!(written.takes(2, per, after(16)));
    }

    /// Long lines are dropped. The limit is in characters, not in bytes.
    #[test]
    fn lengths_are_limited() {
        let host = guard("length = 5\nlength_text = 'too long'");
        assert_eq!(say(&host, "äöüßé"), None);
        assert_eq!(say(&host, "äöüßéx"), reads("too long"));
        assert_eq!(
            write(&host, PacketKind::ChatCommand, "12345"),
            reads("too long")
        );
    }

    /// Patterns match whole lines in upper and lower case. An empty text is not shown.
    #[test]
    fn patterns_are_dropped() {
        let config = "patterns = ['*discord.gg/*', 'buy * cheap*', '/op ?*']\npattern_text = ''";
        let host = guard(config);
        for line in ["join DISCORD.gg/abc now", "Buy Gold cheap!", "discord.gg/"] {
            assert_eq!(say(&host, line), Some(Vec::new()), "{line}");
        }
        for line in ["discord", "I buy gold cheap", "buy cheap", "/op steve"] {
            let kind = match line.strip_prefix('/') {
                Some(_) => PacketKind::ChatCommand,
                None => PacketKind::ChatMessage,
            };
            let line = line.strip_prefix('/').unwrap_or(line);
            let expected = (kind == PacketKind::ChatCommand).then(Vec::new);
            assert_eq!(write(&host, kind, line), expected, "{line}");
        }
        assert_eq!(host.counter("dropped_pattern"), Some(4));
    }

    /// Lines of players in `bypass` are not checked.
    #[test]
    fn some_are_not_checked() {
        let host = guard("length = 1\nbypass = ['steve']");
        assert_eq!(say(&host, "hello"), None);
    }

    /// An error in the settings points at the value.
    #[test]
    fn settings_are_checked() {
        for (config, at, text) in [
            ("lines = 0", "0", "it has to be 1 to 1000"),
            ("seconds = 10", "10", "`seconds` needs `lines`"),
            (
                "patterns = ['']",
                "''",
                "a pattern without characters matches nothing",
            ),
            (
                "lines = 1\nseconds = 9999",
                "9999",
                "it has to be 1 to 3600",
            ),
        ] {
            let failure = TestHost::<ChatGuard>::start(config).unwrap_err();
            assert_eq!(failure.text, text, "{config}");
            assert_eq!(&config[failure.span.unwrap()], at);
        }
    }
}
