//! The matrix: which capabilities each mode offers, and the reason for each one
//! that it does not offer.
//!
//! A capability names the [`Stage`] of a connection that it needs, in its row of the
//! table; here is what each mode does at each stage. There is no other source: the
//! configuration rules, the command line, the documents and the plugin host all read it.

use std::fmt;

pub(crate) use infrarust_plugin_abi::Capability;
use infrarust_plugin_abi::Stage;

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

/// Whether `mode` offers `capability`: whether it takes part in the stage of a connection
/// that the capability needs.
#[must_use]
pub(crate) const fn offer(mode: Mode, capability: Capability) -> Offer {
    match (capability.stage(), mode) {
        (
            Stage::Opening,
            Mode::Passthrough
            | Mode::ZeroCopy
            | Mode::ServerOnly
            | Mode::ClientOnly
            | Mode::Offline,
        )
        | (Stage::Proof | Stage::Encryption | Stage::Packets, Mode::ClientOnly)
        | (Stage::Packets, Mode::Offline) => Offer::Yes,

        (Stage::Proof, Mode::Passthrough | Mode::ZeroCopy | Mode::ServerOnly) => {
            Offer::No(Reason::BackendAuthenticates)
        }
        (Stage::Proof, Mode::Offline) => Offer::No(Reason::NobodyAuthenticates),
        (Stage::Encryption, Mode::Offline) => Offer::No(Reason::NoKeyExchange),
        (Stage::Encryption | Stage::Packets, Mode::Passthrough | Mode::ServerOnly) => {
            Offer::No(Reason::OnlyMovesBytes)
        }
        (Stage::Encryption | Stage::Packets, Mode::ZeroCopy) => Offer::No(Reason::KernelMovesBytes),
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
