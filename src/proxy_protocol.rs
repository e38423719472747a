//! The PROXY protocol, in and out: a load balancer sends the client's address
//! to the proxy, and the proxy sends it to a backend.
//!
//! The `ppp` crate parses and builds the headers. This module finds where a
//! header ends, bounds its size, and decides what one without addresses means.
//! Source: "The PROXY protocol, versions 1 & 2", HAProxy documentation, 2020-03-05.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use ppp::{v1, v2};
use thiserror::Error;

/// The longest line of version 1, its CRLF included (section 2.1).
const V1_BYTES_MAX: usize = 107;
/// The fixed part of version 2: signature, command, family and length (section 2.2).
const V2_FIXED_BYTES: usize = 16;
/// The longest version 2 header that is accepted. The addresses need at most 216
/// bytes; the rest is room for TLVs, of which a TLS-terminating balancer that
/// passes certificate names sends some hundreds of bytes.
const V2_BYTES_MAX: usize = 4096;
/// Command byte of version 2: version 2, LOCAL.
const V2_LOCAL: u8 = 0x20;

/// The version of a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The text form.
    V1,
    /// The binary form.
    V2,
}

/// Which peers must send a PROXY header, and are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// No peer: a header is a malformed handshake.
    Off,
    /// Every peer must send one and is believed.
    Anyone,
    /// Peers in these networks must send one; all others are direct clients.
    From(Vec<IpNet>),
}

/// The two addresses of the connection that the backend should see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    /// The client.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
}

/// Why a header was not accepted.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// The first bytes belong to neither version.
    #[error("a PROXY header was required, and something else came")]
    Missing,
    /// It is longer than allowed, or its line does not end.
    #[error("the PROXY header is too long")]
    TooLong,
    /// The version 1 line is malformed.
    #[error("malformed PROXY v1 line")]
    V1(#[source] v1::BinaryParseError),
    /// The version 2 header is malformed.
    #[error("malformed PROXY v2 header")]
    V2(#[source] v2::ParseError),
}

/// Whether a connection from `peer` must begin with a PROXY header.
#[must_use]
pub fn expected_from(policy: &Trust, peer: IpAddr) -> bool {
    match policy {
        Trust::Off => false,
        Trust::Anyone => true,
        Trust::From(networks) => {
            let peer = peer.to_canonical();
            networks.iter().any(|network| network.contains(&peer))
        }
    }
}

/// A complete header at the front of `bytes`.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// What it says, or `None` when it means the real peer: LOCAL, UNKNOWN,
    /// UNSPEC and UNIX headers, whatever addresses they carry.
    pub endpoints: Option<Endpoints>,
    /// Its length.
    pub bytes: usize,
}

/// Reads the header at the front of `bytes`, or returns that more bytes are needed.
///
/// # Errors
///
/// When no continuation of `bytes` could be an acceptable header.
pub fn parse(bytes: &[u8]) -> Result<Option<Received>, HeaderError> {
    if begins_alike(bytes, v2::PROTOCOL_PREFIX) {
        parse_v2(bytes)
    } else if begins_alike(bytes, v1::PROTOCOL_PREFIX.as_bytes()) {
        parse_v1(bytes)
    } else {
        Err(HeaderError::Missing)
    }
}

/// Whether bytes that are not expected to be a header are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognized {
    /// They begin with the signature of a version.
    Header,
    /// They are a part of a signature, of two bytes or more: a handshake has
    /// other bytes there.
    NeedMore,
    /// They are something else.
    Other,
}

/// Recognizes a header by its signature.
#[must_use]
pub fn recognize(bytes: &[u8]) -> Recognized {
    let signatures = [v2::PROTOCOL_PREFIX, b"PROXY "];
    if signatures
        .iter()
        .any(|signature| bytes.starts_with(signature))
    {
        Recognized::Header
    } else if bytes.len() >= 2
        && signatures
            .iter()
            .any(|signature| begins_alike(bytes, signature))
    {
        Recognized::NeedMore
    } else {
        Recognized::Other
    }
}

