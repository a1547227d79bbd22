//! `rcptmapd check`: reads everything as the daemon would, and tells what it finds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::client::Whom;
use super::settings::Settings;
use super::text::{self, Style};
use super::{Failure, diff, exit};
use crate::config::{Config, ConfigError, Overrides};
use crate::map::Snapshot;
use crate::reload::{self, Catalog, FileReport, Findings, Report, SourceReport};
use crate::resolve::Directory;

/// Most domains of a list that are shown by name.
const SHOWN_DOMAINS: usize = 8;

/// Read configuration and lists as the daemon would, and tell what is in them
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd check /etc/postfix/relay_recipients
  rcptmapd check -c rcptmapd.toml && systemctl reload rcptmapd
  rcptmapd check --diff && echo nothing new
  rcptmapd check --json | jq -r '.sources[] | \"\\(.name) \\(.recipients)\"'

Without -c and without a list /etc/rcptmapd/rcptmapd.toml is read. No running daemon is asked, but with --diff: then it \
tells what a reload would change now, and which lists it would not take.

Exit status: 0 fine, 65 lines that can't be understood or a list that would not be taken, 78 the configuration is \
wrong. Duplicates, conflicts and warnings alone are fine. With --diff: 0 nothing would change, 1 something would, 65 a list \
would not be taken, 69 there is no daemon.")]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the running daemon what a reload would change
    #[arg(long, conflicts_with = "sources")]
    diff: bool,
    /// Control socket of the daemon, in place of the configured one
    #[arg(long, value_name = "PATH", requires = "diff", conflicts_with = "config")]
    control: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
    /// Recipient lists; their formats are found out
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,
}

/// Reads, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    if args.diff {
        let whom = Whom { config: args.config.clone(), control: args.control.clone() };
        return diff::run(&whom, args.json);
    }
    let overrides = Overrides { sources: args.sources.clone(), ..Overrides::default() };
    let settings = match Settings::try_read(args.config.as_deref(), &overrides)? {
        Ok(settings) => settings,
        Err(error) if args.json => {
            text::print_json(&config_json(&error))?;
            return Ok(exit::CONFIG);
        }
        Err(error) => return Err(error.into()),
    };
    let (directory, report) = Catalog::new(true).load(&settings.config);
    let checked = Checked::new(&settings.config, &directory, report);
    if args.json {
        text::print_json(&checked.to_json())?;
    } else {
        text::print(&checked.text(Style::of_stdout()))?;
    }
    Ok(if checked.problems() == 0 { exit::OK } else { exit::DATA })
}

fn config_json(error: &ConfigError) -> Value {
    let problems = error.problems.iter().map(|problem| {
        json!({"file": problem.place.file.to_string_lossy(), "line": problem.place.line, "text": problem.text})
    });
    json!({"good": false, "configuration": problems.collect::<Vec<_>>()})
}

/// What was found.
struct Checked {
    report: Report,
    /// Of each source.
    domains: Vec<DomainCounts>,
    /// What is odd about a source, or about all of them.
    odd: Vec<(Option<usize>, String)>,
    /// The files of the configuration.
    files: Vec<PathBuf>,
}

/// Keys of a source by domain.
#[derive(Default)]
struct DomainCounts {
    ours: BTreeMap<String, usize>,
    foreign: BTreeMap<String, usize>,
}

impl DomainCounts {
    fn new(snapshot: &Snapshot, source: usize) -> DomainCounts {
        let mut counts = DomainCounts::default();
        let content = snapshot.sources().get(source).and_then(|source| source.content.as_deref());
        for (name, keys, refusals) in content.iter().flat_map(|content| content.domain_counts()) {
            let keys = keys - refusals;
            let ours = snapshot.relay_domain(name).is_some();
            let counts = if ours { &mut counts.ours } else { &mut counts.foreign };
            counts.insert(text::printable_text(name), keys);
        }
        counts
    }
}

