//! `allowlist`: lets in the players of a list, and nobody else.
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
//! One entry that fits is enough. `file` is relative to the plugin's data
//! folder: one name, UUID or network a line, `#` begins a comment. It is read
//! again when it has changed and stays the same for two seconds; while it has a
//! mistake or cannot be read, the list before stays in force. It is read on a
//! thread of its own: a disk that does not answer holds no player up.
//!
//! In the forwarding modes names and UUIDs are what the client *claims*: the
//! list keeps out who does not know a name on it. Where that matters, the
//! backend has to authenticate its players.
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

/// How often the file is looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// The largest file in bytes: 60,000 names, and still read in a moment.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long the file may take to be read before that is logged; at the start it
/// is not waited for any longer.
const READ_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the thread that reads may take to end with the plugin: it only has to
/// wake up, unless the disk does not answer.
const END_TIME_MAX: Duration = Duration::from_secs(1);
/// The longest name of a player.
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
    /// In lower case: the game compares names so.
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

/// The list of a file, and the thread that reads it.
struct Followed {
    shared: Arc<Shared>,
    /// Its end stops the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    ended: Mutex<Receiver<()>>,
}

/// What the thread that reads and the others share. Each lock is held for moments.
#[derive(Default)]
struct Shared {
    list: RwLock<List>,
    /// What was read last, until it is taken.
    news: Mutex<Option<Result<List>>>,
    /// Since when the file is being read.
    reading: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.stop = None;
        // One that waits for the disk is left to it: nothing can end it.
        let is_ended = lock(&self.ended).recv_timeout(END_TIME_MAX);
        if let (Err(RecvTimeoutError::Disconnected), Some(thread)) = (is_ended, self.thread.take())
        {
            let _ = thread.join();
        }
    }
}

/// Reads the file now, and again whenever it has changed.
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
        // Whoever started the plugin may not wait any more.
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

/// Puts a list that was read into force, and logs what is wrong with the file.
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

/// What a change of a file alters. Tools that copy keep its size and its time of
/// writing; the number of the file and the time of its change they cannot.
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

/// A file that is looked at now and then.
struct Watched {
    path: PathBuf,
    /// The file that was read last.
    read: Option<Stamp>,
    /// The file at the last look.
    seen: Option<Stamp>,
    /// Whether it has been reported that there is no file any more.
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

    /// Reads the file as it is.
    fn first(&mut self) -> Result<List> {
        self.read = Some(stamp(&self.path)?);
        self.seen = self.read;
        read(&self.path)
    }

    /// Reads the file if it has changed and is the same as at the last look: one
    /// that is still being written is not a list yet.
    fn look(&mut self) -> Option<Result<List>> {
        let now = match stamp(&self.path) {
            Ok(now) => {
                self.is_gone = false;
                Some(now)
            }
            // At the first look an editor may be putting a new one in its place.
            Err(_) if self.seen.take().is_some() || self.is_gone => return None,
            // Said once, until it is there again.
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

    /// A name in any case, a UUID or a network is enough; others read the message.
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

    /// Mistakes point at the value that has them.
    #[test]
    fn mistakes_have_their_place() {
        for (config, place) in [
            ("names = ['a b']", "'a b'"),
            ("uuids = ['1']", "'1'"),
            ("networks = ['10.0.0.0/33']", "'10.0.0.0/33'"),
        ] {
            let failure = TestHost::<Allowlist>::start(config).unwrap_err();
            assert_eq!(&config[failure.span.unwrap()], place);
        }
    }

    /// The file is read at the start and again; a bad one changes nothing.
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
            // The first look sees that it has changed, the next that it stays so.
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

        // Another file of the same size and time of writing is another list.
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        let beside = folder.path().join("beside");
        std::fs::write(&beside, "Alice\n").unwrap();
        let other = std::fs::File::options().write(true).open(&beside).unwrap();
        other.set_modified(written).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        look();
        assert!(shared.list.read().unwrap().names.contains("alice"));
    }

    /// A file that is removed is reported once, and the list stays; it is read
    /// again when it is back.
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

    /// A file that is being written is not a list.
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

    /// What is not a file, or too large, keeps the plugin out; nobody waits for a
    /// pipe.
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
