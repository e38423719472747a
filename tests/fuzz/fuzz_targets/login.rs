//! Login starts and first answers of every version, from any bytes.
#![no_main]

use infrarust::protocol::login::{LoginStart, NAME_CHARS_MAX, first_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i32, u16, &[u8])| {
    let (any, near, bytes) = input;
    // Most of the numbers that mean something are below a thousand.
    for protocol in [any, i32::from(near % 1024)] {
        if let Ok(start) = LoginStart::parse(protocol, bytes) {
            let chars = start.name.encode_utf16().count();
            assert!((1..=NAME_CHARS_MAX).contains(&chars));
        }
        let _ = first_answer(protocol, bytes);
    }
});
