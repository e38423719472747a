//! Limits repeated lines, so that an attack cannot fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The default for the most lines of one kind in one window; further ones are counted.
const SAMPLE_LINES_MAX: u32 = 10;
/// The usual window of a [`Sampler`].
const SAMPLE_WINDOW: Duration = Duration::from_secs(10);

/// Lets through a few lines of one kind and counts the rest, so that an attack
/// cannot fill the disk or hide other lines.
#[derive(Debug)]
pub struct Sampler {
    lines_max: u32,
    window: Duration,
    state: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Write it.
    Write {
        /// How many lines of its kind were left out since the last one that was written.
        suppressed: u64,
    },
    /// Leave it out.
    Skip,
}

impl Sampler {
    /// A sampler of ten lines in ten seconds.
    #[must_use]
    pub const fn new() -> Self {
        Self::with(SAMPLE_LINES_MAX, SAMPLE_WINDOW)
    }

    /// A sampler of at most `lines_max` lines in one `window`.
    #[must_use]
    pub const fn with(lines_max: u32, window: Duration) -> Self {
        Self {
            lines_max,
            window,
            state: Mutex::new(Window {
                began: None,
                lines: 0,
                suppressed: 0,
            }),
        }
    }

    /// Says what to do with a line at `now`.
    pub fn sample(&self, now: Instant) -> Sample {
        let mut window = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if window
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= self.window)
        {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines >= self.lines_max {
            window.suppressed += 1;
            return Sample::Skip;
        }
        window.lines += 1;
        Sample::Write {
            suppressed: std::mem::take(&mut window.suppressed),
        }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A burst is cut off, and the first line after it has the number of missing lines.
    #[test]
    fn a_flood_becomes_a_few_lines_and_a_number() {
        let sampler = Sampler::new();
        let now = Instant::now();
        let written = (0..1000)
            .filter(|_| matches!(sampler.sample(now), Sample::Write { .. }))
            .count();
        assert_eq!(written, 10);
        assert_eq!(
            sampler.sample(now + SAMPLE_WINDOW),
            Sample::Write { suppressed: 990 }
        );
        assert_eq!(
            sampler.sample(now + SAMPLE_WINDOW),
            Sample::Write { suppressed: 0 }
        );
    }
}
