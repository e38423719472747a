//! The walk over the bytes of one read: finds the frames, and collects what is written
//! to the receiver. What happens to a frame is decided in `packet`.

use std::ops::Range;

use super::packet::FrameAction;
use super::{FrameFilter, FramedError, OUTPUT_BYTES_MAX, has_id};
use crate::forward::Direction;
use crate::forward::bounds::Prepaid;
use crate::forward::spare::SpareBuffers;
use crate::protocol::codec::{self, CodecError, Format, Zlib};
use crate::protocol::frame::{self, FRAME_BYTES_MAX, FRAME_LENGTH_BYTES_MAX};
use crate::protocol::packet::State;

/// Where the bytes to write are after a walk over one read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// There are none: no frame is complete.
    Nothing,
    /// In this part of the read buffer.
    Slice(Range<usize>),
    /// In the output.
    Output,
}

/// The frames that are written unchanged and that the proxy need not read: most of those
/// in play.
#[derive(Debug, Clone, Copy)]
pub(in crate::forward) struct UnreadFrames {
    /// The ids of their packets, of one byte each.
    ids: [u64; 2],
    /// Whether they have the length of the packet before compression. It is zero in all of
    /// them: an id can be read only in a packet that is not compressed.
    is_compressed: bool,
    /// How many of them may pass, if they are a client's.
    prepaid: Option<Prepaid>,
}

/// Frames that were skipped.
#[derive(Debug, Clone, Copy, Default)]
struct Skipped {
    /// Where they end.
    end: usize,
    packets: usize,
    packet_bytes: usize,
}

impl UnreadFrames {
    /// Whether these bytes are nothing but such frames, all of them whole, and may pass.
    /// Then they count as passed.
    pub(in crate::forward) fn pass_all(&mut self, bytes: &[u8]) -> bool {
        let skipped = self.skip(bytes, 0);
        let may_pass =
            |prepaid: &mut Prepaid| prepaid.use_up(skipped.packets, skipped.packet_bytes);
        skipped.end == bytes.len() && self.prepaid.as_mut().is_none_or(may_pass)
    }

    /// Skips such frames from `at` on. Frames with a length of three bytes count as others.
    fn skip(&self, buffer: &[u8], at: usize) -> Skipped {
        let mut skipped = Skipped {
            end: at,
            ..Skipped::default()
        };
        loop {
            let at = skipped.end;
            let rest = buffer.get(at..).unwrap_or_default();
            let (frame_bytes, length_bytes) = match *rest {
                [length @ 1..0x80, ..] => (usize::from(length), 1),
                [low @ 0x80..=0xFF, high @ 1..0x80, ..] => {
                    (usize::from(low & 0x7F) | usize::from(high) << 7, 2)
                }
                _ => return skipped,
            };
            let end = length_bytes + frame_bytes;
            let id = match (self.is_compressed, rest.get(length_bytes..end)) {
                (false, Some([id, ..])) | (true, Some([0, id, ..])) => *id,
                _ => return skipped,
            };
            if !has_id(self.ids, id) {
                return skipped;
            }
            skipped.end += end;
            skipped.packets += 1;
            skipped.packet_bytes += frame_bytes - usize::from(self.is_compressed);
        }
    }
}

impl FrameFilter {
    /// Walks the bytes of one read, decrypted. `output` must be empty; it holds the bytes to write
    /// if they are not a part of `buffer`.
    ///
    /// If there is a fault, the frames before it are still passed on, and
    /// [`fault`](Self::fault) returns it. So the receiver's stream depends only on the
    /// sender's stream, not on how it was cut into reads.
    pub(in crate::forward) fn walk(
        &mut self,
        buffer: &[u8],
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
        spare: &mut SpareBuffers,
    ) -> Walked {
        if std::mem::take(&mut self.has_paused) || self.carries_frame() {
            let mut paused = std::mem::take(&mut self.carried);
            paused.extend_from_slice(buffer);
            let run = self.walk_all(&paused, output, zlib, spare);
            output.extend_from_slice(paused.get(run).unwrap_or_default());
            spare.put(paused);
            return match output.is_empty() {
                true => Walked::Nothing,
                false => Walked::Output,
            };
        }
        let run = self.walk_all(buffer, output, zlib, spare);
        let last_run = buffer.get(run.clone()).unwrap_or_default();
        match (output.is_empty(), last_run) {
            (true, []) => Walked::Nothing,
            (true, _) => Walked::Slice(run),
            (false, _) => {
                output.extend_from_slice(last_run);
                Walked::Output
            }
        }
    }

