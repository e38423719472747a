//! Decides to which backend an answer of a client belongs.
//!
//! A client that moves to another backend may still send answers to questions of its
//! previous backend. The new backend did not ask them: it would take such an answer for
//! one to its own question, or disconnect the player.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

use crate::protocol::packet::commands::{CommandLine, SIGNATURE_BYTES};
use crate::protocol::packet::{Brand, Clientbound, Direction, Serverbound, State, Version};
use crate::protocol::read::{Cursor, ReadError};
use crate::protocol::version::{V1_8, V1_9, V1_10, V1_19_1, V1_19_3, V1_20_2, V1_20_3};

/// The most questions of one kind that wait for an answer. Backends send one keep alive
/// a second at most, and wait for half a minute; of the other kinds they have a few.
const QUESTIONS_MAX: usize = 64;
/// The most characters of a text in a question or an answer (the game).
const TEXT_CHARS_MAX: usize = 32_767;
/// The most packets of the old world that are dropped while a client comes into another
/// one. A client moves twenty times a second: this is what one sends in 5 s.
const OLD_PACKETS_MAX: u32 = 100;
/// The bits of the flags of a packet that moves the player, up to 1.8: x and z are
/// relative to the place of the player.
const RELATIVE_X_OR_Z: u8 = 0b101;
/// The offset of the number in a packet that moves the player, up to 1.20.1: behind
/// three coordinates, two angles and the flags.
const TELEPORT_NUMBER_AT: usize = 3 * 8 + 2 * 4 + 1;
/// A state of a resource pack: it was loaded. Nothing follows.
const PACK_LOADED: i32 = 0;
/// A state of a resource pack: the player does not want it.
const PACK_DECLINED: i32 = 1;
/// A state of a resource pack: the player has accepted it, and it is loaded.
const PACK_ACCEPTED: i32 = 3;
/// A state of a resource pack: it was downloaded, and is loaded (1.20.3).
const PACK_DOWNLOADED: i32 = 4;

/// The questions of the current backend and of earlier ones that the client has not
/// answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    questions: VecDeque<Question>,
    /// The messages of this backend that the client has not acknowledged, from 1.19.1 to
    /// 1.20.1. Later versions have none left when they come to another backend.
    unseen_messages: u32,
    /// The client was sent into the world of this backend, and has not sent a packet from
    /// there yet: it may still answer questions of the previous backend.
    is_entering: bool,
    /// How many packets of the old world were dropped meanwhile.
    old_packets: u32,
    /// Where this backend has put the player meanwhile, up to 1.8: x and z.
    place: Option<[u8; 16]>,
    worlds: Worlds,
}

/// The worlds into which a client was sent, up to 1.20.1. The client answers each join game
/// with its settings and the name of its software, before it sends anything else of that
/// world. Their number shows in which world the client is.
#[derive(Debug, Default)]
struct Worlds {
    sent: u32,
    /// How often the client has sent its settings.
    settings: u32,
    /// How often it has sent the name of its software. Some bots never do.
    brands: u32,
}

impl Worlds {
    /// Whether the client has answered the last join game.
    fn are_opened(&self) -> bool {
        let answers = match self.brands {
            0 => self.settings,
            brands => brands,
        };
        answers >= self.sent
    }

    /// Records an answer of the client to a join game. False for another packet.
    fn open(&mut self, kind: Serverbound, fields: &[u8]) -> bool {
        let count = match kind {
            Serverbound::ClientInformation => &mut self.settings,
            Serverbound::PluginMessage if Brand::is_in(fields) => &mut self.brands,
            _ => return false,
        };
        *count = count.saturating_add(1);
        true
    }
}

/// A question of a backend that the client has not answered.
#[derive(Debug)]
struct Question {
    answer: Serverbound,
    /// A hash of the fields that the answer repeats.
    key: u64,
    /// Whether an earlier backend has asked it.
    is_old: bool,
    /// A resource pack that the player has accepted: it is loaded, however long that
    /// takes, and then comes another answer.
    is_loading: bool,
}

impl Answers {
    /// Whether [`ask`](Self::ask) reads packets of this kind.
    pub(super) const fn reads_clientbound(version: Version, kind: Clientbound) -> bool {
        match kind {
            Clientbound::KeepAlive
            | Clientbound::ResourcePackPush
            | Clientbound::KnownPacks
            | Clientbound::CookieRequest
            | Clientbound::CodeOfConduct => true,
            Clientbound::PlayerPosition => version.protocol() < V1_20_2,
            Clientbound::PlayerChat => counts_messages(version),
            _ => false,
        }
    }

