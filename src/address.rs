//! Mail addresses as MTAs ask for them and lists write them: split, unquote, fold.
//!
//! One way for loading and asking, so that what was listed is what is found (DESIGN, section 4, step 0). Addresses are
//! bytes: a key from sendmail or Exim need not be UTF-8. A folded domain and a folded local part have types of their
//! own, so that a raw key can't be looked up.
//!
//! Specification: RFC 5321 section 4.1.2 (grammar), 4.5.3.1 (sizes), appendix C (source routes); RFC 6531 (8-bit local
//! parts); RFC 5890 (A-labels).

use std::borrow::Cow;

use idna::uts46::{DnsLength, Hyphens};
use unicode_normalization::UnicodeNormalization;

/// Longest folded local part, in bytes. RFC 5321 says 64; VERP and BATV addresses in the wild are longer, and the
/// recipient table stores lengths in one byte.
pub const MAX_LOCAL_PART: usize = 255;
/// Longest folded domain, in bytes (RFC 5321, 4.5.3.1.2).
pub const MAX_DOMAIN: usize = 255;

/// A folded domain: lower-case A-labels, no trailing dot, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Domain<'a>(&'a [u8]);

/// A folded local part: without quotes, NFC, lower case unless the domain keeps case; never empty, no control bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalPart<'a>(&'a [u8]);

impl<'a> Domain<'a> {
    /// A domain whose bytes came out of [`fold_domain`] before.
    pub(crate) fn as_folded(bytes: &'a [u8]) -> Domain<'a> {
        Domain(bytes)
    }

    /// A domain that is folded already, because it is one that was: copied to `out` (cleared first).
    pub(crate) fn folded(domain: &[u8], out: &'a mut Vec<u8>) -> Domain<'a> {
        out.clear();
        out.extend_from_slice(domain);
        Domain(out)
    }

    /// The folded bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The domains above this one, nearest first: of `a.b.example` `b.example` and `example`.
    pub fn parents(self) -> impl Iterator<Item = Domain<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let dot = memchr::memchr(b'.', rest)?;
            rest = rest.get(dot + 1..)?;
            (!rest.is_empty()).then_some(Domain(rest))
        })
    }
}

impl<'a> LocalPart<'a> {
    /// The folded bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Every way to cut a detail off, longest base first: (base, detail). The base is never empty.
    pub fn subaddresses(self, delimiters: &'a [u8]) -> impl Iterator<Item = (LocalPart<'a>, &'a [u8])> {
        let bytes = self.0;
        let mut end = bytes.len();
        std::iter::from_fn(move || {
            let bases = bytes.get(1..end)?;
            let at = 1 + match *delimiters {
                [] => None,
                [one] => bases.iter().rposition(|&byte| byte == one),
                [one, two] => memchr::memrchr2(one, two, bases),
                _ => bases.iter().rposition(|byte| delimiters.contains(byte)),
            }?;
            end = at;
            Some((LocalPart(&bytes[..at]), &bytes[at + 1..]))
        })
    }

