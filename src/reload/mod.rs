//! The loader: one thread that turns files into a directory, beside the one in force.
//!
//! The loop sends commands and takes outcomes; each outcome is announced by a call of `wake`. An old directory comes
//! back here to be dropped, so that freeing it never holds the loop up. Requests that come while a load runs are one
//! more load. What could not be read is tried again by itself, with growing pauses.

mod catalog;
mod json;
mod read;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

pub use catalog::{Catalog, FileReport, Report, SourceReport, State};
pub use json::seconds;
pub use read::{Conflict, FaultLine, Findings, SourceError};

use crate::config::{Config, Overrides};
use crate::resolve::Directory;
use crate::sys;

/// Longest pause between two tries to read what could not be read.
const MAX_RETRY: Duration = Duration::from_secs(300);

/// What the loop asks for.
enum Command {
    /// Read everything again.
    Reload,
    /// Drop this one; it is no longer in force.
    Retire(Arc<Directory>),
}

/// What a load brought.
pub struct Outcome {
    /// The new directory; `None`: nothing changes.
    pub directory: Option<Arc<Directory>>,
    /// The configuration that it was loaded by, when that was read again, too.
    pub config: Option<Arc<Config>>,
    /// What was read, and what was not.
    pub report: Report,
}

/// Where the configuration comes from at each reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file of `-c`; `None`: there is none, and the first configuration stays.
    pub file: Option<PathBuf>,
    /// What the command line adds to it.
    pub overrides: Overrides,
}

/// The loop's end of the loader.
pub struct Loader {
    commands: Sender<Command>,
    outcomes: Receiver<Outcome>,
}

impl Loader {
    /// Starts the thread and the first load. `heard` is told of every outcome, on the loader's thread, before the loop.
    pub fn start(
        config: Arc<Config>,
        settings: Settings,
        mut heard: impl FnMut(&Outcome) + Send + 'static,
        wake: Box<dyn Fn() + Send>,
    ) -> io::Result<Loader> {
        let (commands, inbox) = channel();
        let (outbox, outcomes) = channel();
        thread::Builder::new().name("loader".to_owned()).spawn(move || {
            if let Err(e) = sys::lower_own_priority() {
                log::debug!("the loader runs at normal priority: {e}");
            }
            let mut worker = Worker { config, settings, catalog: Catalog::default(), last: Report::default() };
            worker.run(&inbox, &outbox, &mut heard, &*wake);
        })?;
        Ok(Loader { commands, outcomes })
    }

    /// Reads everything again, soon.
    pub fn reload(&self) {
        self.send(Command::Reload);
    }

    /// Drops a directory on the loader's thread.
    pub fn retire(&self, directory: Arc<Directory>) {
        self.send(Command::Retire(directory));
    }

    /// The outcome of a load that ended.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            log::error!("the loader's thread has ended; lists can't be read again until rcptmapd is restarted");
        }
    }
}

/// The loader's end.
struct Worker {
    config: Arc<Config>,
    settings: Settings,
    catalog: Catalog,
    last: Report,
}

impl Worker {
    fn run(
        &mut self,
        inbox: &Receiver<Command>,
        outbox: &Sender<Outcome>,
        heard: &mut dyn FnMut(&Outcome),
        wake: &dyn Fn(),
    ) {
        let mut first = true;
        let mut retry = Retry::default();
        loop {
            let outcome = self.guarded(first);
            first = false;
            retry.after(&outcome.report, self.retry_pause());
            heard(&outcome);
            if outbox.send(outcome).is_err() {
                return;
            }
            wake();
            if !wait(inbox, retry.at) {
                return;
            }
        }
    }

    /// A load; a bug that panics in it must not end the daemon, which has answers in memory.
    fn guarded(&mut self, first: bool) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| self.load(first))) {
            Ok(outcome) => outcome,
            Err(_) => {
                let error = "a bug in rcptmapd ended the load; the old answers stay in force, please report it";
                log::error!("{error}");
                let report = self.catalog.refuse(&self.last, error.to_owned());
                Outcome { directory: None, config: None, report }
            }
        }
    }

    fn load(&mut self, first: bool) -> Outcome {
        let mut config = None;
        if let (false, Some(file)) = (first, &self.settings.file) {
            match Config::load(file, &self.settings.overrides) {
                Ok(read) => config = Some(Arc::new(read)),
                Err(error) => {
                    log::error!("{error}; configuration and lists stay as they were");
                    self.last = self.catalog.refuse(&self.last, error.to_string());
                    return Outcome { directory: None, config: None, report: self.last.clone() };
                }
            }
        }
        if let Some(config) = &config {
            self.config = Arc::clone(config);
        }
        let (directory, report) = self.catalog.load(&self.config);
        tell(&report);
        self.last = report.clone();
        Outcome { directory: Some(Arc::new(directory)), config, report }
    }

    fn retry_pause(&self) -> Duration {
        self.config.sources.iter().map(|source| source.retry).min().unwrap_or(crate::config::DEFAULT_RETRY)
    }
}

/// When to try again what could not be read.
#[derive(Default)]
struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Retry {
    fn after(&mut self, report: &Report, least: Duration) {
        if report.may_pass() {
            self.pause = if self.pause.is_zero() { least } else { (self.pause * 2).min(MAX_RETRY) };
            self.at = Some(Instant::now() + self.pause);
        } else {
            *self = Retry::default();
        }
    }
}

/// Waits for a reason to load again. `false`: the loop is gone.
fn wait(inbox: &Receiver<Command>, retry_at: Option<Instant>) -> bool {
    loop {
        let command = match retry_at {
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match command {
            Ok(Command::Retire(directory)) => drop(directory),
            Ok(Command::Reload) => {
                // Whoever asked while the last load ran gets this one; commands behind this one are part of it.
                while inbox.try_recv().is_ok() {}
                return true;
            }
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// One line for the load, one for each source that was not taken or has bad lines.
fn tell(report: &Report) {
    let seconds = report.took.as_secs_f64();
    log::info!(
        "loaded {} recipients in {} domains from {} in {seconds:.2} s",
        report.recipients,
        report.domains,
        plural(report.sources.len(), "source"),
    );
    for source in &report.sources {
        if let Some(error) = &source.error {
            let then = match source.state {
                State::Kept => format!("its last good list of {} recipients stays in force", source.recipients),
                _ => "whom the other sources don't know gets \"try again later\"".to_owned(),
            };
            log::error!("source {}: {error}; {then}", source.name);
            continue;
        }
        let findings = &source.findings;
        if let Some(first) = findings.faults.first() {
            log::warn!(
                "source {}: {} can't be understood; the first is {}:{}: {}: {}",
                source.name,
                plural(findings.fault_count, "line"),
                source.origin,
                first.line,
                first.why,
                first.text
            );
        }
        for (line, note) in &findings.notes {
            log::warn!("source {}: {}:{line}: {note}", source.name, source.origin);
        }
        if source.foreign > 0 {
            log::info!(
                "source {}: {} left out, they belong to none of our domains",
                source.name,
                plural(source.foreign, "recipient")
            );
        }
    }
    for file in &report.files {
        if let Some(error) = &file.error {
            log::error!("{}: {error}", file.what);
        }
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
