//! Reads one file of a source: bytes to content, or the reason why it is not taken.
//!
//! The file is read once, in pieces, on the loader's thread; nothing of it is kept but the content. What could be a
//! fault of ours or of whoever wrote the file (missing, empty, a folder, binary, changed while we read) is an error of
//! the whole source, and its last good content stays in force.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::reason;
use crate::logging::escape;
use crate::map::{Builder, Content, Item, Unfit};
use crate::source::{self, Detection, Fault, Format, Note, Options, Parser, Refused, Sink, Skip, Summary};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Bytes at the beginning by which the format is found out.
const HEAD: usize = 64 * 1024;
/// Bad lines of a source that are kept with their text; all are counted.
pub const KEPT_FAULTS: usize = 20;
/// Bytes of a bad line that are shown.
const SHOWN_TEXT: usize = 120;

/// Why a source was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not there.
    #[error("{path}: no such file; if it lies on a share, the share may not be mounted yet")]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// It can't be opened or read.
    #[error("{path}: can't read it: {why}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's word.
        why: String,
    },
    /// It is no file.
    #[error("{path}: this is {what}, a file is needed")]
    NoFile {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It was written to while we read.
    #[error("{path}: changed while it was read ({before} bytes before, {after} after)")]
    Changed {
        /// Which.
        path: PathBuf,
        /// Size at the beginning.
        before: u64,
        /// Size at the end.
        after: u64,
    },
    /// The parser says that it can't be the whole truth.
    #[error("{path}: {refused}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        refused: Refused,
    },
    /// Fewer entries than it must have.
    #[error("{path}: {}", too_few(*entries, *least, *lines, *faults, first))]
    TooFew {
        /// Which.
        path: PathBuf,
        /// Entries found.
        entries: usize,
        /// `min_entries`.
        least: usize,
        /// Lines read.
        lines: u32,
        /// Lines that could not be understood.
        faults: usize,
        /// The first of them.
        first: Option<FaultLine>,
    },
    /// More than the table can hold.
    #[error("{path}: {why}")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// How much is too much.
        why: Unfit,
    },
}

fn too_few(entries: usize, least: usize, lines: u32, faults: usize, first: &Option<FaultLine>) -> String {
    let first = first
        .as_ref()
        .map_or_else(String::new, |fault| format!("; the first is line {}: {}: {}", fault.line, fault.why, fault.text));
    match (entries, lines) {
        (0, 0) => "the file is empty".to_owned(),
        (0, _) => format!("no entry in {lines} lines, {faults} of which can't be understood{first}"),
        _ => format!("only {entries} entries (min_entries = {least})"),
    }
}

impl SourceError {
    /// Whether another try may do better without anybody's doing: the file may still be on its way.
    pub fn may_pass(&self) -> bool {
        !matches!(self, SourceError::TooLarge { .. })
    }
}

/// A bad line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultLine {
    /// Its number, from 1.
    pub line: u32,
    /// Its text, escaped and cut.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

/// What was found in a source beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Statements taken, duplicates included.
    pub entries: usize,
    /// The first bad lines.
    pub faults: Vec<FaultLine>,
    /// All bad lines.
    pub fault_count: usize,
    /// Lines left out, by reason.
    pub skips: BTreeMap<Skip, usize>,
    /// Warnings about the whole, with the line that gave rise to them.
    pub notes: Vec<(u32, Note)>,
    /// Entries that an earlier line has already.
    pub duplicates: usize,
    /// The first of those that say something else than the earlier line.
    pub conflicts: Vec<Conflict>,
}

/// Two lines of one source that say different things about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Line of the one that is not in force, if lines were kept.
    pub line: Option<u32>,
    /// The key.
    pub key: String,
    /// What the later line says.
    pub lost: String,
    /// What the earlier line says, and what holds.
    pub kept: String,
}

/// A source that was taken.
pub struct Taken {
    /// What it lists.
    pub content: Content,
    /// Its format; `None`: a table.
    pub format: Option<Format>,
    /// Why that format, when it was found out.
    pub why: Option<String>,
    /// Formats that would fit as well.
    pub also: Vec<Format>,
    /// Lines, encoding and end mark.
    pub summary: Summary,
    /// The rest.
    pub findings: Findings,
    /// When the file was last changed.
    pub modified: Option<SystemTime>,
    /// Line of each statement by its number, when that was asked for.
    pub lines: Vec<u32>,
}

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAs {
    /// A list in the format that its content shows.
    Detected,
    /// A list in this format.
    List(Format),
    /// Keys and values that are served as they are.
    Table,
}

/// How a source is to be read.
pub struct Request<'a> {
    /// Where.
    pub path: &'a Path,
    /// As what.
    pub read_as: ReadAs,
    /// For the parser.
    pub options: &'a Options,
    /// Fewer entries than this are an error.
    pub min_entries: usize,
    /// Whether to remember the line of each statement: for `check` and `explain`.
    pub keep_lines: bool,
}

