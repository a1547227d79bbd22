//! The counters in OpenMetrics text, for Prometheus and its kin. All names are in this file.
//!
//! The page is made from the plain counters when somebody asks for it; nothing here is on the way of a look-up.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::core::Core;
use crate::harvest::Harvest;
use crate::reload::State;
use crate::skip::Reason;
use crate::stats::{DIALECTS, Ended, Outcome};

/// The page's media type.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// The page.
pub fn page(core: &Core) -> String {
    let mut registry = Registry::with_prefix("rcptmapd");
    requests(core, &mut registry);
    sessions(core, &mut registry);
    lists(core, &mut registry);
    call_ahead(core, &mut registry);
    let mut page = String::new();
    // A String takes everything; there is no other way for this to fail.
    let _ = encode(&mut page, &registry);
    page
}

fn requests(core: &Core, registry: &mut Registry) {
    let stats = &core.stats;
    let requests = Family::<Labels, Counter>::default();
    let violations = Family::<Labels, Counter>::default();
    for (dialect, name) in DIALECTS {
        for outcome in Outcome::ALL {
            let labels = vec![("protocol", name.to_owned()), ("verdict", outcome.name().to_owned())];
            requests.get_or_create(&labels).inc_by(stats.requests(dialect, outcome));
        }
        violations.get_or_create(&vec![("protocol", name.to_owned())]).inc_by(stats.violations(dialect));
    }
    registry.register("requests", "Requests answered, by protocol and what was found out", requests);
    registry.register("malformed_requests", "Requests that broke their protocol", violations);
    counter(
        registry,
        "spared",
        "Recipients that exist only because their domain does not enforce refusals",
        stats.spared,
    );
    let skipped = Family::<Labels, Counter>::default();
    for reason in Reason::ALL {
        skipped.get_or_create(&vec![("reason", reason.name().to_owned())]).inc_by(stats.skipped(reason));
    }
    registry.register("skipped", "Recipients that were not checked, by reason", skipped);
    counter(registry, "discarded", "Recipients whose message was dropped (bitbucket)", stats.discarded);
    let harvest = core.watch.harvest.as_ref();
    let watched = harvest.map(Harvest::watched).unwrap_or_default();
    gauge(registry, "harvest_clients_tripped", "Clients that guess recipients now", watched.tripped.len() as u64);
    gauge(registry, "harvest_domains_tripped", "Domains that are guessed at now", watched.domains.len() as u64);
    let (trips, acted) = harvest.map_or((0, 0), |harvest| (harvest.trips, harvest.acted));
    counter(registry, "harvest_trips", "Times that a client was found guessing", trips);
    counter(registry, "harvest_acted", "Answers to clients that guess that were not what they would have been", acted);
}

fn sessions(core: &Core, registry: &mut Registry) {
    let stats = &core.stats;
    gauge(registry, "sessions", "Sessions open", core.sessions as u64);
    counter(registry, "sessions_accepted", "Connections taken in", stats.accepted);
    let ended = Family::<Labels, Counter>::default();
    for how in Ended::ALL {
        ended.get_or_create(&vec![("how", how.name().to_owned())]).inc_by(stats.ended(how));
    }
    registry.register("sessions_ended", "Sessions ended, by the way they did", ended);
    counter(registry, "sessions_not_allowed", "Connections closed: the peer is in no allow list", stats.not_allowed);
    counter(registry, "sessions_turned_away", "Connections closed: a limit was reached", stats.turned_away);
    counter(registry, "accept_failures", "Times that no descriptor or memory was left", stats.accept_failures);
    counter(registry, "log_lines_dropped", "Log lines that the log daemon did not take", core.logger.dropped());
}

fn lists(core: &Core, registry: &mut Registry) {
    let (stats, report) = (&core.stats, &core.report);
    gauge(registry, "recipients", "Keys in force, foreign ones not counted", report.recipients as u64);
    gauge(registry, "domains", "Our domains", report.domains as u64);
    gauge(registry, "recipients_bytes", "Memory that the recipients take", report.heap_bytes as u64);
    gauge(
        registry,
        "complete",
        "1: every source has been read at least once",
        core.directory.snapshot().is_complete().into(),
    );
    counter(registry, "reloads", "Loads that took everything", stats.reloads);
    counter(registry, "reload_failures", "Loads that left something as it was", stats.reload_failures);
    let recipients = Family::<Labels, Gauge>::default();
    let taken = Family::<Labels, Gauge>::default();
    let bad_lines = Family::<Labels, Gauge>::default();
    for source in &report.sources {
        let labels = vec![("source", source.name.clone())];
        recipients.get_or_create(&labels).set(source.recipients as i64);
        taken.get_or_create(&labels).set((source.state == State::Taken).into());
        bad_lines.get_or_create(&labels).set(source.findings.fault_count as i64);
    }
    registry.register("source_recipients", "Keys in force, by source", recipients);
    registry.register("source_ok", "1: the last load took this source; 0: an older list or none is in force", taken);
    registry.register("source_bad_lines", "Lines that can't be understood, by source", bad_lines);
}

