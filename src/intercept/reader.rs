//! A client that can be shown a final text, in any state of the protocol.

use tokio::net::TcpStream;

use super::failure::Failure;
use super::wire::Wire;
use crate::close::close_with;
use crate::forward::framed::ReturnedClient;
use crate::forward::packets::SentState;
use crate::protocol::cipher::Cipher;
use crate::protocol::codec::{Format, Zlib};
use crate::protocol::packet::disconnect::disconnect;
use crate::protocol::packet::{Clientbound, State, Version};

/// A client that can be shown a text and closed.
///
/// Its connection may be encrypted, so it does not leave this type: no raw bytes can be
/// relayed to it.
#[derive(Debug)]
pub(crate) struct ClosingClient {
    stream: TcpStream,
    /// Bytes of earlier packets that are not written yet.
    backlog: Vec<u8>,
    cipher: Option<Cipher>,
    format: Format,
    version: Version,
    /// What the client has been sent.
    sent: SentState,
}

impl ClosingClient {
    /// A client before its relay.
    pub(super) fn new(wire: Wire, version: Version, sent: SentState) -> Self {
        let parts = wire.into_parts();
        Self {
            stream: parts.stream,
            backlog: parts.output.into(),
            cipher: parts.ciphers.map(|ciphers| ciphers.encrypt),
            format: parts.format,
            version,
            sent,
        }
    }

    /// A client after its relay; `None` if the runtime does not accept its socket again.
    pub(super) fn of_relay(
        returned: ReturnedClient<std::net::TcpStream>,
        version: Version,
    ) -> Option<Self> {
        Some(Self {
            stream: TcpStream::from_std(returned.client).ok()?,
            backlog: returned.backlog,
            cipher: returned.ciphers.map(|ciphers| ciphers.encrypt),
            format: returned.format,
            version,
            sent: returned.sent,
        })
    }

    /// Shows `text` in the form of the client's state, and closes.
    pub(crate) async fn show(self, text: &str) {
        let SentState {
            state,
            has_kicked,
            in_bundle,
            ..
        } = self.sent;
        if has_kicked {
            close_with(self.stream, &self.backlog).await;
            return;
        }
        let mut framed = Vec::new();
        let delimiter = self.version.id(State::Play, Clientbound::BundleDelimiter);
        let delimiter = delimiter.filter(|_| in_bundle).map(|id| vec![id]);
        let text = disconnect(self.version, state, text);
        let mut zlib = Zlib::default();
        for packet in delimiter.iter().chain([&text]) {
            // Cannot fail: a text is cut to far less than fits in a frame.
            let written = zlib.write(packet, self.format, &mut framed);
            debug_assert!(written.is_ok(), "{written:?}");
        }
        drop(zlib);
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
    pub(crate) client: ClosingClient,
}
