//! Texts with tags: a part of the language MiniMessage.

use super::{Click, Color, Content, DEPTH_MAX, Format, Text};

/// How deep texts may be nested in arguments of tags, such as the text of a hover.
const ARGUMENTS_DEPTH_MAX: usize = 4;
/// The most letters that a gradient colours. Each takes some 40 bytes of JSON, so
/// that more of them would exceed what the proxy takes.
const GRADIENT_LETTERS_MAX: usize = 1000;

pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '<' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

pub(super) fn parse(text: &str) -> Text {
    parse_at(text, 0)
}

/// An open tag.
struct Open {
    /// The name of its closing tag.
    name: String,
    text: Text,
    /// The colours of its gradient: they are given to its letters when it ends.
    gradient: Vec<Color>,
}

/// The text that is being read: the open tags, the outermost first.
struct Reader {
    root: Text,
    open: Vec<Open>,
    /// The characters since the last tag.
    run: String,
    /// How many arguments of tags enclose this text.
    arguments: usize,
}

fn parse_at(text: &str, arguments: usize) -> Text {
    if arguments > ARGUMENTS_DEPTH_MAX {
        return Text::new(text);
    }
    let mut reader = Reader {
        root: Text::default(),
        open: Vec::new(),
        run: String::new(),
        arguments,
    };
    let mut rest = text;
    while let Some(at) = rest.find(['<', '\\']) {
        let (before, from_sign) = rest.split_at(at);
        reader.run.push_str(before);
        let mut behind = from_sign[1..].chars();
        if from_sign.starts_with('\\') {
            match behind.next() {
                Some(c @ ('<' | '\\')) => reader.run.push(c),
                Some(c) => reader.run.extend(['\\', c]),
                None => reader.run.push('\\'),
            }
            rest = behind.as_str();
            continue;
        }
        match Tag::read(behind.as_str()) {
            Some((tag, left)) if reader.take(&tag) => rest = left,
            _ => {
                reader.run.push('<');
                rest = behind.as_str();
            }
        }
    }
    reader.run.push_str(rest);
    reader.close(0);
    reader.root.collapsed()
}

impl Reader {
    /// Applies a tag; `false` when the tag is not known.
    fn take(&mut self, tag: &Tag) -> bool {
        let name = full_name(&tag.name);
        let args: Vec<&str> = tag.args.iter().map(String::as_str).collect();
        if tag.is_closing {
            let at = self.open.iter().rposition(|open| open.name == name);
            if let (Some(at), []) = (at, &*args) {
                self.close(at);
                return true;
            }
            return false;
        }
        match (name, &*args) {
            ("newline", []) => self.run.push('\n'),
            ("reset", []) => self.close(0),
            ("lang", [key, args @ ..]) => {
                let args = args.iter().map(|arg| parse_at(arg, self.arguments + 1));
                let text = Text::translate(*key, args);
                self.end_run();
                self.top().push(text);
            }
            ("gradient", colors @ [_, _, ..]) => {
                let colors: Option<Vec<_>> = colors.iter().map(|name| color(name)).collect();
                let Some(colors) = colors else { return false };
                return self.open(name, Text::default(), colors);
            }
            _ => {
                return match self.look(name, &args) {
                    Some(look) => self.open(name, look, Vec::new()),
                    None => false,
                };
            }
        }
        true
    }

    /// The look that a tag gives to what it encloses.
    fn look(&self, name: &str, args: &[&str]) -> Option<Text> {
        let look = Text::default();
        Some(match (name, args) {
            (_, []) => match (color(name), format(name)) {
                (Some(color), _) => look.color(color),
                (_, Some((format, is_set))) => look.format(format, is_set),
                _ => return None,
            },
            ("color", [name]) => look.color(color(name)?),
            ("insertion", [text]) => look.insertion(*text),
            ("hover", ["show_text", text]) => look.hover(parse_at(text, self.arguments + 1)),
            // A value with `:` is one value.
            ("click", [action, value @ ..]) if !value.is_empty() => {
                let value = value.join(":");
                look.click(match *action {
                    "open_url" => Click::OpenUrl(value),
                    "run_command" => Click::RunCommand(value),
                    "suggest_command" => Click::SuggestCommand(value),
                    "copy_to_clipboard" => Click::CopyToClipboard(value),
                    "change_page" => {
                        Click::ChangePage(value.parse().ok().filter(|page| *page > 0)?)
                    }
                    _ => return None,
                })
            }
            _ => return None,
        })
    }

