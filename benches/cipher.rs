//! Measures the encryption of clientbound bytes, beside the `cfb8` crate.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use aes::Aes128;
use aes::cipher::{Array, KeyIvInit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use infrarust::protocol::cipher::{Cipher, Job, encrypt_many};

/// What a backend sends one player in one tick, in bytes.
const TICK_BYTES: usize = 1100;
const SECRET: [u8; 16] = [7; 16];

fn encryption(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("encrypt {TICK_BYTES} B"));
    for players in [1, 2, 4, 8, 16] {
        let mut ciphers = vec![Cipher::new(&SECRET); players];
        let mut bytes = vec![[5; TICK_BYTES]; players];
        group.throughput(Throughput::Elements(u64::try_from(players).unwrap()));
        group.bench_function(format!("of {players} players at once"), |b| {
            b.iter(|| {
                let jobs = ciphers.iter_mut().zip(black_box(&mut bytes));
                let mut jobs: Vec<_> = jobs
                    .map(|(cipher, bytes)| Some(Job { cipher, bytes }))
                    .collect();
                encrypt_many(&mut jobs);
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    let secret = Array::from(SECRET);
    let mut crate_cipher = cfb8::Encryptor::<Aes128>::new(&secret, &secret);
    let mut bytes = [5; TICK_BYTES];
    group.bench_function("of one player, cfb8 crate", |b| {
        b.iter(|| crate_cipher.encrypt(black_box(&mut bytes)));
    });
    group.finish();
}

criterion_group!(benches, encryption);
criterion_main!(benches);
