//! Calls of hooks: a method for each.
#![allow(unsafe_code, reason = "plugins are C tables")]

use std::ffi::c_void;
use std::time::Duration;

use infrarust_plugin_abi::{
    AsyncHook, Capability, CommandHook, ConnectionInput, HandshakeInput, Hook, OwnedFuture, Point,
    RawFuture, StatusInput, SyncHook, answer, export_waker, points, status,
};

use super::packets::Shown;
use super::wait::block_on;
use super::{Client, Failure, FailureKind, TestHost, outcome};
use crate::export::Exported;
use crate::guard::Collected;
use crate::verdict::Answer;
use crate::{
    Choice, CommandReply, Event, Outgoing, PlayerEvent, PlayerId, Reply, Rewrite, Verdict,
};

/// How long a hook may take in a test. The deadlines of the proxy are shorter.
const HOOK_TIME_MAX: Duration = Duration::from_secs(30);

/// A table of a hook.
pub(super) trait Asked<I> {
    fn ask(&self, hook: Hook, instance: *const c_void, input: &I) -> Result<Answer, Failure>;
}

impl<I: 'static> Asked<I> for CommandHook<I> {
    fn ask(&self, hook: Hook, instance: *const c_void, input: &I) -> Result<Answer, Failure> {
        self.ask.ask(hook, instance, input)
    }
}

impl<I: 'static> Asked<I> for AsyncHook<I> {
    fn ask(&self, hook: Hook, instance: *const c_void, input: &I) -> Result<Answer, Failure> {
        let mut future: Option<OwnedFuture> = None;
        let mut collected = Collected::default();
        let polled = block_on(HOOK_TIME_MAX, |waker| {
            let sink = collected.sink();
            let status = if let Some(future) = &mut future {
                future.poll(waker, Some(&sink))
            } else {
                let mut raw = RawFuture::NONE;
                let waker = export_waker(waker);
                let start = self.start?;
                // SAFETY: the host keeps the instance while a hook runs; the input
                // is borrowed until the future has been dropped below.
                let status = unsafe {
                    start(
                        instance,
                        input,
                        &raw const waker,
                        &raw const sink,
                        &raw mut raw,
                    )
                };
                if status == status::PENDING {
                    // SAFETY: the plugin gives up its ownership of the future.
                    future = unsafe { OwnedFuture::new(raw) };
                }
                status
            };
            (status != status::PENDING).then_some(status)
        });
        drop(future);
        match polled {
            Some(status) => outcome(collected, status),
            None => Err(Failure {
                kind: FailureKind::TooSlow,
                text: format!("`{hook}` did not answer in {} s", HOOK_TIME_MAX.as_secs()),
                span: None,
            }),
        }
    }
}

impl<I: 'static> Asked<I> for SyncHook<I> {
    fn ask(&self, _: Hook, instance: *const c_void, input: &I) -> Result<Answer, Failure> {
        let mut collected = Collected::default();
        let sink = collected.sink();
        let Some(call) = self.call else {
            unreachable!("the macro fills the table")
        };
        // SAFETY: the host keeps the instance while a hook runs; the rest is valid during
        // the call.
        let status = unsafe { call(instance, input, &raw const sink) };
        outcome(collected, status)
    }
}

impl<P: Exported> TestHost<P> {
    /// Calls a hook that the plugin lists.
    pub(super) fn ask<H: Point>(&self, input: &H::Input) -> Result<Answer, Failure>
    where
        H::Table: Asked<H::Input>,
    {
        Self::table::<H>().ask(H::HOOK, self.instance, input)
    }

    /// As [`TestHost::status_respond`], with `json` as the proxy's own answer.
    ///
    /// # Errors
    ///
    /// When the hook fails.
    ///
    /// # Panics
    ///
    /// When the plugin does not list the hook.
    pub fn status_respond_offline(&self, client: &Client, json: &str) -> Result<Reply, Failure> {
        let mut input = StatusInput::new(&client.input(), false, json);
        input.grants = self.grants();
        self.ask::<points::StatusRespond>(&input).map(Reply)
    }
}

