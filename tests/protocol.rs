//! Plays the transcripts of `tests/vectors` against the running daemon, over UNIX and TCP sockets: whole, byte by byte,
//! cut, in one piece and several times in a row; then what no transcript can say: peers that are slow, that do not read,
//! that vanish.
//!
//! Nothing sleeps to wait for something. Where bytes have to arrive in two reads, a look-up on another connection is
//! answered in between: the loop has then been round, and has taken what was there.

mod common;
#[path = "protocol/daemon.rs"]
mod daemon;
#[path = "vectors/mod.rs"]
mod transcript;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use common::PATIENCE;
use daemon::{Daemon, Peer, Setup, TRANSPORTS, Transport};
use transcript::{Case, End, Settings, Step, show};

/// What can stand behind `protocol =`.
const PROTOCOLS: [&str; 7] = ["auto", "socketmap", "line", "http", "policy", "tcp-table", "milter"];

/// All cases, by what the daemon has to look like.
fn groups() -> Vec<(Settings, Vec<Case>)> {
    let mut groups: BTreeMap<Settings, Vec<Case>> = BTreeMap::new();
    for case in transcript::all() {
        let key = Settings { listen: Vec::new(), ..case.settings.clone() };
        groups.entry(key).or_default().push(case);
    }
    groups.into_iter().collect()
}

fn start(settings: &Settings, limits: &[&'static str]) -> Daemon {
    // without an address there would be nothing to read; it is at a domain of its own
    let list =
        if settings.directory.is_empty() { vec!["nobody@nowhere.example".into()] } else { settings.directory.clone() };
    Daemon::start(&Setup {
        list: (!settings.no_data).then_some(list),
        maps: settings.maps.clone(),
        protocols: PROTOCOLS.to_vec(),
        limits: limits.to_vec(),
    })
}

/// Every case on every listener and transport, on a daemon per group.
fn play_all(what: &str, play: impl Fn(&Daemon, &Case, Transport, &str)) {
    let mut played = 0;
    for (settings, cases) in groups() {
        let daemon = start(&settings, &["request = \"10m\""]);
        for case in cases.iter().filter(|case| case.end != End::Deadline) {
            for listen in &case.settings.listen {
                for transport in TRANSPORTS {
                    play(&daemon, case, transport, listen);
                    played += 1;
                }
            }
        }
    }
    println!("{what}: {played} conversations");
    assert!(played > 100, "{what}: only {played} conversations");
}

/// How the bytes of a case are sent.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    Whole,
    Bytewise,
    /// Every piece in two, with a round of the loop between them.
    CutAt(usize),
}

struct Play<'a> {
    daemon: &'a Daemon,
    case: &'a Case,
    how: String,
    peer: Peer,
    beacon: Option<Peer>,
}

impl<'a> Play<'a> {
    fn new(daemon: &'a Daemon, case: &'a Case, transport: Transport, listen: &str, how: impl std::fmt::Debug) -> Self {
        let peer = daemon.connect(transport, listen);
        Play { daemon, case, how: format!("{transport:?}, {listen}, {how:?}"), peer, beacon: None }
    }

    fn fail(&self, what: impl std::fmt::Display) -> ! {
        panic!("{}, {}: {what}", self.case, self.how)
    }

    /// The peer may have been told off in the middle of what it sends.
    fn send(&mut self, bytes: &[u8]) {
        match self.peer.write_all(bytes) {
            Ok(()) => (),
            Err(e) if self.case.end == End::Close && is_gone(&e) => (),
            Err(e) => self.fail(format!("can't send: {e}")),
        }
    }

    fn send_in(&mut self, pieces: Pieces, bytes: &[u8]) {
        match pieces {
            Pieces::Whole => self.send(bytes),
            Pieces::Bytewise => bytes.chunks(1).for_each(|byte| self.send(byte)),
            Pieces::CutAt(at) => {
                let (first, second) = bytes.split_at(at.min(bytes.len()));
                self.send(first);
                self.go_round();
                self.send(second);
            }
        }
    }

