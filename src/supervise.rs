//! Keeps work that lasts as long as the process running after a panic.
//!
//! Such work is a loop that serves all players. A panic would end it without a line in the
//! log, and nothing would take its place until the process is restarted. So each of these
//! loops runs under one of the functions here: a panic is logged as an error, and the work
//! goes on. The relay threads do the same for each of their sessions.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::error;

use crate::apart;

/// The pause before work that has failed starts again, so that a bug that occurs each time
/// does not take a core and fill the log.
pub(crate) const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Work has ended with a panic, which was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

/// Logs a panic. `what` is the work, and `consequence` what happens to it.
fn report(what: &str, consequence: &str, panic: &(dyn Any + Send)) -> Failed {
    let text = apart::words_of(panic);
    error!("{what} failed and {consequence}: {text}");
    Failed
}

/// The consequence for work that is repeated.
const STARTS_AGAIN: &str = "starts again";

/// Runs a future to its end, or until it panics; the caller then starts it again after
/// [`FAILURE_PAUSE`].
pub(crate) fn caught<F: Future>(
    what: &'static str,
    work: F,
) -> impl Future<Output = Result<F::Output, Failed>> {
    let work = AssertUnwindSafe(work).catch_unwind();
    work.map(move |ended| ended.map_err(|panic| report(what, STARTS_AGAIN, &*panic)))
}

/// Runs a future that ends with its task if it panics.
pub(crate) fn logged(
    what: &'static str,
    work: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    let work = AssertUnwindSafe(work).catch_unwind();
    work.map(move |ended| {
        if let Err(panic) = ended {
            report(what, "is ended", &*panic);
        }
    })
}

/// Runs a task, and another one in its place after each panic.
pub(crate) async fn repeated<F: Future>(what: &'static str, task: impl Fn() -> F) -> F::Output {
    loop {
        match caught(what, task()).await {
            Ok(output) => return output,
            Err(Failed) => tokio::time::sleep(FAILURE_PAUSE).await,
        }
    }
}

/// Runs a piece of the work of a thread, which then goes on.
pub(crate) fn caught_here<T>(what: &str, work: impl FnOnce() -> T) -> Result<T, Failed> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| report(what, STARTS_AGAIN, &*panic))
}

/// Runs the work of a thread, and again after each panic.
pub(crate) fn repeated_here<T>(what: &str, work: impl Fn() -> T) -> T {
    loop {
        match caught_here(what, &work) {
            Ok(output) => return output,
            Err(Failed) => thread::sleep(FAILURE_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Panics in the first two of its runs.
    fn run(runs: &Cell<u32>) -> u32 {
        runs.set(runs.get() + 1);
        assert!(runs.get() > 2, "a bug, made by a test");
        runs.get()
    }

    /// A panic does not end a task for ever.
    #[tokio::test(start_paused = true)]
    async fn a_task_goes_on_after_panics() {
        let runs = Cell::new(0);
        assert_eq!(repeated("a test", async || run(&runs)).await, 3);
        assert_eq!(runs.get(), 3);
    }

    /// A panic does not end the work of a thread for ever.
    #[test]
    fn a_thread_goes_on_after_panics() {
        let runs = Cell::new(0);
        assert_eq!(repeated_here("a test", || run(&runs)), 3);
    }
}
