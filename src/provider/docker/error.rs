//! What can go wrong between an engine and us.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

/// Why the engine could not be asked, or not be understood.
#[derive(Debug, Error)]
pub(crate) enum EngineError {
    /// There is no connection.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// The files for TLS are not what they should be.
    #[error("the files of `docker.tls` cannot be used: {0}")]
    Tls(String),
    /// It ended the connection, or spoke no HTTP.
    #[error("the connection ended: {0}")]
    Lost(#[source] hyper::Error),
    /// It did not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It refused.
    #[error("`{path}` was answered with {status}")]
    Refused {
        /// What was asked.
        path: String,
        /// The status of HTTP.
        status: StatusCode,
    },
    /// Its answer is larger than any that makes sense.
    #[error("an answer has more than {0} bytes")]
    TooLarge(usize),
    /// Its answer is not what the engine's documents say.
    #[error("an answer cannot be read: {0}")]
    Garbage(String),
    /// It ended the stream of events.
    #[error("the stream of events ended")]
    Ended,
}

impl EngineError {
    /// Whether there is no way to the engine, whatever it is asked.
    pub(super) fn is_about_all(&self) -> bool {
        matches!(self, EngineError::Connect(_) | EngineError::Tls(_))
    }
}
