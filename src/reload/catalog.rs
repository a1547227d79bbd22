//! All sources: what was last good of each, and the directory that they make together with domain files and tables.
//!
//! Each keeps its own last good content. A load reads what was asked for, or what is due; what can't be taken stays as it
//! was, and the report says why. Nothing new means no new directory. Runs on the loader's thread, and in `check` and
//! `explain`.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::assemble;
use super::files::Look;
use super::guard;
use super::read::{self, ReadAs, Request, SourceError};
use super::report::{FileReport, Report, SourceReport, State};
use super::saved::Meta;
use super::slot::{self, Attempt, Kept, Pin, Slot};
use super::store::{Rollback, Saved, Store};
use super::tables::{Force, Tables};
use super::tell::quoted;
use crate::config::{self, BackendServer, Config, MapConfig, MapValue, Origin, RelayDomain};
use crate::logging::escape;
use crate::map::{Builder, Changes, Domains, HashKey, Policy, Snapshot};
use crate::resolve::Directory;
use crate::source::{Disabled, Format, Options};

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Everything; else what is due.
    pub all: bool,
    /// Sources whose guards don't count.
    pub force: Vec<String>,
}

/// The last good content of everything.
pub struct Catalog {
    key: HashKey,
    slots: HashMap<String, Slot>,
    tables: Tables,
    keep_lines: bool,
    /// The file of `-c`, where accepted contents are to be saved; `None`: we don't serve, and save nothing.
    serves: Option<Serves>,
    store: Option<Store>,
    /// What the directory was made of.
    made_of: Option<MadeOf>,
    /// The last load.
    last: Report,
}

/// What messages must know about the daemon.
#[derive(Clone, Debug, Default)]
pub struct Serves {
    /// The file of `-c`.
    pub file: Option<PathBuf>,
    /// The control socket is another one than the file says.
    pub own_control: bool,
}

/// What a reload would do now.
pub struct Rehearsal {
    /// The sources of the new configuration, as if it had been done.
    pub sources: Vec<SourceReport>,
    /// Its domain files and tables.
    pub files: Vec<FileReport>,
    /// Sources that are no longer in it, with the recipients of each.
    pub gone: Vec<(String, usize)>,
    /// Domains that would be ours; empty where none is declared.
    pub domains_added: Vec<String>,
    /// Domains that would be ours no longer.
    pub domains_gone: Vec<String>,
}

/// The parts of a configuration that shape a directory.
#[derive(PartialEq)]
struct MadeOf {
    domains: Vec<RelayDomain>,
    maps: Vec<MapConfig>,
    sources: Vec<(String, Origin, i32)>,
    backends: Vec<(String, Vec<BackendServer>, bool)>,
    nexthops: Option<(PathBuf, bool)>,
}

impl MadeOf {
    fn new(config: &Config) -> MadeOf {
        MadeOf {
            domains: config.domains.clone(),
            maps: config.maps.clone(),
            sources: config
                .sources
                .iter()
                .map(|source| (source.name.clone(), source.origin.clone(), source.priority))
                .collect(),
            backends: config
                .backends
                .iter()
                .map(|backend| (backend.name.clone(), backend.servers.clone(), backend.all_domains))
                .collect(),
            nexthops: config.nexthops.as_ref().map(|nexthops| (nexthops.file.clone(), nexthops.domains)),
        }
    }
}

/// What reading a source depends on, beside the source.
struct Setting<'a> {
    wants_values: bool,
    case_sensitive: Domains,
    /// Knows our domains, and no recipients; `None`: all that are listed are ours.
    domains: Option<Snapshot>,
    force: &'a [String],
}

impl Setting<'_> {
    fn is_ours(&self, domain: &[u8]) -> bool {
        self.domains.as_ref().is_none_or(|ours| !ours.domains_known() || ours.relay_domain(domain).is_some())
    }
}

impl Catalog {
    /// Nothing is known yet, and nothing is saved. `keep_lines`: remember the line of every statement, as `check` and
    /// `explain` want it.
    pub fn new(keep_lines: bool) -> Catalog {
        let key = HashKey::new();
        Catalog {
            tables: Tables::new(key.clone()),
            key,
            slots: HashMap::new(),
            keep_lines,
            serves: None,
            store: None,
            made_of: None,
            last: Report::default(),
        }
    }

