//! A DNS client: asks name servers for one type of record of one name at a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use super::race::race;

/// How long to wait for an answer before the question is sent again; after the last
/// wait the name server counts as silent. A lost packet costs half a second; three
/// seconds in all are less than a player waits.
const ANSWER_WAITS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(1500),
];
/// Head start of one name server before the next is asked too. A server that has to
/// ask others itself mostly answers within that time.
const NEXT_SERVER_DELAY: Duration = Duration::from_millis(500);
/// How long an answer over TCP may take. TCP is only used for long answers.
const TCP_TIMEOUT: Duration = Duration::from_secs(3);
/// The buffer for an answer over UDP. Without EDNS 512 bytes should be enough
/// (RFC 1035, section 4.2.1), but some servers send more.
const UDP_ANSWER_BYTES_MAX: usize = 4096;

/// Why a look-up has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Failure {
    /// There is no such name.
    #[error("the name does not exist")]
    NoSuchName,
    /// The name exists, and has no record of this type.
    #[error("the name has no address")]
    NoRecords,
    /// A label is longer than 63 characters, or the name longer than 255.
    #[error("it is not a name that a name server could know")]
    BadName,
    /// A name server answered with an error.
    #[error("the name server {server} {answer}")]
    Refused {
        /// The server.
        server: IpAddr,
        /// Its answer, as the end of a sentence.
        answer: String,
    },
    /// A name server sent nothing.
    #[error("the name server {server} did not answer")]
    Silent {
        /// The server.
        server: IpAddr,
    },
    /// A name server cannot be reached.
    #[error("the name server {server} cannot be reached ({error})")]
    Unreachable {
        /// The server.
        server: IpAddr,
        /// The error of the system.
        error: String,
    },
    /// The resolver of the C library failed.
    #[error("the system's resolver failed ({0})")]
    Library(String),
    /// No name server answered in time.
    #[error("no name server answered in time")]
    TooSlow,
}

impl Failure {
    /// Whether a name server has answered that the name or the record does not
    /// exist.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::NoSuchName | Self::NoRecords | Self::BadName)
    }
}

/// The records of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found<T> {
    /// The content of the records; at least one.
    pub(super) items: Vec<T>,
    /// The shortest TTL of the records.
    pub(super) ttl: Duration,
}

/// A server that an SRV record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Targets with a lower priority come first.
    pub(super) priority: u16,
    /// Of those with the same priority, targets with a higher weight come first.
    pub(super) weight: u16,
    /// The port of the server.
    pub(super) port: u16,
    /// Its name, which is absolute.
    pub(super) name: String,
}

/// The name servers of the system.
#[derive(Debug)]
pub(super) struct Servers {
    list: Vec<SocketAddr>,
    /// The index of the server that answered last, which is asked first: otherwise a
    /// dead one before it would delay every look-up.
    preferred: AtomicUsize,
}

impl Servers {
    pub(super) fn new(list: Vec<SocketAddr>) -> Self {
        Self {
            list,
            preferred: AtomicUsize::new(0),
        }
    }

    pub(super) fn list(&self) -> &[SocketAddr] {
        &self.list
    }

    /// The IPv4 or IPv6 addresses of a name.
    pub(super) async fn addresses(
        &self,
        name: &Name,
        family: RecordType,
    ) -> Result<Found<IpAddr>, Failure> {
        self.ask(name, family, |data| match data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
            _ => None,
        })
        .await
    }

    /// The servers that the SRV records of a name point at, in their order.
    pub(super) async fn targets(&self, name: &Name) -> Result<Found<Target>, Failure> {
        let mut found = self
            .ask(name, RecordType::SRV, |data| match data {
                // The root as target means that there is no such service (RFC 2782).
                RData::SRV(srv) if !srv.target.is_root() => Some(Target {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    name: srv.target.to_ascii().to_ascii_lowercase(),
                }),
                _ => None,
            })
            .await?;
        found
            .items
            .sort_by_key(|target| (target.priority, std::cmp::Reverse(target.weight)));
        Ok(found)
    }

    async fn ask<T>(
        &self,
        name: &Name,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Found<T>, Failure> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let (before, after) = self.list.split_at(preferred.min(self.list.len()));
        let order = (preferred..).zip(after).chain((0..).zip(before));
        let attempts: Vec<_> = order
            .map(|(place, server)| async move { Ok((place, exchange(*server, name, kind).await?)) })
            .collect();
        let won = race(stream::iter(attempts), NEXT_SERVER_DELAY).await;
        let (place, answer) = won.map_err(|failures: Vec<Failure>| most_informative(failures))?;
        self.preferred.store(place, Ordering::Relaxed);
        if answer.metadata.response_code == ResponseCode::NXDomain {
            return Err(Failure::NoSuchName);
        }
        // The name of a record is not compared: for an alias it is another one, since
        // the server follows it.
        let mut ttl = Duration::MAX;
        let mut items = Vec::new();
        for record in &answer.answers {
            if let Some(item) = read(&record.data) {
                ttl = ttl.min(Duration::from_secs(record.ttl.into()));
                items.push(item);
            }
        }
        if items.is_empty() {
            return Err(Failure::NoRecords);
        }
        Ok(Found { items, ttl })
    }
}

