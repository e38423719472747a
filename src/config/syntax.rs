//! The words of the TOML parser: the one place that depends on its messages.
//!
//! The parser reports errors only as English texts, and the right help depends on them. A
//! newer version may use other texts, so a test names the version that has these.

/// What is wrong with the syntax of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something other than a comma follows an entry of a list.
    OpenList,
    /// Something other than a comma follows an entry of an inline table.
    OpenTable,
    /// A text has no quotes around it.
    UnquotedText,
    /// A key that needs quotes has none.
    UnquotedKey,
    /// A backslash begins no escape.
    Escape,
    /// A key is written twice.
    DuplicateKey,
    /// A word begins like `true` or `false`.
    Boolean,
    /// A word begins like a number.
    Number,
    /// Something follows where a line should end.
    Trailing,
    /// Anything else.
    Other,
}

impl Fault {
    /// Whether a list or a table is probably not closed: it then swallows the
    /// rest of the file.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Fault::OpenList | Fault::OpenTable)
    }
}

/// A parsed message of the TOML parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said<'m> {
    /// What it means.
    pub(super) fault: Fault,
    /// The problem, in the parser's words.
    pub(super) problem: &'m str,
    /// What the parser expected, if that helps.
    pub(super) expected: Option<&'m str>,
}

/// Parses a message of the TOML parser.
pub(super) fn read(message: &str) -> Said<'_> {
    let (problem, expected) = match message.split_once(", expected ") {
        Some((problem, expected)) => (problem, Some(expected)),
        None => (message, None),
    };
    let fault = match problem {
        _ if message.starts_with("missing comma between") && message.contains("array") => {
            Fault::OpenList
        }
        _ if message.starts_with("missing comma between") => Fault::OpenTable,
        "string values must be quoted" => Fault::UnquotedText,
        "missing escaped value" => Fault::Escape,
        "unexpected key or value" => Fault::Trailing,
        _ if problem.contains("unquoted key") => Fault::UnquotedKey,
        _ if problem.starts_with("duplicate key") => Fault::DuplicateKey,
        _ if problem.starts_with("invalid boolean") => Fault::Boolean,
        _ if problem.starts_with("invalid float") || problem.starts_with("invalid integer") => {
            Fault::Number
        }
        _ => Fault::Other,
    };
    Said {
        fault,
        problem,
        expected: expected.filter(|expected| !matches!(*expected, "literal string" | "nothing")),
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    /// The version of `toml` that has these messages.
    const TOML: &str = "name = \"toml\"\nversion = \"1.2.1+spec-1.1.0\"";

    /// Each fault is recognized by the parser's message. With another version of `toml`,
    /// check its messages, then change the version here.
    #[test]
    fn messages_are_those_of_this_version() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(TOML), "{TOML} is not in Cargo.lock");
        for (text, fault) in [
            ("a = [\"x\"\nb = [1]\n", Fault::OpenList),
            ("a = { b = \"x\"\nc = 1\n", Fault::OpenTable),
            ("a = word", Fault::UnquotedText),
            ("a = \"C:\\minecraft\"", Fault::Escape),
            ("a = 1\na = 2", Fault::DuplicateKey),
            ("a = True", Fault::Boolean),
            ("a = 10.0.0.5", Fault::Number),
            ("a = 1,", Fault::Trailing),
            ("a\u{201D} = 1", Fault::UnquotedKey),
            ("[a", Fault::Other),
        ] {
            let (_, errors) = DeTable::parse_recoverable(text);
            let messages: Vec<_> = errors.iter().map(|error| error.message()).collect();
            let faults: Vec<_> = messages.iter().map(|message| read(message).fault).collect();
            assert!(faults.contains(&fault), "{text}: {messages:?}");
        }
    }
}
