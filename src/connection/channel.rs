//! The BungeeCord channel: backends of a network ask the proxy about its players and
//! servers, send them messages, and move them.
//!
//! A backend sees only its own network: names outside it do not exist for it. As backends
//! expect, a request that cannot be answered gets no answer.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::config::model::ServerConfig;
use crate::forward::{Direction, Listener};
use crate::intercept::{self, By, ChatLine, PlayerHandle};
use crate::limit::Bucket;
use crate::protocol::bungee::{
    self, Answer, Arguments, MESSAGE_BYTES_MAX, Subcommand, Subcommands,
};
use crate::protocol::read::ReadError;
use crate::protocol::text;
use crate::proxy::Proxy;
use crate::proxy::snapshot::{Server, Snapshot};

/// Messages a second of one connection to a backend. Plugins that update their signs send
/// some in a second for each player.
const MESSAGES_PER_SECOND_MAX: u64 = 50;
/// The size of a burst: the messages that would be allowed in this time.
const MESSAGES_WINDOW: Duration = Duration::from_secs(1);

/// The name that stands for all players or servers.
const ALL: &str = "ALL";
/// The name that stands for all servers with players.
const ONLINE: &str = "ONLINE";

/// The channel of one connection to a backend.
#[derive(Debug)]
pub(super) struct Channel {
    proxy: Weak<Proxy>,
    player: Arc<PlayerHandle>,
    server: Arc<Server>,
    network: Option<String>,
    allowed: Subcommands,
    messages: Mutex<Bucket>,
    has_complained: AtomicBool,
}

impl Channel {
    /// The channel of this player's connection to a server; `None` where the server may
    /// not use it.
    pub(super) fn of(
        proxy: &Proxy,
        player: &Arc<PlayerHandle>,
        server: &Arc<Server>,
    ) -> Option<Arc<dyn Listener>> {
        let allowed = proxy.snapshot().proxy.bungeecord?;
        if !uses_channel(&server.config) {
            return None;
        }
        Some(Arc::new(Self {
            proxy: proxy.own(),
            player: Arc::clone(player),
            server: Arc::clone(server),
            network: server.config.network().map(str::to_owned),
            allowed,
            messages: Mutex::new(Bucket::new(
                MESSAGES_PER_SECOND_MAX,
                MESSAGES_WINDOW,
                Instant::now(),
            )),
            has_complained: AtomicBool::new(false),
        }))
    }

    fn answer(&self, subcommand: Subcommand, arguments: Arguments<'_>) -> Result<(), ReadError> {
        let Some(proxy) = self.proxy.upgrade() else {
            return Ok(());
        };
        let snapshot = proxy.snapshot();
        let call = Call {
            channel: self,
            proxy: &proxy,
            snapshot: &snapshot,
            subcommand,
        };
        if let Some(answer) = call.run(arguments)? {
            send(&self.player, &answer.into_data());
        }
        Ok(())
    }

    /// Logs what is wrong with the messages of the backend, once for each connection.
    fn complain(&self, what: &str) {
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            warn!(
                server = self.server.config.id,
                "messages on the BungeeCord channel are ignored: {what}"
            );
        }
    }
}

impl Listener for Channel {
    fn receive(&self, fields: &[u8]) -> bool {
        let Some(data) = bungee::data(self.player.version(), fields) else {
            return false;
        };
        let is_in_time = {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            messages.take(1, Instant::now())
        };
        if !is_in_time {
            self.complain("there are more than 50 in a second");
        } else if data.len() > MESSAGE_BYTES_MAX {
            self.complain("one is too long");
        } else {
            match Arguments::read(data) {
                Ok((Some(subcommand), arguments)) if self.allowed.has(subcommand) => {
                    if self.answer(subcommand, arguments).is_err() {
                        self.complain("one is cut off");
                    }
                }
                Ok((subcommand, _)) => debug!(
                    server = self.server.config.id,
                    subcommand = subcommand.map_or("", Subcommand::name),
                    "a message on the BungeeCord channel is unknown or not allowed"
                ),
                Err(_) => self.complain("one is cut off"),
            }
        }
        true
    }
}

/// Whether a server may use the channel, and gets messages that others forward.
fn uses_channel(config: &ServerConfig) -> bool {
    config
        .intercepted()
        .is_some_and(|intercepted| intercepted.bungeecord_channel)
}

/// Sends data on the channel over the connection of this player.
fn send(carrier: &PlayerHandle, data: &[u8]) {
    let Some(packet) = bungee::packet(carrier.version(), data) else {
        let bytes = data.len();
        debug!(
            bytes,
            "a message on the BungeeCord channel is dropped: it is too long"
        );
        return;
    };
    if carrier.put(Direction::Serverbound, vec![packet]).is_err() {
        debug!("a message on the BungeeCord channel is dropped: too many wait");
    }
}

