//! Any bytes are a manifest or a refusal, and a manifest has a name.
#![no_main]

use infrarust::manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for read in [manifest::read(bytes), manifest::parse(bytes)] {
        match read {
            Ok(manifest) => assert!(!manifest.name.is_empty()),
            Err(refusal) => assert!(!refusal.to_string().is_empty() && !refusal.help().is_empty()),
        }
    }
});
