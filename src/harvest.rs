//! Directory harvest attacks: who guesses names, told by ratio and count together in a sliding window.
//!
//! Pure: time and verdicts are passed in, edges come out. Nothing here exists unless `[harvest]` is configured, and then
//! nothing allocates after the start: the memory is the same with ten clients and with a flood of ten million addresses.
//!
//! - **Clients** (an IPv4 address, an IPv6 network of 64 bits, since that is what one customer gets) are kept in a
//!   set-associative table. In a full set the client with the fewest guesses makes room, and of those the longest silent
//!   one: a flood of addresses that guess once each pushes out its like, not those who are being watched.
//! - **Domains** are watched the same way, by a number of the caller's. They are only reported: to act on a domain would
//!   punish its honest senders for its attacker.
//! - **The window** slides in quarters: what is counted is never older than a window and a quarter, and never less than
//!   a window.
//! - **Tripped** is who has `absent` refusals and a share of them of at least `ratio` within the window. That ends when
//!   the window says otherwise; an attacker that goes on keeps it up.
//! - **Names** that are guessed most are kept by the space-saving method: a new name takes the place of the rarest, and
//!   its count, so that no frequent one is missed.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::config::{self, Action};
use crate::map::HashKey;
use crate::skip;
use crate::verdict::Verdict;

/// Parts of a window.
const PARTS: u32 = 4;
/// Slices that are kept: a window, and the one that is being filled.
const SLICES: usize = PARTS as usize + 1;
/// Clients in a set of the table.
const WAYS: usize = 8;
/// Sets of the table: 32,768 clients in some 2 MB.
const SETS: usize = 4096;
/// The same for names: 512.
const NAME_SETS: usize = 64;
/// Longest part of a name that is kept.
const NAME_BYTES: usize = 64;
/// Edges that wait to be told; what is more is only counted.
const MAX_EDGES: usize = 256;

/// How one client, or one domain, did lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    /// Number of the slice that is being filled.
    slice: u32,
    asked: [u16; SLICES],
    absent: [u16; SLICES],
    tripped: bool,
}

impl Window {
    fn advance(&mut self, slice: u32) {
        let passed = slice.wrapping_sub(self.slice) as usize;
        if passed == 0 {
            return;
        }
        for step in 1..=passed.min(SLICES) {
            let at = (self.slice as usize + step) % SLICES;
            (self.asked[at], self.absent[at]) = (0, 0);
        }
        self.slice = slice;
    }

    fn count(&mut self, absent: bool) {
        let at = self.slice as usize % SLICES;
        self.asked[at] = self.asked[at].saturating_add(1);
        self.absent[at] = self.absent[at].saturating_add(u16::from(absent));
    }

    fn sums(&self) -> Counts {
        let sum = |counts: &[u16; SLICES]| counts.iter().map(|&n| u32::from(n)).sum();
        Counts { asked: sum(&self.asked), absent: sum(&self.absent) }
    }
}

/// Recipients within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That were asked about.
    pub asked: u32,
    /// Of them, those that don't exist.
    pub absent: u32,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    /// The address in IPv6's form; `UNSPECIFIED`: nobody.
    key: Ipv6Addr,
    window: Window,
}

const NOBODY: Client = Client {
    key: Ipv6Addr::UNSPECIFIED,
    window: Window { slice: 0, asked: [0; SLICES], absent: [0; SLICES], tripped: false },
};

#[derive(Clone, Copy, Debug)]
struct Name {
    count: u64,
    length: u8,
    bytes: [u8; NAME_BYTES],
}

/// About whom an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A client: the address that was seen last.
    Client(IpAddr),
    /// A domain, by the caller's number.
    Domain(usize),
}

/// Somebody has tripped the rule, or no longer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who.
    pub who: Who,
    /// Tripped it, or not any more.
    pub tripped: bool,
    /// The counts that decided.
    pub counts: Counts,
}

/// Who is watched now, for `report`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Clients that were seen within the window.
    pub clients: usize,
    /// Those that have tripped the rule, most guesses first.
    pub tripped: Vec<(IpAddr, Counts)>,
    /// Domains that have, by number.
    pub domains: Vec<(usize, Counts)>,
}

