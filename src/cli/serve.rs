//! `rcptmapd serve`: from arguments to a running loop.
//!
//! The order of [`crate::sys`]: what can be told on the terminal comes first, what takes root's rights before they are
//! given up, threads last.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::settings::{Settings, absolute};
use super::{Failure, exit, text};
use crate::config::{Config, Endpoint, Origin, Overrides};
use crate::logging;
use crate::map::{Entry, Key};
use crate::net::{Server, Setup};
use crate::reload::{self, Loader, Outcome, Report};
use crate::resolve::Directory;
use crate::sys::{self, SysError};

/// A load that takes no longer is not worth a word.
const QUIET: Duration = Duration::from_secs(1);

/// Run the daemon
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd serve /etc/postfix/relay_recipients
      serves a list on 127.0.0.1:8910, and prints how to ask
  rcptmapd serve --listen unix:/run/rcptmapd.sock --listen 127.0.0.1:8910 staff.txt students.txt
  rcptmapd serve -c /etc/rcptmapd/rcptmapd.toml
  rcptmapd serve -D -u nobody -P /run/rcptmapd.pid /etc/mail/access

Without -c and without a list /etc/rcptmapd/rcptmapd.toml is read. With -c, lists on the command line
are served beside those of the file. Without -c nothing is kept on disk, and there is no control socket
but with --control.

An ENDPOINT is written as the mail servers write it: unix:/path, /path, 127.0.0.1:8910, [::1]:8910,
inet:8910@127.0.0.1, inet:127.0.0.1:8910, or fd:NAME for a socket of systemd's.

Signals: HUP reads configuration and lists again, TERM and INT stop, USR1 logs the status, USR2 opens
the log again.

Exit status: 0 stopped by a signal, 67 unknown user or group, 71 a socket or file can't be had,
78 the configuration is wrong.")]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, in place of what the configuration says; may be given several times
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<Endpoint>,
    /// Control socket, for `rcptmapd status`, `stats` and `reload`
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Detach from the terminal
    #[arg(short = 'D', long)]
    detach: bool,
    /// Become this user once the sockets are bound
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Write the process id there
    #[arg(short = 'P', long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Recipient lists; their formats are found out
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,
}

impl From<SysError> for Failure {
    fn from(error: SysError) -> Failure {
        let code = match &error {
            SysError::UnknownUser(_) | SysError::UnknownGroup(_) => exit::NO_USER,
            _ => exit::OS,
        };
        Failure::new(code, error.to_string())
    }
}

