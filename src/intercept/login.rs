//! The client's side of a login: from the login start to a player with an identity that
//! is proved (`client_only`) or only claimed (`offline`).

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::failure::Failure;
use super::identity::{ChatKey, Identity, Who};
use super::key::{Answer, LoginKey, Returned, TOKEN_BYTES, server_hash};
use super::reader::{ClosingClient, Lost};
use super::session_service::{DEFAULT_URL, SessionService};
use super::settings::LoginConfig;
use super::time_budget::CLIENT_WAIT;
use super::wire::{Packet, Wire, WireError};
use crate::apart::LowPriorityThread;
use crate::close::left_by_peer;
use crate::forward::packets::SentState;
use crate::protocol::codec::SERVERBOUND_PACKET_BYTES_MAX;
use crate::protocol::frame::{self, FRAME_BYTES_MAX};
use crate::protocol::login::offline_uuid;
use crate::protocol::packet::disconnect::login_disconnect;
use crate::protocol::packet::login::{self as packets, EncryptionResponse, Profile, Proof};
use crate::protocol::packet::{Serverbound, State, Version};
use crate::protocol::read::Cursor;
use crate::protocol::version::{V1_19, V1_19_1, V1_19_3};
use crate::upstream::Upstream;

/// Answers that are decrypted at once, each a millisecond of CPU time. More
/// wait, so that a flood of false answers takes one core at the most.
const DECRYPTIONS_MAX: usize = 1;
/// How long an answer may wait for its decryption: the time of some thousand others.
const DECRYPTION_WAIT: Duration = Duration::from_secs(10);

/// A client that has sent its login start.
#[derive(Debug)]
pub(crate) struct StartedLogin {
    /// Its connection.
    pub(crate) stream: TcpStream,
    /// The bytes that it has sent after the login start.
    pub(crate) input: BytesMut,
    /// Its protocol version.
    pub(crate) version: Version,
    /// The name that it claims.
    pub(crate) name: String,
    /// The player id that it claims.
    pub(crate) uuid: Option<[u8; 16]>,
    /// Its login start, as a frame.
    pub(crate) login_start: bytes::Bytes,
}

/// What all logins share. Both parts are made when they are needed first, since
/// they take some milliseconds and most proxies need neither.
#[derive(Debug)]
pub(crate) struct Authenticator {
    key: OnceLock<LoginKey>,
    sessions: OnceLock<SessionService>,
    /// The way to the session service.
    upstream: Arc<Upstream>,
    decryptions: Arc<Semaphore>,
    thread: LowPriorityThread,
}

impl Authenticator {
    /// Nothing is made yet.
    pub(crate) fn new(upstream: Arc<Upstream>) -> Self {
        Self {
            key: OnceLock::new(),
            sessions: OnceLock::new(),
            upstream,
            decryptions: Arc::new(Semaphore::new(DECRYPTIONS_MAX)),
            thread: LowPriorityThread::default(),
        }
    }

    /// Makes the key and the client of the session service before the first login needs
    /// them. It takes some milliseconds, so it must not run on a worker.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub(crate) fn prepare(&self) -> std::io::Result<()> {
        if self.key.get().is_none() {
            // If two are made at once, one is kept.
            let _ = self.key.set(LoginKey::generate()?);
        }
        let upstream = || SessionService::new(Arc::clone(&self.upstream));
        self.sessions.get_or_init(upstream);
        Ok(())
    }

    async fn ready(self: &Arc<Self>) -> Result<(&LoginKey, &SessionService), Failure> {
        if self.key.get().is_none() || self.sessions.get().is_none() {
            let prepared = self.compute(Self::prepare).await?;
            prepared.map_err(|error| Failure::Proxy(error.to_string()))?;
        }
        match (self.key.get(), self.sessions.get()) {
            (Some(key), Some(sessions)) => Ok((key, sessions)),
            _ => Err(Failure::Proxy("there is no key".to_owned())),
        }
    }

    /// Computes on a thread of low priority, when it is this login's turn: many logins at once
    /// must not delay the relay of players in the game.
    ///
    /// The turn ends with the computation, also if its login is given up before that: so
    /// clients that connect and leave cannot cause more computations at once.
    async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        compute: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = Arc::clone(&self.decryptions).acquire_owned();
        let turn = timeout(DECRYPTION_WAIT, turn).await;
        let turn = turn.map_err(|_| Failure::Proxy("too many logins at once".to_owned()))?;
        let this = Arc::clone(self);
        let computed = self.thread.run(move || {
            let _turn = turn;
            compute(&this)
        });
        let computed = computed.await;
        computed.map_err(|error| Failure::Proxy(error.to_string()))
    }
}

