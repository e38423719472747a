//! Limits for the content of packets in sessions in which the proxy reads frames.
//!
//! A client that exceeds a limit is disconnected, and so is a backend; no other session
//! is affected. Fields without a limit here pass unread: the receiver has its own
//! limits for them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::Outbox;
use crate::limit::{Amounts, Bucket, Rate};
use crate::protocol::bungee;
use crate::protocol::nbt;
use crate::protocol::packet::login::COOKIE_BYTES_MAX;
use crate::protocol::packet::{Clientbound, Serverbound, Version};
use crate::protocol::read::{Cursor, ReadError};
use crate::protocol::version::{V1_8, V1_11, V1_13, V1_20_5};

/// Packets a second that a client may send, on average over [`RATE_WINDOW`].
/// Real clients stay below 100; mods send bursts of some hundred when they join.
const PACKETS_PER_SECOND_MAX: u64 = 1000;
/// Bytes a second, before compression, that a client may send on average.
const BYTES_PER_SECOND_MAX: u64 = 4 * 1024 * 1024;
/// The size of a burst, as the time in which that much is allowed on average: after a
/// network delay clients send what they have queued.
const RATE_WINDOW: Duration = Duration::from_secs(7);
const RATES: [Rate; 2] = [
    Rate::new(PACKETS_PER_SECOND_MAX, RATE_WINDOW),
    Rate::new(BYTES_PER_SECOND_MAX, RATE_WINDOW),
];
/// Completions a second that a client may request; more requests are dropped. A client
/// sends one for each typed key.
const COMPLETIONS_PER_SECOND_MAX: u64 = 50;
/// The size of a burst of such requests, as a time like [`RATE_WINDOW`].
const COMPLETIONS_WINDOW: Duration = Duration::from_secs(1);

/// The most characters of a line of chat: before 1.11, and since (the game).
const CHAT_CHARS_MAX: [usize; 2] = [100, 256];
/// The most characters of a command that has its own packet: up to 1.20.4, where it
/// has the limit of a line of chat, and since (the game).
const COMMAND_CHARS_MAX: [usize; 2] = [256, 32_767];
/// The most arguments of a command that are signed (the game).
const COMMAND_SIGNATURES_MAX: usize = 8;
/// The most characters of a text to complete: before 1.13, where the game has no
/// limit but no command is so long, and since (the game).
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
/// The most characters of the name of a registered channel.
const REGISTERED_CHARS_MAX: usize = 128;
/// The most data packs that a side may list as known; modded clients know some 300.
const KNOWN_PACKS_MAX: usize = 1024;
/// The most bytes of their names and versions.
const KNOWN_PACKS_BYTES_MAX: usize = 64 * 1024;
/// The most characters of a cookie's name (the game).
const COOKIE_NAME_CHARS_MAX: usize = 32_767;
/// The most characters of the identifier of a click in a dialog (the game).
const CLICK_NAME_CHARS_MAX: usize = 32_767;
/// The most bytes of the tag in one (the game).
const CLICK_BYTES_MAX: usize = 64 * 1024;
/// The most cookies that a backend may have requested without an answer.
const COOKIES_ASKED_MAX: usize = 1024;
/// The most bytes of their names together (4 MiB).
const COOKIES_ASKED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A limit that a peer exceeds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Exceeded {
    /// Something is longer or more than its limit.
    #[error("{what} of more than {max} {unit}")]
    Limit {
        /// What exceeds the limit.
        what: &'static str,
        /// The limit.
        max: usize,
        /// The unit of the limit.
        unit: &'static str,
    },
    /// A packet that has to be read is malformed.
    #[error("{what} that cannot be read: {error}")]
    Malformed {
        /// The packet.
        what: &'static str,
        /// What is wrong with it.
        error: ReadError,
    },
    /// A client sends a cookie that its backend has not requested.
    #[error("a cookie that nobody has asked for")]
    UnaskedCookie,
}

/// The name of a field and the unit of its limit, for errors.
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
const CLICK: Named = named("a click in a dialog", "bytes");

const fn named(what: &'static str, unit: &'static str) -> Named {
    Named { what, unit }
}

impl Named {
    /// Checks a length against its limit.
    fn bound(self, length: usize, max: usize) -> Result<(), Exceeded> {
        let Self { what, unit } = self;
        match length <= max {
            true => Ok(()),
            false => Err(Exceeded::Limit { what, max, unit }),
        }
    }

    /// Converts the error of reading this field.
    fn read<T>(self, read: Result<T, ReadError>) -> Result<T, Exceeded> {
        let Self { what, unit } = self;
        read.map_err(|error| match error {
            ReadError::TooLong { max } => Exceeded::Limit { what, max, unit },
            error => Exceeded::Malformed { what, error },
        })
    }

    /// Reads this field as a text.
    fn text<'a>(self, cursor: &mut Cursor<'a>, max: usize) -> Result<&'a str, Exceeded> {
        self.read(cursor.string(max))
    }
}

