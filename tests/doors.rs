//! The doors that know the client, on the running daemon: who is not checked, who guesses, and what `report` tells.
//! What real mail servers make of it is in `tests/mta.rs`; the bytes of the protocols are in `tests/vectors`.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use common::{Daemon, Setup, connect_unix, run, until};
use serde_json::Value;

const LIST: &str = "anna@example.org\nleaver@example.org REJECT\nbob@strict.example\n";

/// A daemon with a listener for each protocol, `more` in its configuration.
fn daemon(more: &str) -> Daemon {
    let listeners = "\n[[listen]]\non = \"unix:DIR/rcptmapd.sock\"\n[[listen]]\non = \"unix:DIR/milter.sock\"\nprotocol = \"milter\"\n";
    let source = "[[source]]\npath = \"list\"\nformat = \"plain\"\n";
    let list: String = LIST.lines().filter(|line| !line.contains("REJECT")).map(|line| format!("{line}\n")).collect();
    Setup::new().file("list", list).config(&format!("state_dir = \"\"\n{source}{more}{listeners}")).start()
}

/// The MTA's side of a milter session.
struct Milter(UnixStream);

impl Milter {
    fn connect(daemon: &Daemon) -> Milter {
        let mut milter = Milter(connect_unix(&daemon.path("milter.sock")).expect("the daemon accepts"));
        let options = milter.command(b'O', b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff");
        assert_eq!(options, b"O\0\0\0\x06\0\0\0\0\0\0\x03\x72");
        milter
    }

    /// A session of this client, at MAIL.
    fn from(daemon: &Daemon, client: &str) -> Milter {
        let mut milter = Milter::connect(daemon);
        milter.client(client);
        milter.mail();
        milter
    }

    fn client(&mut self, client: &str) {
        let family = if client.contains(':') { '6' } else { '4' };
        let data = format!("mx.example.net\0{family}\u{1}\u{1}{client}\0");
        assert_eq!(self.command(b'C', data.as_bytes()), b"c");
    }

    fn mail(&mut self) {
        assert_eq!(self.command(b'M', b"<s@src.example>\0"), b"c");
    }

    fn macros(&mut self, stage: u8, name: &str, value: &str) {
        let data = [&[stage], format!("{name}\0{value}\0").as_bytes()].concat();
        self.send(b'D', &data);
    }

    fn send(&mut self, command: u8, data: &[u8]) {
        let mut packet = (data.len() as u32 + 1).to_be_bytes().to_vec();
        packet.push(command);
        packet.extend_from_slice(data);
        self.0.write_all(&packet).expect("the daemon reads");
    }

    fn command(&mut self, command: u8, data: &[u8]) -> Vec<u8> {
        self.send(command, data);
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("a reply");
        let mut reply = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut reply).expect("a whole reply");
        reply
    }

    fn rcpt(&mut self, recipient: &str) -> String {
        let reply = self.command(b'R', format!("<{recipient}>\0").as_bytes());
        String::from_utf8(reply).expect("ASCII").trim_end_matches('\0').to_owned()
    }
}

fn policy(daemon: &Daemon, attributes: &str, recipient: &str) -> String {
    let request = format!(
        "request=smtpd_access_policy\nprotocol_state=RCPT\n{}\nrecipient={recipient}\n\n",
        attributes.replace(' ', "\n")
    );
    let reply = String::from_utf8(daemon.exchange(request)).expect("text");
    reply.strip_prefix("action=").and_then(|reply| reply.strip_suffix("\n\n")).expect("an action").to_owned()
}

const REFUSED: &str = "y550 5.1.1 User unknown";

