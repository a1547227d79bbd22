//! scam-backscatter's scam.conf, `Key:value` a line (REQUIREMENTS S1-7 to S1-10, S1-14 to S1-26).
//!
//! What the file can't tell, since it was compiled in, is told by [`Switches`]; where one is not set, the other choice
//! stands in a comment.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::{Import, list, listeners, quoted};
use crate::config::{
    Cache, DEFAULT_CONNECT_TIMEOUT, DEFAULT_REPLY_TIMEOUT, DEFAULT_TOTAL_TIMEOUT, DomainName, Endpoint,
};

/// scam-backscatter's own default for the mailertable.
const MAILERTABLE: &str = "/etc/mail/mailertable";
/// And for the life of answers, in seconds.
const VALID: u64 = 86_400;
const INVALID: u64 = 3_000;
/// No time in seconds is longer: ten years.
const LONGEST: u64 = 3650 * 86_400;

/// What it was compiled with, and its command line.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Switches {
    /// Compiled with USEMAILERTABLE: domains and backends come from the mailertable
    #[arg(long)]
    pub usemailertable: bool,
    /// Compiled with EHLO: probes greet with EHLO, not HELO
    #[arg(long)]
    pub ehlo: bool,
    /// Compiled with BITBUCKET: mail for unknown recipients is dropped without a word
    #[arg(long)]
    pub bitbucket: bool,
    /// Compiled with ALLDOMAINS: all domains are checked at one backend
    #[arg(long, conflicts_with = "usemailertable")]
    pub alldomains: bool,
    /// Where our domains are listed, for --alldomains
    #[arg(long, value_name = "FILE", default_value = "/etc/mail/relay-domains")]
    pub domains: PathBuf,
    /// Its socket, which sendmail then finds as before
    #[arg(short = 'p', long, value_name = "ENDPOINT")]
    pub socket: Option<Endpoint>,
    /// Its user
    #[arg(short, long)]
    pub user: Option<String>,
    /// Its pid file
    #[arg(short = 'P', long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

/// A `BackSMTPServer` and what stands below it.
struct Server {
    line: usize,
    host: String,
    port: Option<u16>,
    domains: Vec<String>,
}

/// A setting that counts once, and where it stands.
type Once<T> = Option<(usize, T)>;

#[derive(Default)]
struct Scam {
    servers: Vec<Server>,
    /// `BackAddrDomain`s above all servers.
    early: Vec<(usize, String)>,
    port: Option<u16>,
    valid: Once<u64>,
    invalid: Once<u64>,
    connect: Once<u64>,
    reply: Once<u64>,
    subdomains: Once<bool>,
    tempfail: Once<bool>,
    mailertable: Once<String>,
    daemons: Option<Vec<String>>,
    clients: Vec<String>,
}

/// The configuration for a file, or why there is none.
pub(super) fn import(text: &str, switches: &Switches) -> Result<Import, String> {
    let mut import = Import::default();
    let mut scam = read(text, &mut import);
    if switches.usemailertable {
        scam.port = scam.servers.iter().filter_map(|server| server.port).next().or(scam.port);
        for server in scam.servers.drain(..) {
            let what = format!("line {}: BackSMTPServer is not used, the mailertable names the servers", server.line);
            import.notes.push(what);
        }
    }
    if scam.servers.is_empty() && !switches.usemailertable {
        return Err("no BackSMTPServer that can be used; if scam-back was compiled with USEMAILERTABLE (scam-back -h \
                    tells), add --usemailertable"
            .to_owned());
    }
    let early = std::mem::take(&mut scam.early);
    if !switches.usemailertable && !switches.alldomains {
        for (line, domain) in early {
            import.lose(line, format!("BackAddrDomain {domain}: it must stand below its BackSMTPServer"));
        }
    } else if let Some(first) = scam.servers.first_mut() {
        first.domains.splice(0..0, early.into_iter().map(|(_, domain)| domain));
    } else {
        for (line, domain) in early {
            import.notes.push(format!("line {line}: BackAddrDomain {domain}: the mailertable names the domains"));
        }
    }
    if switches.alldomains {
        for server in scam.servers.drain(1..) {
            import.lose(server.line, format!("BackSMTPServer {}: ALLDOMAINS has only one, the first", server.host));
        }
    }
    if !switches.usemailertable && !switches.alldomains {
        let what = "where `scam-back -h` names USEMAILERTABLE or ALLDOMAINS, import again with --usemailertable or \
                    --alldomains";
        import.notes.push(what.to_owned());
    }
    scam.write(switches, &mut import);
    Ok(import)
}

