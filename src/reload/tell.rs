//! What the log says about a load: one line for it, a few for each source that has changed or could not be taken, and
//! nothing again that was said before.

use super::intake::Findings;
use super::report::{Report, SourceReport, State};
use crate::logging::{address, escape};
use crate::map::{Changes, DomainChange};

/// Domains that are told by name.
const SHOWN_DOMAINS: usize = 10;
/// Names of a domain file or table that are told when they are gone.
const SHOWN: usize = 10;

/// Writes the lines. `asked`: somebody wants to know, so a load without news is worth a line.
pub fn tell(report: &Report, asked: bool) {
    let seconds = report.took.as_secs_f64();
    let is_not_taken = |source: &&SourceReport| matches!(source.state, State::Kept | State::Missing);
    let mut sources = plural(report.sources.len(), "source");
    match report.sources.iter().filter(is_not_taken).count() {
        0 => {}
        count => sources += &format!(" ({count} not taken)"),
    }
    let served = format!("{} in {}", recipients(report), plural(report.domains, "domain"));
    if report.is_change {
        log::info!("loaded {served} from {sources} in {seconds:.2} s");
    } else if asked {
        log::info!("nothing has changed: {served} from {sources}, read in {seconds:.2} s");
    } else {
        log::debug!("nothing has changed: {served} from {sources}");
    }
    for source in &report.sources {
        tell_source(source);
    }
    for file in &report.files {
        if let Some(error) = file.error.as_ref().filter(|_| file.is_new_error) {
            log::error!("{}: {error}", file.what);
        }
        if !file.lost.is_empty() {
            let shown = file.lost.get(..SHOWN).unwrap_or(&file.lost);
            let names = some_of(shown, file.lost.len());
            log::warn!("{}: {} no longer names {names}", file.what, file.path.display());
        }
        if file.has_new_faults {
            tell_faults(&file.what, &file.path.display().to_string(), &file.findings);
        }
    }
}

fn tell_source(source: &SourceReport) {
    if let Some(error) = &source.error {
        let then = match source.state {
            State::Kept => format!("its last good list of {} stays in force", plural(source.recipients, "recipient")),
            State::Old => "that list stays in force".to_owned(),
            _ => "whom the other sources don't know gets \"try again later\"".to_owned(),
        };
        if source.is_new_error {
            log::error!("source {}: {error}; {then}", source.name);
        } else {
            log::debug!("source {}: still {error}", source.name);
        }
        return;
    }
    if source.is_mended {
        log::info!("source {}: it is taken again: {}", source.name, plural(source.recipients, "recipient"));
    }
    let Some(changes) = &source.changes else { return };
    if changes.before > 0 {
        tell_changes(&source.name, changes);
    }
    let findings = &source.findings;
    tell_faults(&format!("source {}", source.name), &source.origin, findings);
    for (line, note) in &findings.notes {
        log::warn!("source {}: {}:{line}: {note}", source.name, source.origin);
    }
    if let Some(first) = findings.conflicts.first() {
        log::warn!(
            "source {}: {} are listed twice with different values, the first counts: {} ({}, not {})",
            source.name,
            findings.conflicts.len(),
            first.key,
            first.kept,
            first.lost
        );
    }
    if source.foreign > 0 {
        let (count, belong) =
            (plural(source.foreign, "recipient"), if source.foreign == 1 { "it belongs" } else { "they belong" });
        log::info!("source {}: {count} left out, {belong} to none of our domains", source.name);
    }
}

/// How many lines are bad, and the first of them.
fn tell_faults(what: &str, origin: &str, findings: &Findings) {
    let Some(first) = findings.faults.first() else { return };
    let (count, file) = (plural(findings.fault_count, "line"), first.file.as_deref().unwrap_or(origin));
    let text = address(first.text.as_bytes());
    log::warn!("{what}: {count} can't be understood; the first is {file}:{}: {}: {text}", first.line, first.why);
}

/// Counts per source and domain, and the first by name.
fn tell_changes(name: &str, changes: &Changes) {
    let counts = counts(changes.added, changes.removed, changes.changed);
    let (entries, domains) = (plural_y(changes.after, "entr"), domains(changes));
    log::info!("source {name}: {counts}, {entries} now{domains}");
    for (what, count, first) in
        [("added", changes.added, &changes.first_added), ("removed", changes.removed, &changes.first_removed)]
    {
        if !first.is_empty() {
            let names: Vec<String> = first.iter().map(|name| address(name.as_bytes())).collect();
            log::info!("source {name}: {what} {}", some_of(&names, count));
        }
    }
}

/// `a, b and 3 more`: the first of `count` names.
fn some_of(first: &[String], count: usize) -> String {
    let more = if count > first.len() { format!(" and {} more", count - first.len()) } else { String::new() };
    format!("{}{more}", first.join(", "))
}

fn domains(changes: &Changes) -> String {
    let mut largest: Vec<&DomainChange> = changes.domains.iter().collect();
    largest.sort_by_key(|domain| std::cmp::Reverse(domain.added + domain.removed + domain.changed));
    let text = |domain: &&DomainChange| {
        let name = if domain.name.is_empty() { "any domain".into() } else { escape(&domain.name).to_string() };
        format!("{name} {}", signs(domain))
    };
    let mut shown: Vec<String> = largest.iter().take(SHOWN_DOMAINS).map(text).collect();
    if largest.len() > SHOWN_DOMAINS {
        shown.push(format!("{} more domains", largest.len() - SHOWN_DOMAINS));
    }
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}

/// `+2 -1 ~3`.
pub fn signs(domain: &DomainChange) -> String {
    let parts = [('+', domain.added), ('-', domain.removed), ('~', domain.changed)];
    let parts: Vec<String> =
        parts.iter().filter(|(_, count)| *count > 0).map(|(sign, count)| format!("{sign}{count}")).collect();
    parts.join(" ")
}

/// `2 added, 1 removed`.
fn counts(added: usize, removed: usize, changed: usize) -> String {
    let parts = [(added, "added"), (removed, "removed"), (changed, "changed")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    parts.join(", ")
}

/// `20 recipients`, `20 recipients and 3 refusals`.
pub fn recipients(report: &Report) -> String {
    let recipients = plural(report.recipients, "recipient");
    match report.refusals {
        0 => recipients,
        refusals => format!("{recipients} and {}", plural(refusals, "refusal")),
    }
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@%+=:,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// `1 list`, `2 lists`.
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `1 entry`, `2 entries`.
pub fn plural_y(count: usize, stem: &str) -> String {
    if count == 1 { format!("1 {stem}y") } else { format!("{count} {stem}ies") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_domain_the_largest_first() {
        let domain = |name: &str, added, removed, changed| DomainChange {
            name: name.as_bytes().into(),
            before: 9,
            added,
            removed,
            changed,
        };
        let changes = Changes {
            domains: vec![domain("a.example", 1, 0, 0), domain("b.example", 2, 3, 1), domain("", 0, 2, 0)],
            ..Changes::default()
        };
        assert_eq!(domains(&changes), ": b.example +2 -3 ~1, any domain -2, a.example +1");
        assert_eq!(counts(2, 0, 1), "2 added, 1 changed");
    }

    #[test]
    fn one_is_no_plural() {
        let mut report = Report { recipients: 1, ..Report::default() };
        assert_eq!(recipients(&report), "1 recipient");
        (report.recipients, report.refusals) = (20, 1);
        assert_eq!(recipients(&report), "20 recipients and 1 refusal");
        assert_eq!((plural_y(1, "entr"), plural_y(2, "entr")), ("1 entry".to_owned(), "2 entries".to_owned()));
    }
}
