//! `state_dir`: the accepted contents of each source on disk, so that a restart has a list while the source is away, and
//! an old one can be put in force again.
//!
//! ```text
//! state_dir/sources/NAME/00000017    a content (saved.rs); the highest number that is whole is the newest
//! state_dir/sources/NAME/new         one that is being written: never read
//! state_dir/sources/NAME/rollback    "16 instead of 17": an old one is in force, until the source changes
//! state_dir/sources/NAME/grace-1795772632123    what has vanished and counts until that time (in milliseconds)
//! ```
//!
//! A file is written under another name, synced, renamed, and its folder synced, so a crash leaves the old or the new
//! state. Its time of change says when the source last confirmed the content: for `max_age`. Trouble with the disk is told
//! once and stops nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::saved::{self, Broken, Meta};
use super::slot::MAX_RETRY;
use crate::map::{Builder, Content};
use crate::source::Format;
use crate::sys;

const NEW: &str = "new";
const ROLLBACK: &str = "rollback";
const GRACE: &str = "grace-";
/// Longest name of a source that is used as it is.
const MAX_NAME: usize = 200;

/// A saved content that was read.
pub struct Saved {
    /// Its number.
    pub version: u64,
    /// What is known about it.
    pub meta: Meta,
    /// What it lists.
    pub content: Content,
    /// When the source last said the same.
    pub confirmed: Option<SystemTime>,
}

/// A version in force in place of a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// In force.
    pub version: u64,
    /// What the source said then.
    pub instead_of: u64,
}

/// The folder of saved contents.
pub struct Store {
    folder: PathBuf,
    /// Why the last attempt to write failed, and when to try again: told once.
    trouble: Option<(String, Instant)>,
}

impl Store {
    /// The store below a `state_dir`; nothing is touched yet.
    pub fn new(state_dir: &Path) -> Store {
        Store { folder: state_dir.join("sources"), trouble: None }
    }

    /// Whether this is the store of that `state_dir`.
    pub fn is_below(&self, state_dir: &Path) -> bool {
        self.folder == state_dir.join("sources")
    }

