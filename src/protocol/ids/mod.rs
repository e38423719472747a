//! Which packet has which id, in every version of the game.
//!
//! One generated table (`table.rs`, made by `generate.rs`) has every packet of every
//! release in the states login, configuration and play. The packets that the proxy
//! knows have a kind, [`Clientbound`] or [`Serverbound`], which is the same in every
//! version and in every state that has the packet.

#[cfg(test)]
mod generate;
mod table;

use std::fmt;
use std::sync::OnceLock;

pub use table::{Clientbound, Serverbound};

/// The state of one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// From the login start to the login success.
    Login,
    /// Between login and play, since 1.20.2.
    Configuration,
    /// The game.
    Play,
}

/// The direction of packets, and of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a server to a client.
    Clientbound,
    /// From a client to a server.
    Serverbound,
}

impl Direction {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Serverbound => "serverbound",
            Direction::Clientbound => "clientbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Clientbound {
    /// The state after this packet, if it begins or ends a configuration.
    #[must_use]
    pub const fn leads_to(self) -> Option<State> {
        match self {
            Self::StartConfiguration => Some(State::Configuration),
            Self::FinishConfiguration => Some(State::Play),
            _ => None,
        }
    }
}

impl Serverbound {
    /// The state after this packet, if it begins or ends a configuration.
    #[must_use]
    pub const fn leads_to(self) -> Option<State> {
        match self {
            Self::LoginAcknowledged | Self::ConfigurationAcknowledged => Some(State::Configuration),
            Self::FinishConfiguration => Some(State::Play),
            _ => None,
        }
    }
}

/// A line of the table.
struct Row {
    state: State,
    direction: Direction,
    name: &'static str,
    /// Protocol numbers, each with the id from that version on; `-1` where the
    /// packet does not exist.
    ids: &'static [(i32, i16)],
}

impl Row {
    fn id(&self, protocol: i32) -> Option<u8> {
        let run = self.ids.iter().rev().find(|(from, _)| *from <= protocol)?;
        u8::try_from(run.1).ok()
    }
}

/// The packets of one direction that the proxy knows.
pub trait Kind: Copy + Eq + 'static {
    /// Their direction.
    const DIRECTION: Direction;
    /// The number of this kind, which never changes.
    fn number(self) -> u8;
    /// The kind with this number.
    fn from_number(number: u8) -> Option<Self>;
    /// The kind of the packet with this name in the table.
    fn from_name(name: &str) -> Option<Self>;
}

