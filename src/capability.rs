//! The matrix: which capabilities each mode offers, and the reason for each one
//! that it does not offer.
//!
//! This table is the only source: the configuration rules, the command line, the
//! documents and the plugin host all read it.

use std::fmt;

pub(crate) use infrarust_plugin_abi::Capability;

use crate::mode::Mode;

/// Whether a mode offers a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// The mode offers it.
    Yes,
    /// The mode does not offer it, for this reason.
    No(Reason),
}

/// Why a mode cannot offer a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The proxy no longer sees packets.
    OnlyMovesBytes,
    /// As [`Reason::OnlyMovesBytes`], and the bytes stay in the kernel.
    KernelMovesBytes,
    /// The backend authenticates, so the proxy never learns the result.
    BackendAuthenticates,
    /// Nobody authenticates.
    NobodyAuthenticates,
    /// Without authentication there is no shared key.
    NoKeyExchange,
}

impl Reason {
    /// The reason in words: a clause that can follow a caret or a comma.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Reason::OnlyMovesBytes => {
                "after the login start the proxy only moves bytes, which may be encrypted from \
                 client to backend"
            }
            Reason::KernelMovesBytes => {
                "after the login start the kernel moves the bytes, and they never enter the proxy"
            }
            Reason::BackendAuthenticates => {
                "the backend authenticates the player, and the proxy does not learn the result"
            }
            Reason::NobodyAuthenticates => "in this mode nobody authenticates the player",
            Reason::NoKeyExchange => {
                "encryption begins with the authentication that this mode leaves out"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Whether `mode` offers `capability`.
#[must_use]
pub(crate) const fn offer(mode: Mode, capability: Capability) -> Offer {
    match capability {
        Capability::ConnectionDecide
        | Capability::HandshakeRewrite
        | Capability::StatusRespond
        | Capability::LoginDecide
        | Capability::RouteSelect
        | Capability::SessionObserve
        | Capability::ForwardingHost => Offer::Yes,

        Capability::IdentityVerified => match mode {
            Mode::Passthrough | Mode::ZeroCopy | Mode::ServerOnly => {
                Offer::No(Reason::BackendAuthenticates)
            }
            Mode::ClientOnly => Offer::Yes,
            Mode::Offline => Offer::No(Reason::NobodyAuthenticates),
        },

        Capability::PacketInspect
        | Capability::PacketModify
        | Capability::PacketInject
        | Capability::PlayerMessage
        | Capability::ServerSwitch
        | Capability::PlayerCommand
        | Capability::PlayerObserve
        | Capability::PlayerTransfer
        | Capability::PlayerCookie
        | Capability::Limbo
        | Capability::NetworkMember
        | Capability::ForwardingSigned
        | Capability::ClientCompression => match mode {
            Mode::Passthrough | Mode::ServerOnly => Offer::No(Reason::OnlyMovesBytes),
            Mode::ZeroCopy => Offer::No(Reason::KernelMovesBytes),
            Mode::ClientOnly | Mode::Offline => Offer::Yes,
        },

        Capability::ClientEncryption => match mode {
            Mode::Passthrough | Mode::ServerOnly => Offer::No(Reason::OnlyMovesBytes),
            Mode::ZeroCopy => Offer::No(Reason::KernelMovesBytes),
            Mode::ClientOnly => Offer::Yes,
            Mode::Offline => Offer::No(Reason::NoKeyExchange),
        },
    }
}

/// The modes that offer `capability`, in the order of [`Mode::ALL`].
pub(crate) fn modes_with(capability: Capability) -> impl Iterator<Item = Mode> {
    Mode::ALL
        .into_iter()
        .filter(move |mode| offer(*mode, capability) == Offer::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No forwarding mode offers anything that needs a packet.
    #[test]
    fn forwarding_modes_never_offer_packets() {
        for capability in Capability::ALL {
            if capability.name().starts_with("packet.") {
                let modes: Vec<_> = modes_with(*capability).collect();
                assert_eq!(modes, [Mode::ClientOnly, Mode::Offline]);
            }
        }
    }
}
