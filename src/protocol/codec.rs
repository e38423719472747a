//! Frames with and without compression, and conversion between the two formats.
//!
//! Since 1.8 a server can switch compression on during login. From the next
//! frame on, in both directions, a frame then holds the length of the packet
//! before compression, or 0, followed by the packet: compressed with zlib if that
//! length is not 0, uncompressed otherwise.
//!
//! A frame in the format of its receiver passes unchanged. [`convert`] converts
//! the others, and decompresses a packet only if it must.

use libdeflater::{CompressionLvl, Compressor, Decompressor};
use thiserror::Error;

use super::frame::{self, FRAME_BYTES_MAX, FrameError};
use super::varint;

/// The most bytes of a packet from a backend before compression: what clients
/// accept (8 MiB, the game since 1.17.1).
pub const CLIENTBOUND_PACKET_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most bytes of a packet from a client before compression. The game accepts
/// as much as from a server, but no client sends more than 2 MiB, and an unknown
/// client must not make the proxy decompress more.
pub const SERVERBOUND_PACKET_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The compression level for packets that arrive without compression: the fastest level of
/// libdeflate, which compresses as well as level 3 of zlib.
const COMPRESSION_LEVEL: i32 = 1;

/// The largest packet whose buffer is kept for the next, in bytes: most chunks.
const SCRATCH_BYTES_MAX: usize = 128 * 1024;

/// How the frames of one connection are written, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A length and a packet.
    #[default]
    Plain,
    /// With compression of packets that are at least as long as the threshold.
    Compressed {
        /// The length in bytes, packet id included. Four bytes, since each idle session holds
        /// the formats of both sides.
        threshold: u32,
    },
}

impl Format {
    /// The format that a Set Compression packet announces: a negative
    /// threshold means none.
    #[must_use]
    pub fn announced(threshold: i32) -> Self {
        u32::try_from(threshold).map_or(Self::Plain, |threshold| Self::Compressed { threshold })
    }