    /// Has the loop look at everything that was there before.
    fn go_round(&mut self) {
        let beacon = self.beacon.get_or_insert_with(|| self.daemon.connect(Transport::Unix, "line"));
        let mut answer = [0; 1];
        let mut exchange = || -> std::io::Result<u8> {
            beacon.write_all(b"x\n")?;
            loop {
                beacon.read_exact(&mut answer)?;
                if answer == *b"\n" {
                    return Ok(answer[0]);
                }
            }
        };
        if let Err(e) = exchange() {
            self.fail(format!("the beacon is out: {e}"));
        }
    }

    fn expect(&mut self, expected: &[u8]) {
        let mut got = vec![0; expected.len()];
        let mut read = 0;
        while read < got.len() {
            match self.peer.read(&mut got[read..]) {
                Ok(0) => self.fail(format!("closed after {}, expected {}", show(&got[..read]), show(expected))),
                Ok(n) => read += n,
                Err(e) => self.fail(format!("{e} after {}, expected {}", show(&got[..read]), show(expected))),
            }
        }
        if got != expected {
            self.fail(format!("expected {}, got {}", show(expected), show(&got)));
        }
    }

    /// Nothing more comes. A connection that is to be open is closed by us, and not a byte may follow.
    fn end(mut self) {
        if self.case.end == End::Open {
            // closed by the daemon, it would take no more
            if let Err(e) = self.peer.half_close() {
                self.fail(format!("not open: {e}"));
            }
        }
        let mut rest = Vec::new();
        match self.peer.read_to_end(&mut rest) {
            Ok(_) if rest.is_empty() || !self.case.is_exact() => (),
            Ok(_) => self.fail(format!("{} too many bytes: {}", rest.len(), show(&rest))),
            Err(e) => self.fail(format!("instead of the end: {e}, {}", show(&rest))),
        }
    }
}

