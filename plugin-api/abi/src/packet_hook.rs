//! The tables of the packet hooks: the packets that they are called for, and the
//! functions that read and change a packet.

use core::ffi::c_void;

use crate::{Sink, Str};

/// A hook that is called for packets of the game.
#[derive(Debug)]
#[repr(C)]
pub struct PacketHook<I> {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Calls the hook. `input` and `sink` are valid during the call. The answer is `PASS`
    /// or `DROP`.
    pub call: Option<
        unsafe extern "C" fn(instance: *const c_void, input: *const I, sink: *const Sink) -> i32,
    >,
    /// Calls [`InterestSink::add`] for each kind of packet that the hook wants. Called
    /// once, after the plugin has been created, on a thread that may wait.
    pub interest: Option<
        unsafe extern "C" fn(
            instance: *const c_void,
            interest: *const InterestSink,
            sink: *const Sink,
        ) -> i32,
    >,
}

/// Takes the kinds of packets that a hook wants. It belongs to the host and is valid
/// during the call.
#[derive(Debug)]
#[repr(C)]
pub struct InterestSink {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// For the functions of this table.
    pub ctx: *mut c_void,
    /// Adds the number of a `PacketKind`, or one of [`packet_interest`]. The host ignores
    /// unknown numbers.
    pub add: Option<unsafe extern "C" fn(ctx: *mut c_void, number: u32)>,
}

/// Numbers for all packets of a direction.
pub mod packet_interest {
    /// All packets of the game for clients.
    pub const ALL_TO_CLIENT: u32 = 0x1_0000;
    /// All packets of the game for backends.
    pub const ALL_TO_BACKEND: u32 = 0x1_0001;
}

/// The states of a connection in which packets are shown.
pub mod packet_state {
    /// The configuration phase: before the game, and during a change of the server (1.20.2
    /// and later).
    pub const CONFIGURATION: u32 = 1;
    /// The game.
    pub const PLAY: u32 = 2;
}

/// Input of `packet.inspect` and `packet.modify`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct PacketInput {
    /// Bytes of this table.
    pub size: u32,
    /// The protocol version of the player.
    pub protocol: i32,
    /// What the plugin may do on this connection, as bits.
    pub grants: u64,
    /// The number of the player, as `player.observe` gives it.
    pub player: u64,
    /// The UUID of the player, in network order.
    pub uuid: [u8; 16],
    /// Whether the proxy has proved name and UUID (1) or not (0).
    pub proved: u32,
    /// The receiver of the packet: one of [`receiver`](crate::receiver).
    pub to: u32,
    /// One of [`packet_state`].
    pub state: u32,
    /// The number of its `PacketKind`; 0 when it has none.
    pub kind: u32,
    /// The name of the player.
    pub name: Str,
    /// The server.
    pub server: Str,
    /// For the functions of `table`.
    pub packet: *mut c_void,
    /// The functions that read and change the packet.
    pub table: *const PacketTable,
}

/// The functions of a packet, to be called only on the thread of the call.
#[derive(Debug)]
#[repr(C)]
pub struct PacketTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Gives the value of a field, by the number of its `PacketField`, to a
    /// [`ValueSink`]. Gives no value if packets of this kind do not have the field in this
    /// version. `ERR` if the packet is malformed.
    pub get: Option<
        unsafe extern "C" fn(packet: *mut c_void, field: u32, sink: *const ValueSink) -> i32,
    >,
    /// Writes the id in the player's version, and the place of the fields. They are valid
    /// until the packet is changed or the call ends.
    pub raw: Option<
        unsafe extern "C" fn(
            packet: *mut c_void,
            id: *mut i32,
            fields: *mut *const u8,
            fields_bytes: *mut usize,
        ) -> i32,
    >,
    /// Sets fields. `DENIED` outside `packet.modify`. `ERR` with a text to the sink if the
    /// packet cannot have the values; it is then unchanged.
    pub set: Option<
        unsafe extern "C" fn(
            packet: *mut c_void,
            values: *const FieldValue,
            len: usize,
            sink: *const Sink,
        ) -> i32,
    >,
    /// Replaces all fields. The statuses are those of `set`.
    pub replace: Option<
        unsafe extern "C" fn(
            packet: *mut c_void,
            fields: *const u8,
            fields_bytes: usize,
            sink: *const Sink,
        ) -> i32,
    >,
    /// What the hook may do with the packet, as bits of [`packet_right`].
    pub rights: Option<unsafe extern "C" fn(packet: *mut c_void) -> u32>,
}

/// What a hook may do with a packet.
pub mod packet_right {
    /// It may drop the packet.
    pub const DROP: u32 = 1;
    /// It may change the packet.
    pub const CHANGE: u32 = 2;
}

/// The value of a field of a packet.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FieldValue {
    /// The number of the `PacketField`.
    pub field: u32,
    /// The number of the `FieldType`; 0 for a field that can be missing and is.
    pub holds: u32,
    /// 0 or 1 for a truth value, the bits of a whole number, or the bits of a floating
    /// point number in the lower half.
    pub number: u64,
    /// Characters, a text component as JSON, bytes, or the 16 bytes of a UUID.
    pub data: Str,
}

/// Takes the value of a field. It belongs to the plugin, and its function is called on the
/// thread of the call that it is passed to, before that call returns.
#[derive(Debug)]
#[repr(C)]
pub struct ValueSink {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// For the functions of this table.
    pub ctx: *mut c_void,
    /// Takes the value, which is valid during the call.
    pub value: Option<unsafe extern "C" fn(ctx: *mut c_void, value: *const FieldValue)>,
}
