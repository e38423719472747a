//! The traits that a plugin implements: [`Plugin`], and one for each hook.

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use crate::{
    Choice, Command, CommandReply, CommandSpec, Connection, Handshake, Host, Interest, Login,
    Packet, PacketVerdict, Player, Reply, Result, Rewrite, Session, Status, Verdict,
};

/// A plugin: made from its configuration, then called through its hooks.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// The type of the table `[plugins.<id>.config]`. Without settings write
    /// `struct Config {}`: a table cannot be read as `()`.
    ///
    /// It derives [`Deserialize`](serde::Deserialize) with
    /// `#[serde(crate = "infrarust_plugin_api::serde")]`; without the attribute the
    /// derive needs `serde` as a dependency of the plugin ("can't find crate").
    /// With `deny_unknown_fields` a misspelt key is an error.
    type Config: DeserializeOwned;

    /// Makes the instance, once per load or reload, on a thread that may wait
    /// (read a file, open a database). No hook is called before it returns. A
    /// reload, and `infrarust check --deep`, first make and drop an instance in another
    /// process, so that a crash does not end the proxy.
    ///
    /// # Errors
    ///
    /// When the plugin cannot work. Then it is not loaded; on a reload the previous
    /// instance stays in use. [`Error::at`](crate::Error::at) names a place in the
    /// operator's file.
    fn new(config: Self::Config, host: &Host<Self>) -> Result<Self>;
}

/// `connection.decide`: whether to accept a connection.
///
/// - **When**: after the handshake was read, its virtual host was looked up, and filters
///   and the rate limit have accepted the client; also for status pings. In every mode.
///   Called again for the server that `route.select` has chosen, unless the plugin was
///   called for the first server too.
/// - **Thread**: any worker, several calls at once. May wait; must not block.
/// - **Order**: as in the configuration; the first refusal wins.
/// - **Cancellation**: the future is dropped when the deadline is over, when the
///   proxy stops, and when a client that wants to join leaves.
/// - **On failure**: the client is refused, unless `on_failure = "continue"`.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `ConnectionDecide` and does not have it",
    label = "no `ConnectionDecide`",
    note = "write `impl ConnectionDecide for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
#[async_trait]
pub trait ConnectionDecide: Plugin {
    /// Decides.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    async fn connection_decide(&self, connection: Connection<'_>) -> Result<Verdict>;
}

/// `handshake.rewrite`: which host the backend sees.
///
/// - **When**: the server is known and no backend is connected yet; for status pings
///   and for logins, so that both use the same host. In every mode. If the
///   configuration says `from_backend`, [`Handshake::host`] is the host of the first
///   backend.
/// - **Thread**: any worker, several calls at once. Must not wait.
/// - **Order**: as in the configuration; each plugin gets the choice of the previous one.
/// - **Cancellation**: none; the call is short.
/// - **On failure**: the host stays as it was, unless `on_failure = "deny"`.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `HandshakeRewrite` and does not have it",
    label = "no `HandshakeRewrite`",
    note = "write `impl HandshakeRewrite for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
pub trait HandshakeRewrite: Plugin {
    /// Chooses.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    fn handshake_rewrite(&self, handshake: &Handshake<'_>) -> Result<Rewrite>;
}

/// `status.respond`: what a client shows in its server list.
///
/// - **When**: for every ping, once its answer is ready, from a backend, a cache or the
///   proxy itself. In every mode. For pings of clients before 1.7 only if the backend
///   answers newer pings too.
/// - **Thread**: any worker, several calls at once. May wait; must not block.
/// - **Order**: as in the configuration; each plugin gets the answer of the previous one.
/// - **Cancellation**: as for [`ConnectionDecide`].
/// - **On failure**: the answer stays as it was, unless `on_failure = "deny"`.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `StatusRespond` and does not have it",
    label = "no `StatusRespond`",
    note = "write `impl StatusRespond for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
#[async_trait]
pub trait StatusRespond: Plugin {
    /// Answers.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    async fn status_respond(&self, status: Status<'_>) -> Result<Reply>;
}

/// `login.decide`: whether a player may join.
///
/// - **When**: the name is known. In `client_only` the proxy has authenticated the
///   player: the hook is called after `route.select`, and name and UUID are
///   [proved](crate::Login::is_proved). In every other mode it is called after the login
///   start was read and before `route.select`, and both are *claims*. Called again for
///   the server that `route.select` has chosen, unless the plugin was called for the
///   first server too; always if name and UUID are proved only now.
/// - **Thread**: any worker, several calls at once. May wait; must not block.
/// - **Order**: as in the configuration; the first refusal wins.
/// - **Cancellation**: as for [`ConnectionDecide`].
/// - **On failure**: the player is refused, unless `on_failure = "continue"`.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `LoginDecide` and does not have it",
    label = "no `LoginDecide`",
    note = "write `impl LoginDecide for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
