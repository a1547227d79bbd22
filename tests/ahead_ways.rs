//! Whom the running daemon asks, for what, and what it makes of that: ways to verify, next hops, odd addresses, lists that
//! change, clients that leave.

#[path = "ahead/backend.rs"]
mod backend;
mod common;

use std::io::Write;
use std::sync::atomic::Ordering;

use backend::{Backend, Manner, config, patient, start, wait_until};
use common::{Daemon, Setup, run};

#[test]
fn each_way_to_verify_asks_whom_it_should() {
    for (verify, replies, asked) in [
        // listed and taken; listed and refused; taken only; neither
        ("list", ["OK", "OK", "NOTFOUND", "NOTFOUND"], 0),
        ("probe", ["OK", "OK", "OK", "NOTFOUND"], 3),
        ("list-then-probe", ["OK", "OK", "OK", "NOTFOUND"], 3),
        ("both", ["OK", "NOTFOUND", "NOTFOUND", "NOTFOUND"], 3),
    ] {
        let backend = Backend::start(Manner::Good);
        let text = config(&backend, "", "").replace("list-then-probe", verify);
        let daemon = Setup::new().file("list", "known-1@example.org\nlisted@example.org\n").config(&text).start();
        for (name, reply) in ["known-1", "listed", "known-2", "nobody"].into_iter().zip(replies) {
            let said = daemon.query(&format!("{name}@example.org"));
            assert_eq!(said.split(' ').next(), Some(reply), "{verify}: {name}");
        }
        assert_eq!(backend.recipients.load(Ordering::SeqCst), asked, "{verify}");
        // Where the backend has a say, it is not passed over when it is down.
        backend.become_(Manner::Closes);
        let daemon = Setup::new().file("list", "known-1@example.org\n").config(&text).start();
        let (listed, other) = (daemon.query("known-1@example.org"), daemon.query("known-2@example.org"));
        assert_eq!(listed.starts_with("TEMP "), verify == "both", "{verify}: {listed}");
        assert_eq!(other.starts_with("TEMP "), matches!(verify, "probe" | "list-then-probe"), "{verify}: {other}");
    }
}

