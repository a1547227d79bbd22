//! The sections of sources and of our domains.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::super::error::nearest;
use super::super::file::*;
use super::super::value::{Percent, Raw};
use super::super::*;
use super::{DEFAULTS, DOMAIN, Resolver, SOURCE, Title};
use crate::source::Format;
use crate::verdict::Reply;

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

    pub(super) fn sources(&mut self, defaults: DefaultsSection, sections: Vec<Spanned<SourceSection>>) -> Vec<Source> {
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
            source.is_named = named.is_some();
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

    pub(super) fn domains(&mut self, sections: Vec<Spanned<DomainSection>>) -> Vec<RelayDomain> {
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
}
