//! `rcptmapd explain`: every step of a look-up, with file and line of what was found, and the bytes of the replies.
//!
//! It reads the lists itself, as `check` does, and asks them by the function by which the daemon answers; what is shown
//! is what that function told its [`Trace`] on the way.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::cache::{self, Entry as Verdicts};
use super::settings::Settings;
use super::text::{self, Style, Table};
use super::{Failure, exit};
use crate::config::{Config, Endpoint, MapKind, Overrides};
use crate::map::{Entry, Found, Hit, Key, KeyText, Scratch, Step, Trace, key_of};
use crate::probe::cache::Known;
use crate::proto::{Reply, line, socketmap};
use crate::reload::{Catalog, Report};
use crate::resolve::{Directory, Recipient, Remembered};
use crate::verdict::Verdict;

/// Show each step of a look-up, what decided, and the replies that mail servers get
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd explain anna+news@example.org
  rcptmapd explain anna@example.org /etc/postfix/relay_recipients /etc/mail/access
  rcptmapd explain -c rcptmapd.toml --json anna@example.org | jq -r .entry.path

The lists are read for it, as by `rcptmapd check`. Where a backend has the last word, it is not asked (see `rcptmapd \
probe`), but a running daemon tells what it remembers, if its control socket answers. Steps: 0 \
parse, 1 domain, 2 listed as it is, 3 tags taken off, 4 detail cut, 5 any domain and prefixes, 6 catch-alls, 7 \
nothing said anything, or the backend is asked.

Exit status: 0 exists, 1 does not exist or is none of ours, 75 can't be told now, 78 the configuration is wrong.")]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
    /// Address to look up
    #[arg(value_name = "ADDRESS")]
    address: OsString,
    /// Recipient lists; their formats are found out
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,
}

/// Reads the lists, looks up, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let overrides = Overrides { sources: args.sources.clone(), ..Overrides::default() };
    let settings = Settings::read(args.config.as_deref(), &overrides)?;
    let mut catalog = Catalog::new(true);
    let (directory, report) = catalog.load(&settings.config);
    let world = World {
        config: &settings.config,
        catalog: &catalog,
        directory: &directory,
        report: &report,
        backend: Asked::new(args.address.as_bytes(), &settings.config, &directory),
    };
    let explained = Explained::new(args.address.as_bytes(), &world);
    if args.json {
        text::print_json(&explained.to_json())?;
    } else {
        text::print(&explained.text(Style::of_stdout()))?;
    }
    Ok(match explained.verdict {
        Verdict::Exists => exit::OK,
        Verdict::Absent | Verdict::Foreign => exit::NO,
        Verdict::Unknown => exit::TEMPORARY,
    })
}

/// What answers come from.
struct World<'a> {
    config: &'a Config,
    catalog: &'a Catalog,
    directory: &'a Directory,
    report: &'a Report,
    /// Who has the last word, where lists have not.
    backend: Option<Asked>,
}

/// Who is asked when the lists leave it open, and what is remembered of it.
struct Asked {
    key: String,
    who: String,
    is_asked: bool,
    /// What the running daemon remembers, or why that is not known.
    remembered: Result<Option<Verdicts>, String>,
    /// What is said without asking.
    verdict: Verdict,
}

/// How long a daemon may take to tell what it remembers.
const PATIENCE: Duration = Duration::from_secs(2);

impl Asked {
    fn new(address: &[u8], config: &Config, directory: &Directory) -> Option<Asked> {
        let mut scratch = Scratch::default();
        let look = |recipient: &Recipient<'_>| {
            let (route, settled) = (&recipient.route, recipient.settled().map(|(verdict, _)| verdict));
            (recipient.key(), route.to_string(), settled, route.name().is_some())
        };
        let (key, who, settled, is_asked) = directory.if_probed(address, &mut scratch, look)?;
        let remembered = match &config.control {
            _ if !is_asked => Ok(None),
            None => Err("there is no control socket to ask a daemon".to_owned()),
            Some(control) => {
                let control = Endpoint::Unix(control.clone());
                cache::of_address(&control, address, PATIENCE).map_err(|failure| failure.text)
            }
        };
        let answer = remembered.as_ref().ok().and_then(|entry| entry.as_ref()?.answers());
        let verdict = settled.or(answer.map(Known::verdict)).unwrap_or(Verdict::Unknown);
        Some(Asked { key: text::printable_text(&key), who, is_asked, remembered, verdict })
    }

    /// What the cache has to say.
    fn evidence(&self) -> String {
        match &self.remembered {
            _ if !self.is_asked => self.verdict.name().to_owned(),
            Ok(Some(entry)) => {
                let (verdict, freshness, age) = (&entry.verdict, &entry.freshness, entry.age());
                format!("remembered: {verdict}, {freshness}, {age} old, reply {}", entry.reply())
            }
            Ok(None) => "nothing is remembered, so it would be asked now".to_owned(),
            Err(why) => format!("it would be asked now, unless it is remembered ({why})"),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "key": self.key,
            "next_hop": self.who,
            "evidence": self.evidence(),
            "verdict": self.verdict.name(),
        })
    }
}

