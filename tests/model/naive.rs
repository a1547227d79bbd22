//! The look-up once more, as plainly as it can be said: every list is a `BTreeMap` of folded keys, and an address is a
//! list of questions that are put one after the other until one has an answer.
//!
//! Nothing here is taken from `address` or `map`, except the words in which a test describes its directory. Where this
//! file and the snapshot disagree, one of them is wrong about DESIGN, section 4.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rcptmapd::map::{Mode, Policy, Step, Verify};
use rcptmapd::verdict::{Reply, Verdict};
use unicode_normalization::UnicodeNormalization;

/// What a line is about, in the bytes of the list.
#[derive(Clone, PartialEq, Eq)]
pub enum Subject {
    Recipient(Vec<u8>, Vec<u8>),
    AnyDomain(Vec<u8>),
    Detail { local: Vec<u8>, domain: Vec<u8>, required: bool },
    Prefix(Vec<u8>, Vec<u8>),
    CatchAll(Vec<u8>),
    Subdomains(Vec<u8>),
    Domain(Vec<u8>),
}

/// What a line says.
#[derive(Clone, PartialEq, Eq)]
pub enum Says {
    Yes(Vec<u8>),
    /// Of a catch-all: who exists at this domain.
    As(Vec<u8>, Vec<u8>),
    No(Option<Reply>),
}

#[derive(Clone, Debug)]
pub struct Line {
    pub subject: Subject,
    pub says: Says,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        match self {
            Subject::Recipient(local, domain) => write!(f, "{}@{}", text(local), text(domain)),
            Subject::AnyDomain(local) => write!(f, "{}@", text(local)),
            Subject::Detail { local, domain, required } => {
                write!(f, "{}+{}@{}", text(local), if *required { "+" } else { "*" }, text(domain))
            }
            Subject::Prefix(prefix, domain) => write!(f, "{}*@{}", text(prefix), text(domain)),
            Subject::CatchAll(domain) => write!(f, "@{}", text(domain)),
            Subject::Subdomains(domain) => write!(f, "@.{}", text(domain)),
            Subject::Domain(domain) => write!(f, "(domain) {}", text(domain)),
        }
    }
}

impl fmt::Debug for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Says::Yes(value) => write!(f, "yes \"{}\"", value.escape_ascii()),
            Says::As(domain, _) => write!(f, "who is at {}", domain.escape_ascii()),
            Says::No(Some(reply)) => write!(f, "no \"{reply}\""),
            Says::No(None) => f.write_str("no"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct List {
    pub priority: i32,
    /// `None`: never read.
    pub lines: Option<Vec<Line>>,
}

#[derive(Clone, Debug)]
pub struct Group {
    /// Folded.
    pub names: Vec<String>,
    pub policy: Policy,
}

/// Everything that a snapshot is made of.
#[derive(Clone, Debug)]
pub struct Directory {
    pub lists: Vec<List>,
    pub groups: Vec<Group>,
    pub groups_complete: bool,
    pub implied: Policy,
}

impl Directory {
    /// Folded names of the domains that keep the case of local parts.
    pub fn case_sensitive(&self) -> BTreeSet<String> {
        let sensitive = self.groups.iter().filter(|group| group.policy.case_sensitive);
        sensitive.flat_map(|group| group.names.iter().cloned()).collect()
    }
}

/// What the model says about an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub verdict: Verdict,
    pub enforced: Verdict,
    pub step: Step,
    /// The line that decided, and the number of its list.
    pub decided_by: Option<(Says, usize)>,
    /// What holds for the domain that was asked for.
    pub policy: Option<Policy>,
    pub asked: Asked,
}

/// Whom a backend is asked about: local part, domain, and the name of the backend.
pub type Asked = Option<(Vec<u8>, String, Option<String>)>;

/// A domain at which names are looked for, what is said of it, and what a recipient's domain is called there.
#[derive(Clone, Debug)]
struct Place {
    domain: String,
    policy: Policy,
    called: String,
}

