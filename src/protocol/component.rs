//! Text components in the form of each version of the game.
//!
//! Inside the proxy a component is *canonical*: JSON with the keys of the game
//! since 1.21.5. [`read`] converts a component of any version to this form,
//! [`write()`] converts it to the form that a version reads.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::ids::{State, Version};
use super::read::{Cursor, ReadError, write_string};
use super::text::COLOURS;
use super::version::{
    V1_8, V1_12, V1_13, V1_14, V1_15, V1_16, V1_20_3, V1_20_5, V1_21_5, V1_21_6, V1_21_9,
};
use super::{link, nbt, text};

/// The most characters of the JSON form that clients up to 1.12.2 read.
pub(super) const JSON_CHARS_MAX_BEFORE_1_13: usize = 32_767;
/// The most characters that clients since 1.13 read (the game).
const JSON_CHARS_MAX: usize = 262_144;
/// The most bytes of a canonical text from a plugin: clients of every version read
/// this much. The documentation of the plugin API promises the same number.
pub const CANONICAL_BYTES_MAX: usize = 32_767;

/// The most characters of an identifier (the game).
const IDENTIFIER_CHARS_MAX: usize = 32_767;

/// The keys that can be a component's content, each with the first protocol number
/// that knows it.
const CONTENT_KEYS: [(&str, i32); 9] = [
    ("text", 0),
    ("translate", 0),
    ("score", V1_8),
    ("selector", V1_8),
    ("keybind", V1_12),
    ("nbt", V1_14),
    ("sprite", V1_21_9),
    ("player", V1_21_9),
    ("object", V1_21_9),
];

/// The keys with boolean values.
const FORMAT_KEYS: [&str; 5] = [
    "bold",
    "italic",
    "underlined",
    "strikethrough",
    "obfuscated",
];

/// The actions of clicks, and the key of each one's value since 1.21.5.
const CLICKS: [(&str, &str); 5] = [
    ("open_url", "url"),
    ("run_command", "command"),
    ("suggest_command", "command"),
    ("change_page", "page"),
    ("copy_to_clipboard", "value"),
];

/// Why a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// It is too long.
    #[error("the text has more than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// It is not JSON, or nested too deep.
    #[error("the text is not a text component in JSON")]
    NotJson,
}

/// Reads a canonical component from a plugin.
///
/// # Errors
///
/// When it is longer than [`CANONICAL_BYTES_MAX`], or not JSON.
pub fn parse(json: &str) -> Result<Value, TextError> {
    if json.len() > CANONICAL_BYTES_MAX {
        return Err(TextError::TooLong {
            max: CANONICAL_BYTES_MAX,
        });
    }
    // The parser refuses what is nested more than 128 deep.
    match serde_json::from_str(json) {
        Ok(Value::Null) | Err(_) => Err(TextError::NotJson),
        Ok(component) => Ok(component),
    }
}

/// Whether components are NBT: since 1.20.3, except in the login state.
const fn is_nbt(protocol: i32, state: State) -> bool {
    protocol >= V1_20_3 && !matches!(state, State::Login)
}

/// Appends a component in the form that this version reads in this state.
///
/// # Errors
///
/// When its JSON form is longer than the limit of the version.
pub fn write(
    component: &Value,
    version: Version,
    state: State,
    out: &mut Vec<u8>,
) -> Result<(), TextError> {
    let component = for_version(component, version.protocol());
    if is_nbt(version.protocol(), state) {
        nbt::write_component(&component, out);
        return Ok(());
    }
    let json = component.to_string();
    let max = match version.protocol() < V1_13 {
        true => JSON_CHARS_MAX_BEFORE_1_13,
        false => JSON_CHARS_MAX,
    };
    if json.len() > max && json.encode_utf16().count() > max {
        return Err(TextError::TooLong { max });
    }
    write_string(&json, out);
    Ok(())
}

/// Reads a component of this version in this state and returns its canonical form.
///
/// # Errors
///
/// When it is malformed, too long or nested too deep.
pub fn read(cursor: &mut Cursor<'_>, version: Version, state: State) -> Result<Value, ReadError> {
    let mut component = if is_nbt(version.protocol(), state) {
        nbt::read_component(cursor)?
    } else {
        let json = cursor.string(JSON_CHARS_MAX)?;
        match serde_json::from_str(json) {
            Ok(Value::Null) => return Err(ReadError::BadComponent),
            Ok(component) => component,
            // Clients are lenient here: a text without quotes is a text.
            Err(_) if !json.trim_start().starts_with(['{', '[', '"']) => Value::from(json),
            Err(_) => return Err(ReadError::BadComponent),
        }
    };
    make_canonical(&mut component);
    Ok(component)
}

