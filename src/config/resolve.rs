//! From what a file says to what we run on: defaults put in, values judged, sections checked against each other.
//!
//! Every section is taken apart field by field, so that the compiler tells of a key that nobody reads.

mod ahead;

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::error::{ConfigError, Place, SourceMap, nearest};
use super::file::*;
use super::tree::{Parsed, Setting};
use super::value::{DomainName, Fault, FileMode, Percent, Raw, Size};
use super::*;

/// Judges what was read.
pub(super) fn resolve(name: &Path, parsed: Parsed, overrides: &Overrides) -> Result<Config, ConfigError> {
    let Parsed { file, map, found, settings } = parsed;
    let folder = name.parent().unwrap_or(Path::new(""));
    let folder = std::path::absolute(folder.join(".")).unwrap_or_else(|_| folder.to_path_buf());
    let mut r = Resolver { map: &map, settings: &settings, folder, found };
    let mut config = r.config(file);
    config.files = map.names();
    let had_sources = !config.sources.is_empty();
    let listens = !overrides.listen.is_empty();
    config.apply(overrides);
    if !listens {
        r.listeners(&config);
    }
    r.references(&config);
    ConfigError::check(&map, r.found)?;
    let nothing = !had_sources && config.sources.is_empty() && config.backends.is_empty() && config.nexthops.is_none();
    if nothing && !config.maps.iter().any(|m| m.kind == MapKind::Table) {
        let what = "there is nothing to answer from: add a [[source]] with path = \"/path/of/a/list\"";
        return Err(ConfigError::whole_file(name, what));
    }
    Ok(config)
}

/// A section, for messages.
#[derive(Clone, Copy)]
struct Title(&'static str);

const TOP: Title = Title("");
const LOG: Title = Title("[log] ");
const LISTEN: Title = Title("[[listen]] ");
const LIMITS: Title = Title("[limits] ");
const DEFAULTS: Title = Title("[defaults] ");
const SOURCE: Title = Title("[[source]] ");
const DOMAIN: Title = Title("[[domain]] ");
const NEXTHOPS: Title = Title("[nexthops] ");
const BACKEND: Title = Title("[[backend]] ");
const CACHE: Title = Title("[cache] ");
const SKIP: Title = Title("[skip] ");
const HARVEST: Title = Title("[harvest] ");
const MAP: Title = Title("[[map]] ");

struct Resolver<'m> {
    map: &'m SourceMap,
    settings: &'m [Setting],
    folder: PathBuf,
    found: Vec<(usize, String)>,
}

/// `[defaults]` and what each `[[source]]` says of the same.
struct Guards {
    max_shrink: Key<Percent>,
    min_entries: Key<u32>,
    max_age: Key<Option<Duration>>,
    grace: Key<Duration>,
    retry: Key<Duration>,
    watch: Key<Watch>,
    refresh: Key<Option<Duration>>,
    timeout: Key<Duration>,
    keep_versions: Key<u32>,
}