/// The domains whose names a domain of ours has, in their order, and what holds for it.
struct Way {
    places: Vec<Place>,
    policy: Policy,
    /// It leads to a main domain that is none of ours.
    unresolved: bool,
}

enum Ruling {
    Exists(Option<(Says, usize)>),
    /// `own`: by the very address that was asked for.
    Refused {
        says: Says,
        list: usize,
        priority: i32,
        own: bool,
    },
    NotListed,
}

struct Ruled {
    step: Step,
    ruling: Ruling,
    asked: Asked,
    mode: Mode,
    unresolved: bool,
}

/// A folded key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Name(Vec<u8>, String),
    Anywhere(Vec<u8>),
    Detail(Vec<u8>, String, bool),
    Prefix(Vec<u8>, String),
    Everybody(String),
    Below(String),
}

/// A local part in both spellings.
#[derive(Clone, Debug)]
struct Spelling {
    kept: Vec<u8>,
    lower: Vec<u8>,
}

enum Question {
    /// Listed as it is?
    Name(Spelling),
    /// One of the names that exist always?
    Always(Spelling),
    Srs(Spelling),
    Detail(Spelling, bool),
    Anywhere(Spelling),
    Prefix(usize),
    Everybody,
    Below,
}

struct ReadList {
    number: usize,
    priority: i32,
    rows: BTreeMap<Row, Says>,
}

/// The naive directory.
pub struct Naive {
    /// Those that were read, best first.
    lists: Vec<ReadList>,
    missing: Option<i32>,
    /// Declared or implied domains, with their policies.
    ours: BTreeMap<String, Policy>,
    declared: bool,
    implied: Policy,
    /// Domains below which everything is ours, themselves not.
    below: BTreeSet<String>,
    /// Domains that some list names.
    named: BTreeSet<String>,
    all_known: bool,
    keeps_case: BTreeSet<String>,
}

impl Naive {
    /// The directory, and for each line of each list whether it could be taken.
    pub fn new(directory: &Directory) -> (Naive, Vec<Vec<bool>>) {
        let keeps_case = directory.case_sensitive();
        let (mut named, mut below, mut taken) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut lists = Vec::new();
        for (number, list) in directory.lists.iter().enumerate() {
            let mut rows = BTreeMap::new();
            let mut fit = Vec::new();
            for line in list.lines.iter().flatten() {
                fit.push(match row(&line.subject, &keeps_case) {
                    Some(Ok(row)) => {
                        match &row {
                            Row::Name(_, domain) | Row::Detail(_, domain, _) | Row::Everybody(domain) => {
                                named.insert(domain.clone());
                            }
                            Row::Prefix(_, domain) if !domain.is_empty() => {
                                named.insert(domain.clone());
                            }
                            Row::Below(domain) => {
                                below.insert(domain.clone());
                            }
                            Row::Prefix(..) | Row::Anywhere(_) => {}
                        }
                        rows.entry(row).or_insert_with(|| says(&line.says));
                        true
                    }
                    Some(Err(domain)) => {
                        named.insert(domain);
                        true
                    }
                    None => false,
                });
            }
            taken.push(fit);
            if list.lines.is_some() {
                lists.push(ReadList { number, priority: list.priority, rows });
            }
        }
        lists.sort_by_key(|list| -list.priority);
        let missing = directory.lists.iter().filter(|l| l.lines.is_none()).map(|l| l.priority).max();
        let declared = !directory.groups.is_empty();
        let mut ours = BTreeMap::new();
        for group in &directory.groups {
            for name in &group.names {
                ours.entry(name.clone()).or_insert_with(|| group.policy.clone());
            }
        }
        if !declared {
            for name in &named {
                ours.insert(name.clone(), directory.implied.clone());
            }
        }
        let all_known = directory.groups_complete && (declared || missing.is_none());
        let below = if declared { BTreeSet::new() } else { below };
        let implied = directory.implied.clone();
        (Naive { lists, missing, ours, declared, implied, below, named, all_known, keeps_case }, taken)
    }

