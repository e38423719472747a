//! Capabilities as types, so that a missing declaration does not compile.

use crate::Capability;

/// A capability as a type; see [`capability`].
pub trait Cap: 'static {
    /// The capability.
    const ID: Capability;
}

/// The plugin has listed the capability `C` in `needs` or `wants`.
///
/// [`export_plugin!`](crate::export_plugin) implements it.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` did not declare the capability `{C}`",
    label = "not declared",
    note = "add it to `needs: [...]` in `export_plugin!` (or to `wants: [...]`, if the plugin can do without); the proxy then holds it against the mode of each server"
)]
pub trait Declares<C: Cap> {}

macro_rules! caps {
    ($($name:ident),+ $(,)?) => {
        /// One type per capability, with the names of [`Capability`].
        pub mod capability {
            $(
                #[doc = concat!("The type of [`Capability::", stringify!($name), "`](crate::Capability::", stringify!($name), ").")]
                #[derive(Debug, Clone, Copy)]
                pub struct $name;
                impl crate::Cap for $name {
                    const ID: crate::Capability = crate::Capability::$name;
                }
            )+
        }

        #[cfg(test)]
        const ALL: &[Capability] = &[$(<capability::$name as Cap>::ID),+];
    };
}

caps! {
    ConnectionDecide, HandshakeRewrite, StatusRespond, LoginDecide, RouteSelect, SessionObserve,
    IdentityVerified, PacketInspect, PacketModify, PacketInject, PlayerMessage, ServerSwitch,
    PlayerCommand, Limbo, NetworkMember, ForwardingSigned, ForwardingHost, ClientEncryption,
    ClientCompression,
}

#[cfg(test)]
mod tests {
    /// No capability is without its type.
    #[test]
    fn every_capability_has_a_type() {
        assert_eq!(super::ALL, super::Capability::ALL);
    }
}
