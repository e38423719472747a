//! Parses the bytes of a file into a raw struct: checks text and syntax, and finds the
//! secrets that must not be shown.

use std::path::Path;

use toml::de::DeTable;

use crate::config::cure::TYPOGRAPHIC_QUOTES;
use crate::config::elsewhere;
use crate::config::keys::Table;
use crate::config::known::HINTS;
use crate::config::reader::{HasKeys, Reader};
use crate::config::report::Report;
use crate::config::secret_names::{self, names_a_secret};
use crate::config::syntax::{self, Fault, Said};
use crate::diagnostic::words::must_not_show;
use crate::diagnostic::{Code, Diagnostic, FileId, Place, Sources, Span};

/// The most syntax errors that are reported for one file: after the first few the parser
/// often guesses.
const SYNTAX_ERRORS_MAX: usize = 10;

/// The longest text that a help about syntax repeats, in bytes.
const WORD_BYTES_REPEATED_MAX: usize = 60;

/// Reads a file. The raw struct is `None` if the file is not text or not TOML, which is
/// reported.
pub(super) fn read<T: HasKeys>(
    path: &Path,
    bytes: &[u8],
    sources: &mut Sources,
    report: &mut Report,
) -> (FileId, Option<T>) {
    // Editors on Windows write a byte order mark first; it is not a character of
    // the text, and columns do not count it.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let file = sources.add(path, text);
            (file, parse(file, sources, report))
        }
        Err(error) => {
            let (file, diagnostic) = no_text(path, bytes, error.valid_up_to(), sources);
            report.push(diagnostic);
            (file, None)
        }
    }
}

/// Reports a file that is not UTF-8; `at` is the first wrong byte.
fn no_text(path: &Path, bytes: &[u8], at: usize, sources: &mut Sources) -> (FileId, Diagnostic) {
    let message = "the file is not UTF-8 text";
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        // Nothing of the file is shown, since a secret in it would not be recognized.
        let file = sources.add(path, "");
        let diagnostic = Diagnostic::new(Code::TomlSyntax, Place::whole(file), message);
        return (file, diagnostic.help("it is UTF-16: save it as UTF-8"));
    }
    let file = sources.add(path, &*String::from_utf8_lossy(bytes));
    hide_by_words(file, sources);
    let span = Span {
        start: at,
        end: at + char::REPLACEMENT_CHARACTER.len_utf8(),
    };
    let diagnostic = Diagnostic::new(Code::TomlSyntax, Place { file, span }, message)
        .because("this byte begins no character")
        .help("save the file as UTF-8");
    (file, diagnostic)
}

/// Reads a document; `None` when it is not TOML, which is then reported.
fn parse<T: HasKeys>(file: FileId, sources: &mut Sources, report: &mut Report) -> Option<T> {
    let (document, mut errors) = DeTable::parse_recoverable(sources.text(file));
    if errors.is_empty() {
        let mut reader = Reader::new(file, &T::TABLE, &HINTS, report);
        let raw = reader.document(document.get_ref());
        for span in reader.secrets {
            sources.hide(Place { file, span });
        }
        return Some(raw);
    }
    if let Some(found) = elsewhere::format_of(sources.text(file)) {
        let (format, table) = (found.format, &T::TABLE);
        let name = format.name();
        let message = format!("the file is {name}, and {} is TOML", table.title);
        let help = elsewhere::way_to_toml(sources.text(file), format, table);
        let place = Place {
            file,
            span: found.at,
        };
        report.push(
            Diagnostic::new(Code::TomlSyntax, place, message)
                .because(format!("this is {name}"))
                .help(help),
        );
        hide_by_words(file, sources);
        return None;
    }
    // A value guessed after a syntax error could be read as a second mistake,
    // so the rest of the file is not checked before its syntax is right.
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut last_line = None;
    for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
        let place = Place {
            file,
            span: error.span().unwrap_or(0..0).into(),
        };
        let line = sources.locate(place).line;
        if last_line.replace(line) == Some(line) {
            continue;
        }
        let said = syntax::read(error.message());
        report.push(syntax_error(said, place, &T::TABLE, sources));
        if said.fault.is_open() {
            break;
        }
    }
    hide_by_words(file, sources);
    None
}

