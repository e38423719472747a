//! Streams that are encrypted side by side: which stream is in which lane.

use super::{Block, Cipher, Job, KEYS, Keys};

/// What the steps of all lanes work on: `R` registers of the CPU, of `W` lanes each.
#[repr(C, align(64))]
pub(super) struct Lanes<const R: usize, const W: usize> {
    /// By round, so that one round's keys of a register are together.
    pub(super) keys: [[[Block; W]; R]; KEYS],
    /// The last cipher text of each stream.
    pub(super) registers: [[Block; W]; R],
    /// The next plain text of each stream.
    pub(super) plain: [[Block; W]; R],
}

/// A stream that has a lane.
struct Seat<'a> {
    cipher: &'a mut Cipher,
    /// What is not yet encrypted.
    rest: &'a mut [u8],
}

/// Encrypts all jobs. `step` does so many steps of all lanes, 16 at most. A lane
/// that has nothing left takes the next job.
pub(super) fn encrypt<'a, const R: usize, const W: usize>(
    jobs: &mut [Option<Job<'a>>],
    step: impl Fn(&mut Lanes<R, W>, usize),
) {
    let mut lanes = Lanes {
        keys: [[[[0; 16]; W]; R]; KEYS],
        registers: [[[0; 16]; W]; R],
        plain: [[[0; 16]; W]; R],
    };
    let jobs = jobs.iter_mut().filter_map(Option::take);
    let mut jobs = jobs.filter(|job| !job.bytes.is_empty());
    let mut seats: [[Option<Seat<'a>>; W]; R] = [const { [const { None }; W] }; R];
    loop {
        let mut shortest = usize::MAX;
        let mut count = 0;
        for (lane, seat) in seats.as_flattened_mut().iter_mut().enumerate() {
            if seat.is_none() {
                *seat = jobs.next().and_then(|job| lanes.sit(lane, job));
            }
            if let Some(seat) = seat {
                count += 1;
                shortest = shortest.min(seat.rest.len());
            }
        }
        if count <= 1 {
            break;
        }
        while shortest > 0 {
            let steps = shortest.min(16);
            shortest -= steps;
            lanes.run(seats.as_flattened_mut(), steps, &step);
        }
        for (lane, seat) in seats.as_flattened_mut().iter_mut().enumerate() {
            if seat.as_ref().is_some_and(|seat| seat.rest.is_empty()) {
                lanes.stand_up(lane, seat.take());
            }
        }
    }
    // One that is left has nobody to share with.
    for (lane, seat) in seats.as_flattened_mut().iter_mut().enumerate() {
        if let Some(seat) = lanes.stand_up(lane, seat.take()) {
            seat.cipher.encrypt(seat.rest);
        }
    }
}

impl<const R: usize, const W: usize> Lanes<R, W> {
    /// Gives a lane to a job; `None` where its keys are not for lanes, and it
    /// was done alone.
    fn sit<'a>(&mut self, lane: usize, job: Job<'a>) -> Option<Seat<'a>> {
        let Keys::Fast(keys) = &*job.cipher.keys else {
            job.cipher.encrypt(job.bytes);
            return None;
        };
        for (all, key) in self.keys.iter_mut().zip(keys.blocks()) {
            all.as_flattened_mut()[lane] = *key;
        }
        self.registers.as_flattened_mut()[lane] = job.cipher.register;
        Some(Seat {
            cipher: job.cipher,
            rest: job.bytes,
        })
    }

    fn run(
        &mut self,
        seats: &mut [Option<Seat<'_>>],
        steps: usize,
        step: &impl Fn(&mut Self, usize),
    ) {
        let plain = self.plain.as_flattened_mut();
        for (plain, seat) in plain.iter_mut().zip(&*seats) {
            let Some(Seat { rest, .. }) = seat else {
                continue;
            };
            match rest.first_chunk() {
                Some(next) => *plain = *next,
                None => plain[..rest.len()].copy_from_slice(rest),
            }
        }
        step(self, steps);
        let registers = self.registers.as_flattened();
        for (register, seat) in registers.iter().zip(seats) {
            let Some(Seat { rest, .. }) = seat else {
                continue;
            };
            // The newest bytes of the register are those of these steps.
            let (done, more) = std::mem::take(rest).split_at_mut(steps);
            match done.first_chunk_mut() {
                Some(done) => *done = *register,
                None => done.copy_from_slice(&register[16 - steps..]),
            }
            *rest = more;
        }
    }

    /// Takes the lane from a stream.
    fn stand_up<'a>(&self, lane: usize, seat: Option<Seat<'a>>) -> Option<Seat<'a>> {
        let seat = seat?;
        seat.cipher.register = self.registers.as_flattened()[lane];
        Some(seat)
    }
}
