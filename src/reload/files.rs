//! The files of a source: one, those of a folder, or those that a pattern matches; and whether they have changed.
//!
//! A folder stands for its regular files in the order of their names; names that begin with a dot, or end in `~` or
//! `.new` (what Mailman and others write before they rename it) are left out. A pattern has `*` and `?` in its last
//! component only. A name that can't be looked behind (a link into a share that is not mounted) stays in: reading it fails,
//! and with it the whole source, for nobody knows who is listed there.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::read::{SourceError, unreadable};

/// The files of a source.
#[derive(Debug, PartialEq, Eq)]
pub struct Files {
    /// In the order in which they are read.
    pub paths: Vec<PathBuf>,
    /// The source may have several, even if now it has one.
    pub several: bool,
}

/// Finds the files.
pub fn find(path: &Path) -> Result<Files, SourceError> {
    let (folder, pattern) = match split_pattern(path) {
        Some((folder, pattern)) => (folder, Some(pattern)),
        None if std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) => (path, None),
        None => return Ok(Files { paths: vec![path.into()], several: false }),
    };
    let wanted = |name: &OsStr| {
        let name = name.as_bytes();
        let aside = name.starts_with(b".") || name.ends_with(b"~") || name.ends_with(b".new");
        !aside && pattern.is_none_or(|pattern| matches(pattern.as_bytes(), name))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| unreadable(folder, &e))? {
        let entry = entry.map_err(|e| unreadable(folder, &e))?;
        let path = entry.path();
        if wanted(&entry.file_name()) && std::fs::metadata(&path).map_or(true, |metadata| metadata.is_file()) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(SourceError::NoFiles { path: path.into() });
    }
    paths.sort();
    Ok(Files { paths, several: true })
}

/// The folder and the pattern of a path whose last component is a pattern, and names no file as it is.
pub fn split_pattern(path: &Path) -> Option<(&Path, &OsStr)> {
    let name = path.file_name()?;
    let is_pattern = name.as_bytes().iter().any(|b| matches!(b, b'*' | b'?')) && path.symlink_metadata().is_err();
    is_pattern.then(|| (path.parent().unwrap_or(Path::new("/")), name))
}

/// Whether a name matches a pattern: `*` any text, `?` one character of one byte.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last asterisk stands, and what it takes so far: on a mismatch it takes one more.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(&b) if b == b'?' || b == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((star, taken)) => {
                    retry = Some((star, taken + 1));
                    (p, n) = (star + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// What tells that a file is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    /// Bytes.
    pub size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Of a file's metadata.
    pub fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether the other is of the same file, whatever is in it.
    pub fn is_same_file(&self, other: &Stamp) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// The files of a source as they are at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    files: Vec<(PathBuf, Result<Stamp, io::ErrorKind>)>,
}

impl Look {
    /// Looks at the files; none are read.
    pub fn at(path: &Path) -> Look {
        let paths = match find(path) {
            Ok(files) => files.paths,
            // What can't be listed is a file that can't be seen.
            Err(_) => vec![path.into()],
        };
        let stamp = |path: &PathBuf| std::fs::metadata(path).map(|m| Stamp::of(&m)).map_err(|e| e.kind());
        Look { files: paths.iter().map(|path| (path.clone(), stamp(path))).collect() }
    }

    /// How a file was.
    pub fn stamp(&self, path: &Path) -> Option<&Stamp> {
        self.files.iter().find(|(there, _)| there == path).and_then(|(_, stamp)| stamp.as_ref().ok())
    }
}

/// When the newest of the files was last changed.
pub fn newest(times: impl IntoIterator<Item = Option<SystemTime>>) -> Option<SystemTime> {
    times.into_iter().flatten().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.csv", "users.csv", true),
            ("*.csv", "users.csv.old", false),
            ("?sers.*", "users.csv", true),
            ("?sers.*", "sers.csv", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "", true),
            ("", "", true),
            ("*a", "aaa", true),
            ("list", "list", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_folder_is_its_files_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b", "a.csv", "c.csv", ".hidden", "d~", "e.csv.new"] {
            std::fs::write(folder.path().join(name), "x").expect("written");
        }
        std::fs::create_dir(folder.path().join("f.csv")).expect("a folder in it");
        let names = |path: &Path| -> Vec<String> {
            let files = find(path).expect("there are some");
            assert!(files.several);
            files.paths.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
        };
        assert_eq!(names(folder.path()), ["a.csv", "b", "c.csv"]);
        assert_eq!(names(&folder.path().join("*.csv")), ["a.csv", "c.csv"]);
        std::os::unix::fs::symlink("/nonexistent/share/b", folder.path().join("b2")).expect("a link");
        assert_eq!(names(folder.path()), ["a.csv", "b", "b2", "c.csv"], "what can't be seen is not left out");
        assert!(matches!(find(&folder.path().join("*.ldif")), Err(SourceError::NoFiles { .. })));
        assert!(matches!(find(&folder.path().join("no/*.csv")), Err(SourceError::Missing { .. })));
        // A name that looks like a pattern is a name, if there is such a file.
        std::fs::write(folder.path().join("odd*"), "x").expect("written");
        let odd = find(&folder.path().join("odd*")).expect("it is there");
        assert!(!odd.several && odd.paths.len() == 1);
    }

    #[test]
    fn a_look_tells_whether_something_has_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, pattern) = (folder.path().join("list"), folder.path().join("l*"));
        let missing = Look::at(&path);
        assert_eq!(missing, Look::at(&path));
        std::fs::write(&path, "a").expect("written");
        let (one, all) = (Look::at(&path), Look::at(&pattern));
        assert_ne!(missing, one);
        std::fs::write(&path, "ab").expect("written");
        assert_ne!(one, Look::at(&path));
        std::fs::write(folder.path().join("list2"), "a").expect("written");
        assert_ne!(all, Look::at(&pattern));
        let stamp = |look: &Look| *look.stamp(&path).expect("seen");
        assert!(stamp(&one).is_same_file(&stamp(&Look::at(&path))));
    }
}