/// A player is in the game of a server that uses the channel: registers the channel at the
/// backend, and sends it the messages that were forwarded while no player was there.
pub(super) fn open(player: &PlayerHandle, server: &Server, proxy: &Proxy) {
    if proxy.snapshot().proxy.bungeecord.is_none() || !uses_channel(&server.config) {
        return;
    }
    if let Some(registration) = bungee::registration(player.version()) {
        // The backend then does not send on the channel.
        let _ = player.put(Direction::Serverbound, vec![registration]);
    }
    send_forwarded(player, server);
}

/// Sends a server what was forwarded while no player was there.
fn send_forwarded(carrier: &PlayerHandle, server: &Server) {
    for data in server.state.forwarded.take() {
        send(carrier, &data);
    }
}

/// One message.
struct Call<'a> {
    channel: &'a Channel,
    proxy: &'a Proxy,
    snapshot: &'a Snapshot,
    subcommand: Subcommand,
}

impl Call<'_> {
    /// Runs the subcommand. Returns `None` if nothing is answered, for example for unknown names.
    fn run(&self, mut arguments: Arguments<'_>) -> Result<Option<Answer>, ReadError> {
        use Subcommand::{
            Connect, ConnectOther, Forward, ForwardToPlayer, GetPlayerServer, GetServer,
            GetServers, Ip, IpOther, KickPlayer, KickPlayerRaw, Message, MessageRaw, PlayerCount,
            PlayerList, ServerIp, Uuid, UuidOther,
        };
        let arguments = &mut arguments;
        let own = &self.channel.player;
        let answer = Answer::to(self.subcommand);
        let address = |answer: Answer, player: &PlayerHandle| {
            let address = player.address();
            let port = i32::from(address.port());
            answer
                .text(&address.ip().to_canonical().to_string())
                .int(port)
        };
        Ok(match self.subcommand {
            Connect => {
                let target = arguments.text()?;
                own.switch(&target, By::Backend);
                None
            }
            ConnectOther => {
                let (player, target) = (arguments.text()?, arguments.text()?);
                if let Some(player) = self.player(&player) {
                    player.switch(&target, By::Backend);
                }
                None
            }
            Ip => Some(address(answer, own)),
            IpOther => {
                let name = arguments.text()?;
                self.player(&name)
                    .map(|player| address(answer.text(&name), &player))
            }
            PlayerCount => {
                let server = arguments.text()?;
                self.count(&server).map(|count| {
                    let count = i32::try_from(count).unwrap_or(i32::MAX);
                    answer.text(&server).int(count)
                })
            }
            PlayerList => {
                let server = arguments.text()?;
                self.players(&server).map(|players| {
                    let names = players.iter().map(|player| player.name());
                    answer.text(&server).names(names)
                })
            }
            GetServers => {
                let servers = self.members();
                let ids = servers.iter().map(|server| server.config.id.as_str());
                Some(answer.names(ids))
            }
            GetServer => Some(answer.text(&self.channel.server.config.id)),
            GetPlayerServer => {
                let name = arguments.text()?;
                let server = self.player(&name).map(|player| player.server());
                let server = server.as_deref().unwrap_or_default();
                Some(answer.text(&name).text(server))
            }
            Uuid => Some(answer.uuid(self.uuid(own))),
            UuidOther => {
                let name = arguments.text()?;
                self.player(&name)
                    .map(|player| answer.text(&name).uuid(self.uuid(&player)))
            }
            ServerIp => {
                let name = arguments.text()?;
                let address = self
                    .server(&name)
                    .and_then(|server| server.config.addresses.first().cloned());
                address.map(|address| {
                    let host = address.host.to_string();
                    answer.text(&name).text(&host).short(address.port)
                })
            }
            Message | MessageRaw => {
                let (name, text) = (arguments.text()?, arguments.text()?);
                let text = self.component(&text);
                match name.as_str() {
                    ALL => {
                        let mut line = ChatLine::new(&text);
                        let everyone = self.everyone().unwrap_or_default();
                        everyone.iter().for_each(|player| line.send(player));
                    }
                    name => self
                        .player(name)
                        .iter()
                        .for_each(|player| player.send(&text)),
                }
                None
            }
            KickPlayer | KickPlayerRaw => {
                let (name, text) = (arguments.text()?, arguments.text()?);
                if let Some(player) = self.player(&name) {
                    player.kick(self.component(&text));
                }
                None
            }
            Forward => {
                let target = arguments.text()?;
                self.forward(&target, arguments.forwarded()?);
                None
            }
            ForwardToPlayer => {
                let player = arguments.text()?;
                let data = arguments.forwarded()?;
                if let Some(player) = self.player(&player)
                    && let Some(server) = self.server(&player.server())
                    && uses_channel(&server.config)
                {
                    send(&player, data);
                }
                None
            }
        })
    }

    /// The id under which the requesting backend knows this player, or would know the player.
    fn uuid(&self, player: &PlayerHandle) -> [u8; 16] {
        let intercepted = self.channel.server.config.intercepted();
        let forwarding = intercepted.and_then(|intercepted| intercepted.identity.as_ref());
        intercept::uuid_at(forwarding, *player.uuid(), player.name())
    }

    /// A text of the message as a component: JSON for the raw subcommands, otherwise plain
    /// text.
    fn component(&self, text: &str) -> Value {
        match self.subcommand {
            Subcommand::MessageRaw | Subcommand::KickPlayerRaw => {
                text::bounded(text::of_json(text))
            }
            _ => json!({ "text": text }),
        }
    }

    /// Sends data to a server of the network, or to all but the requesting one, each over the
    /// connection of one of its players. A server without players in its game gets the data
    /// later, unless the target is `ONLINE`.
    fn forward(&self, target: &str, data: &[u8]) {
        let own = &self.channel.server.config.id;
        let mut servers = match target {
            ALL | ONLINE => self.members(),
            id => self.server(id).into_iter().collect(),
        };
        servers.retain(|server| {
            let is_meant = server.config.id == target || server.config.id != *own;
            is_meant && uses_channel(&server.config)
        });
        let Some(carriers) = self.carriers(&servers) else {
            return;
        };
        for server in &servers {
            if let Some(carrier) = carriers.get(&*server.config.id) {
                send(carrier, data);
            } else if target != ONLINE {
                server.state.forwarded.put(data);
                // A player who has come meanwhile has not seen it.
                let carriers = self.carriers(std::slice::from_ref(server));
                let carrier = carriers.and_then(|carriers| carriers.into_values().next());
                if let Some(carrier) = carrier {
                    send_forwarded(&carrier, server);
                }
            }
        }
    }

    /// The servers of the network; without a network, the player's server.
    fn members(&self) -> Vec<Arc<Server>> {
        match &self.channel.network {
            Some(network) => self.snapshot.members(network),
            None => vec![Arc::clone(&self.channel.server)],
        }
    }

    fn server(&self, id: &str) -> Option<Arc<Server>> {
        match &self.channel.network {
            Some(network) => self.snapshot.member(network, id),
            None => {
                let own = &self.channel.server;
                (own.config.id == id).then(|| Arc::clone(own))
            }
        }
    }

    /// The scope of the roster with the players on these servers.
    fn scope(&self) -> Cow<'_, str> {
        let Channel {
            network, server, ..
        } = self.channel;
        intercept::scope(network.as_deref(), &server.config.id)
    }

    /// The scope, if its players may be looked at once more: the messages of one server are
    /// limited.
    fn scope_to_visit(&self) -> Option<Cow<'_, str>> {
        let scope = self.scope();
        let players = self.proxy.roster.len_of(&scope);
        if self.channel.server.state.visits.take(players) {
            return Some(scope);
        }
        self.channel
            .complain("too many of them in a second are to or about all players");
        None
    }

    /// The players on these servers, sorted by name.
    fn everyone(&self) -> Option<Vec<Arc<PlayerHandle>>> {
        Some(self.proxy.roster.players_in(&self.scope_to_visit()?))
    }

    /// The player of this name. Upper and lower case do not matter.
    fn player(&self, name: &str) -> Option<Arc<PlayerHandle>> {
        self.proxy.roster.find(&self.scope(), name)
    }

    /// A player in the game of each of these servers, by the id of the server. One who is
    /// still coming does not carry messages: they would be lost with the connection, and a
    /// configuration may take half an hour.
    fn carriers<'a>(
        &self,
        servers: &'a [Arc<Server>],
    ) -> Option<HashMap<&'a str, Arc<PlayerHandle>>> {
        let ids = servers.iter().map(|server| server.config.id.as_str());
        let scope = self.scope_to_visit()?;
        Some(self.proxy.roster.one_on_each(&scope, ids.collect()))
    }

    /// The number of players of a server, or of the network; `None` if it has no such server.
    fn count(&self, server: &str) -> Option<usize> {
        let roster = &self.proxy.roster;
        if server == ALL {
            return Some(roster.count_in(&self.scope_to_visit()?, |_| true));
        }
        self.server(server)?;
        let is_there = |player: &PlayerHandle| player.is_on(server);
        Some(roster.count_in(&self.scope_to_visit()?, is_there))
    }

    /// The players of a server, or of the network; `None` if it has no such server.
    fn players(&self, server: &str) -> Option<Vec<Arc<PlayerHandle>>> {
        if server == ALL {
            return self.everyone();
        }
        self.server(server)?;
        let mut players = self.everyone()?;
        players.retain(|player| player.is_on(server));
        Some(players)
    }
}
