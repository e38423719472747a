//! From TOML to raw structs, with every mistake and its place.
//!
//! serde stops at the first mistake of a file, and an operator wants all of them
//! at once. So this module reads the parsed document itself: each key separately,
//! and a bad one becomes [`Entry::Broken`]. `Broken` is not `Absent`: a key with
//! a mistake must not be reported a second time as missing.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::entry::{Entry, Given, Reported};
use crate::config::hints::{Hints, KeyLocation, NO_HINTS};
use crate::config::keys::{Key, Shape, Table, Unsupported};
use crate::config::report::Report;
use crate::config::retype::Written;
use crate::config::secret_names::names_a_secret;
use crate::diagnostic::words::{self, Quoted, nearest};
use crate::diagnostic::{Code, Diagnostic, FileId, Place, Span};

/// For an unknown key, the keys of the table are listed if there are at most this many.
const KEYS_LISTED_MAX: usize = 6;

/// The longest value that a help repeats for another key, in bytes.
const VALUE_BYTES_REPEATED_MAX: usize = 60;

/// The most levels of values that are searched for secrets. The TOML parser stops at 80
/// levels, but this limit does not depend on it.
const DEPTH_MAX: usize = 100;

/// A key and its value in the document.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyValue<'v, 'i> {
    pub(super) key: Span,
    pub(super) name: &'v str,
    pub(super) value: &'v Spanned<DeValue<'i>>,
}

/// A raw struct that a table of a file fills.
pub(super) trait HasKeys: Default {
    /// Its keys.
    const TABLE: Table;

    /// Reads a value into the field of that name; `false` when there is none.
    fn fill(&mut self, name: &str, entry: KeyValue<'_, '_>, reader: &mut Reader<'_>) -> bool;

    /// Marks an absent key as one with a mistake.
    fn mark_broken(&mut self, name: &str, place: Place);
}

/// A type that a value of a file can be read as.
pub(super) trait FromToml: Sized {
    /// The values that it accepts, for messages, documents and the schema.
    const SHAPE: Shape;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// When it has a mistake.
    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported>;
}

/// Reads one document.
#[derive(Debug)]
pub(super) struct Reader<'r> {
    file: FileId,
    report: &'r mut Report,
    /// The parts that must not be shown.
    pub(super) secrets: Vec<Span>,
    /// The key of the value that is being read.
    key: String,
    /// Whether an entry of that key's list is being read.
    in_list: bool,
    /// The keys of the document.
    root: &'static Table,
    /// Hints about misplaced keys.
    hints: &'static Hints,
    /// The keys of the table that is being read.
    table: &'static Table,
    /// Top-level keys of the document that are in another table by mistake.
    misplaced: Vec<(&'static str, Place)>,
    /// Whether the document consists of labels: each name is a whole path, and each value
    /// was a text.
    is_labels: bool,
}

impl<'r> Reader<'r> {
    /// A reader of a document with the keys of `root`.
    pub(super) fn new(
        file: FileId,
        root: &'static Table,
        hints: &'static Hints,
        report: &'r mut Report,
    ) -> Self {
        Self {
            file,
            report,
            secrets: Vec::new(),
            key: String::new(),
            in_list: false,
            root,
            hints,
            table: root,
            misplaced: Vec::new(),
            is_labels: false,
        }
    }

    /// A reader of labels, with names that begin with `prefix`.
    pub(super) fn labels(
        file: FileId,
        root: &'static Table,
        hints: &'static Hints,
        prefix: &str,
        report: &'r mut Report,
    ) -> Self {
        Self {
            key: prefix.to_owned(),
            is_labels: true,
            ..Self::new(file, root, hints, report)
        }
    }

    /// A span of this document as a place.
    pub(super) fn place(&self, span: impl Into<Span>) -> Place {
        Place {
            file: self.file,
            span: span.into(),
        }
    }

    /// Reports a mistake.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.report.push(diagnostic);
    }

    /// Reports the mistake in a value.
    fn refuse(&mut self, diagnostic: Diagnostic) -> Reported {
        self.push(diagnostic);
        Reported
    }

