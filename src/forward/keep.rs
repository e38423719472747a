//! Moving bytes before the relay begins, with a copy of them: should the receiver
//! end without an answer, another one is sent the same.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// What is moved at a time. A client sends little before it has been answered.
const STEP_BYTES: usize = 1024;

/// Moves what a sender has through user space, and adds it to `kept`.
///
/// How many bytes; `None` is an end of the sender, which the relay meets again.
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

/// The same through a pipe. Where that cannot be had, the bytes are copied.
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
    let look = || Ok(recv(from.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK)?);
    let seen = match from.try_io(Interest::READABLE, look) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(0)),
        Ok(0) | Err(_) => return Ok(None),
        Ok(seen) => seen,
    };
    let Ok(pipe) = pipe::make() else {
        return copy_and_keep(from, to, kept).await;
    };
    let Ok(taken @ 1..) = splice::fill_at_most(from, &pipe, seen) else {
        return copy_and_keep(from, to, kept).await;
    };
    kept.extend_from_slice(bytes.get(..taken).unwrap_or_default());
    let mut left = taken;
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
    Ok(Some(taken))
}

/// The same where there is no `splice(2)`.
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