/// The settings of a file; `import` hears of what can't be used.
fn read(text: &str, import: &mut Import) -> Scam {
    let mut scam = Scam::default();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (number, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) else {
            import.lose(number, format!("{line}: a setting is needed, as in Key:value"));
            continue;
        };
        if value.is_empty() {
            import.lose(number, format!("{key}: it has no value"));
            continue;
        }
        if let Err(why) = scam.set(number, key, value, &mut import.notes) {
            import.lose(number, format!("{key}:{value}: {why}"));
        }
    }
    scam
}

/// A line of the configuration, and the setting that it comes from.
fn setting(out: &mut String, line: &str, from: &str) {
    let _ = writeln!(out, "{line:<33} # {from}");
}

fn seconds(value: &str) -> Result<u64, String> {
    let number = value.parse::<u64>().ok().filter(|n| (1..=LONGEST).contains(n));
    number.ok_or_else(|| "a number of seconds is needed".to_owned())
}

fn yes(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" | "on" | "1" => Ok(true),
        "no" | "n" | "false" | "off" | "0" => Ok(false),
        _ => Err("Yes or No is needed".to_owned()),
    }
}

/// A host as a configuration has it, without port and brackets.
fn host(value: &str) -> Result<String, String> {
    let bare = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(value);
    let found = match bare.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_string()),
        Err(_) => matches!(format!("{bare}:25").parse(), Ok(Endpoint::Host(..))).then(|| bare.to_ascii_lowercase()),
    };
    found.ok_or_else(|| "the name or the address of a host is needed".to_owned())
}

fn domain(value: &str) -> Result<String, String> {
    DomainName::fold(value).map(|name| name.0)
}

fn client(value: &str) -> Result<String, String> {
    let net = value.parse::<IpNet>().map(|net| net.trunc().to_string());
    let one = || value.parse::<IpAddr>().map(|ip| ip.to_string());
    net.or_else(|_| one()).map_err(|_| "an address or a network is needed, as in 192.0.2.32/28".to_owned())
}

/// Sets what counts once; the last line wins.
fn once<T>(slot: &mut Once<T>, line: usize, value: T, notes: &mut Vec<String>) {
    if let Some((before, _)) = slot.replace((line, value)) {
        notes.push(format!("line {before} is overridden by line {line}"));
    }
}

impl Scam {
    fn set(&mut self, line: usize, key: &str, value: &str, notes: &mut Vec<String>) -> Result<(), String> {
        match key.to_ascii_lowercase().as_str() {
            "backsmtpserver" => {
                let host = host(value)?;
                self.servers.push(Server { line, host, port: None, domains: Vec::new() });
            }
            "backaddrdomain" => {
                let domain = domain(value)?;
                let known = self.early.iter().map(|(_, domain)| domain);
                if known.chain(self.servers.iter().flat_map(|server| &server.domains)).any(|other| *other == domain) {
                    return Err("the domain is named above already, and is asked for there".to_owned());
                }
                match self.servers.last_mut() {
                    Some(server) => server.domains.push(domain),
                    None => self.early.push((line, domain)),
                }
            }
            "backsmtpport" => {
                let port = value.parse().ok().filter(|port| *port > 0).ok_or("a port is needed, from 1 to 65535")?;
                match self.servers.last_mut() {
                    Some(server) => server.port = Some(port),
                    None => self.port = Some(port),
                }
            }
            "backvalidaddrexp" => once(&mut self.valid, line, seconds(value)?, notes),
            "backinvalidaddrexp" => once(&mut self.invalid, line, seconds(value)?, notes),
            "timeoutsmtpconnect" => once(&mut self.connect, line, seconds(value)?, notes),
            "timeoutsmtpreply" => once(&mut self.reply, line, seconds(value)?, notes),
            "backaddrsubdomains" | "backaddrsubdomain" => once(&mut self.subdomains, line, yes(value)?, notes),
            "backerrortempfail" => once(&mut self.tempfail, line, yes(value)?, notes),
            "backlist" => {
                return Err(format!(
                    "what is learnt is kept in state_dir; what this list knows is taken over in a step of its own, once \
                     rcptmapd runs: rcptmapd import backlist {value}"
                ));
            }
            "mailertable" => once(&mut self.mailertable, line, value.to_owned(), notes),
            "backskipdaemon" => self.daemons.get_or_insert_default().push(value.to_owned()),
            "backskipverify" => self.clients.push(client(value)?),
            _ => return Err("no setting of scam-backscatter 1.5.1".to_owned()),
        }
        Ok(())
    }

