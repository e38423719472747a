//! The JSON form of texts, in which plugins and the proxy exchange them.

use std::fmt::Write as _;

use super::{Click, Color, Content, DEPTH_MAX, Format, Text};

/// How deep JSON values may be nested: an object and a list for each text, and some levels
/// for clicks and hovers.
const VALUE_DEPTH_MAX: usize = 3 * DEPTH_MAX as usize;

/// A value of JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// The number as it is written.
    Number(String),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(fields) => {
                let found = fields.iter().find(|(known, _)| known == key);
                found.map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_value(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Json::Number(number) => out.push_str(number),
        Json::String(text) => write_string(text, out),
        Json::Array(items) => write_list(items, out, write_value),
        Json::Object(fields) => {
            out.push('{');
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_value(value, out);
            }
            out.push('}');
        }
    }
}

fn write_list<T>(items: &[T], out: &mut String, write: fn(&T, &mut String)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(']');
}

/// The name of a click, and the key of its value.
const fn click_keys(click: &Click) -> (&'static str, &'static str) {
    match click {
        Click::OpenUrl(_) => ("open_url", "url"),
        Click::RunCommand(_) => ("run_command", "command"),
        Click::SuggestCommand(_) => ("suggest_command", "command"),
        Click::CopyToClipboard(_) => ("copy_to_clipboard", "value"),
        Click::ChangePage(_) => ("change_page", "page"),
    }
}

pub(super) fn write_text(text: &Text, out: &mut String) {
    let begin = out.len();
    out.push('{');
    let key = |key: &str, out: &mut String| {
        if out.len() > begin + 1 {
            out.push(',');
        }
        write_string(key, out);
        out.push(':');
    };
    match &text.content {
        Content::Plain(plain) => {
            key("text", out);
            write_string(plain, out);
        }
        Content::Translate { key: name, args } => {
            key("translate", out);
            write_string(name, out);
            if !args.is_empty() {
                key("with", out);
                write_list(args, out, write_text);
            }
        }
        Content::Other => {}
    }
    if let Some(color) = text.color {
        key("color", out);
        write_string(&color.to_string(), out);
    }
    for (format, value) in Format::ALL.into_iter().zip(text.formats) {
        if let Some(is_set) = value {
            key(format.name(), out);
            write_value(&Json::Bool(is_set), out);
        }
    }
    if let Some(insertion) = &text.insertion {
        key("insertion", out);
        write_string(insertion, out);
    }
    if let Some(click) = &text.click {
        let (action, name) = click_keys(click);
        key("click_event", out);
        let _ = write!(out, "{{\"action\":\"{action}\",\"{name}\":");
        match click {
            Click::OpenUrl(value)
            | Click::RunCommand(value)
            | Click::SuggestCommand(value)
            | Click::CopyToClipboard(value) => write_string(value, out),
            Click::ChangePage(page) => {
                let _ = write!(out, "{page}");
            }
        }
        out.push('}');
    }
    if let Some(hover) = &text.hover {
        key("hover_event", out);
        out.push_str("{\"action\":\"show_text\",\"value\":");
        write_text(hover, out);
        out.push('}');
    }
    for (name, value) in &text.other {
        key(name, out);
        write_value(value, out);
    }
    if !text.children.is_empty() {
        key("extra", out);
        write_list(&text.children, out, write_text);
    }
    out.push('}');
}

pub(super) fn read_text(json: &str) -> Option<Text> {
    let mut reader = Reader { rest: json };
    let value = reader.value(0)?;
    reader.space();
    if !reader.rest.is_empty() {
        return None;
    }
    text(value, 0)
}

/// The text that a value of JSON stands for.
fn text(value: Json, depth: u8) -> Option<Text> {
    if depth >= DEPTH_MAX {
        return None;
    }
    let mut text = match value {
        Json::String(text) => Text::new(text),
        Json::Number(number) => Text::new(number),
        Json::Bool(truth) => Text::new(truth.to_string()),
        Json::Null => return None,
        Json::Array(items) => {
            // The first text of a list is the parent of the others.
            let mut items = items.into_iter();
            let mut first = text(items.next()?, depth)?;
            for item in items {
                first.children.push(text(item, depth + 1)?);
            }
            first
        }
        Json::Object(fields) => object(fields, depth)?,
    };
    text.depth = text.measured_depth();
    Some(text)
}

