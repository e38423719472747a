use proptest::prelude::*;

use super::trial::{Asked, PROTOCOL, cut_any_bytes, filter, formats, queries, relayed};
use super::*;
use crate::forward::Wanted;
use crate::forward::bounds::check_backend;
use crate::forward::spare::SpareBuffers;
use crate::protocol::frame::FrameError;
use crate::protocol::packet::{Clientbound, Serverbound};

/// What the receiver gets if a stream is read in pieces of these lengths.
fn walked(
    filter: FrameFilter,
    asked: Option<&Asked>,
    stream: &[u8],
    cuts: &[usize],
) -> (Vec<u8>, Option<FramedError>) {
    relayed(filter, asked, stream, cuts, true)
}

fn id_of(kind: Clientbound, state: State) -> u8 {
    Version::of(PROTOCOL).unwrap().id(state, kind).unwrap()
}

/// Packets of a backend in play and in a configuration between.
fn packets(sizes: &[u16]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (index, size) in sizes.iter().enumerate() {
        let bytes = vec![u8::try_from(index % 7).unwrap(); usize::from(*size)];
        packets.push([&[0x7C], &bytes[..]].concat());
        if index % 3 == 1 {
            let brand = id_of(Clientbound::PluginMessage, State::Play);
            packets.push([&[brand], &b"\x0fminecraft:brand\x05Paper"[..]].concat());
        }
        if index % 4 == 2 {
            let start = id_of(Clientbound::StartConfiguration, State::Play);
            let finish = id_of(Clientbound::FinishConfiguration, State::Configuration);
            let join = id_of(Clientbound::JoinGame, State::Play);
            packets.push(vec![start]);
            packets.push(vec![0x07, 1, 2, 3]);
            packets.push(vec![finish]);
            packets.push([&[join], &bytes[..], &[0; 4]].concat());
        }
    }
    packets
}

proptest! {
    /// The receiver gets the same bytes however the stream is cut into reads: in all
    /// formats, with frames that pass without the filter, and before a fault.
    #[test]
    fn cuts_change_nothing(
        sizes in proptest::collection::vec(0_u16..3000, 1..12),
        cuts in proptest::collection::vec(1_usize..600, 1..12),
        from in 0_usize..4,
        to in 0_usize..4,
        skips_filter: bool,
        is_serverbound: bool,
        is_asked: bool,
        tail: Vec<u8>,
    ) {
        let (from, to) = (formats()[from], formats()[to]);
        let direction = match is_serverbound {
            true => Direction::Serverbound,
            false => Direction::Clientbound,
        };
        let (mut zlib, mut stream) = (Zlib::default(), Vec::new());
        for packet in packets(&sizes) {
            zlib.write(&packet, from, &mut stream).unwrap();
        }
        stream.extend(tail);
        let walked = |cuts: &[usize], skips_filter| {
            let mut filter = filter(direction, from, to);
            let (queries, asked) = queries();
            filter.queries = is_asked.then_some(queries);
            relayed(filter, Some(&asked), &stream, cuts, skips_filter)
        };
        let whole = walked(&[stream.len()], false);
        prop_assert_eq!(&walked(&cuts, skips_filter), &whole);
        prop_assert_eq!(&walked(&[1], skips_filter), &whole);
    }

    /// The same for bytes that need not be frames. Most are small, so that there are short
    /// frames among them, and empty ones.
    #[test]
    fn cuts_of_any_bytes_change_nothing(
        head: [u8; 6],
        stream in proptest::collection::vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..600),
    ) {
        cut_any_bytes(&[&head[..], &stream].concat());
    }

    /// Random bytes cause a fault or wait for more bytes, and the memory stays bounded by
    /// the number of bytes received.
    #[test]
    fn random_bytes_are_survived_in_bounded_memory(
        stream in proptest::collection::vec(any::<u8>(), 0..4000),
        cuts in proptest::collection::vec(1_usize..900, 1..5),
        from in 0_usize..4,
        to in 0_usize..4,
        is_serverbound: bool,
    ) {
        let direction = match is_serverbound {
            true => Direction::Serverbound,
            false => Direction::Clientbound,
        };
        let filter = filter(direction, formats()[from], formats()[to]);
        walked(filter, None, &stream, &cuts);
    }
}

