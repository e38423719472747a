//! `allowlist`: lets in only the players of a list.
//!
//! ```toml
//! [plugins.allowlist.config]
//! names = ["Steve"]
//! uuids = ["8667ba71-b85a-4004-af54-457a9734eed7"]
//! networks = ["10.0.0.0/8"]
//! file = "allowed.txt"
//! message = "You are not on the list."
//! ```
//!
//! One matching entry is enough. `file` is relative to the plugin's data folder, has
//! one name, UUID or network on each line, and `#` begins a comment. The plugin reads
//! the file again when it has changed and then stays the same for two seconds. While
//! the file has an error or cannot be read, the plugin keeps the last list. A separate
//! thread reads the file, so a slow disk does not delay players.
//!
//! In the forwarding modes the client only *claims* its name and UUID: a player who
//! knows a listed name gets in. If that matters, the backend has to authenticate its
//! players.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use infrarust_plugin_api::prelude::*;
use ipnet::IpNet;

/// How often the thread checks whether the file has changed.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// The largest file in bytes. It has room for 60,000 names.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long a read of the file may take before the plugin logs a warning. At the
/// start it is an error, and the plugin does not start.
const READ_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the end of the plugin waits for the reading thread. The thread ends at
/// once, unless it waits for a disk that does not answer.
const END_TIME_MAX: Duration = Duration::from_secs(1);
/// The longest name of a player, as in the protocol.
const NAME_CHARS_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    #[serde(default)]
    names: Vec<Spanned<String>>,
    #[serde(default)]
    uuids: Vec<Spanned<String>>,
    #[serde(default)]
    networks: Vec<Spanned<String>>,
    file: Option<Spanned<PathBuf>>,
    #[serde(default = "message")]
    message: String,
}

fn message() -> String {
    "You are not on the list of this server.".to_owned()
}

#[derive(Default)]
struct List {
    /// In lower case, because names of players do not differ in case alone.
    names: HashSet<String>,
    uuids: HashSet<u128>,
    networks: Vec<IpNet>,
}

impl List {
    fn has(&self, login: &Login<'_>) -> bool {
        let ip = login.peer().ip();
        self.names.contains(&login.name().to_ascii_lowercase())
            || login.uuid().is_some_and(|uuid| self.uuids.contains(&uuid))
            || self.networks.iter().any(|network| network.contains(&ip))
    }

    fn add(&mut self, entry: &str) -> Result<()> {
        if let Some(uuid) = uuid(entry) {
            self.uuids.insert(uuid);
        } else if let Some(network) = network(entry) {
            self.networks.push(network);
        } else if is_name(entry) {
            self.names.insert(entry.to_ascii_lowercase());
        } else {
            return Err(Error::msg(format!(
                "`{entry}` is not a name, a UUID or a network"
            )));
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// 32 hexadecimal digits, with or without dashes.
fn uuid(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_uuid
        .then(|| u128::from_str_radix(&digits, 16).ok())
        .flatten()
}

/// A network, or a single address.
fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

struct Allowlist {
    fixed: List,
    file: Option<Followed>,
    message: String,
}

impl Plugin for Allowlist {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let mut fixed = List::default();
        for name in &config.names {
            if !is_name(name.get_ref()) {
                return Err(Error::at(
                    name.span(),
                    "a name is 1 to 16 letters, digits and `_`",
                ));
            }
            fixed.names.insert(name.get_ref().to_ascii_lowercase());
        }
        for text in &config.uuids {
            let uuid = uuid(text.get_ref());
            fixed
                .uuids
                .insert(uuid.ok_or_else(|| Error::at(text.span(), "that is not a UUID"))?);
        }
        for text in &config.networks {
            let network = network(text.get_ref());
            let bad = || Error::at(text.span(), "that is not a network, such as `10.0.0.0/8`");
            fixed.networks.push(network.ok_or_else(bad)?);
        }
        let file = config.file.map(|file| follow(&file, host)).transpose()?;
        Ok(Self {
            fixed,
            file,
            message: config.message,
        })
    }
}

#[async_trait]
impl LoginDecide for Allowlist {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        let in_file = |file: &Followed| {
            let list = file.shared.list.read();
            list.unwrap_or_else(PoisonError::into_inner).has(&login)
        };
        if self.fixed.has(&login) || self.file.as_ref().is_some_and(in_file) {
            return Ok(Verdict::allow());
        }
        tracing::info!(name = login.name(), peer = %login.peer(), "not on the list");
        Ok(Verdict::refuse(self.message.clone()))
    }
}

/// The list of a file, with the thread that reads it.
struct Followed {
    shared: Arc<Shared>,
    /// The thread ends when this sender is dropped.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    ended: Mutex<Receiver<()>>,
}

/// The state that the reading thread and the hooks share. No lock is held during I/O.
#[derive(Default)]
struct Shared {
    list: RwLock<List>,
    /// The result of the last read, until [`take_news`] takes it.
    news: Mutex<Option<Result<List>>>,
    /// When the current read of the file began.
    reading: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.stop = None;
        // A thread that waits for the disk cannot be stopped, so it is not joined.
        let is_ended = lock(&self.ended).recv_timeout(END_TIME_MAX);
        if let (Err(RecvTimeoutError::Disconnected), Some(thread)) = (is_ended, self.thread.take())
        {
            let _ = thread.join();
        }
    }
}

