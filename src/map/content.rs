//! The content of one source: every statement of a list, folded, interned and put into a table.
//!
//! Foreign domains stay in: whether a domain is ours is the snapshot's business, so a source needs no second reading
//! when our domains change.

use std::collections::HashSet;

use hashbrown::HashTable;

use super::HashKey;
use super::pairs::Pairs;
use super::rule::{Entry, Grant, Item, Key};
use super::table::{ClassNumber, DomainNumber, LocalHash, Table, TableBuilder, TooLarge};
use crate::address::{self, NoAddress, OddLocalPart};

/// "Any domain": `office@`.
pub(super) const ANY_DOMAIN: DomainNumber = DomainNumber(0);

/// What a marked local part means. No folded local part begins with a control byte, so none can be mistaken for a mark.
pub(super) mod mark {
    /// `user+*@`: with or without a detail.
    pub const DETAIL: u8 = 1;
    /// `user++@`: with a detail.
    pub const DETAIL_REQUIRED: u8 = 2;
    /// `list-*@`.
    pub const PREFIX: u8 = 3;
}

#[derive(Clone, Copy)]
struct Class {
    domain: DomainNumber,
    entry: u32,
}

struct ListedDomain {
    name: Box<[u8]>,
    entries: usize,
    /// Those of the entries that refuse.
    refusals: usize,
    /// Those of the entries that can't tell.
    unknown: usize,
    /// A statement that was taken is about it. (A domain is numbered before the rest of its line is read.)
    named: bool,
    /// Its local parts keep their case.
    keeps_case: bool,
    /// Something is said about everybody there: a catch-all, or, under a name with a dot in front, "everything below".
    catch_all: bool,
    /// The class of "accept, no value" at this domain, once there is one: what nearly every line says.
    plain: Option<ClassNumber>,
}

impl ListedDomain {
    fn new(name: &[u8], keeps_case: bool) -> ListedDomain {
        ListedDomain {
            name: name.into(),
            entries: 0,
            refusals: 0,
            unknown: 0,
            named: false,
            keeps_case,
            catch_all: false,
            plain: None,
        }
    }
}

/// One source's statements. Immutable, and cheap to share and to drop.
pub struct Content {
    pub(super) table: Table,
    pub(super) key: HashKey,
    domains: Vec<ListedDomain>,
    domain_index: HashTable<u32>,
    classes: Vec<Class>,
    entries: Vec<Entry>,
    pairs: Pairs,
    shapes: Shapes,
    digest: u64,
}

/// Which kinds of keys occur at all: what does not occur is not looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    pub any_domain: bool,
    pub detail: bool,
    pub catch_all: bool,
    pub subdomains: bool,
    /// Some statement says that the list can't tell.
    pub unknown: bool,
    /// Lengths of the prefixes that occur, longest first.
    pub prefixes: Vec<u8>,
}

impl Content {
    /// Number of keys (recipients, wildcards and catch-alls).
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Number of keys that are listed to be refused.
    pub fn refusals(&self) -> usize {
        self.domains.iter().map(|domain| domain.refusals).sum()
    }

    /// Number of keys about which the list can't tell.
    pub fn unknown(&self) -> usize {
        self.domains.iter().map(|domain| domain.unknown).sum()
    }

    /// Number of keys that are listed to exist.
    pub fn recipients(&self) -> usize {
        self.len() - self.refusals() - self.unknown()
    }

    /// Number of statements of all kinds: keys, domains that are only named, pairs.
    pub fn statements(&self) -> usize {
        self.len() + self.bare_domains().count() + self.pairs.len()
    }