/// Skips a component.
///
/// # Errors
///
/// When its length or its tags are malformed.
pub fn skip(cursor: &mut Cursor<'_>, version: Version, state: State) -> Result<(), ReadError> {
    if is_nbt(version.protocol(), state) {
        return nbt::skip(cursor, false);
    }
    cursor.bytes(JSON_CHARS_MAX * 3).map(drop)
}

/// The component as one text with `§` codes: for places where clients ignore the
/// colours and formats of components.
#[must_use]
pub fn with_codes(component: &Value) -> Value {
    // In the form of 1.8, since colours without a code came with 1.16.
    json!({ "text": text::plain(&for_version(component, V1_8)) })
}

/// The component in the form that a version reads: with its keys and values and the
/// nearest colour that it knows, and without parts that would make it disconnect.
///
/// `component` may have the keys of versions before 1.21.5.
#[must_use]
pub fn for_version(component: &Value, protocol: i32) -> Value {
    let mut component = component.clone();
    make_canonical(&mut component);
    match converted(component, protocol) {
        // Some versions accept a bare text only inside another component.
        Value::String(text) => json!({ "text": text }),
        Value::Array(items) if items.is_empty() => json!({ "text": "" }),
        other => other,
    }
}

/// A scalar as a text; `None` for lists and objects.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    Some(match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Null => Cow::Borrowed(""),
        Value::Bool(_) | Value::Number(_) => Cow::Owned(value.to_string()),
        Value::Array(_) | Value::Object(_) => return None,
    })
}

/// Replaces the keys of versions before 1.21.5 by those since, everywhere in a
/// component, and the booleans of NBT by those of JSON.
fn make_canonical(component: &mut Value) {
    let map = match component {
        Value::Array(items) => return items.iter_mut().for_each(make_canonical),
        Value::Object(map) => map,
        _ => return,
    };
    for key in FORMAT_KEYS {
        if let Some(value) = map.get_mut(key) {
            *value = match value {
                Value::Number(number) => Value::Bool(number.as_i64() != Some(0)),
                Value::String(text) => Value::Bool(text == "true"),
                _ => continue,
            };
        }
    }
    if let Some(click) = map.remove("clickEvent")
        && let Some(click) = canonical_click(&click)
    {
        map.entry("click_event").or_insert(click);
    }
    if let Some(hover) = map.remove("hoverEvent")
        && let Some(hover) = canonical_hover(hover)
    {
        map.entry("hover_event").or_insert(hover);
    }
    for key in ["extra", "with", "separator"] {
        if let Some(inner) = map.get_mut(key) {
            make_canonical(inner);
        }
    }
    if let Some(Value::Object(hover)) = map.get_mut("hover_event") {
        for key in ["value", "name"] {
            if let Some(inner) = hover.get_mut(key) {
                make_canonical(inner);
            }
        }
    }
}

fn canonical_click(click: &Value) -> Option<Value> {
    let action = click.get("action")?.as_str()?;
    let (_, key) = CLICKS.iter().find(|(name, _)| *name == action)?;
    let value = scalar(click.get("value")?)?;
    let value = match action {
        "change_page" => Value::from(value.trim().parse::<u32>().ok().filter(|page| *page > 0)?),
        _ => Value::from(value.into_owned()),
    };
    Some(json!({ "action": action, *key: value }))
}

fn canonical_hover(mut hover: Value) -> Option<Value> {
    let contents = hover.get_mut("contents").map(Value::take);
    let action = hover.get("action")?.as_str()?;
    Some(match (action, contents) {
        ("show_text", contents) => {
            let contents = contents.or_else(|| hover.get_mut("value").map(Value::take))?;
            json!({ "action": "show_text", "value": contents })
        }
        ("show_item", Some(Value::String(id))) => json!({ "action": "show_item", "id": id }),
        ("show_item", Some(Value::Object(mut item))) => {
            // Before 1.20.5 the rest of an item is a text in another format (SNBT).
            item.remove("tag");
            item.insert("action".to_owned(), "show_item".into());
            Value::Object(item)
        }
        ("show_entity", Some(Value::Object(mut entity))) => {
            let mut hover = Map::new();
            hover.insert("action".to_owned(), "show_entity".into());
            for (old, new) in [("type", "id"), ("id", "uuid"), ("name", "name")] {
                if let Some(value) = entity.remove(old) {
                    hover.insert(new.to_owned(), value);
                }
            }
            Value::Object(hover)
        }
        // Before 1.16 the values are texts in another format (SNBT).
        _ => return None,
    })
}

