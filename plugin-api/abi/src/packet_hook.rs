//! Hooks that are asked about packets: which packets, and what can be done with one.

use core::ffi::c_void;

use crate::{Sink, Str};

/// A hook that is asked about packets of the game.
#[derive(Debug)]
#[repr(C)]
pub struct PacketHook<I> {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Asks. `input` and `sink` are good for the call. The answer is `PASS` or `DROP`.
    pub call: Option<
        unsafe extern "C" fn(instance: *const c_void, input: *const I, sink: *const Sink) -> i32,
    >,
    /// Says which packets the hook is asked about: calls [`InterestSink::add`] for
    /// each. Called once, when the plugin has been created, on a thread that may wait.
    pub interest: Option<
        unsafe extern "C" fn(
            instance: *const c_void,
            interest: *const InterestSink,
            sink: *const Sink,
        ) -> i32,
    >,
}

/// Where a plugin puts which packets a hook is asked about. It belongs to the host
/// and is good for the call.
#[derive(Debug)]
#[repr(C)]
pub struct InterestSink {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// For the functions of this table.
    pub ctx: *mut c_void,
    /// Adds the number of a `PacketKind`, or one of [`packet_interest`]. Numbers that
    /// the host does not know are passed over.
    pub add: Option<unsafe extern "C" fn(ctx: *mut c_void, number: u32)>,
}

/// Packets to be asked about that are not of one kind.
pub mod packet_interest {
    /// All packets of the game for clients.
    pub const ALL_TO_CLIENT: u32 = 0x1_0000;
    /// All packets of the game for backends.
    pub const ALL_TO_BACKEND: u32 = 0x1_0001;
}

/// The states of a connection in which packets are shown.
pub mod packet_state {
    /// The settings before the game, and between two worlds (1.20.2 and later).
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
    /// Who gets the packet: one of [`receiver`](crate::receiver).
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
    /// What the packet holds, and how it is changed.
    pub table: *const PacketTable,
}

/// What can be asked of a packet. Only on the thread of the call.
#[derive(Debug)]
#[repr(C)]
pub struct PacketTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Gives the value of a field, by the number of its `PacketField`, to a
    /// [`ValueSink`]: not at all when packets of this kind do not have the field in
    /// this version. `ERR` when the packet is malformed.
    pub get: Option<
        unsafe extern "C" fn(packet: *mut c_void, field: u32, sink: *const ValueSink) -> i32,
    >,
    /// Writes the id, as the player's version has it, and where the fields are. They
    /// are good until the packet is changed, and for the call.
    pub raw: Option<
        unsafe extern "C" fn(
            packet: *mut c_void,
            id: *mut i32,
            fields: *mut *const u8,
            fields_bytes: *mut usize,
        ) -> i32,
    >,
    /// Gives fields other values. `DENIED` outside `packet.modify`; `ERR` with a text
    /// to the sink when the packet cannot have them: it stays as it was then.
    pub set: Option<
        unsafe extern "C" fn(
            packet: *mut c_void,
            values: *const FieldValue,
            len: usize,
            sink: *const Sink,
        ) -> i32,
    >,
    /// Puts other fields in place of all. With the same statuses as `set`.
    pub replace: Option<
        unsafe extern "C" fn(
            packet: *mut c_void,
            fields: *const u8,
            fields_bytes: usize,
            sink: *const Sink,
        ) -> i32,
    >,
}

/// The value of a field of a packet.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FieldValue {
    /// The number of the `PacketField`.
    pub field: u32,
    /// The number of the `FieldType`; 0 for a field that can be missing and is.
    pub holds: u32,
    /// 0 or 1 for a truth value; the bits of a whole number; those of a floating
    /// point number in the lower half.
    pub number: u64,
    /// Characters, a text component as JSON, bytes, or the 16 bytes of a UUID.
    pub data: Str,
}

/// Where the value of a field goes. It belongs to the plugin; its function is called
/// on the thread of the call that it is passed to, before that returns.
#[derive(Debug)]
#[repr(C)]
pub struct ValueSink {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// For the functions of this table.
    pub ctx: *mut c_void,
    /// Takes the value, which is good for the call.
    pub value: Option<unsafe extern "C" fn(ctx: *mut c_void, value: *const FieldValue)>,
}
