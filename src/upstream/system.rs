//! How this system resolves names: `resolv.conf(5)` and `hosts(5)`.
//!
//! Many programs and people write these files: DHCP clients, container engines,
//! administrators. So lines that cannot be parsed are ignored.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use hickory_proto::rr::Name;

use super::dns::Servers;

/// The most name servers that are used, as in the C library (`MAXNS` of `resolv.h`).
const SERVERS_MAX: usize = 3;
/// The most domains of a search list that are used. Clusters write up to 32.
const SEARCH_MAX: usize = 32;
/// The largest `ndots`, as in the C library (`RES_MAXNDOTS`).
const NDOTS_MAX: usize = 15;
/// The most bytes that are read of `resolv.conf`. Real ones have some hundred.
const RESOLV_CONF_BYTES_MAX: u64 = 64 * 1024;
/// The most bytes that are read of `hosts`: lists that block advertisements have a few
/// MiB.
const HOSTS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The port of name servers.
pub(super) const DNS_PORT: u16 = 53;

/// The files that say how names are resolved.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// `/etc/resolv.conf`
    pub(super) resolv_conf: PathBuf,
    /// `/etc/hosts`
    pub(super) hosts: PathBuf,
    /// The port of the name servers.
    pub(super) port: u16,
}

/// The state of the files, which differs after each change of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamps([Option<Stamp>; 2]);

/// The state of one file. Length and date alone can be the same after a file was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    #[cfg(unix)]
    identity: [i64; 4],
    bytes: u64,
    modified: Option<std::time::SystemTime>,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            #[cfg(unix)]
            identity: {
                use std::os::unix::fs::MetadataExt;
                let [dev, ino] = [metadata.dev(), metadata.ino()].map(u64::cast_signed);
                [dev, ino, metadata.ctime(), metadata.ctime_nsec()]
            },
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

/// How names are resolved.
#[derive(Debug)]
pub(super) enum System {
    /// By name servers that are asked here.
    Dns(Config),
    /// By the C library: there is no `resolv.conf`.
    Library,
}

/// The content of `resolv.conf`.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) servers: Servers,
    search: Vec<String>,
    ndots: usize,
    /// Whether to ask for IPv6 addresses.
    pub(super) asks_ipv6: bool,
}

impl Files {
    /// The files of this system.
    pub(super) fn of_system() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            port: DNS_PORT,
        }
    }

    /// The current state of the files. Blocks.
    pub(super) fn stamps(&self) -> Stamps {
        Stamps([&self.resolv_conf, &self.hosts].map(|path| Stamp::of(path)))
    }

    /// Reads how names are resolved. Blocks.
    pub(super) fn system(&self) -> System {
        match read(&self.resolv_conf, RESOLV_CONF_BYTES_MAX) {
            Ok(text) => System::Dns(Config::parse(&text, self.port)),
            Err(_) => System::Library,
        }
    }

    /// The addresses that `hosts` has for a name. Blocks.
    pub(super) fn hosts(&self, name: &str) -> Vec<IpAddr> {
        let text = read(&self.hosts, HOSTS_BYTES_MAX).unwrap_or_default();
        hosts(&text, name)
    }
}

/// Reads the first `bytes_max` bytes of a regular file.
fn read(path: &Path, bytes_max: u64) -> io::Result<String> {
    // A pipe would block in `open`, so it is not opened.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The addresses that a hosts file has for a name, in the order of its lines.
fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let Some(address) = words.next() else {
            continue;
        };
        if words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name))
            && let Ok(ip) = address.parse()
        {
            found.push(ip);
        }
    }
    found
}

impl Config {
    /// Reads a `resolv.conf`. If it has no name server, the one on this machine is used.
    fn parse(text: &str, port: u16) -> Self {
        let mut servers = Vec::new();
        let mut search = Vec::new();
        let mut ndots = 1;
        let mut asks_ipv6 = true;
        for line in text.lines() {
            let mut words = line
                .split(['#', ';'])
                .next()
                .unwrap_or_default()
                .split_whitespace();
            match words.next() {
                Some("nameserver") => servers.extend(words.next().and_then(|s| server(s, port))),
                // The last of these two lines wins.
                Some("search") => search = words.filter_map(domain).collect(),
                Some("domain") => search = words.next().and_then(domain).into_iter().collect(),
                Some("options") => {
                    for option in words {
                        if let Some(dots) = option.strip_prefix("ndots:") {
                            ndots = dots.parse().unwrap_or(ndots).min(NDOTS_MAX);
                        } else if option == "no-aaaa" {
                            asks_ipv6 = false;
                        }
                    }
                }
                _ => {}
            }
        }
        servers.truncate(SERVERS_MAX);
        search.truncate(SEARCH_MAX);
        if servers.is_empty() {
            servers.push((Ipv4Addr::LOCALHOST, port).into());
        }
        Self {
            servers: Servers::new(servers),
            search,
            ndots,
            asks_ipv6,
        }
    }

