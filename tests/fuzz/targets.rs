//! The bodies of the fuzz targets: plain functions over bytes that panic where a promise is broken. The binaries under
//! `fuzz_targets/` hand them what libfuzzer makes up, `tests/corpus.rs` what is under `corpus/`.
//!
//! They read their choices (limits, cuts, formats) from the first bytes by hand rather than through `arbitrary`, so that
//! a transcript, a list or a crash can be put into the corpus as it is, and `cargo test` needs no further crate.

#[path = "../vectors/session.rs"]
mod session;

use rcptmapd::config::{Config, Overrides, Reader};
use rcptmapd::map::{self, Builder, Domains, HashKey, Policy, Scratch, Snapshot};
use rcptmapd::proto::detect::{self, Dialect};
use rcptmapd::proto::milter::{self, Answer, Machine, Step};
use rcptmapd::proto::{Limits, Reply, Value, http, line, netstring, policy, socketmap, tcp_table};
use rcptmapd::resolve::{self, Decision};
use rcptmapd::source::{Fault, Format, Item, Note, Options, Parser, Sink, Skip, digest_chunks};
use rcptmapd::verdict::Verdict;
use rcptmapd::{address, verdict};
use session::{Directory, Listen, Session};

/// What a target does with an input.
pub type Body = fn(&[u8]);

/// Every target by its name, which is also that of its folder in the corpus.
pub const ALL: &[(&str, Body)] = &[
    ("netstring", netstring),
    ("socketmap", socketmap),
    ("line", line),
    ("detect", detect),
    ("http", http),
    ("policy", policy),
    ("tcp_table", tcp_table),
    ("milter", milter),
    ("session", session),
    ("address", address),
    ("source", source),
    ("resolve", resolve),
    ("config", config),
];

/// Limits that short inputs reach. None is 0: with that, nothing at all would already be too long.
fn small(limit: u8) -> Limits {
    let bytes = usize::from(limit.max(1));
    Limits {
        request_bytes: bytes,
        line_bytes: bytes,
        http_head_bytes: bytes,
        http_body_bytes: bytes,
        policy_bytes: bytes,
        policy_attributes: bytes / 8,
        tcp_table_bytes: bytes,
        milter_bytes: bytes,
    }
}

/// Half of the inputs run with the defaults, the other half with small limits.
fn limits(data: &[u8]) -> (Limits, &[u8]) {
    match data.split_first() {
        Some((&b, rest)) if b >= 0x80 => (small(b & 0x7f), rest),
        _ => (Limits::DEFAULT, data),
    }
}

/// What a decoder says of the whole must be the first thing that it says when the input grows.
fn whole_as_in_pieces<'a, T: PartialEq + std::fmt::Debug, E: PartialEq + std::fmt::Debug>(
    input: &'a [u8],
    decode: impl Fn(&'a [u8]) -> Result<Option<(T, usize)>, E>,
) {
    let whole = decode(input);
    if let Ok(Some((_, used))) = &whole {
        assert!(*used > 0 && *used <= input.len());
        assert_eq!(decode(&input[..*used]), whole, "what follows a request changes it");
    }
    // every prefix of a short input, some of a long one
    let stride = input.len() / 256 + 1;
    let first = (0..input.len()).step_by(stride).map(|n| decode(&input[..n])).find(|found| *found != Ok(None));
    assert_eq!(first.unwrap_or_else(|| decode(input)), whole, "pieces change the meaning");
}

pub fn netstring(data: &[u8]) {
    let (limits, input) = limits(data);
    whole_as_in_pieces(input, |input| netstring::decode(input, limits.request_bytes));
    let mut out = Vec::new();
    netstring::encode_head(input.len(), &mut out);
    out.extend_from_slice(input);
    out.push(b',');
    if input.len() < 1_000_000 {
        assert_eq!(netstring::decode(&out, usize::MAX), Ok(Some((input, out.len()))));
    }
}

pub fn socketmap(data: &[u8]) {
    let (limits, input) = limits(data);
    whole_as_in_pieces(input, |input| socketmap::decode(input, &limits));
    for reply in replies(input) {
        let mut out = Vec::new();
        socketmap::encode(&reply, &mut out);
        let Ok(Some((payload, used))) = socketmap::decode_reply(&out) else { panic!("not a netstring") };
        assert_eq!(used, out.len());
        is_no_forbidden_reply(payload);
    }
}

