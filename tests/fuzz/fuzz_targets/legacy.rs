//! What old packets decide stays decided, and survives being written again.
#![no_main]

use infrarust::protocol::legacy::{Detect, answer_len, detect, first_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = (answer_len(bytes), first_answer(bytes));
    let found = detect(bytes);
    match &found {
        Detect::Ping(ping) => {
            let used = ping.wire_bytes();
            assert_eq!(ping.encode(), &bytes[..used]);
            let _ = ping.host_field().virtual_host();
        }
        Detect::Login(login) => {
            assert!(login.wire_bytes <= bytes.len());
            assert_eq!(detect(&bytes[..login.wire_bytes]), found);
            let _ = login.host_field().virtual_host();
            let written = login.rewrite("backend.example");
            assert!(matches!(detect(&written), Detect::Login(_)));
        }
        Detect::Modern | Detect::NeedMore { .. } | Detect::Bad(_) => {}
    }
});
