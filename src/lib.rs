//! infrarust: a Minecraft reverse proxy with a mode for each server.
//!
//! # The life of a connection
//!
//! A player's client connects, and its first packet contains the host name that
//! the player entered: the *virtual host*. The proxy cleans that name and looks
//! up the *server* it leads to. What happens then depends on two things: what the
//! client wants (its *intent*), and how much the server lets the proxy take part
//! (its *mode*).
//!
//! A **status ping** is answered from a cache of the backend's own answers, by
//! asking the backend, or with a configured MOTD when no backend answers.
//!
//! A **login** is checked against the limits, takes a place on the server, and is
//! connected to the first backend that answers. The proxy sends the backend the
//! client's own packets, with the host rewritten where the operator wants that.
//! From there on a forwarding mode only moves bytes; with `zero_copy` the kernel
//! moves them from socket to socket. In an intercepted mode the proxy speaks the
//! protocol on both sides, and in `client_only` it authenticates the player.
//!
//! However a connection ends, one line of the log says: which server and mode,
//! why it ended, how long it took, and how many bytes went each way.
//!
//! `connection::serve` is this section as code.
//!
//! `docs/words.md` defines the words that code, log and documents use.
//!
//! # The map
//!
//! | module | purpose |
//! |---|---|
//! | [`mode`], `capability` | the modes, and the matrix of the capabilities of each |
//! | [`manifest`] | the manifest in a plugin's file, read without running the plugin |
//! | [`config`], [`diagnostic`] | the configuration files, the model made from them, and every mistake with its place |
//! | [`protocol`], [`proxy_protocol`], `show` | parsing and writing bytes, and escaping of texts, without any I/O |
//! | [`route`], `glob` | virtual host to server |
//! | `provider` | sources of servers besides the files: the containers of an engine |
//! | [`listener`], `connection`, `upstream` | from accept to a connected backend and to the end of the connection |
//! | [`plugin`] | plugins: load them, call their hooks, watch the calls, reload |
//! | [`forward`] | the relay: copy, splice, adaptive |
//! | `intercept` | the intercepted modes: login on both sides, identity, encryption |
//! | `limit` | number of clients, their rate, and time before the handshake |
//! | `permissions` | who may use which command |
//! | `status_cache` | the answers of backends to status pings |
//! | [`proxy`] | the state that connections share, and the life of the process |
//! | [`start`] | a proxy that accepts connections |
//! | [`reload`] | changes of the configuration while the proxy runs |
//! | `supervise` | work that lasts as long as the process goes on after a panic |
//! | `telemetry` | the log, and messages to the service manager |
//! | [`socket`] | options of sockets, and limits of the process |
//! | `admin` | commands to the running proxy |
//! | [`cli`], `demo` | the command line, and a demonstration of the program |

#[cfg(unix)]
#[cfg(all(test, target_os = "linux"))]
infrarust_test_support::watchdog!();

mod admin;
mod apart;
mod blame;
mod capability;
pub mod cli;
mod close;
mod command;
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
mod permissions;
mod player_text;
pub mod plugin;
mod priority;
pub mod protocol;
mod provider;
pub mod proxy;
pub mod proxy_protocol;
mod reason;
pub mod reload;
pub mod route;
mod show;
pub mod socket;
pub mod start;
mod status_cache;
mod supervise;
mod telemetry;
mod upstream;