    /// What a BATV tag was put in front of: `prvs=0123456789=anna`, `btv1==0123456789==anna`.
    ///
    /// BATV draft (draft-levine-smtp-batv-01) and the form that Barracuda's products write. Before the draft settled
    /// some wrote the tag after the address (`prvs=anna=0123456789`): that is taken as well.
    pub fn without_batv(self) -> Option<LocalPart<'a>> {
        let is_tag = |tag: &[u8]| (4..=16).contains(&tag.len()) && tag.iter().all(u8::is_ascii_hexdigit);
        if let Some(rest) = strip_prefix_any_case(self.0, b"prvs=") {
            let first = memchr::memchr(b'=', rest)?;
            if is_tag(&rest[..first]) {
                return LocalPart::whole(&rest[first + 1..]);
            }
            let last = memchr::memrchr(b'=', rest)?;
            return if is_tag(&rest[last + 1..]) { LocalPart::whole(&rest[..last]) } else { None };
        }
        let rest = strip_prefix_any_case(self.0, b"btv1==")?;
        let end = memchr::memmem::find(rest, b"==")?;
        if is_tag(&rest[..end]) { LocalPart::whole(&rest[end + 2..]) } else { None }
    }

    /// Whether this is a well-formed SRS address: `SRS0=HASH=TT=host=user`, `SRS1=HASH=host==...` (any separator of
    /// `=+-` after the tag).
    pub fn is_srs(self) -> bool {
        let parts = |rest: &[u8]| rest.split(|&b| b == b'=').filter(|part| !part.is_empty()).count();
        for (tag, least) in [(b"srs0", 4), (b"srs1", 3)] {
            if let Some([b'=' | b'+' | b'-', rest @ ..]) = strip_prefix_any_case(self.0, tag) {
                return parts(rest) >= least;
            }
        }
        false
    }

    fn whole(bytes: &'a [u8]) -> Option<LocalPart<'a>> {
        (!bytes.is_empty()).then_some(LocalPart(bytes))
    }
}

fn strip_prefix_any_case<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Why a key can't be an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// No `@`: and it is not the bare `postmaster` of RFC 5321, 4.5.1.
    #[error("no domain")]
    NoDomain,
    /// Nothing before the `@`.
    #[error("no local part")]
    NoLocalPart,
    /// The domain is empty, over 255 bytes, or no internationalised domain name.
    #[error("not a domain name")]
    Domain,
}

/// Why a local part can't be one of ours, whatever the lists say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OddLocalPart {
    /// `user%other.example@ours`: a request to relay (RFC 5321, appendix F.2... "percent hack").
    #[error("percent hack")]
    PercentHack,
    /// `other.example!user@ours`: a UUCP path.
    #[error("bang path")]
    BangPath,
    /// A control byte, or nothing at all.
    #[error("control bytes")]
    Control,
    /// A blank or mark that nobody sees, left by a word processor or a web page.
    #[error("an invisible character")]
    Invisible,
    /// Nothing between the quotes.
    #[error("empty local part")]
    Empty,
    /// Over [`MAX_LOCAL_PART`] bytes.
    #[error("local part of more than 255 bytes")]
    TooLong,
}

/// An address cut at its `@`, not yet folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// As written, with its quotes.
    pub local: &'a [u8],
    /// As written.
    pub domain: &'a [u8],
}

/// Cuts `<>` and a source route, and splits at the last `@`.
pub fn split(key: &[u8]) -> Result<Raw<'_>, NoAddress> {
    let key = match key {
        [b'<', inner @ .., b'>'] => inner,
        _ => key,
    };
    let key = without_source_route(key);
    let at = memchr::memrchr(b'@', key).ok_or(NoAddress::NoDomain)?;
    let (local, domain) = (&key[..at], &key[at + 1..]);
    if local.is_empty() {
        return Err(NoAddress::NoLocalPart);
    }
    Ok(Raw { local, domain })
}

/// Bytes of an address that are folded at once.
const AT_ONCE: usize = 16;

/// Folds a key that needs no care, as nearly all are: every byte means itself in every protocol, and there are enough of
/// them to be taken sixteen at a time. Local part and domain as they were written, in lower case.
///
/// `None`: look closely, with [`split`], [`fold_domain`] and [`fold_local_part`]. The domain is not judged: it is one if it
/// is known as one.
#[inline]
pub fn fold_plain<'b>(key: &[u8], out: &'b mut Vec<u8>) -> Option<(LocalPart<'b>, &'b [u8])> {
    // A source route begins with an `@`.
    if key.len() > MAX_LOCAL_PART || key.first() == Some(&b'@') {
        return None;
    }
    out.clear();
    out.extend_from_slice(key);
    let mut odd = false;
    for chunk in out.as_chunks_mut::<AT_ONCE>().0 {
        odd |= fold_chunk(chunk);
    }
    // What is left of it, with some that is folded already: that does no harm.
    odd |= fold_chunk(out.last_chunk_mut::<AT_ONCE>()?);
    // Domains are short: a call to find their beginning costs more than looking.
    let at = out.iter().rposition(|&byte| byte == b'@').filter(|_| !odd)?;
    let (local, domain) = out.split_at(at);
    Some((LocalPart(local), &domain[1..]))
}