    /// Reads the whole document into a raw struct.
    pub(super) fn document<T: HasKeys>(&mut self, document: &DeTable<'_>) -> T {
        self.table(document)
    }

    pub(super) fn table_value<T: HasKeys>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<T, Reported> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(self.table(table)),
            _ => Err(self.wrong_type(value, &Shape::Table(&T::TABLE))),
        }
    }

    fn table<T: HasKeys>(&mut self, table: &DeTable<'_>) -> T {
        let mut filled = T::default();
        let mut likely_keys = Vec::new();
        let outer = std::mem::replace(&mut self.table, &T::TABLE);
        for (key, value) in table {
            let found = KeyValue {
                key: key.span().into(),
                name: key.get_ref().as_ref(),
                value,
            };
            if !filled.fill(found.name, found, self) {
                self.unknown_key(found, table, &T::TABLE, &mut likely_keys);
            }
        }
        self.table = outer;
        for (name, place) in likely_keys {
            filled.mark_broken(name, place);
        }
        if T::TABLE.title == self.root.title {
            for (name, place) in std::mem::take(&mut self.misplaced) {
                filled.mark_broken(name, place);
            }
        }
        filled
    }

    /// Reads the value of a key.
    pub(super) fn entry<T: FromToml>(&mut self, found: KeyValue<'_, '_>) -> Entry<T> {
        let name = if self.is_labels {
            format!("{}.{}", self.key, found.name)
        } else {
            found.name.to_owned()
        };
        let outer = std::mem::replace(&mut self.key, name);
        let outer_list = std::mem::replace(&mut self.in_list, false);
        let key = self.place(found.key);
        let entry = match T::from_toml(found.value, self) {
            Ok(value) => Entry::Given(Given {
                key,
                place: self.place(found.value.span()),
                value,
            }),
            Err(Reported) => Entry::Broken(key),
        };
        self.key = outer;
        self.in_list = outer_list;
        entry
    }

    /// Reads entries of a list: messages then say so.
    pub(super) fn entries_of_list(&mut self, read: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.in_list, true);
        read(self);
        self.in_list = outer;
    }

    /// The text in a value that has to be a text.
    pub(super) fn text<'v>(
        &mut self,
        value: &'v Spanned<DeValue<'_>>,
        shape: &Shape,
    ) -> Result<&'v str, Reported> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type(value, shape)),
        }
    }

    /// Reports a value of another type than its key takes.
    pub(super) fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, shape: &Shape) -> Reported {
        if let (DeValue::String(text), true) = (value.get_ref(), self.is_labels) {
            let (subject, shape) = (self.subject(), shape.words());
            let message = format!("{subject} takes {shape}, not {}", Quoted(text));
            let place = self.place(value.span());
            return self.refuse(Diagnostic::new(Code::WrongType, place, message));
        }
        let got = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a truth value",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("{} takes {}, not {got}", self.subject(), shape.words());
        let help = self.written().retype(value.get_ref(), shape);
        let place = self.place(value.span());
        self.refuse(Diagnostic::new(Code::WrongType, place, message).help_if(help))
    }

    /// The key of the value that is being read, for a help about it.
    fn written(&self) -> Written<'_> {
        let name = match self.is_labels {
            true => self.key.rsplit('.').next().unwrap_or(&self.key),
            false => &self.key,
        };
        Written {
            key: &self.key,
            meaning: self.table.keys.iter().find(|key| key.name == name),
            in_list: self.in_list,
        }
    }

    /// How to switch off the limit that is being read.
    pub(super) fn no_limit(&self) -> Option<String> {
        self.written().off()
    }

    /// The key of the value that is being read, as it is written.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether an entry of a list is being read.
    pub(super) fn is_in_list(&self) -> bool {
        self.in_list
    }

    /// Reports a value that has the right type and cannot be used.
    pub(super) fn bad_value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        message: String,
        help: Option<String>,
    ) -> Reported {
        let place = self.place(value.span());
        self.refuse(Diagnostic::new(Code::BadValue, place, message).help_if(help))
    }

    /// How a key is written: as in a file, or as a label.
    pub(super) fn example(&self, in_file: String, as_label: String) -> String {
        if self.is_labels { as_label } else { in_file }
    }

    /// The value that is being read, as the subject of a message.
    pub(super) fn subject(&self) -> String {
        let of = if self.in_list { "an entry of " } else { "" };
        format!("{of}{}", Quoted(&self.key))
    }

    /// Reports a word that the key does not accept.
    pub(super) fn unknown_choice(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        text: &str,
        shape: &Shape,
    ) -> Reported {
        let choices = match shape {
            Shape::Choice(choices) => *choices,
            _ => &[],
        };
        let names = choices.iter().map(|choice| choice.name);
        let all = choices
            .iter()
            .flat_map(|c| std::iter::once(c.name).chain(c.aliases.iter().copied()));
        let message = format!("{} cannot be {}", self.subject(), Quoted(text));
        let help = match nearest(text, all) {
            Some(near) => format!("did you mean `\"{near}\"`?"),
            None => format!("it can be {}", words::any_of(names)),
        };
        self.bad_value(value, message, Some(help))
    }

    /// Reports a key that the table does not have, which stands `beside` others.
    /// The keys that were probably meant go to `likely_keys`, so that they are
    /// not reported as missing as well.
    fn unknown_key(
        &mut self,
        found: KeyValue<'_, '_>,
        beside: &DeTable<'_>,
        table: &Table,
        likely_keys: &mut Vec<(&'static str, Place)>,
    ) {
        self.hide_secrets(found.name, found.value, 0);
        let has = |name: &str| beside.keys().any(|key| key.get_ref() == name);
        let is_of_v2 = |old: &&Unsupported| old.name == found.name && !old.unless.is_some_and(has);
        if let Some(old) = table.unsupported.iter().find(is_of_v2) {
            let place = self.place(found.key);
            likely_keys.extend(old.instead_of.map(|key| (key, place)));
            self.unsupported(found.key, old.name, old.purpose);
            return;
        }
        // Finding a similar name is the most expensive step here.
        if self.report.is_full(self.file) {
            return;
        }
        let name = found.name;
        let place = self.place(found.key);
        let message = format!("{} is not a key of {}", Quoted(name), table.title);
        let diagnostic = Diagnostic::new(Code::UnknownKey, place, message);
        let inner = keys_inside(found.value, table);
        let own = self.settings_of_its_own(table);
        // The settings of a plugin may have the names of ours. A top-level key below a
        // header is a common mistake in TOML.
        let is_likely = |location: &KeyLocation| own.is_none() || location.is_top_of(self.root);
        let help = if !inner.is_empty() {
            likely_keys.extend(inner.iter().map(|key| (*key, place)));
            Some(format!(
                "write {} without a table around, above the first `[…]`",
                words::all_of(inner)
            ))
        } else if name == "servers" && matches!(found.value.get_ref(), DeValue::Table(_)) {
            Some("each server has a file of its own, such as `servers/lobby.toml`".to_owned())
        } else if let Some(location) = self.below(name, table) {
            Some(location.advice(self.root))
        } else if let (Some(renamed), true) = (
            self.hints.renamed(name, table, repeated(found.value)),
            own.is_none() && self.hints.exact(name, self.root).is_none(),
        ) {
            likely_keys.push((renamed.path, place));
            Some(renamed.advice)
        } else if let Some(location) = self.hints.exact(name, self.root).filter(is_likely) {
            if location.is_top_of(self.root) {
                self.misplaced.push((location.name(), place));
            }
            Some(location.advice(self.root))
        } else if let Some(near) = nearest(name, names_of(table)).filter(|near| *near != name) {
            if let Some(key) = table.keys.iter().find(|key| key.name == near) {
                likely_keys.push((key.name, place));
            }
            Some(format!("did you mean `{near}`?"))
        } else if own.is_some() {
            own
        } else if let Some(location) = self.hints.near(name, self.root) {
            Some(location.advice(self.root))
        } else if let [key] = table.keys {
            Some(format!("the only key of {} is `{}`", table.title, key.name))
        } else if table.keys.len() <= KEYS_LISTED_MAX {
            let keys = words::all_of(table.keys.iter().map(|key| key.name));
            Some(format!("the keys of {} are {keys}", table.title))
        } else {
            None
        };
        self.push(diagnostic.help_if(help));
    }

    /// The place of a key in a table inside this one, if this is not the document.
    fn below(&self, name: &str, table: &Table) -> Option<KeyLocation> {
        if table.title == self.root.title {
            return None;
        }
        let this = self.key.rsplit('.').next().unwrap_or(&self.key);
        self.hints.below(name, this, self.root)
    }

    /// Where a key belongs if it may be a setting of the table's subject, such as a plugin,
    /// and the table has a place for those.
    fn settings_of_its_own(&self, table: &Table) -> Option<String> {
        let is_free = |key: &&Key| matches!(key.shape, Shape::Free);
        let room = table.keys.iter().find(is_free)?.name;
        let is_plain = !self.key.contains(|c| words::must_not_show(c) || c == '`');
        let id = if is_plain { &self.key } else { "<id>" };
        Some(format!(
            "a setting of the plugin itself stands below `[plugins.{id}.{room}]`"
        ))
    }

    /// Warns of a key that Infrarust v2 has and that is not supported yet.
    pub(super) fn unsupported(&mut self, key: Span, name: &str, purpose: &str) {
        let place = self.place(key);
        self.push(
            Diagnostic::new(
                Code::UnsupportedKey,
                place,
                format!("`{name}` is not supported yet and is ignored"),
            )
            .because(format!("in Infrarust v2: {purpose}")),
        );
    }

    /// Marks values that look like secrets in a part of the document that is not read,
    /// since a snippet could show them.
    pub(super) fn hide_secrets(&mut self, name: &str, value: &Spanned<DeValue<'_>>, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    // Everything below a secret is part of it.
                    let inner = if names_a_secret(name, self.hints) {
                        name
                    } else {
                        key.get_ref()
                    };
                    self.hide_secrets(inner, value, depth + 1);
                }
            }
            DeValue::Array(array) => {
                for value in array.iter() {
                    self.hide_secrets(name, value, depth + 1);
                }
            }
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) => {
                if names_a_secret(name, self.hints) {
                    self.secrets.push(value.span().into());
                }
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) => {}
        }
    }
}

