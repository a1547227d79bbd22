//! Call-ahead through the running daemon, against a backend of our own that misbehaves as told.

#[path = "ahead/backend.rs"]
mod backend;
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::thread;

use backend::{Backend, Manner, config, patient, start, wait_until};
use common::{Daemon, Ran, Setup, ask, connect_unix, run};
use rcptmapd::config::{BackendServer, Endpoint};
use rcptmapd::probe::cache::{Epoch, Evidence, Known, ServerId};
use rcptmapd::probe::route::server_id;
use rcptmapd::probe::store::{Record, Writer};
use serde_json::Value;

#[test]
fn who_is_in_no_list_is_asked_about_and_remembered() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "", "");
    for _ in 0..3 {
        assert_eq!(daemon.query("listed@example.org"), "OK listed@example.org");
        assert_eq!(daemon.query("Anna@example.org"), "OK anna@example.org");
        assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
        assert_eq!(daemon.ask("check", "nobody@example.org"), "OK 550 5.1.1 User unknown");
        assert_eq!(daemon.exchange("anna@example.org"), b"OK anna@example.org\n");
        assert_eq!(daemon.query("anna@elsewhere.example"), "NOTFOUND ");
    }
    // anna, nobody, and the made-up address that tells whether the backend takes everybody
    assert_eq!(backend.recipients.load(Ordering::SeqCst), 3);
    assert!(backend.sessions.load(Ordering::SeqCst) <= 2);
}

#[test]
fn who_guesses_or_is_not_checked_has_no_backend_asked() {
    let backend = Backend::start(Manner::Good);
    let more = "[harvest]\nabsent = 3\naction = \"reject\"\n[skip]\nclients = [\"192.0.2.32/28\"]\n";
    let daemon = start(&backend, more, "");
    let policy = |client: &str, recipient: &str| {
        let request = format!(
            "request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address={client}\nrecipient={recipient}@example.org\n\n"
        );
        String::from_utf8(daemon.exchange(request)).expect("text")
    };
    assert_eq!(policy("192.0.2.33", "guess"), "action=DUNNO\n\n");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), 0);
    for name in ["guess0", "guess1"] {
        assert_eq!(policy("203.0.113.7", name), "action=550 5.1.1 User unknown\n\n");
    }
    assert_eq!(policy("203.0.113.7", "guess2"), "action=550 5.7.1 Too many unknown recipients\n\n");
    let asked = backend.recipients.load(Ordering::SeqCst);
    for name in ["guess3", "guess4", "anna", "listed"] {
        let reply = policy("203.0.113.7", name);
        assert!(reply.starts_with("action=DEFER_IF_PERMIT 4.7.1 "), "{name}: {reply}");
    }
    assert!(daemon.ask("rcpt_client", "203.0.113.7,guess5@example.org").starts_with("TEMP 4.7.1 "));
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked);
    assert_eq!(policy("203.0.113.8", "anna"), "action=DUNNO\n\n");
}

#[test]
fn nothing_but_an_answer_about_the_recipient_makes_anybody_unknown() {
    // In a group the reply to the RSET behind it is what lacks; the second time recipients are asked one by one.
    for (manner, why) in [
        (Manner::Silent, "banner: no reply within 1s"),
        (Manner::Closes, "banner: the server closed the connection"),
        (Manner::RefusesBanner, "banner: 554 5.7.1 no service for you"),
        (Manner::RefusesEhlo, "EHLO: 550 5.7.1 your name is not welcome"),
        (Manner::SilentAtEhlo, "EHLO: no reply within 1s"),
        (Manner::RefusesMail, "MAIL FROM: 550 5.1.8 the null sender is not welcome"),
        (Manner::SilentAtMail, "MAIL FROM: no reply within 1s|RSET: no reply within 1s"),
        (Manner::ShutsDown, "RCPT TO: 421 4.3.2 shutting down"),
        (Manner::Greylists, "RCPT TO: 450"),
        (Manner::Policy, "RCPT TO: 550 5.7.1 relaying denied"),
        (Manner::Garbage, "banner: "),
        (Manner::Binary, "RCPT TO: "),
        (Manner::LongLine, "RCPT TO: "),
        (Manner::SilentAtRcpt, "RCPT TO: no reply within 1s|RSET: no reply within 1s"),
        (Manner::ClosesAtRcpt, "RCPT TO: the server closed the connection"),
        (Manner::Drips, "RCPT TO: "),
        (Manner::OutOfStep, "idle: the server answered what was not asked|RCPT TO: the server answered"),
    ] {
        let backend = Backend::start(manner);
        let daemon = start(&backend, "", "");
        let reply = daemon.query("nobody@example.org");
        assert!(reply.starts_with("TEMP "), "{manner:?}: {reply}");
        let reply = daemon.exchange("rcpt nobody@example.org\n");
        assert!(reply.starts_with(b"TEMP "), "{manner:?}: {}", String::from_utf8_lossy(&reply));
        assert_eq!(daemon.query("listed@example.org"), "OK listed@example.org", "{manner:?}");
        let hop = &daemon.status()["next_hops"][0];
        let error = hop["last_error"].as_str().unwrap_or_default();
        let is_it = why.split('|').any(|why| error.starts_with(why));
        assert!(is_it, "{manner:?}: {error:?}");
        assert_eq!(hop["absent"], 0, "{manner:?}");
    }
}

#[test]
fn a_backend_refuses_nobody_whom_a_list_that_was_never_read_may_name() {
    let backend = Backend::start(Manner::Good);
    let missing = "[[source]]\nname = \"teams\"\npath = \"teams\"\n";
    let mut daemon = start(&backend, missing, "");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert!(daemon.query("team@example.org").starts_with("TEMP "));
    daemon.write("teams", "team@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("team@example.org"), "OK team@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
}

#[test]
fn a_backend_that_is_not_there_is_temporary_and_back_again() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let backend = Backend { address: closed, ..Backend::start(Manner::Good) };
    let daemon = start(&backend, "", "");
    assert!(daemon.query("anna@example.org").starts_with("TEMP "));
    let daemon = start(&backend, "unavailable = \"accept\"\n", "");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    let daemon = start(&backend, "unavailable = \"accept\"\n", "unavailable = \"tempfail\"\n");
    assert!(daemon.query("anna@example.org").starts_with("TEMP "), "the domain's own word counts");
}