    /// One for a daemon: it begins with what is saved in the configured `state_dir`.
    pub fn serving(serves: Serves) -> Catalog {
        Catalog { serves: Some(serves), ..Catalog::new(false) }
    }

    /// Reads everything.
    pub fn load(&mut self, config: &Config) -> (Directory, Report) {
        self.made_of = None;
        let (directory, report) = self.refresh(config, &Wish { all: true, force: Vec::new() });
        let directory = directory.unwrap_or_else(|| self.directory(config).0);
        (directory, report)
    }

    /// Reads what is wished for. The directory is `None` when nothing has changed.
    pub fn refresh(&mut self, config: &Config, wish: &Wish) -> (Option<Directory>, Report) {
        let began = Instant::now();
        self.follow(config);
        let command = |name: &str| force_command(self.serves.as_ref(), config, name);
        let force = Force { names: &wish.force, command: &command };
        let (mut is_change, mut read) = self.tables.read(config, wish.all, &force, began);
        let setting = self.setting(config, &wish.force);
        for source in &config.sources {
            let mut slot = self.slots.remove(&source.name).unwrap_or_default();
            slot.begin(wish.all);
            let mut is_wanted = wish.all || slot.is_due(source, began);
            if !slot.was_restored {
                slot.was_restored = true;
                is_change |= self.restore(source, &setting, &mut slot);
                is_wanted = true;
                // A program takes its time; what was saved serves meanwhile.
                if slot.kept.is_some() && matches!(source.origin, Origin::Command(_)) {
                    slot.read_soon(began);
                    is_wanted = false;
                }
            }
            if is_wanted {
                read += 1;
                is_change |= self.read_source(config, source, &setting, &mut slot);
            }
            is_change |= slot.look_at_clocks(source, Instant::now());
            self.slots.insert(source.name.clone(), slot);
        }
        let made_of = MadeOf::new(config);
        is_change |= self.made_of.as_ref() != Some(&made_of);
        self.made_of = Some(made_of);
        let serial = self.last.serial + 1;
        let (directory, report) = if is_change {
            let (directory, report) = self.directory(config);
            (Some(directory), report)
        } else {
            (None, self.same_directory(config))
        };
        self.last = Report { serial, took: began.elapsed(), at: Some(SystemTime::now()), is_change, read, ..report };
        (directory, self.last.clone())
    }

    /// What a reload would do now; `old`: the configuration in force.
    pub fn rehearse(&mut self, old: &Config, config: &Config) -> Rehearsal {
        let is_gone = |source: &&SourceReport| config.sources.iter().all(|kept| kept.name != source.name);
        let gone =
            self.last.sources.iter().filter(is_gone).map(|source| (source.name.clone(), source.ours())).collect();
        let mut tables = self.tables.clone();
        let command = |name: &str| force_command(self.serves.as_ref(), config, name);
        tables.read(config, true, &Force { names: &[], command: &command }, Instant::now());
        let names = |config: &Config, tables: &Tables| -> BTreeSet<String> {
            let groups = assemble::groups(config, tables).0.into_iter();
            groups.flat_map(|group| group.names).map(|name| String::from_utf8_lossy(&name).into_owned()).collect()
        };
        let (before, after) = (names(old, &self.tables), names(config, &tables));
        // Without any, those that sources name are ours, and what becomes of them is told there.
        let is_declared = !before.is_empty() && !after.is_empty();
        let only = |one: &BTreeSet<String>, other| -> Vec<String> {
            if is_declared { one.difference(other).cloned().collect() } else { Vec::new() }
        };
        Rehearsal {
            files: tables.reports(),
            gone,
            domains_added: only(&after, &before),
            domains_gone: only(&before, &after),
            sources: self.rehearse_sources(config),
        }
    }

    fn rehearse_sources(&mut self, config: &Config) -> Vec<SourceReport> {
        let setting = self.setting(config, &[]);
        let mut reports = Vec::new();
        for source in &config.sources {
            let mut slot = self.slots.remove(&source.name).unwrap_or_default();
            if !slot.was_restored {
                slot.was_restored = true;
                self.restore(source, &setting, &mut slot);
            }
            let attempt = self.attempt(source, &setting, &slot);
            let mut report = SourceReport { changes: None, ..slot.report(source) };
            match attempt {
                Attempt::Failed(error) => {
                    let force =
                        error.can_be_forced().then(|| force_command(self.serves.as_ref(), config, &source.name));
                    report.error = Some(error.to_string());
                    report.force = force;
                    report.state = if slot.kept.is_some() { State::Kept } else { State::Missing };
                }
                Attempt::Same(_) => (report.state, report.error) = (State::Taken, None),
                Attempt::New(taken, changes) => {
                    (report.state, report.error) = (State::Taken, None);
                    report.refusals = taken.content.refusals();
                    report.recipients = taken.content.recipients();
                    (report.format, report.lines, report.findings) = (taken.format, taken.lines, taken.findings);
                    report.changes = Some(changes);
                }
            }
            reports.push(report);
            self.slots.insert(source.name.clone(), slot);
        }
        reports
    }

