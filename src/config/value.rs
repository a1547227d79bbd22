//! The values that a configuration file may hold, as they are written there: durations, sizes, percentages, modes,
//! domains, replies and words.
//!
//! A [`Leaf`] keeps the text and the position of a value beside what was read from it, so that whoever complains can
//! say where and what. Nothing is refused here: what is wrong with a value is kept in its leaf until the whole file
//! has been looked at, so one run tells all.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::endpoint::Endpoint;
use super::error::nearest;
use crate::verdict::Reply;

/// A value as TOML has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A text in quotes.
    Text(String),
    /// A whole number.
    Int(i64),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Spanned<Raw>>),
    /// What no key of ours takes: fractions, times, tables.
    Other,
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Text(text) => {
                f.write_str("\"")?;
                // bounded: a message is a line, and the place is told as well
                for c in text.chars().take(80) {
                    write!(f, "{}", if c == '\'' { c.to_string() } else { c.escape_debug().to_string() })?;
                }
                f.write_str(if text.chars().nth(80).is_some() { "...\"" } else { "\"" })
            }
            Raw::Int(number) => write!(f, "{number}"),
            Raw::Bool(word) => write!(f, "{word}"),
            Raw::List(items) if items.len() > 3 => f.write_str("[...]"),
            Raw::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { "" } else { ", " }, item.get_ref())?;
                }
                f.write_str("]")
            }
            Raw::Other => f.write_str("..."),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        struct RawVisitor;
        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_owned()))
            }
            fn visit_bool<E>(self, word: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(word))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
                Ok(Raw::Int(number))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
                Ok(Raw::Other)
            }
            fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
                Ok(Raw::Other)
            }
            fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
                Ok(Raw::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
                Ok(Raw::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Raw::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Raw::Other)
            }
        }
        deserializer.deserialize_any(RawVisitor)
    }
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Where the offending part stands: the value, or the item of a list.
    pub span: Range<usize>,
    /// The offending part.
    pub raw: String,
    /// What is wrong with it and what to write instead.
    pub what: String,
}

/// A value with its place, and what was read from it.
#[derive(Clone, Debug)]
pub struct Leaf<T> {
    /// Where the value stands.
    pub span: Range<usize>,
    /// The value as it is written.
    pub raw: Raw,
    /// What it means, or why it means nothing.
    pub value: Result<T, Fault>,
}

impl<'de, T: Value> Deserialize<'de> for Leaf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Leaf<T>, D::Error> {
        let raw = Spanned::<Raw>::deserialize(deserializer)?;
        Ok(Leaf { span: raw.span(), value: T::read(&raw), raw: raw.into_inner() })
    }
}

/// What can be read from a value.
pub trait Value: Sized {
    /// Reads one value.
    fn read(raw: &Spanned<Raw>) -> Result<Self, Fault>;
}

fn fault<T>(raw: &Spanned<Raw>, what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { span: raw.span(), raw: raw.get_ref().to_string(), what: what.into() })
}

