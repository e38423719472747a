//! The border between the proxy and its plugins: names, numbers and C tables
//! that both sides must agree on, and nothing else.
//!
//! This crate has no dependencies and no policy. It is apart from the SDK that
//! plugin authors use, so that the host can depend on the border without
//! depending on the SDK.
//!
//! # Rules of the border
//!
//! - Every table begins with `size`, in bytes. Fields are appended, never
//!   moved, retyped or reused; a field that was appended is read only when
//!   `size` covers it. A test holds the layout of every table against
//!   `layout.txt`.
//! - Texts are borrowed ([`Str`]) and good for the call they are passed to, or
//!   for the life of the future that the call starts. Answers travel the other
//!   way through a [`Sink`], so that nothing allocated on one side is freed on
//!   the other.
//! - No Rust enum, `bool`, trait object or future crosses; only integers,
//!   pointers and functions. What an unknown integer means is told where it is
//!   defined.
//! - No panic crosses: each function of a table catches its own.
//! - Unless a function says otherwise, it may be called on any thread and from
//!   several threads at once.

mod capability;
mod command_hook;
mod entry;
mod future;
mod hook;
mod hooks;
mod host;
mod note;
mod packet;
mod packet_hook;
pub mod sample;
mod text;
mod version;

#[cfg(test)]
mod layout;

pub use capability::{Capability, CapabilityKind, UnknownCapability, capabilities_in};
pub use command_hook::{
    CommandHook, CommandInput, CommandPlayer, CommandSink, command_audience, command_event,
};
pub use entry::{ENTRY_MAGIC, ENTRY_SYMBOL, Entry, EntryFn, HookRef, PluginTable};
pub use future::{
    FutureTable, OwnedFuture, RawFuture, RawWaker, WakerTable, export_waker, import_waker,
};
pub use hook::{
    Address, AsyncHook, ClientInput, ConnectionInput, HandshakeInput, LoginInput, PlayerInput,
    SessionInput, Sink, SinkTable, StatusInput, SyncHook, answer, event, failure, family, intent,
    player_event,
};
pub use hooks::{Hook, OnFailure, Point, points};
pub use host::{
    DataTable, HostTable, IdentityTable, InjectTable, LogCallsite, LogField, LogTable,
    MessageTable, MetricsTable, PlayersTable, ProfileSink, TaskTable, TimeTable, TitleInput,
    TransferTable, field, interest, level, message, metric, receiver, service,
};
pub use note::{
    NOTE_FIXED_BYTES, NOTE_FORMAT, NOTE_NAME, NOTE_SECTION, NOTE_TEXT_BYTES_MAX, NOTE_TYPE, Note,
    NoteText, flag, key, mask,
};
pub use packet::{FieldType, PacketField, PacketKind};
pub use packet_hook::{
    FieldValue, InterestSink, PacketHook, PacketInput, PacketTable, ValueSink, packet_interest,
    packet_state,
};
pub use text::Str;
pub use version::{API_VERSION, Version};

/// The size of a table, for its first field.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    reason = "tables have less than a kilobyte"
)]
pub const fn size_of_table<T>() -> u32 {
    size_of::<T>() as u32
}

/// Makes a table of functions, which begins with its size.
#[doc(hidden)]
#[macro_export]
macro_rules! table {
    ($type:ident { $($field:ident: $function:ident),+ $(,)? }) => {
        $type {
            size: $crate::size_of_table::<$type>(),
            reserved: 0,
            $($field: Some($function),)+
        }
    };
}

/// What begins with its size; `None` when it is missing, not aligned, or shorter
/// than this side knows it.
///
/// # Safety
///
/// A pointer that is not null must lead to the size of such a table, and to as many
/// bytes as that says, for `'a`.
#[allow(unsafe_code, reason = "the border is made of pointers")]
#[must_use]
pub unsafe fn sized<'a, T>(table: *const T) -> Option<&'a T> {
    if table.is_null() || !table.is_aligned() {
        return None;
    }
    // SAFETY: not null, and it begins with its size.
    let size = unsafe { table.cast::<u32>().read() };
    // SAFETY: as large as this type.
    (size >= size_of_table::<T>()).then(|| unsafe { &*table })
}

/// What functions of the tables return.
pub mod status {
    /// Done.
    pub const OK: i32 = 0;
    /// Not yet; the waker will be called.
    pub const PENDING: i32 = 1;
    /// Failed; a text may have been given to the sink.
    pub const ERR: i32 = -1;
    /// Panicked; the panic was caught where it happened.
    pub const PANIC: i32 = -2;
    /// This side is too old, or was not built with what was asked for.
    pub const UNSUPPORTED: i32 = -3;
    /// Not granted, or over a limit.
    pub const DENIED: i32 = -4;
    /// What the call is about is not there any more.
    pub const GONE: i32 = -5;
    /// Over a limit of now: it may be done later.
    pub const FULL: i32 = -6;
}
