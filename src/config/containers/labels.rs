//! Labels, read with the table of keys of a server file: the key
//! `timeouts.connect` is the label `infrarust.timeouts.connect`.
//!
//! The labels are written to a text with one line each, so that a mistake has its place and
//! caret as in a file. They are also converted to a tree of values with the types of the
//! table, which the reader of files reads.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Container;
use crate::config::declare::keys;
use crate::config::entry::Entry;
use crate::config::keys::{Shape, Table, TextKind, Unsupported};
use crate::config::known::HINTS;
use crate::config::raw::RawServer;
use crate::config::reader::{HasKeys, Reader};
use crate::config::report::Report;
use crate::config::secret_names::names_a_secret;
use crate::config::types::{SecretSource, Whole};
use crate::diagnostic::words::{self, Quoted, nearest};
use crate::diagnostic::{Code, Diagnostic, FileId, Place, Sources};

/// The prefix of the names of our labels.
pub const PREFIX: &str = "infrarust.";

/// The quotes around the items of a list in a file; no item contains one.
const QUOTES: [char; 2] = ['"', '\''];

/// The part of [`PREFIX`] before the dot.
const ROOT: &str = "infrarust";

/// Labels of Infrarust v2 that are not paths of keys, and the keys that they stand for.
const OF_V2: [(&str, &str); 1] = [("motd.text", "motd.online.text")];

/// The most labels of one container: four times as many as there are names.
const LABELS_MAX: usize = 256;

/// The most bytes of one container's labels. The largest sensible value is a
/// favicon in base64, of which four fit.
const LABELS_BYTES_MAX: usize = 128 * 1024;

/// The most unknown labels of one container for which a name is proposed: each look-up
/// compares with every name.
const NEAREST_MAX: usize = 10;

/// The prefix of environment variables that a label may name: whoever labels a container
/// may not have the right to read the proxy's environment.
const ENV_PREFIX: &str = "INFRARUST_";

keys! {
    /// The labels that only containers have.
    RawContainer, "a container" {
        /// Whether the container is a server. Without this label nothing else is read.
        enable: bool = "false";
        /// The port of the game in the container. Ignored with a warning where `addresses` is written.
        port: Whole<1, 65535> = "25565";
        /// The server that this container is one backend of. Containers with the same `pool` and the same other labels are one server with this id, the oldest first.
        pool: String;
    }
}

/// The values of a container's labels.
#[derive(Debug)]
pub(in crate::config) struct Labels {
    /// The text of them.
    pub(in crate::config) file: FileId,
    /// The labels that only containers have.
    pub(in crate::config) own: RawContainer,
    /// The labels that are keys of a server file; `None` when there are too many.
    pub(in crate::config) server: Option<RawServer>,
    /// The place of the container's name.
    pub(in crate::config) name: Place,
    /// The place of its networks.
    pub(in crate::config) networks: Place,
    /// The place of its published ports.
    pub(in crate::config) ports: Place,
}