/// Bytes that hardly compress.
fn noise(bytes: usize) -> impl Iterator<Item = u8> {
    let mut state = 1_u32;
    (0..bytes).map(move |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    })
}

/// Packets with ids of one and two bytes. Their frames, and the packets before compression,
/// have lengths of one, two and three bytes.
fn packets_of_all_lengths() -> Vec<Vec<u8>> {
    let id_of_two_bytes = [0xF0, 1];
    let mut packets = packets(&[0, 20, 100, 1000, 17_000]);
    for bytes in [10, 100, 1000, 17_000] {
        packets.push([&[0x7C][..], &noise(bytes).collect::<Vec<_>>()].concat());
        packets.push([&id_of_two_bytes[..], &vec![3; bytes]].concat());
        let mixed = noise(bytes).chain(std::iter::repeat_n(0, bytes));
        packets.push([0x70].into_iter().chain(mixed).collect());
    }
    packets
}

/// The receiver gets the same bytes if a read ends at any byte of any header, also if the
/// next read has one byte.
#[test]
fn a_cut_in_any_header_changes_nothing() {
    /// More than the longest header: the length of a frame, the length before compression
    /// and the id.
    const HEADER_BYTES_MAX: usize = 3 + 5 + 5;
    for from in [Format::Plain, Format::Compressed { threshold: 64 }] {
        let (mut zlib, mut stream, mut starts) = (Zlib::default(), Vec::new(), Vec::new());
        for packet in packets_of_all_lengths() {
            starts.push(stream.len());
            zlib.write(&packet, from, &mut stream).unwrap();
        }
        let lengths = stream_lengths(&stream, from);
        assert_eq!(lengths, [1, 2, 3], "{from:?}");
        for to in [Format::Plain, Format::Compressed { threshold: 256 }] {
            for (direction, is_asked) in [
                (Direction::Clientbound, false),
                (Direction::Clientbound, true),
                (Direction::Serverbound, false),
                (Direction::Serverbound, true),
            ] {
                let walked = |cuts: &[usize]| {
                    let (queries, asked) = queries();
                    let mut filter = filter(direction, from, to);
                    filter.queries = is_asked.then_some(queries);
                    walked(filter, Some(&asked), &stream, cuts)
                };
                let whole = walked(&[stream.len()]);
                assert_eq!(whole.1, None, "{direction:?}");
                for start in &starts {
                    for cut in start + 1..(start + HEADER_BYTES_MAX).min(stream.len()) {
                        let rest = stream.len();
                        assert!(walked(&[cut, rest]) == whole, "{direction:?} {cut}");
                        assert!(walked(&[cut, 1, rest]) == whole, "{direction:?} {cut}");
                    }
                }
            }
        }
    }
}

/// The numbers of bytes of the lengths of frames in a stream, each once.
fn stream_lengths(stream: &[u8], format: Format) -> Vec<usize> {
    let mut lengths = std::collections::BTreeSet::new();
    for wire in whole_frames(stream, format) {
        let length = varint::decode(wire).unwrap().unwrap();
        lengths.insert(length.1);
    }
    lengths.into_iter().collect()
}

/// The frames of a stream that does not end in the middle of a frame.
fn whole_frames(mut stream: &[u8], format: Format) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let frame = codec::split(stream, format, CLIENTBOUND_PACKET_BYTES_MAX).unwrap();
        let wire = frame.expect("the last frame is whole").wire;
        frames.push(wire);
        stream = &stream[wire.len()..];
    }
    frames
}

