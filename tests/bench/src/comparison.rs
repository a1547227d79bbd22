//! The whole run: starts the servers, measures them in turns, compares with the targets.
//!
//! CPU a look-up is measured with server and load on one core, in rounds (rcptmapd, bare, redis, memcached,
//! rcptmapd, ...), so that whatever else the machine does hits all alike; figures are medians, ratios are
//! medians of the ratios of each round. Latencies are measured with a core for each side.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::ahead;
use crate::instructions::{self, Load};
use crate::load::{self, Idle, Slice, Target, Until};
use crate::paced::{Latencies, Pace, Paced, Reload, paced};
use crate::packages;
use crate::process;
use crate::protocol::Protocol;
use crate::recipients::Recipients;
use crate::server::{Kind, Launcher, Server};
use crate::table::{Row, Table, Verdict, median, median_ratio};

/// What to measure, and how long.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// A small run of less than two minutes: fewer recipients, rounds and connections
    #[arg(long)]
    quick: bool,
    /// The rcptmapd to measure [default: target/release/rcptmapd of the repository]
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// Measure only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Core of the servers and core of the load; CPU time is measured with both on the first
    #[arg(long, value_delimiter = ',', num_args = 1..=2)]
    cores: Vec<usize>,
    /// Rounds of each comparison
    #[arg(long)]
    rounds: Option<usize>,
    /// Run at this priority, if allowed: others on the machine disturb less
    #[arg(long, default_value_t = -15, allow_negative_numbers = true)]
    nice: i32,
    /// Where redis and memcached are kept if they aren't installed [default: .cache/bench of the repository]
    #[arg(long, env = "RCPTMAPD_CACHE")]
    cache: Option<PathBuf>,
}

/// Parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// CPU a look-up on lasting connections
    Cpu,
    /// A connection for each request
    OneShot,
    /// 10,000 idle connections
    Idle,
    /// Latencies at 10,000 look-ups a second
    Latency,
    /// Resident bytes a recipient at 1 M
    Memory,
    /// Start with 1 M recipients
    Start,
    /// 10 M recipients: load, memory, latencies during a reload
    Big,
    /// Call-ahead: 1,000 wait for a backend that is 50 ms away
    Ahead,
    /// Instructions a look-up, by callgrind
    Instructions,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    rounds: usize,
    slice: Duration,
    one_shot: u64,
    idle: usize,
    recipients: Recipients,
    big: Recipients,
    paced: Duration,
    reloads: usize,
}

/// Look-ups a second in all latency measurements.
const RATE: u32 = 10_000;
/// Connections under way at a time when each request has its own.
const ONE_SHOT_CONCURRENT: usize = 8;

/// A limit from DESIGN section 10: at most `most` times what `other` needs.
type Bound = (Kind, f64);

struct Run {
    launcher: Launcher,
    sizes: Sizes,
    servers: Vec<Server>,
    memcached_tcp: Option<Server>,
    list: PathBuf,
    table: Table,
}