/// The watch over clients, domains and names.
pub struct Harvest {
    settings: config::Harvest,
    hash: HashKey,
    started: Instant,
    /// Number and end of the slice that is being filled.
    slice: u32,
    slice_ends: Instant,
    clients: Box<[[Client; WAYS]]>,
    domains: Vec<Window>,
    names: Box<[[Name; WAYS]]>,
    edges: Vec<Edge>,
    /// Somebody may have tripped the rule.
    alert: bool,
    /// Times that a client has tripped the rule.
    pub trips: u64,
    /// Answers that were not what they would have been otherwise.
    pub acted: u64,
}

impl Harvest {
    /// A watch that has seen nobody. `hash` is keyed, so that nobody can aim at a set.
    pub fn new(settings: &config::Harvest, hash: HashKey, now: Instant) -> Harvest {
        let empty = Name { count: 0, length: 0, bytes: [0; NAME_BYTES] };
        let mut harvest = Harvest {
            settings: settings.clone(),
            hash,
            started: now,
            slice: 0,
            slice_ends: now,
            clients: vec![[NOBODY; WAYS]; SETS].into(),
            domains: Vec::new(),
            names: vec![[empty; WAYS]; NAME_SETS].into(),
            edges: Vec::with_capacity(MAX_EDGES),
            alert: false,
            trips: 0,
            acted: 0,
        };
        harvest.slice_ends = now + harvest.slice_length();
        harvest
    }

    /// What it watches by.
    pub fn settings(&self) -> &config::Harvest {
        &self.settings
    }

    fn slice_length(&self) -> Duration {
        (self.settings.window / PARTS).max(Duration::from_millis(1))
    }

    /// Once a turn of the loop: at the end of a slice, looks who no longer trips the rule.
    #[inline]
    pub fn turn(&mut self, now: Instant) {
        if now >= self.slice_ends {
            self.next_slice(now);
        }
    }

    /// When [`Harvest::turn`] has to look at somebody who has tripped the rule, whether anything else happens or not.
    pub fn due(&self) -> Option<Instant> {
        self.alert.then_some(self.slice_ends)
    }

    #[cold]
    fn next_slice(&mut self, now: Instant) {
        let length = self.slice_length();
        let passed = now.saturating_duration_since(self.started).as_nanos() / length.as_nanos();
        self.slice = u32::try_from(passed).unwrap_or(u32::MAX);
        self.slice_ends = self.started + length * (self.slice.saturating_add(1));
        let Harvest { settings, clients, domains, edges, slice, .. } = self;
        for client in clients.iter_mut().flatten().filter(|client| client.window.tripped) {
            look(&mut client.window, *slice, settings, Who::Client(shown(client.key)), edges);
        }
        for (number, window) in domains.iter_mut().enumerate().filter(|(_, window)| window.tripped) {
            look(window, *slice, settings, Who::Domain(number), edges);
        }
        let tripped = |window: &Window| window.tripped;
        self.alert = clients.iter().flatten().any(|client| client.window.tripped) || domains.iter().any(tripped);
    }

    /// Counts what was found out about a recipient. Only exists and absent say something about who asks. `true`: the
    /// client has tripped the rule, with this recipient or before.
    pub fn count(&mut self, client: Option<IpAddr>, domain: Option<usize>, verdict: Verdict, recipient: &[u8]) -> bool {
        let absent = match verdict {
            Verdict::Exists => false,
            Verdict::Absent => true,
            Verdict::Unknown | Verdict::Foreign => return self.is_tripped(client),
        };
        if absent {
            self.guessed(recipient);
        }
        if let Some(number) = domain {
            self.count_domain(number, absent);
        }
        client.is_some_and(|client| self.count_client(client, absent))
    }

    fn count_client(&mut self, address: IpAddr, absent: bool) -> bool {
        let slice = self.slice;
        let key = key_of(address);
        let client = self.client(key);
        client.window.advance(slice);
        client.window.count(absent);
        let before = client.window.tripped;
        let mut window = client.window;
        if !before {
            look(&mut window, slice, &self.settings, Who::Client(address), &mut self.edges);
            if window.tripped {
                self.trips += 1;
                self.alert = true;
                self.client(key).window.tripped = true;
            }
        }
        window.tripped
    }

    fn count_domain(&mut self, number: usize, absent: bool) {
        if self.domains.len() <= number {
            self.domains.resize(number + 1, Window::default());
        }
        let Harvest { settings, domains, edges, slice, .. } = self;
        if let Some(window) = domains.get_mut(number) {
            window.advance(*slice);
            window.count(absent);
            if !window.tripped {
                look(window, *slice, settings, Who::Domain(number), edges);
                self.alert |= window.tripped;
            }
        }
    }

