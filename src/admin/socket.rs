//! The control socket, over which commands reach the running proxy.
//!
//! A unix socket that only its owner may use. A client writes one line and reads the
//! answer until the end of the stream: a first line `ok` or `error`, then a text for
//! people. While the answer is not ready, the proxy sends lines `wait` before it.
//! [`Command`] lists the commands; [`ops`] runs them.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::ops::{self, CurrentPlugin, Located, Plugins, Refused, Reloaded};
use crate::apart::{self, Lane, NotDone};
use crate::plugin::{MetricValue, PluginState};
use crate::protocol::uuid::uuid_text;
use crate::proxy::Proxy;
use crate::reload::Request;
use crate::show::Escaped;
use crate::supervise;

/// The longest line of a client in bytes: a command and the id of a plugin.
const LINE_BYTES_MAX: u64 = 256;
/// How long a client may take to write its line.
const LINE_TIME_MAX: Duration = Duration::from_secs(5);
/// The most clients at a time. Only the owner of the proxy can connect.
const CLIENTS_MAX: usize = 8;
/// How long a client waits for an answer, or for the next [`WAIT`] line.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// How often a client gets that line: a reload takes as long as its plugins take.
const WAIT_SIGN: Duration = Duration::from_secs(10);
/// The line that asks a client to keep waiting.
const WAIT: &str = "wait\n";
/// How often a proxy without a control socket tries to open it.
const RETRY: Duration = Duration::from_secs(1);
/// How often a proxy checks that the file at the path is still its own.
const PLACE_CHECK: Duration = Duration::from_secs(5);
/// How long the end of a proxy waits until its file is removed.
const REMOVE_TIME_MAX: Duration = Duration::from_millis(300);
/// The longest answer in bytes (32 MiB): some 200 for each player.
const ANSWER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long a client may take to read its answer. One that does not read would keep its
/// place from others.
const READ_TIME_MAX: Duration = Duration::from_secs(60);

/// A command to a running proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// `plugins`: the state of the plugins.
    Plugins,
    /// `plugins json`: the same as a JSON array.
    PluginsJson,
    /// `players`: who is on which server.
    Players,
    /// `players json`: the same as a JSON array.
    PlayersJson,
    /// `reload [PLUGIN]`: the same as `SIGHUP`; the plugin is loaded again even if
    /// nothing about it has changed.
    Reload(Option<String>),
    /// `resume PLUGIN`: ends the quarantine of a plugin.
    Resume(String),
}

