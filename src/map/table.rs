//! The recipient table: local part and domain number to class number, in cache-line buckets over one byte arena.
//!
//! Ten 16-bit tags and ten 32-bit offsets make a bucket of 64 bytes, so a miss costs one cache line and a hit two. The
//! record under an offset is the length of the local part, the class (a domain number and what an entry says, interned)
//! and the local part. Two allocations hold it all: dropping ten million recipients is two calls to free.
//!
//! It never holds a key that it can't compare: a fingerprint alone could say "exists" for somebody who does not.

use std::ops::ControlFlow;

use ahash::RandomState;

/// How many entries fit into a bucket.
const SLOTS: usize = 10;
/// Entries per bucket that the table is sized for. At 8.8 of 10 about one bucket in four spills into its neighbour.
const FILL: f64 = 8.8;
/// Records that are put into the buckets in one sweep: sorted by bucket first, so the sweep walks the table in order.
pub const BATCH: usize = 1 << 20;
/// Parts that a batch is sorted into, a power of two; one part of a table of ten million entries fits the L2 cache.
const PARTS: usize = 256;

#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    /// [`NO_TAG`] is an empty slot.
    tags: [u16; SLOTS],
    /// An entry that belongs here lies in a later bucket.
    spilled: bool,
    offsets: [u32; SLOTS],
}

impl Bucket {
    /// A bit for each slot with that tag. All are compared, without a branch that a random tag would mispredict.
    #[inline]
    fn with_tag(&self, tag: u16) -> u32 {
        let mut matches = 0;
        for (slot, &there) in self.tags.iter().enumerate() {
            matches |= u32::from(there == tag) << slot;
        }
        matches
    }
}

/// A number of a domain within one source's content; 0 is "any domain".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainNumber(pub u32);

/// A number of a class: what an entry says, for which domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassNumber(pub u32);

/// The hash of a local part, before the domain is mixed in: computed once for all sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalHash(u64);

impl LocalHash {
    /// Hashes a folded local part, or a marked one, under the process's key.
    #[inline]
    pub fn of(local: &[u8], key: &RandomState) -> LocalHash {
        LocalHash(key.hash_one(local))
    }

    /// Mixes the domain in. The local part's hash is keyed, so a peer can't steer what comes out.
    #[inline]
    fn in_domain(self, domain: DomainNumber) -> u64 {
        self.mixed(u64::from(domain.0).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[inline]
    fn mixed(self, with: u64) -> u64 {
        let mixed = u128::from(self.0 ^ with) * u128::from(0xd6e8_feb8_6659_fd93_u64);
        (mixed as u64) ^ ((mixed >> 64) as u64)
    }
}

/// The tag of an empty slot; no record has it.
const NO_TAG: u16 = 0;

#[inline]
fn tag(hash: u64) -> u16 {
    (hash as u16).max(1)
}

#[inline]
fn bucket(hash: u64, buckets: usize) -> usize {
    // Lemire's multiply-shift on the upper half; the tag comes from the lowest bits.
    (((hash >> 32) * buckets as u64) >> 32) as usize
}

/// The finished table.
#[derive(Default)]
pub struct Table {
    buckets: Box<[Bucket]>,
    arena: Box<[u8]>,
    len: usize,
    /// Some record of the arena lost to an earlier one of the same key.
    has_duplicates: bool,
    digest: u64,
}

impl Table {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the heap that the table owns.
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.buckets) + self.arena.len()
    }

    /// A sum over all entries, so it does not depend on their order. Of worth within the process only: it is keyed.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The class of `local` in the domain; `domain_of` tells the domain of a class.
    #[inline]
    pub fn find(
        &self,
        hash: LocalHash,
        domain: DomainNumber,
        local: &[u8],
        domain_of: impl Fn(ClassNumber) -> DomainNumber,
    ) -> Option<ClassNumber> {
        self.find_record(hash, domain, local, domain_of).map(|(_, record)| record.class)
    }

    #[inline]
    fn find_record(
        &self,
        hash: LocalHash,
        domain: DomainNumber,
        local: &[u8],
        domain_of: impl Fn(ClassNumber) -> DomainNumber,
    ) -> Option<(u32, Record<'_>)> {
        self.find_hashed(hash.in_domain(domain), domain, local, domain_of)
    }