#[test]
fn a_milter_tells_enough_to_leave_people_alone() {
    let daemon = daemon(
        "[skip]\nclients = [\"192.0.2.32/28\", \"2001:db8:32::/48\"]\n[[domain]]\nnames = [\"example.org\"]\n\
         [[domain]]\nnames = [\"strict.example\"]\nskip = false\n",
    );
    let refused = |milter: &mut Milter| milter.rcpt("nobody@example.org") == REFUSED;
    assert!(refused(&mut Milter::from(&daemon, "192.0.2.48")));
    assert!(refused(&mut Milter::from(&daemon, "IPv6:2001:db8:33::9")));
    assert!(!refused(&mut Milter::from(&daemon, "192.0.2.47")));
    assert!(!refused(&mut Milter::from(&daemon, "::ffff:192.0.2.47")));
    assert!(!refused(&mut Milter::from(&daemon, "IPv6:2001:db8:32::9")));
    assert!(!refused(&mut Milter::from(&daemon, "127.0.0.1")));

    // sendmail -bs
    let mut local = Milter::connect(&daemon);
    assert_eq!(local.command(b'C', b"localhost\0U"), b"c");
    local.mail();
    assert!(!refused(&mut local));

    let mut submission = Milter::connect(&daemon);
    submission.macros(b'C', "{daemon_name}", "MSA");
    submission.client("203.0.113.7");
    submission.mail();
    assert!(!refused(&mut submission));
    // whoever skips, this domain wants everybody checked
    assert_eq!(submission.rcpt("nobody@strict.example"), REFUSED);
    assert_eq!(submission.rcpt("bob@strict.example"), "c");

    // authenticated for one message, and not for the next
    let mut roaming = Milter::connect(&daemon);
    roaming.macros(b'C', "{daemon_name}", "MTA");
    roaming.client("203.0.113.7");
    roaming.macros(b'M', "{auth_authen}", "anna");
    roaming.mail();
    assert!(!refused(&mut roaming));
    roaming.send(b'A', b"");
    roaming.macros(b'M', "i", "QID");
    roaming.mail();
    assert!(refused(&mut roaming));

    let skipped = &daemon.stats()["skipped"];
    assert_eq!(
        ["client", "daemon", "authenticated", "local"].map(|reason| skipped[reason].as_u64().unwrap_or(0)),
        [3, 1, 1, 2]
    );
    let page = daemon.http("GET", "/metrics").1;
    assert!(page.contains("rcptmapd_skipped_total{reason=\"client\"} 3"), "{page}");
}

#[test]
fn a_policy_request_tells_enough_to_leave_people_alone() {
    let daemon = daemon("[skip]\nclients = [\"192.0.2.32/28\"]\nlocal = false\n");
    for (attributes, action) in [
        ("client_address=203.0.113.7", "550 5.1.1 User unknown"),
        ("client_address=unknown", "550 5.1.1 User unknown"),
        ("client_address=127.0.0.1", "550 5.1.1 User unknown"),
        ("client_address=192.0.2.33", "DUNNO"),
        ("client_address=203.0.113.7 sasl_username=anna", "DUNNO"),
        ("client_address=203.0.113.7 sasl_username=", "550 5.1.1 User unknown"),
    ] {
        assert_eq!(policy(&daemon, attributes, "nobody@example.org"), action, "{attributes}");
    }
}

#[test]
fn bitbucket_drops_and_warns_at_every_start() {
    let mut daemon = daemon("[skip]\nbitbucket = true\n");
    daemon.wait_for_log("skip.bitbucket is on");
    let mut milter = Milter::from(&daemon, "203.0.113.7");
    assert_eq!(milter.rcpt("anna@example.org"), "c");
    assert_eq!(milter.rcpt("nobody@example.org"), "d");
    assert_eq!(policy(&daemon, "client_address=203.0.113.7", "nobody@example.org"), "DISCARD");
    // no words for it here
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    assert_eq!(daemon.stats()["discarded"], 2);
    daemon.hup();
    until("told again", || daemon.log().matches("skip.bitbucket is on").count() == 2);
}

#[test]
fn a_refusal_of_several_lines_reaches_milters_whole_and_others_in_short() {
    let daemon = daemon(
        "[[domain]]\nnames = [\"example.org\"]\nabsent = \"\"\"550 5.1.1 User unknown\nSee https://example.org/100%\"\"\"\n",
    );
    let reply = Milter::from(&daemon, "203.0.113.7").rcpt("nobody@example.org");
    assert_eq!(reply, "y550-5.1.1 User unknown\r\n550 5.1.1 See https://example.org/100%%");
    assert_eq!(policy(&daemon, "client_address=203.0.113.7", "nobody@example.org"), "550 5.1.1 User unknown");
    assert_eq!(daemon.ask("check", "nobody@example.org"), "OK 550 5.1.1 User unknown");
}

/// Asks for six people, of whom one exists.
fn guess(daemon: &Daemon, client: &str) -> Vec<String> {
    let mut milter = Milter::from(daemon, client);
    let names = ["a", "b", "c", "d", "e", "anna"];
    names.map(|name| milter.rcpt(&format!("{name}@example.org"))).to_vec()
}