/// The largest first.
fn largest(counts: &BTreeMap<String, usize>) -> String {
    let mut sorted: Vec<(&String, usize)> = counts.iter().map(|(name, &keys)| (name, keys)).collect();
    sorted.sort_by_key(|&(_, keys)| std::cmp::Reverse(keys));
    let shown = sorted.iter().take(SHOWN_DOMAINS).map(|(name, keys)| match keys {
        0 => (*name).clone(),
        _ => format!("{name} {}", text::number(*keys)),
    });
    let mut shown: Vec<String> = shown.collect();
    if sorted.len() > SHOWN_DOMAINS {
        shown.push(format!("{} more", text::number(sorted.len() - SHOWN_DOMAINS)));
    }
    shown.join(", ")
}

impl Checked {
    fn new(config: &Config, directory: &Directory, report: Report) -> Checked {
        let snapshot = directory.snapshot();
        let domains = (0..report.sources.len()).map(|source| DomainCounts::new(snapshot, source)).collect();
        Checked { report, domains, odd: reload::lint(snapshot), files: config.files.clone() }
    }

    /// What would be told in the log as well: lists that would not be taken, and lines that can't be understood.
    fn problems(&self) -> usize {
        self.report.errors().count() + self.report.faults()
    }

    fn odd(&self, source: Option<usize>) -> impl Iterator<Item = &str> {
        self.odd.iter().filter(move |(of, _)| *of == source).map(|(_, text)| text.as_str())
    }

    fn text(&self, style: Style) -> String {
        let mut out = String::new();
        for (at, file) in self.files.iter().enumerate() {
            let _ = writeln!(out, "{}{}", if at == 0 { "configuration " } else { "  includes " }, file.display());
        }
        for (number, (source, domains)) in self.report.sources.iter().zip(&self.domains).enumerate() {
            if !out.is_empty() {
                out.push('\n');
            }
            source_text(source, domains, style, &mut out);
            for text in self.odd(Some(number)) {
                let _ = writeln!(out, "  {:<11} {}", "odd", style.odd(text));
            }
        }
        for file in &self.report.files {
            out.push('\n');
            file_text(file, style, &mut out);
        }
        for text in self.odd(None) {
            let _ = writeln!(out, "\n{}", style.odd(text));
        }
        let report = &self.report;
        let what =
            format!("{} in {}", text::count(report.recipients, "recipient"), text::count(report.domains, "domain"));
        let took = report.took.as_secs_f64();
        let (errors, faults) = (report.errors().count(), report.faults());
        let _ = match (errors, faults) {
            (0, 0) => writeln!(out, "\n{} {what}, read in {took:.2} s", style.good("fine:")),
            (0, _) => writeln!(out, "\n{} {what}", style.odd(&format!("{}:", text::count(faults, "bad line")))),
            (_, 0) => writeln!(out, "\n{} {what}", style.bad(&format!("{} not taken:", text::count(errors, "list")))),
            _ => {
                let wrong = format!("{} not taken, {}:", text::count(errors, "list"), text::count(faults, "bad line"));
                writeln!(out, "\n{} {what}", style.bad(&wrong))
            }
        };
        out
    }

    fn to_json(&self) -> Value {
        let report = &self.report;
        let sources = report.sources.iter().zip(&self.domains).enumerate().map(|(number, (source, domains))| {
            let mut value = source.to_json();
            value["domains"] = json!(domains.ours);
            value["foreign_domains"] = json!(domains.foreign);
            value["odd"] = self.odd(Some(number)).collect();
            value
        });
        json!({
            "good": self.problems() == 0,
            "odd": self.odd(None).collect::<Vec<_>>(),
            "configuration_files": self.files.iter().map(|file| file.to_string_lossy()).collect::<Vec<_>>(),
            "recipients": report.recipients,
            "domains": report.domains,
            "memory_bytes": report.heap_bytes,
            "load_seconds": report.took.as_secs_f64(),
            "sources": sources.collect::<Vec<_>>(),
            "files": report.files.iter().map(FileReport::to_json).collect::<Vec<_>>(),
        })
    }
}