    /// Walks the carried bytes and the buffer. Returns the part of the buffer that is
    /// to be written after the output; stores a fault.
    fn walk_all(
        &mut self,
        buffer: &[u8],
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
        spare: &mut SpareBuffers,
    ) -> Range<usize> {
        let mut run = 0..0;
        let end = self
            .finish_carried(buffer, output, zlib, spare)
            .and_then(|at| match at {
                Some(at) => {
                    run = at..at;
                    self.walk_frames(buffer, &mut run, output, zlib, spare)
                }
                None => Ok(()),
            });
        if let Err(fault) = end {
            self.carried = Vec::new();
            self.rare().fault = Some(fault);
        }
        run
    }

    /// Whether a whole frame is carried, and maybe others behind it.
    fn carries_frame(&self) -> bool {
        let carried = codec::split(&self.carried, self.from, self.packet_bytes_max());
        carried.is_ok_and(|frame| frame.is_some())
    }

    /// Completes the carried frame with the beginning of the buffer. Returns how many
    /// bytes of the buffer that took; `None` if the walk ends here. Nothing may be carried
    /// behind the frame: each frame is taken from the front of what is carried, and the
    /// rest would be copied each time.
    fn finish_carried(
        &mut self,
        buffer: &[u8],
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
        spare: &mut SpareBuffers,
    ) -> Result<Option<usize>, FramedError> {
        let mut at = 0;
        while !self.carried.is_empty() {
            let missing = self.missing()?;
            if missing > 0 {
                let more = buffer.get(at..).unwrap_or_default();
                let more = more.get(..missing).unwrap_or(more);
                if more.is_empty() {
                    return Ok(None);
                }
                self.carried.extend_from_slice(more);
                at += more.len();
                continue;
            }
            let mut carried = std::mem::take(&mut self.carried);
            let Some(frame) = codec::split(&carried, self.from, self.packet_bytes_max())? else {
                // Not reached: nothing is missing, so the frame is complete.
                return Err(CodecError::BadDataLength.into());
            };
            let wire_bytes = frame.wire.len();
            debug_assert_eq!(carried.len(), wire_bytes, "one frame is carried");
            match self.handle_frame(&frame, zlib)? {
                FrameAction::Ask(state, first) => {
                    carried.extend_from_slice(buffer.get(at..).unwrap_or_default());
                    let rest = carried.get(wire_bytes..).unwrap_or_default();
                    self.ask(state, first, rest, zlib);
                    self.carried = carried;
                    return Ok(None);
                }
                FrameAction::Pass => {
                    if output.is_empty() {
                        // So a large frame is not copied once more.
                        std::mem::swap(output, &mut carried);
                    } else {
                        output.extend_from_slice(&carried);
                    }
                }
                action => self.write(&action, &frame, output, zlib)?,
            }
            spare.put(carried);
            if self.is_kicked() {
                return Ok(None);
            }
            if output.len() >= OUTPUT_BYTES_MAX {
                let rest = buffer.get(at..).unwrap_or_default();
                self.pause(rest);
                return Ok(None);
            }
        }
        Ok(Some(at))
    }

