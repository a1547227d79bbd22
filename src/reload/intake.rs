//! Puts what a parser finds into a builder, and counts the rest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::logging::escape;
use crate::map::{Builder, Content, Entry, Grant, Item, Key, KeyText, Unfit};
use crate::source::{Fault, Note, Sink, Skip, addresses};

/// Bad lines of a source that are kept with their text; all are counted.
const KEPT_FAULTS: usize = 20;
/// Bytes of a bad line that are shown.
const SHOWN_TEXT: usize = 120;

/// A bad line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultLine {
    /// The file, where the source has several.
    pub file: Option<String>,
    /// Its number, from 1.
    pub line: u32,
    /// Its text, escaped and cut.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

/// What was found in a source beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Statements taken, duplicates included.
    pub entries: usize,
    /// The first bad lines.
    pub faults: Vec<FaultLine>,
    /// All bad lines.
    pub fault_count: usize,
    /// Lines left out, by reason.
    pub skips: BTreeMap<Skip, usize>,
    /// Warnings about the whole, with the line that gave rise to them.
    pub notes: Vec<(u32, Note)>,
    /// Entries that an earlier line has already.
    pub duplicates: usize,
    /// The first of those that say something else than the earlier line.
    pub conflicts: Vec<Conflict>,
}

/// Two lines of one source that say different things about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Line of the one that is not in force, if lines were kept.
    pub line: Option<u32>,
    /// The key.
    pub key: String,
    /// What the later line says.
    pub lost: String,
    /// What the earlier line says, and what holds.
    pub kept: String,
}

/// Takes what a parser finds.
pub struct Intake {
    builder: Builder,
    findings: Findings,
    lines: Option<Vec<u32>>,
    /// The table is full.
    pub too_large: Option<Unfit>,
    /// The file that is being read, where there are several.
    file: Option<String>,
    /// What it names is ours: `.example.org`, too, which a list of recipients has nothing to say about.
    pub declares: bool,
    /// Lines of the statements that can't tell, which come last; and, of several files, where each begins among them.
    unclear: Vec<u32>,
    unclear_files: Vec<(PathBuf, usize)>,
}

/// What came of a source.
pub struct Outcome {
    /// What it lists.
    pub content: Content,
    /// The rest.
    pub findings: Findings,
    /// Line of each statement by its number, if lines were kept.
    pub line_of: Vec<u32>,
    /// Of several files, those with statements that can't tell: the number of the first of these.
    pub unclear_files: Vec<(PathBuf, usize)>,
}

impl Intake {
    /// `keep_lines`: remember the line of every statement.
    pub fn new(builder: Builder, keep_lines: bool) -> Intake {
        let lines = keep_lines.then(Vec::new);
        Intake {
            builder,
            findings: Findings::default(),
            lines,
            too_large: None,
            file: None,
            declares: false,
            unclear: Vec::new(),
            unclear_files: Vec::new(),
        }
    }

    /// What follows is in this one of several files.
    pub fn begin_file(&mut self, name: &str) {
        self.unclear_files.push((name.into(), self.unclear.len()));
        self.file = Some(name.to_owned());
    }

    /// Statements of the builder so far: the number of the next one.
    pub fn next_number(&self) -> usize {
        self.builder.len()
    }

    /// Entries and bad lines so far.
    pub fn counts(&self) -> (usize, usize) {
        (self.findings.entries, self.findings.fault_count)
    }

    /// The first bad line of one of several files, if it was kept.
    pub fn first_fault_of(&self, file: &str) -> Option<FaultLine> {
        self.findings.faults.iter().find(|fault| fault.file.as_deref() == Some(file)).cloned()
    }

    /// What came of it.
    pub fn finish(self) -> Outcome {
        let Intake { builder, mut findings, lines, unclear, mut unclear_files, .. } = self;
        let statements = builder.len();
        unclear_files.iter_mut().for_each(|(_, first)| *first += statements);
        let line_of: Vec<u32> = lines.map(|lines| [lines, unclear].concat()).unwrap_or_default();
        let content = builder.finish(|twice| {
            // A line that is not understood mentions whom another one is about.
            if matches!(twice.lost.entry, Entry::Unknown) {
                return;
            }
            findings.duplicates += 1;
            if twice.lost.entry != twice.kept && findings.conflicts.len() < KEPT_FAULTS {
                findings.conflicts.push(Conflict {
                    line: line_of.get(twice.lost.number).copied(),
                    key: KeyText(twice.lost.key).to_string(),
                    lost: twice.lost.entry.to_string(),
                    kept: twice.kept.to_string(),
                });
            }
        });
        Outcome { content, findings, line_of, unclear_files }
    }

