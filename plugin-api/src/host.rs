//! The functions of the proxy that a plugin may call.
#![allow(unsafe_code, reason = "services are C tables of the host")]

use std::ffi::c_void;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use infrarust_plugin_abi::{OwnedFuture, RawFuture, Str, metric, service, status};

use crate::future;
use crate::guard::Collected;
use crate::link::{Link, lacks};
use crate::{Cap, Declares, Error, Result};

/// The proxy, for a plugin of the type `P`. Clones are cheap.
///
/// All methods may be called on any thread, and none calls a hook, so a plugin may hold
/// its own locks meanwhile. Through `P` the compiler knows what the plugin has declared.
pub struct Host<P> {
    pub(crate) link: Arc<Link>,
    plugin: PhantomData<fn() -> P>,
}

impl<P> Clone for Host<P> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.link))
    }
}

impl<P> fmt::Debug for Host<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host(..)")
    }
}

impl<P> Host<P> {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            plugin: PhantomData,
        }
    }

    /// The folder of the plugin, for its own files. It is created if it does not exist,
    /// which may wait for the disk: call it in [`Plugin::new`](crate::Plugin::new) and not
    /// in a hook.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub fn data_folder(&self) -> Result<PathBuf> {
        let folder = self.link.data.folder.ok_or_else(|| lacks("data folder"))?;
        let mut collected = Collected::default();
        let sink = collected.sink();
        // SAFETY: the context belongs to the host, the sink is valid during the call.
        let status = unsafe { folder(self.link.host.ctx, &raw const sink) };
        collected
            .result(status)
            .map(|answer| PathBuf::from(answer.text.into_owned()))
    }

    /// The number of players on a server; `None` if there is no such server.
    #[must_use]
    pub fn players_on(&self, server: &str) -> Option<u64> {
        // An empty name would mean all of them.
        if server.is_empty() {
            None
        } else {
            self.count(server)
        }
    }

    /// The number of players on all servers.
    #[must_use]
    pub fn players(&self) -> u64 {
        self.count("").unwrap_or(0)
    }

    fn count(&self, server: &str) -> Option<u64> {
        let count = self.link.players.count?;
        // SAFETY: the context belongs to the host, the text is valid during the call.
        let count = unsafe { count(self.link.host.ctx, Str::new(server)) };
        u64::try_from(count).ok()
    }

    /// A future that is ready after `duration`. It needs no runtime.
    #[must_use = "futures do nothing unless polled"]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let mut raw = RawFuture::NONE;
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let future = self.link.time.sleep.and_then(|sleep| {
            // SAFETY: the context belongs to the host, which fills `raw` on `OK`.
            let status = unsafe { sleep(self.link.host.ctx, millis, &raw mut raw) };
            // SAFETY: the host gives up its ownership of the future.
            (status == status::OK)
                .then(|| unsafe { OwnedFuture::new(raw) })
                .flatten()
        });
        Sleep(future)
    }

    /// Waits for `future`, but not longer than `duration`.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] when the time is over; `future` is dropped.
    pub async fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut sleep = self.sleep(duration);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Runs a future as a task on the workers of the proxy, until it is done, it is
    /// aborted, or the plugin ends. It must not block.
    ///
    /// # Errors
    ///
    /// When the plugin has too many tasks (1024).
    pub fn spawn<F>(&self, future: F) -> Result<Task>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let spawn = self.link.task.spawn.ok_or_else(|| lacks("tasks"))?;
        let raw = future::task(Arc::clone(&self.link), Box::pin(future));
        let mut id = 0;
        // SAFETY: the context belongs to the host, which takes the future on `OK`.
        let status = unsafe { spawn(self.link.host.ctx, RawFuture { ..raw }, &raw mut id) };
        if status != status::OK {
            // SAFETY: the host did not take it.
            drop(unsafe { OwnedFuture::new(raw) });
            return Err(Error::msg("the plugin has too many tasks"));
        }
        Ok(Task {
            link: Arc::clone(&self.link),
            id,
        })
    }

    /// Calls `tick` again and again in a task, each time one `period` after the previous
    /// call is done, and the first time after one `period`. See [`Host::spawn`].
    ///
    /// # Errors
    ///
    /// As [`Host::spawn`].
    pub fn every<T, F>(&self, period: Duration, mut tick: T) -> Result<Task>
    where
        P: 'static,
        T: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let host = self.clone();
        self.spawn(async move {
            loop {
                host.sleep(period).await;
                tick().await;
            }
        })
    }

    /// A metric that only grows, shown by `infrarust plugin list`. The same name gives the
    /// same counter.
    ///
    /// # Errors
    ///
    /// When the name is not made of `a-z`, `0-9` and `_`, is longer than 64
    /// bytes, belongs to a gauge, or the plugin has too many metrics (64).
    pub fn counter(&self, name: &str) -> Result<Counter> {
        self.metric(name, metric::COUNTER).map(Counter)
    }

    /// A metric that goes up and down, shown by `infrarust plugin list`. The same name
    /// gives the same gauge.
    ///
    /// # Errors
    ///
    /// As [`Host::counter`].
    pub fn gauge(&self, name: &str) -> Result<Gauge> {
        self.metric(name, metric::GAUGE).map(Gauge)
    }

    fn metric(&self, name: &str, kind: u32) -> Result<Metric> {
        let register = self.link.metrics.register.ok_or_else(|| lacks("metrics"))?;
        let mut id = 0;
        // SAFETY: the context belongs to the host, the text is valid during the call.
        match unsafe { register(self.link.host.ctx, Str::new(name), kind, &raw mut id) } {
            status::OK => Ok(Metric {
                link: Arc::clone(&self.link),
                id,
            }),
            status::DENIED => Err(Error::msg("the plugin has too many metrics")),
            _ => Err(Error::msg(format!(
                "the metric `{name}` has a bad name or another kind"
            ))),
        }
    }

    /// The service of a capability; `None` if this proxy does not have the service.
    ///
    /// Does not compile unless the capability is listed in `needs` or `wants`.
    #[must_use]
    pub fn grant<C: Cap>(&self) -> Option<Grant<C>>
    where
        P: Declares<C>,
    {
        let query = self.link.host.query?;
        let service = service::OF_CAPABILITY + u32::from(C::ID as u8);
        // SAFETY: the context belongs to the table.
        let table = unsafe { query(self.link.host.ctx, service, 1) };
        (!table.is_null()).then(|| Grant {
            link: Arc::clone(&self.link),
            table: Table(table),
            capability: PhantomData,
        })
    }
}

