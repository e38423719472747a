//! Texts with `§` codes.

use super::{COLORS, Color, Format, Text};

/// The sign in front of a code.
const SIGN: char = '§';

/// The format with this code.
const fn format(code: char) -> Option<Format> {
    Some(match code {
        'k' => Format::Obfuscated,
        'l' => Format::Bold,
        'm' => Format::Strikethrough,
        'n' => Format::Underlined,
        'o' => Format::Italic,
        _ => return None,
    })
}

pub(super) fn parse(text: &str) -> Text {
    let mut root = Text::default();
    // The look from here on, and the characters that have it.
    let (mut look, mut run) = (Text::default(), String::new());
    let mut rest = text;
    while let Some(at) = rest.find(SIGN) {
        let (before, from_sign) = rest.split_at(at);
        run.push_str(before);
        let behind = &from_sign[SIGN.len_utf8()..];
        let Some((next, used)) = code(&look, behind) else {
            run.push(SIGN);
            rest = behind;
            continue;
        };
        end_run(&mut root, &look, &mut run);
        look = next;
        rest = &behind[used..];
    }
    run.push_str(rest);
    end_run(&mut root, &look, &mut run);
    root.collapsed()
}

/// The look after the code that `behind` begins with, and the bytes of the code.
fn code(look: &Text, behind: &str) -> Option<(Text, usize)> {
    let code = behind.chars().next()?.to_ascii_lowercase();
    let used = code.len_utf8();
    if let Some(index) = code.to_digit(16) {
        let (_, color) = COLORS.get(index as usize)?;
        return Some((Text::default().color(*color), used));
    }
    if let Some(format) = format(code) {
        return Some((look.clone().format(format, true), used));
    }
    match code {
        'r' => Some((Text::default(), used)),
        'x' => {
            let (color, digits) = hex(&behind[used..])?;
            Some((Text::default().color(color), used + digits))
        }
        _ => None,
    }
}

/// The colour of six digits with a sign in front of each, and the bytes of these.
fn hex(text: &str) -> Option<(Color, usize)> {
    let mut chars = text.chars();
    let mut name = String::from("#");
    for _ in 0..6 {
        if chars.next()? != SIGN {
            return None;
        }
        name.push(chars.next()?);
    }
    let color = Color::from_name(&name)?;
    Some((color, text.len() - chars.as_str().len()))
}

fn end_run(root: &mut Text, look: &Text, run: &mut String) {
    if !run.is_empty() {
        let text = Text {
            content: Text::new(std::mem::take(run)).content,
            ..look.clone()
        };
        root.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes begin and end a look. A sign that begins no code stays.
    #[test]
    fn codes() {
        let gold = || Text::new("a").color(Color::Gold);
        let table = [
            ("a", Text::new("a")),
            ("", Text::default()),
            ("§6a", gold()),
            (
                "§la§6b",
                Text::default()
                    .append(Text::new("a").bold())
                    .append(Text::new("b").color(Color::Gold)),
            ),
            (
                "§6§L§oa§rb",
                Text::default().append(gold().bold().italic()).append("b"),
            ),
            (
                "§x§F§f§8§0§0§1a",
                Text::new("a").color(Color::Rgb(0xFF, 0x80, 1)),
            ),
            (
                "§x§f§f§8§0§0a",
                Text::default()
                    .append(Text::new("§x"))
                    .append(Text::new("a").color(Color::Black)),
            ),
            ("§", Text::new("§")),
            ("a§", Text::new("a§")),
            ("§§", Text::new("§§")),
            ("§z§é§1", Text::new("§z§é")),
            (
                "§§6a",
                Text::default().append(Text::new("§")).append(gold()),
            ),
        ];
        for (legacy, text) in table {
            assert_eq!(parse(legacy), text, "{legacy}");
        }
    }
}
