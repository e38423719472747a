//! `packet-greeter`: greets players with a packet of its own.
//!
//! One call sends the packet in the form of each player's version of the game. The plugin
//! needs `packet.inject`: if it is attached to a server in `passthrough`, `zero_copy` or
//! `server_only`, `infrarust check` reports an error with both lines and the reason.
//! `infrarust demo` shows both. For texts alone, `player.message` is enough:
//! `welcome`, which ships with the proxy, uses it.
#![forbid(unsafe_code)]

use infrarust_plugin_api::Grant;
use infrarust_plugin_api::prelude::*;

/// The plugin has no settings.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {}

struct PacketGreeter {
    packets: Grant<capability::PacketInject>,
}

impl Plugin for PacketGreeter {
    type Config = Config;

    fn new(_: Config, host: &Host<Self>) -> Result<Self> {
        let packets = host.grant();
        let packets = packets.ok_or_else(|| Error::msg("this proxy cannot send packets"))?;
        Ok(Self { packets })
    }
}

impl PlayerObserve for PacketGreeter {
    fn player_observe(&self, player: &Player<'_>) -> Result<()> {
        if player.event() == PlayerEvent::Joined {
            let text = format!("§aHello {}!§r A plugin sends this packet.", player.name());
            let line = Outgoing::new(PacketKind::SystemMessage).with(PacketField::Text, text);
            self.packets.send(player.id(), &line)?;
        }
        Ok(())
    }
}

export_plugin! {
    plugin: PacketGreeter,
    name: "packet-greeter",
    hooks: [PlayerObserve],
    needs: [PacketInject],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, Sent, TestHost};

    /// A player who joins gets the line, and one who leaves gets nothing.
    #[test]
    fn players_are_greeted() {
        let plugin = TestHost::<PacketGreeter>::start("").unwrap();
        let (steve, id) = (Client::new(), PlayerId::from_number(1));
        plugin
            .player_observe(&steve, id, PlayerEvent::Joined)
            .unwrap();
        let text = Text::from("§aHello Steve!§r A plugin sends this packet.");
        let line = Outgoing::new(PacketKind::SystemMessage).with(PacketField::Text, text);
        assert_eq!(plugin.take_sent(id), [Sent::Packet(line)]);
        let left = PlayerEvent::Left { reason: "closed" };
        plugin.player_observe(&steve, id, left).unwrap();
        assert_eq!(plugin.take_sent(id), []);
    }
}