    /// The only port of a file counts for all servers; of several, each for the server above it.
    fn port(&self, server: &Server) -> u16 {
        let mut own = self.servers.iter().filter_map(|server| server.port);
        match (own.next(), own.next(), self.port) {
            (Some(only), None, None) => only,
            _ => server.port.or(self.port).unwrap_or(25),
        }
    }

    fn write(&self, switches: &Switches, import: &mut Import) {
        let mut out = String::new();
        if let Some(user) = switches.user.as_ref().filter(|user| !user.is_empty()) {
            let _ = writeln!(out, "\nuser = {}", quoted(user));
        }
        if let Some(path) = &switches.pid_file {
            let _ = writeln!(out, "pid_file = {}", quoted(&path.to_string_lossy()));
        }
        out += &listeners(switches.socket.as_ref());
        self.write_domains(switches, import, &mut out);
        self.write_cache(&mut out);
        self.write_skip(switches, &mut out);
        import.body = out;
    }

    fn write_domains(&self, switches: &Switches, import: &mut Import, out: &mut String) {
        let subdomains = self.subdomains.is_some_and(|(_, yes)| yes);
        if switches.usemailertable {
            let file = self.mailertable.as_ref().map_or(MAILERTABLE, |(_, file)| file);
            out.push_str(
                "\n# USEMAILERTABLE: domains and next hops come from there; only hosts in brackets are asked.\n",
            );
            out.push_str("[nexthops]\n");
            setting(out, &format!("file = {}", quoted(file)), "Mailertable");
            out.push_str(
                "domains = true\n\n# How they are asked. The server itself is not: no domain names it.\n\
                 [[backend]]\nname = \"mailertable\"\nservers = [\"localhost:25\"]\n",
            );
            self.write_manners(switches, out);
            if subdomains {
                import.lost.push(
                    "BackAddrSubdomains: with a mailertable, subdomains are those that have a line there: .example.org"
                        .to_owned(),
                );
            }
            if self.port.is_some_and(|port| port != 25) {
                import.lost.push("BackSMTPPort: the mailertable tells the port, as in smtp:[host]:2525".to_owned());
            }
            return;
        }
        if let Some((line, _)) = &self.mailertable {
            import.notes.push(format!("line {line}: Mailertable is read by a scam-back with USEMAILERTABLE only"));
        }
        let mut names: Vec<String> = Vec::new();
        for server in &self.servers {
            let port = self.port(server);
            let at = if server.host.contains(':') {
                format!("[{}]:{port}", server.host)
            } else {
                format!("{}:{port}", server.host)
            };
            let name = if port == 25 { server.host.clone() } else { at.clone() };
            if !names.contains(&name) {
                let _ = write!(
                    out,
                    "\n# Line {}: BackSMTPServer, BackSMTPPort.\n[[backend]]\nname = {}\nservers = [{}]\n",
                    server.line,
                    quoted(&name),
                    quoted(&at)
                );
                if switches.alldomains {
                    setting(out, "all_domains = true", "ALLDOMAINS");
                }
                self.write_manners(switches, out);
                names.push(name.clone());
            }
            if !server.domains.is_empty() {
                out.push_str("\n[[domain]]\n");
                setting(out, &format!("names = {}", list(&server.domains)), "BackAddrDomain");
                setting(out, &format!("subdomains = {subdomains}"), "BackAddrSubdomains");
                let _ = writeln!(out, "verify = \"probe\"\nbackend = {}", quoted(&name));
            } else if !switches.alldomains {
                import
                    .notes
                    .push(format!("line {}: no BackAddrDomain follows, so nobody is asked for there", server.line));
            }
        }
        if switches.alldomains {
            let file = switches.domains.to_string_lossy();
            let _ = write!(
                out,
                "\n# ALLDOMAINS: what sendmail relays for. Others are never asked about.\n\
                 [[domain]]\nfile = {}\nsubdomains = {subdomains}\nverify = \"probe\"\n",
                quoted(&file)
            );
        }
    }

