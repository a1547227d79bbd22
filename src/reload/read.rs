//! Reads a source: bytes to content, or the reason why it is not taken.
//!
//! A source is read once, in pieces, on the loader's thread; nothing of it is kept but the content. What could be a
//! fault of ours or of whoever wrote the file (missing, empty, binary, changed while we read) is an error of the whole
//! source, and its last good content stays in force.
//!
//! *A file that is being written.* Size and time of a file must be the same before and after it is read. That does not
//! tell a writer that pauses, so a file that was changed within the last two seconds is looked at once more, a tenth of a
//! second after the first look. A file that was renamed into the place of the one before (another inode) needs no second
//! look, nor does one with an end mark: so `mv list.new list; kill -HUP` is immediate.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::command::{self, Failed};
use super::files::{self, Look, Stamp};
use super::guard::Guard;
use super::intake::{FaultLine, Findings, Intake, Outcome};
use super::tell::plural;
use crate::config::{Origin, reason};
use crate::map::{Builder, Content, Unfit};
use crate::source::{self, Detection, Format, Options, Parser, Refused, Summary};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 18;
/// Bytes at the beginning by which the format is found out.
const HEAD: usize = 64 * 1024;
/// A file that was changed less than this ago may be in the middle of it.
pub const SETTLING: Duration = Duration::from_secs(2);
/// Time between the two looks at such a file.
const LOOKS_APART: Duration = Duration::from_millis(100);

/// Bad lines that are never too many: a short list with remarks around it.
const FEW_FAULTS: usize = 5;

/// Why a source was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not there.
    #[error("{path}: no such file; if it lies on a share, the share may not be mounted yet")]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// There is no file in the folder, or none that the pattern matches.
    #[error("{path}: no file is there; names that begin with a dot or end in ~ or .new don't count")]
    NoFiles {
        /// The folder or pattern.
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
    /// A program did not do as it should.
    #[error("{program}: {why}")]
    Command {
        /// Its name.
        program: String,
        /// What it did.
        why: String,
    },
    /// The parser says that it can't be the whole truth.
    #[error("{path}: {refused}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        refused: Refused,
    },
    /// More lines than not can't be understood.
    #[error("{path}: {faults} of {lines} lines can't be understood{}; if it is another format than {format}, say `format`", shown(first.as_deref()))]
    Unclear {
        /// Which.
        path: PathBuf,
        /// How it was read.
        format: Format,
        /// Lines that could not be understood.
        faults: usize,
        /// Lines read.
        lines: u32,
        /// The first of them.
        first: Option<Box<FaultLine>>,
    },
    /// Fewer entries than it must have.
    #[error("{path}: {}", too_few(*entries, *least, *lines, *faults, first.as_deref()))]
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
        first: Option<Box<FaultLine>>,
    },
    /// It lost what it should not lose.
    #[error("{path}: {guard}")]
    Guarded {
        /// Which.
        path: PathBuf,
        /// What is gone.
        guard: Guard,
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

fn shown(first: Option<&FaultLine>) -> String {
    first.map_or_else(String::new, |fault| format!("; the first is line {}: {}: {}", fault.line, fault.why, fault.text))
}

fn too_few(entries: usize, least: usize, lines: u32, faults: usize, first: Option<&FaultLine>) -> String {
    let first = shown(first);
    match (entries, lines) {
        (0, 0) => "the file is empty; one that may be needs min_entries = 0".to_owned(),
        (0, _) if faults == 0 => format!("no entry in {}", plural(lines as usize, "line")),
        (0, _) => format!("no entry in {lines} lines, {faults} of which can't be understood{first}"),
        _ => format!("only {entries} entries (min_entries = {least})"),
    }
}

impl Taken {
    /// Whether it is no list of its format at all, though some of its lines could be taken: more of them can't.
    pub fn unclear(&self, path: &Path) -> Option<SourceError> {
        let left_out = self.findings.skips.values().sum::<usize>();
        let (faults, format) = (self.findings.fault_count, self.format?);
        (faults > FEW_FAULTS && faults > self.findings.entries + left_out).then(|| SourceError::Unclear {
            path: path.into(),
            format,
            faults,
            lines: self.lines,
            first: self.findings.faults.first().cloned().map(Box::new),
        })
    }
}

impl SourceError {
    /// Whether another try may do better without anybody's doing: the file may still be on its way.
    pub fn may_pass(&self) -> bool {
        !matches!(self, SourceError::TooLarge { .. })
    }

    /// Whether another try may do better though the files look the same.
    pub fn may_pass_unchanged(&self) -> bool {
        matches!(self, SourceError::Unreadable { .. } | SourceError::Changed { .. } | SourceError::Command { .. })
    }

    /// Whether it is the administrator who decides: a list that can be read, but has lost too much.
    pub fn can_be_forced(&self) -> bool {
        matches!(
            self,
            SourceError::Guarded { .. } | SourceError::Unclear { .. } | SourceError::TooFew { entries: 1.., .. }
        )
    }
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
    /// Lines of all files.
    pub lines: u32,
    /// An end mark vouches for the list, or for each of its files.
    pub marked: bool,
    /// The rest.
    pub findings: Findings,
    /// When the newest file was last changed; for a command, when it was started.
    pub modified: Option<SystemTime>,
    /// It was changed so recently, and maybe in place, that it should be looked at again.
    pub is_settling: bool,
    /// Line of each statement by its number, when that was asked for.
    pub line_of: Vec<u32>,
    /// The files, with the number of the first statement of each.
    pub files: Vec<(PathBuf, usize)>,
}

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAs {
    /// A list in the format that its content shows.
    Detected,
    /// A list in this format.
    List(Format),
    /// The names of domains, which are ours.
    OurDomains,
    /// Keys and values that are served as they are.
    Table,
}

/// How a source is to be read.
pub struct Request<'a> {
    /// Where it comes from.
    pub origin: &'a Origin,
    /// As what.
    pub read_as: ReadAs,
    /// For the parser.
    pub options: &'a Options,
    /// Fewer entries than this are an error.
    pub min_entries: usize,
    /// A command must be done within this.
    pub timeout: Duration,
    /// How the files looked when the content in force was read.
    pub known: Option<&'a Look>,
    /// Whether a folder or a pattern will do.
    pub several: bool,
    /// Whether to remember the line of each statement: for `check` and `explain`.
    pub keep_lines: bool,
    /// The name of the source, for what its program says.
    pub name: &'a str,
}

