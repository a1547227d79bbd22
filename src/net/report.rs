//! `GET /report`: what became of recipients, who was not checked, and who guesses.

use serde_json::{Map, Value, json};

use super::core::Core;
use crate::harvest::Counts;
use crate::reload::seconds;
use crate::skip::Reason;
use crate::tally::{self, Fate, Spans};

/// Most domains, clients and names that a page lists.
const MOST: usize = 100;

/// Everything that `rcptmapd report` shows.
pub fn page(core: &Core) -> Value {
    let tallies = &core.watch.tallies;
    let mut domains: Vec<(&[u8], Spans)> = tallies.domains().collect();
    domains.sort_by_key(|(name, spans)| (std::cmp::Reverse(spans.start.iter().sum::<u64>()), *name));
    let left_out = domains.len().saturating_sub(MOST);
    domains.truncate(MOST);
    json!({
        "started": seconds(Some(core.started_at)),
        "uptime_seconds": core.now.saturating_duration_since(core.started).as_secs(),
        "all": spans(&tallies.all()),
        "maps": tallies.maps().map(|(name, counts)| named(name, &counts)).collect::<Vec<_>>(),
        "domains": domains.iter().map(|(name, counts)| named(&text(name), counts)).collect::<Vec<_>>(),
        "domains_left_out": left_out,
        "other_domains": spans(&tallies.others()),
        "spared": core.stats.spared,
        "skipped": skipped(core),
        "discarded": core.stats.discarded,
        "harvest": harvest(core),
    })
}

/// Recipients that were not checked, by reason.
pub fn skipped(core: &Core) -> Map<String, Value> {
    Reason::ALL.iter().map(|&reason| (reason.name().to_owned(), core.stats.skipped(reason).into())).collect()
}

fn named(name: &str, counts: &Spans) -> Value {
    let mut line = spans(counts);
    line["name"] = name.into();
    line
}

fn spans(spans: &Spans) -> Value {
    json!({ "start": counts(&spans.start), "hour": counts(&spans.hour), "day": counts(&spans.day) })
}

fn counts(counts: &tally::Counts) -> Map<String, Value> {
    Fate::ALL.iter().zip(counts).map(|(fate, &count)| (fate.name().to_owned(), count.into())).collect()
}

/// A domain is what a list says: it may hold anything.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// `null` while nobody wants to know.
fn harvest(core: &Core) -> Value {
    let Some(harvest) = &core.watch.harvest else { return Value::Null };
    let watched = harvest.watched();
    let settings = harvest.settings();
    let guesses = |counts: &Counts| json!({ "asked": counts.asked, "absent": counts.absent });
    let client = |(client, counts): &(std::net::IpAddr, Counts)| {
        let mut line = guesses(counts);
        line["client"] = client.to_string().into();
        line
    };
    let domain = |(place, counts): &(usize, Counts)| {
        let mut line = guesses(counts);
        let name = core.watch.tallies.domain(*place).map_or_else(|| "(others)".to_owned(), text);
        line["name"] = name.into();
        line
    };
    json!({
        "action": settings.action.to_string(),
        "window_seconds": settings.window.as_secs(),
        "clients": watched.clients,
        "tripped": watched.tripped.iter().take(MOST).map(client).collect::<Vec<_>>(),
        "tripped_clients": watched.tripped.len(),
        "domains": watched.domains.iter().take(MOST).map(domain).collect::<Vec<_>>(),
        "trips": harvest.trips,
        "acted": harvest.acted,
        "guessed": harvest
            .most_guessed(20)
            .into_iter()
            .map(|(name, count)| json!({ "name": name, "count": count }))
            .collect::<Vec<_>>(),
    })
}
