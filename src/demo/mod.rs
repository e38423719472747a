//! The demo: shows the main features with an embedded configuration.
//!
//! It starts a backend and a proxy in this process, with three servers in three modes
//! and two plugins that are loaded as dynamic libraries. It sends status pings and logins
//! through each server, shows the packet that a plugin sends to a player, and that the
//! checker refuses this plugin in another mode. Then it keeps the proxy running so that a
//! game client can connect.

mod backend;
mod plugins;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use infrarust_plugin_abi::PacketField;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::backend::{
    Backend, Conversation, FROM_HOST, PAYLOAD_BYTES, PLUGIN_RESPONSE_ID, Seen, TO_HOST, TO_SERVER,
    TRAVELLER, framed, in_the_game, packet,
};
use self::plugins::Libraries;
use crate::config::load::CONFIG_FILE;
use crate::config::model::Config;
use crate::config::{self, LoadOptions, Loaded};
use crate::diagnostic::render::{self, Colour};
use crate::protocol::handshake::{Handshake, HostField, Intent};
use crate::protocol::login::{LoginStart, offline_uuid};
use crate::protocol::packet::login::login_acknowledged;
use crate::protocol::packet::view::{Value, View};
use crate::protocol::packet::{Clientbound, Direction, Serverbound, State, Version};
use crate::protocol::uuid::uuid_text;
use crate::protocol::{frame, status, text, version};
use crate::start::{self, Running};
use crate::{listener, socket};

/// The port that game clients try when an address names none.
const GAME_PORT: u16 = 25565;
/// How long one stage may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of one packet of the demo's traffic.
const PACKET_BYTES_MAX: usize = PAYLOAD_BYTES + 1024;

/// The demo's servers: id, mode, virtual host, and the host that the backend
/// must see.
const SERVERS: [(&str, &str, &str, &str); 3] = [
    ("survival", "passthrough", "survival.demo", "survival.demo"),
    ("lobby", "zero_copy", "lobby.demo", "lobby.internal"),
    ("creative", OFFLINE, "creative.demo", "creative.demo"),
];
/// The mode of the server where the proxy speaks the protocol.
const OFFLINE: &str = "offline";
/// Additional keys of the server in that mode. The demo's client does not read
/// compressed packets.
const OFFLINE_KEYS: &str = "forwarding_mode = \"bungeecord\"\ncompression_threshold = -1\n\
    network = \"demo\"\nbungeecord_channel = true\n";

/// The player's name, and the id that the client claims.
const PLAYER: (&str, [u8; 16]) = ("Demo", [7; 16]);

/// The plugin that rewrites hosts, and its server.
const REWRITER: (&str, &str) = ("domain-rewrite", "lobby");
/// The plugin that sends a packet to players, and its server.
const GREETER: (&str, &str) = ("packet-greeter", "creative");
/// A part of the text that this plugin sends.
const GREETING: &str = "A plugin sends this packet.";

/// The settings of the plugin that rewrites the host of the lobby.
const REWRITE_RULES: &str = r#"rules = [{ from = "*.demo", to = "$1.internal" }]"#;