/// Only where somebody can be asked.
fn call_ahead(core: &Core, registry: &mut Registry) {
    let Some(probing) = &core.ahead.probing else { return };
    let scheduler = &probing.scheduler;
    let sessions = Family::<Labels, Counter>::default();
    let failures = Family::<Labels, Counter>::default();
    let questions = Family::<Labels, Counter>::default();
    let answers = Family::<Labels, Counter>::default();
    let up = Family::<Labels, Gauge>::default();
    let open = Family::<Labels, Gauge>::default();
    let queue = Family::<Labels, Gauge>::default();
    let blind = Family::<Labels, Gauge>::default();
    let canary = Family::<Labels, Gauge>::default();
    for hop in scheduler.status(core.now) {
        let labels = vec![("next_hop", hop.name.to_string())];
        sessions.get_or_create(&labels).inc_by(hop.stats.sessions);
        failures.get_or_create(&labels).inc_by(hop.stats.failures);
        questions.get_or_create(&labels).inc_by(hop.stats.questions);
        for (verdict, count) in
            [("exists", hop.stats.exists), ("absent", hop.stats.absent), ("unknown", hop.stats.unknown)]
        {
            let labels = vec![("next_hop", hop.name.to_string()), ("verdict", verdict.to_owned())];
            answers.get_or_create(&labels).inc_by(count);
        }
        up.get_or_create(&labels).set((super::ahead::state(&hop) != "down").into());
        open.get_or_create(&labels).set(hop.sessions as i64);
        queue.get_or_create(&labels).set(hop.queued as i64);
        blind.get_or_create(&labels).set(hop.blind.len() as i64);
        canary.get_or_create(&labels).set(hop.canary_refused.into());
    }
    registry.register("probe_sessions", "Connections to a next hop that were begun", sessions);
    registry.register("probe_session_failures", "Connections to a next hop that failed", failures);
    registry.register("probe_questions", "Recipients that a next hop was asked for, tests included", questions);
    registry.register("probe_answers", "Questions to a next hop that ended, by what was found out", answers);
    registry.register("next_hop_up", "1: it can be asked, or was never tried", up);
    registry.register("next_hop_sessions", "Connections to a next hop that are open", open);
    registry.register("next_hop_queue", "Questions that wait for a next hop", queue);
    registry.register("next_hop_blind_domains", "Domains of which a next hop takes every recipient", blind);
    registry.register("next_hop_canary_refused", "1: it refuses known_good, and no refusal is believed", canary);
    let cache = scheduler.known();
    gauge(registry, "verdicts", "What next hops said, as far as it is remembered", cache.len() as u64);
    gauge(registry, "verdicts_bytes", "Memory that this takes, without the addresses", cache.heap_bytes() as u64);
    let asked = scheduler.ask_stats();
    let lookups = Family::<Labels, Counter>::default();
    for (result, count) in [("hit", asked.hits), ("miss", asked.misses)] {
        lookups.get_or_create(&vec![("result", result.to_owned())]).inc_by(count);
    }
    registry.register(
        "verdict_lookups",
        "Requests that needed a next hop's word, by whether it was remembered",
        lookups,
    );
    counter(registry, "verdict_stale_answers", "Misses that an older \"exists\" has answered", asked.stale);
    counter(registry, "verdict_refreshes", "Hits that were asked for again in the background", asked.refreshes);
    counter(registry, "probe_joined", "Misses that joined a question that was under way", asked.joined);
    counter(registry, "verdicts_evicted", "Remembered verdicts that made room for others", cache.evicted());
    gauge(registry, "probe_waiting", "Requests that wait for a next hop", scheduler.waiting() as u64);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value as i64);
    registry.register(name, help, gauge);
}