/// Reads the file now, and again each time that it has changed.
fn follow(file: &Spanned<PathBuf>, host: &Host<Allowlist>) -> Result<Followed> {
    let path = host.data_folder()?.join(file.get_ref());
    let at = |error: Error| Error::at(file.span(), format!("`{}`: {error}", path.display()));
    let shared = Arc::new(Shared::default());
    let (stop, stopped) = channel();
    let (first, was_first) = channel();
    let (alive, ended) = channel();
    let (mut watched, of_thread) = (Watched::new(&path), Arc::clone(&shared));
    let read = move || {
        let _alive = alive;
        // `follow` may have returned because of `READ_TIME_MAX`.
        let _ = first.send(watched.first());
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_PERIOD) {
            *lock(&of_thread.reading) = Some(Instant::now());
            let news = watched.look();
            *lock(&of_thread.reading) = None;
            if news.is_some() {
                *lock(&of_thread.news) = news;
            }
        }
    };
    let thread = thread::Builder::new()
        .name("allowlist".to_owned())
        .spawn(read);
    let followed = Followed {
        shared: Arc::clone(&shared),
        stop: Some(stop),
        thread: Some(thread.map_err(|error| at(error.into()))?),
        ended: Mutex::new(ended),
    };
    let list = was_first.recv_timeout(READ_TIME_MAX).map_err(|_| {
        let seconds = READ_TIME_MAX.as_secs();
        at(Error::msg(format!("it is not read within {seconds} s")))
    })?;
    *shared.list.write().unwrap_or_else(PoisonError::into_inner) = list.map_err(at)?;
    let mut is_overdue = false;
    host.every(LOOK_PERIOD, move || {
        take_news(&path, &shared, &mut is_overdue);
        std::future::ready(())
    })?;
    Ok(followed)
}

/// Takes the result of the last read: uses its list, or logs its error. Also logs when
/// a read takes too long.
fn take_news(path: &Path, shared: &Shared, is_overdue: &mut bool) {
    let file = path.display();
    let reading = *lock(&shared.reading);
    let was_overdue = std::mem::replace(
        is_overdue,
        reading.is_some_and(|since| since.elapsed() > READ_TIME_MAX),
    );
    match (was_overdue, *is_overdue) {
        (false, true) => tracing::warn!(
            %file,
            "the file does not answer; the list before stays in force"
        ),
        (true, false) => tracing::info!(%file, "the file answers again"),
        _ => {}
    }
    match lock(&shared.news).take() {
        None => {}
        Some(Ok(new)) => {
            *shared.list.write().unwrap_or_else(PoisonError::into_inner) = new;
            tracing::info!(%file, "the list was read again");
        }
        Some(Err(error)) => {
            tracing::warn!(%file, %error, "the list before stays in force");
        }
    }
}

