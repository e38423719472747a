//! Players, and the services that reach them.
#![allow(unsafe_code, reason = "services are C tables of the host")]

use std::ffi::c_void;
use std::fmt;
use std::future::Future;
use std::mem::offset_of;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use infrarust_plugin_abi::{
    CookieTable, FieldValue, IdentityTable, InjectTable, MessageTable, OwnedFuture, ProfileSink,
    RawFuture, Sink, SinkTable, Str, SwitchTable, TitleInput, TransferTable, message, receiver,
    size_of_table, status,
};

use crate::Text;
use crate::capability::{
    IdentityVerified, PacketInject, PlayerCookie, PlayerMessage, PlayerTransfer, ServerSwitch,
};
use crate::guard::Collected;
use crate::host::Grant;
use crate::packet::{Outgoing, crossing};

/// The id of a player in the game, valid from `Joined` to `Left` of
/// [`PlayerObserve`](crate::PlayerObserve). Ids are unique in a process and are not
/// reused. A player who moves to another server of the network keeps the id.
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

/// Why a service refused a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceError {
    /// The player has left.
    Gone,
    /// The plugin may not use the service on the player's server: the mode of the server
    /// does not offer it, or the plugin is not attached to the server.
    NotGranted,
    /// Too many packets of the plugin wait for the player, or the plugin has sent too
    /// many in a second. Can be tried again later.
    Full,
    /// The call is not possible, for this reason.
    Refused(String),
}

impl ServiceError {
    /// Converts a status of the host.
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

/// The profile of a player that the session service has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// The name, as the session service spells it.
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
    /// The signature of the service, if it has one.
    pub signature: Option<String>,
}

impl Grant<IdentityVerified> {
    /// The proved profile of a player.
    ///
    /// May be called on any thread, also inside a hook. The profile is a copy and stays
    /// valid after the player has left.
    ///
    /// # Errors
    ///
    /// [`Gone`](ServiceError::Gone), and [`NotGranted`](ServiceError::NotGranted)
    /// on servers on which the proxy does not authenticate players.
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
        // SAFETY: the context belongs to the host, the sink is valid during the call.
        let status = unsafe { get(self.link.host.ctx, player.0, &raw const sink) };
        ServiceError::check(status, Collected::default()).map(|()| profile)
    }
}

/// A title: big in the middle of the screen, with a text below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Title {
    title: Text,
    subtitle: Text,
    /// In ticks of 50 ms: fade in, stay, fade out.
    ticks: [u32; 3],
}

impl Title {
    /// A title without a subtitle, with the default times of the game: it fades in for
    /// 0.5 s, stays for 3.5 s, and fades out for 1 s.
    #[must_use]
    pub fn new(title: impl Into<Text>) -> Self {
        Self {
            title: title.into(),
            subtitle: Text::default(),
            ticks: [10, 70, 20],
        }
    }

    /// Sets the text below the title.
    #[must_use]
    pub fn subtitle(self, subtitle: impl Into<Text>) -> Self {
        let subtitle = subtitle.into();
        Self { subtitle, ..self }
    }

    /// Sets the times. Each is rounded down to a multiple of 50 ms, and is at most
    /// 100,000 s.
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
    /// A title from what a host has got.
    pub(crate) const fn of_parts(title: Text, subtitle: Text, ticks: [u32; 3]) -> Self {
        Self {
            title,
            subtitle,
            ticks,
        }
    }
}

/// The longest time of a title, in ticks: clients add up the three times as `i32`.
const TICKS_MAX: u32 = 2_000_000;

impl Grant<PlayerMessage> {
    /// Shows a line in the chat window of a player.
    ///
    /// May be called on any thread, also inside a hook; never waits. Calls for one player
    /// take effect in their order, between two packets of the backend. While the client
    /// is in a configuration, its packets wait. One call is enough for every version of
    /// the game: parts of a text that a version cannot show are left out.
    ///
    /// # Errors
    ///
    /// [`Gone`](ServiceError::Gone); [`NotGranted`](ServiceError::NotGranted);
    /// [`Full`](ServiceError::Full) if 128 packets or 512 KiB of the plugin wait for
    /// the player, or if the plugin sends more than 20,000 packets or 16 MiB in a
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
        // SAFETY: the context belongs to the host, the rest is valid during the call.
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