    /// How a backend is spoken to.
    fn write_manners(&self, switches: &Switches, out: &mut String) {
        let connect = self.connect.map_or(DEFAULT_CONNECT_TIMEOUT.as_secs(), |(_, seconds)| seconds);
        let reply = self.reply.map_or(DEFAULT_REPLY_TIMEOUT.as_secs(), |(_, seconds)| seconds);
        match switches.ehlo {
            true => setting(out, "greeting = \"ehlo\"", "EHLO"),
            false => setting(out, "greeting = \"helo\"", "if compiled with EHLO: \"ehlo\""),
        }
        setting(out, "# helo = \"gateway.example.net\"", "HELOHOST; else the name of this host");
        setting(out, &format!("connect_timeout = \"{connect}s\""), "TimeoutSMTPConnect");
        setting(out, &format!("reply_timeout = \"{reply}s\""), "TimeoutSMTPReply");
        let tempfail = self.tempfail.is_some_and(|(_, yes)| yes);
        let unavailable = if tempfail { "tempfail" } else { "accept" };
        setting(out, &format!("unavailable = \"{unavailable}\""), "BackErrorTempfail");
        // The banner, EHLO, MAIL, RCPT.
        let total = connect.saturating_add(reply.saturating_mul(4));
        if total > DEFAULT_TOTAL_TIMEOUT.as_secs() {
            let _ = writeln!(out, "total_timeout = \"{}s\"", total.min(LONGEST));
        }
    }

    fn write_cache(&self, out: &mut String) {
        let default = Cache::default();
        let valid = self.valid.map_or(VALID, |(_, seconds)| seconds);
        let absent = self.invalid.map_or(INVALID, |(_, seconds)| seconds);
        out.push_str("\n[cache]\n");
        setting(out, &format!("valid = \"{valid}s\""), "BackValidAddrExp");
        if default.valid_refresh.as_secs() > valid {
            let _ = writeln!(out, "valid_refresh = \"{}s\"", valid / 2);
        }
        setting(out, &format!("absent = \"{absent}s\""), "BackInvalidAddrExp");
        if default.absent_refresh.as_secs() > absent {
            let _ = writeln!(out, "absent_refresh = \"{}s\"", absent / 2);
        }
    }

