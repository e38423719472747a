//! Players, and the services that reach them.
#![allow(unsafe_code, reason = "services are C tables of the host")]

use std::ffi::c_void;
use std::fmt;
use std::mem::offset_of;
use std::time::Duration;

use infrarust_plugin_abi::{
    FieldValue, IdentityTable, InjectTable, MessageTable, ProfileSink, Sink, Str, TitleInput,
    TransferTable, message, receiver, size_of_table, status,
};

use crate::Text;
use crate::capability::{IdentityVerified, PacketInject, PlayerMessage, PlayerTransfer};
use crate::guard::Collected;
use crate::host::Grant;
use crate::packet::{Outgoing, crossing};

/// A player in the game, from `Joined` to `Left` of
/// [`PlayerObserve`](crate::PlayerObserve). No two players of a process have the
/// same, and none gets it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlayerId(u64);

impl PlayerId {
    /// The player with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Why a service did not do what it was asked to do for a player.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceError {
    /// The player has left.
    Gone,
    /// The plugin may not do that on the player's server: its mode does not offer
    /// it, or the plugin is not attached to it.
    NotGranted,
    /// Too much of the plugin waits for the player already, or the plugin sends too
    /// much in a second. It may work later.
    Full,
    /// It cannot be done, for this reason.
    Refused(String),
}

impl ServiceError {
    /// What a status means; nothing where the call was done.
    fn check(status: i32, collected: Collected) -> Result<(), Self> {
        match status {
            status::OK => Ok(()),
            status::GONE => Err(Self::Gone),
            status::DENIED => Err(Self::NotGranted),
            status::FULL => Err(Self::Full),
            _ => {
                let said = collected.failure.map(|(_, text, _)| text);
                let otherwise = || "the host cannot do it".to_owned();
                Err(Self::Refused(said.unwrap_or_else(otherwise)))
            }
        }
    }

    fn lacks() -> Self {
        Self::Refused("the host is too old for it".to_owned())
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the player has left",
            Self::NotGranted => "it is not granted on the server of this player",
            Self::Full => "too much of this plugin waits, or it sends too much",
            Self::Refused(reason) => reason,
        })
    }
}

impl std::error::Error for ServiceError {}

/// Who a player is, as the session service has confirmed to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// The name, as the service writes it.
    pub name: String,
    /// The UUID.
    pub uuid: u128,
    /// The properties: usually one, `textures`, with skin and cape.
    pub properties: Vec<Property>,
}

/// A property of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Property {
    /// The name.
    pub name: String,
    /// The value; of `textures`, base64.
    pub value: String,
    /// The signature of the service, where it gives one.
    pub signature: Option<String>,
}

impl Grant<IdentityVerified> {
    /// The profile that was proved for a player.
    ///
    /// On any thread, also inside a hook; takes no lock of another player. The
    /// profile is a copy and stays true after the player has left.
    ///
    /// # Errors
    ///
    /// [`Gone`](ServiceError::Gone), and [`NotGranted`](ServiceError::NotGranted)
    /// on servers whose proxy does not prove who a player is.
    pub fn profile(&self, player: PlayerId) -> Result<Profile, ServiceError> {
        let mut profile = Profile {
            name: String::new(),
            uuid: 0,
            properties: Vec::new(),
        };
        let sink = ProfileSink {
            size: size_of_table::<ProfileSink>(),
            reserved: 0,
            ctx: (&raw mut profile).cast(),
            player: Some(take_player),
            property: Some(take_property),
        };
        // SAFETY: a grant of this capability has this table.
        let table = unsafe { self.table.get::<IdentityTable>() };
        let get = table.and_then(|table| table.profile);
        let get = get.ok_or_else(ServiceError::lacks)?;
        // SAFETY: the context belongs to the host, the sink is good for the call.
        let status = unsafe { get(self.link.host.ctx, player.0, &raw const sink) };
        ServiceError::check(status, Collected::default()).map(|()| profile)
    }
}

/// A title: big in the middle of the screen, with a text below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Title {
    title: Text,
    subtitle: Text,
    /// In ticks of 50 ms: appearing, staying, going.
    ticks: [u32; 3],
}

impl Title {
    /// A title without a text below, that appears in half a second, stays for three
    /// and a half, and goes in one, as the game's own.
    #[must_use]
    pub fn new(title: impl Into<Text>) -> Self {
        Self {
            title: title.into(),
            subtitle: Text::default(),
            ticks: [10, 70, 20],
        }
    }

    /// With this text below it.
    #[must_use]
    pub fn subtitle(self, subtitle: impl Into<Text>) -> Self {
        let subtitle = subtitle.into();
        Self { subtitle, ..self }
    }

    /// With other times, each cut to a multiple of 50 ms, and to 100,000 s.
    #[must_use]
    pub fn times(self, fade_in: Duration, stay: Duration, fade_out: Duration) -> Self {
        let ticks = [fade_in, stay, fade_out].map(|time| {
            u32::try_from(time.as_millis() / 50)
                .unwrap_or(TICKS_MAX)
                .min(TICKS_MAX)
        });
        Self { ticks, ..self }
    }
}

