//! Keeps panics on the side where they happen.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of a function that is called across the border. A panic must not unwind into
/// the other side; it becomes `otherwise`.
pub fn guarded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        // Leaked, since its drop could panic too.
        core::mem::forget(payload);
        otherwise
    })
}
