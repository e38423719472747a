//! The plugin `template-name`: logs long sessions, and counts all of them.
#![forbid(unsafe_code)]

use std::time::Duration;

use infrarust_plugin_api::Counter;
use infrarust_plugin_api::prelude::*;

/// The table `[plugins.template-name.config]`. Its mistakes are shown in the
/// operator's own file.
#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    /// The length in minutes from which on a session is logged.
    minutes: Spanned<u64>,
}

struct Observer {
    long: Duration,
    sessions: Counter,
}

impl Plugin for Observer {
    type Config = Config;

    /// Called once, and again for each reload. An error keeps the proxy as it was.
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
    // This hook cannot wait: it must not block either.
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        match session.event() {
            Event::Opened => self.sessions.add(1),
            Event::Closed { duration, .. } if duration >= self.long => {
                let minutes = duration.as_secs() / 60;
                tracing::info!(name = session.name(), minutes, "a long session");
            }
            // Kinds of events can be added.
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

    /// A mistake in the settings has its place.
    #[test]
    fn mistakes_have_their_place() {
        let config = "minutes = 0";
        let failure = TestHost::<Observer>::start(config).unwrap_err();
        assert_eq!(failure.text, "every session is longer");
        assert_eq!(&config[failure.span.unwrap()], "0");
    }
}
