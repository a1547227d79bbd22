//! The file of what call-ahead has learnt: read at start, written every few minutes and at the end.
//!
//! A thread reads it, drops what is not wanted any more, and makes a cache of the rest, which the loop takes over at once
//! with what it has learnt meanwhile on top; until then there is nothing remembered, and backends are asked. When it is
//! saved, the loop only turns entries into lines, a few hundred in a turn; a thread of the save's own writes them, and
//! puts the file in its place when it is whole (`sys::replace`). A crash finds the file of the last save.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config::{Config, reason};
use crate::probe::cache::{Cache, ServerId};
use crate::probe::schedule::{Loading, Saving, Scheduler};
use crate::probe::store::{self, Summary};
use crate::sys;

/// At most so much of what was learnt is lost in a crash.
const EVERY: Duration = Duration::from_secs(300);
/// Entries that are turned into lines in a turn: 0.12 ms.
const ENTRIES_PER_TURN: usize = 256;
/// Pieces that wait for the disk; then the loop waits with the next.
const PIECES: usize = 64;
/// A disk that is not done is asked again after this.
const PATIENCE: Duration = Duration::from_millis(20);
/// Who stops while the file is being read waits so long for what was learnt to be saved.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// What wakes the loop from another thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;
/// Whose word it is what somebody (of another daemon: nobody) has said of an address; nobody's, if that is not to be kept.
pub type Keep = Box<dyn FnMut(&[u8], Option<ServerId>) -> Option<ServerId> + Send>;

/// The file, and the save that is under way.
pub struct VerdictFile {
    /// `None`: what is learnt is not kept.
    path: Option<PathBuf>,
    /// It was read, or there was none: now it may be replaced.
    was_read: bool,
    /// What was read is of another make, and is kept beside ours.
    keep_old: bool,
    /// The cache's count of changes at the last save.
    saved_changes: u64,
    due: Instant,
    reading: Option<Reading>,
    save: Option<Save>,
    wake: Wake,
    /// Why the last save failed.
    trouble: Option<String>,
}

/// What of the cache is flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flush {
    /// A folded address.
    Address(Vec<u8>),
    /// A folded domain.
    Domain(Vec<u8>),
    /// Everything.
    All,
}

impl Flush {
    /// Flushes it, and tells how many entries there were.
    pub fn from(&self, cache: &mut Cache) -> usize {
        match self {
            Flush::Address(key) => usize::from(cache.forget(key)),
            Flush::Domain(domain) => cache.forget_where(|_, at| at == domain),
            Flush::All => {
                let all = cache.clear();
                let entries = all.len();
                // Freeing a million of them takes a tenth of a second, which is somebody else's.
                if entries > ENTRIES_PER_TURN {
                    let _ = thread::Builder::new().name("flush".to_owned()).spawn(move || drop(all));
                }
                entries
            }
        }
    }

    /// Forgets what next hops are known to take.
    pub fn facts_from(&self, scheduler: &mut Scheduler) {
        match self {
            Flush::Address(_) => {}
            Flush::Domain(domain) => scheduler.forget_facts(Some(domain)),
            Flush::All => scheduler.forget_facts(None),
        }
    }
}

/// What a thread made of the file.
struct Read {
    loading: Loading,
    /// `None`: there was no file.
    summary: Option<Summary>,
    keep_old: bool,
}

type Found = io::Result<Read>;

/// The file is being read.
struct Reading {
    path: PathBuf,
    found: Receiver<Found>,
    /// Other entries are to be chosen now.
    again: Option<Keep>,
    flushed: Vec<Flush>,
}

struct Save {
    /// `None`: all lines are made.
    saving: Option<Saving>,
    pieces: Option<SyncSender<Vec<u8>>>,
    /// What the thread had no room for.
    waiting: Option<Vec<u8>>,
    changes: u64,
    thread: JoinHandle<io::Result<()>>,
}

/// Where the file is.
fn path(config: &Config) -> Option<PathBuf> {
    Some(config.state_dir.as_ref()?.join(config.cache.file.as_ref()?))
}