#[async_trait]
pub trait LoginDecide: Plugin {
    /// Decides.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict>;
}

/// `route.select`: another server for this login.
///
/// - **When**: every `login.decide` has accepted the player, except in `client_only`,
///   where that hook is called later; name and UUID are *claims*. No place on a server is
///   taken and no backend is connected yet. In every mode. The filter and the hooks of the
///   chosen server are applied afterwards, but not its `route.select`. The player is not
///   counted on any server yet, so logins at the same time get the same counts.
/// - **Thread**: any worker, several calls at once. May wait; must not block.
/// - **Order**: as in the configuration; the first choice wins.
/// - **Cancellation**: as for [`ConnectionDecide`].
/// - **On failure**: the server stays as it was, unless `on_failure = "deny"`.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `RouteSelect` and does not have it",
    label = "no `RouteSelect`",
    note = "write `impl RouteSelect for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
#[async_trait]
pub trait RouteSelect: Plugin {
    /// Chooses.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    async fn route_select(&self, login: Login<'_>) -> Result<Choice>;
}

/// `session.observe`: observe sessions.
///
/// - **When**: a session opens, its backend is connected (in a network also each
///   further one), it closes. Each `Opened` is followed by one `Closed`. In every
///   mode.
/// - **Thread**: any worker, several calls at once; the events of one session
///   one after another. Must not wait.
/// - **Order**: as in the configuration; all plugins are called.
/// - **Cancellation**: none; the call is short.
/// - **On failure**: the session continues; `on_failure` changes nothing.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `SessionObserve` and does not have it",
    label = "no `SessionObserve`",
    note = "write `impl SessionObserve for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
pub trait SessionObserve: Plugin {
    /// Observes an event.
    ///
    /// # Errors
    ///
    /// An error is logged and counted, and has no other effect.
    fn session_observe(&self, session: &Session<'_>) -> Result<()>;
}

/// `player.observe`: observe the players in the game.
///
/// - **When**: the client of a player on a `client_only` or `offline` server has got the
///   packet that begins the game, and again when the player has left the game. Each
///   `Joined` is followed by one `Left`. Between the two, services can be used with the
///   [id](Player::id) of the player, also inside the hook.
/// - **Thread**: any worker, several calls at once; the events of one player one
///   after another. Must not wait: packets of this player wait for the return.
/// - **Order**: as in the configuration; all plugins are called. `Joined` comes after
///   `Connected` of `session.observe`, `Left` before `Closed`.
/// - **Cancellation**: none; the call is short.
/// - **On failure**: the player stays; `on_failure` changes nothing.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `PlayerObserve` and does not have it",
    label = "no `PlayerObserve`",
    note = "write `impl PlayerObserve for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
pub trait PlayerObserve: Plugin {
    /// Observes an event.
    ///
    /// # Errors
    ///
    /// An error is logged and counted, and has no other effect.
    fn player_observe(&self, player: &Player<'_>) -> Result<()>;
}

/// `packet.inspect`: see packets.
///
/// - **When**: a packet of an [interest](Self::interest) of the plugin comes from the
///   client or the backend of a player of a `client_only` or `offline` server, in the
///   game or in the configuration phase (1.20.2 and later). Packets that plugins send are
///   not shown, and neither are those of the login: the proxy answers them itself and has
///   another login with the backend, so that none passes. [`LoginDecide`] has the name and
///   UUID of the login and can refuse it with a text, the service
///   [`IdentityVerified`](crate::capability::IdentityVerified) has the proved profile, and
///   [`PlayerCookie`](crate::capability::PlayerCookie) requests cookies in the game.
/// - **Thread**: a thread that may block. Several calls run at once, but the packets
///   of one player in one direction come one after another. Only that direction of
///   that player waits for the return.
/// - **Order**: as in the configuration, together with [`PacketModify`]: a plugin sees
///   the changes of the plugins before it, and no packet that one of them dropped.
/// - **Cancellation**: after the deadline the direction continues, and the proxy
///   ignores the result of the late call. At most 64 calls of one plugin run at once.
/// - **On failure**: the packet passes, unless `on_failure = "deny"`.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `PacketInspect` and does not have it",
    label = "no `PacketInspect`",
    note = "write `impl PacketInspect for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
pub trait PacketInspect: Plugin {
    /// Which packets the plugin sees. Called once, after `Plugin::new`.
    fn interest(&self) -> Interest;

