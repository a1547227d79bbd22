//! Arguments in, exit code out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use rcptmapd_bench::endpoint::Endpoint;
use rcptmapd_bench::load::{Target, Until};
use rcptmapd_bench::protocol::Protocol;
use rcptmapd_bench::recipients::Recipients;
use rcptmapd_bench::{bare, comparison, load, paced, process};

/// Measures rcptmapd beside redis, memcached and a bare epoll server.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: comparison::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the comparison and print the table (the default)
    Run(comparison::Options),
    /// Be the bare epoll server: the same answer to every netstring
    Bare {
        /// Path of a UNIX socket to make
        #[arg(long)]
        unix: Option<PathBuf>,
        /// Address and port
        #[arg(long)]
        tcp: Option<SocketAddr>,
    },
    /// Put load on one running server, for a profiler to watch
    Load(LoadOptions),
    /// Write the list that the load asks about
    Write {
        /// Recipients
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
        /// Where to
        file: PathBuf,
    },
}

/// The load's shape.
#[derive(Debug, Args)]
struct LoadOptions {
    /// unix:/path or 127.0.0.1:port
    #[arg(long)]
    to: Endpoint,
    /// The server's process, whose CPU time is told
    #[arg(long)]
    pid: i32,
    /// What it speaks
    #[arg(long, value_enum, default_value_t = Dialect::Socketmap)]
    protocol: Dialect,
    /// Recipients it has loaded
    #[arg(long, default_value_t = 1_000_000)]
    recipients: u64,
    /// Connections
    #[arg(short, long, default_value_t = 64)]
    connections: usize,
    /// Requests in one write
    #[arg(short, long, default_value_t = 1)]
    pipeline: usize,
    /// A connection for each request, as Exim does
    #[arg(long)]
    one_shot: bool,
    /// Requests a second, whatever the server does; tells latencies
    #[arg(long)]
    rate: Option<u32>,
    /// Connections that stay idle besides
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// Seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dialect {
    Socketmap,
    Constant,
    Line,
    Policy,
    TcpTable,
    Milter,
    Redis,
    Memcached,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => comparison::run(&cli.run),
        Some(Command::Run(options)) => comparison::run(&options),
        Some(Command::Bare { unix, tcp }) => bare::serve(unix.as_deref(), tcp).map(|()| true),
        Some(Command::Load(options)) => load_one(&options).map(|()| true),
        Some(Command::Write { count, file }) => {
            Recipients { count }.write_postmap(&file).map(|()| true).map_err(anyhow::Error::from)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rcptmapd-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load_one(options: &LoadOptions) -> Result<()> {
    process::raise_descriptor_limit()?;
    let protocol = match options.protocol {
        Dialect::Socketmap => Protocol::Socketmap,
        Dialect::Constant => Protocol::Constant,
        Dialect::Line => Protocol::Line,
        Dialect::Policy => Protocol::Policy,
        Dialect::TcpTable => Protocol::TcpTable,
        Dialect::Milter => Protocol::Milter,
        Dialect::Redis => Protocol::Redis,
        Dialect::Memcached => Protocol::Memcached,
    };
    let target = Target {
        endpoint: options.to.clone(),
        protocol,
        pid: nix::unistd::Pid::from_raw(options.pid),
        recipients: Recipients { count: options.recipients.max(1) },
    };
    let _idle = load::Idle::open(&target, options.idle)?;
    let duration = Duration::from_secs_f64(options.seconds);
    if let Some(rate) = options.rate {
        let pace = paced::Pace { rate, connections: options.connections, duration, spin: process::cores()?.len() > 1 };
        let mut latencies = paced::paced(&target, 1, pace, None)?.quiet;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| latencies.quantile_us(quantile));
        println!("{} requests, all right: p50 {p50:.0}, p99 {p99:.0}, p99.9 {p999:.0} us", latencies.count());
        return Ok(());
    }
    let slice = if options.one_shot {
        let rate = 10_000.0;
        load::one_shot(&target, 1, options.connections.min(64), (options.seconds * rate) as u64)?
    } else {
        load::closed(&target, 1, options.connections, options.pipeline, Until::Elapsed(duration))?
    };
    println!(
        "{} look-ups in {:.2} s, all right: {:.3} us of the server's CPU each",
        slice.lookups,
        slice.wall.as_secs_f64(),
        slice.cpu_us()
    );
    Ok(())
}
