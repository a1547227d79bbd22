//! The least program around the codecs that can answer: a list of addresses for a directory, and one connection without
//! a socket. It is a model, for transcripts and fuzzing: what the daemon does is told by the same transcripts.

#![allow(dead_code)]

use rcptmapd::proto::detect::{self, Dialect};
use rcptmapd::proto::http::{self, Method};
use rcptmapd::proto::milter::{self, Machine};
use rcptmapd::proto::policy::{self, Action};
use rcptmapd::proto::{Limits, Reply, Value, line, socketmap, tcp_table};
use rcptmapd::verdict::{self, Verdict};

/// A recipient list, looked up in the plainest way: case folded, quotes and a trailing dot taken off, detail cut at `+`.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub entries: Vec<String>,
    pub no_data: bool,
    pub maps: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Recipients,
    Access,
    Check,
    Domains,
}

impl Directory {
    fn kind(&self, map: &[u8]) -> Option<Kind> {
        let name = std::str::from_utf8(map).ok()?;
        let kind = self.maps.iter().find(|(n, _)| n == name).map_or(name, |(_, kind)| kind);
        Some(match kind {
            "rcpt" | "valid" | "recipients" => Kind::Recipients,
            "access" => Kind::Access,
            "check" => Kind::Check,
            "domains" => Kind::Domains,
            _ => return None,
        })
    }

    fn is_ours(&self, domain: &str) -> bool {
        self.entries.iter().any(|entry| entry.rsplit_once('@').is_some_and(|(_, d)| d == domain))
    }

    pub fn verdict(&self, key: &[u8]) -> Verdict {
        if self.no_data {
            return Verdict::Unknown;
        }
        let key = String::from_utf8_lossy(key).to_ascii_lowercase();
        let Some((local, domain)) = key.rsplit_once('@') else { return Verdict::Foreign };
        let domain = domain.trim_end_matches('.');
        if !self.is_ours(domain) {
            return Verdict::Foreign;
        }
        let unquoted = |local: &str| local.replace('"', "");
        let listed = |local: &str| {
            let same = |entry: &String| {
                entry.rsplit_once('@').is_some_and(|(l, d)| d == domain && unquoted(l) == unquoted(local))
            };
            self.entries.iter().any(same)
        };
        if listed(local) || local.split_once('+').is_some_and(|(base, _)| listed(base)) {
            Verdict::Exists
        } else {
            Verdict::Absent
        }
    }

    /// The reply of `map` for `key`, handed to `write`, since it borrows.
    fn answer(&self, map: &[u8], key: &[u8], write: impl FnOnce(&Reply<'_>)) {
        let Some(kind) = self.kind(map) else { return write(&Reply::UnknownMap(map)) };
        let asked = match kind {
            Kind::Access => match key.strip_prefix(b"to:") {
                Some(address) => address,
                None => return write(&Reply::NotFound),
            },
            _ => key,
        };
        if kind == Kind::Domains {
            let ours = std::str::from_utf8(key).is_ok_and(|domain| self.is_ours(domain));
            return write(&if ours { Reply::Ok(Value::Bytes(key)) } else { Reply::NotFound });
        }
        let verdict = self.verdict(asked);
        let folded = String::from_utf8_lossy(key).to_ascii_lowercase().replace('"', "");
        write(&match (kind, verdict) {
            (Kind::Check, Verdict::Exists | Verdict::Foreign) => Reply::Ok(Value::Bytes(b"DUNNO")),
            (Kind::Check, Verdict::Absent) => Reply::Ok(Value::Bytes(b"550 5.1.1 User unknown")),
            (Kind::Check, Verdict::Unknown) => {
                Reply::Ok(Value::Bytes(b"DEFER_IF_PERMIT 4.3.0 Recipient lookup failed, try again later"))
            }
            (Kind::Access, Verdict::Exists) => Reply::Ok(Value::Bytes(b"RELAY")),
            (Kind::Access, Verdict::Absent) => {
                Reply::Ok(Value::Parts([b"ERROR:", b"5.1.1", b":\"", b"550 5.1.1 User unknown", b"\""]))
            }
            (_, Verdict::Exists) => Reply::Ok(Value::Bytes(folded.trim_end_matches('.').as_bytes())),
            (_, Verdict::Absent | Verdict::Foreign) => Reply::NotFound,
            (_, Verdict::Unknown) => Reply::Temp(b"no data yet"),
        });
    }
}

/// What the listener says about its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    Auto,
    As(Dialect),
}

impl Listen {
    pub fn from_name(name: &str) -> Option<Listen> {
        Some(match name {
            "auto" => Listen::Auto,
            "socketmap" => Listen::As(Dialect::Socketmap),
            "line" => Listen::As(Dialect::Line),
            "policy" => Listen::As(Dialect::Policy),
            "http" => Listen::As(Dialect::Http),
            "tcp-table" => Listen::As(Dialect::TcpTable),
            "milter" => Listen::As(Dialect::Milter),
            _ => return None,
        })
    }
}

/// One connection: bytes in, bytes out.
pub struct Session<'d> {
    directory: &'d Directory,
    limits: Limits,
    dialect: Option<Dialect>,
    machine: Machine,
    input: Vec<u8>,
    /// All that has been answered.
    pub output: Vec<u8>,
    /// We have closed; what comes in is no longer read.
    pub closed: bool,
}

/// What one turn of a protocol came to.
enum Turn {
    /// So many bytes are done with.
    Used(usize),
    More,
    Close,
}

impl<'d> Session<'d> {
    pub fn new(directory: &'d Directory, listen: Listen, limits: Limits) -> Session<'d> {
        let dialect = match listen {
            Listen::Auto => None,
            Listen::As(dialect) => Some(dialect),
        };
        let machine = Machine::new();
        Session { directory, limits, dialect, machine, input: Vec::new(), output: Vec::new(), closed: false }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.input.extend_from_slice(bytes);
            self.advance(false);
        }
    }