    /// Reads a packet.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    fn packet_inspect(&self, packet: &Packet<'_>) -> Result<()>;
}

/// `packet.modify`: change or drop packets.
///
/// - **When**, **Thread**, **Order**, **Cancellation**: as for [`PacketInspect`]; packets
///   of the login are not shown either.
///   After one plugin has dropped a packet, no other plugin sees it.
/// - **On failure**: the packet passes, unless `on_failure = "deny"`. Changes of the
///   failed call are discarded.
///
/// For a plugin that changes or drops chat or commands of players, they are unsigned: the
/// proxy does not give the client's chat key to the backend, because a backend that knows
/// the key disconnects the player when a signed line is missing. Other players then see
/// that a line is not signed. Commands that the client signs can be dropped, but not
/// changed.
///
/// A backend of 1.19 to 1.19.2 may refuse players without a key; the proxy then gives the
/// key to it. Only there a signed line cannot be changed, and since 1.19.1 cannot be
/// dropped: [`Packet::can_drop`] and [`Packet::can_change`] are false, [`Packet::set`]
/// returns an error, and if the hook drops the line, the line passes and the hook has failed. With `on_failure = "deny"` the session ends instead.
/// Since 1.19.3 such a backend lets the player in and does not accept chat without a key:
/// it needs `enforce-secure-profile=false`.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `PacketModify` and does not have it",
    label = "no `PacketModify`",
    note = "write `impl PacketModify for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
pub trait PacketModify: Plugin {
    /// Which packets the plugin may change. Called once, after `Plugin::new`.
    fn interest(&self) -> Interest;

    /// Passes or drops a packet. Changes to `packet` reach the receiver if it passes.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    fn packet_modify(&self, packet: &mut Packet<'_>) -> Result<PacketVerdict>;
}

/// `player.command`: commands that players type.
///
/// - **When**: a player sends one of the plugin's commands, or asks for its completion,
///   and may use it, in `client_only` and `offline`. The backend gets neither.
/// - **Thread**: any worker, several calls at once. May wait; must not block.
/// - **Order**: the commands of one player run one after another, in the order in which
///   they were sent; other packets to the backend do not wait for them. Of waiting requests for
///   completions only the latest is answered.
/// - **Cancellation**: the future is dropped when the deadline is over and when the player
///   leaves the server. Tasks that it has started with [`Host::spawn`] go on, and a
///   message to a player who has left returns an error.
/// - **On failure**: the player reads that the command failed; `on_failure` changes nothing.
///
/// A command of the proxy itself (`server`, `glist`, `find`, `send`), one that stops or
/// locks a server (such as `stop`, `op` and `ban`), and one that a plugin before this one
/// has on the same server, is refused with a line in the log. The plugin works without it.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` lists the hook `PlayerCommand` and does not have it",
    label = "no `PlayerCommand`",
    note = "write `impl PlayerCommand for {Self}`, or take it out of `hooks: [...]` in `export_plugin!`"
)]
#[async_trait]
pub trait PlayerCommand: Plugin {
    /// The commands of the plugin. Asked once, when it has been made.
    fn commands(&self) -> Vec<CommandSpec>;

    /// Runs a command.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    async fn player_command(&self, command: Command<'_>) -> Result<CommandReply>;

    /// Suggests what the last word of the [arguments](Command::arguments) can become: at
    /// most 200 words of 1 to 256 characters, without line feeds; what is more is left
    /// out. Without this method there are none.
    ///
    /// # Errors
    ///
    /// An error is a failure of the hook.
    async fn complete(&self, command: Command<'_>) -> Result<Vec<String>> {
        let _ = command;
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use infrarust_plugin_abi::{Hook, OnFailure};

    /// The contracts of the traits and the table of hooks say the same about failures.
    #[test]
    fn contracts_agree_with_the_table() {
        let contracts = include_str!("hook.rs");
        for hook in Hook::ALL {
            let (name, means) = (hook.trait_name(), hook.failure_means());
            let (before, _) = contracts
                .split_once(&format!("pub trait {name}:"))
                .unwrap_or_else(|| panic!("there is no trait `{name}`"));
            let contract = before.rsplit("\n}\n").next().unwrap_or_default();
            let other = match hook.on_failure() {
                OnFailure::Deny => "continue",
                OnFailure::Continue => "deny",
            };
            let unless = format!("**On failure**: {means}, unless `on_failure = \"{other}\"`.");
            let is_said = contract.contains(&unless)
                || means == "nothing" && contract.contains("`on_failure` changes nothing.");
            assert!(is_said, "the contract of `{name}` should say\n{unless}");
        }
    }
}
