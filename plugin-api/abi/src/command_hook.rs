//! The hook of commands: which commands a plugin has, and how one is run.

use core::ffi::c_void;

use crate::{Address, AsyncHook, ClientInput, Sink, Str, size_of_table};

/// The hook `player.command`.
#[derive(Debug)]
#[repr(C)]
pub struct CommandHook<I> {
    /// Runs and completes commands. Its size is that of this whole table.
    pub ask: AsyncHook<I>,
    /// Says which commands there are: calls [`CommandSink::add`] for each. Called once,
    /// when the plugin has been created, on a thread that may wait.
    pub list: Option<
        unsafe extern "C" fn(
            instance: *const c_void,
            commands: *const CommandSink,
            sink: *const Sink,
        ) -> i32,
    >,
}

/// Where a plugin puts its commands. It belongs to the host and is good for the call.
#[derive(Debug)]
#[repr(C)]
pub struct CommandSink {
    /// Bytes of this table.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// For the functions of this table.
    pub ctx: *mut c_void,
    /// Adds a command: its name without the slash, and one of [`command_audience`].
    pub add: Option<unsafe extern "C" fn(ctx: *mut c_void, name: Str, audience: u32)>,
}

/// Who may use a command. An unknown one counts as [`command_audience::ADMINS`].
pub mod command_audience {
    /// Every player.
    pub const EVERYBODY: u32 = 1;
    /// Admins, and every player if the operator lists the command.
    pub const PLAYER_COMMANDS: u32 = 2;
    /// Admins.
    pub const ADMINS: u32 = 3;
}

/// What is wanted of a command.
pub mod command_event {
    /// To run it. The answer is `REPLACE` with a JSON component for the player, or `PASS`.
    pub const RUN: u32 = 1;
    /// To complete the last word of its arguments. The answer is `REPLACE` with the
    /// suggestions, one in each line, or `PASS` for none.
    pub const COMPLETE: u32 = 2;
}

/// Input of `player.command`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CommandInput {
    /// Bytes of this table.
    pub size: u32,
    /// The protocol version that the client announced.
    pub protocol: i32,
    /// What the plugin may do on this connection, as bits.
    pub grants: u64,
    /// The client's address.
    pub peer: Address,
    /// One of [`command_event`].
    pub event: u32,
    /// The number of the player, as `player.observe` gives it.
    pub player: u64,
    /// The cleaned virtual host; may be empty.
    pub host: Str,
    /// The server.
    pub server: Str,
    /// The name of the player.
    pub name: Str,
    /// The UUID of the player, in network order.
    pub uuid: [u8; 16],
    /// Whether the proxy has proved name and UUID (1) or not (0).
    pub proved: u32,
    /// Whether the operator has made the player an admin (1) or not (0).
    pub admin: u32,
    /// The name of the command, as the plugin has added it.
    pub command: Str,
    /// What stands behind it, without the space between.
    pub arguments: Str,
}

/// A player who uses a command, for [`CommandInput::new`].
#[derive(Debug, Clone, Copy)]
pub struct CommandPlayer<'a> {
    /// The player's number.
    pub number: u64,
    /// The player's name.
    pub name: &'a str,
    /// The player's UUID.
    pub uuid: u128,
    /// Whether the proxy has proved both.
    pub is_proved: bool,
    /// Whether the player is an admin.
    pub is_admin: bool,
}

impl CommandInput {
    /// The input for running a command with these arguments.
    #[must_use]
    pub fn new(
        client: &ClientInput<'_>,
        player: &CommandPlayer<'_>,
        command: &str,
        arguments: &str,
    ) -> Self {
        Self {
            size: size_of_table::<Self>(),
            protocol: client.protocol,
            grants: 0,
            peer: client.peer.into(),
            event: command_event::RUN,
            player: player.number,
            host: Str::new(client.host),
            server: Str::new(client.server),
            name: Str::new(player.name),
            uuid: player.uuid.to_be_bytes(),
            proved: player.is_proved as u32,
            admin: player.is_admin as u32,
            command: Str::new(command),
            arguments: Str::new(arguments),
        }
    }

    /// The same, for completing the last word of the arguments.
    #[must_use]
    pub const fn completing(mut self) -> Self {
        self.event = command_event::COMPLETE;
        self
    }
}
