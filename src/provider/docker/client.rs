//! Requests to the engine: three kinds of `GET`, each on a separate connection, with a
//! deadline and a size limit for the answer.
//!
//! An engine is trusted only for routes: it may hang, end in the middle of an answer, or
//! send one without end.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::answer::{self, Event, Listed};
use super::error::EngineError;
use crate::apart::{self, Lane};
use crate::config::containers::{Container, ENABLE};
use crate::config::files::pem;
use crate::config::model::{DockerConfig, Endpoint, TlsFiles};
use crate::provider::Peer;
use crate::socket;

/// How long the engine may take to begin an answer. It waits for the lock of the requested
/// container, which a slow stop or mount may hold.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long an answer may take as a whole.
const BODY_WAIT: Duration = Duration::from_secs(20);
/// The largest list: ten thousand containers have some 15 MiB.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The largest answer about one container: some 8 KiB, and its labels.
const CONTAINER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest event, which repeats the container's labels.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The events that can change a route. Engines also send others, such as three for every
/// health check, and some ignore filters.
const EVENTS: &str = r#"{"type":["container","network"],"event":["start","die","destroy","pause","unpause","rename","health_status","update","connect","disconnect"]}"#;

/// A client of an engine.
#[derive(Debug, Clone)]
pub(super) struct Client {
    endpoint: Arc<Endpoint>,
    /// The peer of the last connection.
    peer: Arc<Mutex<Peer>>,
}

/// An answer that is being received. The connection ends when it is dropped.
struct Answer {
    status: StatusCode,
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Client {
    pub(super) fn new(config: &DockerConfig) -> Self {
        Self {
            endpoint: Arc::new(config.endpoint.clone()),
            peer: Arc::default(),
        }
    }

    /// The peer of the last connection, once there was one.
    pub(super) fn peer(&self) -> Peer {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self, peer: Peer) {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = peer;
    }

    /// All containers, running or not; with `only_enabled` those that have the
    /// label that makes them servers.
    pub(super) async fn list(&self, only_enabled: bool) -> Result<Vec<Listed>, EngineError> {
        let mut path = "/containers/json?all=true".to_owned();
        if only_enabled {
            path.push_str("&filters=");
            path.push_str(&percent(&format!(r#"{{"label":["{ENABLE}"]}}"#)));
        }
        let answer = self.get(&path).await?;
        let bytes = answer.found(&path)?.whole(LIST_BYTES_MAX).await?;
        // Thousands of entries take a while, so they are parsed on a separate thread.
        let read = apart::run(move || answer::list(&bytes)).await;
        read.unwrap_or_else(|not_read| Err(EngineError::Garbage(not_read.to_string())))
    }

    /// One container; `None` when there is none.
    pub(super) async fn container(&self, id: &str) -> Result<Option<Container>, EngineError> {
        let path = format!("/containers/{}/json", percent(id));
        let answer = self.get(&path).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let bytes = answer.found(&path)?.whole(CONTAINER_BYTES_MAX).await?;
        answer::container(&bytes).map(Some)
    }

    /// The events from now on.
    pub(super) async fn events(&self) -> Result<Events, EngineError> {
        let path = format!("/events?filters={}", percent(EVENTS));
        let answer = self.get(&path).await?.found(&path)?;
        Ok(Events {
            answer,
            buffer: BytesMut::new(),
            is_skipping: false,
        })
    }

    async fn get(&self, path: &str) -> Result<Answer, EngineError> {
        let asked = timeout(ANSWER_WAIT, self.ask(path)).await;
        asked.unwrap_or(Err(EngineError::Silent(ANSWER_WAIT)))
    }

    async fn ask(&self, path: &str) -> Result<Answer, EngineError> {
        match self.endpoint.as_ref() {
            Endpoint::Unix(socket) => {
                let (stream, is_in_our_network) = unix(socket).await?;
                self.connected(Peer {
                    ip: None,
                    is_in_our_network,
                });
                request(stream, "docker", path).await
            }
            Endpoint::Tcp {
                host,
                port,
                tls,
                keepalive,
            } => {
                let addresses = addresses(host, *port).await;
                let addresses = addresses.map_err(EngineError::Connect)?;
                let stream = TcpStream::connect(&addresses[..]).await;
                let stream = stream.map_err(EngineError::Connect)?;
                let kept = socket::keep_alive(&stream, keepalive);
                kept.map_err(EngineError::Connect)?;
                self.connected(Peer {
                    ip: stream.peer_addr().ok().map(|peer| peer.ip().to_canonical()),
                    is_in_our_network: None,
                });
                match tls {
                    None => request(stream, host, path).await,
                    Some(files) => request(secured(stream, host, files).await?, host, path).await,
                }
            }
        }
    }
}

/// The addresses of an engine. Its name is resolved on a thread apart from the runtime's, which
/// would panic if the system had no thread for it, and of which a silent name server would
/// hold one for each attempt.
async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    static NAMES: Lane = Lane::new();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    let name = host.to_owned();
    let resolve = move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
    let resolved = NAMES.run_within(ANSWER_WAIT, resolve).await;
    resolved.map_err(io::Error::other)?
}

/// Connects to a socket. Whether the listener uses the same network interfaces as the proxy
/// cannot be found out from another container or without the right to do so (`ptrace(2)`).
#[cfg(unix)]
async fn unix(path: &Path) -> Result<(tokio::net::UnixStream, Option<bool>), EngineError> {
    let stream = tokio::net::UnixStream::connect(path).await;
    let stream = stream.map_err(EngineError::Connect)?;
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let is_ours = pid.filter(|pid| *pid != 0).and_then(|pid| {
        let theirs = network(&pid.to_string())?;
        Some(theirs == network("self")?)
    });
    Ok((stream, is_ours))
}

#[cfg(not(unix))]
async fn unix(_: &Path) -> Result<(TcpStream, Option<bool>), EngineError> {
    Err(EngineError::Connect(std::io::ErrorKind::Unsupported.into()))
}

/// Speaks TLS. The files are read each time, since certificates are renewed.
async fn secured(
    stream: TcpStream,
    host: &str,
    files: &TlsFiles,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, EngineError> {
    let files = files.clone();
    let config = apart::run(move || tls_config(&files)).await;
    let config = config.unwrap_or_else(|not_read| Err(not_read.to_string()));
    let config = config.map_err(EngineError::Tls)?;
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| EngineError::Tls(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await;
    stream.map_err(EngineError::Connect)
}

fn tls_config(files: &TlsFiles) -> Result<ClientConfig, String> {
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, String> {
        let named = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
        let bytes = pem(path).map_err(|error| named(&error))?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let read = read.map_err(|error| named(&error))?;
        if read.is_empty() {
            return Err(named(&"no certificate is in it"));
        }
        Ok(read)
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert, key)) = &files.own else {
        return Ok(config.with_no_client_auth());
    };
    let key = pem(key)
        .map_err(|error| error.to_string())
        .and_then(|bytes| PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| e.to_string()))
        .map_err(|error| format!("`{}`: {error}", key.display()))?;
    config
        .with_client_auth_cert(certificates(cert)?, key)
        .map_err(|error| error.to_string())
}

async fn request(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    path: &str,
) -> Result<Answer, EngineError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(EngineError::Lost)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // The answer reports the same error.
        let _ = connection.await;
    });
    let request = Request::get(path)
        .header(HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| EngineError::Garbage(error.to_string()))?;
    let answer = sender.send_request(request).await;
    let (head, body) = answer.map_err(EngineError::Lost)?.into_parts();
    Ok(Answer {
        status: head.status,
        body,
        _connection: tasks,
    })
}

