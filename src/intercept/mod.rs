//! The intercepted modes: the proxy speaks the protocol on both sides.
//!
//! A player comes here with a login start ([`Newcomer`]). In `client_only` the
//! session service proves who he is, in `offline` nobody does; either way he is
//! [`Proved`] afterwards, and can still be refused in the login state. Then the
//! backend lets him in ([`join()`]): only when it has does the client read that
//! its login has succeeded, so that whatever the backend or the way to it has
//! against the player can be said in the login state, in every version.
//!
//! From there on frames pass both ways. Until the player is in the game the
//! task of the connection passes them one by one and keeps a deadline; in play
//! a relay thread passes them in runs (`forward::framed`). Either way each
//! direction knows its state, so that a text can end the session wherever it
//! is: see [`Playing`].

mod arrival;
mod backend;
mod failure;
mod identity;
mod join;
mod key;
mod login;
mod reader;
mod roster;
mod session_service;
mod settings;
mod stranded;
mod turns;
mod wire;

pub(crate) use arrival::Arrival;
pub(crate) use backend::{Answering, Dialled, LoggedIn, check_version};
pub(crate) use failure::Failure;
pub(crate) use identity::{Identity, Who, host_field};
pub(crate) use join::{ClientSettings, Ended, Left, NotJoined, Playing, Rules, join, log_in};
pub(crate) use login::{Authenticator, Newcomer, Proved};
pub(crate) use reader::{Lost, Reader};
pub(crate) use roster::{Place, Roster};
pub(crate) use session_service::SessionError;
pub use settings::{
    ClientCompression, DuplicateLogin, HostForwarding, IdentityForwarding, LoginConfig, Secret,
};
pub(crate) use stranded::Stranded;