/// Reads the labels of a container. Relative paths in them start at `folder`.
pub(in crate::config) fn read(
    container: &Container,
    folder: PathBuf,
    sources: &mut Sources,
    report: &mut Report,
) -> Labels {
    let label_text = LabelText::new(container);
    let file = sources.add_labels(container.title(), folder, label_text.text.as_str());
    let place = |range: &Range<usize>| Place {
        file,
        span: range.clone().into(),
    };
    let mut labels = Labels {
        file,
        own: RawContainer::default(),
        server: None,
        name: place(&label_text.name),
        networks: place(&label_text.networks),
        ports: place(&label_text.ports),
    };
    if let Some(excess) = excess(container) {
        report.push(
            Diagnostic::new(Code::BadValue, labels.name, excess)
                .help("what needs so much belongs into a server file"),
        );
        return labels;
    }
    let mut reader = Reader::labels(file, &RawServer::TABLE, &HINTS, ROOT, report);
    let (mut own, mut server) = (DeTable::new(), DeTable::new());
    let mut unknown = 0;
    let mut spoilt = Vec::new();
    for line in &label_text.lines {
        let path: Vec<&str> = key_of(line.label).split('.').collect();
        let (tree, found) = match find(&RawContainer::TABLE, &path) {
            Some(found) => (&mut own, Some(found)),
            None => (&mut server, find(&RawServer::TABLE, &path)),
        };
        // The reader hides the secrets in labels that it reads.
        let is_read = matches!(&found, Some(Found::Key(_)));
        if !is_read && names_a_secret(line.label, &HINTS) {
            reader.secrets.push(line.value.clone().into());
        }
        match found {
            Some(Found::Key(Shape::List(_))) if line.text.contains(QUOTES) => {
                reader.push(quoted_list(line.label, line.text, place(&line.value)));
                spoilt.extend(path.first().map(|name| (*name, place(&line.value))));
            }
            Some(Found::Key(shape)) => {
                let value = Spanned::new(line.value.clone(), line.typed(shape));
                if !insert(tree, &path, &line.key, value) {
                    if names_a_secret(line.label, &HINTS) {
                        reader.secrets.push(line.value.clone().into());
                    }
                    reader.push(contradiction(line.label, &path, place(&line.key)));
                }
            }
            Some(Found::Table(table)) => reader.push(group(line.label, place(&line.key), table)),
            Some(Found::Unsupported(old)) => {
                reader.unsupported(line.key.clone().into(), line.label, old.purpose);
            }
            None => {
                unknown += 1;
                let help = (unknown <= NEAREST_MAX).then(|| meant(&path)).flatten();
                let message = format!("{} is not a label of infrarust", Quoted(line.label));
                reader.push(
                    Diagnostic::new(Code::UnknownKey, place(&line.key), message).help_if(help),
                );
            }
        }
    }
    let mut raw: RawServer = reader.document(&server);
    for (name, place) in spoilt {
        raw.mark_broken(name, place);
    }
    labels.own = reader.document(&own);
    if let Some(place) = confine(&raw, &mut reader) {
        raw.forwarding_secret = Entry::Broken(place);
    }
    for span in reader.secrets {
        sources.hide(Place { file, span });
    }
    labels.server = Some(raw);
    labels
}

/// The key of a label.
fn key_of(label: &str) -> &str {
    let name = &label[PREFIX.len()..];
    let of_v2 = OF_V2.iter().find(|(label, _)| *label == name);
    of_v2.map_or(name, |(_, key)| key)
}

/// The labels that are not keys of a server file.
pub const LABELS: &Table = &RawContainer::TABLE;

/// The names of all labels.
pub fn names() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = Vec::new();
        for table in [&RawContainer::TABLE, &RawServer::TABLE] {
            collect(table, PREFIX, &mut names);
        }
        names.extend(OF_V2.map(|(label, _)| format!("{PREFIX}{label}")));
        names
    })
}

fn collect(table: &'static Table, prefix: &str, names: &mut Vec<String>) {
    for key in table.keys {
        let name = format!("{prefix}{}", key.name);
        let inner = table_in(&key.shape);
        if !matches!(key.shape, Shape::Table(_)) {
            names.push(name.clone());
        }
        if let Some(inner) = inner {
            collect(inner, &format!("{name}."), names);
        }
    }
}

/// The table that a key holds, or may hold.
fn table_in(shape: &Shape) -> Option<&'static Table> {
    match shape {
        Shape::Table(table) => Some(*table),
        Shape::OneOf(shapes) => shapes.iter().find_map(table_in),
        Shape::Text { .. }
        | Shape::Bool
        | Shape::Whole { .. }
        | Shape::Choice(_)
        | Shape::List(_)
        | Shape::Map(_)
        | Shape::Free => None,
    }
}

