//! `opening-hours`: lets clients in at certain hours of the day.
//!
//! ```toml
//! [plugins.opening-hours.config]
//! open = "14:00"
//! close = "22:30"
//! message = "Come back at 14:00 UTC."
//! ```
//!
//! Shows `connection.decide`: a player who joins outside of these hours reads the
//! message. Status pings pass, so that the server stays visible. Times are in UTC, and
//! a span may go over midnight.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infrarust_plugin_api::prelude::*;

const MINUTES_PER_DAY: u64 = 24 * 60;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    open: Spanned<String>,
    close: Spanned<String>,
    message: String,
}

struct OpeningHours {
    /// Minutes of the day.
    open: u64,
    close: u64,
    message: String,
}

impl Plugin for OpeningHours {
    type Config = Config;

    fn new(config: Config, _host: &Host<Self>) -> Result<Self> {
        Ok(Self {
            open: minute(&config.open)?,
            close: minute(&config.close)?,
            message: config.message,
        })
    }
}

#[async_trait]
impl ConnectionDecide for OpeningHours {
    async fn connection_decide(&self, connection: Connection<'_>) -> Result<Verdict> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
        if connection.intent() == Intent::Status || self.is_open(since_epoch) {
            Ok(Verdict::allow())
        } else {
            Ok(Verdict::refuse(self.message.clone()))
        }
    }
}

impl OpeningHours {
    fn is_open(&self, since_epoch: Duration) -> bool {
        let now = since_epoch.as_secs() / 60 % MINUTES_PER_DAY;
        if self.open <= self.close {
            (self.open..self.close).contains(&now)
        } else {
            now >= self.open || now < self.close
        }
    }
}

fn minute(text: &Spanned<String>) -> Result<u64> {
    let two_digits = |text: &str| -> Option<u64> {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse().ok() } else { None }
    };
    let parse = || {
        let (hours, minutes) = text.get_ref().split_once(':')?;
        let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    };
    parse().ok_or_else(|| Error::at(text.span(), "a time of the day is written as in `14:30`"))
}

export_plugin! { plugin: OpeningHours, name: "opening-hours", hooks: [ConnectionDecide] }

#[cfg(test)]
mod tests {
    use super::*;
    use infrarust_plugin_api::testing::{Client, TestHost};

    /// Outside of the hours players are refused and pings pass.
    #[test]
    fn pings_always_pass() {
        // Never open.
        let config = "open = '12:00'\nclose = '12:00'\nmessage = 'later'";
        let plugin = TestHost::<OpeningHours>::start(config).unwrap();
        let player = Client::new();
        assert_eq!(
            plugin.connection_decide(&player).unwrap(),
            Verdict::refuse("later")
        );
        let ping = Client::new().intent(Intent::Status);
        assert_eq!(plugin.connection_decide(&ping).unwrap(), Verdict::allow());
    }

    /// A span over midnight is open before and after midnight.
    #[test]
    fn a_span_may_go_over_midnight() {
        let hours = OpeningHours {
            open: 22 * 60,
            close: 6 * 60,
            message: String::new(),
        };
        let at = |hour: u64| hours.is_open(Duration::from_secs(hour * 3600));
        assert!(at(23) && at(5) && at(24 + 23));
        assert!(!at(6) && !at(12));
    }

    /// An invalid time is an error that points at the value.
    #[test]
    fn errors_point_at_the_value() {
        for time in ["25:00", "12:60", "1:5", "+5:30", "12", "12:00:00", ""] {
            let config = format!("open = '{time}'\nclose = '12:00'\nmessage = ''");
            let failure = TestHost::<OpeningHours>::start(&config).unwrap_err();
            assert_eq!(&config[failure.span.unwrap()], format!("'{time}'"));
        }
    }
}