/// What the look-up told on its way.
#[derive(Default)]
struct Recorder(Vec<Event>);

enum Event {
    Looked { step: Step, key: Vec<u8>, domain: Vec<u8>, hit: Option<(usize, Entry)> },
    Noted { step: Step, text: String },
}

impl Trace for Recorder {
    fn step(&mut self, step: Step, key: &[u8], domain: &[u8], hit: Option<Hit<'_>>) {
        let hit = hit.map(|hit| (hit.source, hit.entry.clone()));
        self.0.push(Event::Looked { step, key: key.to_vec(), domain: domain.to_vec(), hit });
    }

    fn note(&mut self, step: Step, text: &dyn fmt::Display) {
        self.0.push(Event::Noted { step, text: text.to_string() });
    }
}

/// A step as it is shown.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    step: Step,
    /// What was looked for.
    key: String,
    /// What came of it.
    result: String,
    /// The entry that was found.
    entry: Option<Cited>,
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cited {
    source: String,
    path: String,
    line: Option<u32>,
    key: String,
    says: String,
}

impl Cited {
    fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.path),
            None => self.path.clone(),
        }
    }
}

/// What a mail server says and hears.
#[derive(Debug, PartialEq, Eq)]
struct Exchange {
    who: &'static str,
    by: String,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// All that is shown.
struct Explained {
    address: String,
    verdict: Verdict,
    enforced: Verdict,
    step: Step,
    steps: Vec<Told>,
    /// The entry that decided.
    entry: Option<Cited>,
    /// Who has the last word.
    backend: Option<Value>,
    notes: Vec<String>,
    replies: Vec<Exchange>,
}

impl Explained {
    fn new(address: &[u8], world: &World<'_>) -> Explained {
        let mut recorder = Recorder::default();
        let mut scratch = Scratch::default();
        let found = world.directory.snapshot().lookup(address, &mut scratch, &mut recorder);
        let found = world.backend.as_ref().map_or(found, |asked| found.verified(asked.verdict, None));
        let mut steps = Vec::new();
        if let Some((local, domain)) = found.address {
            let looked_for = match (local, domain) {
                (local, []) => local.to_vec(),
                ([], domain) => domain.to_vec(),
                (local, domain) => [local, b"@", domain].concat(),
            };
            let told = if local.is_empty() { "its domain" } else { "as it is looked for" };
            steps.push(Told::new(Step::Parse, text::printable_text(&looked_for), told));
        }
        let mut entry = None;
        for event in &recorder.0 {
            let told = world.told(event, &found);
            if found.hit.is_some_and(|hit| is_hit(event, hit)) {
                entry = told.entry.clone();
            }
            steps.push(told);
        }
        if let Some(asked) = &world.backend {
            let by_another_name = asked.is_asked && steps.first().is_some_and(|told| told.key != asked.key);
            let who = if by_another_name { format!("as {}, at {}", asked.key, asked.who) } else { asked.who.clone() };
            steps.push(Told::new(Step::Verify, who, asked.evidence()));
        } else if found.step == Step::Verify {
            steps.push(Told::new(Step::Verify, "list".to_owned(), "nothing more to ask: not listed"));
        }
        Explained {
            address: text::printable_text(address),
            verdict: found.verdict,
            enforced: found.enforced,
            step: found.step,
            steps,
            entry,
            backend: world.backend.as_ref().map(Asked::to_json),
            notes: world.notes(&found),
            replies: world.replies(address),
        }
    }