#[test]
fn who_was_good_stays_good_while_the_backend_is_down() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "", "");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    backend.become_(Manner::Closes);
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert!(daemon.query("bert@example.org").starts_with("TEMP "));
}

#[test]
fn a_backend_that_takes_everybody_proves_what_the_configuration_says() {
    let backend = Backend::start(Manner::TakesAll);
    assert_eq!(start(&backend, "", "").query("nobody@example.org"), "OK nobody@example.org");
    let reply = start(&backend, "blind = \"tempfail\"\n", "").query("nobody@example.org");
    assert!(reply.starts_with("TEMP "), "{reply}");
}

#[test]
fn answers_come_in_order_and_a_stranger_never_waits() {
    let backend = Backend::start(Manner::SilentAtRcpt);
    let daemon = start(&backend, "", "");
    let mut waiting = daemon.connect();
    waiting.write_all(b"24:rcpt nobody@example.org.,23:rcpt listed@example.org,").expect("the daemon reads");
    // Others are served meanwhile, and what comes behind the question waits for its turn.
    let mut other = connect_unix(&daemon.unix()).expect("the daemon accepts");
    for _ in 0..100 {
        assert_eq!(ask(&mut other, "rcpt", b"listed@example.org"), "OK listed@example.org");
    }
    waiting.shutdown(std::net::Shutdown::Write).expect("open");
    let replies = String::from_utf8(common::read_to_end(&mut waiting)).expect("text");
    assert!(replies.contains("TEMP ") && replies.ends_with(",21:OK listed@example.org,"), "{replies}");
}

#[test]
fn a_thousand_askers_cost_a_handful_of_sessions() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "sessions = 5\n", "");
    let mut streams: Vec<_> = (0..500).map(|_| daemon.connect()).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        let name = if n % 2 == 0 { format!("known-{n}") } else { format!("guess-{n}") };
        let request = format!("rcpt {name}@example.org");
        stream.write_all(format!("{}:{request},", request.len()).as_bytes()).expect("the daemon reads");
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        stream.shutdown(std::net::Shutdown::Write).expect("open");
        let reply = String::from_utf8(common::read_to_end(stream)).expect("text");
        let known = format!("OK known-{n}@example.org");
        assert!(reply.contains(if n % 2 == 0 { &known } else { "NOTFOUND " }), "{n}: {reply}");
    }
    let sessions = backend.sessions.load(Ordering::SeqCst);
    assert!(sessions <= 60, "{sessions} sessions for 500 recipients, half of them refused");
}

#[test]
fn next_hops_come_from_a_mailertable() {
    let backend = Backend::start(Manner::Good);
    let table = format!(
        "example.net\tsmtp:[127.0.0.1]:{}\nhere.example local:\ndead.example error:5.1.2:550 closed\n",
        backend.address.port()
    );
    let config = "[nexthops]\nfile = \"mailertable\"\ndomains = true\n";
    let mut daemon = Setup::new().file("mailertable", &table).config(config).start();
    assert_eq!(daemon.query("anna@example.net"), "OK anna@example.net");
    assert_eq!(daemon.query("nobody@example.net"), "NOTFOUND ");
    assert_eq!(daemon.query("whoever@here.example"), "OK whoever@here.example");
    assert_eq!(daemon.query("whoever@dead.example"), "NOTFOUND ");
    assert_eq!(daemon.query("anna@foreign.example"), "NOTFOUND ");
    let hop = format!("OK smtp:[127.0.0.1]:{}", backend.address.port());
    assert_eq!(daemon.ask("nexthop", "example.net"), hop);
    assert_eq!(daemon.ask("nexthop", "anna@example.net"), hop);
    assert_eq!(daemon.ask("nexthop", "foreign.example"), "NOTFOUND ");
    // Somebody else is to be asked now: what the first one said is forgotten.
    let other = Backend::start(Manner::TakesAll);
    daemon.write("mailertable", format!("example.net\tsmtp:[127.0.0.1]:{}\n", other.address.port()));
    daemon.hup();
    assert_eq!(daemon.query("nobody@example.net"), "OK nobody@example.net");
}

#[test]
fn the_next_best_line_of_a_mailertable_does_not_speak_for_another() {
    let (right, wrong) = (Backend::start(Manner::Good), Backend::start(Manner::RefusesAll));
    let (right, wrong) = (right.address.port(), wrong.address.port());
    let table = format!(
        "x.example cyrus:\nanna@y.example SMTP:[127.0.0.1]:{right}\nknown-1@y.example smtp:[127.0.0.1]:{right}\nbert@y.example cyrus:\n\
         y.example smtp:[127.0.0.1]:{wrong}\nw.example smtp:[127.0.0.1]:{wrong}\n. smtp:[127.0.0.1]:{right}\n"
    );
    let config = "[nexthops]\nfile = \"mailertable\"\n[[domain]]\nnames = [\"x.example\", \"y.example\", \"sub.w.example\"]\n\
                  verify = \"probe\"\n";
    let daemon = Setup::new().file("mailertable", &table).config(config).start();
    assert!(daemon.query("anna@x.example").starts_with("TEMP "));
    assert!(daemon.query("bert@y.example").starts_with("TEMP "));
    assert_eq!(daemon.query("anna@y.example"), "OK anna@y.example");
    assert_eq!(daemon.query("known-1+news@y.example"), "OK known-1+news@y.example");
    assert_eq!(daemon.query("carl@y.example"), "NOTFOUND ");
    // Mail servers look for `w.example` alone under that key.
    assert_eq!(daemon.query("anna@sub.w.example"), "OK anna@sub.w.example");
    assert_eq!(daemon.ask("nexthop", "sub.w.example"), format!("OK smtp:[127.0.0.1]:{right}"));
    assert_eq!(daemon.ask("nexthop", "anna@y.example"), format!("OK smtp:[127.0.0.1]:{right}"));
    assert_eq!(daemon.ask("nexthop", "y.example"), format!("OK smtp:[127.0.0.1]:{wrong}"));
    assert!(daemon.ask("nexthop", "x.example").starts_with("TEMP "));
}

