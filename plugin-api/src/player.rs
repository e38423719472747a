//! Players, and the services that reach them.
#![allow(unsafe_code, reason = "services are C tables of the host")]

use std::ffi::c_void;
use std::fmt;

use infrarust_plugin_abi::{IdentityTable, ProfileSink, Str, size_of_table, status};

use crate::capability::IdentityVerified;
use crate::host::Grant;

/// A player in the game, from `Joined` to `Left` of
/// [`PlayerObserve`](crate::PlayerObserve). No two players of a process have the
/// same, and none gets it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlayerId(u64);

impl PlayerId {
    /// The player with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Why a service did not do what it was asked to do for a player.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceError {
    /// The player has left.
    Gone,
    /// The plugin may not do that on the player's server: its mode does not offer
    /// it, or the plugin is not attached to it.
    NotGranted,
    /// The host could not do it.
    Failed,
}

impl ServiceError {
    /// What a status means; nothing where the call was done.
    fn check(status: i32) -> Result<(), Self> {
        match status {
            status::OK => Ok(()),
            status::GONE => Err(Self::Gone),
            status::DENIED => Err(Self::NotGranted),
            _ => Err(Self::Failed),
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the player has left",
            Self::NotGranted => "it is not granted on the server of this player",
            Self::Failed => "the host could not do it",
        })
    }
}

impl std::error::Error for ServiceError {}

/// Who a player is, as the session service has confirmed to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// The name, as the service writes it.
    pub name: String,
    /// The UUID.
    pub uuid: u128,
    /// The properties: usually one, `textures`, with skin and cape.
    pub properties: Vec<Property>,
}

/// A property of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Property {
    /// The name.
    pub name: String,
    /// The value; of `textures`, base64.
    pub value: String,
    /// The signature of the service, where it gives one.
    pub signature: Option<String>,
}

impl Grant<IdentityVerified> {
    /// The profile that was proved for a player.
    ///
    /// On any thread, also inside a hook; takes no lock of another player. The
    /// profile is a copy and stays true after the player has left.
    ///
    /// # Errors
    ///
    /// [`Gone`](ServiceError::Gone), and [`NotGranted`](ServiceError::NotGranted)
    /// on servers whose proxy does not prove who a player is.
    pub fn profile(&self, player: PlayerId) -> Result<Profile, ServiceError> {
        let mut profile = Profile {
            name: String::new(),
            uuid: 0,
            properties: Vec::new(),
        };
        let sink = ProfileSink {
            size: size_of_table::<ProfileSink>(),
            reserved: 0,
            ctx: (&raw mut profile).cast(),
            player: Some(take_player),
            property: Some(take_property),
        };
        // SAFETY: a grant of this capability has this table.
        let table = unsafe { self.table.get::<IdentityTable>() };
        let get = table.and_then(|table| table.profile);
        let get = get.ok_or(ServiceError::Failed)?;
        // SAFETY: the context belongs to the host, the sink is good for the call.
        let status = unsafe { get(self.link.host.ctx, player.0, &raw const sink) };
        ServiceError::check(status).map(|()| profile)
    }
}

unsafe extern "C" fn take_player(ctx: *mut c_void, name: Str, uuid: *const u8) {
    // SAFETY: the context is the profile of the call that runs, the text is good
    // for the call, and so are the 16 bytes.
    let (profile, name, uuid) = unsafe {
        (
            &mut *ctx.cast::<Profile>(),
            name.text(),
            uuid.cast::<[u8; 16]>().read(),
        )
    };
    name.clone_into(&mut profile.name);
    profile.uuid = u128::from_be_bytes(uuid);
}

unsafe extern "C" fn take_property(
    ctx: *mut c_void,
    name: Str,
    value: Str,
    signature: Str,
    has_signature: u32,
) {
    // SAFETY: the context is the profile of the call that runs, and the texts are
    // good for the call.
    let (profile, name, value, signature) = unsafe {
        (
            &mut *ctx.cast::<Profile>(),
            name.text(),
            value.text(),
            signature.text(),
        )
    };
    profile.properties.push(Property {
        name: name.to_owned(),
        value: value.to_owned(),
        signature: (has_signature != 0).then(|| signature.to_owned()),
    });
}
