//! What the packets of a player may hold whose frames are walked, beyond the
//! form of the frames.
//!
//! A client that exceeds a bound is ended, and so is the connection of a backend
//! that does; nobody else notices. Fields that are not named here pass unread:
//! the receiver has its own limits for them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::limit::Bucket;
use crate::protocol::packet::login::COOKIE_BYTES_MAX;
use crate::protocol::packet::{Clientbound, Serverbound, Version};
use crate::protocol::read::{Cursor, ReadError};
use crate::protocol::version::{V1_8, V1_11, V1_13, V1_20_5};

/// Packets a second that a client may send, on average over [`RATE_WINDOW`].
/// Real clients stay below 100; mods send bursts of some hundred when they join.
const PACKETS_PER_SECOND_MAX: u64 = 1000;
/// Bytes a second, before compression, that a client may send on average.
const BYTES_PER_SECOND_MAX: u64 = 4 * 1024 * 1024;
/// What may come at once is what would be allowed in this time: after a lag
/// clients send what has piled up.
const RATE_WINDOW: Duration = Duration::from_secs(7);
/// Completions a second that a client may ask for; one more is not answered. A
/// client asks for one with each key that is typed.
const COMPLETIONS_PER_SECOND_MAX: u64 = 50;
/// How many of them may come at once, as the time in which so many may come.
const COMPLETIONS_WINDOW: Duration = Duration::from_secs(1);

/// The most characters of a line of chat: before 1.11, and since (the game).
const CHAT_CHARS_MAX: [usize; 2] = [100, 256];
/// The most characters of a command that has a packet of its own: up to 1.20.4,
/// where it is a line of chat, and since (the game).
const COMMAND_CHARS_MAX: [usize; 2] = [256, 32_767];
/// The most arguments of a command that are signed (the game).
const COMMAND_SIGNATURES_MAX: usize = 8;
/// The most characters of a text to complete: before 1.13, where no command is
/// so long, and since (the game).
const COMPLETION_CHARS_MAX: [usize; 2] = [2048, 32_500];
/// The most bytes of a plugin message from a client (the game).
const CLIENT_MESSAGE_BYTES_MAX: usize = 32_767;
/// The same before 1.8, where mod loaders write longer ones.
const OLD_CLIENT_MESSAGE_BYTES_MAX: usize = 0x1F_FF9A;
/// The most bytes of a plugin message from a backend (the game: 1 MiB).
const BACKEND_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The most characters of a channel's name in a packet (the game since 1.13).
const CHANNEL_CHARS_MAX: usize = 32_767;
/// The most channels that a client may have registered; modded ones have some
/// hundred.
const CHANNELS_MAX: usize = 256;
/// The most characters of the name of one.
const REGISTERED_CHARS_MAX: usize = 128;
/// The most packs of data that a side may say it knows; clients with mods know
/// some 300.
const KNOWN_PACKS_MAX: usize = 1024;
/// The most bytes of their names and versions.
const KNOWN_PACKS_BYTES_MAX: usize = 64 * 1024;
/// The most characters of a cookie's name (the game).
const COOKIE_NAME_CHARS_MAX: usize = 32_767;
/// The most cookies that a backend may have asked for without an answer.
const COOKIES_ASKED_MAX: usize = 1024;
/// The most bytes of their names together (4 MiB).
const COOKIES_ASKED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A bound that a peer does not keep to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Exceeded {
    /// There is more of something than there may be.
    #[error("{what} of more than {max} {unit}")]
    Limit {
        /// What there is more of.
        what: &'static str,
        /// How much there may be.
        max: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// A packet cannot be read as far as it has to be.
    #[error("{what} that cannot be read: {error}")]
    Malformed {
        /// The packet.
        what: &'static str,
        /// What is wrong with it.
        error: ReadError,
    },
    /// A client answers with a cookie that its backend has not asked for.
    #[error("a cookie that nobody has asked for")]
    UnaskedCookie,
}

/// A field of a packet, for what is said of it.
#[derive(Clone, Copy)]
struct Named {
    what: &'static str,
    unit: &'static str,
}

const CHAT: Named = named("a line of chat", "characters");
const COMMAND: Named = named("a command", "characters");
const COMPLETION: Named = named("a text to complete", "characters");
const PLUGIN_MESSAGE: Named = named("a plugin message", "bytes");
const COOKIE: Named = named("a cookie", "bytes");
const KNOWN_PACKS: Named = named("a list of known packs", "packs");

const fn named(what: &'static str, unit: &'static str) -> Named {
    Named { what, unit }
}

impl Named {
    /// Holds a length against its limit.
    fn bound(self, length: usize, max: usize) -> Result<(), Exceeded> {
        let Self { what, unit } = self;
        match length <= max {
            true => Ok(()),
            false => Err(Exceeded::Limit { what, max, unit }),
        }
    }

    /// What a field is that was read.
    fn read<T>(self, read: Result<T, ReadError>) -> Result<T, Exceeded> {
        let Self { what, unit } = self;
        read.map_err(|error| match error {
            ReadError::TooLong { max } => Exceeded::Limit { what, max, unit },
            error => Exceeded::Malformed { what, error },
        })
    }

    /// A text that this packet begins with.
    fn text<'a>(self, cursor: &mut Cursor<'a>, max: usize) -> Result<&'a str, Exceeded> {
        self.read(cursor.string(max))
    }
}