    /// Checks that a packet is compressed only if it is long enough: its length
    /// before compression must not be below the threshold. Servers refuse such a
    /// packet.
    ///
    /// # Errors
    ///
    /// [`CodecError::BelowThreshold`].
    pub(crate) fn check_threshold(self, data_length: Option<usize>) -> Result<(), CodecError> {
        match (self, data_length) {
            (Self::Compressed { threshold }, Some(packet_bytes))
                if !is_reached(threshold, packet_bytes) =>
            {
                Err(CodecError::BelowThreshold {
                    packet_bytes,
                    threshold,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a packet of `packet_bytes` bytes before compression is not below the threshold.
fn is_reached(threshold: u32, packet_bytes: usize) -> bool {
    usize::try_from(threshold).is_ok_and(|threshold| packet_bytes >= threshold)
}

/// Why bytes are not frames of their format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The frame itself is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The length before compression is malformed or negative.
    #[error("the length before compression is malformed")]
    BadDataLength,
    /// The frame announces more bytes than a packet may have.
    #[error("a packet announces {packet_bytes} bytes, and {packet_bytes_max} are the limit")]
    TooBig {
        /// The announced length.
        packet_bytes: usize,
        /// The limit.
        packet_bytes_max: usize,
    },
    /// A packet is compressed although it is below the threshold.
    #[error("a packet of {packet_bytes} bytes is compressed, and only those of {threshold} may be")]
    BelowThreshold {
        /// Its length before compression.
        packet_bytes: usize,
        /// The least length that is compressed.
        threshold: u32,
    },
    /// The bytes are not a zlib stream, or do not give the announced length.
    #[error("compressed bytes do not give the announced length")]
    BadCompression,
    /// The packet cannot be framed in the receiver's format.
    #[error("a packet of {packet_bytes} bytes does not fit in a frame")]
    NoFrame {
        /// Its length.
        packet_bytes: usize,
    },
}

/// A frame that has arrived completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// All bytes of the frame, its length prefix included.
    pub wire: &'a [u8],
    /// The packet, compressed if [`data_length`](Self::data_length) is set.
    pub content: &'a [u8],
    /// The length before compression, of a compressed packet.
    pub data_length: Option<usize>,
}

/// Reads the frame that `buf` begins with, or `None` when more bytes are needed.
///
/// # Errors
///
/// When the frame is malformed or announces a packet of more than
/// `packet_bytes_max` bytes, as soon as the bytes that show it have arrived.
pub fn split(
    buf: &[u8],
    format: Format,
    packet_bytes_max: usize,
) -> Result<Option<RawFrame<'_>>, CodecError> {
    let Some(head) = frame::head(buf, FRAME_BYTES_MAX)? else {
        return Ok(None);
    };
    let there = buf.get(head.length_bytes..).unwrap_or_default();
    let there = there.get(..head.frame_bytes).unwrap_or(there);
    let (data_length, data_length_bytes) = match format {
        Format::Plain => (None, 0),
        Format::Compressed { .. } => match varint::decode(there) {
            Ok(Some((length, bytes))) => {
                let length = usize::try_from(length).map_err(|_| CodecError::BadDataLength)?;
                ((length > 0).then_some(length), bytes)
            }
            Ok(None) if there.len() < head.frame_bytes => return Ok(None),
            Ok(None) | Err(_) => return Err(CodecError::BadDataLength),
        },
    };
    let packet_bytes = data_length.unwrap_or(head.frame_bytes - data_length_bytes);
    if packet_bytes == 0 {
        return Err(FrameError::Empty.into());
    }
    if packet_bytes > packet_bytes_max {
        return Err(CodecError::TooBig {
            packet_bytes,
            packet_bytes_max,
        });
    }
    let Some(wire) = buf.get(..head.wire_bytes()) else {
        return Ok(None);
    };
    Ok(Some(RawFrame {
        wire,
        content: wire
            .get(head.length_bytes + data_length_bytes..)
            .unwrap_or_default(),
        data_length,
    }))
}

/// A compressor and a decompressor with their working memory: one for each thread.
pub struct Zlib {
    inflate: Decompressor,
    deflate: Compressor,
    /// The buffer into which one packet is inflated or deflated.
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Zlib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zlib").finish_non_exhaustive()
    }
}

impl Default for Zlib {
    fn default() -> Self {
        let level = CompressionLvl::new(COMPRESSION_LEVEL).unwrap_or_default();
        Self {
            inflate: Decompressor::new(),
            deflate: Compressor::new(level),
            scratch: Vec::new(),
        }
    }
}

impl Zlib {
    /// The packet of a frame: id and fields.
    ///
    /// # Errors
    ///
    /// [`CodecError::BadCompression`].
    pub fn packet<'a>(&'a mut self, frame: &RawFrame<'a>) -> Result<&'a [u8], CodecError> {
        let Some(length) = frame.data_length else {
            return Ok(frame.content);
        };
        // `split` has checked the length against its limit.
        let packet = room(&mut self.scratch, length);
        match self.inflate.zlib_decompress(frame.content, packet) {
            Ok(bytes) if bytes == length => Ok(packet),
            _ => Err(CodecError::BadCompression),
        }
    }

    /// Appends the frame of a packet, id and fields, in this format.
    ///
    /// # Errors
    ///
    /// [`CodecError::NoFrame`].
    pub fn write(
        &mut self,
        packet: &[u8],
        format: Format,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        match format {
            Format::Plain => append(None, packet, out),
            Format::Compressed { threshold } if is_reached(threshold, packet.len()) => {
                let bytes_max = self.deflate.zlib_compress_bound(packet.len());
                let compressed = room(&mut self.scratch, bytes_max);
                let deflated = self.deflate.zlib_compress(packet, compressed);
                let compressed = deflated.ok().and_then(|bytes| compressed.get(..bytes));
                match compressed {
                    Some(compressed) if compressed.len() < packet.len() => {
                        append(Some(packet.len()), compressed, out)
                    }
                    // It does not get shorter. A packet of any length may come without
                    // compression, and the longest fits in no other frame.
                    _ => append(Some(0), packet, out),
                }
            }
            Format::Compressed { .. } => append(Some(0), packet, out),
        }
    }
}

/// The first `bytes` bytes of the kept buffer; their content is unspecified.
fn room(scratch: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if scratch.len() < bytes || scratch.len() > SCRATCH_BYTES_MAX {
        *scratch = vec![0; bytes.next_power_of_two()];
    }
    scratch.get_mut(..bytes).unwrap_or_default()
}

/// Appends a frame: the length before compression, if the format has that field,
/// and the content.
fn append(data_length: Option<usize>, content: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let header_bytes = data_length.map_or(0, varint::len_bytes);
    let frame_bytes = header_bytes + content.len();
    if frame_bytes > FRAME_BYTES_MAX {
        return Err(CodecError::NoFrame {
            packet_bytes: content.len(),
        });
    }
    varint::encode_len(frame_bytes, out);
    if let Some(length) = data_length {
        varint::encode_len(length, out);
    }
    out.extend_from_slice(content);
    Ok(())
}

/// The side that reads a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver {
    /// The format of its connection.
    pub format: Format,
    /// Whether it refuses a compressed packet below its threshold. Servers of
    /// every version do, and so do clients before 1.18.
    pub strict: bool,
}

impl Receiver {
    /// Whether the frame, from a connection in `format`, passes unchanged.
    #[must_use]
    pub fn takes(&self, frame: &RawFrame<'_>, format: Format) -> bool {
        match (format, self.format) {
            (Format::Plain, Format::Plain) => true,
            (Format::Compressed { .. }, Format::Compressed { threshold }) => frame
                .data_length
                .is_none_or(|length| is_reached(threshold, length) || !self.strict),
            (Format::Plain, Format::Compressed { .. })
            | (Format::Compressed { .. }, Format::Plain) => false,
        }
    }
}

/// Appends a frame in the form that its receiver accepts.
///
/// # Errors
///
/// When the packet has to be decompressed and its bytes are bad, or when it does
/// not fit in a frame of the receiver's format.
pub fn convert(
    frame: &RawFrame<'_>,
    format: Format,
    receiver: &Receiver,
    zlib: &mut Zlib,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    if receiver.takes(frame, format) {
        out.extend_from_slice(frame.wire);
        return Ok(());
    }
    match (frame.data_length, receiver.format) {
        (Some(_), Format::Plain) => append(None, zlib.packet(frame)?, out),
        // It is below the receiver's threshold. A packet of any length may be
        // sent without compression.
        (Some(_), Format::Compressed { .. }) => append(Some(0), zlib.packet(frame)?, out),
        (None, Format::Plain) => append(None, frame.content, out),
        (None, Format::Compressed { .. }) => zlib.write(frame.content, receiver.format, out),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = SERVERBOUND_PACKET_BYTES_MAX;

    fn formats() -> [Format; 5] {
        let compressed = |threshold| Format::Compressed { threshold };
        [
            Format::Plain,
            compressed(0),
            compressed(64),
            compressed(256),
            compressed(1024),
        ]
    }

    fn framed(packet: &[u8], format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        Zlib::default().write(packet, format, &mut out).unwrap();
        out
    }

    /// A frame of the compressed format with any declared length and content.
    fn raw(data_length: i32, content: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        varint::encode(data_length, &mut body);
        body.extend_from_slice(content);
        let mut out = Vec::new();
        varint::encode_len(body.len(), &mut out);
        out.extend(body);
        out
    }

    fn deflated(packet: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new(CompressionLvl::default());
        let mut out = vec![0; compressor.zlib_compress_bound(packet.len())];
        let bytes = compressor.zlib_compress(packet, &mut out).unwrap();
        out.truncate(bytes);
        out
    }

    const ON: Format = Format::Compressed { threshold: 256 };

    /// A declared length is checked against the limit before the frame is complete.
    #[test]
    fn the_declared_length_is_checked_first() {
        let bomb = raw(i32::try_from(MAX).unwrap() + 1, &[1; 100]);
        let too_big = CodecError::TooBig {
            packet_bytes: MAX + 1,
            packet_bytes_max: MAX,
        };
        assert_eq!(split(&bomb[..5], ON, MAX), Err(too_big.clone()));
        assert_eq!(split(&bomb, ON, MAX), Err(too_big));
        assert_eq!(
            split(&raw(-1, &[1]), ON, MAX),
            Err(CodecError::BadDataLength)
        );
        assert_eq!(
            split(&[2, 0x80, 0x80], ON, MAX),
            Err(CodecError::BadDataLength)
        );
        let empty = Err(CodecError::Frame(FrameError::Empty));
        assert_eq!(split(&[1, 0], ON, MAX), empty);
        assert_eq!(split(&[0], Format::Plain, MAX), empty);
    }

    /// Compressed bytes must give exactly the declared length.
    #[test]
    fn a_wrong_declared_length_is_refused() {
        let packet = vec![7; 1000];
        let content = deflated(&packet);
        let mut zlib = Zlib::default();
        for (length, good) in [(1000, true), (999, false), (1001, false), (1, false)] {
            let wire = raw(length, &content);
            let frame = split(&wire, ON, MAX).unwrap().unwrap();
            assert_eq!(zlib.packet(&frame).is_ok(), good, "{length}");
        }
        let wire = raw(5, b"no zlib");
        let frame = split(&wire, ON, MAX).unwrap().unwrap();
        assert_eq!(zlib.packet(&frame), Err(CodecError::BadCompression));
    }

    /// A packet that compression does not make shorter is sent without compression, so that
    /// the longest packet of a backend without compression arrives.
    #[test]
    fn incompressible_packets_are_sent_uncompressed() {
        let noise = |bytes: usize| -> Vec<u8> {
            let mut state = 1_u64;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            };
            (0..bytes).map(|_| next()).collect()
        };
        let receiver = Receiver {
            format: ON,
            strict: true,
        };
        let mut zlib = Zlib::default();
        for bytes in [300, FRAME_BYTES_MAX - 4, FRAME_BYTES_MAX - 1] {
            let packet = noise(bytes);
            let plain = framed(&packet, Format::Plain);
            let frame = split(&plain, Format::Plain, CLIENTBOUND_PACKET_BYTES_MAX);
            let mut out = Vec::new();
            let frame = frame.unwrap().unwrap();
            convert(&frame, Format::Plain, &receiver, &mut zlib, &mut out).unwrap();
            let frame = split(&out, ON, CLIENTBOUND_PACKET_BYTES_MAX);
            let frame = frame.unwrap().unwrap();
            assert_eq!((frame.wire.len(), frame.data_length), (out.len(), None));
            assert!(frame.content == packet, "{bytes}");
        }
        // There is no room for the byte that says so.
        let packet = noise(FRAME_BYTES_MAX);
        let none = zlib.write(&packet, ON, &mut Vec::new());
        assert!(matches!(none, Err(CodecError::NoFrame { .. })), "{none:?}");
    }

    /// Frames that a receiver accepts unchanged, and one that it does not.
    #[test]
    fn frames_that_pass_unchanged() {
        let receiver = |threshold, strict| Receiver {
            format: Format::Compressed { threshold },
            strict,
        };
        let packet = vec![7; 300];
        let compressed = framed(&packet, ON);
        let compressed = split(&compressed, ON, MAX).unwrap().unwrap();
        assert!(receiver(256, true).takes(&compressed, ON));
        assert!(receiver(300, true).takes(&compressed, ON));
        assert!(!receiver(301, true).takes(&compressed, ON));
        assert!(receiver(301, false).takes(&compressed, ON));
        let plain = framed(&packet, Format::Compressed { threshold: 999 });
        let plain = split(&plain, ON, MAX).unwrap().unwrap();
        assert!(receiver(0, true).takes(&plain, ON));
    }

    /// A packet that decompresses to more than a frame holds cannot be sent to a
    /// side without compression.
    #[test]
    fn a_packet_that_fits_no_frame_is_refused() {
        let packet = vec![0; FRAME_BYTES_MAX + 1];
        let wire = framed(&packet, ON);
        let frame = split(&wire, ON, CLIENTBOUND_PACKET_BYTES_MAX)
            .unwrap()
            .unwrap();
        let plain = Receiver {
            format: Format::Plain,
            strict: true,
        };
        let mut out = Vec::new();
        let result = convert(&frame, ON, &plain, &mut Zlib::default(), &mut out);
        let packet_bytes = packet.len();
        assert_eq!(result, Err(CodecError::NoFrame { packet_bytes }));
        assert!(out.is_empty());
    }

    proptest! {
        /// Every packet survives the conversion between every pair of formats, and a
        /// strict receiver gets no compressed packet below its threshold.
        #[test]
        fn conversions_keep_the_packet(
            packet in proptest::collection::vec(0_u8..4, 1..2000),
            from in 0_usize..5,
            to in 0_usize..5,
            strict: bool,
        ) {
            let (from, to) = (formats()[from], formats()[to]);
            let receiver = Receiver { format: to, strict };
            let wire = framed(&packet, from);
            let frame = split(&wire, from, MAX).unwrap().unwrap();
            prop_assert_eq!(frame.wire.len(), wire.len());
            let (mut zlib, mut out) = (Zlib::default(), Vec::new());
            convert(&frame, from, &receiver, &mut zlib, &mut out).unwrap();
            let read = split(&out, to, MAX).unwrap().unwrap();
            prop_assert_eq!(read.wire.len(), out.len());
            prop_assert_eq!(zlib.packet(&read).unwrap(), &packet[..]);
            if let (Format::Compressed { threshold }, Some(length), true) = (to, read.data_length, strict) {
                prop_assert!(is_reached(threshold, length));
            }
        }

        /// Any bytes give a frame inside them, a request for more, or an error;
        /// a frame is complete with its last byte.
        #[test]
        fn any_bytes(bytes: Vec<u8>, format in 0_usize..5) {
            let format = formats()[format];
            if let Ok(Some(frame)) = split(&bytes, format, 1000) {
                let whole = frame.wire.len();
                prop_assert!(whole <= bytes.len());
                for cut in 0..whole {
                    prop_assert_eq!(split(&bytes[..cut], format, 1000), Ok(None));
                }
                let _ = Zlib::default().packet(&frame);
            }
        }
    }
}