/// The metadata by which a change of a file is seen. A copying tool can keep the size
/// and the time of writing, but not the inode and the time of change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

fn stamp(path: &Path) -> Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Error::msg("it is not a regular file"));
    }
    Ok(Stamp {
        file: (metadata.dev(), metadata.ino()),
        bytes: metadata.len(),
        written: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// A file that is checked for changes.
struct Watched {
    path: PathBuf,
    /// The file when it was last read.
    read: Option<Stamp>,
    /// The file at the last check.
    seen: Option<Stamp>,
    /// Whether the missing file has been reported.
    is_gone: bool,
}

impl Watched {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: None,
            seen: None,
            is_gone: false,
        }
    }

    /// Reads the file for the first time.
    fn first(&mut self) -> Result<List> {
        self.read = Some(stamp(&self.path)?);
        self.seen = self.read;
        read(&self.path)
    }

    /// Reads the file if it has changed since the last read but not since the last
    /// check: a file that changes between two checks is still being written.
    fn look(&mut self) -> Option<Result<List>> {
        let now = match stamp(&self.path) {
            Ok(now) => {
                self.is_gone = false;
                Some(now)
            }
            // An editor may be replacing the file, so one failed check is ignored.
            Err(_) if self.seen.take().is_some() || self.is_gone => return None,
            // Reported once, until the file is there again.
            Err(error) => {
                self.is_gone = true;
                return Some(Err(error));
            }
        };
        let seen = std::mem::replace(&mut self.seen, now);
        if now == self.read || now != seen {
            return None;
        }
        let list = read(&self.path);
        if stamp(&self.path).ok() != now {
            return None;
        }
        self.read = now;
        Some(list)
    }
}

fn read(path: &Path) -> Result<List> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::msg(format!(
            "it is larger than the {FILE_BYTES_MAX} bytes that are read"
        )));
    }
    let mut list = List::default();
    for (number, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if !entry.is_empty() {
            list.add(entry)
                .map_err(|error| Error::msg(format!("line {}: {error}", number + 1)))?;
        }
    }
    Ok(list)
}

