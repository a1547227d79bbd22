//! The session machine against dialogues written down in `tests/vectors/smtp/dialogues.txt`: each played whole, byte by
//! byte, and with every flight of the server cut in two at every position.

mod noise;
mod scenes;
mod world;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcptmapd::config::{Greeting, Tls};
use rcptmapd::probe::classify::{Finding, Judgement, Life};
use rcptmapd::probe::machine::Machine;
use rcptmapd::probe::outcome::{Hangup, JobId, Outcome, Settings, Start};
use rcptmapd::proto::smtp::{HostName, Mailbox};

/// How the server's flights reach the machine.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Bytes,
    At(usize),
}

fn settings() -> Settings {
    Settings {
        greeting: Greeting::Ehlo,
        helo: HostName::new("gw.example").expect("a name"),
        senders: vec![None],
        tls: Tls::Off,
        connect_timeout: Duration::from_secs(2),
        reply_timeout: Duration::from_secs(3),
        total_timeout: Duration::from_secs(15),
        idle: Duration::from_secs(10),
        recipients: 50,
        absent_codes: Vec::new(),
    }
}

const START: Start = Start { lmtp: false, pipelining: true, starttls: true, sender: 0, refusals: None };

fn mailbox(address: &str) -> Mailbox {
    let (local, domain) = address.rsplit_once('@').expect("an address");
    Mailbox::new(local.as_bytes(), domain.as_bytes()).expect("a good address")
}

fn words(finding: &Finding) -> String {
    let judgement = match finding.judgement {
        Judgement::Exists { .. } => "exists",
        Judgement::Absent(Life::Once) => "absent once",
        Judgement::Absent(_) => "absent",
        Judgement::Unknown { .. } => "unknown",
        _ => "?",
    };
    format!("{judgement} ({finding})")
}

struct Player<'a> {
    machine: Machine,
    names: Vec<&'a str>,
    now: Instant,
    log: VecDeque<String>,
    cut: Cut,
}

