//! `rcptmapd status`: what a running daemon serves, and what it could not take.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::client::{self, Commands, PageArgs, Whom};
use super::hops::{self, NextHop, Remembered};
use super::text::{self, Style, Table};
use super::{Failure, exit};
use crate::config::Endpoint;
use crate::reload::quoted;

/// Show what a running daemon serves, and what it could not take
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd status
  rcptmapd status -c rcptmapd.toml
  rcptmapd status --to 127.0.0.1:8910
  rcptmapd status --json | jq -r '.sources[] | select(.state != \"ok\") | .error'

The daemon is found by the control socket of its configuration (-c, else /etc/rcptmapd/rcptmapd.toml, else \
/run/rcptmapd/control.sock), or asked on one of its listeners (--to).

Exit status: 0 everything is in force as it should be, 1 it is not, 69 there is no daemon, 77 the control socket is \
not for you.")]
pub struct Args {
    #[command(flatten)]
    page: PageArgs,
}

/// Asks, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let value = fetch(&args.page.whom, args.page.to.as_ref(), "/status")?;
    let status = Status::of(&value)?;
    if args.page.json {
        text::print_json(&value)?;
    } else {
        text::print(&status.text(text::now(), Style::of_stdout(), &args.page.whom.commands()))?;
    }
    Ok(if status.state == "ok" { exit::OK } else { exit::NO })
}

/// A JSON page of a running daemon.
pub fn fetch(whom: &Whom, to: Option<&Endpoint>, page: &str) -> Result<Value, Failure> {
    let endpoint = match to {
        Some(to) => to.clone(),
        None => whom.pages()?,
    };
    let mut stream = client::connect(&endpoint, client::PAGE_PATIENCE)?;
    let (status, body) = client::page(&mut stream, "GET", page)?;
    if status != 200 {
        let text = format!("{endpoint}: the daemon answers {status} to {page}; is it of another version?");
        return Err(Failure::new(exit::PROTOCOL, text));
    }
    json(&body)
}

/// JSON from a daemon.
pub fn json<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|e| {
        Failure::new(exit::PROTOCOL, format!("the daemon's answer can't be read ({e}); is it of another version?"))
    })
}

/// What we show of `/status`. What an older or newer daemon does not send is shown as if it were nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    version: String,
    pid: u32,
    /// `ok`, `degraded` or `loading`.
    pub state: String,
    uptime_seconds: u64,
    sessions: usize,
    requests: usize,
    loaded: Option<u64>,
    load_seconds: f64,
    /// Why the last configuration was not taken.
    pub configuration_error: Option<String>,
    state_dir_error: Option<String>,
    listen_errors: Vec<String>,
    domains: usize,
    recipients: usize,
    memory_bytes: u64,
    sources: Vec<Source>,
    files: Vec<File>,
    listeners: Vec<Listener>,
    next_hops: Vec<NextHop>,
    cache: Option<Remembered>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    name: String,
    origin: String,
    state: String,
    error: Option<String>,
    format: Option<String>,
    recipients: usize,
    vanished: u64,
    foreign: u64,
    bad_lines: u64,
    taken: Option<u64>,
    version: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    path: String,
    #[serde(rename = "for")]
    what: String,
    state: String,
    error: Option<String>,
    entries: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listener {
    on: String,
    protocol: String,
    default_map: String,
}

impl Status {
    /// Reads what we show.
    pub fn of(value: &Value) -> Result<Status, Failure> {
        Status::deserialize(value).map_err(|e| {
            Failure::new(exit::PROTOCOL, format!("the daemon's answer can't be read ({e}); is it of another version?"))
        })
    }

    /// For people; `now` in seconds since 1970.
    pub fn text(&self, now: u64, style: Style, commands: &Commands) -> String {
        let mut out = String::new();
        self.headline(style, &mut out);
        let _ = writeln!(
            out,
            "rcptmapd {}, process {}, up {}; {}, {}",
            self.version,
            self.pid,
            text::span(self.uptime_seconds),
            text::count(self.sessions, "session"),
            text::count(self.requests, "request")
        );
        if let Some(loaded) = self.loaded {
            let (ago, took) = (ago(loaded, now), self.load_seconds);
            let _ = writeln!(out, "last load {ago}, in {took:.2} s; {} in memory", text::size(self.memory_bytes));
        }
        if let Some(error) = &self.configuration_error {
            let _ =
                writeln!(out, "\n{}", style.bad("configuration not taken, the old one and its lists stay in force"));
            error.lines().for_each(|line| {
                let _ = writeln!(out, "  {line}");
            });
            let _ = writeln!(out, "  to do: mend it, see `{}`, then `{}`", commands.check(""), commands.reload());
        }
        if let Some(error) = &self.state_dir_error {
            let _ = writeln!(out, "\n{} {error}", style.bad("nothing is saved:"));
            let _ =
                writeln!(out, "  meanwhile: the answers are right; after a restart an older list may serve, or none");
            let _ = writeln!(out, "  to do: make room there, or make it writable, then `{}`", commands.reload());
        }
        for error in &self.listen_errors {
            let _ = writeln!(out, "\n{} {error}", style.bad("not listening:"));
            let _ =
                writeln!(out, "  meanwhile: the listeners that were open stay open\n  to do: `{}`", commands.reload());
        }
        self.listeners(style, &mut out);
        self.sources(now, style, commands, &mut out);
        self.files(style, commands, &mut out);
        hops::show(&self.next_hops, self.cache.as_ref(), style, &mut out);
        out
    }