    pub fn ask(&self, key: &[u8]) -> Answer {
        let plain =
            |verdict, step| Answer { verdict, enforced: verdict, step, decided_by: None, policy: None, asked: None };
        let Some((local, domain)) = cut(key) else {
            let bare = key.strip_prefix(b"<").and_then(|key| key.strip_suffix(b">")).unwrap_or(key);
            return match bare.to_ascii_lowercase().as_slice() {
                b"postmaster" => plain(Verdict::Exists, Step::Always),
                _ => plain(Verdict::Foreign, Step::Parse),
            };
        };
        if local.is_empty() {
            return plain(Verdict::Foreign, Step::Parse);
        }
        let Some(domain) = folded_domain(domain) else { return plain(Verdict::Foreign, Step::Parse) };
        let Some(way) = self.way(&domain) else {
            return plain(if self.all_known { Verdict::Foreign } else { Verdict::Unknown }, Step::Domain);
        };
        let finish = |enforced: Verdict, step, decided_by, mode: Mode, asked| Answer {
            verdict: if mode == Mode::Enforce { enforced } else { Verdict::Exists },
            enforced,
            step,
            decided_by,
            policy: Some(way.policy.clone()),
            asked: if mode == Mode::Off { None } else { asked },
        };
        let Some(local) = folded_local(local, self.keeps_case_on(&way)) else {
            return finish(Verdict::Absent, Step::Parse, None, way.policy.mode, None);
        };
        let ruled = self.rule(&domain, &way, &local, 0);
        // A main domain that is not known is like a list that was never read.
        let missing = self.missing.or(ruled.unresolved.then_some(i32::MIN));
        let (enforced, decided_by) = match ruled.ruling {
            Ruling::Exists(hit) => (Verdict::Exists, hit),
            Ruling::Refused { says, list, priority, own } => {
                // What was never read may name somebody in whose place a wildcard refuses, or outrank it.
                let certain = missing.is_none_or(|missing| own && missing <= priority);
                let for_now = matches!(&says, Says::No(Some(reply)) if reply.code() < 500);
                let verdict = if certain && !for_now { Verdict::Absent } else { Verdict::Unknown };
                (verdict, Some((says, list)))
            }
            Ruling::NotListed => (if missing.is_some() { Verdict::Unknown } else { Verdict::Absent }, None),
        };
        finish(enforced, ruled.step, decided_by, ruled.mode, ruled.asked)
    }

    /// Whether the case is looked at anywhere on the way; a catch-all may lead to where it counts.
    fn keeps_case_on(&self, way: &Way) -> bool {
        let counts = |place: &Place| self.keeps_case.contains(&place.domain);
        let leads_on = |place: &Place| self.said(&Row::Everybody(place.domain.clone())).is_some();
        let anybody_leads = self.lists.iter().any(|list| list.rows.values().any(|says| matches!(says, Says::As(..))));
        way.places.iter().any(counts) || anybody_leads && !self.keeps_case.is_empty() && way.places.iter().any(leads_on)
    }