#[cfg(feature = "testing")]
impl Title {
    /// The title that crosses the border so.
    ///
    /// # Safety
    ///
    /// The texts of the input must be good for the call.
    pub(crate) unsafe fn of_input(input: &TitleInput) -> Option<Self> {
        // SAFETY: the caller promises it.
        let (title, subtitle) = unsafe { (input.title.text(), input.subtitle.text()) };
        Some(Self {
            title: Text::from_json(title)?,
            subtitle: Text::from_json(subtitle)?,
            ticks: [input.fade_in, input.stay, input.fade_out],
        })
    }
}

/// The longest time of a title: clients add them up.
const TICKS_MAX: u32 = 2_000_000;

impl Grant<PlayerMessage> {
    /// Shows a line in the chat window of a player.
    ///
    /// On any thread, also inside a hook; it never waits. What is sent to one player
    /// arrives in the order of the calls, between two packets of his backend, once he
    /// is in the game: while his client is between two worlds it waits. One call
    /// serves every version of the game: what a version cannot show of a text is left
    /// out.
    ///
    /// # Errors
    ///
    /// [`Gone`](ServiceError::Gone); [`NotGranted`](ServiceError::NotGranted);
    /// [`Full`](ServiceError::Full) when 128 packets or 512 KiB of the plugin wait for
    /// the player, and when the plugin sends more than 20,000 packets or 16 MiB in a
    /// second to all players; [`Refused`](ServiceError::Refused) for a text that is too
    /// long. An accepted message is lost if the player leaves before it is written.
    pub fn chat(&self, player: PlayerId, text: impl Into<Text>) -> Result<(), ServiceError> {
        self.send(player, message::CHAT, &text.into())
    }

    /// Shows a line above the items of a player; in the chat window before 1.8.
    ///
    /// # Errors
    ///
    /// As [`chat`](Self::chat).
    pub fn action_bar(&self, player: PlayerId, text: impl Into<Text>) -> Result<(), ServiceError> {
        self.send(player, message::ACTION_BAR, &text.into())
    }

    /// Shows a title to a player; two lines in the chat window before 1.8.
    ///
    /// # Errors
    ///
    /// As [`chat`](Self::chat).
    pub fn title(&self, player: PlayerId, title: &Title) -> Result<(), ServiceError> {
        let (big, below) = (title.title.to_json(), title.subtitle.to_json());
        let [fade_in, stay, fade_out] = title.ticks;
        let input = TitleInput {
            size: size_of_table::<TitleInput>(),
            fade_in,
            stay,
            fade_out,
            title: Str::new(&big),
            subtitle: Str::new(&below),
        };
        let send = self.messages().and_then(|table| table.title);
        let send = send.ok_or_else(ServiceError::lacks)?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        // SAFETY: the context belongs to the host, the rest is good for the call.
        let status = unsafe {
            send(
                self.link.host.ctx,
                player.0,
                &raw const input,
                &raw const sink,
            )
        };
        ServiceError::check(status, collected)
    }

    /// Ends the session of a player with a text: at once, whatever waits for him.
    /// `player.observe` then tells of `Left` with the reason `plugin`.
    ///
    /// # Errors
    ///
    /// As [`chat`](Self::chat).
    pub fn kick(&self, player: PlayerId, text: impl Into<Text>) -> Result<(), ServiceError> {
        self.send(player, message::KICK, &text.into())
    }

    fn send(&self, player: PlayerId, kind: u32, text: &Text) -> Result<(), ServiceError> {
        let text = text.to_json();
        let send = self.messages().and_then(|table| table.send);
        let send = send.ok_or_else(ServiceError::lacks)?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        let ctx = self.link.host.ctx;
        // SAFETY: the context belongs to the host, the rest is good for the call.
        let status = unsafe { send(ctx, player.0, kind, Str::new(&text), &raw const sink) };
        ServiceError::check(status, collected)
    }

    fn messages(&self) -> Option<&'static MessageTable> {
        // SAFETY: a grant of this capability has this table.
        unsafe { self.table.get::<MessageTable>() }
    }
}

/// [`InjectTable::send`], in a host that has it.
type Send =
    unsafe extern "C" fn(*const c_void, u64, u32, i32, *const u8, usize, *const Sink) -> i32;

/// [`InjectTable::send_kind`], in a host that has it.
type SendKind =
    unsafe extern "C" fn(*const c_void, u64, u32, *const FieldValue, usize, *const Sink) -> i32;

impl Grant<PacketInject> {
    /// Sends a packet of the game, by its kind: to the client or to the backend of a
    /// player, as packets of this kind go, and as his version has it. One call serves
    /// every version that has the kind. Otherwise as [`to_client`](Self::to_client).
    ///
    /// # Errors
    ///
    /// As [`to_client`](Self::to_client). [`Refused`](ServiceError::Refused) where the
    /// player's version has no packet of this kind in the game, where a field is
    /// missing or cannot have its value, and by a proxy whose plugin API is older than
    /// 0.1.2.
    pub fn send(&self, player: PlayerId, packet: &Outgoing) -> Result<(), ServiceError> {
        // SAFETY: a grant of this capability has this table, of this or an older version.
        let send = unsafe { self.table.field(offset_of!(InjectTable, send_kind)) };
        let send: Option<SendKind> = send.flatten();
        let send = send.ok_or_else(ServiceError::lacks)?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        let (ctx, kind) = (self.link.host.ctx, packet.kind().number().into());
        let status = crossing(packet.values(), |values, len| {
            // SAFETY: the context belongs to the host, the rest is good for the call.
            unsafe { send(ctx, player.0, kind, values, len, &raw const sink) }
        });
        ServiceError::check(status, collected)
    }