/// Whether one is a prefix of the other.
fn begins_alike(bytes: &[u8], signature: &[u8]) -> bool {
    let common = bytes.len().min(signature.len());
    bytes[..common] == signature[..common]
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Received>, HeaderError> {
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == V1_BYTES_MAX {
            Err(HeaderError::TooLong)
        } else {
            Ok(None)
        };
    };
    let header = v1::Header::try_from(&bytes[..end + 2]).map_err(HeaderError::V1)?;
    let endpoints = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ip) => Some(endpoints(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
        )),
        v1::Addresses::Tcp6(ip) => Some(endpoints(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
        )),
    };
    Ok(Some(Received {
        endpoints,
        bytes: end + 2,
    }))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Received>, HeaderError> {
    let Some(fixed) = bytes.get(..V2_FIXED_BYTES) else {
        return Ok(None);
    };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let Some(header) = bytes.get(..length) else {
        return Ok(None);
    };
    // The receiver of LOCAL must ignore whatever family and addresses follow
    // (section 2.2), even ones that would not parse.
    if fixed[12] == V2_LOCAL {
        return Ok(Some(Received {
            endpoints: None,
            bytes: length,
        }));
    }
    let header = v2::Header::try_from(header).map_err(HeaderError::V2)?;
    let endpoints = match header.addresses {
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        v2::Addresses::IPv4(ip) => Some(endpoints(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
        )),
        v2::Addresses::IPv6(ip) => Some(endpoints(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
        )),
    };
    Ok(Some(Received {
        endpoints,
        bytes: length,
    }))
}

fn endpoints(client: (IpAddr, u16), destination: (IpAddr, u16)) -> Endpoints {
    Endpoints {
        client: (client.0.to_canonical(), client.1).into(),
        destination: (destination.0.to_canonical(), destination.1).into(),
    }
}

/// Builds the header with `endpoints` for a backend.
///
/// A socket of both families writes IPv4 addresses as IPv6 ones
/// (`::ffff:192.0.2.1`); a backend gets them as IPv4.
#[must_use]
pub fn build(version: Version, endpoints: &Endpoints) -> Vec<u8> {
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port()).into();
    let (client, destination) = one_family(
        canonical(endpoints.client),
        canonical(endpoints.destination),
    );
    match version {
        Version::V1 => v1::Addresses::from((client, destination))
            .to_string()
            .into_bytes(),
        Version::V2 => v2::Builder::with_addresses(
            v2::Version::Two | v2::Command::Proxy,
            v2::Protocol::Stream,
            (client, destination),
        )
        .build()
        .expect("two addresses of one family always fit a version 2 header"),
    }
}

