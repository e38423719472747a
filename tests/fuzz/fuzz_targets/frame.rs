//! A frame lies inside its bytes, and no prefix of it is a frame already.
#![no_main]

use infrarust::protocol::frame::{split, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (max, bytes) = input;
    if let Ok(Some(frame)) = split(bytes, max.into()) {
        assert!(frame.wire_bytes <= bytes.len());
        assert!(frame.body.len() < usize::from(max));
        assert_eq!(split(&bytes[..frame.wire_bytes - 1], max.into()), Ok(None));
        let again = write(frame.id, frame.body);
        let read = split(&again, max.into());
        assert_eq!(
            read.map(|frame| frame.map(|frame| frame.id)),
            Ok(Some(frame.id))
        );
    }
});
