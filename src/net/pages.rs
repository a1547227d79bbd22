//! What is shown to people and programs over HTTP: metrics, health, status; and the commands of the control socket.

use std::time::Duration;

use serde_json::{Value, json};

use super::ahead;
use super::core::Core;
use crate::proto::http::{self, Method, Request};
use crate::reload::{FileReport, Order, Report, SourceReport, Ticket, plural, recipients, seconds};
use crate::stats::{DIALECTS, Ended, Outcome};

/// JSON's media type.
pub const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// How long the answer to `POST /reload` may take.
pub const RELOAD_PATIENCE: Duration = Duration::from_secs(600);

/// How a request for a page went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The response is written.
    Written,
    /// The response comes when the loader is done with this order.
    Later(Ticket),
}

/// Answers a request. Commands are taken on the control socket only.
pub fn respond(request: &Request<'_>, control: bool, core: &mut Core, out: &mut Vec<u8>) -> Page {
    let (media, body) = match (request.method, request.path) {
        (Method::Post, path @ ("/reload" | "/rollback" | "/rehearse")) if control => match order(path, request.query) {
            Ok(Order::Reload { force }) if force.iter().any(|name| !is_source(core, name)) => {
                let sources = core.report.sources.iter().map(|source| source.name.clone());
                let files = core.report.files.iter().map(|file| file.path.display().to_string());
                let names: Vec<String> = sources.chain(files).collect();
                let why = format!("there is no such source to force; there are {}\n", names.join(", "));
                http::encode(400, TEXT, why.as_bytes(), false, out);
                return Page::Written;
            }
            Ok(order) => return Page::Later(core.order(order)),
            Err(why) => return refuse(why, out),
        },
        (Method::Post, "/flush") if control => match ahead::flush(core, request.query) {
            Ok(value) => (JSON, value.to_string()),
            Err(why) => return refuse(why, out),
        },
        (Method::Post, "/remember") if control => (JSON, ahead::remember(core, request.body).to_string()),
        // On the control socket only: it names recipients.
        (Method::Get | Method::Head, "/cache") if control => match ahead::page(core, request.query) {
            Ok(value) => (JSON, value.to_string()),
            Err(why) => return refuse(why, out),
        },
        (Method::Get | Method::Head, "/health") => {
            let (status, text) = health(core);
            let body = if request.method == Method::Head { &[][..] } else { text.as_bytes() };
            http::encode(status, TEXT, body, false, out);
            return Page::Written;
        }
        (Method::Get | Method::Head, "/metrics") => (super::metrics::MEDIA_TYPE, super::metrics::page(core)),
        (Method::Get | Method::Head, "/status") => (JSON, status(core).to_string()),
        (Method::Get | Method::Head, "/stats") => (JSON, stats(core).to_string()),
        // On the control socket only: it names domains, clients and the names that they guess.
        (Method::Get | Method::Head, "/report") if control => (JSON, super::report::page(core).to_string()),
        (_, "/health" | "/metrics" | "/status" | "/stats") => {
            http::encode_not_allowed("GET, HEAD", false, out);
            return Page::Written;
        }
        _ => {
            http::encode_status(404, false, out);
            return Page::Written;
        }
    };
    if request.method == Method::Head {
        http::encode_head(200, media, body.len(), false, out);
    } else {
        http::encode(200, media, body.as_bytes(), false, out);
    }
    Page::Written
}

/// Whether guards watch over something of that name: a source, or a domain file or table by its path.
fn is_source(core: &Core, name: &str) -> bool {
    let report = &core.report;
    report.sources.iter().any(|source| source.name == name)
        || report.files.iter().any(|file| file.path == std::path::Path::new(name))
}

fn refuse(why: &str, out: &mut Vec<u8>) -> Page {
    http::encode(400, TEXT, why.as_bytes(), false, out);
    Page::Written
}

/// The order that a command is: `/reload?force=NAME` (several names: a line each), `/rollback?source=NAME&version=3`.
fn order(path: &str, query: &str) -> Result<Order, &'static str> {
    let parameter = |name| http::parameter(query, name).map(|value| String::from_utf8_lossy(&value).into_owned());
    Ok(match path {
        "/reload" => {
            let force = parameter("force").unwrap_or_default();
            Order::Reload { force: force.lines().map(str::to_owned).collect() }
        }
        "/rollback" => Order::Rollback {
            source: parameter("source").ok_or("which source? /rollback?source=NAME\n")?,
            version: match parameter("version") {
                Some(version) => Some(version.parse().map_err(|_| "the version is a number\n")?),
                None => None,
            },
        },
        _ => Order::Rehearse,
    })
}