    fn fault(&mut self, line: u32, text: &[u8], why: impl FnOnce() -> String) {
        self.findings.fault_count += 1;
        if self.findings.faults.len() < KEPT_FAULTS {
            let text = escape(&text[..text.len().min(SHOWN_TEXT)]).to_string();
            self.findings.faults.push(FaultLine { file: self.file.clone(), line, text, why: why() });
        }
    }
}

impl Sink for Intake {
    fn item(&mut self, line: u32, mut item: Item<'_>) {
        if item.grant == Grant::Unknown {
            // No entry. What can't be a recipient needs no doubt, and its line is reported already.
            if self.builder.add(&item).is_ok() {
                self.unclear.push(line);
            }
            return;
        }
        if let Key::Domain { domain: [b'.', domain @ ..] } = item.key {
            if !self.declares {
                return self.skip(line, Skip::Below);
            }
            item = Item { key: Key::Subdomains { domain }, grant: Grant::ACCEPT };
        }
        let before = self.builder.len();
        match self.builder.add(&item) {
            Ok(()) => {
                self.findings.entries += 1;
                if let Some(lines) = &mut self.lines
                    && self.builder.len() > before
                {
                    lines.push(line);
                }
                if let (Key::Recipient { local, .. }, Grant::Refuse(_)) = (item.key, &item.grant)
                    && local.eq_ignore_ascii_case(b"postmaster")
                {
                    self.note(line, Note::Postmaster);
                }
            }
            Err(why @ Unfit::TooLarge(_)) => self.too_large = Some(why),
            Err(why) => {
                let text = KeyText(item.key).to_string();
                self.fault(line, text.as_bytes(), || why.to_string());
                for key in addresses(text.as_bytes()) {
                    self.item(line, Item { key, grant: Grant::Unknown });
                }
            }
        }
    }

    fn pair(&mut self, _line: u32, key: &[u8], value: &[u8]) {
        self.findings.entries += 1;
        if !self.builder.add_pair(key, value) {
            self.findings.duplicates += 1;
        }
    }

    fn fault(&mut self, line: u32, text: &[u8], fault: Fault) {
        Intake::fault(self, line, text, || fault.to_string());
    }

    fn skip(&mut self, _line: u32, reason: Skip) {
        *self.findings.skips.entry(reason).or_default() += 1;
    }

    fn note(&mut self, line: u32, note: Note) {
        self.findings.notes.push((line, note));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Domains, HashKey};
    use crate::source::{Format, Options, Parser};

    #[test]
    fn blanks_that_nobody_sees_are_no_part_of_a_name() {
        let builder = Builder::new(HashKey::with_seeds(1, 2, 3, 4), true, Domains::new());
        let mut intake = Intake::new(builder, true);
        let text = "\u{a0}anna@a.example\nbert@a.example\u{a0}\n\u{200b}carl@a.example\ndora@a.example\u{200b}\nemil@a.example\n";
        let mut parser = Parser::new(Format::Plain, &Options::default());
        parser.feed(text.as_bytes(), &mut intake).and_then(|()| parser.finish(&mut intake)).expect("a list");
        let Outcome { content, findings, .. } = intake.finish();
        let mut said: Vec<_> = content.listed().map(|l| format!("{} {}", KeyText(l.key), l.entry)).collect();
        said.sort();
        let expected = ["anna@a.example can't tell", "bert@a.example can't tell", "carl@a.example can't tell"];
        assert_eq!(said, [&expected[..], &["dora@a.example accept", "emil@a.example accept"]].concat());
        assert_eq!(findings.faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn what_a_line_cannot_tell_comes_last_with_its_file_and_line() {
        let builder = Builder::new(HashKey::with_seeds(1, 2, 3, 4), true, Domains::new());
        let mut intake = Intake::new(builder, true);
        for (name, text) in [
            ("a", "x@a.example state=ful\nanna@a.example\n"),
            ("b", "x@a.example\ny@a.example text=\"\nanna@a.example, bert@a.example\n100%@a.example,\n"),
        ] {
            intake.begin_file(name);
            let mut parser = Parser::new(Format::Plain, &Options::default());
            parser.feed(text.as_bytes(), &mut intake).and_then(|()| parser.finish(&mut intake)).expect("a list");
        }
        let Outcome { content, findings, line_of, unclear_files } = intake.finish();
        let said = content.listed().map(|l| format!("{}: {} {}", line_of[l.number], KeyText(l.key), l.entry));
        assert_eq!(
            said.collect::<Vec<_>>(),
            [
                "2: anna@a.example accept",
                "1: x@a.example accept",
                "2: y@a.example can't tell",
                "3: bert@a.example can't tell",
            ]
        );
        assert_eq!((findings.entries, findings.fault_count, findings.duplicates), (2, 4, 0));
        assert_eq!(unclear_files, [("a".into(), 2), ("b".into(), 3)]);
    }
}
