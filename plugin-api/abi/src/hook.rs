//! The tables of hooks: the inputs from the host, and the answers of a plugin.

use core::ffi::c_void;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::Range;
use core::time::Duration;

use crate::{RawFuture, RawWaker, Str, size_of_table, status};

/// A hook that answers before its call returns.
#[derive(Debug)]
#[repr(C)]
pub struct SyncHook<I> {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Calls the hook. `input` and `sink` are valid during the call.
    pub call: Option<
        unsafe extern "C" fn(instance: *const c_void, input: *const I, sink: *const Sink) -> i32,
    >,
}

/// A hook that may wait.
#[derive(Debug)]
#[repr(C)]
pub struct AsyncHook<I> {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Calls the hook, and polls it once. After `PENDING` the host polls or drops
    /// `future`, and `input` is valid until then. With any other status `future` is
    /// unchanged. `waker` and `sink` are valid during the call.
    pub start: Option<
        unsafe extern "C" fn(
            instance: *const c_void,
            input: *const I,
            waker: *const RawWaker,
            sink: *const Sink,
            future: *mut RawFuture,
        ) -> i32,
    >,
}

/// Takes the answer of a call. It belongs to the caller and is valid during the call.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Sink {
    /// For the functions of the table.
    pub ctx: *mut c_void,
    /// The functions.
    pub table: *const SinkTable,
}

#[allow(unsafe_code, reason = "the border is made of pointers")]
impl Sink {
    /// Gives an answer, and returns the status of the other side: `UNSUPPORTED` if it takes
    /// no answer.
    ///
    /// # Safety
    ///
    /// The sink must be null or valid during the call.
    pub unsafe fn give(sink: *const Self, code: u32, text: &str) -> i32 {
        // SAFETY: the caller promises it.
        unsafe { Self::give_bytes(sink, code, text.as_bytes()) }
    }

    /// The same, for an answer that is not a text.
    ///
    /// # Safety
    ///
    /// The sink must be null or valid during the call.
    pub unsafe fn give_bytes(sink: *const Self, code: u32, bytes: &[u8]) -> i32 {
        // SAFETY: the caller promises it, and the table is as good as the sink.
        let found = unsafe {
            sink.as_ref()
                .and_then(|sink| Some((sink.ctx, sink.table.as_ref()?.answer?)))
        };
        match found {
            // SAFETY: the context belongs to the table, the bytes are valid during the call.
            Some((ctx, answer)) => unsafe { answer(ctx, code, Str::lend(bytes)) },
            None => status::UNSUPPORTED,
        }
    }

    /// Gives a failure, with the bytes of the configuration that it is about. Nothing
    /// happens if the other side takes no failure.
    ///
    /// # Safety
    ///
    /// The sink must be null or valid during the call.
    pub unsafe fn fail(sink: *const Self, code: u32, text: &str, place: Option<Range<usize>>) {
        // SAFETY: the caller promises it, and the table is as good as the sink.
        let found = unsafe {
            sink.as_ref()
                .and_then(|sink| Some((sink.ctx, sink.table.as_ref()?.fail?)))
        };
        let Some((ctx, fail)) = found else { return };
        let bytes = |at: usize| u64::try_from(at).unwrap_or(NO_PLACE);
        let (start, end) =
            place.map_or((NO_PLACE, NO_PLACE), |at| (bytes(at.start), bytes(at.end)));
        // SAFETY: the context belongs to the table, the text is valid during the call.
        unsafe { fail(ctx, code, Str::new(text), start, end) };
    }

    /// The place of a failure, from the numbers with which it crosses.
    #[must_use]
    pub fn place(start: u64, end: u64) -> Option<Range<usize>> {
        match (usize::try_from(start), usize::try_from(end)) {
            (Ok(start), Ok(end)) if start <= end && end != usize::MAX => Some(start..end),
            _ => None,
        }
    }
}

/// A failure that is not about bytes of the configuration.
const NO_PLACE: u64 = u64::MAX;

/// The functions of a [`Sink`], to be called only on the thread of the call.
#[derive(Debug)]
#[repr(C)]
pub struct SinkTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// An answer: a code of [`answer`] and its text. The last one counts.
    /// `DENIED` when the text is longer than the host takes.
    pub answer: Option<unsafe extern "C" fn(ctx: *mut c_void, code: u32, text: Str) -> i32>,
    /// A failure: a code of [`failure`], a text, and the start and end of the bytes of the
    /// configuration that it is about (both `u64::MAX` for none).
    pub fail: Option<
        unsafe extern "C" fn(ctx: *mut c_void, code: u32, text: Str, start: u64, end: u64) -> i32,
    >,
}

