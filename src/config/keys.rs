//! The table of keys: names, meanings, defaults and types of all keys of a file.
//! [`declare`](super::declare) makes such tables.

use crate::capability::{Capability, modes_with};
use crate::mode::Mode;

/// The keys of one kind of table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// What the table is, as it follows "a key of": `a server file`.
    pub title: &'static str,
    /// One sentence about it.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Keys of Infrarust v2 that are ignored with a warning.
    pub unsupported: &'static [Unsupported],
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The name.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Which values it accepts.
    pub shape: Shape,
    /// The default value, as TOML; `None` where the meaning explains the
    /// absence of the key.
    pub default: Option<&'static str>,
    /// What a bare number counts.
    pub unit: Option<&'static str>,
    /// In which modes it has an effect.
    pub scope: Scope,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// The number that means "no limit" or "never", where there is one.
    pub off: Option<i64>,
    /// The number with which the proxy chooses by itself, where there is one.
    pub auto: Option<i64>,
    /// A JSON Schema pattern for its texts, where that of their type says less.
    pub pattern: Option<&'static str>,
    /// Whether a list has to have an entry.
    pub is_filled: bool,
    /// When a change takes effect; `None` is as for the table that the key
    /// stands in, and [`Effect::NewConnections`] at the top of a file.
    pub effect: Option<Effect>,
}

impl Key {
    /// Base value for struct update in the `keys!` macro.
    pub(super) const PLAIN: Key = Key {
        name: "",
        doc: "",
        shape: Shape::Bool,
        default: None,
        unit: None,
        scope: Scope::Every,
        secret: false,
        off: None,
        auto: None,
        pattern: None,
        is_filled: false,
        effect: None,
    };
}

impl Key {
    /// When a change takes effect; `outer` is that of the table around the key.
    #[must_use]
    pub fn effect_in(&self, outer: Effect) -> Effect {
        self.effect.unwrap_or(outer)
    }
}

/// When a change of a key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// At once, with the reload.
    AtOnce,
    /// With the reload, for connections that are accepted after it.
    NewConnections,
    /// At the next start.
    NextStart,
}

impl Effect {
    /// In words, as it follows "takes effect".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Effect::AtOnce => "at once",
            Effect::NewConnections => "for new connections",
            Effect::NextStart => "at the next start",
        }
    }
}

/// In which modes a key has an effect.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// In all.
    Every,
    /// In those that offer a capability; elsewhere the key is refused.
    Needs(Capability),
    /// In these; elsewhere a warning says that the key does nothing.
    Only(&'static [Mode]),
}

impl Scope {
    /// The modes.
    #[must_use]
    pub fn modes(self) -> Vec<Mode> {
        match self {
            Scope::Every => Mode::ALL.to_vec(),
            Scope::Needs(capability) => modes_with(capability).collect(),
            Scope::Only(modes) => modes.to_vec(),
        }
    }
}

/// A key of Infrarust v2 that is not supported yet.
#[derive(Debug, Clone, Copy)]
pub struct Unsupported {
    /// The name.
    pub name: &'static str,
    /// What it is for there, as it follows "in Infrarust v2:".
    pub purpose: &'static str,
    /// The key that it replaces there, so that that one is not reported as
    /// missing.
    pub instead_of: Option<&'static str>,
    /// A key that v2 does not have: beside that key this one is not a key of v2 either.
    pub unless: Option<&'static str>,
}

impl Unsupported {
    /// A key that does not replace another.
    pub(super) const fn plain(name: &'static str, purpose: &'static str) -> Self {
        Self {
            name,
            purpose,
            instead_of: None,
            unless: None,
        }
    }
}

/// Which values a key accepts.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text.
    Text {
        /// What it stands for.
        kind: TextKind,
        /// A JSON Schema pattern, where one helps while typing.
        pattern: Option<&'static str>,
    },
    /// `true` or `false`.
    Bool,
    /// A whole number within these bounds, both included.
    Whole {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// One of some words.
    Choice(&'static [Choice]),
    /// A list.
    List(&'static Shape),
    /// A table with certain keys.
    Table(&'static Table),
    /// A table with any names, each with a value of this shape.
    Map(&'static Shape),
    /// A table whose keys are not checked here.
    Free,
    /// One of several shapes.
    OneOf(&'static [Shape]),
}

/// What a text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// Any text.
    Plain,
    /// The path of a file or folder.
    Path,
    /// A duration longer than zero.
    Duration,
    /// A duration that may be zero.
    DurationOrZero,
    /// A duration of whole seconds, at least one.
    WholeSeconds,
    /// An IP address with a port.
    AddressWithPort,
    /// A host, with or without a port.
    Address,
    /// A network of IP addresses.
    Network,
}

impl TextKind {
    /// In words, with an article.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            TextKind::Plain => "a text",
            TextKind::Path => "a path",
            TextKind::Duration => "a duration such as `\"5s\"`",
            TextKind::DurationOrZero => "a duration such as `\"5s\"`, or `\"0s\"`",
            TextKind::WholeSeconds => "a duration of whole seconds such as `\"30s\"`",
            TextKind::AddressWithPort => "an address with a port such as `\"0.0.0.0:25565\"`",
            TextKind::Address => "a text such as `\"10.0.0.5:25565\"`",
            TextKind::Network => "a network such as `\"10.0.0.0/8\"`",
        }
    }

    /// Whether it is a duration of any kind.
    #[must_use]
    pub const fn is_duration(self) -> bool {
        matches!(
            self,
            TextKind::Duration | TextKind::DurationOrZero | TextKind::WholeSeconds
        )
    }
}

/// A word that a key takes.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// The word.
    pub name: &'static str,
    /// Other spellings of it.
    pub aliases: &'static [&'static str],
    /// What it means, in one sentence.
    pub doc: &'static str,
}

impl Shape {
    /// The shape in words, with an article: `a list of texts`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Shape::Text { kind, .. } => kind.words().to_owned(),
            Shape::Bool => "`true` or `false`".to_owned(),
            Shape::Whole { .. } => "a whole number".to_owned(),
            Shape::Choice(choices) => {
                let names = choices.iter().map(|choice| choice.name);
                let words: Vec<String> = names.map(|name| format!("`\"{name}\"`")).collect();
                match words.split_last() {
                    Some((last, rest)) if !rest.is_empty() => {
                        format!("{} or {last}", rest.join(", "))
                    }
                    _ => words.concat(),
                }
            }
            Shape::List(Shape::Text {
                kind: TextKind::Plain,
                ..
            }) => "a list of texts".to_owned(),
            Shape::List(_) => "a list".to_owned(),
            Shape::Table(_) | Shape::Map(_) | Shape::Free => "a table".to_owned(),
            Shape::OneOf(shapes) => {
                let words: Vec<String> = shapes.iter().map(Shape::words).collect();
                match words.split_last() {
                    Some((last, rest)) if !rest.is_empty() => {
                        format!("{} or {last}", rest.join(", "))
                    }
                    _ => words.concat(),
                }
            }
        }
    }
}
