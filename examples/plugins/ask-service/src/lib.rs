//! `ask-service`: asks a service over TCP whether a player may join. An example
//! of a hook that waits for I/O, with the plugin's own copy of tokio (feature `rt`).
//!
//! ```toml
//! [plugins.ask-service]
//! on_failure = "continue"        # let players in while the service is away
//! [plugins.ask-service.config]
//! address = "127.0.0.1:9000"
//! ```
//!
//! The plugin sends the claimed name and a line break. The service answers with one
//! line: `yes`, or the text for the refused player.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use infrarust_plugin_api::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The longest answer in bytes.
const ANSWER_BYTES_MAX: u64 = 1024;
/// How long the plugin waits for the service. It is shorter than the default deadline
/// of the hook, two seconds, so that the log has the plugin's own error.
const TIME_MAX: Duration = Duration::from_millis(1500);

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    address: SocketAddr,
}

struct AskService {
    host: Host<Self>,
    address: SocketAddr,
}

impl Plugin for AskService {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        Ok(Self {
            host: host.clone(),
            address: config.address,
        })
    }
}

#[async_trait]
impl LoginDecide for AskService {
    async fn login_decide(&self, login: Login<'_>) -> Result<Verdict> {
        let answer = self
            .host
            .timeout(TIME_MAX, self.ask(login.name()))
            .await??;
        tracing::debug!(player = login.name(), answer, "the service has answered");
        Ok(match answer.as_str() {
            "yes" => Verdict::allow(),
            text => Verdict::refuse(text.to_owned()),
        })
    }
}

impl AskService {
    async fn ask(&self, name: &str) -> Result<String> {
        // The client chooses the name, and it must not contain a line break.
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok("Your name has characters that no name has.".to_owned());
        }
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(format!("{name}\n").as_bytes()).await?;
        let mut answer = String::new();
        let mut lines = BufReader::new(stream.take(ANSWER_BYTES_MAX));
        lines.read_line(&mut answer).await?;
        match answer.trim_end() {
            "" => Err(Error::msg("the service has answered nothing")),
            answer => Ok(answer.to_owned()),
        }
    }
}

export_plugin! {
    plugin: AskService,
    name: "ask-service",
    hooks: [LoginDecide],
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;
    use infrarust_plugin_api::testing::{Client, Failure, TestHost};

    /// Runs one login with a service that sends `answer`.
    fn ask(answer: &'static str) -> Result<Verdict, Failure> {
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = format!("address = '{}'", service.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = service.accept().unwrap();
            let mut name = String::new();
            BufReader::new(&stream).read_line(&mut name).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            name
        });
        let plugin = TestHost::<AskService>::start(&config).unwrap();
        let verdict = plugin.login_decide(&Client::new().name("Eve"));
        assert_eq!(serving.join().unwrap(), "Eve\n");
        verdict
    }

    /// The first line of the answer decides. If it is not `yes`, the player reads it.
    #[test]
    fn the_service_decides() {
        assert_eq!(ask("yes\n").unwrap(), Verdict::allow());
        assert_eq!(ask("yes").unwrap(), Verdict::allow());
        assert_eq!(
            ask("Not before six.\n").unwrap(),
            Verdict::refuse("Not before six.")
        );
    }

    /// An empty answer and an unreachable service are errors, so `on_failure` decides.
    #[test]
    fn a_service_that_is_away_is_an_error() {
        let failure = ask("").unwrap_err();
        assert_eq!(failure.text, "the service has answered nothing");
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = format!("address = '{}'", gone.local_addr().unwrap());
        drop(gone);
        let plugin = TestHost::<AskService>::start(&config).unwrap();
        assert!(plugin.login_decide(&Client::new()).is_err());
    }

    /// A name with a line break is not sent to the service.
    #[test]
    fn names_are_one_line() {
        let plugin = TestHost::<AskService>::start("address = '127.0.0.1:1'").unwrap();
        let verdict = plugin.login_decide(&Client::new().name("a\nyes")).unwrap();
        assert_ne!(verdict, Verdict::allow());
    }
}
