//! Proposes how to write a value of a wrong type in the right type.
//!
//! Every proposal is checked by the rules of its type first: a proposal that is
//! refused again does not help.

use toml::Spanned;
use toml::de::DeValue;

use crate::config::cure;
use crate::config::duration::{self, DURATION_EXAMPLE};
use crate::config::keys::{Key, Shape, Table, TextKind};
use crate::diagnostic::words;

/// The longest text that a proposal repeats.
const TEXT_CHARS_REPEATED_MAX: usize = 60;

/// A time without a unit from this number on is probably not in seconds: other programs
/// write such times in milliseconds.
const MILLISECONDS_MIN: f64 = 1000.0;

/// How deep tables are searched for the key that a value was meant for.
const DEPTH_MAX: usize = 3;

/// Words with which other programs switch a limit off.
const OFF_WORDS: [&str; 10] = [
    "unlimited",
    "infinite",
    "infinity",
    "none",
    "off",
    "never",
    "disabled",
    "no",
    "no limit",
    "∞",
];

/// The key and the position of a value that has to be written in another way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'a> {
    /// The key, as it is written.
    pub(super) key: &'a str,
    /// Its entry in the table of keys.
    pub(super) meaning: Option<&'static Key>,
    /// Whether the value is an entry of the key's list.
    pub(super) in_list: bool,
}

impl Written<'_> {
    /// How to write `value` for this `shape`.
    pub(super) fn retype(self, value: &DeValue<'_>, shape: &Shape) -> Option<String> {
        if self.in_list {
            let scalar = !matches!(
                value,
                DeValue::Array(_) | DeValue::Table(_) | DeValue::String(_)
            );
            return (scalar && takes_any_text(shape)).then(|| "put the entry in quotes".to_owned());
        }
        let key = self.key;
        match (value, shape) {
            (_, Shape::OneOf(shapes)) => shapes.iter().find_map(|shape| self.retype(value, shape)),
            (DeValue::String(text), Shape::Bool) => truth(text, key),
            (DeValue::Integer(number), Shape::Bool) => match number.as_str() {
                "0" => Some(format!("write `{key} = false`")),
                "1" => Some(format!("write `{key} = true`")),
                _ => None,
            },
            (DeValue::String(text), Shape::Whole { min, max }) => self.number(text, *min, *max),
            (DeValue::Boolean(false), Shape::Whole { .. }) => self.off(),
            (
                DeValue::String(text),
                Shape::List(Shape::Text { .. } | Shape::OneOf(_) | Shape::Choice(_)),
            ) => {
                // The slash is a part of a network.
                let is_network = matches!(
                    shape,
                    Shape::List(Shape::Text {
                        kind: TextKind::Network,
                        ..
                    })
                );
                let bare = if is_network { str::trim } else { cure::bare };
                Some(list(text, key, bare))
            }
            (
                DeValue::Array(array),
                Shape::Text {
                    kind: TextKind::Plain,
                    ..
                },
            ) => self.one_text(array),
            (DeValue::Table(_), Shape::List(_)) if key == "plugins" => Some(
                "their tables stand in `infrarust.toml`; here it is a list of ids, such as \
                 `plugins = [\"motd\"]` above the first `[…]`"
                    .to_owned(),
            ),
            (
                DeValue::Integer(port),
                Shape::Text {
                    kind: TextKind::AddressWithPort,
                    ..
                },
            ) => {
                let is_port = port.as_str().parse::<u16>().is_ok();
                is_port.then(|| format!("write the address, too: `{key} = \"0.0.0.0:{port}\"`"))
            }
            (DeValue::Integer(_) | DeValue::Float(_), Shape::Text { kind, .. })
                if kind.is_duration() =>
            {
                let number = match value {
                    DeValue::Integer(number) => number.as_str().parse::<f64>().ok()?,
                    DeValue::Float(number) => number.as_str().parse::<f64>().ok()?,
                    _ => return None,
                };
                let fits = if *kind == TextKind::WholeSeconds {
                    duration::is_whole_seconds
                } else {
                    duration::is_duration
                };
                Some(seconds(number, key, fits))
            }
            (
                DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_),
                Shape::Text { .. },
            ) if takes_any_text(shape) => Some("put the value in quotes".to_owned()),
            (_, Shape::Map(_)) => Some(format!("write a table for each: `[{key}.<id>]`")),
            (value, Shape::Table(table)) => match inside(table, value, 0) {
                Some(inner) => Some(format!("write a table: `{key} = {inner}`")),
                None => {
                    let first = table.keys.first()?.name;
                    Some(format!("write a table: `{key} = {{ {first} = … }}`"))
                }
            },
            _ => None,
        }
    }

    /// The proposal for a list in place of one text.
    fn one_text(self, list: &[Spanned<DeValue<'_>>]) -> Option<String> {
        let key = self.meaning.filter(|key| !key.secret)?;
        match list {
            [one] => {
                let text = one.get_ref().as_str().filter(|text| is_plain(text))?;
                Some(format!(
                    "leave out the brackets: `{} = \"{text}\"`",
                    self.key
                ))
            }
            _ if key.name == "text" || key.name.ends_with("_message") => {
                Some("write one text, with `\\n` where a line ends".to_owned())
            }
            _ => None,
        }
    }

    /// The proposal for a number that is written as a text.
    fn number(self, text: &str, min: i64, max: i64) -> Option<String> {
        let text = text.trim();
        if OFF_WORDS.contains(&text.to_lowercase().as_str()) {
            return self.off();
        }
        let key = self.key;
        if matches!(
            text.to_lowercase().as_str(),
            "auto" | "automatic" | "default"
        ) {
            let auto = self.meaning?.auto?;
            return Some(format!("to let the proxy choose write `{key} = {auto}`"));
        }
        let number: i64 = text.parse().ok()?;
        let is_right = (min..=max).contains(&number);
        is_right.then(|| format!("leave out the quotes: `{key} = {number}`"))
    }

    /// How to switch off the limit of this key.
    pub(super) fn off(self) -> Option<String> {
        let off = self.meaning?.off?;
        let key = self.key;
        Some(format!("to switch it off write `{key} = {off}`"))
    }
}

