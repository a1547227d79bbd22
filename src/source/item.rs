//! What a recipient list can say: items, and what is reported beside them.
//!
//! Keys carry the bytes as the list has them. Nothing is folded here: case, IDN and quotes are the sink's business, so
//! that loading and asking go through one and the same function (DESIGN, 4).

use std::fmt;
use std::str::FromStr;

pub use crate::map::{Grant, Item, Key};

/// Takes what a parser finds, in the order of the lines.
pub trait Sink {
    /// A statement about a recipient or a domain.
    fn item(&mut self, line: u32, item: Item<'_>);
    /// A key and value that an `access` map serves verbatim: `From:`, `Connect:`, a bare host. The key is as written,
    /// the value whole. A key that says something about recipients as well gives an item, too.
    fn pair(&mut self, line: u32, key: &[u8], value: &[u8]);
    /// A line that can't be understood: counted and reported with number and text, never taken for an entry. The text
    /// is as the list has it, up to 64 KiB of any bytes.
    fn fault(&mut self, line: u32, text: &[u8], fault: Fault);
    /// Silently left out, counted by reason.
    fn skip(&mut self, line: u32, reason: Skip);
    /// Worth a warning about the whole source.
    fn note(&mut self, line: u32, note: Note);
}

/// Why a line is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// Longer than a logical line may be.
    #[error("the line is longer than 64 KiB")]
    TooLong,
    /// A key and nothing else, where the format wants a value.
    #[error("a key without a value")]
    NoValue,
    /// An indented line that continues nothing.
    #[error("the line begins with a blank, and there is nothing that it could continue")]
    LeadingBlank,
    /// Neither an address nor anything else that this format knows.
    #[error("this is not an address")]
    Address,
    /// A local part alone, and no domain to attach.
    #[error("a local part without a domain (set `domain` for this source)")]
    NoDomain,
    /// Not a domain name.
    #[error("this is not a domain name")]
    Domain,
    /// A quoted local part that doesn't end.
    #[error("a quote is opened and not closed")]
    Quote,
    /// A value that this format doesn't know.
    #[error("unknown value")]
    Value,
    /// `state=`, `until=` or `text=` that can't be read.
    #[error("wrong attribute (state=full|disabled|moved|refused, until=2026-12-31, text=\"...\")")]
    Attribute,
    /// A value that goes on over lines with addresses at their beginning.
    #[error(
        "the value goes on over indented lines, as in a Postfix map; if these are entries, they must not be indented"
    )]
    Indented,
    /// A refusal in a list that has no other, of a format that nobody has said.
    #[error(
        "this may be a refusal: the recipient is put off until you say what the list is (format = \"access\": refused, \
         format = \"postmap\": exists)"
    )]
    Refusal,
    /// Words, not an entry.
    #[error("this reads like prose, not like an entry")]
    Prose,
    /// A regular expression.
    #[error("regular expressions are not read: whom it may stand for is put off; list these recipients instead")]
    Regexp,
    /// A program decides.
    #[error(
        "a program decides about these recipients, which a list can't: they are put off until a probe (`verify`) or \
         another source stands in its place and this line is gone"
    )]
    Program,
    /// Another file or list decides.
    #[error(
        "this refers to another file: whom it may list is put off until that is a source of its own and this line is gone"
    )]
    Reference,
    /// Not made of the fields that this format has.
    #[error("the line does not have the fields of this format")]
    Fields,
    /// Base64 that is none.
    #[error("broken base64")]
    Base64,
}

/// Why a line was left out without being wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// `SKIP` in an access file.
    NoOpinion,
    /// `until=` has passed.
    Expired,
    /// A host address or a net.
    Network,
    /// An address of another kind: X400, X500, SIP, SPO ...
    AddressType,
    /// An account that is disabled, and these are to be dropped.
    Disabled,
    /// A uid below the least one.
    Uid,
    /// A shell that is not among those wanted.
    Shell,
    /// A `+` or `-` line of NIS.
    Nis,
    /// Text around the list, such as the banner of a script host.
    Banner,
    /// A row without an address.
    NoAddress,
    /// `*.test-google-a.com`.
    TestAddress,
    /// A default route, or one of a single address.
    Route,
    /// `.example.org`: the domains below, without a recipient.
    Below,
    /// A mailbox that is nobody's inbox.
    NoInbox,
    /// Known as invalid, by a cache that may be old.
    Invalid,
    /// Known neither as valid nor as invalid.
    Undecided,
}

