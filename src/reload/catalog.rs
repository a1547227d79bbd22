//! All sources, domain files and tables: what was last good of each, and the directory that they make together.
//!
//! Each keeps its own last good content. A load reads what was asked for, or what is due; what can't be taken stays as it
//! was, and the report says why. Nothing new means no new directory. Runs on the loader's thread, and in `check` and
//! `explain`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::files::Look;
use super::guard;
use super::read::{self, ReadAs, Request, SourceError, Taken};
use super::report::{FileReport, Report, SourceReport, State};
use super::saved::Meta;
use super::slot::{self, Attempt, Kept, MAX_RETRY, Pin, Slot};
use super::store::{Rollback, Saved, Store};
use super::tell::quoted;
use crate::config::{self, BackendServer, Config, MapConfig, MapKind, MapValue, Origin, RelayDomain, Wrapper};
use crate::logging::escape;
use crate::map::{Builder, Changes, Content, DomainGroup, Domains, HashKey, Mode, Policy, Snapshot, Verify};
use crate::probe::route::{self, NextHop, Routes};
use crate::resolve::{Directory, Kind, Map, ValueOf};
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
    domain_files: HashMap<PathBuf, Arc<Vec<Box<[u8]>>>>,
    tables: HashMap<PathBuf, Arc<Content>>,
    /// Domain files and tables as of the last load that read them.
    files: Vec<FileReport>,
    files_due: Option<Instant>,
    files_pause: Duration,
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

/// The parts of a configuration that shape a directory.
#[derive(PartialEq)]
struct MadeOf {
    domains: Vec<RelayDomain>,
    maps: Vec<MapConfig>,
    sources: Vec<(String, i32)>,
    backends: Vec<(String, Vec<BackendServer>, bool)>,
    nexthops: Option<(PathBuf, bool)>,
}