    /// What is said about a local part at a domain of ours.
    fn rule(&self, domain: &str, way: &Way, local: &Spelling, followed: usize) -> Ruled {
        let (questions, last) = self.questions(local, &way.policy);
        let ruled =
            |step, ruling, asked| Ruled { step, ruling, asked, mode: way.policy.mode, unresolved: way.unresolved };
        for (number, (step, question)) in questions.iter().enumerate() {
            match question {
                Question::Srs(name) if is_srs(&name.lower) => return ruled(*step, Ruling::Exists(None), None),
                Question::Always(name) => {
                    let always = way.policy.always.iter().any(|always| **always == *name.lower);
                    if always || name.lower == b"postmaster" {
                        return ruled(Step::Always, Ruling::Exists(None), None);
                    }
                }
                Question::Srs(_) => {}
                _ => {
                    let Some((says, list, at)) = self.answer(question, &way.places, domain, &last) else { continue };
                    let name = if number == 0 { local } else { &last };
                    let listed = || self.last_word(way, name, Some(&at));
                    match &says {
                        Says::Yes(_) => {
                            let asked = listed();
                            return ruled(*step, Ruling::Exists(Some((says, list.number))), asked);
                        }
                        Says::As(target, _) => {
                            let target = &text(target);
                            let there = self.way(target).filter(|_| followed < 8);
                            let Some(there) = there else {
                                let asked = listed();
                                return ruled(*step, Ruling::Exists(Some((says, list.number))), asked);
                            };
                            let mut found = self.rule(target, &there, &last, followed + 1);
                            found.mode = found.mode.max(way.policy.mode);
                            found.unresolved |= way.unresolved;
                            found.step = *step;
                            match &mut found.ruling {
                                Ruling::Exists(hit) => {
                                    found.asked = found.asked.or_else(listed);
                                    *hit = Some((says, list.number));
                                }
                                Ruling::Refused { own, .. } => *own = false,
                                Ruling::NotListed => {
                                    found.asked = found.asked.or_else(|| self.last_word(way, name, None));
                                    found.step = Step::Verify;
                                }
                            }
                            return found;
                        }
                        Says::No(_) if matches!(question, Question::Name(name) if name.lower == b"postmaster") => {}
                        Says::No(_) => {
                            let own = number == 0 && at == domain;
                            let (list, priority) = (list.number, list.priority);
                            return ruled(*step, Ruling::Refused { says, list, priority, own }, None);
                        }
                    }
                }
            }
        }
        let asked = self.last_word(way, &last, None);
        ruled(Step::Verify, Ruling::NotListed, asked)
    }

    /// Whom a backend is asked about: of who is listed at a domain, or not at all.
    fn last_word(&self, way: &Way, name: &Spelling, listed_at: Option<&str>) -> Asked {
        let until = match listed_at {
            None => way.places.len(),
            Some(at) => way.places.iter().position(|place| place.domain == at).unwrap_or(0) + 1,
        };
        let asks = |place: &&Place| match place.policy.verify {
            Verify::List => false,
            Verify::Probe | Verify::ListThenProbe => listed_at.is_none(),
            Verify::Both => listed_at.is_some(),
        };
        let place = way.places[..until].iter().rfind(asks)?;
        let local = if place.policy.case_sensitive { &name.kept } else { &name.lower };
        let backend = place.policy.backend.as_deref().map(str::to_owned);
        Some((local.clone(), place.called.clone(), backend))
    }

    /// All questions in their order, and the local part without its tag.
    fn questions(&self, local: &Spelling, policy: &Policy) -> (Vec<(Step, Question)>, Spelling) {
        let mut all =
            vec![(Step::Exact, Question::Name(local.clone())), (Step::Always, Question::Always(local.clone()))];
        if policy.srs {
            all.push((Step::Unwrap, Question::Srs(local.clone())));
        }
        let mut local = local.clone();
        if policy.batv
            && let (Some(kept), Some(lower)) = (without_batv(&local.kept), without_batv(&local.lower))
        {
            local = Spelling { kept, lower };
            all.push((Step::Exact, Question::Name(local.clone())));
            all.push((Step::Always, Question::Always(local.clone())));
        }
        let cuts = cuts(&local, &policy.delimiters);
        all.push((Step::Detail, Question::Detail(local.clone(), false)));
        for (base, detail) in &cuts {
            if !detail.is_empty() {
                all.push((Step::Detail, Question::Detail(base.clone(), true)));
            }
            all.push((Step::Detail, Question::Detail(base.clone(), false)));
            all.push((Step::Detail, Question::Name(base.clone())));
            all.push((Step::Always, Question::Always(base.clone())));
        }
        all.push((Step::AnyDomain, Question::Anywhere(local.clone())));
        all.extend(cuts.iter().map(|(base, _)| (Step::AnyDomain, Question::Anywhere(base.clone()))));
        all.extend((0..=255).rev().map(|length| (Step::Prefix, Question::Prefix(length))));
        let nobody = || Spelling { kept: Vec::new(), lower: Vec::new() };
        if cuts.iter().any(|(_, detail)| !detail.is_empty()) {
            all.push((Step::CatchAll, Question::Detail(nobody(), true)));
        }
        all.push((Step::CatchAll, Question::Detail(nobody(), false)));
        all.push((Step::CatchAll, Question::Everybody));
        all.push((Step::Subdomains, Question::Below));
        (all, local)
    }