impl Skip {
    /// The words for people, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Skip::NoOpinion => "no opinion",
            Skip::Expired => "expired",
            Skip::Network => "network",
            Skip::AddressType => "address type",
            Skip::Disabled => "disabled account",
            Skip::Uid => "uid",
            Skip::Shell => "shell",
            Skip::Nis => "nis",
            Skip::Banner => "banner",
            Skip::NoAddress => "no address",
            Skip::TestAddress => "test address",
            Skip::Route => "route",
            Skip::Below => "names below a domain",
            Skip::NoInbox => "no inbox",
            Skip::Invalid => "invalid",
            Skip::Undecided => "undecided",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is odd about a whole source. Each is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Note {
    /// A value that an access file would take for a refusal.
    #[error(
        "values such as REJECT mean nothing in a list of recipients; if refusals are meant, say format = \"access\""
    )]
    RefusalValue,
    /// `*` in a format that has no wildcards.
    #[error("'*' has no meaning in this format and is taken literally")]
    Literal,
    /// A refusal that is not carried out.
    #[error("postmaster is refused here, and exists all the same: every domain must have it (RFC 5321, 4.5.1)")]
    Postmaster,
    /// A key that sendmail would cut.
    #[error("a key is longer than the 256 bytes that sendmail looks at")]
    LongKey,
    /// 8-bit text that is not UTF-8.
    #[error("text that is not UTF-8 was read as Windows-1252")]
    Windows1252,
    /// A number of rows that is a limit of directory servers and export commands.
    #[error("exactly {0} rows: probably cut off at a limit (-ResultSize Unlimited, paged search)")]
    Rows(u32),
    /// `attribute;range=...`: the server sent a part of the values.
    #[error("an attribute has a range option: the server sent only a part of its values")]
    Range,
    /// A Google export that has users only.
    #[error("a Google export without groups and without aliases; export them, too, or they will be refused")]
    Google,
}

/// Why a whole source is not to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A known kind of file that is no text.
    #[error("{0}")]
    Binary(Binary),
    /// A NUL byte.
    #[error("line {line}: a NUL byte; this is not a text file")]
    Nul {
        /// Where.
        line: u32,
    },
    /// `# end N lines` does not agree with the lines before it.
    #[error("line {line}: the end mark says {said} lines, but {} are before it; the list is cut off or torn", line - 1)]
    EndMark {
        /// Where the mark is.
        line: u32,
        /// What it says.
        said: u64,
    },
    /// Entries behind the end mark.
    #[error("line {line}: text after the end mark; the list was overwritten by a shorter one, or two were joined")]
    AfterEnd {
        /// The first line behind it.
        line: u32,
    },
    /// The format has an own end, and it is missing.
    #[error("after line {line}: {what}; the list is cut off")]
    CutOff {
        /// The last line.
        line: u32,
        /// What is missing.
        what: &'static str,
    },
    /// A line whose entries can't be told from its beginning.
    #[error("line {line} is longer than 64 KiB, and what it lists can't be told; leave columns such as members out")]
    TooLong {
        /// Which.
        line: u32,
    },
    /// The server stopped in the middle.
    #[error("line {line}: the search ended with result {code}{}; the list is not complete", ldap_result(*code))]
    Result {
        /// Where.
        line: u32,
        /// The LDAP result code.
        code: u32,
    },
    /// PowerShell wrote the name of a type in place of the addresses.
    #[error(
        "line {line}: the export holds the name of a type or \"...\" where addresses should be; \
         export with @{{n='EmailAddresses';e={{$_.EmailAddresses -join ';'}}}}"
    )]
    Export {
        /// Where.
        line: u32,
    },
    /// A CSV file without any column that we know.
    #[error("line {line}: no column is named EmailAddresses, ProxyAddresses, PrimarySmtpAddress, Mail or the like")]
    Columns {
        /// Where the header is.
        line: u32,
    },
    /// A cdb file that contradicts itself.
    #[error("the cdb file is damaged or cut off: {what}")]
    Cdb {
        /// What is wrong.
        what: &'static str,
    },
}

/// The commonest LDAP results of an unfinished search, in words.
fn ldap_result(code: u32) -> &'static str {
    match code {
        3 => " (time limit)",
        4 => " (size limit; use paging: -E pr=1000/noprompt)",
        10 => " (referral)",
        11 => " (administrative limit)",
        51 | 52 => " (server busy or unavailable)",
        _ => "",
    }
}

