//! All that a parser says about a text, collected: for tests, fuzz targets and `check`.

use std::fmt;

use super::{Fault, Format, Grant, Item, Key, Note, Options, Parser, Refused, Sink, Skip, Summary};

/// What a sink was told, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An item: its key and grant as they are displayed.
    Item {
        /// The line.
        line: u32,
        /// The item in words: `recipient anna@example.org = OK`, `catch-all @example.org ! 550 5.1.1 User unknown`.
        text: String,
    },
    /// A pair.
    Pair {
        /// The line.
        line: u32,
        /// The key as written.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// A fault.
    Fault {
        /// The line.
        line: u32,
        /// Its text.
        text: Vec<u8>,
        /// The fault.
        fault: Fault,
    },
    /// Left out.
    Skip {
        /// The line.
        line: u32,
        /// Why.
        reason: Skip,
    },
    /// A warning.
    Note {
        /// The line.
        line: u32,
        /// The warning.
        note: Note,
    },
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = |text: &[u8]| String::from_utf8_lossy(text).escape_debug().to_string().replace("\\\"", "\"");
        match *self {
            Key::Recipient { local, domain } => write!(f, "recipient {}@{}", e(local), e(domain)),
            Key::AnyDomain { local } => write!(f, "any-domain {}@", e(local)),
            Key::Detail { local, domain, required: false } => write!(f, "detail {}+*@{}", e(local), e(domain)),
            Key::Detail { local, domain, required: true } => write!(f, "detail {}++@{}", e(local), e(domain)),
            Key::Prefix { prefix, domain } => write!(f, "prefix {}*@{}", e(prefix), e(domain)),
            Key::CatchAll { domain } => write!(f, "catch-all @{}", e(domain)),
            Key::Subdomains { domain } => write!(f, "subdomains @.{}", e(domain)),
            Key::Domain { domain } => write!(f, "domain {}", e(domain)),
        }
    }
}

impl fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.grant {
            Grant::Accept { value: [] } => write!(f, "{}", self.key),
            Grant::Accept { value } => write!(f, "{} = {}", self.key, String::from_utf8_lossy(value)),
            Grant::Follow { domain, .. } => write!(f, "{} -> {}", self.key, String::from_utf8_lossy(domain)),
            Grant::Unknown => write!(f, "{} ?", self.key),
            Grant::Refuse(None) => write!(f, "{} ! absent", self.key),
            Grant::Refuse(Some(reply)) => write!(f, "{} ! {reply}", self.key),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Item { line, text } => write!(f, "{line} {text}"),
            Event::Pair { line, key, value } => {
                write!(f, "{line} pair {} = {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
            }
            Event::Fault { line, text, fault } => write!(f, "{line} fault {fault:?} | {}", text.escape_ascii()),
            Event::Skip { line, reason } => write!(f, "{line} skip {reason}"),
            Event::Note { line, note } => write!(f, "{line} note {note:?}"),
        }
    }
}

/// A sink that keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collector {
    /// What it was told, in order.
    pub events: Vec<Event>,
}

impl Sink for Collector {
    fn item(&mut self, line: u32, item: Item<'_>) {
        self.events.push(Event::Item { line, text: item.to_string() });
    }

    fn pair(&mut self, line: u32, key: &[u8], value: &[u8]) {
        self.events.push(Event::Pair { line, key: key.to_vec(), value: value.to_vec() });
    }

    fn fault(&mut self, line: u32, text: &[u8], fault: Fault) {
        self.events.push(Event::Fault { line, text: text.to_vec(), fault });
    }

    fn skip(&mut self, line: u32, reason: Skip) {
        self.events.push(Event::Skip { line, reason });
    }

    fn note(&mut self, line: u32, note: Note) {
        self.events.push(Event::Note { line, note });
    }
}

/// All that a text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The events; meaningless where the text is refused.
    pub events: Vec<Event>,
    /// How it ended.
    pub outcome: Result<Summary, Refused>,
}

impl fmt::Display for Digest {
    /// One event a line, then how it ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Err(refused) => writeln!(f, "refused: {refused}"),
            Ok(summary) => {
                self.events.iter().try_for_each(|event| writeln!(f, "{event}"))?;
                writeln!(f, "{} lines{}", summary.lines, if summary.had_end_mark { ", end mark" } else { "" })
            }
        }
    }
}

/// Reads a whole text, with `example.org` attached to bare local parts. For fuzz targets.
pub fn digest(format: Format, bytes: &[u8]) -> Digest {
    let options = Options { domain: b"example.org".to_vec(), ..Options::default() };
    digest_chunks(format, &options, [bytes])
}

/// Reads a text that comes in chunks.
pub fn digest_chunks<'a>(format: Format, options: &Options, chunks: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut parser = Parser::new(format, options);
    let mut sink = Collector::default();
    let fed = chunks.into_iter().try_for_each(|chunk| parser.feed(chunk, &mut sink));
    let outcome = fed.and_then(|()| parser.finish(&mut sink));
    Digest { events: sink.events, outcome }
}
