//! Durations.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::keys::Shape;
use crate::config::reader::{FromToml, Walk};
use crate::diagnostic::words::Quoted;

/// The longest time that a key takes. Deadlines are sums of a clock and such a
/// time, and no sum may overflow; a year is more than any session lasts.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The longest keepalive time that Linux takes, in seconds (`MAX_TCP_KEEPIDLE`
/// and `MAX_TCP_KEEPINTVL` in its `include/net/tcp.h`).
const KEEPALIVE_SECONDS_MAX: u64 = 32_767;

/// A duration longer than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

/// A duration that may be nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOrOff(pub Duration);

/// A duration of whole seconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub Duration);

/// A duration that every key takes.
pub(in crate::config) const DURATION_EXAMPLE: &str = "5s";

/// Words with which other programs switch a time limit off.
const OFF_WORDS: [&str; 5] = ["off", "never", "none", "unlimited", "infinite"];

/// Whether a text is a duration that every key takes, but for those of whole
/// seconds.
pub(in crate::config) fn is_duration(text: &str) -> bool {
    humantime::parse_duration(text).is_ok_and(|time| !time.is_zero() && time <= TIME_MAX)
}

/// Whether a text is a duration that keys of whole seconds take.
pub(in crate::config) fn is_whole_seconds(text: &str) -> bool {
    humantime::parse_duration(text).is_ok_and(is_whole)
}

fn is_whole(time: Duration) -> bool {
    time.subsec_nanos() == 0 && (1..=KEEPALIVE_SECONDS_MAX).contains(&time.as_secs())
}

/// The forms of a duration that `humantime` reads, roughly; for editors.
const DURATION_PATTERN: &str = r"^[ \t]*([0-9]+(\.[0-9]+)?[ \t]*([a-zA-Z]|µ)+[ \t]*)+$";

fn duration(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>, shape: &Shape) -> Option<Duration> {
    let text = walk.text(value, shape)?;
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= TIME_MAX => Some(duration),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
            let message = format!("{} cannot be longer than a year", walk.subject());
            walk.bad_value(value, message, None);
            None
        }
        Err(_) => {
            let message = format!("{} is not a duration", Quoted(text));
            let with_unit = format!("{text}s");
            let is_number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
            let help = if is_number && is_duration(&with_unit) {
                format!("add the unit: `\"{with_unit}\"`, or `ms`, `m`, `h`")
            } else if OFF_WORDS.contains(&text.to_lowercase().as_str()) {
                let may_be_off = matches!(shape, Shape::Text { what, .. } if what.contains("0s"));
                if may_be_off {
                    "write `\"0s\"`".to_owned()
                } else {
                    format!("write a duration such as `\"{DURATION_EXAMPLE}\"`, or remove the key")
                }
            } else {
                "write a number with a unit, such as `\"5s\"`, `\"250ms\"` or `\"1m 30s\"`"
                    .to_owned()
            };
            walk.bad_value(value, message, Some(help));
            None
        }
    }
}

impl FromToml for Time {
    const SHAPE: Shape = Shape::Text {
        what: "a duration such as `\"5s\"`",
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let duration = duration(value, walk, &Self::SHAPE)?;
        if duration.is_zero() {
            let message = format!("{} must be longer than zero", walk.subject());
            let help =
                format!("write a duration such as `\"{DURATION_EXAMPLE}\"`, or remove the key");
            walk.bad_value(value, message, Some(help));
            return None;
        }
        Some(Self(duration))
    }
}

impl FromToml for TimeOrOff {
    const SHAPE: Shape = Shape::Text {
        what: "a duration such as `\"5s\"`, or `\"0s\"`",
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        duration(value, walk, &Self::SHAPE).map(Self)
    }
}

impl FromToml for Seconds {
    const SHAPE: Shape = Shape::Text {
        what: "a duration of whole seconds such as `\"30s\"`",
        pattern: Some(DURATION_PATTERN),
    };

    fn from_toml(value: &Spanned<DeValue<'_>>, walk: &mut Walk<'_>) -> Option<Self> {
        let duration = duration(value, walk, &Self::SHAPE)?;
        if !is_whole(duration) {
            let message = format!(
                "{} must be whole seconds, from `1s` to `{KEEPALIVE_SECONDS_MAX}s`",
                walk.subject()
            );
            walk.bad_value(value, message, None);
            return None;
        }
        Some(Self(duration))
    }
}
