//! CSV exports (RFC 4180 and its neighbours): Exchange and Microsoft 365 from PowerShell or the portals, Google
//! Workspace from the admin console or GAM.
//!
//! Columns are found by name; a field may hold many addresses in any joining. Rows arrive line by line and go through
//! csv-core, which knows quotes that go on over lines. An export that holds the name of a PowerShell type where
//! addresses should be is refused as a whole.

use csv_core::{ReadRecordResult, ReaderBuilder};
use memchr::memchr;

use super::encoding::windows_1252;
use super::lines::{is_blank, trim_end, trim_start};
use super::postmap::tell;
use super::proxy::{LIMITS, Proxy, is_type_name, proxy};
use super::{Disabled, Fault, Grant, Item, Key, Note, Options, Reader, Refused, Sink, Skip};

/// The longest row, all its lines together. A group with thousands of addresses has less.
const MAX_ROW: usize = 256 * 1024;

/// The most columns. Get-Mailbox has about 250.
const MAX_COLUMNS: usize = 1024;

const UNENDED: &str = "a quoted field does not end";

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Addresses, and nothing else.
    Addresses,
    /// Addresses, or nicknames without `@`.
    Aliases,
    /// `Active`, `Suspended` ...
    Status,
    /// `True` for a suspended account.
    Suspended,
    Other,
}

#[derive(Debug)]
pub(super) struct Csv {
    disabled: Disabled,
    rows: Option<Rows>,
    /// What the columns hold; empty before the header.
    roles: Vec<Role>,
    count: u32,
    /// A download of Google's users, and no alias or group in it yet.
    google: bool,
    noted_code: bool,
}

impl Reader for Csv {
    fn new(options: &Options) -> Csv {
        Csv { disabled: options.disabled, rows: None, roles: Vec::new(), count: 0, google: false, noted_code: false }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        let decoded = windows_1252(line);
        if decoded.is_some() {
            tell(&mut self.noted_code, number, Note::Windows1252, sink);
        }
        let line = decoded.as_deref().unwrap_or(line);
        if self.roles.is_empty() && !self.rows.as_ref().is_some_and(Rows::is_open) {
            match line {
                // `#TYPE Selected....` of PowerShell 5, and comments before the header
                [] | [b'#', ..] => return Ok(()),
                // Excel's own hint
                [b's', b'e', b'p', b'=', separator] => {
                    self.rows = Some(Rows::new(*separator));
                    return Ok(());
                }
                _ => {}
            }
        }
        let mut rows = self.rows.take().unwrap_or_else(|| Rows::new(separator(line)));
        if !rows.takes(line) && rows.is_open() {
            // The quote that opened long ago was a stray one: the lines since are rows, and so is this one.
            rows.give_up(sink);
        }
        if rows.takes(line) {
            match rows.push(number, line) {
                Step::More => {}
                Step::Row => self.row(rows.first_line, &rows.fields(), rows.separator, sink)?,
                Step::TooLong if rows.is_open() => {
                    return Err(Refused::CutOff { line: rows.first_line, what: UNENDED });
                }
                Step::TooLong => {
                    sink.fault(rows.first_line, rows.excerpt(), Fault::TooLong);
                    rows.reset();
                }
            }
        } else {
            sink.fault(number, line, Fault::Quote);
        }
        self.rows = Some(rows);
        Ok(())
    }

    fn cut<S: Sink>(&mut self, number: u32, _: &[u8], _: &mut S) -> Result<(), Refused> {
        Err(Refused::TooLong { line: number })
    }

    fn end<S: Sink>(&mut self, lines: u32, sink: &mut S) -> Result<(), Refused> {
        if self.rows.as_ref().is_some_and(Rows::is_open) {
            return Err(Refused::CutOff { line: lines, what: UNENDED });
        }
        if LIMITS.contains(&self.count) {
            sink.note(lines, Note::Rows(self.count));
        }
        if self.google && self.count > 0 {
            sink.note(lines, Note::Google);
        }
        Ok(())
    }
}

