//! The hooks of a server: who is asked, in which order, and what a failure means.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use infrarust_plugin_abi::{
    AsyncHook, ClientInput, ConnectionInput, HandshakeInput, LoginInput, Point, SessionInput,
    StatusInput, Str, SyncHook, answer, event, intent, points,
};

use super::ffi::{self, Answer, Failure, FailureKind, HookCall};
use super::generation::Generation;
use super::health::Kind;
use crate::config::model::OnFailure;
use crate::manifest::Hook;
use crate::mode::Mode;
use crate::protocol::handshake::Intent;

/// The longest status answer in characters: the limit of its packet.
const STATUS_CHARS_MAX: usize = 32_767;
const _: () = assert!(Hook::StatusRespond.answer_bytes_max() == STATUS_CHARS_MAX * 4);
/// Read by a player when a plugin that has to agree has failed.
const FAILED_TEXT: &str = "The proxy could not check your connection. Please try again later.";
/// Read by a player when a plugin refuses without a reason.
const REFUSED_TEXT: &str = "You may not join this server.";

/// What every hook is told about a client.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Its true address.
    pub peer: SocketAddr,
    /// The protocol version it has announced; -1 before there were any.
    pub protocol: i32,
    /// What it wants.
    pub intent: Intent,
    /// The cleaned virtual host; may be empty.
    pub virtual_host: &'a str,
    /// The id of the server that it leads to; may be empty.
    pub server: &'a str,
}

impl<'a> Client<'a> {
    /// The same for the border.
    #[inline]
    const fn input(&self) -> ClientInput<'a> {
        ClientInput {
            peer: self.peer,
            protocol: self.protocol,
            intent: intent_number(self.intent),
            host: self.virtual_host,
            server: self.server,
        }
    }
}

/// Who a client claims to be.
#[derive(Debug, Clone, Copy)]
pub struct Player<'a> {
    /// The name.
    pub name: &'a str,
    /// The UUID, where it claims one.
    pub uuid: Option<u128>,
}

/// What has happened to a session.
#[derive(Debug, Clone, Copy)]
pub enum SessionEvent<'a> {
    /// A player has a place on a server.
    Opened,
    /// The backend has taken the connection.
    Connected {
        /// Its address.
        backend: &'a str,
    },
    /// The session is over.
    Closed {
        /// Why, as in the log.
        reason: &'a str,
        /// Bytes from the client to the backend.
        serverbound_bytes: u64,
        /// Bytes from the backend to the client.
        clientbound_bytes: u64,
        /// Time since it opened.
        duration: Duration,
    },
}

/// A session, for plugins that observe it.
#[derive(Debug)]
pub struct Session {
    id: u64,
    /// Which plugins of the set were told that it opened. They are told that it
    /// closed, whatever has become of them, and no others are.
    told: Vec<bool>,
}

impl Session {
    /// A session that nobody was told of; no two have the same number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self {
            id,
            told: Vec::new(),
        }
    }
}

/// A client must not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The plugin that has decided.
    pub plugin: String,
    /// What the player reads; `None`: the connection is closed without a word.
    pub text: Option<String>,
    /// Whether the plugin has failed rather than decided.
    pub is_failure: bool,
}

/// A plugin has chosen another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The plugin.
    pub plugin: String,
    /// The server.
    pub server: String,
}

/// A plugin at one hook.
#[derive(Debug)]
struct Attached<H: Point> {
    generation: Arc<Generation>,
    grants: u64,
    hook: &'static H::Table,
}

// Not derived: the hook is a reference, so `H` need not be cloned.
impl<H: Point> Clone for Attached<H> {
    fn clone(&self) -> Self {
        Self {
            generation: Arc::clone(&self.generation),
            ..*self
        }
    }
}

type HookList<H> = Box<[Attached<H>]>;