/// A canonical component in the form of a version.
fn converted(component: Value, protocol: i32) -> Value {
    let mut map = match component {
        Value::Array(items) if items.is_empty() => return Value::from(""),
        Value::Array(items) => {
            let items = items.into_iter().map(|item| converted(item, protocol));
            return Value::Array(items.collect());
        }
        Value::Object(map) => map,
        other => return scalar(&other).map_or_else(|| Value::from(""), Value::from),
    };
    convert_content(&mut map, protocol);
    convert_look(&mut map, protocol);
    if let Some(click) = map.remove("click_event") {
        let key = if protocol >= V1_21_5 {
            "click_event"
        } else {
            "clickEvent"
        };
        if let Some(click) = click_for(click, protocol) {
            map.insert(key.to_owned(), click);
        }
    }
    if let Some(hover) = map.remove("hover_event") {
        let key = if protocol >= V1_21_5 {
            "hover_event"
        } else {
            "hoverEvent"
        };
        if let Some(hover) = hover_for(hover, protocol) {
            map.insert(key.to_owned(), hover);
        }
    }
    for key in ["extra", "with"] {
        match map.remove(key) {
            // Clients refuse an empty list.
            Some(Value::Array(items)) if !items.is_empty() => {
                let items = items.into_iter().map(|item| converted(item, protocol));
                map.insert(key.to_owned(), Value::Array(items.collect()));
            }
            _ => {}
        }
    }
    if let Some(separator) = map.remove("separator") {
        map.insert("separator".to_owned(), converted(separator, protocol));
    }
    Value::Object(map)
}

/// Removes content that the version does not know, and adds an empty or fallback
/// text if none is left.
fn convert_content(map: &mut Map<String, Value>, protocol: i32) {
    let mut has_content = false;
    for (key, since) in CONTENT_KEYS {
        match map.get(key) {
            Some(_) if protocol >= since && is_content(key, map) => has_content = true,
            Some(_) => drop(map.remove(key)),
            None => {}
        }
    }
    // Clients recognize a content by its keys, and refuse a name that does not fit.
    map.remove("type");
    for key in [
        "text",
        "translate",
        "keybind",
        "selector",
        "insertion",
        "fallback",
    ] {
        if let Some(value) = map.get_mut(key)
            && !value.is_string()
        {
            *value = scalar(value).unwrap_or_default().into();
        }
    }
    if !has_content {
        let fallback = map.remove("fallback").unwrap_or_else(|| "".into());
        map.insert("text".to_owned(), fallback);
    }
}

/// Whether clients read the content with this key.
fn is_content(key: &str, map: &Map<String, Value>) -> bool {
    let has_text = |value: &Value, key: &str| value.get(key).is_some_and(Value::is_string);
    let Some(value) = map.get(key) else {
        return false;
    };
    match key {
        "score" => has_text(value, "name") && has_text(value, "objective"),
        "nbt" => {
            let has_source = |key: &&str| map.get(*key).is_some_and(Value::is_string);
            value.is_string() && ["block", "entity", "storage"].iter().any(has_source)
        }
        _ => !value.is_null(),
    }
}

/// Whether clients since 1.13 read this as a name such as `minecraft:brand`: that of a
/// channel, a cookie or a font.
pub(super) fn is_identifier(name: &str) -> bool {
    let (namespace, path) = name.split_once(':').unwrap_or(("minecraft", name));
    let is_part = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-' | '.');
    name.len() <= IDENTIFIER_CHARS_MAX
        && namespace.chars().all(is_part)
        && !path.is_empty()
        && path.chars().all(|c| is_part(c) || c == '/')
}

