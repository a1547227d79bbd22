//! Random directories, and addresses that have a good chance of hitting them.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rcptmapd::map::{Mode, Policy, Verify};
use unicode_normalization::UnicodeNormalization;

use super::naive::{Directory, Group, Line, List, Says, Subject};

/// Few names, so that lists and addresses meet; each in a spelling of its own.
const NAMES: &[&str] = &[
    "anna",
    "Anna",
    "ANNA",
    "anna",
    "info",
    "Info",
    "list-a",
    "list-",
    "li",
    "office",
    "postmaster",
    "PostMaster",
    "abuse",
    "a b",
    "\"a b\"",
    "\"anna\"",
    "a\"b",
    r#""a\"b""#,
    r#""an\na""#,
    "a@b",
    "\"a@b\"",
    "j\u{fc}rgen",
    "J\u{dc}RGEN",
    "Ju\u{308}rgen",
    "\u{130}x",
    "x+y",
    "x-y",
    "x",
    "+x",
    "x+",
    "x+y+z",
    "x-y+z",
    "x+-",
    "anna+",
    "anna+x",
    "Anna+X",
    "prvs=0417ab=anna",
    "srs0=h=t=d.example=u",
    "anna%b",
    "b!anna",
    "\"\"",
];

const DOMAINS: &[&str] = &[
    "long-enough-a.example",
    "A.example",
    "long-enough-a.example",
    "long-enough-a.example.",
    "b.example",
    "d.long-enough-a.example",
    "x.d.long-enough-a.example",
    "y.x.d.long-enough-a.example",
    "x.b.example",
    "b\u{fc}cher.example",
    "BU\u{308}CHER.example",
    "xn--bcher-kva.example",
    "example",
    "c.test",
    "[192.0.2.1]",
];

const ODD_DOMAINS: &[&str] = &[
    "",
    ".",
    "long-enough-a..example",
    ".long-enough-a.example",
    "a example",
    "long-enough-a.example..",
    "\u{ad}",
    "a\u{ff20}b",
    "\u{3002}",
];

/// Folded names for domain groups.
const OURS: &[&str] = &[
    "long-enough-a.example",
    "b.example",
    "d.long-enough-a.example",
    "x.d.long-enough-a.example",
    "xn--bcher-kva.example",
    "example",
    "[192.0.2.1]",
];

const ALWAYS: &[&[&str]] = &[&[], &["abuse"], &["abuse", "x"]];

const REPLIES: &[&str] = &["550 5.1.1 No", "550 5.7.1 Left the company", "452 4.2.2 Full", "451 4.3.0 Later"];

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        30 => select(NAMES).prop_map(|name| name.as_bytes().to_vec()),
        1 => Just(b"j\xfcrg".to_vec()),
        1 => Just(b"J\xfcRG".to_vec()),
        1 => (250_usize..258).prop_map(|length| vec![b'l'; length]),
        1 => vec(any::<u8>(), 0..4),
    ]
}

fn domain() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![60 => select(DOMAINS), 1 => select(ODD_DOMAINS)].prop_map(|domain| domain.as_bytes().to_vec())
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        12 => (name(), domain()).prop_map(|(local, domain)| Subject::Recipient(local, domain)),
        2 => name().prop_map(Subject::AnyDomain),
        4 => (prop_oneof![3 => name(), 1 => Just(Vec::new())], domain(), any::<bool>())
            .prop_map(|(local, domain, required)| Subject::Detail { local, domain, required }),
        3 => (name(), 0_usize..6, prop_oneof![3 => domain(), 1 => Just(Vec::new())]).prop_map(|(mut prefix, length, domain)| {
            prefix.truncate(length);
            Subject::Prefix(prefix, domain)
        }),
        1 => domain().prop_map(Subject::CatchAll),
        2 => domain().prop_map(Subject::Subdomains),
        1 => domain().prop_map(Subject::Domain),
    ]
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        4 => select(&["", "", "OK", "mail:[h]"][..]).prop_map(|value| Says::Yes(value.as_bytes().to_vec())),
        2 => proptest::option::of(select(REPLIES)).prop_map(|reply| Says::No(reply.map(|r| r.parse().expect("a reply")))),
    ]
}