    fn text(&self, style: Style) -> String {
        let mut out = format!("{}\n\n", style.head(&self.address));
        let mut table = Table::new(&[]);
        for told in &self.steps {
            let place = told.entry.as_ref().map_or_else(String::new, |entry| format!(" ({})", entry.place()));
            let result = format!("{}{place}", told.result);
            table.row([number(told.step).to_string(), told.step.name().to_owned(), told.key.clone(), result]);
        }
        for line in table.lines(0) {
            let _ = writeln!(out, "{line}");
        }
        let verdict = match self.verdict {
            Verdict::Exists => style.good(self.verdict.name()),
            Verdict::Unknown => style.odd(self.verdict.name()),
            _ => style.bad(self.verdict.name()),
        };
        let because = match &self.entry {
            Some(_) if self.backend.is_some() => "listed, and the backend has the last word".to_owned(),
            Some(entry) => format!("{}: {}: {}", entry.place(), entry.key, entry.says),
            None if self.backend.is_some() => "the backend has the last word".to_owned(),
            None => reason(self.step, self.verdict).to_owned(),
        };
        let _ =
            writeln!(out, "\nverdict: {verdict}, by step {} ({})\n  {because}", number(self.step), self.step.name());
        for note in &self.notes {
            let _ = writeln!(out, "  {}", style.odd(note));
        }
        let mut table = Table::new(&[]);
        for exchange in &self.replies {
            table.row([exchange.who.to_owned(), exchange.by.clone(), visible(&exchange.reply)]);
        }
        let _ = writeln!(out, "\nreplies");
        for line in table.lines(2) {
            let _ = writeln!(out, "{line}");
        }
        out
    }

    fn to_json(&self) -> Value {
        let cited = |entry: &Cited| json!({"source": entry.source, "path": entry.path, "line": entry.line, "key": entry.key, "says": entry.says});
        json!({
            "address": self.address,
            "verdict": self.verdict.name(),
            "enforced": self.enforced.name(),
            "step": self.step.name(),
            "entry": self.entry.as_ref().map(cited),
            "backend": self.backend,
            "notes": self.notes,
            "steps": self.steps.iter().map(|told| json!({
                "number": number(told.step),
                "step": told.step.name(),
                "key": told.key,
                "result": told.result,
                "entry": told.entry.as_ref().map(cited),
            })).collect::<Vec<_>>(),
            "replies": self.replies.iter().map(|exchange| json!({
                "server": exchange.who,
                "by": exchange.by,
                "request": visible(&exchange.request),
                "reply": visible(&exchange.reply),
            })).collect::<Vec<_>>(),
        })
    }
}

impl Told {
    fn new(step: Step, key: String, result: impl Into<String>) -> Told {
        Told { step, key, result: result.into(), entry: None }
    }
}

impl World<'_> {
    fn told(&self, event: &Event, found: &Found<'_, '_>) -> Told {
        match event {
            Event::Noted { step, text } => Told::new(*step, String::new(), text.clone()),
            Event::Looked { step: Step::Domain, key, domain, .. } => {
                Told::new(Step::Domain, text::printable_text(domain), self.of_domain(key, domain, found))
            }
            Event::Looked { step, key, domain, hit } => {
                let wanted = key_of(key, domain);
                let cited = hit.as_ref().map(|(source, entry)| self.cited(*source, wanted, entry));
                Told {
                    step: *step,
                    key: shown(wanted),
                    result: cited.as_ref().map_or_else(|| "not listed".to_owned(), |cited| cited.says.clone()),
                    entry: cited,
                }
            }
        }
    }

    /// Why a domain is ours.
    fn of_domain(&self, ours: &[u8], asked: &[u8], found: &Found<'_, '_>) -> String {
        if ours.is_empty() {
            return match found.verdict {
                Verdict::Foreign => "none of our domains".to_owned(),
                _ => "none of our domains, as far as they are known".to_owned(),
            };
        }
        let name = text::printable_text(ours);
        let declared = |domain: &&crate::config::RelayDomain| domain.names.iter().any(|own| own.0.as_bytes() == ours);
        let origin = match self.config.domains.iter().find(declared) {
            Some(domain) => domain.place.as_ref().map(|place| format!(", by {place}")),
            None if self.config.domains.is_empty() => Some(", since the lists name it".to_owned()),
            None => None,
        };
        let origin = origin.unwrap_or_default();
        if ours == asked { format!("ours{origin}") } else { format!("below {name}, which is ours{origin}") }
    }

    fn cited(&self, source: usize, wanted: Key<'_>, entry: &Entry) -> Cited {
        let sources = self.directory.snapshot().sources();
        let (name, content) = match sources.get(source) {
            Some(source) => (&*source.name, source.content.as_deref()),
            None => ("", None),
        };
        let listed = || content.into_iter().flat_map(|content| content.listed());
        // A list that keeps the case is asked by the name as written, another one by its lower case.
        let like = |key: Key<'_>| shown(key).eq_ignore_ascii_case(&shown(wanted));
        let listed = listed().find(|listed| listed.key == wanted).or_else(|| listed().find(|listed| like(listed.key)));
        let line = listed.and_then(|listed| self.catalog.line(name, listed.number));
        let path = self.config.sources.get(source).map_or_else(String::new, |source| source.origin.to_string());
        Cited {
            source: name.to_owned(),
            path,
            line,
            key: shown(wanted),
            says: text::printable_text(entry.to_string().as_bytes()),
        }
    }