#[test]
fn the_backend_may_be_on_a_unix_socket_and_speak_lmtp() {
    use std::os::unix::net::UnixListener;
    let setup = Setup::new();
    let path = setup.path("lmtp.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("a second handle"));
                let mut line = String::new();
                let _ = stream.write_all(b"220 lmtp\r\n");
                while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                    let reply: &[u8] = match line.get(..4) {
                        Some("LHLO") => b"250-lmtp\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n",
                        Some("RCPT") if line.contains("<anna@") => b"250 2.1.5 ok\r\n",
                        Some("RCPT") => b"550 5.1.1 User doesn't exist\r\n",
                        Some("EHLO" | "HELO") => b"500 5.5.1 LHLO, please\r\n",
                        Some("MAIL") => b"250 2.1.0 ok\r\n",
                        _ => b"250 2.0.0 ok\r\n",
                    };
                    let _ = stream.write_all(reply);
                    line.clear();
                }
            });
        }
    });
    let daemon = setup
        .config(
            "[[domain]]\nnames = [\"example.org\"]\nverify = \"probe\"\nbackend = \"store\"\n\
             [[backend]]\nname = \"store\"\nservers = [\"lmtp:unix:DIR/lmtp.sock\"]\n",
        )
        .start();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
}

/// Everything else is as in [`config`].
fn keeping(backend: &Backend) -> String {
    format!("state_dir = \"DIR/state\"\n{}", config(backend, "", ""))
}

#[test]
fn verdicts_outlive_the_daemon() {
    let backend = Backend::start(Manner::Good);
    let daemon = Setup::new().file("list", "listed@example.org\n").config(&keeping(&backend)).start();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    let (ran, setup) = daemon.stop_and_keep();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let file = std::fs::read_to_string(setup.path("state/verdicts")).expect("it was saved");
    assert!(file.contains(" exists ") && file.contains(&said(&backend, "250 2.1.5", "anna")), "{file}");
    assert!(file.contains(&said(&backend, "550 5.1.1", "nobody")) && file.ends_with(" lines\n"), "{file}");
    // The backend is down now, and somebody who was asked for is listed.
    backend.become_(Manner::Closes);
    let daemon = setup.file("list", "listed@example.org\nnobody@example.org\n").start();
    daemon.wait_for_log(" verdicts of backends, from ");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "OK nobody@example.org");
    assert!(daemon.query("bert@example.org").starts_with("TEMP "));
    // Killed, it leaves the file of the last save.
    let setup = daemon.kill_and_keep();
    assert_eq!(std::fs::read_to_string(setup.path("state/verdicts")).expect("it is there"), file);
    // A file that was cut off loses lines, and tells no lies.
    let cut = file.find("nobody@").expect("its line") + 3;
    let daemon = setup.file("list", "listed@example.org\n").file("state/verdicts", &file[..cut]).start();
    daemon.wait_for_log("its end is missing");
    assert!(daemon.query("nobody@example.org").starts_with("TEMP "));
}

#[test]
fn nobody_waits_for_the_file_of_verdicts() {
    let backend = Backend::start(Manner::Good);
    let setup = Setup::new().file("list", "listed@example.org\n").config(&keeping(&backend));
    std::fs::create_dir(setup.path("state")).expect("a folder");
    // Somebody has to write it before it can be read to its end.
    let fifo = setup.path("state/verdicts");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let daemon = setup.start();
    assert_eq!(daemon.query("listed@example.org"), "OK listed@example.org");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("bert@example.org"), "NOTFOUND ");
    assert_eq!(command(&daemon, "flush", &["carl@example.org"]).code, Some(1));
    assert_eq!(daemon.status()["cache"]["file_is_being_read"], true);
    let list = ["anna invalid", "bert valid", "carl valid", "dora valid"]
        .map(|line| format!("{} {}\n", line.replace(' ', "@example.org "), now() - 60));
    std::fs::write(&fifo, list.concat()).expect("the daemon reads");
    daemon.wait_for_log(": 3 verdicts of backends, from 4 lines");
    assert_eq!(daemon.status()["cache"]["file_is_being_read"], false);
    // What was learnt or flushed meanwhile counts.
    let asked = backend.recipients.load(Ordering::SeqCst);
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("bert@example.org"), "NOTFOUND ");
    assert_eq!(daemon.query("dora@example.org"), "OK dora@example.org");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked);
    assert_eq!(daemon.query("carl@example.org"), "NOTFOUND ");
    let (ran, setup) = daemon.stop_and_keep();
    let file = std::fs::read_to_string(setup.path("state/verdicts")).expect("it is a file now");
    assert!(ran.code == Some(0) && file.ends_with("# end 5 lines\n"), "{file}");
}

#[test]
fn an_alias_of_a_domain_is_asked_about_under_the_name_that_the_backend_knows() {
    let backend = Backend::start(Manner::Good);
    let more = "[[domain]]\nnames = [\"alias.example\"]\nsame_as = \"example.org\"\n";
    let daemon = start(&backend, more, "");
    assert_eq!(daemon.query("listed@alias.example"), "OK listed@alias.example");
    assert_eq!(daemon.query("anna@alias.example"), "OK anna@alias.example");
    assert_eq!(daemon.query("nobody@alias.example"), "NOTFOUND ");
    let asked = backend.recipients.load(Ordering::SeqCst);
    assert_eq!(asked, 3);
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked, "it is the same recipient");
    assert_eq!(json(&command(&daemon, "cache", &["--json", "anna@alias.example"]))[0]["address"], "anna@example.org");
    assert!(command(&daemon, "probe", &["bert@alias.example"]).out.contains(" > RCPT TO:<bert@example.org>\n"));
    assert_eq!(command(&daemon, "explain", &["anna@alias.example"]).code, Some(0));
    // A backend that can't be asked says of an alias no more than of the domain.
    backend.become_(Manner::Closes);
    let daemon = start(&backend, more, "");
    assert!(daemon.query("anna@alias.example").starts_with("TEMP "));
}