/// Runs the demo: with `once` it ends after its traffic, otherwise it serves
/// until interrupted.
///
/// # Errors
///
/// When a stage fails.
pub(crate) async fn run(once: bool, out: &mut (impl Write + Send)) -> anyhow::Result<()> {
    let mut backend = Backend::start()
        .await
        .context("the embedded backend cannot be started")?;
    let libraries = if Libraries::SUPPORTED {
        Some(tokio::task::spawn_blocking(Libraries::find).await??)
    } else {
        None
    };
    let folder = Folder::new()?;
    let running = start_proxy(&folder, libraries.as_ref(), backend.address, once).await?;
    let address = running
        .addresses()
        .first()
        .copied()
        .context("the proxy does not listen")?;

    writeln!(out, "infrarust demo\n")?;
    writeln!(
        out,
        "  backend  {}  an embedded Minecraft backend",
        backend.address
    )?;
    writeln!(out, "  proxy    {address}  one port, three servers:\n")?;
    for (id, mode, host, seen) in SERVERS {
        writeln!(
            out,
            "    {id:<9} {mode:<12} {host:<14} → backend sees {seen}"
        )?;
    }
    writeln!(out, "\n{}", plugin_lines(&running))?;

    for (_, mode, host, expected) in SERVERS {
        writeln!(out, "{host} ({mode})")?;
        stage(
            out,
            "status",
            ping(address, host, &mut backend),
            host,
            expected,
        )
        .await?;
        stage(
            out,
            "login ",
            join(address, host, mode, libraries.is_some(), &mut backend),
            host,
            expected,
        )
        .await?;
        writeln!(out)?;
    }
    writeln!(out, "everything arrived, byte for byte\n")?;
    writeln!(out, "one player, two servers of a network")?;
    let travelled = timeout(PATIENCE, travel(address, &mut backend)).await;
    travelled.context("no end within the time of a stage")??;
    writeln!(
        out,
        "  switch  the backend of creative asks on the BungeeCord channel → {TO_SERVER}, \
         without a new connection\n"
    )?;
    if let Some(libraries) = &libraries {
        refuse_packets(&folder, libraries, backend.address, out)?;
    }
    out.flush()?;
    if once {
        running.shutdown().stop_now();
        return Ok(());
    }
    writeln!(
        out,
        "\nadd this address in the game, any version: localhost{}",
        port_suffix(address)
    )?;
    writeln!(
        out,
        "(log in to read what the backend saw; Ctrl-C ends the demo)"
    )?;
    out.flush()?;
    tokio::signal::ctrl_c()
        .await
        .context("no signal can be awaited")?;
    running.shutdown().stop_now();
    Ok(())
}

fn port_suffix(address: SocketAddr) -> String {
    if address.port() == GAME_PORT {
        String::new()
    } else {
        format!(":{}", address.port())
    }
}

/// Runs one stage, checks its result and prints it.
async fn stage(
    out: &mut (impl Write + Send),
    name: &str,
    traffic: impl Future<Output = io::Result<(Traffic, Seen)>>,
    host: &str,
    expected: &str,
) -> anyhow::Result<()> {
    let (traffic, seen) = match timeout(PATIENCE, traffic).await {
        Ok(done) => done.with_context(|| format!("{name} through {host}"))?,
        Err(_) => bail!("{name} through {host}: no end within {PATIENCE:?}"),
    };
    ensure!(
        seen.host == expected,
        "the backend saw `{}` instead of `{expected}`",
        seen.host
    );
    ensure!(
        traffic.intent == seen.intent,
        "the intent changed on its way"
    );
    writeln!(
        out,
        "  {name}  host in {host} → host out {}  {}",
        seen.host, traffic.result
    )?;
    if let Some(greeting) = &traffic.greeting {
        let (plugin, _) = GREETER;
        writeln!(
            out,
            "          plugin {plugin}, packet.inject → the player reads “{greeting}”"
        )?;
    }
    if let Some((sent, heard)) = traffic.relayed {
        // A rewritten host changes the length of the first packet.
        let longer = host.len().abs_diff(expected.len());
        ensure!(
            seen.heard_bytes.abs_diff(sent) == longer,
            "serverbound bytes were lost"
        );
        ensure!(seen.said_bytes == heard, "clientbound bytes were lost");
        writeln!(
            out,
            "          forwarder {}: {} bytes to the backend, {heard} bytes to the client",
            forwarder_of(host),
            seen.heard_bytes
        )?;
    }
    Ok(())
}

/// The name of the relay that is used for a host on this system.
fn forwarder_of(host: &str) -> &'static str {
    use crate::config::model::Relay;
    use crate::forward::{SPLICE_AVAILABLE, resolve};
    let wanted = if host == SERVERS[1].2 {
        Relay::Splice
    } else {
        Relay::Copy
    };
    resolve(wanted, SPLICE_AVAILABLE).0.name()
}

/// What the demo's client sent and received.
struct Traffic {
    intent: Intent,
    result: String,
    /// The text of the packet that a plugin has sent.
    greeting: Option<String>,
    /// The bytes sent and received; `None` if the proxy changed them on the way.
    relayed: Option<(usize, usize)>,
}