    /// The answer of the first domain of the chain that has one; what is said about all domains comes after them.
    fn answer(
        &self,
        question: &Question,
        places: &[Place],
        domain: &str,
        local: &Spelling,
    ) -> Option<(Says, &ReadList, String)> {
        if let Question::Below = question {
            // What lies above the domain, and then above those that its recipients have, too.
            let names = std::iter::once(domain).chain(places.iter().map(|place| &*place.called));
            let above = names.flat_map(|name| up(name).skip(1));
            return above.map(|above| Row::Below(above.into())).find_map(|row| self.said(&row));
        }
        if let Question::Anywhere(name) = question {
            return self.said(&Row::Anywhere(name.lower.clone()));
        }
        let spelled = |name: &Spelling, at: &String| {
            if self.keeps_case.contains(at) { name.kept.clone() } else { name.lower.clone() }
        };
        let here = |at: &String| match question {
            Question::Name(name) => Some(Row::Name(spelled(name, at), at.clone())),
            Question::Detail(base, required) => Some(Row::Detail(spelled(base, at), at.clone(), *required)),
            Question::Prefix(length) => Some(Row::Prefix(spelled(local, at).get(..*length)?.to_vec(), at.clone())),
            Question::Everybody => Some(Row::Everybody(at.clone())),
            _ => None,
        };
        let found = places.iter().map(|place| &place.domain).filter_map(here).find_map(|row| self.said(&row));
        match question {
            Question::Prefix(length) if found.is_none() => {
                self.said(&Row::Prefix(local.lower.get(..*length)?.to_vec(), String::new()))
            }
            _ => found,
        }
    }

    /// Who has the highest priority says it; of several, who refuses for good, then who refuses for now.
    fn said(&self, row: &Row) -> Option<(Says, &ReadList, String)> {
        let strength = |says: &Says| match says {
            Says::No(Some(reply)) if reply.code() < 500 => 1,
            Says::No(_) => 2,
            Says::Yes(_) | Says::As(..) => 0,
        };
        let mut having: Vec<_> = self.lists.iter().filter_map(|list| Some((list.rows.get(row)?, list))).collect();
        having.sort_by_key(|(says, list)| (-list.priority, -strength(says), list.number));
        let (says, list) = having.first()?;
        let at = match row {
            Row::Name(_, at) | Row::Detail(_, at, _) | Row::Prefix(_, at) | Row::Everybody(at) => at.clone(),
            Row::Anywhere(_) | Row::Below(_) => String::new(),
        };
        Some(((*says).clone(), list, at))
    }

    /// The nearest domain of ours that covers a name: itself, or one above.
    fn cover(&self, name: &str) -> Option<String> {
        let covers =
            |above: &&str| self.ours.get(*above).is_some_and(|policy| policy.subdomains) || self.below.contains(*above);
        if self.ours.contains_key(name) {
            return Some(name.to_owned());
        }
        up(name).skip(1).find(covers).map(str::to_owned)
    }

