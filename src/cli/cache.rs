//! `rcptmapd cache` and `rcptmapd flush`: what a running daemon remembers of what backends said.

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;

use super::client::{self, Whom};
use super::text::{self, Table};
use super::{Failure, exit, status};
use crate::config::Endpoint;
use crate::probe::backlist;
use crate::probe::cache::{Epoch, Known};
use crate::proto::http;

/// Show what a running daemon remembers of what backends said
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd cache
  rcptmapd cache anna@example.org
  rcptmapd cache example.org
  rcptmapd cache --json | jq -r '.[] | select(.verdict == \"absent\") | .address'
  rcptmapd cache --format backlist > BackList

Verdicts: exists; blind, which is \"exists\" of a backend that takes everybody; absent; absent-short, which is not \
believed for long. Freshness: fresh and due answer, and due ones are asked again when they are used; stale ones serve \
while the backend is down.

Exit status: 0 something is remembered, 1 nothing is, 69 there is no daemon, 77 the control socket is not for you.")]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// For programs
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Table for people, or scam-backscatter's BackList
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Only this address, or those of this domain
    #[arg(value_name = "ADDRESS|DOMAIN")]
    which: Option<String>,
}

/// How entries are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns.
    Table,
    /// `address valid|invalid seconds`.
    Backlist,
}

/// Forget what backends said, so that they are asked again
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd flush anna@example.org
  rcptmapd flush example.org
  rcptmapd flush --all

With a domain, whether its backend takes every recipient is forgotten, too.

Exit status: 0 it is forgotten, 1 nothing was known, 69 there is no daemon, 77 the control socket is not for you.")]
pub struct FlushArgs {
    #[command(flatten)]
    whom: Whom,
    /// Everything
    #[arg(long, conflicts_with = "which", required_unless_present = "which")]
    all: bool,
    /// This address, or those of this domain
    #[arg(value_name = "ADDRESS|DOMAIN")]
    which: Option<String>,
}

/// What is remembered of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Folded.
    pub address: String,
    /// `exists`, `blind`, `absent`, `absent-short`.
    pub verdict: String,
    /// `fresh`, `due`, `stale`.
    pub freshness: String,
    learnt: u32,
    age_seconds: u64,
    code: u16,
    status: Option<String>,
}

impl Entry {
    fn known(&self) -> Option<Known> {
        Known::ALL.into_iter().find(|known| known.name() == self.verdict)
    }

    /// What it is worth as an answer; `None`: it serves only while the backend is down.
    pub fn answers(&self) -> Option<Known> {
        self.known().filter(|_| self.freshness != "stale")
    }

    /// The codes of the reply behind it.
    pub fn reply(&self) -> String {
        match (self.code, &self.status) {
            (0, _) => "-".to_owned(),
            (code, Some(status)) => format!("{code} {status}"),
            (code, None) => code.to_string(),
        }
    }

    /// How old it is.
    pub fn age(&self) -> String {
        text::span(self.age_seconds)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    entries: Vec<Value>,
    next: Option<u64>,
}

/// Asks, and prints page by page.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let endpoint = control(&args.whom)?;
    let query = args.which.as_deref().map_or_else(String::new, choice);
    let (mut values, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let page: Page = status::json(&ask(&endpoint, "GET", &format!("/cache?{query}&from={place}"))?)?;
        values.extend(page.entries);
        from = page.next;
    }
    let is_empty = values.is_empty();
    if args.json {
        text::print_json(&Value::Array(values))?;
    } else {
        let entries = values.into_iter().map(serde_json::from_value).collect::<Result<Vec<Entry>, _>>();
        let entries = entries.map_err(|e| {
            Failure::new(exit::PROTOCOL, format!("the daemon's answer can't be read ({e}); is it of another version?"))
        })?;
        match args.format {
            Format::Table if is_empty => text::print("nothing is remembered\n")?,
            Format::Table => text::print(&table(&entries))?,
            Format::Backlist => text::print_bytes(&list(&entries))?,
        }
    }
    Ok(if is_empty { exit::NO } else { exit::OK })
}