    /// The report of a configuration that could not be taken: everything else is as it was.
    pub fn refuse(&mut self, last: &Report, error: String) -> Report {
        self.last.serial += 1;
        let mut report = Report {
            serial: self.last.serial,
            at: Some(SystemTime::now()),
            config_error: Some(error),
            is_change: false,
            ..last.clone()
        };
        report.sources.iter_mut().for_each(|source| source.changes = None);
        report
    }

    /// When something is due without anybody asking.
    pub fn next(&self) -> Option<Instant> {
        let unsaved = self.store.as_ref().filter(|_| self.slots.values().any(|slot| slot.is_unsaved));
        let sources = self.slots.values().filter_map(Slot::next);
        sources.chain(self.tables.next()).chain(unsaved.and_then(Store::next)).min()
    }

    /// Something has happened to the files of a source: they are to be looked at.
    pub fn hurry(&mut self, source: &str) {
        if let Some(slot) = self.slots.get_mut(source) {
            slot.hurry(Instant::now());
        }
    }

    /// The line of a source at which the statement with this number stands.
    pub fn line(&self, source: &str, number: usize) -> Option<u32> {
        self.slots.get(source)?.kept.as_ref()?.line_of.get(number).copied()
    }

    /// The file in which the statement with this number stands.
    pub fn file(&self, source: &str, number: usize) -> Option<&Path> {
        let files = &self.slots.get(source)?.kept.as_ref()?.files;
        files.iter().rev().find(|(_, first)| *first <= number).map(|(path, _)| &**path)
    }

    /// Whether something has been accepted that is not saved. After trouble with the disk that can wait, unless somebody
    /// `asks` for a load.
    pub fn wants_to_save(&self, asks: bool, now: Instant) -> bool {
        let may = |store: &Store| asks || store.next().is_none_or(|next| next <= now);
        self.store.as_ref().is_some_and(may) && self.slots.values().any(|slot| slot.is_unsaved)
    }

    /// What was saved and is there no longer (somebody cleaned up, another disk is mounted) is to be saved again.
    pub fn look_at_saved(&mut self) {
        let Some(store) = &self.store else { return };
        for (name, slot) in &mut self.slots {
            let version = slot.kept.as_ref().and_then(|kept| kept.version);
            slot.is_unsaved |= version.is_some_and(|version| !store.has(name, version));
        }
    }

    /// Saves what has been accepted since the last time.
    pub fn save(&mut self, config: &Config) {
        let Some(store) = &mut self.store else { return };
        for source in &config.sources {
            let Some(slot) = self.slots.get_mut(&source.name).filter(|slot| slot.is_unsaved) else { continue };
            let Some(kept) = &mut slot.kept else { continue };
            // First, so that a crash in between leaves nobody without grace.
            store.keep_vanished(&source.name, slot.vanished.generations());
            let meta = Meta {
                taken: kept.taken_at,
                format: kept.format.unwrap_or(Format::Plain),
                marked: kept.marked,
                origin: kept.origin.clone(),
            };
            let keep = source.keep_versions as usize;
            if let Some(version) = store.save(&source.name, &kept.content, &meta, keep) {
                log::debug!("source {}: saved as version {version}", source.name);
                kept.version = Some(version);
                slot.is_unsaved = false;
                if let Some(as_of) = kept.as_of {
                    store.confirm(&source.name, version, as_of);
                }
            }
        }
    }

    /// The report of the last load, with what has been saved since.
    pub fn with_saved(&self, last: &Report) -> Report {
        let mut report = last.clone();
        for source in &mut report.sources {
            source.version = self.slots.get(&source.name).and_then(|slot| slot.kept.as_ref()?.version);
        }
        report.state_dir_error = self.store.as_ref().and_then(Store::trouble).map(str::to_owned);
        report.is_change = false;
        report
    }

