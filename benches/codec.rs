//! Measures how long it takes to read the first packets of a player and to write them
//! again.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use infrarust::protocol::frame;
use infrarust::protocol::handshake::{HANDSHAKE_BYTES_MAX, Handshake};
use infrarust::protocol::login::{LoginStart, login_start_bytes_max};
use infrarust::protocol::varint;

const PROTOCOL: i32 = 767;

fn numbers(c: &mut Criterion) {
    for number in [127, 25_565, i32::MAX] {
        let mut wire = Vec::new();
        varint::encode(number, &mut wire);
        c.bench_function(&format!("varint, {} bytes, decode", wire.len()), |b| {
            b.iter(|| varint::decode(black_box(&wire)).unwrap());
        });
    }
}

fn packets(c: &mut Criterion) {
    let host = "play.example.com";
    // Protocol version, host, port, and the intent of a login.
    let mut body = Vec::new();
    varint::encode(PROTOCOL, &mut body);
    varint::encode(i32::try_from(host.len()).unwrap(), &mut body);
    body.extend(host.as_bytes());
    body.extend(25_565_u16.to_be_bytes());
    varint::encode(2, &mut body);
    let wire = frame::write(0, &body);
    c.bench_function("handshake, split and parse", |b| {
        b.iter(|| {
            let frame = frame::split(black_box(&wire), HANDSHAKE_BYTES_MAX);
            Handshake::parse(frame.unwrap().unwrap().body).unwrap()
        });
    });
    let handshake = Handshake::parse(&body).unwrap();
    c.bench_function("handshake, virtual host", |b| {
        b.iter(|| black_box(&handshake).host.virtual_host());
    });
    c.bench_function("handshake, encode with another host", |b| {
        b.iter(|| handshake.encode_with_host(black_box("lobby.internal")));
    });
    let login = LoginStart {
        name: "Notch".to_owned(),
        uuid: Some([7; 16]),
    };
    let wire = login.encode(PROTOCOL);
    c.bench_function("login start, split and parse", |b| {
        b.iter(|| {
            let frame = frame::split(black_box(&wire), login_start_bytes_max(PROTOCOL));
            LoginStart::parse(PROTOCOL, frame.unwrap().unwrap().body).unwrap()
        });
    });
}

criterion_group!(benches, numbers, packets);
criterion_main!(benches);
