//! What a load did: for the log, `status`, `check` and `reload`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::intake::Findings;
use crate::map::Changes;
use crate::source::Format;

/// What became of a source, a domain file or a table in the last load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// What it says is in force.
    Taken,
    /// It could not be taken; the last good content is in force.
    Kept,
    /// What was saved by an earlier run is in force, until it has been read.
    Saved,
    /// An old version is in force by command, until what it says changes.
    RolledBack,
    /// The content in force is older than `max_age`: who is not listed is unknown.
    Old,
    /// It could not be taken, and there is nothing to fall back to.
    #[default]
    Missing,
}

impl State {
    /// The word for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            State::Taken => "ok",
            State::Kept => "kept",
            State::Saved => "saved",
            State::RolledBack => "rolled-back",
            State::Old => "old",
            State::Missing => "missing",
        }
    }
}

/// What is known about one source.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    /// Its name in the configuration.
    pub name: String,
    /// Where it comes from.
    pub origin: String,
    /// What became of it.
    pub state: State,
    /// Why it was not taken.
    pub error: Option<String>,
    /// The error is another one than in the load before.
    pub is_new_error: bool,
    /// There was an error in the load before.
    pub is_mended: bool,
    /// Whether another try may help.
    pub may_pass: bool,
    /// The command that takes it all the same, where a guard holds it back.
    pub force: Option<String>,
    /// Format of the content in force.
    pub format: Option<Format>,
    /// Why that format, when it was found out.
    pub why: Option<String>,
    /// Formats that would have fitted as well.
    pub also: Vec<Format>,
    /// Recipients in force (and wildcards and catch-alls), foreign ones included.
    pub recipients: usize,
    /// Keys in force that are listed to be refused, foreign ones included.
    pub refusals: usize,
    /// Keys in force, refusals included, that belong to none of our domains.
    pub foreign: usize,
    /// Those of the foreign keys that are refusals.
    pub foreign_refusals: usize,
    /// Lines of the content in force.
    pub lines: u32,
    /// What else was in it.
    pub findings: Findings,
    /// When the content in force was taken.
    pub taken_at: Option<SystemTime>,
    /// When the file of the content in force was last changed, or the program run.
    pub modified: Option<SystemTime>,
    /// What this load has changed; `None`: nothing, or it was not read.
    pub changes: Option<Arc<Changes>>,
    /// The number under which the content in force is saved.
    pub version: Option<u64>,
    /// Addresses that have vanished and are still accepted.
    pub vanished: usize,
}

impl SourceReport {
    /// Recipients of our domains.
    pub fn ours(&self) -> usize {
        self.recipients.saturating_sub(self.foreign - self.foreign_refusals)
    }
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
    /// The error is another one than in the load before.
    pub is_new_error: bool,
    /// Whether another try may help.
    pub may_pass: bool,
    /// Domains or keys in force.
    pub entries: usize,
    /// What else was in it.
    pub findings: Findings,
    /// Its bad lines are others than in the load before.
    pub has_new_faults: bool,
    /// Domains or keys that it no longer names since the load before.
    pub lost: Vec<String>,
}

impl FileReport {
    /// Another load that does not read it: what was news is none any more.
    pub fn grow_old(&mut self) {
        (self.is_new_error, self.has_new_faults) = (false, false);
        self.lost.clear();
    }
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
    /// Recipients in force, without foreign ones.
    pub recipients: usize,
    /// Keys that are listed to be refused, without foreign ones.
    pub refusals: usize,
    /// Bytes of the heap that they take.
    pub heap_bytes: usize,
    /// Something of it is new.
    pub is_change: bool,
    /// How many sources, domain files and tables were read.
    pub read: usize,
    /// Why lists can't be saved.
    pub state_dir_error: Option<String>,
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

    /// Bad lines of all sources, domain files and tables in force.
    pub fn faults(&self) -> usize {
        let files = self.files.iter().map(|file| &file.findings);
        self.sources.iter().map(|source| &source.findings).chain(files).map(|findings| findings.fault_count).sum()
    }
}