macro_rules! hook_set {
    ($($(#[doc = $doc:literal])+ $hook:ident { method: $method:ident, $($row:tt)* })+) => {
        /// The plugins of one server at each hook, in the order of the configuration.
        ///
        /// It never changes; a connection keeps the one it began with. Asking a hook
        /// without plugins is one look at a length.
        #[derive(Debug, Default)]
        pub struct HookSet {
            $($method: HookList<points::$hook>,)+
        }

        impl HookSet {
            fn attach(plugins: &[(&Arc<Generation>, u64)]) -> Self {
                Self {
                    $($method: attached(plugins, |hooks| hooks.$method),)+
                }
            }

            /// Whether a plugin has this hook here.
            #[inline]
            #[must_use]
            pub const fn has(&self, hook: Hook) -> bool {
                match hook {
                    $(Hook::$hook => !self.$method.is_empty(),)+
                }
            }

            /// Whether no plugin has a hook here.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                $(self.$method.is_empty())&&+
            }
        }
    };
}

infrarust_plugin_abi::hooks! { [hook_set] }

/// Those of the plugins that have a hook.
fn attached<H: Point>(
    plugins: &[(&Arc<Generation>, u64)],
    hook: impl Fn(&ffi::Hooks) -> Option<&'static H::Table>,
) -> HookList<H> {
    let attach = |(generation, grants): &(&Arc<Generation>, u64)| {
        let hook = hook(&generation.image.hooks)?;
        Some(Attached {
            generation: Arc::clone(generation),
            grants: *grants,
            hook,
        })
    };
    plugins.iter().filter_map(attach).collect()
}

impl HookSet {
    pub(super) fn new<'a>(plugins: impl Iterator<Item = &'a Arc<Generation>>, mode: Mode) -> Self {
        let plugins: Vec<(&Arc<Generation>, u64)> = plugins
            .map(|plugin| (plugin, plugin.manifest.grants(mode).bits()))
            .collect();
        Self::attach(&plugins)
    }

    /// The gates of these plugins that are not in `before`: for a client that
    /// comes here from there.
    #[must_use]
    pub fn beyond(&self, before: &HookSet) -> HookSet {
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

    /// Asks `connection.decide`. Dropping the future cancels the question.
    ///
    /// # Errors
    ///
    /// The first refusal; the plugins after it are not asked.
    pub async fn connection_decide(&self, client: &Client<'_>) -> Result<(), Refusal> {
        for plugin in &self.connection_decide {
            let mut input = ConnectionInput::new(&client.input());
            input.grants = plugin.grants;
            let answer = plugin.ask(&input).await;
            plugin.verdict(answer)?;
        }
        Ok(())
    }

    /// Asks `handshake.rewrite`: the host that the backend sees, if it is
    /// another than `current`.
    ///
    /// # Errors
    ///
    /// When a plugin has failed whose failure the operator wants to count.
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
            if let Some(host) = plugin.settle(answer)?.flatten() {
                input.current = Str::new(chosen.insert(host));
            }
        }
        Ok(chosen)
    }

    /// Asks `status.respond`: the answer, if it is another than `json`.
    /// Dropping the future cancels the question.
    ///
    /// # Errors
    ///
    /// When a plugin wants the connection closed without an answer, or has
    /// failed and the operator wants that to count.
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
            if let Some(json) = plugin.settle(replaced)?.flatten() {
                chosen = Some(json);
            }
        }
        Ok(chosen)
    }

    /// Asks `login.decide`. Dropping the future cancels the question.
    ///
    /// # Errors
    ///
    /// The first refusal; the plugins after it are not asked.
    pub async fn login_decide(
        &self,
        client: &Client<'_>,
        player: &Player<'_>,
    ) -> Result<(), Refusal> {
        for plugin in &self.login_decide {
            let mut input = LoginInput::new(&client.input(), player.name, player.uuid);
            input.grants = plugin.grants;
            let answer = plugin.ask(&input).await;
            plugin.verdict(answer)?;
        }
        Ok(())
    }

    /// Asks `route.select`: another server, if a plugin has chosen one of
    /// those that `exists` knows. Dropping the future cancels the question.
    ///
    /// # Errors
    ///
    /// When a plugin has failed whose failure the operator wants to count.
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
                        Err(format!("there is no server `{}`", server.escape_debug()))
                    }
                })
            });
            if let Some(server) = plugin.settle(answer)?.flatten() {
                return Ok(Some(Selected {
                    plugin: plugin.id().to_owned(),
                    server,
                }));
            }
        }
        Ok(None)
    }

    /// Tells `session.observe`, beginning with [`SessionEvent::Opened`]. A plugin
    /// that is quarantined is not told that a session opens, nor what comes of
    /// that one; of a session that it was told of it hears the end all the same.
    #[inline]
    pub fn session_observe(
        &self,
        client: &Client<'_>,
        player: &Player<'_>,
        session: &mut Session,
        what: SessionEvent<'_>,
    ) {
        if !self.session_observe.is_empty() {
            self.tell_session(client, player, session, what);
        }
    }

    fn tell_session(
        &self,
        client: &Client<'_>,
        player: &Player<'_>,
        session: &mut Session,
        what: SessionEvent<'_>,
    ) {
        let opened = SessionInput::opened(&client.input(), player.name, session.id);
        let mut input = match what {
            SessionEvent::Opened => {
                let is_told = |plugin: &Attached<_>| !plugin.generation.health.is_quarantined();
                session.told = self.session_observe.iter().map(is_told).collect();
                opened
            }
            SessionEvent::Connected { backend } => opened.connected(backend),
            SessionEvent::Closed {
                reason,
                serverbound_bytes,
                clientbound_bytes,
                duration,
            } => opened.closed(reason, serverbound_bytes, clientbound_bytes, duration),
        };
        let is_over = input.event == event::CLOSED;
        for (plugin, is_told) in self.session_observe.iter().zip(&session.told) {
            if !is_told || (plugin.generation.health.is_quarantined() && !is_over) {
                continue;
            }
            input.grants = plugin.grants;
            if let Err(problem) = plugin.call_anyway(&input) {
                plugin.note(&problem, OnFailure::Continue);
            }
        }
    }
}

