//! Durations.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::duration::{
    DURATION_EXAMPLE, KEEPALIVE_SECONDS_MAX, TIME_MAX, is_duration, is_whole,
};
use crate::config::entry::Reported;
use crate::config::keys::{Shape, TextKind};
use crate::config::reader::{FromToml, Reader};
use crate::diagnostic::words::Quoted;

/// A duration longer than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub Duration);

/// A duration that may be nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeOrOff(pub Duration);

/// A duration of whole seconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(pub Duration);

/// Words with which other programs switch a time limit off.
const OFF_WORDS: [&str; 5] = ["off", "never", "none", "unlimited", "infinite"];

/// The forms of a duration that `humantime` reads, roughly; for editors.
const DURATION_PATTERN: &str = r"^[ \t]*([0-9]+(\.[0-9]+)?[ \t]*([a-zA-Z]|µ)+[ \t]*)+$";

fn duration(
    value: &Spanned<DeValue<'_>>,
    reader: &mut Reader<'_>,
    shape: &Shape,
) -> Result<Duration, Reported> {
    let text = reader.text(value, shape)?;
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= TIME_MAX => Ok(duration),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
            let message = format!("{} cannot be longer than a year", reader.subject());
            Err(reader.bad_value(value, message, None))
        }
        Err(_) => {
            let message = format!("{} is not a duration", Quoted(text));
            let with_unit = format!("{text}s");
            let is_number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
            let help = if is_number && is_duration(&with_unit) {
                format!("add the unit: `\"{with_unit}\"`, or `ms`, `m`, `h`")
            } else if OFF_WORDS.contains(&text.to_lowercase().as_str()) {
                let zero = TextKind::DurationOrZero;
                if matches!(shape, Shape::Text { kind, .. } if *kind == zero) {
                    "write `\"0s\"`".to_owned()
                } else {
                    format!("write a duration such as `\"{DURATION_EXAMPLE}\"`, or remove the key")
                }
            } else {
                "write a number with a unit, such as `\"5s\"`, `\"250ms\"` or `\"1m 30s\"`"
                    .to_owned()
            };
            Err(reader.bad_value(value, message, Some(help)))
        }
    }
}

impl FromToml for Time {
    const SHAPE: Shape = Shape::Text {
        kind: TextKind::Duration,
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let duration = duration(value, reader, &Self::SHAPE)?;
        if duration.is_zero() {
            let message = format!("{} must be longer than zero", reader.subject());
            let help =
                format!("write a duration such as `\"{DURATION_EXAMPLE}\"`, or remove the key");
            return Err(reader.bad_value(value, message, Some(help)));
        }
        Ok(Self(duration))
    }
}

impl FromToml for TimeOrOff {
    const SHAPE: Shape = Shape::Text {
        kind: TextKind::DurationOrZero,
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        duration(value, reader, &Self::SHAPE).map(Self)
    }
}

impl FromToml for Seconds {
    const SHAPE: Shape = Shape::Text {
        kind: TextKind::WholeSeconds,
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        let duration = duration(value, reader, &Self::SHAPE)?;
        if !is_whole(duration) {
            let message = format!(
                "{} must be whole seconds, from `1s` to `{KEEPALIVE_SECONDS_MAX}s`",
                reader.subject()
            );
            return Err(reader.bad_value(value, message, None));
        }
        Ok(Self(duration))
    }
}
