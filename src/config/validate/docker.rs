//! The container engine; its labelled containers are servers.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Context, addresses};
use crate::config::cure;
use crate::config::entry::{Entry, Reported};
use crate::config::files::{self, is_folder};
use crate::config::model::{DockerConfig, Endpoint, Keepalive, TlsFiles};
use crate::config::raw::{RawDocker, RawDockerTls};
use crate::config::types::FilePath;
use crate::diagnostic::words::{self, Quoted};
use crate::diagnostic::{Code, Diagnostic, Place};

/// The longest endpoint that a help repeats, in bytes.
const ENDPOINT_BYTES_REPEATED_MAX: usize = 100;
/// The usual port of engines without TLS.
const PORT_USUAL: u16 = 2375;

/// The settings of the table, if it is written.
pub(super) fn docker(
    entry: &Entry<RawDocker>,
    keepalive: Result<Keepalive, Reported>,
    context: &mut Context<'_>,
) -> Result<Option<DockerConfig>, Reported> {
    let Some(given) = entry.written()? else {
        return Ok(None);
    };
    let raw = &given.value;
    let tls = tls(&raw.tls, context);
    let endpoint = endpoint(raw, given.key, context);
    label_folder(&raw.secrets_dir, "secrets_dir", context);
    label_folder(&raw.favicons_dir, "favicons_dir", context);
    let endpoint = match (endpoint, tls) {
        (Ok(Location::Tcp { host, port }), Ok(tls)) => Endpoint::Tcp {
            host,
            port,
            tls,
            keepalive: keepalive?,
        },
        (Ok(Location::Unix(path)), Ok(_)) => {
            if let Some(key) = raw.tls.key() {
                let message = "`docker.tls` does nothing with a socket in the file system";
                context.push(
                    Diagnostic::new(Code::NoEffect, key, message)
                        .help("write `endpoint = \"tcp://host:2376\"`, or remove the table"),
                );
            }
            Endpoint::Unix(path)
        }
        (Err(Reported), _) | (_, Err(Reported)) => return Err(Reported),
    };
    Ok(Some(DockerConfig {
        endpoint,
        network: raw.network.get()?.cloned(),
        poll_interval: raw.poll_interval()?.0,
        reconnect_delay: raw.reconnect_delay()?.0,
    }))
}

/// The address of an engine in `endpoint`.
enum Location {
    /// On a socket in the file system.
    Unix(PathBuf),
    /// On a port.
    Tcp { host: String, port: u16 },
}

/// The address of the engine; `table` is the place of the key of the whole table.
fn endpoint(
    raw: &RawDocker,
    table: Place,
    context: &mut Context<'_>,
) -> Result<Location, Reported> {
    let text = raw.endpoint()?.as_str();
    let found = if let Some(path) = text.strip_prefix("unix://") {
        let is_path = path.starts_with('/') && !path.contains('\0');
        (cfg!(unix) && is_path).then(|| Location::Unix(PathBuf::from(path)))
    } else {
        let address = text.strip_prefix("tcp://");
        let address = address.map(|address| address.strip_suffix('/').unwrap_or(address));
        let found = address.and_then(tcp);
        found.map(|(host, port)| Location::Tcp { host, port })
    };
    if found.is_none() {
        let help = match meant(text) {
            Some(meant) => format!("write `\"{meant}\"`"),
            None => {
                "write `\"unix:///var/run/docker.sock\"`, or `\"tcp://host:port\"`, with a table \
                     `[docker.tls]` where the engine speaks TLS"
                    .to_owned()
            }
        };
        context.bad_value(
            raw.endpoint.given().map_or(table, |given| given.place),
            format!("{} is not the endpoint of an engine", Quoted(text)),
            help,
        );
    }
    found.ok_or(Reported)
}

/// The endpoint that a text probably means: a path, or an address without a scheme or with
/// that of HTTP.
fn meant(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '`');
    let text = text.trim();
    if text.len() > ENDPOINT_BYTES_REPEATED_MAX || !text.chars().all(is_plain) {
        return None;
    }
    let path = text.trim_start_matches("unix:").trim_start_matches('/');
    if text.starts_with('/') || text.starts_with("unix:") {
        return (cfg!(unix) && !path.is_empty()).then(|| format!("unix:///{path}"));
    }
    let bare = cure::bare(text);
    if tcp(bare).is_some() {
        return Some(format!("tcp://{bare}"));
    }
    let with_port = format!("{bare}:{PORT_USUAL}");
    tcp(&with_port).map(|_| format!("tcp://{with_port}"))
}

