//! Domain files, tables of maps and next hops: what was last good of each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intake::Findings;
use super::read::{self, ReadAs, Request, SourceError, Taken};
use super::report::{FileReport, State};
use super::slot::MAX_RETRY;
use crate::config::{self, Config, MapKind, Origin};
use crate::map::{Builder, Content, Domains, HashKey};
use crate::source::Options;

/// The files that are no source of recipients.
pub struct Tables {
    key: HashKey,
    domain_files: HashMap<PathBuf, Arc<Vec<Box<[u8]>>>>,
    tables: HashMap<PathBuf, Arc<Content>>,
    /// As of the last load that read them.
    files: Vec<FileReport>,
    due: Option<Instant>,
    pause: Duration,
}

impl Tables {
    /// None has been read yet.
    pub fn new(key: HashKey) -> Tables {
        Tables {
            key,
            domain_files: HashMap::new(),
            tables: HashMap::new(),
            files: Vec::new(),
            due: None,
            pause: Duration::ZERO,
        }
    }

    /// The domains that a file lists, once it was read.
    pub fn domains(&self, path: &Path) -> Option<&[Box<[u8]>]> {
        self.domain_files.get(path).map(|listed| listed.as_slice())
    }

    /// The pairs of a table, once it was read.
    pub fn table(&self, path: &Path) -> Option<&Arc<Content>> {
        self.tables.get(path)
    }

    /// What became of each file.
    pub fn reports(&self) -> Vec<FileReport> {
        self.files.clone()
    }

    /// When one that could not be read is to be tried again.
    pub fn next(&self) -> Option<Instant> {
        self.due
    }

    /// Reads domain files and tables, where wished for or due. Whether one has changed, and how many were read.
    pub fn read(&mut self, config: &Config, all: bool, now: Instant) -> (bool, usize) {
        if !all && self.due.is_none_or(|due| due > now) {
            self.files.iter_mut().for_each(|file| (file.is_new_error, file.has_new_faults) = (false, false));
            return (false, 0);
        }
        let mut is_change = false;
        let mut files = Vec::new();
        for path in config.domains.iter().filter_map(|domain| domain.file.as_ref()) {
            let read = self.read_file(path, ReadAs::OurDomains, false).map(|taken| {
                let names = Arc::new(taken.content.domains().map(|(name, _)| name.into()).collect());
                let old = self.domain_files.insert(path.clone(), Arc::clone(&names));
                is_change |= old != Some(names);
                taken.findings
            });
            let entries = self.domain_files.get(path).map(|names| names.len());
            files.push(self.file_report(path, "domains", read, entries));
        }
        let maps = config.maps.iter().filter(|map| map.kind == MapKind::Table);
        let maps = maps.filter_map(|map| Some((map.path.as_ref()?, map.name.as_str())));
        let nexthops = config.nexthops.iter().map(|nexthops| (&nexthops.file, "next hops"));
        for (path, what) in maps.chain(nexthops) {
            let read = self.read_file(path, ReadAs::Table, true).map(|taken| {
                if self.tables.get(path).is_none_or(|old| old.digest() != taken.content.digest()) {
                    self.tables.insert(path.clone(), Arc::new(taken.content));
                    is_change = true;
                }
                taken.findings
            });
            let entries = self.tables.get(path).map(|table| table.pairs().len());
            files.push(self.file_report(path, what, read, entries));
        }
        self.domain_files.retain(|path, _| files.iter().any(|file| file.path == *path));
        self.tables.retain(|path, _| files.iter().any(|file| file.path == *path));
        let failed = files.iter().any(|file| file.may_pass);
        self.pause = match (failed, self.pause) {
            (false, _) => Duration::ZERO,
            (true, Duration::ZERO) => config::DEFAULT_RETRY,
            (true, pause) => (pause * 2).min(MAX_RETRY),
        };
        self.due = failed.then(|| Instant::now() + self.pause);
        self.files = files;
        (is_change, self.files.len())
    }

    fn read_file(&self, path: &Path, read_as: ReadAs, keep_values: bool) -> Result<Taken, SourceError> {
        let options = Options::default();
        let request = Request {
            origin: &Origin::Path(path.into()),
            read_as,
            options: &options,
            min_entries: 1,
            timeout: Duration::ZERO,
            known: None,
            several: false,
            keep_lines: false,
            name: "",
        };
        read::read(&request, |_| Builder::new(self.key.clone(), keep_values, Domains::new()))
    }

    fn file_report(
        &self,
        path: &Path,
        what: &str,
        read: Result<Findings, SourceError>,
        entries: Option<usize>,
    ) -> FileReport {
        let before = self.files.iter().find(|file| file.path == path);
        let (findings, error) = match read {
            Ok(findings) => (findings, None),
            Err(error) => (before.map_or_else(Findings::default, |before| before.findings.clone()), Some(error)),
        };
        let may_pass = error.as_ref().is_some_and(SourceError::may_pass);
        let state = match (&error, entries) {
            (None, _) => State::Taken,
            (Some(_), Some(_)) => State::Kept,
            (Some(_), None) => State::Missing,
        };
        let error = error.map(|error| error.to_string());
        FileReport {
            path: path.into(),
            what: what.to_owned(),
            state,
            may_pass,
            is_new_error: error.as_ref() != before.and_then(|before| before.error.as_ref()),
            error,
            entries: entries.unwrap_or(0),
            has_new_faults: before.is_none_or(|before| before.findings.faults != findings.faults),
            findings,
        }
    }
}
