//! Events of a folder from the system: inotify on Linux, nothing elsewhere.
//!
//! One descriptor serves for life and needs no thread. A watch belongs to a
//! folder and not to its path, so it is set again when another folder is at the path.

#[cfg(target_os = "linux")]
pub(super) use self::linux::Events;
#[cfg(not(target_os = "linux"))]
pub(super) use self::none::Events;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::path::Path;
    use std::sync::{Arc, Mutex, PoisonError};

    use nix::errno::Errno;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
    use tokio::io::unix::AsyncFd;

    use crate::reload::look::{Identity, identity};

    struct Shared(Arc<Inotify>);

    impl AsRawFd for Shared {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    /// The watched folder and its watch.
    type Watched = Arc<Mutex<Option<(Identity, WatchDescriptor)>>>;

    /// The events of one folder.
    pub(in crate::reload) struct Events {
        inotify: Result<AsyncFd<Shared>, String>,
        watched: Watched,
    }

    #[allow(
        deprecated,
        reason = "its successor is `unsafe`; this descriptor stays the same and open as long as the `AsyncFd`"
    )]
    fn open() -> Result<AsyncFd<Shared>, String> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify.map_err(|error| error.desc().to_owned())?;
        AsyncFd::new(Shared(Arc::new(inotify))).map_err(|error| error.to_string())
    }

    impl Events {
        /// Must be called inside a runtime.
        pub(in crate::reload) fn new() -> Self {
            Self {
                inotify: open(),
                watched: Watched::default(),
            }
        }

        /// Completes when something has happened in the folder. Cancel safe.
        pub(in crate::reload) async fn next(&mut self) {
            let Ok(inotify) = &self.inotify else {
                return std::future::pending().await;
            };
            loop {
                let Ok(mut ready) = inotify.readable().await else {
                    return std::future::pending().await;
                };
                match inotify.get_ref().0.read_events() {
                    Ok(events) => {
                        for event in &events {
                            // The folder was removed, and its watch with it.
                            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                                let mut watched = lock(&self.watched);
                                if watched.is_some_and(|(_, watch)| watch == event.wd) {
                                    *watched = None;
                                }
                            }
                        }
                        return;
                    }
                    Err(Errno::EINTR) => {}
                    // No event is left, or none can be read.
                    Err(_) => ready.clear_ready(),
                }
            }
        }

        /// A handle for setting the watch on the folder, which may block.
        pub(in crate::reload) fn watching(&mut self) -> Watching {
            if self.inotify.is_err() {
                self.inotify = open();
            }
            Watching {
                inotify: match &self.inotify {
                    Ok(inotify) => Ok(Arc::clone(&inotify.get_ref().0)),
                    Err(error) => Err(error.clone()),
                },
                watched: Arc::clone(&self.watched),
            }
        }
    }

    /// Sets the watch on the folder of a path.
    pub(in crate::reload) struct Watching {
        inotify: Result<Arc<Inotify>, String>,
        watched: Watched,
    }

    impl Watching {
        /// Watches the current folder at the path. Blocks.
        ///
        /// # Errors
        ///
        /// Why it cannot be watched.
        pub(in crate::reload) fn keep(self, folder: &Path) -> Result<(), String> {
            let inotify = self.inotify?;
            let now = identity(folder);
            let before = *lock(&self.watched);
            if before.map(|(identity, _)| identity) == now {
                return Ok(());
            }
            if let Some((_, watch)) = before {
                // The watch may have been removed with its folder.
                let _ = inotify.rm_watch(watch);
                *lock(&self.watched) = None;
            }
            let Some(now) = now else { return Ok(()) };
            // Not reads, since the proxy itself reads the files.
            let changes = AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_ATTRIB
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_MOVE
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            let watch = inotify.add_watch(folder, changes);
            let watch = watch.map_err(|error| error.desc().to_owned())?;
            *lock(&self.watched) = Some((now, watch));
            Ok(())
        }
    }

    fn lock(
        watched: &Mutex<Option<(Identity, WatchDescriptor)>>,
    ) -> std::sync::MutexGuard<'_, Option<(Identity, WatchDescriptor)>> {
        watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(target_os = "linux"))]
mod none {
    use std::path::Path;

    /// The events of one folder: none.
    pub(in crate::reload) struct Events;

    impl Events {
        pub(in crate::reload) fn new() -> Self {
            Self
        }

        /// Never completes.
        pub(in crate::reload) async fn next(&mut self) {
            std::future::pending().await
        }

        pub(in crate::reload) fn watching(&mut self) -> Watching {
            Watching
        }
    }

    /// Keeps no watch.
    pub(in crate::reload) struct Watching;

    impl Watching {
        /// Without events, checks of the folder find the changes.
        pub(in crate::reload) fn keep(self, _: &Path) -> Result<(), String> {
            Ok(())
        }
    }
}
