//! The client's side of a session after its relay has ended: what the connection's task
//! needs to send a text, or to continue with another backend.

use super::FramedError;
use crate::forward::bounds::ClientBounds;
use crate::forward::packets::SentState;
use crate::forward::record::PlayerRecord;
use crate::protocol::cipher::Ciphers;
use crate::protocol::codec::Format;
use crate::protocol::packet::State;

/// The client's side of a session after its relay has ended.
#[derive(Debug)]
pub(crate) struct ReturnedClient<S> {
    /// Its socket.
    pub(crate) client: S,
    /// Bytes that the client has not accepted yet, encrypted.
    pub(crate) backlog: Vec<u8>,
    /// Encrypt what follows the backlog, and decrypt what the client sends.
    pub(crate) ciphers: Option<Ciphers>,
    /// The format of frames for the client.
    pub(crate) format: Format,
    /// What the client has been sent.
    pub(crate) sent: SentState,
    /// The state of the client as a sender, if it may be moved to another backend.
    pub(crate) input: Option<Box<ClientInput>>,
    /// What ended the session, if a side has violated the protocol.
    pub(crate) fault: Option<FramedError>,
}

/// What is needed to continue reading from a client after its backend is lost.
#[derive(Debug)]
pub(crate) struct ClientInput {
    /// The bytes of an incomplete frame, decrypted.
    pub(crate) carried: Vec<u8>,
    /// The state in which the client writes.
    pub(crate) state: State,
    /// Its limits.
    pub(crate) bounds: ClientBounds,
    /// What was recorded of the player.
    pub(crate) record: PlayerRecord,
    /// The fields of the disconnect with which the backend has ended the session.
    pub(crate) kick: Option<Vec<u8>>,
}