proptest! {
    /// If a frame lies about its length, or about the length of its packet before compression,
    /// the frames before it pass, and what the receiver gets ends between two frames.
    #[test]
    fn a_length_that_lies_does_not_tear_a_frame(
        sizes in proptest::collection::vec(0_u16..600, 1..6),
        lied in 0_usize..6,
        frame_length in prop_oneof![0_i32..700, any::<i32>()],
        data_length in prop_oneof![0_i32..700, any::<i32>()],
        lies_about_frame: bool,
        cut in 1_usize..900,
        from in 0_usize..4,
        to in 0_usize..4,
        is_serverbound: bool,
    ) {
        let (from, to) = (formats()[from], formats()[to]);
        let direction = match is_serverbound {
            true => Direction::Serverbound,
            false => Direction::Clientbound,
        };
        let (mut zlib, mut stream) = (Zlib::default(), Vec::new());
        let mut before = 0;
        for (index, size) in sizes.iter().enumerate() {
            let packet = [vec![0x70], vec![5; usize::from(*size)]].concat();
            let mut wire = Vec::new();
            zlib.write(&packet, from, &mut wire).unwrap();
            if index == lied % sizes.len() {
                before = stream.len();
                let (_, length_bytes) = varint::decode(&wire).unwrap().unwrap();
                let mut content = wire[length_bytes..].to_vec();
                if let (false, Format::Compressed { .. }) = (lies_about_frame, from) {
                    let (_, data_length_bytes) = varint::decode(&content).unwrap().unwrap();
                    let packet = content.split_off(data_length_bytes);
                    content.clear();
                    varint::encode(data_length, &mut content);
                    content.extend(packet);
                }
                wire.clear();
                let honest = i32::try_from(content.len()).unwrap();
                varint::encode(if lies_about_frame { frame_length } else { honest }, &mut wire);
                wire.extend(content);
            }
            stream.extend(wire);
        }
        let (honest, _) = walked(filter(direction, from, to), None, &stream[..before], &[cut]);
        let (written, _) = walked(filter(direction, from, to), None, &stream, &[cut]);
        prop_assert!(written.starts_with(&honest));
        prop_assert!(whole_frames(&written, to).len() >= whole_frames(&honest, to).len());
    }
}

/// A length over the limits is refused with its last byte, before the frame arrives. One that
/// does not fit the compressed bytes is refused if the packet is decompressed.
#[test]
fn lengths_over_the_limits_are_refused_at_once() {
    let compressed = Format::Compressed { threshold: 64 };
    let header = |lengths: &[usize]| {
        let mut header = Vec::new();
        for length in lengths {
            varint::encode_len(*length, &mut header);
        }
        header
    };
    let good = [1, 0x70];
    for (direction, packet_bytes_max) in [
        (Direction::Clientbound, CLIENTBOUND_PACKET_BYTES_MAX),
        (Direction::Serverbound, SERVERBOUND_PACKET_BYTES_MAX),
    ] {
        let too_big = CodecError::TooBig {
            packet_bytes: packet_bytes_max + 1,
            packet_bytes_max,
        };
        let lie = header(&[100, packet_bytes_max + 1]);
        for cut in 1..=lie.len() {
            let stream = [&[2, 0, 0x70][..], &lie].concat();
            let filter = filter(direction, compressed, Format::Plain);
            let (written, fault) = walked(filter, None, &stream, &[3, cut]);
            assert_eq!(written, good);
            assert_eq!(fault, Some(too_big.clone().into()), "{direction:?}");
        }
    }
    let mut frame = Vec::new();
    Zlib::default()
        .write(&[0x70; 100], compressed, &mut frame)
        .unwrap();
    let honest = frame[1];
    assert_eq!(honest, 100);
    for lie in [99, 101] {
        frame[1] = lie;
        let stream = [&[2, 0, 0x70][..], &frame].concat();
        let filter = filter(Direction::Clientbound, compressed, Format::Plain);
        let (written, fault) = walked(filter, None, &stream, &[stream.len()]);
        assert_eq!(written, good);
        assert_eq!(fault, Some(CodecError::BadCompression.into()));
    }
}

