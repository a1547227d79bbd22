//! Whom a line is about that is not understood: nobody is to be absent for it (DESIGN, "unknown is never answered as absent").
//!
//! Addresses are kept wherever they stand in the line, words without a domain only where a format has its keys. They are
//! said to be unknown, which counts only where nothing else is said: a remark that mentions somebody does no harm.

use memchr::{memchr, memrchr};

use super::lines::is_blank;
use super::syntax::{Shape, is_full_domain, is_local, quoted_end, shape, wildcard};
use super::{Fault, Grant, Item, Key, Note, Sink, Skip};

/// Passes on what a reader finds, and for every fault those whom its line may be about.
pub(super) struct Careful<'a, S>(pub(super) &'a mut S);

impl<S: Sink> Sink for Careful<'_, S> {
    #[inline]
    fn item(&mut self, line: u32, item: Item<'_>) {
        self.0.item(line, item);
    }

    #[inline]
    fn pair(&mut self, line: u32, key: &[u8], value: &[u8]) {
        self.0.pair(line, key, value);
    }

    #[cold]
    fn fault(&mut self, line: u32, text: &[u8], fault: Fault) {
        self.0.fault(line, text, fault);
        for key in bare(text, fault).into_iter().chain(addresses(text)) {
            unknown(line, key, self.0);
        }
    }

    fn skip(&mut self, line: u32, reason: Skip) {
        self.0.skip(line, reason);
    }

    fn note(&mut self, line: u32, note: Note) {
        self.0.note(line, note);
    }
}

/// Passes on what the beginning of an over-long line says, but neither the value, which is cut, nor faults, which the cut
/// may have made.
pub(super) struct Cut<'a, S>(pub(super) &'a mut S);

impl<S: Sink> Sink for Cut<'_, S> {
    fn item(&mut self, line: u32, item: Item<'_>) {
        let grant = match item.grant {
            Grant::Accept { .. } => Grant::ACCEPT,
            grant => grant,
        };
        self.0.item(line, Item { grant, ..item });
    }

    fn pair(&mut self, _: u32, _: &[u8], _: &[u8]) {}

    fn fault(&mut self, _: u32, _: &[u8], _: Fault) {}

    fn skip(&mut self, line: u32, reason: Skip) {
        self.0.skip(line, reason);
    }

    fn note(&mut self, line: u32, note: Note) {
        self.0.note(line, note);
    }
}

/// Everybody whom nothing else is said about.
pub(super) const EVERYBODY: Key<'static> = Key::Prefix { prefix: b"", domain: b"" };

/// Says that the list can't tell about a key.
pub(super) fn unknown<S: Sink>(line: u32, key: Key<'_>, sink: &mut S) {
    sink.item(line, Item { key, grant: Grant::Unknown });
}

/// The same of whom a regular expression may stand for: everybody at the domain that it ends in, else everybody.
pub(super) fn unknown_by_pattern<S: Sink>(line: u32, pattern: &[u8], sink: &mut S) {
    let at = memrchr(b'@', pattern).and_then(|at| pattern.get(at + 1..)).unwrap_or_default();
    let at = at.strip_suffix(b"/").unwrap_or(at);
    // A dot without a backslash stands for any byte, and is meant as a dot.
    let domain: Vec<u8> = at.iter().copied().filter(|b| !b"\\$".contains(b)).collect();
    unknown(line, if is_full_domain(&domain) { Key::CatchAll { domain: &domain } } else { EVERYBODY }, sink);
}

/// The addresses and wildcards in a text; whatever is written around them.
pub fn addresses(text: &[u8]) -> impl Iterator<Item = Key<'_>> {
    let around = |b: &u8| b.is_ascii_control() || is_blank(*b) || b",;:<>()|\"'".contains(b);
    text.split(around).enumerate().filter_map(|(at, word)| match shape(visible(word)).ok()? {
        Shape::Address { local, domain } if is_full_domain(domain) => Some(wildcard(local, domain)),
        Shape::At { domain } if at == 0 && is_full_domain(domain) => Some(Key::CatchAll { domain }),
        Shape::AtDot { domain } if at == 0 && is_full_domain(domain) => Some(Key::Subdomains { domain }),
        Shape::User { local } if at == 0 => Some(Key::AnyDomain { local }),
        _ => None,
    })
}

