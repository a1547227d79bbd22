//! `rcptmapd stats`: the counters of a running daemon.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::client::PageArgs;
use super::text::{self, Style, Table};
use super::{Failure, exit, status};
use crate::stats::{DIALECTS, Ended, Outcome};

/// Show the counters of a running daemon
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd stats
  rcptmapd stats --to 127.0.0.1:8910 --json | jq .requests.socketmap.absent

The same numbers, for Prometheus, are at http://LISTENER/metrics.

Exit status: 0, or 69 when there is no daemon, 77 when the control socket is not for you.")]
pub struct Args {
    #[command(flatten)]
    page: PageArgs,
}

/// Asks, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let value = status::fetch(&args.page.whom, args.page.to.as_ref(), "/stats")?;
    if args.page.json {
        text::print_json(&value)?;
    } else {
        text::print(&Counters::of(&value)?.text(Style::of_stdout()))?;
    }
    Ok(exit::OK)
}

/// What we show of `/stats`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counters {
    uptime_seconds: u64,
    requests: BTreeMap<String, BTreeMap<String, u64>>,
    spared: u64,
    cache: Option<Cache>,
    sessions: Sessions,
    reloads: u64,
    reload_failures: u64,
    log_lines_dropped: u64,
}

/// What call-ahead remembers; `None` without a backend.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cache {
    hits: u64,
    misses: u64,
    joined: u64,
    stale_answers: u64,
    refreshes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sessions {
    open: u64,
    accepted: u64,
    not_allowed: u64,
    turned_away: u64,
    accept_failures: u64,
    ended: BTreeMap<String, u64>,
}

impl Counters {
    fn of(value: &Value) -> Result<Counters, Failure> {
        Counters::deserialize(value).map_err(|e| {
            Failure::new(exit::PROTOCOL, format!("the daemon's answer can't be read ({e}); is it of another version?"))
        })
    }

    fn text(&self, style: Style) -> String {
        let mut out = format!("since the start {} ago\n\n", text::span(self.uptime_seconds));
        // In the order of the program, and whatever else the daemon counts behind it.
        let columns = Outcome::ALL.map(Outcome::name).into_iter().chain(["malformed"]);
        let columns: Vec<&str> = columns.filter(|name| self.total(name) > 0 || *name == "exists").collect();
        let mut table = Table::new(&(1..=columns.len() + 1).collect::<Vec<_>>());
        let upper = |name: &&str| name.to_uppercase().replace('-', " ");
        table.row(["REQUESTS".to_owned()].into_iter().chain(columns.iter().map(upper)).chain(["ALL".to_owned()]));
        let known = DIALECTS.map(|(_, name)| name);
        let others = self.requests.keys().map(String::as_str).filter(|name| !known.contains(name));
        for dialect in known.into_iter().chain(others) {
            let Some(counts) = self.requests.get(dialect) else { continue };
            let all = counts.values().sum::<u64>();
            if all > 0 || dialect == "socketmap" {
                let cells = columns.iter().map(|&name| text::number(counts.get(name).copied().unwrap_or(0)));
                table.row([dialect.to_owned()].into_iter().chain(cells).chain([text::number(all)]));
            }
        }
        let all = self.requests.values().flat_map(BTreeMap::values).sum::<u64>();
        let cells = columns.iter().map(|name| text::number(self.total(name)));
        table.row(["all".to_owned()].into_iter().chain(cells).chain([text::number(all)]));
        for (at, line) in table.lines(0).iter().enumerate() {
            let _ = writeln!(out, "{}", if at == 0 { style.head(line) } else { line.clone() });
        }
        if self.spared > 0 {
            let _ =
                writeln!(out, "{} would have been refused, but mode is \"warn\" or \"off\"", text::number(self.spared));
        }
        if let Some(cache) = &self.cache {
            let _ = writeln!(out, "\n{}", style.head("CALL-AHEAD"));
            let mut table = Table::new(&[1]);
            table.row(["remembered".to_owned(), text::number(cache.hits)]);
            table.row(["not remembered".to_owned(), text::number(cache.misses)]);
            for (what, count) in [
                ("joined a question under way", cache.joined),
                ("answered by an older \"exists\"", cache.stale_answers),
                ("asked again in the background", cache.refreshes),
            ] {
                if count > 0 {
                    table.row([what.to_owned(), text::number(count)]);
                }
            }
            table.lines(0).iter().for_each(|line| {
                let _ = writeln!(out, "{line}");
            });
        }
        let sessions = &self.sessions;
        let _ = writeln!(out, "\n{}", style.head("SESSIONS"));
        let mut table = Table::new(&[1]);
        table.row(["open".to_owned(), text::number(sessions.open)]);
        table.row(["accepted".to_owned(), text::number(sessions.accepted)]);
        let ways = Ended::ALL.map(Ended::name);
        let ended = ways.iter().filter_map(|&how| Some((format!("ended: {how}"), sessions.ended.get(how).copied()?)));
        let odd = [
            ("not in an allow list", sessions.not_allowed),
            ("turned away at a limit", sessions.turned_away),
            ("no descriptor left", sessions.accept_failures),
        ];
        for (what, count) in ended.chain(odd.map(|(what, count)| (what.to_owned(), count))) {
            if count > 0 {
                table.row([what, text::number(count)]);
            }
        }
        table.lines(0).iter().for_each(|line| {
            let _ = writeln!(out, "{line}");
        });
        let _ = writeln!(out, "\nloads: {} good, {} with something not taken", self.reloads, self.reload_failures);
        if self.log_lines_dropped > 0 {
            let lost = text::number(self.log_lines_dropped);
            let _ = writeln!(
                out,
                "{}",
                style.bad(&format!("{lost} log lines were lost: the log daemon did not take them"))
            );
        }
        out
    }

    fn total(&self, outcome: &str) -> u64 {
        self.requests.values().filter_map(|counts| counts.get(outcome)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_happened_is_shown() {
        let value = json!({
            "uptime_seconds": 3_600,
            "requests": {
                "socketmap": {"exists": 1_000, "absent": 20, "malformed": 1}, "line": {"exists": 3},
                "http": {"exists": 0}, "policy": {}, "milter": {"exists": 2},
            },
            "sessions": {"open": 1, "accepted": 9, "ended": {"finished": 7, "reset": 0, "idle": 1}, "turned_away": 2},
            "reloads": 3, "reload_failures": 0, "spared": 4,
            "cache": {"hits": 1_000, "misses": 20, "stale_answers": 3, "refreshes": 0},
        });
        assert_eq!(
            Counters::of(&value).expect("counters").text(Style::default()),
            "since the start 1 h ago\n\
             \n\
             REQUESTS   EXISTS  ABSENT  MALFORMED    ALL\n\
             socketmap   1,000      20          1  1,021\n\
             line            3       0          0      3\n\
             milter          2       0          0      2\n\
             all         1,005      20          1  1,026\n\
             4 would have been refused, but mode is \"warn\" or \"off\"\n\
             \n\
             CALL-AHEAD\n\
             remembered                     1,000\n\
             not remembered                    20\n\
             answered by an older \"exists\"      3\n\
             \n\
             SESSIONS\n\
             open                    1\n\
             accepted                9\n\
             ended: finished         7\n\
             ended: idle             1\n\
             turned away at a limit  2\n\
             \n\
             loads: 3 good, 0 with something not taken\n"
        );
    }
}
