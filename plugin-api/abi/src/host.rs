//! The services that a plugin may call: one table for each service, requested by number.
//!
//! The host returns no table for a service that is not granted, so a plugin that has the
//! pointer has the permission.
//! All tables live as long as the process.

use core::ffi::c_void;

use crate::{FieldValue, RawFuture, Sink, Str, status};

/// The table that a plugin gets in `create`.
#[derive(Debug)]
#[repr(C)]
pub struct HostTable {
    /// Bytes of this table.
    pub size: u32,
    /// The API version of the host: first number.
    pub api_major: u16,
    /// Second number.
    pub api_minor: u16,
    /// For the functions of this table and of every service.
    pub ctx: *const c_void,
    /// The table of a service of [`service`] in a version (counted from 1), or
    /// null.
    pub query: Option<
        unsafe extern "C" fn(ctx: *const c_void, service: u32, version: u32) -> *const c_void,
    >,
}

// SAFETY: the host's context may be used from any thread, as this crate's rules say.
#[allow(unsafe_code, reason = "the border is made of pointers")]
unsafe impl Send for HostTable {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "the border is made of pointers")]
unsafe impl Sync for HostTable {}

/// Numbers of services.
pub mod service {
    /// [`LogTable`](super::LogTable).
    pub const LOG: u32 = 1;
    /// [`TimeTable`](super::TimeTable).
    pub const TIME: u32 = 2;
    /// [`TaskTable`](super::TaskTable).
    pub const TASK: u32 = 3;
    /// [`DataTable`](super::DataTable).
    pub const DATA: u32 = 4;
    /// [`PlayersTable`](super::PlayersTable).
    pub const PLAYERS: u32 = 5;
    /// [`MetricsTable`](super::MetricsTable).
    pub const METRICS: u32 = 6;
    /// The service of a capability is this number and the bit number of the
    /// capability together.
    pub const OF_CAPABILITY: u32 = 0x100;
}

/// The log.
#[derive(Debug)]
#[repr(C)]
pub struct LogTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Registers a place of the source, once. Writes its number and one of
    /// [`interest`]. `DENIED` if there are too many places.
    pub callsite: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            callsite: *const LogCallsite,
            id: *mut u64,
            interest: *mut u32,
        ) -> i32,
    >,
    /// Whether an event of this place is logged at the moment: 1 or 0.
    pub enabled: Option<unsafe extern "C" fn(ctx: *const c_void, id: u64) -> u32>,
    /// Logs an event.
    pub event: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            id: u64,
            fields: *const LogField,
            len: usize,
        ) -> i32,
    >,
}

/// A place of the source that logs.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct LogCallsite {
    /// Bytes of this table.
    pub size: u32,
    /// One of [`level`].
    pub level: u32,
    /// The module, or the target that the author chose.
    pub target: Str,
    /// The source file; may be empty.
    pub file: Str,
    /// The line; 0 is unknown.
    pub line: u32,
    /// Zero.
    pub reserved: u32,
    /// The names of the fields.
    pub fields: *const Str,
    /// The number of names.
    pub fields_len: usize,
}

/// A value of an event.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct LogField {
    /// The index of the name in the callsite.
    pub index: u32,
    /// One of [`field`].
    pub kind: u32,
    /// The bits of a number; 0 or 1 for a truth value.
    pub number: u64,
    /// The text.
    pub text: Str,
}

/// Kinds of values. The host ignores an unknown one.
pub mod field {
    /// A text.
    pub const TEXT: u32 = 1;
    /// Another value, as a text.
    pub const PRINTED: u32 = 2;
    /// An `i64`.
    pub const I64: u32 = 3;
    /// A `u64`.
    pub const U64: u32 = 4;
    /// An `f64`.
    pub const F64: u32 = 5;
    /// A truth value.
    pub const BOOL: u32 = 6;
}

/// Levels of the log. An unknown one counts as [`level::TRACE`].
pub mod level {
    /// Errors.
    pub const ERROR: u32 = 1;
    /// Warnings.
    pub const WARN: u32 = 2;
    /// Information for operators.
    pub const INFO: u32 = 3;
    /// Information for finding mistakes.
    pub const DEBUG: u32 = 4;
    /// Everything.
    pub const TRACE: u32 = 5;
}

/// Whether a place of the source is logged, until the filter changes.
pub mod interest {
    /// Never.
    pub const NEVER: u32 = 0;
    /// Ask each time.
    pub const SOMETIMES: u32 = 1;
    /// Always.
    pub const ALWAYS: u32 = 2;
}