#[test]
fn servers_are_tried_in_order_and_names_are_looked_up() {
    let (first, second) = (Backend::start(Manner::Good), Backend::start(Manner::Good));
    let of = |servers: &str| {
        let text = config(&second, "", "").replace(&format!("\"{}\"", second.address), servers);
        Setup::new().file("list", "listed@example.org\n").config(&text).start()
    };
    let both = of(&format!("\"{}\", \"{}\"", first.address, second.address));
    assert_eq!(both.query("anna@example.org"), "OK anna@example.org");
    assert_eq!((first.sessions.load(Ordering::SeqCst), second.sessions.load(Ordering::SeqCst)), (1, 0));
    first.become_(Manner::Closes);
    let both = of(&format!("\"{}\", \"{}\"", first.address, second.address));
    assert_eq!(both.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(both.query("nobody@example.org"), "NOTFOUND ");
    // localhost may be ::1 first, where nobody listens; and a name that there isn't stands in front.
    let port = second.address.port();
    let named = of(&format!("\"nobody.invalid:{port}\", \"localhost:{port}\""));
    assert_eq!(named.query("anna@example.org"), "OK anna@example.org");
    let none = of("\"nobody.invalid:25\"");
    assert!(none.query("nobody@example.org").starts_with("TEMP "));
    let error = none.status()["next_hops"][0]["last_error"].clone();
    assert!(error.as_str().is_some_and(|error| error.starts_with("name look-up: ")), "{error}");
}

#[test]
fn nobody_asks_himself_or_for_others() {
    let backend = Backend::start(Manner::Good);
    let text = config(&backend, "", "").replace(&backend.address.to_string(), "unix:DIR/rcptmapd.sock");
    let text = text + "[[listen]]\non = \"unix:DIR/rcptmapd.sock\"\n";
    let daemon = Setup::new().file("list", "listed@example.org\n").config(&text).start();
    assert!(daemon.query("nobody@example.org").starts_with("TEMP "));
    assert_eq!(daemon.stats()["sessions"]["accepted"].as_u64().map(|accepted| accepted <= 5), Some(true));
    let daemon = start(&backend, "", "");
    assert_eq!(daemon.query("anna@elsewhere.example"), "NOTFOUND ");
    assert_eq!(daemon.query("anna@sub.example.org"), "NOTFOUND ");
    assert_eq!(backend.sessions.load(Ordering::SeqCst), 0);
    // Only where it is said are domains below ours as well.
    let daemon = start(&backend, "", "subdomains = true\n");
    assert_eq!(daemon.query("anna@sub.example.org"), "OK anna@sub.example.org");
    assert!(backend.heard.lock().expect("no panic").contains(&"RCPT TO:<anna@sub.example.org>".to_owned()));
}

#[test]
fn no_address_becomes_a_command() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "", "");
    for key in [
        &b"x@example.org\r\nRCPT TO:<anna@example.org>"[..],
        b"x\r\nDATA\r\n@example.org",
        b"\"x\r\nQUIT\r\n\"@example.org",
        b"x>\r\nVRFY root@example.org",
        b"x> ORCPT=rfc822;y@example.org",
        b"\"x> NOTIFY=NEVER\"@example.org",
        b"\"a b\"@example.org",
        b"\"\\\"q\"@example.org",
        b"x\0y@example.org",
        "j\u{fc}rgen@example.org".as_bytes(),
        b"j\xfcrgen@example.org",
        b"<@relay.example:anna@example.org>",
        &[&[b'a'; 300][..], b"@example.org"].concat(),
    ] {
        let reply = daemon.ask("rcpt", key);
        assert!(
            reply.starts_with("NOTFOUND ") || reply.starts_with("TEMP ") || reply.starts_with("OK anna@"),
            "{}: {reply}",
            key.escape_ascii()
        );
    }
    let heard = backend.heard.lock().expect("no panic").clone();
    for line in &heard {
        let verb = line.get(..4).unwrap_or_default();
        let is_ours = match verb {
            "EHLO" | "RSET" | "QUIT" => true,
            "MAIL" => line == "MAIL FROM:<>",
            // One path, and nothing behind it.
            "RCPT" => line.ends_with("@example.org>") && !line.contains("> "),
            _ => false,
        };
        let quoted = line.starts_with("RCPT TO:<\"") && line.ends_with("\"@example.org>");
        assert!(is_ours || quoted, "{line:?} in {heard:?}");
    }
    assert!(heard.contains(&"RCPT TO:<\"a b\"@example.org>".to_owned()), "{heard:?}");
    assert!(heard.contains(&"RCPT TO:<anna@example.org>".to_owned()), "{heard:?}");
}

#[test]
fn a_backend_that_refuses_its_known_recipient_is_believed_in_nothing() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "known_good = \"nobody-either@example.org\"\n", "");
    assert!(daemon.query("nobody@example.org").starts_with("TEMP "));
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.status()["next_hops"][0]["canary_refused"], true);
    let daemon = start(&backend, "known_good = \"anna@example.org\"\n", "");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    assert_eq!(daemon.status()["next_hops"][0]["canary_refused"], false);
}

#[test]
fn clients_that_leave_wait_for_nothing() {
    let backend = Backend::start(Manner::Good);
    let daemon = Setup::new().file("list", "listed@example.org\n").config(&patient(&backend, "")).start();
    let held = backend.manner.lock().expect("no panic");
    let mut askers: Vec<_> = (0..50).map(|_| daemon.connect()).collect();
    for (n, stream) in askers.iter_mut().enumerate() {
        let request = format!("rcpt known-{n}@example.org");
        stream.write_all(format!("{}:{request},", request.len()).as_bytes()).expect("the daemon reads");
    }
    let waiting = || daemon.status()["cache"]["waiting"].as_u64();
    wait_until("all wait", || waiting() == Some(50));
    drop(askers);
    wait_until("nobody waits any more", || waiting() == Some(0));
    drop(held);
    // What was asked is answered all the same, and remembered.
    wait_until("all is known", || daemon.status()["cache"]["entries"] == 50);
    assert_eq!(daemon.query("known-7@example.org"), "OK known-7@example.org");
    assert_eq!(daemon.stats()["cache"]["hits"], 1);
}

