//! The client of the session service, which knows whether a player has proved to own the
//! account of a name.
//!
//! One request for each login (`hasJoined`). The service is not under our control: it
//! may be slow, down, or send anything. So everything about a request is bounded, and
//! after an answer 429 (too many requests) no request is sent for a while.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::{RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Deserialize;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

use crate::protocol::packet::login::{Profile, Property};
use crate::protocol::uuid::uuid_from_text;
use crate::upstream::{BackendAddress, BackendHost, Upstream};

/// The address of the service, unless `[auth] session_url` is set.
pub(crate) const DEFAULT_URL: &str = "https://sessionserver.mojang.com/session/minecraft/hasJoined";

/// How long a login may wait for the service, including a second attempt and the wait
/// for a place among [`REQUESTS_MAX`]. Clients give up after 30 s.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long one attempt may take, so that there is time for the second.
const ATTEMPT_WAIT: Duration = Duration::from_secs(6);
/// The pause before the second attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// The most requests at once. The public service allows some 600 in ten minutes.
const REQUESTS_MAX: usize = 64;
/// The most connections that are kept open between requests.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// How long an unused connection is kept open.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The largest answer: a profile with its skin has some 2 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long no request is sent after an answer 429 without `Retry-After`.
const BACK_OFF: Duration = Duration::from_secs(5);
/// The longest `Retry-After` that is followed.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Why a player could not be authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SessionError {
    /// The service does not know that this player joins here.
    #[error("the session service does not confirm the player")]
    NotJoined,
    /// The service wants fewer requests.
    #[error("the session service refuses requests: too many were sent")]
    TooManyRequests,
    /// It cannot be reached, fails, or takes too long.
    #[error("the session service cannot be used: {0}")]
    Down(String),
    /// Its answer is not a profile of this player.
    #[error("the session service gave an answer that cannot be used: {0}")]
    BadAnswer(&'static str),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

type HttpClient = Client<Bounded<HttpsConnector<Connector>>, Empty<Bytes>>;

/// The HTTP client of the session service, with its open connections.
pub(crate) struct SessionService {
    client: HttpClient,
    /// Opens a connection for each request. For second attempts: the connections that are kept
    /// open may all have been closed by the service.
    without_kept: HttpClient,
    places: Semaphore,
    /// No request is sent before this time, after an answer 429.
    quiet_until: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for SessionService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionService").finish_non_exhaustive()
    }
}