impl VerdictFile {
    /// Nothing is read yet.
    pub fn new(config: &Config, wake: Wake, now: Instant) -> VerdictFile {
        VerdictFile {
            path: path(config),
            was_read: false,
            keep_old: false,
            saved_changes: 0,
            due: now + EVERY,
            reading: None,
            save: None,
            wake,
            trouble: None,
        }
    }

    /// Another file, perhaps, for the next save.
    pub fn configure(&mut self, config: &Config) {
        let path = path(config);
        if self.path != path {
            (self.path, self.saved_changes, self.keep_old) = (path, 0, false);
        }
    }

    /// Why what was learnt is not being kept.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Its path.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Begins to read the file, once, on a thread of its own that wakes the loop when it is done. Entries that `keep` does
    /// not choose are dropped; if that changes meanwhile, it begins again.
    pub fn read(&mut self, scheduler: &Scheduler, keep: Keep, now: Instant) {
        if let Some(reading) = &mut self.reading {
            reading.again = Some(keep);
        } else if let Some(path) = self.path.clone().filter(|_| !self.was_read) {
            self.begin_reading(path, scheduler.begin_load(now), keep, Vec::new(), None);
        }
    }

    fn begin_reading(
        &mut self,
        path: PathBuf,
        loading: Loading,
        keep: Keep,
        flushed: Vec<Flush>,
        outdated: Option<Found>,
    ) {
        let (outbox, found) = channel();
        let (wake, file) = (Arc::clone(&self.wake), path.clone());
        let thread = thread::Builder::new().name("verdicts".to_owned()).spawn(move || {
            if let Err(e) = sys::lower_own_priority() {
                log::debug!("verdicts are read at normal priority: {e}");
            }
            drop(outdated);
            // A loop that is gone needs them no more.
            let _ = outbox.send(read(&file, loading, keep));
            wake();
        });
        match thread {
            Ok(_) => self.reading = Some(Reading { path, found, again: None, flushed }),
            Err(e) => self.not_read(&path, &e),
        }
    }

    /// Whether the file is still being read.
    pub fn is_being_read(&self) -> bool {
        self.reading.is_some()
    }

    /// What the file holds of these entries is not to come back when it has been read.
    pub fn flush(&mut self, what: Flush) {
        if let Some(reading) = &mut self.reading {
            reading.flushed.push(what);
        }
    }

    /// Takes over what was read, if it has come.
    pub fn take(&mut self, scheduler: &mut Scheduler, now: Instant) {
        let Some(found) = self.reading.as_ref().and_then(|reading| reading.found.try_recv().ok()) else { return };
        match self.reading.take() {
            Some(Reading { path, again: Some(keep), flushed, .. }) => {
                self.begin_reading(path, scheduler.begin_load(now), keep, flushed, Some(found));
            }
            Some(reading) => self.adopt(reading, found, scheduler, now),
            None => {}
        }
    }

    fn adopt(&mut self, reading: Reading, found: Found, scheduler: &mut Scheduler, now: Instant) {
        let Reading { path, flushed, .. } = reading;
        let Read { mut loading, summary, keep_old } = match found {
            Ok(read) => read,
            Err(e) => return self.not_read(&path, &e),
        };
        for what in &flushed {
            what.from(loading.cache());
        }
        self.was_read = true;
        self.keep_old = keep_old;
        let (entries, dead) = (loading.len(), loading.dead());
        let learnt_meanwhile = scheduler.cache().changes();
        scheduler.adopt(loading, now);
        flushed.iter().for_each(|what| what.facts_from(scheduler));
        if !keep_old {
            self.saved_changes = scheduler.cache().changes() - learnt_meanwhile;
        }
        let Some(summary) = summary else { return };
        if summary.other_version {
            return log::info!("{}: it is of another version, so backends are asked again", path.display());
        }
        log::info!(
            "{}: {entries} verdicts of backends, from {} lines; {dead} were too old",
            path.display(),
            summary.taken
        );
        if summary.damaged > 0 || !summary.complete {
            let end = if summary.complete { "" } else { ", and its end is missing" };
            log::warn!("{}: {} lines make no sense{end}; all others are used", path.display(), summary.damaged);
        }
    }