async fn open(proxy: SocketAddr, host: &str, intent: Intent) -> io::Result<Conversation> {
    let stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    let mut client = Conversation::new(stream);
    let handshake = Handshake {
        protocol: version::NEWEST,
        host: HostField::parse(host),
        port: proxy.port(),
        intent,
    };
    client.say(&handshake.encode_with_host(host)).await?;
    Ok(client)
}

async fn ping(proxy: SocketAddr, host: &str, backend: &mut Backend) -> io::Result<(Traffic, Seen)> {
    let mut client = open(proxy, host, Intent::Status).await?;
    client.say(&status::request()).await?;
    let (id, body) = client.receive(PACKET_BYTES_MAX).await?;
    let answer = status::parse_response(&frame::Frame {
        id,
        body: &body,
        wire_bytes: 0,
    })
    .map_err(backend::bad)?;
    client.say(&status::ping(42)).await?;
    client.receive(PACKET_BYTES_MAX).await?;
    let shown = text::plain(&answer["description"]);
    let result = format!("“{}”", text::without_codes(&shown));
    Ok((
        Traffic {
            intent: Intent::Status,
            result,
            greeting: None,
            relayed: None,
        },
        seen(backend).await?,
    ))
}

async fn join(
    proxy: SocketAddr,
    host: &str,
    mode: &str,
    has_plugins: bool,
    backend: &mut Backend,
) -> io::Result<(Traffic, Seen)> {
    let mut client = open(proxy, host, Intent::Login).await?;
    let login = LoginStart {
        name: PLAYER.0.to_owned(),
        uuid: Some(PLAYER.1),
    };
    client.say(&login.encode(version::NEWEST)).await?;
    let (_, payload) = client.receive(PACKET_BYTES_MAX).await?;
    let data = &payload[payload.len().saturating_sub(PAYLOAD_BYTES)..];
    client
        .say(&frame::write(PLUGIN_RESPONSE_ID, &[&[1, 1], data].concat()))
        .await?;
    // The login success, the end of the configuration, and the game.
    client.receive(PACKET_BYTES_MAX).await?;
    let acknowledged = login_acknowledged(Version::newest());
    client.say(&framed(&acknowledged)).await?;
    client.receive(PACKET_BYTES_MAX).await?;
    let finished = Serverbound::FinishConfiguration;
    client
        .say(&packet(State::Configuration, finished, &[]))
        .await?;
    client.receive(PACKET_BYTES_MAX).await?;
    let greeting = match mode == OFFLINE && has_plugins {
        true => Some(greeting(&client.receive(PACKET_BYTES_MAX).await?)?),
        false => None,
    };
    client.say(&in_the_game()).await?;
    // The proxy may send packets of its own before.
    let kick = Version::newest().id(State::Play, Clientbound::Disconnect);
    let goodbye = loop {
        let (id, fields) = client.receive(PACKET_BYTES_MAX).await?;
        if Some(id) == kick.map(i32::from) {
            break fields;
        }
    };
    client.end().await?;
    let text = String::from_utf8_lossy(&goodbye);
    if !text.contains("You came through infrarust") {
        return Err(wrong(&format!("the login was not answered: {text}")));
    }
    let seen = seen(backend).await?;
    let (expected, result, relayed) = if mode == OFFLINE {
        let expected = offline_uuid(PLAYER.0);
        let result = format!(
            "joined, with the id {} made from the name",
            uuid_text(expected, true)
        );
        (expected, result, None)
    } else {
        let relayed = Some((client.said_bytes, client.heard_bytes));
        (PLAYER.1, "joined".to_owned(), relayed)
    };
    if seen.uuid != Some(expected) {
        return Err(wrong("the backend got another player id"));
    }
    let traffic = Traffic {
        intent: Intent::Login,
        result,
        greeting,
        relayed,
    };
    Ok((traffic, seen))
}

