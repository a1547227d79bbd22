//! Transcripts: what a peer sends and what we answer, as data that several harnesses play.
//!
//! Used by `tests/vectors.rs` (codecs alone) and `tests/protocol.rs` (the running daemon). A file holds settings and
//! cases; every case is one connection.
//!
//! ```text
//! # a comment
//! listen: socketmap auto          on listeners of these kinds, each in turn
//! directory: bob@relay.example    an entry of the recipient list; may be repeated
//! state: no-data                  nothing has been loaded; the default is loaded
//! map: acc check                  a further map and its kind
//!
//! case: S1 known
//! > 22:rcpt bob@relay.example,
//! < 20:OK bob@relay.example,
//! <open
//! ```
//!
//! Settings before the first case are for the whole file; those behind a `case:` line are for that case alone and take
//! the place of the file's. Further lines:
//!
//! - `> bytes` is sent, `< bytes` must come back. Lines of one kind that follow each other are one piece. Escapes: `\n`,
//!   `\r`, `\t`, `\0`, `\\`, `\xHH`; there are no invisible ends, so a blank at the end of a line is written `\x20`.
//! - `>*2000 ab` sends, and `<*3 ab` expects, the bytes that many times.
//! - `<starts bytes`: what comes back begins with this; the rest is not told. Only as the last expectation.
//! - `>eof`: the peer closes its sending side.
//! - At the end `<open` (we keep the connection), `<close` (we close it) or `<deadline` (we wait for more, and close when
//!   `limits.request` is over).

#![allow(dead_code)] // no harness uses all of it

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What the server of a case has to look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Settings {
    pub listen: Vec<String>,
    pub directory: Vec<String>,
    pub no_data: bool,
    /// Name and kind.
    pub maps: Vec<(String, String)>,
    /// Settings that only some harnesses know, by name.
    pub other: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    HalfClose,
    Expect(Vec<u8>),
    ExpectStart(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Open,
    Close,
    Deadline,
}

#[derive(Clone, Debug)]
pub struct Case {
    /// `socketmap/sendmail.txt`.
    pub file: String,
    pub name: String,
    pub settings: Settings,
    pub steps: Vec<Step>,
    pub end: End,
}

impl Case {
    /// Everything that is sent, as one piece.
    pub fn sent(&self) -> Vec<u8> {
        self.steps
            .iter()
            .filter_map(|s| if let Step::Send(b) = s { Some(&b[..]) } else { None })
            .collect::<Vec<_>>()
            .concat()
    }

    /// Everything that is expected, as one piece.
    pub fn expected(&self) -> Vec<u8> {
        self.steps
            .iter()
            .filter_map(|s| if let Step::Expect(b) | Step::ExpectStart(b) = s { Some(&b[..]) } else { None })
            .collect::<Vec<_>>()
            .concat()
    }

    /// Whether the peer closes its sending side.
    pub fn half_closes(&self) -> bool {
        self.steps.contains(&Step::HalfClose)
    }

    /// Whether the end of the expected bytes is told.
    pub fn is_exact(&self) -> bool {
        !self.steps.iter().any(|s| matches!(s, Step::ExpectStart(_)))
    }

    /// Whether the whole case may be played again on the same connection.
    pub fn is_repeatable(&self) -> bool {
        self.end == End::Open && !self.half_closes() && self.is_exact()
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.name)
    }
}

/// `tests/vectors`.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// The folders of `tests/vectors` in which there are conversations with our listeners. `smtp` has tables of its own: there
/// we are the client.
const FOLDERS: [&str; 8] = ["detect", "http", "line", "milter", "netstring", "policy", "socketmap", "tcp_table"];

