//! Where recipients come from: what a list says, in any of the formats found in the wild.
//!
//! Pure: bytes in, items out, any chunking; no file, clock or log. A parser holds one logical line at most (a cdb file
//! is the exception), so a list of ten million recipients streams through. Bad lines are faults and never entries;
//! a source that can't be the whole truth (binary, cut off, exported wrongly) is refused as a whole.
//!
//! ```text
//! chunk -> encoding (BOM, UTF-16) -> lines (LF, CRLF, continuation, limits) -> a format's reader -> unclear -> Sink
//! ```
//!
//! To add a format: a file with a `Reader` of its own, a row in the table below, a rule in `detect.rs`, and a folder
//! of examples under `tests/sources/`.

mod access;
mod action;
mod ad_export;
mod addrcheck;
mod aliases;
mod backlist;
mod base64;
mod cdb;
mod csv;
mod cyrus;
mod detect;
mod digest;
mod domains;
mod encoding;
mod item;
mod ldif;
mod lines;
mod lsearch;
mod mailertable;
mod mailman;
mod passwd;
mod plain;
mod postmap;
mod proxy;
mod qmail;
mod rcptto;
mod syntax;
mod table;
mod unclear;
mod userdb;
mod virtusertable;

use std::fmt;
use std::str::FromStr;

pub use action::error_mailer;
pub use detect::{Detection, detect};
pub use digest::{Collector, Digest, Event, digest, digest_chunks};
pub use encoding::Encoding;
pub use item::{
    Binary, Date, DateError, Disabled, Fault, Grant, Item, Key, Note, Options, Refused, Sink, Skip, Summary,
};

use encoding::Decoder;
use lines::{Join, Lines};
pub use unclear::addresses;
use unclear::{Careful, Cut};

/// One format: makes items out of logical lines.
trait Reader {
    /// How its lines go on.
    const JOIN: Join = Join::Never;

    fn new(options: &Options) -> Self;

    /// A logical line without line end and trailing blanks, never longer than 64 KiB. A raw format (`Join::Raw`) gets
    /// every chunk as it comes.
    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused>;

    /// The beginning of a logical line that is longer than that: the key counts, the rest is lost.
    fn cut<S: Sink>(&mut self, number: u32, start: &[u8], sink: &mut S) -> Result<(), Refused> {
        sink.fault(number, lines::excerpt(start), Fault::TooLong);
        self.line(number, start, &mut Cut(sink))
    }

    /// Nothing follows the `lines` lines.
    fn end<S: Sink>(&mut self, _lines: u32, _sink: &mut S) -> Result<(), Refused> {
        Ok(())
    }
}

macro_rules! formats {
    ($($(#[$doc:meta])* $format:ident, $name:literal, $reader:ty;)*) => {
        /// The formats of recipient lists.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Format {
            $($(#[$doc])* $format,)*
        }

        impl Format {
            /// Every format.
            pub const ALL: &[Format] = &[$(Format::$format),*];

            /// Its name in the configuration.
            pub fn name(self) -> &'static str {
                match self {
                    $(Format::$format => $name,)*
                }
            }
        }

        #[derive(Debug)]
        enum AnyReader {
            $($format($reader),)*
            Table(table::Table),
        }

        impl AnyReader {
            fn new(format: Format, options: &Options) -> AnyReader {
                match format {
                    $(Format::$format => AnyReader::$format(<$reader>::new(options)),)*
                }
            }
        }

        /// Runs the body with the reader at hand under its own type.
        macro_rules! with_reader {
            ($any:expr, $bound:ident => $body:expr) => {
                match $any {
                    $(AnyReader::$format($bound) => $body,)*
                    AnyReader::Table($bound) => $body,
                }
            };
        }
    };
}

formats! {
    /// One address a line, with an optional value and `state=`, `until=`, `text=`.
    Plain, "plain", plain::Plain;
    /// Text of a Postfix map: relay_recipient_maps, virtual_mailbox_maps, virtual_alias_maps, `postmap -s`.
    Postmap, "postmap", postmap::Postmap;
    /// sendmail access file.
    Access, "access", access::Access;
    /// One domain a line: relay-domains, virtuserdomain, rcpthosts.
    Domains, "domains", domains::Domains;
    /// sendmail virtusertable.
    Virtusertable, "virtusertable", virtusertable::Virtusertable;
    /// sendmail mailertable, for its domains.
    Mailertable, "mailertable", mailertable::Mailertable;
    /// Postfix transport map, for its domains.
    Transport, "transport", mailertable::Transport;
    /// aliases(5).
    Aliases, "aliases", aliases::Aliases;
    /// sendmail user database, as text.
    Userdb, "userdb", userdb::Userdb;
    /// qmail goodrcptto.
    Goodrcptto, "goodrcptto", rcptto::Goodrcptto;
    /// qmail badrcptto: recipients that are refused.
    Badrcptto, "badrcptto", rcptto::Badrcptto;
    /// qmail validrcptto.
    Validrcptto, "validrcptto", rcptto::Validrcptto;
    /// qmail virtualdomains, for its domains.
    Virtualdomains, "virtualdomains", qmail::Virtualdomains;
    /// qmail users/assign.
    UsersAssign, "users-assign", qmail::UsersAssign;
    /// control/recipients of s/qmail and indimail.
    QmailRecipients, "qmail-recipients", qmail::Recipients;
    /// What an Active Directory script prints: `alias: SMTP:anna@example.org`.
    AdExport, "ad-export", ad_export::AdExport;
    /// LDIF, as of ldapsearch.
    Ldif, "ldif", ldif::Ldif;
    /// CSV exports of Exchange, Microsoft 365 and Google Workspace.
    Csv, "csv", csv::Csv;
    /// The files that Mailman writes for an MTA.
    Mailman, "mailman", mailman::Mailman;
    /// passwd(5).
    Passwd, "passwd", passwd::Passwd;
    /// Dovecot passwd-file.
    PasswdFile, "passwd-file", passwd::PasswdFile;
    /// Exim lsearch, cPanel valiases.
    Lsearch, "lsearch", lsearch::Lsearch;
    /// Verdicts that an earlier call-ahead has saved.
    Backlist, "backlist", backlist::Backlist;
    /// Constant database.
    Cdb, "cdb", cdb::Cdb;
    /// Mailboxes of Cyrus IMAP: `ctl_mboxlist -d`, `mbpath`.
    Cyrus, "cyrus", cyrus::Cyrus;
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not the name of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}; known are: auto {names}", names = Format::ALL.iter().map(|f| f.name()).collect::<Vec<_>>().join(" "))]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(s: &str) -> Result<Format, FormatError> {
        Format::ALL.iter().copied().find(|f| f.name() == s).ok_or_else(|| FormatError(s.to_owned()))
    }
}

