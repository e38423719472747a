//! `infrarust check --deep`: each plugin is created with its settings and ended
//! again, in a process of its own, so that a crash harms nothing.

use std::io;
use std::time::Duration;

use crate::config::Loaded;
use crate::plugin::Spec;
use crate::plugin::probe::{Request, probe};

/// How long each step of a plugin may take: more than the 30 s that the host
/// gives to its start, which then has the better words.
const PATIENCE: Duration = Duration::from_secs(40);

/// Tries the plugins of a sound configuration, and reports those that do not
/// start. They see their own data folders, since what is in there may decide.
///
/// # Errors
///
/// When the program's own path is not known.
pub(super) fn check(loaded: &mut Loaded) -> io::Result<()> {
    let Some(config) = &loaded.config else {
        return Ok(());
    };
    let program = std::env::current_exe()?;
    let mut problems = Vec::new();
    for plugin in &config.plugins {
        let spec = Spec::from(&**plugin);
        let request = Request {
            id: spec.id,
            file: spec.file,
            document: spec.document.0.to_string(),
            config_path: spec.config_path,
            fire: false,
            data_dir: Some(config.proxy.plugins_dir.clone()),
            log: Some("off".to_owned()),
        };
        if let Err(error) = probe(&program, &request, PATIENCE) {
            problems.push(error.diagnostic(&plugin.id, &plugin.file, loaded));
        }
    }
    loaded.report(problems);
    Ok(())
}