impl Csv {
    fn row<S: Sink>(&mut self, number: u32, fields: &[&[u8]], separator: u8, sink: &mut S) -> Result<(), Refused> {
        if self.roles.is_empty() {
            self.roles = fields.iter().map(|name| role(name)).collect();
            let has_addresses = self.roles.iter().any(|r| matches!(r, Role::Addresses | Role::Aliases));
            self.google = is_google_users(fields);
            return if has_addresses { Ok(()) } else { Err(Refused::Columns { line: number }) };
        }
        if let ([text], true) = (fields, self.roles.len() > 1) {
            sink.fault(number, text, Fault::Fields);
            return Ok(());
        }
        self.count = self.count.saturating_add(1);
        self.misplaced(number, fields, separator, sink);
        let disabled = self.disabled == Disabled::Drop && self.is_disabled(fields);
        let mut seen: Vec<Key<'_>> = Vec::new();
        let mut others = false;
        for (role, field) in self.roles.iter().zip(fields) {
            if !matches!(role, Role::Addresses | Role::Aliases) {
                continue;
            }
            if is_type_name(field) || is_shortened(field) {
                return Err(Refused::Export { line: number });
            }
            if !field.iter().any(|b| matches!(b, b'@' | b':')) {
                // A nickname, as in Exchange's own "Alias", or a mistake.
                if *role == Role::Addresses && !field.is_empty() {
                    sink.fault(number, field, Fault::Address);
                }
                continue;
            }
            for value in values(field) {
                match proxy(value) {
                    Ok(Proxy::Address(Key::Recipient { domain, .. })) if is_google_test(domain) => {
                        sink.skip(number, Skip::TestAddress);
                    }
                    Ok(Proxy::Address(key)) => {
                        self.google &= *role != Role::Aliases;
                        if !seen.iter().any(|other| same(other, &key)) {
                            seen.push(key);
                        }
                    }
                    Ok(Proxy::Other) => {
                        others = true;
                        sink.skip(number, Skip::AddressType);
                    }
                    Ok(Proxy::Word) if *role == Role::Aliases => {}
                    Ok(Proxy::Word) => sink.fault(number, value, Fault::Address),
                    Err(fault) => sink.fault(number, value, fault),
                }
            }
        }
        if seen.is_empty() && !others {
            sink.skip(number, Skip::NoAddress);
        }
        for key in seen {
            match disabled {
                true => sink.skip(number, Skip::Disabled),
                false => sink.item(number, Item { key, grant: Grant::ACCEPT }),
            }
        }
        Ok(())
    }

    /// Reports addresses that are not where they should be: in a row of more or fewer fields than there are columns, or in
    /// a field that two stray quotes have made of several rows.
    fn misplaced<S: Sink>(&self, number: u32, fields: &[&[u8]], separator: u8, sink: &mut S) {
        let has_address = |text: &[u8]| memchr(b'@', text).is_some();
        let is_role = |at: usize| matches!(self.roles.get(at), Some(Role::Addresses | Role::Aliases));
        let others = || fields.iter().enumerate().filter(|(at, _)| !is_role(*at)).map(|(_, field)| *field);
        if fields.len() != self.roles.len() && others().any(has_address) {
            sink.fault(number, &fields.join(&separator), Fault::Fields);
        }
        for field in others().filter(|field| memchr(b'\n', field).is_some()) {
            if field.split(|&b| b == b'\n').any(|line| has_address(line) && memchr(separator, line).is_some()) {
                sink.fault(number, field, Fault::Quote);
            }
        }
    }

    fn is_disabled(&self, fields: &[&[u8]]) -> bool {
        self.roles.iter().zip(fields).any(|(role, field)| match role {
            Role::Status => !field.is_empty() && !field.eq_ignore_ascii_case(b"active"),
            Role::Suspended => field.eq_ignore_ascii_case(b"true"),
            _ => false,
        })
    }
}

