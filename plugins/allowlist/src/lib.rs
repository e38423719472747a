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
//! again when it changes; while it has a mistake, the list before stays in force.
//!
//! In the forwarding modes names and UUIDs are what the client *claims*: the
//! list keeps out who does not know a name on it. Where that matters, the
//! backend has to authenticate its players.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use infrarust_plugin_api::prelude::*;
use ipnet::IpNet;

/// How often the file is looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// The largest file in bytes: 60,000 names, and still read in a moment.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
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
                "`{entry}` is no name, no UUID and no network"
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
    file: Option<Arc<RwLock<List>>>,
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
                .insert(uuid.ok_or_else(|| Error::at(text.span(), "that is no UUID"))?);
        }
        for text in &config.networks {
            let network = network(text.get_ref());
            let bad = || Error::at(text.span(), "that is no network, such as `10.0.0.0/8`");
            fixed.networks.push(network.ok_or_else(bad)?);
        }
        let file = config.file.map(|file| watch(&file, host)).transpose()?;
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
        let in_file = |list: &Arc<RwLock<List>>| {
            list.read()
                .unwrap_or_else(PoisonError::into_inner)
                .has(&login)
        };
        if self.fixed.has(&login) || self.file.as_ref().is_some_and(in_file) {
            return Ok(Verdict::allow());
        }
        tracing::info!(name = login.name(), peer = %login.peer(), "not on the list");
        Ok(Verdict::refuse(self.message.clone()))
    }
}

/// Reads the file now, and again whenever it changes.
fn watch(file: &Spanned<PathBuf>, host: &Host<Allowlist>) -> Result<Arc<RwLock<List>>> {
    let path = host.data_folder()?.join(file.get_ref());
    let at = |error: Error| Error::at(file.span(), format!("`{}`: {error}", path.display()));
    let mut stamp = stamp(&path).map_err(at)?;
    let list = Arc::new(RwLock::new(read(&path).map_err(at)?));
    let shared = Arc::clone(&list);
    host.every(LOOK_PERIOD, move || {
        look(&path, &mut stamp, &shared);
        std::future::ready(())
    })?;
    Ok(list)
}

type Stamp = (Option<SystemTime>, u64);

fn stamp(path: &Path) -> Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.modified().ok(), metadata.len()))
}

fn look(path: &Path, last: &mut Stamp, list: &RwLock<List>) {
    let Ok(now) = stamp(path) else {
        // An editor may be putting a new one in its place.
        return;
    };
    if now == *last {
        return;
    }
    *last = now;
    match read(path) {
        Ok(new) => {
            tracing::info!(file = %path.display(), "the list was read again");
            *list.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the list before stays in force");
        }
    }
}

fn read(path: &Path) -> Result<List> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(Error::msg(format!(
            "it has {bytes} bytes, and at most {FILE_BYTES_MAX} are read"
        )));
    }
    let mut list = List::default();
    for (number, line) in std::fs::read_to_string(path)?.lines().enumerate() {
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

        let list = RwLock::new(read(&path).unwrap());
        let mut last = stamp(&path).unwrap();
        std::fs::write(&path, "Alex\nno name!\n").unwrap();
        look(&path, &mut last, &list);
        assert_eq!(
            list.read().unwrap().networks.len(),
            1,
            "the list before stays"
        );
        assert_eq!(
            read(&path).err().unwrap().to_string(),
            "line 2: `no name!` is no name, no UUID and no network"
        );
        std::fs::write(&path, "Steve\n").unwrap();
        look(&path, &mut last, &list);
        assert!(list.read().unwrap().names.contains("steve"));
    }
}
