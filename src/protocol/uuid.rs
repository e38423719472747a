//! Converts player ids (UUIDs) to text and back.

/// A player id as a text of 32 hexadecimal digits, with or without dashes.
#[must_use]
pub(crate) fn uuid_text(uuid: [u8; 16], with_dashes: bool) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if with_dashes && matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads a player id of 32 hexadecimal digits, with or without dashes.
#[must_use]
pub(crate) fn uuid_from_text(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16)
        .ok()
        .map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [
        0x06, 0x9a, 0x79, 0xf4, 0x44, 0xe9, 0x47, 0x26, 0xa5, 0xbe, 0xfc, 0xa9, 0x0e, 0x38, 0xaa,
        0xf5,
    ];

    /// Player ids are read with and without dashes; other texts are refused.
    #[test]
    fn uuids_as_text() {
        for dashes in [true, false] {
            assert_eq!(uuid_from_text(&uuid_text(ID, dashes)), Some(ID));
        }
        for bad in [
            "",
            "069a79f4",
            "069a79f444e94726a5befca90e38aaf5a",
            "+69a79f444e94726a5befca90e38aaf5",
        ] {
            assert_eq!(uuid_from_text(bad), None, "{bad}");
        }
    }
}
