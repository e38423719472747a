//! Futures of a plugin in the form of C tables, which the host holds and polls.
#![allow(unsafe_code, reason = "futures cross as C tables")]

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use infrarust_plugin_abi::{
    FutureTable, RawFuture, RawWaker, Sink, import_waker, size_of_table, status,
};

use crate::guard::{drop_guarded, entered, give, guard};
use crate::link::Link;
use crate::verdict::IntoAnswer;
use crate::{Error, Result};

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that the host holds.
pub(crate) struct Waiting<V> {
    /// `None` when it is done.
    pub(crate) future: Option<Boxed<Result<V>>>,
    pub(crate) link: Arc<Link>,
}

impl<V: IntoAnswer + 'static> Waiting<V> {
    const TABLE: &'static FutureTable = &FutureTable {
        size: size_of_table::<FutureTable>(),
        reserved: 0,
        poll: Some(poll::<V>),
        drop: Some(drop_future::<V>),
    };

    pub(crate) fn into_raw(self) -> RawFuture {
        RawFuture {
            data: Box::into_raw(Box::new(self)).cast(),
            table: Self::TABLE,
        }
    }
}

/// Polls once. `Ok(None)` means pending.
pub(crate) fn poll_once<V: IntoAnswer>(
    future: Pin<&mut (dyn Future<Output = Result<V>> + Send)>,
    link: &Link,
    waker: *const RawWaker,
    sink: *const Sink,
) -> Result<Option<i32>> {
    // SAFETY: the host lends its waker for the call.
    let Some(raw) = (unsafe { waker.as_ref() }) else {
        return Err(Error::msg("the host gave no waker"));
    };
    // SAFETY: dropped before this call returns.
    let waker = unsafe { import_waker(raw) };
    let mut cx = Context::from_waker(&waker);
    match entered(link, || future.poll(&mut cx)) {
        Poll::Pending => Ok(None),
        Poll::Ready(output) => Ok(Some(give(sink, &output?.into_answer()))),
    }
}

unsafe extern "C" fn poll<V: IntoAnswer + 'static>(
    data: *mut c_void,
    waker: *const RawWaker,
    sink: *const Sink,
) -> i32 {
    guard(sink, || {
        // SAFETY: made by `Waiting::into_raw`, and one call at a time.
        let waiting = unsafe { &mut *data.cast::<Waiting<V>>() };
        let Some(future) = &mut waiting.future else {
            return Err(Error::msg("the host polled a future that was done"));
        };
        let Some(status) = poll_once(future.as_mut(), &waiting.link, waker, sink)? else {
            return Ok(status::PENDING);
        };
        let done = waiting.future.take();
        entered(&waiting.link, || drop(done));
        Ok(status)
    })
}

unsafe extern "C" fn drop_future<V: IntoAnswer + 'static>(data: *mut c_void) {
    // SAFETY: made by `Waiting::into_raw`, and dropped once.
    let waiting = unsafe { Box::from_raw(data.cast::<Waiting<V>>()) };
    let Waiting { future, link } = *waiting;
    drop_guarded(&link, future);
}

/// Makes a future for the host from a task of the plugin.
pub(crate) fn task(link: Arc<Link>, task: Boxed<()>) -> RawFuture {
    let future: Boxed<Result<()>> = Box::pin(async move {
        task.await;
        Ok(())
    });
    let future = Some(future);
    Waiting { future, link }.into_raw()
}
