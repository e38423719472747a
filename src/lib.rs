//! infrarust: a Minecraft reverse proxy with a mode for each server.
//!
//! # The life of a connection
//!
//! A player's client connects and says, in its first packet, which host name it
//! was given: the *virtual host*. The proxy cleans that name and looks up the
//! *server* it leads to. What happens then depends on two things: what the
//! client wants (its *intent*), and how much the server lets the proxy take
//! part (its *mode*).
//!
//! A **status ping** is answered from a cache of the backend's own answers, by
//! asking the backend, or with a configured MOTD when no backend answers.
//!
//! A **login** is held against the limits, gets a place on the server, and is
//! connected to the first backend that answers. The backend is sent the
//! client's own packets, with the host rewritten where the operator wants that.
//! From there on a forwarding mode only moves bytes: `zero_copy` asks the
//! kernel to move them from socket to socket, and they never enter the proxy.
//!
//! However a connection ends, one line of the log says: which server and mode,
//! why it ended, how long it took, and how many bytes went each way.
//!
//! `connection::serve` is this chapter in code.
//!
//! The words of code, log and documents are those of `docs/words.md`.
//!
//! # The map
//!
//! | module | says in one line |
//! |---|---|
//! | [`mode`], `capability` | the modes, and the matrix of what each can offer |
//! | [`manifest`] | what a plugin's file says about itself, and where it runs, read without running it |
//! | [`config`], [`diagnostic`] | what operators write, what it means, and every mistake with its place |
//! | [`protocol`], [`proxy_protocol`], `show` | bytes to meaning and back, without any I/O |
//! | [`route`], `glob` | virtual host to server |
//! | `provider` | sources of servers besides the files: the containers of an engine |
//! | [`listener`], `connection`, `upstream` | from accept to a connected backend |
//! | [`plugin`] | plugins: load, ask, watch, reload |
//! | [`forward`] | the relay: copy, splice, adaptive |
//! | `limit` | how many, how often, how long undecided |
//! | [`proxy`] | what connections share; the start and the end of the process |
//! | [`reload`] | changes while it runs |
//! | `telemetry` | the log, and messages to the service manager |
//! | [`socket`] | options of sockets, and limits of the process |
//! | `admin` | commands to the proxy that runs |
//! | [`cli`], `demo` | the program |

#[cfg(unix)]
mod admin;
mod apart;
mod blame;
mod capability;
pub mod cli;
mod close;
pub mod config;
mod connection;
mod demo;
pub mod diagnostic;
mod environment;
pub mod forward;
mod glob;
mod intercept;
mod limit;
pub mod listener;
pub mod manifest;
pub mod mode;
mod player_text;
pub mod plugin;
pub mod protocol;
mod provider;
pub mod proxy;
pub mod proxy_protocol;
pub mod reload;
pub mod route;
mod show;
pub mod socket;
mod telemetry;
mod upstream;