/// Codes of answers. An unknown one is a failure of the plugin.
pub mod answer {
    /// Go on, unchanged. No answer means the same.
    pub const PASS: u32 = 0;
    /// Refuse; the text is for the player.
    pub const REFUSE: u32 = 1;
    /// Close without a text.
    pub const DROP: u32 = 2;
    /// Go on with the text in place of the host, the status answer or the server.
    pub const REPLACE: u32 = 3;
}

/// Codes of failures. An unknown one counts as [`failure::ERROR`].
pub mod failure {
    /// The plugin returned an error.
    pub const ERROR: u32 = 1;
    /// It panicked.
    pub const PANIC: u32 = 2;
    /// Its configuration cannot be used.
    pub const CONFIG: u32 = 3;
}

/// The intent of a client.
pub mod intent {
    /// The entry in a server list.
    pub const STATUS: u32 = 1;
    /// To join.
    pub const LOGIN: u32 = 2;
    /// To join, after a transfer from another server.
    pub const TRANSFER: u32 = 3;
}

/// Families of addresses.
pub mod family {
    /// No address.
    pub const NONE: u8 = 0;
    /// IPv4: the first four bytes of `ip`.
    pub const V4: u8 = 4;
    /// IPv6.
    pub const V6: u8 = 6;
}

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Address {
    /// In network order.
    pub ip: [u8; 16],
    /// The port.
    pub port: u16,
    /// One of [`family`].
    pub family: u8,
    /// Zero.
    pub reserved: u8,
}

impl From<SocketAddr> for Address {
    /// An IPv4 address crosses as IPv4, also if the socket has it as IPv6.
    #[inline]
    fn from(address: SocketAddr) -> Self {
        // Both branches return whole numbers, which are then written to their final
        // place. Building an address byte by byte and then copying it makes the
        // processor wait for the small writes.
        let (bits, family) = match address {
            SocketAddr::V4(v4) => v4_bits(*v4.ip()),
            SocketAddr::V6(v6) => v6_bits(*v6.ip()),
        };
        Self {
            ip: bits.to_be_bytes(),
            port: address.port(),
            family,
            reserved: 0,
        }
    }
}

#[inline]
fn v4_bits(v4: Ipv4Addr) -> (u128, u8) {
    (u128::from(u32::from(v4)) << 96, family::V4)
}

#[inline(never)]
fn v6_bits(v6: Ipv6Addr) -> (u128, u8) {
    match v6.to_ipv4_mapped() {
        Some(v4) => v4_bits(v4),
        None => (v6.into(), family::V6),
    }
}

/// The facts about a client in every input. The constructors of the inputs take it. An
/// input is valid as long as the texts that it was made from. The constructors set no
/// `grants`; the caller sets them for each plugin.
#[derive(Debug, Clone, Copy)]
pub struct ClientInput<'a> {
    /// Its address.
    pub peer: SocketAddr,
    /// The protocol version that it announced; -1 before there were any.
    pub protocol: i32,
    /// One of [`intent`].
    pub intent: u32,
    /// The cleaned virtual host; may be empty.
    pub host: &'a str,
    /// The server that the host leads to; may be empty.
    pub server: &'a str,
}

/// Input of `connection.decide`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ConnectionInput {
    /// Bytes of this table.
    pub size: u32,
    /// The protocol version that the client announced; -1 before there were any.
    pub protocol: i32,
    /// What the plugin may do on this connection, as bits.
    pub grants: u64,
    /// The client's address.
    pub peer: Address,
    /// One of [`intent`].
    pub intent: u32,
    /// The cleaned virtual host; may be empty.
    pub host: Str,
    /// The server that the host leads to; may be empty.
    pub server: Str,
}

impl ConnectionInput {
    /// An input about this client.
    #[inline]
    #[must_use]
    pub fn new(client: &ClientInput<'_>) -> Self {
        Self {
            size: size_of_table::<Self>(),
            protocol: client.protocol,
            grants: 0,
            peer: client.peer.into(),
            intent: client.intent,
            host: Str::new(client.host),
            server: Str::new(client.server),
        }
    }
}

/// Input of `handshake.rewrite`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct HandshakeInput {
    /// Bytes of this table.
    pub size: u32,
    /// The protocol version that the client announced; -1 before there were any.
    pub protocol: i32,
    /// What the plugin may do on this connection, as bits.
    pub grants: u64,
    /// The client's address.
    pub peer: Address,
    /// One of [`intent`].
    pub intent: u32,
    /// The cleaned virtual host that the client sent; may be empty.
    pub host: Str,
    /// The host for the backend so far: of the configuration, or of a plugin before this
    /// one.
    pub current: Str,
    /// The server.
    pub server: Str,
}