/// Starts and serves; returns when a signal ended it, or when it could not start.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let mut activated = sys::Activated::from_env()?;
    let overrides = Overrides {
        sources: args.sources.clone(),
        listen: args.listen.clone(),
        user: args.user.clone(),
        pid_file: args.pid_file.clone(),
    };
    let Settings { mut config, file } = Settings::read(args.config.as_deref(), &overrides)?;
    if let Some(control) = &args.control {
        config.control = Some(absolute(control));
    }
    let os = |what: &str, e: &io::Error| Failure::new(exit::OS, format!("{what}: {}", crate::config::reason(e)));
    let descriptors = sys::raise_nofile().map_err(|e| os("limit of open files", &e))?;
    sys::private_umask();
    // Whoever isn't root stays who they are, so the user need not exist.
    let account = config.user.as_deref().filter(|_| sys::is_root()).map(sys::account).transpose()?;
    let mut bound = Vec::new();
    for listen in &config.listen {
        if let Some(path) = listen.on.path() {
            sys::runtime_folder(path, account.as_ref())?;
        }
        for socket in sys::bind(listen, config.limits.backlog, &mut activated)? {
            bound.push((listen.clone(), socket));
        }
    }
    let control = match config.control.as_deref() {
        Some(path) => {
            sys::runtime_folder(path, account.as_ref())?;
            Some(sys::bind_control(path, account.as_ref())?)
        }
        None => None,
    };
    let stays_root = sys::is_root() && account.is_none();
    // Before we detach, so that "runs already" is seen by who starts us; the number is the child's only afterwards.
    let mut pid_file = config.pid_file.as_deref().map(sys::PidFile::create).transpose()?;
    if args.detach {
        sys::daemonise()?;
        pid_file.as_mut().map(sys::PidFile::update).transpose()?;
    }
    let outlets = logging::Outlets { detached: args.detach, ..logging::Outlets::default() };
    let logger = logging::init(&config.log, outlets).map_err(|e| Failure::new(exit::OS, e.to_string()))?;
    if let Some(account) = &account {
        if sys::drop_privileges(account)? == sys::Dropped::WantsRoot {
            log::warn!("`user` is root; name one that may read the lists and nothing else");
        }
    }
    if stays_root {
        log::warn!("running as root; -u USER (`user` in the configuration) is better, it need only read the lists");
    }
    for name in activated.left() {
        log::warn!("socket {name} of systemd belongs to no listener, so nobody answers there");
    }
    let endpoints: Vec<Endpoint> = bound.iter().map(|(_, bound)| bound.endpoint.clone()).collect();
    let watch = (!args.detach && io::stderr().is_terminal()).then(|| Watch::new(&config, file.is_none(), endpoints));
    let config = Arc::new(config);
    let settings = reload::Settings { file, overrides };
    let notify = sys::Notify::from_env();
    let setup = Setup { config: Arc::clone(&config), bound, control, activated, descriptors, notify, logger };
    let served = Server::new(setup, |wake| {
        let mut watch = watch.map(Watch::start);
        let heard = move |outcome: &Outcome| {
            if let Some(watch) = watch.take() {
                watch.loaded(outcome);
            }
        };
        Loader::start(config, settings, heard, wake)
    })
    .and_then(Server::run);
    if let Some(pid_file) = pid_file {
        pid_file.remove();
    }
    served.map_err(|e| Failure::new(exit::OS, e.to_string()))?;
    Ok(exit::OK)
}

/// Tells who started us on a terminal how the first load goes, and how to ask.
struct Watch {
    what: String,
    /// Without a configuration file: tell how to ask.
    how_to_ask: bool,
    endpoints: Vec<Endpoint>,
    began: Instant,
    /// Dropped when the load is over.
    done: Option<(Sender<()>, thread::JoinHandle<()>)>,
}

impl Watch {
    fn new(config: &Config, how_to_ask: bool, endpoints: Vec<Endpoint>) -> Watch {
        let size = |origin: &Origin| match origin {
            Origin::Path(path) => std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
            Origin::Command(_) => 0,
        };
        let bytes = config.sources.iter().map(|source| size(&source.origin)).sum();
        let what = format!("{}, {}", text::count(config.sources.len(), "list"), text::size(bytes));
        Watch { what, how_to_ask, endpoints, began: Instant::now(), done: None }
    }

    /// From now on a line tells that it takes long, once it does.
    fn start(mut self) -> Watch {
        let (done, over) = channel::<()>();
        let (began, what) = (self.began, self.what.clone());
        let ticker = thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let mut told = false;
            while over.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
                eprint!("\rrcptmapd: loading {what}: {} s ", began.elapsed().as_secs());
                told = true;
            }
            if told {
                eprintln!();
            }
        });
        self.done = ticker.ok().map(|ticker| (done, ticker));
        self
    }

    fn loaded(mut self, outcome: &Outcome) {
        if let Some((done, ticker)) = self.done.take() {
            drop(done);
            let _ = ticker.join();
        }
        if let (true, Some(directory)) = (self.how_to_ask, &outcome.directory) {
            eprint!(
                "{}",
                how_to_ask(&self.endpoints, &outcome.report, example(directory).as_deref(), std::process::id())
            );
        }
    }
}

