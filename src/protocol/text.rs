//! Texts that players see: JSON components, and the older `§` codes.

use serde_json::{Value, json};

/// How deep components may be nested; what is deeper is left out. Real components
/// stay below ten. The limit keeps one from an unknown peer from using up the stack.
const DEPTH_MAX: usize = 32;

/// The keys that can be the content of a component; it has one of them.
const CONTENT_KEYS: [&str; 8] = [
    "text",
    "translate",
    "keybind",
    "score",
    "selector",
    "nbt",
    "sprite",
    "player",
];

/// The colours by name, in the order of their codes `§0` to `§f`.
pub(crate) const COLOURS: [&str; 16] = [
    "black",
    "dark_blue",
    "dark_green",
    "dark_aqua",
    "dark_red",
    "dark_purple",
    "gold",
    "gray",
    "dark_gray",
    "blue",
    "green",
    "aqua",
    "red",
    "light_purple",
    "yellow",
    "white",
];

/// The other formats with their codes.
const FORMATS: [(&str, char); 5] = [
    ("obfuscated", 'k'),
    ("bold", 'l'),
    ("strikethrough", 'm'),
    ("underlined", 'n'),
    ("italic", 'o'),
];

/// The component that shows `text`.
///
/// A text that is itself a JSON component, an object with a content or a
/// non-empty list of components, is parsed. Any other is shown literally; clients
/// apply `§` codes in it.
#[must_use]
pub fn component(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if is_component(&value) => value,
        _ => json!({ "text": text }),
    }
}

/// The component that shows this JSON from a peer, in which a text alone is one, too.
/// What is not a component is shown literally.
#[must_use]
pub(crate) fn of_json(json: &str) -> Value {
    match serde_json::from_str::<Value>(json) {
        Ok(value) if is_component(&value) => value,
        Ok(Value::String(text)) => json!({ "text": text }),
        _ => json!({ "text": json }),
    }
}

/// The most characters of a literal text that ends a connection, so that its JSON
/// stays below the 32767 characters that clients read even when each becomes a
/// six-byte escape.
pub(crate) const BOUNDED_CHARS_MAX: usize = 5000;
/// The most bytes of the JSON of a component that ends a connection or is a part of a
/// message, so that there is room for the rest. A colour for each letter makes some 50
/// bytes of it.
const BOUNDED_BYTES_MAX: usize = 30_000;

/// The component that shows `text`: a component of up to 30,000 bytes, or a literal
/// text, cut after 5000 characters.
#[must_use]
pub fn bounded_component(text: &str) -> Value {
    let is_short = text.char_indices().nth(BOUNDED_CHARS_MAX).is_none();
    match component(text) {
        component if is_short => component,
        component => bounded(component),
    }
}

/// A component of up to 30,000 bytes; a longer one is [`shortened`].
#[must_use]
pub(crate) fn bounded(component: Value) -> Value {
    let is_literal = || {
        let map = component.as_object();
        map.is_some_and(|map| map.len() == 1 && map.get("text").is_some_and(Value::is_string))
    };
    match component.to_string().len() > BOUNDED_BYTES_MAX || is_literal() {
        true => shortened(&component),
        false => component,
    }
}

/// A component that every client reads: the text of this one, cut after 5000
/// characters, with its colours and formats as `§` codes.
#[must_use]
pub(crate) fn shortened(component: &Value) -> Value {
    let text: String = plain(component).chars().take(BOUNDED_CHARS_MAX).collect();
    json!({ "text": text })
}

/// Whether a client of any version reads this object or list as a component.
fn is_component(value: &Value) -> bool {
    match value {
        Value::Object(map) => CONTENT_KEYS.iter().any(|key| map.contains_key(*key)),
        Value::Array(items) => {
            !items.is_empty()
                && items
                    .iter()
                    .all(|item| item.is_string() || is_component(item))
        }
        _ => false,
    }
}