/// Folds bytes without a branch; whether there is one that must be looked at closely: a blank, a quote, a control, a byte
/// of other letters, or one of `%()<=>;,\`.
#[inline]
fn fold_chunk(chunk: &mut [u8; AT_ONCE]) -> bool {
    let mut odd = 0;
    for byte in chunk {
        let b = *byte;
        odd |= u8::from(b.wrapping_sub(b'#') > b'~' - b'#')
            | u8::from(b == b'%')
            | u8::from(b.wrapping_sub(b'(') < 2)
            | u8::from(b == b',')
            | u8::from(b.wrapping_sub(b';') < 4)
            | u8::from(b == b'\\');
        *byte = b | u8::from(b.wrapping_sub(b'A') < 26) << 5;
    }
    odd != 0
}

/// Whether the key is the bare `postmaster`, which every SMTP server must accept (RFC 5321, 4.5.1).
pub fn is_bare_postmaster(key: &[u8]) -> bool {
    let key = match key {
        [b'<', inner @ .., b'>'] => inner,
        _ => key,
    };
    key.eq_ignore_ascii_case(b"postmaster")
}

/// `@a,@b:user@c` is for `user@c` (RFC 5321, appendix C).
fn without_source_route(key: &[u8]) -> &[u8] {
    if key.first() != Some(&b'@') {
        return key;
    }
    match memchr::memchr(b':', key) {
        Some(colon) => &key[colon + 1..],
        None => key,
    }
}

/// Folds a domain into `out` (cleared first): A-labels, lower case, no trailing dot.
///
/// ASCII is not validated any further: lists and MTAs have underscores, A-labels of older tables and literals.
pub fn fold_domain<'b>(domain: &[u8], out: &'b mut Vec<u8>) -> Result<Domain<'b>, NoAddress> {
    out.clear();
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    if domain.is_ascii() {
        return lower_domain(domain, out);
    }
    let ascii = idna::uts46::Uts46::new()
        .to_ascii(domain, idna::AsciiDenyList::URL, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| NoAddress::Domain)?;
    lower_domain(ascii.strip_suffix('.').unwrap_or(&ascii).as_bytes(), out)
}

/// Labels are not empty: `.example.org` is how lists write "everything below", and no domain.
fn lower_domain<'b>(domain: &[u8], out: &'b mut Vec<u8>) -> Result<Domain<'b>, NoAddress> {
    let (mut last, mut fits) = (b'.', true);
    out.extend(domain.iter().map(|&byte| {
        let lower = IN_DOMAIN[usize::from(byte)];
        fits &= lower != 0 && !(lower == b'.' && last == b'.');
        last = lower;
        lower
    }));
    if fits && last != b'.' && out.len() <= MAX_DOMAIN { Ok(Domain(out)) } else { Err(NoAddress::Domain) }
}

/// What the bytes of a domain are folded to; 0 for what no domain has.
const IN_DOMAIN: [u8; 256] = fold_table(b" ", true);
/// What the bytes of a local part are folded to; 0 for what no local part has, and for bytes of other letters.
const IN_LOCAL_PART: [u8; 256] = fold_table(b"%!", true);
/// The same for a local part that keeps its case.
const IN_LOCAL_PART_AS_WRITTEN: [u8; 256] = fold_table(b"%!", false);

const fn fold_table(without: &[u8], lower: bool) -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = b' ';
    while byte < 0x7f {
        table[byte as usize] = if lower { byte.to_ascii_lowercase() } else { byte };
        byte += 1;
    }
    let mut at = 0;
    while at < without.len() {
        table[without[at] as usize] = 0;
        at += 1;
    }
    table
}