/// One of two limits: that before version `since` of the game, or that since.
fn limit(version: Version, since: i32, [before, after]: [usize; 2]) -> usize {
    match version.protocol() < since {
        true => before,
        false => after,
    }
}

/// What happens to a packet that exceeds no limit that would end its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// It passes.
    Pass,
    /// It is dropped.
    Drop,
}

/// What is counted ahead of small packets of a client, so that its limits are not looked
/// at for each: about as much as a player sends in three seconds.
const PREPAID: Prepaid = Prepaid {
    packets: 64,
    bytes: 4096,
};

/// Packets, and bytes before compression, that a client may send because they are counted
/// already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepaid {
    packets: u16,
    bytes: u16,
}

impl Prepaid {
    /// Uses that much of it. False if there is less; then nothing is used.
    pub(crate) fn use_up(&mut self, packets: usize, bytes: usize) -> bool {
        let rest = |left: u16, count: usize| left.checked_sub(u16::try_from(count).ok()?);
        match (rest(self.packets, packets), rest(self.bytes, bytes)) {
            (Some(packets), Some(bytes)) => {
                *self = Self { packets, bytes };
                true
            }
            _ => false,
        }
    }

    fn counts(self) -> [u64; 2] {
        [self.packets.into(), self.bytes.into()]
    }
}

/// The limits for what a client sends.
#[derive(Debug)]
pub(crate) struct ClientBounds {
    /// What is left of [`RATES`].
    left: Amounts<2>,
    /// Boxed, and `None` until it is needed, to keep an idle session small.
    rare: Option<Box<RareBounds>>,
}

/// The part of a client's limits that only some clients need.
#[derive(Debug, Default)]
struct RareBounds {
    /// Made for the first request.
    completions: Option<Bucket>,
    /// The channels that it has registered.
    channels: BTreeSet<Box<str>>,
}

impl ClientBounds {
    /// The limits of a new client.
    pub(crate) fn new() -> Self {
        Self {
            left: Amounts::full(&RATES, Instant::now()),
            rare: None,
        }
    }

    /// The channels that the client has registered.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &str> {
        let rare = self.rare.iter();
        let channels = rare.flat_map(|rare| &rare.channels);
        channels.map(|channel| &**channel)
    }

    /// Counts a packet of `packet_bytes` bytes before compression.
    ///
    /// # Errors
    ///
    /// When the client has sent too much.
    pub(crate) fn count(&mut self, packet_bytes: usize) -> Result<(), Exceeded> {
        let bytes = u64::try_from(packet_bytes).unwrap_or(u64::MAX);
        let taken = self.left.take(&RATES, [1, bytes], Instant::now());
        taken.map_err(|rate| Exceeded::Limit {
            what: "a flood",
            max: usize::try_from(rate.per_second()).unwrap_or(usize::MAX),
            unit: match rate.per_second() {
                PACKETS_PER_SECOND_MAX => "packets a second",
                _ => "bytes a second",
            },
        })
    }

    /// Counts some packets ahead. `None` if fewer are left.
    pub(crate) fn prepay(&mut self) -> Option<Prepaid> {
        self.left.take_of_rest(PREPAID.counts()).then_some(PREPAID)
    }

    /// Takes back what was counted ahead and is not used.
    pub(crate) fn refund(&mut self, prepaid: Prepaid) {
        self.left.give_back(prepaid.counts());
    }

    /// Whether [`check`](Self::check) reads packets of this kind.
    pub(crate) const fn checks(kind: Serverbound) -> bool {
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
                | Serverbound::CustomClick
        )
    }

    /// Checks the fields of a packet against their limits. A cookie is left to
    /// [`check_cookie`].
    ///
    /// # Errors
    ///
    /// When the client is to be disconnected.
    pub(crate) fn check(
        &mut self,
        version: Version,
        kind: Serverbound,
        fields: &[u8],
    ) -> Result<Allowed, Exceeded> {
        lenient(self.check_fields(version, kind, fields), Allowed::Pass)
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
                    // The timestamp and the salt.
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
                let now = Instant::now();
                let new = || Bucket::new(COMPLETIONS_PER_SECOND_MAX, COMPLETIONS_WINDOW, now);
                let rare = self.rare.get_or_insert_default();
                let bucket = rare.completions.get_or_insert_with(new);
                if !bucket.take(1, now) {
                    return Ok(Allowed::Drop);
                }
            }
            Serverbound::PluginMessage => return self.check_plugin_message(version, cursor),
            Serverbound::KnownPacks => check_known_packs(cursor)?,
            Serverbound::CustomClick => check_click(cursor)?,
            _ => {}
        }
        Ok(Allowed::Pass)
    }

    fn check_plugin_message(
        &mut self,
        version: Version,
        cursor: &mut Cursor<'_>,
    ) -> Result<Allowed, Exceeded> {
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
            // Backends take what comes there for the proxy's.
            bungee::CHANNEL | bungee::OLD_CHANNEL => return Ok(Allowed::Drop),
            _ => return Ok(Allowed::Pass),
        };
        if is_old {
            // The length of the data.
            PLUGIN_MESSAGE.read(cursor.u16())?;
        }
        let names = cursor.clone().rest().split(|byte| *byte == 0);
        let channels = &mut self.rare.get_or_insert_default().channels;
        for name in names.filter(|name| !name.is_empty()) {
            let name = String::from_utf8_lossy(name);
            if !registers {
                channels.remove(&*name);
                continue;
            }
            let length = name.encode_utf16().count();
            named("the name of a channel", "characters").bound(length, REGISTERED_CHARS_MAX)?;
            channels.insert(name.into());
            named("a registration", "channels").bound(channels.len(), CHANNELS_MAX)?;
        }
        Ok(Allowed::Pass)
    }
}

