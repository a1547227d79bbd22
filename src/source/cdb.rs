//! cdb (cr.yp.to/cdb/cdb.txt): a constant database, as qmail's validrcptto.cdb and Postfix's `cdb:` maps are, or the one of
//! qmail's addrcheck.
//!
//! The one format that is no text and is held whole. 256 pairs of position and length, the records, the hash tables;
//! a file whose tables are not all there, or whose number of records differs from that in the tables, is refused.

use super::Key;
use super::addrcheck::{self, Addrcheck};
use super::lines::Join;
use super::rcptto::signed;
use super::syntax::is_full_domain;
use super::{Fault, Grant, Item, Options, Reader, Refused, Sink};

/// The pairs at the beginning.
const HEAD: usize = 2048;

#[derive(Debug)]
pub(super) struct Cdb {
    bytes: Vec<u8>,
    domain: Vec<u8>,
}

impl Reader for Cdb {
    const JOIN: Join = Join::Raw;

    fn new(options: &Options) -> Cdb {
        Cdb { bytes: Vec::new(), domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, _: u32, chunk: &[u8], _: &mut S) -> Result<(), Refused> {
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn end<S: Sink>(&mut self, _: u32, sink: &mut S) -> Result<(), Refused> {
        let (records, slots) = layout(&self.bytes).map_err(|what| Refused::Cdb { what })?;
        let mut rules = is_addrcheck(records).then(Addrcheck::default);
        let mut rest = records;
        let mut number = 0;
        while !rest.is_empty() {
            let (key, value, tail) =
                record(rest).ok_or(Refused::Cdb { what: "a record reaches beyond the records" })?;
            let (key, value) = (trimmed(key), trimmed(value));
            number += 1;
            match (&mut rules, entry(key, value, &self.domain)) {
                (Some(rules), _) => rules.add(number, key, value),
                (None, Ok(item)) => sink.item(number, item),
                (None, Err(fault)) => sink.fault(number, key, fault),
            }
            rest = tail;
        }
        if let Some(rules) = rules {
            rules.tell(sink);
        }
        // Every table has twice as many slots as records.
        match u64::from(number) * 2 == slots {
            true => Ok(()),
            false => Err(Refused::Cdb { what: "the number of records is not that of the tables" }),
        }
    }
}

/// Whether a file begins as a cdb does.
pub(super) fn is_cdb(head: &[u8]) -> bool {
    head.len() >= HEAD && (in_row(head) || pairs(head).all(|pair| pair == (HEAD as u64, 0)))
}

/// Whether there are tables at all, one right behind the other: so many numbers don't agree by chance.
/// Where an empty table is said to be differs between programs.
fn in_row(head: &[u8]) -> bool {
    let mut next = None;
    let fit = filled(head).all(|(position, length)| {
        let fits = position >= HEAD as u64 && next.is_none_or(|next| next == position);
        next = Some(position + length * 8);
        fits
    });
    fit && next.is_some()
}

/// The records, and how many slots the tables have.
fn layout(bytes: &[u8]) -> Result<(&[u8], u64), &'static str> {
    if !is_cdb(bytes) {
        return Err("this does not begin as a cdb file does");
    }
    let first = filled(bytes).next().map_or(HEAD as u64, |(position, _)| position);
    let end = filled(bytes).last().map_or(HEAD as u64, |(position, length)| position + length * 8);
    let records = usize::try_from(first).ok().and_then(|first| bytes.get(HEAD..first));
    match records {
        Some(records) if end == bytes.len() as u64 => Ok((records, filled(bytes).map(|(_, length)| length).sum())),
        _ => Err("the tables are not where the file ends"),
    }
}

/// The tables that have slots.
fn filled(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    pairs(bytes).filter(|(_, length)| *length > 0)
}

/// Positions and lengths of the tables.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    bytes.get(..HEAD).unwrap_or_default().as_chunks::<8>().0.iter().map(|&[a, b, c, d, e, f, g, h]| {
        (u32::from_le_bytes([a, b, c, d]).into(), u32::from_le_bytes([e, f, g, h]).into())
    })
}

/// Key, value and what follows, of the record that `bytes` begins with.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&key, rest) = bytes.split_first_chunk::<4>()?;
    let (&value, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(key)).ok()?)?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(value)).ok()?)?;
    Some((key, value, rest))
}