/// The frames before a fault reach the client, and the state is that after them,
/// so the client can read a disconnect that follows.
#[test]
fn frames_before_a_fault_pass() {
    let start = id_of(Clientbound::StartConfiguration, State::Play);
    let stream = [1, start, 0];
    let mut filter = filter(Direction::Clientbound, Format::Plain, Format::Plain);
    let mut output = Vec::new();
    let walked = filter.walk(
        &stream.clone(),
        &mut output,
        &mut Zlib::default(),
        &mut SpareBuffers::default(),
    );
    assert_eq!(walked, Walked::Slice(0..2));
    assert_eq!(filter.sent().state, State::Configuration);
    let empty = CodecError::Frame(FrameError::Empty);
    assert_eq!(filter.fault(), Some(&FramedError::Codec(empty)));
}

/// An empty frame is a fault among frames that nobody reads as well: its length and that
/// of the next frame are not one length of two bytes.
#[test]
fn an_empty_frame_among_others_is_a_fault() {
    let stream = [&[1, 0x7C, 0, 1][..], &[0x7C; 300]].concat();
    let filter = filter(Direction::Clientbound, Format::Plain, Format::Plain);
    let (passed, fault) = walked(filter, None, &stream, &[stream.len()]);
    assert_eq!(passed, [1, 0x7C]);
    let empty = CodecError::Frame(FrameError::Empty);
    assert_eq!(fault, Some(FramedError::Codec(empty)));
}

/// Frames that are carried whole are walked at once with the next bytes, and none of them
/// is copied for each of the others.
#[test]
fn carried_frames_are_walked_at_once() {
    for (direction, is_cancelled) in [
        (Direction::Serverbound, true),
        (Direction::Serverbound, false),
        (Direction::Clientbound, false),
    ] {
        let mut filter = filter(direction, Format::Plain, Format::Plain);
        let frames = [2, 0x70, 1].repeat(300);
        let (mut output, mut zlib) = (Vec::new(), Zlib::default());
        let mut spare = SpareBuffers::default();
        if is_cancelled {
            filter.queries = Some(queries().0);
            let read = frames.clone();
            let walked = filter.walk(&read, &mut output, &mut zlib, &mut spare);
            assert!(walked == Walked::Nothing && filter.awaits_decision());
            filter.cancel_queries();
        } else {
            filter.carry(&frames);
        }
        filter.walk(&[2, 0x70], &mut output, &mut zlib, &mut spare);
        assert_eq!(output, frames, "{direction:?}");
        assert_eq!(filter.carried, [2, 0x70]);
        output.clear();
        filter.walk(&[2], &mut output, &mut zlib, &mut spare);
        assert_eq!(output, [2, 0x70, 2]);
    }
}

/// After a cancel, a frame that waited for a decision is walked with the next ones, and
/// nothing is kept.
#[test]
fn a_cancelled_query_keeps_nothing() {
    let mut filter = filter(Direction::Serverbound, Format::Plain, Format::Plain);
    filter.queries = Some(queries().0);
    let (mut output, mut zlib) = (Vec::new(), Zlib::default());
    let mut spare = SpareBuffers::default();
    let walked = filter.walk(&[2, 0x70, 1], &mut output, &mut zlib, &mut spare);
    assert!(walked == Walked::Nothing && filter.awaits_decision());
    filter.cancel_queries();
    filter.walk(&[2, 0x70, 2], &mut output, &mut zlib, &mut spare);
    assert!(!filter.awaits_decision() && filter.carried.is_empty());
    assert_eq!(output, [2, 0x70, 1, 2, 0x70, 2]);
}

