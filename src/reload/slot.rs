//! One source in the catalog: what is in force of it, how the last attempt to read it went, and when it is due again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{Datelike, Local, NaiveDate, NaiveTime, TimeZone};

use super::files::Look;
use super::grace::Vanished;
use super::read::{SETTLING, SourceError, Taken};
use super::report::{SourceReport, State};
use super::store::Rollback;
use crate::config::{self, Origin, Watch};
use crate::map::{Changes, Content, Source};
use crate::source::{Date, Format};

/// Longest pause between two tries to read what could not be read.
pub const MAX_RETRY: Duration = Duration::from_secs(300);
/// How often a source with `watch = "poll"` is looked at, unless `refresh` says otherwise.
const POLL: Duration = Duration::from_secs(10);
/// The same for `watch = "inotify"`: the kernel hears nothing of what other hosts do to a share.
const POLL_BESIDE_INOTIFY: Duration = Duration::from_secs(60);

/// The content in force.
pub struct Kept {
    /// What it lists.
    pub content: Arc<Content>,
    /// The file or program that said it. The configuration may name another one meanwhile.
    pub origin: String,
    /// An end mark vouched for it.
    pub marked: bool,
    /// Of the file that it came from, or when the program ran that said it last: for `max_age`.
    pub as_of: Option<SystemTime>,
    /// Its format.
    pub format: Option<Format>,
    /// When it was taken.
    pub taken_at: SystemTime,
    /// The number under which it is saved.
    pub version: Option<u64>,
    /// Line of each statement, for `explain`.
    pub line_of: Vec<u32>,
    /// The files, with the number of the first statement of each.
    pub files: Vec<(PathBuf, usize)>,
}

/// An old version in force by command.
pub struct Pin {
    /// Which, and in place of which.
    pub rollback: Rollback,
    /// Digest of what the source said then: when it says something else, the pin has done its duty.
    pub instead_of: u64,
}

/// What an attempt to read a source came to; nothing has changed yet.
pub enum Attempt {
    /// It is not to be taken.
    Failed(SourceError),
    /// It says what is in force, or what was rolled back from.
    Same(Box<Taken>),
    /// It says something new.
    New(Box<Taken>, Arc<Changes>),
}

/// A source.
#[derive(Default)]
pub struct Slot {
    /// In force.
    pub kept: Option<Kept>,
    /// What still counts though it has vanished.
    pub vanished: Vanished,
    /// See [`Pin`].
    pub pin: Option<Pin>,
    /// How the last attempt went.
    pub report: SourceReport,
    /// The files, as they looked at the last attempt, and whether to try again even if they look the same.
    tried: Option<(Look, bool)>,
    /// The files, as they looked when the content in force was read.
    pub taken_look: Option<Look>,
    /// The content in force is too old.
    is_old: bool,
    /// It has become so since the load before.
    is_old_news: bool,
    /// It has been looked for in the store.
    pub was_restored: bool,
    /// It is to be saved.
    pub is_unsaved: bool,
    /// Put in force by command since the last load.
    is_put: bool,
    pause: Duration,
    /// When it is to be read again.
    due: Option<Instant>,
    /// When its files are to be looked at.
    look: Option<Instant>,
    /// When its age or its grace is to be looked at.
    wake: Option<Instant>,
}

impl Slot {
    /// The earliest time at which something is to be done about it.
    pub fn next(&self) -> Option<Instant> {
        [self.due, self.look, self.wake, self.vanished.next()].into_iter().flatten().min()
    }

    /// Whether to read it, when nobody has asked for it.
    pub fn is_due(&mut self, source: &config::Source, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        let look = self.look.is_some_and(|look| look <= now);
        let Origin::Path(path) = &source.origin else { return due };
        if !due && !look {
            return false;
        }
        let failed = self.report.error.is_some();
        let same = self.tried.as_ref().is_some_and(|(tried, again)| !again && *tried == Look::at(path));
        // A refresh reads in any case; a retry only what has changed since.
        if !same || (due && !failed) {
            return true;
        }
        self.schedule(source, failed, false);
        false
    }

    /// A load begins: what was news in the one before is none now. Who `asks` for it works on it, so that what fails now is
    /// tried again soon.
    pub fn begin(&mut self, asks: bool) {
        (self.report.is_new_error, self.report.is_mended) = (false, false);
        if !std::mem::take(&mut self.is_put) {
            self.report.changes = None;
        }
        if asks {
            self.pause = Duration::ZERO;
        }
    }