/// The clock.
#[derive(Debug)]
#[repr(C)]
pub struct TimeTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Writes a future that is `OK` after this number of milliseconds. The plugin polls
    /// and drops it.
    pub sleep: Option<
        unsafe extern "C" fn(ctx: *const c_void, millis: u64, future: *mut RawFuture) -> i32,
    >,
}

/// Tasks beside the hooks.
#[derive(Debug)]
#[repr(C)]
pub struct TaskTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Gives a future to the host, which polls it on its workers until it is
    /// done, aborted, or the plugin ends. Writes its number. `DENIED` when the
    /// plugin has too many; the future stays the plugin's then.
    pub spawn:
        Option<unsafe extern "C" fn(ctx: *const c_void, future: RawFuture, id: *mut u64) -> i32>,
    /// Ends a task at its next wait. Nothing happens for an unknown number.
    pub abort: Option<unsafe extern "C" fn(ctx: *const c_void, id: u64)>,
}

/// The plugin's folder.
#[derive(Debug)]
#[repr(C)]
pub struct DataTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Answers with the path of the folder, and makes the folder if it is missing. May
    /// wait for the disk.
    pub folder: Option<unsafe extern "C" fn(ctx: *const c_void, sink: *const Sink) -> i32>,
}

/// Counts of players.
#[derive(Debug)]
#[repr(C)]
pub struct PlayersTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The number of players on a server, or on all servers if `server` is empty. -1 if
    /// there is no such server.
    pub count: Option<unsafe extern "C" fn(ctx: *const c_void, server: Str) -> i64>,
}

/// Metrics of the plugin.
#[derive(Debug)]
#[repr(C)]
pub struct MetricsTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Finds or makes a metric with a name and a kind of [`metric`]. Writes its number.
    /// `DENIED` if there are too many, `ERR` if the name is invalid or has another kind.
    pub register:
        Option<unsafe extern "C" fn(ctx: *const c_void, name: Str, kind: u32, id: *mut u64) -> i32>,
    /// Adds to a counter, or sets a gauge (the bits of an `i64`).
    pub record: Option<unsafe extern "C" fn(ctx: *const c_void, id: u64, value: u64)>,
}

/// Kinds of metrics.
pub mod metric {
    /// Only grows.
    pub const COUNTER: u32 = 1;
    /// Goes up and down.
    pub const GAUGE: u32 = 2;

    /// The most metrics of a plugin. They have no labels, so each is a line.
    pub const METRICS_MAX: usize = 64;
    /// The longest name of a metric in bytes.
    pub const NAME_BYTES_MAX: usize = 64;

    /// Whether a metric can have this name.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
    }
}

/// The service of `identity.verified`.
#[derive(Debug)]
#[repr(C)]
pub struct IdentityTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Gives the profile of a player, by the number of `player.observe`, to a
    /// [`ProfileSink`] that is valid during the call. `GONE` if the player has left,
    /// `DENIED` if the plugin does not have the capability on the player's connection.
    pub profile: Option<
        unsafe extern "C" fn(ctx: *const c_void, player: u64, sink: *const ProfileSink) -> i32,
    >,
}

/// Takes a profile. It belongs to the plugin, and its functions are called on the thread
/// of the call that it is passed to, before that call returns.
#[derive(Debug)]
#[repr(C)]
pub struct ProfileSink {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// For the functions of this table.
    pub ctx: *mut c_void,
    /// Called once, first: the name, and the 16 bytes of the UUID in network order.
    pub player: Option<unsafe extern "C" fn(ctx: *mut c_void, name: Str, uuid: *const u8)>,
    /// Called for each property, in order. `has_signature` is 1 or 0.
    pub property: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            name: Str,
            value: Str,
            signature: Str,
            has_signature: u32,
        ),
    >,
}

#[allow(unsafe_code, reason = "the border is made of pointers")]
impl ProfileSink {
    /// Gives a profile: each property has its name, its value, and a signature where
    /// there is one. Returns the status of the call.
    ///
    /// # Safety
    ///
    /// The sink must be valid during the call.
    pub unsafe fn give<'a>(
        &self,
        name: &str,
        uuid: [u8; 16],
        properties: impl Iterator<Item = (&'a str, &'a str, Option<&'a str>)>,
    ) -> i32 {
        let (Some(player), Some(property)) = (self.player, self.property) else {
            return status::ERR;
        };
        // SAFETY: the functions belong to the sink, and the texts outlive the calls.
        unsafe {
            player(self.ctx, Str::new(name), uuid.as_ptr());
            for (name, value, signature) in properties {
                property(
                    self.ctx,
                    Str::new(name),
                    Str::new(value),
                    signature.map_or(Str::EMPTY, Str::new),
                    signature.is_some().into(),
                );
            }
        }
        status::OK
    }
}

