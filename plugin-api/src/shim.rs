//! The C functions of a plugin, which call the author's code: one table to create and
//! destroy the plugin, and one for each hook.
#![allow(unsafe_code, reason = "tables hold C functions")]

use std::ffi::c_void;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;

use infrarust_plugin_abi::{
    AsyncHook, Capability, CommandHook, CommandInput, CommandSink, ConnectionInput, HandshakeInput,
    HookRef, HostTable, InterestSink, LoginInput, PacketHook, PacketInput, PlayerInput,
    PluginTable, RawFuture, RawWaker, SessionInput, Sink, StatusInput, Str, SyncHook,
    command_event, failure, flag, size_of_table, status,
};

use crate::command::Suggestions;
use crate::context::Known as _;
use crate::future::{Boxed, Waiting, poll_once};
use crate::guard::{drop_guarded, entered, fail, give, guard, quiet_panics};
use crate::link::Link;
use crate::verdict::IntoAnswer;
use crate::{Host, Plugin, Result};

/// The flags of the manifest that depend on features of this crate.
#[doc(hidden)]
pub const FLAGS: u16 = if cfg!(feature = "rt") {
    flag::RUNTIME
} else {
    0
};

// ------------------------------------------------------------- the instance

/// The instance, which the host holds as an opaque pointer.
struct Instance<P> {
    plugin: P,
    link: Arc<Link>,
    #[cfg(feature = "rt")]
    runtime: OwnRuntime,
}

/// The plugin's own runtime. Dropping it, after a failed start, does not wait for tasks of
/// the plugin: the host waits for the error.
#[cfg(feature = "rt")]
struct OwnRuntime(Option<tokio::runtime::Runtime>);

#[cfg(feature = "rt")]
impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How long to wait for the blocking tasks of the plugin's own runtime at the end.
#[cfg(feature = "rt")]
const RUNTIME_END: std::time::Duration = std::time::Duration::from_secs(2);

/// The table that creates and destroys a plugin.
#[doc(hidden)]
#[must_use]
pub const fn plugin_table<P: Plugin>() -> PluginTable {
    PluginTable {
        size: size_of_table::<PluginTable>(),
        reserved: 0,
        create: Some(create::<P>),
        destroy: Some(destroy::<P>),
        refresh_log: Some(refresh_log),
    }
}

unsafe extern "C" fn create<P: Plugin>(
    host: *const HostTable,
    document: Str,
    path: Str,
    sink: *const Sink,
    instance: *mut *mut c_void,
) -> i32 {
    quiet_panics();
    guard(sink, || {
        #[cfg(feature = "rt")]
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("plugin-rt")
            .enable_all()
            .build()?;
        #[cfg(feature = "rt")]
        let (handle, runtime) = (runtime.handle().clone(), OwnRuntime(Some(runtime)));
        // SAFETY: the host promises that its table lives as long as the process.
        let link = unsafe {
            Link::new(
                host,
                #[cfg(feature = "rt")]
                handle,
            )?
        };
        let link = Arc::new(link);
        if let Some(log) = link.log {
            crate::log::install(link.host, log);
        }
        // SAFETY: the texts are valid during the call.
        let (document, path) = unsafe { (document.text(), path.text()) };
        let config = match crate::config::read::<P::Config>(document, path) {
            Ok(config) => config,
            Err(error) => {
                fail(sink, failure::CONFIG, error.message(), error.span());
                return Ok(status::ERR);
            }
        };
        let plugin = entered(&link, || P::new(config, &Host::new(Arc::clone(&link))));
        let plugin = match plugin {
            Ok(plugin) => plugin,
            Err(error) => {
                let code = if error.span().is_some() {
                    failure::CONFIG
                } else {
                    failure::ERROR
                };
                fail(sink, code, &error.to_string(), error.span());
                return Ok(status::ERR);
            }
        };
        let made = Box::new(Instance {
            plugin,
            link,
            #[cfg(feature = "rt")]
            runtime,
        });
        // SAFETY: the host gives a place to write to.
        unsafe { *instance = Box::into_raw(made).cast() };
        Ok(status::OK)
    })
}

unsafe extern "C" fn destroy<P: Plugin>(instance: *mut c_void) {
    guard(std::ptr::null(), || {
        // SAFETY: made by `create`, and destroyed once.
        let instance = unsafe { Box::from_raw(instance.cast::<Instance<P>>()) };
        #[cfg(not(feature = "rt"))]
        let Instance { plugin, link } = *instance;
        #[cfg(feature = "rt")]
        let Instance {
            plugin,
            link,
            mut runtime,
        } = *instance;
        drop_guarded(&link, plugin);
        #[cfg(feature = "rt")]
        if let Some(runtime) = runtime.0.take() {
            runtime.shutdown_timeout(RUNTIME_END);
        }
        Ok(status::OK)
    });
}