    fn notes(&self, found: &Found<'_, '_>) -> Vec<String> {
        let mut notes = Vec::new();
        if found.enforced != found.verdict {
            notes.push(format!("its domain's mode is not \"enforce\": else it would be {}", found.enforced.name()));
        }
        for error in self.report.errors() {
            notes.push(format!("not read: {error}"));
        }
        if found.verdict == Verdict::Unknown && !self.directory.snapshot().is_complete() {
            notes.push("what was not read may know better, so nothing is refused".to_owned());
        }
        notes
    }

    fn replies(&self, address: &[u8]) -> Vec<Exchange> {
        let tagged = [b"to:", address].concat();
        let mut exchanges = vec![
            self.socketmap("sendmail", "K map rcpt".to_owned(), "rcpt", address),
            self.socketmap("sendmail", "access_db, To:".to_owned(), "access", &tagged),
            self.socketmap("Postfix", "relay_recipient_maps".to_owned(), "rcpt", address),
            self.socketmap("Postfix", "check_recipient_access".to_owned(), "check", address),
        ];
        let mut request = [b"rcpt ", address].concat();
        request.push(b'\n');
        let (mut reply, mut scratch) = (Vec::new(), Scratch::default());
        line::encode(&self.reply("rcpt", address, &mut scratch), &mut reply);
        exchanges.push(Exchange { who: "Exim", by: "${readsocket}".to_owned(), request, reply });
        for map in &self.config.maps {
            let key = match map.kind {
                MapKind::Recipients | MapKind::Check => address,
                MapKind::Access => &tagged,
                _ => continue,
            };
            exchanges.push(self.socketmap("any", format!("map {}", map.name), &map.name, key));
        }
        exchanges
    }

    fn socketmap(&self, who: &'static str, by: String, map: &str, key: &[u8]) -> Exchange {
        let (mut request, mut reply, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
        socketmap::encode_request(map.as_bytes(), key, &mut request);
        socketmap::encode(&self.reply(map, key, &mut scratch), &mut reply);
        Exchange { who, by, request, reply }
    }

    fn reply<'a>(&'a self, map: &'a str, key: &[u8], scratch: &'a mut Scratch) -> Reply<'a> {
        let verdict = self.backend.as_ref().map_or(Verdict::Unknown, |asked| asked.verdict);
        match self.directory.map(map.as_bytes()) {
            Some(map) => {
                let mut prober = Remembered(verdict);
                let answer = self.directory.answer_by(&map.kind, key, scratch, &mut (), &mut prober);
                answer.map_or(Reply::Temp(b"later"), |answer| answer.reply)
            }
            None => Reply::UnknownMap(map.as_bytes()),
        }
    }
}

/// Whether an event is the finding of this entry.
fn is_hit(event: &Event, wanted: Hit<'_>) -> bool {
    matches!(event, Event::Looked { hit: Some((source, entry)), .. } if *source == wanted.source && entry == wanted.entry)
}

fn shown(key: Key<'_>) -> String {
    text::printable_text(KeyText(key).to_string().as_bytes())
}

/// Bytes on a wire, on a line.
fn visible(bytes: &[u8]) -> String {
    bytes
        .strip_suffix(b"\n")
        .map_or_else(|| text::printable_text(bytes), |line| format!("{}\\n", text::printable_text(line)))
}

/// The number of a step in the manual.
fn number(step: Step) -> u8 {
    match step {
        Step::Parse => 0,
        Step::Domain => 1,
        Step::Exact | Step::Always => 2,
        Step::Unwrap => 3,
        Step::Detail => 4,
        Step::AnyDomain | Step::Prefix => 5,
        Step::CatchAll | Step::Subdomains => 6,
        Step::Verify => 7,
    }
}

/// What decided when it was no entry.
fn reason(step: Step, verdict: Verdict) -> &'static str {
    match (step, verdict) {
        (Step::Parse, Verdict::Absent) => "this can't be one of our recipients",
        (Step::Parse, _) => "this can't be an address of ours",
        (Step::Domain, Verdict::Unknown) => "not all of our domains are known yet",
        (Step::Domain, _) => "the domain is none of ours",
        (Step::Always, _) => "exists without being listed",
        (Step::Unwrap, _) => "its form is proof enough",
        (_, Verdict::Unknown) => "not listed, but not everything could be read",
        _ => "not listed anywhere",
    }
}