    /// Puts an old version of a source in force, the one before if none is named, until what the source says changes. What
    /// to tell who asked.
    pub fn roll_back(&mut self, config: &Config, name: &str, version: Option<u64>) -> Result<String, String> {
        let Some(source) = config.sources.iter().find(|source| source.name == name) else {
            return Err(format!("there is no source {name}"));
        };
        self.follow(config);
        let Some(store) = &self.store else {
            return Err("nothing is saved: state_dir = \"\"".to_owned());
        };
        let versions = store.versions(name);
        let in_force = self.slots.get(name).and_then(|slot| slot.kept.as_ref()?.version);
        let wanted = match version {
            Some(version) => version,
            None => versions
                .iter()
                .copied()
                .find(|&version| in_force.is_none_or(|in_force| version < in_force))
                .ok_or_else(|| format!("source {name}: no older version is saved (keep_versions)"))?,
        };
        if !versions.contains(&wanted) {
            let all: Vec<String> = versions.iter().map(u64::to_string).collect();
            return Err(format!("source {name}: no version {wanted} is saved; there are {}", all.join(", ")));
        }
        let setting = self.setting(config, &[]);
        let store = self.store.as_ref().ok_or("nothing is saved")?;
        let saved = store
            .read(name, wanted, self.builder(true, &setting))
            .map_err(|why| format!("source {name}: version {wanted}: {why}"))?;
        let now = Instant::now();
        let mut slot = self.slots.remove(name).unwrap_or_default();
        // What the source says, as far as we know: what was in force, or what was rolled back from before.
        let instead_of = match (&slot.pin, &slot.kept) {
            (Some(pin), _) => Some((pin.rollback.instead_of, pin.instead_of)),
            (None, Some(kept)) => kept.version.map(|version| (version, kept.content.digest())),
            (None, None) => None,
        };
        let recipients = saved.content.len();
        // By command it is as good as new, however old the list is.
        let origin = source.origin.to_string();
        slot.put(source, Kept { as_of: Some(SystemTime::now()), origin, ..kept(saved) }, now);
        slot.is_unsaved = false;
        slot.report.state = State::RolledBack;
        slot.report.error = None;
        if let Some((version, digest)) = instead_of {
            let rollback = Rollback { version: wanted, instead_of: version };
            slot.pin = Some(Pin { rollback, instead_of: digest });
            if let Some(store) = &mut self.store {
                store.roll_back(name, rollback);
                store.keep_vanished(name, slot.vanished.generations());
            }
        }
        self.slots.insert(name.to_owned(), slot);
        self.made_of = None;
        Ok(format!("source {name}: version {wanted} with {recipients} entries is in force until the list changes"))
    }

    /// Prepares for a configuration: forgets what is no longer in it.
    fn follow(&mut self, config: &Config) {
        self.slots.retain(|name, _| config.sources.iter().any(|source| source.name == *name));
        let state_dir = config.state_dir.as_deref().filter(|_| self.serves.is_some());
        if !self.store.as_ref().is_some_and(|store| state_dir.is_some_and(|state_dir| store.is_below(state_dir))) {
            self.store = state_dir.map(Store::new);
        }
    }