#[test]
fn a_list_that_changes_takes_what_was_remembered_with_it() {
    let backend = Backend::start(Manner::Good);
    let mut daemon = start(&backend, "", "");
    assert_eq!(daemon.query("eva@example.org"), "NOTFOUND ");
    let asked = backend.recipients.load(Ordering::SeqCst);
    daemon.write("list", "listed@example.org\neva@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("eva@example.org"), "OK eva@example.org");
    assert_eq!(daemon.status()["cache"]["entries"], 0);
    daemon.write("list", "listed@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("eva@example.org"), "NOTFOUND ");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked + 1, "it was asked for anew");
    // A reload that changes nothing about it leaves it there.
    daemon.write("list", "listed@example.org\nfred@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("eva@example.org"), "NOTFOUND ");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked + 1);
    // Somebody else is asked now.
    let other = Backend::start(Manner::TakesAll);
    let text = config(&backend, "", "").replace("backend = \"hub\"", "backend = \"other\"");
    daemon.write_config(&format!("{text}[[backend]]\nname = \"other\"\nservers = [\"{}\"]\n", other.address));
    daemon.hup();
    assert_eq!(daemon.query("eva@example.org"), "OK eva@example.org");
}

#[test]
fn life_times_of_a_new_configuration_hold_for_what_is_remembered() {
    let backend = Backend::start(Manner::Good);
    let mut daemon = start(&backend, "", "");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    let asked = backend.recipients.load(Ordering::SeqCst);
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked);
    daemon.write_config(&config(&backend, "[cache]\nvalid = \"0s\"\nvalid_refresh = \"0s\"\n", ""));
    daemon.hup();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked + 1);
}

/// A daemon whose domains are those of `domains`, with `hub` as backend.
fn start_domains(backend: &Backend, list: &str, format: &str, domains: &str) -> Daemon {
    let config = format!(
        "[[source]]\npath = \"list\"\nformat = \"{format}\"\n{domains}\
         [[backend]]\nname = \"hub\"\nservers = [\"{}\"]\n",
        backend.address
    );
    Setup::new().file("list", list).config(&config).start()
}

#[test]
fn an_alias_domain_has_whom_the_backend_of_its_main_domain_knows() {
    let backend = Backend::start(Manner::Good);
    let domains = "[[domain]]\nnames = [\"probe.example\"]\nverify = \"probe\"\nbackend = \"hub\"\n\
                   [[domain]]\nnames = [\"alias.example\"]\nsame_as = \"probe.example\"\n";
    let daemon = start_domains(&backend, "only@alias.example\n", "plain", domains);
    assert_eq!(daemon.query("anna@alias.example"), "OK anna@alias.example");
    assert_eq!(daemon.query("nobody@alias.example"), "NOTFOUND ");
    assert_eq!(daemon.query("only@alias.example"), "OK only@alias.example");
    assert!(backend.was_asked_for("anna@probe.example") && !backend.was_asked_for("anna@alias.example"));
    // What is known of the one is known of the other.
    let asked = backend.recipients.load(Ordering::SeqCst);
    assert_eq!(daemon.query("anna@probe.example"), "OK anna@probe.example");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked);
    let config = daemon.path("rcptmapd.toml").display().to_string();
    let explained = run(&["explain", "-c", &config, "anna@alias.example"]);
    assert!(explained.out.contains("as anna@probe.example, at backend hub"), "{}", explained.out);
    let probed = run(&["probe", "-c", &config, "anna@alias.example"]);
    assert!(probed.code == Some(0) && probed.out.contains("> RCPT TO:<anna@probe.example>\n"), "{}", probed.out);
}

#[test]
fn an_alias_of_a_domain_of_the_table_is_asked_about_there() {
    let backend = Backend::start(Manner::Good);
    let table = format!("main.example\tsmtp:[127.0.0.1]:{}\n", backend.address.port());
    let config = "[nexthops]\nfile = \"mailertable\"\ndomains = true\n\
                  [[domain]]\nnames = [\"alias.example\"]\nsame_as = \"main.example\"\n";
    let daemon = Setup::new().file("mailertable", &table).config(config).start();
    assert_eq!(daemon.query("anna@alias.example"), "OK anna@alias.example");
    assert_eq!(daemon.query("nobody@alias.example"), "NOTFOUND ");
}

