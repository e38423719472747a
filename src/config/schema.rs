//! The JSON Schema of both kinds of file, made from the table of keys.
//!
//! Draft 2020-12, for editors: descriptions, defaults, words to choose from,
//! and a complaint about keys that do not exist. Keys of Infrarust v2 that are
//! ignored are in it as deprecated ones, since a file with them loads.

use serde_json::{Map, Value, json};

use crate::config::keys::{Effect, Key, Scope, Shape, Table};
use crate::config::raw::{RawProxy, RawServer};
use crate::config::reader::HasKeys;
use crate::mode::Mode;

/// The kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileKind {
    /// `infrarust.toml`.
    Global,
    /// A server file.
    Server,
}

impl FileKind {
    /// The keys of this kind of file.
    #[must_use]
    pub const fn table(self) -> &'static Table {
        match self {
            FileKind::Global => &RawProxy::TABLE,
            FileKind::Server => &RawServer::TABLE,
        }
    }
}

/// The JSON Schema of a kind of file.
#[must_use]
pub fn schema(kind: FileKind) -> Value {
    let mut schema = table(kind.table(), Effect::NewConnections);
    if let Value::Object(object) = &mut schema {
        let title = match kind {
            FileKind::Global => "infrarust.toml",
            FileKind::Server => "infrarust server file",
        };
        object.insert(
            "$schema".into(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        object.insert("title".into(), json!(title));
        if kind == FileKind::Server {
            object.insert("required".into(), json!(["addresses"]));
        }
    }
    schema
}

/// `outer` is when changes of the table take effect.
fn table(table: &Table, outer: Effect) -> Value {
    let mut properties = Map::new();
    for entry in table.keys {
        properties.insert(entry.name.into(), key(entry, outer));
    }
    for old in table.unsupported {
        // A name may be a key here and have another meaning there.
        properties.entry(old.name).or_insert_with(|| {
            json!({
                "description": format!("Not supported yet and ignored; in Infrarust v2: {}.", old.purpose),
                "deprecated": true,
            })
        });
    }
    json!({
        "type": "object",
        "description": table.doc,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn key(key: &Key, outer: Effect) -> Value {
    let effect = key.effect_in(outer);
    let mut value = shape(&key.shape, key.pattern, effect);
    if let Value::Object(object) = &mut value {
        if key.is_filled {
            object.insert("minItems".into(), json!(1));
        }
        object.insert("description".into(), json!(description(key, effect)));
        if key.secret {
            object.insert("writeOnly".into(), json!(true));
        }
        if let Some(default) = key.default.and_then(parse) {
            object.insert("default".into(), default);
        }
    }
    value
}

/// The meaning of a key with its unit, the modes that it works in, and when a
/// change takes effect.
#[must_use]
pub fn description(key: &Key, effect: Effect) -> String {
    let mut text = key.doc.to_owned();
    if let Some(unit) = key.unit {
        text.push_str(&format!(" In {unit}."));
    }
    match key.scope {
        Scope::Every => {}
        scope => {
            let modes: Vec<_> = scope.modes().into_iter().map(Mode::name).collect();
            text.push_str(&format!(" Only in {}.", modes.join(", ")));
        }
    }
    text.push_str(&format!(" A change takes effect {}.", effect.words()));
    text
}

/// A default, which the table holds as TOML, in JSON.
fn parse(default: &str) -> Option<Value> {
    let document: toml::Table = format!("value = {default}").parse().ok()?;
    serde_json::to_value(document.get("value")?).ok()
}

/// `pattern` is that of the key for its texts, `effect` when a change of the key
/// takes effect.
fn shape(of: &Shape, pattern: Option<&str>, effect: Effect) -> Value {
    match of {
        Shape::Text { pattern: own, .. } => match pattern.or(*own) {
            None => json!({"type": "string"}),
            Some(pattern) => json!({"type": "string", "pattern": pattern}),
        },
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Whole { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Choice(choices) => {
            let words = choices
                .iter()
                .map(|choice| (choice.name, choice.doc.to_owned()));
            let aliases = choices.iter().flat_map(|choice| {
                let as_that = format!("As `{}`.", choice.name);
                choice
                    .aliases
                    .iter()
                    .map(move |alias| (*alias, as_that.clone()))
            });
            let (words, docs): (Vec<_>, Vec<_>) = words.chain(aliases).unzip();
            // What the words mean, as taplo and as editors of JSON show it.
            json!({
                "type": "string",
                "enum": words,
                "markdownEnumDescriptions": docs,
                "x-taplo": {"docs": {"enumValues": docs}},
            })
        }
        Shape::List(of) => json!({"type": "array", "items": shape(of, pattern, effect)}),
        Shape::Table(keys) => table(keys, effect),
        Shape::Map(of) => {
            json!({"type": "object", "additionalProperties": shape(of, None, effect)})
        }
        Shape::Free => json!({"type": "object"}),
        Shape::OneOf(shapes) => {
            let shapes = shapes.iter().map(|of| match of {
                // A list in place of one value has exactly one entry.
                Shape::List(_) => {
                    let mut list = shape(of, pattern, effect);
                    list["minItems"] = json!(1);
                    list
                }
                of => shape(of, pattern, effect),
            });
            json!({"anyOf": shapes.collect::<Vec<_>>()})
        }
    }
}
