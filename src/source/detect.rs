//! Which format a list has, by its content; a file's name is a hint that breaks ties only.
//!
//! Rules stand from the most telling to the least. Where a second format fits as well it is named, and the safer of
//! the two is taken: the one that does not turn refusals or remarks into recipients.

use super::encoding::Decoder;
use super::lines::trim_end;
use super::syntax::{Shape, is_full_domain, is_network, key_and_value, shape};
use super::{Format, access, action};

/// What was found out about a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The format to read it as.
    pub format: Format,
    /// The evidence, for people: `line 3 has the tag "To:"`.
    pub why: String,
    /// Others that would fit.
    pub also: Vec<Format>,
}

/// As much of a list as is looked at.
const MAX_HEAD: usize = 64 * 1024;

/// Finds out the format of a list from its first 64 KiB; its file's name is a hint.
pub fn detect(head: &[u8], _name: &str) -> Detection {
    let sample = match Sample::new(head) {
        Ok(sample) => sample,
        Err(why) => return Detection { format: Format::Plain, why, also: Vec::new() },
    };
    RULES
        .iter()
        .find_map(|rule| rule(&sample))
        .unwrap_or_else(|| found(Format::Plain, "nothing more special fits", &[]))
}

type Rule = fn(&Sample) -> Option<Detection>;

const RULES: &[Rule] = &[access_tags, access_values, domains, postmap, addresses];

fn found(format: Format, why: impl Into<String>, also: &[Format]) -> Detection {
    Detection { format, why: why.into(), also: also.to_vec() }
}

/// The lines of the beginning that say something.
struct Sample {
    /// Number and text of lines that are neither empty nor comments; continuation lines are left out.
    lines: Vec<(usize, Vec<u8>)>,
}

impl Sample {
    fn new(head: &[u8]) -> Result<Sample, String> {
        let head = head.get(..MAX_HEAD).unwrap_or(head);
        let (mut decoder, mut text) = (Decoder::new(), Vec::new());
        let mut push = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok(())
        };
        decoder.feed(head, &mut push).and_then(|()| decoder.finish(&mut push)).map_err(|e| e.to_string())?;
        let mut lines: Vec<_> = text
            .split(|&b| b == b'\n')
            .enumerate()
            .map(|(at, line)| (at + 1, trim_end(line).to_vec()))
            .filter(|(_, line)| !matches!(line.as_slice(), [] | [b' ' | b'\t' | b'#', ..]))
            .collect();
        // A last line that the limit has cut proves nothing.
        if head.len() == MAX_HEAD && !text.ends_with(b"\n") && lines.len() > 1 {
            lines.pop();
        }
        Ok(Sample { lines })
    }

    /// The first line of which `test` holds.
    fn first(&self, test: impl Fn(&[u8]) -> bool) -> Option<(usize, String)> {
        let (number, line) = self.lines.iter().find(|(_, line)| test(line))?;
        Some((*number, String::from_utf8_lossy(line.get(..40).unwrap_or(line)).into_owned()))
    }

    /// Of how many lines in a hundred `test` holds.
    fn share(&self, test: impl Fn(&[u8]) -> bool) -> usize {
        self.lines.iter().filter(|(_, line)| test(line)).count() * 100 / self.lines.len().max(1)
    }

    /// Whether it holds of most of them: lists have remarks and errors in them, a short one more than few.
    fn most(&self, test: impl Fn(&[u8]) -> bool) -> bool {
        !self.lines.is_empty() && self.share(test) >= 65
    }
}

/// sendmail's tags (cf/README and the features that bring their own).
fn is_access_tag(tag: &[u8]) -> bool {
    const TAGS: [&str; 16] = [
        "to",
        "from",
        "connect",
        "spam",
        "clientrate",
        "clientconn",
        "greetpause",
        "tls_clt",
        "tls_srv",
        "tls_rcpt",
        "tls_clt_features",
        "tls_srv_features",
        "try_tls",
        "srv_features",
        "clt_features",
        "authinfo",
    ];
    TAGS.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(tag))
}

fn key(line: &[u8]) -> &[u8] {
    key_and_value(line).map_or(line, |(key, _)| key)
}

fn value(line: &[u8]) -> &[u8] {
    key_and_value(line).map_or(b"", |(_, value)| value)
}