/// Whether every text is accepted, so that a value only lacks quotes.
fn takes_any_text(shape: &Shape) -> bool {
    match shape {
        Shape::Text { kind, .. } => matches!(kind, TextKind::Plain | TextKind::Path),
        _ => false,
    }
}

/// Whether a text can stand between quotes in a help as it is.
fn is_plain(text: &str) -> bool {
    text.chars().count() <= TEXT_CHARS_REPEATED_MAX
        && !text.contains(|c| words::must_not_show(c) || matches!(c, '"' | '\\' | '`'))
}

/// The proposal for another word for `true` or `false`.
pub(super) fn truth(text: &str, key: &str) -> Option<String> {
    let word = match text.trim().to_lowercase().as_str() {
        "true" | "false" => {
            return Some(format!(
                "leave out the quotes: `{key} = {}`",
                text.trim().to_lowercase()
            ));
        }
        "yes" | "on" | "y" | "1" | "enabled" => "true",
        "no" | "off" | "n" | "0" | "disabled" | "none" => "false",
        _ => return None,
    };
    Some(format!("write `{key} = {word}`"))
}

/// The proposal for one text in place of a list.
fn list(text: &str, key: &str, bare: fn(&str) -> &str) -> String {
    let pieces = cure::pieces(text).unwrap_or_default();
    let bare: Vec<&str> = pieces.into_iter().map(bare).collect();
    let shown = if bare.is_empty() || !bare.iter().all(|text| is_plain(text)) {
        "\"…\"".to_owned()
    } else {
        let quoted: Vec<String> = bare.iter().map(|piece| format!("\"{piece}\"")).collect();
        quoted.join(", ")
    };
    format!("put it in brackets: `{key} = [{shown}]`")
}

/// The proposal for a duration that is written as a number.
fn seconds(number: f64, key: &str, fits: fn(&str) -> bool) -> String {
    let milliseconds = format!("{}ms", (number * 1000.0).round());
    let (text, others) = if number >= MILLISECONDS_MIN {
        (format!("{}ms", number.round()), "`s`, `m`, `h`")
    } else if number.fract() == 0.0 {
        (format!("{number}s"), "`ms`, `m`, `h`")
    } else {
        (milliseconds, "`s`, `m`, `h`")
    };
    if number > 0.0 && fits(&text) {
        format!("write the unit: `{key} = \"{text}\"`, or {others}")
    } else {
        format!("write a duration such as `\"{DURATION_EXAMPLE}\"`, or remove the key")
    }
}

/// A value in the table that has a key for it: `{ online = { text = "Hello" } }`.
fn inside(table: &Table, value: &DeValue<'_>, depth: usize) -> Option<String> {
    let plain = |text: &str| is_plain(text).then(|| format!("\"{text}\""));
    table.keys.iter().find_map(|key| {
        let inner = match (value, &key.shape) {
            (DeValue::Boolean(on), Shape::Bool) => on.to_string(),
            (DeValue::String(text), Shape::Choice(choices)) => {
                let mut names = choices.iter().map(|choice| choice.name);
                names
                    .any(|name| name == text.as_ref())
                    .then(|| format!("\"{text}\""))?
            }
            (DeValue::String(text), Shape::Text { kind, .. })
                if kind.is_duration() && duration::is_duration(text) =>
            {
                plain(text)?
            }
            (DeValue::String(text), Shape::Text { .. }) if key.name == "text" => plain(text)?,
            (_, Shape::Table(table)) if depth < DEPTH_MAX => inside(table, value, depth + 1)?,
            _ => return None,
        };
        Some(format!("{{ {} = {inner} }}", key.name))
    })
}