pub fn line(data: &[u8]) {
    let (limits, input) = limits(data);
    whole_as_in_pieces(input, |input| line::decode(input, false, &limits));
    // the end of the input ends a line, and nothing else
    match line::decode(input, true, &limits) {
        Ok(None) => assert!(input.is_empty()),
        Ok(Some((_, used))) => assert!(used <= input.len()),
        Err(line::Error::TooLong) => assert!(input.len() > limits.line_bytes),
    }
    for reply in replies(input) {
        let mut out = Vec::new();
        line::encode(&reply, &mut out);
        assert!(out.len() <= line::MAX_REPLY);
        let Some((b'\n', payload)) = out.split_last() else { panic!("no line end") };
        assert!(!payload.iter().any(|&b| b.is_ascii_control() && b != b'\t'));
        is_no_forbidden_reply(payload);
    }
}

/// Replies that are made of what a peer or a list has said.
fn replies(input: &[u8]) -> [Reply<'_>; 6] {
    let (front, back) = input.split_at(input.len() / 2);
    [
        Reply::Ok(Value::Bytes(input)),
        Reply::Ok(Value::Address { local: front, domain: back }),
        Reply::Ok(Value::Parts([front, b"", back, b"", front])),
        Reply::NotFound,
        Reply::Temp(input),
        Reply::UnknownMap(input),
    ]
}

fn is_no_forbidden_reply(payload: &[u8]) {
    let value = payload.strip_prefix(b"OK ");
    let good = payload == b"NOTFOUND " || payload.starts_with(b"TEMP ") || value.is_some_and(|value| !value.is_empty());
    assert!(good, "{}", payload.escape_ascii());
}

pub fn detect(data: &[u8]) {
    let whole = detect::detect(data, false);
    let first = (0..=data.len().min(64)).find_map(|n| detect::detect(&data[..n], false));
    assert_eq!(whole, first);
    assert!(whole.is_some() || data.len() < detect::MAX_HEAD);
    let at_end = detect::detect(data, true);
    assert!(at_end.is_some() && (whole.is_none() || whole == at_end));
}

pub fn http(data: &[u8]) {
    let (limits, input) = limits(data);
    whole_as_in_pieces(input, |input| http::decode(input, &limits));
    if let Ok(Some((request, _))) = http::decode(input, &limits) {
        for pair in request.query.split('&') {
            let name = pair.split('=').next().unwrap_or_default();
            let _ = http::parameter(request.query, name);
        }
    }
    let _ = http::decode_response(input, limits.http_body_bytes);
    let mut query = b"a=".to_vec();
    http::encode_parameter(input, &mut query);
    let query = String::from_utf8(query).expect("ASCII");
    assert_eq!(http::parameter(&query, "a").as_deref(), Some(input));
    let mut out = Vec::new();
    http::encode(200, http::TEXT, input, true, &mut out);
    assert_eq!(http::decode_response(&out, input.len()), Ok(Some((200, input))));
}

pub fn policy(data: &[u8]) {
    let (limits, input) = limits(data);
    whole_as_in_pieces(input, |input| policy::decode(input, &limits));
    if let Ok(Some((request, _))) = policy::decode(input, &limits) {
        assert!(request.question().is_none_or(|recipient| !recipient.is_empty()));
    }
    let mut out = Vec::new();
    policy::encode(&policy::Action::Other(input), &mut out);
    let action = out.strip_prefix(b"action=").and_then(|rest| rest.strip_suffix(b"\n\n")).expect("one action");
    assert!(!action.is_empty() && action.iter().all(|b| matches!(b, b' '..=b'~')));
}

pub fn tcp_table(data: &[u8]) {
    let (limits, input) = limits(data);
    whole_as_in_pieces(input, |input| tcp_table::decode(input, &limits));
    for reply in replies(input) {
        let mut out = Vec::new();
        tcp_table::encode(&reply, &mut out);
        assert!(out.len() <= tcp_table::MAX_REPLY);
        let Some((b'\n', text)) = out.split_last() else { panic!("no line end") };
        assert!(text.iter().all(|b| matches!(b, b' '..=b'~')), "{}", text.escape_ascii());
        assert!(matches!(text.get(..4), Some(b"200 " | b"400 " | b"500 ")) && text != b"200 ");
    }
}