impl Resolver<'_> {
    fn complain(&mut self, at: usize, what: impl Into<String>) {
        self.found.push((at, what.into()));
    }

    /// The value of a key, and where it stands.
    fn at<T>(&mut self, title: Title, key: &str, leaf: Key<T>) -> Option<(T, usize)> {
        let leaf = leaf?;
        match leaf.value {
            Ok(value) => Some((value, leaf.span.start)),
            Err(Fault { span, raw, what }) => {
                self.complain(span.start, format!("{}{key} = {raw}: {what}", title.0));
                None
            }
        }
    }

    fn opt<T>(&mut self, title: Title, key: &str, leaf: Key<T>) -> Option<T> {
        self.at(title, key, leaf).map(|(value, _)| value)
    }

    fn get<T>(&mut self, title: Title, key: &str, leaf: Key<T>, default: T) -> T {
        self.opt(title, key, leaf).unwrap_or(default)
    }

    /// A value that has to pass `test`; `what` is said of others.
    fn tested<T: Clone + Display>(
        &mut self,
        title: Title,
        key: &str,
        leaf: Key<T>,
        test: impl Fn(&T) -> bool,
        what: &str,
    ) -> Option<T> {
        let (value, at) = self.at(title, key, leaf)?;
        if test(&value) {
            return Some(value);
        }
        self.complain(at, format!("{}{key} = {:?}: {what}", title.0, value.to_string()));
        None
    }

    /// A whole number from `least`.
    fn number(&mut self, title: Title, key: &str, leaf: Key<u32>, least: u32, default: usize) -> usize {
        match self.at(title, key, leaf) {
            Some((number, at)) if number < least => {
                self.complain(at, format!("{}{key} = {number}: it must be at least {least}", title.0));
                default
            }
            Some((number, _)) => number as usize,
            None => default,
        }
    }

    fn size(&mut self, key: &str, leaf: Key<Size>, range: std::ops::RangeInclusive<usize>, default: usize) -> usize {
        match self.at(LIMITS, key, leaf) {
            Some((Size(size), at)) if !range.contains(&size) => {
                let (low, high) = (range.start(), range.end() >> 20);
                self.complain(at, format!("{}{key} = {size}: it must be from \"{low}\" to \"{high}MiB\"", LIMITS.0));
                default
            }
            Some((Size(size), _)) => size,
            None => default,
        }
    }

    /// A duration that must not be zero.
    fn time(&mut self, title: Title, key: &str, leaf: Key<Duration>, default: Duration) -> Duration {
        match self.at(title, key, leaf) {
            Some((time, at)) if time.is_zero() => {
                self.complain(at, format!("{}{key}: it must be longer than 0s", title.0));
                default
            }
            Some((time, _)) => time,
            None => default,
        }
    }

    /// A path; a relative one starts from the folder of the main file.
    fn path(&mut self, title: Title, key: &str, leaf: Key<PathBuf>) -> Option<PathBuf> {
        self.opt(title, key, leaf).map(|p| self.absolute(p))
    }

    fn absolute(&self, path: PathBuf) -> PathBuf {
        let path = path.strip_prefix("./").map_or(path.clone(), Path::to_path_buf);
        self.folder.join(path)
    }

    fn place(&self, at: usize) -> Option<Place> {
        Some(self.map.place(at))
    }

    fn config(&mut self, file: FileConfig) -> Config {
        let FileConfig {
            user,
            state_dir,
            pid_file,
            control,
            include,
            log,
            listen,
            limits,
            defaults,
            source,
            domain,
            nexthops,
            backend,
            cache,
            skip,
            harvest,
            map,
        } = file;
        self.opt(TOP, "include", include); // read long ago; here only its type is judged
        let user = self.get(TOP, "user", user, Some(DEFAULT_USER.to_owned()));
        let state_dir = self.get(TOP, "state_dir", state_dir, Some(DEFAULT_STATE_DIR.into()));
        let pid_file = self.get(TOP, "pid_file", pid_file, None);
        let control = self.control(control);
        let maps = self.maps(map.unwrap_or_default());
        Config {
            user,
            state_dir: state_dir.map(|p| self.absolute(p)),
            pid_file: pid_file.map(|p| self.absolute(p)),
            control,
            log: self.log(log.unwrap_or_default()),
            listen: self.listen(listen.unwrap_or_default(), &maps),
            limits: self.limits(limits.unwrap_or_default()),
            sources: self.sources(defaults.unwrap_or_default(), source.unwrap_or_default()),
            domains: self.domains(domain.unwrap_or_default()),
            nexthops: nexthops.and_then(|n| self.nexthops(n)),
            backends: self.backends(backend.unwrap_or_default()),
            cache: self.cache(cache.unwrap_or_default()),
            skip: self.skip(skip.unwrap_or_default()),
            harvest: self.harvest(harvest),
            maps,
            files: Vec::new(),
        }
    }

    fn control(&mut self, control: Key<Option<Endpoint>>) -> Option<PathBuf> {
        match self.at(TOP, "control", control) {
            None => Some(DEFAULT_CONTROL.into()),
            Some((None, _)) => None,
            Some((Some(Endpoint::Unix(path)), _)) => Some(path),
            Some((Some(other), at)) => {
                self.complain(
                    at,
                    format!("control = \"{other}\": the control socket is a UNIX socket, as in \"{DEFAULT_CONTROL}\""),
                );
                None
            }
        }
    }

    fn log(&mut self, log: LogSection) -> Log {
        let LogSection { target, facility, level, addresses } = log;
        let default = Log::default();
        Log {
            target: self.get(LOG, "target", target, default.target),
            facility: self.get(LOG, "facility", facility, default.facility),
            level: self.get(LOG, "level", level, default.level),
            addresses: self.get(LOG, "addresses", addresses, default.addresses),
        }
    }

    fn listen(&mut self, sections: Vec<Spanned<ListenSection>>, maps: &[MapConfig]) -> Vec<Listen> {
        let mut seen: HashMap<Endpoint, usize> = HashMap::new();
        let mut listeners = Vec::new();
        for section in sections {
            let here = section.span().start;
            let ListenSection { on, mode, owner, group, protocol, default_map, allow } = section.into_inner();
            let missing = on.is_none();
            let on = self.at(LISTEN, "on", on);
            let mut listen = Listen::new(on.as_ref().map_or(DEFAULT_LISTEN, |(on, _)| on.clone()));
            listen.place = self.place(on.as_ref().map_or(here, |(_, at)| *at));
            if missing {
                self.complain(here, "[[listen]]: it needs an endpoint, as in on = \"127.0.0.1:8910\"");
            }
            let for_files = [
                ("mode", mode.as_ref().map(|l| l.span.start)),
                ("owner", owner.as_ref().map(|l| l.span.start)),
                ("group", group.as_ref().map(|l| l.span.start)),
            ];
            let mode_at = mode.as_ref().map_or(here, |l| l.span.start);
            listen.mode = self.get(LISTEN, "mode", mode, FileMode(DEFAULT_MODE)).0;
            if listen.mode & 0o222 == 0 {
                let what = "a client needs the permission to write; 0660 lets owner and group ask, 0666 everybody";
                self.complain(mode_at, format!("[[listen]] mode = \"{:04o}\": {what}", listen.mode));
            }
            listen.owner = self.account("owner", owner);
            listen.group = self.account("group", group);
            listen.protocol = self.get(LISTEN, "protocol", protocol, ListenProtocol::Auto);
            if let Some((name, at)) = self.at(LISTEN, "default_map", default_map) {
                self.check_map(&name, at, maps);
                listen.default_map = name;
            }
            let allow_at = allow.as_ref().map(|l| l.span.start);
            if let Some((nets, at)) = self.at(LISTEN, "allow", allow) {
                if nets.is_empty() {
                    let what = "nobody could ask; everybody is [\"0.0.0.0/0\", \"::/0\"]";
                    self.complain(at, format!("[[listen]] allow = []: {what}"));
                }
                listen.allow = nets;
            }
            let Some((on, at)) = on else { continue };
            if let Some(first) = seen.get(&on).filter(|_| !matches!(&on, Endpoint::Tcp(addr) if addr.port() == 0)) {
                let first = self.map.other(at, *first);
                self.complain(at, format!("[[listen]] on = \"{on}\": {first} listens there already"));
            }
            seen.entry(on.clone()).or_insert(at);
            match &on {
                Endpoint::Unix(_) => {
                    if let Some(at) = allow_at {
                        let what = "it is for TCP; who may ask at a UNIX socket is told by mode, owner and group";
                        self.complain(at, format!("[[listen]] allow: {what}"));
                    }
                }
                _ => {
                    for (key, at) in for_files {
                        let Some(at) = at else { continue };
                        let what = match &on {
                            Endpoint::Fd(_) => {
                                "the socket is systemd's: set SocketMode=, SocketUser= and SocketGroup= there"
                            }
                            _ => "it is for UNIX sockets; who may ask on TCP is told by allow",
                        };
                        self.complain(at, format!("[[listen]] {key}: {what}"));
                    }
                    if on.is_tcp() && !on.is_local() && allow_at.is_none() {
                        let what = "other hosts could reach it, but only this one is let in: add allow = [\"192.0.2.0/24\"] \
                                    with the networks of your mail servers";
                        self.complain(at, format!("[[listen]] on = \"{on}\": {what}"));
                    }
                }
            }
            listeners.push(listen);
        }
        listeners
    }

    /// The name of a user or a group; whether it exists is found out when the socket is bound.
    fn account(&mut self, key: &str, leaf: Key<String>) -> Option<String> {
        let good = |s: &String| !s.is_empty() && s.len() <= 256 && !s.contains([':', '/', ' ']);
        self.tested(LISTEN, key, leaf, good, "the name of an account is needed, or its number")
    }

    fn check_map(&mut self, name: &str, at: usize, maps: &[MapConfig]) {
        let names = || BUILT_IN_MAPS.into_iter().chain(maps.iter().map(|m| m.name.as_str()));
        if names().any(|n| n == name) {
            return;
        }
        let all: Vec<&str> = names().collect();
        let there_are = || format!("; there are {}", all.join(", "));
        let near = nearest(name, names()).map_or_else(there_are, |n| format!("; did you mean \"{n}\"?"));
        self.complain(at, format!("[[listen]] default_map = {name:?}: there is no such map{near}"));
    }

    fn limits(&mut self, limits: LimitsSection) -> Limits {
        let LimitsSection {
            sessions,
            sessions_per_peer,
            request_bytes,
            line_bytes,
            output_bytes,
            requests_per_turn,
            backlog,
            idle,
            request,
            answer,
            answer_line,
            answer_milter,
            stop,
        } = limits;
        Limits {
            sessions: self.number(LIMITS, "sessions", sessions, 1, DEFAULT_SESSIONS),
            sessions_per_peer: self.number(LIMITS, "sessions_per_peer", sessions_per_peer, 0, 0),
            // an address has at most 320 bytes, a map's name 64
            request_bytes: self.size("request_bytes", request_bytes, 512..=1 << 20, DEFAULT_REQUEST_BYTES),
            line_bytes: self.size("line_bytes", line_bytes, 512..=1 << 20, DEFAULT_LINE_BYTES),
            output_bytes: self.size("output_bytes", output_bytes, 4096..=64 << 20, DEFAULT_OUTPUT_BYTES),
            requests_per_turn: self.number(
                LIMITS,
                "requests_per_turn",
                requests_per_turn,
                1,
                DEFAULT_REQUESTS_PER_TURN,
            ),
            backlog: self.number(LIMITS, "backlog", backlog, 1, DEFAULT_BACKLOG as usize) as u32,
            idle: self.time(LIMITS, "idle", idle, DEFAULT_IDLE),
            request: self.time(LIMITS, "request", request, DEFAULT_REQUEST),
            answer: self.time(LIMITS, "answer", answer, DEFAULT_ANSWER),
            answer_line: self.time(LIMITS, "answer_line", answer_line, DEFAULT_ANSWER_LINE),
            answer_milter: self.time(LIMITS, "answer_milter", answer_milter, DEFAULT_ANSWER_MILTER),
            stop: self.get(LIMITS, "stop", stop, DEFAULT_STOP),
        }
    }

    /// Puts into `source` what `guards` say.
    fn guards(&mut self, title: Title, guards: Guards, source: &mut Source) {
        let Guards { max_shrink, min_entries, max_age, grace, retry, watch, refresh, timeout, keep_versions } = guards;
        source.max_shrink = self.get(title, "max_shrink", max_shrink, Percent(source.max_shrink)).0;
        source.min_entries = self.number(title, "min_entries", min_entries, 0, source.min_entries);
        source.max_age = self.get(title, "max_age", max_age, source.max_age);
        source.grace = self.get(title, "grace", grace, source.grace);
        source.retry = self.time(title, "retry", retry, source.retry);
        source.watch = self.get(title, "watch", watch, source.watch);
        source.refresh = self.get(title, "refresh", refresh, source.refresh);
        source.timeout = self.time(title, "timeout", timeout, source.timeout);
        source.keep_versions = self.get(title, "keep_versions", keep_versions, source.keep_versions);
    }

    fn sources(&mut self, defaults: DefaultsSection, sections: Vec<Spanned<SourceSection>>) -> Vec<Source> {
        let DefaultsSection { max_shrink, min_entries, max_age, grace, retry, watch, refresh, timeout, keep_versions } =
            defaults;
        let guards = Guards { max_shrink, min_entries, max_age, grace, retry, watch, refresh, timeout, keep_versions };
        let mut default = Source::new(String::new(), Origin::Path(PathBuf::new()));
        self.guards(DEFAULTS, guards, &mut default);

        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut sources = Vec::new();
        for section in sections {
            let here = section.span().start;
            let SourceSection {
                name,
                path,
                command,
                format,
                domain,
                priority,
                max_shrink,
                min_entries,
                max_age,
                grace,
                retry,
                watch,
                refresh,
                timeout,
                keep_versions,
                uid_min,
                shells,
                disabled,
            } = section.into_inner();
            let mut source = default.clone();
            let guards =
                Guards { max_shrink, min_entries, max_age, grace, retry, watch, refresh, timeout, keep_versions };
            self.guards(SOURCE, guards, &mut source);
            let given = (path.is_some(), command.as_ref().map(|c| c.span.start));
            let path = self.path(SOURCE, "path", path);
            let command = self.at(SOURCE, "command", command);
            match given {
                (true, Some(at)) => self.complain(at, "[[source]]: it has a path and a command; it can have only one"),
                (false, None) => {
                    self.complain(here, "[[source]]: it needs a file, as in path = \"/etc/postfix/relay_recipients\"");
                }
                _ => {}
            }
            let bad_origin = path.is_none() && command.as_ref().is_none_or(|(words, _)| words.is_empty());
            if let Some(path) = path {
                source.origin = Origin::Path(path);
            } else if let Some((command, at)) = command {
                if !command.first().is_some_and(|program| program.starts_with('/') || !program.contains('/')) {
                    let what = "the program and its arguments are needed, as in [\"ldapsearch\", \"-LLL\"]";
                    self.complain(at, format!("[[source]] command: {what}"));
                }
                source.origin = Origin::Command(command);
            }
            source.place = self.place(here);
            source.format = self.format(format);
            source.domain = self.get(SOURCE, "domain", domain, None);
            source.priority = self.get(SOURCE, "priority", priority, 0);
            source.uid_min = self.get(SOURCE, "uid_min", uid_min, DEFAULT_UID_MIN);
            source.shells = self.opt(SOURCE, "shells", shells);
            source.disabled = self.get(SOURCE, "disabled", disabled, Disabled::Keep);

            let named = self.at(SOURCE, "name", name);
            let (name, at) = named.unwrap_or_else(|| (self.source_name(&source.origin, &seen), here));
            if let Some(first) = seen.get(&name) {
                let first = self.map.other(at, *first);
                self.complain(at, format!("[[source]] name = {name:?}: {first} has this name already"));
            } else if bad_origin {
                // its name may be made of nothing; what is wrong has been said
            } else if name.is_empty() || name.len() > 100 || name.contains(|c: char| c.is_whitespace()) {
                let what = "a word of up to 100 bytes is needed: reload --force and rollback ask for it";
                self.complain(at, format!("[[source]] name = {name:?}: {what}"));
            }
            seen.entry(name.clone()).or_insert(at);
            source.name = name;
            sources.push(source);
        }
        sources
    }

    /// A source without a name has that of its file, or, where that is taken, its path.
    fn source_name(&self, origin: &Origin, seen: &HashMap<String, usize>) -> String {
        let (short, long) = match origin {
            Origin::Path(path) => {
                (path.file_name().map(|n| n.to_string_lossy().into_owned()), path.display().to_string())
            }
            Origin::Command(words) => {
                let program = words.first().map_or("", |w| w.rsplit('/').next().unwrap_or_default());
                (Some(program.to_owned()), words.join(" "))
            }
        };
        let name = short.filter(|n| !n.is_empty() && !seen.contains_key(n)).unwrap_or(long);
        name.replace(char::is_whitespace, "_")
    }

    /// The format of a list; `None`: it is found out.
    fn format(&mut self, leaf: Key<String>) -> Option<Format> {
        let (format, at) = self.at(SOURCE, "format", leaf).filter(|(format, _)| format != "auto")?;
        let known = format.parse().ok();
        if known.is_none() {
            let words = || std::iter::once("auto").chain(Format::ALL.iter().map(|format| format.name()));
            let there_are = || format!("; there are {}", words().collect::<Vec<_>>().join(", "));
            let near = nearest(&format, words()).map_or_else(there_are, |n| format!("; did you mean \"{n}\"?"));
            self.complain(at, format!("[[source]] format = {format:?}: no such format{near}"));
        }
        known
    }

    fn domains(&mut self, sections: Vec<Spanned<DomainSection>>) -> Vec<RelayDomain> {
        let mut seen: HashMap<DomainName, usize> = HashMap::new();
        let mut domains = Vec::new();
        for section in sections {
            let here = section.span().start;
            let DomainSection {
                names,
                file,
                subdomains,
                same_as,
                verify,
                backend,
                mode,
                subaddress,
                case_sensitive,
                always,
                unwrap,
                absent,
                unknown,
                unavailable,
                skip,
            } = section.into_inner();
            let default = RelayDomain::default();
            let bad =
                names.as_ref().is_some_and(|l| l.value.is_err()) || file.as_ref().is_some_and(|l| l.value.is_err());
            let spans: Vec<usize> = match names.as_ref().map(|l| (&l.raw, l.span.start)) {
                Some((Raw::List(items), _)) => items.iter().map(|i| i.span().start).collect(),
                Some((_, start)) => vec![start],
                None => Vec::new(),
            };
            let names = self.get(DOMAIN, "names", names, Vec::new());
            for (name, at) in names.iter().zip(spans) {
                if let Some(first) = seen.get(name) {
                    let first = self.map.other(at, *first);
                    self.complain(at, format!("[[domain]] names: \"{}\" is named at {first} already", name.0));
                }
                seen.entry(name.clone()).or_insert(at);
            }
            let file = self.get(DOMAIN, "file", file, None).map(|p| self.absolute(p));
            if !bad && names.is_empty() && file.is_none() {
                self.complain(here, "[[domain]]: it needs names = [\"example.org\"], or a file that lists domains");
            }
            let case_sensitive = self.get(DOMAIN, "case_sensitive", case_sensitive, default.case_sensitive);
            domains.push(RelayDomain {
                names,
                file,
                subdomains: self.get(DOMAIN, "subdomains", subdomains, default.subdomains),
                same_as: self.get(DOMAIN, "same_as", same_as, None),
                verify: self.get(DOMAIN, "verify", verify, default.verify),
                backend: self.get(DOMAIN, "backend", backend, None),
                mode: self.get(DOMAIN, "mode", mode, default.mode),
                subaddress: self.subaddress(subaddress),
                case_sensitive,
                always: self.always(always, case_sensitive),
                unwrap: self.get(DOMAIN, "unwrap", unwrap, default.unwrap),
                absent: self.reply("absent", absent, false).unwrap_or(default.absent),
                unknown: self.reply("unknown", unknown, true).unwrap_or(default.unknown),
                unavailable: self.opt(DOMAIN, "unavailable", unavailable),
                skip: self.get(DOMAIN, "skip", skip, default.skip),
                place: self.place(here),
            });
        }
        domains
    }

    fn subaddress(&mut self, leaf: Key<String>) -> Vec<u8> {
        let Some((text, at)) = self.at(DOMAIN, "subaddress", leaf) else { return DEFAULT_SUBADDRESS.into() };
        let mut delimiters: Vec<u8> = Vec::new();
        for c in text.chars() {
            match u8::try_from(c) {
                Ok(b) if b.is_ascii_punctuation() && !b"@\"\\<>,()[];:".contains(&b) => {
                    if !delimiters.contains(&b) {
                        delimiters.push(b);
                    }
                }
                _ => {
                    let what = format!("{c:?} can't part a name from its detail; \"+\" and \"-\" are common");
                    self.complain(at, format!("[[domain]] subaddress = {text:?}: {what}"));
                    break;
                }
            }
        }
        delimiters
    }

    fn always(&mut self, leaf: Key<Vec<String>>, case_sensitive: bool) -> Vec<String> {
        let mut names = vec![POSTMASTER.to_owned()];
        if let Some((wanted, at)) = self.at(DOMAIN, "always", leaf) {
            for name in wanted {
                if name.is_empty() || name.len() > 64 || name.contains(['@', ' ', '"']) {
                    let what = format!("{name:?} is no local part: write what stands before the \"@\"");
                    self.complain(at, format!("[[domain]] always: {what}"));
                }
                let name = if case_sensitive { name } else { name.to_lowercase() };
                if !names.contains(&name) && !name.eq_ignore_ascii_case(POSTMASTER) {
                    names.push(name);
                }
            }
        }
        names
    }

    fn reply(&mut self, key: &str, leaf: Key<Reply>, temporary: bool) -> Option<Reply> {
        let (reply, at) = self.at(DOMAIN, key, leaf)?;
        if reply.is_temporary() != temporary {
            let what = if temporary {
                "this must be a 4xx reply: a 5xx would bounce mail that may well have a recipient"
            } else {
                "this must be a 5xx reply; to refuse nobody yet, set mode = \"warn\""
            };
            self.complain(at, format!("[[domain]] {key} = \"{reply}\": {what}"));
        }
        Some(reply)
    }

    fn maps(&mut self, sections: Vec<Spanned<MapSection>>) -> Vec<MapConfig> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut maps = Vec::new();
        for section in sections {
            let here = section.span().start;
            let MapSection { name, kind, path, value } = section.into_inner();
            let missing = (name.is_none(), kind.is_none(), path.is_none());
            let (name, at) = self.at(MAP, "name", name).unwrap_or((String::new(), here));
            let word = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if missing.0 {
                self.complain(here, "[[map]]: it needs a name: the first word of a request");
            } else if name.is_empty() || name.len() > 64 || !word(&name) {
                let what =
                    "a name is up to 64 letters, digits, \"-\", \"_\" and dots: it is the first word of a request";
                self.complain(at, format!("[[map]] name = {name:?}: {what}"));
            } else if let Some(first) = seen.get(&name) {
                let first = self.map.other(at, *first);
                self.complain(at, format!("[[map]] name = {name:?}: {first} has this name already"));
            }
            seen.entry(name.clone()).or_insert(at);
            if missing.1 {
                self.complain(here, "[[map]]: it needs a kind, as in kind = \"table\"");
            }
            let known = self.opt(MAP, "kind", kind);
            let kind = known.unwrap_or(MapKind::Recipients);
            let spans = [
                ("path", path.as_ref().map(|l| l.span.start), MapKind::Table),
                ("value", value.as_ref().map(|l| l.span.start), MapKind::Recipients),
            ];
            for (key, at, owner) in spans {
                if let Some(at) = at.filter(|_| known.is_some_and(|k| k != owner)) {
                    self.complain(at, format!("[[map]] {key}: it is for maps of kind = \"{owner}\""));
                }
            }
            if known == Some(MapKind::Table) && missing.2 {
                self.complain(here, "[[map]]: a table needs a file, as in path = \"/etc/mail/virtusertable\"");
            }
            let path = self.path(MAP, "path", path);
            let value = match self.at(MAP, "value", value) {
                None => MapValue::Echo,
                Some((value, at)) => match value.as_str() {
                    "echo" => MapValue::Echo,
                    "source" => MapValue::Source,
                    word if word.trim().is_empty() || word.len() > 200 || !word.is_ascii() => {
                        let what = "\"echo\", \"source\" or a word is needed; an empty value means \"not found\" to mail servers";
                        self.complain(at, format!("[[map]] value = {word:?}: {what}"));
                        MapValue::Echo
                    }
                    word => MapValue::Word(word.to_owned()),
                },
            };
            maps.push(MapConfig { name, kind, path, value, place: self.place(here) });
        }
        maps
    }

    /// The control socket and the listeners must not be the same.
    fn listeners(&mut self, config: &Config) {
        let Some(control) = &config.control else { return };
        let same = config.listen.iter().find(|l| l.on.path() == Some(control));
        if let Some(listen) = same {
            let what = format!("[[listen]] on = \"{}\": this is the control socket; choose another path", listen.on);
            self.complain_at(&listen.place, "on", what);
        }
    }

    /// What sections say of each other.
    fn references(&mut self, config: &Config) {
        let by_name: HashMap<&DomainName, usize> =
            config.domains.iter().enumerate().flat_map(|(i, d)| d.names.iter().map(move |n| (n, i))).collect();
        let from_files = config.domains.iter().any(|d| d.file.is_some());
        for (start, domain) in config.domains.iter().enumerate() {
            let Some(main) = &domain.same_as else { continue };
            let title = format!("[[domain]] same_as = \"{}\"", main.0);
            match by_name.get(main) {
                None if from_files => {} // found out when the files are read
                None => {
                    let near = nearest(&main.0, by_name.keys().map(|n| n.0.as_str()));
                    let near = near.map_or(String::new(), |n| format!("; did you mean \"{n}\"?"));
                    let what = format!("{title}: there is no [[domain]] with this name{near}");
                    self.complain_at(&domain.place, "same_as", what);
                }
                Some(&next) => {
                    // at most as many steps as there are sections; a longer way is a circle
                    let mut at = next;
                    let mut steps = 0;
                    while at != start && steps <= config.domains.len() {
                        steps += 1;
                        match config.domains.get(at).and_then(|d| d.same_as.as_ref()).and_then(|n| by_name.get(n)) {
                            Some(&next) => at = next,
                            None => break,
                        }
                    }
                    if at == start {
                        let what =
                            format!("{title}: this leads back to the same [[domain]]; one of them must have a list");
                        self.complain_at(&domain.place, "same_as", what);
                    }
                }
            }
        }
        for domain in &config.domains {
            if let Some(name) = domain.backend.as_ref().filter(|n| !config.backends.iter().any(|b| b.name == **n)) {
                let near = nearest(name, config.backends.iter().map(|b| b.name.as_str()));
                let near = near.map_or(String::new(), |n| format!("; did you mean \"{n}\"?"));
                let what = format!("[[domain]] backend = {name:?}: there is no [[backend]] with this name{near}");
                self.complain_at(&domain.place, "backend", what);
            }
            let asked =
                domain.backend.is_some() || config.nexthops.is_some() || config.backends.iter().any(|b| b.all_domains);
            if domain.verify != Verify::List && domain.same_as.is_none() && !asked {
                let what = "there is nobody to ask: add backend = \"NAME\" with a [[backend]], or [nexthops]";
                self.complain_at(&domain.place, "verify", format!("[[domain]] verify = \"{}\": {what}", domain.verify));
            }
        }
        let mut everything: Vec<&Backend> = config.backends.iter().filter(|b| b.all_domains).collect();
        if everything.len() > 1 {
            let first = everything.remove(0);
            for backend in everything {
                let what = format!("[[backend]] all_domains: \"{}\" is asked for every domain already", first.name);
                self.complain_at(&backend.place, "all_domains", what);
            }
        }
    }

    /// As [`Self::complain`], about a key of the section at `place`.
    fn complain_at(&mut self, place: &Option<Place>, key: &str, what: String) {
        let section = place.as_ref().and_then(|p| self.map.offset(p)).unwrap_or(0);
        let keys = self.settings.iter().filter(|s| s.key == key && s.offset >= section);
        self.complain(keys.map(|s| s.offset).min().unwrap_or(section), what);
    }
}