/// Folds a local part into `out` (cleared first): quotes and backslashes off, NFC, lower case unless `keep_case`.
///
/// A local part that is not UTF-8 keeps its bytes, and only its ASCII letters are folded.
pub fn fold_local_part<'b>(local: &[u8], keep_case: bool, out: &'b mut Vec<u8>) -> Result<LocalPart<'b>, OddLocalPart> {
    let local = unquote(local);
    // One pass for what nearly every local part is; the others are looked at closely.
    let table = if keep_case { &IN_LOCAL_PART_AS_WRITTEN } else { &IN_LOCAL_PART };
    out.clear();
    out.extend_from_slice(&local);
    let mut odd = out.is_empty() || out.len() > MAX_LOCAL_PART;
    for byte in out.iter_mut() {
        *byte = table[usize::from(*byte)];
        odd |= *byte == 0;
    }
    if !odd {
        return Ok(LocalPart(out));
    }
    fold_odd_local_part(&local, keep_case, out)
}

#[cold]
fn fold_odd_local_part<'b>(local: &[u8], keep_case: bool, out: &'b mut Vec<u8>) -> Result<LocalPart<'b>, OddLocalPart> {
    out.clear();
    match std::str::from_utf8(local) {
        Ok(text) if keep_case => push_chars(text.nfc(), out),
        Ok(text) => push_chars(text.chars().flat_map(char::to_lowercase).nfc(), out),
        Err(_) if keep_case => out.extend_from_slice(local),
        Err(_) => out.extend(local.iter().map(u8::to_ascii_lowercase)),
    }
    if out.is_empty() {
        return Err(OddLocalPart::Empty);
    }
    if out.len() > MAX_LOCAL_PART {
        return Err(OddLocalPart::TooLong);
    }
    if out.iter().any(|&b| b < b' ' || b == 0x7f) {
        return Err(OddLocalPart::Control);
    }
    if std::str::from_utf8(out).is_ok_and(|text| text.contains(is_invisible)) {
        return Err(OddLocalPart::Invisible);
    }
    if out.contains(&b'%') {
        return Err(OddLocalPart::PercentHack);
    }
    if out.contains(&b'!') {
        return Err(OddLocalPart::BangPath);
    }
    Ok(LocalPart(out))
}

/// No-break and zero-width blanks, marks of direction and of byte order. The joiners are letters' business.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{a0}' | '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}' | '\u{feff}'
    )
}

fn push_chars(chars: impl Iterator<Item = char>, out: &mut Vec<u8>) {
    let mut utf8 = [0; 4];
    for char in chars {
        out.extend_from_slice(char.encode_utf8(&mut utf8).as_bytes());
    }
}

