//! The table of keys: what may stand in a file, told once.
//!
//! `keys!` turns one declaration into the raw struct that the reader fills and
//! into the [`Table`] that the documents, the JSON Schema, the hints for
//! misspelt names and the tests read.

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
    /// What values it takes.
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
    /// With the reload.
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
    /// In these; elsewhere a warning tells that the key does nothing.
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
    /// The key whose part it plays there, so that nobody asks for that one.
    pub instead_of: Option<&'static str>,
    /// A key that v2 does not have: beside it this one is no key of v2 either.
    pub unless: Option<&'static str>,
}

impl Unsupported {
    /// A key that plays the part of no other.
    pub(super) const fn plain(name: &'static str, purpose: &'static str) -> Self {
        Self {
            name,
            purpose,
            instead_of: None,
            unless: None,
        }
    }
}

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text of a certain kind.
    Text {
        /// With its article: `a duration such as "5s"`.
        what: &'static str,
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
    /// A table whose keys somebody else knows.
    Free,
    /// One of several shapes.
    OneOf(&'static [Shape]),
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
            Shape::Text { what, .. } => (*what).to_owned(),
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
            Shape::List(Shape::Text { what: "a text", .. }) => "a list of texts".to_owned(),
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

/// A raw struct that a table of a file fills.
pub(super) trait HasKeys: Default {
    /// Its keys.
    const TABLE: Table;

    /// Reads a value into the field of that name; `false` when there is none.
    fn fill(
        &mut self,
        name: &str,
        entry: super::reader::Found<'_, '_>,
        walk: &mut super::reader::Walk<'_>,
    ) -> bool;

    /// Takes an absent key for one that is written badly.
    fn spoil(&mut self, name: &str, place: crate::diagnostic::Place);
}

macro_rules! keys {
    ($(
        $(#[doc = $table_doc:literal])+
        $table:ident, $title:literal {
            $(
                $(#[doc = $doc:literal])+
                $name:ident : $type:ty $(= $default:literal)? $([ $($attr:ident : $value:expr),+ ])? ;
            )*
            $( unsupported { $(
                $old:literal $(instead_of $key:ident unless $ours:ident)? => $purpose:literal;
            )* } )?
        }
    )+) => {$(
        $(#[doc = $table_doc])+
        #[derive(Debug, Default)]
        pub struct $table {
            $( $(#[doc = $doc])+ pub $name: $crate::config::entry::Entry<$type>, )*
        }

        impl $table {
            $( $(
                #[doc = concat!("The value of `", stringify!($name), "`, or its default.")]
                pub(in $crate::config) fn $name(
                    &self,
                ) -> Result<&$type, $crate::config::entry::Reported> {
                    static DEFAULT: std::sync::LazyLock<$type> =
                        std::sync::LazyLock::new(|| {
                            $crate::config::reader::default_value::<$table, _>($default)
                        });
                    self.$name.or(&DEFAULT)
                }
            )? )*

            /// Reads every default, and panics where one is not sound.
            #[cfg(test)]
            fn read_defaults() {
                let nothing = Self::default();
                let _ = &nothing;
                $( $(
                    let _: &str = $default;
                    assert!(nothing.$name().is_ok());
                )? )*
            }
        }

        impl $crate::config::keys::HasKeys for $table {
            const TABLE: $crate::config::keys::Table = $crate::config::keys::Table {
                title: $title,
                doc: concat!($($table_doc),+).trim_ascii(),
                keys: &[$(
                    $crate::config::keys::Key {
                        name: stringify!($name),
                        doc: concat!($($doc),+).trim_ascii(),
                        shape: <$type as $crate::config::reader::FromToml>::SHAPE,
                        $( default: Some($default), )?
                        $( $($attr: $value,)+ )?
                        ..$crate::config::keys::Key::PLAIN
                    },
                )*],
                unsupported: &[$($(
                    $crate::config::keys::Unsupported {
                        $(
                            instead_of: Some(stringify!($key)),
                            unless: Some(stringify!($ours)),
                        )?
                        ..$crate::config::keys::Unsupported::plain($old, $purpose)
                    },
                )*)?],
            };

            fn fill(
                &mut self,
                name: &str,
                entry: $crate::config::reader::Found<'_, '_>,
                walk: &mut $crate::config::reader::Walk<'_>,
            ) -> bool {
                match name {
                    $( stringify!($name) => {
                        self.$name = walk.entry(entry);
                        true
                    } )*
                    _ => false,
                }
            }

            fn spoil(&mut self, name: &str, place: $crate::diagnostic::Place) {
                match name {
                    $( stringify!($name) => self.$name.spoil(place), )*
                    _ => {}
                }
            }
        }

        impl $crate::config::reader::FromToml for $table {
            const SHAPE: $crate::config::keys::Shape =
                $crate::config::keys::Shape::Table(&<$table as $crate::config::keys::HasKeys>::TABLE);

            fn from_toml(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                walk: &mut $crate::config::reader::Walk<'_>,
            ) -> Option<Self> {
                walk.table_value(value)
            }
        }
    )+

    /// Every default of these tables can be read as its key's type.
    #[cfg(test)]
    #[test]
    fn defaults_are_sound() {
        $( $table::read_defaults(); )+
    }
    };
}
pub(super) use keys;

macro_rules! choices {
    ($(
        $(#[doc = $enum_doc:literal])+
        $enum:ident {
            $( $(#[doc = $doc:literal])+ $name:ident = $text:literal $(| $alias:literal)* ; )+
        }
    )+) => {$(
        $(#[doc = $enum_doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $enum {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl $crate::config::reader::FromToml for $enum {
            const SHAPE: $crate::config::keys::Shape = $crate::config::keys::Shape::Choice(&[$(
                $crate::config::keys::Choice {
                    name: $text,
                    aliases: &[$($alias),*],
                    doc: concat!($($doc),+).trim_ascii(),
                },
            )+]);

            fn from_toml(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                walk: &mut $crate::config::reader::Walk<'_>,
            ) -> Option<Self> {
                let text = walk.text(value, &Self::SHAPE)?;
                match text {
                    $( $text $(| $alias)* => Some(Self::$name), )+
                    _ => {
                        walk.unknown_choice(value, text, &Self::SHAPE);
                        None
                    }
                }
            }
        }
    )+};
}
pub(super) use choices;