unsafe extern "C" fn refresh_log() {
    guard(std::ptr::null(), || {
        tracing::callsite::rebuild_interest_cache();
        Ok(status::OK)
    });
}

/// Starts a hook that may wait: polls its future once, and gives the future to the host
/// if it is pending.
///
/// # Safety
///
/// The arguments are those of [`AsyncHook::start`], for an instance of `P`.
unsafe fn start<'a, P: Plugin, V: IntoAnswer + 'static>(
    instance: *const c_void,
    waker: *const RawWaker,
    sink: *const Sink,
    out: *mut RawFuture,
    ask: impl FnOnce(&'a P) -> Pin<Box<dyn Future<Output = Result<V>> + Send + 'a>>,
) -> i32 {
    guard(sink, || {
        // SAFETY: the host calls hooks only while the instance exists, and drops all their
        // futures before it destroys the instance.
        let instance = unsafe { &*instance.cast::<Instance<P>>() };
        let future = entered(&instance.link, || ask(&instance.plugin));
        // SAFETY: instance and input outlive the future, see above.
        let mut future: Boxed<Result<V>> = unsafe { mem::transmute(future) };
        if let Some(status) = poll_once(future.as_mut(), &instance.link, waker, sink)? {
            entered(&instance.link, || drop(future));
            return Ok(status);
        }
        let waiting = Waiting {
            future: Some(future),
            link: Arc::clone(&instance.link),
        };
        // SAFETY: the host gives a place to write to.
        unsafe { *out = waiting.into_raw() };
        Ok(status::PENDING)
    })
}

/// Calls a hook that does not wait.
///
/// # Safety
///
/// The arguments are those of [`SyncHook::call`], for an instance of `P`.
unsafe fn call<'a, P: Plugin, V: IntoAnswer>(
    instance: *const c_void,
    sink: *const Sink,
    ask: impl FnOnce(&'a P) -> Result<V>,
) -> i32 {
    guard(sink, || {
        // SAFETY: the host calls hooks only while the instance exists.
        let instance = unsafe { &*instance.cast::<Instance<P>>() };
        let given = entered(&instance.link, || ask(&instance.plugin))?;
        Ok(give(sink, &given.into_answer()))
    })
}

/// Asks a plugin to list something for the host, before its first hook is called.
///
/// # Safety
///
/// The instance is one of `P`, and the sink null or valid during the call.
unsafe fn list<P: Plugin>(
    instance: *const c_void,
    sink: *const Sink,
    ask: impl FnOnce(&P) -> i32,
) -> i32 {
    guard(sink, || {
        // SAFETY: the host asks living instances only.
        let instance = unsafe { &*instance.cast::<Instance<P>>() };
        Ok(entered(&instance.link, || ask(&instance.plugin)))
    })
}

// -------------------------------------------------------------------- tables

struct Hooks<P>(PhantomData<P>);

/// The table and the C function of each hook.
macro_rules! hook_tables {
    ($(
        $(#[doc = $doc:literal])+
        $hook:ident {
            method: $method:ident,
            call: $call:ident,
            input: $input:ident as $view:ident,
            $($rest:tt)*
        }
    )+) => {
        $(hook_tables!(@$call $hook $method $input $view);)+

        /// One function per hook, with the name of its trait.
        #[doc(hidden)]
        #[allow(
            non_snake_case,
            reason = "the macro finds them by the name of the trait"
        )]
        pub mod tables {
            use super::{Capability, HookRef, Hooks, hook_ref};

            $(#[must_use]
            pub const fn $hook<P: crate::$hook>() -> HookRef {
                hook_ref(Capability::$hook, Hooks::<P>::$hook)
            })+

            infrarust_plugin_abi::capabilities! { [not_hooks] }
        }
    };
    (@async $hook:ident $method:ident $input:ident $view:ident) => {
        impl<P: crate::$hook> Hooks<P> {
            #[allow(non_upper_case_globals, reason = "named as the trait")]
            const $hook: &'static AsyncHook<$input> = &AsyncHook {
                size: size_of_table::<AsyncHook<$input>>(),
                reserved: 0,
                start: Some($method::<P>),
            };
        }

        unsafe extern "C" fn $method<P: crate::$hook>(
            instance: *const c_void,
            input: *const $input,
            waker: *const RawWaker,
            sink: *const Sink,
            future: *mut RawFuture,
        ) -> i32 {
            // SAFETY: the host keeps the input until the future is dropped.
            let view = unsafe { crate::$view::new(input) };
            // SAFETY: the arguments are passed on.
            unsafe { start(instance, waker, sink, future, |plugin| P::$method(plugin, view)) }
        }
    };
    (@sync $hook:ident $method:ident $input:ident $view:ident) => {
        impl<P: crate::$hook> Hooks<P> {
            #[allow(non_upper_case_globals, reason = "named as the trait")]
            const $hook: &'static SyncHook<$input> = &SyncHook {
                size: size_of_table::<SyncHook<$input>>(),
                reserved: 0,
                call: Some($method::<P>),
            };
        }

        unsafe extern "C" fn $method<P: crate::$hook>(
            instance: *const c_void,
            input: *const $input,
            sink: *const Sink,
        ) -> i32 {
            // SAFETY: the input is valid during the call.
            let view = unsafe { crate::$view::new(input) };
            if !view.is_known() {
                return status::OK;
            }
            // SAFETY: the arguments are passed on.
            unsafe { call(instance, sink, |plugin| P::$method(plugin, &view)) }
        }
    };
    (@packet $hook:ident $method:ident $input:ident $view:ident) => {
        impl<P: crate::$hook> Hooks<P> {
            #[allow(non_upper_case_globals, reason = "named as the trait")]
            const $hook: &'static PacketHook<$input> = &PacketHook {
                size: size_of_table::<PacketHook<$input>>(),
                reserved: 0,
                call: Some($method::<P>),
                interest: Some(Self::$method),
            };

            unsafe extern "C" fn $method(
                instance: *const c_void,
                interest: *const InterestSink,
                sink: *const Sink,
            ) -> i32 {
                // SAFETY: the arguments are passed on; the sink is valid during the call.
                unsafe {
                    list::<P>(instance, sink, |plugin| {
                        <P as crate::$hook>::interest(plugin).give(interest)
                    })
                }
            }
        }

        unsafe extern "C" fn $method<P: crate::$hook>(
            instance: *const c_void,
            input: *const $input,
            sink: *const Sink,
        ) -> i32 {
            // SAFETY: the input is valid during the call.
            let mut view = unsafe { crate::$view::new(input) };
            // SAFETY: the arguments are passed on.
            unsafe { call(instance, sink, |plugin| P::$method(plugin, &mut view)) }
        }
    };
    (@command $hook:ident $method:ident $input:ident $view:ident) => {
        impl<P: crate::$hook> Hooks<P> {
            #[allow(non_upper_case_globals, reason = "named as the trait")]
            const $hook: &'static CommandHook<$input> = &CommandHook {
                ask: AsyncHook {
                    size: size_of_table::<CommandHook<$input>>(),
                    reserved: 0,
                    start: Some($method::<P>),
                },
                list: Some(Self::$method),
            };

            unsafe extern "C" fn $method(
                instance: *const c_void,
                commands: *const CommandSink,
                sink: *const Sink,
            ) -> i32 {
                // SAFETY: the arguments are passed on; the sink is valid during the call.
                unsafe {
                    list::<P>(instance, sink, |plugin| {
                        crate::command::list(&P::commands(plugin), commands)
                    })
                }
            }
        }

        unsafe extern "C" fn $method<P: crate::$hook>(
            instance: *const c_void,
            input: *const $input,
            waker: *const RawWaker,
            sink: *const Sink,
            future: *mut RawFuture,
        ) -> i32 {
            // SAFETY: the host keeps the input until the future is dropped.
            let view = unsafe { crate::$view::new(input) };
            match view.event() {
                command_event::RUN => {
                    let run = |plugin| P::$method(plugin, view);
                    // SAFETY: the arguments are passed on.
                    unsafe { start(instance, waker, sink, future, run) }
                }
                command_event::COMPLETE => {
                    // SAFETY: the arguments are passed on.
                    unsafe {
                        start::<P, Suggestions>(instance, waker, sink, future, |plugin| {
                            Box::pin(async move {
                                P::complete(plugin, view).await.map(Suggestions)
                            })
                        })
                    }
                }
                _ => status::OK,
            }
        }
    };
}

