//! What call-ahead shows to people and programs: next hops in `/status`, entries in `GET /cache`; and what they tell it:
//! `POST /flush` and `POST /remember`.
//!
//! A cache may hold a million entries, and the loop has no time for all of them at once: a page has those of some thousand
//! places, and says where the next one begins.

use serde_json::{Value, json};

use super::core::Core;
use super::verdicts::Flush;
use crate::address;
use crate::map::Scratch;
use crate::probe::backlist;
use crate::probe::cache::{Evidence, Freshness, Hit, Import};
use crate::probe::schedule::{AskStats, HopStatus};
use crate::proto::http;

/// Places of the cache that a page has a look at.
const PLACES: usize = 4096;
/// Most blind domains of a next hop that are named.
const MOST_BLIND: usize = 100;

/// The state of every next hop.
pub fn next_hops(core: &Core) -> Vec<Value> {
    core.ahead.probing.iter().flat_map(|probing| probing.scheduler.status(core.now)).map(|hop| next_hop(&hop)).collect()
}

fn next_hop(hop: &HopStatus) -> Value {
    json!({
        "name": hop.name,
        "state": state(hop),
        "next_trial_seconds": hop.down.map(|time| time.as_secs_f64().ceil() as u64),
        "sessions": hop.sessions,
        "queued": hop.queued,
        "background": hop.background,
        "blind": hop.blind.iter().take(MOST_BLIND).map(|domain| text(domain)).collect::<Vec<_>>(),
        "blind_domains": hop.blind.len(),
        "canary_refused": hop.canary_refused,
        "refusals_per_session": hop.limit,
        "last_error": hop.last_error.as_ref().map(ToString::to_string),
        "sessions_begun": hop.stats.sessions,
        "sessions_failed": hop.stats.failures,
        "questions": hop.stats.questions,
        "exists": hop.stats.exists,
        "absent": hop.stats.absent,
        "unknown": hop.stats.unknown,
    })
}

/// In a word: `up`, `down`, or `untried` while nobody was asked for there.
pub fn state(hop: &HopStatus) -> &'static str {
    match hop {
        HopStatus { is_down: true, .. } | HopStatus { down: Some(_), .. } => "down",
        hop if hop.stats.sessions == 0 => "untried",
        _ => "up",
    }
}

/// What is known of addresses, in numbers; `null` without anybody to be asked.
pub fn cache(core: &Core) -> Value {
    let Some(probing) = &core.ahead.probing else { return Value::Null };
    let cache = probing.scheduler.known();
    let AskStats { hits, misses, joined, stale, refreshes } = probing.scheduler.ask_stats();
    json!({
        "entries": cache.len(),
        "hits": hits,
        "misses": misses,
        "joined": joined,
        "stale_answers": stale,
        "refreshes": refreshes,
        "evicted": cache.evicted(),
        "memory_bytes": cache.heap_bytes(),
        "waiting": probing.scheduler.waiting(),
        "file": probing.verdicts.path(),
        "file_error": probing.verdicts.trouble(),
        "file_is_being_read": probing.verdicts.is_being_read(),
    })
}

/// `GET /cache`: `?address=A`, or a page of all entries or of those `?domain=D`, from the place `from` on.
pub fn page(core: &Core, query: &str) -> Result<Value, &'static str> {
    let Some(probing) = &core.ahead.probing else { return Ok(json!({ "entries": [], "next": null })) };
    let scheduler = &probing.scheduler;
    let (epoch, cache) = (scheduler.epoch(core.now), scheduler.known());
    let entry = |key: &[u8], hit: &Hit| {
        json!({
            "address": text(key),
            "verdict": hit.known.name(),
            "freshness": match hit.freshness {
                Freshness::Fresh => "fresh",
                Freshness::Due => "due",
                Freshness::Stale => "stale",
            },
            "learnt": scheduler.clock().in_calendar(hit.learnt).0,
            "age_seconds": epoch.since(hit.learnt).as_secs(),
            "code": hit.evidence.code,
            "status": hit.evidence.status.map(|status| status.to_string()),
        })
    };
    if let Some(raw) = http::parameter(query, "address") {
        let key = key(core, &raw).ok_or("that is no address\n")?;
        let entries: Vec<Value> = cache.peek(&key, epoch).iter().map(|hit| entry(&key, hit)).collect();
        return Ok(json!({ "address": text(&key), "entries": entries, "next": null }));
    }
    let domain = domain(query)?;
    let from = match http::parameter(query, "from") {
        Some(from) => std::str::from_utf8(&from).ok().and_then(|from| from.parse().ok()).ok_or("from is a number\n")?,
        None => 0,
    };
    let (entries, next) = cache.page(from, PLACES, epoch);
    let is_wanted = |key: &[u8]| domain.as_ref().is_none_or(|domain| is_at(key, domain));
    let entries = entries.filter(|(key, _)| is_wanted(key)).map(|(key, hit)| entry(key, &hit));
    Ok(json!({ "entries": entries.collect::<Vec<_>>(), "next": next }))
}

