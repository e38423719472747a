//! What a backend learns about the connection: the host, and the PROXY header.

use toml::Spanned;
use toml::de::DeValue;

use crate::config::declare::{choices, keys};
use crate::config::entry::{Entry, Item, Reported};
use crate::config::keys::Shape;
use crate::config::model::ProxyVersion;
use crate::config::reader::{FromToml, HasKeys, Reader};
use crate::config::retype;
use crate::diagnostic::words::Quoted;

/// How to rewrite the host in the handshake, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// Nothing.
    None,
    /// The address's own host is sent.
    FromBackend,
    /// This host is sent.
    Explicit(Item<String>),
}

keys! {
    /// A host for the backend.
    RawExplicit, "`domain_rewrite`" {
        /// The host that the backend sees.
        explicit: String;
    }
}

choices! {
    /// A rewrite without a parameter.
    RewriteWord {
        /// The backend sees what the client sent.
        None = "none";
        /// The backend sees the configured host of the address that was connected.
        FromBackend = "from_backend";
    }
}

impl FromToml for Rewrite {
    const SHAPE: Shape = Shape::OneOf(&[RewriteWord::SHAPE, Shape::Table(&RawExplicit::TABLE)]);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match value.get_ref() {
            DeValue::String(text)
                if crate::route::normalize(text).is_ok() && text.contains('.') =>
            {
                let message = format!("{} cannot be {}", reader.subject(), Quoted(text));
                let written = reader.example(
                    format!("`domain_rewrite = {{ explicit = \"{text}\" }}`"),
                    format!("the label `infrarust.domain_rewrite.explicit: {text}`"),
                );
                let help = format!("to send this host write {written}");
                Err(reader.bad_value(value, message, Some(help)))
            }
            DeValue::String(text) if text == "explicit" => {
                let message = format!("{} has no host to send", reader.subject());
                let written = reader.example(
                    "`domain_rewrite = { explicit = \"lobby.internal\" }`".to_owned(),
                    "the label `infrarust.domain_rewrite.explicit: lobby.internal`".to_owned(),
                );
                let help = format!("write {written}");
                Err(reader.bad_value(value, message, Some(help)))
            }
            DeValue::String(_) => match RewriteWord::from_toml(value, reader)? {
                RewriteWord::None => Ok(Self::None),
                RewriteWord::FromBackend => Ok(Self::FromBackend),
            },
            DeValue::Boolean(on) => {
                let message = format!("{} cannot be `{on}`", reader.subject());
                let word = if *on { "from_backend" } else { "none" };
                let written = reader.example(format!("`\"{word}\"`"), format!("`{word}`"));
                Err(reader.bad_value(value, message, Some(format!("write {written}"))))
            }
            DeValue::Table(_) => {
                let table = RawExplicit::from_toml(value, reader)?;
                match table.explicit {
                    Entry::Given(host) => Ok(Self::Explicit(Item {
                        place: host.place,
                        value: host.value,
                    })),
                    Entry::Broken(_) => Err(Reported),
                    Entry::Absent => {
                        // An unknown key in the table has been reported already.
                        if matches!(value.get_ref(), DeValue::Table(table) if !table.is_empty()) {
                            return Err(Reported);
                        }
                        let message = "`domain_rewrite` has no `explicit`".to_owned();
                        Err(reader.bad_value(value, message, None))
                    }
                }
            }
            _ => Err(reader.wrong_type(value, &Self::SHAPE)),
        }
    }
}

/// Whether a PROXY header is sent, and which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SendProxy(pub Option<ProxyVersion>);

choices! {
    /// The version of a PROXY header.
    ProxyVersionWord {
        /// The text form.
        V1 = "v1";
        /// The binary form, which `true` means too.
        V2 = "v2";
    }
}

impl FromToml for SendProxy {
    const SHAPE: Shape = Shape::OneOf(&[Shape::Bool, ProxyVersionWord::SHAPE]);

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match value.get_ref() {
            DeValue::Boolean(on) => Ok(Self(on.then_some(ProxyVersion::V2))),
            DeValue::String(text) if retype::truth(text, "").is_none() => Ok(Self(Some(
                match ProxyVersionWord::from_toml(value, reader)? {
                    ProxyVersionWord::V1 => ProxyVersion::V1,
                    ProxyVersionWord::V2 => ProxyVersion::V2,
                },
            ))),
            DeValue::Integer(number) if matches!(number.as_str(), "1" | "2") => {
                let message = format!("{} cannot be `{number}`", reader.subject());
                let help = format!("write the version as `\"v{number}\"`");
                Err(reader.bad_value(value, message, Some(help)))
            }
            _ => Err(reader.wrong_type(value, &Self::SHAPE)),
        }
    }
}
