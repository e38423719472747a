//! Who may use commands of the proxy.

use super::Context;
use crate::config::entry::{Item, Reported};
use crate::config::raw::{RawPermissions, RawProxy};
use crate::diagnostic::words::Quoted;
use crate::permissions::{Admin, Permissions};
use crate::protocol::uuid::uuid_from_text;

/// The most characters of a player's name (the game).
const NAME_CHARS_MAX: usize = 16;
/// The most bytes of the name of a command, as for commands of plugins.
const COMMAND_BYTES_MAX: usize = 32;

/// Reads `[permissions]`.
pub(super) fn permissions(
    raw: &RawProxy,
    context: &mut Context<'_>,
) -> Result<Permissions, Reported> {
    let nothing = RawPermissions::default();
    let raw = raw.permissions.or(&nothing)?;
    let admins = raw.admins()?;
    let commands = raw.player_commands()?;
    let mut is_sound = admins.all().is_ok() && commands.all().is_ok();
    let mut permissions = Permissions {
        admins: Vec::new(),
        player_commands: Vec::new(),
        trust_offline_admins: *raw.trust_offline_admins()?,
    };
    for item in &admins.items {
        match admin(item, context) {
            Ok(admin) => permissions.admins.push(admin),
            Err(Reported) => is_sound = false,
        }
    }
    for item in &commands.items {
        match command(item, context) {
            Ok(name) => permissions.player_commands.push(name),
            Err(Reported) => is_sound = false,
        }
    }
    is_sound.then_some(permissions).ok_or(Reported)
}

/// A name, or a player id with or without dashes.
fn admin(item: &Item<String>, context: &mut Context<'_>) -> Result<Admin, Reported> {
    let text = &item.value;
    if let Some(uuid) = uuid_from_text(text) {
        return Ok(Admin::Uuid(uuid));
    }
    let is_name = (1..=NAME_CHARS_MAX).contains(&text.chars().count())
        && text.chars().all(|c| c.is_ascii_graphic());
    if is_name {
        return Ok(Admin::Name(text.clone()));
    }
    let message = format!("{} is not the name or the id of a player", Quoted(text));
    let help = "write a name of 1 to 16 characters, or the player id with its 32 digits";
    context.bad_value(item.place, message, help);
    Err(Reported)
}

/// The name of a command, without the slash.
fn command(item: &Item<String>, context: &mut Context<'_>) -> Result<String, Reported> {
    let text = &item.value;
    let is_name = |text: &str| {
        (1..=COMMAND_BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    };
    if is_name(text) {
        return Ok(text.clone());
    }
    let message = format!("{} is not the name of a command", Quoted(text));
    let plain = text.trim_start_matches('/').to_ascii_lowercase();
    let help = match is_name(&plain) {
        true => format!("write `{plain}`"),
        false => format!("a name has 1 to {COMMAND_BYTES_MAX} of `a-z`, `0-9`, `_` and `-`"),
    };
    context.bad_value(item.place, message, help);
    Err(Reported)
}