/// Runs everything and prints the table; `false` if a line failed.
pub fn run(options: &Options) -> Result<bool> {
    let begin = Instant::now();
    let sizes = sizes(options);
    let descriptors = process::raise_descriptor_limit()?;
    let cores = if options.cores.is_empty() { process::cores()? } else { options.cores.clone() };
    let core = *cores.first().context("no core to run on")?;
    let own_core = *cores.get(1).unwrap_or(&core);
    let priority = process::Priority::raise(options.nice);
    let folder = tempfile::Builder::new().prefix("rcptmapd-bench").tempdir().context("no room for temporary files")?;

    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let launcher = Launcher {
        daemon: find_daemon(options, &repository)?,
        programs: find_programs(options, &repository),
        wrapper: Vec::new(),
        memcached_sessions: "15000".to_owned(),
        folder: folder.path().to_owned(),
        core,
        own_core,
    };
    let list = folder.path().join("recipients");
    sizes.recipients.write_postmap(&list).context("cannot write the list of recipients")?;
    let mut run = Run { launcher, sizes, servers: Vec::new(), memcached_tcp: None, list, table: Table::default() };
    println!(
        "servers on core {core}, load on the same for CPU figures and on core {own_core} for latencies; \
         priority {}; load of the machine at the start {}; {descriptors} descriptors",
        if priority.is_raised() { options.nice.to_string() } else { "as others".to_owned() },
        process::load_average(),
    );

    let wants = |part| options.only.is_empty() || options.only.contains(&part);
    if wants(Part::Start) {
        run.part("start", Run::start);
    }
    if [Part::Cpu, Part::OneShot, Part::Idle, Part::Latency, Part::Memory].into_iter().any(wants) {
        run.start_servers()?;
        if wants(Part::Memory) {
            run.part("memory", Run::memory);
        }
        if wants(Part::Cpu) {
            run.part("CPU a look-up", Run::cpu);
        }
        if wants(Part::OneShot) {
            run.part("a connection for each request", Run::one_shot);
        }
        if wants(Part::Idle) {
            run.part("idle connections", Run::idle);
        }
        if wants(Part::Latency) {
            run.part("latencies", Run::latency);
        }
        run.servers.clear();
        run.memcached_tcp = None;
    }
    if wants(Part::Ahead) {
        run.part("call-ahead", Run::ahead);
    }
    if wants(Part::Instructions) {
        run.part("instructions", Run::instructions);
    }
    if wants(Part::Big) {
        run.part("10 M recipients", Run::big);
    }

    println!("\n{}", run.table.render());
    println!(
        "{:.0} s; load of the machine at the end {}; every reply was checked",
        begin.elapsed().as_secs_f64(),
        process::load_average()
    );
    Ok(!run.table.has(Verdict::Failed))
}

fn sizes(options: &Options) -> Sizes {
    let mut sizes = if options.quick {
        Sizes {
            rounds: 3,
            slice: Duration::from_millis(120),
            one_shot: 800,
            idle: 2_000,
            recipients: Recipients { count: 200_000 },
            big: Recipients { count: 1_000_000 },
            paced: Duration::from_secs(1),
            reloads: 1,
        }
    } else {
        Sizes {
            rounds: 9,
            slice: Duration::from_millis(300),
            one_shot: 2_000,
            idle: 10_000,
            recipients: Recipients { count: 1_000_000 },
            big: Recipients { count: 10_000_000 },
            paced: Duration::from_secs(4),
            reloads: 3,
        }
    };
    if let Some(rounds) = options.rounds {
        sizes.rounds = rounds.max(1);
    }
    sizes
}

fn find_daemon(options: &Options, repository: &Path) -> Result<Option<PathBuf>> {
    if let Some(path) = &options.daemon {
        ensure!(path.exists(), "{} does not exist", path.display());
        return Ok(Some(path.canonicalize()?));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), PathBuf::from);
    let path = target.join("release/rcptmapd");
    if path.exists() {
        return Ok(Some(path.canonicalize()?));
    }
    eprintln!(
        "NO rcptmapd at {}: run 'cargo build --release' first, or give --daemon; going on without",
        path.display()
    );
    Ok(None)
}

fn find_programs(options: &Options, repository: &Path) -> Option<packages::Programs> {
    let cache = options.cache.clone().unwrap_or_else(|| repository.join(".cache/bench"));
    match packages::find(&cache) {
        Ok(programs) => Some(programs),
        Err(error) => {
            eprintln!("NO redis and memcached: {error:#}\ngoing on without them, their columns stay empty");
            None
        }
    }
}

impl Run {
    /// A part that breaks costs its own lines only.
    fn part(&mut self, name: &str, measure: fn(&mut Self) -> Result<()>) {
        eprintln!("-- {name}");
        if let Err(error) = measure(self) {
            self.fail(name, &error);
        }
    }

    fn fail(&mut self, what: &str, error: &anyhow::Error) {
        eprintln!("FAILED {what}: {error:#}");
        let first = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
        self.table.push(Row {
            what: what.to_owned(),
            figures: Default::default(),
            ratio: first,
            target: String::new(),
            verdict: Verdict::Failed,
        });
    }