#[test]
fn a_catch_all_that_renames_leads_to_the_backend_of_its_target() {
    let backend = Backend::start(Manner::Good);
    let domains = "[[domain]]\nnames = [\"new.example\", \"listed.example\"]\n\
                   [[domain]]\nnames = [\"probe.example\"]\nverify = \"probe\"\nbackend = \"hub\"\n\
                   [[domain]]\nnames = [\"new2.example\"]\nverify = \"list-then-probe\"\nbackend = \"hub\"\n";
    let list = "@new.example\t%1@probe.example\n@new2.example\t%1@listed.example\nlisted@listed.example\tx\n";
    let daemon = start_domains(&backend, list, "virtusertable", domains);
    assert_eq!(daemon.query("anna@new.example"), "OK anna@new.example");
    assert_eq!(daemon.query("nobody@new.example"), "NOTFOUND ");
    assert!(backend.was_asked_for("anna@probe.example") && backend.was_asked_for("nobody@probe.example"));
    assert_eq!(daemon.query("listed@new2.example"), "OK listed@new2.example");
    assert_eq!(daemon.query("anna@new2.example"), "OK anna@new2.example");
    assert_eq!(daemon.query("nobody@new2.example"), "NOTFOUND ");
    assert!(
        backend.was_asked_for("anna@new2.example"),
        "the domain's own backend has the last word where the list has none"
    );
}

#[test]
fn a_backend_is_asked_without_the_tag_and_in_the_case_that_counts() {
    let backend = Backend::start(Manner::Good);
    let domains = "[[domain]]\nnames = [\"example.org\"]\nverify = \"both\"\nbackend = \"hub\"\n\
                   [[domain]]\nnames = [\"case.example\"]\nverify = \"probe\"\nbackend = \"hub\"\n\
                   case_sensitive = true\n";
    let daemon = start_domains(&backend, "known-a@example.org\n", "plain", domains);
    let tagged = "prvs=0123abcd=known-a@example.org";
    assert_eq!(daemon.query(tagged), format!("OK {tagged}"));
    assert!(backend.was_asked_for("known-a@example.org") && !backend.was_asked_for(tagged));
    daemon.query("Known-B@case.example");
    assert!(backend.was_asked_for("Known-B@case.example") && !backend.was_asked_for("known-b@case.example"));
}

#[test]
fn what_a_table_says_of_a_closed_domain_is_said_in_its_words() {
    let backend = Backend::start(Manner::Good);
    let table = format!(
        "main.example error:4.3.0:451 moving, later\ndead.example error:5.1.2:550 closed\n\
         retry.example retry:not now\nodd.example uucp:elsewhere\n. smtp:[127.0.0.1]:{}\n",
        backend.address.port()
    );
    let config = "[nexthops]\nfile = \"mailertable\"\n[[domain]]\nnames = [\"main.example\", \"dead.example\", \
                  \"retry.example\", \"odd.example\", \"other.example\"]\nverify = \"probe\"\n";
    let daemon = Setup::new().file("mailertable", &table).config(config).start();
    assert_eq!(daemon.query("anna@main.example"), "TEMP 4.3.0 moving, later");
    assert_eq!(daemon.ask("check", "anna@main.example"), "OK 451 4.3.0 moving, later");
    assert_eq!(daemon.query("anna@dead.example"), "NOTFOUND ");
    assert_eq!(daemon.ask("check", "anna@dead.example"), "OK 550 5.1.2 closed");
    assert_eq!(daemon.ask("check", "anna@retry.example"), "OK 450 4.0.0 not now");
    assert_eq!(daemon.query("nobody@other.example"), "NOTFOUND ");
    // What can't be understood is not settled by the next best line.
    assert!(daemon.query("nobody@odd.example").starts_with("TEMP "));
    assert!(daemon.ask("nexthop", "odd.example").starts_with("TEMP "));
}

#[test]
fn while_the_table_was_never_read_nobody_is_asked_in_its_place() {
    let backend = Backend::start(Manner::Good);
    let config = format!(
        "[nexthops]\nfile = \"mailertable\"\n[[domain]]\nnames = [\"main.example\"]\nverify = \"probe\"\n\
         [[domain]]\nnames = [\"own.example\"]\nverify = \"probe\"\nbackend = \"hub\"\n\
         [[backend]]\nname = \"hub\"\nservers = [\"{}\"]\nall_domains = true\n",
        backend.address
    );
    let mut daemon = Setup::new().config(&config).start();
    assert!(daemon.query("nobody@main.example").starts_with("TEMP "));
    assert_eq!(daemon.ask("nexthop", "main.example"), "TEMP no data yet");
    assert_eq!(daemon.query("nobody@own.example"), "NOTFOUND ", "its own backend is known");
    assert!(daemon.ask("nexthop", "own.example").starts_with("OK smtp:"));
    assert_eq!(daemon.ask("nexthop", "foreign.example"), "NOTFOUND ");
    daemon.write("mailertable", "other.example smtp:[192.0.2.1]\n");
    daemon.hup();
    assert_eq!(daemon.query("nobody@main.example"), "NOTFOUND ");
    assert!(daemon.ask("nexthop", "main.example").starts_with("OK smtp:"));
}

