//! What `rcptmapd serve` says on a terminal: that a load takes long, and how to ask.

use std::fmt::Write as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::text;
use crate::config::{Config, Endpoint, Origin};
use crate::map::{Entry, Key};
use crate::reload::{Outcome, Report};
use crate::resolve::Directory;

/// A load that takes no longer is not worth a word.
const QUIET: Duration = Duration::from_secs(1);
/// And then a word from time to time.
const AGAIN: Duration = Duration::from_secs(5);

/// Tells who started us on a terminal how the first load goes, and how to ask.
pub struct Watch {
    what: String,
    /// Without a configuration file: tell how to ask.
    how_to_ask: bool,
    endpoints: Vec<Endpoint>,
    began: Instant,
    /// Dropped when the load is over.
    done: Option<(Sender<()>, thread::JoinHandle<()>)>,
}

impl Watch {
    /// What is loaded, and where it will be served.
    pub fn new(config: &Config, how_to_ask: bool, endpoints: Vec<Endpoint>) -> Watch {
        let size = |origin: &Origin| match origin {
            Origin::Path(path) => std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
            Origin::Command(_) => 0,
        };
        let bytes = config.sources.iter().map(|source| size(&source.origin)).sum();
        let what = format!("{}, {}", text::count(config.sources.len(), "list"), text::size(bytes));
        Watch { what, how_to_ask, endpoints, began: Instant::now(), done: None }
    }

    /// From now on a line tells that it takes long, once it does.
    pub fn start(mut self) -> Watch {
        let (done, over) = channel::<()>();
        let (began, what) = (self.began, self.what.clone());
        let ticker = thread::Builder::new().name("progress".to_owned()).spawn(move || {
            // Whole lines, since those of the log come in between.
            let mut pause = QUIET;
            while over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                eprintln!("rcptmapd: loading {what}: {} s so far", began.elapsed().as_secs());
                pause = AGAIN;
            }
        });
        self.done = ticker.ok().map(|ticker| (done, ticker));
        self
    }

    /// The first load is over.
    pub fn loaded(mut self, outcome: &Outcome) {
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
