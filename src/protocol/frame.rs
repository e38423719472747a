//! Frames without compression: a length, a packet id, a body.
//!
//! Everything that the forwarding modes read has this form: compression begins
//! later in the login. See [`codec`](super::codec) for frames with compression.

use thiserror::Error;

use super::read::ReadError;
use super::varint;

/// The most bytes of a frame's length (the game since 1.7.2 reads no more).
pub const FRAME_LENGTH_BYTES_MAX: usize = 3;
/// The largest length that [`FRAME_LENGTH_BYTES_MAX`] bytes can announce.
pub const FRAME_BYTES_MAX: usize = (1 << (7 * FRAME_LENGTH_BYTES_MAX)) - 1;

/// A frame that has arrived completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The packet id.
    pub id: i32,
    /// The fields of the packet.
    pub body: &'a [u8],
    /// The size of the frame in the stream, its length prefix included.
    pub wire_bytes: usize,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length goes on after three bytes.
    #[error("a frame length has more than {FRAME_LENGTH_BYTES_MAX} bytes")]
    LongLength,
    /// The length is zero: there is no room for a packet id.
    #[error("a frame is empty")]
    Empty,
    /// The frame announces more bytes than the limit.
    #[error("a frame announces {frame_bytes} bytes, and {frame_bytes_max} are the limit")]
    TooBig {
        /// The announced length.
        frame_bytes: usize,
        /// The limit.
        frame_bytes_max: usize,
    },
    /// The packet id is overlong or cut off by the end of the frame.
    #[error("a packet id is malformed")]
    BadId,
    /// A field of the packet is malformed.
    #[error("a packet is malformed: {0}")]
    Body(#[from] ReadError),
}

/// The length prefix of a frame, read before the rest has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the length prefix itself.
    pub(crate) length_bytes: usize,
    /// Bytes of id and body, as announced; at least one.
    pub(crate) frame_bytes: usize,
}

impl Head {
    /// The size of the frame in the stream, in bytes.
    pub(crate) const fn wire_bytes(self) -> usize {
        self.length_bytes + self.frame_bytes
    }
}

/// Reads and checks the length prefix that `buf` begins with, as soon as it has arrived.
pub(crate) fn head(buf: &[u8], frame_bytes_max: usize) -> Result<Option<Head>, FrameError> {
    let prefix = buf.get(..FRAME_LENGTH_BYTES_MAX).unwrap_or(buf);
    // Three bytes are never an overlong VarInt, only an unfinished one.
    let Ok(Some((announced, length_bytes))) = varint::decode(prefix) else {
        return match prefix.len() {
            FRAME_LENGTH_BYTES_MAX => Err(FrameError::LongLength),
            _ => Ok(None),
        };
    };
    let frame_bytes = usize::try_from(announced).map_err(|_| FrameError::LongLength)?;
    if frame_bytes == 0 {
        return Err(FrameError::Empty);
    }
    if frame_bytes > frame_bytes_max {
        return Err(FrameError::TooBig {
            frame_bytes,
            frame_bytes_max,
        });
    }
    Ok(Some(Head {
        length_bytes,
        frame_bytes,
    }))
}

/// Reads the packet id of a frame that may still be incomplete: the id, and how
/// many bytes it takes.
pub(crate) fn id(buf: &[u8], head: Head) -> Result<Option<(i32, usize)>, FrameError> {
    let frame = buf.get(head.length_bytes..).unwrap_or_default();
    let frame = frame.get(..head.frame_bytes).unwrap_or(frame);
    match varint::decode(frame) {
        Ok(Some(id)) => Ok(Some(id)),
        Ok(None) if frame.len() < head.frame_bytes => Ok(None),
        Ok(None) | Err(_) => Err(FrameError::BadId),
    }
}

/// Reads the frame that `buf` begins with, or `None` when more bytes are needed.
///
/// `frame_bytes_max` bounds what the length may announce: id and body together.
///
/// # Errors
///
/// When the length has more than three bytes, is zero or over the limit, or when
/// the packet id is malformed. Each is reported as soon as the bytes that show it
/// have arrived.
pub fn split(buf: &[u8], frame_bytes_max: usize) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(head) = head(buf, frame_bytes_max)? else {
        return Ok(None);
    };
    let Some((id, id_bytes)) = id(buf, head)? else {
        return Ok(None);
    };
    Ok(buf
        .get(head.length_bytes + id_bytes..head.wire_bytes())
        .map(|body| Frame {
            id,
            body,
            wire_bytes: head.wire_bytes(),
        }))
}