fn texts(value: Json, depth: u8) -> Option<Vec<Text>> {
    match value {
        Json::Array(items) => items.into_iter().map(|item| text(item, depth)).collect(),
        _ => None,
    }
}

fn object(fields: Vec<(String, Json)>, depth: u8) -> Option<Text> {
    let mut read = Text {
        content: Content::Other,
        ..Text::default()
    };
    let mut args = None;
    for (key, value) in fields {
        match (&*key, value) {
            ("text", Json::String(text)) => read.content = Content::Plain(text),
            ("translate", Json::String(key)) => {
                read.content = Content::Translate {
                    key,
                    args: Vec::new(),
                };
            }
            ("with", value) => args = Some(texts(value, depth + 1)?),
            ("extra", value) => read.children = texts(value, depth + 1)?,
            ("insertion", Json::String(text)) => read.insertion = Some(text),
            (_, value) => {
                if !read_look(&mut read, &key, &value, depth)? {
                    read.other.push((key, value));
                }
            }
        }
    }
    if let (Content::Translate { args: empty, .. }, Some(args)) = (&mut read.content, args) {
        *empty = args;
    }
    Some(read)
}

/// Reads a key about the look of a text. `Some(false)` if this type has no field for the
/// key, and `None` if a text in it cannot be read.
fn read_look(text: &mut Text, key: &str, value: &Json, depth: u8) -> Option<bool> {
    let format = Format::ALL.into_iter().find(|known| known.name() == key);
    if let (Some(format), Json::Bool(is_set)) = (format, value) {
        text.formats[format as usize] = Some(*is_set);
        return Some(true);
    }
    match key {
        "color" => {
            let color = value.as_str().and_then(Color::from_name);
            text.color = color.or(text.color);
            Some(color.is_some())
        }
        "click_event" => {
            let Some(click) = click(value) else {
                return Some(false);
            };
            text.click = Some(click);
            Some(true)
        }
        "hover_event" => {
            let action = value.get("action").and_then(Json::as_str);
            let (Some("show_text"), Some(shown)) = (action, value.get("value")) else {
                return Some(false);
            };
            text.hover = Some(Box::new(self::text(shown.clone(), depth + 1)?));
            Some(true)
        }
        _ => Some(false),
    }
}

fn click(value: &Json) -> Option<Click> {
    let text = |key| value.get(key).and_then(Json::as_str).map(str::to_owned);
    Some(match value.get("action")?.as_str()? {
        "open_url" => Click::OpenUrl(text("url")?),
        "run_command" => Click::RunCommand(text("command")?),
        "suggest_command" => Click::SuggestCommand(text("command")?),
        "copy_to_clipboard" => Click::CopyToClipboard(text("value")?),
        "change_page" => match value.get("page")? {
            Json::Number(page) => Click::ChangePage(page.parse().ok()?),
            _ => return None,
        },
        _ => return None,
    })
}