    fn start_servers(&mut self) -> Result<()> {
        for kind in Kind::ALL {
            if !self.launcher.has(kind) {
                continue;
            }
            eprintln!("starting {} with {} recipients", kind.name(), self.sizes.recipients.count);
            match self.launcher.start(kind, &self.list, self.sizes.recipients) {
                Ok(server) => self.servers.push(server),
                Err(error) => self.fail(&format!("start of {}", kind.name()), &error),
            }
        }
        if self.launcher.has(Kind::Memcached) {
            self.memcached_tcp = Some(self.launcher.start_memcached_tcp(self.sizes.recipients)?);
        }
        Ok(())
    }

    fn targets(&self, tcp: bool) -> Result<BTreeMap<Kind, Target>> {
        let mut targets = BTreeMap::new();
        for server in &self.servers {
            let server = if tcp && server.kind == Kind::Memcached {
                let Some(server) = &self.memcached_tcp else { continue };
                server
            } else {
                server
            };
            targets.insert(server.kind, if tcp { server.tcp()? } else { server.unix()? });
        }
        Ok(targets)
    }

    /// Measures all targets in turns and adds a line; with server and load on one core.
    fn compare(
        &mut self,
        what: &str,
        targets: &BTreeMap<Kind, Target>,
        bounds: &[Bound],
        measure: impl Fn(&Target, u64) -> Result<Slice>,
    ) -> Result<()> {
        process::pin(self.launcher.core)?;
        let mut costs: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        let mut failures = Vec::new();
        for round in 0..self.sizes.rounds {
            for (&kind, target) in targets {
                if failures.contains(&kind) {
                    continue;
                }
                match measure(target, round as u64) {
                    Ok(slice) => costs.entry(kind).or_default().push(slice.cpu_us()),
                    Err(error) => {
                        self.fail(&format!("{what}: {}", kind.name()), &error);
                        failures.push(kind);
                        costs.remove(&kind);
                    }
                }
            }
        }
        process::pin(self.launcher.own_core)?;
        let (ratio, target, verdict) = judge(&costs, bounds);
        let figures = Kind::ALL.map(|kind| costs.get(&kind).map(|costs| us(median(costs))).unwrap_or_default());
        self.table.push(Row { what: what.to_owned(), figures, ratio, target, verdict });
        Ok(())
    }

    fn ahead(&mut self) -> Result<()> {
        ahead::measure(&self.launcher, &self.list, self.sizes.recipients, self.sizes.paced, &mut self.table)
    }

    fn cpu(&mut self) -> Result<()> {
        let slice = self.sizes.slice;
        let unix = self.targets(false)?;
        let tcp = self.targets(true)?;
        let one_at_a_time = [(Kind::Bare, 1.10), (Kind::Redis, 0.60)];
        for connections in [1, 64, 512] {
            let what = format!("UNIX, {connections} connections, one at a time: CPU us");
            self.compare(&what, &unix, &one_at_a_time, |target, seed| {
                load::closed(target, seed, connections, 1, Until::Elapsed(slice))
            })?;
        }
        self.compare(
            "UNIX, 64, pipelined by 16: CPU us",
            &unix,
            &[(Kind::Bare, 1.5), (Kind::Redis, 0.30)],
            |target, seed| load::closed(target, seed, 64, 16, Until::Elapsed(slice)),
        )?;
        self.compare("TCP, 64, one at a time: CPU us", &tcp, &[(Kind::Bare, 1.06)], |target, seed| {
            load::closed(target, seed, 64, 1, Until::Elapsed(slice))
        })?;
        self.compare("TCP, 64, pipelined by 16: CPU us", &tcp, &[(Kind::Bare, 1.3)], |target, seed| {
            load::closed(target, seed, 64, 16, Until::Elapsed(slice))
        })?;
        self.other_protocols()
    }

    /// The protocols that nobody else here speaks, beside the bare server's netstrings.
    fn other_protocols(&mut self) -> Result<()> {
        let slice = self.sizes.slice;
        let mut targets = self.targets(false)?;
        targets.retain(|kind, _| *kind == Kind::Bare);
        let protocols =
            [("policy", Protocol::Policy), ("tcp_table", Protocol::TcpTable), ("milter, a RCPT", Protocol::Milter)];
        for (name, protocol) in protocols {
            let Some(daemon) = self.servers.iter().find(|server| server.kind == Kind::Daemon) else { return Ok(()) };
            targets.insert(Kind::Daemon, daemon.speaking(protocol)?);
            let what = format!("UNIX, 64, one at a time, {name} (bare: netstrings): CPU us");
            self.compare(&what, &targets, &[], |target, seed| {
                load::closed(target, seed, 64, 1, Until::Elapsed(slice))
            })?;
        }
        Ok(())
    }