/// The text of a component without nesting, its colours and formats as `§` codes.
///
/// Translations give their fallback or their key. Colours that have no code
/// and everything below 32 levels are left out.
#[must_use]
pub fn plain(component: &Value) -> String {
    let mut flat = Flat {
        out: String::new(),
        shown: Some(Style::default()),
    };
    flat.add(component, Style::default(), 0);
    flat.out
}

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    /// An index of [`COLOURS`].
    colour: Option<u32>,
    /// Which of [`FORMATS`].
    formats: [bool; FORMATS.len()],
}

impl Style {
    /// The style of a component inside another with this style.
    fn refined(mut self, map: &serde_json::Map<String, Value>) -> Self {
        if let Some(Value::String(name)) = map.get("color") {
            let index = COLOURS.iter().position(|colour| colour == name);
            self.colour = index.and_then(|index| u32::try_from(index).ok());
        }
        for (flag, (key, _)) in self.formats.iter_mut().zip(FORMATS) {
            if let Some(Value::Bool(set)) = map.get(key) {
                *flag = *set;
            }
        }
        self
    }
}

/// The text of [`plain`] so far.
struct Flat {
    out: String,
    /// The style at the end of `out`; `None` when codes in a text changed it.
    shown: Option<Style>,
}

impl Flat {
    fn add(&mut self, value: &Value, style: Style, depth: usize) {
        if depth >= DEPTH_MAX {
            return;
        }
        match value {
            Value::String(text) => self.push(text, style),
            Value::Array(items) => {
                // The first component of a list is the parent of the others.
                let style = match items.first() {
                    Some(Value::Object(map)) => style.refined(map),
                    _ => style,
                };
                for item in items {
                    self.add(item, style, depth + 1);
                }
            }
            Value::Object(map) => {
                let style = style.refined(map);
                let text = ["text", "fallback", "translate", "keybind"]
                    .iter()
                    .find_map(|key| map.get(*key)?.as_str());
                self.push(text.unwrap_or_default(), style);
                if let Some(Value::Array(items)) = map.get("extra") {
                    for item in items {
                        self.add(item, style, depth + 1);
                    }
                }
            }
            Value::Number(number) => self.push(&number.to_string(), style),
            Value::Bool(truth) => self.push(if *truth { "true" } else { "false" }, style),
            Value::Null => {}
        }
    }

    fn push(&mut self, text: &str, style: Style) {
        if text.is_empty() {
            return;
        }
        if self.shown != Some(style) {
            match style.colour.and_then(|colour| char::from_digit(colour, 16)) {
                // A colour's code ends all formats.
                Some(code) => self.out.extend(['§', code]),
                None if self.shown == Some(Style::default()) => {}
                None => self.out.push_str("§r"),
            }
            for (set, (_, code)) in style.formats.iter().zip(FORMATS) {
                if *set {
                    self.out.extend(['§', code]);
                }
            }
        }
        self.out.push_str(text);
        self.shown = (!text.contains('§')).then_some(style);
    }
}