/// A client's packet that waits for a decision is applied once, with or without the
/// decision: its question is answered, and the state is the one after the packet.
#[test]
fn a_packet_is_applied_once() {
    let version = Version::of(PROTOCOL).unwrap();
    let id = |kind: Serverbound| version.id(State::Play, kind).unwrap();
    let asked = |packet: &[u8]| {
        let mut filter = filter(Direction::Serverbound, Format::Plain, Format::Plain);
        let requested = b"\x03a:b";
        check_backend(Clientbound::CookieRequest, requested, &filter.outbox).unwrap();
        filter.record = Some(PlayerRecord::default());
        let all = [u64::MAX; 4];
        let wanted = Wanted::default().with(State::Play, Direction::Serverbound, all);
        let decider = Arc::<Asked>::default();
        let queries = PacketQueries::new(wanted, decider, Arc::default());
        filter.queries = Some(Arc::new(queries));
        let length = u8::try_from(packet.len()).unwrap();
        let read = [&[length], packet, &[2, 0x70]].concat();
        let (mut output, mut spare) = (Vec::new(), SpareBuffers::default());
        let walked = filter.walk(&read, &mut output, &mut Zlib::default(), &mut spare);
        assert!(walked == Walked::Nothing && filter.awaits_decision());
        filter
    };
    let cookie = [&[id(Serverbound::CookieResponse)][..], b"\x03a:b\0"].concat();
    let acknowledged = vec![id(Serverbound::ConfigurationAcknowledged)];
    for (packet, state, next) in [
        (cookie, State::Play, 0x70),
        (acknowledged, State::Configuration, 0),
    ] {
        let input = asked(&packet).into_client_input(None).unwrap();
        assert_eq!(input.carried, [2, 0x70]);
        assert_eq!(input.state, state);
        let mut filter = asked(&packet);
        filter.carried.truncate(1 + packet.len());
        filter.cancel_queries();
        let (mut output, mut spare) = (Vec::new(), SpareBuffers::default());
        filter.walk(&[1, next], &mut output, &mut Zlib::default(), &mut spare);
        assert_eq!(filter.fault(), None, "{packet:02x?}");
    }
}

/// However much the packets of one read decompress to, the output of a walk is
/// bounded; the rest follows, and the bytes are the same.
#[test]
fn a_walk_pauses() {
    const PACKET_BYTES: usize = 2_000_000;
    let packed = Format::Compressed { threshold: 256 };
    let mut zlib = Zlib::default();
    let mut stream = Vec::new();
    for id in 0..10 {
        let packet = [vec![0x70, id], vec![0; PACKET_BYTES - 2]].concat();
        zlib.write(&packet, packed, &mut stream).unwrap();
    }
    let tail = [3, 0, 0x70, 9];
    stream.extend(tail);
    assert!(stream.len() < 64 * 1024, "{}", stream.len());
    for first in [0, 1, 5000] {
        let mut filter = filter(Direction::Serverbound, packed, Format::Plain);
        let (begin, rest) = stream.split_at(first);
        filter.carry(begin);
        let (mut buffer, mut walks, mut written) = (rest.to_vec(), 0, 0);
        loop {
            let mut output = Vec::new();
            let walked = filter.walk(
                &buffer,
                &mut output,
                &mut zlib,
                &mut SpareBuffers::default(),
            );
            assert_eq!(walked, Walked::Output);
            assert!(output.len() < OUTPUT_BYTES_MAX + PACKET_BYTES + 8);
            walks += 1;
            written += output.len();
            buffer.clear();
            if !filter.has_paused() {
                assert!(output.ends_with(&tail[2..]));
                break;
            }
        }
        assert_eq!(walks, 11);
        // Three bytes of length in front of each.
        assert_eq!(written, 10 * (PACKET_BYTES + 3) + 3);
    }
}

/// The bytes that are carried into a filter may hold more than one frame.
#[test]
fn carried_frames_pass_one_by_one() {
    let mut filter = filter(Direction::Clientbound, Format::Plain, Format::Plain);
    filter.carry(&[2, 0x7C, 1, 2, 0x7C, 2, 3, 0x7C]);
    let mut output = Vec::new();
    let buffer = [3, 4, 1, 0x7C];
    let walked = filter.walk(
        &buffer,
        &mut output,
        &mut Zlib::default(),
        &mut SpareBuffers::default(),
    );
    assert_eq!(walked, Walked::Output);
    assert_eq!(output, [2, 0x7C, 1, 2, 0x7C, 2, 3, 0x7C, 3, 4, 1, 0x7C]);
    assert!(filter.carried.is_empty());
}

