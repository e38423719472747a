//! Calls of hooks, and tasks of plugins.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use infrarust_plugin_abi::{
    AsyncHook, Capability, OwnedFuture, RawFuture, SyncHook, export_waker, status,
};

use super::border::{Answer, Answers, Failure};
use super::image::Instance;
use crate::plugin::watch::PluginId;

/// Calls a hook that answers at once.
#[inline]
pub(in crate::plugin) fn call<I>(
    instance: &Instance,
    hook: &SyncHook<I>,
    input: &I,
    text_bytes_max: usize,
) -> Result<Option<Answer>, Box<Failure>> {
    let Some(call) = hook.call else {
        return Err(Failure::unsupported());
    };
    let mut answers = Answers::new(text_bytes_max);
    // SAFETY: the instance lives, the rest is valid during the call.
    let status = answers.during(|sink| unsafe { call(instance.raw, input, sink) });
    answers.outcome(status)
}

/// A hook that may wait. Dropping it cancels the call.
pub(in crate::plugin) struct HookCall<'a, I> {
    instance: &'a Instance,
    hook: &'a AsyncHook<I>,
    input: &'a I,
    text_bytes_max: usize,
    plugin_id: PluginId,
    capability: Capability,
    state: State,
}

enum State {
    New,
    Waiting(OwnedFuture),
    Done,
}

impl<'a, I> HookCall<'a, I> {
    pub(in crate::plugin) const fn new(
        instance: &'a Instance,
        hook: &'a AsyncHook<I>,
        input: &'a I,
        text_bytes_max: usize,
        plugin_id: PluginId,
        capability: Capability,
    ) -> Self {
        Self {
            instance,
            hook,
            input,
            text_bytes_max,
            plugin_id,
            capability,
            state: State::New,
        }
    }
}

/// A cancelled call drops its future, which runs code of the plugin.
impl<I> Drop for HookCall<'_, I> {
    fn drop(&mut self) {
        if let State::Waiting(future) = std::mem::replace(&mut self.state, State::Done) {
            let _mark = self.plugin_id.hook(self.capability);
            drop(future);
        }
    }
}

impl<I> Future for HookCall<'_, I> {
    type Output = Result<Option<Answer>, Box<Failure>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        let _mark = call.plugin_id.hook(call.capability);
        let mut answers = Answers::new(call.text_bytes_max);
        let status = match &mut call.state {
            State::New => {
                let Some(start) = call.hook.start else {
                    return Poll::Ready(Err(Failure::unsupported()));
                };
                let mut raw = RawFuture::NONE;
                let waker = export_waker(cx.waker());
                let (instance, input) = (call.instance.raw, std::ptr::from_ref(call.input));
                // SAFETY: instance and input outlive this call and its future,
                // the rest is valid during the call.
                let status = answers.during(|sink| unsafe {
                    start(instance, input, &raw const waker, sink, &raw mut raw)
                });
                if status == status::PENDING {
                    // SAFETY: the plugin gives the future away.
                    match unsafe { OwnedFuture::new(raw) } {
                        Some(future) => call.state = State::Waiting(future),
                        None => return Poll::Ready(Err(Failure::unsupported())),
                    }
                }
                status
            }
            State::Waiting(future) => {
                let waker = cx.waker();
                answers.during(|sink| {
                    // SAFETY: made by `during` for this call.
                    future.poll(waker, Some(unsafe { &*sink }))
                })
            }
            State::Done => return Poll::Ready(Err(Failure::unsupported())),
        };
        if status == status::PENDING {
            return Poll::Pending;
        }
        // Drops the future here, while the watchdog still watches the call.
        call.state = State::Done;
        Poll::Ready(answers.outcome(status))
    }
}

/// A task of a plugin.
pub(super) struct TaskCall {
    /// `None` once it is done.
    pub(super) future: Option<OwnedFuture>,
    pub(super) plugin_id: PluginId,
}

/// As for a hook: dropping the future runs code of the plugin.
impl Drop for TaskCall {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let _mark = self.plugin_id.task();
            drop(future);
        }
    }
}

impl Future for TaskCall {
    type Output = Result<(), Box<Failure>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        let _mark = call.plugin_id.task();
        let mut answers = Answers::new(0);
        let waker = cx.waker();
        let Some(future) = &mut call.future else {
            return Poll::Ready(Err(Failure::unsupported()));
        };
        // SAFETY: made by `during` for this call.
        let status = answers.during(|sink| future.poll(waker, Some(unsafe { &*sink })));
        if status == status::PENDING {
            return Poll::Pending;
        }
        // Drops the future here, while the watchdog still watches the call.
        call.future = None;
        Poll::Ready(answers.outcome(status).map(|_| ()))
    }
}