fn syntax_error(said: Said<'_>, place: Place, table: &Table, sources: &Sources) -> Diagnostic {
    let diagnostic = Diagnostic::new(
        Code::TomlSyntax,
        place,
        format!("this is not TOML: {}", said.problem),
    );
    let diagnostic = match said.expected {
        Some(expected) => diagnostic.because(format!("expected {expected}")),
        None => diagnostic,
    };
    let text = sources.text(place.file);
    let before = text.get(..place.span.start).unwrap_or(text);
    let is_line_start = before.trim_end_matches([' ', '\t']).ends_with('\n');
    let at = text.get(place.span.start..).unwrap_or_default();
    let help = if let Some(help) = quotes(at, before, said.fault, table) {
        Some(help)
    } else if said.fault == Fault::Escape {
        Some(backslash(before, at, table))
    } else if said.fault.is_open() && is_line_start {
        let (what, bracket) = if said.fault == Fault::OpenList {
            ("list", ']')
        } else {
            ("table", '}')
        };
        Some(format!("is the {what} above closed with `{bracket}`?"))
    } else if said.fault == Fault::DuplicateKey {
        Some("a key can be written once: join both values, or remove one".to_owned())
    } else if said.fault == Fault::Boolean {
        Some("a truth value is `true` or `false`, in small letters".to_owned())
    } else if said.fault == Fault::Number {
        Some("a text needs quotes around it".to_owned())
    } else if said.fault == Fault::Trailing && at.starts_with([',', ';']) {
        Some("leave it out: a line of TOML ends without a sign".to_owned())
    } else if before.ends_with(": ") || before.ends_with(':') || at.starts_with(':') {
        Some("TOML writes `key = value`".to_owned())
    } else {
        None
    };
    diagnostic.help_if(help)
}

/// The help for a value with typographic quotes, or without quotes.
fn quotes(at: &str, before: &str, fault: Fault, table: &Table) -> Option<String> {
    let is_text = matches!(fault, Fault::UnquotedText | Fault::UnquotedKey);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let near = at.chars().next().into_iter().chain(line.chars());
    if is_text && near.into_iter().any(|c| TYPOGRAPHIC_QUOTES.contains(&c)) {
        return Some(
            "these are typographic quotes, as a word processor or a chat writes them: TOML takes \
             the straight `\"` and `'`"
                .to_owned(),
        );
    }
    if fault != Fault::UnquotedText || !may_repeat(line, table) {
        return None;
    }
    let end = at.find([',', ']', '}', '#', '\n', '\r', '"', '\\']);
    let word = at[..end.unwrap_or(at.len())].trim();
    let is_word = !word.is_empty() && word.len() <= WORD_BYTES_REPEATED_MAX;
    let is_plain = is_word && !word.contains(must_not_show);
    is_plain.then(|| match word {
        "True" | "TRUE" | "yes" | "Yes" | "on" | "On" => "a truth value is `true`".to_owned(),
        "False" | "FALSE" | "no" | "No" | "off" | "Off" => "a truth value is `false`".to_owned(),
        word => format!("write `\"{word}\"`"),
    })
}

/// The help for a backslash that does not begin an escape; most of these are in paths.
fn backslash(before: &str, at: &str, table: &Table) -> String {
    let begin = before.rfind('"').map_or("", |quote| &before[quote + 1..]);
    let end = at.find(['"', '\n']).unwrap_or(at.len());
    let text = format!("{begin}{}", &at[..end]);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let is_plain = may_repeat(line, table)
        && text.len() <= WORD_BYTES_REPEATED_MAX
        && !text.contains(|c: char| must_not_show(c) || matches!(c, '\'' | '`'));
    let example = if is_plain {
        format!("write `'{text}'`")
    } else {
        "write it".to_owned()
    };
    format!(
        "between `\"` a backslash begins an escape: {example} in single quotes, or `/` for each \
         backslash of a path"
    )
}

/// Whether the value on a line with this beginning may be repeated: its key is known and
/// does not hold a secret.
fn may_repeat(line: &str, table: &Table) -> bool {
    line.split_once('=').is_some_and(|(key, _)| {
        let key = key.trim();
        !names_a_secret(key, &HINTS) && HINTS.exact(key, table).is_some()
    })
}

/// Hides texts that look like secrets in a file that cannot be parsed.
fn hide_by_words(file: FileId, sources: &mut Sources) {
    for span in secret_names::spans(sources.text(file), &HINTS) {
        let span = span.into();
        sources.hide(Place { file, span });
    }
}