    #[inline]
    fn find_hashed(
        &self,
        hash: u64,
        domain: DomainNumber,
        local: &[u8],
        domain_of: impl Fn(ClassNumber) -> DomainNumber,
    ) -> Option<(u32, Record<'_>)> {
        if self.buckets.is_empty() {
            return None;
        }
        let (mut at, tag) = (bucket(hash, self.buckets.len()), tag(hash));
        // The load is below one, so some bucket has not spilled; the bound only keeps a fault from becoming a stall.
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut matches = bucket.with_tag(tag);
            while matches != 0 {
                let offset = bucket.offsets[matches.trailing_zeros() as usize];
                let record = Record::at(&self.arena, offset);
                if record.local == local && domain_of(record.class) == domain {
                    return Some((offset, record));
                }
                matches &= matches - 1;
            }
            if !bucket.spilled {
                return None;
            }
            at = if at + 1 == self.buckets.len() { 0 } else { at + 1 };
        }
        None
    }

    /// Every entry with its number, in the order in which it was added. A record that lost to an earlier one of the same
    /// key is not an entry: it is still in the arena, so where there are such, each record is looked up to see whether it
    /// is the one that is found.
    pub fn records<'a>(
        &'a self,
        key: &'a RandomState,
        domain_of: impl Fn(ClassNumber) -> DomainNumber + 'a,
    ) -> impl Iterator<Item = (usize, Record<'a>)> {
        self.placed(key, domain_of).map(|placed| (placed.number as usize, placed.record))
    }

    fn placed<'a>(
        &'a self,
        key: &'a RandomState,
        domain_of: impl Fn(ClassNumber) -> DomainNumber + 'a,
    ) -> impl Iterator<Item = Placed<'a>> {
        let (mut next, mut count) = (0, 0);
        std::iter::from_fn(move || {
            while next < self.arena.len() {
                let (offset, record) = (next as u32, Record::at(&self.arena, next as u32));
                next += record.size();
                count += 1;
                let in_force = || {
                    let hash = LocalHash::of(record.local, key);
                    let found = self.find_record(hash, domain_of(record.class), record.local, &domain_of);
                    found.is_some_and(|(at, _)| at == offset)
                };
                if !self.has_duplicates || in_force() {
                    return Some(Placed { offset, number: count - 1, record });
                }
            }
            None
        })
    }

    /// Looks every entry up in another table, and tells its number, the entry, and the class that it has there. In the
    /// order in which they were added, but that some come later: not by more than [`BATCH`] others. `domain_there`: the
    /// other table's number of a domain.
    ///
    /// Two versions of a list mostly have the same entries in the same order: the next one here is first looked for behind
    /// where the last one was there. Where the order is another one, entries are looked up in the order of the other table's
    /// buckets, a batch at a time: at ten million entries that takes a third of the time.
    pub fn each_in<'a>(
        &'a self,
        other: &Table,
        key: &'a RandomState,
        domain_of: impl Fn(ClassNumber) -> DomainNumber + Copy + 'a,
        domain_there: impl Fn(DomainNumber) -> Option<DomainNumber>,
        domain_of_there: impl Fn(ClassNumber) -> DomainNumber,
        mut heard: impl FnMut(usize, Record<'a>, Option<ClassNumber>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut beside = Beside::new(other);
        let mut batch: Vec<Pending> = Vec::new();
        let mut sorted: Vec<Pending> = Vec::new();
        let mut records = self.placed(key, domain_of);
        loop {
            let next = records.next();
            let first = batch.first().map(|pending| pending.number);
            if first.is_some_and(|first| next.as_ref().is_none_or(|next| (next.number - first) as usize >= BATCH)) {
                sort_into_parts(&batch, &mut sorted);
                batch.clear();
                for pending in &sorted {
                    let record = Record::at(&self.arena, pending.offset);
                    let found = domain_there(domain_of(record.class))
                        .and_then(|domain| other.find_hashed(pending.hash, domain, record.local, &domain_of_there));
                    heard(pending.number as usize, record, found.map(|(_, there)| there.class))?;
                }
            }
            let Some(Placed { offset, number, record }) = next else { return ControlFlow::Continue(()) };
            let Some(domain) = domain_there(domain_of(record.class)) else {
                heard(number as usize, record, None)?;
                continue;
            };
            match beside.find(record.local, domain, key, &domain_of_there) {
                Some(found) => heard(number as usize, record, found)?,
                None => {
                    batch.push(Pending { hash: LocalHash::of(record.local, key).in_domain(domain), offset, number })
                }
            }
        }
    }
}

