//! The packets that the packet hooks of a plugin get.

use infrarust_plugin_abi::{PacketKind, packet_interest};

use super::ffi::{self, Failure, Image, Instance};
use crate::protocol::packet::Direction;

/// The packets that one hook gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) kinds: Vec<PacketKind>,
    /// Whether it gets all packets of a direction.
    all: [bool; 2],
}

/// The interests of the two packet hooks of a plugin.
#[derive(Debug, Default)]
pub(super) struct Interests {
    pub(super) inspect: Interest,
    pub(super) modify: Interest,
}

impl Interests {
    /// Asks a new instance of a plugin, and waits as long as it takes.
    pub(super) fn ask(image: &Image, instance: &Instance) -> Result<Self, Box<Failure>> {
        let mut interests = Self::default();
        if let Some(hook) = image.hooks.packet_inspect {
            interests.inspect = Interest::of(&ffi::ask_interest(instance, hook)?);
        }
        if let Some(hook) = image.hooks.packet_modify {
            interests.modify = Interest::of(&ffi::ask_interest(instance, hook)?);
        }
        Ok(interests)
    }
}

impl Interest {
    /// Unknown numbers belong to a later version, and are ignored.
    fn of(numbers: &[u32]) -> Self {
        let kinds = numbers
            .iter()
            .filter_map(|number| u16::try_from(*number).ok());
        Self {
            kinds: kinds.filter_map(PacketKind::from_number).collect(),
            all: [
                numbers.contains(&packet_interest::ALL_TO_CLIENT),
                numbers.contains(&packet_interest::ALL_TO_BACKEND),
            ],
        }
    }

    /// Whether it gets all packets of a direction.
    pub(super) const fn has_all(&self, direction: Direction) -> bool {
        match direction {
            Direction::Clientbound => self.all[0],
            Direction::Serverbound => self.all[1],
        }
    }

    /// Whether it gets packets of this direction and kind; `None` is a packet without a kind.
    pub(super) fn has(&self, direction: Direction, kind: Option<PacketKind>) -> bool {
        self.has_all(direction) || kind.is_some_and(|kind| self.kinds.contains(&kind))
    }

    /// Whether it gets lines of chat or commands of players.
    pub(super) fn has_chat(&self) -> bool {
        let direction = Direction::Serverbound;
        let chat = [PacketKind::ChatMessage, PacketKind::ChatCommand];
        chat.into_iter().any(|kind| self.has(direction, Some(kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interest consists of the named packets; unknown numbers are ignored.
    #[test]
    fn interests_are_what_was_named() {
        let chat = PacketKind::ChatMessage;
        let named = Interest::of(&[chat.number().into(), 9999, 0x1_FFFF]);
        assert!(named.has(Direction::Serverbound, Some(chat)));
        assert!(named.has_chat());
        assert!(!named.has(Direction::Serverbound, None));
        assert!(!named.has(Direction::Clientbound, Some(PacketKind::Title)));
        let all = Interest::of(&[packet_interest::ALL_TO_CLIENT]);
        assert!(all.has(Direction::Clientbound, None));
        assert!(!all.has(Direction::Serverbound, None));
        assert!(!all.has_chat());
    }
}