impl HandshakeInput {
    /// An input about this client. `current` is the host for the backend so far.
    #[inline]
    #[must_use]
    pub fn new(client: &ClientInput<'_>, current: &str) -> Self {
        Self {
            size: size_of_table::<Self>(),
            protocol: client.protocol,
            grants: 0,
            peer: client.peer.into(),
            intent: client.intent,
            host: Str::new(client.host),
            current: Str::new(current),
            server: Str::new(client.server),
        }
    }
}

/// Input of `status.respond`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct StatusInput {
    /// Bytes of this table.
    pub size: u32,
    /// The protocol version that the client announced; -1 before there were any.
    pub protocol: i32,
    /// What the plugin may do on this connection, as bits.
    pub grants: u64,
    /// The client's address.
    pub peer: Address,
    /// Whether the answer came from a backend (1) or is the proxy's own (0).
    pub online: u32,
    /// The cleaned virtual host; may be empty.
    pub host: Str,
    /// The server; empty if no server has the host.
    pub server: Str,
    /// The status answer so far: a JSON object.
    pub current: Str,
}

impl StatusInput {
    /// An input about this client and this answer, a backend's or the proxy's own.
    #[inline]
    #[must_use]
    pub fn new(client: &ClientInput<'_>, is_online: bool, current: &str) -> Self {
        Self {
            size: size_of_table::<Self>(),
            protocol: client.protocol,
            grants: 0,
            peer: client.peer.into(),
            online: is_online as u32,
            host: Str::new(client.host),
            server: Str::new(client.server),
            current: Str::new(current),
        }
    }
}

/// Input of `login.decide` and of `route.select`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct LoginInput {
    /// Bytes of this table.
    pub size: u32,
    /// The protocol version that the client announced; -1 before there were any.
    pub protocol: i32,
    /// What the plugin may do on this connection, as bits.
    pub grants: u64,
    /// The client's address.
    pub peer: Address,
    /// One of [`intent`].
    pub intent: u32,
    /// The cleaned virtual host; may be empty.
    pub host: Str,
    /// The server of the login so far.
    pub server: Str,
    /// The name of the player.
    pub name: Str,
    /// The UUID of the player, in network order.
    pub uuid: [u8; 16],
    /// Whether there is a UUID (1) or not (0).
    pub has_uuid: u32,
    /// Zero.
    pub reserved: u32,
    /// Whether the proxy has proved name and UUID (1) or the client claims them
    /// (0). Since 0.1.1.
    pub proved: u32,
    /// Zero.
    pub reserved_2: u32,
}

impl LoginInput {
    /// An input about a client that claims this name, and this UUID if any.
    #[inline]
    #[must_use]
    pub fn new(client: &ClientInput<'_>, name: &str, uuid: Option<u128>) -> Self {
        Self {
            size: size_of_table::<Self>(),
            protocol: client.protocol,
            grants: 0,
            peer: client.peer.into(),
            intent: client.intent,
            host: Str::new(client.host),
            server: Str::new(client.server),
            name: Str::new(name),
            uuid: uuid.unwrap_or_default().to_be_bytes(),
            has_uuid: uuid.is_some() as u32,
            reserved: 0,
            proved: 0,
            reserved_2: 0,
        }
    }

    /// The same input, with whether the proxy has proved name and UUID.
    #[inline]
    #[must_use]
    pub const fn proved(mut self, is_proved: bool) -> Self {
        self.proved = is_proved as u32;
        self
    }
}

/// Input of `session.observe`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct SessionInput {
    /// Bytes of this table.
    pub size: u32,
    /// The protocol version that the client announced; -1 before there were any.
    pub protocol: i32,
    /// What the plugin may do on this connection, as bits.
    pub grants: u64,
    /// The client's address.
    pub peer: Address,
    /// One of [`event`].
    pub event: u32,
    /// The same number in every event of a session, and in no other session of
    /// this process.
    pub session: u64,
    /// The cleaned virtual host; may be empty.
    pub host: Str,
    /// The server.
    pub server: Str,
    /// The name that the player claims.
    pub name: Str,
    /// `CONNECTED`: the address of the backend. `CLOSED`: why, as in the log.
    /// Else empty.
    pub text: Str,
    /// `CLOSED`: bytes from the client to the backend.
    pub serverbound_bytes: u64,
    /// `CLOSED`: bytes from the backend to the client.
    pub clientbound_bytes: u64,
    /// `CLOSED`: milliseconds since `OPENED`.
    pub duration_ms: u64,
}