    /// Whether [`answer`](Self::answer) reads packets of this kind.
    pub(super) const fn reads_serverbound(version: Version, kind: Serverbound) -> bool {
        match kind {
            Serverbound::KeepAlive
            | Serverbound::ResourcePackStatus
            | Serverbound::KnownPacks
            | Serverbound::CookieResponse
            | Serverbound::AcceptCodeOfConduct => true,
            Serverbound::TeleportConfirm => has_teleports(version),
            Serverbound::ChatSession
            | Serverbound::ChatMessage
            | Serverbound::ChatCommand
            | Serverbound::ChatAcknowledgement => counts_messages(version),
            _ => false,
        }
    }

    /// Records a packet of the backend that is passed to the client.
    pub(super) fn ask(&mut self, version: Version, kind: Clientbound, fields: &[u8]) {
        if kind == Clientbound::PlayerChat {
            if counts_messages(version) && is_counted(version, fields).unwrap_or(false) {
                self.unseen_messages = self.unseen_messages.saturating_add(1);
            }
            return;
        }
        match kind {
            Clientbound::JoinGame => self.worlds.sent = self.worlds.sent.saturating_add(1),
            Clientbound::PlayerPosition if version.protocol() < V1_9 => {
                self.place = place(version, fields);
            }
            _ => {}
        }
        // If a question cannot be read, its answer is passed to the backend.
        let Ok(Some((answer, key))) = question(version, kind, fields) else {
            return;
        };
        let is_same = |question: &Question| question.answer == answer;
        let count = self.questions.iter().filter(|it| is_same(it)).count();
        if count >= QUESTIONS_MAX {
            let oldest = self.questions.iter().position(is_same);
            oldest.and_then(|oldest| self.questions.remove(oldest));
        }
        self.questions.push_back(Question {
            answer,
            key,
            is_old: false,
            is_loading: false,
        });
    }

    /// Records a packet of the client. False if it answers an earlier backend.
    pub(super) fn answer(&mut self, version: Version, kind: Serverbound, fields: &[u8]) -> bool {
        if kind == Serverbound::ConfigurationAcknowledged {
            self.forget_old();
            return true;
        }
        if self.worlds.open(kind, fields) && self.is_entering && self.worlds.are_opened() {
            self.forget_old();
        }
        if let Some(seen) = Seen::of(version, kind, fields) {
            return self.acknowledge(&seen);
        }
        let Ok(Some((key, pack))) = answer(version, kind, fields) else {
            return true;
        };
        let is_this = |question: &Question| question.answer == kind && question.key == key;
        let found = match pack {
            Some(state) => self.pack(state, is_this),
            None => self.questions.iter().position(is_this),
        };
        let Some(question) = found.and_then(|found| self.questions.get_mut(found)) else {
            // Clients send other answers without a question; backends count keep alives.
            return kind != Serverbound::KeepAlive;
        };
        let is_old = question.is_old;
        match pack {
            Some(PACK_ACCEPTED | PACK_DOWNLOADED) => question.is_loading = true,
            _ => drop(found.and_then(|found| self.questions.remove(found))),
        }
        match (kind, pack) {
            (Serverbound::KeepAlive | Serverbound::TeleportConfirm, _)
                if !is_old && self.is_entering =>
            {
                self.forget_old();
            }
            (_, Some(PACK_LOADED)) if !is_old && version.protocol() < V1_20_3 => {
                // The client has given up the packs before this one.
                let questions = &mut self.questions;
                questions.retain(|question| question.answer != kind || !question.is_old);
            }
            _ => {}
        }
        !is_old
    }

    /// The resource pack that has this state. Before 1.20.3 packs have no names, and a
    /// client that is sent another one gives up the one before.
    fn pack(&self, state: i32, is_this: impl Fn(&Question) -> bool) -> Option<usize> {
        let find = |is_loading: Option<bool>, is_old: Option<bool>| {
            self.questions.iter().position(|question| {
                is_this(question)
                    && is_loading.is_none_or(|wanted| wanted == question.is_loading)
                    && is_old.is_none_or(|wanted| wanted == question.is_old)
            })
        };
        let is_expected = match state {
            PACK_ACCEPTED | PACK_DECLINED => find(Some(false), None),
            PACK_LOADED => find(Some(true), Some(false)).or_else(|| find(Some(true), None)),
            _ => find(Some(true), None),
        };
        is_expected.or_else(|| find(None, None))
    }

    /// Whether the client acknowledges messages of this backend. Once it is in the world
    /// of the backend it does: the backend judges the count.
    fn acknowledge(&mut self, seen: &Seen) -> bool {
        match *seen {
            Seen::Count(count) => {
                let left = self.unseen_messages.checked_sub(count);
                self.unseen_messages = left.unwrap_or_default();
                left.is_some() || !self.is_entering
            }
            Seen::Named => self.unseen_messages > 0 || !self.is_entering,
        }
    }