/// Declares an enum of kinds, each with its number and the names of its packet in
/// the table.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal [$($packet:literal),+],)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum $name { $($variant = $number,)+ }

        impl super::Kind for $name {
            const DIRECTION: super::Direction = super::Direction::$name;

            fn number(self) -> u8 {
                self as u8
            }

            fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($($packet)|+ => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
use kinds;

/// The ids of one state and direction in one version.
struct List {
    /// Indexed by id: the name of the packet, and the number of its kind or 0.
    by_id: Vec<(Option<&'static str>, u8)>,
    /// Indexed by the number of the kind: its id.
    by_kind: [Option<u8>; 256],
}

/// The lists of one version: `[state][direction]`.
type Lists = [[List; 2]; 3];

const VERSIONS_MAX: u8 = 64;
const _: () = assert!(table::RELEASES.len() <= VERSIONS_MAX as usize);

/// The lists of each version, made when the version is first used: one proxy uses
/// few of the more than fifty.
static LISTS: [OnceLock<Lists>; VERSIONS_MAX as usize] =
    [const { OnceLock::new() }; VERSIONS_MAX as usize];

/// A version that the table describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Its index in [`table::RELEASES`].
    index: u8,
}

impl Version {
    /// The version with this protocol number, if the table describes it.
    #[must_use]
    pub fn of(protocol: i32) -> Option<Self> {
        let found = table::RELEASES.binary_search_by_key(&protocol, |release| release.0);
        let index = u8::try_from(found.ok()?).ok()?;
        Some(Self { index })
    }

    /// The newest version of the table.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are at most `VERSIONS_MAX`"
    )]
    pub const fn newest() -> Self {
        Self {
            index: (table::RELEASES.len() - 1) as u8,
        }
    }

    /// All versions, the oldest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..VERSIONS_MAX)
            .take(table::RELEASES.len())
            .map(|index| Self { index })
    }

    /// The protocol number.
    #[must_use]
    pub const fn protocol(self) -> i32 {
        table::RELEASES[self.index as usize].0
    }

    /// The game versions that speak it, such as `1.20.5, 1.20.6`.
    #[must_use]
    pub fn games(self) -> &'static str {
        table::RELEASES[usize::from(self.index)].1
    }

    /// The id of a packet, if the version has it in this state.
    #[must_use]
    pub fn id<K: Kind>(self, state: State, kind: K) -> Option<u8> {
        self.list(state, K::DIRECTION).by_kind[usize::from(kind.number())]
    }

    /// The kind of the packet with this id, if it is one that the proxy knows.
    #[must_use]
    pub fn kind<K: Kind>(self, state: State, id: i32) -> Option<K> {
        let index = usize::try_from(id).ok()?;
        let (_, number) = self.list(state, K::DIRECTION).by_id.get(index)?;
        K::from_number(*number)
    }

    /// The name of the packet with this id, for logs.
    #[must_use]
    pub fn name(self, state: State, direction: Direction, id: i32) -> Option<&'static str> {
        let index = usize::try_from(id).ok()?;
        self.list(state, direction).by_id.get(index)?.0
    }

    fn list(self, state: State, direction: Direction) -> &'static List {
        let lists = LISTS[usize::from(self.index)].get_or_init(|| lists(self.protocol()));
        &lists[state as usize][direction as usize]
    }
}

fn lists(protocol: i32) -> Lists {
    let states = [State::Login, State::Configuration, State::Play];
    states.map(|state| {
        [
            list::<Clientbound>(protocol, state),
            list::<Serverbound>(protocol, state),
        ]
    })
}

fn list<K: Kind>(protocol: i32, state: State) -> List {
    let mut list = List {
        by_id: Vec::new(),
        by_kind: [None; 256],
    };
    for row in table::ROWS {
        if (row.state, row.direction) != (state, K::DIRECTION) {
            continue;
        }
        let Some(id) = row.id(protocol) else { continue };
        let index = usize::from(id);
        if list.by_id.len() <= index {
            list.by_id.resize(index + 1, (None, 0));
        }
        let number = K::from_name(row.name).map_or(0, Kind::number);
        list.by_id[index] = (Some(row.name), number);
        list.by_kind[usize::from(number)] = Some(id);
    }
    // Number 0 means a packet without a kind.
    list.by_kind[0] = None;
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looking up a kind by id and an id by kind agree, in every version and state.
    #[test]
    fn look_ups_agree() {
        for version in Version::all() {
            for state in [State::Login, State::Configuration, State::Play] {
                agree::<Clientbound>(version, state);
                agree::<Serverbound>(version, state);
            }
        }
    }

    fn agree<K: Kind + fmt::Debug>(version: Version, state: State) {
        for kind in (0..=u8::MAX).filter_map(K::from_number) {
            if let Some(id) = version.id(state, kind) {
                assert_eq!(version.kind::<K>(state, i32::from(id)), Some(kind));
                assert!(version.name(state, K::DIRECTION, i32::from(id)).is_some());
            }
        }
        for id in [-1, 0x100, i32::MAX] {
            assert_eq!(version.kind::<K>(state, id), None);
        }
    }

    /// Only releases are in the table.
    #[test]
    fn only_releases_are_known() {
        assert_eq!(Version::of(4).map(Version::games), Some("1.7.2 to 1.7.5"));
        assert_eq!(Version::newest().protocol(), 777);
        for unknown in [-1, 0, 3, 6, 46, 778, 0x4000_0001] {
            assert_eq!(Version::of(unknown), None, "{unknown}");
        }
    }
}