/// One of two limits: up to a version of the game, and since.
fn limit(version: Version, since: i32, [before, after]: [usize; 2]) -> usize {
    match version.protocol() < since {
        true => before,
        false => after,
    }
}

/// What happens to a packet that keeps to the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// It passes.
    Pass,
    /// It goes no further, and its sender is not ended.
    Drop,
}

/// The cookies that a backend has asked for: both directions of a session know
/// them. Given by [`bounds`].
#[derive(Debug, Default)]
struct Asked(Mutex<Vec<Box<str>>>);

impl Asked {
    fn lock(&self) -> MutexGuard<'_, Vec<Box<str>>> {
        // Nothing is left half done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, name: &str) -> Result<(), Exceeded> {
        let mut names = self.lock();
        let bytes: usize = names.iter().map(|name| name.len()).sum();
        let asked = named("unanswered requests for cookies", "names");
        asked.bound(names.len() + 1, COOKIES_ASKED_MAX)?;
        let asked = named("unanswered requests for cookies", "bytes");
        asked.bound(bytes + name.len(), COOKIES_ASKED_BYTES_MAX)?;
        names.push(name.into());
        Ok(())
    }

    fn answer(&self, name: &str) -> Result<(), Exceeded> {
        let mut names = self.lock();
        let place = names.iter().position(|asked| **asked == *name);
        names.swap_remove(place.ok_or(Exceeded::UnaskedCookie)?);
        if names.is_empty() {
            // An idle player holds no memory for this.
            *names = Vec::new();
        }
        Ok(())
    }
}

/// The bounds of both directions of a session.
pub(crate) fn bounds() -> (ClientBounds, BackendBounds) {
    let asked = Arc::<Asked>::default();
    (ClientBounds::new(Arc::clone(&asked)), BackendBounds(asked))
}

/// What a client may still send.
#[derive(Debug)]
pub(crate) struct ClientBounds {
    packets: Bucket,
    bytes: Bucket,
    completions: Bucket,
    /// The channels that it has registered.
    channels: BTreeSet<Box<str>>,
    cookies: Arc<Asked>,
}

impl ClientBounds {
    fn new(cookies: Arc<Asked>) -> Self {
        let now = Instant::now();
        Self {
            packets: Bucket::new(PACKETS_PER_SECOND_MAX, RATE_WINDOW, now),
            bytes: Bucket::new(BYTES_PER_SECOND_MAX, RATE_WINDOW, now),
            completions: Bucket::new(COMPLETIONS_PER_SECOND_MAX, COMPLETIONS_WINDOW, now),
            channels: BTreeSet::new(),
            cookies,
        }
    }

