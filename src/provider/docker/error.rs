//! What can go wrong between an engine and us.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

/// Why a request to the engine failed.
#[derive(Debug, Error)]
pub(crate) enum EngineError {
    /// There is no connection.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// The files for TLS are invalid.
    #[error("the files of `docker.tls` cannot be used: {0}")]
    Tls(String),
    /// It ended the connection, or did not speak HTTP.
    #[error("the connection ended: {0}")]
    Lost(#[source] hyper::Error),
    /// It did not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It answered with an error.
    #[error("`{path}` was answered with {status}")]
    Refused {
        /// The path of the request.
        path: String,
        /// The status of HTTP.
        status: StatusCode,
    },
    /// Its answer is larger than the limit.
    #[error("an answer has more than {0} bytes")]
    TooLarge(usize),
    /// Its answer does not have the documented form.
    #[error("an answer cannot be read: {0}")]
    Garbage(String),
    /// It ended the stream of events.
    #[error("the stream of events ended")]
    Ended,
}

impl EngineError {
    /// Whether every request to the engine would fail.
    pub(super) fn is_about_all(&self) -> bool {
        matches!(self, EngineError::Connect(_) | EngineError::Tls(_))
    }
}
