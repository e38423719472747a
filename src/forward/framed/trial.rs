//! Walks over arbitrary bytes, for tests and for the fuzz target `walk`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub)]

use std::sync::{Arc, Mutex};

use super::{FrameFilter, FramedError, Walked};
use crate::forward::Direction;
use crate::forward::bounds::ClientBounds;
use crate::forward::packets::{Edits, SentState};
use crate::forward::queries::{Decider, Decision, PacketGroup, PacketQueries, Wanted};
use crate::forward::spare::SpareBuffers;
use crate::protocol::codec::{Format, Receiver, Zlib};
use crate::protocol::packet::{State, Version};

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

pub(super) fn filter(direction: Direction, from: Format, to: Format) -> FrameFilter {
    let version = Version::of(PROTOCOL).unwrap();
    let to = Receiver {
        format: to,
        strict: true,
    };
    match direction {
        Direction::Clientbound => {
            let edits = Edits {
                adds_brand: true,
                is_authenticated: true,
            };
            let sent = SentState::new(State::Play);
            FrameFilter::clientbound(version, from, to, sent, edits, Arc::default())
        }
        Direction::Serverbound => {
            let bounds = ClientBounds::new();
            let (state, outbox) = (State::Play, Arc::default());
            FrameFilter::serverbound(version, from, to, state, bounds, outbox)
        }
    }
}

/// Queries of a plugin that wants every second packet.
pub(super) fn queries() -> (Arc<PacketQueries>, Arc<Asked>) {
    let ids = [0x5555_5555_5555_5555; 4];
    let mut wanted = Wanted::default();
    for state in [State::Configuration, State::Play] {
        for direction in [Direction::Clientbound, Direction::Serverbound] {
            wanted = wanted.with(state, direction, ids);
        }
    }
    let asked = Arc::<Asked>::default();
    let decider = Arc::clone(&asked);
    let queries = PacketQueries::new(wanted, decider, Arc::default());
    (Arc::new(queries), asked)
}

/// The packets that wait for decisions.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Option<PacketGroup>>);

impl Decider for Asked {
    fn decide(&self, _: &Arc<PacketQueries>, _: Direction, group: PacketGroup) {
        assert_eq!(self.0.lock().unwrap().replace(group), None);
    }

    fn begin(&self) {}
}

impl Asked {
    /// Takes the packets that wait.
    pub(super) fn take(&self) -> Option<PacketGroup> {
        self.0.lock().unwrap().take()
    }

    /// Decides about the packets that wait, by what they hold; not always about all.
    fn decide(&self, filter: &mut FrameFilter) {
        let Some(queries) = filter.queries.clone().filter(|_| filter.awaits_decision()) else {
            return;
        };
        let PacketGroup { packets, .. } = self.take().unwrap();
        assert!(!filter.has_paused() && !filter.take_decision());
        let count = 1 + packets[0].len() % packets.len();
        let decide = |packet: Vec<u8>| match packet.len() % 4 {
            0 => Decision::Drop(None),
            1 => Decision::Drop(Some(vec![0x7C, 0])),
            2 => Decision::Change([&packet[..], &[0]].concat()),
            _ => Decision::Pass,
        };
        let decisions = packets.into_iter().take(count).map(decide).collect();
        let _ = queries.answer(filter.direction, decisions);
        assert!(filter.take_decision());
    }
}

/// What the receiver gets if a stream is read in pieces of these lengths. As in a session,
/// pieces that are nothing but unread frames pass without the filter, if `skips_filter`.
pub(super) fn relayed(
    mut filter: FrameFilter,
    asked: Option<&Asked>,
    stream: &[u8],
    cuts: &[usize],
    skips_filter: bool,
) -> (Vec<u8>, Option<FramedError>) {
    let (mut zlib, mut written) = (Zlib::default(), Vec::new());
    let mut cuts = cuts.iter().copied().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let length = cuts.next().unwrap().clamp(1, rest.len());
        let (piece, more) = rest.split_at(length);
        rest = more;
        let mut buffer = piece.to_vec();
        let unread = if skips_filter {
            filter.unread_frames()
        } else {
            None
        };
        if let Some(mut unread) = unread {
            let passes = unread.pass_all(&buffer);
            filter.end_unread(&unread);
            if passes {
                written.extend(buffer);
                continue;
            }
        }
        loop {
            let mut output = Vec::new();
            let to_write = match filter.walk(
                &buffer,
                &mut output,
                &mut zlib,
                &mut SpareBuffers::default(),
            ) {
                Walked::Nothing => Vec::new(),
                Walked::Slice(range) => buffer[range].to_vec(),
                Walked::Output => output,
            };
            written.extend(to_write);
            if let Some(fault) = filter.fault() {
                return (written, Some(fault.clone()));
            }
            if let Some(asked) = asked {
                asked.decide(&mut filter);
            }
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
    let walked = |cuts: &[usize], skips_filter| {
        let mut filter = filter(direction, format(from), format(to));
        let (queries, asked) = queries();
        filter.queries = (kind & 4 != 0).then_some(queries);
        relayed(filter, Some(&asked), stream, cuts, skips_filter)
    };
    let whole = walked(&[stream.len()], false);
    let cuts = [first, second, third].map(|cut| usize::from(*cut));
    assert_eq!(walked(&cuts, kind & 2 != 0), whole);
    assert_eq!(walked(&[1], true), whole);
    assert_eq!(walked(&[stream.len()], true), whole);
}