/// The role of a column, by its name.
fn role(name: &[u8]) -> Role {
    let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    // Addresses that are somebody else's, and settings about addresses.
    const FOREIGN: [&str; 12] = [
        "external",
        "forward",
        "target",
        "recovery",
        "secondary",
        "alternate",
        "policy",
        "manager",
        "reply",
        "owner",
        "from",
        "permission",
    ];
    if has(&FOREIGN) {
        Role::Other
    } else if name == "suspended" || name == "account disabled" {
        Role::Suspended
    } else if name == "status" || name.starts_with("status [") {
        Role::Status
    } else if has(&["alias", "proxyaddresses", "proxy addresses"]) {
        Role::Aliases
    } else if has(&["email", "e-mail", "smtpaddress", "user principal name", "userprincipalname"]) || name == "mail" {
        Role::Addresses
    } else {
        Role::Other
    }
}

/// Whether a list begins with this header: columns under their whole names, or several columns that speak of addresses, and
/// rows that fit. Local parts, aliases and access files have words such as `email`, too.
pub(super) fn is_header<'a>(header: &[u8], rows: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
    let separator = separator(header);
    let mut names = Rows::new(separator);
    if !matches!(names.push(1, header), Step::Row) || header.iter().any(|b| matches!(b, b'@' | b':')) {
        return false;
    }
    let names = names.fields();
    let about = |name: &&[u8]| matches!(role(name), Role::Addresses | Role::Aliases);
    if !names.iter().any(about) || names.iter().any(|name| name.len() >= 60) {
        return false;
    }
    let known = names.iter().any(|name| about(name) && is_column(name));
    // `mail<TAB>OK` is an entry among others.
    let is_entry = |row: &[u8]| {
        names.len() > 1 && row.split(|&b| b == separator).zip(&names).skip(1).any(|(field, name)| field == *name)
    };
    let fits = |row: &[u8]| match names.len() {
        1 => memchr(b'@', row).is_some(),
        _ => memchr(separator, row).is_some(),
    };
    let count = rows.clone().count();
    let fitting = rows.clone().filter(|row| fits(row)).count();
    let addressed = rows.clone().any(|row| memchr(b'@', row).is_some());
    match (names.len(), count) {
        (_, 0) => known,
        (1, _) => known && fitting == count,
        _ => addressed && fitting * 2 >= count && !rows.clone().any(is_entry),
    }
}

/// Whether it is the name of a column of Exchange, Microsoft 365 or Google, or a plain word for one.
fn is_column(name: &[u8]) -> bool {
    const NAMES: [&str; 16] = [
        "emailaddresses",
        "emailaddress",
        "email",
        "mail",
        "emails",
        "mailaddress",
        "proxyaddresses",
        "primarysmtpaddress",
        "smtpaddress",
        "windowsemailaddress",
        "userprincipalname",
        "primaryemail",
        "groupemail",
        "alias",
        "aliases",
        "emailaliases",
    ];
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    // `Email Address [Required]`, `aliases.0`
    let name = name.split('[').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let word: String = name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).collect();
    NAMES.contains(&word.as_str())
}

/// A list of Google's users; one of groups has another header.
fn is_google_users(header: &[&[u8]]) -> bool {
    const NAMES: [&[u8]; 4] =
        [b"Email Address [Required]", b"primaryEmail", b"Primary Email", b"Org Unit Path [Required]"];
    header.iter().any(|name| NAMES.iter().any(|n| name.eq_ignore_ascii_case(n)))
}

/// `*.test-google-a.com`, which Google gives every user beside the address.
fn is_google_test(domain: &[u8]) -> bool {
    domain.to_ascii_lowercase().ends_with(b".test-google-a.com")
}

/// `SMTP:anna@example.org, smtp:...`: PowerShell has shown the first four of a list and no more.
fn is_shortened(field: &[u8]) -> bool {
    let field = field.strip_suffix(b"}").unwrap_or(field);
    (field.ends_with(b"...") || field.ends_with("…".as_bytes())) && field.contains(&b'@')
}

