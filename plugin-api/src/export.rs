//! [`export_plugin!`](crate::export_plugin), which makes a crate a plugin, and the checks
//! that it runs at compile time.

use std::marker::PhantomData;

use infrarust_plugin_abi::{self as abi, Capability, HookRef, PluginTable};

use crate::Plugin;

/// A plugin for which `export_plugin!` was written.
///
/// # Safety
///
/// The tables must be those of this type.
#[doc(hidden)]
#[allow(
    unsafe_code,
    reason = "tables hold functions that trust their arguments"
)]
pub unsafe trait Exported: Plugin {
    /// The name of the plugin.
    const NAME: &'static str;
    /// Everything it has declared.
    const DECLARED: u64;

    fn plugin_table() -> &'static PluginTable;
    fn hook_refs() -> &'static [HookRef];
}

/// A compile-time error for a name that is not allowed in configurations.
#[doc(hidden)]
pub const fn check_name(name: &str) {
    /// The same limit as for names of servers.
    const NAME_BYTES_MAX: usize = 64;
    let bytes = name.as_bytes();
    assert!(
        !bytes.is_empty() && bytes.len() <= NAME_BYTES_MAX,
        "the name of a plugin has 1 to 64 characters"
    );
    let mut at = 0;
    while at < bytes.len() {
        let fits = matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        assert!(
            fits,
            "the name of a plugin is made of a to z, digits, `-`, `_` and `.`"
        );
        at += 1;
    }
}

/// A compile-time error for a hook that is listed twice.
#[doc(hidden)]
pub const fn check_hooks(listed: &[Capability]) {
    let mut at = 0;
    while at < listed.len() {
        assert!(
            !is_in(listed[at], listed.split_at(at).0),
            "`hooks: [...]` names a hook twice"
        );
        at += 1;
    }
}

/// Whether a capability is in a list, for constants.
#[doc(hidden)]
#[must_use]
pub const fn is_in(capability: Capability, list: &[Capability]) -> bool {
    let mut at = 0;
    while at < list.len() {
        if list[at] as u32 == capability as u32 {
            return true;
        }
        at += 1;
    }
    false
}

/// Says whether the type `P` implements the trait of a hook: if it does, the constant
/// here hides the one of [`Otherwise`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Implements<P>(PhantomData<P>);