export_plugin! { plugin: Allowlist, name: "allowlist", hooks: [LoginDecide] }

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, Setup, TestHost};

    /// A player gets in by name (in any case), UUID or network. Others read the message.
    #[test]
    fn one_entry_is_enough() {
        let plugin = TestHost::<Allowlist>::start(
            "names = ['Steve']\nuuids = ['8667ba71-b85a-4004-af54-457a9734eed7']\n\
             networks = ['10.0.0.0/8', '2001:db8::1']\nmessage = 'no'",
        )
        .unwrap();
        let ask = |client: &Client| plugin.login_decide(client).unwrap();
        let eve = Client::new().name("Eve");
        assert_eq!(ask(&Client::new().name("sTEVE")), Verdict::allow());
        assert_eq!(ask(&eve), Verdict::refuse("no"));
        let uuid = 0x8667_ba71_b85a_4004_af54_457a_9734_eed7_u128;
        assert_eq!(ask(&eve.clone().uuid(uuid)), Verdict::allow());
        assert_eq!(ask(&eve.clone().uuid(uuid + 1)), Verdict::refuse("no"));
        assert_eq!(ask(&eve.clone().peer(([10, 1, 2, 3], 1))), Verdict::allow());
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(ask(&eve.peer((v6, 1))), Verdict::allow());
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        for (config, place) in [
            ("names = ['a b']", "'a b'"),
            ("uuids = ['1']", "'1'"),
            ("networks = ['10.0.0.0/33']", "'10.0.0.0/33'"),
        ] {
            let failure = TestHost::<Allowlist>::start(config).unwrap_err();
            assert_eq!(&config[failure.span.unwrap()], place);
        }
    }

    /// The plugin reads the file at its start and after a change. A file with an error
    /// does not change the list.
    #[test]
    fn the_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allowed.txt");
        let start = || {
            Setup::new()
                .data_folder(folder.path())
                .start::<Allowlist>("file = 'allowed.txt'")
        };
        assert!(start().unwrap_err().span.is_some());
        std::fs::write(&path, "# friends\nAlex\n10.0.0.0/8 # home\n").unwrap();
        let plugin = start().unwrap();
        let alex = plugin.login_decide(&Client::new().name("alex")).unwrap();
        assert_eq!(alex, Verdict::allow());
        assert_ne!(
            plugin.login_decide(&Client::new()).unwrap(),
            Verdict::allow()
        );

        let mut watched = Watched::new(&path);
        let shared = Shared::default();
        *shared.list.write().unwrap() = watched.first().unwrap();
        let mut look = || {
            // The first check sees the change, the second that the file stays the same.
            assert!(watched.look().is_none());
            *lock(&shared.news) = watched.look();
            take_news(&path, &shared, &mut false);
        };
        std::fs::write(&path, "Alex\nno name!\n").unwrap();
        look();
        assert_eq!(
            shared.list.read().unwrap().networks.len(),
            1,
            "the list before stays"
        );
        assert_eq!(
            read(&path).err().unwrap().to_string(),
            "line 2: `no name!` is not a name, a UUID or a network"
        );
        std::fs::write(&path, "Steve\n").unwrap();
        look();
        assert!(shared.list.read().unwrap().names.contains("steve"));

        // A new file with the same size and time of writing is read.
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        let beside = folder.path().join("beside");
        std::fs::write(&beside, "Alice\n").unwrap();
        let other = std::fs::File::options().write(true).open(&beside).unwrap();
        other.set_modified(written).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        look();
        assert!(shared.list.read().unwrap().names.contains("alice"));
    }

    /// A removed file is reported once, and the list stays. The file is read again when
    /// it is back.
    #[test]
    fn a_removed_file_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allowed.txt");
        std::fs::write(&path, "Alex\n").unwrap();
        let mut watched = Watched::new(&path);
        watched.first().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(
            watched.look().is_none(),
            "an editor may be about to write it"
        );
        assert!(watched.look().is_some_and(|news| news.is_err()));
        assert!(watched.look().is_none() && watched.look().is_none());
        std::fs::write(&path, "Steve\n").unwrap();
        assert!(watched.look().is_none());
        assert!(watched.look().is_some_and(|news| news.is_ok()));
    }

    /// A file is read only after it has stayed the same between two checks.
    #[test]
    fn a_file_must_stay_the_same_to_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allowed.txt");
        std::fs::write(&path, "Alex\n").unwrap();
        let mut watched = Watched::new(&path);
        watched.first().unwrap();
        for n in 1..10 {
            std::fs::write(&path, "a\n".repeat(n)).unwrap();
            assert!(watched.look().is_none(), "read while it was written");
        }
        assert!(watched.look().is_some());
        assert!(watched.look().is_none(), "read twice");
    }

    /// The plugin does not start with a path that is not a regular file, such as a pipe,
    /// or with a file that is too large.
    #[test]
    fn only_regular_files_are_lists() {
        let folder = tempfile::tempdir().unwrap();
        let start = |file: &str| {
            let config = format!("file = '{file}'");
            let started = Setup::new()
                .data_folder(folder.path())
                .start::<Allowlist>(&config);
            started
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for name in ["pipe", ".", "/dev/zero"] {
            assert!(start(name).contains("not a regular file"), "{name}");
        }
        std::fs::write(folder.path().join("large"), "#".repeat(2 * 1024 * 1024)).unwrap();
        assert!(start("large").contains("larger than"));
    }
}