#[test]
fn who_asked_before_the_stop_is_answered_and_that_is_saved() {
    let backend = Backend::start(Manner::Good);
    let text = format!("state_dir = \"DIR/state\"\n{}", patient(&backend, ""));
    let daemon = Setup::new().file("list", "listed@example.org\n").config(&text).start();
    assert_eq!(daemon.query("listed@example.org"), "OK listed@example.org");
    // The backend says nothing meanwhile.
    let held = backend.manner.lock().expect("no panic");
    let mut waiting = daemon.connect();
    waiting.write_all(b"21:rcpt anna@example.org,23:rcpt listed@example.org,").expect("the daemon reads");
    wait_until("it is asked", || backend.sessions.load(Ordering::SeqCst) > 0);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait_for_log("SIGTERM: stopping");
    assert!(!daemon.path("state/verdicts").exists());
    drop(held);
    let replies = String::from_utf8(common::read_to_end(&mut waiting)).expect("text");
    assert_eq!(replies, "19:OK anna@example.org,21:OK listed@example.org,");
    let (ran, setup) = daemon.stop_and_keep();
    let file = std::fs::read_to_string(setup.path("state/verdicts")).expect("it was saved");
    assert!(ran.code == Some(0) && file.contains(&format!(" {}", said(&backend, "250 2.1.5", "anna"))), "{file}");
}

#[test]
fn what_another_server_said_is_not_believed_after_a_restart() {
    let (old, new) = (Backend::start(Manner::RefusesAll), Backend::start(Manner::Good));
    let setup = Setup::new().file("list", "listed@example.org\n").config(&keeping(&old));
    let daemon = setup.start();
    assert_eq!(daemon.query("anna@example.org"), "NOTFOUND ");
    assert_eq!(daemon.query("known-1@example.org"), "NOTFOUND ");
    let (_, setup) = daemon.stop_and_keep();
    let daemon = setup.config(&keeping(&new)).start();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("known-1@example.org"), "OK known-1@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    // The same server is believed what it said before.
    let (_, setup) = daemon.stop_and_keep();
    let asked = new.recipients.load(Ordering::SeqCst);
    let daemon = setup.start();
    daemon.wait_for_log("verdicts of backends, from ");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(new.recipients.load(Ordering::SeqCst), asked);
}

/// What a backend is known by in the file of verdicts.
fn id(backend: &Backend) -> ServerId {
    server_id(&BackendServer { lmtp: false, at: Endpoint::Tcp(backend.address) })
}

/// The end of the line that says what a backend said.
fn said(backend: &Backend, reply: &str, name: &str) -> String {
    format!("{reply} {:08x} {name}@example.org\n", id(backend).0)
}

/// A file of verdicts as the daemon writes it.
fn verdicts_of(backend: &Backend, names: impl Iterator<Item = String>) -> Vec<u8> {
    let by = id(backend);
    let mut writer = Writer::default();
    for key in names {
        let learnt = Epoch(u32::try_from(now()).expect("before 2106") - 60);
        let evidence = Evidence { by, code: 250, status: None };
        writer.push(&Record::Verdict { key: key.as_bytes(), known: Known::Exists, evidence, learnt });
    }
    writer.finish()
}