    fn setting<'a>(&self, config: &Config, force: &'a [String]) -> Setting<'a> {
        let groups = assemble::groups(config, &self.tables);
        let domains = (!config.domains.is_empty())
            .then(|| Snapshot::new(self.key.clone(), Vec::new(), groups.0, groups.1, Policy::default()));
        // Those of a domain file included.
        let of_case = |ours: &Snapshot| -> Vec<Box<[u8]>> {
            let domains = ours.domains().iter().filter(|domain| ours.policy(domain).case_sensitive);
            domains.map(|domain| domain.name.clone()).collect()
        };
        Setting {
            wants_values: config.maps.iter().any(|map| map.value == MapValue::Source),
            case_sensitive: domains.iter().flat_map(of_case).collect(),
            domains,
            force,
        }
    }

    fn builder(&self, keep_values: bool, setting: &Setting<'_>) -> Builder {
        Builder::new(self.key.clone(), keep_values, setting.case_sensitive.clone())
    }

    /// Begins with what was saved of a source. `true`: there was something.
    fn restore(&mut self, source: &config::Source, setting: &Setting<'_>, slot: &mut Slot) -> bool {
        let Some(store) = &self.store else { return false };
        let builder = || self.builder(true, setting);
        let name = &source.name;
        let rolled_back = store.rolled_back(name).and_then(|rollback| {
            let instead_of = store.read(name, rollback.instead_of, builder()).ok()?.content.digest();
            let saved = store.read(name, rollback.version, builder()).ok()?;
            Some((saved, Pin { rollback, instead_of }))
        });
        let (saved, pin) = match rolled_back {
            Some((saved, pin)) => (Some(saved), Some(pin)),
            None => (store.newest(name, builder), None),
        };
        let Some(saved) = saved else { return false };
        log::info!(
            "source {name}: {} entries as of the last run, saved as version {}",
            saved.content.len(),
            saved.version
        );
        let vanished = if source.grace.is_zero() { Vec::new() } else { store.vanished(name, builder) };
        slot.vanished.restore(vanished, &saved.content, source.grace, Instant::now());
        let mut kept = kept(saved);
        if pin.is_some() {
            // By command it is as good as what the present file says.
            kept.origin = source.origin.to_string();
        }
        (slot.pin, slot.kept) = (pin, Some(kept));
        slot.report.state = State::Saved;
        true
    }

    /// Reads a source, and takes what it says if that will do. `true`: there is a new content.
    fn read_source(
        &mut self,
        config: &Config,
        source: &config::Source,
        setting: &Setting<'_>,
        slot: &mut Slot,
    ) -> bool {
        slot.tries(match &source.origin {
            Origin::Path(path) => Some(Look::at(path)),
            Origin::Command(_) => None,
        });
        let attempt = self.attempt(source, setting, slot);
        if let Attempt::Failed(error) = &attempt {
            slot.fail(source, error, Some(force_command(self.serves.as_ref(), config, &source.name)));
            return false;
        }
        let was_pinned = slot.pin.is_some();
        let is_new = slot.take(source, attempt, Instant::now());
        if let Some(store) = &mut self.store {
            if was_pinned && slot.pin.is_none() {
                log::info!("source {}: the list has changed, the version that was rolled back to is out", source.name);
                store.forget_rollback(&source.name);
            }
            let kept = slot.kept.as_ref().filter(|_| !is_new && slot.pin.is_none());
            if let Some((version, as_of)) = kept.and_then(|kept| Some((kept.version?, kept.as_of?))) {
                store.confirm(&source.name, version, as_of);
            }
        }
        is_new
    }

    /// Reads a source and judges what it says; nothing is changed.
    fn attempt(&self, source: &config::Source, setting: &Setting<'_>, slot: &Slot) -> Attempt {
        let is_forced = setting.force.contains(&source.name);
        let options = options(source);
        let min_entries = if is_forced { source.min_entries.min(1) } else { source.min_entries };
        let request = Request {
            origin: &source.origin,
            read_as: source.format.map_or(ReadAs::Detected, ReadAs::List),
            options: &options,
            min_entries,
            timeout: source.timeout,
            known: slot.taken_look.as_ref(),
            several: true,
            keep_lines: self.keep_lines,
            name: &source.name,
        };
        // An access file's own words (DISCARD) count whether or not some map serves values.
        let taken = read::read(&request, |format| {
            self.builder(setting.wants_values || format == Some(Format::Access), setting)
        });
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => return Attempt::Failed(error),
        };
        if !is_forced && let Some(error) = taken.unclear(Path::new(&source.origin.to_string())) {
            return Attempt::Failed(error);
        }
        let Some(kept) = &slot.kept else {
            let changes = Arc::new(Changes::from_nothing(&taken.content));
            return Attempt::New(Box::new(taken), changes);
        };
        let digest = taken.content.digest();
        let is_pinned = slot.pin.as_ref().is_some_and(|pin| pin.instead_of == digest);
        if digest == kept.content.digest() || (is_pinned && !is_forced) {
            return Attempt::Same(Box::new(taken));
        }
        let changes = kept.content.changes_to(&taken.content);
        // Another file under a name that was made of its own is no later version of the same; nor are names that are folded
        // in another way.
        let is_same = source.is_named || kept.origin == source.origin.to_string();
        let is_later = is_same && kept.content.is_folded_like(&taken.content);
        if is_later && !is_forced {
            let marked = (kept.marked, taken.marked);
            let ours = |domain: &[u8]| setting.is_ours(domain);
            if let Err(guard) = guard::check(&kept.content, &changes, marked, source.max_shrink, &ours) {
                let path = source.origin.to_string().into();
                return Attempt::Failed(SourceError::Guarded { path, guard });
            }
        }
        Attempt::New(Box::new(taken), Arc::new(changes))
    }

    fn directory(&self, config: &Config) -> (Directory, Report) {
        let (groups, groups_are_complete) = assemble::groups(config, &self.tables);
        let slots = || config.sources.iter().filter_map(|source| Some((source, self.slots.get(&source.name)?)));
        let sources = slots().map(|(source, slot)| slot.source(source)).collect();
        let snapshot = Snapshot::new(self.key.clone(), sources, groups, groups_are_complete, Policy::default());
        let mut reports: Vec<SourceReport> = slots().map(|(source, slot)| slot.report(source)).collect();
        for (report, source) in reports.iter_mut().zip(snapshot.sources()) {
            if let Some(content) = &source.content {
                (report.foreign, report.foreign_refusals) = snapshot.foreign_keys(content);
            }
        }
        if groups_are_complete {
            for (name, main) in snapshot.unresolved() {
                let (name, main) = (escape(name), escape(main));
                log::warn!(
                    "{name}: same_as = \"{main}\" is none of our domains; whom the lists don't name there gets \"try again later\""
                );
            }
        }
        let contents = || snapshot.sources().iter().flat_map(|s| s.content.iter().chain(&s.vanished));
        let report = Report {
            domains: snapshot.domains().len(),
            recipients: reports.iter().map(SourceReport::ours).sum(),
            refusals: reports.iter().map(|report| report.refusals - report.foreign_refusals).sum(),
            heap_bytes: contents().map(|content| content.heap_bytes()).sum(),
            sources: reports,
            files: self.tables.reports(),
            state_dir_error: self.store.as_ref().and_then(Store::trouble).map(str::to_owned),
            ..Report::default()
        };
        (
            Directory::new(snapshot, assemble::maps(config, &self.tables))
                .with_routes(assemble::routes(config, &self.tables)),
            report,
        )
    }

    /// The report about the directory of the last load, which stays in force.
    fn same_directory(&self, config: &Config) -> Report {
        let with_foreign = |source: &config::Source| {
            let report = self.slots.get(&source.name)?.report(source);
            let last = self.last.sources.iter().find(|last| last.name == report.name);
            let (foreign, foreign_refusals) = last.map_or((0, 0), |last| (last.foreign, last.foreign_refusals));
            Some(SourceReport { foreign, foreign_refusals, ..report })
        };
        Report {
            config_error: None,
            sources: config.sources.iter().filter_map(with_foreign).collect(),
            files: self.tables.reports(),
            state_dir_error: self.store.as_ref().and_then(Store::trouble).map(str::to_owned),
            ..self.last.clone()
        }
    }
}