fn convert_look(map: &mut Map<String, Value>, protocol: i32) {
    for key in FORMAT_KEYS {
        if map.get(key).is_some_and(|value| !value.is_boolean()) {
            map.remove(key);
        }
    }
    let is_font = |font: &Value| font.as_str().is_some_and(is_identifier);
    if map.get("font").is_some_and(|font| !is_font(font)) {
        map.remove("font");
    }
    if let Some(shadow) = map.remove("shadow_color")
        && let Some(shadow) = shadow_colour(&shadow)
    {
        map.insert("shadow_color".to_owned(), shadow.into());
    }
    let Some(colour) = map.remove("color") else {
        return;
    };
    let colour = match colour.as_str() {
        Some(name) if COLOURS.contains(&name) => Some(name.to_owned()),
        Some("reset") if protocol < V1_16 => Some("reset".to_owned()),
        Some(hex) => hex_colour(hex).map(|rgb| match protocol < V1_16 {
            true => nearest_colour(rgb).to_owned(),
            false => format!("#{rgb:06x}"),
        }),
        None => None,
    };
    if let Some(colour) = colour {
        map.insert("color".to_owned(), colour.into());
    }
}

/// The colour of a shadow (1.21.4) as one number: alpha, red, green, blue. Clients also
/// read it as the four parts from 0 to 1, of which alpha is the last.
fn shadow_colour(shadow: &Value) -> Option<i64> {
    if let Some(number) = shadow.as_i64() {
        let is_argb = i64::from(i32::MIN)..=i64::from(u32::MAX);
        return is_argb.contains(&number).then_some(number);
    }
    let parts = shadow.as_array().filter(|parts| parts.len() == 4)?;
    let mut number = 0;
    for index in [3, 0, 1, 2] {
        let part = parts.get(index)?.as_f64()?.clamp(0.0, 1.0);
        // Between 0 and 255.
        #[allow(clippy::cast_possible_truncation)]
        let part = (part * 255.0).round() as i64;
        number = number << 8 | part;
    }
    Some(number)
}

/// The number of a colour `#rrggbb`.
fn hex_colour(name: &str) -> Option<u32> {
    let digits = name.strip_prefix('#')?;
    let is_hex = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// The named colour that differs least from `rgb`.
fn nearest_colour(rgb: u32) -> &'static str {
    let [_, red, green, blue] = rgb.to_be_bytes();
    let distance = |index: usize| {
        // The bits of a code: bright, red, green, blue.
        let bright = if index & 8 == 0 { 0 } else { 0x55_u8 };
        let channel = |bit| bright + if index & bit == 0 { 0 } else { 0xAA };
        let mut known = [channel(4), channel(2), channel(1)];
        if COLOURS[index] == "gold" {
            known[0] = 0xFF;
        }
        let pairs = known.into_iter().zip([red, green, blue]);
        pairs
            .map(|(a, b)| u32::from(a.abs_diff(b)).pow(2))
            .sum::<u32>()
    };
    let index = (0..COLOURS.len()).min_by_key(|index| distance(*index));
    COLOURS[index.unwrap_or_default()]
}

fn click_for(click: Value, protocol: i32) -> Option<Value> {
    let action = click.get("action")?.as_str()?;
    let Some((_, key)) = CLICKS.iter().find(|(name, _)| *name == action) else {
        // Clients refuse `open_file` from a server: it is for their own texts.
        let is_known = matches!(action, "show_dialog" | "custom") && protocol >= V1_21_6;
        return is_known.then_some(click);
    };
    let value = click.get(*key)?;
    let value = match (action, value) {
        ("change_page", Value::Number(page)) => page.as_u64().filter(|page| *page > 0)?.into(),
        ("change_page", _) => return None,
        ("open_url", value) => Value::from(link::openable(&scalar(value)?)?),
        ("run_command" | "suggest_command", value) => Value::from(chat_line(&scalar(value)?)),
        (_, value) => Value::from(scalar(value)?.into_owned()),
    };
    if protocol >= V1_21_5 {
        return Some(json!({ "action": action, *key: value }));
    }
    let action = match action {
        "copy_to_clipboard" if protocol < V1_15 => "suggest_command",
        action => action,
    };
    Some(json!({ "action": action, "value": scalar(&value)? }))
}

/// The text without the characters that a line of chat cannot have. Clients since 1.21.5
/// refuse a command with one.
fn chat_line(text: &str) -> String {
    let is_allowed = |c: &char| *c >= ' ' && !matches!(c, '\x7f' | '§');
    text.chars().filter(is_allowed).collect()
}