    fn way(&self, domain: &str) -> Option<Way> {
        let mut own = self.cover(domain)?;
        let mut places: Vec<Place> = Vec::new();
        let mut unresolved = false;
        let (mut at, mut called) = (domain.to_owned(), domain.to_owned());
        let implied = self.implied.clone();
        if !self.declared {
            let goes_on = |name: &&str| {
                self.ours.contains_key(*name) && (*name == domain || implied.subdomains || self.below.contains(*name))
            };
            let place = |name: &str| Place { domain: name.to_owned(), policy: implied.clone(), called: called.clone() };
            places.extend(up(domain).filter(goes_on).map(place));
            if places.is_empty() {
                // Nothing is listed for the domains on its way, but that they are ours.
                places.push(Place { domain: String::new(), policy: implied.clone(), called });
            }
            return Some(Way { places, policy: implied, unresolved });
        }
        loop {
            let policy = self.ours[&own].clone();
            let place = |name: &str| Place { domain: name.to_owned(), policy: policy.clone(), called: called.clone() };
            // The named ones between the domain and the one of ours that covers it.
            let between = up(&at).take_while(|between| *between != own);
            let is_listed = |name: &&str| self.named.contains(*name) && !self.ours.contains_key(*name);
            let between: Vec<Place> = between.filter(is_listed).map(place).collect();
            for place in between {
                if places.iter().all(|known| known.domain != place.domain) {
                    places.push(place);
                }
            }
            if places.iter().any(|known| known.domain == own) {
                break;
            }
            places.push(place(&own));
            let Some(main) = &policy.same_as else { break };
            (at, called) = (text(main), text(main));
            match self.cover(&at) {
                Some(next) => own = next,
                None => {
                    unresolved = true;
                    break;
                }
            }
        }
        let mut policy = places[0].policy.clone();
        for Place { policy: main, .. } in &places[1..] {
            policy.mode = policy.mode.max(main.mode);
            (policy.batv, policy.srs) = (policy.batv || main.batv, policy.srs || main.srs);
            for name in &main.always {
                if !policy.always.contains(name) {
                    policy.always.push(name.clone());
                }
            }
            let mut delimiters = policy.delimiters.to_vec();
            for delimiter in &main.delimiters {
                if !delimiters.contains(delimiter) {
                    delimiters.push(*delimiter);
                }
            }
            policy.delimiters = delimiters.into();
        }
        Some(Way { places, policy, unresolved })
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8(name.to_vec()).expect("a folded name")
}

/// With the target of a catch-all folded.
fn says(says: &Says) -> Says {
    match says {
        Says::As(domain, value) => Says::As(folded_domain(domain).expect("a good domain").into_bytes(), value.clone()),
        says => says.clone(),
    }
}

/// The domain and all above it.
fn up(domain: &str) -> impl Iterator<Item = &str> + Clone {
    let cuts = domain.match_indices('.').map(|(dot, _)| &domain[dot + 1..]);
    std::iter::once(domain).chain(cuts)
}

/// `Some(Err(domain))`: the line only names a domain.
fn row(subject: &Subject, keeps_case: &BTreeSet<String>) -> Option<Result<Row, String>> {
    let spelled = |local: &[u8], domain: &str| -> Option<Vec<u8>> {
        let keep = keeps_case.contains(domain);
        let name = folded_local(local, keep)?;
        Some(if keep { name.kept } else { name.lower })
    };
    // A key with a wildcard has one byte less.
    let short = |local: &[u8], domain: &str| -> Option<Vec<u8>> {
        if local.is_empty() { Some(Vec::new()) } else { spelled(local, domain).filter(|local| local.len() < 255) }
    };
    Some(Ok(match subject {
        Subject::Recipient(local, domain) => {
            let domain = folded_domain(domain)?;
            Row::Name(spelled(local, &domain)?, domain)
        }
        Subject::AnyDomain(local) => Row::Anywhere(spelled(local, "")?),
        Subject::Detail { local, domain, required } => {
            let domain = folded_domain(domain)?;
            Row::Detail(short(local, &domain)?, domain, *required)
        }
        Subject::Prefix(prefix, domain) => {
            let domain = if domain.is_empty() { String::new() } else { folded_domain(domain)? };
            Row::Prefix(short(prefix, &domain)?, domain)
        }
        Subject::CatchAll(domain) => Row::Everybody(folded_domain(domain)?),
        Subject::Subdomains(domain) => Row::Below(folded_domain(domain)?),
        Subject::Domain(domain) => return folded_domain(domain).map(Err),
    }))
}

fn cut(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut key = key;
    if key.len() >= 2 && key[0] == b'<' && key[key.len() - 1] == b'>' {
        key = &key[1..key.len() - 1];
    }
    if key.starts_with(b"@")
        && let Some(colon) = key.iter().position(|&byte| byte == b':')
    {
        key = &key[colon + 1..];
    }
    let at = key.iter().rposition(|&byte| byte == b'@')?;
    Some((&key[..at], &key[at + 1..]))
}

fn folded_domain(domain: &[u8]) -> Option<String> {
    let domain = std::str::from_utf8(domain).ok()?;
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let folded = if domain.is_ascii() {
        domain.to_ascii_lowercase()
    } else {
        let folded = idna::domain_to_ascii(domain).ok()?;
        folded.strip_suffix('.').unwrap_or(&folded).to_owned()
    };
    let whole = folded.split('.').all(|label| !label.is_empty());
    let clean = folded.chars().all(|c| c > ' ' && c != '\x7f') && (domain.is_ascii() || !folded.contains('@'));
    (whole && clean && folded.len() <= 255).then_some(folded)
}

fn folded_local(local: &[u8], keep: bool) -> Option<Spelling> {
    let mut plain = local.to_vec();
    if local.len() >= 2 && local.starts_with(b"\"") && local.ends_with(b"\"") {
        plain.clear();
        let mut escaped = false;
        for &byte in &local[1..local.len() - 1] {
            if byte == b'\\' && !escaped {
                escaped = true;
            } else {
                plain.push(byte);
                escaped = false;
            }
        }
    }
    let name = match String::from_utf8(plain) {
        Ok(text) => {
            let kept: String = text.nfc().collect();
            let lower: String = kept.chars().flat_map(char::to_lowercase).collect::<String>().nfc().collect();
            Spelling { kept: kept.into_bytes(), lower: lower.into_bytes() }
        }
        Err(not) => {
            let kept = not.into_bytes();
            Spelling { lower: kept.to_ascii_lowercase(), kept }
        }
    };
    let length = if keep { name.kept.len() } else { name.lower.len() };
    let odd = |byte: &u8| *byte < 32 || *byte == 127 || *byte == b'%' || *byte == b'!';
    (length > 0 && length <= 255 && !name.kept.iter().any(odd)).then_some(name)
}

/// Every way to cut a detail off, the longest base first; what is in front of the first byte is no base.
fn cuts(local: &Spelling, delimiters: &[u8]) -> Vec<(Spelling, Vec<u8>)> {
    let cut = |name: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let places = (1..name.len()).filter(|&at| delimiters.contains(&name[at]));
        places.map(|at| (name[..at].to_vec(), name[at + 1..].to_vec())).rev().collect()
    };
    cut(&local.kept)
        .into_iter()
        .zip(cut(&local.lower))
        .map(|((kept, _), (lower, detail))| (Spelling { kept, lower }, detail))
        .collect()
}