/// How often in a row an entry may be looked up at once to find out where the order goes on.
const TRIES: u32 = 16;
/// After so many entries it is tried once more.
const TRY_AGAIN: u32 = 1024;

/// A place in a table that is read beside another one.
struct Beside<'t> {
    table: &'t Table,
    /// Offset of the record behind the one that was found last.
    next: usize,
    tries: u32,
    since: u32,
}

impl<'t> Beside<'t> {
    fn new(table: &'t Table) -> Beside<'t> {
        Beside { table, next: 0, tries: TRIES, since: 0 }
    }

    /// The class of an entry; `None`: the order is lost, look it up some other time.
    #[inline]
    fn find(
        &mut self,
        local: &[u8],
        domain: DomainNumber,
        key: &RandomState,
        domain_of: impl Fn(ClassNumber) -> DomainNumber,
    ) -> Option<Option<ClassNumber>> {
        // Where there are duplicates, the next record may be one that is not in force.
        if self.next < self.table.arena.len() && !self.table.has_duplicates {
            let record = Record::at(&self.table.arena, self.next as u32);
            if record.local == local && domain_of(record.class) == domain {
                self.next += record.size();
                self.tries = TRIES;
                return Some(Some(record.class));
            }
        }
        self.since += 1;
        if self.since == TRY_AGAIN {
            (self.since, self.tries) = (0, self.tries.max(1));
        }
        self.tries = self.tries.checked_sub(1)?;
        let found = self.table.find_record(LocalHash::of(local, key), domain, local, domain_of);
        if let Some((offset, record)) = found {
            self.next = offset as usize + record.size();
        }
        Some(found.map(|(_, record)| record.class))
    }
}

/// An entry and where it lies.
struct Placed<'a> {
    offset: u32,
    number: u32,
    record: Record<'a>,
}

/// One entry of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The (marked) local part.
    pub local: &'a [u8],
    /// Its class.
    pub class: ClassNumber,
    head: u8,
}

impl<'a> Record<'a> {
    #[inline]
    fn at(arena: &'a [u8], offset: u32) -> Record<'a> {
        let record = &arena[offset as usize..];
        let len = usize::from(record[0]);
        let (class, head) = read_varint(&record[1..]);
        let local = &record[1 + head..1 + head + len];
        Record { local, class: ClassNumber(class), head: 1 + head as u8 }
    }

    /// Bytes that it takes in the arena.
    fn size(&self) -> usize {
        usize::from(self.head) + self.local.len()
    }
}

/// LEB128: seven bits a byte, the lowest first.
#[inline]
fn read_varint(bytes: &[u8]) -> (u32, usize) {
    let first = bytes[0];
    if first < 0x80 {
        return (u32::from(first), 1);
    }
    let (mut value, mut used) = (u32::from(first & 0x7f), 1);
    loop {
        let byte = bytes[used];
        value |= u32::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte < 0x80 {
            return (value, used);
        }
    }
}

/// Most bytes of a number in LEB128.
const MAX_VARINT: usize = 5;

fn write_varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The table can't take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than 4 GiB of recipients in one source: split it into several sources")]
pub struct TooLarge;

/// Collects records; [`TableBuilder::finish`] puts them into buckets.
#[derive(Default)]
pub struct TableBuilder {
    arena: Vec<u8>,
    len: usize,
    /// Records of each class.
    counts: Vec<u32>,
}

/// An entry that a table already had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate<'a> {
    /// The entry that was added later and lost; its number in order of adding.
    pub number: usize,
    /// The later one.
    pub lost: Record<'a>,
    /// The class of the earlier one, which stays.
    pub kept: ClassNumber,
}