fn hover_for(hover: Value, protocol: i32) -> Option<Value> {
    let Value::Object(mut map) = hover else {
        return None;
    };
    let action = map.remove("action")?.as_str()?.to_owned();
    if action == "show_text" {
        let shown = converted(map.remove("value")?, protocol);
        let key = match protocol {
            V1_16..V1_21_5 => "contents",
            _ => "value",
        };
        return Some(json!({ "action": action, key: shown }));
    }
    // Before 1.16 the values are texts in another format (SNBT).
    if protocol < V1_16 || !matches!(&*action, "show_item" | "show_entity") {
        return None;
    }
    map.get("id")?.as_str()?;
    if let Some(name) = map.remove("name") {
        map.insert("name".to_owned(), converted(name, protocol));
    }
    if protocol < V1_20_5 {
        map.remove("components");
    }
    if action == "show_entity" {
        // Every version reads an id as text, but not every version as numbers.
        let uuid = uuid_text(map.get("uuid")?)?;
        map.insert("uuid".to_owned(), uuid.into());
    }
    if protocol >= V1_21_5 {
        map.insert("action".to_owned(), action.into());
        return Some(Value::Object(map));
    }
    if action == "show_entity" {
        for (new, old) in [("id", "type"), ("uuid", "id")] {
            if let Some(value) = map.remove(new) {
                map.insert(old.to_owned(), value);
            }
        }
    }
    Some(json!({ "action": action, "contents": map }))
}

/// Whether Java reads this as an id: five numbers in hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let sizes = [8, 4, 4, 4, 12];
    let is_part = |(part, size): (&&str, usize)| {
        part.len() == size && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    parts.len() == sizes.len() && parts.iter().zip(sizes).all(is_part)
}