/// Has it forgotten.
pub fn flush(args: &FlushArgs) -> Result<u8, Failure> {
    #[derive(Deserialize)]
    struct Flushed {
        flushed: usize,
    }
    let endpoint = control(&args.whom)?;
    let query = args.which.as_deref().map_or_else(|| "all".to_owned(), choice);
    let Flushed { flushed } = status::json(&ask(&endpoint, "POST", &format!("/flush?{query}"))?)?;
    text::print(&format!("{} forgotten\n", text::count(flushed, "verdict")))?;
    Ok(if flushed == 0 { exit::NO } else { exit::OK })
}

/// What a running daemon remembers of one address; `None`: nothing.
pub fn of_address(endpoint: &Endpoint, address: &[u8], patience: Duration) -> Result<Option<Entry>, Failure> {
    let mut stream = client::connect(endpoint, patience)?;
    let mut target = b"/cache?address=".to_vec();
    http::encode_parameter(address, &mut target);
    let (code, body) = client::page(&mut stream, "GET", &String::from_utf8_lossy(&target))?;
    if code != 200 {
        return Err(Failure::new(exit::PROTOCOL, format!("the daemon answers {code}")));
    }
    let page: Page = status::json(&body)?;
    Ok(page.entries.into_iter().find_map(|entry| serde_json::from_value(entry).ok()))
}

/// An address has an `@`, a domain has none.
fn choice(which: &str) -> String {
    let mut query = if which.contains('@') { b"address=".to_vec() } else { b"domain=".to_vec() };
    http::encode_parameter(which.as_bytes(), &mut query);
    String::from_utf8_lossy(&query).into_owned()
}

fn control(whom: &Whom) -> Result<Endpoint, Failure> {
    whom.control()?.ok_or_else(|| {
        Failure::new(exit::CONFIG, "the configuration has no control socket (control = \"\"), and nothing else is told")
    })
}

fn ask(endpoint: &Endpoint, method: &str, target: &str) -> Result<String, Failure> {
    let mut stream = client::connect(endpoint, client::PAGE_PATIENCE)?;
    match client::page(&mut stream, method, target)? {
        (200, body) => Ok(body),
        (400, body) => Err(Failure::new(exit::USAGE, body.trim_end().to_owned())),
        (code, _) => {
            let text = format!("{endpoint}: the daemon answers {code}; is this its control socket?");
            Err(Failure::new(exit::PROTOCOL, text))
        }
    }
}

fn table(entries: &[Entry]) -> String {
    let mut table = Table::new(&[]);
    table.row(["ADDRESS", "VERDICT", "FRESHNESS", "AGE", "REPLY"]);
    for entry in entries {
        let address = text::printable_text(entry.address.as_bytes());
        table.row([address, entry.verdict.clone(), entry.freshness.clone(), entry.age(), entry.reply()]);
    }
    table.lines(0).into_iter().map(|line| line + "\n").collect()
}

/// As scam-backscatter keeps it.
fn list(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        if let Some(known) = entry.known() {
            backlist::write(entry.address.as_bytes(), known, Epoch(entry.learnt), &mut out);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_printed_for_people_and_for_another_program() {
        let entries = serde_json::json!([
            {"address": "anna@example.org", "verdict": "exists", "freshness": "fresh", "learnt": 1_764_230_400,
                "age_seconds": 61, "code": 250, "status": "2.1.5"},
            {"address": "no\u{202e}body@x", "verdict": "absent", "freshness": "due", "learnt": 7, "new": "to us"},
        ]);
        let entries: Vec<Entry> = serde_json::from_value(entries).expect("entries");
        assert_eq!(
            table(&entries),
            "ADDRESS           VERDICT  FRESHNESS  AGE        REPLY\n\
             anna@example.org  exists   fresh      1 min 1 s  250 2.1.5\n\
             no\\u{202e}body@x  absent   due        0 s        -\n"
        );
        let list = String::from_utf8(list(&entries)).expect("text");
        assert_eq!(list, "anna@example.org valid 1764230400\nno\u{202e}body@x invalid 7\n");
        assert_eq!(choice("a+b@x"), "address=a%2Bb@x");
    }
}