    fn one_shot(&mut self) -> Result<()> {
        let count = self.sizes.one_shot;
        let measure = |target: &Target, seed| load::one_shot(target, seed, ONE_SHOT_CONCURRENT, count);
        let mut unix = self.targets(false)?;
        let tcp = self.targets(true)?;
        self.compare("UNIX, a connection for each: CPU us", &unix, &[(Kind::Bare, 1.0)], measure)?;
        self.compare("TCP, a connection for each: CPU us", &tcp, &[(Kind::Bare, 1.05)], measure)?;
        if let Some(daemon) = unix.get_mut(&Kind::Daemon) {
            daemon.protocol = Protocol::Line;
            unix.retain(|kind, _| matches!(kind, Kind::Daemon | Kind::Bare));
            self.compare("the same in Exim's lines (bare: netstrings): CPU us", &unix, &[(Kind::Bare, 1.0)], measure)?;
        }
        Ok(())
    }

    /// Each round: 64 busy connections without and with idle ones beside them.
    fn idle(&mut self) -> Result<()> {
        let (slice, idle) = (self.sizes.slice, self.sizes.idle);
        let rounds = self.sizes.rounds.min(5);
        let targets = self.targets(false)?;
        let mut alone: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        let mut beside: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        let mut bytes: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        for round in 0..rounds as u64 {
            for (&kind, target) in &targets {
                process::pin(self.launcher.core)?;
                let without = load::closed(target, round, 64, 1, Until::Elapsed(slice))?;
                let before = process::resident_bytes(target.pid)?;
                let open = Idle::open(target, idle).with_context(|| format!("{}, {idle} idle", kind.name()))?;
                let grown = process::resident_bytes(target.pid)?.saturating_sub(before);
                let with = load::closed(target, round, 64, 1, Until::Elapsed(slice))?;
                drop(open);
                process::pin(self.launcher.own_core)?;
                // the server sees its sessions end before it is measured again
                thread::sleep(Duration::from_millis(300));
                alone.entry(kind).or_default().push(without.cpu_us());
                beside.entry(kind).or_default().push(with.cpu_us());
                bytes.entry(kind).or_default().push(grown as f64 / idle as f64);
            }
        }
        let ratio = |kind| Some(median_ratio(beside.get(&kind)?, alone.get(&kind)?));
        let daemon = ratio(Kind::Daemon);
        self.table.push(Row {
            what: format!("UNIX, 64 of {} connections busy: CPU us", 64 + idle),
            figures: Kind::ALL.map(|kind| beside.get(&kind).map(|costs| us(median(costs))).unwrap_or_default()),
            ratio: Kind::ALL
                .iter()
                .filter_map(|&kind| Some(format!("{} {:.2}", kind.name(), ratio(kind)?)))
                .collect::<Vec<_>>()
                .join(", "),
            target: "1.10 x without the idle".to_owned(),
            verdict: daemon.map_or(Verdict::Skipped, |ratio| Verdict::of(ratio <= 1.10)),
        });
        // the first round tells: later ones find memory that was there already
        let first = |kind| bytes.get(&kind).and_then(|bytes| bytes.first().copied());
        self.table.push(Row {
            what: "resident bytes an idle connection".to_owned(),
            figures: Kind::ALL.map(|kind| first(kind).map(|bytes| format!("{bytes:.0}")).unwrap_or_default()),
            ratio: String::new(),
            target: "1024".to_owned(),
            verdict: first(Kind::Daemon).map_or(Verdict::Skipped, |bytes| Verdict::of(bytes <= 1024.0)),
        });
        Ok(())
    }

