//! The lines that the child writes and the parent reads.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::findings::{Fired, Started, Step};
use crate::plugin::{Problem, ProblemText};

/// One line from the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// What comes next.
    Begin(Step),
    Log(String),
    Refused {
        code: String,
        text: String,
        help: String,
        place: Option<(usize, usize)>,
    },
    Started(Started),
    Fired(Fired),
    Trouble(String),
    Ended(Duration),
}

/// Writes events for the parent, on a descriptor of its own: what the plugin prints to
/// standard output goes to standard error.
#[derive(Clone)]
pub(super) struct EventWriter(Arc<Mutex<File>>);

impl EventWriter {
    pub(super) fn new() -> io::Result<Self> {
        // Closed on exec: a process that the plugin starts would keep the pipe open.
        let own = io::stdout().as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdout(io::stderr())?;
        Ok(Self(Arc::new(Mutex::new(File::from(own)))))
    }

    pub(super) fn event(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        line.push(b'\n');
        let mut pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The parent may be gone.
        let _ = pipe.write_all(&line);
    }

    pub(super) fn refused(&self, problem: &Problem) {
        let ProblemText {
            code,
            text,
            help,
            place,
        } = ProblemText::from(&problem.kind);
        self.event(&Event::Refused {
            code: code.name().to_owned(),
            text,
            help,
            place: place.map(|place| (place.start, place.end)),
        });
    }
}

/// Takes the log, one line in each write.
pub(super) struct Lines(pub(super) EventWriter);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes).trim().to_owned();
        self.0.event(&Event::Log(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
