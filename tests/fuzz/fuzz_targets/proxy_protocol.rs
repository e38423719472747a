//! A PROXY header lies inside its bytes, and no prefix of it is one already.
#![no_main]

use infrarust::proxy_protocol::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(header)) = parse(bytes) {
        assert!(header.bytes <= bytes.len());
        assert!(matches!(parse(&bytes[..header.bytes - 1]), Ok(None)));
    }
});