const fn hook_ref<T>(capability: Capability, table: &'static T) -> HookRef {
    HookRef {
        capability: capability as u32,
        version: 1,
        table: std::ptr::from_ref(table).cast(),
    }
}

/// A compile-time error for a name in `hooks: [...]` that is not a hook, which says where
/// it belongs.
macro_rules! not_hooks {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident = $bit:literal, $id:literal, $kind:ident $($gives:literal)?,
            stage $stage:ident, since $since:tt $(, served $served:tt)?;
    )+) => {
        $(not_hooks!(@$kind $name);)+
    };
    (@hook $name:ident) => {};
    (@service $name:ident) => {
        not_hooks!(@refuse $name
            "is a service, not a hook: it belongs in `needs: [...]` or `wants: [...]`");
    };
    (@key $name:ident) => {
        not_hooks!(@refuse $name "is a key of a server, not a hook of a plugin");
    };
    (@planned $name:ident) => {
        not_hooks!(@refuse $name
            "has no trait yet: it belongs in `needs: [...]` or `wants: [...]`, not in `hooks: [...]`");
    };
    (@refuse $name:ident $why:literal) => {
        pub const fn $name<P>() -> HookRef {
            panic!(concat!("`", stringify!($name), "` ", $why))
        }
    };
}

infrarust_plugin_abi::hooks! { [hook_tables] }
