//! A source's content as it is kept on disk: text, complete only with its last line.
//!
//! ```text
//! rcptmapd content 2
//! taken 1795772632
//! format postmap
//! origin /etc/postfix/relay_recipients
//! case
//! r<TAB>example.org<TAB>anna<TAB>+
//! c<TAB>example.org<TAB><TAB>-550 5.1.1 Nobody here
//! end 2 5f3a91c0
//! ```
//!
//! `origin`: the file or program that said it. `case`: those of the domains whose local parts kept their case; under another
//! setting of `case_sensitive` the names mean something else, and are not taken.
//!
//! One statement a line: kind, domain, local part, what it says. Bytes below blank, `%` and DEL are written as `%XX`. The
//! last line has the number of statements and a CRC-32 of everything before it, so a file that was cut anywhere, or
//! damaged, is known as such and not taken. It holds what the list meant, not what it said: a password file's
//! passwords are never in it.

use std::io::{self, BufRead, Write};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::map::{Builder, Content, Entry, Grant, Item, Key};
use crate::source::Format;
use crate::verdict::Reply;

const MAGIC: &str = "rcptmapd content 2";
/// Lines in front of the statements.
const HEAD_LINES: usize = 5;

/// What is known about a saved content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// When it was taken.
    pub taken: SystemTime,
    /// The format of the list that it came from.
    pub format: Format,
    /// The list vouched for its completeness with an end mark.
    pub marked: bool,
    /// The file or program that said it.
    pub origin: String,
}

/// Why a saved content is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not one of ours, or of another version.
    #[error("not a saved list of this version")]
    Magic,
    /// Names that are kept as they are written now were folded then, or the reverse.
    #[error("saved under another setting of case_sensitive")]
    Case,
    /// It has no end, or another one than it should.
    #[error("cut off or damaged")]
    End,
    /// A line makes no sense, though the checksum is right.
    #[error("line {0} makes no sense")]
    Line(usize),
}

/// Writes a content.
pub fn write(content: &Content, meta: &Meta, out: impl Write) -> io::Result<()> {
    let mut out = Summed { out, sum: crc32fast::Hasher::new() };
    let taken = meta.taken.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let marked = if meta.marked { " marked" } else { "" };
    write!(out, "{MAGIC}\ntaken {taken}\nformat {}{marked}\norigin ", meta.format)?;
    let mut text = Vec::new();
    push_escaped(meta.origin.as_bytes(), &mut text);
    text.push(b'\n');
    text.extend_from_slice(&case_line(content));
    text.push(b'\n');
    out.write_all(&text)?;
    let mut count = 0_usize;
    let mut line = Vec::new();
    let mut statement = |out: &mut Summed<_>, kind: u8, fields: [&[u8]; 2], says: &[&[u8]]| {
        count += 1;
        line.clear();
        line.push(kind);
        for field in fields {
            line.push(b'\t');
            push_escaped(field, &mut line);
        }
        line.push(b'\t');
        says.iter().for_each(|part| push_escaped(part, &mut line));
        line.push(b'\n');
        out.write_all(&line)
    };
    for listed in content.listed() {
        let (kind, domain, local) = match listed.key {
            Key::Recipient { local, domain } => (b'r', domain, local),
            Key::AnyDomain { local } => (b'u', &b""[..], local),
            Key::Detail { local, domain, required: false } => (b'd', domain, local),
            Key::Detail { local, domain, required: true } => (b'D', domain, local),
            Key::Prefix { prefix, domain } => (b'p', domain, prefix),
            Key::CatchAll { domain } => (b'c', domain, &b""[..]),
            Key::Subdomains { domain } => (b's', domain, &b""[..]),
            Key::Domain { domain } => (b'm', domain, &b""[..]),
        };
        match listed.entry {
            Entry::Accept { value } => statement(&mut out, kind, [domain, local], &[b"+", value])?,
            Entry::Follow { domain: target, value } => {
                statement(&mut out, kind, [domain, local], &[b">", target, b" ", value])?;
            }
            Entry::Unknown => statement(&mut out, kind, [domain, local], &[b"?"])?,
            Entry::Refuse(None) => statement(&mut out, kind, [domain, local], &[b"-"])?,
            Entry::Refuse(Some(reply)) => {
                statement(&mut out, kind, [domain, local], &[b"-", reply.line().as_bytes()])?;
            }
        }
    }
    for domain in content.bare_domains().filter(|name| !name.starts_with(b".")) {
        statement(&mut out, b'm', [domain, b""], &[b"+"])?;
    }
    for (key, value) in content.pairs().iter() {
        statement(&mut out, b'k', [b"", key], &[b"+", value])?;
    }
    let sum = out.sum.clone().finalize();
    writeln!(out, "end {count} {sum:08x}")?;
    out.flush()
}