    /// Begins with another backend, which has not asked for anything yet.
    pub(crate) fn renew(&mut self) -> BackendBounds {
        self.cookies = Arc::default();
        BackendBounds(Arc::clone(&self.cookies))
    }

    /// The channels that the client has registered.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|channel| &**channel)
    }

    /// Counts a packet of so many bytes before compression.
    ///
    /// # Errors
    ///
    /// When the client has sent too much.
    pub(crate) fn count(&mut self, packet_bytes: usize) -> Result<(), Exceeded> {
        let now = Instant::now();
        let bytes = u64::try_from(packet_bytes).unwrap_or(u64::MAX);
        let exceeded = |per_second: u64, unit| Exceeded::Limit {
            what: "a flood",
            max: usize::try_from(per_second).unwrap_or(usize::MAX),
            unit,
        };
        if !self.packets.take(1, now) {
            return Err(exceeded(PACKETS_PER_SECOND_MAX, "packets a second"));
        }
        if !self.bytes.take(bytes, now) {
            return Err(exceeded(BYTES_PER_SECOND_MAX, "bytes a second"));
        }
        Ok(())
    }

    /// Whether [`check`](Self::check) reads packets of this kind.
    pub(crate) const fn concern(kind: Serverbound) -> bool {
        matches!(
            kind,
            Serverbound::Chat
                | Serverbound::ChatMessage
                | Serverbound::ChatCommand
                | Serverbound::ChatCommandSigned
                | Serverbound::SuggestionRequest
                | Serverbound::PluginMessage
                | Serverbound::CookieResponse
                | Serverbound::KnownPacks
        )
    }

    /// Holds the fields of a packet against their bounds.
    ///
    /// # Errors
    ///
    /// The bound that ends the client.
    pub(crate) fn check(
        &mut self,
        version: Version,
        kind: Serverbound,
        fields: &[u8],
    ) -> Result<Allowed, Exceeded> {
        match self.check_fields(version, kind, fields) {
            // Nobody can say that its backend has asked for it.
            Err(error) if kind == Serverbound::CookieResponse => Err(error),
            checked => lenient(checked, Allowed::Pass),
        }
    }

    fn check_fields(
        &mut self,
        version: Version,
        kind: Serverbound,
        fields: &[u8],
    ) -> Result<Allowed, Exceeded> {
        let cursor = &mut Cursor::new(fields);
        match kind {
            Serverbound::Chat | Serverbound::ChatMessage => {
                CHAT.text(cursor, limit(version, V1_11, CHAT_CHARS_MAX))?;
            }
            Serverbound::ChatCommand | Serverbound::ChatCommandSigned => {
                COMMAND.text(cursor, limit(version, V1_20_5, COMMAND_CHARS_MAX))?;
                let is_signed = version.protocol() < V1_20_5;
                if is_signed || kind == Serverbound::ChatCommandSigned {
                    // Time and salt.
                    COMMAND.read(cursor.take(16))?;
                    let count = COMMAND.read(cursor.length())?;
                    named("a command", "signatures").bound(count, COMMAND_SIGNATURES_MAX)?;
                }
            }
            Serverbound::SuggestionRequest => {
                if version.protocol() >= V1_13 {
                    COMPLETION.read(cursor.varint())?;
                }
                COMPLETION.text(cursor, limit(version, V1_13, COMPLETION_CHARS_MAX))?;
                if !self.completions.take(1, Instant::now()) {
                    return Ok(Allowed::Drop);
                }
            }
            Serverbound::PluginMessage => self.check_plugin_message(version, cursor)?,
            Serverbound::CookieResponse => {
                let name = COOKIE.text(cursor, COOKIE_NAME_CHARS_MAX)?;
                if COOKIE.read(cursor.bool())? {
                    COOKIE.read(cursor.bytes(COOKIE_BYTES_MAX))?;
                }
                self.cookies.answer(name)?;
            }
            Serverbound::KnownPacks => check_known_packs(cursor)?,
            _ => {}
        }
        Ok(Allowed::Pass)
    }

    fn check_plugin_message(
        &mut self,
        version: Version,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), Exceeded> {
        let channel = PLUGIN_MESSAGE.text(cursor, CHANNEL_CHARS_MAX)?;
        let is_old = version.protocol() < V1_8;
        let bytes_max = match is_old {
            true => OLD_CLIENT_MESSAGE_BYTES_MAX,
            false => CLIENT_MESSAGE_BYTES_MAX,
        };
        PLUGIN_MESSAGE.bound(cursor.remaining(), bytes_max)?;
        let registers = match channel {
            "REGISTER" | "register" | "minecraft:register" => true,
            "UNREGISTER" | "unregister" | "minecraft:unregister" => false,
            _ => return Ok(()),
        };
        if is_old {
            // The length of what follows.
            PLUGIN_MESSAGE.read(cursor.u16())?;
        }
        let names = cursor.clone().rest().split(|byte| *byte == 0);
        for name in names.filter(|name| !name.is_empty()) {
            let name = String::from_utf8_lossy(name);
            if !registers {
                self.channels.remove(&*name);
                continue;
            }
            let length = name.encode_utf16().count();
            named("the name of a channel", "characters").bound(length, REGISTERED_CHARS_MAX)?;
            self.channels.insert(name.into());
            named("a registration", "channels").bound(self.channels.len(), CHANNELS_MAX)?;
        }
        Ok(())
    }
}