    fn write_skip(&self, switches: &Switches, out: &mut String) {
        out.push_str("\n[skip]\n");
        setting(out, &format!("clients = {}", list(&self.clients)), "BackSkipVerify");
        match &self.daemons {
            Some(daemons) => setting(out, &format!("daemons = {}", list(daemons)), "BackSkipDaemon"),
            None => setting(out, "# daemons = [\"MSA\"]", "BackSkipDaemon; MSA unless it is set"),
        }
        match switches.bitbucket {
            true => setting(out, "bitbucket = true", "BITBUCKET: mail for unknown recipients is lost"),
            false => setting(out, "# bitbucket = true", "if compiled with BITBUCKET; mail gets lost then"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::tests::parse;
    use super::*;
    use crate::config::{Config, Greeting, Unavailable, Verify};

    fn imported(text: &str, switches: &Switches) -> (Config, Import) {
        let import = import(text, switches).expect("something to carry over");
        (parse(&import), import)
    }

    #[test]
    fn pairs_of_servers_and_domains() {
        let (config, import) = imported(
            "BackSMTPServer:Hub.example.org\nBackAddrDomain:example.org\nBackAddrDomain: B\u{fc}cher.example\n\
             BackSMTPServer:2001:db8::1\nBackSMTPPort:2525\nBackAddrDomain:example.net\nBackAddrSubdomain:Yes\n",
            &Switches { ehlo: true, ..Switches::default() },
        );
        assert_eq!(import.lost, [""; 0]);
        let servers: Vec<String> = config.backends.iter().map(|b| b.servers[0].to_string()).collect();
        assert_eq!(servers, ["hub.example.org:2525", "[2001:db8::1]:2525"], "the only port is everybody's");
        assert!(config.backends.iter().all(|b| b.greeting == Greeting::Ehlo && b.unavailable == Unavailable::Accept));
        let names: Vec<Vec<&str>> =
            config.domains.iter().map(|d| d.names.iter().map(|n| n.0.as_str()).collect()).collect();
        assert_eq!(names, [vec!["example.org", "xn--bcher-kva.example"], vec!["example.net"]]);
        assert!(config.domains.iter().all(|d| d.subdomains && d.verify == Verify::Probe));
        assert_eq!(
            (config.cache.valid, config.cache.absent),
            (Duration::from_secs(VALID), Duration::from_secs(INVALID))
        );
        assert_eq!(config.skip.daemons, None);
    }

    #[test]
    fn every_other_setting() {
        let (config, import) = imported(
            "BackSMTPServer:192.0.2.1\nBackAddrDomain:example.org\nBackValidAddrExp:600\nBackInvalidAddrExp:60\n\
             TimeoutSMTPConnect:5\nTimeoutSMTPReply:10\nBackSkipDaemon:MSA\nBackSkipDaemon:MSA-v6\n\
             BackSkipVerify:127.0.0.1\nBackSkipVerify:192.0.2.33/28\nBackErrorTempfail:Yes\n",
            &Switches { bitbucket: true, user: Some("scamback".into()), ..Switches::default() },
        );
        assert_eq!(import.lost, [""; 0]);
        let backend = &config.backends[0];
        assert_eq!((backend.greeting, backend.unavailable), (Greeting::Helo, Unavailable::Tempfail));
        let times = [backend.connect_timeout, backend.reply_timeout, backend.total_timeout];
        assert_eq!(times.map(|t| t.as_secs()), [5, 10, 45]);
        let lives = [config.cache.valid, config.cache.valid_refresh, config.cache.absent, config.cache.absent_refresh];
        assert_eq!(lives.map(|t| t.as_secs()), [600, 300, 60, 30]);
        assert_eq!(config.skip.daemons.as_deref(), Some(&["MSA".to_owned(), "MSA-v6".to_owned()][..]));
        let clients: Vec<String> = config.skip.clients.iter().map(IpNet::to_string).collect();
        assert_eq!(clients, ["127.0.0.1/32", "192.0.2.32/28"]);
        assert!(config.skip.bitbucket);
        assert_eq!(config.user.as_deref(), Some("scamback"));
    }

    #[test]
    fn what_was_compiled_in() {
        let (config, _) = imported("BackErrorTempfail:No\n", &Switches { usemailertable: true, ..Switches::default() });
        assert!(config.nexthops.is_some_and(|n| n.domains && n.file.to_str() == Some(MAILERTABLE)));
        assert!(config.domains.is_empty());
        let all = Switches { alldomains: true, domains: "/etc/mail/relay-domains".into(), ..Switches::default() };
        let (config, import) = imported("BackSMTPServer:a.example\nBackSMTPServer:b.example\n", &all);
        assert!(config.backends.len() == 1 && config.backends[0].all_domains);
        assert!(config.domains[0].file.is_some());
        assert_eq!(import.lost.len(), 1);
    }

    #[test]
    fn what_is_lost_is_told() {
        let (_, import) = imported(
            "BackAddrDomain:early.example\nBackSMTPServer:hub\nBackAddrDomain:a.example\nBackAddrDomain:A.example\n\
             nonsense\nBackSMTPPort:0\nBackSMTPServer:a b\nBackSkipVerify:localhost\nFallBackend:x\nBackValidAddrExp:\n\
             BackErrorTempfail:maybe\nBackList:/var/spool/scam/backscatter.txt\n",
            &Switches::default(),
        );
        let mut lines: Vec<&str> = import.lost.iter().filter_map(|l| l.split(':').next()).collect();
        lines.sort_unstable();
        let wanted =
            ["line 1", "line 10", "line 11", "line 12", "line 4", "line 5", "line 6", "line 7", "line 8", "line 9"];
        assert_eq!(lines, wanted, "{:#?}", import.lost);
        assert!(super::import("BackErrorTempfail:No\n", &Switches::default()).is_err());
    }

    proptest! {
        #[test]
        fn every_printed_configuration_is_read(
            lines in proptest::collection::vec(
                (
                    prop::sample::select(vec![
                        "BackSMTPServer", "BackAddrDomain", "BackSMTPPort", "BackValidAddrExp", "BackInvalidAddrExp",
                        "BackAddrSubdomains", "BackList", "TimeoutSMTPConnect", "TimeoutSMTPReply", "BackSkipDaemon",
                        "BackSkipVerify", "BackErrorTempfail", "Mailertable", "Other",
                    ]),
                    prop_oneof![
                        "\\PC{0,12}", "[a-z0-9.:-]{1,12}", "[0-9]{1,12}",
                        Just("a.example".to_owned()), Just("::1".to_owned()), Just("Yes".to_owned()),
                    ],
                ),
                0..12,
            ),
            usemailertable: bool, ehlo: bool, bitbucket: bool, alldomains: bool,
        ) {
            let text: String = lines.iter().map(|(key, value)| format!("{key}:{value}\n")).collect();
            let alldomains = alldomains && !usemailertable;
            let domains = "/etc/mail/relay-domains".into();
            let switches = Switches { usemailertable, ehlo, bitbucket, alldomains, domains, ..Switches::default() };
            if let Ok(import) = import(&text, &switches) {
                parse(&import);
            }
        }
    }
}
