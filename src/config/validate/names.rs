//! Ids of servers, networks and plugins.

use super::Context;
use crate::config::entry::{Item, Reported};
use crate::config::raw::RawServer;
use crate::diagnostic::words::Quoted;
use crate::diagnostic::{Code, Diagnostic, FileId, Place};

/// The longest id, in bytes: it is used in logs, metrics and file names.
const ID_BYTES_MAX: usize = 64;

/// Why a text is not an id.
pub(super) fn problem(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("it is empty".to_owned());
    }
    if text.len() > ID_BYTES_MAX {
        return Some(format!("it has more than {ID_BYTES_MAX} bytes"));
    }
    if text.starts_with('.') {
        // A folder with that name would be hidden, or be another folder.
        return Some("it begins with a dot".to_owned());
    }
    let bad = text
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '-' | '.'))?;
    let mut letter = [0; 4];
    Some(format!(
        "{} cannot be part of it",
        Quoted(bad.encode_utf8(&mut letter))
    ))
}

/// Whether a text can be the id of a server, a network or a plugin.
#[cfg(unix)]
pub(crate) fn is_id(text: &str) -> bool {
    problem(text).is_none()
}

/// The nearest allowed id, if one is left.
pub(super) fn cure(text: &str) -> Option<String> {
    let cured: String = text
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '_' | '-' | '.') => c,
            _ => '-',
        })
        .take(ID_BYTES_MAX)
        .collect();
    let cured = cured.trim_matches('-').trim_start_matches('.');
    (!cured.is_empty()).then(|| cured.to_owned())
}

/// An id that is written in a file.
pub(super) fn written(
    item: &Item<String>,
    what: &str,
    context: &mut Context<'_>,
) -> Result<String, Reported> {
    let Some(problem) = problem(&item.value) else {
        return Ok(item.value.clone());
    };
    let mut help = "use letters `a` to `z`, digits, `_`, `-` and `.`".to_owned();
    if let Some(cure) = cure(&item.value) {
        help.push_str(&format!(", such as `{cure}`"));
    }
    let message = format!("{} cannot be {what}: {problem}", Quoted(&item.value));
    context.bad_value(item.place, message, help);
    Err(Reported)
}

/// The id of a server: `name`, else `id`, else the file's name.
pub(super) fn server(
    raw: &RawServer,
    file: FileId,
    context: &mut Context<'_>,
) -> Result<Item<String>, Reported> {
    // Files of Infrarust v2 often have both keys with the same value.
    let is_same = raw.id.value() == raw.name.value();
    if let (Some(id), true) = (raw.id.given(), raw.name.is_written() && !is_same) {
        context.push(
            Diagnostic::new(Code::NoEffect, id.key, "`id` does nothing beside `name`")
                .help("remove one of them"),
        );
    }
    for entry in [&raw.name, &raw.id] {
        if let Some(given) = entry.written()? {
            let item = Item {
                place: given.place,
                value: given.value.clone(),
            };
            let value = written(&item, "the id of a server", context)?;
            return Ok(Item { value, ..item });
        }
    }
    let stem = stem(file, context);
    let place = Place::whole(file);
    match problem(&stem) {
        None => Ok(Item { place, value: stem }),
        Some(problem) => {
            let name = cure(&stem).unwrap_or_else(|| "lobby".to_owned());
            context.bad_value(
                place,
                format!(
                    "the file's name {} cannot be the id of a server: {problem}",
                    Quoted(&stem)
                ),
                format!("rename the file to `{name}.toml`, or write `name = \"{name}\"` into it"),
            );
            Err(Reported)
        }
    }
}

/// The name of a file without its extension.
pub(super) fn stem(file: FileId, context: &Context<'_>) -> String {
    let stem = context.path(file).file_stem();
    stem.map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}
