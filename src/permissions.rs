//! Who may use which command, of the proxy or of a plugin.

/// What the configuration says about commands of the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Who may use all of them.
    pub admins: Vec<Admin>,
    /// The names, in lower case, of those that every player may use.
    pub player_commands: Vec<String>,
    /// Whether a name or id that nobody has proved makes an admin.
    pub trust_offline_admins: bool,
}

/// A player who may use all commands of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// By the name, in upper or lower case.
    Name(String),
    /// By the player id.
    Uuid([u8; 16]),
}

/// The players who may use a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// All.
    Everybody,
    /// Admins, and all if the configuration lists the command in `player_commands`.
    PlayerCommands,
    /// Admins alone.
    Admins,
}

/// The facts about a player that decide about permissions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandSender<'a> {
    pub(crate) name: &'a str,
    pub(crate) uuid: [u8; 16],
    /// Whether the proxy has authenticated the player.
    pub(crate) is_proved: bool,
}

impl Permissions {
    /// Whether a player may use a command of this name, in lower case.
    pub(crate) fn allow(&self, asker: CommandSender<'_>, name: &str, audience: Audience) -> bool {
        match audience {
            Audience::Everybody => true,
            Audience::PlayerCommands => {
                self.player_commands.iter().any(|listed| listed == name) || self.is_admin(asker)
            }
            Audience::Admins => self.is_admin(asker),
        }
    }

    /// Whether a player may use all commands.
    pub(crate) fn is_admin(&self, asker: CommandSender<'_>) -> bool {
        if !asker.is_proved && !self.trust_offline_admins {
            return false;
        }
        self.admins.iter().any(|admin| match admin {
            Admin::Name(name) => name.eq_ignore_ascii_case(asker.name),
            Admin::Uuid(uuid) => *uuid == asker.uuid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Admins may use all commands, other players those that the configuration allows. A
    /// claimed name does not make an admin, unless the operator trusts it.
    #[test]
    fn rights_follow_the_configuration() {
        let mut permissions = Permissions {
            admins: vec![Admin::Name("Alice".to_owned()), Admin::Uuid([7; 16])],
            player_commands: vec!["server".to_owned()],
            trust_offline_admins: false,
        };
        let asker = |name, uuid, is_proved| CommandSender {
            name,
            uuid,
            is_proved,
        };
        let alice = asker("aLICE", [1; 16], true);
        let by_uuid = asker("Carol", [7; 16], true);
        let bob = asker("Bob", [2; 16], true);
        let forged = asker("Alice", [7; 16], false);
        for (player, is_admin) in [
            (alice, true),
            (by_uuid, true),
            (bob, false),
            (forged, false),
        ] {
            let may = |name, audience| permissions.allow(player, name, audience);
            assert!(may("x", Audience::Everybody));
            assert!(may("server", Audience::PlayerCommands));
            assert_eq!(may("send", Audience::PlayerCommands), is_admin);
            assert_eq!(may("server", Audience::Admins), is_admin);
        }
        permissions.trust_offline_admins = true;
        assert!(permissions.is_admin(forged));
        assert!(!permissions.is_admin(asker("Bob", [2; 16], false)));
    }
}