/// What a hook has answered; nothing means to go on.
type Answered = Result<Option<Answer>, Trouble>;

/// A failure of a hook, counted as what.
struct Trouble {
    kind: Kind,
    text: String,
}

impl From<Box<Failure>> for Trouble {
    #[cold]
    fn from(failure: Box<Failure>) -> Self {
        let kind = match failure.kind {
            FailureKind::Panic => Kind::Panic,
            FailureKind::BadAnswer => Kind::BadAnswer,
            FailureKind::Error | FailureKind::Config => Kind::Error,
        };
        Self {
            kind,
            text: failure.to_string(),
        }
    }
}

#[cold]
fn quarantined() -> Trouble {
    Trouble {
        kind: Kind::Quarantined,
        text: "it is quarantined and was not asked".to_owned(),
    }
}

#[cold]
fn ended() -> Trouble {
    bad_answer("it has ended".to_owned())
}

fn bad_answer(text: String) -> Trouble {
    Trouble {
        kind: Kind::BadAnswer,
        text,
    }
}

impl<H: Point> Attached<H> {
    fn id(&self) -> &str {
        &self.generation.spec.id
    }

    fn refusal(&self, text: Option<String>, is_failure: bool) -> Refusal {
        Refusal {
            plugin: self.id().to_owned(),
            text,
            is_failure,
        }
    }

    #[inline]
    fn instance(&self) -> Result<&ffi::Instance, Trouble> {
        if self.generation.health.is_quarantined() {
            return Err(quarantined());
        }
        self.instance_anyway()
    }

    /// The instance, also in a quarantine.
    #[inline]
    fn instance_anyway(&self) -> Result<&ffi::Instance, Trouble> {
        self.generation.health.called();
        self.generation.instance().ok_or_else(ended)
    }

    fn note(&self, trouble: &Trouble, on_failure: OnFailure) {
        let consequence = match on_failure {
            OnFailure::Continue => "the connection goes on",
            OnFailure::Deny => "the connection is refused",
        };
        self.generation
            .health
            .failed(H::HOOK.name(), trouble.kind, &trouble.text, consequence);
    }

    /// What a failure means for the connection: nothing (`None`), or its end.
    fn settle<T>(&self, answer: Result<T, Trouble>) -> Result<Option<T>, Refusal> {
        let trouble = match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(trouble) => trouble,
        };
        let on_failure = self.generation.spec.on_failure;
        let on_failure = on_failure.unwrap_or(H::HOOK.on_failure());
        self.note(&trouble, on_failure);
        match on_failure {
            OnFailure::Continue => Ok(None),
            OnFailure::Deny => Err(self.refusal(Some(FAILED_TEXT.to_owned()), true)),
        }
    }

    #[inline]
    fn verdict(&self, answer: Answered) -> Result<(), Refusal> {
        match answer {
            Ok(None) => Ok(()),
            answer => self.judge(answer),
        }
    }

    fn judge(&self, answer: Answered) -> Result<(), Refusal> {
        let answer = answer.and_then(|answer| match answer {
            Some(Answer { code, .. })
                if !matches!(code, answer::PASS | answer::REFUSE | answer::DROP) =>
            {
                Err(unknown_code(code))
            }
            answer => Ok(answer),
        });
        let Some(answer) = self.settle(answer)?.flatten() else {
            return Ok(());
        };
        match answer.code {
            answer::PASS => Ok(()),
            answer::DROP => Err(self.refusal(None, false)),
            _ if answer.text.is_empty() => Err(self.refusal(Some(REFUSED_TEXT.to_owned()), false)),
            _ => Err(self.refusal(Some(answer.text), false)),
        }
    }
}

impl<H: Point> Attached<H> {
    fn call<I>(&self, input: &I) -> Answered
    where
        H: Point<Input = I, Table = SyncHook<I>>,
    {
        self.call_instance(self.instance()?, input)
    }