/// Reads one source, chunk by chunk. After an error it has no further meaning.
#[derive(Debug)]
pub struct Parser {
    decoder: Decoder,
    lines: Lines,
    reader: AnyReader,
}

impl Parser {
    /// A parser for one source.
    pub fn new(format: Format, options: &Options) -> Parser {
        Parser::of(AnyReader::new(format, options))
    }

    /// A parser of any key-value table, which says nothing but pairs: for `table` maps and next hops.
    pub fn table() -> Parser {
        Parser::of(AnyReader::Table(table::Table))
    }

    fn of(reader: AnyReader) -> Parser {
        Parser { decoder: Decoder::new(), lines: Lines::new(), reader }
    }

    /// Takes the next chunk, of any size, cut anywhere.
    pub fn feed<S: Sink>(&mut self, chunk: &[u8], sink: &mut S) -> Result<(), Refused> {
        let Parser { decoder, lines, reader } = self;
        with_reader!(reader, reader => feed(decoder, lines, reader, chunk, &mut Careful(sink)))
    }

    /// Nothing follows.
    pub fn finish<S: Sink>(self, sink: &mut S) -> Result<Summary, Refused> {
        let Parser { mut decoder, mut lines, mut reader } = self;
        with_reader!(&mut reader, reader => finish(&mut decoder, &mut lines, reader, &mut Careful(sink)))
    }
}

fn feed<R: Reader, S: Sink>(
    decoder: &mut Decoder,
    lines: &mut Lines,
    reader: &mut R,
    chunk: &[u8],
    sink: &mut S,
) -> Result<(), Refused> {
    match R::JOIN {
        Join::Raw => reader.line(0, chunk, sink),
        _ => decoder.feed(chunk, &mut |text| lines.feed(text, reader, sink)),
    }
}

fn finish<R: Reader, S: Sink>(
    decoder: &mut Decoder,
    lines: &mut Lines,
    reader: &mut R,
    sink: &mut S,
) -> Result<Summary, Refused> {
    decoder.finish(&mut |text| lines.feed(text, reader, sink))?;
    lines.finish(reader, sink)?;
    if decoder.is_torn() {
        return Err(Refused::CutOff { line: lines.number(), what: "UTF-16 text with an odd number of bytes" });
    }
    reader.end(lines.number(), sink)?;
    Ok(Summary { lines: lines.number(), had_end_mark: lines.ended(), encoding: decoder.encoding() })
}

/// A key-value table that was read as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its rows, in order.
    pub rows: Vec<Row>,
    /// The lines that are none, and why.
    pub faults: Vec<(u32, Fault)>,
}

/// A row of a key-value table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its line.
    pub line: u32,
    /// The key, as written.
    pub key: Vec<u8>,
    /// The value, whole.
    pub value: Vec<u8>,
}

