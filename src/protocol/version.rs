//! Numbers of protocol versions at which the packets that the proxy reads change.
//!
//! The game version that brought each number is its source.

/// 1.8: compression, and byte arrays whose length is a VarInt.
pub const V1_8: i32 = 47;
/// 1.13: plugin requests during login.
pub const V1_13: i32 = 393;
/// 1.19: the login start may carry a signed key.
pub const V1_19: i32 = 759;
/// 1.19.1: the login start may carry a player id too.
pub const V1_19_1: i32 = 760;
/// 1.19.3: the login start carries no key any more.
pub const V1_19_3: i32 = 761;
/// 1.20.2: the login start always carries a player id; the configuration phase.
pub const V1_20_2: i32 = 764;
/// 1.20.5: transfers, cookies, and whether an encryption request authenticates.
pub const V1_20_5: i32 = 766;
/// 1.21.11, the newest release whose login is taken as known; its layout is
/// that of 1.20.5. What is newer is read leniently.
pub const NEWEST: i32 = 774;

/// Snapshots since 1.16.4-pre1 count from here, in an order of their own, so
/// that a number says nothing about the packets without a table.
const SNAPSHOTS_FROM: i32 = 0x4000_0000;

/// Whether the number belongs to a snapshot, a pre-release or a release candidate.
#[must_use]
pub const fn is_snapshot(protocol: i32) -> bool {
    protocol >= SNAPSHOTS_FROM
}