/// A player id, given as a text or as four numbers, as a text.
fn uuid_text(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return is_uuid(text).then(|| text.to_owned());
    }
    let numbers = value.as_array().filter(|numbers| numbers.len() == 4)?;
    let mut uuid = Vec::with_capacity(16);
    for number in numbers {
        uuid.extend(i32::try_from(number.as_i64()?).ok()?.to_be_bytes());
    }
    let uuid = uuid.try_into().ok()?;
    Some(super::uuid::uuid_text(uuid, true))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A component has the keys and values of each version.
    #[test]
    fn forms_by_version() {
        let text = json!({
            "text": "a",
            "color": "#ff8000",
            "bold": true,
            "click_event": {"action": "run_command", "command": "/a"},
            "hover_event": {"action": "show_text", "value": {"text": "h", "color": "#0000a0"}},
            "extra": [{"text": "b", "click_event": {"action": "copy_to_clipboard", "value": "c"}}],
        });
        let old = |colour: &str, hover_colour: &str, contents: &str, copy: &str| {
            json!({
                "text": "a",
                "color": colour,
                "bold": true,
                "clickEvent": {"action": "run_command", "value": "/a"},
                "hoverEvent": {"action": "show_text", contents: {"text": "h", "color": hover_colour}},
                "extra": [{"text": "b", "clickEvent": {"action": copy, "value": "c"}}],
            })
        };
        let suggest = old("gold", "dark_blue", "value", "suggest_command");
        let copy = old("gold", "dark_blue", "value", "copy_to_clipboard");
        let hex = old("#ff8000", "#0000a0", "contents", "copy_to_clipboard");
        let table = [
            (4, &suggest),
            (498, &suggest),
            (573, &copy),
            (578, &copy),
            (735, &hex),
            (769, &hex),
            (770, &text),
            (777, &text),
        ];
        for (protocol, expected) in table {
            let form = for_version(&text, protocol);
            assert_eq!(&form, expected, "{protocol}");
            // The form of any version is understood again.
            assert_eq!(&for_version(&form, protocol), expected, "{protocol}");
        }
        assert_eq!(for_version(&hex, 777), text);
    }

    /// Parts that would make a client disconnect are removed or replaced.
    #[test]
    fn what_a_version_lacks() {
        let table = [
            (json!({"keybind": "key.jump"}), 316, json!({"text": ""})),
            (
                json!({"keybind": "key.jump"}),
                335,
                json!({"keybind": "key.jump"}),
            ),
            (
                json!({"sprite": "a:b", "fallback": "c"}),
                772,
                json!({"text": "c"}),
            ),
            (
                json!({"color": "red"}),
                47,
                json!({"color": "red", "text": ""}),
            ),
            (json!({"text": null}), 770, json!({"text": ""})),
            (json!({"text": 5}), 770, json!({"text": "5"})),
            (json!({"text": "a", "extra": []}), 47, json!({"text": "a"})),
            (
                json!({"text": "a", "extra": [[]]}),
                47,
                json!({"text": "a", "extra": [""]}),
            ),
            (json!([]), 770, json!({"text": ""})),
            (json!("a"), 4, json!({"text": "a"})),
            (
                json!({"text": "a", "color": "mud"}),
                770,
                json!({"text": "a"}),
            ),
            (json!({"text": "a", "bold": {}}), 770, json!({"text": "a"})),
            (
                json!({"text": "a", "bold": 1}),
                770,
                json!({"text": "a", "bold": true}),
            ),
            (
                json!({"text": "a", "click_event": {"action": "open_file", "path": "b"}}),
                770,
                json!({"text": "a"}),
            ),
            (
                json!({"text": "a", "click_event": {"action": "custom", "id": "b:c"}}),
                770,
                json!({"text": "a"}),
            ),
            (
                json!({"text": "a", "click_event": {"action": "open_url", "url": "b.example"}}),
                770,
                json!({"text": "a", "click_event": {"action": "open_url", "url": "https://b.example"}}),
            ),
            (
                json!({"text": "a", "click_event": {"action": "open_url", "url": "b.example"}}),
                47,
                json!({"text": "a", "clickEvent": {"action": "open_url", "value": "https://b.example"}}),
            ),
            (
                json!({"text": "a", "click_event": {"action": "open_url", "url": "https://b c"}}),
                777,
                json!({"text": "a"}),
            ),
            (
                json!({"text": "a", "click_event": {"action": "run_command", "command": "/b\n§cc\u{7f}"}}),
                770,
                json!({"text": "a", "click_event": {"action": "run_command", "command": "/bcc"}}),
            ),
            (
                json!({"score": {"name": "b"}, "fallback": "c"}),
                47,
                json!({"text": "c"}),
            ),
            (
                json!({"score": {"name": "b", "objective": "c"}}),
                770,
                json!({"score": {"name": "b", "objective": "c"}}),
            ),
            (json!({"nbt": "b"}), 770, json!({"text": ""})),
            (
                json!({"nbt": "b", "storage": "c:d"}),
                770,
                json!({"nbt": "b", "storage": "c:d"}),
            ),
            (
                json!({"type": "keybind", "text": "a", "font": "Not an id"}),
                770,
                json!({"text": "a"}),
            ),
            (
                json!({"text": "a", "font": "uniform", "shadow_color": [1, 0.5, 0, 1]}),
                770,
                json!({"text": "a", "font": "uniform", "shadow_color": 0xFF_FF_80_00_i64}),
            ),
            (
                json!({"text": "a", "shadow_color": "red"}),
                770,
                json!({"text": "a"}),
            ),
            (
                json!({"text": "a", "hover_event": {"action": "show_entity", "id": "b", "uuid": "c"}}),
                770,
                json!({"text": "a"}),
            ),
            (
                json!({"text": "a", "clickEvent": {"action": "change_page", "value": "2"}}),
                770,
                json!({"text": "a", "click_event": {"action": "change_page", "page": 2}}),
            ),
            (
                json!({"text": "a", "click_event": {"action": "change_page", "page": 2}}),
                769,
                json!({"text": "a", "clickEvent": {"action": "change_page", "value": "2"}}),
            ),
        ];
        for (value, protocol, expected) in table {
            assert_eq!(
                for_version(&value, protocol),
                expected,
                "{value} in {protocol}"
            );
        }
    }

    /// Hover texts of items and entities are converted between the version families.
    #[test]
    fn hovers_of_things() {
        let modern = json!({"text": "a", "hover_event": {
            "action": "show_entity", "id": "minecraft:pig", "name": "P",
            "uuid": "00000001-0000-0002-0000-0003ffffffff",
        }});
        let numbers = json!({"text": "a", "hover_event": {
            "action": "show_entity", "id": "minecraft:pig", "name": "P", "uuid": [1, 2, 3, -1],
        }});
        let old = json!({"text": "a", "hoverEvent": {"action": "show_entity", "contents": {
            "type": "minecraft:pig", "name": "P", "id": "00000001-0000-0002-0000-0003ffffffff",
        }}});
        for form in [&modern, &numbers, &old] {
            assert_eq!(for_version(form, 770), modern);
            assert_eq!(for_version(form, 735), old);
            assert_eq!(for_version(form, 578), json!({"text": "a"}));
        }
        let item =
            json!({"text": "a", "hover_event": {"action": "show_item", "id": "a:b", "count": 2}});
        let old = json!({"text": "a", "hoverEvent": {"action": "show_item", "contents": {"id": "a:b", "count": 2}}});
        assert_eq!(for_version(&item, 769), old);
        assert_eq!(for_version(&old, 770), item);
    }

    /// Colours without a name become the nearest named colour.
    #[test]
    fn nearest_colours() {
        for (rgb, name) in [
            (0x00_0000, "black"),
            (0x00_00B0, "dark_blue"),
            (0xFF_AA00, "gold"),
            (0xAA_5500, "dark_red"),
            (0x60_6060, "dark_gray"),
            (0xFE_FEFE, "white"),
            (0xFF_55F0, "light_purple"),
        ] {
            assert_eq!(nearest_colour(rgb), name, "{rgb:06x}");
        }
        assert_eq!(
            with_codes(&json!({"text": "a", "color": "#ffaa00"})),
            json!({"text": "§6a"})
        );
    }

    /// A component is unchanged after writing and reading in every version and state.
    #[test]
    fn every_version_reads_what_is_written() {
        let text = json!({
            "text": "a🦀\u{0}",
            "italic": false,
            "click_event": {"action": "open_url", "url": "https://a"},
            "hover_event": {"action": "show_text", "value": {"text": "h"}},
            "extra": [{"translate": "k", "with": ["x", {"text": "y"}]}, "z"],
        });
        for version in Version::all() {
            for state in [State::Login, State::Configuration, State::Play] {
                let mut bytes = Vec::new();
                write(&text, version, state, &mut bytes).unwrap();
                let mut cursor = Cursor::new(&bytes);
                let read = read(&mut cursor, version, state).unwrap();
                assert_eq!(cursor.remaining(), 0);
                // A list of texts and objects is one of objects in NBT.
                assert_eq!(text::plain(&read), text::plain(&text));
                assert_eq!(
                    for_version(&read, 4)["clickEvent"],
                    for_version(&text, 4)["clickEvent"]
                );
                let mut cursor = Cursor::new(&bytes);
                skip(&mut cursor, version, state).unwrap();
                assert_eq!(cursor.remaining(), 0);
                for end in 0..bytes.len() {
                    assert!(super::read(&mut Cursor::new(&bytes[..end]), version, state).is_err());
                }
            }
        }
    }

    /// Texts of plugins are bounded, and must be JSON.
    #[test]
    fn texts_of_plugins() {
        assert_eq!(parse("\"a\""), Ok(json!("a")));
        let long = format!("\"{}\"", "a".repeat(CANONICAL_BYTES_MAX - 1));
        let max = CANONICAL_BYTES_MAX;
        assert_eq!(parse(&long), Err(TextError::TooLong { max }));
        for bad in ["", "a", "{", "null", &"[".repeat(20_000)] {
            assert_eq!(parse(bad), Err(TextError::NotJson));
        }
        let old = Version::of(340).unwrap();
        let escapes = json!({ "text": "\u{1}".repeat(6000) });
        let mut out = Vec::new();
        assert_eq!(
            write(&escapes, old, State::Play, &mut out),
            Err(TextError::TooLong { max })
        );
        assert!(out.is_empty());
        assert_eq!(
            write(&escapes, Version::newest(), State::Play, &mut out),
            Ok(())
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let keys = "text|color|bold|extra|with|translate|click_event|clickEvent|hover_event|\
                    hoverEvent|action|value|contents|show_text|run_command|change_page|page|\
                    show_entity|uuid|id|type|name|#00ff00|red";
        let word = move || prop::sample::select(keys.split('|').map(str::trim).collect::<Vec<_>>());
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            word().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec((word(), inner), 0..5).prop_map(|fields| {
                    let fields = fields.into_iter();
                    Value::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        /// Any JSON value gives a component that can be written, and converting it
        /// again changes nothing.
        #[test]
        fn any_component(value in any_json(), protocol in prop::sample::select(vec![4, 47, 498, 754, 765, 770, 777])) {
            let form = for_version(&value, protocol);
            prop_assert_eq!(&for_version(&form, protocol), &form);
            let version = Version::of(protocol).unwrap();
            let mut bytes = Vec::new();
            write(&value, version, State::Play, &mut bytes).unwrap();
            prop_assert!(read(&mut Cursor::new(&bytes), version, State::Play).is_ok());
        }
    }
}