/// The failure to report: an error from one server explains more than no answer from
/// another.
fn most_informative(failures: Vec<Failure>) -> Failure {
    let said = |failure: &Failure| matches!(failure, Failure::Refused { .. });
    let place = failures.iter().position(said).unwrap_or_default();
    failures.into_iter().nth(place).unwrap_or(Failure::TooSlow)
}

/// Asks one server; its answer is that there are records, or that there are none.
async fn exchange(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, Failure> {
    let unreachable = |error: io::Error| Failure::Unreachable {
        server: server.ip(),
        error: error.to_string(),
    };
    let question = Question::new(name, kind).ok_or(Failure::BadName)?;
    let mut answer = by_udp(server, &question).await;
    if let Ok(Some(cut)) = &answer
        && cut.metadata.truncation
    {
        answer = timeout(TCP_TIMEOUT, by_tcp(server, &question))
            .await
            .unwrap_or(Ok(None));
    }
    let silent = Failure::Silent {
        server: server.ip(),
    };
    let answer = answer.map_err(unreachable)?.ok_or(silent)?;
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        code => Err(Failure::Refused {
            server: server.ip(),
            answer: match code {
                ResponseCode::Refused => "refuses to answer".to_owned(),
                ResponseCode::ServFail => "could not find out (SERVFAIL)".to_owned(),
                ResponseCode::NotImp => "does not answer such questions (NOTIMP)".to_owned(),
                code => format!("answered with an error ({})", code.to_str()),
            },
        }),
    }
}

struct Question {
    message: Message,
    bytes: Vec<u8>,
}

impl Question {
    /// A question with a random id, so that only someone who sees it can answer.
    fn new(name: &Name, kind: RecordType) -> Option<Self> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name.clone(), kind));
        let bytes = message.to_vec().ok()?;
        Some(Self { message, bytes })
    }

    /// Reads an answer to this question; `None` for anything else.
    fn answer(&self, bytes: &[u8]) -> Option<Message> {
        let answer = Message::from_vec(bytes).ok()?;
        let (heard, asked) = (&answer.metadata, &self.message.metadata);
        let is_repeated = match answer.queries.as_slice() {
            // An error need not repeat the question.
            [] => !matches!(
                heard.response_code,
                ResponseCode::NoError | ResponseCode::NXDomain
            ),
            queries => queries == self.message.queries,
        };
        (heard.message_type == MessageType::Response && heard.id == asked.id && is_repeated)
            .then_some(answer)
    }
}

/// `None` when the server is silent.
async fn by_udp(server: SocketAddr, question: &Question) -> io::Result<Option<Message>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The system chooses a port; connected, so that only this server can answer.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let mut buffer = vec![0; UDP_ANSWER_BYTES_MAX];
    for wait in ANSWER_WAITS {
        socket.send(&question.bytes).await?;
        let until = Instant::now() + wait;
        while let Ok(received) = timeout_at(until, socket.recv(&mut buffer)).await {
            let bytes = buffer.get(..received?).unwrap_or_default();
            if let Some(answer) = question.answer(bytes) {
                return Ok(Some(answer));
            }
        }
    }
    Ok(None)
}

/// `None` when the server closes, or answers something else.
async fn by_tcp(server: SocketAddr, question: &Question) -> io::Result<Option<Message>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.bytes.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), question.bytes.as_slice()].concat();
    stream.write_all(&framed).await?;
    // At most 64 KiB, since the length has 16 bits.
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(question.answer(&answer))
}