/// Checks the fields of a cookie that a client sends: its backend must have requested it.
///
/// # Errors
///
/// When the client is to be disconnected, also because of a malformed one, which cannot be
/// matched to a request.
pub(crate) fn check_cookie(fields: &[u8], outbox: &Outbox) -> Result<(), Exceeded> {
    let cursor = &mut Cursor::new(fields);
    let name = COOKIE.text(cursor, COOKIE_NAME_CHARS_MAX)?;
    if COOKIE.read(cursor.bool())? {
        COOKIE.read(cursor.bytes(COOKIE_BYTES_MAX))?;
    }
    outbox.with_requested_cookies(|names| {
        let place = names.iter().position(|requested| **requested == *name);
        names.swap_remove(place.ok_or(Exceeded::UnaskedCookie)?);
        Ok(())
    })
}

/// Records that a backend requests the cookie of this name.
fn request_cookie(name: &str, outbox: &Outbox) -> Result<(), Exceeded> {
    outbox.with_requested_cookies(|names| {
        let bytes: usize = names.iter().map(|name| name.len()).sum();
        let requested = named("unanswered requests for cookies", "names");
        requested.bound(names.len() + 1, COOKIES_ASKED_MAX)?;
        let requested = named("unanswered requests for cookies", "bytes");
        requested.bound(bytes + name.len(), COOKIES_ASKED_BYTES_MAX)?;
        names.push(name.into());
        Ok(())
    })
}

/// Whether [`check_backend`] reads packets of this kind.
pub(crate) const fn checks_backend(kind: Clientbound) -> bool {
    matches!(
        kind,
        Clientbound::PluginMessage
            | Clientbound::CookieRequest
            | Clientbound::StoreCookie
            | Clientbound::KnownPacks
    )
}

/// Checks the fields of a packet of a backend against their limits. The outbox of the
/// session records the cookies that the backend requests.
///
/// # Errors
///
/// When the connection to the backend is to be ended.
pub(crate) fn check_backend(
    kind: Clientbound,
    fields: &[u8],
    outbox: &Outbox,
) -> Result<(), Exceeded> {
    lenient(check_backend_fields(kind, fields, outbox), ())
}

fn check_backend_fields(kind: Clientbound, fields: &[u8], outbox: &Outbox) -> Result<(), Exceeded> {
    let cursor = &mut Cursor::new(fields);
    match kind {
        Clientbound::PluginMessage => {
            PLUGIN_MESSAGE.text(cursor, CHANNEL_CHARS_MAX)?;
            PLUGIN_MESSAGE.bound(cursor.remaining(), BACKEND_MESSAGE_BYTES_MAX)
        }
        Clientbound::CookieRequest => {
            request_cookie(COOKIE.text(cursor, COOKIE_NAME_CHARS_MAX)?, outbox)
        }
        Clientbound::StoreCookie => {
            COOKIE.text(cursor, COOKIE_NAME_CHARS_MAX)?;
            COOKIE.read(cursor.bytes(COOKIE_BYTES_MAX)).map(drop)
        }
        Clientbound::KnownPacks => check_known_packs(cursor),
        _ => Ok(()),
    }
}

/// Lets malformed packets pass: they exceed no limit, and their receiver handles them.
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

/// Checks a click in a dialog: its identifier, the length of a tag, and the tag.
fn check_click(cursor: &mut Cursor<'_>) -> Result<(), Exceeded> {
    CLICK.text(cursor, CLICK_NAME_CHARS_MAX)?;
    let mut tag = Cursor::new(CLICK.read(cursor.bytes(CLICK_BYTES_MAX))?);
    match nbt::skip(&mut tag, false) {
        Err(ReadError::TooDeep) => {
            named(CLICK.what, "nested tags").bound(usize::MAX, nbt::DEPTH_MAX)
        }
        skipped => CLICK.read(skipped),
    }
}