/// An address of the lists that can be typed as it is.
fn example(directory: &Directory) -> Option<String> {
    let snapshot = directory.snapshot();
    let contents = snapshot.sources().iter().filter_map(|source| source.content.as_deref());
    // Lists are long, and most begin with what we want.
    contents.flat_map(|content| content.listed().take(1000)).find_map(|listed| match (listed.key, listed.entry) {
        (Key::Recipient { local, domain }, Entry::Accept { .. }) if snapshot.relay_domain(domain).is_some() => {
            let plain = |bytes: &[u8]| {
                bytes
                    .iter()
                    .all(|&b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
                    .then(|| String::from_utf8_lossy(bytes).into_owned())
            };
            Some(format!("{}@{}", plain(local)?, plain(domain)?))
        }
        _ => None,
    })
}

/// Where we listen, and the lines to ask us with.
fn how_to_ask(endpoints: &[Endpoint], report: &Report, example: Option<&str>, pid: u32) -> String {
    let mut out = String::new();
    let places: Vec<String> = endpoints.iter().map(Endpoint::to_string).collect();
    let (recipients, domains) = (text::count(report.recipients, "recipient"), text::count(report.domains, "domain"));
    let _ = writeln!(out, "rcptmapd: {recipients} in {domains}, served on {}", places.join(" and "));
    let best = endpoints.iter().find(|endpoint| endpoint.is_tcp()).or(endpoints.first());
    let (netcat, postfix) = match best {
        Some(Endpoint::Unix(path)) => (format!("-U {}", path.display()), format!("unix:{}", path.display())),
        Some(Endpoint::Tcp(address)) => {
            let ip = address.ip().to_canonical();
            let ip = match ip.is_unspecified() {
                true if ip.is_ipv4() => "127.0.0.1".to_owned(),
                true => "::1".to_owned(),
                false => ip.to_string(),
            };
            let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
            (format!("{ip} {}", address.port()), format!("inet:{host}:{}", address.port()))
        }
        _ => return out,
    };
    let example = example.unwrap_or("anna@example.org");
    let _ = writeln!(out, "  ask it:      echo '{example}' | nc -N {netcat}");
    let _ = writeln!(out, "  in Postfix:  relay_recipient_maps = socketmap:{postfix}:rcpt");
    let _ = writeln!(out, "  new lists:   kill -HUP {pid}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(endpoints: &[&str], example: Option<&str>) -> String {
        let endpoints: Vec<Endpoint> = endpoints.iter().map(|on| on.parse().expect("an endpoint")).collect();
        let report = Report { recipients: 1_234, domains: 1, ..Report::default() };
        how_to_ask(&endpoints, &report, example, 77)
    }

    #[test]
    fn the_lines_to_ask_with_can_be_typed_as_they_are() {
        assert_eq!(
            asked(&["unix:/run/r.sock", "127.0.0.1:8910"], Some("bob@example.net")),
            "rcptmapd: 1,234 recipients in 1 domain, served on unix:/run/r.sock and 127.0.0.1:8910\n  \
             ask it:      echo 'bob@example.net' | nc -N 127.0.0.1 8910\n  \
             in Postfix:  relay_recipient_maps = socketmap:inet:127.0.0.1:8910:rcpt\n  \
             new lists:   kill -HUP 77\n"
        );
        let line = |endpoint| asked(&[endpoint], None).lines().nth(1).map(|line| line.trim().to_owned());
        assert_eq!(line("/run/r.sock").as_deref(), Some("ask it:      echo 'anna@example.org' | nc -N -U /run/r.sock"));
        assert_eq!(line("0.0.0.0:1").as_deref(), Some("ask it:      echo 'anna@example.org' | nc -N 127.0.0.1 1"));
        assert_eq!(line("[::1]:8910").as_deref(), Some("ask it:      echo 'anna@example.org' | nc -N ::1 8910"));
        assert!(asked(&["[::1]:8910"], None).contains("socketmap:inet:[::1]:8910:rcpt\n"));
    }
}