/// Packets of a session behind good options, each recipient answered by a byte of its own address.
pub fn milter(data: &[u8]) {
    let (limits, input) = limits(data);
    whole_as_in_pieces(input, |input| milter::decode(input, &limits));

    let (absent, odd) = (verdict::Reply::absent(), "550 5.1.1 100% of %s\na%\n\n\u{fc}".parse().expect("a reply"));
    let answers = [Answer::Continue, Answer::Reply(&absent), Answer::Reply(&odd), Answer::Discard];
    let mut machine = Machine::new();
    let mut out = Vec::new();
    let offer = milter::Packet { command: b'O', data: b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff" };
    assert_eq!(machine.handle_packet(offer, &mut out), Ok(Step::Done));
    let mut rest = input;
    while let Ok(Some((packet, used))) = milter::decode(rest, &Limits::DEFAULT) {
        rest = &rest[used..];
        let before = out.len();
        match machine.handle_packet(packet, &mut out) {
            Ok(Step::Done) => {
                let owed = usize::from(!matches!(packet.command, b'D' | b'A' | b'K'));
                assert_eq!(&out[before..], b"\0\0\0\x01c".repeat(owed));
            }
            Ok(Step::Recipient(recipient)) => {
                assert_eq!(out.len(), before);
                assert!(recipient.parameters().count() <= packet.data.len());
                let choice = usize::from(recipient.address.first().copied().unwrap_or(0));
                machine.answer(&answers[choice % answers.len()], &mut out);
                machine.answer(&Answer::Continue, &mut out);
                let Ok(Some((reply, length))) = milter::decode(&out[before..], &limits_of_mtas()) else {
                    panic!("not a packet")
                };
                assert_eq!(length, out.len() - before);
                assert!(match reply.command {
                    b'c' | b'd' => reply.data.is_empty(),
                    b'y' => reply.data.iter().position(|&b| b == 0) == Some(reply.data.len() - 1),
                    _ => false,
                });
            }
            Ok(Step::Close) | Err(_) => break,
        }
        let (asked, refused) = machine.recipients();
        assert!(refused <= asked);
        let known = [machine.sender(), machine.daemon_name(), machine.authenticated(), machine.queue_id()];
        assert!(known.into_iter().flatten().all(|text| text.len() <= 512));
    }
}

/// sendmail refuses replies over 64 KiB.
fn limits_of_mtas() -> Limits {
    Limits { milter_bytes: 65_535, ..Limits::DEFAULT }
}

/// A listener, then operations: `0xFE n` cuts after the next `n` bytes, `0xFF` closes the sending side; all other bytes
/// are sent. The answers must be those that the same bytes get in one piece.
pub fn session(data: &[u8]) {
    const LISTENERS: [Listen; 7] = [
        Listen::Auto,
        Listen::As(Dialect::Socketmap),
        Listen::As(Dialect::Line),
        Listen::As(Dialect::Policy),
        Listen::As(Dialect::Http),
        Listen::As(Dialect::TcpTable),
        Listen::As(Dialect::Milter),
    ];
    let Some((&choice, rest)) = data.split_first() else { return };
    let (limits, operations) = limits(rest);
    let listen = LISTENERS[usize::from(choice) % LISTENERS.len()];
    let directory = Directory {
        entries: vec!["bob@relay.example".into(), "\"a b\"@relay.example".into()],
        no_data: choice & 0x80 != 0,
        maps: vec![("acc".into(), "check".into())],
    };

    let mut in_pieces = Session::new(&directory, listen, limits);
    let mut sent = Vec::new();
    let mut closed = false;
    let mut rest = operations;
    while let Some((&operation, behind)) = rest.split_first() {
        let piece = match operation {
            0xff => {
                closed = true;
                break;
            }
            0xfe => {
                let n = behind.first().copied().map_or(0, usize::from).min(behind.len().saturating_sub(1));
                let piece = behind.get(1..1 + n).unwrap_or_default();
                rest = behind.get(1 + n..).unwrap_or_default();
                piece
            }
            _ => {
                let end = rest.iter().position(|&b| b >= 0xfe).unwrap_or(rest.len());
                let piece = &rest[..end];
                rest = &rest[end..];
                piece
            }
        };
        in_pieces.feed(piece);
        sent.extend_from_slice(piece);
    }
    let mut in_one = Session::new(&directory, listen, limits);
    in_one.feed(&sent);
    if closed {
        in_pieces.half_close();
        in_one.half_close();
    }
    assert_eq!(in_pieces.output, in_one.output, "{listen:?}: pieces change the answers");
    assert_eq!(in_pieces.closed, in_one.closed, "{listen:?}: pieces change the end");
}

/// A key as a peer sends it, cut and folded in all ways that there are.
pub fn address(data: &[u8]) {
    let mut out = Vec::new();
    if let Ok(raw) = address::split(data) {
        let folded = address::fold_domain(raw.domain, &mut out).map(|domain| domain.bytes().to_vec());
        if let Ok(domain) = folded {
            let again = address::fold_domain(&domain, &mut out).map(|domain| domain.bytes().to_vec());
            assert_eq!(again.as_deref(), Ok(&domain[..]), "folding a domain again changes it");
        }
        for keep_case in [false, true] {
            if let Ok(local) = address::fold_local_part(raw.local, keep_case, &mut out) {
                assert!(!local.bytes().is_empty());
                for (base, detail) in local.subaddresses(b"+-") {
                    assert!(!base.bytes().is_empty() && base.bytes().len() + detail.len() < local.bytes().len() + 1);
                }
                let _ = (local.without_batv(), local.is_srs());
            }
        }
    }
    let _ = address::is_bare_postmaster(data);
}

/// A list: the first byte chooses the format, the second the size of the chunks in which it comes once more.
pub fn source(data: &[u8]) {
    let [choice, size, text @ ..] = data else { return };
    let format = Format::ALL[usize::from(*choice) % Format::ALL.len()];
    let options = Options { domain: b"example.org".to_vec(), ..Options::default() };
    let whole = digest_chunks(format, &options, [text]);
    let chunked = digest_chunks(format, &options, text.chunks(usize::from(*size).max(1)));
    assert_eq!(whole.outcome, chunked.outcome, "{format}: chunks change the end");
    if whole.outcome.is_ok() {
        assert_eq!(whole.events, chunked.events, "{format}: chunks change the items");
    }
    let _ = rcptmapd::source::detect(text, "list");
}

/// What the parser of a list finds, put into a builder without a word about the rest.
struct Entries(Builder);

impl Sink for Entries {
    fn item(&mut self, _line: u32, item: Item<'_>) {
        let _ = self.0.add(&item);
    }

    fn pair(&mut self, _line: u32, key: &[u8], value: &[u8]) {
        self.0.add_pair(key, value);
    }

    fn fault(&mut self, _line: u32, _text: &[u8], _fault: Fault) {}

    fn skip(&mut self, _line: u32, _reason: Skip) {}

    fn note(&mut self, _line: u32, _note: Note) {}
}

/// An access file, an empty line, then keys, one a line: all maps and decisions agree about each of them.
pub fn resolve(data: &[u8]) {
    let at = data.windows(2).position(|two| two == b"\n\n").unwrap_or(0);
    let (list, keys) = data.split_at(at);
    let key = || HashKey::with_seeds(1, 2, 3, 4);
    let mut entries = Entries(Builder::new(key(), true, Domains::new()));
    let mut parser = Parser::new(Format::Access, &Options { domain: b"example.org".to_vec(), ..Options::default() });
    let Ok(()) = parser.feed(list, &mut entries) else { return };
    let Ok(_) = parser.finish(&mut entries) else { return };
    let content = std::sync::Arc::new(entries.0.finish(|_| {}));
    let source = map::Source::new("list", 0, Some(content));
    let snapshot = Snapshot::new(key(), vec![source], Vec::new(), true, Policy::default());
    let directory = resolve::Directory::new(snapshot, Vec::new());
    let mut scratch = Scratch::default();
    for key in keys.split(|&b| b == b'\n') {
        for map in [&b"rcpt"[..], b"access", b"domains", key] {
            let answer = directory.answer(map, key, &mut scratch);
            let mut out = Vec::new();
            socketmap::encode(&answer.reply, &mut out);
            let Ok(Some((payload, _))) = socketmap::decode_reply(&out) else { panic!("not a netstring") };
            is_no_forbidden_reply(payload);
        }
        let answer = directory.answer(b"rcpt", key, &mut scratch);
        let verdict = answer.verdict.expect("rcpt is about recipients");
        assert_eq!(matches!(answer.reply, Reply::Ok(_)), verdict == Verdict::Exists);
        assert_eq!(matches!(answer.reply, Reply::Temp(_)), verdict == Verdict::Unknown);
        let answer = directory.answer(b"check", key, &mut scratch);
        assert_eq!(answer.verdict, Some(verdict));
        let passes = matches!(answer.reply, Reply::Ok(Value::Bytes(b"DUNNO")));
        assert_eq!(passes, matches!(verdict, Verdict::Exists | Verdict::Foreign));
        let decided = directory.decide(key, &mut scratch, &mut ()).expect("lists answer at once");
        let decision = decided.decision;
        assert_eq!(matches!(decision, Decision::Pass), passes);
        assert_eq!(matches!(decision, Decision::Defer(_)), verdict == Verdict::Unknown);
        let tagged = [b"to:", key].concat();
        let answer = directory.answer(b"access", &tagged, &mut scratch);
        assert!(answer.verdict.is_none_or(|tagged| tagged == verdict), "to: changes the verdict");
    }
}

/// A disk on which there is nothing.
struct Nothing;

impl Reader for Nothing {
    fn list(&self, _folder: &std::path::Path) -> std::io::Result<Vec<std::ffi::OsString>> {
        Ok(Vec::new())
    }

    fn read(&self, _path: &std::path::Path) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

/// A configuration: taken, or refused with a text that names the file.
pub fn config(data: &[u8]) {
    let name = std::path::Path::new("/etc/rcptmapd/rcptmapd.toml");
    if let Err(error) = Config::parse(name, data, &Nothing, &Overrides::default()) {
        assert!(error.to_string().contains("rcptmapd.toml"), "{error}");
    }
}