/// `POST /flush`: `?address=A`, `?domain=D`, or `?all`.
pub fn flush(core: &mut Core, query: &str) -> Result<Value, &'static str> {
    let by_address = http::parameter(query, "address").map(|raw| key(core, &raw).ok_or("that is no address\n"));
    let by_address = by_address.transpose()?;
    let domain = domain(query)?;
    let is_all = http::parameter(query, "all").is_some();
    let Some(probing) = &mut core.ahead.probing else { return Ok(json!({ "flushed": 0 })) };
    let scheduler = &mut probing.scheduler;
    let (flush, what) = match (by_address, domain) {
        (Some(key), None) if !is_all => (Flush::Address(key.clone()), text(&key)),
        (None, Some(domain)) if !is_all => (Flush::Domain(domain.clone()), text(&domain)),
        (None, None) if is_all => (Flush::All, "everything".to_owned()),
        _ => return Err("what? /flush?address=A, /flush?domain=D or /flush?all\n"),
    };
    let flushed = flush.from(scheduler.cache());
    flush.facts_from(scheduler);
    probing.verdicts.flush(flush);
    log::info!("flushed {what}: {flushed} verdicts of backends are forgotten");
    Ok(json!({ "flushed": flushed }))
}

/// `POST /remember` with a piece of scam-backscatter's BackList: what becomes of its lines.
pub fn remember(core: &mut Core, list: &[u8]) -> Value {
    let Core { ahead, directory, now, .. } = core;
    let Some(probing) = &mut ahead.probing else { return json!({ "no_backend": true }) };
    let (epoch, clock) = (probing.scheduler.epoch(*now), *probing.scheduler.clock());
    let (mut taken, mut known, mut dead, mut listed, mut foreign) = (0, 0, 0, 0, 0);
    let (mut faults, mut scratch) = (Vec::new(), Scratch::default());
    let entry = |entry: backlist::Entry<'_>| {
        let asked = directory.if_probed(entry.key, &mut scratch, |recipient| {
            // Where nobody is asked it is no use, and does no harm.
            (recipient.key(), recipient.route.witness(None).unwrap_or_default())
        });
        let count = match asked {
            Some((key, by)) => {
                let cache = probing.scheduler.cache();
                let (evidence, learnt) = (Evidence { by, ..Evidence::default() }, clock.of_calendar(entry.learnt));
                match cache.import(&key, entry.known, evidence, learnt, epoch) {
                    Import::Taken => &mut taken,
                    Import::Known => &mut known,
                    Import::Dead => &mut dead,
                }
            }
            None if directory.snapshot().domain_of(entry.key, &mut scratch).is_some() => &mut listed,
            None => &mut foreign,
        };
        *count += 1;
    };
    backlist::read(list, clock.in_calendar(epoch), entry, |line, _| faults.push(line));
    log::debug!("a piece of a BackList: {taken} verdicts taken over, {foreign} of domains that are not ours");
    json!({ "taken": taken, "known": known, "dead": dead, "listed": listed, "foreign": foreign, "faults": faults })
}

fn domain(query: &str) -> Result<Option<Vec<u8>>, &'static str> {
    let Some(raw) = http::parameter(query, "domain") else { return Ok(None) };
    let mut buffer = Vec::new();
    let folded = address::fold_domain(&raw, &mut buffer).map_err(|_| "that is no domain\n")?;
    Ok(Some(folded.bytes().to_vec()))
}

/// What an address is known by: as it would be asked for; else, where it would not be, simply folded.
fn key(core: &Core, address: &[u8]) -> Option<Vec<u8>> {
    let mut scratch = Scratch::default();
    if let Some(key) = core.directory.if_probed(address, &mut scratch, |recipient| recipient.key()) {
        return Some(key);
    }
    let (mut local, mut domain) = (Vec::new(), Vec::new());
    let raw = address::split(address).ok()?;
    let domain = address::fold_domain(raw.domain, &mut domain).ok()?;
    let local = address::fold_local_part(raw.local, false, &mut local).ok()?;
    Some([local.bytes(), b"@", domain.bytes()].concat())
}

fn is_at(key: &[u8], domain: &[u8]) -> bool {
    memchr::memrchr(b'@', key).is_some_and(|at| &key[at + 1..] == domain)
}

/// As it is where it is text, else escaped: JSON knows no other bytes.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}
