//! `session-log`: writes a line for each session into a file.
//!
//! ```toml
//! [plugins.session-log.config]
//! file = "sessions.csv"
//! ```
//!
//! Shows `session.observe`, which must not wait, and a thread that may block. The hook
//! sends lines to the thread over a bounded queue. If the disk is too slow, lines are
//! lost and counted, but players do not wait. The file is in the plugin's data folder.
//! A line has time (seconds since 1970), server, player, reason, duration in
//! milliseconds, bytes to the backend and bytes to the client.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use infrarust_plugin_api::Counter;
use infrarust_plugin_api::prelude::*;

/// The most lines that wait for the disk.
const WAITING_LINES_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(crate = "infrarust_plugin_api::serde", deny_unknown_fields)]
struct Config {
    file: Spanned<PathBuf>,
}

struct SessionLog {
    /// `None` only in `drop`.
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
    lost: Counter,
}

impl Plugin for SessionLog {
    type Config = Config;

    fn new(config: Config, host: &Host<Self>) -> Result<Self> {
        let path = host.data_folder()?.join(config.file.get_ref());
        let open = File::options().append(true).create(true).open(&path);
        let mut file = open.map_err(|error| {
            Error::at(config.file.span(), format!("`{}`: {error}", path.display()))
        })?;
        let (lines, waiting) = mpsc::sync_channel::<String>(WAITING_LINES_MAX);
        let writer = std::thread::Builder::new()
            .name("session-log".to_owned())
            .spawn(move || {
                for line in waiting {
                    if let Err(error) = file.write_all(line.as_bytes()) {
                        tracing::warn!(%error, "a line was lost");
                    }
                }
            })?;
        Ok(Self {
            lines: Some(lines),
            writer: Some(writer),
            lost: host.counter("lines_lost")?,
        })
    }
}

impl SessionObserve for SessionLog {
    fn session_observe(&self, session: &Session<'_>) -> Result<()> {
        let Event::Closed {
            reason,
            serverbound_bytes,
            clientbound_bytes,
            duration,
        } = session.event()
        else {
            return Ok(());
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let line = format!(
            "{now},{},{},{reason},{},{serverbound_bytes},{clientbound_bytes}\n",
            session.server(),
            plain(session.name()),
            duration.as_millis(),
        );
        let sent = self.lines.as_ref().map(|lines| lines.try_send(line));
        if !matches!(sent, Some(Ok(()))) {
            self.lost.add(1);
        }
        Ok(())
    }
}

/// A name as one CSV field. The client chooses the name, so it may have any characters.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars()
        .map(|c| if is_plain(c) { c } else { '?' })
        .collect()
}

impl Drop for SessionLog {
    fn drop(&mut self) {
        // Without a sender the thread writes the waiting lines, and ends.
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

export_plugin! { plugin: SessionLog, name: "session-log", hooks: [SessionObserve] }

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use infrarust_plugin_api::testing::{Client, Setup};

    /// Each session that ends writes one line, whatever characters the name has.
    #[test]
    fn sessions_leave_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let plugin = Setup::new()
            .data_folder(folder.path())
            .start::<SessionLog>("file = 'sessions.csv'")
            .unwrap();
        let client = Client::new().name("a,b\n\"c");
        let closed = Event::Closed {
            reason: "closed",
            serverbound_bytes: 3,
            clientbound_bytes: 4,
            duration: Duration::from_millis(1500),
        };
        plugin.session_observe(&client, 1, Event::Opened).unwrap();
        plugin.session_observe(&client, 1, closed).unwrap();
        drop(plugin);
        let text = std::fs::read_to_string(folder.path().join("sessions.csv")).unwrap();
        let (_time, rest) = text.split_once(',').unwrap();
        assert_eq!(rest, "lobby,a?b??c,closed,1500,3,4\n");
    }
}
