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

/// The forms of a duration that `humantime` reads, roughly; for editors.
const DURATION_PATTERN: &str = r"^\s*(\d+(\.\d+)?\s*[a-zA-Zµ]+\s*)+$";

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
            let help = if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
                format!("add the unit: `\"{text}s\"`, or `ms`, `m`, `h`")
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
            let help = "write a duration such as `\"5s\"`, or remove the key".to_owned();
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
        let is_whole = duration.subsec_nanos() == 0;
        if !is_whole || !(1..=KEEPALIVE_SECONDS_MAX).contains(&duration.as_secs()) {
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
