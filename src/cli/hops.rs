//! Next hops and what they said, in `rcptmapd status`.

use std::fmt::Write as _;

use serde::Deserialize;

use super::status::section;
use super::text::{self, Style, Table};

/// A next hop as `/status` has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NextHop {
    name: String,
    /// `up`, `down` or `untried`.
    state: String,
    next_trial_seconds: Option<u64>,
    sessions: u64,
    queued: u64,
    blind: Vec<String>,
    blind_domains: usize,
    canary_refused: bool,
    last_error: Option<String>,
    questions: u64,
    exists: u64,
    absent: u64,
    unknown: u64,
}

/// What is remembered, in numbers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Remembered {
    entries: usize,
    memory_bytes: u64,
    waiting: usize,
    hits: u64,
    misses: u64,
    stale_answers: u64,
    file: Option<String>,
    file_error: Option<String>,
    file_is_being_read: bool,
}

/// Domains that are named on a line.
const NAMED: usize = 5;

/// A table of them, and what people should know.
pub fn show(hops: &[NextHop], remembered: Option<&Remembered>, style: Style, out: &mut String) {
    if !hops.is_empty() {
        let mut table = Table::new(&[2, 3, 4, 5, 6, 7]);
        table.row(["NEXT HOP", "STATE", "SESSIONS", "QUEUED", "ASKED", "EXISTS", "ABSENT", "UNKNOWN"]);
        for hop in hops {
            let numbers = [hop.sessions, hop.queued, hop.questions, hop.exists, hop.absent, hop.unknown];
            let cells = [hop.name.clone(), hop.state.clone()];
            table.row(cells.into_iter().chain(numbers.into_iter().map(text::number)));
        }
        section(&table, style, out);
        hops.iter().for_each(|hop| hop.notes(style, out));
    }
    let Some(remembered) = remembered else { return };
    let waiting = match remembered.waiting {
        0 => String::new(),
        waiting => format!("; {} for a next hop", waits(waiting)),
    };
    let file = remembered.file.as_ref().map_or_else(|| "memory only".to_owned(), |file| format!("kept in {file}"));
    let (entries, size) = (text::count(remembered.entries, "verdict"), text::size(remembered.memory_bytes));
    let _ = writeln!(out, "\n{entries} remembered ({size}), {file}{waiting}");
    let asked = remembered.hits + remembered.misses;
    if asked > 0 {
        let (hits, asked) = (text::number(remembered.hits), text::count(asked as usize, "request"));
        let _ = writeln!(out, "  {hits} of {asked} answered out of that");
    }
    if remembered.stale_answers > 0 {
        let many = text::number(remembered.stale_answers);
        let _ = writeln!(out, "  {many} by an older \"exists\", as nothing newer was to be had");
    }
    if remembered.file_is_being_read {
        let _ = writeln!(out, "  the file is still being read");
    }
    if let Some(error) = &remembered.file_error {
        let _ = writeln!(out, "{} {error}", style.bad("not saved:"));
    }
}

fn waits(many: usize) -> String {
    if many == 1 { "1 request waits".to_owned() } else { format!("{} requests wait", text::number(many)) }
}

impl NextHop {
    fn notes(&self, style: Style, out: &mut String) {
        let name = || style.bad(&format!("{}:", self.name));
        if self.state == "down" {
            let error = self.last_error.as_deref().unwrap_or("it can't be asked");
            let next = self
                .next_trial_seconds
                .map_or_else(|| "with the next question".to_owned(), |seconds| format!("in {}", text::span(seconds)));
            let _ = writeln!(out, "\n{} {error}", name());
            let _ = writeln!(
                out,
                "  meanwhile: who is known to exist does; for others holds what `unavailable` says\n  next trial: {next}"
            );
        } else if let Some(error) = &self.last_error {
            let _ = writeln!(out, "\n{} last error: {error}", style.odd(&format!("{}:", self.name)));
        }
        if self.canary_refused {
            let _ = writeln!(out, "\n{} it refuses known_good, so none of its refusals is believed", name());
        }
        if self.blind_domains > 0 {
            let mut named = self.blind.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if self.blind_domains > NAMED {
                let _ = write!(named, " and {} more", text::number(self.blind_domains - NAMED));
            }
            let _ = writeln!(out, "\n{} it takes every recipient of {named}: its yes proves nothing there", name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(hops: serde_json::Value, remembered: serde_json::Value) -> String {
        let hops: Vec<NextHop> = serde_json::from_value(hops).expect("next hops");
        let remembered: Option<Remembered> = serde_json::from_value(remembered).expect("numbers");
        let mut out = String::new();
        show(&hops, remembered.as_ref(), Style::default(), &mut out);
        out
    }

    #[test]
    fn next_hops_are_shown_with_what_is_wrong() {
        let hops = json!([
            {"name": "hub", "state": "down", "next_trial_seconds": 12, "last_error": "connect: connection refused",
                "questions": 1_234, "exists": 1_000, "absent": 200, "unknown": 34},
            {"name": "smtp:[192.0.2.1]:25", "state": "up", "sessions": 2, "queued": 1, "canary_refused": true,
                "blind": ["a.example", "b.example"], "blind_domains": 2},
        ]);
        let text = shown(hops, json!({"entries": 1_200, "memory_bytes": 2_048, "waiting": 1, "file": "/var/lib/v"}));
        assert_eq!(
            text,
            "\n\
             NEXT HOP             STATE  SESSIONS  QUEUED  ASKED  EXISTS  ABSENT  UNKNOWN\n\
             hub                  down          0       0  1,234   1,000     200       34\n\
             smtp:[192.0.2.1]:25  up            2       1      0       0       0        0\n\
             \n\
             hub: connect: connection refused\n  \
             meanwhile: who is known to exist does; for others holds what `unavailable` says\n  \
             next trial: in 12 s\n\
             \n\
             smtp:[192.0.2.1]:25: it refuses known_good, so none of its refusals is believed\n\
             \n\
             smtp:[192.0.2.1]:25: it takes every recipient of a.example, b.example: its yes proves nothing there\n\
             \n\
             1,200 verdicts remembered (2.0 KiB), kept in /var/lib/v; 1 request waits for a next hop\n"
        );
        assert_eq!(shown(json!([]), json!(null)), "");
    }
}