    fn not_read(&mut self, path: &Path, e: &io::Error) {
        let text = format!("{}: {}", path.display(), reason(e));
        log::error!("{text}; what backends said is asked for again, and kept in memory only");
        self.trouble = Some(text);
        self.path = None;
    }

    /// When [`VerdictFile::turn`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.save {
            None => (self.was_read && self.path.is_some()).then_some(self.due),
            Some(_) => Some(self.due),
        }
    }

    /// Goes on with the save that is under way, or begins one if it is time.
    pub fn turn(&mut self, scheduler: &mut Scheduler, now: Instant) {
        if self.due > now {
            return;
        }
        let Some(mut save) = self.save.take() else {
            self.due = now + EVERY;
            self.begin(scheduler, now);
            return;
        };
        if save.go_on(scheduler, now) {
            // The next piece in the next turn.
            self.due = now;
        } else {
            self.due = now + PATIENCE;
        }
        if save.pieces.is_none() && save.thread.is_finished() {
            self.end(save);
            self.due = now + EVERY;
        } else {
            self.save = Some(save);
        }
    }

    /// Saves what has changed, to the end: the daemon stops.
    pub fn finish(&mut self, scheduler: &mut Scheduler, now: Instant) {
        if let Some(reading) = self.reading.take() {
            match reading.found.recv_timeout(LAST_PATIENCE) {
                Ok(found) => self.adopt(reading, found, scheduler, now),
                Err(_) => log::warn!("{}: still not read, so it stays as it is", reading.path.display()),
            }
        }
        if let Some(mut save) = self.save.take() {
            save.send_all(scheduler, now);
            self.end(save);
        }
        self.begin(scheduler, now);
        if let Some(mut save) = self.save.take() {
            save.send_all(scheduler, now);
            self.end(save);
        }
    }

    fn begin(&mut self, scheduler: &mut Scheduler, now: Instant) {
        let changes = scheduler.cache().changes();
        let Some(path) = self.path.clone().filter(|_| self.was_read && changes != self.saved_changes) else { return };
        let (pieces, inbox) = sync_channel(PIECES);
        let keep_old = self.keep_old;
        let thread = thread::Builder::new().name("verdicts".to_owned()).spawn(move || write(&path, keep_old, &inbox));
        match thread {
            Ok(thread) => {
                let saving = Some(scheduler.begin_save());
                self.save = Some(Save { saving, pieces: Some(pieces), waiting: None, changes, thread });
                self.due = now;
            }
            Err(e) => self.note(Err(e)),
        }
    }

    fn end(&mut self, save: Save) {
        let done = save.thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug ended it")));
        if done.is_ok() {
            self.saved_changes = save.changes;
            self.keep_old = false;
        }
        self.note(done);
    }

    fn note(&mut self, done: io::Result<()>) {
        match done {
            Ok(()) if self.trouble.take().is_some() => log::info!("what backends said is saved again"),
            Ok(()) => {}
            Err(e) => {
                let text = format!("can't save what backends said: {}", reason(&e));
                if self.trouble.is_none() {
                    log::error!("{text}; nothing else is affected");
                }
                self.trouble = Some(text);
            }
        }
    }
}