#[test]
fn the_command_tells_a_refused_connection_from_silence() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|there| there.local_addr()).expect("a port").port();
    let backend = Backend::start(Manner::Good);
    let text = config(&backend, "", "").replace(&backend.address.to_string(), &format!("127.0.0.1:{port}"));
    let setup = Setup::new().file("list", "listed@example.org\n").file("p.toml", text.replace("DIR/", ""));
    let probed = run(&["probe", "-c", &setup.path("p.toml").display().to_string(), "nobody@example.org"]);
    assert!(format!("{}{}", probed.out, probed.err).contains("connection refused"), "{probed:?}");
}

/// A list that only can't tell leaves it to the backend; one that was never read may know better.
#[test]
fn a_doubt_of_a_list_ends_with_what_the_backend_says() {
    let backend = Backend::start(Manner::Good);
    let text =
        config(&backend, "", "").replace("[[domain]]", "[[source]]\nname = \"more\"\npath = \"more\"\n[[domain]]");
    let list = "known-1@example.org\nnobody@example.org state=ful\nknown-2@example.org state=ful\n";
    let mut daemon = Setup::new().file("list", list).file("more", "x@example.org\n").config(&text).start();
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    assert_eq!(daemon.query("known-2@example.org"), "OK known-2@example.org");
    let (_, setup) = daemon.stop_and_keep();
    std::fs::remove_file(setup.path("more")).expect("it is there");
    daemon = setup.start();
    assert!(daemon.query("nobody@example.org").starts_with("TEMP "));
}

/// Who can't be told to be ours is not forgotten: a file of domains may only be away.
#[test]
fn what_a_backend_said_is_kept_while_our_domains_are_not_known() {
    let backend = Backend::start(Manner::Good);
    let text = format!(
        "state_dir = \"DIR/state\"\n[[domain]]\nfile = \"domains\"\nverify = \"probe\"\nbackend = \"hub\"\n\
         [[backend]]\nname = \"hub\"\nservers = [\"{}\"]\n",
        backend.address
    );
    let daemon = Setup::new().file("domains", "example.net\n").config(&text).start();
    assert_eq!(daemon.query("anna@example.net"), "OK anna@example.net");
    let (_, setup) = daemon.stop_and_keep();
    std::fs::remove_file(setup.path("domains")).expect("it is there");
    let mut daemon = setup.start();
    assert!(daemon.query("anna@example.net").starts_with("TEMP "));
    backend.become_(Manner::Closes);
    daemon.write("domains", "example.net\n");
    daemon.hup();
    assert_eq!(daemon.query("anna@example.net"), "OK anna@example.net");
    daemon.write_config(&text.replace("\"domains\"", "\"elsewhere\""));
    daemon.hup();
    daemon.write_config(&text);
    daemon.hup();
    assert_eq!(daemon.query("anna@example.net"), "OK anna@example.net");
}

#[test]
fn what_a_backend_said_is_kept_while_the_table_cannot_be_read() {
    let backend = Backend::start(Manner::Good);
    let table = format!("example.net smtp:[127.0.0.1]:{}\n", backend.address.port());
    let config = "state_dir = \"DIR/state\"\n[nexthops]\nfile = \"mailertable\"\n\
                  [[domain]]\nnames = [\"example.net\"]\nverify = \"probe\"\n\
                  [[backend]]\nname = \"other\"\nservers = [\"192.0.2.1:25\"]\n";
    let daemon = Setup::new().file("mailertable", &table).config(config).start();
    assert_eq!(daemon.query("anna@example.net"), "OK anna@example.net");
    let (_, setup) = daemon.stop_and_keep();
    std::fs::remove_file(setup.path("mailertable")).expect("it is there");
    let mut daemon = setup.start();
    assert!(daemon.query("anna@example.net").starts_with("TEMP "));
    backend.become_(Manner::Closes);
    daemon.write("mailertable", &table);
    daemon.hup();
    assert_eq!(daemon.query("anna@example.net"), "OK anna@example.net");
}