/// The default of a key of `T`, which the table of keys holds as TOML.
///
/// # Panics
///
/// Panics if it is not a value of the key's type; a test reads each.
pub(super) fn default_value<T: HasKeys, V: FromToml>(default: &str) -> V {
    let text = format!("default = {default}");
    let mut report = Report::default();
    let mut reader = Reader::new(FileId::GLOBAL, &T::TABLE, &NO_HINTS, &mut report);
    let document = DeTable::parse(&text).ok();
    let value = document.as_ref().and_then(|document| {
        let value = document.get_ref().get("default")?;
        V::from_toml(value, &mut reader).ok()
    });
    value.unwrap_or_else(|| panic!("the default `{default}` is not sound"))
}

/// A value that a help may repeat: a short host name, a number, or a truth value.
fn repeated<'v>(value: &'v Spanned<DeValue<'_>>) -> Option<&'v str> {
    match value.get_ref() {
        DeValue::String(text) => {
            let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let is_short = (1..=VALUE_BYTES_REPEATED_MAX).contains(&text.len());
            let is_name = text.chars().all(is_in_name) && crate::route::normalize(text).is_ok();
            (is_short && is_name).then_some(text.as_ref())
        }
        DeValue::Integer(number) => Some(number.as_str()),
        DeValue::Boolean(true) => Some("true"),
        DeValue::Boolean(false) => Some("false"),
        _ => None,
    }
}

fn names_of(table: &Table) -> impl Iterator<Item = &'static str> {
    let known = table.keys.iter().map(|key| key.name);
    known.chain(table.unsupported.iter().map(|old| old.name))
}

/// The keys of `table` that stand in a table of their own by mistake.
fn keys_inside(value: &Spanned<DeValue<'_>>, table: &Table) -> Vec<&'static str> {
    let DeValue::Table(inner) = value.get_ref() else {
        return Vec::new();
    };
    let keys = table.keys.iter().map(|key| key.name);
    keys.filter(|key| inner.contains_key(*key)).collect()
}