    /// Why lists are not being saved.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|(why, _)| why.as_str())
    }

    /// When what could not be saved is to be tried again.
    pub fn next(&self) -> Option<Instant> {
        self.trouble.as_ref().map(|(_, next)| *next)
    }

    /// The numbers of a source's saved contents, the newest first.
    pub fn versions(&self, source: &str) -> Vec<u64> {
        let entries = std::fs::read_dir(self.folder_of(source)).into_iter().flatten().flatten();
        let number = |entry: std::fs::DirEntry| entry.file_name().to_str().and_then(number_of);
        let mut numbers: Vec<u64> = entries.filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }

    /// Whether a saved content is there.
    pub fn has(&self, source: &str, version: u64) -> bool {
        self.folder_of(source).join(file_name(version)).exists()
    }

    /// Reads a saved content.
    pub fn read(&self, source: &str, version: u64, builder: Builder) -> Result<Saved, Broken> {
        let file = File::open(self.folder_of(source).join(file_name(version)))?;
        let confirmed = file.metadata()?.modified().ok();
        let (meta, content) = saved::read(BufReader::with_capacity(1 << 18, file), builder)?;
        Ok(Saved { version, meta, content, confirmed })
    }

    /// The newest content that is whole; others are skipped with a line in the log.
    pub fn newest(&self, source: &str, builder: impl Fn() -> Builder) -> Option<Saved> {
        self.versions(source).into_iter().find_map(|version| match self.read(source, version, builder()) {
            Ok(saved) => Some(saved),
            Err(why) => {
                let path = self.folder_of(source).join(file_name(version));
                log::warn!("source {source}: {}: {why}; skipped", path.display());
                None
            }
        })
    }

    /// Saves a content as the newest version, and removes those beyond `keep` old ones. The number of the new one, unless
    /// there was trouble.
    pub fn save(&mut self, source: &str, content: &Content, meta: &Meta, keep: usize) -> Option<u64> {
        let saved = self.try_save(source, content, meta, keep);
        self.note(saved)
    }

    fn try_save(&self, source: &str, content: &Content, meta: &Meta, keep: usize) -> io::Result<u64> {
        let versions = self.versions(source);
        let version = versions.first().map_or(1, |newest| newest + 1);
        self.put(source, &file_name(version), |out| saved::write(content, meta, out))?;
        for old in versions.iter().skip(keep) {
            let _ = std::fs::remove_file(self.folder_of(source).join(file_name(*old)));
        }
        Ok(version)
    }

    /// Puts down what has vanished and still counts. Only the last generation grows; earlier ones stay as they are.
    pub fn keep_vanished<'a>(
        &mut self,
        source: &str,
        generations: impl ExactSizeIterator<Item = (SystemTime, &'a Content)>,
    ) {
        let (before, last) = (self.grace_files(source), generations.len());
        let mut names = Vec::new();
        for (at, (until, content)) in (1..).zip(generations) {
            let name = format!("{GRACE}{}", until.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
            if at == last || !before.contains(&name) {
                let meta = Meta { taken: until, format: Format::Plain, marked: false, origin: source.to_owned() };
                let put = self.put(source, &name, |out| saved::write(content, &meta, out));
                // That the trouble is over is for the list itself to say, which takes more room.
                if put.is_err() {
                    let _ = self.note(put);
                }
            }
            names.push(name);
        }
        for gone in before.iter().filter(|name| !names.contains(name)) {
            let _ = std::fs::remove_file(self.folder_of(source).join(gone));
        }
    }

    /// What had vanished and still counted, and until when; what can't be read is passed over with a line in the log.
    pub fn vanished(&self, source: &str, builder: impl Fn() -> Builder) -> Vec<(SystemTime, Content)> {
        let read = |name: String| {
            let until = name.strip_prefix(GRACE)?.parse().ok().map(Duration::from_millis)?;
            let path = self.folder_of(source).join(&name);
            let file = File::open(&path).map_err(Broken::from);
            match file.and_then(|file| saved::read(BufReader::new(file), builder())) {
                Ok((_, content)) => Some((UNIX_EPOCH.checked_add(until)?, content)),
                Err(why) => {
                    log::warn!("source {source}: {}: {why}; skipped, who is in it has no grace", path.display());
                    None
                }
            }
        };
        self.grace_files(source).into_iter().filter_map(read).collect()
    }

    fn grace_files(&self, source: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder_of(source)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(GRACE)).collect()
    }

    /// The source still says what is saved as this version.
    pub fn confirm(&mut self, source: &str, version: u64, at: SystemTime) {
        let path = self.folder_of(source).join(file_name(version));
        let set = || OpenOptions::new().write(true).open(path)?.set_modified(at);
        if let Err(e) = set() {
            log::debug!("source {source}: can't mark its saved list as confirmed: {e}");
        }
    }

    /// Puts down that an old version is in force.
    pub fn roll_back(&mut self, source: &str, rollback: Rollback) {
        let text = format!("{} instead of {}\n", rollback.version, rollback.instead_of);
        let put = self.put(source, ROLLBACK, |out| out.write_all(text.as_bytes()));
        let _ = self.note(put);
    }

    /// Forgets it.
    pub fn forget_rollback(&mut self, source: &str) {
        let _ = std::fs::remove_file(self.folder_of(source).join(ROLLBACK));
    }

    /// What was put down.
    pub fn rolled_back(&self, source: &str) -> Option<Rollback> {
        let text = std::fs::read_to_string(self.folder_of(source).join(ROLLBACK)).ok()?;
        let (version, instead_of) = text.trim_end().split_once(" instead of ")?;
        Some(Rollback { version: version.parse().ok()?, instead_of: instead_of.parse().ok()? })
    }

    fn folder_of(&self, source: &str) -> PathBuf {
        self.folder.join(folder_name(source))
    }

    /// Writes a file so that there is the old one or the new one, whatever happens.
    fn put(
        &self,
        source: &str,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<()> {
        sys::replace(&self.folder_of(source), Path::new(name), Path::new(NEW), write)
    }

    fn note<T>(&mut self, done: io::Result<T>) -> Option<T> {
        match done {
            Ok(value) => {
                if self.trouble.take().is_some() {
                    log::info!("lists are saved in {} again", self.folder.display());
                }
                Some(value)
            }
            Err(e) => {
                let text = format!("can't save a list for the next start: {e} (state_dir)");
                if self.trouble.is_none() {
                    log::error!("{text}; nothing else is affected, and it is tried again");
                }
                self.trouble = Some((text, Instant::now() + MAX_RETRY));
                None
            }
        }
    }
}

fn file_name(version: u64) -> String {
    format!("{version:08}")
}

fn number_of(name: &str) -> Option<u64> {
    (name.len() >= 8 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok()).flatten()
}