    /// Sends a packet of the game to the client of a player, as if his backend had
    /// sent it: its id as the player's [version](crate::Player::protocol) has it,
    /// and its fields.
    ///
    /// On any thread, also inside a hook; it never waits. When it arrives is as for
    /// [`Grant::chat`], with which it shares the order and the limits; no other hook
    /// sees it. What the fields mean is not checked: a client leaves when it cannot
    /// read a packet, and what it answers goes to the backend.
    ///
    /// # Errors
    ///
    /// As [`Grant::chat`]. [`Refused`](ServiceError::Refused) for an id that the
    /// version does not have, more than 256 KiB of fields, and packets on which the
    /// proxy depends to know where the player is: the beginning of a configuration,
    /// its acknowledgement, the ends of bundles, join game, questions for cookies, and
    /// disconnect ([`Grant::kick`] does that).
    pub fn to_client(&self, player: PlayerId, id: i32, fields: &[u8]) -> Result<(), ServiceError> {
        self.inject(player, receiver::CLIENT, id, fields)
    }

    /// Sends a packet of the game to the backend of a player, as if the client had
    /// sent it. As [`to_client`](Self::to_client) otherwise.
    ///
    /// # Errors
    ///
    /// As [`to_client`](Self::to_client).
    pub fn to_backend(&self, player: PlayerId, id: i32, fields: &[u8]) -> Result<(), ServiceError> {
        self.inject(player, receiver::BACKEND, id, fields)
    }

    fn inject(
        &self,
        player: PlayerId,
        to: u32,
        id: i32,
        fields: &[u8],
    ) -> Result<(), ServiceError> {
        // SAFETY: a grant of this capability has this table, of this or an older version.
        let send = unsafe { self.table.field(offset_of!(InjectTable, send)) };
        let send: Option<Send> = send.flatten();
        let send = send.ok_or_else(ServiceError::lacks)?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        let (ctx, bytes) = (self.link.host.ctx, fields.len());
        // SAFETY: the context belongs to the host, the rest is good for the call.
        let status = unsafe {
            send(
                ctx,
                player.0,
                to,
                id,
                fields.as_ptr(),
                bytes,
                &raw const sink,
            )
        };
        ServiceError::check(status, collected)
    }
}

impl Grant<PlayerTransfer> {
    /// Has the client of a player leave and connect to this host and port, as if
    /// the player had chosen them: the login there begins again.
    ///
    /// On any thread, also inside a hook; it never waits. When it arrives is as for
    /// [`Grant::chat`], with which it shares the order and the limits. The session here
    /// ends when the client leaves; one that stays goes on to play.
    ///
    /// # Errors
    ///
    /// As [`Grant::chat`]. [`Refused`](ServiceError::Refused) for clients before 1.20.5,
    /// which have no transfer, and for a host that is empty or longer than 255 bytes or
    /// has white space or control characters.
    pub fn transfer(&self, player: PlayerId, host: &str, port: u16) -> Result<(), ServiceError> {
        // SAFETY: a grant of this capability has this table.
        let table = unsafe { self.table.get::<TransferTable>() };
        let transfer = table.and_then(|table| table.transfer);
        let transfer = transfer.ok_or_else(ServiceError::lacks)?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        let (ctx, host) = (self.link.host.ctx, Str::new(host));
        // SAFETY: the context belongs to the host, the rest is good for the call.
        let status = unsafe { transfer(ctx, player.0, host, port, &raw const sink) };
        ServiceError::check(status, collected)
    }
}

unsafe extern "C" fn take_player(ctx: *mut c_void, name: Str, uuid: *const u8) {
    // SAFETY: the context is the profile of the call that runs, the text is good
    // for the call, and so are the 16 bytes.
    let (profile, name, uuid) = unsafe {
        (
            &mut *ctx.cast::<Profile>(),
            name.text(),
            uuid.cast::<[u8; 16]>().read(),
        )
    };
    name.clone_into(&mut profile.name);
    profile.uuid = u128::from_be_bytes(uuid);
}

unsafe extern "C" fn take_property(
    ctx: *mut c_void,
    name: Str,
    value: Str,
    signature: Str,
    has_signature: u32,
) {
    // SAFETY: the context is the profile of the call that runs, and the texts are
    // good for the call.
    let (profile, name, value, signature) = unsafe {
        (
            &mut *ctx.cast::<Profile>(),
            name.text(),
            value.text(),
            signature.text(),
        )
    };
    profile.properties.push(Property {
        name: name.to_owned(),
        value: value.to_owned(),
        signature: (has_signature != 0).then(|| signature.to_owned()),
    });
}
