//! `rcptmapd check --diff`: what a reload of the running daemon would change now.
//!
//! The daemon reads its configuration and lists as in a reload, runs its commands, and compares; nothing is taken. So what
//! is told is what its user may read, and what is in force is what it answers by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::client::Whom;
use super::order::order;
use super::text::{self, Style};
use super::{Failure, exit, status};

/// Domains that are named.
const SHOWN: usize = 10;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rehearsal {
    sources: Vec<Source>,
    files: Vec<File>,
    sources_gone: Vec<Gone>,
    domains_added: Vec<String>,
    domains_gone: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    path: String,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Gone {
    name: String,
    recipients: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    name: String,
    origin: String,
    error: Option<String>,
    force: Option<String>,
    changes: Option<Changes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Changes {
    before: usize,
    after: usize,
    added: usize,
    removed: usize,
    changed: usize,
    first_added: Vec<String>,
    first_removed: Vec<String>,
    domains: BTreeMap<String, Counts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    added: usize,
    removed: usize,
    changed: usize,
}

/// Asks the daemon, and prints.
pub fn run(whom: &Whom, json: bool) -> Result<u8, Failure> {
    let (code, body) = order(whom, "/rehearse", &[])?;
    if code != 200 {
        return Err(Failure::new(exit::CONFIG, body));
    }
    let value: Value = status::json(&body)?;
    let rehearsal: Rehearsal = status::json(&body)?;
    if json {
        text::print_json(&value)?;
    } else {
        text::print(&rehearsal.text(Style::of_stdout()))?;
    }
    Ok(rehearsal.code())
}

impl Rehearsal {
    fn code(&self) -> u8 {
        let errors = self.sources.iter().map(|source| &source.error).chain(self.files.iter().map(|file| &file.error));
        let config = self.sources_gone.len() + self.domains_added.len() + self.domains_gone.len();
        if errors.flatten().next().is_some() {
            exit::DATA
        } else if config > 0 || self.sources.iter().any(|source| source.changes.is_some()) {
            exit::NO
        } else {
            exit::OK
        }
    }

    fn text(&self, style: Style) -> String {
        let mut out = String::new();
        for source in &self.sources {
            let _ = writeln!(out, "{} {}", style.head(&format!("{}:", source.name)), source.origin);
            source.text(style, &mut out);
        }
        for Gone { name, recipients } in &self.sources_gone {
            let _ = writeln!(out, "{} no longer in the configuration", style.head(&format!("{name}:")));
            let _ = writeln!(out, "  {:<11} {}", "removed", text::count(*recipients, "recipient"));
        }
        for File { path, error } in &self.files {
            if let Some(error) = error {
                let _ = writeln!(out, "{}\n  {:<11} {}", style.head(path), "NOT TAKEN", style.bad(error));
            }
        }
        for (label, names) in [("added", &self.domains_added), ("removed", &self.domains_gone)] {
            if !names.is_empty() {
                let shown = some_of(names.get(..SHOWN).unwrap_or(names), names.len());
                let _ = writeln!(out, "{}\n  {label:<11} {shown}", style.head("our domains:"));
            }
        }
        let line = match self.code() {
            exit::OK => style.good("a reload would change nothing"),
            exit::NO => style.odd("a reload would change this"),
            _ => style.bad("a reload would leave a list as it is"),
        };
        let _ = writeln!(out, "\n{line}");
        out
    }
}

impl Source {
    fn text(&self, style: Style, out: &mut String) {
        let mut row = |label: &str, text: &str| {
            let _ = writeln!(out, "  {label:<11} {text}");
        };
        if let Some(error) = &self.error {
            row("NOT TAKEN", &style.bad(error));
            if let Some(force) = &self.force {
                row("to force it", force);
            }
            return;
        }
        let Some(changes) = &self.changes else {
            row("same", "what it says is in force");
            return;
        };
        let counts = signs(changes.added, changes.removed, changes.changed);
        let (before, after) = (text::number(changes.before), text::count(changes.after, "entry"));
        row("changes", &format!("{counts}; {after}, {before} before"));
        for (domain, counts) in &changes.domains {
            let domain = if domain.is_empty() { "any domain" } else { domain };
            let counts = signs(counts.added, counts.removed, counts.changed);
            row("", &format!("{counts} in {}", text::printable_text(domain.as_bytes())));
        }
        for (label, count, first) in
            [("added", changes.added, &changes.first_added), ("removed", changes.removed, &changes.first_removed)]
        {
            if !first.is_empty() {
                let names: Vec<String> = first.iter().map(|name| text::printable_text(name.as_bytes())).collect();
                row(label, &some_of(&names, count));
            }
        }
    }
}

/// `a, b and 3 more`: the first of `count` names.
fn some_of(first: &[String], count: usize) -> String {
    let rest = count.saturating_sub(first.len());
    let more = if rest > 0 { format!(" and {} more", text::number(rest)) } else { String::new() };
    format!("{}{more}", first.join(", "))
}

fn signs(added: usize, removed: usize, changed: usize) -> String {
    let parts = [('+', added), ('-', removed), ('~', changed)];
    let parts: Vec<String> =
        parts.iter().filter(|(_, n)| *n > 0).map(|(sign, n)| format!("{sign}{}", text::number(*n))).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_and_guards_are_told_and_give_the_status() {
        let value = json!({"sources": [
            {"name": "a", "origin": "/etc/a", "error": null, "changes": null},
            {"name": "b", "origin": "/etc/b", "changes": {"before": 1000, "after": 1001, "added": 2, "removed": 1,
                "changed": 0, "first_added": ["x@b.example", "y@b.example"], "first_removed": ["z@b.example"],
                "domains": {"b.example": {"before": 7, "added": 2, "removed": 1, "changed": 0}}}},
            {"name": "c", "origin": "/etc/c", "error": "/etc/c: half of it is gone", "force": "rcptmapd reload --force c"},
        ]});
        let mut rehearsal: Rehearsal = serde_json::from_value(value).expect("a rehearsal");
        assert_eq!(rehearsal.code(), exit::DATA);
        assert_eq!(
            rehearsal.text(Style::default()),
            "a: /etc/a\n  same        what it says is in force\n\
             b: /etc/b\n  changes     +2 -1; 1,001 entries, 1,000 before\n              +2 -1 in b.example\n  \
             added       x@b.example, y@b.example\n  removed     z@b.example\n\
             c: /etc/c\n  NOT TAKEN   /etc/c: half of it is gone\n  to force it rcptmapd reload --force c\n\
             \na reload would leave a list as it is\n"
        );
        rehearsal.sources.pop();
        assert_eq!(rehearsal.code(), exit::NO);
        rehearsal.sources.pop();
        assert_eq!(rehearsal.code(), exit::OK);
    }
}