impl Save {
    /// Makes a piece, and hands it over. `false`: the thread is busy, or has all.
    fn go_on(&mut self, scheduler: &mut Scheduler, now: Instant) -> bool {
        let Some(pieces) = &self.pieces else { return false };
        if self.waiting.is_none() {
            self.waiting = self.saving.as_mut().and_then(|saving| scheduler.save_some(saving, ENTRIES_PER_TURN, now));
        }
        let Some(piece) = self.waiting.take() else {
            // The end, which the thread must be able to tell from a loop that is gone.
            return match pieces.try_send(Vec::new()) {
                Err(TrySendError::Full(_)) => false,
                _ => {
                    self.pieces = None;
                    false
                }
            };
        };
        // An empty one would be the end.
        if piece.is_empty() {
            return true;
        }
        match pieces.try_send(piece) {
            Ok(()) => true,
            Err(TrySendError::Full(piece)) => {
                self.waiting = Some(piece);
                false
            }
            // It failed, and will say why.
            Err(TrySendError::Disconnected(_)) => {
                self.pieces = None;
                false
            }
        }
    }

    /// Makes and hands over all that is left.
    fn send_all(&mut self, scheduler: &mut Scheduler, now: Instant) {
        let Some(pieces) = self.pieces.take() else { return };
        let mut send = |piece| pieces.send(piece).is_ok();
        if self.waiting.take().is_none_or(&mut send) {
            while let Some(piece) =
                self.saving.as_mut().and_then(|saving| scheduler.save_some(saving, ENTRIES_PER_TURN, now))
            {
                if !piece.is_empty() && !send(piece) {
                    return;
                }
            }
            send(Vec::new());
        }
    }
}

/// Reads the file. None is one without entries.
fn read(path: &Path, mut loading: Loading, keep: Keep) -> Found {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Read { loading, summary: None, keep_old: false }),
        Err(e) => return Err(e),
    };
    let keep_old = !bytes.is_empty() && !store::is_one(&bytes);
    let summary = match keep_old {
        true => loading.read_backlist(&bytes, keep),
        false => loading.read(&bytes, keep),
    };
    Ok(Read { loading, summary: Some(summary), keep_old })
}

