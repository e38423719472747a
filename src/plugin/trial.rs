//! Tries plugins before they are loaded: each is started with its settings and
//! ended again in a separate process, so that a crash does no harm.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::probe::{ProbeError, ProbeErrorKind, Request, Scratch, own_program, probe};
use super::{PluginHost, Problem, Reloaded, Spec};
use crate::config::Loaded;
use crate::diagnostic::Diagnostic;

/// How long each step of a plugin may take: more than the 30 s that the host
/// gives to its start, which then reports the better error.
const PATIENCE: Duration = Duration::from_secs(40);
/// The most plugins that are tried at once. Most of the time one plugin waits for something,
/// and each process takes some 10 MiB.
const AT_ONCE_MAX: usize = 4;

/// A plugin that has failed its trial.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Its id.
    pub(crate) id: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// What went wrong.
    pub(crate) error: Box<ProbeError>,
}

impl Failed {
    /// The error at the plugin's place in the global file.
    #[must_use]
    pub(crate) fn diagnostic(&self, loaded: &Loaded) -> Diagnostic {
        self.error.diagnostic(&self.id, &self.file, loaded)
    }

    /// Whether the trial could not run, so that nothing is known about the plugin.
    fn is_untried(&self) -> bool {
        matches!(self.error.kind, ProbeErrorKind::Child(_))
    }
}

/// The data folders of plugins in a trial. Whether a plugin starts can depend on its data.
#[derive(Debug, Clone, Copy)]
enum Data<'a> {
    /// Their own folders in this one, as when they run.
    Live(&'a Path),
    /// Copies of the folders in this one. The trial writes nothing there, and makes no folder
    /// that the proxy, as another user, could not use.
    CopyOf(&'a Path),
}

/// Tries these plugins, and returns those that do not start or end, in their order. They
/// get copies of their own data folders in `data_dir`, or empty folders if those are too
/// large to copy. Waits for the plugins, so it must not run on a worker.
#[must_use]
pub(crate) fn check(specs: &[Spec], data_dir: &Path) -> Vec<Failed> {
    try_with(&own_program(), specs, Data::CopyOf(data_dir))
}

fn try_with(program: &Path, specs: &[Spec], data: Data<'_>) -> Vec<Failed> {
    let try_one = &|spec: &Spec| {
        let scratch = match data {
            Data::Live(_) => None,
            // If no folder can be made, the probe reports it.
            Data::CopyOf(_) => Scratch::new().ok(),
        };
        let data_dir = match (data, &scratch) {
            (Data::Live(data_dir), _) => Some(data_dir.to_owned()),
            (Data::CopyOf(data_dir), Some(scratch)) => {
                scratch.copy_data(data_dir, &spec.id);
                Some(scratch.path().to_owned())
            }
            (Data::CopyOf(_), None) => None,
        };
        let request = Request {
            id: spec.id.clone(),
            file: spec.file.clone(),
            document: spec.document.0.to_string(),
            config_path: spec.config_path.clone(),
            content: spec.content,
            fire: false,
            data_dir,
            log: Some("off".to_owned()),
        };
        let error = probe(program, &request, PATIENCE).err()?;
        Some(Failed {
            id: spec.id.clone(),
            file: spec.file.clone(),
            error,
        })
    };
    let mut failed = Vec::new();
    for some in specs.chunks(AT_ONCE_MAX) {
        thread::scope(|scope| {
            let begin = |spec| {
                let builder = thread::Builder::new().name("plugin-trial".to_owned());
                builder.spawn_scoped(scope, move || try_one(spec))
            };
            let trials: Vec<_> = some.iter().map(|spec| (spec, begin(spec))).collect();
            for (spec, trial) in trials {
                match trial.map(thread::ScopedJoinHandle::join) {
                    Ok(Ok(one)) => failed.extend(one),
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    // No thread can be made: they are tried one after the other.
                    Err(_) => failed.extend(try_one(spec)),
                }
            }
        });
    }
    failed
}

/// Why new plugins did not replace the present ones.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    failed: Vec<Failed>,
    problems: Vec<Problem>,
}

impl Refused {
    /// All reasons at their places in the global file.
    #[must_use]
    pub(crate) fn diagnostics(&self, loaded: &Loaded) -> Vec<Diagnostic> {
        let failed = self.failed.iter().map(|one| one.diagnostic(loaded));
        let problems = self.problems.iter().map(|one| one.diagnostic(loaded));
        failed.chain(problems).collect()
    }
}

/// Replaces the present plugins, as [`PluginHost::reload`], after a trial of each new one in
/// another process: a crash at the start would end this process with all its players. If no
/// process can be made, the plugin is loaded without a trial.
///
/// # Errors
///
/// Every plugin that has not passed or cannot be loaded.
pub(crate) fn reload(
    host: &PluginHost,
    mut specs: Vec<Spec>,
    force: Option<&str>,
) -> Result<Reloaded, Refused> {
    let (new, problems) = host.to_load(&mut specs, force);
    let failed = settle(try_with(&own_program(), &new, Data::Live(host.data_dir())));
    if !failed.is_empty() || !problems.is_empty() {
        return Err(Refused { failed, problems });
    }
    host.reload(specs, force).map_err(|problems| Refused {
        problems,
        ..Refused::default()
    })
}

/// The plugins that have failed. Plugins that could not be tried are logged.
fn settle(failed: Vec<Failed>) -> Vec<Failed> {
    let (untried, failed): (Vec<_>, Vec<_>) = failed.into_iter().partition(Failed::is_untried);
    for one in untried {
        let (plugin, error) = (one.id, one.error);
        tracing::warn!(plugin, %error, "plugin `{plugin}` is loaded without a trial in another process");
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Document;

    /// If the trial's process cannot be started, or runs another program, plugins are loaded
    /// without a trial.
    #[test]
    fn without_a_process_no_plugin_is_refused() {
        let spec = |id: &str| Spec {
            id: id.to_owned(),
            file: "/nowhere.so".into(),
            sha256: None,
            on_failure: None,
            deadline: None,
            checked: None,
            content: None,
            document: Document::default(),
            config_path: Vec::new(),
        };
        let specs: Vec<Spec> = ["a", "b", "c", "d", "e"].map(spec).into();
        for program in ["/nowhere", "/bin/false", "/bin/true"] {
            let failed = try_with(
                Path::new(program),
                &specs,
                Data::Live(Path::new("/nowhere")),
            );
            let ids: Vec<&str> = failed.iter().map(|one| one.id.as_str()).collect();
            assert_eq!(ids, ["a", "b", "c", "d", "e"], "{program}");
            let failed = settle(failed);
            assert!(failed.is_empty(), "{program}: {failed:?}");
        }
    }
}