    /// Opens a tag, unless too many are open.
    fn open(&mut self, name: &str, text: Text, gradient: Vec<Color>) -> bool {
        if self.open.len() >= usize::from(DEPTH_MAX) - 2 {
            return false;
        }
        self.end_run();
        self.open.push(Open {
            name: name.to_owned(),
            text,
            gradient,
        });
        true
    }

    /// Ends all open tags from this one on.
    fn close(&mut self, at: usize) {
        self.end_run();
        while self.open.len() > at {
            let Some(mut open) = self.open.pop() else {
                return;
            };
            if !open.gradient.is_empty() {
                let letters = open.text.plain().chars().count();
                if letters <= GRADIENT_LETTERS_MAX {
                    color_letters(&mut open.text, &open.gradient, &mut 0, letters);
                }
            }
            if !open.text.is_frame() || !open.text.children.is_empty() {
                self.top().push(open.text.collapsed());
            }
        }
    }

    fn top(&mut self) -> &mut Text {
        match self.open.last_mut() {
            Some(open) => &mut open.text,
            None => &mut self.root,
        }
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            let text = Text::new(std::mem::take(&mut self.run));
            self.top().push(text);
        }
    }
}

/// A tag as it is written.
struct Tag {
    is_closing: bool,
    name: String,
    args: Vec<String>,
}

impl Tag {
    /// Reads what follows a `<`, and gives what follows the `>`.
    fn read(text: &str) -> Option<(Self, &str)> {
        let (is_closing, text) = match text.strip_prefix('/') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let end = text.find([':', '>', '<', '\'', '"', '\\', ' ', '\n'])?;
        let (name, mut rest) = text.split_at(end);
        let mut args = Vec::new();
        while let Some(arg) = rest.strip_prefix(':') {
            let (arg, left) = argument(arg)?;
            args.push(arg);
            rest = left;
        }
        let rest = rest.strip_prefix('>')?;
        let name = name.to_ascii_lowercase();
        Some((
            Self {
                is_closing,
                name,
                args,
            },
            rest,
        ))
    }
}

/// Reads an argument, in quotes or up to the next `:` or `>`.
fn argument(text: &str) -> Option<(String, &str)> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        let end = text.find([':', '>', '<'])?;
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = text[1..].chars();
    loop {
        match chars.next()? {
            // A backslash in front of anything else is for the text itself.
            '\\' => match chars.next()? {
                c if c == quote => out.push(c),
                c => out.extend(['\\', c]),
            },
            c if c == quote => return Some((out, chars.as_str())),
            c => out.push(c),
        }
    }
}

/// The long name of a tag with several.
fn full_name(name: &str) -> &str {
    match name {
        "b" => "bold",
        "i" | "em" => "italic",
        "u" => "underlined",
        "st" => "strikethrough",
        "obf" => "obfuscated",
        "!b" => "!bold",
        "!i" | "!em" => "!italic",
        "!u" => "!underlined",
        "!st" => "!strikethrough",
        "!obf" => "!obfuscated",
        "c" | "colour" => "color",
        "br" => "newline",
        "tr" | "translate" => "lang",
        "insert" => "insertion",
        "grey" => "gray",
        "dark_grey" => "dark_gray",
        other => other,
    }
}

fn color(name: &str) -> Option<Color> {
    Color::from_name(full_name(name))
}

/// A format, and whether the tag sets it.
fn format(name: &str) -> Option<(Format, bool)> {
    let (name, is_set) = match name.strip_prefix('!') {
        Some(name) => (name, false),
        None => (name, true),
    };
    let found = Format::ALL.into_iter().find(|format| format.name() == name);
    found.map(|format| (format, is_set))
}

