//! `watch = "inotify"`: the kernel tells when a file was written or renamed into its place.
//!
//! Watched is the folder, since a file that is replaced is another one. A thread of its own waits for the kernel and names
//! the sources to the loader, which looks at their files itself. What can't be watched (not there, a share) is looked at
//! now and then all the same (`refresh`).

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::files::split_pattern;
use crate::config::{self, Config, Origin};

/// A source that lies in a watched folder.
struct Watched {
    /// The file's name; `None`: any in the folder.
    file: Option<OsString>,
    source: String,
}

type Folders = Arc<Mutex<HashMap<WatchDescriptor, Vec<Watched>>>>;

/// The folders that are watched.
#[derive(Default)]
pub struct Watch {
    inotify: Option<Arc<Inotify>>,
    folders: Folders,
    /// The kernel has refused; told once.
    is_refused: bool,
}

impl Watch {
    /// Watches what a configuration wants to be watched, and nothing else. `tell` gets the names of sources.
    pub fn follow(&mut self, config: &Config, tell: impl FnOnce() -> Box<dyn Fn(String) + Send>) {
        let wanted: Vec<(PathBuf, Watched)> = config.sources.iter().filter_map(watched).collect();
        if self.inotify.is_none() {
            if wanted.is_empty() || self.is_refused {
                return;
            }
            match start(Arc::clone(&self.folders), tell()) {
                Ok(inotify) => self.inotify = Some(inotify),
                Err(e) => {
                    self.is_refused = true;
                    log::warn!("can't watch files: {e}; they are looked at now and then instead");
                    return;
                }
            }
        }
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM;
        let mut folders: HashMap<WatchDescriptor, Vec<Watched>> = HashMap::new();
        // Held until all are added, so that no event is looked up in a half-made table.
        let mut current = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        for (folder, watched) in wanted {
            match inotify.add_watch(&folder, flags) {
                Ok(descriptor) => folders.entry(descriptor).or_default().push(watched),
                Err(e) => log::debug!("can't watch {}: {e}", folder.display()),
            }
        }
        for gone in current.keys().filter(|descriptor| !folders.contains_key(descriptor)) {
            let _ = inotify.rm_watch(*gone);
        }
        *current = folders;
    }
}

/// The folder of a source that is to be watched.
fn watched(source: &config::Source) -> Option<(PathBuf, Watched)> {
    let Origin::Path(path) = &source.origin else { return None };
    if source.watch != config::Watch::Inotify {
        return None;
    }
    let source = source.name.clone();
    if let Some((folder, _)) = split_pattern(path) {
        return Some((folder.into(), Watched { file: None, source }));
    }
    if path.is_dir() {
        return Some((path.clone(), Watched { file: None, source }));
    }
    let file = path.file_name().map(Into::into);
    Some((path.parent()?.into(), Watched { file, source }))
}

fn start(folders: Folders, tell: Box<dyn Fn(String) + Send>) -> std::io::Result<Arc<Inotify>> {
    let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?);
    let events = Arc::clone(&inotify);
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        loop {
            match events.read_events() {
                Ok(batch) => {
                    for source in named(&batch, &folders) {
                        tell(source);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(e) => {
                    log::error!("can't watch files any more: {e}; they are looked at now and then");
                    return;
                }
            }
        }
    })?;
    Ok(inotify)
}

/// The sources that events are about.
fn named(batch: &[InotifyEvent], folders: &Folders) -> Vec<String> {
    let folders = folders.lock().unwrap_or_else(PoisonError::into_inner);
    let mut names: Vec<String> = Vec::new();
    for event in batch {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return folders.values().flatten().map(|watched| watched.source.clone()).collect();
        }
        for watched in folders.get(&event.wd).into_iter().flatten() {
            let is_it = watched.file.is_none() || watched.file == event.name;
            if is_it && !names.contains(&watched.source) {
                names.push(watched.source.clone());
            }
        }
    }
    names
}