#[test]
fn who_guesses_is_treated_as_configured() {
    let rule = |action: &str| format!("[harvest]\nabsent = 3\nratio = \"60%\"\naction = \"{action}\"\n");
    let later = "y451 4.7.1 Too many unknown recipients, try again later";
    let no = "y550 5.7.1 Too many unknown recipients";
    let end = "y421 4.7.0 Too many unknown recipients, closing connection";
    for (action, third, existing) in
        [("none", REFUSED, "c"), ("tempfail", later, later), ("reject", no, later), ("disconnect", end, end)]
    {
        let daemon = daemon(&rule(action));
        let replies = guess(&daemon, "203.0.113.7");
        assert_eq!(replies, [REFUSED, REFUSED, third, third, third, existing], "{action}");
        // the address alone, another protocol; not the neighbour
        let reply = policy(&daemon, "client_address=203.0.113.7", "anna@example.org");
        assert_eq!(reply == "DUNNO", action == "none", "{action}: {reply}");
        assert_eq!(policy(&daemon, "client_address=203.0.113.8", "anna@example.org"), "DUNNO");
        // other people's domains are none of our business
        assert_eq!(policy(&daemon, "client_address=203.0.113.7", "x@elsewhere.example"), "DUNNO");
        let log = daemon.wait_for_log(&format!(
            "harvest: client 203.0.113.7 guesses recipients: 3 of 3 don't exist, within 10 min; action {action}"
        ));
        assert_eq!(log.matches("guesses recipients").count(), 1, "{log}");
    }
}

