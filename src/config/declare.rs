//! The macros that declare tables of keys and words to choose from.
//!
//! `keys!` turns one declaration into the raw struct that the reader fills and
//! into the [`Table`](super::keys::Table) that the documents, the JSON Schema,
//! the hints for misspelt names and the tests read.

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
        pub(crate) struct $table {
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

        impl $crate::config::reader::HasKeys for $table {
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
                entry: $crate::config::reader::KeyValue<'_, '_>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> bool {
                match name {
                    $( stringify!($name) => {
                        self.$name = reader.entry(entry);
                        true
                    } )*
                    _ => false,
                }
            }

            fn mark_broken(&mut self, name: &str, place: $crate::diagnostic::Place) {
                match name {
                    $( stringify!($name) => self.$name.mark_broken(place), )*
                    _ => {}
                }
            }
        }

        impl $crate::config::reader::FromToml for $table {
            const SHAPE: $crate::config::keys::Shape =
                $crate::config::keys::Shape::Table(&<$table as $crate::config::reader::HasKeys>::TABLE);

            fn from_toml(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Result<Self, $crate::config::entry::Reported> {
                reader.table_value(value)
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
        pub(crate) enum $enum {
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
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Result<Self, $crate::config::entry::Reported> {
                let text = reader.text(value, &Self::SHAPE)?;
                match text {
                    $( $text $(| $alias)* => Ok(Self::$name), )+
                    _ => Err(reader.unknown_choice(value, text, &Self::SHAPE)),
                }
            }
        }
    )+};
}
pub(super) use choices;