/// Reads a content; nothing of it is taken unless all of it is right.
pub fn read(mut input: impl BufRead, mut builder: Builder) -> Result<(Meta, Content), Broken> {
    let mut sum = crc32fast::Hasher::new();
    let mut line = Vec::new();
    let mut head = |input: &mut dyn BufRead, sum: &mut crc32fast::Hasher| -> Result<String, Broken> {
        line.clear();
        input.read_until(b'\n', &mut line)?;
        sum.update(&line);
        let text = line.strip_suffix(b"\n").ok_or(Broken::End)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    if head(&mut input, &mut sum)? != MAGIC {
        return Err(Broken::Magic);
    }
    let lines = [(); HEAD_LINES - 1].map(|()| head(&mut input, &mut sum));
    let [taken, format, origin, case] = lines;
    let (case, meta) = (case?, meta(&taken?, &format?, &origin?).ok_or(Broken::Magic)?);
    let mut count = 0;
    let mut plain = [const { Vec::new() }; 3];
    loop {
        line.clear();
        input.read_until(b'\n', &mut line)?;
        let text = line.strip_suffix(b"\n").ok_or(Broken::End)?;
        if let Some(end) = text.strip_prefix(b"end ") {
            let expected = format!("{count} {:08x}", sum.finalize());
            let nothing_follows = input.fill_buf()?.is_empty();
            if end != expected.as_bytes() || !nothing_follows {
                return Err(Broken::End);
            }
            let content = builder.finish(|_| {});
            return if case.as_bytes() == case_line(&content) { Ok((meta, content)) } else { Err(Broken::Case) };
        }
        sum.update(&line);
        count += 1;
        statement(text, &mut plain, &mut builder).ok_or(Broken::Line(count + HEAD_LINES))?;
    }
}

/// `case` and the domains whose local parts kept their case, as they are written.
fn case_line(content: &Content) -> Vec<u8> {
    let mut line = b"case".to_vec();
    for domain in content.case_sensitive() {
        line.push(b' ');
        push_escaped(&domain, &mut line);
    }
    line
}

fn meta(taken: &str, format: &str, origin: &str) -> Option<Meta> {
    let seconds = taken.strip_prefix("taken ")?.parse().ok()?;
    let format = format.strip_prefix("format ")?;
    let (format, marked) = match format.strip_suffix(" marked") {
        Some(format) => (format, true),
        None => (format, false),
    };
    let taken = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    let mut plain = Vec::new();
    unescape(origin.strip_prefix("origin ")?.as_bytes(), &mut plain)?;
    let origin = String::from_utf8_lossy(&plain).into_owned();
    Some(Meta { taken, format: Format::from_str(format).ok()?, marked, origin })
}

/// Adds a statement. `plain` is room for its domain, its local part and what it says.
fn statement(text: &[u8], plain: &mut [Vec<u8>; 3], builder: &mut Builder) -> Option<()> {
    let mut fields = text.split(|&b| b == b'\t');
    let kind = fields.next()?;
    for field in plain.iter_mut() {
        unescape(fields.next()?, field)?;
    }
    if fields.next().is_some() {
        return None;
    }
    let [domain, local, says] = plain;
    let (&sign, value) = says.split_first()?;
    if kind == b"k" {
        builder.add_pair(local, value);
        return Some(());
    }
    let key = match kind {
        b"r" => Key::Recipient { local, domain },
        b"u" => Key::AnyDomain { local },
        b"d" => Key::Detail { local, domain, required: false },
        b"D" => Key::Detail { local, domain, required: true },
        b"p" => Key::Prefix { prefix: local, domain },
        b"c" => Key::CatchAll { domain },
        b"s" => Key::Subdomains { domain },
        b"m" => Key::Domain { domain },
        _ => return None,
    };
    let grant = match (sign, value) {
        (b'+', value) => Grant::Accept { value },
        (b'>', target) => {
            let blank = memchr::memchr(b' ', target)?;
            Grant::Follow { domain: &target[..blank], value: &target[blank + 1..] }
        }
        (b'?', b"") => Grant::Unknown,
        (b'-', b"") => Grant::Refuse(None),
        (b'-', reply) => Grant::Refuse(Some(Reply::from_str(std::str::from_utf8(reply).ok()?).ok()?)),
        _ => return None,
    };
    builder.add_folded(&Item { key, grant }).ok()
}

/// A writer that sums up what goes through it.
struct Summed<W> {
    out: W,
    sum: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn push_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte < b' ' || byte == b'%' || byte == 0x7f {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(byte);
        }
    }
}

