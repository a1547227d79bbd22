//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A line in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as it was named to us.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One thing that must be changed before the configuration can be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where; `line` is 0 when it concerns the file as a whole.
    pub place: Place,
    /// The offending text, what is wrong with it and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.line {
            0 => write!(f, "{}: {}", self.place.file.display(), self.text),
            _ => write!(f, "{}: {}", self.place, self.text),
        }
    }
}

/// Why a configuration is refused: everything that was found, in the order of the files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// What was found at which offset, as an error, if there is anything; in the order of the files.
    pub(super) fn check(map: &SourceMap, mut found: Vec<(usize, String)>) -> Result<(), ConfigError> {
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(|(offset, _)| *offset);
        let problems = found.into_iter().map(|(offset, text)| Problem { place: map.place(offset), text });
        Err(ConfigError { problems: problems.collect() })
    }

    /// One problem that concerns `file` as a whole.
    pub(super) fn whole_file(file: &Path, text: impl Into<String>) -> ConfigError {
        let place = Place { file: file.into(), line: 0 };
        ConfigError { problems: vec![Problem { place, text: text.into() }] }
    }
}

/// One file of a configuration, as the bytes of all of them laid end to end.
struct File {
    name: Arc<Path>,
    base: usize,
    line_starts: Vec<usize>,
}

/// All files of a configuration laid end to end: a byte offset names a file and a line (as rustc's source map does).
#[derive(Default)]
pub(super) struct SourceMap {
    files: Vec<File>,
    end: usize,
}

impl SourceMap {
    /// Adds a file and tells the offset of its first byte.
    pub(super) fn add(&mut self, name: &Path, text: &str) -> usize {
        let base = self.end;
        let line_starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|i| i + 1));
        self.files.push(File { name: name.into(), base, line_starts: line_starts.collect() });
        self.end = base + text.len() + 1; // an error at the end of a file belongs to that file
        base
    }

    /// The place of a byte.
    pub(super) fn place(&self, offset: usize) -> Place {
        let index = self.files.partition_point(|f| f.base <= offset).saturating_sub(1);
        match self.files.get(index) {
            Some(file) => Place {
                file: Arc::clone(&file.name),
                line: file.line_starts.partition_point(|&start| start <= offset - file.base).max(1),
            },
            None => Place { file: Path::new("").into(), line: 0 },
        }
    }

    /// The first byte of a line.
    pub(super) fn offset(&self, place: &Place) -> Option<usize> {
        let file = self.files.iter().find(|f| f.name == place.file)?;
        Some(file.base + file.line_starts.get(place.line.checked_sub(1)?)?)
    }

    /// How another place is told in a message about `here`: "line 12", with the file when that is another one.
    pub(super) fn other(&self, here: usize, offset: usize) -> String {
        let (here, place) = (self.place(here), self.place(offset));
        if here.file == place.file { format!("line {}", place.line) } else { place.to_string() }
    }

    /// The files in the order in which they were read.
    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.files.iter().map(|f| f.name.to_path_buf()).collect()
    }
}

/// The known word that `word` was most likely meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).max(1);
    let folded = word.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|k| (distance(&folded, &k.replace('-', "_")), k))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Edit distance where two neighbours changing places counts once (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_a_likely_one_or_none() {
        let known = ["idle", "sessions", "sessions_per_peer", "request", "request_bytes"];
        assert_eq!(nearest("idel", known), Some("idle"));
        assert_eq!(nearest("Session", known), Some("sessions"));
        assert_eq!(nearest("sessions-per-peer", known), Some("sessions_per_peer"));
        assert_eq!(nearest("reqest_byte", known), Some("request_bytes"));
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn an_offset_names_file_and_line() {
        let mut map = SourceMap::default();
        assert_eq!(map.add(Path::new("a"), "x\ny\n"), 0);
        let base = map.add(Path::new("b"), "z");
        let place = |o| map.place(o).to_string();
        assert_eq!([place(0), place(1), place(2), place(4)], ["a:1", "a:1", "a:2", "a:3"]);
        assert_eq!([place(base), place(base + 1)], ["b:1", "b:1"]);
        assert_eq!(map.other(0, 2), "line 2");
        assert_eq!(map.other(0, base), "b:1");
    }
}
