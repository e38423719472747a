//! Assigns streams to lanes: places in the vectors of the CPU in which several
//! streams are encrypted in parallel.

use super::{Block, Cipher, Job, Keys, ROUND_KEYS};

/// The state of all lanes: `V` vectors of the CPU with `W` lanes each. A lane is a block.
#[repr(C, align(64))]
pub(super) struct Lanes<const V: usize, const W: usize> {
    /// By round, so that one round's keys of a vector are together.
    pub(super) keys: [[[Block; W]; V]; ROUND_KEYS],
    /// The shift register of each stream.
    pub(super) registers: [[Block; W]; V],
    /// The next plain text of each stream.
    pub(super) plain: [[Block; W]; V],
}

/// A stream in a lane.
struct Occupant<'a> {
    cipher: &'a mut Cipher,
    /// What is not yet encrypted.
    rest: &'a mut [u8],
}

/// Encrypts all jobs. `step` encrypts a number of bytes in each lane, at most 16: it reads
/// `plain` and `keys` and updates `registers`, which then end in that cipher text. All lanes
/// advance by as many bytes as the shortest rest of a job has. A lane with nothing left takes
/// the next job. What an empty lane computes is not used.
pub(super) fn encrypt<'a, const V: usize, const W: usize>(
    jobs: &mut [Option<Job<'a>>],
    step: impl Fn(&mut Lanes<V, W>, usize),
) {
    let mut lanes = Lanes {
        keys: [[[[0; 16]; W]; V]; ROUND_KEYS],
        registers: [[[0; 16]; W]; V],
        plain: [[[0; 16]; W]; V],
    };
    let jobs = jobs.iter_mut().filter_map(Option::take);
    let mut jobs = jobs.filter(|job| !job.bytes.is_empty());
    let mut occupants: [[Option<Occupant<'a>>; W]; V] = [const { [const { None }; W] }; V];
    loop {
        let mut shortest = usize::MAX;
        let mut count = 0;
        for (lane, occupant) in occupants.as_flattened_mut().iter_mut().enumerate() {
            if occupant.is_none() {
                // A job that was encrypted on its own leaves the lane to the next one.
                *occupant = jobs.find_map(|job| lanes.assign(lane, job));
            }
            if let Some(occupant) = occupant {
                count += 1;
                shortest = shortest.min(occupant.rest.len());
            }
        }
        if count <= 1 {
            break;
        }
        while shortest > 0 {
            let steps = shortest.min(16);
            shortest -= steps;
            lanes.run(occupants.as_flattened_mut(), steps, &step);
        }
        for (lane, occupant) in occupants.as_flattened_mut().iter_mut().enumerate() {
            if occupant
                .as_ref()
                .is_some_and(|occupant| occupant.rest.is_empty())
            {
                lanes.release(lane, occupant.take());
            }
        }
    }
    // A single remaining stream is faster without lanes.
    for (lane, occupant) in occupants.as_flattened_mut().iter_mut().enumerate() {
        if let Some(occupant) = lanes.release(lane, occupant.take()) {
            occupant.cipher.encrypt(occupant.rest);
        }
    }
}

impl<const V: usize, const W: usize> Lanes<V, W> {
    /// Puts a job in a lane. `None` if its keys are not in the form for lanes; it
    /// has then been encrypted on its own.
    fn assign<'a>(&mut self, lane: usize, job: Job<'a>) -> Option<Occupant<'a>> {
        let Keys::Fast(keys) = &*job.cipher.keys else {
            job.cipher.encrypt(job.bytes);
            return None;
        };
        for (all, key) in self.keys.iter_mut().zip(keys.blocks()) {
            all.as_flattened_mut()[lane] = *key;
        }
        self.registers.as_flattened_mut()[lane] = job.cipher.register;
        Some(Occupant {
            cipher: job.cipher,
            rest: job.bytes,
        })
    }

    /// Encrypts the next bytes of each lane.
    fn run(
        &mut self,
        occupants: &mut [Option<Occupant<'_>>],
        steps: usize,
        step: &impl Fn(&mut Self, usize),
    ) {
        let plain = self.plain.as_flattened_mut();
        for (plain, occupant) in plain.iter_mut().zip(&*occupants) {
            let Some(Occupant { rest, .. }) = occupant else {
                continue;
            };
            match rest.first_chunk() {
                Some(next) => *plain = *next,
                None => plain[..rest.len()].copy_from_slice(rest),
            }
        }
        step(self, steps);
        let registers = self.registers.as_flattened();
        for (register, occupant) in registers.iter().zip(occupants) {
            let Some(Occupant { rest, .. }) = occupant else {
                continue;
            };
            // The last `steps` bytes of the register are the output of these steps.
            let (done, more) = std::mem::take(rest).split_at_mut(steps);
            match done.first_chunk_mut() {
                Some(done) => *done = *register,
                None => done.copy_from_slice(&register[16 - steps..]),
            }
            *rest = more;
        }
    }

    /// Writes the state of a lane back to its stream.
    fn release<'a>(&self, lane: usize, occupant: Option<Occupant<'a>>) -> Option<Occupant<'a>> {
        let occupant = occupant?;
        occupant.cipher.register = self.registers.as_flattened()[lane];
        Some(occupant)
    }
}
