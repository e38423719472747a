//! A handshake that is read can be written again, and a host field loses no byte.
#![no_main]

use infrarust::protocol::frame::{FRAME_BYTES_MAX, split};
use infrarust::protocol::handshake::Handshake;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(handshake) = Handshake::parse(body) {
        let host = &handshake.host;
        let _ = host.virtual_host();
        let _ = host.rebuild(Some("backend.example"), false);
        let field = host.rebuild(None, true);
        assert_eq!(field, host.as_str());
        let bytes = handshake.encode_with_host(&field);
        let frame = split(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(Handshake::parse(frame.body), Ok(handshake));
    }
});