macro_rules! implements {
    ($($(#[doc = $doc:literal])+ $hook:ident $row:tt)+) => {
        /// See [`Implements`].
        #[doc(hidden)]
        #[allow(non_upper_case_globals, missing_docs, reason = "named as the traits")]
        pub trait Otherwise {
            $(const $hook: bool = false;)+
        }

        impl<P> Otherwise for Implements<P> {}

        $(#[allow(non_upper_case_globals, missing_docs, reason = "named as the trait")]
        impl<P: crate::$hook> Implements<P> {
            pub const $hook: bool = true;
        })+
    };
}

abi::hooks! { [implements] }

/// Makes a plugin of the crate: its manifest, its tables and its entry.
///
/// ```standalone_crate
/// # use infrarust_plugin_api::prelude::*;
/// # #[derive(Deserialize)]
/// # #[serde(crate = "infrarust_plugin_api::serde")]
/// # struct Config {}
/// # struct Gate;
/// # impl Plugin for Gate {
/// #     type Config = Config;
/// #     fn new(_: Config, _: &Host<Self>) -> Result<Self> { Ok(Gate) }
/// # }
/// # #[async_trait]
/// # impl LoginDecide for Gate {
/// #     async fn login_decide(&self, _: Login<'_>) -> Result<Verdict> {
/// #         Ok(Verdict::allow())
/// #     }
/// # }
/// export_plugin! {
///     plugin: Gate,               // a type that implements `Plugin`
///     name: "gate",               // as in `[plugins.gate]`
///     hooks: [LoginDecide],       // traits that it implements
///     needs: [PlayerMessage],     // capabilities without which it does not run
///     wants: [ServerSwitch],      // capabilities that it uses if they are offered
/// }
/// # fn main() {}
/// ```
///
/// `needs` and `wants` can be left out. Version, licence and description come
/// from `Cargo.toml`. Write it once per crate.
///
/// A hook that is listed and not implemented does not compile, and neither
/// does a capability that is used and not listed:
///
/// ```compile_fail,E0277
/// use infrarust_plugin_api::prelude::*;
///
/// #[derive(Deserialize)]
/// #[serde(crate = "infrarust_plugin_api::serde")]
/// struct Config {}
/// struct Greeter;
///
/// impl Plugin for Greeter {
///     type Config = Config;
///     fn new(_: Config, host: &Host<Self>) -> Result<Self> {
///         host.grant::<capability::PacketInject>(); // not declared below
///         Ok(Greeter)
///     }
/// }
/// export_plugin! { plugin: Greeter, name: "greeter", hooks: [] }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_plugin {
    (
        plugin: $plugin:ty,
        name: $name:literal,
        hooks: [$($hook:ident),* $(,)?]
        $(, needs: [$($need:ident),* $(,)?])?
        $(, wants: [$($want:ident),* $(,)?])?
        $(,)?
    ) => {
        $($(impl $crate::Declares<$crate::capability::$need> for $plugin {})*)?
        $($(impl $crate::Declares<$crate::capability::$want> for $plugin {})*)?

        const _: () = {
            use $crate::__private::abi;
            use $crate::Capability;

            const HOOKS: &[Capability] = &[$(Capability::$hook),*];
            const NEEDS: &[Capability] = &[$($(Capability::$need),*)?];
            const WANTS: &[Capability] = &[$($(Capability::$want),*)?];
            const TEXT: abi::NoteText = abi::NoteText::new()
                .value(abi::key::NAME, $name)
                .value(abi::key::VERSION, env!("CARGO_PKG_VERSION"))
                .requires_for(HOOKS, NEEDS)
                .value(abi::key::LICENSE, env!("CARGO_PKG_LICENSE"))
                .value(abi::key::DESCRIPTION, env!("CARGO_PKG_DESCRIPTION"))
                .names(abi::key::HOOKS, HOOKS)
                .names(abi::key::NEEDS, NEEDS)
                .names(abi::key::WANTS, WANTS);
            // In a macro `cfg!` is about the crate that uses it: the plugin's.
            const FLAGS: u16 = $crate::__private::FLAGS
                | if cfg!(panic = "unwind") { abi::flag::PANIC_UNWIND } else { 0 }
                | if cfg!(debug_assertions) { abi::flag::DEBUG } else { 0 };

            $crate::__private::check_name($name);
            $crate::__private::check_hooks(HOOKS);
            abi::hooks! { [$crate::__check_listed] $plugin, HOOKS, }

            // The type of the section, `used`, and the pointer in the entry keep every
            // linker from removing it.
            #[used]
            #[cfg_attr(not(test), unsafe(link_section = ".note.infrarust.plugin"))]
            static NOTE: abi::Note<{ TEXT.padded_bytes() }> =
                abi::Note::new(&TEXT, FLAGS, HOOKS, NEEDS, WANTS);

            static HOOK_REFS: [abi::HookRef; HOOKS.len()] =
                [$($crate::__private::tables::$hook::<$plugin>()),*];

            static TABLE: abi::PluginTable = $crate::__private::plugin_table::<$plugin>();

            static ENTRY: abi::Entry = abi::Entry {
                magic: abi::ENTRY_MAGIC,
                size: size_of::<abi::Entry>() as u32,
                api_major: abi::API_VERSION.major,
                api_minor: abi::API_VERSION.minor,
                hooks: abi::mask(HOOKS),
                needs: abi::mask(NEEDS),
                wants: abi::mask(WANTS),
                note: NOTE.descriptor().as_ptr(),
                note_bytes: TEXT.padded_bytes(),
                plugin: &raw const TABLE,
                hook_refs: HOOK_REFS.as_ptr(),
                hook_refs_len: HOOK_REFS.len(),
            };

            #[cfg_attr(not(test), unsafe(no_mangle))]
            pub extern "C" fn infrarust_plugin_entry_v1() -> *const abi::Entry {
                &raw const ENTRY
            }

            // Keeps the function used in tests too, where nothing is exported.
            #[used]
            static ENTRY_FN: extern "C" fn() -> *const abi::Entry = infrarust_plugin_entry_v1;

            unsafe impl $crate::__private::Exported for $plugin {
                const NAME: &'static str = $name;
                const DECLARED: u64 = abi::mask(HOOKS) | abi::mask(NEEDS) | abi::mask(WANTS);

                fn plugin_table() -> &'static abi::PluginTable {
                    &TABLE
                }

                fn hook_refs() -> &'static [abi::HookRef] {
                    &HOOK_REFS
                }
            }
        };
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "`export_plugin!` is written in this order: \
             `plugin: Gate, name: \"gate\", hooks: [LoginDecide]`, \
             and after that `needs: [...]` and `wants: [...]` where there are any; \
             hooks, needs and wants are the names of `Capability`, as in `PacketInject`"
        );
    };
}

/// A compile-time error for a hook that is implemented and not listed: the proxy would
/// never call it.
#[doc(hidden)]
#[macro_export]
macro_rules! __check_listed {
    ($plugin:ty, $listed:ident, $($(#[doc = $doc:literal])+ $hook:ident $row:tt)+) => {
        $({
            // Unused if every trait is implemented.
            #[allow(unused_imports)]
            use $crate::__private::Otherwise as _;
            ::core::assert!(
                !$crate::__private::Implements::<$plugin>::$hook
                    || $crate::__private::is_in(Capability::$hook, $listed),
                ::core::concat!(
                    "the plugin implements `", ::core::stringify!($hook),
                    "`, and `hooks: [...]` in `export_plugin!` does not list it"
                )
            );
        })+
    };
}