    /// A digest of all that is said, whatever the order: equal contents of one process have equal ones, others don't.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty() && self.pairs.is_empty() && self.domains().next().is_none()
    }

    /// Bytes of the heap that the recipients take.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes()
    }

    /// Domains that are named, folded, with the number of keys in each. `.example.org` stands for everything below it.
    pub fn domains(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.domains.iter().skip(1).filter(|domain| domain.named).map(|domain| (&*domain.name, domain.entries))
    }

    /// The same without keys about which the list can't tell, and with those that are listed to be refused.
    pub fn domain_counts(&self) -> impl Iterator<Item = (&[u8], usize, usize)> {
        let named = self.domains.iter().skip(1).filter(|domain| domain.named);
        named.map(|domain| (&*domain.name, domain.entries - domain.unknown, domain.refusals))
    }

    /// Domains about which nothing is said but that the list can't tell of somebody there.
    pub(super) fn doubtful_domains(&self) -> impl Iterator<Item = &[u8]> {
        self.domains.iter().skip(1).filter(|domain| !domain.named && domain.unknown > 0).map(|domain| &*domain.name)
    }

    /// Domains that are named without any key, but for those about which the list can't tell.
    pub fn bare_domains(&self) -> impl Iterator<Item = &[u8]> {
        self.domain_counts().filter(|(_, keys, _)| *keys == 0).map(|(name, ..)| name)
    }

    /// The keys of an access file that are no statement about a recipient.
    pub fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// Every statement, folded, in the order of the list.
    pub fn listed(&self) -> impl Iterator<Item = Listed<'_>> {
        self.table.records(&self.key, |class| self.class(class).domain).map(|(number, record)| {
            let class = self.class(record.class);
            let domain = self.domains.get(class.domain.0 as usize).map_or(&[][..], |domain| &domain.name);
            Listed { key: key_of(record.local, domain), entry: self.entry(record.class), number }
        })
    }

    pub(super) fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// The number of a domain in this content.
    pub(super) fn domain(&self, domain: &[u8]) -> Option<DomainNumber> {
        let hash = self.key.hash_one(domain);
        self.domain_index.find(hash, |&at| *self.domains[at as usize].name == *domain).map(|&at| DomainNumber(at))
    }

    /// Whether local parts at a domain are listed as written, not in lower case.
    pub(super) fn keeps_case(&self, domain: DomainNumber) -> bool {
        self.domains.get(domain.0 as usize).is_some_and(|domain| domain.keeps_case)
    }

    /// Whether some catch-all only renames its domain.
    pub(super) fn renames(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Follow { .. }))
    }

    /// Whether there is a catch-all at a domain.
    pub(super) fn has_catch_all(&self, domain: DomainNumber) -> bool {
        self.domains.get(domain.0 as usize).is_some_and(|domain| domain.catch_all)
    }

    /// What is said about a local part (or a marked one) at a domain.
    #[inline]
    pub(super) fn get(&self, hash: LocalHash, domain: DomainNumber, local: &[u8]) -> Option<&Entry> {
        self.table.find(hash, domain, local, |class| self.class(class).domain).map(|class| self.entry(class))
    }

    /// Whether some statement is about a domain.
    pub fn names(&self, domain: &[u8]) -> bool {
        self.domain(domain).is_some_and(|number| self.domains[number.0 as usize].named)
    }

    /// The name of a domain by its number; empty for "any domain".
    pub(super) fn domain_name(&self, domain: DomainNumber) -> &[u8] {
        self.domains.get(domain.0 as usize).map_or(&[], |domain| &domain.name)
    }

    /// Number of keys at each domain, by its number.
    pub(super) fn entries_by_number(&self) -> impl Iterator<Item = usize> {
        self.domains.iter().map(|domain| domain.entries)
    }

    /// The domain of a class.
    pub(super) fn domain_of(&self, class: ClassNumber) -> DomainNumber {
        self.class(class).domain
    }

    fn class(&self, class: ClassNumber) -> Class {
        self.classes[class.0 as usize]
    }

    /// What a class says.
    pub(super) fn entry(&self, class: ClassNumber) -> &Entry {
        &self.entries[self.class(class).entry as usize]
    }
}

