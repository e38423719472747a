//! A client that is to be shown a text, in whatever state of the protocol it is.

use tokio::net::TcpStream;

use super::failure::Failure;
use super::wire::Wire;
use crate::close::close_with;
use crate::forward::framed::Remains;
use crate::protocol::cipher::Cipher;
use crate::protocol::codec::{Format, Zlib};
use crate::protocol::packet::disconnect::disconnect;
use crate::protocol::packet::{State, Version};

/// A client that is to be shown a text and closed.
///
/// It may be encrypted: its connection does not leave this type, so that no raw
/// bytes can be relayed to it.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: TcpStream,
    /// Bytes of earlier packets that were not written.
    backlog: Vec<u8>,
    cipher: Option<Box<Cipher>>,
    format: Format,
    version: Version,
    /// The state in which the client reads the next packet.
    state: State,
    /// The client was sent a text of the backend that ends its session: no
    /// other follows it.
    is_told: bool,
}

impl Reader {
    /// A client before its relay.
    pub(super) fn new(wire: Wire, version: Version, state: State, is_told: bool) -> Self {
        let parts = wire.into_parts();
        Self {
            stream: parts.stream,
            backlog: parts.output.into(),
            cipher: parts.ciphers.map(|ciphers| ciphers.encrypt),
            format: parts.format,
            version,
            state,
            is_told,
        }
    }

    /// A client whose relay has ended; `None` where the runtime does not take
    /// its connection back.
    pub(super) fn of_relay(
        remains: Remains<std::net::TcpStream>,
        version: Version,
    ) -> Option<Self> {
        Some(Self {
            stream: TcpStream::from_std(remains.client).ok()?,
            backlog: remains.backlog,
            cipher: remains.cipher,
            format: remains.format,
            version,
            state: remains.state,
            is_told: remains.has_kicked,
        })
    }

    /// Shows `text` in the form of the client's state, and closes.
    pub(crate) async fn show(self, text: &str) {
        if self.is_told {
            close_with(self.stream, &self.backlog).await;
            return;
        }
        let packet = disconnect(self.version, self.state, text);
        let mut framed = Vec::new();
        // A text is cut long before it fits in no frame.
        let written = Zlib::default().write(&packet, self.format, &mut framed);
        debug_assert!(written.is_ok(), "{written:?}");
        if let Some(mut cipher) = self.cipher {
            cipher.encrypt(&mut framed);
        }
        let mut bytes = self.backlog;
        bytes.extend(framed);
        close_with(self.stream, &bytes).await;
    }
}

/// A session that was lost before play, with a client that can be shown why.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) failure: Failure,
    pub(crate) client: Reader,
}
