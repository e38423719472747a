//! Walks over arbitrary bytes, for tests and for the fuzz target `walk`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub)]

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{FrameFilter, FramedError, Walked};
use crate::forward::Direction;
use crate::forward::bounds::bounds;
use crate::forward::packets::{Edits, SentState};
use crate::forward::queries::{Decision, PacketQueries, Wanted};
use crate::forward::spare::SpareBuffers;
use crate::protocol::cipher::Cipher;
use crate::protocol::codec::{Format, Receiver, Zlib};
use crate::protocol::packet::{Brand, State, Version};

pub(super) const SECRET: [u8; 16] = [9; 16];
/// 26.2, which has all packets that a walk reads.
pub(super) const PROTOCOL: i32 = 776;

pub(super) fn formats() -> [Format; 4] {
    let compressed = |threshold| Format::Compressed { threshold };
    [
        Format::Plain,
        compressed(0),
        compressed(64),
        compressed(1024),
    ]
}

pub(super) fn filter(
    direction: Direction,
    from: Format,
    to: Format,
    is_encrypted: bool,
) -> FrameFilter {
    let version = Version::of(PROTOCOL).unwrap();
    let cipher = is_encrypted.then(|| Box::new(Cipher::new(&SECRET)));
    let to = Receiver {
        format: to,
        strict: true,
    };
    match direction {
        Direction::Clientbound => {
            let edits = Edits {
                brand: Some(Brand("test")),
                is_authenticated: true,
                commands: None,
            };
            let sent = SentState::new(State::Play);
            let (_, bounds) = bounds();
            FrameFilter::clientbound(version, from, to, sent, cipher, edits, bounds)
        }
        Direction::Serverbound => {
            let (bounds, _) = bounds();
            let bounds = Box::new(bounds);
            FrameFilter::serverbound(version, from, to, State::Play, cipher, bounds)
        }
    }
}

/// Somebody who wants to know of each second packet.
pub(super) fn queries() -> Arc<PacketQueries> {
    let ids = [0x5555_5555_5555_5555; 4];
    let mut wanted = Wanted::default();
    for state in [State::Configuration, State::Play] {
        for direction in [Direction::Clientbound, Direction::Serverbound] {
            wanted = wanted.with(state, direction, ids);
        }
    }
    Arc::new(PacketQueries::new(wanted, Arc::default()))
}

/// Decides about the packet that waits, by what it holds.
fn decide(filter: &mut FrameFilter) {
    let Some(queries) = filter.queries.clone().filter(|_| filter.awaits_decision()) else {
        return;
    };
    let query = queries.next_query(filter.direction).now_or_never().unwrap();
    assert!(!filter.has_paused() && !filter.take_decision());
    let packet = query.packet;
    let decision = match packet.len() % 4 {
        0 => Decision::Drop(None),
        1 => Decision::Drop(Some(vec![0x7C, 0])),
        2 => Decision::Change([&packet[..], &[0]].concat()),
        _ => Decision::Pass,
    };
    queries.answer(filter.direction, decision);
    assert!(filter.take_decision());
}

/// What the receiver gets if a stream is read in pieces of these lengths.
pub(super) fn walked(
    mut filter: FrameFilter,
    stream: &[u8],
    cuts: &[usize],
) -> (Vec<u8>, Option<FramedError>) {
    let (mut zlib, mut written) = (Zlib::default(), Vec::new());
    let mut cuts = cuts.iter().copied().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let length = cuts.next().unwrap().clamp(1, rest.len());
        let (piece, more) = rest.split_at(length);
        rest = more;
        let mut buffer = piece.to_vec();
        loop {
            let mut output = Vec::new();
            let mut to_write = match filter.walk(
                &mut buffer,
                &mut output,
                &mut zlib,
                &mut SpareBuffers::default(),
            ) {
                Walked::Nothing => Vec::new(),
                Walked::Slice(range) => buffer[range].to_vec(),
                Walked::Output => output,
            };
            filter.encrypt(&mut to_write);
            written.extend(to_write);
            if let Some(fault) = filter.fault() {
                return (written, Some(fault.clone()));
            }
            decide(&mut filter);
            if !filter.has_paused() {
                break;
            }
            buffer.clear();
        }
    }
    (written, None)
}

/// Walks a stream at once, in pieces and byte by byte, and checks that its receiver
/// gets the same bytes and the same fault. The input gives the stream and how it is
/// walked.
///
/// # Panics
///
/// When the results differ.
pub fn cut_any_bytes(input: &[u8]) {
    let Some(([kind, from, to, first, second, third], stream)) = input.split_first_chunk() else {
        return;
    };
    let direction = match kind & 1 {
        0 => Direction::Serverbound,
        _ => Direction::Clientbound,
    };
    let format = |choice: &u8| formats()[usize::from(*choice) % formats().len()];
    let filter = || {
        let mut filter = filter(direction, format(from), format(to), kind & 2 != 0);
        filter.queries = (kind & 4 != 0).then(queries);
        filter
    };
    let whole = walked(filter(), stream, &[stream.len()]);
    let cuts = [first, second, third].map(|cut| usize::from(*cut));
    assert_eq!(walked(filter(), stream, &cuts), whole);
    assert_eq!(walked(filter(), stream, &[1]), whole);
}
