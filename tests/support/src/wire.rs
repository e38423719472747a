//! Bytes of the protocol, written a second time for the tests.

use super::Hello;

pub fn varint(value: i32) -> Vec<u8> {
    let mut rest = value as u32;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

pub fn string(text: &str) -> Vec<u8> {
    [varint(text.len() as i32), text.as_bytes().to_vec()].concat()
}

pub fn frame(id: i32, body: &[u8]) -> Vec<u8> {
    let packet = [varint(id), body.to_vec()].concat();
    [varint(packet.len() as i32), packet].concat()
}

pub fn handshake(protocol: i32, host: &str, port: u16, intent: i32) -> Vec<u8> {
    let body = [
        varint(protocol),
        string(host),
        port.to_be_bytes().to_vec(),
        varint(intent),
    ]
    .concat();
    frame(0, &body)
}

/// A login start of protocol 47 (1.8), which has only the name.
pub fn login_start(name: &str) -> Vec<u8> {
    frame(0, &string(name))
}

/// An Encryption Request of protocol 47.
pub fn encryption_request() -> Vec<u8> {
    let body = [
        string(""),
        varint(4),
        vec![1, 2, 3, 4],
        varint(4),
        vec![5, 6, 7, 8],
    ]
    .concat();
    frame(1, &body)
}

/// A Login Success of protocol 47.
pub fn login_success(name: &str) -> Vec<u8> {
    frame(
        2,
        &[string("00000000-0000-0000-0000-000000000000"), string(name)].concat(),
    )
}

pub fn read_varint(bytes: &[u8]) -> Option<(i32, usize)> {
    let mut value = 0_u32;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value as i32, index + 1));
        }
    }
    None
}

/// The first frame: id, fields, and its whole length.
pub fn split(bytes: &[u8]) -> Option<(i32, Vec<u8>, usize)> {
    let (length, at) = read_varint(bytes)?;
    let packet = bytes.get(at..at + length as usize)?;
    let (id, used) = read_varint(packet)?;
    Some((id, packet[used..].to_vec(), at + length as usize))
}

/// The string at the front.
pub fn string_in(body: &[u8]) -> String {
    let (length, at) = read_varint(body).unwrap();
    String::from_utf8(body[at..at + length as usize].to_vec()).unwrap()
}

pub fn parse_handshake(body: &[u8]) -> Hello {
    let (protocol, a) = read_varint(body).unwrap();
    let host = string_in(&body[a..]);
    let after = a + string(&host).len();
    let port = u16::from_be_bytes([body[after], body[after + 1]]);
    let (intent, used) = read_varint(&body[after + 2..]).unwrap();
    assert_eq!(
        after + 2 + used,
        body.len(),
        "bytes after the handshake's fields"
    );
    Hello {
        protocol,
        host,
        port,
        intent,
    }
}

/// UTF-16BE after its length in characters, as clients up to 1.6 write it.
pub fn string16(text: &str) -> Vec<u8> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut bytes = (units.len() as u16).to_be_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
    bytes
}

/// The text of a 0xFF packet.
pub fn kick16(bytes: &[u8]) -> String {
    assert_eq!(bytes[0], 0xff);
    let units: Vec<u16> = bytes[3..]
        .chunks(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    assert_eq!(
        units.len(),
        usize::from(u16::from_be_bytes([bytes[1], bytes[2]]))
    );
    String::from_utf16(&units).unwrap()
}