/// Reads a table that is at hand as a whole: mailertable, transport map, any other.
pub fn table(text: &[u8]) -> Result<Table, Refused> {
    let mut parser = Parser::table();
    let mut sink = Collector::default();
    parser.feed(text, &mut sink)?;
    parser.finish(&mut sink)?;
    let mut table = Table::default();
    for event in sink.events {
        match event {
            Event::Pair { line, key, value } => table.rows.push(Row { line, key, value }),
            Event::Fault { line, fault, .. } => table.faults.push((line, fault)),
            _ => {}
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for &format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "postmaps".parse::<Format>().expect_err("no such format");
        assert!(error.to_string().starts_with("unknown format \"postmaps\"; known are: auto plain postmap"), "{error}");
    }

    #[test]
    fn files_that_are_no_text_are_refused_with_advice() {
        let mut file = vec![0; 12];
        file.extend_from_slice(&[0x61, 0x15, 0x06, 0]);
        file.resize(8192, 0);
        assert_eq!(digest(Format::Postmap, &file).outcome, Err(Refused::Binary(Binary::BerkeleyDb)));
        assert_eq!(digest(Format::Plain, b"a@example.org\nb\0@example.org\n").outcome, Err(Refused::Nul { line: 2 }));
    }

    #[test]
    fn the_summary_counts_lines_and_knows_the_end_mark() {
        let summary = |text: &[u8]| digest(Format::Plain, text).outcome.map(|s| (s.lines, s.had_end_mark));
        assert_eq!(summary(b""), Ok((0, false)));
        assert_eq!(summary(b"a@example.org\n\nb@example.org"), Ok((3, false)));
        assert_eq!(summary(b"a@example.org\n# end 1 lines\n"), Ok((2, true)));
        assert_eq!(summary(b"a@example.org\n# end 3 lines\n"), Err(Refused::EndMark { line: 2, said: 3 }));
    }

    #[test]
    fn the_key_of_a_line_that_is_too_long_is_kept() {
        let members = "bert@elsewhere.invalid, ".repeat(3000);
        let folded = members.replace(' ', "\n  ");
        for (format, line, expected) in [
            (Format::Plain, format!("all@x.example {members}"), "recipient all@x.example"),
            (Format::Postmap, format!("all@x.example {members}"), "recipient all@x.example"),
            (Format::Postmap, format!("all@x.example\n  {folded}"), "recipient all@x.example"),
            (Format::Aliases, format!("all: {folded}"), "recipient all@example.org"),
            (Format::Aliases, format!("all@x.example: {folded}"), "recipient all@x.example"),
            (Format::Lsearch, format!("all@x.example: {folded}"), "recipient all@x.example"),
            (Format::Mailman, format!("all: {folded}"), "recipient all@example.org"),
            (Format::Virtusertable, format!("all@x.example {members}"), "recipient all@x.example"),
            (Format::Access, format!("To:all@x.example 550 {members}"), "recipient all@x.example ! 550 5.0.0 bert"),
            (Format::Access, format!("To:all@x.example {members}"), "recipient all@x.example ?"),
            (Format::Userdb, format!("all:maildrop {members}"), "recipient all@example.org"),
            (Format::PasswdFile, format!("all@x.example:{members}"), "recipient all@x.example"),
            (Format::Passwd, format!("all:x:1000:{members}"), "any-domain all@ ?"),
            (Format::QmailRecipients, format!("@x.example|{members}"), "catch-all @x.example ?"),
            (Format::Ldif, format!("dn: x\nmail: all@x.example {members}"), "recipient all@x.example ?"),
        ] {
            let digest = digest(format, format!("{line}\n").as_bytes());
            let said: Vec<String> = digest.events.iter().map(ToString::to_string).collect();
            let number = if format == Format::Ldif { 2 } else { 1 };
            assert!(said[0].starts_with(&format!("{number} fault TooLong | ")), "{format}: {said:?}");
            let expected = format!("{number} {expected}");
            assert!(said.iter().any(|event| event.starts_with(&expected)), "{format}: {said:?}");
            assert!(said.iter().all(|event| event.len() < 1100 && !event.contains(" = ")), "{format}: {said:?}");
        }
        // Columns and values that can't be cut.
        let csv = format!("Mail,Members\nall@x.example,\"{members}\"\n");
        assert_eq!(digest(Format::Csv, csv.as_bytes()).outcome, Err(Refused::TooLong { line: 2 }));
        assert_eq!(table(format!("all@x.example {members}").as_bytes()), Err(Refused::TooLong { line: 1 }));
        // A photograph is nobody's address.
        let ldif = format!("dn: x\nthumbnailPhoto:: {}\nmail: anna@x.example\n", "QUJD".repeat(20_000));
        let said: Vec<String> = digest(Format::Ldif, ldif.as_bytes()).events.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["3 recipient anna@x.example"]);
        // A password is not shown.
        let text = format!("anna:geheim{members}\n");
        assert!(!format!("{:?}", digest(Format::PasswdFile, text.as_bytes()).events).contains("geheim"));
    }

    #[test]
    fn an_odd_utf16_file_is_cut_off() {
        let outcome = digest(Format::Plain, b"\xff\xfea\0@\0b\0\n\0c").outcome;
        assert_eq!(outcome, Err(Refused::CutOff { line: 1, what: "UTF-16 text with an odd number of bytes" }));
    }
}