impl TableBuilder {
    /// Adds a record; `local` has at most 255 bytes.
    #[inline]
    pub fn push(&mut self, local: &[u8], class: ClassNumber) -> Result<(), TooLarge> {
        debug_assert!(local.len() <= 255);
        if self.arena.len() > u32::MAX as usize - 512 {
            return Err(TooLarge);
        }
        // Room for all at once, so that it is asked for once.
        self.arena.reserve(1 + MAX_VARINT + local.len());
        self.arena.push(local.len() as u8);
        write_varint(class.0, &mut self.arena);
        self.arena.extend_from_slice(local);
        self.len += 1;
        let class = class.0 as usize;
        if class >= self.counts.len() {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] += 1;
        Ok(())
    }

    /// Records so far, duplicates included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Builds the buckets, and tells how many entries each class has. Of two records with one key the first stays;
    /// `duplicate` hears of the other. `digest_of`: the digest of what a class says, and where.
    pub fn finish(
        self,
        key: &RandomState,
        domain_of: impl Fn(ClassNumber) -> DomainNumber,
        digest_of: impl Fn(ClassNumber) -> u64,
        mut duplicate: impl FnMut(Duplicate<'_>),
    ) -> (Table, Vec<u32>) {
        let TableBuilder { arena, mut len, mut counts } = self;
        let arena = arena.into_boxed_slice();
        let count = if len == 0 { 0 } else { (len as f64 / FILL) as usize + 1 };
        let mut buckets = vec![Bucket::default(); count].into_boxed_slice();
        let mut digest = 0_u64;
        let (mut offset, mut number) = (0, 0_u32);
        let mut batch: Vec<Pending> = Vec::with_capacity(len.min(BATCH));
        let mut sorted: Vec<Pending> = Vec::with_capacity(len.min(BATCH));
        while offset < arena.len() {
            batch.clear();
            while offset < arena.len() && batch.len() < BATCH {
                let record = Record::at(&arena, offset as u32);
                let local = LocalHash::of(record.local, key);
                let hash = local.in_domain(domain_of(record.class));
                digest = digest.wrapping_add(local.mixed(digest_of(record.class)));
                batch.push(Pending { hash, offset: offset as u32, number });
                offset += record.size();
                number += 1;
            }
            sort_into_parts(&batch, &mut sorted);
            for pending in &sorted {
                if let Some(kept) = insert(&mut buckets, &arena, pending, &domain_of) {
                    let lost = Record::at(&arena, pending.offset);
                    len -= 1;
                    counts[lost.class.0 as usize] -= 1;
                    let local = LocalHash::of(lost.local, key);
                    digest = digest.wrapping_sub(local.mixed(digest_of(lost.class)));
                    duplicate(Duplicate { number: pending.number as usize, lost, kept });
                }
            }
        }
        (Table { buckets, arena, len, has_duplicates: len < number as usize, digest }, counts)
    }
}

#[derive(Clone, Copy, Default)]
struct Pending {
    hash: u64,
    offset: u32,
    number: u32,
}

/// A stable counting sort by the upper bits of the hash, which are those of the bucket's number.
fn sort_into_parts(batch: &[Pending], sorted: &mut Vec<Pending>) {
    let part = |pending: &Pending| (pending.hash >> (u64::BITS - PARTS.ilog2())) as usize;
    let mut starts = [0_usize; PARTS + 1];
    for pending in batch {
        starts[part(pending) + 1] += 1;
    }
    for at in 0..PARTS {
        starts[at + 1] += starts[at];
    }
    sorted.clear();
    sorted.resize(batch.len(), Pending::default());
    for pending in batch {
        let start = &mut starts[part(pending)];
        sorted[*start] = *pending;
        *start += 1;
    }
}

/// Puts a record into its bucket, or the next one with room, unless one with its key is there: then that one's class comes
/// back. The record itself is looked at only where a tag is the same, and nothing branches on where in a bucket things are.
#[inline]
fn insert(
    buckets: &mut [Bucket],
    arena: &[u8],
    pending: &Pending,
    domain_of: &impl Fn(ClassNumber) -> DomainNumber,
) -> Option<ClassNumber> {
    let tag = tag(pending.hash);
    let mut at = bucket(pending.hash, buckets.len());
    loop {
        let bucket = &mut buckets[at];
        let mut matches = bucket.with_tag(tag);
        while matches != 0 {
            let there = Record::at(arena, bucket.offsets[matches.trailing_zeros() as usize]);
            let record = Record::at(arena, pending.offset);
            if there.local == record.local && domain_of(there.class) == domain_of(record.class) {
                return Some(there.class);
            }
            matches &= matches - 1;
        }
        let free = bucket.with_tag(NO_TAG).trailing_zeros() as usize;
        if free < SLOTS {
            bucket.tags[free] = tag;
            bucket.offsets[free] = pending.offset;
            return None;
        }
        bucket.spilled = true;
        at = if at + 1 == buckets.len() { 0 } else { at + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    /// Classes stand for their own domain here, so a key is (local part, class).
    fn domain_of(class: ClassNumber) -> DomainNumber {
        DomainNumber(class.0 / 2)
    }

    fn digest_of(class: ClassNumber) -> u64 {
        key().hash_one(class.0)
    }

    fn build(records: &[(Vec<u8>, u32)]) -> (Table, Vec<usize>) {
        let mut builder = TableBuilder::default();
        for (local, class) in records {
            builder.push(local, ClassNumber(*class)).expect("far below the limit");
        }
        let mut duplicates = Vec::new();
        let (table, counts) = builder.finish(&key(), domain_of, digest_of, |twice| duplicates.push(twice.number));
        assert_eq!(counts.into_iter().sum::<u32>() as usize, table.len());
        (table, duplicates)
    }

    #[test]
    fn what_was_put_in_is_found_and_nothing_else() {
        let records: Vec<_> = (0..200_000_u32).map(|n| (format!("user{n}").into_bytes(), n % 600)).collect();
        let (table, duplicates) = build(&records);
        assert_eq!((table.len(), duplicates.len()), (200_000, 0));
        for (local, class) in &records {
            let hash = LocalHash::of(local, &key());
            let domain = domain_of(ClassNumber(*class));
            assert_eq!(table.find(hash, domain, local, domain_of), Some(ClassNumber(*class)));
            assert_eq!(table.find(hash, DomainNumber(domain.0 + 1), local, domain_of), None);
        }
        for n in 200_000..400_000_u32 {
            let local = format!("user{n}").into_bytes();
            assert_eq!(table.find(LocalHash::of(&local, &key()), DomainNumber(n % 300), &local, domain_of), None);
        }
        assert_eq!(table.records(&key(), domain_of).count(), 200_000);
    }

    /// One bucket, one tag, one local part: only the domain tells them apart, and it is compared.
    #[test]
    fn equal_tags_are_not_taken_for_equal_keys() {
        let hash = LocalHash::of(b"anna", &key());
        let wanted = tag(hash.in_domain(DomainNumber(0)));
        let twin = (1..).find(|&n| tag(hash.in_domain(DomainNumber(n))) == wanted).expect("a number with the same tag");
        let (table, _) = build(&[(b"anna".to_vec(), 0)]);
        assert_eq!(table.find(hash, DomainNumber(0), b"anna", domain_of), Some(ClassNumber(0)));
        assert_eq!(table.find(hash, DomainNumber(twin), b"anna", domain_of), None);
        let (table, duplicates) = build(&[(b"anna".to_vec(), 0), (b"anna".to_vec(), 2 * twin)]);
        assert_eq!((table.len(), duplicates.len()), (2, 0));
        assert_eq!(table.find(hash, DomainNumber(twin), b"anna", domain_of), Some(ClassNumber(2 * twin)));
    }

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let (table, _) = build(&[]);
        assert_eq!(table.find(LocalHash::of(b"a", &key()), DomainNumber(0), b"a", domain_of), None);
        assert_eq!(Table::default().records(&key(), domain_of).count(), 0);
    }

    /// Class `n` is at domain `n / 2`; domains from 100 on are not there.
    fn each_in(one: &Table, other: &Table) -> Vec<(usize, Option<u32>)> {
        let there = |domain: DomainNumber| (domain.0 < 100).then_some(domain);
        let mut heard = Vec::new();
        let _ = one.each_in(other, &key(), domain_of, there, domain_of, |number, record, found| {
            let hash = LocalHash::of(record.local, &key());
            let domain = domain_of(record.class);
            let expected = there(domain).and_then(|domain| other.find(hash, domain, record.local, domain_of));
            assert_eq!(found, expected, "entry {number}");
            heard.push((number, found.map(|class| class.0)));
            ControlFlow::Continue(())
        });
        heard.sort_unstable();
        heard
    }

    #[test]
    fn every_entry_is_looked_up_in_the_other_table_whatever_the_order() {
        let records: Vec<(Vec<u8>, u32)> =
            (0..30_000_u32).map(|n| (format!("user{n}").into_bytes(), n % 150)).collect();
        let (table, _) = build(&records);
        let mut reversed = records.clone();
        reversed.reverse();
        let mut rotated = records.clone();
        rotated.rotate_left(7_000);
        let mut thinned = records.clone();
        thinned.retain(|(_, class)| class % 10 != 3);
        let mut doubled = records.clone();
        doubled.extend(records.iter().step_by(7).map(|(local, class)| (local.clone(), class ^ 1)));
        for other in [&records, &reversed, &rotated, &thinned, &doubled, &Vec::new()] {
            let (other, _) = build(other);
            assert_eq!(each_in(&table, &other).len(), table.len());
            assert_eq!(each_in(&other, &table).len(), other.len());
        }
    }

    /// More than a batch of them is in a domain that the other table has not.
    #[test]
    fn a_domain_that_is_not_there_hides_nothing_behind_it() {
        let known: Vec<(Vec<u8>, u32)> = (0..40_u32).map(|n| (format!("user{n}").into_bytes(), 0)).collect();
        let mut records: Vec<(Vec<u8>, u32)> = (0..BATCH + 1).map(|n| (n.to_le_bytes().to_vec(), 200)).collect();
        records.extend(known.iter().rev().cloned());
        let (table, other) = (build(&records).0, build(&known).0);
        let heard = each_in(&table, &other);
        assert_eq!((heard.len(), heard.iter().filter(|(_, found)| found.is_some()).count()), (BATCH + 41, 40));
    }

    proptest! {
        #[test]
        fn any_two_tables_are_compared_right(
            one in proptest::collection::vec((proptest::collection::vec(0_u8..3, 0..3), 0_u32..210), 0..60),
            other in proptest::collection::vec((proptest::collection::vec(0_u8..3, 0..3), 0_u32..210), 0..60),
        ) {
            let (one, other) = (build(&one).0, build(&other).0);
            prop_assert_eq!(each_in(&one, &other).len(), one.len());
        }

        #[test]
        fn the_first_of_equal_keys_stays(
            records in proptest::collection::vec((proptest::collection::vec(0_u8..3, 0..3), 0_u32..6), 0..200),
        ) {
            let (table, duplicates) = build(&records);
            let mut model: HashMap<(Vec<u8>, u32), u32> = HashMap::new();
            let mut twice = Vec::new();
            for (number, (local, class)) in records.iter().enumerate() {
                match model.entry((local.clone(), class / 2)) {
                    std::collections::hash_map::Entry::Occupied(_) => twice.push(number),
                    std::collections::hash_map::Entry::Vacant(place) => { place.insert(*class); }
                }
            }
            let mut duplicates = duplicates;
            duplicates.sort_unstable();
            prop_assert_eq!(duplicates, twice);
            for ((local, domain), class) in &model {
                let found = table.find(LocalHash::of(local, &key()), DomainNumber(*domain), local, domain_of);
                prop_assert_eq!(found, Some(ClassNumber(*class)));
            }
            prop_assert_eq!(table.records(&key(), domain_of).count(), model.len());
        }

        #[test]
        fn varints_are_read_back(value: u32) {
            let mut bytes = Vec::new();
            write_varint(value, &mut bytes);
            prop_assert_eq!(read_varint(&bytes), (value, bytes.len()));
        }
    }
}