    fn call_anyway<I>(&self, input: &I) -> Answered
    where
        H: Point<Input = I, Table = SyncHook<I>>,
    {
        self.call_instance(self.instance_anyway()?, input)
    }

    fn call_instance<I>(&self, instance: &ffi::Instance, input: &I) -> Answered
    where
        H: Point<Input = I, Table = SyncHook<I>>,
    {
        let _busy = self.generation.token.hook(H::HOOK.capability());
        let bytes_max = H::HOOK.answer_bytes_max();
        Ok(ffi::call(instance, self.hook, input, bytes_max)?)
    }

    async fn ask<I: Sync>(&self, input: &I) -> Answered
    where
        H: Point<Input = I, Table = AsyncHook<I>>,
    {
        let instance = self.instance()?;
        let token = self.generation.token;
        let mut call = HookCall::new(
            instance,
            self.hook,
            input,
            H::HOOK.answer_bytes_max(),
            token,
            H::HOOK.capability(),
        );
        // Most hooks answer at once, and need no timer.
        if let std::task::Poll::Ready(answer) = poll!(&mut call) {
            return Ok(answer?);
        }
        let deadline = self.generation.deadline;
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                let text = format!(
                    "it did not answer within its deadline of {} ms",
                    deadline.as_millis()
                );
                Err(Trouble {
                    kind: Kind::Overrun,
                    text,
                })
            }
        }
    }
}

fn unknown_code(code: u32) -> Trouble {
    bad_answer(format!(
        "it gave the answer {code}, which this hook does not know"
    ))
}

/// The text that takes the place of another, if the answer says so and the
/// text can.
fn replaced(
    answer: Option<Answer>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<Option<String>, Trouble> {
    let Some(Answer { code, text }) = answer else {
        return Ok(None);
    };
    match code {
        answer::PASS => Ok(None),
        answer::REPLACE => {
            check(&text).map_err(bad_answer)?;
            Ok(Some(text))
        }
        code => Err(unknown_code(code)),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("it chose an empty host".to_owned());
    }
    // Most hosts are plain, and a look at the bytes is all they need.
    if host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    // A zero byte would begin a tail that a backend may trust.
    match host
        .chars()
        .find(|c| c.is_control() || c.is_whitespace() || *c == char::REPLACEMENT_CHARACTER)
    {
        Some(c) => Err(format!("it chose a host with `{}`", c.escape_default())),
        None => Ok(()),
    }
}

fn check_status(json: &str) -> Result<(), String> {
    if json.chars().count() > STATUS_CHARS_MAX {
        return Err(format!(
            "its status answer has more than {STATUS_CHARS_MAX} characters"
        ));
    }
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json)
        .map(|_| ())
        .map_err(|error| format!("its status answer is no JSON object: {error}"))
}

const fn intent_number(intent: Intent) -> u32 {
    match intent {
        Intent::Status => intent::STATUS,
        Intent::Login => intent::LOGIN,
        Intent::Transfer => intent::TRANSFER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every hook of the table is asked somewhere: its method is here.
    #[test]
    fn every_hook_has_its_method() {
        let source = include_str!("dispatch.rs");
        for hook in Hook::ALL {
            let method = format!("fn {}", hook.method());
            let is_there = [format!("pub {method}("), format!("pub async {method}(")];
            assert!(
                is_there.iter().any(|begin| source.contains(begin)),
                "`HookSet` has no method for {hook}"
            );
        }
    }

    /// Hosts that could make a backend believe a stranger are no answers.
    #[test]
    fn hosts_are_checked() {
        assert!(check_host("a.internal").is_ok());
        for bad in ["", "a b", "a\0b", "a\n", "\u{fffd}"] {
            assert!(check_host(bad).is_err(), "{bad:?}");
        }
    }

    /// A status answer is an object of a size that its packet can carry.
    #[test]
    fn status_answers_are_checked() {
        assert!(check_status("{\"description\":\"x\"}").is_ok());
        for bad in ["", "[]", "{", "null", "{} x"] {
            assert!(check_status(bad).is_err(), "{bad:?}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(STATUS_CHARS_MAX));
        assert!(check_status(&long).unwrap_err().contains("32767"));
    }

    /// Without plugins nobody is asked, and nothing is allocated or awaited.
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
        };
        assert!(hooks.is_empty());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let asked = std::pin::pin!(hooks.login_decide(&client, &player));
        assert_eq!(asked.poll(&mut cx), std::task::Poll::Ready(Ok(())));
        assert_eq!(hooks.handshake_rewrite(&client, "a"), Ok(None));
        hooks.session_observe(&client, &player, &mut Session::new(1), SessionEvent::Opened);
    }
}