/// The connection of a client in the login state.
#[derive(Debug)]
pub(crate) struct LoginClient {
    pub(super) wire: Wire,
    pub(super) version: Version,
    /// What is left of the time for its answers in this state.
    pub(super) time_left: Duration,
}

impl LoginClient {
    /// The client, to be shown a text.
    pub(crate) fn into_closing(self) -> ClosingClient {
        ClosingClient::new(self.wire, self.version, SentState::new(State::Login))
    }

    /// The login has failed.
    pub(crate) fn lose(self, failure: Failure) -> Box<Lost> {
        let Self {
            mut wire, version, ..
        } = self;
        let mut sent = SentState::new(State::Login);
        if let Failure::BackendRefused(json) = &failure {
            // The backend's own text is passed on unchanged. It fits in a frame, since it
            // came in one.
            sent.has_kicked = wire.put(&login_disconnect(version, json)).is_ok();
        }
        let client = ClosingClient::new(wire, version, sent);
        Box::new(Lost { failure, client })
    }

    /// The connection, to see whether the client is still there.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.wire.stream()
    }
}

/// A client with a settled identity.
#[derive(Debug)]
pub(crate) struct IdentifiedClient {
    pub(crate) client: LoginClient,
    pub(crate) profile: Profile,
    pub(super) key: Option<ChatKey>,
}

impl IdentifiedClient {
    /// Who the player is, for a backend.
    pub(crate) fn who(&self) -> Who<'_> {
        Who {
            version: self.client.version,
            profile: &self.profile,
            key: self.key.as_ref(),
        }
    }

    /// The identity, to keep.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            profile: self.profile.clone(),
            key: self.key.clone(),
        }
    }
}

impl StartedLogin {
    fn begin(self) -> (LoginClient, String, Option<[u8; 16]>, Option<ChatKey>) {
        let key = chat_key(self.version, &self.login_start);
        let client = LoginClient {
            wire: Wire::new(self.stream, self.input, SERVERBOUND_PACKET_BYTES_MAX),
            version: self.version,
            time_left: CLIENT_WAIT,
        };
        (client, self.name, self.uuid, key)
    }

    /// Accepts the claimed name. The player id is made from the name, or is the one that
    /// the client claims.
    ///
    /// # Errors
    ///
    /// When a server would not accept the name.
    pub(crate) fn unproved(self, uuid_of_client: bool) -> Result<IdentifiedClient, Box<Lost>> {
        let (client, name, claimed, _) = self.begin();
        if let Err(error) = packets::check_name(&name, false) {
            return Err(client.lose(Failure::Name(error)));
        }
        let claimed = claimed.filter(|_| uuid_of_client);
        Ok(IdentifiedClient {
            client,
            profile: Profile {
                uuid: claimed.unwrap_or_else(|| offline_uuid(&name)),
                name,
                properties: Vec::new(),
            },
            key: None,
        })
    }

    /// Encrypts the connection, and asks the session service who the player is.
    ///
    /// # Errors
    ///
    /// When the client does not answer correctly, or the service does not confirm the
    /// player.
    pub(crate) async fn prove(
        self,
        authenticator: &Arc<Authenticator>,
        config: &LoginConfig,
        address: IpAddr,
    ) -> Result<IdentifiedClient, Box<Lost>> {
        let (mut client, name, _, key) = self.begin();
        let proved = authenticate(
            &mut client,
            &name,
            key.as_ref(),
            authenticator,
            config,
            address,
        );
        match proved.await {
            Ok(profile) => {
                // A key of 1.19.1 names its holder: that of another player is dropped.
                let is_own = |key: &ChatKey| key.holder.is_none_or(|holder| holder == profile.uuid);
                Ok(IdentifiedClient {
                    client,
                    key: key.filter(is_own),
                    profile,
                })
            }
            Err(failure) => Err(client.lose(failure)),
        }
    }
}

