//! The commands that the proxy has itself.

use std::sync::Arc;

use serde_json::{Value, json};

use super::list::{list, players};
use crate::intercept::{self, By, NotSwitched, PlayerHandle};
use crate::player_text;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Snapshot;

/// The most servers that one answer names. More do not fit a screen.
const SERVERS_MAX: usize = 50;
/// The most players that one line names.
const PLAYERS_MAX: usize = 100;
/// The most suggestions for one word; a client shows ten at a time.
const SUGGESTIONS_MAX: usize = 200;

/// The word for the players of the whole network.
const ALL: &str = "all";
/// The word for the players of the caller's own server.
const CURRENT: &str = "current";

/// A command of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// `/find NAME`: on which server a player is.
    Find,
    /// `/glist [all]`: how many players are where.
    Glist,
    /// `/send WHO SERVER`: brings players to a server.
    Send,
    /// `/server [NAME]`: moves the player to a server.
    Server,
}

/// The player who has sent a command.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) proxy: Arc<Proxy>,
    pub(super) player: Arc<PlayerHandle>,
}

impl Builtin {
    /// All of them, by their names.
    pub(crate) const ALL: [Self; 4] = [Self::Find, Self::Glist, Self::Send, Self::Server];

    /// What a player types behind the slash.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Find => "find",
            Self::Glist => "glist",
            Self::Send => "send",
            Self::Server => "server",
        }
    }

    /// The command of this name, in lower case.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }

    /// Its syntax.
    const fn usage(self) -> &'static str {
        match self {
            Self::Find => "/find <player>",
            Self::Glist => "/glist [all]",
            Self::Send => "/send <player|server|current|all> <server>",
            Self::Server => "/server [name]",
        }
    }

    /// Runs the command. Its output is sent to the player, possibly later.
    pub(super) fn run(self, caller: &Caller, arguments: &str) {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        match (self, &words[..]) {
            (Self::Find, [name]) => caller.say(&caller.find(name)),
            (Self::Glist, []) => caller.list_players(false),
            (Self::Glist, [word]) if word.eq_ignore_ascii_case(ALL) => caller.list_players(true),
            (Self::Send, [who, server]) => caller.send(who, server),
            (Self::Server, []) => caller.list_servers(),
            (Self::Server, [server]) => caller.switch(server),
            _ => caller.say(&json!(player_text::usage(self.usage()))),
        }
    }

    /// The suggestions for the last word of its arguments.
    pub(super) fn complete(self, caller: &Caller, arguments: &str) -> Vec<String> {
        let (before, word) = arguments.rsplit_once(' ').unwrap_or(("", arguments));
        let earlier = before.split_whitespace().count();
        let snapshot = caller.proxy.snapshot();
        let names = || {
            caller
                .everyone()
                .into_iter()
                .map(|player| player.name().to_owned())
        };
        let mut suggestions: Vec<String> = match (self, earlier) {
            (Self::Find, 0) => names().collect(),
            (Self::Glist, 0) => vec![ALL.to_owned()],
            (Self::Send, 0) => [ALL, CURRENT]
                .map(str::to_owned)
                .into_iter()
                .chain(caller.servers(&snapshot))
                .chain(names())
                .collect(),
            (Self::Send, 1) | (Self::Server, 0) => caller.servers(&snapshot),
            _ => Vec::new(),
        };
        suggestions.retain(|suggestion| begins_with(suggestion, word));
        suggestions.sort();
        suggestions.dedup();
        suggestions.truncate(SUGGESTIONS_MAX);
        suggestions
    }
}

impl Caller {
    fn say(&self, text: &Value) {
        self.player.send(text);
    }

    /// The ids of the servers between which the player can move, in the order of
    /// their network; only the player's own server if it has no network.
    fn servers(&self, snapshot: &Snapshot) -> Vec<String> {
        let Some(network) = self.player.network() else {
            return vec![self.player.server().as_ref().to_owned()];
        };
        let members = snapshot.members(network);
        members
            .iter()
            .map(|server| server.config.id.clone())
            .collect()
    }

    /// The players that the command can name: of the network, or of the server if it has
    /// none.
    fn everyone(&self) -> Vec<Arc<PlayerHandle>> {
        let server = self.player.server();
        let scope = intercept::scope(self.player.network(), &server);
        self.proxy.roster.players_in(&scope)
    }

    /// The player of this name among them.
    fn named(&self, name: &str) -> Option<Arc<PlayerHandle>> {
        let server = self.player.server();
        let scope = intercept::scope(self.player.network(), &server);
        self.proxy.roster.find(&scope, name)
    }

    fn list_servers(&self) {
        let own = self.player.server();
        self.say(&json!(player_text::you_are_on(&own)));
        if self.player.network().is_none() {
            self.say(&json!(player_text::NO_NETWORK));
            return;
        }
        let everyone = self.everyone();
        let names = self.servers(&self.proxy.snapshot());
        let servers = names.iter().map(|name| {
            let count = everyone
                .iter()
                .filter(|player| *player.server() == **name)
                .count();
            server_link(name, count, **name == *own)
        });
        let servers = list(servers.collect(), SERVERS_MAX);
        self.say(&json!({ "text": player_text::SERVERS, "extra": [servers] }));
    }

