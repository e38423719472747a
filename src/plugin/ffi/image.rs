//! The image of a plugin: mapped, checked, and made into an instance.

use std::ffi::c_void;
use std::fmt;
use std::mem::ManuallyDrop;

use infrarust_plugin_abi::{
    Capability, ENTRY_MAGIC, ENTRY_SYMBOL, Entry, EntryFn, Hook, HookRef, HostTable, PluginTable,
    Point, Str, points, size_of_table, sized,
};
#[cfg(not(unix))]
use libloading::Library;
#[cfg(unix)]
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::border::{Answers, Failure, FailureKind};
use crate::manifest::{CapabilitySet, Manifest};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
use crate::plugin::code;
use crate::plugin::image::{ImageError, Sealed};

/// Never unmap (`dlopen(3)`): threads of the process may run destructors that
/// the plugin has registered. `libloading` has no name for it.
#[cfg(target_os = "macos")]
const RTLD_NODELETE: i32 = 0x80;
/// As above, on Linux and its relatives.
#[cfg(all(unix, not(target_os = "macos")))]
const RTLD_NODELETE: i32 = 0x1000;

/// A mapped plugin. It stays mapped, and its file open, for the life of the process.
pub(in crate::plugin) struct Image {
    _library: ManuallyDrop<Library>,
    _file: ManuallyDrop<std::fs::File>,
    plugin: &'static PluginTable,
    pub(in crate::plugin) hooks: Hooks,
}

