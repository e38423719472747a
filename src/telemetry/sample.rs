//! How much of the log an attack can fill.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one kind that are written in one window, where nothing else is said;
/// what follows is counted.
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
    /// Write it, and say that so many like it were left out before.
    Write {
        /// How many lines were left out since the last one that was written.
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

    /// A sampler of so many lines in one window.
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

    /// What to do with a line that is due at `now`.
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

    /// A burst is cut, and the first line after it says how much is missing.
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