/// Writes what comes until an empty piece comes.
fn write(path: &Path, keep_old: bool, pieces: &Receiver<Vec<u8>>) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("{}: not a file", path.display())));
    };
    let with = |end: &str| {
        let mut name = name.to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    sys::replace(folder, Path::new(name), &with(".new"), |out| {
        loop {
            match pieces.recv() {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => out.write_all(&piece)?,
                Err(_) => return Err(io::Error::other("given up half-way")),
            }
        }
        let beside = folder.join(with(".backlist"));
        match keep_old.then(|| std::fs::hard_link(path, beside)) {
            Some(Err(e)) if e.kind() != ErrorKind::AlreadyExists => Err(e),
            _ => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::map::HashKey;
    use crate::probe::cache::{Cache, Epoch, Evidence, Known};
    use crate::probe::schedule::Limits;

    fn scheduler(now: Instant) -> Scheduler {
        let hash = HashKey::with_seeds(1, 2, 3, 4);
        let cache = Cache::new(config::Cache::default(), hash.clone());
        Scheduler::new(cache, Limits::default(), hash, 7, now, Epoch(1_764_230_400))
    }

    /// The file, and when it has been read.
    fn file(folder: &Path, now: Instant) -> (VerdictFile, Receiver<()>) {
        let (awake, woken) = channel();
        let awake = std::sync::Mutex::new(awake);
        let wake = Arc::new(move || awake.lock().expect("no panic").send(()).expect("the test goes on"));
        let mut file = VerdictFile::new(&Config::without_file(&config::Overrides::default()), wake, now);
        file.path = Some(folder.join("state/verdicts"));
        (file, woken)
    }

    fn begin(file: &mut VerdictFile, scheduler: &Scheduler, keep: fn(&[u8]) -> bool, now: Instant) {
        file.read(scheduler, Box::new(move |key, by| by.or(Some(ServerId(1))).filter(|_| keep(key))), now);
    }

    /// Reads it, and waits until it is in.
    fn read_with(folder: &Path, scheduler: &mut Scheduler, keep: fn(&[u8]) -> bool, now: Instant) -> VerdictFile {
        let (mut file, woken) = file(folder, now);
        begin(&mut file, scheduler, keep, now);
        woken.recv().expect("the thread ends");
        file.take(scheduler, now);
        assert!(!file.is_being_read());
        file
    }

    fn read_file(folder: &Path, scheduler: &mut Scheduler, now: Instant) -> VerdictFile {
        read_with(folder, scheduler, |_| true, now)
    }

    fn learn(scheduler: &mut Scheduler, names: std::ops::Range<u32>) {
        for n in names {
            let key = format!("u{n}@example.org");
            scheduler.cache().learn(key.as_bytes(), Known::Exists, Evidence::default(), Epoch(1_764_230_400));
        }
    }

    #[test]
    fn what_is_learnt_is_saved_in_turns_and_read_again() {
        let (folder, mut now) = (tempfile::tempdir().expect("a folder"), Instant::now());
        let mut first = scheduler(now);
        let mut kept = read_file(folder.path(), &mut first, now);
        learn(&mut first, 0..2_000);
        assert_eq!(kept.next_timeout(), Some(now + EVERY));
        now += EVERY;
        kept.turn(&mut first, now);
        let mut turns = 0;
        while kept.save.is_some() {
            // Life goes on: what is used meanwhile is not lost.
            let key = format!("u{}@example.org", turns * 300);
            first.cache().find(key.as_bytes(), Epoch(1_764_230_400));
            now = now.max(kept.next_timeout().expect("a save is under way"));
            kept.turn(&mut first, now);
            turns += 1;
        }
        assert!(turns >= 2_000 / ENTRIES_PER_TURN, "{turns}");
        assert_eq!(kept.trouble(), None);
        let mut second = scheduler(now);
        let mut read = read_with(folder.path(), &mut second, |key| key != b"u7@example.org", now);
        assert_eq!(second.cache().len(), 1_999);
        // Nothing has changed: nothing is written.
        std::fs::remove_file(folder.path().join("state/verdicts")).expect("it is there");
        read.finish(&mut second, now);
        assert!(!folder.path().join("state/verdicts").exists());
        learn(&mut second, 7..8);
        read.finish(&mut second, now);
        let mut third = scheduler(now);
        read_file(folder.path(), &mut third, now);
        assert_eq!(third.cache().len(), 2_000);
    }

    #[test]
    fn what_is_learnt_or_flushed_while_the_file_is_read_counts() {
        let (folder, now) = (tempfile::tempdir().expect("a folder"), Instant::now());
        let mut first = scheduler(now);
        let mut kept = read_file(folder.path(), &mut first, now);
        learn(&mut first, 0..5);
        first.cache().learn(b"x@example.net", Known::Exists, Evidence::default(), Epoch(1_764_230_400));
        kept.finish(&mut first, now);
        let mut second = scheduler(now);
        let (mut read, woken) = file(folder.path(), now);
        begin(&mut read, &second, |_| true, now);
        // Nothing is remembered yet; the backend says otherwise now; people flush; another list comes.
        assert!(read.is_being_read() && second.cache().is_empty());
        second.cache().learn(b"u0@example.org", Known::Absent, Evidence::default(), Epoch(1_764_230_400));
        read.flush(Flush::Address(b"u1@example.org".to_vec()));
        read.flush(Flush::Domain(b"example.net".to_vec()));
        begin(&mut read, &second, |key| key != b"u2@example.org", now);
        woken.recv().expect("the thread ends");
        read.take(&mut second, now);
        assert!(read.is_being_read() && second.cache().len() == 1, "it is read again, by the new list");
        woken.recv().expect("the thread ends");
        read.take(&mut second, now);
        let mut known: Vec<_> = second
            .cache()
            .iter(Epoch(1_764_230_400))
            .map(|(key, hit)| (String::from_utf8_lossy(key).into_owned(), hit.known))
            .collect();
        known.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [("u0", Known::Absent), ("u3", Known::Exists), ("u4", Known::Exists)];
        assert_eq!(known, expected.map(|(name, known)| (format!("{name}@example.org"), known)));
        // What was learnt meanwhile is not in the file yet.
        let save = read.next_timeout().expect("it was read");
        read.turn(&mut second, save);
        assert!(read.save.is_some());
        read.finish(&mut second, now);
        let mut third = scheduler(now);
        read_file(folder.path(), &mut third, now);
        assert_eq!(third.cache().len(), 3);
        // Everything is flushed, and it stops before the file is in.
        let mut fourth = scheduler(now);
        let (mut read, _woken) = file(folder.path(), now);
        begin(&mut read, &fourth, |_| true, now);
        read.flush(Flush::All);
        learn(&mut fourth, 9..10);
        read.finish(&mut fourth, now);
        let mut fifth = scheduler(now);
        read_file(folder.path(), &mut fifth, now);
        assert_eq!(fifth.cache().len(), 1);
    }

    #[test]
    fn a_save_that_is_cut_at_any_byte_loses_lines_and_changes_none() {
        let (folder, now) = (tempfile::tempdir().expect("a folder"), Instant::now());
        let epoch = Epoch(1_764_230_400);
        let mut first = scheduler(now);
        let mut kept = read_file(folder.path(), &mut first, now);
        learn(&mut first, 0..3);
        first.cache().learn(b"u3@example.org", Known::Absent, Evidence::default(), epoch);
        kept.finish(&mut first, now);
        let (path, new) = (folder.path().join("state/verdicts"), folder.path().join("state/verdicts.new"));
        let whole = std::fs::read(&path).expect("it was saved");
        for end in 0..whole.len() {
            // So a crash would leave it where the system does not keep the order of write and rename.
            std::fs::write(&path, &whole[..end]).expect("written");
            let mut second = scheduler(now);
            let read = read_file(folder.path(), &mut second, now);
            assert_eq!(read.trouble(), None);
            for (key, hit) in second.cache().iter(epoch) {
                let known = first.cache().peek(key, epoch).expect("it was known");
                assert_eq!((hit.known, hit.learnt), (known.known, known.learnt), "cut after {end} bytes");
            }
            let lines = whole[..end].iter().filter(|&&b| b == b'\n').count();
            assert!(second.cache().len() + 1 >= lines, "{lines} lines in the first {end} bytes");
            // And so one before the rename: the old one is still there.
            std::fs::write(&path, &whole).expect("written");
            std::fs::write(&new, &whole[..end]).expect("written");
            let mut third = scheduler(now);
            read_file(folder.path(), &mut third, now);
            assert_eq!(third.cache().len(), 4);
        }
    }

    #[test]
    fn a_list_of_another_make_is_read_and_kept_beside_ours() {
        let (folder, now) = (tempfile::tempdir().expect("a folder"), Instant::now());
        std::fs::create_dir(folder.path().join("state")).expect("a folder");
        let list = "anna@example.org valid 1764230000\nnobody@example.org invalid 1764230000\nnonsense\n";
        std::fs::write(folder.path().join("state/verdicts"), list).expect("written");
        let mut first = scheduler(now);
        let mut kept = read_file(folder.path(), &mut first, now);
        assert_eq!(first.cache().len(), 2);
        kept.finish(&mut first, now);
        assert_eq!(std::fs::read_to_string(folder.path().join("state/verdicts.backlist")).expect("kept"), list);
        let ours = std::fs::read(folder.path().join("state/verdicts")).expect("written");
        assert!(store::is_one(&ours));
    }

    #[test]
    fn what_can_t_be_written_is_told_and_what_can_t_be_read_is_not_replaced() {
        let (folder, now) = (tempfile::tempdir().expect("a folder"), Instant::now());
        let mut first = scheduler(now);
        let mut kept = read_file(folder.path(), &mut first, now);
        std::fs::write(folder.path().join("state"), "a file where the folder should be").expect("written");
        learn(&mut first, 0..1);
        kept.finish(&mut first, now);
        assert!(kept.trouble().is_some_and(|why| why.contains("state")), "{:?}", kept.trouble());
        let unread = read_file(folder.path(), &mut first, now);
        assert_eq!((unread.path(), unread.trouble().is_some()), (None, true));
    }
}
