//! Futures of a host that plugins wait for.

use core::ffi::c_void;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::{HostServices, Refusal, guarded};
use crate::{FutureTable, RawFuture, RawWaker, Sink, answer, import_waker, status, table};

/// The end of a future: its answer in bytes, if it has one.
pub type Answered = Result<Option<Vec<u8>>, Refusal>;

/// A future of a host that a plugin waits for.
pub struct HostFuture(Pin<Box<dyn Future<Output = Answered> + Send>>);

impl HostFuture {
    /// Makes a future of the host one that can be given to a plugin.
    pub fn new(future: impl Future<Output = Answered> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }

    /// Gives the future to a plugin, and returns the status of the call.
    ///
    /// # Safety
    ///
    /// `place` must be valid for a write.
    pub(super) unsafe fn give<S: HostServices>(
        self,
        services: &'static S,
        place: *mut RawFuture,
    ) -> i32 {
        let waiting = Box::new(Waiting {
            future: self,
            services,
        });
        // SAFETY: the caller promises it.
        unsafe {
            place.write(RawFuture {
                data: Box::into_raw(waiting).cast(),
                table: Waiting::<S>::TABLE,
            });
        }
        status::OK
    }
}

/// What the table below works with.
struct Waiting<S: 'static> {
    future: HostFuture,
    services: &'static S,
}

impl<S: HostServices> Waiting<S> {
    const TABLE: &'static FutureTable = &table!(FutureTable {
        poll: poll::<S>,
        drop: drop_waiting::<S>
    });
}

unsafe extern "C" fn poll<S: HostServices>(
    data: *mut c_void,
    waker: *const RawWaker,
    sink: *const Sink,
) -> i32 {
    guarded(status::ERR, || {
        // SAFETY: made by `HostFuture::give`, and one call at a time.
        let waiting = unsafe { &mut *data.cast::<Waiting<S>>() };
        // SAFETY: the plugin lends its waker for the call.
        let waker = unsafe { waker.as_ref() }.filter(|waker| !waker.table.is_null());
        let Some(waker) = waker else {
            return status::ERR;
        };
        // SAFETY: dropped before this call returns; its clones may be kept.
        let lent = unsafe { import_waker(waker) };
        let waker = waiting.services.waker(&lent);
        let polled = waiting
            .future
            .0
            .as_mut()
            .poll(&mut Context::from_waker(&waker));
        match polled {
            Poll::Pending => status::PENDING,
            Poll::Ready(Ok(None)) => status::OK,
            // SAFETY: the plugin's sink is valid during the call.
            Poll::Ready(Ok(Some(bytes))) => unsafe {
                Sink::give_bytes(sink, answer::REPLACE, &bytes)
            },
            // SAFETY: as above.
            Poll::Ready(Err(refusal)) => unsafe { refusal.answer(sink) },
        }
    })
}

unsafe extern "C" fn drop_waiting<S: HostServices>(data: *mut c_void) {
    // SAFETY: made by `HostFuture::give`, and dropped once.
    let waiting = unsafe { Box::from_raw(data.cast::<Waiting<S>>()) };
    guarded((), || drop(waiting));
}