/// What a backend may still send.
#[derive(Debug, Clone)]
pub(crate) struct BackendBounds(Arc<Asked>);

impl BackendBounds {
    /// Whether [`check`](Self::check) reads packets of this kind.
    pub(crate) const fn concern(kind: Clientbound) -> bool {
        matches!(
            kind,
            Clientbound::PluginMessage
                | Clientbound::CookieRequest
                | Clientbound::StoreCookie
                | Clientbound::KnownPacks
        )
    }

    /// Holds the fields of a packet against their bounds.
    ///
    /// # Errors
    ///
    /// The bound that ends the backend's connection.
    pub(crate) fn check(&self, kind: Clientbound, fields: &[u8]) -> Result<(), Exceeded> {
        lenient(self.check_fields(kind, fields), ())
    }

    fn check_fields(&self, kind: Clientbound, fields: &[u8]) -> Result<(), Exceeded> {
        let cursor = &mut Cursor::new(fields);
        match kind {
            Clientbound::PluginMessage => {
                PLUGIN_MESSAGE.text(cursor, CHANNEL_CHARS_MAX)?;
                PLUGIN_MESSAGE.bound(cursor.remaining(), BACKEND_MESSAGE_BYTES_MAX)
            }
            Clientbound::CookieRequest => self.0.ask(COOKIE.text(cursor, COOKIE_NAME_CHARS_MAX)?),
            Clientbound::StoreCookie => {
                COOKIE.text(cursor, COOKIE_NAME_CHARS_MAX)?;
                COOKIE.read(cursor.bytes(COOKIE_BYTES_MAX)).map(drop)
            }
            Clientbound::KnownPacks => check_known_packs(cursor),
            _ => Ok(()),
        }
    }
}

/// What cannot be read exceeds no bound: it passes, and its receiver decides.
fn lenient<T>(checked: Result<T, Exceeded>, passes: T) -> Result<T, Exceeded> {
    match checked {
        Err(Exceeded::Malformed { .. }) => Ok(passes),
        checked => checked,
    }
}

fn check_known_packs(cursor: &mut Cursor<'_>) -> Result<(), Exceeded> {
    let bytes = named(KNOWN_PACKS.what, "bytes");
    bytes.bound(cursor.remaining(), KNOWN_PACKS_BYTES_MAX)?;
    let count = KNOWN_PACKS.read(cursor.length())?;
    KNOWN_PACKS.bound(count, KNOWN_PACKS_MAX)
}
