//! Texts for players, and texts in a handshake.

use super::{Context, domains};
use crate::config::elsewhere;
use crate::config::entry::{Entry, Given, Item, Reported};
use crate::config::model::{DomainRewrite, is_text_component};
use crate::config::types::Rewrite;
use crate::diagnostic::words::{Quoted, must_not_show};
use crate::diagnostic::{Code, Diagnostic};
use crate::route::{BadHost, HostPattern};

/// The longest text for a player. A status answer as a whole is a text of at
/// most 32,767 characters in the protocol, favicon included.
pub(super) const TEXT_BYTES_MAX: usize = 4096;

/// Checks a text that is shown unchanged.
pub(super) fn plain(
    entry: &Entry<String>,
    context: &mut Context<'_>,
) -> Result<Option<String>, Reported> {
    let Some(given) = entry.written()? else {
        return Ok(None);
    };
    let text = &given.value;
    if text.len() > TEXT_BYTES_MAX {
        context.bad_value(
            given.place,
            format!(
                "the text has {} bytes, more than the {TEXT_BYTES_MAX} that are sent",
                text.len()
            ),
            "write a shorter text",
        );
        return Err(Reported);
    }
    warn_of_colours(given, context);
    Ok(Some(text.clone()))
}

/// The longest text that a help repeats with other colour codes.
const TEXT_CHARS_REPEATED_MAX: usize = 120;

/// Warns of colour codes that other programs translate, and the game does not.
fn warn_of_colours(given: &Given<String>, context: &mut Context<'_>) {
    let Some(shown) = elsewhere::colours(&given.value) else {
        return;
    };
    let may_repeat = shown.chars().count() <= TEXT_CHARS_REPEATED_MAX
        && !shown.contains(|c: char| must_not_show(c) || matches!(c, '"' | '\\' | '`'));
    let help = if may_repeat {
        format!("write `\"{shown}\"`, or `\\u00A7` for each `§`")
    } else {
        "write `§`, or `\\u00A7`, for each `&` of a colour".to_owned()
    };
    context.push(
        Diagnostic::new(
            Code::ColourCode,
            given.place,
            "players read the `&` codes of this text as they are written",
        )
        .because("the game knows colours by `§`")
        .help(help),
    );
}

/// Checks a text for players, which may be a text component.
pub(super) fn for_players(
    entry: &Entry<String>,
    context: &mut Context<'_>,
) -> Result<Option<String>, Reported> {
    let text = plain(entry, context)?;
    let (Some(text), Some(given)) = (text, entry.given()) else {
        return Ok(None);
    };
    if is_text_component(&text)
        && let Err(error) = serde_json::from_str::<serde_json::Value>(&text)
    {
        context.bad_value(
            given.place,
            format!("the text begins like a JSON text component and is not JSON: {}", json_problem(&error)),
            "write JSON such as `{\"text\":\"Hello\"}`, or a text that begins with another character",
        );
        return Err(Reported);
    }
    Ok(Some(text))
}

/// Checks a text for players with a key that has a default; `value` is the text or that
/// default.
pub(super) fn or_default(
    entry: &Entry<String>,
    value: Result<&String, Reported>,
    context: &mut Context<'_>,
) -> Result<String, Reported> {
    for_players(entry, context)?;
    value.cloned()
}

/// The message of the parser without its line and column, which count within the text and
/// not within the file.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((problem, _)) => problem.to_lowercase(),
        None => text.to_lowercase(),
    }
}

/// Checks the host that the backend gets.
pub(super) fn rewrite(
    value: &Rewrite,
    context: &mut Context<'_>,
) -> Result<DomainRewrite, Reported> {
    match value {
        Rewrite::None => Ok(DomainRewrite::None),
        Rewrite::FromBackend => Ok(DomainRewrite::FromBackend),
        Rewrite::Explicit(host) => explicit(host, context).map(DomainRewrite::Explicit),
    }
}

fn explicit(host: &Item<String>, context: &mut Context<'_>) -> Result<String, Reported> {
    let problem = match HostPattern::parse(&host.value) {
        Ok(pattern) if pattern.is_wildcard() => "a pattern is not one host".to_owned(),
        Ok(_) => return Ok(host.value.clone()),
        Err(BadHost::Empty) => "a host has at least one letter".to_owned(),
        Err(problem) => problem.to_string(),
    };
    let text = if host.value.is_empty() {
        "an empty text".to_owned()
    } else {
        Quoted(&host.value).to_string()
    };
    let help = match domains::meant_host(&host.value) {
        Some(meant) => {
            format!("write the host name alone: `\"{meant}\"`; the port stays the client's")
        }
        None => "write the host name alone, such as `\"lobby.internal\"`; the port stays the \
                 client's"
            .to_owned(),
    };
    context.bad_value(
        host.place,
        format!("{text} cannot be sent as a host: {problem}"),
        help,
    );
    Err(Reported)
}
