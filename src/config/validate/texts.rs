//! Texts that players read, and texts that stand in a handshake.

use super::Context;
use crate::config::entry::{Entry, Item};
use crate::config::model::{DomainRewrite, is_text_component};
use crate::config::types::Rewrite;
use crate::diagnostic::words::Quoted;
use crate::route::{BadHost, HostPattern};

/// The longest text for a player. A status answer as a whole is a text of at
/// most 32,767 characters in the protocol, favicon included.
pub(super) const TEXT_BYTES_MAX: usize = 4096;

/// Checks a text that is shown as it is.
pub(super) fn plain(entry: &Entry<String>, context: &mut Context<'_>) -> Option<Option<String>> {
    let given = match entry {
        Entry::Absent => return Some(None),
        Entry::Broken(_) => return None,
        Entry::Given(given) => given,
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
        return None;
    }
    Some(Some(text.clone()))
}

/// Checks a text for players, which may be a text component.
pub(super) fn for_players(
    entry: &Entry<String>,
    context: &mut Context<'_>,
) -> Option<Option<String>> {
    let text = plain(entry, context)?;
    let (Some(text), Some(given)) = (text, entry.given()) else {
        return Some(None);
    };
    if is_text_component(&text)
        && let Err(error) = serde_json::from_str::<serde_json::Value>(&text)
    {
        context.bad_value(
            given.place,
            format!("the text begins like a JSON text component and is not JSON: {}", json_problem(&error)),
            "write JSON such as `{\"text\":\"Hello\"}`, or a text that begins with another character",
        );
        return None;
    }
    Some(Some(text))
}

/// What the parser says, without its own line and column, which count within
/// the text and not within the file.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((problem, _)) => problem.to_lowercase(),
        None => text.to_lowercase(),
    }
}

/// Checks what the backend shall see as host.
pub(super) fn rewrite(entry: &Entry<Rewrite>, context: &mut Context<'_>) -> Option<DomainRewrite> {
    match entry {
        Entry::Absent => Some(DomainRewrite::None),
        Entry::Broken(_) => None,
        Entry::Given(given) => match &given.value {
            Rewrite::None => Some(DomainRewrite::None),
            Rewrite::FromBackend => Some(DomainRewrite::FromBackend),
            Rewrite::Explicit(host) => explicit(host, context).map(DomainRewrite::Explicit),
        },
    }
}

fn explicit(host: &Item<String>, context: &mut Context<'_>) -> Option<String> {
    let problem = match HostPattern::parse(&host.value) {
        Ok(pattern) if pattern.is_wildcard() => "a pattern is not one host".to_owned(),
        Ok(_) => return Some(host.value.clone()),
        Err(BadHost::Empty) => "a host has at least one letter".to_owned(),
        Err(problem) => problem.to_string(),
    };
    let text = if host.value.is_empty() {
        "an empty text".to_owned()
    } else {
        Quoted(&host.value).to_string()
    };
    context.bad_value(
        host.place,
        format!("{text} cannot be sent as a host: {problem}"),
        "write the host name alone, such as `\"lobby.internal\"`; the port stays the client's",
    );
    None
}