#[test]
fn a_map_may_take_the_client_in_front_of_its_keys() {
    let daemon = daemon("[harvest]\nabsent = 3\naction = \"reject\"\n");
    assert_eq!(daemon.ask("rcpt_client", "192.0.2.9,anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.ask("rcpt_client", "IPv6:2001:db8::1 anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.ask("check_client", "192.0.2.9,nobody@example.org"), "OK 550 5.1.1 User unknown");
    assert_eq!(daemon.exchange("rcpt_client unknown anna@example.org\n"), b"OK anna@example.org\n");
    assert_eq!(daemon.exchange("rcpt_client  anna@example.org\n"), b"OK anna@example.org\n");
    for _ in 0..3 {
        assert_eq!(daemon.ask("rcpt_client", "192.0.2.9,nobody@example.org"), "NOTFOUND ");
    }
    let later = "TEMP 4.7.1 Too many unknown recipients, try again later";
    assert_eq!(daemon.ask("rcpt_client", "192.0.2.9,anna@example.org"), later);
    assert_eq!(daemon.exchange("rcpt_client 192.0.2.9 anna@example.org\n"), format!("{later}\n").as_bytes());
    assert_eq!(daemon.ask("rcpt_client", "192.0.2.10,anna@example.org"), "OK anna@example.org");
    // an ordinary key is never taken for such a one, nor a map that there is not
    assert_eq!(daemon.ask("rcpt", "192.0.2.10,anna@example.org"), "NOTFOUND ");
    assert_eq!(daemon.ask("rcpt", "192.0.2.9 anna@example.org"), "NOTFOUND ");
    assert_eq!(daemon.ask("nomap_client", "192.0.2.9,x@y"), "TEMP unknown map nomap_client");
    assert_eq!(daemon.ask("domains_client", "192.0.2.9,example.org"), "TEMP unknown map domains_client");
    assert_eq!(daemon.ask("_client", "192.0.2.9,x@y"), "TEMP unknown map _client");
}

#[test]
fn a_map_of_that_name_is_what_its_owner_says() {
    let daemon = daemon("[[map]]\nname = \"rcpt_client\"\nkind = \"recipients\"\nvalue = \"RELAY\"\n");
    assert_eq!(daemon.ask("rcpt_client", "anna@example.org"), "OK RELAY");
    assert_eq!(daemon.ask("rcpt_client", "192.0.2.9,anna@example.org"), "NOTFOUND ");
}

#[test]
fn a_reload_keeps_who_guesses_and_what_was_counted() {
    let config = "[harvest]\nabsent = 3\naction = \"tempfail\"\n";
    let mut daemon = daemon(config);
    guess(&daemon, "203.0.113.7");
    daemon.write("list", "anna@example.org\nzoe@aaa.example\nnew@example.org\n");
    daemon.hup();
    assert!(policy(&daemon, "client_address=203.0.113.7", "new@example.org").starts_with("DEFER_IF_PERMIT 4.7.1"));
    let report = report(&daemon);
    let domain = report["domains"].as_array().and_then(|domains| domains.iter().find(|d| d["name"] == "example.org"));
    let counts = &domain.expect("it was asked about")["start"];
    assert_eq!((counts["refused"].as_u64(), counts["deferred"].as_u64()), (Some(2), Some(5)));
    let before = daemon.listeners().len();
    let listeners = "\n[[listen]]\non = \"unix:DIR/rcptmapd.sock\"\n[[listen]]\non = \"unix:DIR/milter.sock\"\nprotocol = \"milter\"\n";
    daemon.write_config(&format!("state_dir = \"\"\n[[source]]\npath = \"list\"\n{listeners}"));
    daemon.hup();
    assert_eq!(daemon.listeners().len(), before);
    assert_eq!(policy(&daemon, "client_address=203.0.113.7", "new@example.org"), "DUNNO");
}

fn report(daemon: &Daemon) -> Value {
    let (status, body) = daemon.http("GET", "/report");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

#[test]
fn report_tells_what_became_of_recipients() {
    let daemon = daemon("[skip]\nclients = [\"192.0.2.32/28\"]\n[harvest]\nabsent = 4\n");
    for _ in 0..2 {
        assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    }
    for name in ["info", "sales", "info", "webmaster"] {
        assert_eq!(daemon.query(&format!("{name}@example.org")), "NOTFOUND ");
    }
    guess(&daemon, "203.0.113.7");
    assert_eq!(Milter::from(&daemon, "192.0.2.33").rcpt("nobody@example.org"), "c");
    assert_eq!(daemon.ask("check", "x@elsewhere.example"), "OK DUNNO");
    assert_eq!(daemon.ask("domains", "example.org"), "OK example.org");
    let report = report(&daemon);
    let counts = |spans: &Value, when: &str| {
        ["accepted", "refused", "deferred", "skipped", "foreign"].map(|fate| spans[when][fate].as_u64().unwrap_or(99))
    };
    for when in ["start", "hour", "day"] {
        assert_eq!(counts(&report["all"], when), [3, 9, 0, 1, 1], "{when}");
    }
    assert_eq!(counts(&report["domains"][0], "start"), [3, 9, 0, 1, 0]);
    assert_eq!(report["maps"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["harvest"]["tripped"][0]["client"], "203.0.113.7");
    assert_eq!(report["harvest"]["domains"][0]["name"], "example.org");
    assert_eq!(report["harvest"]["guessed"][0]["name"], "info@example.org");
    assert_eq!(report["harvest"]["guessed"][0]["count"], 2);

    let control = daemon.control().display().to_string();
    let shown = run(&["report", "--control", &control]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.out.contains(": 3 of 4 recipients refused (9 of 12)\n"), "{}", shown.out);
    assert!(shown.out.contains("\nMOST GUESSED\ninfo@example.org "), "{}", shown.out);
    let json = run(&["report", "--control", &control, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json.out).expect("JSON")["all"], report["all"]);
    // it names people: not for everybody who may ask about recipients
    let elsewhere = common::http_over(daemon.connect(), "GET", "/report");
    assert_eq!(elsewhere.0, 404);
}

#[test]
fn without_a_daemon_report_says_so() {
    let failed = run(&["report", "--control", "/nonexistent/control.sock"]);
    assert_eq!((failed.code, failed.out.as_str()), (Some(69), ""));
}

/// A line of `contrib/fail2ban/filter.d/rcptmapd.conf`, with what fail2ban puts into it.
fn failregex() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/fail2ban/filter.d/rcptmapd.conf");
    let text = std::fs::read_to_string(path).expect("the filter");
    let line = text.lines().find_map(|line| line.strip_prefix("failregex = ")).expect("a failregex");
    // common.conf, in short: a host's name and the daemon's, each as it may be; the time is taken off before.
    let prefix = r"\s*(?:\S+ )?(?:rcptmapd(?:\[\d+\])?: )?";
    line.replace("%(__prefix_line)s", prefix).replace("<HOST>", r"(?<host>[0-9A-Fa-f:.]+)")
}

fn matches(regex: &str, line: &str) -> bool {
    let mut grep =
        Command::new("grep").args(["-qP", "--", regex]).stdin(Stdio::piped()).spawn().expect("grep is on every system");
    grep.stdin.take().expect("a pipe").write_all(line.as_bytes()).expect("grep reads");
    grep.wait().expect("it ends").success()
}

#[test]
fn fail2bans_filter_matches_the_line_that_is_logged() {
    let daemon = daemon("[harvest]\nabsent = 5\n");
    guess(&daemon, "IPv6:2001:db8::7");
    guess(&daemon, "203.0.113.7");
    let log = daemon.wait_for_log("client 203.0.113.7 guesses");
    let regex = failregex();
    let mut found = 0;
    for line in log.lines() {
        // What fail2ban has left of a line: without the stamp of a file, or the journal's priority.
        let text = line.trim_start_matches(|c: char| c.is_ascii_digit() || "-:<> ".contains(c));
        let guesses = line.contains("harvest: client");
        assert_eq!(matches(&regex, text), guesses, "{text}");
        // and as the log daemon writes it to mail.log
        let syslog = format!("gateway rcptmapd[1466]: {}", text.trim_start_matches("warning: "));
        assert_eq!(matches(&regex, &syslog), guesses, "{syslog}");
        found += usize::from(guesses);
    }
    assert_eq!(found, 2, "{log}");
    // who guesses a name that looks like a line of ours gets nobody else banned
    assert!(!matches(&regex, "gateway rcptmapd[1466]: other: harvest: client 198.51.100.1 is fine"));
}
