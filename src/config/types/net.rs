//! Addresses and networks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use crate::config::cure;
use crate::config::declare::keys;
use crate::config::entry::{Entry, Item, List, Reported};
use crate::config::keys::{Shape, TextKind};
use crate::config::reader::{FromToml, HasKeys, Reader};
use crate::diagnostic::words::Quoted;

/// A network in CIDR form; a bare address is the network of this one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr(pub IpNet);

impl FromToml for Cidr {
    const SHAPE: Shape = Shape::Text {
        kind: TextKind::Network,
        pattern: Some("^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let text = reader.text(value, &Self::SHAPE)?;
        match network(text) {
            Some(net) => Ok(Self(net)),
            None => {
                let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
                let help = match (address.parse::<IpAddr>(), networks(text)) {
                    (Ok(ip), _) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                        let bits = if ip.is_ipv4() { 32 } else { 128 };
                        format!("{} is not a number of bits from 0 to {bits}", Quoted(prefix))
                    }
                    (_, Some(meant)) => {
                        cure::write(&meant, reader.key(), reader.is_in_list()).unwrap_or_default()
                    }
                    (_, None) => "write an address or a network, such as `\"192.0.2.7\"` or `\"10.0.0.0/8\"`; names are not looked up".to_owned(),
                };
                let message = format!("{} is not a network", Quoted(text));
                Err(reader.bad_value(value, message, Some(help)))
            }
        }
    }
}

fn network(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>();
    net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .ok()
}

/// The networks that a text probably means: several, or an address with a port.
fn networks(text: &str) -> Option<Vec<String>> {
    let meant = cure::pieces(text)?.into_iter().map(|piece| {
        if network(piece).is_some() {
            return Some(piece.to_owned());
        }
        let bare = cure::bare(piece);
        let ip = bare
            .parse::<SocketAddr>()
            .map_or_else(|_| bare.parse(), |address| Ok(address.ip()));
        ip.ok().map(|ip: IpAddr| ip.to_string())
    });
    meant.collect()
}

/// Where to listen: one `ip:port`, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind(pub List<SocketAddr>);

impl FromToml for SocketAddr {
    const SHAPE: Shape = Shape::Text {
        kind: TextKind::AddressWithPort,
        pattern: Some(r"^([0-9.]+|\[[0-9a-fA-F:.%]+\]):[0-9]{1,5}$"),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let text = reader.text(value, &Self::SHAPE)?;
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let help = if let Ok(ip) = bare.parse::<IpAddr>() {
            format!("add the port: `\"{}\"`", SocketAddr::new(ip, 25565))
        } else if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            match text.parse::<u16>() {
                Ok(_) => format!("add the address: `\"0.0.0.0:{text}\"` listens on all"),
                Err(_) => "a port is from 0 to 65535: `\"0.0.0.0:25565\"`".to_owned(),
            }
        } else if let Some(address) = without_brackets(text) {
            format!("an IPv6 address needs brackets: `\"{address}\"`")
        } else if text
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok())
        {
            format!("add the address: `\"0.0.0.0{text}\"` listens on all")
        } else if let Some(meant) = listen_addresses(text) {
            cure::write(&meant, reader.key(), reader.is_in_list()).unwrap_or_default()
        } else {
            "write an IP address and a port from 0 to 65535, such as `\"0.0.0.0:25565\"` or `\"[::]:25565\"`; names are not looked up here".to_owned()
        };
        let message = format!("{} is not an address to listen on", Quoted(text));
        Err(reader.bad_value(value, message, Some(help)))
    }
}

/// The addresses that a text probably means: several, or one with a scheme, with `*` for
/// all, or with the name of this machine.
fn listen_addresses(text: &str) -> Option<Vec<String>> {
    let meant = cure::pieces(text)?.into_iter().map(|piece| {
        let bare = cure::bare(piece);
        if bare.parse::<SocketAddr>().is_ok() {
            return Some(bare.to_owned());
        }
        let (host, port) = bare.rsplit_once(':').unwrap_or((bare, ""));
        let port = if port.is_empty() {
            25565
        } else {
            port.parse().ok()?
        };
        let ip = match host {
            "" | "*" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            host => host.parse().ok()?,
        };
        Some(SocketAddr::new(ip.into(), port).to_string())
    });
    meant.collect()
}

/// An IPv6 address and a port without the brackets between them.
fn without_brackets(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip: std::net::Ipv6Addr = ip.parse().ok()?;
    Some(SocketAddr::new(ip.into(), port.parse().ok()?))
}

impl FromToml for Bind {
    const SHAPE: Shape = Shape::OneOf(&[
        <SocketAddr as FromToml>::SHAPE,
        Shape::List(&<SocketAddr as FromToml>::SHAPE),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match value.get_ref() {
            DeValue::String(_) => {
                let address = SocketAddr::from_toml(value, reader)?;
                let place = reader.place(value.span());
                let items = vec![Item {
                    place,
                    value: address,
                }];
                Ok(Self(List {
                    items,
                    is_broken: false,
                }))
            }
            DeValue::Array(array) if array.is_empty() => {
                let help = "leave the key out to listen on `0.0.0.0:25565`".to_owned();
                Err(reader.bad_value(value, "`bind` is an empty list".to_owned(), Some(help)))
            }
            DeValue::Array(_) => List::from_toml(value, reader).map(Self),
            _ => Err(reader.wrong_type(value, &Self::SHAPE)),
        }
    }
}

/// `host`, `host:port` or `[IPv6]:port`; for editors.
const ADDRESS_PATTERN: &str = r#"^(\[[0-9a-fA-F:.]+\]|[^\[\] :/,;|"'*?]+)(:[0-9]{1,5})?$"#;

/// A backend address as written. The rules parse it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressText(pub String);

keys! {
    /// A backend address in the long form of Infrarust v2.
    RawAddress, "an address" {
        /// The address.
        address: String;
        unsupported {
            "weight" => "sharing players between addresses; here they are tried in turn";
        }
    }
}

impl FromToml for AddressText {
    const SHAPE: Shape = Shape::OneOf(&[
        Shape::Text {
            kind: TextKind::Address,
            pattern: Some(ADDRESS_PATTERN),
        },
        Shape::Table(&RawAddress::TABLE),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Self(text.to_string())),
            DeValue::Table(_) => {
                let long = RawAddress::from_toml(value, reader)?;
                match long.address {
                    Entry::Given(given) => Ok(Self(given.value)),
                    Entry::Broken(_) => Err(Reported),
                    Entry::Absent => {
                        Err(reader.bad_value(value, "the entry has no `address`".to_owned(), None))
                    }
                }
            }
            _ => Err(reader.wrong_type(value, &Self::SHAPE)),
        }
    }
}
