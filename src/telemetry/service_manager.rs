//! Messages to systemd, or to another service manager that sets
//! `NOTIFY_SOCKET` (`sd_notify(3)`). Without that variable nothing is sent. Its value at
//! the start of the process is used, since plugins may change the environment.

#[cfg(unix)]
use std::ffi::OsStr;
#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::os::unix::net::{SocketAddr, UnixDatagram};
#[cfg(unix)]
use std::time::Duration;

#[cfg(unix)]
use crate::environment;

/// How long one message may wait for a manager that does not read. The kernel
/// queues ten of them (`net.unix.max_dgram_qlen`), so that only a stuck manager
/// makes a sender wait.
#[cfg(unix)]
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// Reports that the proxy serves players, or that a reload has ended.
pub(crate) fn ready() {
    send("READY=1");
}

/// Reports that a reload begins. With `Type=notify-reload` systemd recognizes the reload
/// that it asked for by the time, and waits for [`ready`].
pub(crate) fn reloading() {
    #[cfg(unix)]
    match monotonic_usec() {
        Ok(now) => send(&format!("RELOADING=1\nMONOTONIC_USEC={now}")),
        Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
    }
}

/// Reports that the proxy drains.
pub(crate) fn stopping() {
    send("STOPPING=1");
}

/// Sets the line about the proxy in `systemctl status`.
pub(crate) fn status(line: &str) {
    send(&format!("STATUS={line}"));
}

fn send(message: &str) {
    #[cfg(unix)]
    if let Some(address) = environment::all().get(OsStr::new("NOTIFY_SOCKET"))
        && !address.is_empty()
        && let Err(error) = send_to(address, message)
    {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
    #[cfg(not(unix))]
    let _ = message;
}

/// Sends one datagram.
#[cfg(unix)]
fn send_to(address: &OsStr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.connect_addr(&socket_address(address)?)?;
    // A datagram is sent whole or not at all.
    socket.send(message.as_bytes()).map(drop)
}

/// The address that the variable names: an absolute path, or `@` and the name
/// of an abstract socket.
#[cfg(unix)]
fn socket_address(address: &OsStr) -> io::Result<SocketAddr> {
    use std::os::unix::ffi::OsStrExt;
    match address.as_bytes() {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] => {
            #[cfg(target_os = "android")]
            use std::os::android::net::SocketAddrExt;
            #[cfg(target_os = "linux")]
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        [b'/', ..] => SocketAddr::from_pathname(address),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "NOTIFY_SOCKET names neither an absolute path nor an abstract socket",
        )),
    }
}

/// `CLOCK_MONOTONIC` in microseconds, the clock that systemd compares with.
#[cfg(unix)]
fn monotonic_usec() -> io::Result<u128> {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(Duration::from(now).as_micros())
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Messages arrive at both kinds of sockets that systemd uses.
    #[test]
    fn messages_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send_to(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(received(&socket), "READY=1");

        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            let name = format!("infrarust-test-{}", std::process::id());
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let socket = UnixDatagram::bind_addr(&address).unwrap();
            let address = OsString::from(format!("@{name}"));
            send_to(&address, "STOPPING=1").unwrap();
            assert_eq!(received(&socket), "STOPPING=1");
        }
    }

    /// A manager that does not read delays a message for a limited time only.
    #[test]
    fn a_full_queue_is_not_awaited_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        // Far more than any system queues.
        let mut sent = (0..100_000).map(|_| send_to(path.as_os_str(), "STATUS=x"));
        let refused = sent.find_map(Result::err).unwrap();
        assert!(matches!(
            refused.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ));
    }

    /// An address that is neither an absolute path nor an abstract name is an error.
    #[test]
    fn other_addresses_are_refused() {
        for address in ["notify", "vsock:2:1234", "./notify"] {
            let error = send_to(OsStr::new(address), "READY=1").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{address}");
        }
    }
}