/// Whether two addresses differ in case only.
fn same(a: &Key<'_>, b: &Key<'_>) -> bool {
    match (a, b) {
        (Key::Recipient { local: a, domain: d }, Key::Recipient { local: b, domain: e }) => {
            a.eq_ignore_ascii_case(b) && d.eq_ignore_ascii_case(e)
        }
        _ => false,
    }
}

/// The addresses of a field, however they are joined: `;`, `,`, blanks, line breaks; `+` behind a complete address.
fn values(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let field = trim_end(trim_start(field));
    let mut rest = match field {
        [b'{', inner @ .., b'}'] => inner,
        _ => field,
    };
    std::iter::from_fn(move || {
        loop {
            let mut behind_at = false;
            let end = rest.iter().position(|&b| {
                behind_at |= b == b'@';
                matches!(b, b';' | b',' | b'\n' | b'\r') || is_blank(b) || b == b'+' && behind_at
            });
            // An X400 address has separators of its own.
            let end = match rest.get(..5) {
                Some(kind) if kind.eq_ignore_ascii_case(b"x400:") => next_type(rest).or(Some(rest.len())),
                _ => end,
            };
            let value = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
            if !value.is_empty() {
                return Some(value);
            } else if rest.is_empty() {
                return None;
            }
        }
    })
}

/// Where the value behind an X400 address begins, less the separator in front of it.
fn next_type(text: &[u8]) -> Option<usize> {
    const TYPES: [&[u8]; 8] = [b"smtp:", b"x500:", b"sip:", b"spo:", b"eum:", b"ms:", b"notes:", b"ccmail:"];
    (5..text.len()).find(|&at| {
        let rest = text.get(at + 1..).unwrap_or_default();
        TYPES.iter().any(|kind| rest.get(..kind.len()).is_some_and(|r| r.eq_ignore_ascii_case(kind)))
    })
}

/// The separator of a header: what it has most of, outside quotes.
fn separator(header: &[u8]) -> u8 {
    let count = |separator: u8| {
        let mut quoted = false;
        header
            .iter()
            .filter(|&&b| {
                quoted ^= b == b'"';
                b == separator && !quoted
            })
            .count()
    };
    b",;\t".iter().copied().rev().max_by_key(|&b| count(b)).unwrap_or(b',')
}

enum Step {
    More,
    Row,
    TooLong,
}

/// Lines into rows.
struct Rows {
    separator: u8,
    core: Box<csv_core::Reader>,
    text: Vec<u8>,
    used: usize,
    ends: Vec<usize>,
    columns: usize,
    first_line: u32,
    open: bool,
    /// The lines of a row that goes on, as they are.
    raw: Vec<u8>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("separator", &char::from(self.separator)).field("open", &self.open).finish()
    }
}

impl Rows {
    fn new(separator: u8) -> Rows {
        Rows {
            separator,
            core: Box::new(ReaderBuilder::new().delimiter(separator).build()),
            text: vec![0; 4096],
            used: 0,
            ends: vec![0; MAX_COLUMNS],
            columns: 0,
            first_line: 0,
            open: false,
            raw: Vec::new(),
        }
    }

    /// Whether the quotes of a line are those of a field, or of one that is open: behind the closing one, the field ends.
    fn takes(&self, line: &[u8]) -> bool {
        let (mut quoted, mut closed, mut start) = (self.open, false, true);
        for &b in line {
            match b {
                b'"' if quoted => (quoted, closed) = (false, true),
                // A doubled one.
                b'"' if closed => (quoted, closed) = (true, false),
                b'"' if start => quoted = true,
                _ if quoted => {}
                _ if b == self.separator => (closed, start) = (false, true),
                _ if closed && !is_blank(b) => return false,
                _ => start = false,
            }
        }
        true
    }

    /// Reports the open row, which is none, and forgets it.
    fn give_up<S: Sink>(&mut self, sink: &mut S) {
        sink.fault(self.first_line, &self.raw, Fault::Quote);
        self.reset();
    }