impl SessionService {
    /// Reads the system's certificates. If there are none, those of Mozilla in this
    /// program are used.
    pub(crate) fn new(upstream: Arc<Upstream>) -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the versions that rustls offers")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector(upstream));
        let client = |kept_max| {
            Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(kept_max)
                .pool_idle_timeout(IDLE_MAX)
                .pool_timer(TokioTimer::new())
                .build(Bounded(connector.clone()))
        };
        Self {
            client: client(IDLE_CONNECTIONS_MAX),
            without_kept: client(0),
            places: Semaphore::new(REQUESTS_MAX),
            quiet_until: Mutex::new(None),
        }
    }

    /// The profile of the player who claims `name`, if the service confirms it for the
    /// login with this hash. If `address` is given, the service also checks that the
    /// player has contacted it from this address.
    ///
    /// Cancel safe: dropping the future cancels the request.
    ///
    /// # Errors
    ///
    /// See [`SessionError`]; after ten seconds at the latest.
    pub(crate) async fn has_joined(
        &self,
        url: &str,
        name: &str,
        hash: &str,
        address: Option<IpAddr>,
    ) -> Result<Profile, SessionError> {
        let uri = request_uri(url, name, hash, address)?;
        let until = Instant::now() + ANSWER_WAIT;
        let down = |_| SessionError::Down(format!("no answer within {ANSWER_WAIT:?}"));
        timeout_at(until, self.attempts(&uri, name, until))
            .await
            .map_err(down)?
    }

    async fn attempts(
        &self,
        uri: &Uri,
        name: &str,
        until: Instant,
    ) -> Result<Profile, SessionError> {
        let _place = self.places.acquire().await;
        let first = match self.attempt(&self.client, uri, name).await {
            Err(first) if first.is_down() && Instant::now() + RETRY_PAUSE < until => first,
            other => return other.map_err(|failed| failed.error),
        };
        sleep(RETRY_PAUSE).await;
        let second = self.attempt(&self.without_kept, uri, name).await;
        second.map_err(|second| match (first.was_sent, second.error) {
            // A service that confirms a join only once may have confirmed it in the answer to
            // the first request, which was lost.
            (true, SessionError::NotJoined) => first.error,
            (_, error) => error,
        })
    }

    async fn attempt(&self, client: &HttpClient, uri: &Uri, name: &str) -> Result<Profile, Failed> {
        let until = *self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| Instant::now() < until) {
            return Err(Failed::unsent(SessionError::TooManyRequests));
        }
        let down = |_| SessionError::Down(format!("no answer within {ATTEMPT_WAIT:?}"));
        timeout_at(
            Instant::now() + ATTEMPT_WAIT,
            self.request(client, uri, name),
        )
        .await
        .map_err(down)?
    }

    async fn request(&self, client: &HttpClient, uri: &Uri, name: &str) -> Result<Profile, Failed> {
        let request = Request::get(uri)
            .header(USER_AGENT, concat!("infrarust/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| SessionError::Down(error.to_string()))?;
        let answer = client.request(request).await;
        let answer = answer.map_err(|error| Failed {
            was_sent: !error.is_connect(),
            error: SessionError::Down(chain(&error)),
        })?;
        Ok(self.read(answer, name).await?)
    }

    /// Reads the answer of the service.
    async fn read(&self, answer: Response<Incoming>, name: &str) -> Result<Profile, SessionError> {
        match answer.status() {
            StatusCode::OK => {}
            // 204 from the service itself; the others from replacements of it.
            StatusCode::NO_CONTENT | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                return Err(SessionError::NotJoined);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let asked = answer.headers().get(RETRY_AFTER);
                let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
                self.be_quiet(asked.map_or(BACK_OFF, Duration::from_secs));
                return Err(SessionError::TooManyRequests);
            }
            status => return Err(SessionError::Down(format!("it answers with {status}"))),
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| SessionError::Down(error.to_string()))?;
        profile(&body.to_bytes(), name)
    }

    fn be_quiet(&self, time: Duration) {
        let until = Instant::now() + time.min(BACK_OFF_MAX);
        let mut quiet_until = self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *quiet_until = Some(quiet_until.map_or(until, |known| known.max(until)));
    }
}

/// Connects to the service as the proxy connects to a backend: names are resolved by
/// the proxy itself, so that a name server that is silent blocks no thread.
#[derive(Clone)]
struct Connector(Arc<Upstream>);

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let upstream = Arc::clone(&self.0);
        Box::pin(async move {
            let address = address(&uri).ok_or_else(|| io::Error::other("there is no host"))?;
            let connected = upstream.connect(&[address], ATTEMPT_WAIT, &[]).await;
            match connected {
                Ok(connected) => Ok(TokioIo::new(connected.stream)),
                Err(mut failed) => Err(match failed.attempts.pop() {
                    Some((_, error)) => error,
                    None => io::Error::other(failed),
                }),
            }
        })
    }
}

/// Bounds the time of a connection with its TLS handshake. A request that gets a free
/// connection leaves the one that it has begun to open, which goes on for later requests: the
/// end of the request does not end it.
#[derive(Clone)]
struct Bounded<C>(C);

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let connected = timeout(ATTEMPT_WAIT, connecting).await;
            connected?.map_err(Into::into)
        })
    }
}

/// The host and port of a request.
fn address(uri: &Uri) -> Option<BackendAddress> {
    let host = uri.host()?;
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
    let name = || host.trim_end_matches('.').to_ascii_lowercase();
    let default_port = if uri.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    Some(BackendAddress {
        host: ip.map_or_else(|_| BackendHost::Name(name()), BackendHost::Ip),
        port: uri.port_u16().unwrap_or(default_port),
        follows_srv: false,
    })
}

/// An attempt without a profile.
#[derive(Debug)]
struct Failed {
    error: SessionError,
    /// Whether the service may have read the request.
    was_sent: bool,
}