    /// Ends the session of a player with a text, at once: packets that wait for the player
    /// are dropped. `player.observe` then gets `Left` with the reason `plugin`.
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
        // SAFETY: the context belongs to the host, the rest is valid during the call.
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
    /// Sends a play packet by its kind, in the form of the player's version: to the client
    /// or to the backend, depending on the kind. One call is enough for every version
    /// that has the kind. See [`to_client`](Self::to_client).
    ///
    /// # Errors
    ///
    /// As [`to_client`](Self::to_client). [`Refused`](ServiceError::Refused) if the
    /// player's version has no play packet of this kind, or if a field is missing or cannot
    /// have its value. A plugin that lists `PacketInject` in `wants` is also loaded by a
    /// proxy with the plugin API 0.1.1, which refuses every call.
    pub fn send(&self, player: PlayerId, packet: &Outgoing) -> Result<(), ServiceError> {
        // SAFETY: a grant of this capability has this table, of this or an older version.
        let send = unsafe { self.table.field(offset_of!(InjectTable, send_kind)) };
        let send: Option<SendKind> = send.flatten();
        let send = send.ok_or_else(ServiceError::lacks)?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        let (ctx, kind) = (self.link.host.ctx, packet.kind().number().into());
        let status = crossing(packet.values(), |values, len| {
            // SAFETY: the context belongs to the host, the rest is valid during the call.
            unsafe { send(ctx, player.0, kind, values, len, &raw const sink) }
        });
        ServiceError::check(status, collected)
    }

    /// Sends a play packet to the client of a player, as if the backend had sent it. `id`
    /// is the id of the packet in the player's [version](crate::Player::protocol).
    ///
    /// May be called on any thread, also inside a hook; never waits. Order, time and
    /// limits are shared with [`Grant::chat`]; no other hook sees the packet. The content
    /// of the fields is not checked: a client disconnects if it cannot read a packet, and
    /// its answers go to the backend.
    ///
    /// # Errors
    ///
    /// As [`Grant::chat`]. [`Refused`](ServiceError::Refused) for an id that the
    /// version does not have, for more than 256 KiB of fields, and for packets from which
    /// the proxy knows the state of the player: the start of a configuration and its
    /// acknowledgement, bundle delimiters, join game, cookie requests, and disconnect
    /// (use [`Grant::kick`]).
    pub fn to_client(&self, player: PlayerId, id: i32, fields: &[u8]) -> Result<(), ServiceError> {
        self.inject(player, receiver::CLIENT, id, fields)
    }

    /// Sends a play packet to the backend of a player, as if the client had sent it. See
    /// [`to_client`](Self::to_client).
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
        // SAFETY: the context belongs to the host, the rest is valid during the call.
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
    /// Makes the client of a player disconnect and connect to this host and port, with a
    /// new login.
    ///
    /// May be called on any thread, also inside a hook; never waits. Order, time and
    /// limits are shared with [`Grant::chat`]. The session here ends when the client
    /// disconnects; if it does not, the session continues.
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
        // SAFETY: the context belongs to the host, the rest is valid during the call.
        let status = unsafe { transfer(ctx, player.0, host, port, &raw const sink) };
        ServiceError::check(status, collected)
    }
}

impl Grant<ServerSwitch> {
    /// Requests the switch of a player to another server of the network, by its id. The
    /// player stays on the current server until the other one has accepted the login; if
    /// it refuses, the player is shown the reason.
    ///
    /// On any thread, also inside a hook; it never waits. The switch goes on whether or
    /// not the future is polled or dropped. `player.observe` observes `Left` on the one
    /// server and `Joined` on the other, with the same [`PlayerId`].
    ///
    /// # Errors
    ///
    /// [`Gone`](ServiceError::Gone) and [`NotGranted`](ServiceError::NotGranted) at once.
    /// The future gives [`Gone`](ServiceError::Gone) when the player leaves before, and
    /// [`Refused`](ServiceError::Refused) if the player stays: the network has no
    /// such server, the player is on it already, another switch runs, or the server
    /// refuses the player.
    pub fn switch(&self, player: PlayerId, server: &str) -> Result<Switching, ServiceError> {
        // SAFETY: a grant of this capability has this table.
        let table = unsafe { self.table.get::<SwitchTable>() };
        let switch = table.and_then(|table| table.switch);
        let switch = switch.ok_or_else(ServiceError::lacks)?;
        let mut raw = RawFuture::NONE;
        let (ctx, server) = (self.link.host.ctx, Str::new(server));
        // SAFETY: the context belongs to the host, which fills `raw` on `OK`.
        let status = unsafe { switch(ctx, player.0, server, &raw mut raw) };
        ServiceError::check(status, Collected::default())?;
        // SAFETY: the host gives the future away.
        let future = unsafe { OwnedFuture::new(raw) };
        future.map(Switching).ok_or_else(ServiceError::lacks)
    }
}

