//! Domain files, tables of maps and next hops: what was last good of each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::Look;
use super::guard;
use super::intake::Findings;
use super::read::{self, ReadAs, Request, SETTLING, SourceError, Taken};
use super::report::{FileReport, State};
use super::slot::MAX_RETRY;
use crate::config::{self, Config, MapKind, Origin};
use crate::logging::escape;
use crate::map::{Builder, Content, Domains, HashKey};
use crate::source::Options;

/// With more names than this a domain file or table does not lose a large share of them by intention.
const FEW_NAMES: usize = 4;

/// The files that are no source of recipients.
#[derive(Clone)]
pub struct Tables {
    key: HashKey,
    domain_files: HashMap<PathBuf, Kept>,
    tables: HashMap<PathBuf, Kept>,
    /// As of the last load that read them.
    files: Vec<FileReport>,
    due: Option<Instant>,
    pause: Duration,
}

/// What is in force of a file.
#[derive(Clone)]
struct Kept {
    content: Arc<Content>,
    look: Look,
}

/// What became of a file that was read.
enum Fate {
    /// It is in force; whether it says something new, and what it no longer names.
    Taken(Findings, bool, Vec<String>),
    /// It is to be looked at again in a moment; until then it is as it was.
    Settling,
}

/// Who says what may be lost, and how.
pub struct Force<'a> {
    /// What is to be taken in any case: names of sources, paths of files.
    pub names: &'a [String],
    /// The command that takes it in any case.
    pub command: &'a dyn Fn(&str) -> String,
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
    pub fn domains(&self, path: &Path) -> Option<impl Iterator<Item = &[u8]>> {
        self.domain_files.get(path).map(|kept| kept.content.domains().map(|(name, _)| name))
    }

    /// The pairs of a table, once it was read.
    pub fn table(&self, path: &Path) -> Option<&Arc<Content>> {
        self.tables.get(path).map(|kept| &kept.content)
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
    pub fn read(&mut self, config: &Config, all: bool, force: &Force<'_>, now: Instant) -> (bool, usize) {
        if !all && self.due.is_none_or(|due| due > now) {
            self.files.iter_mut().for_each(FileReport::grow_old);
            return (false, 0);
        }
        let (mut is_change, mut is_settling) = (false, false);
        let mut files: Vec<FileReport> = Vec::new();
        let domains = config.domains.iter().filter_map(|domain| domain.file.as_ref());
        let maps = config.maps.iter().filter(|map| map.kind == MapKind::Table);
        let maps = maps.filter_map(|map| Some((map.path.as_ref()?, map.name.as_str(), ReadAs::Table)));
        let nexthops = config.nexthops.iter().map(|nexthops| (&nexthops.file, "next hops", ReadAs::Table));
        for (path, what, read_as) in
            domains.map(|path| (path, "domains", ReadAs::OurDomains)).chain(maps).chain(nexthops)
        {
            let read = match self.take(path, read_as, force) {
                Ok(Fate::Settling) => {
                    is_settling = true;
                    let mut before = self.files.iter().find(|file| file.path == *path).cloned();
                    before.iter_mut().for_each(FileReport::grow_old);
                    files.extend(before);
                    continue;
                }
                Ok(Fate::Taken(findings, is_new, lost)) => {
                    is_change |= is_new;
                    Ok((findings, lost))
                }
                Err(error) => Err(error),
            };
            let content = self.kept(read_as).get(path).map(|kept| &kept.content);
            let entries = content.map(|content| content.statements());
            files.push(self.file_report(path, what, read, entries, force));
        }
        self.domain_files.retain(|path, _| files.iter().any(|file| file.path == *path));
        self.tables.retain(|path, _| files.iter().any(|file| file.path == *path));
        let failed = files.iter().any(|file| file.may_pass);
        self.pause = match (failed, self.pause) {
            (false, _) => Duration::ZERO,
            (true, Duration::ZERO) => config::DEFAULT_RETRY,
            (true, pause) => (pause * 2).min(MAX_RETRY),
        };
        let pause = [failed.then_some(self.pause), is_settling.then_some(SETTLING)].into_iter().flatten().min();
        self.due = pause.map(|pause| Instant::now() + pause);
        self.files = files;
        (is_change, self.files.len())
    }

    fn kept(&mut self, read_as: ReadAs) -> &mut HashMap<PathBuf, Kept> {
        match read_as {
            ReadAs::OurDomains => &mut self.domain_files,
            _ => &mut self.tables,
        }
    }

    /// Reads a file, and takes what it says unless that looks like an accident.
    fn take(&mut self, path: &Path, read_as: ReadAs, force: &Force<'_>) -> Result<Fate, SourceError> {
        let look = Look::at(path);
        let known = self.kept(read_as).get(path).map(|kept| kept.look.clone());
        let Taken { content, findings, is_settling, .. } = self.read_file(path, read_as, known.as_ref())?;
        let (mut is_new, mut gone) = (true, Vec::new());
        if let Some(old) = self.kept(read_as).get(path) {
            is_new = old.content.digest() != content.digest();
            let is_forced = force.names.iter().any(|name| Path::new(name) == path);
            let names = if is_new { lost(&old.content, &content) } else { Vec::new() };
            let lost = if is_forced { 0 } else { names.len() };
            // In the middle of being written it is shorter than before and than after.
            if lost > 0 && is_settling {
                return Ok(Fate::Settling);
            }
            let (before, after) = (old.content.statements(), content.statements());
            guard::share(FEW_NAMES, before, lost, after, config::DEFAULT_MAX_SHRINK)
                .map_err(|guard| SourceError::Guarded { path: path.into(), guard })?;
            gone = names;
        }
        self.kept(read_as).insert(path.into(), Kept { content: Arc::new(content), look });
        Ok(Fate::Taken(findings, is_new, gone))
    }

    fn read_file(&self, path: &Path, read_as: ReadAs, known: Option<&Look>) -> Result<Taken, SourceError> {
        let keep_values = read_as == ReadAs::Table;
        let options = Options::default();
        let request = Request {
            origin: &Origin::Path(path.into()),
            read_as,
            options: &options,
            min_entries: 1,
            timeout: Duration::ZERO,
            known,
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
        read: Result<(Findings, Vec<String>), SourceError>,
        entries: Option<usize>,
        force: &Force<'_>,
    ) -> FileReport {
        let before = self.files.iter().find(|file| file.path == path);
        let ((findings, lost), error) = match read {
            Ok(read) => (read, None),
            Err(error) => {
                let findings = before.map_or_else(Findings::default, |before| before.findings.clone());
                ((findings, Vec::new()), Some(error))
            }
        };
        let may_pass = error.as_ref().is_some_and(SourceError::may_pass);
        let state = match (&error, entries) {
            (None, _) => State::Taken,
            (Some(_), Some(_)) => State::Kept,
            (Some(_), None) => State::Missing,
        };
        let error = error.map(|error| match error.can_be_forced() {
            true => format!("{error}; if that is right: {}", (force.command)(&path.to_string_lossy())),
            false => error.to_string(),
        });
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
            lost,
        }
    }
}

/// Domains and keys that the old version of a file had and the new one has not.
fn lost(old: &Content, new: &Content) -> Vec<String> {
    let domains = old.domains().map(|(name, _)| name).filter(|name| !new.names(name));
    let keys = old.pairs().iter().map(|(key, _)| key).filter(|key| new.pairs().find(key).is_none());
    domains.chain(keys).map(|name| escape(name).to_string()).collect()
}
