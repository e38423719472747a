//! All texts that the proxy itself shows to players, except defaults of keys.
//! They do not change, since operators search the web for them.

use crate::protocol::packet::Version;

/// The address is kept out by a filter.
pub(crate) const FILTERED: &str = "Your address is not allowed on this server.";
/// The client connects too often.
pub(crate) const RATE_LIMIT: &str = "You are connecting too fast. Wait a moment and try again.";
/// `max_connections` is reached.
pub(crate) const PROXY_FULL: &str = "The proxy is full. Try again in a moment.";
/// No server claims the virtual host.
pub(crate) const UNKNOWN_DOMAIN: &str = "No server is known under this address.";
/// The backend of a `server_only` server does not authenticate.
pub(crate) const NOT_AUTHENTICATED: &str =
    "This server does not verify its players, so the proxy did not let you in.";

/// A plugin that has to agree has failed.
pub(crate) const PLUGIN_FAILED: &str =
    "The proxy could not check your connection. Please try again later.";
/// A plugin refuses without a reason.
pub(crate) const PLUGIN_REFUSED: &str = "You may not join this server.";

/// The player is logged in already.
pub(crate) const DUPLICATE: &str = "You are logged in to this server already.";
/// Another login takes the player's place.
pub(crate) const REPLACED: &str = "You logged in from another place.";
/// The proxy ends while the player is in the game.
pub(crate) const STOPPED: &str = "The proxy is closing.";

/// The client speaks a version before 1.7 to a server of an intercepted mode.
pub(crate) const OLD_VERSION: &str = "This server needs Minecraft 1.7.2 or newer.";
/// Velocity's forwarding cannot be answered by a version before 1.13.
pub(crate) const VERSION_WITHOUT_FORWARDING: &str = "This server needs Minecraft 1.13 or newer.";
/// The client sent something that it may not send.
pub(crate) const CLIENT_FAULT: &str =
    "Your client sent something that the proxy does not understand.";
/// The client did not answer in time.
pub(crate) const CLIENT_TOO_SLOW: &str = "Your client took too long to log in.";
/// The name is too short or too long.
pub(crate) const NAME_LENGTH: &str = "A player's name has 1 to 16 characters.";
/// The name has a character that servers do not accept.
pub(crate) const NAME_CHARACTERS: &str =
    "Your name has a character that this server does not allow.";
/// The answer to the encryption request is wrong.
pub(crate) const ENCRYPTION: &str = "Your client could not encrypt the connection. Try again.";
/// The session service does not confirm the player.
pub(crate) const NOT_JOINED: &str =
    "You are not authenticated with your Minecraft account. Restart the game and try again.";
/// The session service refuses requests.
pub(crate) const SESSION_SERVICE_BUSY: &str =
    "The authentication servers are busy. Try again in a minute.";
/// The session service cannot be used.
pub(crate) const SESSION_SERVICE_DOWN: &str =
    "The authentication servers cannot be reached. Try again later.";
/// The proxy cannot do its part.
pub(crate) const PROXY_FAULT: &str = "The proxy has a problem. Please tell its operator.";
/// The backend wants to authenticate the player itself.
pub(crate) const BACKEND_ONLINE: &str = "This server authenticates players itself, behind a proxy that has done so. Please tell its operator.";
/// The backend does not ask for the signed identity.
pub(crate) const BACKEND_NEVER_ASKED: &str =
    "This server is not set up for the player forwarding of its proxy. Please tell its operator.";
/// The backend negotiates mods in the login, which a player in the game has completed.
pub(crate) const BACKEND_MODS: &str =
    "This server checks your mods while you log in. Join it from the server list.";
/// The backend sent something that it may not send.
pub(crate) const BACKEND_FAULT: &str =
    "This server sent something that the proxy does not understand.";
/// The backend did not bring the player into the game in time.
pub(crate) const BACKEND_TOO_SLOW: &str = "This server took too long to let you in.";

/// A player has lost a server and is on another one of its network now.
pub(crate) fn moved(from: &str, to: &str) -> String {
    format!("The server {from} cannot be reached. You are on {to} now.")
}

/// The same, followed by the text with which that server has kicked the player.
pub(crate) fn moved_because(from: &str, to: &str) -> String {
    format!("You were moved from {from} to {to}: ")
}

/// A server has refused a player of its network, who stays on the current one. The
/// reason follows.
pub(crate) fn not_moved(server: &str) -> String {
    format!("You cannot be moved to {server}: ")
}

/// The server of the player does not belong to a network.
pub(crate) const NO_NETWORK: &str = "This server belongs to no network.";
/// Followed by the names of the servers of a network.
pub(crate) const SERVERS: &str = "Servers: ";
/// A switch of the player runs.
pub(crate) const ALREADY_SWITCHING: &str = "You are on your way to another server already.";

/// A plugin has failed to run its command.
pub(crate) const COMMAND_FAILED: &str = "The command failed. Please tell the operator.";

/// A command is not written as it must be.
pub(crate) fn usage(usage: &str) -> String {
    format!("Usage: {usage}")
}

/// The server of the player who asks.
pub(crate) fn you_are_on(server: &str) -> String {
    format!("You are on {server}.")
}

/// Under the pointer, over the name of a server.
pub(crate) fn switch_to(server: &str) -> String {
    format!("Click to go to {server}")
}

/// The network of the player who asks has no such server.
pub(crate) fn no_server(server: &str) -> String {
    format!("There is no server {server}.")
}

/// The player is on the requested server already.
pub(crate) fn already_on(server: &str) -> String {
    format!("You are on {server} already.")
}

/// How many players are in a network.
pub(crate) fn players_in(players: &str, network: &str) -> String {
    format!("{players} in the network {network}.")
}

/// How many players are on a server without a network.
pub(crate) fn players_on(players: &str, server: &str) -> String {
    format!("{players} on {server}.")
}

/// On which server a player is.
pub(crate) fn is_on(player: &str, server: &str) -> String {
    format!("{player} is on {server}.")
}

/// No player in the game has the name.
pub(crate) fn nobody(name: &str) -> String {
    format!("There is no player {name}.")
}

/// Players were asked to be brought to a server.
pub(crate) fn sending(players: &str, server: &str) -> String {
    format!("Sending {players} to {server}.")
}

/// All of them have come there.
pub(crate) fn sent(players: &str, server: &str) -> String {
    format!("{players} went to {server}.")
}

/// Some of them have come there.
pub(crate) fn sent_of(sent: usize, players: &str, server: &str) -> String {
    format!("{sent} of {players} went to {server}.")
}

/// In the server list: no backend answers, and no MOTD is configured for that.
pub(crate) const STATUS_OFFLINE: &str = "§cThis server is currently unreachable.";
/// In the server list: an unknown domain, and no default MOTD is configured.
pub(crate) const STATUS_UNKNOWN_DOMAIN: &str = "§cNo server is known under this address.";

/// The proxy does not know the client's version.
pub(crate) fn unknown_version() -> String {
    format!(
        "Your game is newer than this proxy. The newest version that it knows is {}.",
        Version::newest().games()
    )
}
