//! From what a file says to what we run on: defaults put in, values judged, sections checked against each other.
//!
//! Every section is taken apart field by field, so that the compiler tells of a key that nobody reads.

mod ahead;
mod lists;

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::error::{ConfigError, Place, SourceMap, nearest};
use super::file::*;
use super::tree::{Parsed, Setting};
use super::value::{DomainName, Fault, FileMode, Size};
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
        let from_files = config.domains.iter().any(|d| d.file.is_some())
            || config.nexthops.as_ref().is_some_and(|nexthops| nexthops.domains);
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