#[test]
fn killed_while_it_saves_it_has_the_file_of_the_last_save() {
    let backend = Backend::start(Manner::Good);
    let mut setup = Setup::new().file("list", "listed@example.org\n").config(&keeping(&backend));
    std::fs::create_dir(setup.path("state")).expect("a folder");
    // More than a pipe holds.
    let old = verdicts_of(&backend, (0..5_000).map(|n| format!("old-{n}@example.org")));
    std::fs::write(setup.path("state/verdicts"), &old).expect("written");
    for taken in [1, 100_000, old.len() - 70_000] {
        backend.become_(Manner::Good);
        let daemon = setup.start();
        daemon.wait_for_log(": 5000 verdicts of backends, from 5000 lines");
        assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
        // What it writes goes through a pipe, so that it stops where we stop reading.
        let new = daemon.path("state/verdicts.new");
        nix::unistd::mkfifo(&new, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        let mut begun = vec![0; taken];
        let mut pipe = std::fs::File::open(&new).expect("a pipe");
        pipe.read_exact(&mut begun).expect("the daemon saves");
        setup = daemon.kill_and_keep();
        drop(pipe);
        assert!(std::fs::read(setup.path("state/verdicts")).expect("it is there") == old, "after {taken} bytes");
        // What a disk would hold of the new one is nobody's.
        std::fs::remove_file(&new).expect("the pipe");
        std::fs::write(&new, &begun).expect("written");
        backend.become_(Manner::Closes);
        let daemon = setup.start();
        daemon.wait_for_log(": 5000 verdicts of backends, from 5000 lines");
        assert_eq!(daemon.query("old-4999@example.org"), "OK old-4999@example.org");
        let lost = daemon.query("anna@example.org");
        assert!(lost.starts_with("TEMP "), "{lost}");
        setup = daemon.kill_and_keep();
        std::fs::remove_file(&new).expect("it is still there");
    }
    // With the rest of a save in the way the next one is whole.
    std::fs::write(setup.path("state/verdicts.new"), &old[..1_000]).expect("written");
    backend.become_(Manner::Good);
    let daemon = setup.start();
    daemon.wait_for_log(": 5000 verdicts of backends, from 5000 lines");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    let (ran, setup) = daemon.stop_and_keep();
    let file = std::fs::read_to_string(setup.path("state/verdicts")).expect("it was saved");
    assert!(ran.code == Some(0) && file.ends_with("# end 5002 lines\n"), "{}", ran.err);
    assert!(!setup.path("state/verdicts.new").exists());
}

/// A command about a daemon, by its configuration.
fn command(daemon: &Daemon, command: &str, args: &[&str]) -> Ran {
    command_of(daemon, &[command], args)
}

fn command_of(daemon: &Daemon, command: &[&str], args: &[&str]) -> Ran {
    let config = daemon.path("rcptmapd.toml").display().to_string();
    run(&[command, &["-c", &config], args].concat())
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

#[test]
fn status_and_metrics_tell_of_each_next_hop() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "", "");
    let hop = |daemon: &Daemon| daemon.status()["next_hops"][0].clone();
    assert_eq!((&hop(&daemon)["name"], &hop(&daemon)["state"]), (&"hub".into(), &"untried".into()));
    daemon.query("anna@example.org");
    daemon.query("nobody@example.org");
    let well = hop(&daemon);
    assert_eq!((&well["state"], &well["last_error"]), (&"up".into(), &Value::Null));
    assert_eq!((&well["exists"], &well["absent"], &well["questions"]), (&1.into(), &1.into(), &3.into()));
    assert_eq!(daemon.status()["cache"]["entries"], 2);
    let metrics = daemon.http("GET", "/metrics").1;
    for line in [
        "rcptmapd_probe_answers_total{next_hop=\"hub\",verdict=\"absent\"} 1",
        "rcptmapd_probe_questions_total{next_hop=\"hub\"} 3",
        "rcptmapd_next_hop_up{next_hop=\"hub\"} 1",
        "rcptmapd_verdicts 2",
        "rcptmapd_verdict_lookups_total{result=\"hit\"} 0",
        "rcptmapd_verdict_lookups_total{result=\"miss\"} 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    // With the sessions that it has, it can't be told that it is down: a new daemon.
    backend.become_(Manner::Closes);
    let daemon = start(&backend, "", "");
    daemon.query("bert@example.org");
    let ill = hop(&daemon);
    assert_eq!(ill["state"], "down", "{ill}");
    assert!(ill["last_error"].as_str().is_some_and(|error| error.starts_with("banner: ")), "{ill}");
    let text = command(&daemon, "status", &[]).out;
    assert!(text.contains("\nhub       down ") && text.contains("  next trial: in "), "{text}");
    assert!(daemon.http("GET", "/metrics").1.contains("rcptmapd_next_hop_up{next_hop=\"hub\"} 0\n"));
    backend.become_(Manner::TakesAll);
    let daemon = start(&backend, "", "");
    daemon.query("bert@example.org");
    assert_eq!(hop(&daemon)["blind"], serde_json::json!(["example.org"]));
    let text = command(&daemon, "status", &[]).out;
    assert!(text.contains("it takes every recipient of example.org: its yes proves nothing there"), "{text}");
}

#[test]
fn hits_misses_and_whoever_joined_are_counted() {
    let backend = Backend::start(Manner::Good);
    let text = patient(&backend, "[cache]\nvalid_refresh = \"0s\"\nvalid = \"90s\"\n");
    let daemon = Setup::new().file("list", "listed@example.org\n").config(&text).start();
    // The backend says nothing until all have asked.
    let held = backend.manner.lock().expect("no panic");
    let mut askers: Vec<_> = (0..4).map(|_| daemon.connect()).collect();
    for stream in &mut askers {
        stream.write_all(b"21:rcpt anna@example.org,").expect("the daemon reads");
    }
    wait_until("all wait", || daemon.status()["cache"]["waiting"] == 4);
    drop(held);
    for stream in &mut askers {
        stream.shutdown(std::net::Shutdown::Write).expect("open");
        assert_eq!(common::read_to_end(stream), b"19:OK anna@example.org,");
    }
    let asked = backend.recipients.load(Ordering::SeqCst);
    assert_eq!(asked, 2, "anna once, and a made-up address");
    // A hit, which is due, so that it is asked for again.
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    wait_until("it is asked again", || backend.recipients.load(Ordering::SeqCst) > asked);
    let (metrics, stats) = (daemon.http("GET", "/metrics").1, command(&daemon, "stats", &[]).out);
    for line in [
        "rcptmapd_verdict_lookups_total{result=\"hit\"} 1",
        "rcptmapd_verdict_lookups_total{result=\"miss\"} 4",
        "rcptmapd_verdict_stale_answers_total 0",
        "rcptmapd_verdict_refreshes_total 1",
        "rcptmapd_probe_joined_total 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    for line in ["remembered", "not remembered", "joined a question under way", "asked again in the background"] {
        assert!(stats.lines().any(|found| found.starts_with(line)), "{line} in {stats}");
    }
    assert!(command(&daemon, "status", &[]).out.contains("\n  1 of 5 requests answered out of that\n"));
}

#[test]
fn an_older_yes_that_answers_while_the_backend_is_down_is_counted() {
    let backend = Backend::start(Manner::Closes);
    let daemon = Setup::new().file("list", "listed@example.org\n").config(&keeping(&backend)).start();
    daemon.write("BackList", format!("old@example.org valid {}\n", now() - 2 * 86_400));
    let file = daemon.path("BackList").display().to_string();
    assert_eq!(command_of(&daemon, &["import", "backlist"], &[&file]).code, Some(0));
    assert_eq!(daemon.query("old@example.org"), "OK old@example.org");
    assert!(daemon.query("nobody@example.org").starts_with("TEMP "));
    let cache = daemon.stats()["cache"].clone();
    assert_eq!((&cache["misses"], &cache["stale_answers"], &cache["hits"]), (&2.into(), &1.into(), &0.into()));
    assert!(daemon.http("GET", "/metrics").1.contains("\nrcptmapd_verdict_stale_answers_total 1\n"));
    let status = command(&daemon, "status", &[]).out;
    assert!(status.contains("\n  1 by an older \"exists\", as nothing newer was to be had\n"), "{status}");
}

#[test]
fn what_is_remembered_is_shown_and_flushed() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "", "");
    assert_eq!(command(&daemon, "cache", &[]).code, Some(1));
    for name in ["Anna+X", "anna", "nobody"] {
        daemon.query(&format!("{name}@example.org"));
    }
    let all = json(&command(&daemon, "cache", &["--json"]));
    assert_eq!(all.as_array().map(Vec::len), Some(3));
    let one = json(&command(&daemon, "cache", &["--json", "Nobody@example.org"]));
    let entry = &one[0];
    assert_eq!((&entry["verdict"], &entry["code"], &entry["status"]), (&"absent".into(), &550.into(), &"5.1.1".into()));
    let text = command(&daemon, "cache", &["anna+x@example.org"]).out;
    assert!(text.contains("\nanna+x@example.org  absent   fresh "), "{text}");
    assert_eq!(json(&command(&daemon, "cache", &["--json", "example.org"])), all);
    assert_eq!(command(&daemon, "cache", &["example.net"]).code, Some(1));
    let list = command(&daemon, "cache", &["--format", "backlist"]).out;
    assert!(list.contains("anna@example.org valid ") && list.contains("nobody@example.org invalid "), "{list}");

    let before = backend.recipients.load(Ordering::SeqCst);
    let flushed = command(&daemon, "flush", &["anna@example.org"]);
    assert_eq!((flushed.code, flushed.out.as_str()), (Some(0), "1 verdict forgotten\n"), "{}", flushed.err);
    assert_eq!(command(&daemon, "flush", &["anna@example.org"]).code, Some(1));
    daemon.query("anna@example.org");
    daemon.query("nobody@example.org");
    assert_eq!(backend.recipients.load(Ordering::SeqCst), before + 1);
    assert_eq!(command(&daemon, "flush", &["example.net"]).code, Some(1));
    assert_eq!(command(&daemon, "flush", &["Example.org"]).out, "3 verdicts forgotten\n");
    daemon.query("anna@example.org");
    // Whether it takes everybody was forgotten, too.
    assert_eq!(backend.recipients.load(Ordering::SeqCst), before + 3);
    assert_eq!(command(&daemon, "flush", &["--all"]).out, "1 verdict forgotten\n");
    assert_eq!(command(&daemon, "flush", &["@"]).code, Some(64));
    // Names of recipients are for who may use the control socket.
    let over_data = common::http_over(daemon.connect(), "GET", "/cache");
    assert_eq!(over_data.0, 404);
    assert_eq!(common::http_over(daemon.connect(), "POST", "/flush?all").0, 404);
}