/// Kinds of files that are given in place of a list, by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Binary {
    /// Berkeley DB, hash or btree.
    #[error(
        "this is a Berkeley DB file; give the text that it was made of, or dump it: \
         postmap -s hash:FILE (without .db; or btree:), makemap -u hash FILE"
    )]
    BerkeleyDb,
    /// LMDB.
    #[error(
        "this is an LMDB file; give the text that it was made of, or dump it: postmap -s lmdb:FILE (without .lmdb)"
    )]
    Lmdb,
    /// A cdb file under another format.
    #[error("this is a cdb file; say format = \"cdb\", or dump it: postmap -s cdb:FILE (without .cdb)")]
    Cdb,
    /// GDBM, as of Exim's dbm look-ups.
    #[error("this is a GDBM file; give the text that it was made of, or dump it: gdbm_dump FILE")]
    Gdbm,
    /// SQLite.
    #[error("this is an SQLite database; use a command source: sqlite3 FILE 'select address from ...'")]
    Sqlite,
    /// A zip archive, which is what .xlsx is.
    #[error("this is an Excel workbook or a zip archive; save it as CSV")]
    Zip,
    /// Compressed text.
    #[error("this file is compressed; use a command source: zcat FILE (zstdcat, xzcat, bzcat)")]
    Compressed,
    /// UTF-32.
    #[error("this is UTF-32 text; save it as UTF-8")]
    Utf32,
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// The year.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// The text is not a day as in `2026-12-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day is written as in 2026-12-31")]
pub struct DateError;

impl FromStr for Date {
    type Err = DateError;

    fn from_str(s: &str) -> Result<Date, DateError> {
        fn number(text: Option<&str>, digits: usize) -> Option<u16> {
            text.filter(|t| t.len() == digits && t.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
        }
        let mut parts = s.split('-');
        let date = (number(parts.next(), 4), number(parts.next(), 2), number(parts.next(), 2));
        match date {
            (Some(year), Some(month @ 1..=12), Some(day @ 1..=31)) if parts.next().is_none() => {
                Ok(Date { year, month: month as u8, day: day as u8 })
            }
            _ => Err(DateError),
        }
    }
}

/// What becomes of accounts that the directory has disabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disabled {
    /// They exist: Exchange's shared mailboxes and rooms are disabled accounts.
    #[default]
    Keep,
    /// They are left out.
    Drop,
}

/// What a source's configuration says to its parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Attached to bare local parts; may be empty: then they are faults.
    pub domain: Vec<u8>,
    /// For `until=`: an entry holds up to and on its day. The default lets nothing expire.
    pub today: Date,
    /// passwd: the least uid that is a person.
    pub uid_min: u32,
    /// passwd: accounts that are taken whatever their uid and shell.
    pub always: Vec<Vec<u8>>,
    /// passwd: shells of accounts that are taken; empty: all but `nologin` and `false`.
    pub shells: Vec<Vec<u8>>,
    /// LDIF and CSV: disabled or suspended accounts.
    pub disabled: Disabled,
    /// The format was found out, not said: what could mean something else in another one is not to be taken at its word.
    pub detected: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            domain: Vec::new(),
            today: Date::default(),
            uid_min: 1000,
            always: vec![b"root".to_vec()],
            shells: Vec::new(),
            disabled: Disabled::Keep,
            detected: false,
        }
    }
}

/// What is known when a source has been read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Lines, an unfinished last one included. A cdb file counts its records.
    pub lines: u32,
    /// There was an end mark (`# end N lines`), and it agreed.
    pub had_end_mark: bool,
    /// How the text was encoded.
    pub encoding: super::Encoding,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_compared() {
        assert_eq!("2026-12-31".parse(), Ok(Date { year: 2026, month: 12, day: 31 }));
        for wrong in ["2026-13-01", "2026-00-10", "2026-1-1", "31.12.2026", "2026-12-31-1", "", "+026-12-31"] {
            assert_eq!(wrong.parse::<Date>(), Err(DateError), "{wrong}");
        }
        let day = |text: &str| text.parse::<Date>().expect("a day");
        assert!(day("2026-12-31") < day("2027-01-01") && day("2026-09-30") < day("2026-10-01"));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        assert_eq!(
            Refused::EndMark { line: 5, said: 1234 }.to_string(),
            "line 5: the end mark says 1234 lines, but 4 are before it; the list is cut off or torn"
        );
        assert_eq!(
            Refused::Result { line: 9, code: 4 }.to_string(),
            "line 9: the search ended with result 4 (size limit; use paging: -E pr=1000/noprompt); the list is not complete"
        );
        assert!(Refused::Binary(Binary::BerkeleyDb).to_string().contains("postmap -s hash:FILE"));
        assert!(
            Refused::Export { line: 2 }.to_string().contains("@{n='EmailAddresses';e={$_.EmailAddresses -join ';'}}")
        );
    }
}