/// The response to `POST /reload`: 200 when everything was taken, 409 when something stayed as it was.
pub fn reloaded(core: &Core) -> (u16, String) {
    let is_good = core.report.is_good() && core.listen_errors.is_empty();
    (if is_good { 200 } else { 409 }, status(core).to_string())
}

/// One line for the log, systemd and `status`.
pub fn status_line(core: &Core) -> String {
    let report = &core.report;
    let open = format!("{}, {}", plural(core.sessions, "session"), core.stats.summary());
    if report.serial == 0 {
        return format!("loading; every recipient is \"try again later\" until it is done; {open}");
    }
    let trouble = match report.errors().count() {
        0 => String::new(),
        1 => "1 source or file NOT taken; ".to_owned(),
        count => format!("{count} sources or files NOT taken; "),
    };
    format!("{trouble}serving {} in {}; {open}", recipients(report), plural(report.domains, "domain"))
}

/// 200 while every source is in force as it should be; 503 while something can't be told for want of a list, or a list
/// in force is an old one.
fn health(core: &Core) -> (u16, String) {
    let report = &core.report;
    if report.serial == 0 {
        return (503, "loading: no list has been read yet\n".to_owned());
    }
    let errors: String = report.errors().map(|error| format!("{error}\n")).collect();
    if errors.is_empty() { (200, "ok\n".to_owned()) } else { (503, errors) }
}

/// Everything that `rcptmapd status` shows.
pub fn status(core: &Core) -> Value {
    let report = &core.report;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "state": state(core),
        "started": seconds(Some(core.started_at)),
        "uptime_seconds": core.now.saturating_duration_since(core.started).as_secs(),
        "sessions": core.sessions,
        "requests": core.stats.total(),
        "loads": report.serial,
        "loaded": seconds(report.at),
        "load_seconds": report.took.as_secs_f64(),
        "configuration_error": report.config_error,
        "domains": report.domains,
        "recipients": report.recipients,
        "refusals": report.refusals,
        "memory_bytes": report.heap_bytes,
        "state_dir_error": report.state_dir_error,
        "complete": core.directory.snapshot().is_complete(),
        "sources": report.sources.iter().map(SourceReport::to_json).collect::<Vec<_>>(),
        "files": report.files.iter().map(FileReport::to_json).collect::<Vec<_>>(),
        "listen_errors": core.listen_errors,
        "listeners": core.listening.iter().map(|listening| json!({
            "on": listening.on,
            "protocol": listening.protocol.word(),
            "default_map": listening.default_map,
        })).collect::<Vec<_>>(),
        "next_hops": ahead::next_hops(core),
        "cache": ahead::cache(core),
        "maps": core.directory.maps().iter().map(|map| &*map.name).collect::<Vec<_>>(),
    })
}

fn state(core: &Core) -> &'static str {
    let report: &Report = &core.report;
    match (report.serial, report.is_good() && core.listen_errors.is_empty()) {
        (0, _) => "loading",
        (_, true) => "ok",
        (_, false) => "degraded",
    }
}

/// Everything that `rcptmapd stats` shows.
pub fn stats(core: &Core) -> Value {
    let stats = &core.stats;
    let requests: serde_json::Map<String, Value> = DIALECTS
        .iter()
        .map(|&(dialect, name)| {
            let outcomes =
                Outcome::ALL.map(|outcome| (outcome.name().to_owned(), stats.requests(dialect, outcome).into()));
            let mut counts: serde_json::Map<String, Value> = outcomes.into_iter().collect();
            counts.insert("malformed".to_owned(), stats.violations(dialect).into());
            (name.to_owned(), Value::Object(counts))
        })
        .collect();
    let ended: serde_json::Map<String, Value> =
        Ended::ALL.iter().map(|&how| (how.name().to_owned(), stats.ended(how).into())).collect();
    json!({
        "uptime_seconds": core.now.saturating_duration_since(core.started).as_secs(),
        "requests": requests,
        "spared": stats.spared,
        "spared_by_domain": core.spared.domains().map(|(name, count)| {
            (String::from_utf8_lossy(name).into_owned(), count.into())
        }).collect::<serde_json::Map<String, Value>>(),
        "cache": ahead::cache(core),
        "skipped": super::report::skipped(core),
        "discarded": stats.discarded,
        "sessions": {
            "open": core.sessions,
            "accepted": stats.accepted,
            "not_allowed": stats.not_allowed,
            "turned_away": stats.turned_away,
            "accept_failures": stats.accept_failures,
            "ended": ended,
        },
        "reloads": stats.reloads,
        "reload_failures": stats.reload_failures,
        "log_lines_dropped": core.logger.dropped(),
    })
}