    /// Within a row that goes on in the next line.
    fn is_open(&self) -> bool {
        self.open
    }

    fn reset(&mut self) {
        *self = Rows::new(self.separator);
    }

    fn push(&mut self, number: u32, line: &[u8]) -> Step {
        if !self.open {
            (self.used, self.columns, self.first_line) = (0, 0, number);
            self.raw.clear();
        }
        for mut input in [line, b"\n"] {
            // csv-core takes an empty input for the end of the file.
            while !input.is_empty() {
                let room = (self.text.get_mut(self.used..), self.ends.get_mut(self.columns..));
                let (Some(text), Some(ends)) = room else { return Step::TooLong };
                let (result, read, written, columns) = self.core.read_record(input, text, ends);
                input = input.get(read..).unwrap_or_default();
                self.used += written;
                self.columns += columns;
                match result {
                    ReadRecordResult::OutputFull if self.text.len() < MAX_ROW => {
                        self.text.resize(self.text.len() * 2, 0)
                    }
                    ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => return Step::TooLong,
                    ReadRecordResult::Record => {
                        self.open = false;
                        return Step::Row;
                    }
                    ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
                }
            }
        }
        // An empty line between rows is nothing.
        self.open |= !line.is_empty();
        if self.open {
            self.raw.extend_from_slice(line);
            self.raw.push(b'\n');
        }
        Step::More
    }

    fn fields(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let ends = self.ends.get(..self.columns).unwrap_or_default();
        ends.iter().map(|&end| self.text.get(std::mem::replace(&mut start, end)..end).unwrap_or_default()).collect()
    }