impl Failed {
    fn unsent(error: SessionError) -> Self {
        Self {
            error,
            was_sent: false,
        }
    }

    /// Whether a second attempt makes sense.
    fn is_down(&self) -> bool {
        matches!(self.error, SessionError::Down(_))
    }
}

impl From<SessionError> for Failed {
    fn from(error: SessionError) -> Self {
        Self {
            error,
            was_sent: true,
        }
    }
}

/// An error and its causes, separated by colons.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The whole address of a request: the configured one and the query.
fn request_uri(
    url: &str,
    name: &str,
    hash: &str,
    address: Option<IpAddr>,
) -> Result<Uri, SessionError> {
    let separator = if url.contains('?') { '&' } else { '?' };
    // Name and hash have no character that must be escaped.
    let mut uri = format!("{url}{separator}username={name}&serverId={hash}");
    if let Some(address) = address {
        uri.push_str("&ip=");
        uri.push_str(&address.to_string().replace(':', "%3A"));
    }
    uri.parse()
        .map_err(|error| SessionError::Down(format!("`{url}` is not an address: {error}")))
}

/// The service's answer.
#[derive(Deserialize)]
struct Answer {
    id: String,
    name: String,
    #[serde(default)]
    properties: Vec<AnswerProperty>,
}

#[derive(Deserialize)]
struct AnswerProperty {
    name: String,
    value: String,
    signature: Option<String>,
}