/// A place in a text of JSON.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn take(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth >= VALUE_DEPTH_MAX {
            return None;
        }
        self.space();
        match self.rest.chars().next()? {
            '"' => self.string().map(Json::String),
            '{' => self.fields(depth).map(Json::Object),
            '[' => self.items(depth).map(Json::Array),
            't' => self.take("true").map(|()| Json::Bool(true)),
            'f' => self.take("false").map(|()| Json::Bool(false)),
            'n' => self.take("null").map(|()| Json::Null),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Option<Json> {
        let is_part = |c: char| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        // Rust also reads numbers that JSON does not have: with a plus sign, or a point
        // without digits.
        let digits = number.strip_prefix('-').unwrap_or(number);
        if !digits.starts_with(|c: char| c.is_ascii_digit()) || digits.ends_with('.') {
            return None;
        }
        number
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())?;
        self.rest = rest;
        Some(Json::Number(number.to_owned()))
    }

    fn items(&mut self, depth: usize) -> Option<Vec<Json>> {
        let mut items = Vec::new();
        self.take("[")?;
        self.space();
        if self.take("]").is_some() {
            return Some(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take("]").is_some() {
                return Some(items);
            }
            self.take(",")?;
        }
    }

    fn fields(&mut self, depth: usize) -> Option<Vec<(String, Json)>> {
        let mut fields = Vec::new();
        self.take("{")?;
        self.space();
        if self.take("}").is_some() {
            return Some(fields);
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.take(":")?;
            fields.push((key, self.value(depth + 1)?));
            self.space();
            if self.take("}").is_some() {
                return Some(fields);
            }
            self.take(",")?;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut out = String::new();
        loop {
            let end = self.rest.find(['"', '\\'])?;
            let (before, from) = self.rest.split_at(end);
            out.push_str(before);
            self.rest = &from[1..];
            if from.starts_with('"') {
                return Some(out);
            }
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let code = chars.next()?;
        self.rest = chars.as_str();
        Some(match code {
            '"' | '\\' | '/' => code,
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let high = self.unit()?;
                let units = match high {
                    // The first half of a surrogate pair.
                    0xD800..=0xDBFF => {
                        self.take("\\u")?;
                        vec![high, self.unit()?]
                    }
                    _ => vec![high],
                };
                char::decode_utf16(units).next()?.ok()?
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u16> {
        let digits = self.rest.get(..4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = self.rest.get(4..)?;
        u16::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of text is the same after it was written as JSON and read again.
    #[test]
    fn round_trips() {
        let texts = [
            Text::default(),
            Text::new("a\"\\\n\u{1}é🦀§"),
            Text::from_mini(
                "<#010203><b>x<!i><u>y<lang:a.b:'<st>z'><click:change_page:3>p<insert:i>\
                 <hover:show_text:'<obf>h'>q<click:open_url:http://a><red>r",
            ),
            Text::new("x").run_command("/a").append("§6y"),
            Text::new("x")
                .suggest_command("a")
                .hover("b")
                .copy_to_clipboard("c"),
        ];
        for text in texts {
            assert_eq!(read_text(&text.to_json()), Some(text));
        }
    }

    /// Keys for which a text has no field stay, until the author sets them.
    #[test]
    fn unknown_keys_stay() {
        let json = r#"{"bold":true,"click_event":{"action":"custom","id":"a:b"},"keybind":"key.jump","nulls":[null,-1.5e3,{}]}"#;
        let text = Text::from_json(json).unwrap();
        assert_eq!(text.to_json(), json);
        assert_eq!(text.plain(), "");
        let text = text.run_command("/a").to_json();
        assert!(!text.contains("custom"), "{text}");
    }

    /// The short forms of texts.
    #[test]
    fn short_forms() {
        let table = [
            ("\"a\"", Text::new("a")),
            (" 5 ", Text::new("5")),
            ("true", Text::new("true")),
            (r#"["a","b"]"#, Text::new("a").append("b")),
            (r#""\u00e9\ud83e\udd80\/""#, Text::new("é🦀/")),
        ];
        for (json, text) in table {
            assert_eq!(read_text(json), Some(text), "{json}");
        }
    }

    /// JSON that is not a text, and text that is not JSON, are not read.
    #[test]
    fn bad_texts() {
        for json in [
            "",
            "null",
            "[]",
            "{",
            "[",
            "{\"a\"",
            "{\"a\":",
            "{\"text\":\"a\"",
            "\"",
            "\"\\",
            "\"\\u00",
            "\"\\ud83e\"",
            "\"\\ud83ea",
            "\"\\udd80\"",
            "\"\\x\"",
            "+1",
            ".5",
            "1.",
            "-",
            "1e999",
            "nan",
            "tru",
            "[\"a\",]",
            "{\"text\":\"a\",}",
            "{\"extra\":5}",
            "\"a\"b",
            "\"\\u+123\"",
            "\"\\u12é\"",
        ] {
            assert_eq!(read_text(json), None, "{json}");
        }
        for (open, close) in [("[", "]"), ("{\"extra\":[", "]}"), ("{\"a\":", "}")] {
            let deep = open.repeat(100_000) + "\"x\"" + &close.repeat(100_000);
            assert_eq!(read_text(&deep), None);
        }
    }
}