/// A client that sends a packet of another state in a configuration, or too many
/// packets, is disconnected.
#[test]
fn clients_are_held_to_their_state_and_rate() {
    let version = Version::of(PROTOCOL).unwrap();
    let acknowledged = version
        .id(State::Play, Serverbound::ConfigurationAcknowledged)
        .unwrap();
    let new = || filter(Direction::Serverbound, Format::Plain, Format::Plain);
    // In one read, and in reads of one frame, which may pass without a walk.
    for read_bytes in [100, 2] {
        let stream = [1, acknowledged, 1, 0x00, 1, 0x70];
        let (written, fault) = walked(new(), None, &stream, &[read_bytes]);
        assert_eq!(written, [1, acknowledged, 1, 0x00]);
        let unexpected = FramedError::Unexpected {
            id: 0x70,
            state: State::Configuration,
        };
        assert_eq!(fault, Some(unexpected));
    }
    let flood = [1, 0x70].repeat(10_000);
    for read_bytes in [4096, 20] {
        let (written, fault) = walked(new(), None, &flood, &[read_bytes]);
        assert!(matches!(fault, Some(FramedError::Exceeded(_))), "{fault:?}");
        // A client may send the packets of seven seconds at once; the bucket refills a little
        // during the test.
        assert!(
            (14_000..17_000).contains(&written.len()),
            "{}",
            written.len()
        );
    }
}

/// The packets of one read form one group, which ends at a packet that the proxy reads or
/// that no plugin wants. Each packet is counted once, even if it is in several groups.
#[test]
fn packets_are_asked_about_in_groups() {
    let mut filter = filter(Direction::Serverbound, Format::Plain, Format::Plain);
    let (queries, asked) = queries();
    filter.queries = Some(Arc::clone(&queries));
    let (mut zlib, mut spare) = (Zlib::default(), SpareBuffers::default());
    let mut walk = |filter: &mut FrameFilter, bytes: &[u8]| {
        let mut output = Vec::new();
        filter.walk(bytes, &mut output, &mut zlib, &mut spare);
        output
    };
    let numbers = || {
        let group = asked.take().unwrap();
        group
            .packets
            .iter()
            .map(|packet| packet[1])
            .collect::<Vec<_>>()
    };
    // No plugin wants 0x71.
    let stream = [2, 0x70, 1, 2, 0x70, 2, 2, 0x70, 3, 2, 0x71, 4, 2, 0x70, 5];
    assert!(walk(&mut filter, &stream).is_empty());
    assert_eq!(numbers(), [1, 2, 3]);
    // Only the first is decided.
    queries.answer(Direction::Serverbound, vec![Decision::Pass]);
    assert!(filter.take_decision());
    assert_eq!(walk(&mut filter, &[]), [2, 0x70, 1]);
    assert_eq!(numbers(), [2, 3]);
    assert_eq!(filter.counted, 1);
    let decisions = vec![Decision::Drop(None), Decision::Change(vec![0x70, 9])];
    queries.answer(Direction::Serverbound, decisions);
    assert!(filter.take_decision());
    assert_eq!(walk(&mut filter, &[]), [2, 0x70, 9, 2, 0x71, 4]);
    assert_eq!(numbers(), [5]);
    assert_eq!(filter.counted, 0);
}

/// What an idle player of the intercepted modes holds for each direction.
#[test]
fn an_idle_direction_is_small() {
    /// Measured: 232 bytes on 64 bits, with some room for other compilers.
    const FILTER_BYTES_MAX: usize = 264;
    let bytes = size_of::<FrameFilter>();
    assert!(bytes <= FILTER_BYTES_MAX, "{bytes} bytes");
}