fn unescape(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high * 16 + low) as u8);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Domains, HashKey};

    fn builder() -> Builder {
        Builder::new(HashKey::with_seeds(1, 2, 3, 4), true, Domains::new())
    }

    fn content() -> Content {
        let mut builder = builder();
        let domain = &b"example.org"[..];
        let refusal = || Grant::Refuse("550 5.7.1 Left".parse().ok());
        for (key, grant) in [
            (Key::Recipient { local: b"anna", domain }, Grant::Accept { value: b"a b\tc" }),
            (Key::Recipient { local: b"\"\\\"q\\\"\"", domain }, Grant::ACCEPT),
            (Key::Recipient { local: b"j\xfcrgen", domain }, Grant::ACCEPT),
            (Key::Recipient { local: b"leaver", domain }, refusal()),
            (Key::Recipient { local: b"gone", domain }, Grant::Refuse(None)),
            (Key::AnyDomain { local: b"office" }, Grant::ACCEPT),
            (Key::Detail { local: b"info", domain, required: false }, Grant::ACCEPT),
            (Key::Detail { local: b"", domain, required: true }, Grant::ACCEPT),
            (Key::Prefix { prefix: b"list-", domain }, refusal()),
            (Key::CatchAll { domain: b"open.example" }, Grant::ACCEPT),
            (Key::CatchAll { domain: b"new.example" }, Grant::Follow { domain: b"a.example", value: b"%1@a.example" }),
            (Key::Subdomains { domain: b"lab.example" }, Grant::ACCEPT),
            (Key::Recipient { local: b"unclear", domain }, Grant::Unknown),
            (Key::Prefix { prefix: b"", domain: b"" }, Grant::Unknown),
            (Key::CatchAll { domain: b"elsewhere.example" }, Grant::Unknown),
            (Key::Domain { domain: b"elsewhere.example" }, Grant::ACCEPT),
            (Key::Domain { domain: b"empty.example" }, Grant::ACCEPT),
        ] {
            builder.add(&Item { key, grant }).expect("a fit item");
        }
        builder.add_pair(b"connect:192.0.2.7", b"REJECT 100%");
        builder.finish(|_| {})
    }

    fn meta() -> Meta {
        let taken = UNIX_EPOCH + Duration::from_secs(1_795_772_632);
        Meta { taken, format: Format::Postmap, marked: true, origin: "/srv/a list%".to_owned() }
    }

    fn saved() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&content(), &meta(), &mut bytes).expect("memory takes it");
        bytes
    }

    fn statements(content: &Content) -> Vec<String> {
        let text = |listed: crate::map::Listed<'_>| format!("{:?} {}", listed.key, listed.entry);
        let pairs = content.pairs().iter().map(|pair| format!("{pair:?}"));
        let domains = content.domains().map(|domain| format!("{domain:?}"));
        content.listed().map(text).chain(pairs).chain(domains).collect()
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let (read_meta, read_content) = read(&saved()[..], builder()).expect("a whole file");
        assert_eq!(read_meta, meta());
        assert_eq!(statements(&read_content), statements(&content()));
    }

    #[test]
    fn the_longest_local_parts_are_read_back() {
        let (whole, marked, domain) = ([b'a'; 255], [b'a'; 254], &b"example.org"[..]);
        let mut builder = builder();
        for key in [
            Key::Recipient { local: &whole, domain },
            Key::AnyDomain { local: &whole },
            Key::Detail { local: &marked, domain, required: true },
            Key::Prefix { prefix: &marked, domain },
        ] {
            builder.add(&Item { key, grant: Grant::ACCEPT }).expect("a fit item");
        }
        let (content, mut bytes) = (builder.finish(|_| {}), Vec::new());
        write(&content, &meta(), &mut bytes).expect("memory takes it");
        let (_, read_content) = read(&bytes[..], self::builder()).expect("a whole file");
        assert_eq!(statements(&read_content), statements(&content));
    }

    #[test]
    fn domains_that_keep_their_case_are_read_back() {
        let cased = || {
            let domains = [&b"a.example"[..], b"b%41.example", b"named.example", b"unclear.example"];
            Builder::new(HashKey::with_seeds(1, 2, 3, 4), true, domains.into_iter().map(Box::from).collect())
        };
        let recipient = |local, domain| Key::Recipient { local, domain };
        let mut builder = cased();
        // The only line at its domain is unfit.
        let unfit = builder.add(&Item { key: recipient(b"a%b", b"a.example"), grant: Grant::ACCEPT });
        assert!(unfit.is_err());
        for (key, grant) in [
            (recipient(b"Anna", b"b%41.example"), Grant::ACCEPT),
            (recipient(b"Bert", b"unclear.example"), Grant::Unknown),
            (recipient(b"carla", b"c.example"), Grant::ACCEPT),
            (Key::Domain { domain: b"named.example" }, Grant::ACCEPT),
        ] {
            builder.add(&Item { key, grant }).expect("a fit item");
        }
        let (content, mut bytes) = (builder.finish(|_| {}), Vec::new());
        write(&content, &meta(), &mut bytes).expect("memory takes it");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("\ncase b%2541.example named.example unclear.example\n"), "{text}");
        let (_, read_content) = read(&bytes[..], cased()).expect("a whole file");
        assert_eq!(statements(&read_content), statements(&content));
        assert!(matches!(read(&bytes[..], self::builder()), Err(Broken::Case)));
    }

    #[test]
    fn a_file_cut_at_any_byte_is_not_taken() {
        let bytes = saved();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end], builder()).is_err(), "cut after {end} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_is_not_taken() {
        let bytes = saved();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged[..], builder()).is_err(), "byte {at} changed");
        }
        assert!(read(&[&bytes[..], b"x"].concat()[..], builder()).is_err(), "something follows the end");
    }
}