/// The target of a path in a table.
enum Found {
    Key(&'static Shape),
    Table(&'static Table),
    Unsupported(&'static Unsupported),
}

fn find(table: &'static Table, path: &[&str]) -> Option<Found> {
    let (first, rest) = path.split_first()?;
    let Some(key) = table.keys.iter().find(|key| key.name == *first) else {
        let old = table.unsupported.iter().find(|old| old.name == *first);
        return old.map(Found::Unsupported);
    };
    match (&key.shape, rest.is_empty()) {
        (Shape::Table(inner), true) => Some(Found::Table(inner)),
        (shape, true) => Some(Found::Key(shape)),
        (shape, false) => find(table_in(shape)?, rest),
    }
}

/// Puts a value into the tree; `false` when another label already holds a value
/// where this one needs a table.
fn insert<'v>(
    tree: &mut DeTable<'v>,
    path: &[&'v str],
    key: &Range<usize>,
    value: Spanned<DeValue<'v>>,
) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    let name = Spanned::new(key.clone(), Cow::Borrowed(*first));
    if rest.is_empty() {
        return tree.insert(name, value).is_none();
    }
    let inner = tree
        .entry(name)
        .or_insert_with(|| Spanned::new(key.clone(), DeValue::Table(DeTable::new())));
    match inner.get_mut() {
        DeValue::Table(inner) => insert(inner, rest, key, value),
        _ => false,
    }
}

/// Two labels for one thing: for the same key, or a text where the other has a table.
fn contradiction(label: &str, path: &[&str], place: Place) -> Diagnostic {
    let key = path.join(".");
    let other = match label[PREFIX.len()..] == key {
        true => key
            .rsplit_once('.')
            .map_or(key.as_str(), |(outer, _)| outer),
        false => &key,
    };
    let message = format!("`{label}` contradicts `{PREFIX}{other}`");
    Diagnostic::new(Code::BadValue, place, message).help("remove one of them")
}

/// The help for a list in the form of a file.
fn quoted_list(label: &str, text: &str, place: Place) -> Diagnostic {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let items = inner.unwrap_or(text).split(',');
    let items: Vec<_> = items.map(|item| item.trim().trim_matches(QUOTES)).collect();
    let message = format!("`{label}` is a list, and labels write lists without quotes");
    Diagnostic::new(Code::WrongType, place, message)
        .help(format!("write {}", Quoted(&items.join(", "))))
}

fn group(label: &str, place: Place, table: &Table) -> Diagnostic {
    let message = format!("`{label}` has no value of its own");
    let keys = words::any_of(table.keys.iter().map(|key| key.name));
    Diagnostic::new(Code::WrongType, place, message)
        .help(format!("write `{label}.` and one of {keys}"))
}

/// The label that was probably meant: one with a nearly equal path, or the one with a path
/// that ends like this.
fn meant(path: &[&str]) -> Option<String> {
    let typed = path.join(".");
    let all = names().iter().map(|name| &name[PREFIX.len()..]);
    let ends = |name: &&str| name.rsplit('.').next() == path.last().copied();
    let near = nearest(&typed, all.clone()).or_else(|| all.clone().find(ends))?;
    Some(format!("did you mean `{PREFIX}{near}`?"))
}

/// Reports a label that names an environment variable without [`ENV_PREFIX`], and returns
/// its place. A secret is sent to a backend, so whoever labels a container could otherwise
/// get any variable of the proxy. Files are confined when they are read.
fn confine(raw: &RawServer, reader: &mut Reader<'_>) -> Option<Place> {
    let SecretSource::Env(item) = raw.forwarding_secret.value()? else {
        return None;
    };
    if item.value.starts_with(ENV_PREFIX) {
        return None;
    }
    let message = format!("a label can name variables alone that begin with `{ENV_PREFIX}`");
    reader.push(
        Diagnostic::new(Code::BadValue, item.place, message)
            .because("whoever may label a container may not therefore read what the proxy can")
            .help(format!(
                "give the proxy a variable such as `{ENV_PREFIX}SECRET`"
            )),
    );
    Some(item.place)
}

/// The limit that the labels of a container exceed, if any.
fn excess(container: &Container) -> Option<String> {
    let count = container.labels.len();
    let bytes = bytes(container);
    if count > LABELS_MAX {
        Some(format!(
            "the container has {count} labels of infrarust, more than the {LABELS_MAX} that are read"
        ))
    } else if bytes > LABELS_BYTES_MAX {
        Some(format!(
            "the labels have {bytes} bytes, more than the {LABELS_BYTES_MAX} that are read"
        ))
    } else {
        None
    }
}

/// The bytes of a container's labels.
pub(in crate::config) fn bytes(container: &Container) -> usize {
    let both = |(name, value): (&String, &String)| name.len() + value.len();
    container.labels.iter().map(both).sum()
}

/// A container as a text, with one line for each fact and label.
struct LabelText<'c> {
    text: String,
    name: Range<usize>,
    networks: Range<usize>,
    ports: Range<usize>,
    lines: Vec<Line<'c>>,
}

/// A label in the text.
struct Line<'c> {
    label: &'c str,
    key: Range<usize>,
    text: &'c str,
    value: Range<usize>,
    /// The value cut at its commas, without the white space around: at least one item.
    items: Vec<(&'c str, Range<usize>)>,
}

impl<'c> LabelText<'c> {
    fn new(container: &'c Container) -> Self {
        let mut label_text = Self {
            text: String::new(),
            name: 0..0,
            networks: 0..0,
            ports: 0..0,
            lines: Vec::new(),
        };
        label_text.text.push_str("name: ");
        label_text.name = label_text.push(&container.name);
        label_text.text.push_str("\nnetworks: ");
        label_text.networks = label_text.push(&super::address::networks(container));
        label_text.text.push_str("\nports: ");
        label_text.ports = label_text.push(&super::address::ports(container));
        label_text.text.push('\n');
        // Labels beyond the limits are reported without being shown.
        if excess(container).is_none() {
            for (label, text) in &container.labels {
                label_text.line(label, text);
            }
        }
        label_text
    }