    fn headline(&self, style: Style, out: &mut String) {
        let served =
            format!("{} in {}", text::count(self.recipients, "recipient"), text::count(self.domains, "domain"));
        let line = match self.state.as_str() {
            "ok" => style.good(&format!("ok: serving {served}")),
            "loading" => style.odd("loading: every recipient is \"try again later\" until it is done"),
            state => {
                let not_taken = self.sources.iter().filter(|source| source.error.is_some()).count()
                    + self.files.iter().filter(|file| file.error.is_some()).count();
                let what = match not_taken {
                    0 if self.configuration_error.is_none() => "it does not listen where it should".to_owned(),
                    0 => "the configuration was not taken".to_owned(),
                    1 => "1 list was not taken".to_owned(),
                    count => format!("{count} lists were not taken"),
                };
                style.bad(&format!("{state}: {what}; serving {served}"))
            }
        };
        let _ = writeln!(out, "{line}");
    }

    fn listeners(&self, style: Style, out: &mut String) {
        if self.listeners.is_empty() {
            return;
        }
        let mut table = Table::new(&[]);
        table.row(["LISTENER", "PROTOCOL", "DEFAULT MAP"]);
        for listener in &self.listeners {
            table.row([&listener.on, &listener.protocol, &listener.default_map]);
        }
        section(&table, style, out);
    }

    fn sources(&self, now: u64, style: Style, commands: &Commands, out: &mut String) {
        let mut table = Table::new(&[2, 3, 4]);
        table.row(["SOURCE", "STATE", "RECIPIENTS", "FOREIGN", "BAD LINES", "FORMAT", "TAKEN", "FROM"]);
        for source in &self.sources {
            table.row([
                source.name.clone(),
                source.state.clone(),
                text::number(source.recipients),
                text::number(source.foreign),
                text::number(source.bad_lines),
                source.format.clone().unwrap_or_else(|| "-".to_owned()),
                source.taken.map_or_else(|| "never".to_owned(), |taken| ago(taken, now)),
                source.origin.clone(),
            ]);
        }
        section(&table, style, out);
        for source in &self.sources {
            if source.state == "rolled-back" {
                let version = source.version.map_or_else(|| "an old version".to_owned(), |n| format!("version {n}"));
                let text = "is in force by `rcptmapd rollback`, not what the list says now";
                let _ = writeln!(out, "\n{} {version} {text}", style.odd(&format!("{}:", source.name)));
                let _ = writeln!(
                    out,
                    "  until: the list changes, or `{} --force {}`",
                    commands.reload(),
                    quoted(&source.name)
                );
            }
            if source.vanished > 0 {
                let count = text::number(source.vanished);
                let text = "vanished from the list and still accepted (grace)";
                let _ = writeln!(out, "\n{} {count} {text}", style.odd(&format!("{}:", source.name)));
            }
            let Some(error) = &source.error else { continue };
            let _ = writeln!(out, "\n{} {error}", style.bad(&format!("{}:", source.name)));
            let then = match source.state.as_str() {
                "kept" => format!(
                    "its last good list of {}, taken {}, stays in force",
                    text::count(source.recipients, "recipient"),
                    source.taken.map_or_else(|| "some time ago".to_owned(), |taken| ago(taken, now))
                ),
                "old" => "the list stays in force for those whom it lists".to_owned(),
                "ok" | "saved" | "rolled-back" => {
                    format!("a list of {} is in force", text::count(source.recipients, "recipient"))
                }
                _ => "it was never read; whom the other sources don't know gets \"try again later\"".to_owned(),
            };
            let _ = writeln!(out, "  meanwhile: {then}");
            let (check, reload) = (commands.check(&source.origin), commands.reload());
            let _ = writeln!(out, "  to do: mend {}, see `{check}`, then `{reload}`", source.origin);
        }
    }

    fn files(&self, style: Style, commands: &Commands, out: &mut String) {
        if self.files.is_empty() {
            return;
        }
        let mut table = Table::new(&[2]);
        table.row(["FOR", "STATE", "ENTRIES", "FILE"]);
        for file in &self.files {
            table.row([file.what.clone(), file.state.clone(), text::number(file.entries), file.path.clone()]);
        }
        section(&table, style, out);
        for file in &self.files {
            if let Some(error) = &file.error {
                let _ = writeln!(out, "\n{} {error}", style.bad(&format!("{}:", file.what)));
                let _ = writeln!(out, "  to do: mend {}, then `{}`", file.path, commands.reload());
            }
        }
    }
}