/// Reads a source into a builder.
pub fn read(request: &Request<'_>, builder: impl FnOnce(Option<Format>) -> Builder) -> Result<Taken, SourceError> {
    let mut reading = Reading {
        request,
        builder: Some(builder),
        intake: None,
        format: None,
        detection: None,
        lines: 0,
        marked: true,
        files: Vec::new(),
        modified: None,
        is_settling: false,
    };
    let path = match request.origin {
        Origin::Path(path) => {
            reading.files(path)?;
            path.clone()
        }
        Origin::Command(words) => {
            reading.modified = Some(SystemTime::now());
            reading.command(words)?;
            program(words).into()
        }
    };
    reading.finish(path)
}

/// A program's name for messages.
fn program(words: &[String]) -> String {
    words.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program)).to_owned()
}

struct Reading<'a, B> {
    request: &'a Request<'a>,
    /// Taken when the format of the first file is known.
    builder: Option<B>,
    intake: Option<Intake>,
    format: Option<Format>,
    detection: Option<Detection>,
    lines: u32,
    marked: bool,
    files: Vec<(PathBuf, usize)>,
    modified: Option<SystemTime>,
    is_settling: bool,
}

impl<B: FnOnce(Option<Format>) -> Builder> Reading<'_, B> {
    fn files(&mut self, path: &Path) -> Result<(), SourceError> {
        let found = if self.request.several {
            files::find(path)?
        } else {
            files::Files { paths: vec![path.into()], several: false }
        };
        let began = Instant::now();
        let mut watched = Vec::new();
        for path in &found.paths {
            let mut file = open(path)?;
            let before = file.metadata().map_err(|e| unreadable(path, &e))?;
            let number = self.intake.as_ref().map_or(0, Intake::next_number);
            let (entries, faults) = self.intake.as_ref().map_or((0, 0), Intake::counts);
            if let Some(intake) = &mut self.intake {
                intake.begin_file(&path.display().to_string());
            }
            let mut feeder = Feeder::new(path.display().to_string(), found.several);
            let mut chunk = vec![0; CHUNK];
            loop {
                let filled = fill(&mut file, &mut chunk).map_err(|e| unreadable(path, &e))?;
                feeder.push(&chunk[..filled], self).map_err(|refused| refuse(path, refused))?;
                if filled < chunk.len() {
                    break;
                }
            }
            drop(chunk);
            let summary = feeder.finish(self).map_err(|refused| refuse(path, refused))?;
            let stamp = Stamp::of(&before);
            check_unchanged(path, &file, &stamp)?;
            let must_say = found.several && self.request.min_entries > 0;
            if let Some(intake) = self.intake.as_ref().filter(|intake| must_say && intake.counts().0 == entries) {
                // One of many that says nothing would go unnoticed by all other guards.
                return Err(SourceError::TooFew {
                    path: path.into(),
                    entries: 0,
                    least: 1,
                    lines: summary.lines,
                    faults: intake.counts().1 - faults,
                    first: intake.first_fault_of(&path.display().to_string()).map(Box::new),
                });
            }
            let modified = before.modified().ok();
            let replaced =
                self.request.known.and_then(|known| known.stamp(path)).is_some_and(|known| !known.is_same_file(&stamp));
            if !summary.had_end_mark && !replaced && is_recent(modified, SystemTime::now()) {
                watched.push((path, file, stamp));
            }
            self.files.push((path.clone(), number));
            self.modified = files::newest([self.modified, modified]);
        }
        if !watched.is_empty() {
            self.is_settling = true;
            std::thread::sleep(LOOKS_APART.saturating_sub(began.elapsed()));
            for (path, file, stamp) in watched {
                check_unchanged(path, &file, &stamp)?;
            }
        }
        Ok(())
    }

    fn command(&mut self, words: &[String]) -> Result<(), SourceError> {
        let name = program(words);
        let mut feeder = Feeder::new(name.clone(), false);
        let bounds = command::Bounds { timeout: self.request.timeout, output: command::MAX_OUTPUT };
        let (ended, said) = command::run(words, bounds, &mut |chunk| feeder.push(chunk, self));
        for line in &said.lines {
            log::warn!("source {}: {name}: {line}", self.request.name);
        }
        if said.more > 0 {
            log::warn!("source {}: {name}: and {} more lines", self.request.name, said.more);
        }
        let path = Path::new(&name);
        match ended {
            Ok(()) => {}
            Err(Failed::Command(why)) => return Err(SourceError::Command { program: name, why }),
            Err(Failed::Output(refused)) => return Err(refuse(path, refused)),
        }
        feeder.finish(self).map_err(|refused| refuse(path, refused))?;
        Ok(())
    }

    fn finish(self, path: PathBuf) -> Result<Taken, SourceError> {
        let Reading { request, builder, intake, lines, .. } = self;
        let intake = match (intake, builder) {
            (Some(intake), _) => intake,
            (None, Some(builder)) => Intake::new(builder(None), false),
            (None, None) => return Err(SourceError::Missing { path }),
        };
        if let Some(why) = intake.too_large {
            return Err(SourceError::TooLarge { path, why });
        }
        let Outcome { content, findings, line_of, unclear_files } = intake.finish();
        if findings.entries < request.min_entries {
            let (entries, least, faults) = (findings.entries, request.min_entries, findings.fault_count);
            let first = findings.faults.into_iter().next().map(Box::new);
            return Err(SourceError::TooFew { path, entries, least, lines, faults, first });
        }
        let (why, also) = match self.detection {
            Some(Detection { why, also, .. }) => (Some(why), also),
            None => (None, Vec::new()),
        };
        Ok(Taken {
            content,
            format: self.format,
            why,
            also,
            lines,
            marked: self.marked,
            findings,
            modified: self.modified,
            is_settling: self.is_settling,
            line_of,
            files: [self.files, unclear_files].concat(),
        })
    }
}

