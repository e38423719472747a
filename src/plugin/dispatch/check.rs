//! Checks of the texts with which a plugin replaces others.

use crate::manifest::Hook;

/// The longest status answer in characters: the limit of its packet.
const STATUS_CHARS_MAX: usize = 32_767;
const _: () = assert!(Hook::StatusRespond.answer_bytes_max() == STATUS_CHARS_MAX * 4);

pub(super) fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("it chose an empty host".to_owned());
    }
    // Most hosts are ASCII, and need only this check of their bytes.
    if host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    // A backend may trust data after a zero byte.
    match host
        .chars()
        .find(|c| c.is_control() || c.is_whitespace() || *c == char::REPLACEMENT_CHARACTER)
    {
        Some(c) => Err(format!("it chose a host with `{}`", c.escape_default())),
        None => Ok(()),
    }
}

pub(super) fn check_status(json: &str) -> Result<(), String> {
    if json.chars().count() > STATUS_CHARS_MAX {
        return Err(format!(
            "its status answer has more than {STATUS_CHARS_MAX} characters"
        ));
    }
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json)
        .map(|_| ())
        .map_err(|error| format!("its status answer is not a JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rejects hosts with NUL or control characters: they could forge forwarding
    /// data.
    #[test]
    fn hosts_are_checked() {
        assert!(check_host("a.internal").is_ok());
        for bad in ["", "a b", "a\0b", "a\n", "\u{fffd}"] {
            assert!(check_host(bad).is_err(), "{bad:?}");
        }
    }

    /// A status answer is an object of a size that its packet can carry.
    #[test]
    fn status_answers_are_checked() {
        assert!(check_status("{\"description\":\"x\"}").is_ok());
        for bad in ["", "[]", "{", "null", "{} x"] {
            assert!(check_status(bad).is_err(), "{bad:?}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(STATUS_CHARS_MAX));
        assert!(check_status(&long).unwrap_err().contains("32767"));
    }
}