/// The service of the capability `C`, which the plugin has declared. Clones are cheap;
/// all methods may be called on any thread.
pub struct Grant<C> {
    pub(crate) link: Arc<Link>,
    pub(crate) table: Table,
    capability: PhantomData<C>,
}

/// The table of a service, which lives as long as the process.
#[derive(Clone, Copy)]
pub(crate) struct Table(*const c_void);

// SAFETY: tables may be used from any thread, as the rules of the border say.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// The table as a `T`; `None` if the host is older and its table is shorter.
    ///
    /// # Safety
    ///
    /// It must be the table of the service that `T` is the type of.
    pub(crate) unsafe fn get<T>(self) -> Option<&'static T> {
        // SAFETY: every table begins with its size.
        let size = unsafe { *self.0.cast::<u32>() };
        // SAFETY: it is as large as this type, as the caller promises.
        (size as usize >= size_of::<T>()).then(|| unsafe { &*self.0.cast::<T>() })
    }

    /// A field of a table that may be shorter than this crate knows it, which later
    /// versions have appended to.
    ///
    /// # Safety
    ///
    /// It must be the table of a service that has an `F` at this offset.
    pub(crate) unsafe fn field<F: Copy>(self, offset: usize) -> Option<F> {
        // SAFETY: every table begins with its size.
        let size = unsafe { *self.0.cast::<u32>() };
        // SAFETY: the table reaches so far, and the caller promises the rest.
        (size as usize >= offset + size_of::<F>())
            .then(|| unsafe { self.0.byte_add(offset).cast::<F>().read() })
    }
}

impl<C> Clone for Grant<C> {
    fn clone(&self) -> Self {
        Self {
            link: Arc::clone(&self.link),
            ..*self
        }
    }
}

impl<C: Cap> fmt::Debug for Grant<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({})", C::ID)
    }
}

/// A future that is ready after a time; see [`Host::sleep`]. Dropping it cancels it.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Sleep(Option<OwnedFuture>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.0 else {
            return Poll::Ready(());
        };
        if future.poll(cx.waker(), None) == status::PENDING {
            return Poll::Pending;
        }
        self.0 = None;
        Poll::Ready(())
    }
}

/// The error of [`Host::timeout`]: the time was over first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took too long")
    }
}

impl std::error::Error for Elapsed {}

/// The handle of a task. Dropping the handle does not end the task.
pub struct Task {
    link: Arc<Link>,
    id: u64,
}

impl Task {
    /// Ends the task at its next `await`. Does nothing if it has ended already.
    pub fn abort(&self) {
        if let Some(abort) = self.link.task.abort {
            // SAFETY: the context belongs to the host.
            unsafe { abort(self.link.host.ctx, self.id) };
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({})", self.id)
    }
}

#[derive(Clone)]
struct Metric {
    link: Arc<Link>,
    id: u64,
}

impl Metric {
    fn record(&self, value: u64) {
        if let Some(record) = self.link.metrics.record {
            // SAFETY: the context belongs to the host.
            unsafe { record(self.link.host.ctx, self.id, value) };
        }
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metric({})", self.id)
    }
}

/// A metric that only grows; see [`Host::counter`].
#[derive(Debug, Clone)]
pub struct Counter(Metric);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.record(amount);
    }
}

/// A metric that goes up and down; see [`Host::gauge`].
#[derive(Debug, Clone)]
pub struct Gauge(Metric);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.record(value.cast_unsigned());
    }
}
