//! The packets of the login that the intercepted modes read, of every version,
//! the brand that they extend, and the packets that plugins know by name, from any
//! bytes.
#![no_main]

use infrarust::protocol::packet::login::{
    EncryptionResponse, PluginRequest, parse_login_success, parse_plugin_response,
    parse_set_compression,
};
use infrarust::protocol::packet::view::View;
use infrarust::protocol::packet::{Brand, Direction, State, Version};
use infrarust_plugin_abi::PacketField;
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
    if let Some(changed) = Brand("proxy").rewrite(version, State::Play, fields) {
        assert!(changed.len() > fields.len());
    }
    for direction in [Direction::Clientbound, Direction::Serverbound] {
        for state in [State::Login, State::Configuration, State::Play] {
            for id in 0..=0x98 {
                let Some(view) = View::of(version, state, direction, id, fields) else {
                    continue;
                };
                for field in PacketField::ALL {
                    let _ = view.get(*field);
                }
                if let Ok(same) = view.with(&[]) {
                    assert!(same.ends_with(fields));
                }
            }
        }
    }
});