fn has_tag(line: &[u8]) -> bool {
    let (key, value) = (key(line), value(line));
    !value.is_empty() && access::tag(key).is_some_and(|(tag, name)| !name.is_empty() && is_access_tag(tag))
}

/// An address, `@domain` or `user@`.
fn has_at(text: &[u8]) -> bool {
    matches!(shape(text), Ok(Shape::Address { .. } | Shape::At { .. } | Shape::AtDot { .. } | Shape::User { .. }))
}

fn access_tags(sample: &Sample) -> Option<Detection> {
    let (number, text) = sample.first(has_tag)?;
    Some(found(Format::Access, format!("line {number} has a tag of sendmail's access file: {text}"), &[]))
}

/// Values that only an access file has. Read as a list of recipients, its refusals would become recipients.
fn access_values(sample: &Sample) -> Option<Detection> {
    let refusal = |line: &[u8]| has_at(key(line)) && action::is_refusal(value(line));
    let word = |line: &[u8]| action::access(value(line)).is_ok();
    let relay = |line: &[u8]| word(line) && !value(line).eq_ignore_ascii_case(b"OK");
    let (number, text) = sample.first(relay)?;
    if !sample.most(word) {
        return None;
    }
    match sample.first(refusal) {
        Some((number, text)) => {
            Some(found(Format::Access, format!("line {number} refuses: {text}"), &[Format::Postmap]))
        }
        None => Some(found(
            Format::Access,
            format!("line {number} has a value of an access file: {text}"),
            &[Format::Postmap],
        )),
    }
}

fn domains(sample: &Sample) -> Option<Detection> {
    let bare = |line: &[u8]| {
        let name = key(line.split(|&b| b == b'#').next().unwrap_or(line));
        is_full_domain(name.strip_prefix(b".").unwrap_or(name)) || is_network(name)
    };
    sample.most(bare).then(|| found(Format::Domains, "every line begins with a domain name, and there is no @", &[]))
}

fn postmap(sample: &Sample) -> Option<Detection> {
    let declares = |key: &[u8]| is_full_domain(key.strip_prefix(b".").unwrap_or(key));
    let entry = |line: &[u8]| (has_at(key(line)) || declares(key(line))) && !value(line).is_empty();
    let attribute = |line: &[u8]| {
        ["state=", "until=", "text="].iter().any(|a| value(line).windows(a.len()).any(|w| w == a.as_bytes()))
    };
    if let Some((number, text)) = sample.first(|line| entry(line) && attribute(line)) {
        return Some(found(Format::Plain, format!("line {number} has an attribute: {text}"), &[Format::Postmap]));
    }
    sample.most(entry).then(|| found(Format::Postmap, "every line is an address and a value", &[Format::Plain]))
}

fn addresses(sample: &Sample) -> Option<Detection> {
    let entry = |line: &[u8]| has_at(key(line));
    sample.most(entry).then(|| found(Format::Plain, "an address a line", &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(text: &str) -> (Format, Vec<Format>) {
        let detection = detect(text.as_bytes(), "list");
        (detection.format, detection.also)
    }

    #[test]
    fn by_content() {
        assert_eq!(
            detected("a@example.org OK\nb@example.org x\n@example.net OK\n"),
            (Format::Postmap, vec![Format::Plain])
        );
        assert_eq!(detected("a@example.org\n\n# c\nb@example.org\n"), (Format::Plain, vec![]));
        assert_eq!(detected("a@example.org OK\nb@example.org state=full\n"), (Format::Plain, vec![Format::Postmap]));
        assert_eq!(detected("example.org\nexample.net # x\n.example.com\n"), (Format::Domains, vec![]));
        assert_eq!(detected("From:x.example OK\na@example.org RELAY\n"), (Format::Access, vec![]));
        assert_eq!(detected("a@example.org OK\nb@example.org REJECT\n"), (Format::Access, vec![Format::Postmap]));
        assert_eq!(detected(""), (Format::Plain, vec![]));
    }

    #[test]
    fn a_binary_file_is_told_as_such() {
        let detection = detect(b"PK\x03\x04 and so on", "list.xlsx");
        assert_eq!(detection.format, Format::Plain);
        assert!(detection.why.contains("Excel"), "{}", detection.why);
    }
}