    fn list_players(&self, with_names: bool) {
        let everyone = self.everyone();
        let count = players(everyone.len());
        self.say(&json!(match self.player.network() {
            Some(network) => player_text::players_in(&count, network),
            None => player_text::players_on(&count, &self.player.server()),
        }));
        for server in self
            .servers(&self.proxy.snapshot())
            .iter()
            .take(SERVERS_MAX)
        {
            let there = everyone
                .iter()
                .filter(|player| *player.server() == **server);
            let names: Vec<Value> = there.map(|player| json!(player.name())).collect();
            let mut line = vec![
                json!({ "text": server, "color": "gray" }),
                json!(format!(" ({})", names.len())),
            ];
            if with_names && !names.is_empty() {
                line.push(json!(": "));
                line.push(list(names, PLAYERS_MAX));
            }
            self.say(&json!({ "text": "", "extra": line }));
        }
    }

    fn find(&self, name: &str) -> Value {
        match self.named(name) {
            Some(player) => json!(player_text::is_on(player.name(), &player.server())),
            None => json!(player_text::nobody(name)),
        }
    }

    /// Requests a switch of the player.
    fn switch(&self, server: &str) {
        if self.player.network().is_none() {
            self.say(&json!(player_text::NO_NETWORK));
            return;
        }
        let request = self.player.switch(server, By::Player);
        let (caller, server) = (self.clone(), server.to_owned());
        // A switch takes up to half a minute. One runs at a time: a second
        // request ends at once.
        tokio::spawn(async move {
            let said = match request.outcome().await {
                // The session has sent the reason.
                Ok(()) | Err(NotSwitched::Gone | NotSwitched::Refused { .. }) => return,
                Err(NotSwitched::UnknownServer) => player_text::no_server(&server),
                Err(NotSwitched::AlreadyThere) => player_text::already_on(&server),
                Err(NotSwitched::Busy) => player_text::ALREADY_SWITCHING.to_owned(),
            };
            caller.say(&json!(said));
        });
    }

    /// Requests switches of other players.
    fn send(&self, who: &str, server: &str) {
        if self.player.network().is_none() {
            self.say(&json!(player_text::NO_NETWORK));
            return;
        }
        let servers = self.servers(&self.proxy.snapshot());
        if !servers.iter().any(|name| name == server) {
            self.say(&json!(player_text::no_server(server)));
            return;
        }
        let on = |name: &str| {
            let mut players = self.everyone();
            players.retain(|player| *player.server() == *name);
            players
        };
        let chosen = match who {
            _ if who.eq_ignore_ascii_case(ALL) => self.everyone(),
            _ if who.eq_ignore_ascii_case(CURRENT) => on(&self.player.server()),
            _ => match self.named(who) {
                Some(player) => vec![player],
                None if servers.iter().any(|name| name == who) => on(who),
                None => {
                    self.say(&json!(player_text::nobody(who)));
                    return;
                }
            },
        };
        let by = By::Admin(self.player.name().to_owned());
        let requests = chosen.iter().filter(|player| *player.server() != *server);
        let requests: Vec<_> = requests
            .map(|player| player.switch(server, by.clone()))
            .collect();
        self.say(&json!(player_text::sending(
            &players(requests.len()),
            server
        )));
        let (caller, server) = (self.clone(), server.to_owned());
        tokio::spawn(async move {
            let (mut sent, mut reason) = (0, None);
            let asked = requests.len();
            for request in requests {
                match request.outcome().await {
                    Ok(()) | Err(NotSwitched::AlreadyThere) => sent += 1,
                    Err(NotSwitched::Refused { text }) => reason = Some(text),
                    Err(_) => {}
                }
            }
            if sent == asked {
                caller.say(&json!(player_text::sent(&players(sent), &server)));
                return;
            }
            let text = player_text::sent_of(sent, &players(asked), &server);
            let extra: Vec<Value> = reason
                .into_iter()
                .flat_map(|text| [json!(" "), text])
                .collect();
            caller.say(&match extra.is_empty() {
                true => json!(text),
                false => json!({ "text": text, "extra": extra }),
            });
        });
    }
}

/// Whether a word can become this suggestion.
fn begins_with(suggestion: &str, word: &str) -> bool {
    let begin = suggestion.get(..word.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(word))
}

/// The name of a server and its number of players; a click requests a switch to it.
fn server_link(name: &str, count: usize, is_own: bool) -> Value {
    let text = format!("{name} ({count})");
    if is_own {
        return json!({ "text": text, "color": "green" });
    }
    json!({
        "text": text,
        "color": "gray",
        "click_event": { "action": "run_command", "command": format!("/server {name}") },
        "hover_event": { "action": "show_text", "value": player_text::switch_to(name) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are in order, which completion in old clients relies on, and lead to
    /// their commands.
    #[test]
    fn names_lead_to_commands() {
        for command in Builtin::ALL {
            assert_eq!(Builtin::of(command.name()), Some(command));
            assert!(
                command
                    .usage()
                    .starts_with(&format!("/{} ", command.name()))
            );
        }
        // Plugins cannot register these names.
        assert_eq!(
            Builtin::ALL.map(Builtin::name),
            crate::plugin::commands::OWN
        );
        assert_eq!(Builtin::of("stop"), None);
    }

    /// Words match without letter case, also where characters have several bytes.
    #[test]
    fn words_match_without_case() {
        assert!(begins_with("Lobby", ""));
        assert!(begins_with("Lobby", "lo"));
        assert!(!begins_with("lobby", "lobby2"));
        assert!(!begins_with("é", "e"));
        assert!(begins_with("éa", "é"));
    }
}
