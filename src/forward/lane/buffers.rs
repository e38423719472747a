//! What all sessions of one worker share.

use std::sync::Arc;

#[cfg(target_os = "linux")]
use super::super::pipe::Pool;
use super::super::queries::PacketQueries;
use super::super::spare::SpareBuffers;
use crate::forward::COPY_BYTES;
use crate::protocol::codec::Zlib;

/// Buffers and pipes that all sessions of one worker share. Between two steps
/// a session holds none of them, except a pipe with bytes in it.
#[derive(Debug)]
pub(in crate::forward) struct Buffers {
    pub(super) buffer: Box<[u8]>,
    /// The frames to write, if they are not a slice of `buffer`.
    pub(super) output: Vec<u8>,
    pub(super) zlib: Zlib,
    pub(in crate::forward) spare: SpareBuffers,
    /// Whether the driver encrypts the bytes of an [`Encryption`](super::Encryption).
    pub(super) driver_encrypts: bool,
    /// Whether the driver writes bytes that are held for too long.
    pub(super) driver_holds: bool,
    /// The queries of one of the sessions that have added packets.
    pub(super) added_to: Option<Arc<PacketQueries>>,
    #[cfg(target_os = "linux")]
    pub(in crate::forward) pipes: Pool,
}

impl Buffers {
    pub(in crate::forward) fn new() -> Self {
        Self {
            buffer: vec![0; COPY_BYTES].into_boxed_slice(),
            output: Vec::new(),
            zlib: Zlib::default(),
            spare: SpareBuffers::default(),
            driver_encrypts: false,
            driver_holds: false,
            added_to: None,
            #[cfg(target_os = "linux")]
            pipes: Pool::default(),
        }
    }

    /// For a driver that encrypts for its sessions, several at once.
    #[cfg(target_os = "linux")]
    pub(in crate::forward) fn of_encrypting_driver() -> Self {
        Self {
            driver_encrypts: true,
            driver_holds: true,
            ..Self::new()
        }
    }

    /// Frees the output after a walk that has written more than a usual one.
    pub(super) fn free_large_output(&mut self) {
        if self.output.capacity() > COPY_BYTES {
            self.output = Vec::new();
        }
    }

    /// Lets plugins begin with the packets that wait for their decisions. To be called after
    /// steps of one or more sessions.
    pub(in crate::forward) fn begin_decisions(&mut self) {
        if let Some(queries) = self.added_to.take() {
            queries.begin();
        }
    }
}