/// Finds the format out by the first bytes of a file or an output, and parses the rest as it comes.
struct Feeder {
    /// For the detection, which looks at names, too.
    name: String,
    several: bool,
    head: Vec<u8>,
    parser: Option<Parser>,
}

impl Feeder {
    fn new(name: String, several: bool) -> Feeder {
        Feeder { name, several, head: Vec::new(), parser: None }
    }

    fn push<B>(&mut self, chunk: &[u8], reading: &mut Reading<'_, B>) -> Result<(), Refused>
    where
        B: FnOnce(Option<Format>) -> Builder,
    {
        if let (Some(parser), Some(intake)) = (&mut self.parser, &mut reading.intake) {
            return parser.feed(chunk, intake);
        }
        if self.head.is_empty() && chunk.len() >= HEAD {
            return self.start(chunk, reading);
        }
        self.head.extend_from_slice(chunk);
        if self.head.len() < HEAD {
            return Ok(());
        }
        let head = std::mem::take(&mut self.head);
        self.start(&head, reading)
    }

    fn start<B>(&mut self, head: &[u8], reading: &mut Reading<'_, B>) -> Result<(), Refused>
    where
        B: FnOnce(Option<Format>) -> Builder,
    {
        let request = reading.request;
        let (format, detection) = match request.read_as {
            ReadAs::Table => (None, None),
            ReadAs::List(format) => (Some(format), None),
            ReadAs::OurDomains => (Some(Format::Domains), None),
            ReadAs::Detected => {
                let found = source::detect(&head[..head.len().min(HEAD)], &self.name);
                let attaches = !request.options.domain.is_empty() || named_domain(&self.name).is_some();
                let found = if attaches { found.with_domain() } else { found };
                (Some(found.format), Some(found))
            }
        };
        if let Some(builder) = reading.builder.take() {
            // Of several files a later one may be an access file, whose own words count.
            let kept_as = if self.several { Some(Format::Access) } else { format };
            let mut intake = Intake::new(builder(kept_as), request.keep_lines);
            if self.several {
                intake.begin_file(&self.name);
            }
            intake.declares = request.read_as == ReadAs::OurDomains;
            reading.intake = Some(intake);
            (reading.format, reading.detection) = (format, detection);
        }
        let named = named_domain(&self.name).filter(|_| request.options.domain.is_empty());
        let options = Options {
            domain: named.map_or_else(|| request.options.domain.clone(), Into::into),
            detected: request.read_as == ReadAs::Detected,
            ..request.options.clone()
        };
        let parser = self.parser.insert(format.map_or_else(Parser::table, |format| Parser::new(format, &options)));
        match &mut reading.intake {
            Some(intake) => parser.feed(head, intake),
            None => Ok(()),
        }
    }

    fn finish<B>(mut self, reading: &mut Reading<'_, B>) -> Result<Summary, Refused>
    where
        B: FnOnce(Option<Format>) -> Builder,
    {
        if self.parser.is_none() {
            let head = std::mem::take(&mut self.head);
            self.start(&head, reading)?;
        }
        let (Some(parser), Some(intake)) = (self.parser, &mut reading.intake) else {
            return Ok(Summary { lines: 0, had_end_mark: false, encoding: source::Encoding::Bytes });
        };
        let summary = parser.finish(intake)?;
        reading.lines += summary.lines;
        reading.marked &= summary.had_end_mark;
        Ok(summary)
    }
}

/// The domain that a file is about by its name: cPanel's `/etc/valiases/DOMAIN`.
fn named_domain(path: &str) -> Option<&str> {
    let (folder, name) = path.rsplit_once('/')?;
    (folder.rsplit('/').next() == Some("valiases")).then_some(name)
}

fn refuse(path: &Path, refused: Refused) -> SourceError {
    SourceError::Refused { path: path.into(), refused }
}

fn check_unchanged(path: &Path, file: &File, before: &Stamp) -> Result<(), SourceError> {
    let after = Stamp::of(&file.metadata().map_err(|e| unreadable(path, &e))?);
    if after == *before {
        return Ok(());
    }
    Err(SourceError::Changed { path: path.into(), before: before.size, after: after.size })
}

/// Whether a file was changed just now; a clock of a file server may be a little ahead of ours.
fn is_recent(modified: Option<SystemTime>, now: SystemTime) -> bool {
    modified.is_some_and(|modified| match now.duration_since(modified) {
        Ok(age) => age < SETTLING,
        Err(ahead) => ahead.duration() < SETTLING,
    })
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