    /// Its files are to be looked at.
    pub fn hurry(&mut self, now: Instant) {
        self.look = Some(now);
    }

    /// It is to be read in any case.
    pub fn read_soon(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// Puts down how the files look before they are read.
    pub fn tries(&mut self, look: Option<Look>) {
        self.tried = look.map(|look| (look, false));
    }

    /// The attempt failed; the content in force stays.
    pub fn fail(&mut self, source: &config::Source, error: &SourceError, force: Option<String>) {
        let mut text = error.to_string();
        if let Some(force) = force.as_ref().filter(|_| error.can_be_forced()) {
            text += &format!("; if that is right: {force}");
        }
        if let Some((_, again)) = &mut self.tried {
            *again = error.may_pass_unchanged();
        }
        self.report.is_new_error = self.report.error.as_ref() != Some(&text);
        self.report.error = Some(text);
        self.report.force = force.filter(|_| error.can_be_forced());
        self.report.may_pass = error.may_pass();
        self.report.changes = None;
        self.report.state = if self.kept.is_some() { State::Kept } else { State::Missing };
        self.schedule(source, error.may_pass(), false);
    }

    /// The attempt was good. `true`: there is a new content, or the same counts for more than before.
    pub fn take(&mut self, source: &config::Source, attempt: Attempt, now: Instant) -> bool {
        let (taken, changes) = match attempt {
            Attempt::Same(taken) => (taken, None),
            Attempt::New(taken, changes) => (taken, Some(changes)),
            Attempt::Failed(_) => return false,
        };
        let is_new = changes.is_some() || self.kept.is_none();
        let mut is_change = is_new;
        let is_settling = taken.is_settling;
        let origin = source.origin.to_string();
        let Taken { content, format, why, also, lines, marked, findings, modified, line_of, files, .. } = *taken;
        let rolled_back = !is_new && self.pin.as_ref().is_some_and(|pin| pin.instead_of == content.digest());
        if !rolled_back {
            self.pin = None;
        }
        let is_mended = self.report.error.is_some();
        self.report = SourceReport {
            is_mended,
            state: if rolled_back { State::RolledBack } else { State::Taken },
            why,
            also,
            lines,
            findings,
            changes,
            ..SourceReport::default()
        };
        self.taken_look = self.tried.as_ref().map(|(look, _)| look.clone());
        if is_new {
            if let Some(old) = &self.kept {
                self.vanished.note(&old.content, &content, source.grace, now);
            }
            self.is_unsaved = true;
            self.kept = Some(Kept {
                content: Arc::new(content),
                origin,
                marked,
                as_of: modified,
                format,
                taken_at: SystemTime::now(),
                version: None,
                line_of,
                files,
            });
        } else if let Some(kept) = self.kept.as_mut().filter(|_| !rolled_back) {
            (kept.marked, kept.as_of, kept.format) = (marked, modified, format);
            (kept.line_of, kept.files) = (line_of, files);
            // What another file or program said refused nobody.
            is_change = kept.origin != origin;
            self.is_unsaved |= is_change;
            kept.origin = origin;
        }
        self.schedule(source, false, is_settling);
        is_change
    }

    /// An old version is put in force.
    pub fn put(&mut self, source: &config::Source, kept: Kept, now: Instant) {
        if let Some(old) = &self.kept {
            self.vanished.note(&old.content, &kept.content, source.grace, now);
            self.report.changes = Some(Arc::new(old.content.changes_to(&kept.content)));
        }
        (self.report.is_new_error, self.is_put) = (false, true);
        self.kept = Some(kept);
    }

    /// When to do something about it next.
    fn schedule(&mut self, source: &config::Source, failed: bool, is_settling: bool) {
        let now = Instant::now();
        let is_command = matches!(source.origin, Origin::Command(_));
        self.pause = match (failed, self.pause) {
            (false, _) => Duration::ZERO,
            (true, Duration::ZERO) => source.retry,
            (true, pause) => (pause * 2).min(MAX_RETRY),
        };
        let retry = failed.then(|| now + self.pause);
        let refresh = source.refresh.filter(|_| is_command || source.watch == Watch::Off).map(|every| now + every);
        let midnight = (source.format.or(self.kept.as_ref().and_then(|kept| kept.format)) == Some(Format::Plain))
            .then(|| now + until_midnight());
        self.due = [retry, refresh, midnight].into_iter().flatten().min();
        let poll = match source.watch {
            Watch::Off => None,
            Watch::Poll => Some(source.refresh.unwrap_or(POLL)),
            Watch::Inotify => Some(source.refresh.unwrap_or(POLL_BESIDE_INOTIFY)),
        };
        let settle = is_settling.then_some(SETTLING);
        let look = [poll, settle].into_iter().flatten().min().filter(|_| !is_command);
        self.look = look.map(|pause| now + pause);
    }

    /// Looks at age and grace. `true`: the answers change.
    pub fn look_at_clocks(&mut self, source: &config::Source, now: Instant) -> bool {
        self.wake = None;
        let Some(kept) = &self.kept else { return false };
        let expired = self.vanished.expire(&kept.content, now);
        let was_old = std::mem::take(&mut self.is_old);
        if let (Some(max_age), Some(as_of)) = (source.max_age, kept.as_of) {
            let age = SystemTime::now().duration_since(as_of).unwrap_or_default();
            self.is_old = age >= max_age;
            if !self.is_old {
                self.wake = Some(now + (max_age - age).max(Duration::from_millis(10)));
            }
        }
        self.is_old_news = self.is_old && !was_old;
        expired || self.is_old != was_old
    }

    /// The report, completed with what is in force.
    pub fn report(&self, source: &config::Source) -> SourceReport {
        let mut report = self.report.clone();
        report.name.clone_from(&source.name);
        report.origin = source.origin.to_string();
        report.vanished = self.vanished.len();
        if let Some(kept) = &self.kept {
            report.refusals = kept.content.refusals();
            report.recipients = kept.content.recipients();
            report.format = kept.format;
            report.taken_at = Some(kept.taken_at);
            report.modified = kept.as_of;
            report.version = kept.version;
        }
        if let Some(kept) = self.of_another(source) {
            let old = format!("in force is what {} said, whom it does not list gets \"try again later\"", kept.origin);
            report.error = Some(report.error.map_or(old.clone(), |error| format!("{error}; {old}")));
        }
        if let (true, Some(max_age)) = (self.is_old, source.max_age) {
            let old = format!(
                "{}: older than max_age = {}; whom it does not list gets \"try again later\"",
                source.origin,
                Span(max_age)
            );
            report.is_new_error |= self.is_old_news;
            report.state = State::Old;
            report.error = Some(report.error.map_or(old.clone(), |error| format!("{error}; {old}")));
        }
        report
    }

    /// What is in force, where it is of another file or program than the configuration names now. It proves that somebody
    /// exists, until the right one can be read; but not that somebody does not.
    fn of_another(&self, source: &config::Source) -> Option<&Kept> {
        self.kept.as_ref().filter(|kept| kept.origin != source.origin.to_string())
    }

    /// The source as the snapshot sees it.
    pub fn source(&self, source: &config::Source) -> Source {
        Source {
            vanished: self.vanished.content().cloned(),
            is_old: self.is_old || self.of_another(source).is_some(),
            ..Source::new(&source.name, source.priority, self.kept.as_ref().map(|kept| Arc::clone(&kept.content)))
        }
    }
}

/// A time span as it is written in the configuration.
pub struct Span(pub Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => write!(f, "{}ms", self.0.as_millis()),
            s if s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            s if s % 3_600 == 0 => write!(f, "{}h", s / 3_600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

/// The day, for `until=`.
pub fn today() -> Date {
    let today = Local::now().date_naive();
    let number = |number: u32| u8::try_from(number).unwrap_or_default();
    Date {
        year: u16::try_from(today.year()).unwrap_or_default(),
        month: number(today.month()),
        day: number(today.day()),
    }
}

/// The time until a minute past midnight, when entries may have expired.
fn until_midnight() -> Duration {
    let now = Local::now();
    let minute_past = NaiveTime::from_hms_opt(0, 1, 0).unwrap_or_default();
    let next: Option<NaiveDate> = now.date_naive().succ_opt();
    let then = next.and_then(|day| Local.from_local_datetime(&day.and_time(minute_past)).latest());
    then.and_then(|then| (then - now).to_std().ok()).unwrap_or(Duration::from_secs(86_400))
}