/// Whether all records are those of addrcheck, local parts among them.
fn is_addrcheck(mut rest: &[u8]) -> bool {
    let mut locals = 0;
    while let Some((key, value, tail)) = record(rest) {
        if !addrcheck::is_record(key, value) {
            return false;
        }
        locals += usize::from(key.starts_with(b"L"));
        rest = tail;
    }
    locals > 0
}

/// Without the NUL that Postfix may put at the end.
fn trimmed(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\0").unwrap_or(text)
}

/// A key as validrcptto or a Postfix map has it.
fn entry<'a>(key: &'a [u8], value: &'a [u8], domain: &'a [u8]) -> Result<Item<'a>, Fault> {
    if is_full_domain(key) {
        return Ok(Item { key: Key::Domain { domain: key }, grant: Grant::Accept { value } });
    }
    let (key, grant) = signed(key, domain)?;
    Ok(Item { key, grant: if grant == Grant::ACCEPT { Grant::Accept { value } } else { grant } })
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Refused, detect, digest};

    /// A cdb file of `records`, made as the specification has it.
    fn cdb(records: &[(&str, &str)]) -> Vec<u8> {
        let word = |n: usize| u32::try_from(n).expect("small").to_le_bytes();
        let mut body = Vec::new();
        let mut tables: Vec<Vec<(u32, usize)>> = vec![Vec::new(); 256];
        for (key, value) in records {
            let hash = key.bytes().fold(5381u32, |h, b| (h << 5).wrapping_add(h) ^ u32::from(b));
            tables[(hash & 255) as usize].push((hash, 2048 + body.len()));
            body.extend([word(key.len()), word(value.len())].concat());
            body.extend([key.as_bytes(), value.as_bytes()].concat());
        }
        let (mut head, mut slots) = (Vec::new(), Vec::new());
        for table in tables {
            let length = table.len() * 2;
            head.extend([word(2048 + body.len() + slots.len()), word(length)].concat());
            let mut filled = vec![(0, 0); length];
            for (hash, position) in table {
                let mut slot = (hash >> 8) as usize % length;
                while filled[slot].1 != 0 {
                    slot = (slot + 1) % length;
                }
                filled[slot] = (hash, position);
            }
            slots.extend(filled.into_iter().flat_map(|(hash, position)| [hash.to_le_bytes(), word(position)].concat()));
        }
        [head, body, slots].concat()
    }

    #[test]
    fn records_are_read_in_order() {
        let file = cdb(&[
            ("anna@example.org", "OK"),
            ("bert@example.org\0", "x\0"),
            ("-leaver@example.org", ""),
            ("@open.example", ""),
            ("example.net", "z"),
            ("sales-default@example.org", ""),
            ("two words", ""),
        ]);
        let digest = digest(Format::Cdb, &file);
        let events: Vec<String> = digest.events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "1 recipient anna@example.org = OK",
                "2 recipient bert@example.org = x",
                "3 recipient leaver@example.org ! absent",
                "4 catch-all @open.example",
                "5 domain example.net = z",
                "6 prefix sales-*@example.org",
                "7 fault Prose | two words",
            ]
        );
        assert_eq!(digest.outcome.map(|s| s.lines), Ok(0));
        assert_eq!(detect(&file, "validrcptto.cdb").format, Format::Cdb);
    }

    #[test]
    fn keys_of_addrcheck_are_no_local_parts() {
        let file = cdb(&[("@example.org", ""), ("Lanna", "+"), ("Lbert", "-"), ("Lcarla", "?carla")]);
        let events: Vec<String> = digest(Format::Cdb, &file).events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "2 recipient anna@example.org",
                "2 prefix anna-*@example.org",
                "3 recipient bert@example.org ! absent",
                "3 prefix bert-*@example.org ! absent",
                "4 fault Program | carla",
                "4 recipient carla@example.org ?",
                "4 prefix carla-*@example.org ?",
            ]
        );
        let domains = digest(Format::Cdb, &cdb(&[("@example.org", "")]));
        assert_eq!(domains.events[0].to_string(), "1 catch-all @example.org");
    }

    #[test]
    fn an_empty_one_is_a_cdb_too() {
        assert_eq!(digest(Format::Cdb, &cdb(&[])).outcome.map(|s| s.lines), Ok(0));
    }

    #[test]
    fn every_cut_is_refused() {
        let file = cdb(&[("anna@example.org", "OK"), ("bert@example.org", "OK")]);
        for cut in 0..file.len() {
            let outcome = digest(Format::Cdb, &file[..cut]).outcome;
            assert!(matches!(outcome, Err(Refused::Cdb { .. })), "cut at {cut}: {outcome:?}");
        }
    }
}
