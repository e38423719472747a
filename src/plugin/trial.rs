//! Plugins are tried before they meet players: each is started with its
//! settings and ended again, in a process of its own, so that a crash harms
//! nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Spec;
use super::probe::{ProbeError, Request, own_program, probe};
use crate::config::Loaded;
use crate::diagnostic::Diagnostic;

/// How long each step of a plugin may take: more than the 30 s that the host
/// gives to its start, which then has the better words.
const PATIENCE: Duration = Duration::from_secs(40);

/// A plugin that has not passed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Its id.
    pub(crate) id: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// What has happened.
    pub(crate) error: Box<ProbeError>,
}

impl Failed {
    /// The error at the plugin's place in the global file.
    #[must_use]
    pub(crate) fn diagnostic(&self, loaded: &Loaded) -> Diagnostic {
        self.error.diagnostic(&self.id, &self.file, loaded)
    }
}

/// Tries these plugins, one after another, and returns those that do not start
/// or end. They see their own data folders in `data_dir`, since what is in there
/// may decide. Waits for them: not for a worker.
#[must_use]
pub(crate) fn try_out(specs: impl IntoIterator<Item = Spec>, data_dir: &Path) -> Vec<Failed> {
    let program = own_program();
    let tried = specs.into_iter().filter_map(|spec| {
        let request = Request {
            id: spec.id.clone(),
            file: spec.file.clone(),
            document: spec.document.0.to_string(),
            config_path: spec.config_path,
            fire: false,
            data_dir: Some(data_dir.to_owned()),
            log: Some("off".to_owned()),
        };
        let error = probe(&program, &request, PATIENCE).err()?;
        Some(Failed {
            id: spec.id,
            file: spec.file,
            error,
        })
    });
    tried.collect()
}
