//! A VarInt that is read can be written, and reads back as the same number.
#![no_main]

use infrarust::protocol::varint::{VARINT_BYTES_MAX, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((value, used))) = decode(bytes) {
        assert!(used <= bytes.len() && used <= VARINT_BYTES_MAX);
        let mut shortest = Vec::new();
        encode(value, &mut shortest);
        assert!(shortest.len() <= used);
        assert_eq!(decode(&shortest), Ok(Some((value, shortest.len()))));
    }
});
