//! `rcptmapd report`: what became of recipients, since the start and lately.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::client::Whom;
use super::text::{self, Style, Table};
use super::{Failure, exit, status};

/// Show what became of recipients
///
/// How many were accepted, refused, put off and not checked, by domain and by map, since the start, in the last hour and
/// in the last day; and, with [harvest] in the configuration, who guesses recipients, and which.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd report
  rcptmapd report --json | jq '.domains[] | {name, refused: .day.refused}'

The last hour is counted in steps of five minutes, the last day in steps of an hour. The counts
begin anew when the daemon starts.

Exit status: 0, or 69 when there is no daemon, 77 when the control socket is not for you.")]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Asks, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let Some(control) = args.whom.control()? else {
        return Err(Failure::new(exit::CONFIG, "the configuration has no control socket, and only there is a report"));
    };
    let value = status::fetch(&args.whom, Some(&control), "/report")?;
    if args.json {
        text::print_json(&value)?;
    } else {
        text::print(&Report::of(&value)?.text(Style::of_stdout()))?;
    }
    Ok(exit::OK)
}

/// What we show of `/report`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    uptime_seconds: u64,
    all: Spans,
    maps: Vec<Spans>,
    domains: Vec<Spans>,
    domains_left_out: usize,
    other_domains: Spans,
    spared: u64,
    skipped: BTreeMap<String, u64>,
    discarded: u64,
    harvest: Option<Harvest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spans {
    name: String,
    start: Counts,
    hour: Counts,
    day: Counts,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    accepted: u64,
    refused: u64,
    deferred: u64,
    skipped: u64,
    foreign: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Harvest {
    action: String,
    window_seconds: u64,
    clients: usize,
    tripped: Vec<Guesses>,
    tripped_clients: usize,
    domains: Vec<Guesses>,
    trips: u64,
    acted: u64,
    guessed: Vec<Name>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Guesses {
    client: String,
    name: String,
    asked: u64,
    absent: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Name {
    name: String,
    count: u64,
}

impl Counts {
    /// Recipients that something was decided about.
    fn decided(&self) -> u64 {
        self.accepted + self.refused + self.deferred
    }

    fn is_nothing(&self) -> bool {
        self.decided() + self.skipped + self.foreign == 0
    }

    /// The share of refused ones: `80.0 %`.
    fn share(&self) -> String {
        match self.decided() {
            0 => "-".to_owned(),
            all => format!("{:.1} %", self.refused as f64 * 100.0 / all as f64),
        }
    }

    fn cells(&self) -> impl Iterator<Item = String> {
        let numbers = [self.accepted, self.refused, self.deferred, self.skipped, self.foreign];
        numbers.map(text::number).into_iter().chain([self.share()])
    }
}

/// The share as people say it: `4 of 5`.
fn fraction(part: u64, all: u64) -> String {
    if part == 0 {
        return "none".to_owned();
    }
    if part == all {
        return "all".to_owned();
    }
    let share = part as f64 / all as f64;
    // Near the ends a fraction of small numbers would be none or all.
    if share < 0.1 {
        return format!("1 of {}", text::number((1.0 / share).round() as u64));
    }
    if share > 0.9 {
        let of = (1.0 / (1.0 - share)).round() as u64;
        return format!("{} of {}", text::number(of - 1), text::number(of));
    }
    let distance = |of: u64| ((share * of as f64).round() / of as f64 - share).abs();
    // The smallest number that is near enough: one in a hundred, else the best of ten.
    let near = (2..=10_u64).find(|&of| distance(of) < 0.01);
    let of = near.unwrap_or_else(|| (2..=10).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap_or(10));
    format!("{} of {of}", (share * of as f64).round() as u64)
}

impl Report {
    fn of(value: &Value) -> Result<Report, Failure> {
        Report::deserialize(value).map_err(|e| {
            Failure::new(exit::PROTOCOL, format!("the daemon's answer can't be read ({e}); is it of another version?"))
        })
    }

    fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let since = text::span(self.uptime_seconds);
        let Counts { refused, .. } = self.all.start;
        match self.all.start.decided() {
            0 => {
                let _ = writeln!(out, "since the start {since} ago: nobody has asked about a recipient of ours");
            }
            all => {
                let exactly = format!("({} of {})", text::number(refused), text::number(all));
                let sentence = format!("{} recipients refused", fraction(refused, all));
                let _ = writeln!(out, "since the start {since} ago: {} {exactly}", style.head(&sentence));
            }
        }
        out.push('\n');
        let spans = [("last hour", self.all.hour), ("last day", self.all.day), ("since the start", self.all.start)];
        table("RECIPIENTS", spans.into_iter().map(|(name, counts)| (name.to_owned(), counts)), style, &mut out);
        let busy = |spans: &&Spans| !spans.start.is_nothing();
        for (title, lines) in [("MAP", &self.maps), ("DOMAIN", &self.domains)] {
            for (when, counts) in
                [("last day", (|spans| spans.day) as fn(&Spans) -> Counts), ("start", |spans| spans.start)]
            {
                let lines: Vec<_> = lines.iter().filter(busy).map(|line| (line.name.clone(), counts(line))).collect();
                // One table is enough while they are the same.
                let same = when == "last day" && self.uptime_seconds < 86_400;
                if !same && !lines.is_empty() {
                    out.push('\n');
                    let title = if when == "start" { title.to_owned() } else { format!("{title}, LAST DAY") };
                    table(&title, lines.into_iter(), style, &mut out);
                }
            }
        }
        if self.domains_left_out > 0 || !self.other_domains.start.is_nothing() {
            let more = text::count(self.domains_left_out, "more domain");
            let others = text::number(self.other_domains.start.decided());
            let _ = writeln!(out, "{more}; {others} recipients in domains without counts of their own");
        }
        self.write_exceptions(&mut out, style);
        if let Some(harvest) = &self.harvest {
            harvest.write(&mut out, style);
        }
        out
    }

    fn write_exceptions(&self, out: &mut String, style: Style) {
        let skipped: Vec<_> = self.skipped.iter().filter(|(_, count)| **count > 0).collect();
        if !skipped.is_empty() {
            let _ = writeln!(out, "\n{}", style.head("NOT CHECKED"));
            let mut table = Table::new(&[1]);
            for (reason, count) in skipped {
                table.row([reason.clone(), text::number(*count)]);
            }
            write_lines(&table, out);
        }
        if self.spared > 0 {
            let spared = text::number(self.spared);
            let _ = writeln!(out, "\n{spared} would have been refused, but mode is \"warn\" or \"off\"");
        }
        if self.discarded > 0 {
            let text = format!("{} dropped without a word (bitbucket)", text::number(self.discarded));
            let _ = writeln!(out, "\n{}", style.odd(&text));
        }
    }
}

impl Harvest {
    fn write(&self, out: &mut String, style: Style) {
        let _ = writeln!(out, "\n{}", style.head("GUESSING"));
        let window = text::span(self.window_seconds);
        let clients = text::count(self.clients, "client");
        let tripped = text::count(self.tripped_clients, "client");
        let _ = writeln!(
            out,
            "{clients} within {window}; {tripped} guessing now, found {} times",
            text::number(self.trips)
        );
        let _ = writeln!(out, "action \"{}\": {} answers changed", self.action, text::number(self.acted));
        let mut table = Table::new(&[1, 2]);
        for guesses in self.tripped.iter().chain(&self.domains) {
            let who = if guesses.client.is_empty() { &guesses.name } else { &guesses.client };
            let of = format!("{} of {}", text::number(guesses.absent), text::number(guesses.asked));
            table.row([who.clone(), of, "don't exist".to_owned()]);
        }
        write_lines(&table, out);
        if !self.guessed.is_empty() {
            let _ = writeln!(out, "\n{}", style.head("MOST GUESSED"));
            let mut table = Table::new(&[1]);
            for name in &self.guessed {
                table.row([name.name.clone(), text::number(name.count)]);
            }
            write_lines(&table, out);
        }
    }
}

fn table(title: &str, lines: impl Iterator<Item = (String, Counts)>, style: Style, out: &mut String) {
    let mut table = Table::new(&[1, 2, 3, 4, 5, 6]);
    table.row([title, "ACCEPTED", "REFUSED", "PUT OFF", "NOT CHECKED", "NOT OURS", "REFUSED"]);
    for (name, counts) in lines {
        table.row([name].into_iter().chain(counts.cells()));
    }
    for (at, line) in table.lines(0).iter().enumerate() {
        let _ = writeln!(out, "{}", if at == 0 { style.head(line) } else { line.clone() });
    }
}

fn write_lines(table: &Table, out: &mut String) {
    table.lines(0).iter().for_each(|line| {
        let _ = writeln!(out, "{line}");
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_are_said_as_people_say_them() {
        for (part, all, said) in [
            (0, 10, "none"),
            (10, 10, "all"),
            (4, 5, "4 of 5"),
            (801, 1000, "4 of 5"),
            (1, 2, "1 of 2"),
            (333, 1000, "1 of 3"),
            (660, 1000, "2 of 3"),
            (1, 50, "1 of 50"),
            (1, 1_000_000, "1 of 1,000,000"),
            (99, 100, "99 of 100"),
            (95, 100, "19 of 20"),
            (857, 1000, "6 of 7"),
        ] {
            assert_eq!(fraction(part, all), said, "{part} of {all}");
        }
        for all in 1..60 {
            for part in 0..=all {
                let said = fraction(part, all);
                let Some((a, b)) = said.split_once(" of ") else { continue };
                let (a, b): (f64, f64) = (a.parse().expect("a number"), b.parse().expect("a number"));
                assert!((a / b - part as f64 / all as f64).abs() < 0.06, "{part} of {all} is {said}");
            }
        }
    }

    #[test]
    fn a_report_begins_with_the_sentence_that_counts() {
        let counts = |accepted: u64, refused: u64| json!({"accepted": accepted, "refused": refused, "deferred": 0, "skipped": 7, "foreign": 1});
        let value = json!({
            "uptime_seconds": 90_000,
            "all": {"start": counts(200, 800), "hour": counts(0, 3), "day": counts(50, 150)},
            "maps": [{"name": "rcpt", "start": counts(200, 800), "hour": counts(0, 3), "day": counts(50, 150)}, {"name": "check"}],
            "domains": [{"name": "a.example", "start": counts(200, 800), "hour": counts(0, 3), "day": counts(50, 150)}],
            "skipped": {"client": 7, "daemon": 0},
            "discarded": 2,
            "harvest": {
                "action": "tempfail", "window_seconds": 600, "clients": 12, "trips": 1, "acted": 40, "tripped_clients": 1,
                "tripped": [{"client": "192.0.2.9", "asked": 60, "absent": 58}],
                "guessed": [{"name": "info@a.example", "count": 1_234}],
            },
        });
        let text = Report::of(&value).expect("a report").text(Style::default());
        assert_eq!(
            text,
            "since the start 1 d 1 h ago: 4 of 5 recipients refused (800 of 1,000)\n\
             \n\
             RECIPIENTS       ACCEPTED  REFUSED  PUT OFF  NOT CHECKED  NOT OURS  REFUSED\n\
             last hour               0        3        0            7         1  100.0 %\n\
             last day               50      150        0            7         1   75.0 %\n\
             since the start       200      800        0            7         1   80.0 %\n\
             \n\
             MAP, LAST DAY  ACCEPTED  REFUSED  PUT OFF  NOT CHECKED  NOT OURS  REFUSED\n\
             rcpt                 50      150        0            7         1   75.0 %\n\
             \n\
             MAP   ACCEPTED  REFUSED  PUT OFF  NOT CHECKED  NOT OURS  REFUSED\n\
             rcpt       200      800        0            7         1   80.0 %\n\
             \n\
             DOMAIN, LAST DAY  ACCEPTED  REFUSED  PUT OFF  NOT CHECKED  NOT OURS  REFUSED\n\
             a.example               50      150        0            7         1   75.0 %\n\
             \n\
             DOMAIN     ACCEPTED  REFUSED  PUT OFF  NOT CHECKED  NOT OURS  REFUSED\n\
             a.example       200      800        0            7         1   80.0 %\n\
             \n\
             NOT CHECKED\n\
             client  7\n\
             \n\
             2 dropped without a word (bitbucket)\n\
             \n\
             GUESSING\n\
             12 clients within 10 min; 1 client guessing now, found 1 times\n\
             action \"tempfail\": 40 answers changed\n\
             192.0.2.9  58 of 60  don't exist\n\
             \n\
             MOST GUESSED\n\
             info@a.example  1,234\n"
        );
        assert!(Report::of(&json!({})).expect("nothing").text(Style::default()).contains("nobody has asked"));
    }
}