    /// Whether a client has tripped the rule.
    pub fn is_tripped(&self, client: Option<IpAddr>) -> bool {
        let Some(key) = client.map(key_of) else { return false };
        let set = &self.clients[self.hash.hash_one(key) as usize % SETS];
        set.iter().any(|client| client.key == key && client.window.tripped)
    }

    /// The client's place, or that of the one who is worth least.
    fn client(&mut self, key: Ipv6Addr) -> &mut Client {
        let slice = self.slice;
        let set = &mut self.clients[self.hash.hash_one(key) as usize % SETS];
        let at = set.iter().position(|client| client.key == key).unwrap_or_else(|| {
            let worth = |client: &Client| {
                let mut window = client.window;
                window.advance(slice);
                let nobody = client.key == Ipv6Addr::UNSPECIFIED;
                (!nobody, client.window.tripped, window.sums().absent, client.window.slice)
            };
            let least = (0..WAYS).min_by_key(|&at| worth(&set[at])).unwrap_or(0);
            set[least] = Client { key, window: Window { slice, ..Window::default() } };
            least
        });
        &mut set[at]
    }

    /// Counts a name that was guessed.
    fn guessed(&mut self, recipient: &[u8]) {
        let text = recipient.strip_prefix(b"<").and_then(|text| text.strip_suffix(b">")).unwrap_or(recipient);
        let mut name = Name { count: 1, length: text.len().min(NAME_BYTES) as u8, bytes: [0; NAME_BYTES] };
        for (to, from) in name.bytes.iter_mut().zip(text) {
            *to = from.to_ascii_lowercase();
        }
        let set = &mut self.names[self.hash.hash_one(name.bytes) as usize % NAME_SETS];
        if let Some(known) = set.iter_mut().find(|known| known.count > 0 && known.bytes == name.bytes) {
            known.count += 1;
        } else if let Some(rarest) = set.iter_mut().min_by_key(|known| known.count) {
            name.count += rarest.count;
            *rarest = name;
        }
    }

    /// The next edge that nobody has been told of.
    pub fn poll_edge(&mut self) -> Option<Edge> {
        if self.edges.is_empty() { None } else { Some(self.edges.remove(0)) }
    }

    /// The names that were guessed most, at most `many`. Counts are upper limits.
    pub fn most_guessed(&self, many: usize) -> Vec<(String, u64)> {
        let mut names: Vec<&Name> = self.names.iter().flatten().filter(|name| name.count > 0).collect();
        names.sort_by(|a, b| b.count.cmp(&a.count).then(a.bytes.cmp(&b.bytes)));
        let text = |name: &Name| {
            let bytes = name.bytes.get(..usize::from(name.length)).unwrap_or_default();
            bytes.iter().map(|&b| if matches!(b, b' '..=b'~') { char::from(b) } else { '?' }).collect::<String>()
        };
        names.into_iter().take(many).map(|name| (text(name), name.count)).collect()
    }

    /// Who is watched now.
    pub fn watched(&self) -> Watched {
        let mut watched = Watched::default();
        let current = |window: &Window| {
            let mut window = *window;
            window.advance(self.slice);
            (window.tripped, window.sums())
        };
        for client in self.clients.iter().flatten().filter(|client| client.key != Ipv6Addr::UNSPECIFIED) {
            let (tripped, counts) = current(&client.window);
            watched.clients += usize::from(counts.asked > 0);
            if tripped {
                watched.tripped.push((shown(client.key), counts));
            }
        }
        watched.tripped.sort_by_key(|(client, counts)| (std::cmp::Reverse(counts.absent), *client));
        let domains = self.domains.iter().map(current).enumerate();
        watched.domains = domains.filter(|(_, (tripped, _))| *tripped).map(|(at, (_, counts))| (at, counts)).collect();
        watched
    }

    /// What is done with a recipient of a client that has tripped the rule.
    pub fn action(&self) -> Action {
        self.settings.action
    }
}

/// What stands behind the name of a map whose keys begin with the client: `rcpt_client`.
///
/// Such keys are `CLIENT,ADDRESS` (sendmail, which would put blanks where it likes) or `CLIENT ADDRESS` (Exim, scripts).
/// They have names of their own so that no ordinary key can be taken for one, whatever stands in an address.
pub const CLIENT_SUFFIX: &[u8] = b"_client";