impl Command {
    /// The line that a client writes.
    #[must_use]
    pub(crate) fn to_line(&self) -> String {
        match self {
            Command::Plugins => "plugins\n".to_owned(),
            Command::PluginsJson => "plugins json\n".to_owned(),
            Command::Players => "players\n".to_owned(),
            Command::PlayersJson => "players json\n".to_owned(),
            Command::Reload(None) => "reload\n".to_owned(),
            Command::Reload(Some(id)) => format!("reload {id}\n"),
            Command::Resume(id) => format!("resume {id}\n"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let command = match (words.next()?, words.next()) {
            ("plugins", None) => Command::Plugins,
            ("plugins", Some("json")) => Command::PluginsJson,
            ("players", None) => Command::Players,
            ("players", Some("json")) => Command::PlayersJson,
            ("reload", id) => Command::Reload(id.map(str::to_owned)),
            ("resume", Some(id)) => Command::Resume(id.to_owned()),
            _ => return None,
        };
        words.next().is_none().then_some(command)
    }
}

/// The answer to a command: a text for people either way.
pub(crate) type Answer = Result<String, String>;

/// The control socket of a proxy. Dropping it removes the file, unless another proxy
/// has put its own file there.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// The identity of the file: device and inode.
    file: Option<(u64, u64)>,
}

impl Control {
    /// Listens at `path`, and replaces a socket that an earlier proxy left there.
    ///
    /// # Errors
    ///
    /// When another proxy listens there, or no socket can be made.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        // Under another name first, so that only the owner can ever connect at
        // `path`.
        let own = path.with_extension(format!("{}.tmp", std::process::id()));
        // Short enough for both names, since this is the longer one.
        let short = Short::of(&own)?;
        if is_listened_at(&short.beside(path)) {
            let text = "another proxy listens there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let is_other = |path: &Path| {
            use std::os::unix::fs::FileTypeExt;
            path.symlink_metadata()
                .is_ok_and(|found| !found.file_type().is_socket())
        };
        if is_other(path) {
            let text = "there is a file that is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let _ = std::fs::remove_file(&own);
        let listener = UnixListener::bind(&short.path)?;
        let file = identity(&own);
        let placed = std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&own, path));
        if let Err(error) = placed {
            let _ = std::fs::remove_file(&own);
            return Err(error);
        }
        Ok(Self {
            listener,
            path: path.to_owned(),
            file,
        })
    }

    /// Completes when the file at the path is no longer this socket's. Cancel safe.
    async fn replaced(&self) {
        loop {
            tokio::time::sleep(PLACE_CHECK).await;
            let (path, file) = (self.path.clone(), self.file);
            let is_here = apart::run(move || is_in_place(&path, file));
            // If the check did not end, assume that nothing has changed.
            if let Ok(false) = is_here.await {
                return;
            }
        }
    }

    /// Serves commands until the proxy drains or the file is replaced.
    async fn serve(&self, proxy: &Arc<Proxy>, reloads: &mpsc::Sender<Request>) {
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        let mut replaced = std::pin::pin!(self.replaced());
        let drain = &proxy.shutdown.drain;
        loop {
            let place = tokio::select! {
                () = drain.cancelled() => return,
                () = &mut replaced => return,
                place = Arc::clone(&clients).acquire_owned() => place,
            };
            let stream = loop {
                tokio::select! {
                    () = drain.cancelled() => return,
                    () = &mut replaced => return,
                    accepted = self.listener.accept() => match accepted {
                        Ok((stream, _)) => break stream,
                        Err(error) => {
                            warn!(%error, "the control socket cannot accept");
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    },
                }
            };
            let (proxy, reloads) = (Arc::clone(proxy), reloads.clone());
            let client = async move {
                if let Err(error) = talk(stream, &proxy, &reloads).await {
                    debug!(%error, "a client of the control socket left");
                }
                drop(place);
            };
            tokio::spawn(supervise::logged("a command", client));
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        static REMOVALS: Lane = Lane::new();
        let (path, file) = (self.path.clone(), self.file);
        // This socket still listens during that, so no other proxy replaces the file
        // between the check and the removal.
        let remove = move || {
            if is_in_place(&path, file) {
                let _ = std::fs::remove_file(&path);
            }
        };
        let removed = REMOVALS.within(REMOVE_TIME_MAX, remove.clone());
        // If it took too long, the next proxy replaces the file.
        if let Err(NotDone::NoThread(_)) = removed {
            remove();
        }
    }
}

/// The most bytes of the path in an address of a unix socket: 108 on Linux and 104
/// elsewhere, with a zero byte (unix(7)).
const ADDRESS_BYTES_MAX: usize = 103;

/// A path that is short enough for the address of a unix socket. If the original is
/// too long, this one goes through a descriptor of its folder, which it keeps open.
struct Short {
    path: PathBuf,
    /// The descriptor.
    #[cfg(target_os = "linux")]
    _folder: Option<std::os::fd::OwnedFd>,
}

impl Short {
    #[cfg(target_os = "linux")]
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::fd::AsRawFd;

        use nix::fcntl::{OFlag, open};
        use nix::sys::stat::Mode;
        let (folder, name) = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) if path.as_os_str().len() > ADDRESS_BYTES_MAX => {
                (folder, name)
            }
            _ => {
                let path = path.to_owned();
                return Ok(Self {
                    path,
                    _folder: None,
                });
            }
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(folder, flags, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Self {
            path,
            _folder: Some(folder),
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn of(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        Ok(Self { path })
    }

    /// Another file of the same folder.
    fn beside(&self, other: &Path) -> PathBuf {
        self.path
            .with_file_name(other.file_name().unwrap_or_default())
    }
}

/// Whether a proxy listens there, even if its queue of clients is full.
fn is_listened_at(path: &Path) -> bool {
    let connected = socket2::SockAddr::unix(path).and_then(|address| {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        // Otherwise it would wait while the queue is full.
        socket.set_nonblocking(true)?;
        socket.connect(&address)
    });
    match connected {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Whether the file has been neither removed nor replaced. May block.
fn is_in_place(path: &Path, file: Option<(u64, u64)>) -> bool {
    file.is_some() && identity(path) == file
}

/// What distinguishes two files at the same path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = path.symlink_metadata().ok()?;
    Some((found.dev(), found.ino()))
}

/// Serves commands until the proxy drains, and goes on after a failure of its own. At the
/// drain it closes the socket, so that commands reach a proxy that was started in its place.
/// If the socket cannot be opened, because another proxy still has it, this tries again.
pub(crate) async fn serve(proxy: Arc<Proxy>, reloads: mpsc::Sender<Request>) {
    let serve = || serve_until_drain(&proxy, &reloads);
    supervise::repeated("the control socket", serve).await;
}

async fn serve_until_drain(proxy: &Arc<Proxy>, reloads: &mpsc::Sender<Request>) {
    let drain = &proxy.shutdown.drain;
    let path = proxy.snapshot().proxy.control_socket.clone();
    let mut reported = None;
    while !drain.is_cancelled() {
        let (place, inside) = (path.clone(), tokio::runtime::Handle::current());
        // A disk that does not respond must not delay the reaction to signals.
        let listening = apart::run(move || {
            let _inside = inside.enter();
            Control::listen(&place)
        });
        let listening = tokio::select! {
            () = drain.cancelled() => return,
            listening = listening => listening,
        };
        match listening.unwrap_or_else(|not_done| Err(io::Error::other(not_done))) {
            Ok(control) => {
                if reported.take().is_some() {
                    info!(path = %path.display(), "commands reach this proxy now");
                }
                control.serve(proxy, reloads).await;
            }
            Err(error) => {
                let cure = cure(&error);
                let error = error.to_string();
                if reported.as_ref() != Some(&error) {
                    warn!(
                        path = %path.display(),
                        error,
                        "no control socket: `infrarust plugin reload` and its like cannot reach this proxy; {cure}; it is tried again"
                    );
                }
                reported = Some(error);
            }
        }
        tokio::select! {
            () = drain.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// The help if the control socket cannot be made.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "give each proxy a `control_socket` of its own",
        io::ErrorKind::AlreadyExists => "remove the file, or name another `control_socket`",
        io::ErrorKind::InvalidInput => {
            "the path is too long for a socket: name a shorter `control_socket`, such as \
             \"/run/infrarust/infrarust.sock\""
        }
        _ => {
            "name a `control_socket` in a folder that this user may write to, such as \
             \"/run/infrarust/infrarust.sock\""
        }
    }
}

async fn talk(
    mut stream: UnixStream,
    proxy: &Proxy,
    reloads: &mpsc::Sender<Request>,
) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new((&mut stream).take(LINE_BYTES_MAX));
    timeout(LINE_TIME_MAX, reader.read_line(&mut line)).await??;
    let answer = match Command::parse(&line) {
        Some(command) => {
            let mut running = std::pin::pin!(run(command, proxy, reloads));
            loop {
                tokio::select! {
                    answer = &mut running => break answer,
                    () = tokio::time::sleep(WAIT_SIGN) => {
                        timeout(READ_TIME_MAX, stream.write_all(WAIT.as_bytes())).await??;
                    }
                }
            }
        }
        None => Err("this proxy does not know the command".to_owned()),
    };
    send(stream, &answer).await
}

/// Sends a client its answer, and ends the stream.
async fn send(mut stream: UnixStream, answer: &Answer) -> io::Result<()> {
    let (word, text) = match answer {
        Ok(text) => ("ok", text),
        Err(text) => ("error", text),
    };
    let answer = format!("{word}\n{text}");
    timeout(READ_TIME_MAX, stream.write_all(answer.as_bytes())).await??;
    stream.shutdown().await
}

/// Runs a command and renders its answer as text.
async fn run(command: Command, proxy: &Proxy, reloads: &mpsc::Sender<Request>) -> Answer {
    let done = match command {
        Command::Plugins => Ok(plugins_as_text(&ops::plugins(proxy))),
        Command::PluginsJson => Ok(format!("{}\n", plugins_as_json(&ops::plugins(proxy)))),
        Command::Players => Ok(players_as_text(&ops::players(proxy))),
        Command::PlayersJson => Ok(format!("{}\n", players_as_json(&ops::players(proxy)))),
        Command::Resume(id) => {
            ops::resume(proxy, &id).map(|()| format!("plugin `{id}` is resumed\n"))
        }
        Command::Reload(force) => {
            let reloaded = ops::reload(proxy, reloads, force).await;
            reloaded.map(|reloaded| reloaded_as_text(&reloaded))
        }
    };
    done.map_err(|refused| match refused {
        Refused::Configuration(errors) => {
            format!("refused, what runs goes on unchanged\n\n{errors}\n")
        }
        Refused::NotLoaded(_) => format!("{refused}; see `infrarust plugin list`\n"),
        Refused::NotQuarantined(_) | Refused::NotEnded => format!("{refused}\n"),
    })
}

/// A line for each server with players, and one for each player.
fn players_as_text(players: &[Located]) -> String {
    if players.is_empty() {
        return "nobody is in the game on a server in `client_only` or `offline`\n".to_owned();
    }
    let mut text = String::new();
    for of_server in players.chunk_by(|a, b| a.server == b.server) {
        let Some(first) = of_server.first() else {
            continue;
        };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{}: {}", first.server, of_server.len());
        let _ = match first.player.network() {
            Some(network) => writeln!(text, " (network {network})"),
            None => writeln!(text),
        };
        for Located { player, .. } in of_server {
            let uuid = uuid_text(*player.uuid(), true);
            let _ = writeln!(text, "  {} {uuid}", Escaped(player.name()));
        }
    }
    text
}

fn players_as_json(players: &[Located]) -> serde_json::Value {
    let players = players.iter().map(|Located { server, player }| {
        serde_json::json!({
            "name": player.name(),
            "uuid": uuid_text(*player.uuid(), true),
            "server": &**server,
            "network": player.network(),
            "address": player.address().to_string(),
        })
    });
    players.collect()
}

fn reloaded_as_text(reloaded: &Reloaded) -> String {
    let quarantined = match reloaded {
        Reloaded::Applied(changes) => return changes.to_string(),
        Reloaded::Unchanged { quarantined } => quarantined,
    };
    let mut text = "nothing has changed\n".to_owned();
    for id in quarantined {
        text.push_str(&format!(
            "plugin `{id}` is still quarantined: `infrarust plugin resume {id}` ends that, \
             `infrarust plugin reload {id}` loads it again\n"
        ));
    }
    text
}

/// One line for each plugin in force, followed by one for each of its older
/// generations that connections still hold.
fn plugins_as_text(plugins: &Plugins) -> String {
    let mut text = String::new();
    for CurrentPlugin { state, metrics } in &plugins.current {
        let health = if state.is_quarantined {
            "quarantined"
        } else {
            "active"
        };
        text.push_str(&state_line(state, health));
        for metric in metrics {
            text.push_str(&format!("  {} = {}\n", metric.name, metric.value));
        }
        for old in plugins.replaced.iter().filter(|old| old.id == state.id) {
            text.push_str(&state_line(old, REPLACED));
        }
    }
    let is_current = |id: &str| plugins.current.iter().any(|plugin| plugin.state.id == id);
    for old in plugins.replaced.iter().filter(|old| !is_current(&old.id)) {
        text.push_str(&state_line(old, REPLACED));
    }
    text
}

/// The word for a generation that another one has replaced.
const REPLACED: &str = "replaced, still with players who met it";

fn state_line(state: &PluginState, health: &str) -> String {
    let counts = state.counts;
    format!(
        "{} {}: {health}, generation {}, {} calls, {} errors, {} panics, {} overruns, {} bad answers, {} stalls\n",
        state.id,
        state.manifest.version,
        state.generation,
        counts.calls,
        counts.errors,
        counts.panics,
        counts.overruns,
        counts.bad_answers,
        counts.stalls,
    )
}

/// The plugins as JSON: one element for each generation.
fn plugins_as_json(plugins: &Plugins) -> serde_json::Value {
    let element = |state: &PluginState, metrics: Option<&[MetricValue]>| {
        let values: serde_json::Map<_, _> = metrics
            .unwrap_or_default()
            .iter()
            .map(|metric| (metric.name.clone(), serde_json::json!(metric.value)))
            .collect();
        let failure = state.last_failure.as_ref();
        let failure =
            failure.map(|last| serde_json::json!({ "hook": last.hook, "text": last.text }));
        let counts = state.counts;
        serde_json::json!({
            "id": state.id,
            "version": state.manifest.version.to_string(),
            "generation": state.generation,
            "is_current": metrics.is_some(),
            "is_quarantined": state.is_quarantined,
            "calls": counts.calls,
            "errors": counts.errors,
            "panics": counts.panics,
            "overruns": counts.overruns,
            "bad_answers": counts.bad_answers,
            "stalls": counts.stalls,
            "last_failure": failure,
            "metrics": values,
        })
    };
    let current = plugins.current.iter();
    let current = current.map(|plugin| element(&plugin.state, Some(&plugin.metrics)));
    let replaced = plugins.replaced.iter().map(|state| element(state, None));
    current.chain(replaced).collect()
}

/// Asks the proxy that listens at `path`. Blocks.
///
/// # Errors
///
/// When no proxy listens there, or it does not answer in time.
pub(crate) fn ask(path: &Path, command: &Command) -> io::Result<Answer> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(Short::of(path)?.path)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(command.to_line().as_bytes())?;
    let mut answer = String::new();
    let mut stream = stream.take(ANSWER_BYTES_MAX);
    stream.read_to_string(&mut answer)?;
    if stream.limit() == 0 {
        return Err(io::Error::other("the answer of the proxy is too long"));
    }
    let mut answer = answer.as_str();
    while let Some(rest) = answer.strip_prefix(WAIT) {
        answer = rest;
    }
    match answer.split_once('\n') {
        Some(("ok", text)) => Ok(Ok(text.to_owned())),
        Some(("error", text)) => Ok(Err(text.to_owned())),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the proxy left without an answer",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of each command is parsed to the same command, and other lines are refused.
    #[test]
    fn commands_are_parsed_from_their_lines() {
        for command in [
            Command::Plugins,
            Command::PluginsJson,
            Command::Players,
            Command::PlayersJson,
            Command::Reload(None),
            Command::Reload(Some("a-b".to_owned())),
            Command::Resume("a".to_owned()),
        ] {
            assert_eq!(Command::parse(&command.to_line()), Some(command));
        }
        for bad in [
            "",
            "\n",
            "resume",
            "resume a b",
            "plugins a",
            "stop",
            "reload a b",
        ] {
            assert_eq!(Command::parse(bad), None, "{bad}");
        }
    }

    /// A client that does not read its answer is disconnected, and one that reads it in
    /// pieces gets all of it.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read() {
        let text = "x".repeat(4 * 1024 * 1024);
        let (stream, _unread) = UnixStream::pair().unwrap();
        let error = send(stream, &Ok(text.clone())).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (stream, mut client) = UnixStream::pair().unwrap();
        let (answer, mut read) = (Ok(text), String::new());
        let (sent, received) =
            tokio::join!(send(stream, &answer), client.read_to_string(&mut read));
        assert!(sent.is_ok() && received.is_ok());
        assert_eq!(read.len(), "ok\n".len() + 4 * 1024 * 1024);
    }

    /// A path that is too long for an address is reached through its folder, by
    /// the proxy and by clients.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_long_path_is_reached() {
        let root = tempfile::tempdir().unwrap();
        // At the bound: the path fits, and the other name beside it does not.
        let begin = root.path().join("d").as_os_str().len();
        for length in [ADDRESS_BYTES_MAX - begin - 3, 150] {
            let folder = root.path().join(format!("d{}", "x".repeat(length)));
            std::fs::create_dir(&folder).unwrap();
            let path = folder.join("s");
            let control = Control::listen(&path).unwrap();
            assert!(control.file.is_some() && is_in_place(&path, control.file));
            let second = Control::listen(&path).unwrap_err();
            assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
            // It has checked whether a process listens.
            drop(control.listener.accept().await.unwrap());
            let asked = tokio::task::spawn_blocking(move || ask(&path, &Command::Plugins));
            let (mut stream, _) = control.listener.accept().await.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(&mut stream);
            reader.read_line(&mut line).await.unwrap();
            assert_eq!(line, Command::Plugins.to_line());
            stream.write_all(b"ok\nfine").await.unwrap();
            drop(stream);
            assert_eq!(asked.await.unwrap().unwrap(), Ok("fine".to_owned()));
            drop(control);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        }
    }

    /// An unused socket of an earlier process is replaced. A socket in use, and a file that
    /// is not a socket, are not replaced. Only the owner may connect.
    #[tokio::test]
    async fn the_socket_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("infrarust.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let control = Control::listen(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let second = Control::listen(&path).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(control);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(Control::listen(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
