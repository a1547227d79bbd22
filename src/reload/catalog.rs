//! All sources, domain files and tables: what was last good of each, and the directory that they make together.
//!
//! Each keeps its own last good content. A load reads everything again; what can't be taken stays as it was, and the
//! report says why. Runs on the loader's thread, and in `check` and `explain`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::read::{self, Findings, ReadAs, Request, SourceError, Taken};
use crate::config::{self, Config, MapKind, MapValue, Origin, Wrapper};
use crate::map::{Builder, Content, DomainGroup, Domains, HashKey, Mode, Policy, Snapshot, Source, Verify};
use crate::resolve::{Directory, Kind, Map, ValueOf};
use crate::source::{Format, Options};

/// What became of a source, a domain file or a table in the last load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its new content is in force.
    Taken,
    /// It could not be taken; the last good content is in force.
    Kept,
    /// It could not be taken, and there is nothing to fall back to.
    Missing,
}

impl State {
    /// The word for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            State::Taken => "ok",
            State::Kept => "kept",
            State::Missing => "missing",
        }
    }
}

/// What is known about one source.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// Its name in the configuration.
    pub name: String,
    /// Where it comes from.
    pub origin: String,
    /// What became of it.
    pub state: State,
    /// Why it was not taken.
    pub error: Option<String>,
    /// Whether another try may help.
    pub may_pass: bool,
    /// Format of the content in force.
    pub format: Option<Format>,
    /// Why that format, when it was found out.
    pub why: Option<String>,
    /// Formats that would have fitted as well.
    pub also: Vec<Format>,
    /// Keys in force.
    pub recipients: usize,
    /// Keys in force that belong to none of our domains.
    pub foreign: usize,
    /// Lines of the content in force.
    pub lines: u32,
    /// What else was in it.
    pub findings: Findings,
    /// When the content in force was taken.
    pub taken_at: Option<SystemTime>,
    /// When the file of the content in force was last changed.
    pub modified: Option<SystemTime>,
}

/// What is known about a domain file or a table.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// What it serves: a map's name, or "domains".
    pub what: String,
    /// What became of it.
    pub state: State,
    /// Why it was not taken.
    pub error: Option<String>,
    /// Whether another try may help.
    pub may_pass: bool,
    /// Domains or keys in force.
    pub entries: usize,
}

/// What a load did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many loads there were, this one included.
    pub serial: u64,
    /// When it ended.
    pub at: Option<SystemTime>,
    /// How long it took.
    pub took: Duration,
    /// Why the configuration was not taken; then nothing else was.
    pub config_error: Option<String>,
    /// Every source, in the order of the configuration.
    pub sources: Vec<SourceReport>,
    /// Domain files and tables.
    pub files: Vec<FileReport>,
    /// Our domains.
    pub domains: usize,
    /// Keys in force, without foreign ones.
    pub recipients: usize,
    /// Bytes of the heap that they take.
    pub heap_bytes: usize,
}

impl Report {
    /// Whether everything was taken.
    pub fn is_good(&self) -> bool {
        self.config_error.is_none() && self.errors().next().is_none()
    }

    /// Why what was not taken.
    pub fn errors(&self) -> impl Iterator<Item = &str> {
        let sources = self.sources.iter().filter_map(|source| source.error.as_deref());
        self.config_error
            .as_deref()
            .into_iter()
            .chain(sources)
            .chain(self.files.iter().filter_map(|f| f.error.as_deref()))
    }

    /// Whether something is not there that another try may find.
    pub fn may_pass(&self) -> bool {
        self.sources.iter().any(|source| source.may_pass) || self.files.iter().any(|file| file.may_pass)
    }

    /// Bad lines of all sources in force.
    pub fn faults(&self) -> usize {
        self.sources.iter().map(|source| source.findings.fault_count).sum()
    }
}

/// The last good content of everything.
pub struct Catalog {
    key: HashKey,
    sources: HashMap<String, Kept>,
    domain_files: HashMap<PathBuf, Arc<Vec<Box<[u8]>>>>,
    tables: HashMap<PathBuf, Arc<Content>>,
    keep_lines: bool,
    serial: u64,
}

struct Kept {
    content: Arc<Content>,
    report: SourceReport,
    /// Line of each statement, for `explain`.
    lines: Vec<u32>,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog::new(false)
    }
}

impl Catalog {
    /// Nothing is known yet. `keep_lines`: remember the line of every statement, as `check` and `explain` want it.
    pub fn new(keep_lines: bool) -> Catalog {
        Catalog {
            key: HashKey::new(),
            sources: HashMap::new(),
            domain_files: HashMap::new(),
            tables: HashMap::new(),
            keep_lines,
            serial: 0,
        }
    }