    /// Walks whole frames. `run` is the range of the last frames that pass unchanged
    /// and are not in the output yet. An incomplete frame is carried.
    fn walk_frames(
        &mut self,
        buffer: &[u8],
        run: &mut Range<usize>,
        output: &mut Vec<u8>,
        zlib: &mut Zlib,
        spare: &mut SpareBuffers,
    ) -> Result<(), FramedError> {
        loop {
            run.end = self.skip_unread(buffer, run.end);
            let rest = buffer.get(run.end..).unwrap_or_default();
            let Some(frame) = codec::split(rest, self.from, self.packet_bytes_max())? else {
                if !rest.is_empty() {
                    self.carried = spare.take();
                    self.carried.extend_from_slice(rest);
                }
                return Ok(());
            };
            let end = run.end + frame.wire.len();
            match self.handle_frame(&frame, zlib)? {
                FrameAction::Pass => run.end = end,
                FrameAction::Ask(state, first) => {
                    let others = rest.get(frame.wire.len()..).unwrap_or_default();
                    self.ask(state, first, others, zlib);
                    self.carried = spare.take();
                    self.carried.extend_from_slice(rest);
                    return Ok(());
                }
                action => {
                    output.extend_from_slice(buffer.get(run.clone()).unwrap_or_default());
                    *run = run.end..run.end;
                    self.write(&action, &frame, output, zlib)?;
                    *run = end..end;
                    if output.len() >= OUTPUT_BYTES_MAX {
                        self.pause(buffer.get(end..).unwrap_or_default());
                        return Ok(());
                    }
                }
            }
            if self.is_kicked() {
                return Ok(());
            }
        }
    }

    /// Skips whole frames for the client that are written unchanged and unread, from `at`
    /// on. Returns the position of the first other frame.
    fn skip_unread(&mut self, buffer: &[u8], at: usize) -> usize {
        match (self.direction, self.next_unread_frames()) {
            (Direction::Clientbound, Some(unread)) => unread.skip(buffer, at).end,
            _ => at,
        }
    }

    /// The frames that pass unchanged and unread, unless frames have decisions.
    fn next_unread_frames(&mut self) -> Option<UnreadFrames> {
        let is_compressed = match (self.from, self.to.format) {
            (Format::Plain, Format::Plain) => false,
            (Format::Compressed { .. }, Format::Compressed { .. }) => true,
            (Format::Plain, Format::Compressed { .. })
            | (Format::Compressed { .. }, Format::Plain) => return None,
        };
        (!self.has_decisions()).then(|| UnreadFrames {
            ids: self.unread_ids().bits,
            is_compressed,
            prepaid: None,
        })
    }

    /// The frames that pass unchanged and unread. If a read returns nothing else, the
    /// bytes can be written without a walk. `None` if a walk has to continue first with
    /// what is carried. To be given back to [`end_unread`](Self::end_unread) before anything
    /// else is done with the filter.
    pub(in crate::forward) fn unread_frames(&mut self) -> Option<UnreadFrames> {
        let has_more = !self.carried.is_empty() || self.has_paused || self.awaits_decision;
        let has_ended = self.fault().is_some() || self.is_kicked();
        // Outside of play a client may not send packets with just any id.
        let is_checked = self.bounds.is_some() && self.sent.state != State::Play;
        if has_more || has_ended || is_checked || self.is_entering {
            return None;
        }
        let mut unread = self.next_unread_frames()?;
        if let Some(bounds) = &mut self.bounds {
            unread.prepaid = Some(bounds.prepay()?);
        }
        Some(unread)
    }

    /// Takes that back, with what was counted ahead.
    pub(in crate::forward) fn end_unread(&mut self, unread: &UnreadFrames) {
        if let (Some(bounds), Some(prepaid)) = (&mut self.bounds, unread.prepaid) {
            bounds.refund(prepaid);
        }
    }

    /// Pauses a walk before these bytes.
    fn pause(&mut self, rest: &[u8]) {
        self.carried.extend_from_slice(rest);
        self.has_paused = !self.carried.is_empty();
    }

    /// How many bytes the carried frame lacks; one while its length is not known.
    fn missing(&self) -> Result<usize, FramedError> {
        let head = frame::head(&self.carried, FRAME_BYTES_MAX).map_err(CodecError::from)?;
        let Some(head) = head else {
            debug_assert!(self.carried.len() < FRAME_LENGTH_BYTES_MAX);
            return Ok(1);
        };
        // Refuses a length before compression that is over the limit now, before
        // waiting for the frame.
        codec::split(&self.carried, self.from, self.packet_bytes_max())?;
        Ok(head.wire_bytes().saturating_sub(self.carried.len()))
    }
}