macro_rules! hooks {
    ($($(#[doc = $doc:literal])+ $hook:ident { method: $method:ident, $($row:tt)* })+) => {
        /// The hooks of a plugin, by their types.
        #[derive(Default)]
        pub(in crate::plugin) struct Hooks {
            $(pub(in crate::plugin) $method: Option<&'static <points::$hook as Point>::Table>,)+
        }

        impl Hooks {
            /// Takes over the table of a capability, if it is a hook. `None` when the
            /// table is missing or too small.
            ///
            /// # Safety
            ///
            /// A pointer that is not null must lead to a table of this hook, for the
            /// life of the process.
            unsafe fn fill(&mut self, capability: Capability, found: *const c_void) -> Option<()> {
                match Hook::of(capability) {
                    // SAFETY: as the caller promises.
                    $(Some(Hook::$hook) => self.$method = Some(unsafe { sized(found.cast()) }?),)+
                    // The manifest was refused if it listed another hook.
                    None => {}
                }
                Some(())
            }
        }
    };
}

infrarust_plugin_abi::hooks! { [hooks] }

/// Maps a file into the process, for ever.
fn map(path: &std::path::Path) -> Result<Library, libloading::Error> {
    // SAFETY: the constructors of the library run here; native plugins are trusted.
    #[cfg(unix)]
    unsafe {
        Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)
    }
    // SAFETY: as above.
    #[cfg(not(unix))]
    unsafe {
        Library::new(path)
    }
}

/// Maps a sealed copy and compares its entry with its manifest.
pub(in crate::plugin) fn open(
    sealed: Sealed,
    manifest: &Manifest,
    id: &str,
) -> Result<Image, ImageError> {
    let library = map(&sealed.path);
    if sealed.is_on_disk {
        // The name is only needed for mapping.
        let _ = std::fs::remove_file(&sealed.path);
    }
    let library = library.map_err(|error| load_error(&error))?;
    // The image stays mapped, also if it is refused below. Its descriptor stays open too: if
    // its number were reused, the loader would find this image instead of the next one.
    let library = ManuallyDrop::new(library);
    let file = ManuallyDrop::new(sealed.file);
    // SAFETY: the symbol has this type, as its name with its version says.
    let symbol = unsafe { library.get::<EntryFn>(ENTRY_SYMBOL.as_bytes()) };
    let entry = symbol.map_err(|_| mismatch("the entry", ENTRY_SYMBOL, "no such symbol"))?;
    // SAFETY: the function only returns a constant.
    let entry = unsafe { entry() };
    let (plugin, hooks) = check_entry(entry, manifest)?;
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    code::note(id, std::ptr::from_ref(plugin).cast());
    Ok(Image {
        _library: library,
        _file: file,
        plugin,
        hooks,
    })
}

/// The error with its reason, which `libloading` keeps in the source.
fn load_error(error: &libloading::Error) -> ImageError {
    use std::error::Error as _;
    let source = error
        .source()
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    ImageError::Load(format!("{error}{source}"))
}

fn mismatch(
    field: &'static str,
    manifest: impl fmt::Display,
    code: impl fmt::Display,
) -> ImageError {
    ImageError::Mismatch {
        field,
        manifest: manifest.to_string(),
        code: code.to_string(),
    }
}

/// Checks an entry, first field first.
fn check_entry(
    entry: *const Entry,
    manifest: &Manifest,
) -> Result<(&'static PluginTable, Hooks), ImageError> {
    if entry.is_null() || !entry.is_aligned() {
        return Err(ImageError::Load("its entry is not an address".to_owned()));
    }
    // SAFETY: not null; the first two fields are there in every version.
    let (magic, size) = unsafe { ((*entry).magic, (*entry).size) };
    if magic != ENTRY_MAGIC || size < size_of_table::<Entry>() {
        return Err(ImageError::Load(
            "its entry is not a table of this plugin API".to_owned(),
        ));
    }
    // SAFETY: as large as this type.
    let entry = unsafe { &*entry };
    if (entry.api_major, entry.api_minor) != manifest.api {
        let text = |api: (u16, u16)| format!("{}.{}", api.0, api.1);
        return Err(mismatch(
            "the plugin API",
            text(manifest.api),
            text((entry.api_major, entry.api_minor)),
        ));
    }
    for (field, said, coded) in [
        ("hooks", manifest.hooks, entry.hooks),
        ("needs", manifest.needs, entry.needs),
    ] {
        if said.bits() != coded {
            return Err(mismatch(field, bits(said.bits()), bits(coded)));
        }
    }
    // The manifest that was read lacks capabilities that are wanted and unknown.
    let known = Capability::ALL
        .iter()
        .fold(0, |all, capability| all | capability.bit());
    if manifest.wants.bits() != entry.wants & known {
        return Err(mismatch(
            "wants",
            bits(manifest.wants.bits()),
            bits(entry.wants),
        ));
    }
    // SAFETY: tables of an entry are constants of the image.
    let plugin = unsafe { sized(entry.plugin) }
        .filter(|table| table.create.is_some() && table.destroy.is_some())
        .ok_or_else(|| ImageError::Load("its plugin table is too small".to_owned()))?;
    Ok((plugin, hooks(entry, manifest.hooks)?))
}

fn bits(bits: u64) -> String {
    let names: Vec<_> = infrarust_plugin_abi::capabilities_in(bits)
        .map(Capability::name)
        .collect();
    if names.is_empty() {
        format!("bits {bits:#x}")
    } else {
        names.join(", ")
    }
}

fn hooks(entry: &Entry, said: CapabilitySet) -> Result<Hooks, ImageError> {
    let wrong = |what: &str| ImageError::Load(format!("its table of hooks is {what}"));
    if entry.hook_refs.is_null() || entry.hook_refs_len > Capability::ALL.len() {
        return Err(wrong("missing or too long"));
    }
    // SAFETY: not null, and the length is plausible.
    let refs: &[HookRef] =
        unsafe { std::slice::from_raw_parts(entry.hook_refs, entry.hook_refs_len) };
    let mut hooks = Hooks::default();
    for capability in said.iter() {
        let found = refs
            .iter()
            .find(|hook| hook.capability == capability as u32 && hook.version == 1);
        let Some(found) = found else {
            return Err(mismatch(
                "hooks",
                capability,
                "no table of version 1 for it",
            ));
        };
        let missing = || wrong(&format!("too small for `{capability}`"));
        // SAFETY: each number goes with the type of its table, which is a
        // constant of the image.
        unsafe { hooks.fill(capability, found.table) }.ok_or_else(missing)?;
    }
    Ok(hooks)
}

/// A plugin that was created. Ended with [`Instance::destroy`] only.
#[derive(Debug)]
pub(in crate::plugin) struct Instance {
    pub(super) raw: *mut c_void,
    plugin: &'static PluginTable,
}

// SAFETY: the functions of a plugin may be called on any thread, and several at once.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Image {
    /// Creates the instance of the plugin, which reaches the proxy through `host`. Waits as
    /// long as it takes.
    pub(in crate::plugin) fn create(
        &self,
        host: &'static HostTable,
        document: &str,
        path: &[String],
    ) -> Result<Instance, Box<Failure>> {
        let path: String = path.iter().flat_map(|key| [key.as_str(), "\0"]).collect();
        let mut raw = std::ptr::null_mut();
        let mut answers = Answers::new(0);
        let Some(create) = self.plugin.create else {
            return Err(Failure::unsupported());
        };
        // SAFETY: the host's tables are leaked, the rest is valid during the call.
        let status = answers.during(|sink| unsafe {
            create(
                host,
                Str::new(document),
                Str::new(&path),
                sink,
                &raw mut raw,
            )
        });
        answers.outcome(status)?;
        if raw.is_null() {
            return Err(Box::new(Failure::new(
                FailureKind::BadAnswer,
                "it was created without an instance",
            )));
        }
        Ok(Instance {
            raw,
            plugin: self.plugin,
        })
    }
}

impl Instance {
    /// Ends the plugin. Waits as long as it takes. No call may run and no future may exist:
    /// the caller has the last reference.
    pub(in crate::plugin) fn destroy(self) {
        if let Some(destroy) = self.plugin.destroy {
            // SAFETY: `self` is the only instance, and this its end.
            unsafe { destroy(self.raw) };
        }
    }
}