#[test]
fn a_list_of_scam_backscatter_is_a_beginning() {
    let backend = Backend::start(Manner::Closes);
    let setup = Setup::new().file("list", "listed@example.org\n").config(&keeping(&backend));
    std::fs::create_dir(setup.path("state")).expect("a folder");
    let list = format!("old@example.org valid {}\nlisted@example.org invalid\nx@foreign.example valid\n", now());
    let daemon = setup.file("state/verdicts", &list).start();
    daemon.wait_for_log(" verdicts of backends, from ");
    assert_eq!(daemon.query("old@example.org"), "OK old@example.org");
    assert_eq!(daemon.query("listed@example.org"), "OK listed@example.org");
    assert_eq!(json(&command(&daemon, "cache", &["--json"])).as_array().map(Vec::len), Some(1));
    let (_, setup) = daemon.stop_and_keep();
    assert_eq!(std::fs::read_to_string(setup.path("state/verdicts.backlist")).expect("kept"), list);
    assert!(std::fs::read(setup.path("state/verdicts")).expect("ours").starts_with(b"rcptmapd verdicts 2\n"));
}

#[test]
fn a_list_of_scam_backscatter_is_taken_over_by_the_running_daemon() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "", "");
    daemon.query("known-1@example.org");
    let (now, asked) = (now(), backend.recipients.load(Ordering::SeqCst));
    // Some thousand, so that it takes several pieces.
    let mut list = (0..3_000).map(|n| format!("old-{n}@example.org valid {}\n", now - 100)).collect::<String>();
    list += &format!(
        "gone@Example.org invalid {}\nstale@example.org valid {}\ndead@example.org valid {}\ngone2@example.org 0 {}\n\
         listed@example.org invalid {now}\nx@foreign.example valid {now}\nknown-1@example.org invalid {}\n\
         nonsense\nBert@Example.ORG. 1 {}\n",
        now - 60,
        now - 5 * 86_400,
        now - 100 * 86_400,
        now - 86_400,
        now - 60,
        now - 7
    );
    daemon.write("BackList", &list);
    let file = daemon.path("BackList").display().to_string();
    let ran = command_of(&daemon, &["import", "backlist"], &[&file]);
    let said = "3,003 verdicts taken over\n  1 known already, or otherwise since then\n  2 too old\n  1 settled by a list\n  \
                1 of domains that are not ours\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(65), said), "{}", ran.err);
    assert_eq!(ran.err, format!("rcptmapd: {file}: line 3008 makes no sense\n"));
    // They answer, and nobody is asked.
    for (key, reply) in [
        ("old-0@example.org", "OK old-0@example.org"),
        ("old-2999@example.org", "OK old-2999@example.org"),
        ("gone@example.org", "NOTFOUND "),
        ("bert@example.org", "OK bert@example.org"),
        ("known-1@example.org", "OK known-1@example.org"),
        ("listed@example.org", "OK listed@example.org"),
        ("x@foreign.example", "NOTFOUND "),
    ] {
        assert_eq!(daemon.query(key), reply, "{key}");
    }
    assert_eq!(backend.recipients.load(Ordering::SeqCst), asked);
    let age = json(&command(&daemon, "cache", &["--json", "old-7@example.org"]))[0]["age_seconds"].as_u64();
    assert!(age.is_some_and(|age| (99..200).contains(&age)), "{age:?}");
    let stale = json(&command(&daemon, "cache", &["--json", "stale@example.org"]));
    assert_eq!(stale[0]["freshness"], "stale");
    // What is too old or foreign is not there at all.
    for key in ["dead@example.org", "gone2@example.org", "x@foreign.example", "listed@example.org"] {
        assert_eq!(command(&daemon, "cache", &[key]).code, Some(1), "{key}");
    }
    // Again it is no news; and out again it is the same list.
    let again = command_of(&daemon, &["import", "backlist"], &[&file]);
    assert!(again.out.starts_with("0 verdicts taken over\n  3,004 known already"), "{}", again.out);
    let out = command(&daemon, "cache", &["--format", "backlist"]).out;
    assert!(out.contains(&format!("gone@example.org invalid {}\n", now - 60)), "{out}");
    let other = start(&backend, "", "");
    other.write("BackList", &out);
    let file = other.path("BackList").display().to_string();
    let ran = command_of(&other, &["import", "backlist"], &[&file]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "3,004 verdicts taken over\n"), "{}", ran.err);
    assert_eq!(other.query("old-5@example.org"), "OK old-5@example.org");
    // It is nothing that a mail server could do.
    let over_data = common::http_over(daemon.connect(), "POST", "/remember");
    assert_eq!(over_data.0, 404);
}