/// Gives each letter its colour in a gradient. The text has `letters` letters in all, of
/// which `done` are coloured already.
fn color_letters(text: &mut Text, gradient: &[Color], done: &mut usize, letters: usize) {
    let children = std::mem::take(&mut text.children);
    if let Content::Plain(own) = &mut text.content {
        for letter in std::mem::take(own).chars() {
            let color = between(gradient, *done, letters);
            text.children.push(Text::new(letter).color(color));
            *done += 1;
        }
    }
    text.depth = text.measured_depth();
    for mut child in children {
        // A part that has a colour keeps it.
        match child.color {
            None => color_letters(&mut child, gradient, done, letters),
            Some(_) => *done += child.plain().chars().count(),
        }
        text.push(child);
    }
}

/// The colour of one of `letters` letters.
fn between(gradient: &[Color], letter: usize, letters: usize) -> Color {
    let steps = letters.saturating_sub(1).max(1);
    let place = letter.min(steps) * (gradient.len() - 1);
    // The last letter is at the end of the last pair.
    let index = (place / steps).min(gradient.len() - 2);
    let part = place - index * steps;
    let (from, to) = (gradient[index].rgb(), gradient[index + 1].rgb());
    let mix = |channel: usize| {
        let (from, to) = (usize::from(from[channel]), usize::from(to[channel]));
        let mixed = (from * (steps - part) + to * part) / steps;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    };
    Color::Rgb(mix(0), mix(1), mix(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each tag of the table, in its long and its short form.
    #[test]
    fn tags() {
        let x = || Text::new("x");
        let table = [
            ("x", x()),
            ("", Text::default()),
            ("<red>x", x().color(Color::Red)),
            ("<RED>x</Red>", x().color(Color::Red)),
            ("<#ff8000>x", x().color(Color::Rgb(0xFF, 0x80, 0))),
            ("<color:grey>x</color>", x().color(Color::Gray)),
            ("<c:#010203>x</c>", x().color(Color::Rgb(1, 2, 3))),
            ("<b>x</bold>", x().bold()),
            ("<em>x</i>", x().italic()),
            ("<u>x", x().underlined()),
            ("<st>x", x().strikethrough()),
            ("<obf>x", x().obfuscated()),
            ("<!i>x", x().format(Format::Italic, false)),
            ("a<br>b<newline>c", Text::new("a\nb\nc")),
            (
                "<click:open_url:https://a.b/c:1>x",
                x().open_url("https://a.b/c:1"),
            ),
            (
                "<click:run_command:'/a \"b\"'>x",
                x().run_command("/a \"b\""),
            ),
            (
                "<click:suggest_command:\"/a>\">x",
                x().suggest_command("/a>"),
            ),
            ("<click:copy_to_clipboard:a>x", x().copy_to_clipboard("a")),
            ("<click:change_page:2>x", x().change_page(2)),
            ("<insert:a>x", x().insertion("a")),
            (
                "<hover:show_text:'<red>it\\'s'>x",
                x().hover(Text::new("it's").color(Color::Red)),
            ),
            (
                "<lang:a.b:'<red>x':y>",
                Text::translate("a.b", [x().color(Color::Red), Text::new("y")]),
            ),
            (
                "<red>a<reset>x",
                Text::default()
                    .append(Text::new("a").color(Color::Red))
                    .append(x()),
            ),
            (
                "<red>a<b>x</red>c",
                Text::default()
                    .append(
                        Text::default()
                            .color(Color::Red)
                            .append("a")
                            .append(x().bold()),
                    )
                    .append("c"),
            ),
            ("\\<red>x\\\\\\a", Text::new("<red>x\\\\a")),
        ];
        for (mini, text) in table {
            assert_eq!(parse(mini), text, "{mini}");
        }
    }

    /// The look of several tags around one text is one look.
    #[test]
    fn looks_are_joined() {
        let text = Text::new("x").color(Color::Red).bold().underlined();
        assert_eq!(parse("<red><b><u>x"), text);
    }

    /// Letters have colours between those of the gradient. The first and the last letter
    /// have exactly the first and the last colour. A part that has a colour keeps it.
    #[test]
    fn gradients() {
        fn letters(text: &Text, out: &mut Vec<(String, Option<Color>)>) {
            if !text.is_frame() {
                let own = Text {
                    children: Vec::new(),
                    ..text.clone()
                };
                out.push((own.plain(), text.color));
            }
            text.children.iter().for_each(|child| letters(child, out));
        }
        let mut found = Vec::new();
        let text = parse("<gradient:#000000:white>ab<b>c</b><red>d</red>e</gradient>!");
        letters(&text, &mut found);
        let grey = |c: &str, grey| (c.to_owned(), Some(Color::Rgb(grey, grey, grey)));
        let expected = [
            grey("a", 0),
            grey("b", 0x3F),
            grey("c", 0x7F),
            ("d".to_owned(), Some(Color::Red)),
            grey("e", 0xFF),
            ("!".to_owned(), None),
        ];
        assert_eq!(found, expected);
        assert_eq!(parse("<gradient:red>x").plain(), "<gradient:red>x");
        assert_eq!(
            parse("<gradient:red:blau>x").plain(),
            "<gradient:red:blau>x"
        );
        assert_eq!(parse("<gradient:red:blue></gradient>"), Text::default());
    }

    /// Unknown tags, and characters that form no tag, stay as they are written.
    #[test]
    fn anything_else_stays() {
        for text in [
            "<",
            ">",
            "<>",
            "</>",
            "a < b > c",
            "<smile>",
            "</red>",
            "<red",
            "<red:1>",
            "<click>",
            "<click:open_url>",
            "<click:eat:me>",
            "<click:change_page:0>",
            "<click:change_page:a>",
            "<hover:show_item:a>",
            "<hover:show_text>",
            "<hover:show_text:'a>",
            "<color:mud>",
            "<lang>",
            "<#12345>",
            "<red <b",
            "\\",
            "\\a",
            "<!red>",
            "< red>",
            "<\u{1F980}>",
        ] {
            assert_eq!(parse(text), Text::new(text), "{text}");
        }
    }

    /// Escaped names of players contain no tags, with any characters in the name.
    #[test]
    fn escaped_texts_come_back() {
        for text in ["<red>x", "\\<b>", "\\", "a\\\\<", "'\">"] {
            assert_eq!(parse(&escape(text)), Text::new(text));
        }
    }

    /// Deeply nested tags neither overflow the stack nor take much time.
    #[test]
    fn nesting_is_bounded() {
        for tag in [
            "<b>",
            "<hover:show_text:'",
            "<lang:'",
            "<a:\"",
            "<<",
            "<gradient:red:blue>",
        ] {
            let text = tag.repeat(20_000) + "x";
            let parsed = parse(&text);
            assert!(parsed.depth < DEPTH_MAX);
            assert!(parsed.plain().ends_with('x'));
        }
    }

    /// Pieces of tags in any order give a text within the bounds, which is the same after
    /// it was written as JSON and read again.
    #[test]
    fn any_pieces() {
        const PIECES: [&str; 28] = [
            "<",
            ">",
            "</",
            ":",
            "'",
            "\"",
            "\\",
            " ",
            "x",
            "é",
            "🦀",
            "§6",
            "§x",
            "red",
            "b",
            "!",
            "<red>",
            "</red>",
            "<b>",
            "</b>",
            "<reset>",
            "<br>",
            "<hover:show_text:'",
            "<click:run_command:",
            "<lang:a:'",
            "<gradient:red:#00ff00>",
            "</gradient>",
            "<insert:",
        ];
        // A generator of numbers by George Marsaglia (2003), from a fixed seed.
        let mut seed = 0x2545_F491_4F6C_DD1D_u64;
        for _ in 0..5000 {
            let mut text = String::new();
            for _ in 0..seed % 24 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let index = usize::try_from(seed % 28).unwrap_or_default();
                text.push_str(PIECES[index]);
            }
            seed = seed.rotate_left(5) | 1;
            for parsed in [parse(&text), Text::from_legacy(&text)] {
                assert!(parsed.depth < DEPTH_MAX, "{text}");
                assert_eq!(parsed.depth, parsed.measured_depth(), "{text}");
                assert_eq!(Text::from_json(&parsed.to_json()), Some(parsed), "{text}");
            }
            assert_eq!(parse(&escape(&text)), Text::new(text));
        }
    }
}
