//! Plays every transcript under `tests/vectors` against the codecs, without a socket: whole, byte by byte, cut in two at
//! every position, all in one piece, and several times in a row on one connection. `tests/protocol.rs` plays the same
//! files against the running daemon.

#[path = "vectors/session.rs"]
mod session;
#[path = "vectors/mod.rs"]
mod transcript;

use rcptmapd::proto::Limits;
use session::{Directory, Listen, Session};
use transcript::{Case, End, Step, show};

/// How the bytes of a case come in.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    Whole,
    Bytewise,
    /// Every piece in two, the first of this many bytes.
    CutAt(usize),
}

fn feed(session: &mut Session<'_>, bytes: &[u8], pieces: Pieces) {
    match pieces {
        Pieces::Whole => session.feed(bytes),
        Pieces::Bytewise => bytes.chunks(1).for_each(|byte| session.feed(byte)),
        Pieces::CutAt(at) => {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            session.feed(first);
            session.feed(second);
        }
    }
}

fn directory(case: &Case) -> Directory {
    let settings = &case.settings;
    Directory { entries: settings.directory.clone(), no_data: settings.no_data, maps: settings.maps.clone() }
}

/// Every case with every listener on which it is to be played.
fn all() -> Vec<(Case, Listen)> {
    let mut plays = Vec::new();
    for case in transcript::all() {
        for name in &case.settings.listen {
            let listen = Listen::from_name(name).unwrap_or_else(|| panic!("{case}: an unknown listener {name:?}"));
            plays.push((case.clone(), listen));
        }
    }
    plays
}

fn check(case: &Case, how: &str, session: &Session<'_>, expected: &[u8]) {
    let good = if case.is_exact() { session.output == expected } else { session.output.starts_with(expected) };
    assert!(good, "{case}, {how}:\nexpected {}\n     got {}", show(expected), show(&session.output));
}

/// Plays the steps one by one, and looks at the answers after each expectation.
fn play(case: &Case, listen: Listen, pieces: Pieces) {
    let directory = directory(case);
    let mut session = Session::new(&directory, listen, Limits::DEFAULT);
    let how = format!("{listen:?}, {pieces:?}");
    let mut expected = Vec::new();
    for step in &case.steps {
        match step {
            Step::Send(bytes) => feed(&mut session, bytes, pieces),
            Step::HalfClose => session.half_close(),
            Step::Expect(bytes) | Step::ExpectStart(bytes) => {
                expected.extend_from_slice(bytes);
                check(case, &how, &session, &expected);
            }
        }
    }
    check(case, &how, &session, &expected);
    assert_eq!(session.closed, case.end == End::Close, "{case}, {how}: closed");
}

#[test]
fn whole() {
    all().iter().for_each(|(case, listen)| play(case, *listen, Pieces::Whole));
}

#[test]
fn byte_by_byte() {
    for (case, listen) in all() {
        if case.sent().len() < 20_000 {
            play(&case, listen, Pieces::Bytewise);
        }
    }
}

#[test]
fn cut_at_every_position() {
    for (case, listen) in all() {
        let longest =
            case.steps.iter().map(|s| if let Step::Send(bytes) = s { bytes.len() } else { 0 }).max().unwrap_or(0);
        // a long one is long because of its filling: cut the front, and the rest in strides
        let stride = |at: &usize| *at < 400 || at.is_multiple_of(longest / 50 + 1);
        (1..longest).filter(stride).for_each(|at| play(&case, listen, Pieces::CutAt(at)));
    }
}

/// All that a case sends comes at once, before anything has been answered.
#[test]
fn in_one_piece() {
    for (case, listen) in all() {
        let directory = directory(&case);
        let mut session = Session::new(&directory, listen, Limits::DEFAULT);
        session.feed(&case.sent());
        if case.half_closes() {
            session.half_close();
        }
        check(&case, "in one piece", &session, &case.expected());
        assert_eq!(session.closed, case.end == End::Close, "{case}, in one piece: closed");
    }
}

/// A case that leaves the connection open, five times on one connection in one piece, and once more in bytes.
#[test]
fn pipelined() {
    for (case, listen) in all() {
        if !case.is_repeatable() || matches!(case.settings.listen[0].as_str(), "milter") {
            continue;
        }
        let directory = directory(&case);
        let mut session = Session::new(&directory, listen, Limits::DEFAULT);
        session.feed(&case.sent().repeat(5));
        check(&case, "pipelined", &session, &case.expected().repeat(5));
        feed(&mut session, &case.sent(), Pieces::Bytewise);
        check(&case, "pipelined and bytewise", &session, &case.expected().repeat(6));
        assert!(!session.closed, "{case}, pipelined: closed");
    }
}

/// What no client may ever see: a bare `OK`, an empty value, `PERM` (PROTOCOLS.md, S9, S10, P2).
#[test]
fn no_transcript_expects_what_is_forbidden() {
    for case in transcript::all() {
        let expected = String::from_utf8_lossy(&case.expected()).into_owned();
        for forbidden in ["2:OK,", "3:OK ,", ":PERM", "\nPERM", "\nOK\n", "\nOK \n", "action=\n", "action=OK"] {
            assert!(!format!("\n{expected}").contains(forbidden), "{case}: {forbidden:?}");
        }
    }
}

#[test]
fn every_vector_of_the_document_is_there() {
    let cases = transcript::all();
    let has = |id: &str| cases.iter().any(|case| case.name.split(' ').next() == Some(id));
    // S9, S10 and P2 are replies that we never give
    let ids = (1..=9).map(|n| format!("N{n}"));
    let ids = ids.chain((1..=8).map(|n| format!("S{n}")));
    let ids = ids.chain([1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(|n| format!("P{n}")));
    let ids = ids.chain((1..=8).map(|n| format!("E{n}")));
    let ids = ids.chain((1..=7).map(|n| format!("T{n}")));
    let ids = ids.chain((1..=5).map(|n| format!("D{n}")));
    let ids = ids.chain((1..=16).map(|n| format!("M{n}")));
    let missing: Vec<String> = ids.filter(|id| !has(id)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
