//! Counts what a relay thread allocates for frames that pass, from one socket to the other.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};

use infrarust_test_support::blocking_until;

use super::Side;
use super::encryption_tests::{READABLE, framed};
use super::exchange::Exchange;
use super::lane::Buffers;
use crate::protocol::cipher::{self, Cipher};
use crate::protocol::codec::{Format, Zlib};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends may allocate after its counter is gone.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Once a relay thread has its buffers, it allocates nothing for frames that pass: in
/// both directions, with frames cut by reads, with compressed frames of which only the id
/// is read, and with encryption.
#[tokio::test]
async fn frames_that_pass_allocate_nothing() {
    const WARM_UP: usize = 4;
    let compressed = Format::Compressed { threshold: 64 };
    for (format, is_encrypted) in [
        (Format::Plain, false),
        (compressed, false),
        (Format::Plain, true),
        (compressed, true),
    ] {
        let secret = [7; 16];
        let cipher = is_encrypted.then(|| Cipher::new(&secret));
        let (player, server, session, filters) = framed(format, cipher.clone()).await;
        let mut exchange = Exchange::framed(session, filters).into_std().unwrap();
        let mut ends = [player, server].map(|end| end.into_std().unwrap());
        let (mut buffers, mut zlib) = (Buffers::of_encrypting_driver(), Zlib::default());
        let mut packets = vec![vec![0x26, 1, 2]; 40];
        packets.push([&[0x0F], &[9; 2000][..]].concat());
        packets.push([&[0x26], &[5; 700][..]].concat());
        let mut stream = Vec::new();
        for packet in &packets {
            zlib.write(packet, format, &mut stream).unwrap();
        }
        // A position of a player in 1.12.2.
        let answer = [&[0x0D], &[8; 27][..]].concat();
        let mut answers = Vec::new();
        zlib.write(&answer, format, &mut answers).unwrap();
        let mut encrypt = cipher;
        for turn in 0..3 * WARM_UP {
            for (at, source) in [Side::Client, Side::Backend].into_iter().enumerate() {
                let mut bytes = match source {
                    Side::Client => answers.clone(),
                    Side::Backend => stream.clone(),
                };
                if let (Side::Client, Some(cipher)) = (source, &mut encrypt) {
                    cipher.encrypt(&mut bytes);
                }
                // The second part begins in the middle of a frame.
                let (first, second) = bytes.split_at(bytes.len() - 10);
                let (mut left, mut room) = (bytes.len(), [0; 4096]);
                let mut allocated = 0;
                for part in [first, second] {
                    ends[at].write_all(part).unwrap();
                    blocking_until("the frames", || {
                        let before = allocations();
                        exchange.ready(source, READABLE, &mut buffers);
                        while let Some(mut encryption) = exchange.take_encryption() {
                            cipher::encrypt_many(&mut [Some(encryption.next_job(512))]);
                            exchange.continue_encrypted(encryption, &mut buffers);
                        }
                        allocated += allocations() - before;
                        left -= (&ends[1 - at]).read(&mut room).unwrap_or(0);
                        part.len() == first.len() || left == 0
                    });
                }
                if turn >= WARM_UP {
                    assert_eq!(allocated, 0, "{format:?}, {is_encrypted}, {source}");
                }
            }
        }
    }
}