    fn excerpt(&self) -> &[u8] {
        self.text.get(..self.used.min(256)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Format, digest, digest_chunks};

    fn events(text: &str) -> Vec<String> {
        digest(Format::Csv, text.as_bytes()).events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn exchange_by_column_names() {
        assert_eq!(
            events(
                "#TYPE Selected.Microsoft.Exchange.Data.Directory.Management.ReducedRecipient\r\n\
                 \"PrimarySmtpAddress\",\"RecipientTypeDetails\",\"EmailAddresses\"\r\n\
                 \"anna.adler@example.org\",\"UserMailbox\",\"SMTP:anna.adler@example.org;smtp:anna@example.org;SIP:anna@example.org\"\r\n\
                 \"team@example.org\",\"GroupMailbox\",\"SMTP:team@example.org;SPO:SPO_1b2c@SPO_9f8e\"\r\n\
                 \"Room \"\"Blue\"\"\",\"RoomMailbox\",\"smtp:blue@example.org SMTP:room-blue@example.org\"\r\n\
                 \"\",\"MailContact\",\"SMTP:partner@other.example\"\r\n\"\",\"x\",\"\"\r\netc...\r\n"
            ),
            [
                "3 skip address type",
                "3 recipient anna.adler@example.org",
                "3 recipient anna@example.org",
                "4 skip address type",
                "4 recipient team@example.org",
                "5 fault Address | Room \\\"Blue\\\"",
                "5 recipient blue@example.org",
                "5 recipient room-blue@example.org",
                "6 recipient partner@other.example",
                "7 skip no address",
                "8 fault Fields | etc...",
            ]
        );
    }

    #[test]
    fn any_joining_and_any_separator() {
        let expected = ["2 recipient a@x.example", "2 recipient b+c@x.example", "2 recipient d@x.example"];
        for (separator, joined) in [
            (",", "\"SMTP:a@x.example;smtp:b+c@x.example; smtp:d@x.example\""),
            (",", "\"a@x.example, b+c@x.example,d@x.example\""),
            (";", "a@x.example b+c@x.example d@x.example"),
            ("\t", "a@x.example+b+c@x.example+smtp:d@x.example"),
            (",", "\"a@x.example\nb+c@x.example\n\nd@x.example\""),
            (",", "\"{SMTP:a@x.example, smtp:b+c@x.example, smtp:d@x.example}\""),
            (";", "SMTP:A@x.example smtp:a@X.example b+c@x.example d@x.example"),
        ] {
            let said =
                events(&format!("Name{separator}Proxy addresses{separator}Other\nx{separator}{joined}{separator}y\n"));
            assert_eq!(said.iter().map(|e| e.to_lowercase()).collect::<Vec<_>>(), expected, "{joined}");
        }
        assert_eq!(
            events("sep=;\nEmailAddresses;n\n\"X400:C=DE;A= ;P=Example;S=Adler;smtp:a@x.example\";1\n"),
            ["3 skip address type", "3 recipient a@x.example"]
        );
    }

    #[test]
    fn google_downloads() {
        assert_eq!(
            events(
                "First Name [Required],Last Name [Required],Email Address [Required],Password [Required],Org Unit Path [Required],Status [READ ONLY],Email Aliases,Recovery Email\n\
                 Anna,Adler,anna@example.org,****,/Staff,Active,,anna@private.example\n"
            ),
            ["2 recipient anna@example.org", "2 note Google"]
        );
        assert_eq!(
            events(
                "primaryEmail,aliases.0,aliases.1,nonEditableAliases.0,suspended\n\
                 anna@example.org,a.adler@example.org,,anna@example.org.test-google-a.com,False\n"
            ),
            ["2 skip test address", "2 recipient anna@example.org", "2 recipient a.adler@example.org"]
        );
        assert_eq!(
            events("Primary Email,Alias\nanna@example.org,a.adler@example.org\n"),
            ["2 recipient anna@example.org", "2 recipient a.adler@example.org"]
        );
        assert_eq!(events("Group Email [Required],name\nstaff@example.org,Staff\n"), ["2 recipient staff@example.org"]);
    }

    #[test]
    fn suspended_accounts_are_dropped_when_that_is_wanted() {
        let options = Options { disabled: Disabled::Drop, ..Options::default() };
        let text = b"primaryEmail,alias,suspended,Status\na@x.example,a2@x.example,True,\nb@x.example,,False,Active\nc@x.example,,,Suspended\n";
        let digest = digest_chunks(Format::Csv, &options, [&text[..]]);
        let events: Vec<String> = digest.events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "2 skip disabled account",
                "2 skip disabled account",
                "3 recipient b@x.example",
                "4 skip disabled account"
            ]
        );
    }

    #[test]
    fn an_export_made_wrongly_is_refused() {
        let outcome = |text: &str| digest(Format::Csv, text.as_bytes()).outcome.map(|s| s.lines);
        for field in [
            "System.String[]",
            "Microsoft.Exchange.Data.ProxyAddressCollection",
            "System.Collections.ArrayList",
            "\"{SMTP:a@x.example, smtp:b@x.example, smtp:c@x.example, smtp:d@x.example...}\"",
        ] {
            let text = format!("Name,EmailAddresses\nA,a@x.example\nB,{field}\n");
            assert_eq!(outcome(&text), Err(Refused::Export { line: 3 }), "{field}");
        }
        assert_eq!(outcome("Name,Title\nA,B\n"), Err(Refused::Columns { line: 1 }));
        assert_eq!(
            outcome("Name,Mail\n\"A,a@x.example\nB,b@x.example\n"),
            Err(Refused::CutOff { line: 3, what: "a quoted field does not end" })
        );
    }

    #[test]
    fn exactly_a_thousand_rows_are_noted() {
        let rows: String = (0..1000).map(|i| format!("u{i}@x.example\n")).collect();
        let events = events(&format!("Mail\n{rows}"));
        assert_eq!((events.len(), events.last().map(String::as_str)), (1001, Some("1001 note Rows(1000)")));
    }