/// Makes the method of each hook, by the type of its input. A hook with an input that has
/// no arm here does not compile.
macro_rules! hook_methods {
    ($(
        $(#[doc = $doc:literal])+
        $hook:ident {
            method: $method:ident,
            call: $call:ident,
            input: $input:ident as $view:ident,
            answer: $answer:tt,
            $($rest:tt)*
        }
    )+) => {
        impl<P: Exported> TestHost<P> {
            $(hook_methods! { @$input $hook $method $answer })+
        }
    };
    (@ConnectionInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook []
            pub fn $method(&self, client: &Client) -> Result<$answer, Failure> {
                let mut input = ConnectionInput::new(&client.input());
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@HandshakeInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook [" `host` is what the backend would see."]
            pub fn $method(&self, client: &Client, host: &str) -> Result<$answer, Failure> {
                let mut input = HandshakeInput::new(&client.input(), host);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@StatusInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook [" `json` is the answer of a backend."]
            pub fn $method(&self, client: &Client, json: &str) -> Result<$answer, Failure> {
                let mut input = StatusInput::new(&client.input(), true, json);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@LoginInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook []
            pub fn $method(&self, client: &Client) -> Result<$answer, Failure> {
                let mut input = client.login(Hook::$hook);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@SessionInput $hook:ident $method:ident ()) => {
        hook_methods! { @asks $hook
            [" `what` has happened to the session with the number `id`."]
            pub fn $method(&self, client: &Client, id: u64, what: Event<'_>) -> Result<(), Failure> {
                let mut input = client.session(id, what);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map(|_| ())
            }
        }
    };
    (@PlayerInput $hook:ident $method:ident ()) => {
        hook_methods! { @asks $hook [
            " `what` has happened to the player. From `Joined` to `Left` services can be used"
            " for the player. If the plugin does not list the hook, it is not called."]
            pub fn $method(
                &self,
                client: &Client,
                player: PlayerId,
                what: PlayerEvent<'_>,
            ) -> Result<(), Failure> {
                match what {
                    PlayerEvent::Joined => self.services.join(player, client),
                    PlayerEvent::Left { .. } => self.services.leave(player),
                }
                if self.grants() & Capability::$hook.bit() == 0 {
                    return Ok(());
                }
                let mut input = client.player(player, what);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map(|_| ())
            }
        }
    };
    (@CommandInput $hook:ident $method:ident $answer:tt) => {
        hook_methods! { @asks $hook [
            " `line` is what the player types, with or without the slash. Permissions for the"
            " command are not checked. From the first command on the services reach the player."]
            pub fn $method(
                &self,
                client: &Client,
                player: PlayerId,
                line: &str,
            ) -> Result<$answer, Failure> {
                let mut input = self.command(client, player, line);
                input.grants = self.grants();
                self.ask::<points::$hook>(&input).map($answer)
            }
        }
    };
    (@PacketInput $hook:ident $method:ident ()) => {
        hook_methods! { @asks $hook [
            " `packet` comes by on the connection of the player: a packet of which the plugin"
            " has no interest is not shown. Getters find the values that it was given; its bytes"
            " are not known here, so that [`Packet::fields`](crate::Packet::fields) is empty: see"
            " [`packet_inspect_raw`](Self::packet_inspect_raw)."]
            pub fn $method(
                &self,
                client: &Client,
                player: PlayerId,
                packet: &Outgoing,
            ) -> Result<(), Failure> {
                let mut shown = Shown { packet: packet.clone(), is_changeable: false };
                self.ask_packet::<points::$hook>(client, player, &mut shown).map(|_| ())
            }
        }
    };
    (@PacketInput $hook:ident $method:ident PacketVerdict) => {
        hook_methods! { @asks $hook [
            " The packet as the plugin leaves it, or `None` if the plugin drops it."
            " Otherwise like [`packet_inspect`](Self::packet_inspect)."]
            pub fn $method(
                &self,
                client: &Client,
                player: PlayerId,
                packet: &Outgoing,
            ) -> Result<Option<Outgoing>, Failure> {
                let mut shown = Shown { packet: packet.clone(), is_changeable: true };
                let answer = self.ask_packet::<points::$hook>(client, player, &mut shown)?;
                Ok((answer.code != answer::DROP).then_some(shown.packet))
            }
        }
    };
    (@asks $hook:ident [$($more:literal)*] $($method:tt)+) => {
        #[doc = concat!("Calls the hook [`", stringify!($hook), "`](crate::", stringify!($hook), ").")]
        $(#[doc = $more])*
        ///
        /// # Errors
        ///
        /// When the hook fails.
        ///
        /// # Panics
        ///
        /// When the plugin does not list the hook.
        $($method)+
    };
}

infrarust_plugin_abi::hooks! { [hook_methods] }