/// Takes a key with its client apart. What is no address in front of the first comma or blank tells nothing (`unknown`,
/// empty); without either, all of it is the key.
pub fn client_and_key(key: &[u8]) -> (Option<IpAddr>, &[u8]) {
    match key.iter().position(|byte| matches!(byte, b',' | b' ')) {
        Some(at) => (skip::client(&key[..at]), &key[at + 1..]),
        None => (None, key),
    }
}

/// Compares a window with the rule, and notes an edge.
fn look(window: &mut Window, slice: u32, rule: &config::Harvest, who: Who, edges: &mut Vec<Edge>) {
    window.advance(slice);
    let counts = window.sums();
    let tripped = counts.absent >= rule.absent
        && u64::from(counts.absent) * 100 >= u64::from(counts.asked) * u64::from(rule.ratio);
    if tripped != window.tripped {
        window.tripped = tripped;
        if edges.len() < MAX_EDGES {
            edges.push(Edge { who, tripped, counts });
        }
    }
}

/// IPv4 as it is, of IPv6 the network.
fn key_of(address: IpAddr) -> Ipv6Addr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)),
    }
}

fn shown(key: Ipv6Addr) -> IpAddr {
    IpAddr::V6(key).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn watch(now: Instant) -> Harvest {
        let settings = config::Harvest { on: true, ..config::Harvest::default() };
        Harvest::new(&settings, HashKey::with_seeds(1, 2, 3, 4), now)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn edges(harvest: &mut Harvest) -> Vec<Edge> {
        std::iter::from_fn(|| harvest.poll_edge()).collect()
    }

    #[test]
    fn ratio_and_count_trip_together() {
        let now = Instant::now();
        let mut harvest = watch(now);
        let (guesser, forwarder) = (ip("192.0.2.9"), ip("192.0.2.10"));
        for n in 0..19 {
            assert!(!harvest.count(guesser, Some(3), Verdict::Absent, b"info@a.example"), "{n}");
        }
        // many refusals, but more that exist: somebody forwards an old list
        for _ in 0..30 {
            assert!(!harvest.count(forwarder, Some(4), Verdict::Exists, b""));
        }
        for _ in 0..29 {
            assert!(!harvest.count(forwarder, Some(4), Verdict::Absent, b"x@a.example"));
        }
        assert!(harvest.count(guesser, Some(3), Verdict::Absent, b"info@a.example"));
        assert!(harvest.count(guesser, Some(3), Verdict::Exists, b"anna@a.example"));
        assert!(harvest.is_tripped(guesser) && !harvest.is_tripped(forwarder) && !harvest.is_tripped(None));
        let counts = Counts { asked: 20, absent: 20 };
        let edge = |who| Edge { who, tripped: true, counts };
        assert_eq!(
            edges(&mut harvest),
            [edge(Who::Domain(3)), edge(Who::Client("192.0.2.9".parse().expect("an address")))]
        );
        assert_eq!(harvest.most_guessed(1), [("x@a.example".to_owned(), 29)]);
        assert_eq!(harvest.watched().clients, 2);
        assert_eq!(harvest.watched().tripped.len(), 1);
        assert_eq!(harvest.trips, 1);
    }

    #[test]
    fn what_is_unknown_or_foreign_says_nothing() {
        let mut harvest = watch(Instant::now());
        for verdict in [Verdict::Unknown, Verdict::Foreign] {
            for _ in 0..100 {
                assert!(!harvest.count(ip("192.0.2.9"), Some(0), verdict, b"x@y"));
            }
        }
        assert!(harvest.most_guessed(10).is_empty());
        assert_eq!(harvest.watched(), Watched::default());
    }

    #[test]
    fn the_window_slides_and_the_edge_is_told_once() {
        let start = Instant::now();
        let mut harvest = watch(start);
        let client = ip("2001:db8::9");
        for _ in 0..25 {
            harvest.count(client, None, Verdict::Absent, b"x");
        }
        assert_eq!(edges(&mut harvest).len(), 1);
        // another address of the same network
        assert!(harvest.is_tripped(ip("2001:db8::ffff:1")));
        assert!(!harvest.is_tripped(ip("2001:db8:0:1::9")));
        // a window later it is all still within
        harvest.turn(start + Duration::from_secs(600));
        assert!(harvest.is_tripped(client));
        harvest.turn(start + Duration::from_secs(750));
        assert!(!harvest.is_tripped(client));
        let left = edges(&mut harvest);
        assert_eq!(left.len(), 1);
        assert!(!left[0].tripped);
        harvest.turn(start + Duration::from_secs(86_400));
        assert!(edges(&mut harvest).is_empty());
        assert_eq!(harvest.watched().clients, 0);
    }

    #[test]
    fn a_flood_of_addresses_does_not_hide_who_guesses() {
        let now = Instant::now();
        let mut harvest = watch(now);
        let guesser = ip("198.51.100.7");
        let size = |harvest: &Harvest| (harvest.clients.len(), harvest.names.len(), harvest.edges.capacity());
        let before = size(&harvest);
        let mut tripped = false;
        for n in 0..150_000_u32 {
            let flood = IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64 | 0x2001 << 112));
            harvest.count(Some(flood), Some(0), Verdict::Absent, &n.to_be_bytes());
            if n % 6_000 == 0 {
                tripped |= harvest.count(guesser, Some(0), Verdict::Absent, b"postmistress@a.example");
            }
        }
        assert!(tripped);
        assert_eq!(size(&harvest), before);
        assert!(harvest.watched().clients <= SETS * WAYS);
    }

    #[test]
    fn frequent_names_stay_and_odd_ones_do_no_harm() {
        let mut harvest = watch(Instant::now());
        for n in 0..20_000_u32 {
            harvest.count(None, None, Verdict::Absent, format!("u{n}@a.example").as_bytes());
            if n % 10 == 0 {
                harvest.count(None, None, Verdict::Absent, b"<Sales@A.example>");
            }
        }
        harvest.count(None, None, Verdict::Absent, b"\x1b[2J\xff");
        harvest.count(None, None, Verdict::Absent, &[b'x'; 500]);
        let (name, count) = harvest.most_guessed(1).remove(0);
        assert_eq!(name, "sales@a.example");
        assert!((2_000..2_500).contains(&count), "{count}");
        assert!(harvest.most_guessed(1000).iter().all(|(name, _)| !name.contains('\x1b')));
    }

    #[test]
    fn a_key_may_begin_with_its_client() {
        let parts = |key: &str| {
            let (client, key) = client_and_key(key.as_bytes());
            (client.map(|client| client.to_string()), String::from_utf8_lossy(key).into_owned())
        };
        let client = |client: &str, key: &str| (Some(client.to_owned()), key.to_owned());
        assert_eq!(parts("192.0.2.9,anna@a.example"), client("192.0.2.9", "anna@a.example"));
        assert_eq!(parts("192.0.2.9 \"a b\"@a.example"), client("192.0.2.9", "\"a b\"@a.example"));
        assert_eq!(parts("IPv6:2001:db8::9,x,y@a.example"), client("2001:db8::9", "x,y@a.example"));
        for text in ["unknown,", ",", " ", "0 "] {
            assert_eq!(parts(&format!("{text}anna@a.example")), (None, "anna@a.example".to_owned()));
        }
        assert_eq!(parts("anna@a.example"), (None, "anna@a.example".to_owned()));
        assert_eq!(parts(""), (None, String::new()));
    }

    proptest! {
        /// Against a plain list of times: never more than a window and a quarter is counted, never less than a window.
        #[test]
        fn counts_are_those_of_the_window(steps in proptest::collection::vec((0u64..200, any::<bool>()), 1..80)) {
            let start = Instant::now();
            let mut harvest = watch(start);
            let mut asked: VecDeque<(u64, bool)> = VecDeque::new();
            let mut at = 0;
            for (pause, absent) in steps {
                at += pause;
                harvest.turn(start + Duration::from_secs(at));
                let verdict = if absent { Verdict::Absent } else { Verdict::Exists };
                harvest.count(ip("192.0.2.1"), None, verdict, b"x@y");
                asked.push_back((at, absent));
                let within = |seconds: u64| {
                    let recent = asked.iter().filter(|(then, _)| then + seconds > at);
                    (recent.clone().count() as u32, recent.filter(|(_, absent)| *absent).count() as u32)
                };
                let mut window = harvest.client(key_of("192.0.2.1".parse().expect("an address"))).window;
                window.advance(harvest.slice);
                let counts = window.sums();
                prop_assert!(within(600).0 <= counts.asked && counts.asked <= within(751).0);
                prop_assert!(within(600).1 <= counts.absent && counts.absent <= within(751).1);
                let tripped = counts.absent >= 20 && counts.absent * 100 >= counts.asked * 50;
                prop_assert!(!tripped || harvest.is_tripped(ip("192.0.2.1")));
            }
        }
    }
}
