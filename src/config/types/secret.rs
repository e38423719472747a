//! Secrets, which never reach a message.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::FilePath;
use crate::config::declare::keys;
use crate::config::entry::{Entry, Item, Reported};
use crate::config::keys::{Shape, TextKind};
use crate::config::model::Secret;
use crate::config::reader::{FromToml, HasKeys, Reader};

/// Where a secret comes from. The `Debug` form does not show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// It stands in the file.
    Value(Secret),
    /// It is the content of this file.
    File(Item<PathBuf>),
    /// It is the value of this environment variable.
    Env(Item<String>),
}

keys! {
    /// Where a secret comes from.
    RawSecret, "a secret" {
        /// The file that holds it, and nothing else; relative to this file.
        file: FilePath;
        /// The environment variable that holds it.
        env: String;
    }
}

impl FromToml for SecretSource {
    const SHAPE: Shape = Shape::OneOf(&[
        Shape::Text {
            kind: TextKind::Plain,
            pattern: None,
        },
        Shape::Table(&RawSecret::TABLE),
    ]);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let help =
            || Some("write the secret itself, `{ file = \"…\" }` or `{ env = \"…\" }`".to_owned());
        match value.get_ref() {
            DeValue::Table(table) => {
                // Any other key may have the secret itself as its value.
                for (key, value) in table {
                    if !matches!(key.get_ref().as_ref(), "file" | "env") {
                        reader.hide_secrets("secret", value, 0);
                    }
                }
                let from = RawSecret::from_toml(value, reader)?;
                match (from.file, from.env) {
                    (Entry::Given(file), Entry::Absent) => Ok(Self::File(Item {
                        place: file.place,
                        value: file.value.0,
                    })),
                    (Entry::Absent, Entry::Given(env)) => Ok(Self::Env(Item {
                        place: env.place,
                        value: env.value,
                    })),
                    (Entry::Broken(_), _) | (_, Entry::Broken(_)) => Err(Reported),
                    // Its only keys are unknown ones, which have been reported.
                    (Entry::Absent, Entry::Absent) if !table.is_empty() => Err(Reported),
                    (Entry::Absent, Entry::Absent) | (Entry::Given(_), Entry::Given(_)) => {
                        let message =
                            format!("{} takes exactly one of `file` and `env`", reader.subject());
                        Err(reader.bad_value(value, message, help()))
                    }
                }
            }
            DeValue::String(text) => {
                reader.secrets.push(value.span().into());
                if text.trim().is_empty() {
                    let message = format!("{} is empty", reader.subject());
                    return Err(reader.bad_value(value, message, help()));
                }
                Ok(Self::Value(Secret::new(text.to_string())))
            }
            _ => {
                reader.secrets.push(value.span().into());
                Err(reader.wrong_type(value, &Self::SHAPE))
            }
        }
    }
}
