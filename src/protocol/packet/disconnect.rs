//! The disconnect packet, which ends a connection with a text, in every state of
//! the versions that the proxy intercepts. For the login state of any protocol
//! number see [`login::disconnect`](crate::protocol::login::disconnect).

use serde_json::Value;

use super::super::read::write_string;
use super::super::{component, text};
use super::{Clientbound, State, Version};

/// The packet that shows `text` and ends the connection.
///
/// In the login state the text is JSON in every version; in the others it is
/// NBT since 1.20.3. A literal text is cut after 5000 characters.
#[must_use]
pub(crate) fn disconnect(version: Version, state: State, text: &str) -> Vec<u8> {
    with_component(version, state, &text::bounded_component(text))
}

/// The packet that ends a login with this JSON component.
#[must_use]
pub(crate) fn login_disconnect(version: Version, json: &str) -> Vec<u8> {
    let id = version.id(State::Login, Clientbound::Disconnect);
    let mut packet = vec![id.unwrap_or_default()];
    write_string(json, &mut packet);
    packet
}

fn with_component(version: Version, state: State, component: &Value) -> Vec<u8> {
    let id = version.id(state, Clientbound::Disconnect);
    debug_assert!(
        id.is_some(),
        "no disconnect in {state:?} of {}",
        version.games()
    );
    let mut packet = vec![id.unwrap_or_default()];
    // The form of this version may be longer than the component itself.
    let written = component::write(component, version, state, &mut packet).or_else(|_| {
        let shortened = text::shortened(component);
        component::write(&shortened, version, state, &mut packet)
    });
    // Cannot fail: 5000 characters take at most six times as many in any form.
    debug_assert_eq!(written, Ok(()));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id and the form of the text, in each state of each family.
    #[test]
    fn forms() {
        let packet = |protocol, state| disconnect(Version::of(protocol).unwrap(), state, "bye");
        let json = b"\x0e{\"text\":\"bye\"}";
        let nbt = b"\x0a\x08\0\x04text\0\x03bye\0";
        let table: &[(i32, State, u8, &[u8])] = &[
            (4, State::Login, 0x00, json),
            (777, State::Login, 0x00, json),
            (4, State::Play, 0x40, json),
            (340, State::Play, 0x1A, json),
            (764, State::Play, 0x1B, json),
            (764, State::Configuration, 0x01, json),
            (765, State::Play, 0x1B, nbt),
            (765, State::Configuration, 0x01, nbt),
            (777, State::Play, 0x20, nbt),
            (777, State::Configuration, 0x02, nbt),
        ];
        for (protocol, state, id, text) in table {
            let packet = packet(*protocol, *state);
            assert_eq!(
                (packet[0], &packet[1..]),
                (*id, *text),
                "{protocol} {state:?}"
            );
        }
    }
}