impl MadeOf {
    fn new(config: &Config) -> MadeOf {
        MadeOf {
            domains: config.domains.clone(),
            maps: config.maps.clone(),
            sources: config.sources.iter().map(|source| (source.name.clone(), source.priority)).collect(),
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
        Catalog {
            key: HashKey::new(),
            slots: HashMap::new(),
            domain_files: HashMap::new(),
            tables: HashMap::new(),
            files: Vec::new(),
            files_due: None,
            files_pause: Duration::ZERO,
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
        let (mut is_change, mut read) = self.read_files(config, wish.all, began);
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

    /// What a reload would do now: the reports of all sources, as if it had been done.
    pub fn rehearse(&mut self, config: &Config) -> Vec<SourceReport> {
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
                    let force = error.can_be_forced().then(|| self.force_command(config, source));
                    report.error = Some(error.to_string());
                    report.force = force;
                    report.state = if slot.kept.is_some() { State::Kept } else { State::Missing };
                }
                Attempt::Same(_) => (report.state, report.error) = (State::Taken, None),
                Attempt::New(taken, changes) => {
                    (report.state, report.error) = (State::Taken, None);
                    report.refusals = taken.content.refusals();
                    report.recipients = taken.content.len() - report.refusals;
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
        sources.chain(self.files_due).chain(unsaved.and_then(Store::next)).min()
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
            let meta = Meta { taken: kept.taken_at, format: kept.format.unwrap_or(Format::Plain), marked: kept.marked };
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
        slot.put(source, Kept { as_of: Some(SystemTime::now()), ..kept(saved) }, now);
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
        let groups = self.groups(config);
        let domains = (!config.domains.is_empty())
            .then(|| Snapshot::new(self.key.clone(), Vec::new(), groups.0, groups.1, Policy::default()));
        Setting {
            wants_values: config.maps.iter().any(|map| map.value == MapValue::Source),
            case_sensitive: config
                .domains
                .iter()
                .filter(|domain| domain.case_sensitive)
                .flat_map(|domain| domain.names.iter().map(|name| name.0.as_bytes().into()))
                .collect(),
            domains,
            force,
        }
    }

    fn builder(&self, keep_values: bool, setting: &Setting<'_>) -> Builder {
        Builder::new(self.key.clone(), keep_values, setting.case_sensitive.clone())
    }

    // --- sources ---------------------------------------------------------------------------------------------------

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
        (slot.pin, slot.kept) = (pin, Some(kept(saved)));
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
            slot.fail(source, error, Some(self.force_command(config, source)));
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
        if !is_forced {
            let marked = (kept.marked, taken.marked);
            let ours = |domain: &[u8]| setting.is_ours(domain);
            if let Err(guard) = guard::check(&kept.content, &changes, marked, source.max_shrink, &ours) {
                let path = source.origin.to_string().into();
                return Attempt::Failed(SourceError::Guarded { path, guard });
            }
        }
        Attempt::New(Box::new(taken), Arc::new(changes))
    }

    /// The command that takes a source though a guard holds it back.
    fn force_command(&self, config: &Config, source: &config::Source) -> String {
        let name = quoted(&source.name);
        let file = self.serves.as_ref().filter(|serves| !serves.own_control).and_then(|serves| serves.file.as_deref());
        match (file, &config.control) {
            (_, None) => "it can be forced over a control socket only (control)".to_owned(),
            (Some(file), _) if file == Path::new(config::DEFAULT_FILE) => format!("rcptmapd reload --force {name}"),
            (Some(file), _) => format!("rcptmapd reload -c {} --force {name}", quoted(&file.to_string_lossy())),
            (None, Some(control)) => {
                format!("rcptmapd reload --control {} --force {name}", quoted(&control.to_string_lossy()))
            }
        }
    }

    // --- the directory ---------------------------------------------------------------------------------------------

    fn directory(&self, config: &Config) -> (Directory, Report) {
        let (groups, groups_complete) = self.groups(config);
        let slots = || config.sources.iter().filter_map(|source| Some((source, self.slots.get(&source.name)?)));
        let sources = slots().map(|(source, slot)| slot.source(source)).collect();
        let snapshot = Snapshot::new(self.key.clone(), sources, groups, groups_complete, Policy::default());
        let mut reports: Vec<SourceReport> = slots().map(|(source, slot)| slot.report(source)).collect();
        for (report, source) in reports.iter_mut().zip(snapshot.sources()) {
            if let Some(content) = &source.content {
                (report.foreign, report.foreign_refusals) = snapshot.foreign_keys(content);
            }
        }
        let contents = || snapshot.sources().iter().flat_map(|s| s.content.iter().chain(&s.vanished));
        let report = Report {
            domains: snapshot.domains().len(),
            recipients: reports.iter().map(SourceReport::ours).sum(),
            refusals: reports.iter().map(|report| report.refusals - report.foreign_refusals).sum(),
            heap_bytes: contents().map(|content| content.heap_bytes()).sum(),
            sources: reports,
            files: self.files.clone(),
            state_dir_error: self.store.as_ref().and_then(Store::trouble).map(str::to_owned),
            ..Report::default()
        };
        (Directory::new(snapshot, self.maps(config)).with_routes(self.routes(config)), report)
    }

    /// Where the mail of our domains goes.
    fn routes(&self, config: &Config) -> Routes {
        let hop =
            |backend: &config::Backend| Some((backend.name.as_str().into(), NextHop::new(backend.servers.clone())?));
        let mut table = route::Table::default();
        if let Some(pairs) = self.next_hops(config) {
            for (key, value) in pairs.pairs().iter() {
                let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
                if let Err(error) = table.insert(&key, &value) {
                    log::warn!("next hops: {}: {error}; nobody is asked for it", escape(key.as_bytes()));
                }
            }
        }
        Routes {
            own: config.listen.iter().map(|listen| listen.on.clone()).collect(),
            backends: config.backends.iter().filter_map(hop).collect(),
            all_domains: config
                .backends
                .iter()
                .find(|backend| backend.all_domains)
                .map(|backend| backend.name.as_str().into()),
            table,
        }
    }

    fn next_hops(&self, config: &Config) -> Option<&Content> {
        self.tables.get(&config.nexthops.as_ref()?.file).map(|table| &**table)
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
            files: self.files.clone(),
            state_dir_error: self.store.as_ref().and_then(Store::trouble).map(str::to_owned),
            ..self.last.clone()
        }
    }

    /// Our domains; `false` when a domain file is missing, so that we don't know all of them.
    fn groups(&self, config: &Config) -> (Vec<DomainGroup>, bool) {
        let mut complete = true;
        let mut groups = Vec::new();
        for domain in &config.domains {
            let mut names: Vec<Box<[u8]>> = domain.names.iter().map(|name| name.0.as_bytes().into()).collect();
            if let Some(path) = &domain.file {
                match self.domain_files.get(path) {
                    Some(listed) => names.extend(listed.iter().cloned()),
                    None => complete = false,
                }
            }
            groups.push(DomainGroup { names, policy: policy(domain) });
        }
        // Every domain of the table is ours: its next hop decides.
        if config.nexthops.as_ref().is_some_and(|nexthops| nexthops.domains) {
            let pairs = self.next_hops(config).map(Content::pairs);
            complete &= pairs.is_some();
            let keys = || pairs.into_iter().flat_map(|pairs| pairs.iter()).map(|(key, _)| key);
            for (subdomains, names) in [
                (false, keys().filter(|key| !key.starts_with(b".") && *key != b"*").map(Into::into).collect()),
                (
                    true,
                    keys()
                        .filter_map(|key| key.strip_prefix(b"."))
                        .filter(|key| !key.is_empty())
                        .map(Into::into)
                        .collect(),
                ),
            ] {
                groups.push(DomainGroup {
                    names,
                    policy: Policy { subdomains, verify: Verify::Probe, ..Policy::default() },
                });
            }
        }
        (groups, complete)
    }

    fn maps(&self, config: &Config) -> Vec<Map> {
        let kind = |map: &MapConfig| match map.kind {
            MapKind::Recipients => Kind::Recipients(match &map.value {
                MapValue::Echo => ValueOf::Echo,
                MapValue::Source => ValueOf::Source,
                MapValue::Word(word) => ValueOf::Word(word.as_str().into()),
            }),
            MapKind::Access => Kind::Access,
            MapKind::Check => Kind::Check,
            MapKind::Domains => Kind::Domains,
            MapKind::Table => Kind::Table(map.path.as_ref().and_then(|path| self.tables.get(path).cloned())),
            MapKind::Nexthop => Kind::Nexthop,
        };
        config.maps.iter().map(|map| Map { name: map.name.as_str().into(), kind: kind(map) }).collect()
    }

    // --- domain files and tables -----------------------------------------------------------------------------------

    /// Reads domain files and tables, where wished for or due. Whether one has changed, and how many were read.
    fn read_files(&mut self, config: &Config, all: bool, now: Instant) -> (bool, usize) {
        if !all && self.files_due.is_none_or(|due| due > now) {
            self.files.iter_mut().for_each(|file| file.is_new_error = false);
            return (false, 0);
        }
        let mut is_change = false;
        let mut files = Vec::new();
        for path in config.domains.iter().filter_map(|domain| domain.file.as_ref()) {
            let read = self.read_file(path, ReadAs::List(Format::Domains), false);
            let error = read.map(|taken| {
                let names = Arc::new(taken.content.domains().map(|(name, _)| name.into()).collect());
                let old = self.domain_files.insert(path.clone(), Arc::clone(&names));
                is_change |= old != Some(names);
            });
            let entries = self.domain_files.get(path).map(|names| names.len());
            files.push(self.file_report(path, "domains", error.err(), entries));
        }
        let maps = config.maps.iter().filter(|map| map.kind == MapKind::Table);
        let maps = maps.filter_map(|map| Some((map.path.as_ref()?, map.name.as_str())));
        let nexthops = config.nexthops.iter().map(|nexthops| (&nexthops.file, "next hops"));
        for (path, what) in maps.chain(nexthops) {
            let error = self.read_file(path, ReadAs::Table, true).map(|taken| {
                if self.tables.get(path).is_none_or(|old| old.digest() != taken.content.digest()) {
                    self.tables.insert(path.clone(), Arc::new(taken.content));
                    is_change = true;
                }
            });
            let entries = self.tables.get(path).map(|table| table.pairs().len());
            files.push(self.file_report(path, what, error.err(), entries));
        }
        self.domain_files.retain(|path, _| files.iter().any(|file| file.path == *path));
        self.tables.retain(|path, _| files.iter().any(|file| file.path == *path));
        let failed = files.iter().any(|file| file.may_pass);
        self.files_pause = match (failed, self.files_pause) {
            (false, _) => Duration::ZERO,
            (true, Duration::ZERO) => config::DEFAULT_RETRY,
            (true, pause) => (pause * 2).min(MAX_RETRY),
        };
        self.files_due = failed.then(|| Instant::now() + self.files_pause);
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

    fn file_report(&self, path: &Path, what: &str, error: Option<SourceError>, entries: Option<usize>) -> FileReport {
        let may_pass = error.as_ref().is_some_and(SourceError::may_pass);
        let state = match (&error, entries) {
            (None, _) => State::Taken,
            (Some(_), Some(_)) => State::Kept,
            (Some(_), None) => State::Missing,
        };
        let error = error.map(|error| error.to_string());
        let before = self.files.iter().find(|file| file.path == path).and_then(|file| file.error.as_ref());
        let is_new_error = error.as_ref() != before;
        FileReport {
            path: path.into(),
            what: what.to_owned(),
            state,
            may_pass,
            error,
            is_new_error,
            entries: entries.unwrap_or(0),
        }
    }
}

fn kept(saved: Saved) -> Kept {
    Kept {
        content: Arc::new(saved.content),
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