    fn latency(&mut self) -> Result<()> {
        let targets = self.targets(false)?;
        let rounds = self.sizes.rounds.min(3);
        let mut all: BTreeMap<Kind, Latencies> = BTreeMap::new();
        let mut quantiles: BTreeMap<(Kind, usize), Vec<f64>> = BTreeMap::new();
        for round in 0..rounds as u64 {
            for (&kind, target) in &targets {
                let pace = Pace { duration: self.sizes.paced / 2, ..self.pace() };
                let mut quiet = paced(target, round, pace, None)?.quiet;
                for (number, (_, quantile)) in QUANTILES.into_iter().enumerate() {
                    quantiles.entry((kind, number)).or_default().push(quiet.quantile_us(quantile));
                }
                all.entry(kind).or_default().extend(quiet);
            }
        }
        for (number, (name, quantile)) in QUANTILES.into_iter().enumerate() {
            let ratio = |other| {
                let ours = quantiles.get(&(Kind::Daemon, number))?;
                let theirs = quantiles.get(&(other, number))?;
                Some(format!("{:.2} x {}", median_ratio(ours, theirs), other.name()))
            };
            let ratios: Vec<String> = [Kind::Bare, Kind::Redis].into_iter().filter_map(ratio).collect();
            self.table.push(Row {
                what: format!("UNIX, 64, {RATE} a second: latency {name} us"),
                figures: Kind::ALL.map(|kind| {
                    all.get_mut(&kind).map(|all| format!("{:.0}", all.quantile_us(quantile))).unwrap_or_default()
                }),
                ratio: ratios.join(", "),
                target: String::new(),
                verdict: Verdict::Told,
            });
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        let spin = self.launcher.own_core != self.launcher.core;
        Pace { rate: RATE, connections: 64, duration: self.sizes.paced, spin }
    }

    /// Growth of each server by its recipients; must run before the servers have seen load.
    fn memory(&mut self) -> Result<()> {
        let count = self.sizes.recipients.count;
        let mut figures: [String; 4] = Default::default();
        let mut bytes: BTreeMap<Kind, f64> = BTreeMap::new();
        for (column, kind) in Kind::ALL.into_iter().enumerate() {
            let Some(server) = self.servers.iter().find(|server| server.kind == kind) else { continue };
            let empty = match kind {
                Kind::Bare => continue,
                Kind::Daemon => self.empty_daemon_bytes()?,
                Kind::Redis | Kind::Memcached => server.empty_bytes(),
            };
            let resident = process::resident_bytes(server.pid())?.saturating_sub(empty);
            let each = resident as f64 / count as f64;
            bytes.insert(kind, each);
            figures[column] = format!("{each:.1}");
        }
        let ratio = |other| Some(format!("{:.2} x {}", bytes.get(&Kind::Daemon)? / bytes.get(&other)?, other.name()));
        self.table.push(Row {
            what: format!("resident bytes a recipient at {}", millions(count)),
            figures,
            ratio: [Kind::Redis, Kind::Memcached].into_iter().filter_map(ratio).collect::<Vec<_>>().join(", "),
            target: String::new(),
            verdict: Verdict::Told,
        });
        Ok(())
    }

    /// Resident bytes of a daemon with one recipient.
    fn empty_daemon_bytes(&self) -> Result<u64> {
        let list = self.launcher.folder.join("one");
        let one = Recipients { count: 1 };
        one.write_postmap(&list)?;
        let server = self.launcher.start(Kind::Daemon, &list, one)?;
        process::resident_bytes(server.pid())
    }

    fn start(&mut self) -> Result<()> {
        if !self.launcher.has(Kind::Daemon) {
            return Ok(());
        }
        let mut times = Vec::new();
        for _ in 0..self.sizes.rounds.min(5) {
            let (_, time) = self.launcher.time_start(&self.list, self.sizes.recipients)?;
            times.push(time.wall.as_secs_f64());
        }
        let seconds = median(&times);
        let most = 0.4 * self.sizes.recipients.count as f64 / 1e6;
        self.table.push(daemon_row(
            format!("start with {} to the first right answer: s", millions(self.sizes.recipients.count)),
            format!("{seconds:.3}"),
            String::new(),
            format!("{most:.2}"),
            Verdict::of(seconds <= most),
        ));
        Ok(())
    }

    fn instructions(&mut self) -> Result<()> {
        if !instructions::available() {
            eprintln!("NO valgrind: instructions are not counted; install the package valgrind");
            return Ok(());
        }
        let list = self.launcher.folder.join("few");
        let few = Recipients { count: 10_000 };
        few.write_postmap(&list)?;
        let loads = [
            ("UNIX, 64, one at a time", Load::Closed(1), 800.0),
            ("UNIX, 64, pipelined by 16", Load::Closed(16), 450.0),
            ("UNIX, a connection for each", Load::OneShot, f64::INFINITY),
        ];
        for (what, load, most) in loads {
            let mut counts: BTreeMap<Kind, f64> = BTreeMap::new();
            for kind in Kind::ALL {
                if self.launcher.has(kind) {
                    match instructions::per_lookup(&self.launcher, kind, &list, few, load) {
                        Ok(count) => drop(counts.insert(kind, count)),
                        Err(error) => self.fail(&format!("{what}: instructions of {}", kind.name()), &error),
                    }
                }
            }
            let ratio =
                |other| Some(format!("{:.2} x {}", counts.get(&Kind::Daemon)? / counts.get(&other)?, other.name()));
            self.table.push(Row {
                what: format!("{what}: user instructions"),
                figures: Kind::ALL.map(|kind| counts.get(&kind).map(|n| format!("{n:.0}")).unwrap_or_default()),
                ratio: [Kind::Bare, Kind::Redis].into_iter().filter_map(ratio).collect::<Vec<_>>().join(", "),
                target: if most.is_finite() { format!("{most:.0}") } else { String::new() },
                verdict: match counts.get(&Kind::Daemon) {
                    _ if most.is_infinite() => Verdict::Told,
                    Some(&count) => Verdict::of(count <= most),
                    None => Verdict::Skipped,
                },
            });
        }
        Ok(())
    }

    /// Load, memory and reload of the big list; the daemon only.
    fn big(&mut self) -> Result<()> {
        if !self.launcher.has(Kind::Daemon) {
            return Ok(());
        }
        let big = self.sizes.big;
        let count = big.count as f64;
        let name = millions(big.count);
        let list = self.launcher.folder.join("big");
        big.write_postmap(&list).with_context(|| format!("no room for a list of {name} recipients"))?;
        let empty = self.empty_daemon_bytes()?;

        let mut walls = Vec::new();
        let mut cpus = Vec::new();
        let mut last = None;
        for _ in 0..3 {
            drop(last.take());
            let (server, time) = self.launcher.time_start(&list, big)?;
            walls.push(time.wall.as_secs_f64());
            cpus.push(time.cpu.as_secs_f64());
            last = Some(server);
        }
        let server = last.context("at least one start")?;
        let most = 2.0 * count / 1e7;
        self.table.push(daemon_row(
            format!("load {name} from a postmap file, one core: s"),
            format!("{:.2} (CPU {:.2})", median(&walls), median(&cpus)),
            format!("{:.1} M/s", count / median(&walls) / 1e6),
            format!("{most:.1}"),
            Verdict::of(median(&walls) <= most),
        ));
        thread::sleep(Duration::from_millis(200));
        let resident = process::resident_bytes(server.pid())?;
        let peak = process::peak_bytes(server.pid())?;
        let each = resident.saturating_sub(empty) as f64 / count;
        self.table.push(daemon_row(
            format!("resident bytes a recipient at {name}"),
            format!("{each:.1}"),
            format!("{} MiB in all", mib(resident)),
            "24".to_owned(),
            Verdict::of(each <= 24.0),
        ));
        self.table.push(daemon_row(
            format!("peak of the load of {name}: MiB"),
            mib(peak),
            format!("{:.2} x final", peak as f64 / resident as f64),
            "1.50 x final".to_owned(),
            Verdict::of(peak as f64 <= 1.5 * resident as f64),
        ));
        self.reload(&server, &list, resident)
    }

    /// Look-ups at a fixed rate while the big list, one line longer each time, is read again.
    fn reload(&mut self, server: &Server, list: &Path, resident: u64) -> Result<()> {
        let target = server.unix()?;
        let mut total = Paced::default();
        let mut times = Vec::new();
        let mut peaks = Vec::new();
        let mut ratios = [(); 3].map(|()| Vec::new());
        for number in 0..self.sizes.reloads {
            let marker = format!("marker{number}@mx000.example.org");
            let mut file = OpenOptions::new().append(true).open(list)?;
            writeln!(file, "{marker} OK")?;
            drop(file);
            let request = format!("rcpt {marker}");
            let reload = Reload {
                marker_request: format!("{}:{request},", request.len()).into_bytes(),
                marker_reply: format!("{}:OK {marker},", marker.len() + 3).into_bytes(),
                patience: Duration::from_secs(120),
            };
            process::reset_peak(server.pid())?;
            let mut stretch = paced(&target, number as u64, self.pace(), Some(&reload))
                .with_context(|| format!("during the reload; the daemon's log:\n{}", server.log_tail()))?;
            for (ratio, (_, quantile)) in ratios.iter_mut().zip(QUANTILES) {
                ratio.push(stretch.during.quantile_us(quantile) / stretch.quiet.quantile_us(quantile));
            }
            peaks.push(process::peak_bytes(server.pid())? as f64 / resident as f64);
            let Some(time) = stretch.reload else { bail!("the reload did not end") };
            times.push(time.as_secs_f64());
            total.quiet.extend(stretch.quiet);
            total.during.extend(stretch.during);
        }
        let name = millions(self.sizes.big.count);
        for ((quantile_name, quantile), ratios) in QUANTILES.into_iter().zip(ratios) {
            let ratio = median(&ratios);
            let (target, verdict) = match quantile_name {
                "p99" => ("1.3 x quiet", Verdict::of(ratio <= 1.3)),
                "p99.9" => ("2 x quiet", Verdict::of(ratio <= 2.0)),
                _ => ("", Verdict::Told),
            };
            let (during, quiet) = (total.during.quantile_us(quantile), total.quiet.quantile_us(quantile));
            self.table.push(daemon_row(
                format!("latency {quantile_name} while {name} reload, {RATE} a second: us"),
                format!("{during:.0}, quiet {quiet:.0}"),
                format!("{ratio:.2} x quiet"),
                target.to_owned(),
                verdict,
            ));
        }
        self.table.push(daemon_row(
            format!("wrong answers of {} during {} reloads", total.during.count(), self.sizes.reloads),
            "0".to_owned(),
            format!("{:.1} s a reload", median(&times)),
            "0".to_owned(),
            Verdict::Ok,
        ));
        let peak = median(&peaks);
        self.table.push(daemon_row(
            format!("peak of the reload of {name}"),
            mib((peak * resident as f64) as u64),
            format!("{peak:.2} x final"),
            "2.20 x final".to_owned(),
            Verdict::of(peak <= 2.2),
        ));
        Ok(())
    }
}

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

fn daemon_row(what: String, figure: String, ratio: String, target: String, verdict: Verdict) -> Row {
    Row { what, figures: [figure, String::new(), String::new(), String::new()], ratio, target, verdict }
}

/// Ratios to bare and redis, the targets among them, and whether all hold.
fn judge(costs: &BTreeMap<Kind, Vec<f64>>, bounds: &[Bound]) -> (String, String, Verdict) {
    let target =
        bounds.iter().map(|(kind, most)| format!("{most:.2} x {}", kind.name())).collect::<Vec<_>>().join(", ");
    let Some(ours) = costs.get(&Kind::Daemon) else { return (String::new(), target, Verdict::Skipped) };
    let mut ratios = Vec::new();
    let mut verdict = if bounds.is_empty() { Verdict::Told } else { Verdict::Ok };
    for (&kind, theirs) in costs.iter().filter(|&(&kind, _)| kind != Kind::Daemon) {
        let ratio = median_ratio(ours, theirs);
        ratios.push(format!("{ratio:.2} x {}", kind.name()));
        if bounds.iter().any(|&(other, most)| other == kind && ratio > most) {
            verdict = Verdict::Over;
        }
    }
    (ratios.join(", "), target, verdict)
}

fn us(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1048576.0)
}

fn millions(count: u64) -> String {
    format!("{} M", count as f64 / 1e6)
}
