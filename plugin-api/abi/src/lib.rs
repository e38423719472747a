//! The ABI between the proxy and its plugins, also called the border: the names,
//! numbers and C tables that both sides must agree on.
//!
//! This crate has no dependencies. It is separate from `infrarust-plugin-api`, the SDK
//! for plugin authors, so that the host can depend on the ABI without the SDK.
//!
//! # Rules of the border
//!
//! - Every table begins with `size`, in bytes. Fields are appended, never
//!   moved, retyped or reused; a field that was appended is read only when
//!   `size` covers it. A test compares the layout of every table with
//!   `layout.txt`.
//! - Texts are borrowed ([`Str`]) and valid during the call they are passed to, or
//!   for the life of the future that the call starts. Answers are passed to a
//!   [`Sink`] of the caller, so that memory is freed on the side that allocated it.
//! - No Rust enum, `bool`, trait object or future crosses; only integers,
//!   pointers and functions. The definition of a set of numbers says what an unknown
//!   number means.
//! - No panic crosses: each function of a table catches its panics.
//! - Unless a function says otherwise, it may be called on any thread and from
//!   several threads at once.

mod capability;
mod command_hook;
mod entry;
mod field_data;
mod future;
mod guarded;
mod hook;
mod hooks;
mod host;
mod note;
mod packet;
mod packet_hook;
pub mod sample;
#[doc(hidden)]
pub mod serve;
mod text;
mod version;

#[cfg(test)]
mod layout;

pub use capability::{Capability, CapabilityKind, Stage, UnknownCapability, capabilities_in};
pub use command_hook::{
    CommandHook, CommandInput, CommandPlayer, CommandSink, command_audience, command_event,
};
pub use entry::{ENTRY_MAGIC, ENTRY_SYMBOL, Entry, EntryFn, HookRef, PluginTable};
pub use field_data::FieldData;
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
    CookieTable, DataTable, HostTable, IdentityTable, InjectTable, LogCallsite, LogField, LogTable,
    MessageTable, MetricsTable, PlayersTable, ProfileSink, SwitchTable, TaskTable, TimeTable,
    TitleInput, TransferTable, field, interest, level, message, metric, receiver, service,
};
pub use note::{
    NOTE_FIXED_BYTES, NOTE_FORMAT, NOTE_NAME, NOTE_SECTION, NOTE_TEXT_BYTES_MAX, NOTE_TYPE, Note,
    NoteText, flag, key, mask,
};
pub use packet::{FieldType, PacketField, PacketKind};
pub use packet_hook::{
    FieldValue, InterestSink, PacketHook, PacketInput, PacketTable, ValueSink, packet_interest,
    packet_right, packet_state,
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
    ($type:ident { $($field:ident: $function:expr),+ $(,)? }) => {
        $type {
            size: $crate::size_of_table::<$type>(),
            reserved: 0,
            $($field: Some($function),)+
        }
    };
}

/// A table that begins with its size. `None` if the pointer is null or not aligned, or
/// if the table is shorter than `T`.
///
/// # Safety
///
/// A pointer that is not null must lead to the size of a table, and to that number of
/// bytes, for `'a`.
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

/// The status that functions of the tables return.
pub mod status {
    /// Done.
    pub const OK: i32 = 0;
    /// Not yet; the waker will be called.
    pub const PENDING: i32 = 1;
    /// Failed; a text may have been given to the sink.
    pub const ERR: i32 = -1;
    /// Panicked; the panic was caught where it happened.
    pub const PANIC: i32 = -2;
    /// This side is too old, or was built without the feature.
    pub const UNSUPPORTED: i32 = -3;
    /// Not granted, or over a limit.
    pub const DENIED: i32 = -4;
    /// The player or other subject of the call does not exist any more.
    pub const GONE: i32 = -5;
    /// Over a limit at the moment. A later call may succeed.
    pub const FULL: i32 = -6;
}