fn source_text(source: &SourceReport, domains: &DomainCounts, style: Style, out: &mut String) {
    let name = if source.origin.ends_with(&format!("/{}", source.name)) || source.origin == source.name {
        source.origin.clone()
    } else {
        format!("{}: {}", source.name, source.origin)
    };
    let _ = writeln!(out, "{}", style.head(&name));
    let mut row = |label: &str, text: &str| {
        let _ = writeln!(out, "  {label:<11} {text}");
    };
    if let Some(error) = &source.error {
        row("NOT TAKEN", &style.bad(error));
        return;
    }
    if let Some(format) = source.format {
        let why =
            source.why.as_ref().map_or_else(String::new, |why| format!(": {}", text::printable_text(why.as_bytes())));
        let also: Vec<&str> = source.also.iter().map(|format| format.name()).collect();
        let also = if also.is_empty() { String::new() } else { format!("; {} would fit, too", also.join(", ")) };
        row("format", &format!("{format}{why}{also}"));
    }
    row("lines", &text::number(u64::from(source.lines)));
    let ours = source.ours();
    let in_domains = text::count(domains.ours.len(), "domain");
    // `office@` belongs to none, or to all.
    let anywhere = match ours - domains.ours.values().sum::<usize>().min(ours) {
        0 => String::new(),
        keys => format!(", at any domain {}", text::number(keys)),
    };
    let names = if domains.ours.is_empty() { String::new() } else { format!(": {}", largest(&domains.ours)) };
    row("recipients", &format!("{} in {in_domains}{names}{anywhere}", text::number(ours)));
    let refusals = source.refusals - source.foreign_refusals;
    if refusals > 0 {
        row("refusals", &text::number(refusals));
    }
    if !domains.foreign.is_empty() {
        let (keys, names) = (text::number(source.foreign), largest(&domains.foreign));
        row("foreign", &format!("{keys} left out, in none of our domains: {names}"));
    }
    let findings = &source.findings;
    if findings.duplicates > 0 {
        row("duplicates", &text::number(findings.duplicates));
    }
    for conflict in &findings.conflicts {
        let line = conflict.line.map_or_else(String::new, |line| format!("line {line}: "));
        let key = text::printable_text(conflict.key.as_bytes());
        let text = format!("{line}{key}: {}; not in force, an earlier line says {}", conflict.lost, conflict.kept);
        row("conflict", &style.odd(&text));
    }
    for (reason, count) in &findings.skips {
        row("left out", &format!("{} ({reason})", text::number(*count)));
    }
    for (line, note) in &findings.notes {
        row("warning", &style.odd(&format!("{}:{line}: {note}", source.origin)));
    }
    faults_text(findings, &source.origin, style, out);
}

fn faults_text(findings: &Findings, origin: &str, style: Style, out: &mut String) {
    if findings.fault_count == 0 {
        return;
    }
    let _ = writeln!(out, "  {:<11} {}", "bad lines", style.bad(&text::number(findings.fault_count)));
    for fault in &findings.faults {
        let file = fault.file.as_deref().unwrap_or(origin);
        let _ = writeln!(out, "    {file}:{}: {}: {}", fault.line, fault.why, fault.text);
    }
    let rest = findings.fault_count - findings.faults.len();
    if rest > 0 {
        let _ = writeln!(out, "    and {} more", text::number(rest));
    }
}

fn file_text(file: &FileReport, style: Style, out: &mut String) {
    let _ = writeln!(out, "{}", style.head(&format!("{}: {}", file.what, file.path.display())));
    let _ = match &file.error {
        Some(error) => writeln!(out, "  {:<11} {}", "NOT TAKEN", style.bad(error)),
        None => writeln!(out, "  {:<11} {}", "entries", text::number(file.entries)),
    };
    faults_text(&file.findings, &file.path.display().to_string(), style, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_told_by_size_and_not_all() {
        let counts: BTreeMap<String, usize> = (0..11).map(|n| (format!("d{n}.example"), n * 1000)).collect();
        let text = largest(&counts);
        assert!(text.starts_with("d10.example 10,000, d9.example 9,000, "), "{text}");
        assert!(text.ends_with("d3.example 3,000, 3 more"), "{text}");
        assert_eq!(largest(&BTreeMap::from([("only.example".to_owned(), 0)])), "only.example");
    }
}