    /// The backend is lost: the next one has not asked its questions.
    pub(super) fn lose_backend(&mut self) {
        for question in &mut self.questions {
            question.is_old = true;
        }
        self.unseen_messages = 0;
        self.is_entering = false;
    }

    /// The client is sent into the world of another backend, before 1.20.2.
    pub(super) fn enter_world(&mut self) {
        self.is_entering = true;
        self.old_packets = 0;
        self.place = None;
        self.worlds.sent = self.worlds.sent.saturating_add(1);
    }

    /// Whether packets of the client can be of the world that it has left.
    pub(super) fn is_entering(&self) -> bool {
        self.is_entering && self.old_packets < OLD_PACKETS_MAX
    }

    /// Whether a play packet of the client is of the world that it has left: what the player
    /// does there. Chat, settings and answers are none of these.
    pub(super) fn is_of_old_world(&mut self, version: Version, id: i32, fields: &[u8]) -> bool {
        if !self.is_entering() {
            return false;
        }
        let name = version.name(State::Play, Direction::Serverbound, id);
        let kind = version.kind(State::Play, id);
        let Some(name) = name.filter(|_| !kind.is_some_and(is_of_player)) else {
            return false;
        };
        if name == "position_look"
            && self.place.is_some()
            && place_at(version, fields) == self.place
        {
            // It answers where this backend has put the player.
            self.forget_old();
            return false;
        }
        self.old_packets += 1;
        true
    }

    /// The client knows that it is at another backend, so it sends no more answers to
    /// earlier ones, except about resource packs that it is still loading.
    fn forget_old(&mut self) {
        self.is_entering = false;
        self.place = None;
        self.questions
            .retain(|question| !question.is_old || question.is_loading);
        if self.questions.is_empty() {
            // Frees the memory.
            self.questions = VecDeque::new();
        }
    }
}

/// Whether clients confirm where a backend has put them in play, and may still do so
/// at the next backend: since 1.20.2 there is a configuration between.
const fn has_teleports(version: Version) -> bool {
    matches!(version.protocol(), V1_9..V1_20_2)
}

/// Whether clients say which messages they have seen, and may still do so at the next
/// backend.
const fn counts_messages(version: Version) -> bool {
    matches!(version.protocol(), V1_19_1..V1_20_2)
}

/// Whether packets of this kind mean the same in each world.
const fn is_of_player(kind: Serverbound) -> bool {
    matches!(
        kind,
        Serverbound::KeepAlive
            | Serverbound::PluginMessage
            | Serverbound::ClientInformation
            | Serverbound::ResourcePackStatus
            | Serverbound::Chat
            | Serverbound::ChatMessage
            | Serverbound::ChatCommand
            | Serverbound::ChatSession
            | Serverbound::ChatAcknowledgement
            | Serverbound::SuggestionRequest
            | Serverbound::TeleportConfirm
    )
}

/// Where a packet puts the player, up to 1.8: x and z. `None` if that depends on where the
/// player is.
fn place(version: Version, fields: &[u8]) -> Option<[u8; 16]> {
    let is_relative = match version.protocol() {
        // There are no flags.
        ..V1_8 => false,
        _ => fields.get(TELEPORT_NUMBER_AT - 1)? & RELATIVE_X_OR_Z != 0,
    };
    (!is_relative).then(|| x_and_z(fields, 16)).flatten()
}

/// Where a player says to be, up to 1.8: x and z.
fn place_at(version: Version, fields: &[u8]) -> Option<[u8; 16]> {
    let z_at = match version.protocol() {
        // There are two heights.
        ..V1_8 => 24,
        _ => 16,
    };
    x_and_z(fields, z_at)
}

fn x_and_z(fields: &[u8], z_at: usize) -> Option<[u8; 16]> {
    let mut place = [0; 16];
    let (x, z) = place.split_at_mut(8);
    x.copy_from_slice(fields.get(..8)?);
    z.copy_from_slice(fields.get(z_at..z_at + 8)?);
    Some(place)
}

/// The kind of answer that a packet of a backend asks for, and a hash of the fields that
/// the answer repeats.
fn question(
    version: Version,
    kind: Clientbound,
    fields: &[u8],
) -> Result<Option<(Serverbound, u64)>, ReadError> {
    let mut cursor = Cursor::new(fields);
    Ok(Some(match kind {
        Clientbound::KeepAlive => (Serverbound::KeepAlive, hash(fields)),
        Clientbound::KnownPacks => (Serverbound::KnownPacks, hash(b"")),
        Clientbound::CodeOfConduct => (Serverbound::AcceptCodeOfConduct, hash(b"")),
        Clientbound::CookieRequest => {
            let name = cursor.string(TEXT_CHARS_MAX)?;
            (Serverbound::CookieResponse, hash(name.as_bytes()))
        }
        Clientbound::PlayerPosition if has_teleports(version) => {
            cursor.take(TELEPORT_NUMBER_AT)?;
            let number = cursor.varint()?;
            (Serverbound::TeleportConfirm, hash(&number.to_be_bytes()))
        }
        Clientbound::ResourcePackPush => {
            let key = match version.protocol() {
                V1_20_3.. => hash(&cursor.uuid()?),
                V1_8..V1_10 => {
                    // The address.
                    cursor.string(TEXT_CHARS_MAX)?;
                    hash(cursor.string(TEXT_CHARS_MAX)?.as_bytes())
                }
                _ => hash(b""),
            };
            (Serverbound::ResourcePackStatus, key)
        }
        _ => return Ok(None),
    }))
}