#[test]
fn a_daemon_that_asks_nobody_takes_no_list_of_answers() {
    let daemon = Setup::new().list("list", "anna@example.org\n").start();
    daemon.write("BackList", "bert@example.org valid\n");
    let file = daemon.path("BackList").display().to_string();
    let control = daemon.control().display().to_string();
    let ran = run(&["import", "backlist", "--control", &control, &file]);
    assert!(ran.code == Some(78) && ran.err.contains("no backend to ask"), "{ran:?}");
    let ran = run(&["import", "backlist", "--control", "/nonexistent/control.sock", &file]);
    assert_eq!(ran.code, Some(69), "{ran:?}");
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later than 1970").as_secs()
}

#[test]
fn a_probe_shows_the_dialogue_and_what_it_proves() {
    let backend = Backend::start(Manner::Good);
    let more = "known_good = \"anna@example.org\"\n";
    let setup = Setup::new().file("list", "listed@example.org\n");
    let file = setup.path("probe.toml");
    let text = setup.complete_config(&config(&backend, more, ""));
    std::fs::write(&file, text).expect("a writable folder");
    let probe = |address: &str| run(&["probe", "-c", &file.display().to_string(), address]);
    let exists = probe("Anna@Example.org");
    assert_eq!((exists.code, exists.err.as_str()), (Some(0), ""), "{}", exists.out);
    for said in [
        "asked: backend hub at smtp:[127.0.0.1]:",
        " ms < 220 backend.example ESMTP\n",
        " ms > RCPT TO:<anna@example.org>\n",
        " ms > QUIT\n",
        "\nverdict: exists\n  RCPT TO: 250 2.1.5 ok\n  a made-up address is refused, so this counts\n",
    ] {
        assert!(exists.out.contains(said), "{said} in {}", exists.out);
    }
    let absent = probe("nobody@example.org");
    assert_eq!(absent.code, Some(1), "{}", absent.out);
    assert!(absent.out.contains("\nverdict: absent\n  RCPT TO: 550 5.1.1 no such user\n"), "{}", absent.out);
    let listed = probe("listed@example.org");
    assert!(listed.out.contains("settled by the lists, but asked: "), "{}", listed.out);
    let foreign = probe("anna@elsewhere.example");
    assert_eq!(foreign.code, Some(1));
    assert!(foreign.out.contains("verdict: foreign\n  it is none of ours"), "{}", foreign.out);
    for (manner, code, said) in [
        (Manner::TakesAll, 0, "blind: a made-up address is taken as well"),
        (Manner::Policy, 75, "verdict: unknown\n  RCPT TO: 550 5.7.1 relaying denied\n"),
        (Manner::Closes, 75, "verdict: unknown\n  banner: the server closed the connection\n"),
        (Manner::Silent, 75, "banner: no reply within 1s"),
        (Manner::RefusesMail, 75, "MAIL FROM: 550 5.1.8"),
        (Manner::SilentAtRcpt, 75, "RSET: no reply within 1s"),
    ] {
        backend.become_(manner);
        let ran = probe("nobody@example.org");
        assert_eq!(ran.code, Some(code), "{manner:?}: {}", ran.out);
        assert!(ran.out.contains(said), "{manner:?}: {said} in {}", ran.out);
    }
}

#[test]
fn explain_shows_who_is_asked_and_what_is_remembered() {
    let backend = Backend::start(Manner::Good);
    let daemon = start(&backend, "", "");
    let before = command(&daemon, "explain", &["anna@example.org"]);
    assert_eq!(before.code, Some(75), "{}", before.out);
    let said = ["backend hub at smtp:[127.0.0.1]:", "nothing is remembered, so it would be asked now"];
    assert!(said.iter().all(|said| before.out.contains(said)), "{}", before.out);
    daemon.query("anna@example.org");
    daemon.query("nobody@example.org");
    let exists = command(&daemon, "explain", &["anna@example.org"]);
    assert_eq!(exists.code, Some(0), "{}", exists.out);
    assert!(
        exists.out.contains("remembered: exists, fresh, ") && exists.out.contains("reply 250 2.1.5"),
        "{}",
        exists.out
    );
    assert!(exists.out.contains("OK anna@example.org"), "the replies are those of the daemon: {}", exists.out);
    let absent = command(&daemon, "explain", &["--json", "nobody@example.org"]);
    assert_eq!((absent.code, &json(&absent)["backend"]["verdict"]), (Some(1), &"absent".into()), "{}", absent.out);
    let listed = command(&daemon, "explain", &["--json", "listed@example.org"]);
    assert_eq!((listed.code, &json(&listed)["backend"]), (Some(0), &Value::Null));
    assert_eq!(backend.recipients.load(Ordering::SeqCst), 3, "nobody is asked for an explanation");
    let (_, setup) = daemon.stop_and_keep();
    let config = setup.path("rcptmapd.toml").display().to_string();
    let alone = run(&["explain", "-c", &config, "anna@example.org"]);
    assert_eq!(alone.code, Some(75));
    assert!(alone.out.contains("it would be asked now, unless it is remembered (unix:"), "{}", alone.out);
}