/// A table below an empty line; its first line is the head, and what is not ok is red.
pub fn section(table: &Table, style: Style, out: &mut String) {
    out.push('\n');
    for (at, line) in table.lines(0).iter().enumerate() {
        let line = match at {
            0 => style.head(line),
            _ => line
                .split_inclusive(' ')
                .map(|word| match word.trim_end() {
                    state @ ("kept" | "missing" | "down" | "old") => word.replace(state, &style.bad(state)),
                    state @ ("rolled-back" | "saved") => word.replace(state, &style.odd(state)),
                    _ => word.to_owned(),
                })
                .collect(),
        };
        out.push_str(&line);
        out.push('\n');
    }
}

fn ago(then: u64, now: u64) -> String {
    match now.saturating_sub(then) {
        0 => "now".to_owned(),
        seconds => format!("{} ago", text::span(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(value: &Value) -> String {
        Status::of(value).expect("a status").text(1_000_000, Style::default(), &Commands::default())
    }

    fn good() -> Value {
        json!({
            "version": "0.1.0", "pid": 77, "state": "ok", "uptime_seconds": 7_380, "sessions": 12, "requests": 123_456,
            "loaded": 999_400, "load_seconds": 0.123, "domains": 2, "recipients": 1_234, "memory_bytes": 40_960,
            "listeners": [{"on": "127.0.0.1:8910", "protocol": "auto", "default_map": "rcpt"}],
            "sources": [{"name": "exchange", "origin": "/etc/postfix/relay_recipients", "state": "ok",
                "format": "postmap", "recipients": 1_234, "foreign": 5, "bad_lines": 0, "taken": 999_400}],
            "files": [], "new": "to us",
        })
    }

    #[test]
    fn a_good_state_is_short() {
        assert_eq!(
            shown(&good()),
            "ok: serving 1,234 recipients in 2 domains\n\
             rcptmapd 0.1.0, process 77, up 2 h 3 min; 12 sessions, 123,456 requests\n\
             last load 10 min ago, in 0.12 s; 40.0 KiB in memory\n\
             \n\
             LISTENER        PROTOCOL  DEFAULT MAP\n\
             127.0.0.1:8910  auto      rcpt\n\
             \n\
             SOURCE    STATE  RECIPIENTS  FOREIGN  BAD LINES  FORMAT   TAKEN       FROM\n\
             exchange  ok          1,234        5          0  postmap  10 min ago  /etc/postfix/relay_recipients\n"
        );
    }

    #[test]
    fn trouble_comes_with_what_holds_meanwhile_and_what_to_do() {
        let mut value = good();
        value["state"] = "degraded".into();
        value["sources"][0]["state"] = "kept".into();
        value["sources"][0]["error"] = "/etc/postfix/relay_recipients: no such file".into();
        let ad = json!({"name": "ad", "origin": "/srv/ad", "state": "missing", "error": "/srv/ad: no such file"});
        value["sources"].as_array_mut().expect("a list").push(ad);
        value["files"] =
            json!([{"path": "/etc/d", "for": "domains", "state": "missing", "error": "/etc/d: no", "entries": 0}]);
        let text = shown(&value);
        assert!(text.starts_with("degraded: 3 lists were not taken; serving 1,234 recipients"), "{text}");
        assert!(
            text.contains(
                "\nexchange: /etc/postfix/relay_recipients: no such file\n  \
                 meanwhile: its last good list of 1,234 recipients, taken 10 min ago, stays in force\n  \
                 to do: mend /etc/postfix/relay_recipients, see `rcptmapd check`, then `rcptmapd reload`\n"
            ),
            "{text}"
        );
        assert!(text.contains("ad: /srv/ad: no such file\n  meanwhile: it was never read"), "{text}");
        assert!(text.ends_with("domains: /etc/d: no\n  to do: mend /etc/d, then `rcptmapd reload`\n"), "{text}");
    }

    #[test]
    fn what_is_not_as_the_list_says_is_told_though_nothing_is_wrong() {
        let mut value = good();
        value["sources"][0]["state"] = "rolled-back".into();
        (value["sources"][0]["version"], value["sources"][0]["vanished"]) = (16.into(), 3.into());
        value["state_dir_error"] = "can't save a list for the next start: /s/x: no space left (state_dir)".into();
        let text = shown(&value);
        assert!(text.starts_with("ok: serving"), "{text}");
        for told in [
            "\nnothing is saved: can't save a list for the next start: /s/x: no space left (state_dir)\n  meanwhile: ",
            "\nexchange  rolled-back ",
            "\nexchange: version 16 is in force by `rcptmapd rollback`, not what the list says now\n  \
             until: the list changes, or `rcptmapd reload --force exchange`\n",
            "\nexchange: 3 vanished from the list and still accepted (grace)\n",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }

    #[test]
    fn a_refused_configuration_is_told_line_by_line() {
        let mut value = good();
        value["state"] = "degraded".into();
        value["configuration_error"] = "a.toml:1: x\na.toml:2: y".into();
        let text = shown(&value);
        assert!(text.starts_with("degraded: the configuration was not taken; serving"), "{text}");
        assert!(text.contains("\n  a.toml:1: x\n  a.toml:2: y\n  to do: mend it"), "{text}");
    }
}
