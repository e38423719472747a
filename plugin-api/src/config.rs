//! Reads the plugin's own table in the operator's document, so that errors have their
//! place in the operator's file.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Reads the table at `path` from a TOML document; each key of the path ends with a zero
/// byte. The spans of errors are bytes of the document. A missing table is read as an
/// empty one.
pub(crate) fn read<T: DeserializeOwned>(document: &str, path: &str) -> Result<T, toml::de::Error> {
    let path: Vec<&str> = path.split_terminator('\0').collect();
    let at = At {
        path: &path,
        table: PhantomData,
    };
    match at.deserialize(toml::Deserializer::parse(document)?)? {
        Some(table) => Ok(table),
        None => toml::from_str(""),
    }
}

/// Follows the path and ignores all other keys.
struct At<'p, T> {
    path: &'p [&'p str],
    table: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for At<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        if self.path.is_empty() {
            return T::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for At<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                found = map.next_value_seed(At {
                    path: rest,
                    table: PhantomData,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        from: toml::Spanned<String>,
        #[serde(default)]
        rules: Vec<Rule>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Rule {
        to: u8,
    }

    const PATH: &str = "plugins\0a\0config\0";

    /// The table is found in each form that TOML has for it, with its place in
    /// the whole document.
    #[test]
    fn tables_are_found_with_their_places() {
        for document in [
            "bind = 1\n[plugins.a]\nx = 1\n[plugins.a.config]\nfrom = 'here'\n",
            "[plugins.a]\nconfig = { from = 'here' }\n[plugins.b.config]\nfrom = 1",
            "[plugins]\na.config.from = 'here'",
            "[[plugins.a.config.rules]]\nto = 1\n[[plugins.a.config.rules]]\nto = 2\n[plugins.a.config]\nfrom = 'here'",
        ] {
            let config: Config = read(document, PATH).unwrap();
            assert_eq!(&document[config.from.span()], "'here'", "{document}");
            assert_eq!(
                config
                    .rules
                    .iter()
                    .map(|rule| usize::from(rule.to))
                    .sum::<usize>(),
                config.rules.len() * (config.rules.len() + 1) / 2
            );
        }
    }

    /// Errors point into the document, past everything that is not the plugin's.
    #[test]
    fn errors_have_places_of_the_document() {
        let at = |document: &str| {
            let error = read::<Config>(document, PATH).unwrap_err();
            document[error.span().unwrap()].to_owned()
        };
        assert_eq!(at("[plugins.a.config]\nfrom = 'x'\nform = 2"), "form");
        assert_eq!(at("[plugins.a]\nconfig = { from = 3 }"), "3");
        assert_eq!(
            at("[plugins.a.config]\nfrom = ''\n[[plugins.a.config.rules]]\nto = 256"),
            "256"
        );
        assert!(
            read::<Config>("bind = 1", PATH)
                .unwrap_err()
                .message()
                .contains("missing field `from`")
        );
    }
}