/// Sends a milter command, and takes its reply.
fn packet(command: &[u8], milter: &mut std::os::unix::net::UnixStream) -> String {
    let length = u32::try_from(command.len()).expect("short").to_be_bytes();
    milter.write_all(&[&length[..], command].concat()).expect("the daemon reads");
    let mut head = [0; 4];
    milter.read_exact(&mut head).expect("a reply");
    let mut body = vec![0; u32::from_be_bytes(head) as usize];
    milter.read_exact(&mut body).expect("a whole reply");
    String::from_utf8_lossy(&body).into_owned()
}

#[test]
fn each_dialect_has_its_own_patience() {
    // Here a line and a milter have more than the others, by more than the time that a session is kept beyond it.
    let backend = Backend::start(Manner::SilentAtRcpt);
    let more = "[[listen]]\non = \"unix:DIR/rcptmapd.sock\"\n[[listen]]\non = \"unix:DIR/milter.sock\"\nprotocol = \"milter\"\n";
    let limits = "answer = \"100ms\"\nanswer_line = \"2500ms\"\nanswer_milter = \"2500ms\"\n";
    let text = config(&backend, more, "").replace("answer = \"3s\"\nanswer_line = \"2s\"\n", limits);
    let text = text.replace("reply_timeout = \"1s\"", "reply_timeout = \"10s\"");
    let daemon = Setup::new().file("list", "listed@example.org\n").config(&text).start();
    let mut line = daemon.connect();
    line.write_all(b"nobody@example.org\n").expect("the daemon reads");
    let mut milter = connect_unix(&daemon.path("milter.sock")).expect("the daemon accepts");
    assert!(packet(b"O\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff", &mut milter).starts_with('O'));
    assert_eq!(packet(b"Cmx.example.net\x004\x9c\x40192.0.2.9\0", &mut milter), "c");
    assert_eq!(packet(b"M<s@src.example>\0", &mut milter), "c");
    let reply = packet(b"R<nobody@example.org>\0", &mut milter);
    assert!(reply.starts_with("y451 4.3.0 "), "{reply}");
    line.shutdown(std::net::Shutdown::Write).expect("open");
    let reply = String::from_utf8(common::read_to_end(&mut line)).expect("text");
    assert!(reply.starts_with("TEMP "), "{reply}");
}

#[test]
fn milters_and_policy_services_are_answered_in_time_too() {
    let backend = Backend::start(Manner::SilentAtRcpt);
    let more = "[[listen]]\non = \"unix:DIR/rcptmapd.sock\"\n[[listen]]\non = \"unix:DIR/milter.sock\"\nprotocol = \"milter\"\n";
    let text = config(&backend, more, "").replace("[limits]\n", "[limits]\nanswer_milter = \"500ms\"\n");
    let daemon = Setup::new().file("list", "listed@example.org\n").config(&text).start();
    let mut policy = daemon.connect();
    let request =
        b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.9\nrecipient=nobody@example.org\n\n";
    policy.write_all(request).expect("the daemon reads");
    let mut milter = connect_unix(&daemon.path("milter.sock")).expect("the daemon accepts");
    assert!(packet(b"O\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff", &mut milter).starts_with('O'));
    assert_eq!(packet(b"Cmx.example.net\x004\x9c\x40192.0.2.9\0", &mut milter), "c");
    assert_eq!(packet(b"M<s@src.example>\0", &mut milter), "c");
    let reply = packet(b"R<nobody@example.org>\0", &mut milter);
    assert!(reply.starts_with("y451 4.3.0 "), "{reply}");
    assert_eq!(packet(b"R<listed@example.org>\0", &mut milter), "c");
    policy.shutdown(std::net::Shutdown::Write).expect("open");
    let reply = String::from_utf8(common::read_to_end(&mut policy)).expect("text");
    assert!(reply.starts_with("action=DEFER_IF_PERMIT 4.3.0 "), "{reply}");
}

#[test]
fn what_was_found_out_for_one_request_is_never_the_answer_to_the_next() {
    let backend = Backend::start(Manner::SilentAtRcpt);
    let text = config(&backend, "", "").replace("reply_timeout = \"1s\"", "reply_timeout = \"2s\"");
    let text = text.replace("answer = \"3s\"", "answer = \"20s\"");
    let mut daemon = Setup::new().file("list", "listed@example.org\n").config(&text).start();
    let mut waiting = daemon.connect();
    waiting.write_all(b"23:rcpt nobody@example.org,21:rcpt anna@example.org,").expect("the daemon reads");
    while backend.sessions.load(Ordering::SeqCst) == 0 {
        assert_eq!(daemon.query("listed@example.org"), "OK listed@example.org");
    }
    // The first is settled by a list before its probe ends; the second still has to be asked about.
    daemon.write("list", "listed@example.org\nnobody@example.org\n");
    daemon.hup();
    backend.become_(Manner::Good);
    waiting.shutdown(std::net::Shutdown::Write).expect("open");
    let replies = String::from_utf8(common::read_to_end(&mut waiting)).expect("text");
    assert_eq!(replies, "21:OK nobody@example.org,19:OK anna@example.org,");
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_probe_that_should_encrypt_and_can_t_says_so() {
    let backend = Backend::start(Manner::Good);
    for tls in ["opportunistic", "required"] {
        let setup = Setup::new().file("list", "listed@example.org\n");
        let file = setup.path("probe.toml");
        let text = setup.complete_config(&config(&backend, &format!("tls = \"{tls}\"\n"), ""));
        std::fs::write(&file, text).expect("a writable folder");
        let ran = run(&["probe", "-c", &file.display().to_string(), "anna@example.org"]);
        let why = format!("tls = \"{tls}\": this rcptmapd was built without \"tls\"; it can be \"off\" here");
        assert!(ran.code == Some(78) && ran.err.contains(&why), "{ran:?}");
    }
    assert_eq!(backend.sessions.load(Ordering::SeqCst), 0);
}