fn is_gone(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn play(daemon: &Daemon, case: &Case, transport: Transport, listen: &str, pieces: Pieces) {
    let mut play = Play::new(daemon, case, transport, listen, pieces);
    for step in &case.steps {
        match step {
            Step::Send(bytes) => play.send_in(pieces, bytes),
            Step::HalfClose => {
                let _ = play.peer.half_close();
            }
            Step::Expect(bytes) | Step::ExpectStart(bytes) => play.expect(bytes),
        }
    }
    play.end();
}

#[test]
fn whole() {
    play_all("whole", |daemon, case, transport, listen| play(daemon, case, transport, listen, Pieces::Whole));
}

#[test]
fn byte_by_byte() {
    play_all("byte by byte", |daemon, case, transport, listen| {
        if case.sent().len() < 3000 {
            play(daemon, case, transport, listen, Pieces::Bytewise);
        }
    });
}

#[test]
fn cut_at_every_position() {
    play_all("cut at every position", |daemon, case, transport, listen| {
        let longest =
            case.steps.iter().map(|s| if let Step::Send(bytes) = s { bytes.len() } else { 0 }).max().unwrap_or(0);
        // a long one is long because of its filling; over TCP, where every cut is a connection with its ports, some
        let stride = if transport == Transport::Tcp { 7 } else { 1 };
        for at in (1..longest.min(80)).step_by(stride) {
            play(daemon, case, transport, listen, Pieces::CutAt(at));
        }
    });
}

/// All that a case sends comes at once, before anything has been answered.
#[test]
fn in_one_piece() {
    play_all("in one piece", |daemon, case, transport, listen| {
        let mut play = Play::new(daemon, case, transport, listen, "in one piece");
        play.send(&case.sent());
        if case.half_closes() {
            let _ = play.peer.half_close();
        }
        play.expect(&case.expected());
        play.end();
    });
}

/// A case that leaves the connection open, many times on one connection without waiting, and once more in its own way.
#[test]
fn pipelined() {
    play_all("pipelined", |daemon, case, transport, listen| {
        // what has a state of its own begins but once
        if !case.is_repeatable() || listen == "milter" || case.sent().len() > 3000 {
            return;
        }
        let mut play = Play::new(daemon, case, transport, listen, "pipelined");
        play.send(&case.sent().repeat(50));
        play.expect(&case.expected().repeat(50));
        for step in &case.steps {
            match step {
                Step::Send(bytes) => play.send(bytes),
                Step::Expect(bytes) => play.expect(bytes),
                Step::HalfClose | Step::ExpectStart(_) => (),
            }
        }
        play.end();
    });
}

/// Half a request and silence: closed without a word when `limits.request` is over, all of them at the same time.
#[test]
fn half_a_request_and_silence() {
    let groups = groups();
    let mut played = 0;
    for (settings, cases) in groups {
        let cases: Vec<Case> = cases.into_iter().filter(|case| case.end == End::Deadline).collect();
        if cases.is_empty() {
            continue;
        }
        let daemon = start(&settings, &["request = \"300ms\""]);
        let mut plays = Vec::new();
        for case in &cases {
            for listen in &case.settings.listen {
                for transport in TRANSPORTS {
                    let mut play = Play::new(&daemon, case, transport, listen, "silence");
                    play.send(&case.sent());
                    play.expect(&case.expected());
                    plays.push(play);
                }
            }
        }
        let sessions = plays.len();
        played += sessions;
        plays.into_iter().for_each(Play::end);
        daemon.settles("rcptmapd_sessions_ended_total{how=\"request-timeout\"}", sessions as u64);
    }
    assert!(played > 10, "only {played} conversations");
}

/// A daemon with one known address and every listener.
fn plain(limits: &[&'static str]) -> Daemon {
    let settings = Settings { directory: vec!["bob@relay.example".into()], ..Settings::default() };
    start(&settings, limits)
}

const KNOWN: &[u8] = b"22:rcpt bob@relay.example,";
const EXISTS: &[u8] = b"20:OK bob@relay.example,";

/// A protocol's own words, for what all have to stand.
struct Words {
    protocol: &'static str,
    /// What begins a connection, and the reply.
    opening: (&'static [u8], &'static [u8]),
    /// A request about somebody who exists, and the reply.
    known: (&'static [u8], &'static [u8]),
    /// The same about somebody who doesn't.
    unknown: (&'static [u8], &'static [u8]),
    /// The beginning of a request that a long row of `a` goes on with.
    half: &'static [u8],
}

const MILTER_OPTIONS: (&[u8], &[u8]) =
    (b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff", b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\x03r");

const WORDS: [Words; 4] = [
    Words {
        protocol: "socketmap",
        opening: (b"", b""),
        known: (KNOWN, EXISTS),
        unknown: (b"22:rcpt eve@relay.example,", b"9:NOTFOUND ,"),
        half: b"9000:rcpt ",
    },
    Words {
        protocol: "policy",
        opening: (b"", b""),
        known: (
            b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=bob@relay.example\n\n",
            b"action=DUNNO\n\n",
        ),
        unknown: (
            b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=eve@relay.example\n\n",
            b"action=550 5.1.1 User unknown\n\n",
        ),
        half: b"request=smtpd_access_policy\nrecipient=",
    },
    Words {
        protocol: "tcp-table",
        opening: (b"", b""),
        known: (b"get bob@relay.example\n", b"200 bob@relay.example\n"),
        unknown: (b"get eve@relay.example\n", b"500 unknown\n"),
        half: b"get ",
    },
    Words {
        protocol: "milter",
        opening: MILTER_OPTIONS,
        known: (b"\0\0\0\x15R<bob@relay.example>\0", b"\0\0\0\x01c"),
        unknown: (b"\0\0\0\x15R<eve@relay.example>\0", b"\0\0\0\x18y550 5.1.1 User unknown\0"),
        half: b"\0\0\xf0\0U",
    },
];

impl Words {
    /// A connection on which the protocol has begun.
    fn connect(&self, daemon: &Daemon, transport: Transport) -> Peer {
        let mut peer = daemon.connect(transport, self.protocol);
        peer.write_all(self.opening.0).expect("sent");
        let mut reply = vec![0; self.opening.1.len()];
        peer.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply, self.opening.1, "{}", self.protocol);
        peer
    }
}

/// Every protocol on every transport.
fn doors() -> impl Iterator<Item = (&'static Words, Transport)> {
    WORDS.iter().flat_map(|words| TRANSPORTS.map(|transport| (words, transport)))
}

/// What breaks a protocol is counted for that protocol, and ends as an error; what does not, is not.
#[test]
fn violations_are_counted() {
    let daemon = plain(&[]);
    let before = daemon.metrics();
    let broken: &[(&str, &[u8])] = &[
        ("socketmap", b"GET / HTTP/1.1\r\n\r\n"),
        ("socketmap", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("socketmap", b"EHLO mx.example\r\n"),
        ("socketmap", b"\0\0\0\0"),
        ("socketmap", b"200000:"),
        ("socketmap", b"22:rcpt bob@relay.example;"),
        ("line", &[b'x'; 5000]),
        ("http", b"EHLO mx.example\r\n"),
        ("policy", b"EHLO mx.example\r\n"),
        ("policy", b"\n"),
        ("tcp-table", b"EHLO mx.example\r\n"),
        ("policy", b"GET / HTTP/1.1\r\n\r\n"),
        ("policy", b"22:rcpt bob@relay.example,\n"),
        ("policy", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"),
        ("policy", &[b'x'; 40_000]),
        ("tcp-table", b"GET / HTTP/1.1\r\n\r\n"),
        ("tcp-table", b"22:rcpt bob@relay.example,\n"),
        ("tcp-table", b"get %zz\n"),
        ("tcp-table", &[b'x'; 50_000]),
        ("milter", b"EHLO mx.example\r\n"),
        ("milter", b"GET / HTTP/1.1\r\n\r\n"),
        ("milter", b"22:rcpt bob@relay.example,"),
        ("milter", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("milter", b"\0\0\0\0"),
        ("milter", b"\0\0\0\x0cR<bob@x.example>\0"),
    ];
    for transport in TRANSPORTS {
        for (protocol, bytes) in broken {
            let mut peer = daemon.connect(transport, protocol);
            // it may have been told off in the middle
            match peer.write_all(bytes) {
                Err(e) if !is_gone(&e) => panic!("{protocol}: {e}"),
                _ => (),
            }
            let mut reply = Vec::new();
            peer.read_to_end(&mut reply).expect("the end");
        }
    }
    for &protocol in PROTOCOLS.iter().filter(|protocol| **protocol != "auto") {
        let number = 2 * broken.iter().filter(|(of, _)| *of == protocol).count();
        daemon.settles(&format!("rcptmapd_malformed_requests_total{{protocol=\"{protocol}\"}}"), number as u64);
    }
    daemon.settles("rcptmapd_sessions_ended_total{how=\"error\"}", 2 * broken.len() as u64);
    let requests = |metrics: &BTreeMap<String, f64>| -> f64 {
        metrics.iter().filter(|(name, _)| name.starts_with("rcptmapd_requests_total")).map(|(_, n)| n).sum()
    };
    assert_eq!(requests(&daemon.metrics()), requests(&before), "a broken request counts as an answer");
    daemon.still_answers();
}

/// Answers are counted by protocol and verdict.
#[test]
fn answers_are_counted() {
    let daemon = plain(&[]);
    let mut peer = daemon.connect(Transport::Unix, "auto");
    let asked = b"22:rcpt bob@relay.example,22:rcpt eve@relay.example,22:rcpt bob@other.example,9:nomap x@y,";
    peer.exchange_to_end(asked).expect("replies");
    let mut peer = daemon.connect(Transport::Tcp, "auto");
    peer.exchange_to_end(b"bob@relay.example\ndomains relay.example\ndomains other.example\n").expect("replies");
    for (protocol, verdict, number) in [
        ("socketmap", "exists", 1),
        ("socketmap", "absent", 1),
        ("socketmap", "foreign", 1),
        ("socketmap", "no-map", 1),
        ("socketmap", "unknown", 0),
        ("line", "exists", 1),
        ("line", "found", 1),
        ("line", "not-found", 1),
    ] {
        let name = format!("rcptmapd_requests_total{{protocol=\"{protocol}\",verdict=\"{verdict}\"}}");
        daemon.settles(&name, number);
    }
}

/// The deadline belongs to the whole request: a byte now and then does not put it off.
#[test]
fn a_byte_now_and_then_does_not_put_the_deadline_off() {
    let daemon = plain(&["request = \"500ms\""]);
    for (words, transport) in doors() {
        let mut peer = words.connect(&daemon, transport);
        // a whole request first: the deadline is that of the second one
        peer.write_all(words.known.0).expect("sent");
        let mut reply = vec![0; words.known.1.len()];
        peer.read_exact(&mut reply).expect("a reply");
        let begun = Instant::now();
        peer.write_all(words.half).expect("sent");
        peer.set_nonblocking(true);
        let mut end = [0; 1];
        loop {
            // paced by the clock on purpose: this peer is slow, not us
            std::thread::sleep(Duration::from_millis(20));
            match peer.read(&mut end) {
                Ok(0) => break,
                Ok(_) => panic!("{transport:?} {}: a reply to half a request", words.protocol),
                Err(e) if e.kind() == ErrorKind::WouldBlock => (),
                Err(e) if is_gone(&e) => break,
                Err(e) => panic!("{transport:?} {}: {e}", words.protocol),
            }
            assert!(begun.elapsed() < PATIENCE, "{transport:?} {}: a slow peer is never cut off", words.protocol);
            let _ = peer.write(b"a");
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(500),
            "{transport:?} {}: cut off before its time",
            words.protocol
        );
    }
    daemon.settles("rcptmapd_sessions_ended_total{how=\"request-timeout\"}", 2 * WORDS.len() as u64);
    daemon.still_answers();
}

/// A peer that asks and asks and never reads: it is stopped, others are served, and it is closed in the end.
#[test]
fn a_peer_that_never_reads() {
    let daemon = plain(&["request = \"1s\""]);
    let before = daemon.resident_bytes();
    for (n, (words, transport)) in doors().enumerate() {
        let Words { protocol, known: (known, exists), .. } = words;
        let mut peer = words.connect(&daemon, transport);
        let requests = known.repeat(2000);
        peer.set_nonblocking(true);
        let (mut sent, begun) = (0, Instant::now());
        let mut grown = 0;
        // it goes on asking for as long as it is let
        loop {
            match peer.write(&requests[sent % known.len()..]) {
                Ok(written) => sent += written,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    daemon.still_answers();
                    grown = daemon.resident_bytes().saturating_sub(before).max(grown);
                }
                Err(e) if is_gone(&e) => break,
                Err(e) => panic!("{transport:?} {protocol}: {e} after {sent} bytes"),
            }
            assert!(sent < 200_000_000, "{transport:?} {protocol}: takes requests without end");
            assert!(begun.elapsed() < PATIENCE, "{transport:?} {protocol}: is never closed");
        }
        assert!(grown < 16 << 20, "{transport:?} {protocol}: {grown} bytes more after {sent} bytes of requests");
        daemon.settles("rcptmapd_sessions_ended_total{how=\"output-timeout\"}", n as u64 + 1);
        // what it could have read is whole replies up to the cut, and nothing else
        peer.set_nonblocking(false);
        let mut replies = Vec::new();
        let mut buffer = [0; 65_536];
        while let Ok(n @ 1..) = peer.read(&mut buffer) {
            replies.extend_from_slice(&buffer[..n]);
        }
        assert!(
            exists.repeat(replies.len() / exists.len() + 1).starts_with(&replies),
            "{transport:?} {protocol}: a broken reply"
        );
    }
}

/// A peer that reads late gets everything, in order.
#[test]
fn a_peer_that_reads_late() {
    let daemon = plain(&["request = \"10m\""]);
    for (words, transport) in doors() {
        let Words { protocol, known: (known, exists), unknown: (unknown, absent), .. } = words;
        let mut peer = words.connect(&daemon, transport);
        let requests = [*known, unknown].concat();
        let replies = [*exists, absent].concat();
        peer.set_nonblocking(true);
        let (mut sent, mut rounds) = (0, 0);
        let block = requests.repeat(2000);
        while rounds < 100 {
            match peer.write(&block[sent % requests.len()..]) {
                Ok(written) => (sent, rounds) = (sent + written, 0),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    daemon.still_answers();
                    rounds += 1;
                }
                Err(e) => panic!("{transport:?} {protocol}: {e}"),
            }
        }
        peer.set_nonblocking(false);
        let (whole, rest) = (sent / requests.len(), sent % requests.len());
        let answered = whole * replies.len() + if rest >= known.len() { exists.len() } else { 0 };
        let mut got = vec![0; answered];
        peer.read_exact(&mut got).unwrap_or_else(|e| panic!("{transport:?} {protocol}: {e}"));
        assert!(
            replies.repeat(whole + 1).starts_with(&got),
            "{transport:?} {protocol}: not the replies to {sent} bytes"
        );
        // and goes on as if nothing had been
        peer.write_all(&requests[rest..]).expect("sent");
        peer.half_close().expect("open");
        let mut last = Vec::new();
        peer.read_to_end(&mut last).expect("the end");
        assert!(replies.ends_with(&last) && !last.is_empty(), "{transport:?} {protocol}: {}", show(&last));
    }
    assert_eq!(daemon.metric("rcptmapd_sessions_ended_total{how=\"output-timeout\"}"), 0);
}

/// Peers that vanish: before a word, within a request, with replies on their way.
#[test]
fn peers_that_vanish() {
    let daemon = plain(&[]);
    for (words, transport) in doors() {
        let known = words.known.0;
        for sent in [&b""[..], &known[..1], &known[..15], known, &known.repeat(500)] {
            for _ in 0..10 {
                let mut peer = words.connect(&daemon, transport);
                peer.write_all(sent).expect("sent");
                peer.reset();
            }
        }
        daemon.still_answers();
    }
    // all of them are let go, and nothing is left but the one that asks
    daemon.settles("rcptmapd_sessions", 1);
}

/// Half-closes at any place: what is complete is answered, then the end.
#[test]
fn half_closes_early() {
    let daemon = plain(&[]);
    for (words, transport) in doors() {
        let Words { protocol, known: (known, exists), unknown: (unknown, absent), .. } = words;
        let sent = [*known, unknown].concat();
        for at in 0..=sent.len() {
            let mut peer = words.connect(&daemon, transport);
            let got =
                peer.exchange_to_end(&sent[..at]).unwrap_or_else(|e| panic!("{transport:?} {protocol}, {at}: {e}"));
            let expected: &[&[u8]] = match at {
                at if at == sent.len() => &[exists, absent],
                at if at >= known.len() => &[exists],
                _ => &[],
            };
            assert_eq!(show(&got), show(&expected.concat()), "{transport:?} {protocol}, cut at {at}");
        }
    }
}

/// A session that asks nothing is closed when `limits.idle` is over, whatever it speaks; not while it asks.
#[test]
fn silence_between_requests() {
    let daemon = plain(&["idle = \"400ms\""]);
    for (words, transport) in doors() {
        let begun = Instant::now();
        let mut peer = words.connect(&daemon, transport);
        peer.write_all(words.known.0).expect("sent");
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap_or_else(|e| panic!("{transport:?} {}: {e}", words.protocol));
        assert_eq!(show(&got), show(words.known.1), "{transport:?} {}", words.protocol);
        assert!(begun.elapsed() >= Duration::from_millis(400), "{transport:?} {}: cut off early", words.protocol);
    }
    daemon.settles("rcptmapd_sessions_ended_total{how=\"idle\"}", 2 * WORDS.len() as u64);
}

/// One long stream of good requests in odd pieces gets all its answers, in order, on every transport.
#[test]
fn a_long_stream_in_odd_pieces() {
    let daemon = plain(&[]);
    let sent = [KNOWN, b"22:rcpt eve@relay.example,"].concat().repeat(3000);
    let expected = [EXISTS, b"9:NOTFOUND ,"].concat().repeat(3000);
    for transport in TRANSPORTS {
        let mut peer = daemon.connect(transport, "auto");
        let mut got = vec![0; expected.len()];
        let (mut from, mut read) = (0, 0);
        // never more under way than any socket buffer holds
        for size in [1, 7, 52, 4096, 13, 16_384, 1000].into_iter().cycle() {
            if from == sent.len() {
                break;
            }
            let to = (from + size).min(sent.len());
            peer.write_all(&sent[from..to]).expect("sent");
            from = to;
            let answered = from / 52 * 36 + if from % 52 >= 26 { 24 } else { 0 };
            peer.read_exact(&mut got[read..answered]).unwrap_or_else(|e| panic!("{transport:?}: {e}"));
            read = answered;
        }
        assert!(got == expected, "{transport:?}: wrong answers");
    }
}
