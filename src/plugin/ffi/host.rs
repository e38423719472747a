//! Connects the services of the proxy to the tables that plugins call.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use infrarust_plugin_abi::serve::{
    self, Answered, HostFuture, HostServices, MetricKind, NoMetric, PlayerText, ProfileReceiver,
    Receiver, Refusal,
};
use infrarust_plugin_abi::{
    Capability, FieldData, HostTable, LogTable, OwnedFuture, PacketField, PacketKind,
};

use tokio::runtime::Handle;

use super::call::TaskCall;
use super::log::LOG;
use super::packet::values_of;
use crate::plugin::players::{CookieReceiver, NotServed, NotSwitched};
use crate::plugin::send::NotSent;
use crate::plugin::services::{Services, Supply};
use crate::plugin::watch::PluginId;
use crate::protocol::packet::Direction;

/// The table through which a plugin reaches these services. It lives as long as they do.
pub(in crate::plugin) fn table(services: &'static Services) -> &'static HostTable {
    Box::leak(Box::new(serve::host_table(services)))
}

impl From<NotServed> for Refusal {
    fn from(why: NotServed) -> Self {
        match why {
            NotServed::Gone => Self::Gone,
            NotServed::NotGranted => Self::NotGranted,
        }
    }
}

impl From<NotSent> for Refusal {
    fn from(why: NotSent) -> Self {
        match why {
            NotSent::NotServed(why) => why.into(),
            NotSent::Full(_) => Self::Full,
            NotSent::Refused(reason) => Self::Because(reason),
        }
    }
}

impl From<NotSwitched> for Refusal {
    fn from(why: NotSwitched) -> Self {
        match why {
            NotSwitched::Gone => Self::Gone,
            NotSwitched::Stays(reason) => Self::Because(reason),
        }
    }
}

impl HostServices for Services {
    const LOG: Option<&'static LogTable> = Some(&LOG);

    fn service_bits(&self) -> u64 {
        self.declared
    }

    fn waker(&self, waker: &Waker) -> Waker {
        Waker::from(Arc::new(PluginWaker {
            waker: Some(waker.clone()),
            plugin_id: self.plugin_id,
        }))
    }

    fn sleep(&self, time: Duration) -> HostFuture {
        // The plugin may be on a thread of its own.
        let _entered = self.runtime.enter();
        let sleep = tokio::time::sleep(time);
        HostFuture::new(async move {
            sleep.await;
            Ok(None)
        })
    }

    fn may_spawn(&self) -> bool {
        self.has_room()
    }

    fn spawn(&'static self, task: OwnedFuture) -> u64 {
        self.run_task(TaskCall {
            future: Some(task),
            plugin_id: self.plugin_id,
        })
    }

    fn abort(&self, task: u64) {
        self.abort_task(task);
    }

    fn folder(&self) -> Result<&Path, String> {
        Ok(&self.folder)
    }

    fn players(&self, server: Option<&str>) -> Option<u64> {
        self.players.count(server)
    }

    fn register(&self, name: &str, kind: MetricKind) -> Result<u64, NoMetric> {
        let registered = self.metrics.register(&self.history.metrics, name, kind);
        if registered == Err(NoMetric::TooMany) {
            self.has_run_out_of(Supply::Metrics);
        }
        registered
    }

    fn record(&self, metric: u64, value: u64) {
        self.metrics.record(metric, value);
    }

    fn profile(&self, player: u64, to: &ProfileReceiver<'_>) -> Result<(), Refusal> {
        let player = self.player(player, Capability::IdentityVerified)?;
        let profile = &player.profile;
        let properties = profile.properties.iter().map(|property| {
            let signature = property.signature.as_deref();
            (property.name.as_str(), property.value.as_str(), signature)
        });
        to.give(&profile.name, profile.uuid, properties);
        Ok(())
    }

    fn show(&self, player: u64, text: &PlayerText<'_>) -> Result<(), Refusal> {
        Ok(self.send_text(player, text)?)
    }

    fn transfer(&self, player: u64, host: &str, port: u16) -> Result<(), Refusal> {
        Ok(self.send_transfer(player, host, port)?)
    }

    fn store_cookie(&self, player: u64, key: &str, data: &[u8]) -> Result<(), Refusal> {
        Ok(self.send_cookie(player, key, data)?)
    }

    fn request_cookie(&self, player: u64, key: &str) -> Result<HostFuture, Refusal> {
        let receiver = self.ask_cookie(player, key)?;
        Ok(HostFuture::new(answer_of(receiver, &self.runtime)))
    }

    fn switch(&self, player: u64, server: &str) -> Result<HostFuture, Refusal> {
        let switching = self.ask_switch(player, server)?;
        Ok(HostFuture::new(async move {
            switching.await?;
            Ok(None)
        }))
    }

    fn inject(&self, player: u64, to: Receiver, id: i32, fields: &[u8]) -> Result<(), Refusal> {
        let direction = match to {
            Receiver::Client => Direction::Clientbound,
            Receiver::Backend => Direction::Serverbound,
        };
        Ok(self.send_packet(player, direction, id, fields)?)
    }

    fn inject_kind(
        &self,
        player: u64,
        kind: PacketKind,
        values: &[(PacketField, FieldData<'_>)],
    ) -> Result<(), Refusal> {
        let values = values_of(values).map_err(Refusal::Because)?;
        Ok(self.send_kind(player, kind, &values)?)
    }
}

/// The cookie that a client answers with, taken by a task of the runtime. The answer comes on
/// a thread that relays for many players, which must not run the waker of a plugin.
fn answer_of(
    receiver: CookieReceiver,
    runtime: &Handle,
) -> impl Future<Output = Answered> + Send + use<> {
    let taken = runtime.spawn(receiver);
    async move {
        let answer = taken.await.map_err(|_| Refusal::Gone)?;
        answer.map_err(|_| Refusal::Gone)
    }
}

/// A waker of a plugin. Waking and freeing it run code of the plugin, on the worker that
/// handles the timers.
struct PluginWaker {
    /// `None` only while it is dropped.
    waker: Option<Waker>,
    plugin_id: PluginId,
}

impl Wake for PluginWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _mark = self.plugin_id.task();
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl Drop for PluginWaker {
    fn drop(&mut self) {
        let _mark = self.plugin_id.task();
        self.waker = None;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Poll};
    use std::thread;

    use infrarust_test_support::PATIENCE;
    use tokio::runtime::Builder;
    use tokio::sync::oneshot;

    use super::*;

    /// Reports the name of the thread that wakes it.
    struct Reports(mpsc::Sender<Option<String>>);

    impl Wake for Reports {
        fn wake(self: Arc<Self>) {
            let name = thread::current().name().map(str::to_owned);
            let _ = self.0.send(name);
        }
    }

    /// A cookie that comes on a thread that relays wakes the plugin on a worker.
    #[test]
    fn a_cookie_does_not_wake_a_plugin_on_a_relay_thread() {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("worker").build();
        let runtime = runtime.unwrap();
        let (client, receiver) = oneshot::channel();
        let mut answer = pin!(answer_of(receiver, runtime.handle()));
        let (names, name) = mpsc::channel();
        let waker = Waker::from(Arc::new(Reports(names)));
        let mut context = Context::from_waker(&waker);
        assert!(answer.as_mut().poll(&mut context).is_pending());
        let relay = move || client.send(Some(vec![7])).unwrap();
        let relay = thread::Builder::new().name("relay".to_owned()).spawn(relay);
        relay.unwrap().join().unwrap();
        let name = name.recv_timeout(PATIENCE).unwrap();
        assert_eq!(name.as_deref(), Some("worker"));
        let Poll::Ready(Ok(cookie)) = answer.as_mut().poll(&mut context) else {
            panic!("the answer has come");
        };
        assert_eq!(cookie, Some(vec![7]));
    }
}