fn profile(body: &[u8], claimed: &str) -> Result<Profile, SessionError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(SessionError::NotJoined);
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| SessionError::BadAnswer("it is not a profile in JSON"))?;
    if !answer.name.eq_ignore_ascii_case(claimed) {
        return Err(SessionError::BadAnswer("it names another player"));
    }
    let uuid =
        uuid_from_text(&answer.id).ok_or(SessionError::BadAnswer("its player id is malformed"))?;
    let properties = answer.properties.into_iter().map(|property| Property {
        name: property.name,
        value: property.value,
        signature: property.signature,
    });
    Ok(Profile {
        uuid,
        name: answer.name,
        properties: properties.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the query is added to the configured address.
    #[test]
    fn addresses_of_requests() {
        let uri = |url, address: Option<&str>| {
            let address = address.map(|address| address.parse().unwrap());
            request_uri(url, "Notch", "-7c", address)
                .unwrap()
                .to_string()
        };
        assert_eq!(
            uri(DEFAULT_URL, None),
            "https://sessionserver.mojang.com/session/minecraft/hasJoined?username=Notch&serverId=-7c"
        );
        assert_eq!(
            uri("http://127.0.0.1:80/a?key=1", Some("2001:db8::1")),
            "http://127.0.0.1:80/a?key=1&username=Notch&serverId=-7c&ip=2001%3Adb8%3A%3A1"
        );
        assert!(request_uri("no address", "a", "b", None).is_err());
    }

    /// After an answer 429 no request is sent for the time of `Retry-After`, or five
    /// seconds without it, and a minute at most; then requests are sent again.
    #[tokio::test(start_paused = true)]
    async fn quiet_ends() {
        // No process listens there: a connection is refused.
        let uri: Uri = "http://127.0.0.1:1/".parse().unwrap();
        for (asked, ends) in [(None, 5), (Some(1), 1), (Some(100_000), 60)] {
            let service = SessionService::new(Arc::new(Upstream::from_system()));
            service.be_quiet(asked.map_or(BACK_OFF, Duration::from_secs));
            // A shorter one does not end a longer.
            service.be_quiet(Duration::ZERO);
            tokio::time::advance(Duration::from_secs(ends) - Duration::from_millis(1)).await;
            let early = service
                .attempt(&service.client, &uri, "Notch")
                .await
                .unwrap_err();
            assert_eq!(early.error, SessionError::TooManyRequests);
            tokio::time::advance(Duration::from_millis(1)).await;
            let late = service
                .attempt(&service.client, &uri, "Notch")
                .await
                .unwrap_err();
            assert!(late.is_down() && !late.was_sent, "{late:?}");
        }
    }

    /// The host and port of a request come from its URI, with the scheme's default port.
    #[test]
    fn addresses_of_services() {
        for (url, expected) in [
            (DEFAULT_URL, "sessionserver.mojang.com:443"),
            ("http://Example.COM./a", "example.com:80"),
            ("http://[::1]:8080/a", "[::1]:8080"),
            ("https://192.0.2.7/a", "192.0.2.7:443"),
        ] {
            let address = address(&url.parse().unwrap()).unwrap();
            assert_eq!(address.to_string(), expected);
        }
    }

    /// A service that accepts a connection and is silent in the TLS handshake does not hold the
    /// connection for ever, also if the request no longer waits for it.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_bounded_without_its_request() {
        #[derive(Clone)]
        struct Silent;

        impl Service<Uri> for Silent {
            type Response = TokioIo<TcpStream>;
            type Error = io::Error;
            type Future = std::future::Pending<io::Result<Self::Response>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, _: Uri) -> Self::Future {
                std::future::pending()
            }
        }

        let connecting = Bounded(Silent).call("https://192.0.2.7/".parse().unwrap());
        let connected = timeout(ATTEMPT_WAIT * 2, connecting).await;
        assert!(connected.is_ok_and(|connected| connected.is_err()));
    }

    /// The name of the service is resolved by the proxy itself: it needs no thread that
    /// a name server could keep waiting, and follows the files of the proxy's resolver.
    #[tokio::test]
    async fn names_of_services_need_no_thread() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 sessions.test\n").unwrap();
        let service = SessionService::new(Arc::new(Upstream::with_hosts(&hosts)));
        let uri: Uri = format!("http://sessions.test:{port}/").parse().unwrap();
        let request = service.attempt(&service.client, &uri, "Notch");
        let come = async {
            drop(listener.accept().await.unwrap());
        };
        let (failed, ()) = tokio::join!(request, come);
        // The service has closed the connection after the request.
        assert!(failed.unwrap_err().was_sent);
    }

    /// A service closes connections that it has kept open for some time, and may do so
    /// when requests come on all of them: the second attempt does not use one of those.
    #[tokio::test]
    async fn closed_connections_do_not_fail_logins() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        const KEPT: usize = 3;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let body = r#"{"id":"069a79f444e94726a5befca90e38aaf5","name":"Notch","properties":[]}"#;
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        // All first requests are there before one is answered, and each connection closes
        // at its second request.
        let all_have_come = Arc::new(tokio::sync::Barrier::new(KEPT));
        let serving = tokio::spawn(async move {
            let mut count = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count += 1;
                let (answer, is_first, all_have_come) =
                    (answer.clone(), count <= KEPT, Arc::clone(&all_have_come));
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    let _ = stream.read(&mut request).await;
                    if is_first {
                        all_have_come.wait().await;
                    }
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.read(&mut request).await;
                    let _ = stream.set_zero_linger();
                });
            }
        });
        let service = SessionService::new(Arc::new(Upstream::from_system()));
        let login = || service.has_joined(&url, "Notch", "0", None);
        let first = futures_util::future::join_all((0..KEPT).map(|_| login())).await;
        assert!(first.iter().all(Result::is_ok), "{first:?}");
        assert!(login().await.is_ok());
        serving.abort();
    }

    /// A profile is accepted only if it has the name that the player claims.
    #[test]
    fn answers() {
        let id = "069a79f444e94726a5befca90e38aaf5";
        let good = format!(
            r#"{{"id":"{id}","name":"Notch","properties":[{{"name":"textures","value":"v","signature":"s"}}]}}"#
        );
        let read = profile(good.as_bytes(), "notch").unwrap();
        assert_eq!(read.name, "Notch");
        assert_eq!(read.properties.len(), 1);
        let error = |body: &str| profile(body.as_bytes(), "Notch").unwrap_err();
        assert_eq!(error(""), SessionError::NotJoined);
        assert_eq!(error(" \n"), SessionError::NotJoined);
        for bad in [
            "{}",
            "[]",
            "<html>",
            &good.replace("Notch", "jeb_"),
            &good.replace(id, "069a79f4"),
        ] {
            assert!(matches!(error(bad), SessionError::BadAnswer(_)), "{bad}");
        }
    }
}