pub fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        20 => (subject(), says()).prop_map(|(subject, says)| Line { subject, says }),
        3 => rename(),
    ]
}

/// A catch-all that only renames the domain.
fn rename() -> impl Strategy<Value = Line> {
    (select(DOMAINS), select(DOMAINS)).prop_map(|(from, to)| Line {
        subject: Subject::CatchAll(from.as_bytes().to_vec()),
        says: Says::As(to.as_bytes().to_vec(), Vec::new()),
    })
}

/// Lines of a list: about somebody of its own, or about one of the few whom all lists know.
fn list(shared: Vec<Subject>) -> impl Strategy<Value = List> {
    let about = prop_oneof![2 => subject(), 1 => select(shared)];
    let line = (about, says()).prop_map(|(subject, says)| Line { subject, says });
    let line = prop_oneof![12 => line, 1 => rename()];
    let lines = prop_oneof![6 => vec(line, 0..12).prop_map(Some), 1 => Just(None)];
    (0..3_i32, lines).prop_map(|(priority, lines)| List { priority, lines })
}

fn policy() -> impl Strategy<Value = Policy> {
    let main = proptest::option::weighted(0.3, select(OURS));
    let delimiters = select(&["+", "+", "-+", "+-", ""][..]);
    let mode = prop_oneof![8 => Just(Mode::Enforce), 1 => Just(Mode::Warn), 1 => Just(Mode::Off)];
    let always = select(ALWAYS);
    let rare = || prop::bool::weighted(0.25);
    let verify = prop_oneof![
        2 => Just(Verify::List),
        1 => Just(Verify::Probe),
        1 => Just(Verify::ListThenProbe),
        1 => Just(Verify::Both),
    ];
    let backend = proptest::option::of(select(&["hub", "store"][..]));
    (any::<bool>(), main, delimiters, mode, always, rare(), any::<bool>(), rare(), (verify, backend)).prop_map(
        |(subdomains, main, delimiters, mode, always, case_sensitive, batv, srs, (verify, backend))| Policy {
            verify,
            backend: backend.map(Into::into),
            subdomains,
            same_as: main.map(|main| main.as_bytes().into()),
            mode,
            delimiters: delimiters.as_bytes().into(),
            case_sensitive,
            always: always.iter().map(|name| name.as_bytes().into()).collect(),
            batv,
            srs,
            ..Policy::default()
        },
    )
}

fn group() -> impl Strategy<Value = Group> {
    (vec(select(OURS), 1..3), policy())
        .prop_map(|(names, policy)| Group { names: names.into_iter().map(str::to_owned).collect(), policy })
}

fn directory() -> impl Strategy<Value = Directory> {
    let groups = prop_oneof![3 => vec(group(), 1..5), 1 => Just(Vec::new())];
    // Implied domains have no main domain: there is nobody who could have said so.
    let implied = policy().prop_map(|policy| Policy { same_as: None, case_sensitive: false, ..policy });
    let lists = vec(subject(), 1..4).prop_flat_map(|shared| vec(list(shared), 1..4));
    (lists, groups, prop::bool::weighted(0.9), implied).prop_map(|(lists, mut groups, groups_complete, implied)| {
        // A name belongs to one group only: the configuration refuses anything else.
        let mut taken = std::collections::BTreeSet::new();
        for group in &mut groups {
            group.names.retain(|name| taken.insert(name.clone()));
        }
        groups.retain(|group| !group.names.is_empty());
        Directory { lists, groups, groups_complete, implied }
    })
}

/// What is asked for; readable where a test fails.
#[derive(Clone)]
pub struct Address(pub Vec<u8>);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// How an address is asked for, other than it is listed.
#[derive(Clone, Debug)]
struct Twist {
    upper: Option<Index>,
    detail: Option<&'static str>,
    tag: Option<&'static str>,
    quote: u8,
    decomposed: bool,
    below: Option<&'static str>,
    dot: bool,
    around: Option<(&'static str, &'static str)>,
    odd: Option<&'static str>,
}