/// The hash of the fields that an answer of the client repeats, and the state of a
/// resource pack.
fn answer(
    version: Version,
    kind: Serverbound,
    fields: &[u8],
) -> Result<Option<(u64, Option<i32>)>, ReadError> {
    let mut cursor = Cursor::new(fields);
    Ok(Some(match kind {
        Serverbound::KeepAlive => (hash(fields), None),
        Serverbound::KnownPacks | Serverbound::AcceptCodeOfConduct => (hash(b""), None),
        Serverbound::CookieResponse => {
            let name = cursor.string(TEXT_CHARS_MAX)?;
            (hash(name.as_bytes()), None)
        }
        Serverbound::TeleportConfirm if has_teleports(version) => {
            (hash(&cursor.varint()?.to_be_bytes()), None)
        }
        Serverbound::ResourcePackStatus => {
            let key = match version.protocol() {
                V1_20_3.. => hash(&cursor.uuid()?),
                V1_8..V1_10 => hash(cursor.string(TEXT_CHARS_MAX)?.as_bytes()),
                _ => hash(b""),
            };
            (key, Some(cursor.varint()?))
        }
        _ => return Ok(None),
    }))
}

/// Whether the client counts a message of the chat, to acknowledge it later.
fn is_counted(version: Version, fields: &[u8]) -> Result<bool, ReadError> {
    if version.protocol() < V1_19_3 {
        return Ok(true);
    }
    let mut cursor = Cursor::new(fields);
    // The sender and the number of the message. Only signed messages count.
    cursor.uuid()?;
    cursor.varint()?;
    cursor.bool()
}

/// The messages that a packet of the client acknowledges.
#[derive(Debug)]
enum Seen {
    /// A number of further ones (1.19.3).
    Count(u32),
    /// Messages that it names (1.19.1).
    Named,
}

impl Seen {
    /// The acknowledgement in a packet, from 1.19.1 to 1.20.1; `None` without one.
    fn of(version: Version, kind: Serverbound, fields: &[u8]) -> Option<Self> {
        if !counts_messages(version) {
            return None;
        }
        let read = match version.protocol() {
            V1_19_3.. => Self::count(version, kind, fields),
            _ => Self::names(kind, fields),
        };
        // The backend judges what cannot be read.
        read.ok().flatten()
    }

    fn count(
        version: Version,
        kind: Serverbound,
        fields: &[u8],
    ) -> Result<Option<Self>, ReadError> {
        let mut cursor = Cursor::new(fields);
        let count = match kind {
            Serverbound::ChatAcknowledgement => cursor.varint()?,
            Serverbound::ChatMessage => {
                cursor.string(TEXT_CHARS_MAX)?;
                // Time and salt.
                cursor.take(16)?;
                if cursor.bool()? {
                    cursor.take(SIGNATURE_BYTES)?;
                }
                cursor.varint()?
            }
            Serverbound::ChatCommand => {
                CommandLine::of(version, kind, fields).map_or(0, |line| line.seen)
            }
            _ => return Ok(None),
        };
        Ok(u32::try_from(count).ok().map(Self::Count))
    }

    fn names(kind: Serverbound, fields: &[u8]) -> Result<Option<Self>, ReadError> {
        let mut cursor = Cursor::new(fields);
        match kind {
            Serverbound::ChatAcknowledgement => {}
            Serverbound::ChatMessage => {
                cursor.string(TEXT_CHARS_MAX)?;
                // Time and salt.
                cursor.take(16)?;
                cursor.bytes(fields.len())?;
                cursor.bool()?;
            }
            Serverbound::ChatCommand => {
                cursor.string(TEXT_CHARS_MAX)?;
                cursor.take(16)?;
                for _ in 0..cursor.length()? {
                    cursor.string(TEXT_CHARS_MAX)?;
                    cursor.bytes(fields.len())?;
                }
                cursor.bool()?;
            }
            _ => return Ok(None),
        }
        let count = cursor.length()?;
        for _ in 0..count {
            cursor.uuid()?;
            cursor.bytes(fields.len())?;
        }
        let has_last = cursor.bool()?;
        Ok((count > 0 || has_last).then_some(Self::Named))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