/// A header has one family for both addresses: when they differ, IPv4 is
/// written as IPv4-mapped IPv6.
fn one_family(a: SocketAddr, b: SocketAddr) -> (SocketAddr, SocketAddr) {
    if a.is_ipv4() == b.is_ipv4() {
        (a, b)
    } else {
        (mapped(a), mapped(b))
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    let ip: Ipv6Addr = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    (ip, address.port()).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(client: &str, destination: &str) -> Endpoints {
        Endpoints {
            client: client.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    /// What we build we also read, in both versions and families, and every
    /// shorter piece asks for more.
    #[test]
    fn headers_come_back_as_they_went() {
        let pairs = [
            sample("203.0.113.7:4711", "192.0.2.1:25565"),
            sample("[2001:db8::7]:4711", "[2001:db8::1]:25565"),
        ];
        for endpoints in pairs {
            for version in [Version::V1, Version::V2] {
                let mut bytes = build(version, &endpoints);
                let length = bytes.len();
                bytes.extend_from_slice(b"after");
                let received = Received {
                    endpoints: Some(endpoints),
                    bytes: length,
                };
                assert_eq!(parse(&bytes).unwrap(), Some(received));
                for short in 0..length {
                    assert_eq!(parse(&bytes[..short]).unwrap(), None, "{short} bytes");
                }
            }
        }
    }

    /// Mixed families are written as IPv6, and read back as what they are.
    #[test]
    fn mixed_families_become_one() {
        let endpoints = sample("203.0.113.7:4711", "[2001:db8::1]:25565");
        for version in [Version::V1, Version::V2] {
            let received = parse(&build(version, &endpoints)).unwrap().unwrap();
            assert_eq!(received.endpoints, Some(endpoints));
        }
    }

    /// IPv4 that came through a socket of both families is announced as IPv4.
    #[test]
    fn mapped_addresses_are_announced_as_ipv4() {
        let through_both = sample("[::ffff:203.0.113.7]:4711", "[::ffff:192.0.2.1]:25565");
        let plain = sample("203.0.113.7:4711", "192.0.2.1:25565");
        for version in [Version::V1, Version::V2] {
            assert_eq!(build(version, &through_both), build(version, &plain));
        }
        let line = build(Version::V1, &through_both);
        assert_eq!(line, b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 25565\r\n");
    }

    /// LOCAL, UNKNOWN, UNSPEC and UNIX mean the real peer.
    #[test]
    fn headers_without_addresses_mean_the_real_peer() {
        let v2 = |command: u8, family: u8, payload: &[u8]| {
            let mut bytes = v2::PROTOCOL_PREFIX.to_vec();
            bytes.extend([command, family]);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            bytes.extend(payload);
            bytes
        };
        for bytes in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
            v2(0x20, 0x00, &[]),
            v2(0x20, 0x11, &[1; 12]),
            v2(0x20, 0x11, &[]),
            v2(0x21, 0x00, &[]),
            v2(0x21, 0x00, &[4, 0, 1, 7]),
            v2(0x21, 0x31, &[0; 216]),
        ] {
            let length = bytes.len();
            assert_eq!(
                parse(&bytes).unwrap(),
                Some(Received {
                    endpoints: None,
                    bytes: length
                })
            );
        }
    }

    /// A header is recognized byte by byte, and nothing else is.
    #[test]
    fn headers_are_recognized() {
        let endpoints = sample("203.0.113.7:4711", "192.0.2.1:25565");
        for (version, signature_bytes) in [(Version::V1, 6), (Version::V2, 12)] {
            let bytes = build(version, &endpoints);
            for length in 0..bytes.len() {
                let expected = match length {
                    0 | 1 => Recognized::Other,
                    _ if length < signature_bytes => Recognized::NeedMore,
                    _ => Recognized::Header,
                };
                assert_eq!(recognize(&bytes[..length]), expected, "{length}");
            }
        }
        for other in [&b"PROXX "[..], b"\r\n\r\nX", &[0x10, 0], &[0x50, 0]] {
            assert_eq!(recognize(other), Recognized::Other);
        }
    }

    /// TLVs after the addresses are skipped with the header.
    #[test]
    fn tlvs_are_part_of_the_header() {
        let mut bytes = build(Version::V2, &sample("203.0.113.7:4711", "192.0.2.1:25565"));
        bytes.extend([0x04, 0x00, 0x02, 0xaa, 0xbb]);
        bytes[15] += 5;
        assert_eq!(parse(&bytes).unwrap().unwrap().bytes, bytes.len());
    }

    /// Anything else is refused at once, and nothing is awaited without bound.
    #[test]
    fn malformed_headers_are_refused() {
        assert!(matches!(
            parse(b"GET / HTTP/1.1"),
            Err(HeaderError::Missing)
        ));
        assert!(matches!(parse(&[0x10, 0x00]), Err(HeaderError::Missing)));
        assert!(matches!(
            parse(b"PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n"),
            Err(HeaderError::V1(_))
        ));
        assert!(matches!(
            parse(b"PROXY TCP4 1.2.3.4 4.5.6.7 1 70000\r\n"),
            Err(HeaderError::V1(_))
        ));
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert!(matches!(parse(&endless), Err(HeaderError::TooLong)));
        let mut huge = v2::PROTOCOL_PREFIX.to_vec();
        huge.extend([0x21, 0x11, 0xff, 0xff]);
        assert!(matches!(parse(&huge), Err(HeaderError::TooLong)));
    }

    proptest! {
        /// No bytes make the reader panic.
        #[test]
        fn any_bytes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&tail);
            let _ = parse(&[v2::PROTOCOL_PREFIX, &tail].concat());
            let _ = parse(&[b"PROXY ".as_slice(), &tail, b"\r\n"].concat());
        }
    }
}