/// The key that a local part of the table stands for, as a [`super::Trace`] hears of them too. The domain is empty for
/// "any domain".
pub fn key_of<'a>(local: &'a [u8], domain: &'a [u8]) -> Key<'a> {
    match (local, domain) {
        ([mark::DETAIL, base @ ..], _) => Key::Detail { local: base, domain, required: false },
        ([mark::DETAIL_REQUIRED, base @ ..], _) => Key::Detail { local: base, domain, required: true },
        ([mark::PREFIX, prefix @ ..], _) => Key::Prefix { prefix, domain },
        ([], [b'.', below @ ..]) => Key::Subdomains { domain: below },
        ([], _) => Key::CatchAll { domain },
        (_, []) => Key::AnyDomain { local },
        _ => Key::Recipient { local, domain },
    }
}

/// A statement of a content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Listed<'a> {
    /// Folded.
    pub key: Key<'a>,
    /// What it says.
    pub entry: &'a Entry,
    /// Which statement of the list it is, from 0; duplicates are counted.
    pub number: usize,
}

/// Folded domains.
pub type Domains = HashSet<Box<[u8]>>;

/// Why a key of a list can't be a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is no address.
    #[error("{0}")]
    NoAddress(#[from] NoAddress),
    /// It is one that no domain of ours can have.
    #[error("{0}: no recipient can be asked for by that name")]
    Odd(#[from] OddLocalPart),
    /// The table is full.
    #[error("{0}")]
    TooLarge(#[from] TooLarge),
}

/// A key that a list has twice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DuplicateKey<'a> {
    /// The key, folded; the statement that came later and is not in force.
    pub lost: Listed<'a>,
    /// The statement that stays.
    pub kept: &'a Entry,
}

/// Builds a [`Content`], statement by statement.
pub struct Builder {
    content: Content,
    table: TableBuilder,
    class_index: HashTable<u32>,
    entry_index: HashTable<u32>,
    keep_values: bool,
    case_sensitive: Domains,
    prefixes: [bool; 256],
    /// Keys about which the list can't tell, as the table has them. They come last: what another line says about one counts.
    unknown: Vec<(Box<[u8]>, DomainNumber)>,
    /// The domain that the last line named: lists are mostly sorted or of one domain.
    last_domain: DomainNumber,
    domain: Vec<u8>,
    local: Vec<u8>,
    marked: Vec<u8>,
}

impl Builder {
    /// An empty one. `keep_values`: whether some map serves the list's own values; `case_sensitive`: domains whose local
    /// parts keep their case, by their exact names.
    pub fn new(key: HashKey, keep_values: bool, case_sensitive: Domains) -> Builder {
        let any = ListedDomain::new(b"", false);
        let plain = Entry::Accept { value: Box::default() };
        let mut builder = Builder {
            content: Content {
                table: Table::default(),
                pairs: Pairs::new(key.clone()),
                key,
                domains: vec![any],
                domain_index: HashTable::new(),
                classes: Vec::new(),
                entries: Vec::new(),
                shapes: Shapes::default(),
                digest: 0,
            },
            table: TableBuilder::default(),
            class_index: HashTable::new(),
            entry_index: HashTable::new(),
            keep_values,
            case_sensitive,
            prefixes: [false; 256],
            unknown: Vec::new(),
            last_domain: ANY_DOMAIN,
            domain: Vec::new(),
            local: Vec::new(),
            marked: Vec::new(),
        };
        builder.intern_entry(plain);
        builder
    }

    /// Statements so far, duplicates included; those that can't tell get their numbers at the end.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Adds a statement.
    pub fn add(&mut self, item: &Item<'_>) -> Result<(), Unfit> {
        match item.key {
            Key::Recipient { local, domain } => {
                let number = self.intern_domain(domain)?;
                self.add_key(None, local, number, &item.grant)
            }
            Key::AnyDomain { local } => {
                self.content.shapes.any_domain = true;
                self.add_key(None, local, ANY_DOMAIN, &item.grant)
            }
            Key::Detail { local, domain, required } => {
                self.content.shapes.detail = true;
                let mark = if required { mark::DETAIL_REQUIRED } else { mark::DETAIL };
                let number = self.intern_domain(domain)?;
                self.add_key(Some(mark), local, number, &item.grant)
            }
            Key::Prefix { prefix, domain } => {
                let number = if domain.is_empty() { ANY_DOMAIN } else { self.intern_domain(domain)? };
                self.add_key(Some(mark::PREFIX), prefix, number, &item.grant)
            }
            Key::CatchAll { domain } => {
                self.content.shapes.catch_all = true;
                let number = self.intern_domain(domain)?;
                self.push(b"", number, &item.grant)
            }
            Key::Subdomains { domain } => {
                self.content.shapes.subdomains = true;
                let dotted = [b".", address::fold_domain(domain, &mut self.domain)?.bytes()].concat();
                let number = self.intern_folded(&dotted);
                self.push(b"", number, &item.grant)
            }
            Key::Domain { domain } => {
                let number = self.intern_domain(domain)?;
                self.content.domains[number.0 as usize].named = true;
                Ok(())
            }
        }
    }

    /// Adds a statement whose key is folded already, as [`Content::listed`] gives it.
    pub fn add_folded(&mut self, item: &Item<'_>) -> Result<(), Unfit> {
        let (mark, local, domain) = match item.key {
            Key::Recipient { local, domain } => (None, local, domain),
            Key::AnyDomain { local } => (None, local, &b""[..]),
            Key::Detail { local, domain, required: false } => (Some(mark::DETAIL), local, domain),
            Key::Detail { local, domain, required: true } => (Some(mark::DETAIL_REQUIRED), local, domain),
            Key::Prefix { prefix, domain } => (Some(mark::PREFIX), prefix, domain),
            // Nothing in them that folding could take for something else.
            Key::CatchAll { .. } | Key::Subdomains { .. } | Key::Domain { .. } => return self.add(item),
        };
        let key = mark.into_iter().chain(local.iter().copied()).collect::<Vec<u8>>();
        if key.len() > address::MAX_LOCAL_PART {
            return Err(OddLocalPart::TooLong.into());
        }
        let number = if domain.is_empty() { ANY_DOMAIN } else { self.intern_domain(domain)? };
        let shapes = &mut self.content.shapes;
        shapes.any_domain |= matches!(item.key, Key::AnyDomain { .. });
        shapes.detail |= matches!(item.key, Key::Detail { .. });
        if let Key::Prefix { prefix, .. } = item.key {
            self.prefixes[prefix.len()] = true;
        }
        self.push(&key, number, &item.grant)
    }

    /// Adds a pair that is served as it is.
    pub fn add_pair(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.content.pairs.insert(key, value)
    }

    /// The finished content. `duplicate` hears of every statement that an earlier one shadows.
    pub fn finish(mut self, mut duplicate: impl FnMut(DuplicateKey<'_>)) -> Content {
        let unknown = std::mem::take(&mut self.unknown);
        if !unknown.is_empty() {
            self.content.shapes.unknown = true;
            let entry = self.intern_entry(Entry::Unknown);
            for (local, domain) in unknown {
                let class = self.intern_class(Class { domain, entry });
                // A full table has been told of already: it can't take the next of what it could.
                let _ = self.table.push(&local, class);
            }
        }
        let Builder { mut content, table, prefixes, .. } = self;
        content.shapes.prefixes = (0..=255).rev().filter(|&len| prefixes[usize::from(len)]).collect();
        let (table, counts) = {
            let Content { classes, entries, domains, key, .. } = &content;
            let domain_of = |class: ClassNumber| classes[class.0 as usize].domain;
            let entry_of = |class: ClassNumber| &entries[classes[class.0 as usize].entry as usize];
            let domain_digests: Vec<u64> =
                domains.iter().map(|domain| key.hash_one((&*domain.name, domain.keeps_case))).collect();
            // The first entry is "accept, no value".
            let digest_of = |class: ClassNumber| {
                let Class { domain, entry } = classes[class.0 as usize];
                let says = if entry == 0 { 0 } else { key.hash_one(&entries[entry as usize]) };
                domain_digests[domain.0 as usize] ^ says
            };
            table.finish(key, domain_of, digest_of, |twice| {
                let number = domain_of(twice.lost.class);
                let key = key_of(twice.lost.local, &domains[number.0 as usize].name);
                let lost = Listed { key, entry: entry_of(twice.lost.class), number: twice.number };
                duplicate(DuplicateKey { lost, kept: entry_of(twice.kept) });
            })
        };
        for (class, count) in content.classes.iter().zip(counts) {
            let domain = &mut content.domains[class.domain.0 as usize];
            domain.entries += count as usize;
            match content.entries[class.entry as usize] {
                Entry::Refuse(_) => domain.refusals += count as usize,
                Entry::Unknown => domain.unknown += count as usize,
                Entry::Accept { .. } | Entry::Follow { .. } => {}
            }
        }
        let bare = content.bare_domains().map(|name| content.key.hash_one((name, "named")));
        let pairs = content.pairs.iter().map(|pair| content.key.hash_one(pair));
        content.digest = bare.chain(pairs).fold(table.digest(), u64::wrapping_add);
        content.table = table;
        content
    }

    fn add_key(
        &mut self,
        mark: Option<u8>,
        local: &[u8],
        number: DomainNumber,
        grant: &Grant<'_>,
    ) -> Result<(), Unfit> {
        let keep_case = self.content.keeps_case(number);
        let mut buffer = std::mem::take(&mut self.local);
        let mut marked = std::mem::take(&mut self.marked);
        let added = match mark {
            None => match address::fold_local_part(local, keep_case, &mut buffer) {
                Ok(local) => self.push(local.bytes(), number, grant),
                Err(odd) => Err(odd.into()),
            },
            Some(mark) => {
                let folded = if local.is_empty() {
                    Ok(&[][..])
                } else {
                    address::fold_local_part(local, keep_case, &mut buffer).map(|local| local.bytes())
                };
                match folded {
                    Ok(local) if local.len() == address::MAX_LOCAL_PART => Err(OddLocalPart::TooLong.into()),
                    Ok(local) => {
                        if mark == self::mark::PREFIX {
                            self.prefixes[local.len()] = true;
                        }
                        marked.clear();
                        marked.push(mark);
                        marked.extend_from_slice(local);
                        self.push(&marked, number, grant)
                    }
                    Err(odd) => Err(odd.into()),
                }
            }
        };
        self.local = buffer;
        self.marked = marked;
        added
    }

    fn push(&mut self, local: &[u8], domain: DomainNumber, grant: &Grant<'_>) -> Result<(), Unfit> {
        if local.is_empty() {
            self.content.domains[domain.0 as usize].catch_all = true;
        }
        let class = match grant {
            Grant::Accept { value } if !self.keep_values || value.is_empty() => self.plain_class(domain),
            Grant::Accept { value } => {
                let entry = self.intern_entry(Entry::Accept { value: (*value).into() });
                self.intern_class(Class { domain, entry })
            }
            Grant::Follow { domain: target, value } => {
                let mut folded = Vec::new();
                let target = address::fold_domain(target, &mut folded)?.bytes().into();
                let entry = self.intern_entry(Entry::Follow { domain: target, value: (*value).into() });
                self.intern_class(Class { domain, entry })
            }
            Grant::Refuse(reply) => {
                let entry = self.intern_entry(Entry::Refuse(reply.clone()));
                self.intern_class(Class { domain, entry })
            }
            Grant::Unknown => {
                self.unknown.push((local.into(), domain));
                return Ok(());
            }
        };
        Ok(self.table.push(local, class)?)
    }

    fn plain_class(&mut self, domain: DomainNumber) -> ClassNumber {
        if let Some(class) = self.content.domains[domain.0 as usize].plain {
            return class;
        }
        let class = self.intern_class(Class { domain, entry: 0 });
        self.content.domains[domain.0 as usize].plain = Some(class);
        class
    }

    fn intern_class(&mut self, class: Class) -> ClassNumber {
        let Content { classes, key, domains, entries, .. } = &mut self.content;
        // What a line that is not understood mentions is not thereby a domain of ours.
        domains[class.domain.0 as usize].named |= !matches!(entries[class.entry as usize], Entry::Unknown);
        let hash_of = |class: &Class| key.hash_one((class.domain.0, class.entry));
        let same = |at: &u32| {
            let there = classes[*at as usize];
            there.domain == class.domain && there.entry == class.entry
        };
        if let Some(&at) = self.class_index.find(hash_of(&class), same) {
            return ClassNumber(at);
        }
        let at = classes.len() as u32;
        classes.push(class);
        self.class_index.insert_unique(hash_of(&class), at, |&at| hash_of(&classes[at as usize]));
        ClassNumber(at)
    }

    fn intern_entry(&mut self, entry: Entry) -> u32 {
        let Content { entries, key, .. } = &mut self.content;
        let hash = key.hash_one(&entry);
        if let Some(&at) = self.entry_index.find(hash, |&at| entries[at as usize] == entry) {
            return at;
        }
        let at = entries.len() as u32;
        entries.push(entry);
        self.entry_index.insert_unique(hash, at, |&at| key.hash_one(&entries[at as usize]));
        at
    }

    fn intern_domain(&mut self, written: &[u8]) -> Result<DomainNumber, NoAddress> {
        // As written it is mostly folded already, and known. A dot in front is no domain's, but known as "everything below".
        if *self.content.domains[self.last_domain.0 as usize].name == *written
            && self.last_domain != ANY_DOMAIN
            && written.first() != Some(&b'.')
        {
            return Ok(self.last_domain);
        }
        let number = match self.content.domain(written) {
            Some(number) if number != ANY_DOMAIN && written.first() != Some(&b'.') => number,
            _ => {
                let mut buffer = std::mem::take(&mut self.domain);
                let number =
                    address::fold_domain(written, &mut buffer).map(|folded| self.intern_folded(folded.bytes()));
                self.domain = buffer;
                number?
            }
        };
        self.last_domain = number;
        Ok(number)
    }

    fn intern_folded(&mut self, folded: &[u8]) -> DomainNumber {
        let Content { domains, domain_index, key, .. } = &mut self.content;
        let hash = key.hash_one(folded);
        if let Some(&at) = domain_index.find(hash, |&at| *domains[at as usize].name == *folded) {
            return DomainNumber(at);
        }
        let at = domains.len() as u32;
        domains.push(ListedDomain::new(folded, self.case_sensitive.contains(folded)));
        domain_index.insert_unique(hash, at, |&at| key.hash_one(&*domains[at as usize].name));
        DomainNumber(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_taken_names_no_domain() {
        let mut builder = Builder::new(HashKey::with_seeds(1, 2, 3, 4), false, Domains::new());
        let mut add = |key| builder.add(&Item { key, grant: Grant::Accept { value: b"" } });
        let percent: Result<(), Unfit> = Err(OddLocalPart::PercentHack.into());
        assert_eq!(add(Key::Recipient { local: b"a%b", domain: b"a.example" }), percent);
        assert_eq!(add(Key::Detail { local: b"a%b", domain: b"b.example", required: false }), percent);
        // A recipient or a detail wildcard at no domain is not one at any domain.
        let no_domain: Result<(), Unfit> = Err(NoAddress::Domain.into());
        assert_eq!(add(Key::Recipient { local: b"anna", domain: b"" }), no_domain);
        assert_eq!(add(Key::Detail { local: b"anna", domain: b"", required: true }), no_domain);
        assert_eq!(add(Key::CatchAll { domain: b".a.example" }), no_domain);
        assert_eq!(add(Key::Subdomains { domain: b".a.example" }), no_domain);
        assert_eq!(add(Key::Domain { domain: b"c.example" }), Ok(()));
        assert_eq!(add(Key::Subdomains { domain: b"D.example." }), Ok(()));
        let content = builder.finish(|_| {});
        assert_eq!(content.domains().collect::<Vec<_>>(), [(&b"c.example"[..], 0), (b".d.example", 1)]);
    }
}
