//! Follows the folder of server files and decides when to read them again.
//!
//! The system reports most changes as events at once. It reports nothing when
//! another machine writes on a network share, when a folder above is replaced, or
//! when the file behind a link changes. So the folder is also checked each second
//! or two, by one task that runs as long as the proxy.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::events::Events;
use super::look::Look;
use crate::apart::{self, NotDone};

/// How long the folder must be quiet before it is read: editors and `cp` write
/// a file in several steps.
const QUIET: Duration = Duration::from_millis(250);
/// The longest wait for a folder that is never quiet.
const QUIET_MAX: Duration = Duration::from_secs(3);

/// The shortest time between two checks.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// The longest time between two checks, for slow folders such as those of a network.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// The pause after a check is this many times as long as the check, so that checks take at
/// most one hundredth of a core.
const LOOK_SHARE: u32 = 100;
/// How long a check of the folder may take before the log reports it.
const LOOK_OVERDUE: Duration = Duration::from_secs(10);

/// The result of a check.
struct Looked {
    look: Look,
    took: Duration,
    /// Whether the folder is watched, or why it cannot be.
    watched: Result<(), String>,
}

type Looking = Pin<Box<dyn Future<Output = Result<Looked, NotDone>> + Send>>;

/// A change that has begun.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// The latest time to wait for the folder to be quiet.
    latest: Instant,
    /// How it was noticed.
    by: Sign,
}

/// How a change was noticed.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// By events, the last one at this time.
    Event(Instant),
    /// By a check with this result.
    Look(Look),
}

/// A problem with the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// It does not exist, or is not a folder.
    Gone,
    /// It cannot be watched, for this reason.
    NoEvents(String),
}

/// Follows one folder, which may be another one later.
pub(super) struct Follow {
    folder: PathBuf,
    events: Events,
    /// The check before the files were last read; `None` if they were not read yet.
    read: Option<Look>,
    change: Option<Change>,
    /// When the next check is due.
    due: Instant,
    looking: Option<Looking>,
    began: Instant,
    is_overdue: bool,
    problem: Option<Problem>,
}

impl Follow {
    /// Begins to follow the folder. Its current content counts as a change.
    pub(super) fn new(folder: PathBuf) -> Self {
        let now = Instant::now();
        Self {
            folder,
            events: Events::new(),
            read: None,
            change: None,
            due: now + QUIET,
            looking: None,
            began: now,
            is_overdue: false,
            problem: None,
        }
    }

    /// The folder that is followed.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Follows this folder from now on. The content of another folder counts as a change.
    pub(super) fn turn_to(&mut self, folder: &Path) {
        if folder != self.folder {
            *self = Self::new(folder.to_owned());
        }
    }

    /// Records that the files were read after this check.
    pub(super) fn was_read(&mut self, look: Look) {
        self.read = Some(look);
    }

    /// Requests that the files are read again at this time, even if nothing has changed.
    pub(super) fn again(&mut self, at: Instant) {
        self.read = None;
        self.due = at;
    }