impl SessionInput {
    /// The event [`event::OPENED`] of the session with this number.
    #[inline]
    #[must_use]
    pub fn opened(client: &ClientInput<'_>, name: &str, session: u64) -> Self {
        Self {
            size: size_of_table::<Self>(),
            protocol: client.protocol,
            grants: 0,
            peer: client.peer.into(),
            event: event::OPENED,
            session,
            host: Str::new(client.host),
            server: Str::new(client.server),
            name: Str::new(name),
            text: Str::EMPTY,
            serverbound_bytes: 0,
            clientbound_bytes: 0,
            duration_ms: 0,
        }
    }

    /// The same session, as the event [`event::CONNECTED`].
    #[inline]
    #[must_use]
    pub const fn connected(mut self, backend: &str) -> Self {
        self.event = event::CONNECTED;
        self.text = Str::new(backend);
        self
    }

    /// The same session, as the event [`event::CLOSED`].
    #[inline]
    #[must_use]
    pub fn closed(
        mut self,
        reason: &str,
        serverbound_bytes: u64,
        clientbound_bytes: u64,
        duration: Duration,
    ) -> Self {
        self.event = event::CLOSED;
        self.text = Str::new(reason);
        self.serverbound_bytes = serverbound_bytes;
        self.clientbound_bytes = clientbound_bytes;
        self.duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

/// Events of a session. A plugin ignores an unknown one.
pub mod event {
    /// A player may join and has a place on a server.
    pub const OPENED: u32 = 1;
    /// The backend has taken the connection.
    pub const CONNECTED: u32 = 2;
    /// The session is over.
    pub const CLOSED: u32 = 3;
}

/// Input of `player.observe`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct PlayerInput {
    /// Bytes of this table.
    pub size: u32,
    /// The protocol version that the client announced.
    pub protocol: i32,
    /// What the plugin may do on this connection, as bits.
    pub grants: u64,
    /// The client's address.
    pub peer: Address,
    /// One of [`player_event`].
    pub event: u32,
    /// The number of the player, for services: the same in all events, from
    /// `JOINED` to `LEFT`, and no other player's in this process.
    pub player: u64,
    /// The cleaned virtual host; may be empty.
    pub host: Str,
    /// The server.
    pub server: Str,
    /// The name of the player.
    pub name: Str,
    /// The UUID of the player, in network order.
    pub uuid: [u8; 16],
    /// Whether the proxy has proved name and UUID (1) or not (0).
    pub proved: u32,
    /// Zero.
    pub reserved: u32,
    /// `LEFT`: why, as in the log. Else empty.
    pub text: Str,
}

impl PlayerInput {
    /// The event [`player_event::JOINED`] of the player with this number.
    #[inline]
    #[must_use]
    pub fn joined(
        client: &ClientInput<'_>,
        player: u64,
        name: &str,
        uuid: u128,
        is_proved: bool,
    ) -> Self {
        Self {
            size: size_of_table::<Self>(),
            protocol: client.protocol,
            grants: 0,
            peer: client.peer.into(),
            event: player_event::JOINED,
            player,
            host: Str::new(client.host),
            server: Str::new(client.server),
            name: Str::new(name),
            uuid: uuid.to_be_bytes(),
            proved: is_proved as u32,
            reserved: 0,
            text: Str::EMPTY,
        }
    }

    /// The same player, as the event [`player_event::LEFT`].
    #[inline]
    #[must_use]
    pub const fn left(mut self, reason: &str) -> Self {
        self.event = player_event::LEFT;
        self.text = Str::new(reason);
        self
    }
}

/// Events of a player. A plugin ignores an unknown one.
pub mod player_event {
    /// The player has joined the game.
    pub const JOINED: u32 = 1;
    /// The player has left the game.
    pub const LEFT: u32 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 address crosses as IPv4, also if the socket has it as IPv6.
    #[test]
    fn addresses_cross() {
        let crossed = |text: &str| {
            let Address {
                ip, port, family, ..
            } = text.parse::<SocketAddr>().unwrap().into();
            (ip, port, family)
        };
        let v4 = [192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(crossed("192.0.2.1:7"), (v4, 7, family::V4));
        assert_eq!(crossed("[::ffff:192.0.2.1]:7"), (v4, 7, family::V4));
        let v6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(crossed("[2001:db8::9]:7"), (v6, 7, family::V6));
        assert_eq!(crossed("[::1]:7").2, family::V6);
    }
}
