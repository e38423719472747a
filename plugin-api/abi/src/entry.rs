//! The export of a plugin: one function that returns one table.

use core::ffi::c_void;

use crate::{HostTable, Sink, Str};

/// The only symbol that a plugin exports. A break of [`Entry`] would get
/// another name, so that a host can serve both.
pub const ENTRY_SYMBOL: &str = "infrarust_plugin_entry_v1";

/// The value of [`Entry::magic`].
pub const ENTRY_MAGIC: [u8; 8] = *b"irplug\0\x01";

/// The type of the exported function. It runs no code of the plugin's author, and may
/// be called on any thread.
pub type EntryFn = unsafe extern "C" fn() -> *const Entry;

/// The table that the exported function returns, valid for the life of the process.
///
/// It repeats the note, and the host refuses a plugin in which they differ.
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    /// [`ENTRY_MAGIC`].
    pub magic: [u8; 8],
    /// Bytes of this table.
    pub size: u32,
    /// The API version of the SDK: first number.
    pub api_major: u16,
    /// Second number.
    pub api_minor: u16,
    /// Capabilities whose hooks are in `hook_refs`, as bits.
    pub hooks: u64,
    /// Capabilities without which the plugin does not run, as bits.
    pub needs: u64,
    /// Capabilities that the plugin uses where it can, as bits.
    pub wants: u64,
    /// The descriptor of the note, as in the file.
    pub note: *const u8,
    /// Its length in bytes.
    pub note_bytes: usize,
    /// The functions that create and end the plugin.
    pub plugin: *const PluginTable,
    /// One reference per hook.
    pub hook_refs: *const HookRef,
    /// The number of references.
    pub hook_refs_len: usize,
}

// SAFETY: the pointers lead to constants of the plugin's image.
#[allow(unsafe_code, reason = "the border is made of pointers")]
unsafe impl Sync for Entry {}

/// A hook of the plugin: which, and where its table is.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct HookRef {
    /// The bit number of the capability.
    pub capability: u32,
    /// The version of the table. A break gets a new number.
    pub version: u32,
    /// A `SyncHook`, an `AsyncHook`, a `PacketHook` or a `CommandHook`, as the capability
    /// says.
    pub table: *const c_void,
}

// SAFETY: the pointer leads to a constant of the plugin's image.
#[allow(unsafe_code, reason = "the border is made of pointers")]
unsafe impl Sync for HookRef {}

/// The functions that create and end a plugin.
#[derive(Debug)]
#[repr(C)]
pub struct PluginTable {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes the instance from its configuration. `document` is a TOML document, and
    /// the path has the keys of the plugin's table in it, each ended by a zero byte (an
    /// empty path is the whole document). Spans of errors are bytes of the document, so
    /// that the host can show them in the operator's file.
    ///
    /// Called once per image, on a thread that may wait. `host` and everything that it
    /// points to live as long as the process. On `OK` the instance is written to
    /// `instance`, otherwise a text was given to the sink.
    pub create: Option<
        unsafe extern "C" fn(
            host: *const HostTable,
            document: Str,
            path: Str,
            sink: *const Sink,
            instance: *mut *mut c_void,
        ) -> i32,
    >,
    /// Ends the instance. Called once, on a thread that may wait, after the last hook has
    /// returned and the last future of the instance was dropped.
    pub destroy: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// Makes the plugin ask again which events are logged, for a host that changes the
    /// filter of its log while it runs. The proxy does not call it, because its filter
    /// changes only at a restart.
    pub refresh_log: Option<unsafe extern "C" fn()>,
}
