//! The protocol numbers at which something changes that the proxy reads or writes,
//! and which numbers belong to releases.
//!
//! A constant is named after the game version that introduced its number; its
//! comment says what changed in that version.

use super::ids::Version;

/// 1.8: compression, and byte arrays whose length is a VarInt.
pub(crate) const V1_8: i32 = 47;
/// 1.9: clients confirm where they were put.
pub(crate) const V1_9: i32 = 107;
/// 1.9.1: the dimension of a join game has four bytes.
pub(crate) const V1_9_1: i32 = 108;
/// 1.10: the state of a resource pack no longer names it.
pub(crate) const V1_10: i32 = 210;
/// 1.11: lines of chat of up to 256 characters.
pub(crate) const V1_11: i32 = 315;
/// 1.12: texts of key bindings.
pub(crate) const V1_12: i32 = 335;
/// 1.12.2: keep alives of eight bytes.
pub(crate) const V1_12_2: i32 = 340;
/// 1.13: plugin requests during login; completions with a number.
pub(crate) const V1_13: i32 = 393;
/// 1.14: texts of NBT.
pub(crate) const V1_14: i32 = 477;
/// 1.15: clicks that copy.
pub(crate) const V1_15: i32 = 573;
/// 1.16: player ids are 16 bytes, no longer texts.
pub(crate) const V1_16: i32 = 735;
/// 1.16.2: whether a world is hardcore is a field of its own.
pub(crate) const V1_16_2: i32 = 751;
/// 1.17: each action of a title is a packet of its own.
pub(crate) const V1_17: i32 = 755;
/// 1.18: clients take a compressed packet below their threshold.
pub(crate) const V1_18: i32 = 757;
/// 1.19: the login start may carry a signed key.
pub(crate) const V1_19: i32 = 759;
/// 1.19.1: the login start may carry a player id too.
pub(crate) const V1_19_1: i32 = 760;
/// 1.19.3: the login start no longer carries a key.
pub(crate) const V1_19_3: i32 = 761;
/// 1.20.2: the login start always carries a player id; the configuration phase.
pub(crate) const V1_20_2: i32 = 764;
/// 1.20.3: text components are NBT outside the login.
pub(crate) const V1_20_3: i32 = 765;
/// 1.20.5: transfers, cookies, and whether an encryption request authenticates.
pub(crate) const V1_20_5: i32 = 766;
/// 1.21.2: the login success no longer says how strict the client is.
pub(crate) const V1_21_2: i32 = 768;
/// 1.21.5: other keys for clicks and hovers in texts.
pub(crate) const V1_21_5: i32 = 770;
/// 1.21.6: dialogs.
pub(crate) const V1_21_6: i32 = 771;
/// 1.21.9: texts of sprites and heads.
pub(crate) const V1_21_9: i32 = 773;
/// 26.2: the login success carries the id of the proxy's session.
pub(crate) const V26_2: i32 = 776;
/// The newest release in the table of packets. In newer versions further fields are accepted.
pub(crate) const NEWEST: i32 = Version::newest().protocol();

/// Snapshots since 1.16.4-pre1 are numbered from here, in an order of their own:
/// their numbers do not say between which releases they are.
const SNAPSHOTS_FROM: i32 = 0x4000_0000;

/// The numbers of the releases from 1.7.2 to 1.18.1 (the list of protocol
/// versions on minecraft.wiki).
const EARLY_RELEASES: [i32; 32] = [
    4, 5, 47, 107, 108, 109, 110, 210, 315, 316, 335, 338, 340, 393, 401, 404, 477, 480, 485, 490,
    498, 573, 575, 578, 735, 736, 751, 753, 754, 755, 756, 757,
];
/// From here on, 1.18.2, each number is that of a release.
const RELEASES_FROM: i32 = 758;
/// How many future releases count as known: those of some years.
const TO_COME: i32 = 30;

/// Whether a release of the game has this number, or one of the next years may.
#[must_use]
pub(crate) fn is_known(protocol: i32) -> bool {
    (RELEASES_FROM..=NEWEST + TO_COME).contains(&protocol) || EARLY_RELEASES.contains(&protocol)
}

/// Whether a release between 1.4.2 and 1.6.4 has this number. Versions before 1.7
/// are numbered separately.
#[must_use]
pub(crate) const fn is_known_legacy(protocol: u8) -> bool {
    matches!(protocol, 47 | 49 | 51 | 60 | 61 | 73 | 74 | 77 | 78)
}

/// Whether the number belongs to a snapshot, a pre-release or a release candidate.
#[must_use]
pub(crate) const fn is_snapshot(protocol: i32) -> bool {
    protocol >= SNAPSHOTS_FROM
}
