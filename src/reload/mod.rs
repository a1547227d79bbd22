//! The loader: one thread that turns files and the output of programs into a directory, beside the one in force.
//!
//! The loop sends orders and takes outcomes; each outcome is announced by a call of `wake`. An old directory comes back
//! here to be dropped, so that freeing it never holds the loop up. Reloads that are ordered while a load runs are one more
//! load. What could not be read is tried again by itself, with growing pauses, and so is what has a `refresh` or a
//! `watch`: only those sources are read then.

mod assemble;
mod catalog;
mod command;
mod files;
mod grace;
mod guard;
mod intake;
mod json;
mod lint;
mod read;
mod report;
mod saved;
mod slot;
mod store;
mod tables;
mod tell;
mod watch;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

pub use catalog::{Catalog, Serves, Wish};
pub use guard::Guard;
pub use intake::{Conflict, FaultLine, Findings};
pub use json::seconds;
pub use lint::lint;
pub use read::SourceError;
pub use report::{FileReport, Report, SourceReport, State};
pub use tell::{plural, quoted, recipients};

use crate::config::{Config, ConfigError, Overrides};
use crate::resolve::Directory;
use crate::sys;

/// What somebody wants the loader to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Read configuration and lists again.
    Reload {
        /// Sources that are taken whatever they have lost.
        force: Vec<String>,
    },
    /// Put an old version in force.
    Rollback {
        /// Of this source.
        source: String,
        /// The number; `None`: the one before.
        version: Option<u64>,
    },
    /// Tell what a reload would do.
    Rehearse,
}

/// The number of an order: each is greater than the one before.
pub type Ticket = u64;

/// What the loader hears.
enum Command {
    /// Do this.
    Order(Ticket, Order),
    /// The files of this source have changed.
    Changed(String),
    /// Drop this one; it is no longer in force.
    Retire(Arc<Directory>),
}