    #[test]
    fn a_row_that_never_ends_is_refused() {
        let filler = format!("{}\n", "x".repeat(60_000)).repeat(6);
        let text = format!("Mail,Name\na@x.example,\"{filler}b@x.example,B\n");
        let outcome = digest(Format::Csv, text.as_bytes()).outcome;
        assert_eq!(outcome, Err(Refused::CutOff { line: 2, what: "a quoted field does not end" }));
    }

    #[test]
    fn stray_quotes_swallow_nobody() {
        let kept = |text: &str, rows: &str| {
            let said = events(text);
            for name in ["a", "b", "c", "d"] {
                let key = format!("recipient {name}@x.example");
                assert!(said.iter().any(|event| event.contains(&key)), "{name} in {text}: {said:?}");
            }
            let faults: Vec<&str> =
                said.iter().filter(|e| e.contains(" fault ")).filter_map(|e| e.split(' ').next()).collect();
            assert_eq!(faults.join(" "), rows, "{text}: {said:?}");
        };
        kept("Name,Mail\n\"A,a@x.example\nB,b@x.example\n\"C\",c@x.example\nD,d@x.example\n", "2");
        kept(
            "Name,Mail\n\"A\",\"a@x.example\"\n\"B,\"b@x.example\"\n\"C\",\"c@x.example\"\n\"D\",\"d@x.example\"\n",
            "3",
        );
        kept(
            "Name,Mail\n\"A,\"a@x.example\"\n\"B\",\"b@x.example\"\n\"C\",\"c@x.example\"\n\"D\",\"d@x.example\"\n",
            "2",
        );
        kept("Name,Mail\n\"A,a@x.example\nB,b@x.example\nC\",c@x.example\nD,d@x.example\n", "2");
        kept("Mail,Name\na@x.example,\"A\nb@x.example,B\nc@x.example,C\"\nd@x.example,D\n", "2");
        // Commas that nobody has quoted, and columns that are missing.
        kept("Name,Mail,Title\nA, dr,a@x.example,\nb@x.example\nC,c@x.example\nD,,,d@x.example\n", "2 2 3 5");
        kept("Name,Title,Mail\nA,a@x.example\nB,,b@x.example\nC,,c@x.example\nD,,d@x.example,,\n", "2");
        // Quotes that are right, and line breaks in them.
        kept(
            "Name,Mail\n\"A \"\"a\"\" A\",a@x.example\n\"B\nb, b\",b@x.example\nC \"c\" C,c@x.example\n\"D\" ,d@x.example\n",
            "",
        );
    }

    #[test]
    fn headers_are_told_from_entries() {
        let header = |text: &str| {
            let (header, rows) = text.split_once('\n').unwrap_or((text, ""));
            is_header(header.as_bytes(), rows.lines().map(str::as_bytes))
        };
        for text in [
            "Mail\na@x.example\nb@x.example",
            "E-Mail\na@x.example",
            "\"PrimarySmtpAddress\",\"EmailAddresses\"",
            "Name;E-Mail-Adresse\nA;a@x.example",
            "Name\tMail\nA\ta@x.example",
            "primaryEmail,aliases.0,suspended\na@x.example,,False",
            "First Name [Required],Email Address [Required]\nA,a@x.example",
        ] {
            assert!(header(text), "{text}");
        }
        for text in [
            "Connect:emailblast.example REJECT\nTo:a@x.example RELAY",
            "email: anna\nbert: b@x.example",
            "email:\tanna\nbert:\tb@x.example",
            "mail\nanna\nbert",
            "mail\nanna\na@x.example",
            "email\tOK\na@x.example\tOK\nb@x.example\tOK",
            "emailblast\na@x.example",
            "Email list of our people\na@x.example",
            "alias anna, bert\nanna",
        ] {
            assert!(!header(text), "{text}");
        }
    }

    #[test]
    fn windows_1252_rows() {
        let digest = digest(Format::Csv, b"Mail\nj\xfcrgen@x.example\n");
        assert_eq!(digest.events[0].to_string(), "2 note Windows1252");
        assert_eq!(digest.events[1].to_string(), "2 recipient jürgen@x.example");
    }
}
