//! Numbers, texts, truth values, paths, lists and tables.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeValue};

use crate::config::entry::{Item, List, Map, Reported};
use crate::config::keys::{Shape, TextKind};
use crate::config::reader::{FromToml, KeyValue, Reader};

/// The longest path; Linux has the same limit (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: i64, const MAX: i64>(pub i64);

impl<const MIN: i64, const MAX: i64> FromToml for Whole<MIN, MAX> {
    const SHAPE: Shape = Shape::Whole { min: MIN, max: MAX };

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(reader.wrong_type(value, &Self::SHAPE));
        };
        match whole(integer) {
            Some(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => {
                let message = format!(
                    "{} must be from {MIN} to {MAX}, not {integer}",
                    reader.subject()
                );
                let help = whole(integer).filter(|number| *number < MIN);
                let help = help.and_then(|_| reader.no_limit());
                Err(reader.bad_value(value, message, help))
            }
        }
    }
}

fn whole(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

impl<const MAX: i64> Whole<0, MAX> {
    /// The number without a sign.
    #[must_use]
    pub(crate) fn get(self) -> u32 {
        const { assert!(MAX <= 4_294_967_295, "the number must fit into 32 bits") };
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl Whole<1, 65535> {
    /// The number as a port.
    #[must_use]
    pub(crate) fn get(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }
}

/// A count: `0` to 4,294,967,295.
pub(crate) type Count = Whole<0, 4_294_967_295>;

/// The path of a file or folder, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePath(pub PathBuf);

impl FromToml for FilePath {
    const SHAPE: Shape = Shape::Text {
        kind: TextKind::Path,
        pattern: Some("[^ \\t]"),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let text = reader.text(value, &Self::SHAPE)?;
        let problem = if text.trim().is_empty() {
            "cannot be empty"
        } else if text.contains('\0') {
            "cannot hold a zero byte"
        } else if text.len() > PATH_BYTES_MAX {
            "is too long for a path"
        } else if text.contains(char::is_control) {
            // `"C:\new"` has a line feed in it.
            let message = format!("{} cannot hold a control character", reader.subject());
            let help = "between `\"` a backslash begins an escape: write the path in single \
                        quotes, or `/` for each backslash";
            return Err(reader.bad_value(value, message, Some(help.to_owned())));
        } else {
            return Ok(Self(PathBuf::from(text)));
        };
        let message = format!("{} {problem}", reader.subject());
        Err(reader.bad_value(value, message, None))
    }
}

impl FromToml for String {
    const SHAPE: Shape = Shape::Text {
        kind: TextKind::Plain,
        pattern: None,
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        reader.text(value, &Self::SHAPE).map(str::to_owned)
    }
}

impl FromToml for bool {
    const SHAPE: Shape = Shape::Bool;

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(reader.wrong_type(value, &Self::SHAPE)),
        }
    }
}

impl<T: FromToml> FromToml for List<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(reader.wrong_type(value, &Self::SHAPE));
        };
        let mut list = List {
            items: Vec::with_capacity(array.len()),
            is_broken: false,
        };
        reader.entries_of_list(|reader| {
            for value in array.iter() {
                match T::from_toml(value, reader) {
                    Ok(read) => list.items.push(Item {
                        place: reader.place(value.span()),
                        value: read,
                    }),
                    Err(Reported) => list.is_broken = true,
                }
            }
        });
        Ok(list)
    }
}

impl<T: FromToml> FromToml for Map<T> {
    const SHAPE: Shape = Shape::Map(&T::SHAPE);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(reader.wrong_type(value, &Self::SHAPE));
        };
        let entry = |(key, value): (&Spanned<DeString<'_>>, _)| {
            let name = key.get_ref().to_string();
            let found = KeyValue {
                key: key.span().into(),
                name: &name,
                value,
            };
            let entry = reader.entry(found);
            (name, entry)
        };
        Ok(Map {
            entries: table.iter().map(entry).collect(),
        })
    }
}

/// A table whose keys are not checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free;

impl FromToml for Free {
    const SHAPE: Shape = Shape::Free;

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        if matches!(value.get_ref(), DeValue::Table(_)) {
            reader.hide_secrets("", value, 0);
            return Ok(Self);
        }
        Err(reader.wrong_type(value, &Self::SHAPE))
    }
}