/// What the loader tells.
pub struct Outcome {
    /// The new directory; `None`: nothing changes.
    pub directory: Option<Arc<Directory>>,
    /// The configuration that it was loaded by, when that was read again, too.
    pub config: Option<Arc<Config>>,
    /// What was read, and what was not.
    pub report: Report,
    /// Lists were read; else the report only says something more about the last load.
    pub is_load: bool,
    /// All reloads up to this number are done: what they brought is in force, and saved if it can be.
    pub done: Ticket,
    /// Orders that have an answer of their own: a status of HTTP, and a text.
    pub answers: Vec<(Ticket, u16, String)>,
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
        heard: impl FnMut(&Outcome) + Send + 'static,
        wake: Box<dyn Fn() + Send>,
    ) -> io::Result<Loader> {
        let (commands, inbox) = channel();
        let (outbox, outcomes) = channel();
        let own = commands.clone();
        thread::Builder::new().name("loader".to_owned()).spawn(move || {
            let catalog = Catalog::serving(Serves {
                file: settings.file.clone(),
                own_control: settings.overrides.control.is_some(),
            });
            let mut worker = Worker {
                config,
                settings,
                catalog,
                last: Report::default(),
                done: 0,
                watch: watch::Watch::default(),
                heard: Box::new(heard),
                outbox,
                wake,
            };
            worker.run(&inbox, &own);
        })?;
        Ok(Loader { commands, outcomes })
    }

    /// Has something done, soon.
    pub fn order(&self, ticket: Ticket, order: Order) {
        self.send(Command::Order(ticket, order));
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

/// What has come in at a time.
#[derive(Default)]
struct Batch {
    /// Somebody wants everything to be read.
    reload: bool,
    force: Vec<String>,
    done: Ticket,
    others: Vec<(Ticket, Order)>,
    changed: Vec<String>,
}

impl Batch {
    fn take(&mut self, command: Command) {
        match command {
            Command::Retire(directory) => drop(directory),
            Command::Changed(source) => self.changed.push(source),
            Command::Order(ticket, Order::Reload { force }) => {
                self.reload = true;
                self.force.extend(force);
                self.done = ticket;
            }
            Command::Order(ticket, order) => self.others.push((ticket, order)),
        }
    }

    fn is_empty(&self) -> bool {
        !self.reload && self.others.is_empty() && self.changed.is_empty()
    }
}

/// The loader's end.
struct Worker {
    config: Arc<Config>,
    settings: Settings,
    catalog: Catalog,
    last: Report,
    /// As [`Outcome::done`].
    done: Ticket,
    watch: watch::Watch,
    heard: Box<dyn FnMut(&Outcome)>,
    outbox: Sender<Outcome>,
    wake: Box<dyn Fn() + Send>,
}

/// The loop is gone.
struct Gone;

impl Worker {
    fn run(&mut self, inbox: &Receiver<Command>, own: &Sender<Command>) {
        let mut batch = Batch { reload: true, ..Batch::default() };
        let mut first = true;
        loop {
            let worked = catch_unwind(AssertUnwindSafe(|| self.work(std::mem::take(&mut batch), first)));
            let gone = match worked {
                Ok(worked) => worked.is_err(),
                // A bug must not end the daemon, which has answers in memory.
                Err(_) => {
                    let error = "a bug in rcptmapd ended the load; the old answers stay in force, please report it";
                    log::error!("{error}");
                    self.last = self.catalog.refuse(&self.last, error.to_owned());
                    self.tell(None, None, true, Vec::new()).is_err()
                }
            };
            if gone {
                return;
            }
            // The first load is what everybody waits for; those that follow are to disturb nobody.
            if std::mem::take(&mut first)
                && let Err(e) = sys::lower_own_priority()
            {
                log::debug!("the loader runs at normal priority: {e}");
            }
            let tell = || -> Box<dyn Fn(String) + Send> {
                let own = own.clone();
                Box::new(move |source| {
                    let _ = own.send(Command::Changed(source));
                })
            };
            self.watch.follow(&self.config, tell);
            match wait(inbox, self.catalog.next()) {
                Some(next) => batch = next,
                None => return,
            }
        }
    }

    /// Does what has come in, or what is due.
    fn work(&mut self, batch: Batch, first: bool) -> Result<(), Gone> {
        let Batch { reload, force, done, others, changed } = batch;
        let mut answers = Vec::new();
        // What is answered if a bug ends it.
        let before = self.done;
        self.done = self.done.max(done);
        for (ticket, order) in others {
            answers.push(match order {
                Order::Rollback { source, version } => match self.catalog.roll_back(&self.config, &source, version) {
                    Ok(text) => {
                        log::warn!("{text}");
                        (ticket, 200, text)
                    }
                    Err(text) => (ticket, 409, text),
                },
                _ => match self.read_config(first) {
                    Ok(config) => {
                        let rehearsal = self.catalog.rehearse(&self.config, config.as_ref().unwrap_or(&self.config));
                        (ticket, 200, json::rehearsal(&rehearsal).to_string())
                    }
                    Err(error) => (ticket, 409, error.to_string()),
                },
            });
        }
        changed.iter().for_each(|source| self.catalog.hurry(source));
        let config = match self.read_config(first || !reload) {
            Ok(config) => config,
            Err(error) => {
                log::error!("{error}; configuration and lists stay as they were");
                self.last = self.catalog.refuse(&self.last, error.to_string());
                return self.tell(None, None, true, answers);
            }
        };
        if let Some(config) = &config {
            self.config = Arc::clone(config);
        }
        let (directory, report) = self.catalog.refresh(&self.config, &Wish { all: reload, force });
        let is_load = reload || report.read > 0 || directory.is_some();
        if is_load || !answers.is_empty() {
            tell::tell(&report, reload);
            self.last = report;
        }
        let directory = directory.map(Arc::new);
        if reload {
            self.catalog.look_at_saved();
        }
        if !self.catalog.wants_to_save(reload, Instant::now()) {
            return if is_load || !answers.is_empty() {
                self.tell(directory, config, is_load, answers)
            } else {
                Ok(())
            };
        }
        // What is new serves before it is saved; who asked for it hears when both are done.
        if is_load {
            let done = std::mem::replace(&mut self.done, before);
            self.tell(directory, config, true, Vec::new())?;
            self.done = done;
        }
        self.catalog.save(&self.config);
        self.last = self.catalog.with_saved(&self.last);
        self.tell(None, None, false, answers)
    }

    /// The configuration as its file is now; `None`: it stays.
    fn read_config(&self, stays: bool) -> Result<Option<Arc<Config>>, ConfigError> {
        match &self.settings.file {
            Some(file) if !stays => Config::load(file, &self.settings.overrides).map(|read| Some(Arc::new(read))),
            _ => Ok(None),
        }
    }

    /// Tells the loop.
    fn tell(
        &mut self,
        directory: Option<Arc<Directory>>,
        config: Option<Arc<Config>>,
        is_load: bool,
        answers: Vec<(Ticket, u16, String)>,
    ) -> Result<(), Gone> {
        let outcome = Outcome { directory, config, report: self.last.clone(), is_load, done: self.done, answers };
        (self.heard)(&outcome);
        self.outbox.send(outcome).map_err(|_| Gone)?;
        (self.wake)();
        Ok(())
    }
}

/// Waits for something to do: what has come in, or nothing when something is due. `None`: the loop is gone.
fn wait(inbox: &Receiver<Command>, next: Option<Instant>) -> Option<Batch> {
    let mut batch = Batch::default();
    loop {
        let command = match next {
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match command {
            Ok(command) => batch.take(command),
            Err(RecvTimeoutError::Timeout) => return Some(batch),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        // Whoever asked while the last load ran gets the same one.
        while let Ok(command) = inbox.try_recv() {
            batch.take(command);
        }
        if !batch.is_empty() {
            return Some(batch);
        }
    }
}
