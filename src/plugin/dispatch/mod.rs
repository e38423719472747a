//! The hooks of a server: which plugins are called, in which order, and the effect of
//! their failures.

mod attached;
mod check;
mod commands;
mod packets;
mod subject;

use std::sync::Arc;

use infrarust_plugin_abi::{
    Capability, CapabilityKind, ConnectionInput, HandshakeInput, LoginInput, PlayerInput, Point,
    SessionInput, StatusInput, Str, answer, points,
};

use self::attached::{Attached, HookList, replaced};
use self::check::{check_host, check_status};
pub(crate) use self::commands::{HasFailed, Typed};
pub use self::packets::{AskedPacket, PacketAsker, PacketFate, PacketHooks, PacketPlayer};
pub use self::subject::{Client, Player, PlayerEvent, Refusal, Selected, Session, SessionEvent};
use super::ffi;
use super::generation::Generation;
use super::players::ServiceGrant;
use crate::config::model::OnFailure;
use crate::manifest::Hook;
use crate::mode::Mode;
use crate::show::Quoted;

macro_rules! hook_set {
    ($($(#[doc = $doc:literal])+ $hook:ident { method: $method:ident, $($row:tt)* })+) => {
        /// The plugins of one server at each hook, in the order of the configuration.
        ///
        /// It never changes; a connection keeps the one it began with. Calling a
        /// hook without plugins only checks a length.
        #[derive(Debug, Default)]
        pub struct HookSet {
            $($method: HookList<points::$hook>,)+
            /// Both hooks of packets in the order of the plugins.
            packet_hooks: Arc<PacketHooks>,
            services: Box<[ServiceGrant]>,
        }

        impl HookSet {
            fn attach(plugins: &[(&Arc<Generation>, u64)]) -> Self {
                let mut set = Self {
                    $($method: attached(plugins, |hooks| hooks.$method),)+
                    packet_hooks: Arc::default(),
                    services: service_grants(plugins),
                };
                let hooks = PacketHooks::new(&set.packet_inspect, &set.packet_modify);
                set.packet_hooks = Arc::new(hooks);
                set
            }

            /// Whether a plugin has this hook here.
            #[inline]
            #[must_use]
            pub const fn has(&self, hook: Hook) -> bool {
                match hook {
                    $(Hook::$hook => !self.$method.is_empty(),)+
                }
            }
        }
    };
}

infrarust_plugin_abi::hooks! { [hook_set] }

/// The capabilities that are services, as bits.
const SERVICES: u64 = {
    let mut bits = 0;
    let mut at = 0;
    while at < Capability::ALL.len() {
        if matches!(Capability::ALL[at].kind(), CapabilityKind::Service) {
            bits |= Capability::ALL[at].bit();
        }
        at += 1;
    }
    bits
};

fn service_grants(plugins: &[(&Arc<Generation>, u64)]) -> Box<[ServiceGrant]> {
    let services = plugins.iter().map(|(plugin, bits)| ServiceGrant {
        plugin: plugin.spec.id.as_str().into(),
        bits: bits & SERVICES,
    });
    services.filter(|grant| grant.bits != 0).collect()
}

/// The plugins that have a hook, in order.
fn attached<H: Point>(
    plugins: &[(&Arc<Generation>, u64)],
    hook: impl Fn(&ffi::Hooks) -> Option<&'static H::Table>,
) -> HookList<H> {
    let attach = |(order, (generation, grants)): (usize, &(&Arc<Generation>, u64))| {
        let hook = hook(&generation.image.hooks)?;
        Some(Attached {
            generation: Arc::clone(generation),
            order,
            grants: *grants,
            hook,
        })
    };
    plugins.iter().enumerate().filter_map(attach).collect()
}

impl HookSet {
    pub(super) fn new<'a>(plugins: impl Iterator<Item = &'a Arc<Generation>>, mode: Mode) -> Self {
        let plugins: Vec<(&Arc<Generation>, u64)> = plugins
            .map(|plugin| (plugin, plugin.manifest.grants(mode).bits()))
            .collect();
        let set = Self::attach(&plugins);
        set.report_clashes();
        set
    }

    /// The deciding hooks of the plugins that are not in `before`: for a client that moves to
    /// this server from the one with `before`.
    #[must_use]
    pub fn not_in(&self, before: &HookSet) -> HookSet {
        fn without<H: Point>(list: &HookList<H>, before: &HookList<H>) -> HookList<H> {
            let is_new = |plugin: &&Attached<H>| {
                let same = |other: &Attached<H>| Arc::ptr_eq(&other.generation, &plugin.generation);
                !before.iter().any(same)
            };
            list.iter().filter(is_new).cloned().collect()
        }
        HookSet {
            connection_decide: without(&self.connection_decide, &before.connection_decide),
            login_decide: without(&self.login_decide, &before.login_decide),
            ..HookSet::default()
        }
    }

    /// Calls `connection.decide`. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// The first refusal. The plugins after it are not called.
    pub async fn connection_decide(&self, client: &Client<'_>) -> Result<(), Refusal> {
        for plugin in &self.connection_decide {
            let mut input = ConnectionInput::new(&client.input());
            input.grants = plugin.grants;
            let answer = plugin.ask(&input).await;
            plugin.verdict(answer)?;
        }
        Ok(())
    }

    /// Calls `handshake.rewrite`, and returns the host for the backend, if it is another
    /// than `current`.
    ///
    /// # Errors
    ///
    /// When a plugin has failed and its failure refuses the connection.
    #[inline]
    pub fn handshake_rewrite(
        &self,
        client: &Client<'_>,
        current: &str,
    ) -> Result<Option<String>, Refusal> {
        // Inlined into the connection: without plugins there is no call at all.
        if self.handshake_rewrite.is_empty() {
            return Ok(None);
        }
        self.ask_handshake(client, current)
    }

    fn ask_handshake(&self, client: &Client<'_>, current: &str) -> Result<Option<String>, Refusal> {
        let mut chosen: Option<String> = None;
        let mut input = HandshakeInput::new(&client.input(), current);
        for plugin in &self.handshake_rewrite {
            input.grants = plugin.grants;
            let answer = plugin.call(&input);
            // Most plugins change few hosts.
            if matches!(answer, Ok(None)) {
                continue;
            }
            let answer = answer.and_then(|answer| replaced(answer, check_host));
            if let Some(host) = plugin.apply_failure_policy(answer)?.flatten() {
                input.current = Str::new(chosen.insert(host));
            }
        }
        Ok(chosen)
    }

    /// Calls `status.respond`, and returns the answer, if it is another than `json`.
    /// Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// When a plugin wants the connection closed without an answer, or has
    /// failed and its failure refuses the connection.
    pub async fn status_respond(
        &self,
        client: &Client<'_>,
        is_online: bool,
        json: &str,
    ) -> Result<Option<String>, Refusal> {
        let mut chosen: Option<String> = None;
        for plugin in &self.status_respond {
            let replaced = {
                let current = chosen.as_deref().unwrap_or(json);
                let mut input = StatusInput::new(&client.input(), is_online, current);
                input.grants = plugin.grants;
                let answer = plugin.ask(&input).await;
                if matches!(&answer, Ok(Some(answer)) if answer.code == answer::DROP) {
                    return Err(plugin.refusal(None, false));
                }
                answer.and_then(|answer| replaced(answer, check_status))
            };
            if let Some(json) = plugin.apply_failure_policy(replaced)?.flatten() {
                chosen = Some(json);
            }
        }
        Ok(chosen)
    }

    /// Calls `login.decide`. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// The first refusal. The plugins after it are not called.
    pub async fn login_decide(
        &self,
        client: &Client<'_>,
        player: &Player<'_>,
    ) -> Result<(), Refusal> {
        for plugin in &self.login_decide {
            let mut input =
                LoginInput::new(&client.input(), player.name, player.uuid).proved(player.is_proved);
            input.grants = plugin.grants;
            let answer = plugin.ask(&input).await;
            plugin.verdict(answer)?;
        }
        Ok(())
    }

    /// Calls `route.select`, and returns another server, if a plugin has chosen one that
    /// `exists` knows. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// When a plugin has failed and its failure refuses the connection.
    pub async fn route_select(
        &self,
        client: &Client<'_>,
        player: &Player<'_>,
        exists: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<Option<Selected>, Refusal> {
        for plugin in &self.route_select {
            let mut input = LoginInput::new(&client.input(), player.name, player.uuid);
            input.grants = plugin.grants;
            let answer = plugin.ask(&input).await;
            let answer = answer.and_then(|answer| {
                replaced(answer, |server| {
                    if exists(server) {
                        Ok(())
                    } else {
                        Err(format!("there is no server {}", Quoted(server)))
                    }
                })
            });
            if let Some(server) = plugin.apply_failure_policy(answer)?.flatten() {
                return Ok(Some(Selected {
                    plugin: plugin.id().to_owned(),
                    server,
                }));
            }
        }
        Ok(None)
    }

    /// Calls `session.observe`, beginning with [`SessionEvent::Opened`]. A quarantined plugin
    /// does not get sessions that open during the quarantine, but it gets the end of each
    /// session that it has observed from the beginning.
    #[inline]
    pub fn session_observe(
        &self,
        client: &Client<'_>,
        player: &Player<'_>,
        session: &mut Session,
        what: SessionEvent<'_>,
    ) {
        if !self.session_observe.is_empty() {
            self.observe_session(client, player, session, what);
        }
    }

    fn observe_session(
        &self,
        client: &Client<'_>,
        player: &Player<'_>,
        session: &mut Session,
        what: SessionEvent<'_>,
    ) {
        let opened = SessionInput::opened(&client.input(), player.name, session.id);
        let (moment, mut input) = match what {
            SessionEvent::Opened => (Moment::Beginning, opened),
            SessionEvent::Connected { backend } => (Moment::Between, opened.connected(backend)),
            SessionEvent::Closed {
                reason,
                serverbound_bytes,
                clientbound_bytes,
                duration,
            } => (
                Moment::End,
                opened.closed(reason, serverbound_bytes, clientbound_bytes, duration),
            ),
        };
        observe(&self.session_observe, session, moment, |plugin| {
            input.grants = plugin.grants;
            plugin.call_anyway(&input)
        });
    }

    /// Calls `player.observe`, beginning with [`PlayerEvent::Joined`]. Plugins in a
    /// quarantine are handled as for `session.observe`.
    pub fn player_observe(
        &self,
        client: &Client<'_>,
        player: &Player<'_>,
        session: &mut Session,
        what: PlayerEvent<'_>,
    ) {
        let (name, uuid) = (player.name, player.uuid.unwrap_or_default());
        let joined = PlayerInput::joined(&client.input(), session.id, name, uuid, player.is_proved);
        let (moment, mut input) = match what {
            PlayerEvent::Joined => (Moment::Beginning, joined),
            PlayerEvent::Left { reason } => (Moment::End, joined.left(reason)),
        };
        observe(&self.player_observe, session, moment, |plugin| {
            input.grants = plugin.grants;
            plugin.call_anyway(&input)
        });
    }

    /// The services that each plugin may use for a player of this server.
    pub(crate) fn service_grants(&self) -> &[ServiceGrant] {
        &self.services
    }
}

/// The position of an event among those of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Beginning,
    Between,
    End,
}

/// Calls the plugins that observe a session, or all plugins at its beginning.
fn observe<H: Point>(
    plugins: &HookList<H>,
    session: &mut Session,
    moment: Moment,
    mut call: impl FnMut(&Attached<H>) -> attached::Answered,
) {
    if moment == Moment::Beginning {
        let may_observe = |plugin: &Attached<H>| !plugin.generation.health.is_quarantined();
        session.observers = plugins.iter().map(may_observe).collect();
    }
    for (plugin, observes) in plugins.iter().zip(&session.observers) {
        let is_quarantined = plugin.generation.health.is_quarantined();
        if !observes || (is_quarantined && moment != Moment::End) {
            continue;
        }
        if let Err(problem) = call(plugin) {
            plugin.note(&problem, OnFailure::Continue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::protocol::handshake::Intent;

    /// Without plugins nothing is called, allocated or awaited.
    #[test]
    fn an_empty_set_answers_at_once() {
        let hooks = HookSet::default();
        let client = Client {
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            protocol: 767,
            intent: Intent::Login,
            virtual_host: "a",
            server: "a",
        };
        let player = Player {
            name: "Steve",
            uuid: None,
            is_proved: false,
        };
        assert!(Hook::ALL.iter().all(|hook| !hooks.has(*hook)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let asked = std::pin::pin!(hooks.login_decide(&client, &player));
        assert_eq!(asked.poll(&mut cx), std::task::Poll::Ready(Ok(())));
        assert_eq!(hooks.handshake_rewrite(&client, "a"), Ok(None));
        hooks.session_observe(&client, &player, &mut Session::new(1), SessionEvent::Opened);
    }
}
