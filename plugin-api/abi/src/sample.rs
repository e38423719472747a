//! The sample player, server and answers for calls of hooks without a real player: in
//! tests of plugins, and in `infrarust plugin verify`.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The client's address.
pub const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);
/// The protocol version of 1.21 (<https://minecraft.wiki/w/Protocol_version>, 2026).
pub const PROTOCOL: i32 = 767;
/// The virtual host.
pub const HOST: &str = "play.example.com";
/// The server.
pub const SERVER: &str = "lobby";
/// The name that the player claims.
pub const NAME: &str = "Steve";
/// The UUID that an offline server gives to this name.
pub const UUID: u128 = 0x5627_dd98_e6be_3c21_b8a8_e923_4418_3641;
/// A backend of the server.
pub const BACKEND: &str = "10.0.0.5:25565";
/// A status answer of that backend.
pub const STATUS: &str = r#"{"version":{"name":"1.21","protocol":767},"players":{"max":20,"online":2},"description":{"text":"A Minecraft Server"}}"#;