    /// Reads everything again.
    pub fn load(&mut self, config: &Config) -> (Directory, Report) {
        let began = Instant::now();
        let case_sensitive: Domains = config
            .domains
            .iter()
            .filter(|domain| domain.case_sensitive)
            .flat_map(|domain| domain.names.iter().map(|name| name.0.as_bytes().into()))
            .collect();
        let wants_values = config.maps.iter().any(|map| map.value == MapValue::Source);
        let mut reports = Vec::new();
        for source in &config.sources {
            reports.push(self.load_source(source, wants_values, &case_sensitive));
        }
        self.sources.retain(|name, _| config.sources.iter().any(|source| source.name == *name));
        let mut files = Vec::new();
        let (groups, groups_complete) = self.groups(config, &mut files);
        let maps = config.maps.iter().map(|map| self.map(map, &mut files)).collect();
        self.domain_files.retain(|path, _| files.iter().any(|file| file.path == *path));
        self.tables.retain(|path, _| files.iter().any(|file| file.path == *path));
        let sources = config.sources.iter().map(|source| self.source(source)).collect();
        let snapshot = Snapshot::new(self.key.clone(), sources, groups, groups_complete, Policy::default());
        for (report, source) in reports.iter_mut().zip(snapshot.sources()) {
            if let Some(content) = &source.content {
                report.recipients = content.len();
                report.foreign = snapshot.foreign_keys(content);
            }
        }
        self.serial += 1;
        let report = Report {
            serial: self.serial,
            at: Some(SystemTime::now()),
            took: began.elapsed(),
            config_error: None,
            domains: snapshot.domains().len(),
            recipients: reports.iter().map(|report| report.recipients - report.foreign).sum(),
            heap_bytes: snapshot.sources().iter().flat_map(|s| &s.content).map(|content| content.heap_bytes()).sum(),
            sources: reports,
            files,
        };
        (Directory::new(snapshot, maps), report)
    }

    /// The report of a configuration that could not be taken: everything else is as it was.
    pub fn refuse(&mut self, last: &Report, error: String) -> Report {
        self.serial += 1;
        Report { serial: self.serial, at: Some(SystemTime::now()), config_error: Some(error), ..last.clone() }
    }

    /// The line of a source at which the statement with this number stands.
    pub fn line(&self, source: &str, number: usize) -> Option<u32> {
        self.sources.get(source)?.lines.get(number).copied()
    }

    fn load_source(&mut self, source: &config::Source, wants_values: bool, case_sensitive: &Domains) -> SourceReport {
        match self.read_source(source, wants_values, case_sensitive) {
            Ok(taken) => self.take(source, taken),
            Err(error) => self.keep(source, &error),
        }
    }

    fn read_source(
        &self,
        source: &config::Source,
        wants_values: bool,
        case_sensitive: &Domains,
    ) -> Result<Taken, SourceError> {
        let path = match &source.origin {
            Origin::Path(path) => path,
            // Config::supported has refused it.
            Origin::Command(_) => {
                return Err(SourceError::NoFile { path: source.origin.to_string().into(), what: "a command" });
            }
        };
        let options = Options {
            domain: source.domain.as_ref().map_or_else(Vec::new, |domain| domain.0.clone().into_bytes()),
            ..Options::default()
        };
        let request = Request {
            path,
            read_as: source.format.map_or(ReadAs::Detected, ReadAs::List),
            options: &options,
            min_entries: source.min_entries,
            keep_lines: self.keep_lines,
        };
        // An access file's own words (DISCARD) count whether or not some map serves values.
        read::read(&request, |format| {
            let keep_values = wants_values || format == Some(Format::Access);
            Builder::new(self.key.clone(), keep_values, case_sensitive.clone())
        })
    }

    fn take(&mut self, source: &config::Source, taken: Taken) -> SourceReport {
        let report = SourceReport {
            name: source.name.clone(),
            origin: source.origin.to_string(),
            state: State::Taken,
            error: None,
            may_pass: false,
            format: taken.format,
            why: taken.why,
            also: taken.also,
            recipients: taken.content.len(),
            foreign: 0,
            lines: taken.summary.lines,
            findings: taken.findings,
            taken_at: Some(SystemTime::now()),
            modified: taken.modified,
        };
        let kept = Kept { content: Arc::new(taken.content), report: report.clone(), lines: taken.lines };
        self.sources.insert(source.name.clone(), kept);
        report
    }

    fn keep(&mut self, source: &config::Source, error: &SourceError) -> SourceReport {
        let (error, may_pass) = (Some(error.to_string()), error.may_pass());
        match self.sources.get(&source.name) {
            Some(kept) => SourceReport { state: State::Kept, error, may_pass, ..kept.report.clone() },
            None => SourceReport {
                name: source.name.clone(),
                origin: source.origin.to_string(),
                state: State::Missing,
                error,
                may_pass,
                format: None,
                why: None,
                also: Vec::new(),
                recipients: 0,
                foreign: 0,
                lines: 0,
                findings: Findings::default(),
                taken_at: None,
                modified: None,
            },
        }
    }

