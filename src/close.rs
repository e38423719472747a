//! Closes a client's connection in a way that lets the client read the final
//! packet.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long a client may take to read its last packet and close. The proxy does not close
/// earlier than the client: closing with unread bytes would reset the connection, and the
/// packet would be lost (RFC 1122, section 4.2.2.13).
const LINGER: Duration = Duration::from_secs(2);
/// The most bytes that the client may still send before it is closed.
const LINGER_BYTES_MAX: usize = 64 * 1024;
/// The size of one read.
const READ_BYTES: usize = 1024;

/// Sends the final packet and closes, in a way that lets the client read it.
///
/// A client that does not accept it in time is reset: after an orderly end the packet would
/// look complete, and the system would keep the rest of it in memory.
pub(crate) async fn close_with(mut stream: TcpStream, final_packet: &[u8]) {
    let mut is_written = false;
    let conversation = async {
        stream.write_all(final_packet).await?;
        stream.shutdown().await?;
        is_written = true;
        drain_input(&mut stream).await
    };
    // After that time the connection is closed anyway.
    let _ = timeout(LINGER, conversation).await;
    if !is_written {
        // A connection that has failed needs no reset.
        let _ = stream.set_zero_linger();
    }
}

/// Lets the client close first, so that TIME_WAIT stays on its side.
pub(crate) async fn wait_for_close(mut stream: TcpStream) {
    // After that time the connection is closed anyway.
    let _ = timeout(LINGER, drain_input(&mut stream)).await;
}

/// Completes when the client has closed its connection or lost it. Bytes that it sends stay
/// unread, and end the wait. Cancel safe.
pub(crate) async fn closed_by_client(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0]).await {
        std::future::pending::<()>().await;
    }
}

/// How often to check whether a peer with unread bytes has left.
const LEFT_POLL: Duration = Duration::from_millis(250);

/// As [`closed_by_client`], for a peer that gets no answer after the end of its stream:
/// bytes that it has sent before do not end the wait. Cancel safe.
pub(crate) async fn left_by_peer(stream: &TcpStream) {
    while let Ok(ready) = stream.ready(Interest::READABLE).await
        && !ready.is_read_closed()
    {
        // The runtime reports the unread bytes again and again.
        sleep(LEFT_POLL).await;
    }
}

/// Reads the remaining bytes of a client, within limits: closing with unread bytes would
/// reset the connection.
async fn drain_input(stream: &mut TcpStream) -> io::Result<()> {
    let mut read = vec![0; READ_BYTES];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match stream.read(&mut read).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::net::TcpListener;

    use super::*;

    /// More than the buffers of two sockets hold.
    const LARGE_BYTES: usize = 64 * 1024 * 1024;

    /// The number of bytes of a final packet that a client reads after the proxy has
    /// closed, and the end of the stream.
    async fn read_late(packet: Vec<u8>) -> (usize, io::Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        let mut client = client.unwrap();
        close_with(accepted.unwrap().0, &packet).await;
        let mut bytes = Vec::new();
        let end = client.read_to_end(&mut bytes).await;
        (bytes.len(), end.map(drop))
    }

    /// A complete final packet is followed by an orderly end, and an incomplete one is not.
    #[tokio::test]
    async fn only_a_whole_packet_ends_in_order() {
        let (bytes, end) = read_late(vec![7; 1000]).await;
        assert_eq!((bytes, end.is_ok()), (1000, true));
        let (bytes, end) = read_late(vec![7; LARGE_BYTES]).await;
        assert!(bytes < LARGE_BYTES);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
