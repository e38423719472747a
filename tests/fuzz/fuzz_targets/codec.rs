//! A frame with compression lies inside its bytes, its packet survives the way
//! to a receiver of another format, and its id is the same unopened.
#![no_main]

use infrarust::protocol::codec::{
    Format, Receiver, SERVERBOUND_PACKET_BYTES_MAX, Zlib, convert, split,
};
use infrarust::protocol::{peek, varint};
use libfuzzer_sys::fuzz_target;

const MAX: usize = SERVERBOUND_PACKET_BYTES_MAX;

fuzz_target!(|input: (Option<u16>, Option<u16>, bool, &[u8])| {
    let (from, to, strict, bytes) = input;
    let format = |threshold: Option<u16>| match threshold {
        None => Format::Plain,
        Some(threshold) => Format::Compressed {
            threshold: threshold.into(),
        },
    };
    let (from, to) = (format(from), format(to));
    let Ok(Some(frame)) = split(bytes, from, MAX) else {
        return;
    };
    assert!(bytes.starts_with(frame.wire) && frame.wire.ends_with(frame.content));
    assert_eq!(
        split(&frame.wire[..frame.wire.len() - 1], from, MAX),
        Ok(None)
    );
    let (mut zlib, mut out) = (Zlib::default(), Vec::new());
    if frame.data_length.is_some()
        && let (Some(id), Ok(packet)) = (peek::packet_id(frame.content), zlib.packet(&frame))
    {
        assert_eq!(varint::decode(packet).unwrap().unwrap().0, id);
    }
    let receiver = Receiver { format: to, strict };
    if convert(&frame, from, &receiver, &mut zlib, &mut out).is_err() {
        assert!(out.is_empty());
        return;
    }
    let passed = split(&out, to, MAX).unwrap().unwrap();
    assert_eq!(passed.wire.len(), out.len());
    if let Ok(packet) = zlib.packet(&frame).map(<[u8]>::to_vec) {
        assert_eq!(zlib.packet(&passed).unwrap(), packet);
    }
});
