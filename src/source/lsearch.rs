//! Exim lsearch files (exim spec 9.3): key, an optional colon, data; also as wildlsearch and nwildlsearch use them, and
//! cPanel's `/etc/valiases/DOMAIN`.
//!
//! `*` is the default of `lsearch*`, `*@domain` that of `lsearch*@`. With a domain attached, bare keys are local
//! parts; without, those that are domain names declare domains. Regular expressions (`^...`) are faults.

use memchr::memchr3;

use super::aliases::{name_key, redirection};
use super::lines::{Join, trim_start};
use super::syntax::{Shape, is_full_domain, is_prose, quoted_end, shape};
use super::unclear::{EVERYBODY, unknown, unknown_by_pattern};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink};

#[derive(Debug)]
pub(super) struct Lsearch {
    domain: Vec<u8>,
}

impl Reader for Lsearch {
    const JOIN: Join = Join::Blank;

    fn new(options: &Options) -> Lsearch {
        Lsearch { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        match entry(line, &self.domain) {
            Ok(item) => sink.item(number, item),
            Err(fault) => {
                sink.fault(number, line, fault);
                match (line, self.domain.as_slice()) {
                    ([b'^', ..], domain) => {
                        // A blank or a colon ends the key.
                        let pattern = line.split(|b| b": \t".contains(b)).next().unwrap_or(line);
                        match pattern.contains(&b'@') || domain.is_empty() {
                            true => unknown_by_pattern(number, pattern, sink),
                            false => unknown(number, Key::CatchAll { domain }, sink),
                        }
                    }
                    (b"*" | [b'*', b':' | b' ' | b'\t', ..], _) => unknown(number, EVERYBODY, sink),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn entry<'a>(line: &'a [u8], attach: &'a [u8]) -> Result<Item<'a>, Fault> {
    let start = if line.starts_with(b"\"") { quoted_end(line)? } else { 0 };
    let rest = line.get(start..).unwrap_or_default();
    let end = memchr3(b':', b' ', b'\t', rest).unwrap_or(rest.len());
    let (key, rest) = line.split_at_checked(start + end).unwrap_or((line, b""));
    let rest = trim_start(rest);
    let (colon, data) = match rest {
        [b':', data @ ..] => (true, trim_start(data)),
        data => (false, data),
    };
    let grant = if data.is_empty() { Grant::ACCEPT } else { redirection(data) };
    let key = match (key, attach) {
        ([b'^', ..], _) => return Err(Fault::Regexp),
        (b"*", []) => return Err(Fault::NoDomain),
        (b"*", domain) => Key::CatchAll { domain },
        ([b'*', name @ ..], _) if name.starts_with(b".") && is_full_domain(name.get(1..).unwrap_or_default()) => {
            Key::Domain { domain: name }
        }
        ([b'*', b'@', domain @ ..], _) if is_full_domain(domain) => Key::CatchAll { domain },
        _ => match shape(key)? {
            Shape::Bare { .. } if !colon && is_prose(data) => return Err(Fault::Prose),
            Shape::Bare { word } if attach.is_empty() && is_full_domain(word) => Key::Domain { domain: word },
            Shape::At { domain } => Key::CatchAll { domain },
            _ => name_key(key, attach)?,
        },
    };
    Ok(Item { key, grant })
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Options, digest_chunks};

    fn events(domain: &str, text: &str) -> Vec<String> {
        let options = Options { domain: domain.into(), ..Options::default() };
        let digest = digest_chunks(Format::Lsearch, &options, [text.as_bytes()]);
        digest.events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_with_and_without_colon_and_data() {
        assert_eq!(
            events(
                "",
                "anna@example.org: anna\nbert@example.org bert\n\"john doe\"@example.org: x\ncarla@example.org\n\
                 *@example.net: all\nexample.com: y\n*.example.com: z\n^.*@x: n\netc...\nand so on\n*: w\ndora: d\n"
            ),
            [
                "1 recipient anna@example.org = anna",
                "2 recipient bert@example.org = bert",
                "3 recipient \"john doe\"@example.org = x",
                "4 recipient carla@example.org",
                "5 catch-all @example.net = all",
                "6 domain example.com = y",
                "7 domain .example.com = z",
                "8 fault Regexp | ^.*@x: n",
                "8 prefix *@ ?",
                "9 fault Address | etc...",
                "10 fault Prose | and so on",
                "11 fault NoDomain | *: w",
                "11 prefix *@ ?",
                "12 fault NoDomain | dora: d",
                "12 any-domain dora@ ?",
            ]
        );
    }

    #[test]
    fn valiases_of_a_domain() {
        assert_eq!(
            events(
                "example.org",
                "anna: anna@mbx.example.net\njohn.doe: jd\n*: :fail: No such person\ngone: \":fail: x\"\n"
            ),
            [
                "1 recipient anna@example.org = anna@mbx.example.net",
                "2 recipient john.doe@example.org = jd",
                "3 catch-all @example.org ! 550 5.1.1 No such person",
                "4 recipient gone@example.org ! 550 5.1.1 x",
            ]
        );
    }
}