/// The command that takes a source or a file though a guard holds it back.
fn force_command(serves: Option<&Serves>, config: &Config, name: &str) -> String {
    let name = quoted(name);
    let file = serves.filter(|serves| !serves.own_control).and_then(|serves| serves.file.as_deref());
    match (file, &config.control) {
        (_, None) => "it can be forced over a control socket only (control)".to_owned(),
        (Some(file), _) if file == Path::new(config::DEFAULT_FILE) => format!("rcptmapd reload --force {name}"),
        (Some(file), _) => format!("rcptmapd reload -c {} --force {name}", quoted(&file.to_string_lossy())),
        (None, Some(control)) => {
            format!("rcptmapd reload --control {} --force {name}", quoted(&control.to_string_lossy()))
        }
    }
}

fn kept(saved: Saved) -> Kept {
    Kept {
        content: Arc::new(saved.content),
        origin: saved.meta.origin,
        marked: saved.meta.marked,
        as_of: saved.confirmed,
        format: Some(saved.meta.format),
        taken_at: saved.meta.taken,
        version: Some(saved.version),
        line_of: Vec::new(),
        files: Vec::new(),
    }
}

fn options(source: &config::Source) -> Options {
    Options {
        domain: source.domain.as_ref().map_or_else(Vec::new, |domain| domain.0.clone().into_bytes()),
        today: slot::today(),
        uid_min: source.uid_min,
        shells: source.shells.iter().flatten().map(|shell| shell.clone().into_bytes()).collect(),
        disabled: match source.disabled {
            config::Disabled::Keep => Disabled::Keep,
            config::Disabled::Drop => Disabled::Drop,
        },
        ..Options::default()
    }
}