/// A host and a port. There is no default port, since it differs with and without TLS.
fn tcp(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let (host, port) = match host.strip_prefix('[') {
        Some(host) => (host.strip_suffix(']')?, port),
        None => (host, port),
    };
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => addresses::name(host)?,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((host, port))
}

/// The files for TLS, which have to be there, where the table is written.
fn tls(
    entry: &Entry<RawDockerTls>,
    context: &mut Context<'_>,
) -> Result<Option<TlsFiles>, Reported> {
    let Some(given) = entry.written()? else {
        return Ok(None);
    };
    let RawDockerTls { ca, cert, key } = &given.value;
    if let Entry::Absent = ca {
        let message = "`docker.tls` has no `ca`";
        context.push(
            Diagnostic::new(Code::BadValue, given.key, message)
                .because("without it nobody knows which engine to trust")
                .help("name the file of the authority that signed the engine's certificate"),
        );
    }
    let lonely = match (cert.key(), key.key()) {
        (Some(place), None) => Some((place, "cert", "key")),
        (None, Some(place)) => Some((place, "key", "cert")),
        _ => None,
    };
    if let Some((place, one, other)) = lonely {
        context.bad_value(
            place,
            format!("`docker.tls` has `{one}` and no `{other}`"),
            "write both, or none",
        );
    }
    let (ca, cert, key) = (pem(ca, context), pem(cert, context), pem(key, context));
    Ok(Some(TlsFiles {
        // Reported above where it is missing.
        ca: ca?.ok_or(Reported)?,
        own: match (cert?, key?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            // Reported above: one without the other.
            (Some(_), None) | (None, Some(_)) => return Err(Reported),
        },
    }))
}

/// A folder that labels may name files in, which has to be there.
fn label_folder(entry: &Entry<FilePath>, key: &str, context: &mut Context<'_>) {
    let Entry::Given(given) = entry else { return };
    let path = context.resolve(given.place.file, &given.value.0);
    if !is_folder(&path) {
        let message = format!(
            "`docker.{key}` names `{}`, which is not a folder",
            words::path(&path)
        );
        let help = context.where_paths_begin(given.place.file, &given.value.0);
        context.push(Diagnostic::new(Code::MissingFile, given.place, message).help(help));
    }
}

/// A file, which has to be there, if one is named.
fn pem(entry: &Entry<FilePath>, context: &mut Context<'_>) -> Result<Option<PathBuf>, Reported> {
    let Some(given) = entry.written()? else {
        return Ok(None);
    };
    let path = context.resolve(given.place.file, &given.value.0);
    if let Err(problem) = files::pem(&path) {
        context.unread(&problem);
        let message = format!(
            "the file `{}` cannot be read: {problem}",
            words::path(&path)
        );
        context.push(
            Diagnostic::new(Code::MissingFile, given.place, message)
                .help(context.where_paths_begin(given.place.file, &given.value.0)),
        );
        return Err(Reported);
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The accepted forms of a host and a port.
    #[test]
    fn endpoints_are_read() {
        let keepalive = Keepalive {
            time: Duration::from_secs(40),
            interval: Duration::from_secs(5),
            retries: 4,
        };
        let endpoint = |(host, port)| Endpoint::Tcp {
            host,
            port,
            tls: None,
            keepalive,
        };
        let shown = |text| tcp(text).map(|found| endpoint(found).to_string());
        for (text, meaning) in [
            ("127.0.0.1:2375", Some("tcp://127.0.0.1:2375")),
            ("[::1]:2375", Some("tcp://[::1]:2375")),
            (
                "Engine.example.com:2376",
                Some("tcp://engine.example.com:2376"),
            ),
            ("engine", None),
            ("engine:0", None),
            ("engine:x", None),
            (":2375", None),
            ("a b:1", None),
            ("[::1:1", None),
        ] {
            assert_eq!(shown(text).as_deref(), meaning, "{text}");
        }
    }
}