impl Grant<PlayerCookie> {
    /// Stores bytes under a key, such as `my-plugin:visits`, in the client of a player. The
    /// client keeps them until it closes, also over a transfer to another address.
    ///
    /// On any thread, also inside a hook; it never waits. When it arrives is as for
    /// [`Grant::chat`], with which it shares the order and the limits. Backends can read
    /// and replace a cookie too.
    ///
    /// # Errors
    ///
    /// As [`Grant::chat`]. [`Refused`](ServiceError::Refused) for clients before 1.20.5, for a
    /// key that is not `path` or `name:path` of `a-z`, `0-9`, `_`, `-`, `.` and in the path
    /// `/`, and for more than 5,120 bytes.
    pub fn store(&self, player: PlayerId, key: &str, data: &[u8]) -> Result<(), ServiceError> {
        let store = self.cookies().and_then(|table| table.store);
        let store = store.ok_or_else(ServiceError::lacks)?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        let (ctx, key) = (self.link.host.ctx, Str::new(key));
        let data = Str::lend(data);
        // SAFETY: the context belongs to the host, the rest is good for the call.
        let status = unsafe { store(ctx, player.0, key, data, &raw const sink) };
        ServiceError::check(status, collected)
    }

    /// Asks the client of a player for what it has under a key. The future gives `None` if
    /// it has nothing there. What a client answers is not proved: a changed client can
    /// answer anything.
    ///
    /// On any thread, also inside a hook; it never waits. The question is sent whether or
    /// not the future is polled; the backend does not get the answer.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store), and [`Full`](ServiceError::Full) while 64 questions to one
    /// player have no answer. The future gives [`Gone`](ServiceError::Gone) when the player
    /// leaves the server before.
    pub fn request(&self, player: PlayerId, key: &str) -> Result<CookieAnswer, ServiceError> {
        let request = self.cookies().and_then(|table| table.request);
        let request = request.ok_or_else(ServiceError::lacks)?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        let mut raw = RawFuture::NONE;
        let (ctx, key) = (self.link.host.ctx, Str::new(key));
        // SAFETY: the context belongs to the host, which fills `raw` on `OK`.
        let status = unsafe { request(ctx, player.0, key, &raw mut raw, &raw const sink) };
        ServiceError::check(status, collected)?;
        // SAFETY: the host gives the future away.
        let future = unsafe { OwnedFuture::new(raw) };
        future.map(CookieAnswer).ok_or_else(ServiceError::lacks)
    }

    fn cookies(&self) -> Option<&'static CookieTable> {
        // SAFETY: a grant of this capability has this table.
        unsafe { self.table.get::<CookieTable>() }
    }
}

/// The answer of a client that was asked for a cookie: see [`Grant::request`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct CookieAnswer(OwnedFuture);

static TAKE_COOKIE: SinkTable = SinkTable {
    size: size_of_table::<SinkTable>(),
    reserved: 0,
    answer: Some(take_cookie),
    fail: None,
};

unsafe extern "C" fn take_cookie(ctx: *mut c_void, _: u32, data: Str) -> i32 {
    // SAFETY: the context is that of the poll that runs, the bytes are good for the call.
    let (cookie, data) = unsafe { (&mut *ctx.cast::<Option<Vec<u8>>>(), data.bytes()) };
    *cookie = Some(data.to_vec());
    status::OK
}

impl Future for CookieAnswer {
    type Output = Result<Option<Vec<u8>>, ServiceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut cookie: Option<Vec<u8>> = None;
        let sink = Sink {
            ctx: (&raw mut cookie).cast(),
            table: &raw const TAKE_COOKIE,
        };
        match self.0.poll(cx.waker(), Some(&sink)) {
            status::PENDING => Poll::Pending,
            status => {
                let checked = ServiceError::check(status, Collected::default());
                Poll::Ready(checked.map(|()| cookie))
            }
        }
    }
}

/// A switch that was asked for: see [`Grant::switch`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled; `drop` it to let the switch go on alone"]
pub struct Switching(OwnedFuture);

impl Future for Switching {
    type Output = Result<(), ServiceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut collected = Collected::default();
        let sink = collected.sink();
        match self.0.poll(cx.waker(), Some(&sink)) {
            status::PENDING => Poll::Pending,
            status => Poll::Ready(ServiceError::check(status, collected)),
        }
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
    // valid during the call.
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