impl Answer {
    /// The answer, unless it is an error of the engine.
    fn found(self, path: &str) -> Result<Self, EngineError> {
        if self.status == StatusCode::OK {
            return Ok(self);
        }
        let path = path.split('?').next().unwrap_or(path).to_owned();
        let status = self.status;
        Err(EngineError::Refused { path, status })
    }

    /// The whole body.
    async fn whole(mut self, bytes_max: usize) -> Result<Vec<u8>, EngineError> {
        let all = async {
            let mut all = Vec::new();
            while let Some(bytes) = self.next().await? {
                if all.len() + bytes.len() > bytes_max {
                    return Err(EngineError::TooLarge(bytes_max));
                }
                all.extend_from_slice(&bytes);
            }
            Ok(all)
        };
        let all = timeout(BODY_WAIT, all).await;
        all.unwrap_or(Err(EngineError::Silent(BODY_WAIT)))
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(EngineError::Lost)?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// The stream of events.
pub(super) struct Events {
    answer: Answer,
    buffer: BytesMut,
    /// Whether the current line is too long and is skipped.
    is_skipping: bool,
}

impl Events {
    /// The next event. `None` is an event that cannot be parsed, so any change may have
    /// happened. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, EngineError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if std::mem::take(&mut self.is_skipping) {
                    return Ok(None);
                }
                let line = line.trim_ascii();
                if !line.is_empty() {
                    return Ok(answer::event(line));
                }
                continue;
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                self.is_skipping = true;
            }
            if self.is_skipping {
                self.buffer.clear();
            }
            match self.answer.next().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Err(EngineError::Ended),
            }
        }
    }
}

/// A part of a URL, with all characters escaped that could end it.
fn percent(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A name is resolved although no thread of the runtime is free for it.
    #[test]
    fn names_need_no_thread_of_the_runtime() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().max_blocking_threads(1).build();
        let runtime = runtime.unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || held.recv());
        let resolved =
            runtime.block_on(async { timeout(ANSWER_WAIT, addresses("localhost", 7)).await });
        drop(release);
        let resolved = resolved.unwrap().unwrap();
        assert!(resolved.iter().any(|address| address.ip().is_loopback()));
        let ip = runtime.block_on(addresses("192.0.2.7", 7)).unwrap();
        assert_eq!(ip, [SocketAddr::from(([192, 0, 2, 7], 7))]);
    }

    /// Files for TLS are read at each connection: a pipe in place of one does not block a
    /// thread.
    #[test]
    fn files_for_tls_are_regular_files() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("ca.pem");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let files = TlsFiles {
            ca: pipe,
            own: None,
        };
        let problem = tls_config(&files).unwrap_err();
        assert!(problem.contains("not a regular file"), "{problem}");
    }
}