async fn authenticate(
    client: &mut LoginClient,
    name: &str,
    chat_key: Option<&ChatKey>,
    authenticator: &Arc<Authenticator>,
    config: &LoginConfig,
    address: IpAddr,
) -> Result<Profile, Failure> {
    packets::check_name(name, true).map_err(Failure::Name)?;
    let (key, sessions) = authenticator.ready().await?;
    let mut token = [0; TOKEN_BYTES];
    getrandom::fill(&mut token).map_err(|error| Failure::Proxy(error.to_string()))?;
    let request = packets::encryption_request(client.version, key.public_der(), &token);
    let began = Instant::now();
    let response = timeout(client.time_left, async {
        client.wire.send(&request).await?;
        client.wire.frame().await?.packet()
    });
    let response = response.await.map_err(|_| Failure::TooSlow)?;
    client.time_left = client.time_left.saturating_sub(began.elapsed());
    let response = response.map_err(Failure::client)?;
    let answer = answer(client.version, &response, chat_key)?;

    let opened = authenticator.compute(move |this| this.key.get()?.open(&answer, token));
    let opened = tokio::select! {
        opened = opened => opened?,
        () = left_by_peer(client.wire.stream()) => return Err(Failure::ClientLeft),
    };
    let opened = opened.ok_or(Failure::Encryption)?;
    // The client encrypts everything after its answer, and expects encrypted bytes, also
    // for a refusal.
    client.wire.encrypt(&opened.secret);
    if !opened.has_token {
        return Err(Failure::Encryption);
    }

    let hash = server_hash(&opened.secret, key.public_der());
    let url = config.session_url.as_deref().unwrap_or(DEFAULT_URL);
    let address = config.prevent_proxy_connections.then_some(address);
    let joined = sessions.has_joined(url, name, &hash, address);
    tokio::select! {
        joined = joined => joined.map_err(Failure::Session),
        // A client sends nothing while it waits.
        frame = client.wire.frame() => Err(match frame {
            Ok(frame) => Failure::client(match frame.packet() {
                Ok(packet) => WireError::unexpected(State::Login, packet.id),
                Err(error) => error,
            }),
            Err(error) => Failure::client(error),
        }),
    }
}

/// The fields of an encryption response.
fn answer(version: Version, packet: &Packet, key: Option<&ChatKey>) -> Result<Answer, Failure> {
    if packet.kind(version, State::Login) != Some(Serverbound::EncryptionResponse) {
        return Err(Failure::client(WireError::unexpected(
            State::Login,
            packet.id,
        )));
    }
    let response = EncryptionResponse::parse(version, packet.fields());
    let response = response.map_err(|error| Failure::client(error.into()))?;
    Ok(Answer {
        secret: response.secret.to_vec(),
        token: match response.proof {
            Proof::Token(token) => Returned::Sealed(token.to_vec()),
            Proof::Signature { salt, signature } => Returned::Signed {
                // Without a key no signature is right. That is refused later, so that the
                // refusal is encrypted like every other.
                key: key.map_or_else(Vec::new, |key| key.public_der().to_vec()),
                salt,
                signature: signature.to_vec(),
            },
        },
    })
}

/// The key for signing chat that a client of 1.19 to 1.19.2 may send.
fn chat_key(version: Version, login_start: &bytes::Bytes) -> Option<ChatKey> {
    let protocol = version.protocol();
    if !(V1_19..V1_19_3).contains(&protocol) {
        return None;
    }
    let frame = frame::split(login_start, FRAME_BYTES_MAX).ok()??;
    let login_start = login_start.slice_ref(frame.body);
    let mut cursor = Cursor::new(&login_start);
    cursor.string(crate::protocol::login::NAME_CHARS_MAX).ok()?;
    if !cursor.bool().ok()? {
        return None;
    }
    let from = login_start.len() - cursor.remaining();
    cursor.u64().ok()?;
    // The lengths were checked against their limits when the login start was read.
    cursor.bytes(login_start.len()).ok()?;
    cursor.bytes(login_start.len()).ok()?;
    let to = login_start.len() - cursor.remaining();
    let holder = match protocol {
        V1_19_1 if cursor.bool().ok()? => Some(cursor.uuid().ok()?),
        _ => None,
    };
    Some(ChatKey {
        bytes: login_start.slice(from..to),
        holder,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    fn authenticator() -> Arc<Authenticator> {
        Arc::new(Authenticator::new(Arc::new(Upstream::from_system())))
    }

    /// A login that is given up keeps its turn until its computation ends, so that clients
    /// that connect and leave never cause two computations at once.
    #[tokio::test]
    async fn one_login_computes_at_a_time() {
        let authenticator = authenticator();
        let (begun, has_begun) = oneshot::channel();
        let (release, released) = mpsc::channel();
        let first = tokio::spawn({
            let authenticator = Arc::clone(&authenticator);
            let compute = move |_: &Authenticator| {
                begun.send(()).unwrap();
                released.recv().unwrap();
            };
            async move { authenticator.compute(compute).await }
        });
        has_begun.await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(authenticator.decryptions.available_permits(), 0);
        release.send(()).unwrap();
        assert_eq!(authenticator.compute(|_| 5).await.unwrap(), 5);
    }

    /// A login that does not get its turn in time is ended.
    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_turn_is_bounded() {
        let authenticator = authenticator();
        let _turn = authenticator.decryptions.acquire().await.unwrap();
        let failure = authenticator.compute(|_| 5).await.unwrap_err();
        assert!(matches!(failure, Failure::Proxy(_)), "{failure}");
    }
}
