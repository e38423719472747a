//! The first message of a client, in the current protocol or in one before 1.7. It
//! gives a host, an intent, and the dialect of the login packets.

use bytes::Bytes;

use crate::protocol::handshake::{Handshake, HostField, Intent};
use crate::protocol::legacy::{self, LegacyLogin, LegacyPing};
use crate::protocol::login;

/// What a client sent first.
#[derive(Debug)]
pub(super) struct Opening {
    /// What it is.
    pub(super) first: First,
    /// The host field; empty in the forms of the protocol that have none.
    pub(super) host: HostField,
    /// The bytes of the message, unchanged.
    pub(super) wire: Bytes,
}

/// The first packet.
#[derive(Debug)]
pub(super) enum First {
    /// A handshake (1.7 and newer).
    Handshake(Handshake),
    /// A status ping of a client up to 1.6.
    LegacyPing(LegacyPing),
    /// A login of a client up to 1.6.
    LegacyLogin(LegacyLogin),
}

/// The family of login packets that the client uses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialect {
    /// 1.7 and newer.
    Modern(i32),
    /// Up to 1.6.
    Legacy,
}

impl Dialect {
    /// The packet that ends a login with a text.
    pub(super) fn disconnect(self, text: &str) -> Vec<u8> {
        match self {
            Dialect::Modern(protocol) => login::disconnect(protocol, text),
            Dialect::Legacy => legacy::kick(text),
        }
    }
}

impl Opening {
    pub(super) fn handshake(handshake: Handshake, wire: Bytes) -> Self {
        let host = handshake.host.clone();
        Self {
            first: First::Handshake(handshake),
            host,
            wire,
        }
    }

    pub(super) fn legacy_ping(ping: LegacyPing, wire: Bytes) -> Self {
        let host = ping.host_field();
        Self {
            first: First::LegacyPing(ping),
            host,
            wire,
        }
    }

    pub(super) fn legacy_login(login: LegacyLogin, wire: Bytes) -> Self {
        let host = login.host_field();
        Self {
            first: First::LegacyLogin(login),
            host,
            wire,
        }
    }

    /// What the client wants.
    pub(super) fn intent(&self) -> Intent {
        match &self.first {
            First::Handshake(handshake) => handshake.intent,
            First::LegacyPing(_) => Intent::Status,
            First::LegacyLogin(_) => Intent::Login,
        }
    }

    /// The protocol version that the client announces; -1 before 1.7.
    pub(super) fn protocol(&self) -> i32 {
        match &self.first {
            First::Handshake(handshake) => handshake.protocol,
            First::LegacyPing(_) | First::LegacyLogin(_) => -1,
        }
    }

    /// The first packet with this host field.
    pub(super) fn with_host(&self, host_field: &str) -> Bytes {
        if host_field == self.host.as_str() {
            return self.wire.clone();
        }
        match &self.first {
            First::Handshake(handshake) => handshake.encode_with_host(host_field),
            First::LegacyPing(ping) => ping.rewrite(host_field),
            First::LegacyLogin(login) => login.rewrite(host_field),
        }
        .into()
    }

    /// Makes a transfer a login: a client that has been on a server of this proxy comes
    /// from there, whatever brought it to the proxy. Backends refuse transfers where
    /// their settings do not accept them.
    pub(super) fn become_login(&mut self) {
        if let First::Handshake(handshake) = &mut self.first
            && handshake.intent == Intent::Transfer
        {
            handshake.intent = Intent::Login;
            self.wire = handshake.encode_with_host(self.host.as_str()).into();
        }
    }

    /// The family of login packets that the client and its backend use.
    pub(super) fn dialect(&self) -> Dialect {
        match &self.first {
            First::Handshake(handshake) => Dialect::Modern(handshake.protocol),
            First::LegacyPing(_) | First::LegacyLogin(_) => Dialect::Legacy,
        }
    }
}
