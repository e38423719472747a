//! Frames that wait until the player is in the game.

use super::failure::Failure;
use super::wire::Frame;
use crate::forward::record::HELD_BYTES_MAX;

/// Frames that wait: for the end of the configuration phase, or before 1.20.2 for the
/// join game.
#[derive(Debug, Default)]
pub(super) struct HeldFrames {
    frames: Vec<Frame>,
    /// The bytes of their packets, and of what keeps them: a frame may be very short.
    bytes: usize,
}

impl HeldFrames {
    /// Holds a frame.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<(), Failure> {
        let frame_bytes = frame.packet_bytes().saturating_add(size_of::<Frame>());
        self.bytes = self.bytes.saturating_add(frame_bytes);
        if self.bytes > HELD_BYTES_MAX {
            let what = format!("more than {HELD_BYTES_MAX} bytes before the player is in the game");
            return Err(Failure::BackendFault(what));
        }
        self.frames.push(frame.in_own_memory());
        Ok(())
    }

    /// Takes the frames.
    pub(super) fn take(&mut self) -> Vec<Frame> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::wire::Wire;
    use super::*;

    /// What is held is bounded in memory, also if the frames are short.
    #[tokio::test]
    async fn short_frames_are_bounded() {
        let (mut wire, mut peer) = Wire::connected().await;
        peer.write_all(&[1, 7]).await.unwrap();
        let short = wire.frame().await.unwrap();
        let mut held = HeldFrames::default();
        while held.push(&short).is_ok() {}
        let frames = held.take();
        assert!(!frames.is_empty() && size_of_val(&*frames) <= HELD_BYTES_MAX);
    }
}