/// Reads a source into a builder.
pub fn read(request: &Request<'_>, builder: impl FnOnce(Option<Format>) -> Builder) -> Result<Taken, SourceError> {
    let path = request.path;
    let mut file = open(path)?;
    let before = file.metadata().map_err(|e| unreadable(path, &e))?;
    let mut chunk = vec![0; CHUNK];
    let mut filled = fill(&mut file, &mut chunk[..HEAD]).map_err(|e| unreadable(path, &e))?;
    let (format, detection) = match request.read_as {
        ReadAs::Table => (None, None),
        ReadAs::List(format) => (Some(format), None),
        ReadAs::Detected => {
            let found = source::detect(&chunk[..filled], &path.to_string_lossy());
            (Some(found.format), Some(found))
        }
    };
    let mut parser = format.map_or_else(Parser::table, |format| Parser::new(format, request.options));
    let mut intake = Intake::new(builder(format), request.keep_lines);
    while filled > 0 {
        parser
            .feed(&chunk[..filled], &mut intake)
            .map_err(|refused| SourceError::Refused { path: path.into(), refused })?;
        filled = fill(&mut file, &mut chunk).map_err(|e| unreadable(path, &e))?;
    }
    let summary = parser.finish(&mut intake).map_err(|refused| SourceError::Refused { path: path.into(), refused })?;
    drop(chunk);
    if let Some(why) = intake.too_large {
        return Err(SourceError::TooLarge { path: path.into(), why });
    }
    let after = file.metadata().map_err(|e| unreadable(path, &e))?;
    if stamp(&before) != stamp(&after) {
        return Err(SourceError::Changed { path: path.into(), before: before.len(), after: after.len() });
    }
    let (content, findings, lines) = intake.finish();
    if findings.entries < request.min_entries {
        let (entries, least, faults) = (findings.entries, request.min_entries, findings.fault_count);
        let (lines, first) = (summary.lines, findings.faults.into_iter().next());
        return Err(SourceError::TooFew { path: path.into(), entries, least, lines, faults, first });
    }
    let (why, also) = match detection {
        Some(Detection { why, also, .. }) => (Some(why), also),
        None => (None, Vec::new()),
    };
    Ok(Taken { content, format, why, also, summary, findings, modified: before.modified().ok(), lines })
}

/// Opens a file for reading; a folder, a device or a socket is no source.
pub fn open(path: &Path) -> Result<File, SourceError> {
    // Opening a FIFO would block until somebody writes, so look first.
    let metadata = std::fs::metadata(path).map_err(|e| unreadable(path, &e))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "a device, a pipe or a socket" };
        return Err(SourceError::NoFile { path: path.into(), what });
    }
    File::open(path).map_err(|e| unreadable(path, &e))
}

/// The error that an I/O error means for a source.
pub fn unreadable(path: &Path, e: &io::Error) -> SourceError {
    match e.kind() {
        io::ErrorKind::NotFound => SourceError::Missing { path: path.into() },
        io::ErrorKind::PermissionDenied => {
            let why = format!("{}; make it readable for the user that rcptmapd runs as", reason(e));
            SourceError::Unreadable { path: path.into(), why }
        }
        _ => SourceError::Unreadable { path: path.into(), why: reason(e) },
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn stamp(metadata: &Metadata) -> (u64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// Puts what a parser finds into a builder, and counts the rest.
struct Intake {
    builder: Builder,
    findings: Findings,
    lines: Option<Vec<u32>>,
    too_large: Option<Unfit>,
}

impl Intake {
    fn new(builder: Builder, keep_lines: bool) -> Intake {
        let lines = keep_lines.then(Vec::new);
        Intake { builder, findings: Findings::default(), lines, too_large: None }
    }

    fn finish(self) -> (Content, Findings, Vec<u32>) {
        let Intake { builder, mut findings, lines, .. } = self;
        let lines = lines.unwrap_or_default();
        let content = builder.finish(|twice| {
            findings.duplicates += 1;
            if twice.lost.entry != twice.kept && findings.conflicts.len() < KEPT_FAULTS {
                findings.conflicts.push(Conflict {
                    line: lines.get(twice.lost.number).copied(),
                    key: crate::map::KeyText(twice.lost.key).to_string(),
                    lost: twice.lost.entry.to_string(),
                    kept: twice.kept.to_string(),
                });
            }
        });
        (content, findings, lines)
    }

    fn fault(&mut self, line: u32, text: &[u8], why: impl FnOnce() -> String) {
        self.findings.fault_count += 1;
        if self.findings.faults.len() < KEPT_FAULTS {
            let text = escape(&text[..text.len().min(SHOWN_TEXT)]).to_string();
            self.findings.faults.push(FaultLine { line, text, why: why() });
        }
    }
}

impl Sink for Intake {
    fn item(&mut self, line: u32, item: Item<'_>) {
        let before = self.builder.len();
        match self.builder.add(&item) {
            Ok(()) => {
                self.findings.entries += 1;
                if let Some(lines) = &mut self.lines
                    && self.builder.len() > before
                {
                    lines.push(line);
                }
            }
            Err(why @ Unfit::TooLarge(_)) => self.too_large = Some(why),
            Err(why) => {
                let text = crate::map::KeyText(item.key).to_string();
                self.fault(line, text.as_bytes(), || why.to_string());
            }
        }
    }

    fn pair(&mut self, _line: u32, key: &[u8], value: &[u8]) {
        self.findings.entries += 1;
        if !self.builder.add_pair(key, value) {
            self.findings.duplicates += 1;
        }
    }

    fn fault(&mut self, line: u32, text: &[u8], fault: Fault) {
        Intake::fault(self, line, text, || fault.to_string());
    }

    fn skip(&mut self, _line: u32, reason: Skip) {
        *self.findings.skips.entry(reason).or_default() += 1;
    }

    fn note(&mut self, line: u32, note: Note) {
        self.findings.notes.push((line, note));
    }
}
