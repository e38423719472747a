//! Limits on clients: their number, their rate, and the time before the
//! handshake.
//!
//! Each limit returns guards that free the slot when they are dropped, so that
//! no end of a connection can forget it.

mod bucket;
mod pending;
mod rate;
mod slots;

pub(crate) use bucket::{Amounts, Bucket, Rate};
pub(crate) use pending::{Busy, Pending, PendingGuard};
pub(crate) use rate::{Quota, RateLimiter};
pub(crate) use slots::{Slot, Slots};

use std::net::IpAddr;

/// One client for limits: an IPv4 address, or the /64 network of an IPv6 address, since one
/// customer usually has a whole /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(u64);

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No IPv6 /64 in use begins with ::/32, so the keys cannot collide.
            IpAddr::V4(ip) => Self(u64::from(u32::from(ip))),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self(
                    [a, b, c, d]
                        .iter()
                        .fold(0, |key, part| key << 16 | u64::from(*part)),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> ClientKey {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// A /64 network is one client, and so is an IPv4 address in any form.
    #[test]
    fn clients_are_distinguished_by_network() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