impl Player<'_> {
    fn pull(&mut self) {
        loop {
            let mut out = Vec::new();
            while let Some(outcome) = self.machine.poll_outcome() {
                let name = |id: &JobId| self.names[id.0 as usize].to_owned();
                let names = |ids: &[JobId]| ids.iter().map(name).collect::<Vec<_>>().join(" ");
                self.log.push_back(match outcome {
                    Outcome::Pace(_) => continue,
                    Outcome::Greeted(c) => format!("= greeted{}", if c.pipelining { " pipelining" } else { "" }),
                    Outcome::StartTls => "= starttls".into(),
                    Outcome::Answer(id, finding) => format!("= {} {}", name(&id), words(&finding)),
                    Outcome::Sender(n) => format!("= sender {n}"),
                    Outcome::Limit(n) => format!("= limit {n}"),
                    Outcome::Closed(c) => {
                        let why = c.finding.map_or(String::new(), |f| format!(" ({f})"));
                        let (f, u) = (names(&c.in_flight), names(&c.untouched));
                        format!("= {:?}{why} [{f}] [{u}]", c.end)
                    }
                });
            }
            if !self.machine.poll_transmit(&mut out) {
                return;
            }
            let text = String::from_utf8(out).expect("UTF-8");
            self.log.extend(text.split_terminator("\r\n").map(|line| format!("< {line}")));
        }
    }

    fn flight(&mut self, bytes: &[u8]) {
        let pieces: Vec<&[u8]> = match self.cut {
            Cut::Whole => vec![bytes],
            Cut::Bytes => bytes.chunks(1).collect(),
            Cut::At(at) => {
                let (a, b) = bytes.split_at(at.min(bytes.len()));
                vec![a, b]
            }
        };
        for piece in pieces {
            self.machine.handle_input(piece, self.now);
            self.pull();
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.machine.handle_timeout(self.now);
            self.pull();
            turns += 1;
            assert!(turns < 100, "the machine spins");
        }
        self.now = end;
        self.machine.handle_timeout(end);
        self.pull();
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let text = text.replace("\\r", "\r").replace("\\n", "\n");
    let mut out = Vec::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("\\x") {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        out.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).expect("two digits"));
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Plays one dialogue; returns the longest flight.
fn play(name: &str, lines: &[&str], cut: Cut) -> usize {
    let (mut settings, mut start) = (settings(), START);
    let mut body = lines;
    while let Some(set) = body.first().and_then(|line| line.strip_prefix("set ")) {
        let (key, value) = set.split_once(' ').unwrap_or((set, ""));
        let seconds = || Duration::from_secs(value.parse().expect("seconds"));
        match key {
            "helo" => settings.greeting = Greeting::Helo,
            "lmtp" => start.lmtp = true,
            "plain" => start.starttls = false,
            "one-by-one" => start.pipelining = false,
            "tls" if value == "required" => settings.tls = Tls::Required,
            "tls" => settings.tls = Tls::Opportunistic,
            "limit" => start.refusals = Some(value.parse().expect("a number")),
            "recipients" => settings.recipients = value.parse().expect("a number"),
            "idle" => settings.idle = seconds(),
            "codes" => settings.absent_codes = vec![value.parse().expect("a status")],
            "senders" => {
                let sender = |s: &str| (s != "<>").then(|| mailbox(s));
                settings.senders = value.split(' ').map(sender).collect();
            }
            "sender" => start.sender = value.parse().expect("a number"),
            "whole" => {}
            other => panic!("{name}: set {other}"),
        }
        body = &body[1..];
    }
    let now = Instant::now();
    let machine = Machine::new(Arc::new(settings), start, now);
    let mut player = Player { machine, names: Vec::new(), now, log: VecDeque::new(), cut };
    let mut longest = 0;
    let mut at = 0;
    while at < body.len() {
        let (mark, text) = body[at].split_once(' ').unwrap_or((body[at], ""));
        at += 1;
        match mark {
            "<" | "=" => {
                let got = player.log.pop_front();
                assert_eq!(got.as_deref(), Some(body[at - 1]), "{name}, {cut:?}: line {at}");
                continue;
            }
            _ => assert!(player.log.is_empty(), "{name}, {cut:?}: before line {at}: {:?}", player.log),
        }
        match mark {
            "connected" => player.machine.handle_connected(player.now),
            "tls" => player.machine.handle_tls_established(player.now),
            "?" => {
                // Several on one line are put at once.
                for address in text.split(' ') {
                    let id = JobId(player.names.len() as u32);
                    player.names.push(address.split('@').next().unwrap_or_default());
                    player.machine.ask(id, mailbox(address), true, player.now);
                }
            }
            ">" => {
                let mut flight = unescape(text);
                flight.extend_from_slice(b"\r\n");
                while let Some(more) = body.get(at).and_then(|line| line.strip_prefix("> ")) {
                    flight.extend(unescape(more));
                    flight.extend_from_slice(b"\r\n");
                    at += 1;
                }
                longest = longest.max(flight.len());
                player.flight(&flight);
            }
            ">>" => player.flight(&unescape(text)),
            "+" => player.wait(Duration::from_millis(text.parse().expect("milliseconds"))),
            "closed" => player.machine.handle_close(&Hangup::Closed, player.now),
            "error" => player.machine.handle_close(&Hangup::Error(text.into()), player.now),
            other => panic!("{name}: {other}"),
        }
        player.pull();
    }
    assert!(player.log.is_empty(), "{name}, {cut:?}: at the end: {:?}", player.log);
    longest
}

#[test]
fn dialogues() {
    let text = include_str!("../vectors/smtp/dialogues.txt");
    let mut count = 0;
    for dialogue in text.split("\n== ").skip(1) {
        let mut lines = dialogue.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let name = lines.next().expect("a name");
        let lines: Vec<&str> = lines.collect();
        let longest = play(name, &lines, Cut::Whole);
        if !lines.contains(&"set whole") {
            play(name, &lines, Cut::Bytes);
            for at in 1..longest {
                play(name, &lines, Cut::At(at));
            }
        }
        count += 1;
    }
    assert!(count >= 30, "only {count} dialogues");
}