    fn line(&mut self, label: &'c str, text: &'c str) {
        let key = self.push(label);
        self.text.push_str(": ");
        let start = self.text.len();
        self.text.push('"');
        let mut items = Vec::new();
        for (n, item) in text.split(',').enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            let inner = item.trim();
            let before = item.len() - item.trim_start().len();
            self.push(&item[..before]);
            items.push((inner, self.push(inner)));
            self.push(&item[before + inner.len()..]);
        }
        self.text.push('"');
        let value = start..self.text.len();
        self.text.push('\n');
        self.lines.push(Line {
            label,
            key,
            text,
            value,
            items,
        });
    }

    /// Appends a text, escaped so that it stays on one line.
    fn push(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        for c in text.chars() {
            if words::must_not_show(c) || matches!(c, '"' | '\\') {
                self.text.extend(c.escape_default());
            } else {
                self.text.push(c);
            }
        }
        start..self.text.len()
    }
}

impl<'c> Line<'c> {
    /// The value in the type of its key. A text that cannot be converted stays a text,
    /// which the reader refuses.
    fn typed(&self, shape: &Shape) -> DeValue<'c> {
        let Shape::List(of) = shape else {
            return scalar(shape, self.text);
        };
        let mut array = DeArray::new();
        // One comma may stand behind the last item, as in a file.
        let items = match self.items.as_slice() {
            [rest @ .., ("", _)] => rest,
            all => all,
        };
        for (item, range) in items {
            array.push(Spanned::new(range.clone(), scalar(of, item)));
        }
        DeValue::Array(array)
    }
}

fn scalar<'c>(shape: &Shape, text: &'c str) -> DeValue<'c> {
    let trimmed = text.trim();
    let plain = |text| DeValue::String(Cow::Borrowed(text));
    match shape {
        Shape::Bool => match trimmed {
            "true" | "1" => DeValue::Boolean(true),
            "false" | "0" => DeValue::Boolean(false),
            _ => plain(trimmed),
        },
        Shape::Whole { .. } => {
            let digits = trimmed.strip_prefix('-').unwrap_or(trimmed);
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            match is_number.then(|| DeValue::parse(trimmed)) {
                Some(Ok(number)) => number.into_inner(),
                Some(Err(_)) | None => plain(trimmed),
            }
        }
        Shape::OneOf(shapes) => {
            let mut typed = shapes.iter().map(|shape| scalar(shape, text));
            let first = typed.find(|value| !matches!(value, DeValue::String(_)));
            first.unwrap_or(plain(text))
        }
        Shape::Text {
            kind: TextKind::Plain,
            ..
        } => plain(text),
        Shape::Text { .. }
        | Shape::Choice(_)
        | Shape::List(_)
        | Shape::Table(_)
        | Shape::Map(_)
        | Shape::Free => plain(trimmed),
    }
}
