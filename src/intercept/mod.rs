//! The intercepted modes: the proxy speaks the protocol on both sides.
//!
//! The steps of a login, each with the type that it returns:
//!
//! 1. A client has sent its login start: [`StartedLogin`].
//! 2. Its identity is settled: [`IdentifiedClient`]. In `client_only` the session service proves
//!    it, in `offline` the client's claim is accepted.
//! 3. A backend accepts the login ([`log_in`]): [`LoggedIn`]. Only then does the client
//!    get its login success, so that until here it can be shown any refusal in the login
//!    state, which works in every version.
//! 4. The client goes through the configuration into the game ([`join()`]): [`Playing`].
//!    Until here the task of the connection passes single frames, with a deadline.
//! 5. A relay thread passes frames in runs (`forward::framed`) until the session ends:
//!    [`Ended`].
//! 6. If the backend is lost, the client is [`DetachedClient`]; an [`Arrival`] at another
//!    backend makes it [`Playing`] again.
//!
//! In each step both directions know their protocol state, so that the session can end
//! with a text at any time: [`ClosingClient`].

mod arrival;
mod backend;
mod detached;
mod failure;
mod flag;
mod held;
mod identity;
mod join;
mod key;
mod login;
mod mods;
mod player_handle;
mod playing;
mod reader;
mod roster;
mod scope;
mod session_service;
mod settings;
mod time_budget;
mod wire;

pub(crate) use arrival::{Arrival, Interrupts, Prepared};
pub(crate) use backend::{ConnectedBackend, LoggedIn, RespondingBackend, check_version};
pub(crate) use detached::DetachedClient;
pub(crate) use failure::Failure;
pub(crate) use flag::Flag;
pub(crate) use identity::{Identity, Who, host_field, uuid_at};
pub(crate) use join::{ClientSettings, NotJoined, join, log_in};
pub(crate) use login::{Authenticator, IdentifiedClient, StartedLogin};
pub(crate) use player_handle::{
    By, ChatLine, NotSwitched, PlayerDetails, PlayerHandle, SessionRequest, SwitchRequest,
};
pub(crate) use playing::{Ended, Playing, RemainingClient, Rules};
pub(crate) use reader::{ClosingClient, Lost};
pub(crate) use roster::{Roster, RosterEntry};
pub(crate) use scope::{scope, scope_of_network};
pub(crate) use session_service::SessionError;
pub use settings::{
    ClientCompression, DuplicateLogin, HostForwarding, IdentityForwarding, LoginConfig, Secret,
};