/// The text of the packet that the plugin sends.
fn greeting((id, fields): &(i32, Vec<u8>)) -> io::Result<String> {
    let view = View::of(
        Version::newest(),
        State::Play,
        Direction::Clientbound,
        *id,
        fields,
    );
    let text = match view.map(|view| view.get(PacketField::Text)) {
        Some(Ok(Some(Value::Text(text)))) => text::without_codes(&text::plain(&text)),
        _ => return Err(wrong("the packet of the plugin has no text")),
    };
    match text.ends_with(GREETING) {
        true => Ok(text),
        false => Err(wrong("another text than that of the plugin arrived")),
    }
}

/// A player joins one server of a network, and its backend asks the proxy to move the
/// player to the other one.
async fn travel(proxy: SocketAddr, backend: &mut Backend) -> io::Result<()> {
    let mut client = open(proxy, FROM_HOST, Intent::Login).await?;
    let login = LoginStart {
        name: TRAVELLER.to_owned(),
        uuid: Some(PLAYER.1),
    };
    client.say(&login.encode(version::NEWEST)).await?;
    client.receive(PACKET_BYTES_MAX).await?;
    let acknowledged = framed(&login_acknowledged(Version::newest()));
    let finished = packet(State::Configuration, Serverbound::FinishConfiguration, &[]);
    let left = packet(State::Play, Serverbound::ConfigurationAcknowledged, &[]);
    let finish = Version::newest().id(State::Configuration, Clientbound::FinishConfiguration);
    let start = Version::newest().id(State::Play, Clientbound::StartConfiguration);
    client.say(&acknowledged).await?;
    for answer in [&finished, &left, &finished] {
        let awaited = if *answer == left { start } else { finish };
        while Some(client.receive(PACKET_BYTES_MAX).await?.0) != awaited.map(i32::from) {}
        client.say(answer).await?;
    }
    let mut text = String::new();
    while !text.contains(TO_HOST) {
        let (_, body) = client.receive(PACKET_BYTES_MAX).await?;
        text = String::from_utf8_lossy(&body).into_owned();
    }
    client.end().await?;
    let hosts = [seen(backend).await?.host, seen(backend).await?.host];
    if hosts != [FROM_HOST, TO_HOST] {
        return Err(wrong("the backend saw other servers"));
    }
    Ok(())
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn seen(backend: &mut Backend) -> io::Result<Seen> {
    backend
        .seen
        .recv()
        .await
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A line for each loaded plugin.
fn plugin_lines(running: &Running) -> String {
    let manifests = running.proxy().plugins.manifests();
    let lines = [REWRITER, GREETER].into_iter().filter_map(|(id, server)| {
        let manifest = manifests.get(id)?;
        let (version, hooks) = (&manifest.version, manifest.hooks);
        Some(format!(
            "  plugin   {id} {version}, a dynamic library with the hook {hooks}, on {server}\n"
        ))
    });
    lines.collect()
}

/// Starts the proxy, configured from files like any other.
async fn start_proxy(
    folder: &Folder,
    libraries: Option<&Libraries>,
    backend: SocketAddr,
    once: bool,
) -> anyhow::Result<Running> {
    let port = if once { 0 } else { GAME_PORT };
    let start = async |port| listen(config_for(folder, libraries, backend, port)?).await;
    match start(port).await {
        // The port is in use, so another one is used.
        Err(_) if !once => start(0).await,
        started => started,
    }
}

async fn listen(config: Config) -> anyhow::Result<Running> {
    let listeners = listener::open(&config.proxy)?;
    Ok(start::start(config, listeners, socket::raise_open_files()).await?)
}

fn config_for(
    folder: &Folder,
    libraries: Option<&Libraries>,
    backend: SocketAddr,
    port: u16,
) -> anyhow::Result<Config> {
    let plugins = libraries.map(|libraries| {
        let table = |(id, server): (&str, &str), path: &Path| {
            format!("[plugins.{id}]\npath = {path:?}\nservers = [\"{server}\"]\n\n")
        };
        let rewriter = table(REWRITER, &libraries.domain_rewrite);
        let greeter = table(GREETER, &libraries.packet_greeter);
        let (id, _) = REWRITER;
        format!("{rewriter}[plugins.{id}.config]\n{REWRITE_RULES}\n\n{greeter}")
    });
    let loaded = folder.load(plugins.as_deref(), backend, port, None)?;
    let problems = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    loaded
        .config
        .with_context(|| format!("the demo's own configuration is wrong:\n{problems}"))
}

/// Shows the checker's errors for a plugin and a key that need more than the mode of
/// the lobby offers, and that another mode offers it.
fn refuse_packets(
    folder: &Folder,
    libraries: &Libraries,
    backend: SocketAddr,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (lobby, lobby_mode, ..) = SERVERS[1];
    let (creative, creative_mode, ..) = SERVERS[2];
    writeln!(
        out,
        "the plugin that sends packets, and a network, on a {lobby_mode} server:\n"
    )?;
    let library = libraries.packet_greeter.file_name().unwrap_or_default();
    std::fs::copy(&libraries.packet_greeter, folder.path.join(library))?;
    let load = |id: &str| {
        let plugins =
            format!("[plugins.packet-greeter]\npath = {library:?}\nservers = [\"{id}\"]\n");
        folder.load(Some(&plugins), backend, 0, Some(id))
    };
    let loaded = load(lobby)?;
    ensure!(
        loaded.config.is_none(),
        "the checker let the packet-injecting plugin pass"
    );
    let text = render::to_text(&loaded.diagnostics, &loaded.sources, Colour::Never);
    let shown = text.replace(&format!("{}/", folder.path.display()), "");
    for line in shown.trim_end().lines() {
        writeln!(out, "{}", format!("  {line}").trim_end())?;
    }
    writeln!(out, "\nrefused before any player met it")?;
    ensure!(
        load(creative)?.config.is_some(),
        "the checker refused what the mode of `{creative}` offers"
    );
    writeln!(
        out,
        "on {creative}, in {creative_mode}, the checker takes both"
    )?;
    Ok(())
}

/// A folder with the demo's configuration, removed on drop.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> io::Result<Self> {
        let name = format!("infrarust-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("servers"))?;
        Ok(Self { path })
    }

    /// Writes the files and loads them, as `infrarust run` would. Without a
    /// plugin the configuration rewrites the host. The server `networked` gets a network
    /// (those in `offline` mode have one).
    fn load(
        &self,
        plugins: Option<&str>,
        backend: SocketAddr,
        port: u16,
        networked: Option<&str>,
    ) -> io::Result<Loaded> {
        let global = self.path.join(CONFIG_FILE);
        let text = plugins.unwrap_or_default();
        // Players read the text of a kick, and are not moved to another server.
        let channel = "[plugin_messaging]\nbungeecord = true\n\n\
            [networks.demo]\non_backend_loss = \"kick\"\n";
        let bind = format!("bind = \"127.0.0.1:{port}\"\n");
        std::fs::write(&global, format!("{bind}\n{channel}\n{text}"))?;
        let other = format!(
            "addresses = [\"{backend}\"]\nproxy_mode = \"{OFFLINE}\"\n{OFFLINE_KEYS}\
             domain_rewrite = {{ explicit = \"{TO_HOST}\" }}\n"
        );
        let servers = self.path.join("servers");
        std::fs::write(servers.join(format!("{TO_SERVER}.toml")), other)?;
        for (id, mode, host, seen) in SERVERS {
            // A game client that connects to `localhost` gets the lobby.
            let more = if id == "lobby" {
                ", \"localhost\", \"*\""
            } else {
                ""
            };
            let mut text = format!(
                "domains = [\"{host}\"{more}]\naddresses = [\"{backend}\"]\nproxy_mode = \"{mode}\"\n"
            );
            if mode == OFFLINE {
                text.push_str(OFFLINE_KEYS);
            } else if networked == Some(id) {
                text.push_str("network = \"main\"\n");
            }
            if plugins.is_none() && seen != host {
                text.push_str(&format!("domain_rewrite = {{ explicit = \"{seen}\" }}\n"));
            }
            std::fs::write(self.path.join("servers").join(format!("{id}.toml")), text)?;
        }
        Ok(config::load(&LoadOptions {
            config: Some(global),
            ..LoadOptions::default()
        }))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