/// Writes a whole frame. Id and body together must not exceed [`FRAME_BYTES_MAX`].
#[must_use]
pub fn write(id: i32, body: &[u8]) -> Vec<u8> {
    let mut id_bytes = Vec::with_capacity(varint::VARINT_BYTES_MAX);
    varint::encode(id, &mut id_bytes);
    let frame_bytes = id_bytes.len() + body.len();
    debug_assert!(
        frame_bytes <= FRAME_BYTES_MAX,
        "a frame of {frame_bytes} bytes"
    );
    let mut out = Vec::with_capacity(FRAME_LENGTH_BYTES_MAX + frame_bytes);
    varint::encode_len(frame_bytes, &mut out);
    out.extend_from_slice(&id_bytes);
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame is complete with its last byte, and bytes after it are not touched.
    #[test]
    fn whole_frames_only() {
        let bytes = [3, 0x05, 7, 8, 99];
        for cut in 0..4 {
            assert_eq!(split(&bytes[..cut], 10), Ok(None), "{cut} bytes");
        }
        let frame = Frame {
            id: 5,
            body: &[7, 8],
            wire_bytes: 4,
        };
        assert_eq!(split(&bytes[..4], 10), Ok(Some(frame)));
        assert_eq!(split(&bytes, 10), Ok(Some(frame)));
        assert_eq!(
            split(&[1, 0], 1),
            Ok(Some(Frame {
                id: 0,
                body: &[],
                wire_bytes: 2
            }))
        );
    }

    /// Bad lengths are refused before any body arrives.
    #[test]
    fn bad_lengths_are_refused_at_once() {
        let too_big = |frame_bytes| {
            Err(FrameError::TooBig {
                frame_bytes,
                frame_bytes_max: 128,
            })
        };
        assert_eq!(split(&[0], 128), Err(FrameError::Empty));
        assert_eq!(split(&[0x80, 0x80, 0x00], 128), Err(FrameError::Empty));
        assert_eq!(split(&[0x80, 1], 128), Ok(None));
        assert_eq!(split(&[0x81, 1], 128), too_big(129));
        assert_eq!(split(&[0xFF, 0xFF, 0x7F], 128), too_big(FRAME_BYTES_MAX));
        assert_eq!(split(&[0xFF, 0xFF], 128), Ok(None));
        assert_eq!(split(&[0xFF, 0xFF, 0x80], 128), Err(FrameError::LongLength));
        assert_eq!(
            split(&[0x81, 0x80, 0x80, 0], 128),
            Err(FrameError::LongLength)
        );
    }

    /// A packet id must end inside its frame, in at most five bytes.
    #[test]
    fn bad_ids_are_refused() {
        assert_eq!(split(&[1, 0x80], 9), Err(FrameError::BadId));
        assert_eq!(split(&[1, 0x80, 1], 9), Err(FrameError::BadId));
        assert_eq!(split(&[2, 0x80], 9), Ok(None));
        assert_eq!(
            split(&[8, 0x80, 0x80, 0x80, 0x80, 0x80], 9),
            Err(FrameError::BadId)
        );
    }

    proptest! {
        /// What is written is read back; every shorter prefix asks for more.
        #[test]
        fn round_trip(id: i32, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = write(id, &body);
            let frame = split(&bytes, 400).unwrap().unwrap();
            prop_assert_eq!((frame.id, frame.body, frame.wire_bytes), (id, &body[..], bytes.len()));
            for cut in 0..bytes.len() {
                prop_assert_eq!(split(&bytes[..cut], 400), Ok(None));
            }
        }

        /// Any bytes give a frame inside them, a request for more, or an error.
        #[test]
        fn any_bytes(bytes: Vec<u8>, max in 0_usize..300) {
            if let Ok(Some(frame)) = split(&bytes, max) {
                prop_assert!(frame.wire_bytes <= bytes.len());
                prop_assert!(frame.body.len() < max);
            }
        }
    }
}