fn twist() -> impl Strategy<Value = Twist> {
    use proptest::option::weighted;
    let detail = select(&["+x", "+", "-y", "+x+y", "-y+x", "+x-", "++"][..]);
    let tag = select(
        &["prvs=0417ab=", "PRVS=0123456789=", "btv1==0123456789==", "prvs=xyz=", "SRS0=h=t=d=", "srs1+h=t="][..],
    );
    let around = select(&[("<", ">"), ("<@r.example,@s.example:", ">"), ("@r.example:", ""), ("<", "")][..]);
    (
        weighted(0.2, any::<Index>()),
        weighted(0.3, detail),
        weighted(0.1, tag),
        0_u8..12,
        prop::bool::weighted(0.1),
        weighted(0.15, select(&["x.", "d.", "y.x.", "q."][..])),
        prop::bool::weighted(0.1),
        weighted(0.1, around),
        weighted(0.05, select(&["%b.example", "\t", "\0", "\x7f", "!x"][..])),
    )
        .prop_map(|(upper, detail, tag, quote, decomposed, below, dot, around, odd)| Twist {
            upper,
            detail,
            tag,
            quote,
            decomposed,
            below,
            dot,
            around,
            odd,
        })
}

/// Where an address comes from: a line of the directory, or any name at any domain.
fn address() -> impl Strategy<Value = (Index, bool, Vec<u8>, Vec<u8>, Twist)> {
    (any::<Index>(), prop::bool::weighted(0.6), name(), domain(), twist())
}

fn twisted(
    directory: &Directory,
    (pick, listed, name, domain, twist): (Index, bool, Vec<u8>, Vec<u8>, Twist),
) -> Vec<u8> {
    let lines: Vec<&Line> = directory.lists.iter().flat_map(|list| list.lines.iter().flatten()).collect();
    let (mut local, mut domain) = match lines.is_empty() {
        false if listed => match &pick.get(&lines).subject {
            Subject::Recipient(local, domain) | Subject::Detail { local, domain, .. } => {
                (local.clone(), domain.clone())
            }
            Subject::AnyDomain(local) => (local.clone(), domain),
            Subject::Prefix(prefix, at) => {
                ([&prefix[..], b"q"].concat(), if at.is_empty() { domain } else { at.clone() })
            }
            Subject::CatchAll(domain) | Subject::Subdomains(domain) | Subject::Domain(domain) => (name, domain.clone()),
        },
        _ => (name, domain),
    };
    if let Some(tag) = twist.tag {
        local.splice(0..0, tag.bytes());
    }
    local.extend(twist.detail.unwrap_or_default().bytes());
    local.extend(twist.odd.unwrap_or_default().bytes());
    if let Some(upper) = twist.upper
        && !local.is_empty()
    {
        let from = upper.index(local.len());
        local[from..].make_ascii_uppercase();
        domain.make_ascii_uppercase();
    }
    if twist.decomposed {
        let nfd = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(text) => text.nfd().collect::<String>().into_bytes(),
            Err(not) => not.into_bytes(),
        };
        (local, domain) = (nfd(local), nfd(domain));
    }
    match twist.quote {
        0 => local = [b"\"", &local[..], b"\""].concat(),
        1 => {
            let escaped = local.iter().flat_map(|&byte| [b'\\', byte]);
            local = std::iter::once(b'"').chain(escaped).chain(*b"\"").collect();
        }
        _ => {}
    }
    if let Some(below) = twist.below {
        domain.splice(0..0, below.bytes());
    }
    if twist.dot {
        domain.push(b'.');
    }
    let (before, after) = twist.around.unwrap_or_default();
    [before.as_bytes(), &local, b"@", &domain, after.as_bytes()].concat()
}

/// A directory and addresses to ask it for.
pub fn case() -> impl Strategy<Value = (Directory, Vec<Address>)> {
    (directory(), vec(address(), 1..32)).prop_map(|(directory, addresses)| {
        let mut addresses: Vec<_> = addresses.into_iter().map(|address| twisted(&directory, address)).collect();
        addresses.extend([b"Postmaster".to_vec(), b"anna".to_vec(), b"postmaster@long-enough-a.example".to_vec()]);
        (directory, addresses.into_iter().map(Address).collect())
    })
}
