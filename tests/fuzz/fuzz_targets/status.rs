//! Status packets and the texts in them, from any bytes.
#![no_main]

use infrarust::config::model::Motd;
use infrarust::protocol::frame::{FRAME_BYTES_MAX, split};
use infrarust::protocol::{status, text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(frame)) = split(bytes, FRAME_BYTES_MAX) {
        let _ = status::parse_question(&frame);
    }
    // The text of an answer directly, so that the fuzzer need not find lengths.
    let Ok(json) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = text::plain(&text::component(json));
    let answer = status::response(json);
    let frame = split(&answer, FRAME_BYTES_MAX).unwrap().unwrap();
    if let Ok(mut value) = status::parse_response(&frame) {
        let motd = Motd {
            version_name: Some("v".to_owned()),
            max_players: Some(1),
            ..Motd::default()
        };
        status::overlay(&mut value, &motd, 47);
        assert_eq!(value["players"]["max"], 1);
        let _ = text::plain(&value["description"]);
    }
});