/// The text without each `§` and the character after it.
#[must_use]
pub fn without_codes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '§' {
            chars.next();
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Only what clients read as a component is recognized as one.
    #[test]
    fn components_are_recognised() {
        for text in [
            r#"{"text":""}"#,
            r#"{"translate":"a.b","with":["c"]}"#,
            r#" {"extra":[],"text":"x"} "#,
            r#"["a",{"text":"b"}]"#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(component(text), value);
        }
        for text in [
            "",
            "hello",
            "§ahi",
            "[Lobby] hi",
            "{}",
            "[]",
            "[1,2]",
            "12",
            "true",
            "null",
            "\"quoted\"",
            "{\"a\":1}",
            "{\"text\":",
            "[[]]",
        ] {
            assert_eq!(component(text), json!({ "text": text }));
        }
    }

    /// A text with a colour for each letter.
    fn colourful(letters: usize) -> Value {
        let letter = |at: usize| json!({ "text": "x", "color": format!("#{at:06x}") });
        json!({ "text": "", "extra": (0..letters).map(letter).collect::<Vec<_>>() })
    }

    /// What is cut stays a text: nobody reads the beginning of a component as JSON.
    #[test]
    fn long_texts_are_bounded() {
        let long = "é".repeat(BOUNDED_CHARS_MAX + 1);
        let cut = json!({ "text": "é".repeat(BOUNDED_CHARS_MAX) });
        assert_eq!(bounded_component(&long), cut);
        assert_eq!(bounded_component(&json!({ "text": long }).to_string()), cut);
        // More than 5000 characters of JSON.
        let many = colourful(300);
        assert_eq!(bounded_component(&many.to_string()), many);
        let shown = json!({ "text": "x".repeat(2000) });
        assert_eq!(bounded_component(&colourful(2000).to_string()), shown);
        assert_eq!(bounded(colourful(2000)), shown);
        let escapes = "\u{1}".repeat(BOUNDED_CHARS_MAX);
        assert_eq!(bounded_component(&escapes), json!({ "text": escapes }));
    }

    /// Peers send a text alone as JSON, too.
    #[test]
    fn json_of_peers_is_read() {
        for (json, shown) in [
            (r#""bye""#, json!({"text": "bye"})),
            (r#"{"translate":"a"}"#, json!({"translate": "a"})),
            (r#"["a","b"]"#, json!(["a", "b"])),
            ("bye", json!({"text": "bye"})),
            (r#"{"a":1}"#, json!({"text": "{\"a\":1}"})),
        ] {
            assert_eq!(of_json(json), shown);
        }
    }

    /// Components become one text with the codes of their styles.
    #[test]
    fn components_become_plain() {
        let table = [
            (json!("a"), "a"),
            (json!({"text": "a", "extra": ["b", {"text": "c"}]}), "abc"),
            (json!({"text": "a", "color": "red"}), "§ca"),
            (json!({"text": "a", "bold": true}), "§la"),
            (
                json!(["", {"text": "a", "color": "gold", "italic": true}, "b"]),
                "§6§oa§rb",
            ),
            (
                json!({"text": "", "color": "blue", "extra": ["a", {"text": "b", "color": "white"}, "c"]}),
                "§9a§fb§9c",
            ),
            (json!({"text": "a", "color": "#ff0000"}), "a"),
            (json!({"text": "§ka", "extra": ["b"]}), "§ka§rb"),
            (json!({"translate": "k", "fallback": "f"}), "f"),
            (json!({"translate": "k"}), "k"),
            (json!([{"text": "a", "color": "red"}, "b"]), "§cab"),
            (
                json!({"text": "a", "bold": true, "extra": [{"text": "b", "bold": false}]}),
                "§la§rb",
            ),
            (json!({"text": 5}), ""),
            (json!(null), ""),
        ];
        for (value, expected) in table {
            assert_eq!(plain(&value), expected, "{value}");
        }
    }

    /// Components that are nested too deep are left out.
    #[test]
    fn nesting_is_bounded() {
        let nest = |levels: usize| {
            (0..levels).fold(json!("deep"), |inner, level| match level % 2 {
                0 => Value::Array(vec![inner]),
                _ => json!({ "text": "", "extra": [inner] }),
            })
        };
        assert_eq!(plain(&nest(DEPTH_MAX - 1)), "deep");
        assert_eq!(plain(&nest(DEPTH_MAX)), "");
        assert_eq!(plain(&nest(100)), "");
    }

    proptest! {
        /// Every text has a component that shows it, and a plain one comes back.
        #[test]
        fn any_text(text: String) {
            let value = component(&text);
            prop_assert!(is_component(&value));
            if value == json!({ "text": text }) {
                prop_assert_eq!(plain(&value), text);
            }
        }
    }
}