    fn source(&self, source: &config::Source) -> Source {
        Source {
            name: source.name.as_str().into(),
            priority: source.priority,
            content: self.sources.get(&source.name).map(|kept| Arc::clone(&kept.content)),
        }
    }

    /// Our domains; `false` when a domain file is missing, so that we don't know all of them.
    fn groups(&mut self, config: &Config, files: &mut Vec<FileReport>) -> (Vec<DomainGroup>, bool) {
        let mut complete = true;
        let mut groups = Vec::new();
        for domain in &config.domains {
            let mut names: Vec<Box<[u8]>> = domain.names.iter().map(|name| name.0.as_bytes().into()).collect();
            if let Some(path) = &domain.file {
                match self.domain_file(path, files) {
                    Some(listed) => names.extend(listed.iter().cloned()),
                    None => complete = false,
                }
            }
            groups.push(DomainGroup { names, policy: policy(domain) });
        }
        (groups, complete)
    }

    fn domain_file(&mut self, path: &Path, files: &mut Vec<FileReport>) -> Option<Arc<Vec<Box<[u8]>>>> {
        let read = self.read_file(path, ReadAs::List(Format::Domains), false).map(|taken| {
            let names = taken.content.domains().map(|(name, _)| name.into()).collect();
            self.domain_files.insert(path.into(), Arc::new(names));
        });
        let kept = self.domain_files.get(path).cloned();
        files.push(file_report(path, "domains", read.err(), kept.as_ref().map(|names| names.len())));
        kept
    }

    fn map(&mut self, map: &config::MapConfig, files: &mut Vec<FileReport>) -> Map {
        let kind = match map.kind {
            MapKind::Recipients => Kind::Recipients(match &map.value {
                MapValue::Echo => ValueOf::Echo,
                MapValue::Source => ValueOf::Source,
                MapValue::Word(word) => ValueOf::Word(word.as_str().into()),
            }),
            MapKind::Access => Kind::Access,
            MapKind::Check => Kind::Check,
            MapKind::Domains => Kind::Domains,
            MapKind::Table => Kind::Table(map.path.as_ref().and_then(|path| self.table(path, &map.name, files))),
            // Config::supported has refused it.
            MapKind::Nexthop => Kind::Table(None),
        };
        Map { name: map.name.as_str().into(), kind }
    }

    fn table(&mut self, path: &Path, name: &str, files: &mut Vec<FileReport>) -> Option<Arc<Content>> {
        let read = self.read_file(path, ReadAs::Table, true);
        let read = read.map(|taken| self.tables.insert(path.into(), Arc::new(taken.content)));
        let kept = self.tables.get(path).cloned();
        files.push(file_report(path, name, read.err(), kept.as_ref().map(|table| table.pairs().len())));
        kept
    }

    fn read_file(&self, path: &Path, read_as: ReadAs, keep_values: bool) -> Result<Taken, SourceError> {
        let options = Options::default();
        let request = Request { path, read_as, options: &options, min_entries: 1, keep_lines: false };
        read::read(&request, |_| Builder::new(self.key.clone(), keep_values, Domains::new()))
    }
}

fn file_report(path: &Path, what: &str, error: Option<SourceError>, entries: Option<usize>) -> FileReport {
    FileReport {
        path: path.into(),
        what: what.to_owned(),
        state: match (&error, entries) {
            (None, _) => State::Taken,
            (Some(_), Some(_)) => State::Kept,
            (Some(_), None) => State::Missing,
        },
        may_pass: error.as_ref().is_some_and(SourceError::may_pass),
        error: error.map(|error| error.to_string()),
        entries: entries.unwrap_or(0),
    }
}

fn policy(domain: &config::RelayDomain) -> Policy {
    Policy {
        subdomains: domain.subdomains,
        same_as: domain.same_as.as_ref().map(|main| main.0.as_bytes().into()),
        mode: match domain.mode {
            config::Mode::Enforce => Mode::Enforce,
            config::Mode::Warn => Mode::Warn,
            config::Mode::Off => Mode::Off,
        },
        delimiters: domain.subaddress.as_slice().into(),
        case_sensitive: domain.case_sensitive,
        always: domain.always.iter().map(|name| name.as_bytes().into()).collect(),
        batv: domain.unwrap.contains(&Wrapper::Batv),
        srs: domain.unwrap.contains(&Wrapper::Srs),
        skip: domain.skip,
        verify: match domain.verify {
            config::Verify::List => Verify::List,
            config::Verify::Probe => Verify::Probe,
            config::Verify::ListThenProbe => Verify::ListThenProbe,
            config::Verify::Both => Verify::Both,
        },
        backend: domain.backend.as_deref().map(Into::into),
        unavailable_exists: domain.unavailable.map(|unavailable| unavailable == config::Unavailable::Accept),
        absent: domain.absent.clone(),
        unknown: domain.unknown.clone(),
    }
}
