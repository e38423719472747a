//! The packets of the login that the intercepted modes read, of every version,
//! and the brand that they extend, from any bytes.
#![no_main]

use infrarust::protocol::packet::login::{
    EncryptionResponse, PluginRequest, parse_login_success, parse_plugin_response,
    parse_set_compression,
};
use infrarust::protocol::packet::{Brand, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (index, fields) = input;
    let count = Version::all().count();
    let Some(version) = Version::all().nth(usize::from(index) % count) else {
        return;
    };
    let _ = EncryptionResponse::parse(version, fields);
    let _ = PluginRequest::parse(fields);
    let _ = parse_login_success(version, fields);
    let _ = parse_plugin_response(fields);
    let _ = parse_set_compression(fields);
    if let Some(changed) = Brand("proxy").rewrite(version, 0, fields) {
        assert!(changed.len() > fields.len());
    }
});
