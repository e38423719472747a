//! Forwards bytes before the relay begins and keeps a copy of them: if the
//! backend ends without an answer, the next backend is sent the same bytes.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The most bytes that one call moves. A client sends little before it gets an answer.
const STEP_BYTES: usize = 1024;

/// Copies the available bytes of `from` to `to` and appends them to `kept`.
///
/// Returns the number of bytes; `None` at the end of the sender, which the relay
/// reads again.
///
/// # Errors
///
/// Those of the receiver.
pub(crate) async fn copy_and_keep(
    from: &TcpStream,
    to: &mut TcpStream,
    kept: &mut BytesMut,
) -> io::Result<Option<usize>> {
    let before = kept.len();
    kept.reserve(STEP_BYTES);
    match from.try_read_buf(kept) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
        Ok(0) | Err(_) => Ok(None),
        Ok(bytes) => {
            to.write_all(kept.get(before..).unwrap_or_default()).await?;
            Ok(Some(bytes))
        }
    }
}

/// Like [`copy_and_keep`], but moves the bytes through a pipe. Copies where it
/// cannot splice.
///
/// # Errors
///
/// Those of the receiver.
#[cfg(target_os = "linux")]
pub(crate) async fn splice_and_keep(
    from: &TcpStream,
    to: &mut TcpStream,
    kept: &mut BytesMut,
) -> io::Result<Option<usize>> {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{MsgFlags, recv};
    use tokio::io::Interest;

    use super::{pipe, splice};

    let mut bytes = [0; STEP_BYTES];
    let peek = || Ok(recv(from.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK)?);
    let available = match from.try_io(Interest::READABLE, peek) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(0)),
        Ok(0) | Err(_) => return Ok(None),
        Ok(available) => available,
    };
    let Ok(pipe) = pipe::make() else {
        return copy_and_keep(from, to, kept).await;
    };
    let Ok(filled @ 1..) = splice::fill_at_most(from, &pipe, available) else {
        return copy_and_keep(from, to, kept).await;
    };
    kept.extend_from_slice(bytes.get(..filled).unwrap_or_default());
    let mut left = filled;
    while left > 0 {
        to.writable().await?;
        match splice::empty(&pipe, left, to) {
            Ok(sent) => left = left.saturating_sub(sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if splice::is_refused(&error, &pipe) => {
                let rest = kept.len().saturating_sub(left);
                to.write_all(kept.get(rest..).unwrap_or_default()).await?;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(filled))
}

/// Like [`copy_and_keep`]: this system does not have `splice(2)`.
///
/// # Errors
///
/// Those of the receiver.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn splice_and_keep(
    from: &TcpStream,
    to: &mut TcpStream,
    kept: &mut BytesMut,
) -> io::Result<Option<usize>> {
    copy_and_keep(from, to, kept).await
}