fn without_batv(local: &[u8]) -> Option<Vec<u8>> {
    let text: String = local.iter().map(|&byte| char::from(byte)).collect();
    let back = |rest: &str| -> Option<Vec<u8>> { (!rest.is_empty()).then(|| rest.chars().map(|c| c as u8).collect()) };
    let is_tag = |tag: &str| (4..=16).contains(&tag.len()) && tag.chars().all(|c| c.is_ascii_hexdigit());
    let has = |prefix: &str| text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    if has("prvs=") {
        let (first, rest) = text[5..].split_once('=')?;
        if is_tag(first) {
            return back(rest);
        }
        let (rest, last) = text[5..].rsplit_once('=')?;
        return if is_tag(last) { back(rest) } else { None };
    }
    if has("btv1==") {
        let (tag, rest) = text[6..].split_once("==")?;
        return if is_tag(tag) { back(rest) } else { None };
    }
    None
}

fn is_srs(lower: &[u8]) -> bool {
    let Some((tag, rest)) = lower.split_at_checked(5) else { return false };
    let least = match &tag[..4] {
        b"srs0" => 4,
        b"srs1" => 3,
        _ => return false,
    };
    b"=+-".contains(&tag[4]) && rest.split(|&byte| byte == b'=').filter(|part| !part.is_empty()).count() >= least
}