    /// The absolute names that a name may mean, in the order in which to ask for them: a
    /// name with few dots is first tried with the domains of the search list.
    pub(super) fn candidates(&self, name: &str) -> Vec<Name> {
        let bare = name.trim_end_matches('.');
        let unsearched = absolute(bare);
        if bare.len() != name.len() {
            return unsearched.into_iter().collect();
        }
        let searched = self.search.iter();
        let searched = searched.filter_map(|domain| absolute(&format!("{bare}.{domain}")));
        if bare.matches('.').count() >= self.ndots {
            unsearched.into_iter().chain(searched).collect()
        } else {
            searched.chain(unsearched).collect()
        }
    }
}

/// A name as name servers know it: underscores and other characters are allowed.
pub(super) fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn domain(word: &str) -> Option<String> {
    let bare = word.trim_matches('.');
    (!bare.is_empty()).then(|| bare.to_owned())
}

/// The address of a name server; a link-local one has its interface after `%`.
fn server(word: &str, port: u16) -> Option<SocketAddr> {
    if let Some((ip, zone)) = word.split_once('%') {
        let ip = ip.parse().ok()?;
        let scope = zone.parse().ok().or_else(|| interface(zone))?;
        return Some(SocketAddrV6::new(ip, port, 0, scope).into());
    }
    Some(SocketAddr::new(word.parse().ok()?, port))
}

#[cfg(unix)]
fn interface(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

#[cfg(not(unix))]
fn interface(_: &str) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Vec<String>, Vec<String>, usize) {
        let config = Config::parse(text, 53);
        let servers = config.servers.list().iter().map(SocketAddr::to_string);
        (servers.collect(), config.search, config.ndots)
    }

    /// The usable lines of a file are used, whatever else is in it.
    #[test]
    fn odd_files_are_read() {
        let local = || vec!["127.0.0.1:53".to_owned()];
        for (text, servers, search, ndots) in [
            ("", local(), vec![], 1),
            ("nameserver\nnameserver 127.0.0.1\n", local(), vec![], 1),
            ("nameserver 127.0.0.1\r\n", local(), vec![], 1),
            (
                "; made\nsearch .\nnameserver 127.0.0.1 # router",
                local(),
                vec![],
                1,
            ),
            (
                "nameserver fe80::1%nowhere0\nnameserver 127.0.0.1",
                local(),
                vec![],
                1,
            ),
            (
                "nameserver ::1\noptions ndots:5 edns0 inet6",
                vec!["[::1]:53".to_owned()],
                vec![],
                5,
            ),
            ("options ndots:99 ndots:x", local(), vec![], NDOTS_MAX),
            (
                "domain lan\nsearch my_lan b.test.",
                local(),
                vec!["my_lan", "b.test"],
                1,
            ),
            ("search a b\ndomain lan", local(), vec!["lan"], 1),
            (
                "\u{feff}nameserver 192.0.2.1\nname server",
                local(),
                vec![],
                1,
            ),
        ] {
            let search: Vec<String> = search.into_iter().map(str::to_owned).collect();
            assert_eq!(parsed(text), (servers, search, ndots), "{text:?}");
        }
        let (servers, search, _) =
            parsed(&("nameserver 192.0.2.1\n".repeat(9) + "search " + &"a ".repeat(99)));
        assert_eq!((servers.len(), search.len()), (SERVERS_MAX, SEARCH_MAX));
        assert_eq!(
            parsed("nameserver fe80::1%7").0,
            ["[fe80::1%7]:53"],
            "the interface counts"
        );
    }

    /// A name with a dot is first tried unchanged, others with the search list.
    #[test]
    fn the_search_list_counts() {
        let names = |text: &str, name: &str| {
            let names = Config::parse(text, 53).candidates(name);
            names.iter().map(Name::to_ascii).collect::<Vec<_>>()
        };
        let cluster = "search svc.test my_lan";
        assert_eq!(
            names(cluster, "mc.games"),
            ["mc.games.", "mc.games.svc.test.", "mc.games.my_lan."]
        );
        assert_eq!(names(cluster, "mc"), ["mc.svc.test.", "mc.my_lan.", "mc."]);
        assert_eq!(names(cluster, "mc.games."), ["mc.games."]);
        let five = "search svc.test\noptions ndots:5";
        assert_eq!(names(five, "mc.games"), ["mc.games.svc.test.", "mc.games."]);
        let none = "search svc.test\noptions ndots:0";
        assert_eq!(names(none, "mc_1"), ["mc_1.", "mc_1.svc.test."]);
        assert!(names("", &"x".repeat(64)).is_empty());
    }

    /// Comments, several names, upper case and both families.
    #[test]
    fn hosts_files_are_read() {
        let text = "# 10.0.0.9 box\n127.0.0.1 localhost\n10.0.0.1\tBox box.lan # box2\n\
                    ::1 box\nnonsense box\n10.0.0.2 box2\r\n";
        let found = |name: &str| {
            hosts(text, name)
                .iter()
                .map(IpAddr::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(found("box"), ["10.0.0.1", "::1"]);
        assert_eq!(found("box.lan"), ["10.0.0.1"]);
        assert_eq!(found("box2"), ["10.0.0.2"]);
        assert!(found("other").is_empty());
    }
}
