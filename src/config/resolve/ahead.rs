//! The sections of call-ahead and of the clients that are known.

use std::collections::HashMap;
use std::time::Duration;

use toml::Spanned;

use super::super::endpoint::is_host_name;
use super::super::file::*;
use super::super::value::{Fault, Percent, Raw, Value};
use super::super::*;
use super::{BACKEND, CACHE, HARVEST, NEXTHOPS, Resolver, SKIP};
use crate::verdict::is_status;

impl Resolver<'_> {
    pub(super) fn nexthops(&mut self, section: Spanned<NexthopsSection>) -> Option<Nexthops> {
        let here = section.span().start;
        let NexthopsSection { file, domains } = section.into_inner();
        let missing = file.is_none();
        let file = self.path(NEXTHOPS, "file", file);
        let domains = self.get(NEXTHOPS, "domains", domains, false);
        if missing {
            self.complain(here, "[nexthops]: it needs file = \"/etc/mail/mailertable\"");
        }
        Some(Nexthops { file: file?, domains, place: self.place(here) })
    }

    fn tls(&mut self, leaf: Key<Tls>) -> Tls {
        let Some((tls, at)) = self.at(BACKEND, "tls", leaf) else { return Tls::Off };
        if tls != Tls::Off && cfg!(not(feature = "tls")) {
            let what = "this rcptmapd was built without \"tls\"; it can be \"off\" here";
            self.complain(at, format!("[[backend]] tls = \"{tls}\": {what}"));
        }
        tls
    }

    pub(super) fn backends(&mut self, sections: Vec<Spanned<BackendSection>>) -> Vec<Backend> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut backends = Vec::new();
        for section in sections {
            let here = section.span().start;
            let BackendSection {
                name,
                servers,
                all_domains,
                helo,
                greeting,
                sender,
                tls,
                connect_timeout,
                reply_timeout,
                total_timeout,
                sessions,
                recipients_per_session,
                probes_per_second,
                idle,
                unavailable,
                blind,
                catch_all_test,
                known_good,
                absent_codes,
            } = section.into_inner();
            let unnamed = name.is_none();
            let no_server = servers.as_ref().is_none_or(|l| l.value.as_ref().is_ok_and(Vec::is_empty));
            let (name, at) = self.at(BACKEND, "name", name).unwrap_or((String::new(), here));
            if unnamed {
                self.complain(here, "[[backend]]: it needs a name, as in name = \"hub\"");
            } else if name.is_empty() || name.contains(char::is_whitespace) {
                self.complain(at, format!("[[backend]] name = {name:?}: a word is needed"));
            } else if let Some(first) = seen.get(&name) {
                let first = self.map.other(at, *first);
                self.complain(at, format!("[[backend]] name = {name:?}: {first} has this name already"));
            }
            seen.entry(name.clone()).or_insert(at);
            let servers = self.get(BACKEND, "servers", servers, Vec::new());
            if no_server {
                self.complain(here, "[[backend]]: it needs servers = [\"192.0.2.1:25\"]");
            }
            let host = |s: &Option<String>| s.as_ref().is_none_or(|h| is_host_name(h));
            let helo = match self.at(BACKEND, "helo", helo) {
                Some((helo, at)) if !host(&helo) => {
                    let helo = helo.unwrap_or_default();
                    self.complain(at, format!("[[backend]] helo = {helo:?}: the name of a host is needed"));
                    None
                }
                Some((helo, _)) => helo,
                None => None,
            };
            let number = |r: &mut Self, key, leaf, least, default: u32| {
                r.number(BACKEND, key, leaf, least, default as usize) as u32
            };
            backends.push(Backend {
                name,
                servers,
                all_domains: self.get(BACKEND, "all_domains", all_domains, false),
                helo,
                greeting: self.get(BACKEND, "greeting", greeting, Greeting::Ehlo),
                sender: self.senders(sender),
                tls: self.tls(tls),
                connect_timeout: self.time(BACKEND, "connect_timeout", connect_timeout, DEFAULT_CONNECT_TIMEOUT),
                reply_timeout: self.time(BACKEND, "reply_timeout", reply_timeout, DEFAULT_REPLY_TIMEOUT),
                total_timeout: self.time(BACKEND, "total_timeout", total_timeout, DEFAULT_TOTAL_TIMEOUT),
                sessions: number(self, "sessions", sessions, 1, DEFAULT_BACKEND_SESSIONS),
                recipients_per_session: number(
                    self,
                    "recipients_per_session",
                    recipients_per_session,
                    1,
                    DEFAULT_RECIPIENTS_PER_SESSION,
                ),
                probes_per_second: number(self, "probes_per_second", probes_per_second, 0, 0),
                idle: self.get(BACKEND, "idle", idle, DEFAULT_BACKEND_IDLE),
                unavailable: self.get(BACKEND, "unavailable", unavailable, Unavailable::Tempfail),
                blind: self.get(BACKEND, "blind", blind, Blind::Exists),
                catch_all_test: self.catch_all_test(catch_all_test),
                known_good: self.get(BACKEND, "known_good", known_good, None),
                absent_codes: self.absent_codes(absent_codes),
                place: self.place(here),
            });
        }
        backends
    }

    fn senders(&mut self, leaf: Key<Vec<String>>) -> Vec<String> {
        let default = || vec![DEFAULT_SENDER.to_owned()];
        let Some((senders, at)) = self.at(BACKEND, "sender", leaf) else { return default() };
        let good = |s: &str| {
            s == "<>" || s.is_empty() || s.split_once('@').is_some_and(|(l, d)| !l.is_empty() && is_host_name(d))
        };
        if let Some(bad) = senders.iter().find(|s| !good(s) || s.contains([' ', '<', '>']) && *s != "<>") {
            let what = "an address is needed, or \"<>\" for the null sender";
            self.complain(at, format!("[[backend]] sender = {bad:?}: {what}"));
        }
        if senders.is_empty() { default() } else { senders }
    }

    fn catch_all_test(&mut self, leaf: Key<String>) -> Option<Duration> {
        let Some((text, at)) = self.at(BACKEND, "catch_all_test", leaf) else { return Some(DEFAULT_CATCH_ALL_TEST) };
        if text == "off" {
            return None;
        }
        match Duration::read(&Spanned::new(at..at, Raw::Text(text))) {
            Ok(time) => Some(time),
            Err(Fault { raw, what, .. }) => {
                self.complain(
                    at,
                    format!("[[backend]] catch_all_test = {raw}: \"off\" or a duration is needed: {what}"),
                );
                None
            }
        }
    }

    fn absent_codes(&mut self, leaf: Key<Vec<String>>) -> Vec<String> {
        let Some((codes, at)) = self.at(BACKEND, "absent_codes", leaf) else { return Vec::new() };
        if let Some(bad) = codes.iter().find(|c| !is_status(c) || !c.starts_with('5')) {
            let what = "an enhanced status code of class 5 is needed, as in \"5.4.1\"";
            self.complain(at, format!("[[backend]] absent_codes = {bad:?}: {what}"));
        }
        codes
    }

    pub(super) fn cache(&mut self, cache: CacheSection) -> Cache {
        let CacheSection { valid, valid_refresh, absent, absent_refresh, stale, entries, file } = cache;
        let default = Cache::default();
        let refreshes = [("valid_refresh", &valid_refresh, &valid), ("absent_refresh", &absent_refresh, &absent)];
        let late: Vec<(usize, String)> = refreshes
            .into_iter()
            .filter_map(|(key, refresh, life)| {
                let (refresh, life) = (refresh.as_ref()?, life.as_ref()?);
                let late = *refresh.value.as_ref().ok()? > *life.value.as_ref().ok()?;
                late.then(|| {
                    (
                        refresh.span.start,
                        format!("[cache] {key} = {}: it must be shorter than the life, {}", refresh.raw, life.raw),
                    )
                })
            })
            .collect();
        self.found.extend(late);
        Cache {
            valid: self.get(CACHE, "valid", valid, default.valid),
            valid_refresh: self.get(CACHE, "valid_refresh", valid_refresh, default.valid_refresh),
            absent: self.get(CACHE, "absent", absent, default.absent),
            absent_refresh: self.get(CACHE, "absent_refresh", absent_refresh, default.absent_refresh),
            stale: self.get(CACHE, "stale", stale, default.stale),
            entries: self.number(CACHE, "entries", entries, 1, default.entries),
            file: self.get(CACHE, "file", file, default.file),
        }
    }

    pub(super) fn skip(&mut self, skip: SkipSection) -> Skip {
        let SkipSection { clients, daemons, authenticated, local, bitbucket } = skip;
        let default = Skip::default();
        Skip {
            clients: self.get(SKIP, "clients", clients, default.clients),
            daemons: self.opt(SKIP, "daemons", daemons),
            authenticated: self.get(SKIP, "authenticated", authenticated, default.authenticated),
            local: self.get(SKIP, "local", local, default.local),
            bitbucket: self.get(SKIP, "bitbucket", bitbucket, default.bitbucket),
        }
    }

    pub(super) fn harvest(&mut self, section: Option<HarvestSection>) -> Harvest {
        let default = Harvest::default();
        let Some(HarvestSection { window, absent, ratio, action }) = section else { return default };
        Harvest {
            on: true,
            window: self.time(HARVEST, "window", window, default.window),
            absent: self.number(HARVEST, "absent", absent, 1, default.absent as usize) as u32,
            ratio: self.get(HARVEST, "ratio", ratio, Percent(default.ratio)).0,
            action: self.get(HARVEST, "action", action, default.action),
        }
    }
}

impl Value for BackendServer {
    fn read(raw: &Spanned<Raw>) -> Result<BackendServer, Fault> {
        const SERVER: &str = "a server is needed, as in \"192.0.2.1:25\", \"[2001:db8::1]:25\", \"hub.example.org:25\", \
                              \"lmtp:unix:/path\" or \"lmtp:host:24\"";
        let server = match raw.get_ref() {
            Raw::Text(text) => {
                let (lmtp, rest) = match text.strip_prefix("lmtp:") {
                    Some(rest) => (true, rest),
                    None => (false, text.strip_prefix("smtp:").unwrap_or(text)),
                };
                rest.parse().ok().filter(|at| !matches!(at, Endpoint::Fd(_))).map(|at| BackendServer { lmtp, at })
            }
            _ => None,
        };
        server.ok_or_else(|| Fault { span: raw.span(), raw: raw.get_ref().to_string(), what: SERVER.to_owned() })
    }
}