/// `"a b"` is `a b`, `"anna"` is `anna`, `"a\"b"` is `a"b`: sendmail and Exim ask without the quotes, Postfix with them.
fn unquote(local: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = local else { return Cow::Borrowed(local) };
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            _ => plain.push(byte),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fold(key: &str) -> Result<String, String> {
        fold_bytes(key.as_bytes(), false).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn fold_bytes(key: &[u8], keep_case: bool) -> Result<Vec<u8>, String> {
        let raw = split(key).map_err(|e| e.to_string())?;
        let (mut local, mut domain) = (Vec::new(), Vec::new());
        let domain = fold_domain(raw.domain, &mut domain).map_err(|e| e.to_string())?;
        let local = fold_local_part(raw.local, keep_case, &mut local).map_err(|e| e.to_string())?;
        Ok([local.bytes(), b"@", domain.bytes()].concat())
    }

    #[test]
    fn addresses_are_folded() {
        for (key, folded) in [
            ("Anna@Example.ORG", "anna@example.org"),
            ("<anna@example.org>", "anna@example.org"),
            ("anna@example.org.", "anna@example.org"),
            ("<@a.example,@b.example:anna@example.org>", "anna@example.org"),
            ("\"anna\"@example.org", "anna@example.org"),
            ("\"A b\"@example.org", "a b@example.org"),
            ("a b@example.org", "a b@example.org"),
            (r#""a\"b"@example.org"#, "a\"b@example.org"),
            ("\"a@b\"@example.org", "a@b@example.org"),
            ("J\u{dc}RGEN@example.org", "j\u{fc}rgen@example.org"),
            ("Ju\u{308}rgen@example.org", "j\u{fc}rgen@example.org"),
            ("anna@B\u{dc}CHER.example", "anna@xn--bcher-kva.example"),
            ("anna@bu\u{308}cher.example", "anna@xn--bcher-kva.example"),
            ("anna@XN--Bcher-KVA.example", "anna@xn--bcher-kva.example"),
            ("anna@[192.0.2.1]", "anna@[192.0.2.1]"),
        ] {
            assert_eq!(fold(key), Ok(folded.to_owned()), "{key}");
        }
        assert_eq!(fold_bytes(b"J\xdcrgen@example.org", false), Ok(b"j\xdcrgen@example.org".to_vec()));
        assert_eq!(fold_bytes(b"Anna@Example.org", true), Ok(b"Anna@example.org".to_vec()));
    }

    #[test]
    fn only_plain_keys_are_folded_at_once() {
        let fold = |key: &str| {
            let mut out = Vec::new();
            let (local, domain) = fold_plain(key.as_bytes(), &mut out)?;
            Some(String::from_utf8([local.bytes(), b" ", domain].concat()).expect("text"))
        };
        assert_eq!(fold("Anna+X@Example.ORG").as_deref(), Some("anna+x example.org"));
        assert_eq!(fold("a{|}~#$&'*-/?^_`Z@example.org").as_deref(), Some("a{|}~#$&'*-/?^_`z example.org"));
        for odd in " !\"%(),;<=>\\\u{7f}\u{e4}\t\0".chars() {
            for key in [format!("{odd}anna@example.org"), format!("anna.anna.anna.anna{odd}@example.org")] {
                assert_eq!(fold(&key), None, "{key:?}");
            }
        }
        for none in ["anna@a.example", "@example.org.example", "@a.example:anna@b.example", "anna.anna.anna.anna", ""] {
            assert_eq!(fold(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for (key, why) in [
            ("anna", "no domain"),
            ("", "no domain"),
            ("*", "no domain"),
            ("@example.org", "no local part"),
            ("<@example.org>", "no local part"),
            ("anna@", "not a domain name"),
            ("anna@.", "not a domain name"),
            ("anna@..", "not a domain name"),
            ("anna@.example.org", "not a domain name"),
            ("anna@example..org", "not a domain name"),
            ("anna@example.org..", "not a domain name"),
            ("anna@\u{ad}", "not a domain name"),
            ("anna@b\u{fc}cher\u{ff20}example", "not a domain name"),
            ("anna@exa mple.org", "not a domain name"),
            ("anna@example.org ", "not a domain name"),
            ("\"\"@example.org", "empty local part"),
            ("anna%x.example@example.org", "percent hack"),
            ("x.example!anna@example.org", "bang path"),
            ("an\tna@example.org", "control bytes"),
            ("an\0na@example.org", "control bytes"),
            ("\u{a0}anna@example.org", "an invisible character"),
            ("anna\u{200b}@example.org", "an invisible character"),
        ] {
            assert_eq!(fold(key), Err(why.to_owned()), "{key:?}");
        }
        assert_eq!(fold(&format!("{}@example.org", "a".repeat(256))), Err("local part of more than 255 bytes".into()));
        assert_eq!(fold(&format!("a@{}.org", "b".repeat(255))), Err("not a domain name".into()));
    }

    #[test]
    fn details_are_cut_longest_base_first() {
        let cut = |local: &'static str, delimiters: &'static str| -> Vec<(String, String)> {
            LocalPart(local.as_bytes())
                .subaddresses(delimiters.as_bytes())
                .map(|(base, detail)| {
                    (String::from_utf8_lossy(base.bytes()).into(), String::from_utf8_lossy(detail).into())
                })
                .collect()
        };
        assert_eq!(cut("a+b-c", "+-"), [("a+b".into(), "c".into()), ("a".into(), "b-c".into())]);
        assert_eq!(cut("a+", "+"), [("a".into(), "".into())]);
        assert_eq!(cut("+a", "+"), []);
        assert_eq!(cut("a+b", ""), []);
    }

    #[test]
    fn tags_are_taken_off() {
        let plain = |local: &'static str| {
            LocalPart(local.as_bytes()).without_batv().map(|l| String::from_utf8_lossy(l.bytes()).into_owned())
        };
        assert_eq!(plain("prvs=0417ab=anna"), Some("anna".into()));
        assert_eq!(plain("prvs=0123456789=a=b+c"), Some("a=b+c".into()));
        assert_eq!(plain("prvs=anna=0123456789"), Some("anna".into()));
        assert_eq!(plain("btv1==0123456789==anna"), Some("anna".into()));
        for none in ["anna", "prvs=anna", "prvs=", "prvs==anna", "prvs=0123=", "btv1==0123456789", "btv1==xyz==anna"] {
            assert_eq!(plain(none), None, "{none}");
        }
        assert!(LocalPart(b"srs0=hhh=tt=example.org=anna").is_srs());
        assert!(LocalPart(b"SRS0+hhh=tt=example.org=anna").is_srs());
        assert!(LocalPart(b"srs1=hhh=example.org==hhh=tt=example.net=anna").is_srs());
        for none in ["srs0", "srs0=", "srs0=a=b", "srs0anna", "srs2=a=b=c=d", "anna"] {
            assert!(!LocalPart(none.as_bytes()).is_srs(), "{none}");
        }
    }

    #[test]
    fn the_bare_postmaster() {
        assert!(is_bare_postmaster(b"Postmaster") && is_bare_postmaster(b"<postmaster>"));
        assert!(!is_bare_postmaster(b"postmaster@example.org") && !is_bare_postmaster(b"root"));
    }

    proptest! {
        /// The quick way and the close look agree wherever the quick one is taken.
        #[test]
        fn plain_keys_are_folded_alike(local in "[ -~]{1,30}", domain in "[a-zA-Z0-9.-]{1,20}", any in "\\PC{0,20}") {
            let mut quick = Vec::new();
            for key in [format!("{local}@{domain}"), any] {
                let Some((local, domain)) = fold_plain(key.as_bytes(), &mut quick) else { continue };
                let folded = [local.bytes(), b"@", domain].concat();
                let raw = split(key.as_bytes()).expect("plain, so an address");
                prop_assert_eq!(raw.domain.to_ascii_lowercase(), domain);
                // A dot at the end is cut by the close look alone; no domain is known with one.
                if let Ok(closely) = fold_bytes(key.as_bytes(), false)
                    && !domain.ends_with(b".")
                {
                    prop_assert_eq!(closely, folded);
                }
            }
        }

        #[test]
        fn folding_is_idempotent(local in "\\PC{1,30}", domain in "[a-zA-Z\u{e4}\u{dc}\u{130}\u{df}.-]{1,20}") {
            if let Ok(once) = fold(&format!("{local}@{domain}")) {
                // A folded local part carries no quotes any more; asking with the very same bytes must find it, unless
                // the bytes by themselves are a quoted string or a route again.
                prop_assume!(!once.starts_with(['"', '@', '<']));
                prop_assert_eq!(fold(&once), Ok(once.clone()));
            }
        }

        #[test]
        fn any_bytes_are_folded_without_panic(key in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = fold_bytes(&key, false);
            let _ = fold_bytes(&key, true);
        }
    }
}