    /// Completes when files have changed and the folder is quiet. Never completes while the
    /// folder is missing. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let overdue = self.began + LOOK_OVERDUE;
            let looked = match &mut self.looking {
                None => {
                    tokio::select! {
                        biased;
                        () = self.events.next() => {
                            self.stirred();
                            continue;
                        }
                        () = sleep_until(self.due) => {}
                    }
                    self.begin_look();
                    continue;
                }
                Some(looking) => tokio::select! {
                    biased;
                    looked = looking => looked,
                    () = self.events.next() => {
                        self.stirred();
                        continue;
                    }
                    () = sleep_until(overdue), if !self.is_overdue => {
                        self.is_overdue = true;
                        warn!(
                            folder = %self.folder.display(),
                            seconds = LOOK_OVERDUE.as_secs(),
                            "the folder of the server files does not answer; changes are not seen until it does"
                        );
                        continue;
                    }
                },
            };
            self.looking = None;
            if std::mem::take(&mut self.is_overdue) {
                info!(folder = %self.folder.display(), "the folder of the server files answers again");
            }
            match looked {
                Ok(looked) => {
                    if self.is_settled(looked) {
                        return;
                    }
                }
                // Without an answer nothing is known to have changed.
                Err(_) => self.due = Instant::now() + LOOK_MAX,
            }
        }
    }

    /// Records an event.
    fn stirred(&mut self) {
        let now = Instant::now();
        let latest = self.change.map_or(now + QUIET_MAX, |change| change.latest);
        let by = Sign::Event(now);
        self.change = Some(Change { latest, by });
        self.due = latest.min(now + QUIET);
    }

    fn begin_look(&mut self) {
        self.began = Instant::now();
        let folder = self.folder.clone();
        let watching = self.events.watching();
        self.looking = Some(Box::pin(apart::run(move || {
            // The watch is set first, so that no change is missed in between.
            let watched = watching.keep(&folder);
            let began = std::time::Instant::now();
            let look = Look::at(&folder);
            Looked {
                look,
                took: began.elapsed(),
                watched,
            }
        })));
    }

    /// Handles the result of a check. Returns whether the files should be read now.
    fn is_settled(&mut self, looked: Looked) -> bool {
        let Looked {
            look,
            took,
            watched,
        } = looked;
        let now = Instant::now();
        self.due = now + (took * LOOK_SHARE).clamp(LOOK_MIN, LOOK_MAX);
        self.note_problem(look, watched);
        if look.folder.is_none() {
            self.change = None;
            return false;
        }
        let is_settled = match (self.change, self.read) {
            (None, None) => true,
            (None, Some(read)) if read == look => return false,
            (None, Some(_)) => false,
            (Some(change), _) if now >= change.latest => true,
            (Some(change), _) => match change.by {
                // No event has come during the check.
                Sign::Event(last) => last <= self.began,
                Sign::Look(before) => before == look,
            },
        };
        if is_settled {
            self.change = None;
            return true;
        }
        let (latest, by) = match self.change {
            None => (now + QUIET_MAX, Sign::Look(look)),
            Some(Change { latest, by }) => match by {
                Sign::Event(_) => (latest, by),
                Sign::Look(_) => (latest, Sign::Look(look)),
            },
        };
        self.change = Some(Change { latest, by });
        self.due = latest.min(now + QUIET);
        false
    }

    /// Logs a problem of the folder, once.
    fn note_problem(&mut self, look: Look, watched: Result<(), String>) {
        let problem = match (look.folder, watched) {
            (None, _) => Some(Problem::Gone),
            (Some(_), Err(error)) => Some(Problem::NoEvents(error)),
            (Some(_), Ok(())) => None,
        };
        if self.problem == problem {
            return;
        }
        let folder = self.folder.display();
        match &problem {
            None => {}
            Some(Problem::Gone) => warn!(
                %folder,
                "the folder of the server files is not there; it is read when it comes"
            ),
            Some(Problem::NoEvents(error)) => warn!(
                %folder,
                %error,
                "the folder of the server files cannot be watched; it is looked at every few seconds"
            ),
        }
        self.problem = problem;
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Follow").field(&self.folder).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use infrarust_test_support::within;
    use tokio::time::timeout;

    use super::*;

    /// Follows a folder that has been read as it is.
    async fn follow(folder: &Path) -> Follow {
        let mut follow = Follow::new(folder.to_owned());
        settles(&mut follow).await;
        follow
    }

    /// Completes after a change, and records that it was read.
    async fn settles(follow: &mut Follow) {
        within("a change", follow.changed()).await;
        follow.was_read(Look::at(follow.folder()));
    }

    async fn is_quiet(follow: &mut Follow) {
        let changed = timeout(LOOK_MIN + QUIET * 2, follow.changed()).await;
        assert!(changed.is_err(), "the same change was seen twice");
    }

    /// Several writes in a row are one change, in any way of writing.
    #[tokio::test]
    async fn a_burst_of_writes_settles_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut follow = follow(folder.path()).await;
        for n in 0..20 {
            fs::write(folder.path().join("a.toml"), n.to_string()).unwrap();
        }
        settles(&mut follow).await;
        is_quiet(&mut follow).await;
        fs::rename(folder.path().join("a.toml"), folder.path().join("b.toml")).unwrap();
        settles(&mut follow).await;
    }

    /// A change that was noticed and not read is noticed again.
    #[tokio::test]
    async fn an_unread_change_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut follow = follow(folder.path()).await;
        fs::write(folder.path().join("a.toml"), "1").unwrap();
        within("a change", follow.changed()).await;
        settles(&mut follow).await;
        is_quiet(&mut follow).await;
    }

    /// Without events, checks find the changes: a new file, a file behind a link, a file
    /// with the size and time of the previous one, another target of a link, and another
    /// parent folder.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn checks_find_changes_without_events() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["conf/one", "conf/two", "next/one"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("real.toml"), "1").unwrap();
        symlink(at("real.toml"), at("conf/one/a.toml")).unwrap();
        symlink("one", at("conf/servers")).unwrap();
        symlink("one", at("next/servers")).unwrap();
        let mut follow = follow(&at("conf/servers")).await;

        fs::write(at("real.toml"), "22").unwrap();
        settles(&mut follow).await;
        is_quiet(&mut follow).await;
        let written = fs::metadata(at("real.toml")).unwrap().modified().unwrap();
        fs::write(at("other.toml"), "33").unwrap();
        let other = fs::File::options().write(true).open(at("other.toml"));
        other.unwrap().set_modified(written).unwrap();
        fs::rename(at("other.toml"), at("real.toml")).unwrap();
        settles(&mut follow).await;

        symlink("two", at("conf/link")).unwrap();
        fs::rename(at("conf/link"), at("conf/servers")).unwrap();
        settles(&mut follow).await;

        fs::rename(at("conf"), at("before")).unwrap();
        fs::rename(at("next"), at("conf")).unwrap();
        settles(&mut follow).await;
        fs::write(at("conf/one/b.toml"), "4").unwrap();
        settles(&mut follow).await;
        is_quiet(&mut follow).await;
    }

    /// While the folder is missing nothing is read. A folder that replaces it is read. If
    /// the same folder comes back unchanged, that is not a change.
    #[tokio::test]
    async fn a_missing_folder_is_awaited() {
        let root = tempfile::tempdir().unwrap();
        let (folder, away) = (root.path().join("servers"), root.path().join("away"));
        fs::create_dir(&folder).unwrap();
        let mut follow = follow(&folder).await;
        fs::rename(&folder, &away).unwrap();
        within("the folder to be missed", async {
            while follow.problem != Some(Problem::Gone) {
                is_quiet(&mut follow).await;
            }
        })
        .await;
        fs::rename(&away, &folder).unwrap();
        fs::write(folder.join("a.toml"), "1").unwrap();
        settles(&mut follow).await;
        assert_eq!(follow.problem, None);
    }
}
