//! Reports for programs: the same objects in `status`, `check` and `reload`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::catalog::Rehearsal;
use super::{FaultLine, FileReport, Findings, SourceReport};
use crate::map::{Changes, DomainChange};

impl SourceReport {
    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let findings = &self.findings;
        json!({
            "name": self.name,
            "origin": self.origin,
            "state": self.state.name(),
            "error": self.error,
            "format": self.format.map(|format| format.name()),
            "format_why": self.why,
            "formats_also": self.also.iter().map(|format| format.name()).collect::<Vec<_>>(),
            "force": self.force,
            "recipients": self.recipients,
            "refusals": self.refusals,
            "vanished": self.vanished,
            "foreign": self.foreign,
            "lines": self.lines,
            "bad_lines": findings.fault_count,
            "first_bad_lines": first_bad_lines(findings),
            "duplicates": findings.duplicates,
            "conflicts": findings.conflicts.iter().map(|conflict| json!({
                "line": conflict.line, "key": conflict.key, "not_in_force": conflict.lost, "in_force": conflict.kept,
            })).collect::<Vec<_>>(),
            "left_out": findings.skips.iter().map(|(why, count)| (why.name(), *count)).collect::<BTreeMap<_, _>>(),
            "warnings": findings.notes.iter().map(|(line, note)| json!({
                "line": line, "text": note.to_string(),
            })).collect::<Vec<_>>(),
            "taken": seconds(self.taken_at),
            "modified": seconds(self.modified),
            "version": self.version,
            "changes": self.changes.as_deref().map(changes),
        })
    }
}

fn first_bad_lines(findings: &Findings) -> Vec<Value> {
    let line =
        |fault: &FaultLine| json!({ "file": fault.file, "line": fault.line, "text": fault.text, "why": fault.why });
    findings.faults.iter().map(line).collect()
}

fn changes(changes: &Changes) -> Value {
    let domain = |domain: &DomainChange| {
        let counts = json!({
            "before": domain.before, "added": domain.added, "removed": domain.removed, "changed": domain.changed,
        });
        (String::from_utf8_lossy(&domain.name).into_owned(), counts)
    };
    json!({
        "before": changes.before,
        "after": changes.after,
        "added": changes.added,
        "removed": changes.removed,
        "changed": changes.changed,
        "first_added": changes.first_added,
        "first_removed": changes.first_removed,
        "domains": changes.domains.iter().map(domain).collect::<serde_json::Map<String, Value>>(),
    })
}

/// What a reload would do: `changes` of each source, or the `error` that would hold it back; and what comes of a changed
/// configuration.
pub fn rehearsal(rehearsal: &Rehearsal) -> Value {
    let Rehearsal { sources, files, gone, domains_added, domains_gone } = rehearsal;
    json!({
        "sources": sources.iter().map(SourceReport::to_json).collect::<Vec<_>>(),
        "files": files.iter().map(FileReport::to_json).collect::<Vec<_>>(),
        "sources_gone": gone.iter().map(|(name, recipients)| json!({
            "name": name, "recipients": recipients,
        })).collect::<Vec<_>>(),
        "domains_added": domains_added,
        "domains_gone": domains_gone,
    })
}

impl FileReport {
    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "path": self.path.to_string_lossy(),
            "for": self.what,
            "state": self.state.name(),
            "error": self.error,
            "entries": self.entries,
            "bad_lines": self.findings.fault_count,
            "first_bad_lines": first_bad_lines(&self.findings),
        })
    }
}

/// Seconds since 1970.
pub fn seconds(time: Option<SystemTime>) -> Option<u64> {
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs())
}