/// Reads a text by `parse`; `wanted` is said of whatever is no text.
fn text<T>(raw: &Spanned<Raw>, wanted: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Fault> {
    match raw.get_ref() {
        Raw::Text(text) => parse(text).or_else(|what| fault(raw, what)),
        _ => fault(raw, wanted),
    }
}

impl Value for String {
    fn read(raw: &Spanned<Raw>) -> Result<String, Fault> {
        text(raw, "a text in quotes is needed", |s| match s.chars().find(|c| c.is_control()) {
            Some(c) => Err(format!("there is a control character in it (U+{:04X})", u32::from(c))),
            None => Ok(s.to_owned()),
        })
    }
}

impl Value for PathBuf {
    fn read(raw: &Spanned<Raw>) -> Result<PathBuf, Fault> {
        text(raw, "a path in quotes is needed", |s| match s {
            "" => Err("a path is needed".into()),
            _ if s.contains('\0') => Err("there is a NUL in it".into()),
            _ => Ok(PathBuf::from(s)),
        })
    }
}

impl Value for bool {
    fn read(raw: &Spanned<Raw>) -> Result<bool, Fault> {
        match raw.get_ref() {
            Raw::Bool(word) => Ok(*word),
            _ => fault(raw, "true or false is needed, without quotes"),
        }
    }
}

macro_rules! number {
    ($($type:ty),*) => { $(
        impl Value for $type {
            fn read(raw: &Spanned<Raw>) -> Result<$type, Fault> {
                match raw.get_ref() {
                    Raw::Int(number) => <$type>::try_from(*number).or_else(|_| {
                        fault(raw, format!("a whole number from {} to {} is needed", <$type>::MIN, <$type>::MAX))
                    }),
                    _ => fault(raw, "a whole number is needed, without quotes"),
                }
            }
        }
    )* };
}
number!(u32, i32);

/// `""` stands for none.
impl<T: Value> Value for Option<T> {
    fn read(raw: &Spanned<Raw>) -> Result<Option<T>, Fault> {
        match raw.get_ref() {
            Raw::Text(text) if text.is_empty() => Ok(None),
            _ => T::read(raw).map(Some),
        }
    }
}

/// A list; a single value stands for a list of one.
impl<T: Value> Value for Vec<T> {
    fn read(raw: &Spanned<Raw>) -> Result<Vec<T>, Fault> {
        match raw.get_ref() {
            Raw::List(items) => items.iter().map(T::read).collect(),
            Raw::Other => fault(raw, "a list is needed, as in [\"...\", \"...\"]"),
            _ => T::read(raw).map(|one| vec![one]),
        }
    }
}

/// Longest duration that is taken: sums of a clock and this can't overflow.
const MAX_DURATION: Duration = Duration::from_secs(36_500 * 86_400);

const DURATION: &str = "a duration is a whole number with s, m, h or d, as in \"90s\", \"15m\", \"2h\" or \"7d\"";

impl Value for Duration {
    fn read(raw: &Spanned<Raw>) -> Result<Duration, Fault> {
        text(raw, DURATION, |s| {
            let digits = s.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = s.split_at(digits);
            let seconds = match unit {
                "ms" => None,
                "s" => Some(1),
                "m" => Some(60),
                "h" => Some(3_600),
                "d" => Some(86_400),
                _ => return Err(DURATION.into()),
            };
            if number.is_empty() {
                return Err(DURATION.into());
            }
            let long = || "a duration may be at most \"36500d\"".to_owned();
            let number: u64 = number.parse().map_err(|_| long())?;
            let duration = match seconds {
                Some(seconds) => Duration::from_secs(number.checked_mul(seconds).ok_or_else(long)?),
                None => Duration::from_millis(number),
            };
            if duration > MAX_DURATION { Err(long()) } else { Ok(duration) }
        })
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

const SIZE: &str = "a size is a whole number of bytes, or with KiB, MiB or GiB, as in \"10500\" or \"16KiB\"";

impl Value for Size {
    fn read(raw: &Spanned<Raw>) -> Result<Size, Fault> {
        if let Raw::Int(number) = raw.get_ref() {
            return usize::try_from(*number).map(Size).or_else(|_| fault(raw, SIZE));
        }
        text(raw, SIZE, |s| {
            let digits = s.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = s.split_at(digits);
            let unit = match unit {
                "" | "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return Err(SIZE.to_owned()),
            };
            let number = number.parse::<usize>().ok().and_then(|n| n.checked_mul(unit));
            number.map(Size).ok_or_else(|| SIZE.to_owned())
        })
    }
}

/// Hundredths, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

impl Value for Percent {
    fn read(raw: &Spanned<Raw>) -> Result<Percent, Fault> {
        const PERCENT: &str = "a percentage from \"0%\" to \"100%\" is needed, as in \"20%\"";
        text(raw, PERCENT, |s| {
            let digits = s.strip_suffix('%').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
            match digits.and_then(|d| d.parse().ok()) {
                Some(number @ 0..=100) => Ok(Percent(number)),
                _ => Err(PERCENT.into()),
            }
        })
    }
}

/// The permission bits of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Value for FileMode {
    fn read(raw: &Spanned<Raw>) -> Result<FileMode, Fault> {
        const MODE: &str = "a mode is three octal digits in quotes, with or without a zero in front, as in \"0660\"";
        text(raw, MODE, |s| {
            let digits = if s.len() == 4 { s.strip_prefix('0').unwrap_or("") } else { s };
            if digits.len() != 3 || !digits.bytes().all(|b| matches!(b, b'0'..=b'7')) {
                return Err(MODE.into());
            }
            u32::from_str_radix(digits, 8).map(FileMode).map_err(|_| MODE.into())
        })
    }
}

impl Value for Endpoint {
    fn read(raw: &Spanned<Raw>) -> Result<Endpoint, Fault> {
        text(raw, "an endpoint in quotes is needed, as in \"127.0.0.1:8910\"", |s| {
            s.parse().map_err(|e: super::EndpointError| e.to_string())
        })
    }
}

impl Value for IpNet {
    fn read(raw: &Spanned<Raw>) -> Result<IpNet, Fault> {
        const NET: &str = "an address or a network is needed, as in \"192.0.2.1\", \"10.0.0.0/8\" or \"2001:db8::/32\"";
        text(raw, NET, |s| {
            let net = s.parse::<IpNet>().or_else(|_| s.parse::<IpAddr>().map(IpNet::from));
            net.map(|n| n.trunc()).map_err(|_| NET.to_owned())
        })
    }
}

impl Value for Reply {
    fn read(raw: &Spanned<Raw>) -> Result<Reply, Fault> {
        text(raw, "an SMTP reply in quotes is needed, as in \"550 5.1.1 User unknown\"", |s| {
            s.parse().map_err(|e: crate::verdict::ReplyError| e.to_string())
        })
    }
}

/// The name of a domain as it is looked up: A-label, lower case, no dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(pub String);

impl DomainName {
    /// Folds a domain as people write it.
    pub fn fold(s: &str) -> Result<DomainName, String> {
        let name = s.trim_end_matches('.');
        if let Some(rest) = s.strip_prefix('@') {
            return Err(format!("a domain is needed, without \"@\": {rest:?}"));
        }
        if let Some((_, domain)) = s.split_once('@') {
            return Err(format!("a domain is needed, not an address: {domain:?}"));
        }
        if let Some(rest) = name.strip_prefix('.').or_else(|| name.strip_prefix("*.")) {
            return Err(format!("write {rest:?} and, in the same section, subdomains = true"));
        }
        let ascii = idna::domain_to_ascii(name).map_err(|_| "this can't be a domain (IDNA)".to_owned())?;
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        };
        if ascii.len() > 253 || !ascii.split('.').all(label) || ascii.parse::<IpAddr>().is_ok() {
            return Err("a domain is made of letters, digits, \"-\" and dots, as in \"example.org\"".into());
        }
        Ok(DomainName(ascii))
    }
}

impl Value for DomainName {
    fn read(raw: &Spanned<Raw>) -> Result<DomainName, Fault> {
        text(raw, "a domain in quotes is needed, as in \"example.org\"", DomainName::fold)
    }
}

/// Reads one of a list of words; `words` are all of them.
pub(super) fn word<T: Copy>(raw: &Spanned<Raw>, words: &[(&'static str, T)]) -> Result<T, Fault> {
    let list = || {
        let all: Vec<String> = words.iter().map(|(w, _)| format!("{w:?}")).collect();
        match all.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last} is needed", rest.join(", ")),
            _ => format!("{} is needed", all.concat()),
        }
    };
    text(raw, &list(), |s| match words.iter().find(|(w, _)| *w == s) {
        Some((_, value)) => Ok(*value),
        None => Err(match nearest(s, words.iter().map(|(w, _)| *w)) {
            Some(near) => format!("{}; did you mean {near:?}?", list()),
            None => list(),
        }),
    })
}

/// An enum whose variants are written as words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All words, in the order in which people are told of them.
            pub const WORDS: &[(&'static str, $name)] = &[$(($word, $name::$variant)),*];

            /// The word in the configuration file.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl $crate::config::value::Value for $name {
            fn read(
                raw: &toml::Spanned<$crate::config::value::Raw>,
            ) -> Result<$name, $crate::config::value::Fault> {
                $crate::config::value::word(raw, $name::WORDS)
            }
        }
    };
}
pub(super) use words;

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Value>(text: &str) -> Result<T, String> {
        let raw = Spanned::new(0..0, Raw::Text(text.to_owned()));
        T::read(&raw).map_err(|f| f.what)
    }

    #[test]
    fn durations() {
        let d = |s| read::<Duration>(s).ok().map(|d| d.as_millis());
        assert_eq!(d("90s"), Some(90_000));
        assert_eq!(d("15m"), Some(900_000));
        assert_eq!(d("2h"), Some(7_200_000));
        assert_eq!(d("7d"), Some(604_800_000));
        assert_eq!(d("0s"), Some(0));
        assert_eq!(d("250ms"), Some(250));
        for bad in ["", "90", "s", "1.5h", "-1s", "1h30m", "1 h", "2H", "1w", "99999999999999999999s", "40000d"] {
            assert_eq!(d(bad), None, "{bad}");
        }
        assert_eq!(read::<Option<Duration>>(""), Ok(None));
        assert_eq!(read::<Option<Duration>>("1s"), Ok(Some(Duration::from_secs(1))));
    }

    #[test]
    fn sizes_percentages_and_modes() {
        let size = |s| read::<Size>(s).ok().map(|s| s.0);
        assert_eq!([size("10500"), size("16KiB"), size("2MiB")], [Some(10500), Some(16384), Some(2_097_152)]);
        assert_eq!([size("16K"), size("16 KiB"), size("KiB"), size("-1"), size("")], [None; 5]);
        let percent = |s| read::<Percent>(s).ok().map(|p| p.0);
        assert_eq!([percent("20%"), percent("0%"), percent("100%")], [Some(20), Some(0), Some(100)]);
        assert_eq!([percent("20"), percent("101%"), percent("%"), percent("+1%"), percent("2.5%")], [None; 5]);
        let mode = |s| read::<FileMode>(s).ok().map(|m| m.0);
        assert_eq!([mode("0660"), mode("660"), mode("000")], [Some(0o660), Some(0o660), Some(0)]);
        assert_eq!([mode("0680"), mode("4660"), mode("66"), mode("rw-rw----"), mode("00660")], [None; 5]);
    }

    #[test]
    fn domains_are_folded() {
        let domain = |s| DomainName::fold(s).ok().map(|d| d.0);
        assert_eq!(domain("Example.ORG."), Some("example.org".into()));
        assert_eq!(domain("müller.example"), Some("xn--mller-kva.example".into()));
        assert_eq!(domain("xn--mller-kva.example"), Some("xn--mller-kva.example".into()));
        assert_eq!(domain("lists_x.example"), Some("lists_x.example".into()));
        for bad in ["", ".", "a..b", "-a.b", "a b", "192.0.2.1", "[192.0.2.1]", "a@b.c", "@b.c", ".b.c", "*.b.c"] {
            assert_eq!(domain(bad), None, "{bad}");
        }
        assert_eq!(DomainName::fold(&format!("{}.org", "a".repeat(64))).ok(), None);
    }
}