/// A word without the blanks around it that nobody sees.
fn visible(mut word: &[u8]) -> &[u8] {
    const INVISIBLE: [&[u8]; 4] = [b"\xc2\xa0", b"\xe2\x80\x8b", b"\xef\xbb\xbf", b"\xe2\x80\x8e"];
    while let Some(rest) = INVISIBLE.iter().find_map(|i| word.strip_prefix(*i).or_else(|| word.strip_suffix(*i))) {
        word = rest;
    }
    word
}

/// A local part without a domain at the beginning of a line that a format could take for an entry but for its rest.
fn bare(text: &[u8], fault: Fault) -> Option<Key<'_>> {
    let is_key = match fault {
        Fault::NoDomain | Fault::NoValue | Fault::Value | Fault::Attribute | Fault::TooLong => true,
        Fault::Fields => !text.iter().any(|&b| is_blank(b)),
        _ => false,
    };
    let word = match text {
        [b'"', ..] => text.get(..quoted_end(text).ok()?)?,
        _ => text.split(|&b| is_blank(b)).next()?,
    };
    let local = match word {
        [b'"', ..] => word,
        // `To:anna@example.org` is an address.
        _ if memchr(b'@', word).is_some() => return None,
        _ => word.split(|&b| b == b':').next()?,
    };
    let follows = text.get(word.len()) != Some(&b'@');
    (is_key && follows && local != b"*" && is_local(local)).then_some(Key::AnyDomain { local })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Collector;

    fn kept(text: &str, fault: Fault) -> Vec<String> {
        bare(text.as_bytes(), fault).into_iter().chain(addresses(text.as_bytes())).map(|key| key.to_string()).collect()
    }

    #[test]
    fn addresses_are_found_in_any_dress() {
        for text in [
            "anna@x.example state=ful",
            "Anna Adler <anna@x.example>",
            "smtp:anna@x.example",
            "To:anna@x.example maybe",
            "anna@x.example,",
            "anna@x.example:",
            "'anna@x.example'",
            "\"anna@x.example\"",
            "anna@x.example\r",
            "\u{feff}anna@x.example\u{a0}\u{200b}",
        ] {
            assert_eq!(kept(text, Fault::Address), ["recipient anna@x.example"], "{text}");
        }
        assert_eq!(
            kept("a@x.example; b@x.example (list-*@x.example)", Fault::Address),
            ["recipient a@x.example", "recipient b@x.example", "prefix list-*@x.example"]
        );
        assert_eq!(kept("@x.example", Fault::NoValue), ["catch-all @x.example"]);
        assert_eq!(kept("@.x.example", Fault::NoValue), ["subdomains @.x.example"]);
        assert_eq!(kept("office@", Fault::NoValue), ["any-domain office@"]);
        for nobody in ["see <a@b>", "\"john doe\"@x.example z", "at @x.example", "a@@x.example", "and so on", "etc..."]
        {
            assert_eq!(kept(nobody, Fault::Prose), [""; 0], "{nobody}");
        }
    }

    #[test]
    fn a_pattern_is_about_its_domain_or_all() {
        let about = |pattern: &str| {
            let mut sink = Collector::default();
            unknown_by_pattern(1, pattern.as_bytes(), &mut sink);
            sink.events.iter().map(ToString::to_string).collect::<String>()
        };
        for pattern in [r"/^.*@lists\.example\.org$/", r"^.*@lists\.example\.org$", r"/.*@lists.example.org/"] {
            assert_eq!(about(pattern), "1 catch-all @lists.example.org ?", "{pattern}");
        }
        for pattern in [r"/^anna/", r"/^.*@(a|b)\.example$/", r"/@.*\.example\.org$/", "^a@b"] {
            assert_eq!(about(pattern), "1 prefix *@ ?", "{pattern}");
        }
    }

    #[test]
    fn a_word_is_kept_where_a_key_stands() {
        for (text, fault) in [
            ("anna", Fault::NoDomain),
            ("anna:", Fault::NoValue),
            ("anna: ", Fault::NoValue),
            ("anna state=ful", Fault::Attribute),
            ("anna", Fault::Fields),
            ("anna:maildrop", Fault::NoValue),
        ] {
            assert_eq!(kept(text, fault), ["any-domain anna@"], "{text}");
        }
        assert_eq!(kept("To:anna@x.example", Fault::NoValue), ["recipient anna@x.example"]);
        assert_eq!(kept("\"odd name\":", Fault::NoValue), ["any-domain \"odd name\"@"]);
        for (text, fault) in
            [("and so on", Fault::Fields), ("anna", Fault::Prose), ("etc...", Fault::NoValue), ("*", Fault::NoDomain)]
        {
            assert_eq!(kept(text, fault), [""; 0], "{text}");
        }
    }
}