/// All cases of all files, in a stable order. Panics with file and line where a file is wrong.
pub fn all() -> Vec<Case> {
    let mut files = Vec::new();
    for folder in FOLDERS.map(|folder| root().join(folder)) {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        files.extend(entries.map(|e| e.expect("an entry").path()));
    }
    files.retain(|path| path.extension().is_some_and(|x| x == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no transcripts in {}", root().display());
    files.iter().flat_map(|path| parse(path)).collect()
}

/// All cases of one file.
pub fn parse(path: &Path) -> Vec<Case> {
    let file = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{file}: {e}"));
    parse_text(&file, &text)
}

pub fn parse_text(file: &str, text: &str) -> Vec<Case> {
    let mut common = Settings::default();
    let mut cases: Vec<Case> = Vec::new();
    // names of the settings that the open case has already made its own
    let mut own: Vec<String> = Vec::new();
    let mut ended = true;
    for (number, line) in text.lines().enumerate() {
        let fail = |what: &str| -> ! { panic!("{file}:{}: {what}: {line:?}", number + 1) };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("case:") {
            if !ended {
                fail("the case before has no <open, <close or <deadline")
            }
            let name = name.trim().to_owned();
            if cases.iter().any(|case| case.name == name) {
                fail("there is a case of this name")
            }
            cases.push(Case {
                file: file.to_owned(),
                name,
                settings: common.clone(),
                steps: Vec::new(),
                end: End::Open,
            });
            own.clear();
            ended = false;
            continue;
        }
        if !line.starts_with(['<', '>']) {
            let Some((name, value)) = line.split_once(':') else { fail("neither a setting nor a step") };
            match cases.last_mut() {
                None => set(&mut common, name, value.trim(), false).unwrap_or_else(|e| fail(e)),
                Some(case) if case.steps.is_empty() => {
                    let first = !own.iter().any(|n| n == name);
                    own.push(name.to_owned());
                    set(&mut case.settings, name, value.trim(), first).unwrap_or_else(|e| fail(e));
                }
                Some(_) => fail("settings stand before the steps"),
            }
            continue;
        }
        let Some(case) = cases.last_mut().filter(|_| !ended) else { fail("a step outside of a case") };
        match line {
            ">eof" => case.steps.push(Step::HalfClose),
            "<open" | "<close" | "<deadline" => {
                ended = true;
                case.end = match line {
                    "<open" => End::Open,
                    "<close" => End::Close,
                    _ => End::Deadline,
                };
            }
            _ => {
                let (kind, rest) = line.split_at(1);
                let (word, bytes) = rest.split_once(' ').unwrap_or_else(|| fail("no blank behind < or >"));
                let bytes = unescape(bytes).unwrap_or_else(|| fail("a bad escape"));
                let bytes = match word.strip_prefix('*') {
                    Some(n) => bytes.repeat(n.parse().unwrap_or_else(|_| fail("no number"))),
                    None => bytes,
                };
                if word == "starts" && kind == "<" {
                    case.steps.push(Step::ExpectStart(bytes));
                    continue;
                }
                if !word.is_empty() && !word.starts_with('*') {
                    fail("an unknown step");
                }
                match (kind, case.steps.last_mut()) {
                    (">", Some(Step::Send(before))) | ("<", Some(Step::Expect(before))) => before.extend(bytes),
                    (">", _) => case.steps.push(Step::Send(bytes)),
                    _ => case.steps.push(Step::Expect(bytes)),
                }
            }
        }
    }
    assert!(ended, "{file}: the last case has no <open, <close or <deadline");
    for case in &cases {
        assert!(!case.settings.listen.is_empty(), "{case}: no listen");
    }
    cases
}

fn set(settings: &mut Settings, name: &str, value: &str, replace: bool) -> Result<(), &'static str> {
    fn put<T>(list: &mut Vec<T>, values: impl IntoIterator<Item = T>, replace: bool) {
        if replace {
            list.clear();
        }
        list.extend(values);
    }
    let words = || value.split_whitespace().map(str::to_owned);
    match name {
        "listen" => put(&mut settings.listen, words(), replace),
        "directory" => put(&mut settings.directory, Some(value.to_owned()).filter(|v| !v.is_empty()), replace),
        "map" => {
            let (map, kind) = value.split_once(' ').ok_or("a map has a name and a kind")?;
            put(&mut settings.maps, [(map.to_owned(), kind.trim().to_owned())], replace);
        }
        "state" => {
            settings.no_data = match value {
                "no-data" => true,
                "loaded" => false,
                _ => return Err("an unknown state"),
            }
        }
        "limits" | "skip" | "default_map" => {
            put(settings.other.entry(name.to_owned()).or_default(), [value.to_owned()], replace)
        }
        _ => return Err("an unknown setting"),
    }
    Ok(())
}

/// Undoes the escapes.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        out.push(match bytes.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(out)
}

/// Bytes for a message about a failure, cut where they get long.
pub fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(300)];
    let rest = if cut.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    format!("{}{rest}", cut.escape_ascii())
}

mod tests {
    use super::*;

    #[test]
    fn transcripts_are_read() {
        let text = "# c\nlisten: line auto\ndirectory: a@b\n\ncase: one\ndirectory: c@d\ndirectory: e@f\n> x\\n\n>*2 yz\n< \\xff\\0\n>eof\n<close\n\ncase: two\n>  \\x20\n<deadline\n";
        let cases = parse_text("t", text);
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[0].settings.listen, ["line", "auto"]);
        assert_eq!(cases[0].settings.directory, ["c@d", "e@f"]);
        assert_eq!(cases[1].settings.directory, ["a@b"]);
        assert_eq!(
            cases[0].steps,
            [Step::Send(b"x\nyzyz".to_vec()), Step::Expect(b"\xff\0".to_vec()), Step::HalfClose]
        );
        assert_eq!(cases[1].sent(), b"  ");
        assert_eq!((cases[0].end, cases[1].end), (End::Close, End::Deadline));
    }
}
