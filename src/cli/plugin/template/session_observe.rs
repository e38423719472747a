//! The plugin `template-name`: logs long sessions, and counts all of them.
#![forbid(unsafe_code)]

use std::time::Duration;

use infrarust_plugin_api::Counter;
use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. The proxy reports an error in it with
/// its place in `infrarust.toml`.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// Sessions of at least this many minutes are logged. At least 1.
    minutes: Spanned<u64>,
}

struct Observer {
    long: Duration,
    sessions: Counter,
}

impl Plugin for Observer {
    type Config = Config;

    /// Called when the proxy starts and for each reload. After an error the proxy does
    /// not start, and on a reload keeps the instance that it has.
    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let minutes = *config.minutes.get_ref();
        if minutes == 0 {
            return Err(Error::at(config.minutes.span(), "every session is longer"));
        }
        tracing::info!(minutes, "ready");
        Ok(Observer {
            long: Duration::from_secs(minutes.saturating_mul(60)),
            sessions: host.counter("sessions")?,
        })
    }
}

impl SessionObserve for Observer {
    // This hook is not async, and must not block.
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        match session.event() {
            Event::Opened => self.sessions.add(1),
            Event::Closed { duration, .. } if duration >= self.long => {
                let minutes = duration.as_secs() / 60;
                tracing::info!(name = session.name(), minutes, "a long session");
            }
            // Later versions of the proxy can add events.
            _ => {}
        }
        Ok(())
    }
}

export_plugin! {
    plugin: Observer,
    name: "template-name",
    hooks: [SessionObserve],
}

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// Sessions are counted when they open, and not again.
    #[test]
    fn sessions_are_counted() {
        let plugin = TestHost::<Observer>::start(include_str!("../config.toml")).unwrap();
        let steve = Client::new();
        let closed = Event::Closed {
            reason: "closed",
            serverbound_bytes: 1,
            clientbound_bytes: 2,
            duration: Duration::from_secs(7200),
        };
        for event in [Event::Opened, closed] {
            plugin.session_observe(&steve, 1, event).unwrap();
        }
        assert_eq!(plugin.counter("sessions"), Some(1));
    }

    /// An error in the settings points at the value.
    #[test]
    fn errors_point_at_the_value() {
        let config = "minutes = 0";
        let failure = TestHost::<Observer>::start(config).unwrap_err();
        assert_eq!(failure.text, "every session is longer");
        assert_eq!(&config[failure.span.unwrap()], "0");
    }
}
