//! The durations that keys accept.

use std::time::Duration;

/// The longest time that a key accepts. A deadline is the sum of the current time and such
/// a duration, which must not overflow. A year is longer than any session.
pub(super) const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The longest keepalive time that Linux takes, in seconds (`MAX_TCP_KEEPIDLE`
/// and `MAX_TCP_KEEPINTVL` in its `include/net/tcp.h`).
pub(super) const KEEPALIVE_SECONDS_MAX: u64 = 32_767;

/// A duration that every key accepts.
pub(super) const DURATION_EXAMPLE: &str = "5s";

/// Whether a text is a duration that all keys accept, except those of whole
/// seconds.
pub(super) fn is_duration(text: &str) -> bool {
    humantime::parse_duration(text).is_ok_and(|time| !time.is_zero() && time <= TIME_MAX)
}

/// Whether a text is a duration that keys of whole seconds take.
pub(super) fn is_whole_seconds(text: &str) -> bool {
    humantime::parse_duration(text).is_ok_and(is_whole)
}

/// Whether keys of whole seconds take this time.
pub(super) fn is_whole(time: Duration) -> bool {
    time.subsec_nanos() == 0 && (1..=KEEPALIVE_SECONDS_MAX).contains(&time.as_secs())
}