/// The name of a source as that of a folder: no slash, no dot in front, not too long.
fn folder_name(source: &str) -> String {
    let mut name = String::new();
    for (at, byte) in source.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'@' | b'+' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            _ => name += &format!("%{byte:02X}"),
        }
    }
    if name.len() > MAX_NAME {
        let sum = crc32fast::hash(source.as_bytes());
        name.truncate(MAX_NAME - 10);
        name += &format!("%%{sum:08x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Domains, Grant, HashKey, Item, Key};

    fn builder() -> Builder {
        Builder::new(HashKey::with_seeds(1, 2, 3, 4), true, Domains::new())
    }

    fn content(name: &str) -> Content {
        let mut builder = builder();
        let key = Key::Recipient { local: name.as_bytes(), domain: b"example.org" };
        builder.add(&Item { key, grant: Grant::ACCEPT }).expect("a good address");
        builder.finish(|_| {})
    }

    fn meta() -> Meta {
        Meta { taken: SystemTime::UNIX_EPOCH, format: Format::Plain, marked: false, origin: "/etc/list".to_owned() }
    }

    fn newest(store: &Store) -> Option<(u64, u64)> {
        store.newest("list", builder).map(|saved| (saved.version, saved.content.digest()))
    }

    #[test]
    fn versions_come_and_go_and_the_newest_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::new(&folder.path().join("not/there/yet"));
        assert_eq!(newest(&store), None);
        for (version, name) in (1..).zip(["a", "b", "c", "d"]) {
            assert_eq!(store.save("list", &content(name), &meta(), 2), Some(version));
            assert_eq!(newest(&store), Some((version, content(name).digest())));
        }
        assert_eq!(store.versions("list"), [4, 3, 2]);
        assert_eq!(store.read("list", 2, builder()).expect("it is kept").content.digest(), content("b").digest());
        let rollback = Rollback { version: 2, instead_of: 4 };
        store.roll_back("list", rollback);
        assert_eq!(store.rolled_back("list"), Some(rollback));
        store.forget_rollback("list");
        assert_eq!(store.rolled_back("list"), None);
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        store.confirm("list", 4, then);
        assert_eq!(store.read("list", 4, builder()).expect("it is there").confirmed, Some(then));
    }

    #[test]
    fn what_has_vanished_is_kept_until_it_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::new(folder.path());
        let kept = |store: &Store| {
            let saved = store.vanished("list", builder).into_iter();
            let mut kept: Vec<_> = saved.map(|(until, content)| (until, content.digest())).collect();
            kept.sort();
            kept
        };
        let time = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let (a, b, c) = (content("a"), content("b"), content("c"));
        store.keep_vanished("list", [(time(100), &a), (time(200), &b)].into_iter());
        assert_eq!(kept(&store), [(time(100), a.digest()), (time(200), b.digest())]);
        store.keep_vanished("list", [(time(200), &c)].into_iter());
        assert_eq!(kept(&store), [(time(200), c.digest())], "the last one has grown, the first is over");
        assert_eq!((store.versions("list"), newest(&store)), (vec![], None), "they are no versions");
        std::fs::write(store.folder_of("list").join("grace-300000"), "cut").expect("written");
        assert_eq!(kept(&store), [(time(200), c.digest())]);
        store.keep_vanished("list", [].into_iter());
        assert_eq!(kept(&store), []);
    }

    #[test]
    fn a_version_that_is_cut_at_any_byte_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::new(folder.path());
        store.save("list", &content("old"), &meta(), 5);
        store.save("list", &content("new"), &meta(), 5);
        let (old, new) = (Some((1, content("old").digest())), Some((2, content("new").digest())));
        let path = store.folder_of("list").join(file_name(2));
        let whole = std::fs::read(&path).expect("it is there");
        for end in 0..whole.len() {
            // So a crash would leave it where the system does not keep the order of write and rename.
            std::fs::write(&path, &whole[..end]).expect("written");
            assert_eq!(newest(&store), old, "cut after {end} of {} bytes", whole.len());
            // And so one before the rename: the file has another name.
            std::fs::write(store.folder_of("list").join(NEW), &whole[..end]).expect("written");
            std::fs::remove_file(&path).expect("it is there");
            assert_eq!(newest(&store), old);
        }
        std::fs::write(&path, &whole).expect("written");
        assert_eq!(newest(&store), new);
    }

    #[test]
    fn trouble_is_remembered_until_it_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let blocked = folder.path().join("state");
        std::fs::write(&blocked, "a file where the folder should be").expect("written");
        let mut store = Store::new(&blocked);
        assert_eq!(store.save("list", &content("a"), &meta(), 5), None);
        assert!(store.trouble().is_some_and(|why| why.contains("state/sources/list: ")), "{:?}", store.trouble());
        std::fs::remove_file(&blocked).expect("it is there");
        assert_eq!((store.save("list", &content("a"), &meta(), 5), store.trouble()), (Some(1), None));
    }

    #[test]
    fn any_name_of_a_source_is_one_of_a_folder() {
        for (source, name) in [("exchange", "exchange"), ("/etc/list.txt", "%2Fetc%2Flist.txt"), ("..", "%2E.")] {
            assert_eq!(folder_name(source), name);
        }
        let (a, b) = (folder_name(&"\u{fc}".repeat(100)), folder_name(&format!("{}a", "\u{fc}".repeat(99))));
        assert!(a.len() <= MAX_NAME && a != b, "{a} {b}");
    }
}