/// The service of `player.message`.
///
/// A call returns at once. The host sends the packets later, in the order of the calls,
/// between two frames while the player is in the game. `GONE` if the player has left, `DENIED`
/// if the plugin does not have the capability on the player's connection, `FULL` if too
/// many packets of the plugin wait or it sends too much in a second, `ERR` with a text to the sink if
/// the text cannot be shown.
#[derive(Debug)]
#[repr(C)]
pub struct MessageTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Shows a text, a JSON component, in one of the ways of [`message`].
    pub send: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            player: u64,
            kind: u32,
            text: Str,
            sink: *const Sink,
        ) -> i32,
    >,
    /// Shows a title.
    pub title: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            player: u64,
            title: *const TitleInput,
            sink: *const Sink,
        ) -> i32,
    >,
}

/// A title, and the text below it. Valid during the call.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TitleInput {
    /// Bytes of this table.
    pub size: u32,
    /// How long the title fades in, in ticks of 50 ms.
    pub fade_in: u32,
    /// How long it stays, in ticks.
    pub stay: u32,
    /// How long it fades out, in ticks.
    pub fade_out: u32,
    /// The big text, a JSON component.
    pub title: Str,
    /// The text below, a JSON component.
    pub subtitle: Str,
}

/// Ways to show a text. `send` returns `UNSUPPORTED` for an unknown one.
pub mod message {
    /// A line in the chat window.
    pub const CHAT: u32 = 1;
    /// The line above the items.
    pub const ACTION_BAR: u32 = 2;
    /// The end of the session: at once, in every state of the connection.
    pub const KICK: u32 = 3;
}

/// The service of `packet.inject`. The time of the packets and the status of the calls
/// are those of [`MessageTable`].
#[derive(Debug)]
#[repr(C)]
pub struct InjectTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Sends a packet of the game to one of [`receiver`]. Id and fields are those of the
    /// player's version.
    pub send: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            player: u64,
            to: u32,
            id: i32,
            fields: *const u8,
            fields_bytes: usize,
            sink: *const Sink,
        ) -> i32,
    >,
    /// Sends a packet of a `PacketKind` with these values, encoded for the player's
    /// version, to the client or the backend, as the kind says. Fields without a value
    /// are zero, empty or missing. Since 0.1.2.
    pub send_kind: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            player: u64,
            kind: u32,
            values: *const FieldValue,
            len: usize,
            sink: *const Sink,
        ) -> i32,
    >,
}

/// The receiver of a packet.
pub mod receiver {
    /// The player's client.
    pub const CLIENT: u32 = 1;
    /// The backend of the player.
    pub const BACKEND: u32 = 2;
}

/// The service of `player.transfer`. The time of the packet and the status of the call
/// are those of [`MessageTable`].
#[derive(Debug)]
#[repr(C)]
pub struct TransferTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes the client of a player connect to this host and port instead.
    pub transfer: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            player: u64,
            host: Str,
            port: u16,
            sink: *const Sink,
        ) -> i32,
    >,
}

/// The service of `server.switch`. Since 0.1.2.
#[derive(Debug)]
#[repr(C)]
pub struct SwitchTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Requests the switch of a player to another server of the network, by its id.
    /// Returns at once. `OK`: writes a future, which the plugin polls and drops; it is `OK`
    /// when the player is there, `GONE` when the player leaves before, `ERR` with a text
    /// to the sink when the player stays on the current server. The switch goes on when it is dropped. Else `GONE`
    /// or `DENIED`, as for [`MessageTable`].
    pub switch: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            player: u64,
            server: Str,
            future: *mut RawFuture,
        ) -> i32,
    >,
}

/// The service of `player.cookie`. As for [`MessageTable`], when and with which
/// status. Since 0.1.2.
#[derive(Debug)]
#[repr(C)]
pub struct CookieTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Stores bytes under a key in the client of a player. `data` need not be UTF-8.
    pub store: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            player: u64,
            key: Str,
            data: Str,
            sink: *const Sink,
        ) -> i32,
    >,
    /// Asks the client of a player for what it has under a key. `OK`: writes a future,
    /// which the plugin polls and drops; it is `OK` with the bytes as its answer, which
    /// need not be UTF-8, or without an answer if the client has none, and `GONE` when
    /// the player leaves the server before.
    pub request: Option<
        unsafe extern "C" fn(
            ctx: *const c_void,
            player: u64,
            key: Str,
            future: *mut RawFuture,
            sink: *const Sink,
        ) -> i32,
    >,
}
