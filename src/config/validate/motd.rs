//! Answers to status pings, and their favicons.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{Context, LabelFile, texts};
use crate::config::entry::{Entry, Given, Reported};
use crate::config::files;
use crate::config::model::{Motd, MotdSet};
use crate::config::raw::{RawMotd, RawMotdSet};
use crate::diagnostic::words::{self, Quoted};
use crate::diagnostic::{Code, Diagnostic};

/// The largest favicon. In base64 it grows by a third, and the whole status
/// answer has to stay below 32,767 characters.
const FAVICON_BYTES_MAX: usize = 20 * 1024;

/// The largest favicon file that is read; a larger one is refused by its size.
const FAVICON_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Clients show favicons of exactly this width and height, in pixels.
const FAVICON_PIXELS: u32 = 64;

/// The prefix of a favicon in a status answer.
const DATA_URI: &str = "data:image/png;base64,";

/// The beginning of every PNG: its signature, then a header chunk of 13 bytes (PNG
/// specification, third edition, sections 5.2 and 11.2.1).
const PNG_START: &[u8] = b"\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR";

/// Longer texts count as base64 and not as a path.
const PATH_CHARS_MAX: usize = 1024;

/// Reads a table of answers.
pub(super) fn set(
    entry: &Entry<RawMotdSet>,
    context: &mut Context<'_>,
) -> Result<MotdSet, Reported> {
    let Some(raw) = entry.get()? else {
        return Ok(MotdSet::default());
    };
    if let (Some(_), Some(unreachable)) = (raw.offline.key(), raw.unreachable.key()) {
        context.push(
            Diagnostic::new(
                Code::NoEffect,
                unreachable,
                "`unreachable` does nothing beside `offline`",
            )
            .because("both are the answer when no backend answers")
            .help("remove one of them"),
        );
    }
    let online = motd(&raw.online, context);
    let offline = motd(&raw.offline, context);
    let unreachable = motd(&raw.unreachable, context);
    Ok(MotdSet {
        online: online?,
        offline: offline?.or(unreachable?),
    })
}

fn motd(entry: &Entry<RawMotd>, context: &mut Context<'_>) -> Result<Option<Motd>, Reported> {
    let Some(raw) = entry.get()? else {
        return Ok(None);
    };
    let text = texts::for_players(&raw.text, context);
    let version_name = texts::plain(&raw.version_name, context);
    let favicon = match raw.favicon.written() {
        Ok(Some(given)) => favicon(given, context).map(Some),
        Ok(None) => Ok(None),
        Err(Reported) => Err(Reported),
    };
    Ok(Some(Motd {
        text: text?,
        favicon: favicon?,
        version_name: version_name?,
        max_players: raw.max_players.get()?.map(|count| count.get()),
    }))
}

/// A favicon as a data URI, from any of the three ways to write it.
fn favicon(given: &Given<String>, context: &mut Context<'_>) -> Result<Bytes, Reported> {
    let text = given.value.trim();
    let bad = |message: String| {
        Diagnostic::new(Code::BadValue, given.place, message)
            .help("a favicon is a PNG of 64 × 64 pixels: a path, base64, or a `data:` URI")
    };
    let png = if let Some(encoded) = text.strip_prefix(DATA_URI) {
        decode(encoded)
    } else if text.starts_with("data:") {
        context.push(bad(format!(
            "the favicon's URI does not begin with `{DATA_URI}`"
        )));
        return Err(Reported);
    } else if text.len() > PATH_CHARS_MAX || text.starts_with("iVBORw0KGgo") {
        // Every PNG begins with these letters in base64.
        decode(text)
    } else if text.is_empty() {
        context.push(bad("the favicon is empty".to_owned()));
        return Err(Reported);
    } else if text.contains(char::is_control) {
        let message = "no path of a favicon has a control character in it";
        context.push(Diagnostic::new(Code::BadValue, given.place, message).help(
            "between `\"` a backslash begins an escape: write the path in single quotes, or `/` \
             for each backslash",
        ));
        return Err(Reported);
    } else {
        let path = context.named_file(given.place, text.as_ref(), LabelFile::Favicon)?;
        match files::read_named(&path, FAVICON_FILE_BYTES_MAX) {
            Ok(bytes) => Some(bytes),
            Err(problem) => {
                context.unread(&problem);
                let message = format!(
                    "the favicon `{}` cannot be read: {problem}",
                    words::path(&path)
                );
                let help = context.where_paths_begin(given.place.file, text.as_ref());
                let diagnostic = Diagnostic::new(Code::MissingFile, given.place, message);
                context.push(diagnostic.help(help));
                return Err(Reported);
            }
        }
    };
    let problem = match &png {
        None => Some("is not base64".to_owned()),
        Some(png) => png_problem(png),
    };
    match (png, problem) {
        (Some(png), None) => Ok(Bytes::from(format!("{DATA_URI}{}", STANDARD.encode(png)))),
        (_, problem) => {
            let name = if text.len() > 40 {
                "the favicon".to_owned()
            } else {
                format!("the favicon {}", Quoted(text))
            };
            context.push(bad(format!("{name} {}", problem.unwrap_or_default())));
            Err(Reported)
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).ok()
}

fn png_problem(png: &[u8]) -> Option<String> {
    let Some(header) = png.strip_prefix(PNG_START) else {
        return Some("is not a PNG".to_owned());
    };
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let (Some(width), Some(height)) = (number(0), number(4)) else {
        return Some("is a PNG that ends in its header".to_owned());
    };
    if (width, height) != (FAVICON_PIXELS, FAVICON_PIXELS) {
        return Some(format!("has {width} × {height} pixels"));
    }
    (png.len() > FAVICON_BYTES_MAX).then(|| {
        format!(
            "has {} bytes, and at most {FAVICON_BYTES_MAX} fit into an answer",
            png.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut png = PNG_START.to_vec();
        png.extend(width.to_be_bytes());
        png.extend(height.to_be_bytes());
        png
    }

    /// Only a PNG of 64 × 64 passes.
    #[test]
    fn favicons_are_measured() {
        assert_eq!(png_problem(&png(64, 64)), None);
        assert_eq!(png_problem(&png(64, 32)).unwrap(), "has 64 × 32 pixels");
        assert_eq!(png_problem(b"GIF89a").unwrap(), "is not a PNG");
        assert!(png_problem(&png(64, 64)[..20]).unwrap().contains("ends"));
        let mut large = png(64, 64);
        large.resize(FAVICON_BYTES_MAX + 1, 0);
        assert!(png_problem(&large).unwrap().contains("bytes"));
    }
}