    /// The peer has closed its sending side: what is complete is answered, then we close.
    pub fn half_close(&mut self) {
        if !self.closed {
            self.advance(true);
            self.closed = true;
        }
    }

    fn advance(&mut self, eof: bool) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some(dialect) = self.dialect.or_else(|| detect::detect(rest, eof)) {
            self.dialect = Some(dialect);
            let turn = match dialect {
                Dialect::Socketmap => self.socketmap(rest),
                Dialect::Line => self.line(rest, eof),
                Dialect::Http => self.http(rest),
                Dialect::Policy => self.policy(rest),
                Dialect::TcpTable => self.tcp_table(rest),
                Dialect::Milter => self.milter(rest),
            };
            match turn {
                Turn::Used(used) => {
                    assert!(used > 0 && used <= rest.len(), "a decoder that used {used} of {} bytes", rest.len());
                    rest = &rest[used..];
                }
                Turn::More => break,
                Turn::Close => {
                    self.closed = true;
                    return;
                }
            }
        }
        self.input = rest.to_vec();
    }

    fn policy(&mut self, input: &[u8]) -> Turn {
        match policy::decode(input, &self.limits) {
            Ok(None) => Turn::More,
            Ok(Some((request, used))) => {
                let (absent, unknown) = (verdict::Reply::absent(), verdict::Reply::unknown());
                let action = match request.question().map(|recipient| self.directory.verdict(recipient)) {
                    Some(Verdict::Absent) => Action::Reply(&absent),
                    Some(Verdict::Unknown) => Action::DeferIfPermit(&unknown),
                    Some(Verdict::Exists | Verdict::Foreign) | None => Action::Dunno,
                };
                policy::encode(&action, &mut self.output);
                Turn::Used(used)
            }
            Err(_) => Turn::Close,
        }
    }

    fn tcp_table(&mut self, input: &[u8]) -> Turn {
        match tcp_table::decode(input, &self.limits) {
            Ok(None) => Turn::More,
            Ok(Some((tcp_table::Request::Get(key), used))) => {
                self.directory.answer(b"rcpt", &key, |reply| tcp_table::encode(reply, &mut self.output));
                Turn::Used(used)
            }
            Ok(Some((tcp_table::Request::Put, used))) => {
                tcp_table::encode_read_only(&mut self.output);
                Turn::Used(used)
            }
            Err(error) => {
                if let Some(reply) = error.reply() {
                    tcp_table::encode(&reply, &mut self.output);
                }
                Turn::Close
            }
        }
    }

    fn milter(&mut self, input: &[u8]) -> Turn {
        let Ok(found) = milter::decode(input, &self.limits) else { return Turn::Close };
        let Some((packet, used)) = found else { return Turn::More };
        match self.machine.handle_packet(packet, &mut self.output) {
            Ok(milter::Step::Done) => Turn::Used(used),
            Ok(milter::Step::Recipient(recipient)) => {
                let address = recipient.address;
                let address = address.strip_prefix(b"<").and_then(|a| a.strip_suffix(b">")).unwrap_or(address);
                let (absent, unknown) = (verdict::Reply::absent(), verdict::Reply::unknown());
                let answer = match self.directory.verdict(address) {
                    Verdict::Absent => milter::Answer::Reply(&absent),
                    Verdict::Unknown => milter::Answer::Reply(&unknown),
                    Verdict::Exists | Verdict::Foreign => milter::Answer::Continue,
                };
                self.machine.answer(&answer, &mut self.output);
                Turn::Used(used)
            }
            Ok(milter::Step::Close) | Err(_) => Turn::Close,
        }
    }

    fn socketmap(&mut self, input: &[u8]) -> Turn {
        match socketmap::decode(input, &self.limits) {
            Ok(None) => Turn::More,
            Ok(Some((request, used))) => {
                self.directory.answer(request.map, request.key, |reply| socketmap::encode(reply, &mut self.output));
                Turn::Used(used)
            }
            Err(error) => {
                if let Some(reply) = error.reply() {
                    socketmap::encode(&reply, &mut self.output);
                }
                Turn::Close
            }
        }
    }

    fn line(&mut self, input: &[u8], eof: bool) -> Turn {
        match line::decode(input, eof, &self.limits) {
            Ok(None) => Turn::More,
            Ok(Some((line, used))) => {
                let map = line.map.unwrap_or(b"rcpt");
                self.directory.answer(map, line.key, |reply| line::encode(reply, &mut self.output));
                Turn::Used(used)
            }
            Err(error) => {
                if let Some(reply) = error.reply() {
                    line::encode(&reply, &mut self.output);
                }
                Turn::Close
            }
        }
    }

    fn http(&mut self, input: &[u8]) -> Turn {
        match http::decode(input, &self.limits) {
            Ok(None) => Turn::More,
            Ok(Some((request, used))) => {
                let known = matches!(request.path, "/metrics" | "/health" | "/status");
                let keep = request.keep_alive;
                match request.method {
                    Method::Get if known => http::encode(200, http::TEXT, b"ok\n", keep, &mut self.output),
                    Method::Head if known => http::encode_head(200, http::TEXT, 3, keep, &mut self.output),
                    _ if known => http::encode_not_allowed("GET, HEAD", keep, &mut self.output),
                    _ => http::encode_status(404, keep, &mut self.output),
                }
                if keep { Turn::Used(used) } else { Turn::Close }
            }
            Err(error) => {
                http::encode_status(error.status(), false, &mut self.output);
                Turn::Close
            }
        }
    }
}
