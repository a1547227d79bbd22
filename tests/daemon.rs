//! The running daemon as a whole: limits reached and left again, reloads under load, signals, the end.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{Setup, ask, connect_unix, read_to_end, run};
use nix::sys::signal::Signal;

fn count(stats: &serde_json::Value, path: &str) -> u64 {
    stats.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("no {path} in {stats}"))
}

/// Waits until the peer closes, whatever else it says.
fn is_closed(stream: &mut impl Read) -> bool {
    read_to_end(stream).is_empty()
}

// --- reloads -------------------------------------------------------------------------------------------------------

#[test]
fn hup_brings_the_new_list_on_open_connections() {
    let mut daemon = Setup::new().list("list", "anna@example.org\n").start();
    let mut open = daemon.connect();
    assert_eq!(ask(&mut open, "rcpt", b"bert@example.org"), "NOTFOUND ");
    daemon.write("list", "bert@example.org\n");
    daemon.hup();
    assert_eq!(ask(&mut open, "rcpt", b"bert@example.org"), "OK bert@example.org");
    assert_eq!(ask(&mut open, "rcpt", b"anna@example.org"), "NOTFOUND ");
}

#[test]
fn a_list_that_can_not_be_taken_leaves_the_old_answers_and_says_why() {
    let mut long_line = vec![b'x'; 100 << 20];
    long_line.push(b'\n');
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty", b"", "the file is empty"),
        ("no entry", b"this is not a list\n", "no entry in 1 lines, 1 of which can't be understood"),
        ("binary", b"anna@example.org\nbert\0@example.org\n", "line 2: a NUL byte; this is not a text file"),
        ("one long line", &long_line, "no entry in 1 lines"),
    ];
    for (what, content, why) in cases {
        let mut daemon = Setup::new().list("list", "anna@example.org\n").start();
        daemon.write("list", content);
        daemon.hup();
        assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org", "{what}");
        assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ", "{what}: the old list is known as a whole");
        let log = daemon.wait_for_log(why);
        assert!(log.contains("its last good list of 1 recipient stays in force"), "{what}: {log}");
        let (status, health) = daemon.http("GET", "/health");
        assert!(status == 503 && health.contains(why), "{what}: {status} {health}");
        // and back again
        daemon.write("list", "bert@example.org\n");
        daemon.hup();
        assert_eq!(daemon.query("bert@example.org"), "OK bert@example.org", "{what}");
        assert_eq!(daemon.http("GET", "/health").0, 200, "{what}");
    }
}

#[test]
fn a_list_that_is_gone_or_a_folder_leaves_the_old_answers() {
    let mut daemon = Setup::new().list("list", "anna@example.org\n").start();
    std::fs::remove_file(daemon.path("list")).expect("it is there");
    daemon.hup();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    daemon.wait_for_log("no such file; if it lies on a share, the share may not be mounted yet");
    std::fs::create_dir(daemon.path("list")).expect("a folder");
    daemon.hup();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    daemon.wait_for_log("no file is there");
}

#[test]
fn a_list_that_was_never_there_makes_nobody_unknown() {
    let mut daemon = Setup::new().list_named("list").start();
    assert_eq!(daemon.query("anna@example.org"), "TEMP no data yet");
    assert_eq!(daemon.ask("check", "anna@example.org").split(' ').nth(1), Some("DEFER_IF_PERMIT"));
    daemon.write("list", "anna@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("bert@example.org"), "NOTFOUND ");
}

#[test]
fn a_list_that_appears_later_is_found_without_a_signal() {
    let mut daemon = Setup::new().list_named("list").start();
    daemon.write("list", "anna@example.org\n");
    daemon.wait_for("READY=1").expect("the daemon lives");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
}

#[test]
fn utf16_windows_line_ends_and_a_missing_last_one_are_read() {
    let text = "anna@example.org\r\nj\u{fc}rgen@example.org";
    let utf16: Vec<u8> = std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let daemon = Setup::new().list("list", utf16).start();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("J\u{dc}RGEN@example.org"), "OK OK");
}

#[test]
fn bad_lines_are_counted_and_are_no_entries() {
    let daemon = Setup::new().list("list", "anna@example.org\netc...\n\nbert@example.org\n").start();
    assert_eq!(daemon.query("etc...@example.org"), "NOTFOUND ");
    assert_eq!(daemon.query("bert@example.org"), "OK bert@example.org");
    daemon.wait_for_log("list:2: ");
    let source = &daemon.status()["sources"][0];
    assert_eq!((count(source, "/bad_lines"), count(source, "/recipients")), (1, 2), "{source}");
    assert_eq!(source["first_bad_lines"][0]["text"], "etc...");
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let good = "[[source]]\nname = \"a\"\npath = \"list\"\n";
    let mut daemon = Setup::new().file("list", "anna@example.org\n").config(good).start();
    daemon.write("list", "bert@example.org\n");
    daemon.write_config(&good.replace("path", "pth"));
    daemon.hup();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    let log = daemon.wait_for_log("configuration and lists stay as they were");
    assert!(log.contains("pth") && log.contains("path"), "names the wrong key and the right one: {log}");
    daemon.write_config(good);
    daemon.hup();
    assert_eq!(daemon.query("bert@example.org"), "OK bert@example.org");
}

#[test]
fn a_reload_changes_listeners_and_drops_no_connection() {
    let config = |sockets: &[&str]| {
        let listen = |name: &&str| format!("[[listen]]\non = \"unix:DIR/{name}\"\n");
        format!("[[source]]\nname = \"a\"\npath = \"list\"\n{}", sockets.iter().map(listen).collect::<String>())
    };
    let mut daemon = Setup::new().file("list", "anna@example.org\n").config(&config(&["a.sock", "b.sock"])).start();
    let mut a = connect_unix(&daemon.path("a.sock")).expect("a");
    let mut b = connect_unix(&daemon.path("b.sock")).expect("b");
    assert_eq!(ask(&mut b, "rcpt", b"anna@example.org"), "OK anna@example.org");
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(daemon.path(name)).map(|m| m.ino()).ok()
    };
    let before = inode("a.sock");
    assert!(before.is_some());
    daemon.write_config(&config(&["a.sock", "c.sock"]));
    daemon.hup();
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(daemon.path(name)).map(|m| m.ino()).ok()
    };
    assert_eq!(inode("a.sock"), before, "what stays the same stays open");
    assert_eq!(inode("b.sock"), None, "what is no longer wanted is gone");
    let mut c = connect_unix(&daemon.path("c.sock")).expect("c");
    for stream in [&mut a, &mut b, &mut c] {
        assert_eq!(ask(stream, "rcpt", b"anna@example.org"), "OK anna@example.org");
    }
}

#[test]
fn a_listener_that_can_t_be_opened_is_told_of_until_it_can() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let config = |more: &str| format!("[[source]]\npath = \"list\"\n[[listen]]\non = \"unix:DIR/a.sock\"\n{more}");
    let daemon = Setup::new().file("list", "anna@example.org\n").config(&config("")).start();
    let file = daemon.path("rcptmapd.toml").display().to_string();
    daemon.write_config(&config(&format!("[[listen]]\non = \"127.0.0.1:{port}\"\n")));
    let reloaded = run(&["reload", "-c", &file]);
    assert!(reloaded.code == Some(65) && reloaded.out.contains("the port is taken"), "{reloaded:?}");
    assert_eq!(daemon.status()["state"], "degraded");
    drop(taken);
    assert_eq!(run(&["reload", "-c", &file]).code, Some(0));
    assert_eq!((&daemon.status()["state"], &daemon.status()["listen_errors"]), (&"ok".into(), &serde_json::json!([])));
    // What takes a restart is told only as long as it differs.
    daemon.write_config(&format!("pid_file = \"DIR/pid\"\n{}", config("")));
    assert_eq!(run(&["reload", "-c", &file]).code, Some(0));
    daemon.write_config(&config(""));
    assert_eq!(run(&["reload", "-c", &file]).code, Some(0));
    let log = daemon.wait_for_log("pid_file has changed in the configuration");
    assert_eq!(log.matches("that takes a restart").count(), 1, "{log}");
}

/// Every pair of answers in one batch comes from one of the two lists, never from both.
#[test]
fn no_answer_is_lost_or_mixed_while_lists_are_reloaded() {
    let lists = ["one@example.org\n", "two@example.org\n"];
    let mut daemon = Setup::new().list("list", lists[0]).start();
    let stop = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    let path = daemon.unix();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stream = connect_unix(&path).expect("the daemon accepts");
                let request = b"20:rcpt one@example.org,20:rcpt two@example.org,";
                let replies: [&[u8]; 2] =
                    [b"18:OK one@example.org,9:NOTFOUND ,", b"9:NOTFOUND ,18:OK two@example.org,"];
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(request).expect("the connection stays");
                    let mut reply = vec![0; replies[0].len()];
                    stream.read_exact(&mut reply).expect("the connection stays");
                    assert!(replies.contains(&&reply[..]), "{:?}", String::from_utf8_lossy(&reply));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=100 {
            daemon.write("list", lists[round % 2]);
            daemon.hup();
            let listed = if round % 2 == 0 { "one@example.org" } else { "two@example.org" };
            assert_eq!(daemon.query(listed), format!("OK {listed}"), "round {round}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 100, "the load was there");
    assert_eq!(count(&daemon.stats(), "/reloads"), 101);
}

// --- limits --------------------------------------------------------------------------------------------------------

fn limited(limits: &str) -> Setup {
    Setup::new()
        .file("list", "anna@example.org\n")
        .config(&format!("[[source]]\nname = \"a\"\npath = \"list\"\n[limits]\n{limits}\n"))
}

#[test]
fn an_unfinished_request_has_one_deadline_however_it_drips() {
    let daemon = limited("request = \"1s\"").start();
    let mut stream = daemon.connect();
    let mut writer = stream.try_clone().expect("a second handle");
    let closed = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // A byte each time that the peer would otherwise fall silent: the deadline is the whole request's.
            for byte in b"90:rcpt ".iter().cycle() {
                if closed.load(Ordering::Relaxed) || writer.write_all(&[*byte]).is_err() {
                    break;
                }
                thread::park_timeout(std::time::Duration::from_millis(50));
            }
        });
        assert!(is_closed(&mut stream));
        closed.store(true, Ordering::Relaxed);
    });
    assert_eq!(count(&daemon.stats(), "/sessions/ended/request-timeout"), 1);
}

#[test]
fn an_idle_session_is_closed_and_a_busy_one_is_not() {
    let daemon = limited("idle = \"1s\"").start();
    let mut idle = daemon.connect();
    let mut busy = daemon.connect();
    assert_eq!(ask(&mut idle, "rcpt", b"anna@example.org"), "OK anna@example.org");
    let closed = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(is_closed(&mut idle));
            closed.store(true, Ordering::Relaxed);
        });
        while !closed.load(Ordering::Relaxed) {
            assert_eq!(ask(&mut busy, "rcpt", b"anna@example.org"), "OK anna@example.org");
        }
    });
    assert_eq!(count(&daemon.stats(), "/sessions/ended/idle"), 1);
}

#[test]
fn at_the_limit_the_longest_idle_session_makes_room() {
    let daemon = limited("sessions = 4").start();
    let mut sessions: Vec<UnixStream> = (0..4).map(|_| daemon.connect()).collect();
    for session in &mut sessions {
        assert_eq!(ask(session, "rcpt", b"anna@example.org"), "OK anna@example.org");
    }
    // The first is used again, so the second is the longest idle.
    assert_eq!(ask(&mut sessions[0], "rcpt", b"anna@example.org"), "OK anna@example.org");
    let mut fifth = daemon.connect();
    assert_eq!(ask(&mut fifth, "rcpt", b"anna@example.org"), "OK anna@example.org");
    assert!(is_closed(&mut sessions[1]));
    for at in [0, 2, 3] {
        assert_eq!(ask(&mut sessions[at], "rcpt", b"anna@example.org"), "OK anna@example.org", "session {at}");
    }
    let log = daemon.wait_for_log("at the limit of 4 sessions");
    assert_eq!(log.matches("at the limit of 4 sessions").count(), 1, "{log}");
}

#[test]
fn a_session_with_half_a_request_is_not_the_one_to_go() {
    let daemon = limited("sessions = 2").start();
    let mut half = daemon.connect();
    half.write_all(b"21:rcpt anna@exa").expect("written");
    let mut idle = daemon.connect();
    assert_eq!(ask(&mut idle, "rcpt", b"anna@example.org"), "OK anna@example.org");
    let mut third = daemon.connect();
    assert_eq!(ask(&mut third, "rcpt", b"anna@example.org"), "OK anna@example.org");
    assert!(is_closed(&mut idle));
    half.write_all(b"mple.org,").expect("written");
    half.shutdown(Shutdown::Write).expect("open");
    assert_eq!(read_to_end(&mut half), b"19:OK anna@example.org,");
}

#[test]
fn a_peer_can_not_take_all_sessions() {
    let daemon = limited("sessions_per_peer = 2").start();
    let mut streams: Vec<_> = (0..3).map(|_| daemon.connect_tcp()).collect();
    assert!(is_closed(&mut streams[2]));
    for stream in &mut streams[..2] {
        assert_eq!(ask(stream, "rcpt", b"anna@example.org"), "OK anna@example.org");
    }
    // UNIX sockets never count.
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    // One that leaves makes room for one.
    drop(streams);
    loop {
        let mut stream = daemon.connect_tcp();
        let _ = stream.write_all(b"anna@example.org\n");
        let _ = stream.shutdown(Shutdown::Write);
        match read_to_end(&mut stream).as_slice() {
            b"OK anna@example.org\n" => break,
            // The daemon has not noticed yet that the others left.
            b"" => continue,
            other => panic!("{:?}", String::from_utf8_lossy(other)),
        }
    }
}

#[test]
fn who_is_in_no_allow_list_is_closed_without_a_word() {
    let daemon = Setup::new()
        .file("list", "anna@example.org\n")
        .config(
            "[[source]]\nname = \"a\"\npath = \"list\"\n[[listen]]\non = \"unix:DIR/a.sock\"\n\
             [[listen]]\non = \"127.0.0.1:0\"\nallow = [\"192.0.2.0/24\"]\n",
        )
        .start();
    let mut stream = daemon.connect_tcp();
    let _ = stream.write_all(b"anna@example.org\n");
    assert!(is_closed(&mut stream));
    assert_eq!(count(&daemon.stats(), "/sessions/not_allowed"), 1);
}

#[test]
fn a_peer_that_does_not_read_is_closed_and_stalls_nobody() {
    let daemon = limited("request = \"1s\"").start();
    let mut deaf = daemon.connect();
    deaf.set_nonblocking(true).expect("a socket");
    let requests = b"21:rcpt anna@example.org,".repeat(1000);
    // Until neither our buffer nor the daemon's takes any more.
    let mut full = 0;
    while full < 100 {
        match deaf.write(&requests) {
            Ok(_) => full = 0,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                full += 1;
                assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
            }
            Err(e) => panic!("{e}"),
        }
    }
    // Its deadline passes while others are served.
    while count(&daemon.stats(), "/sessions/ended/output-timeout") == 0 {
        assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    }
}

#[test]
fn twenty_thousand_connections_with_256_descriptors() {
    let mut setup = Setup::new().list("list", "anna@example.org\n");
    setup = setup.descriptors(256);
    let daemon = setup.start();
    daemon.wait_for_log("room for 224 sessions only");
    let path = daemon.unix();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut kept = Vec::new();
                for _ in 0..5000 {
                    // The backlog may be full: then try again, as an MTA does.
                    match UnixStream::connect(&path) {
                        Ok(stream) => kept.push(stream),
                        Err(e) => assert!(
                            matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted),
                            "{e}"
                        ),
                    }
                    if kept.len() > 100 {
                        kept.clear();
                    }
                }
            });
        }
        for _ in 0..200 {
            // Whoever asks at once is answered, however many only connect; who is shed as idle asks again.
            while daemon.exchange("anna@example.org\n") != b"OK anna@example.org\n" {}
        }
    });
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert!(count(&daemon.stats(), "/sessions/open") <= 224);
    assert!(daemon.log().lines().count() < 40, "edges are logged once:\n{}", daemon.log());
}

// --- signals and the end -------------------------------------------------------------------------------------------

#[test]
fn the_end_comes_after_the_answers() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Setup::new().list("list", "anna@example.org\n").start();
        let mut streams: Vec<UnixStream> = (0..200).map(|_| daemon.connect()).collect();
        for stream in &mut streams {
            stream.write_all(b"21:rcpt anna@example.org,").expect("written");
        }
        let (socket, control) = (daemon.unix(), daemon.control().to_path_buf());
        daemon.signal(signal);
        for (n, stream) in streams.iter_mut().enumerate() {
            assert_eq!(read_to_end(stream), b"19:OK anna@example.org,", "stream {n}");
        }
        let ended = daemon.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(!socket.exists() && !control.exists(), "the sockets are gone");
    }
}

#[test]
fn usr1_tells_the_status() {
    let daemon = Setup::new().list("list", "anna@example.org\n").start();
    daemon.query("anna@example.org");
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_for_log("serving 1 recipient in 1 domain");
}

#[test]
fn many_hups_are_few_loads() {
    let mut daemon = Setup::new().list("list", "anna@example.org\n").start();
    for _ in 0..1000 {
        daemon.signal(Signal::SIGHUP);
    }
    daemon.write("list", "bert@example.org\n");
    daemon.hup();
    while daemon.query("bert@example.org") != "OK bert@example.org" {}
    assert!(count(&daemon.stats(), "/reloads") <= 1002);
    assert_eq!(daemon.stop().code, Some(0));
}

// --- pages ---------------------------------------------------------------------------------------------------------

#[test]
fn commands_are_taken_on_the_control_socket_only() {
    let daemon = Setup::new().list("list", "anna@example.org\n").start();
    let (status, _) = common::http_over(daemon.connect(), "POST", "/reload");
    assert_eq!(status, 404);
    let (status, body) = daemon.http("POST", "/reload");
    assert_eq!(status, 200, "{body}");
    assert_eq!(count(&daemon.stats(), "/reloads"), 2);
}

#[test]
fn metrics_are_openmetrics() {
    let daemon = Setup::new().list("list", "anna@example.org\n").start();
    daemon.query("anna@example.org");
    daemon.query("nobody@example.org");
    let (status, page) = common::http_over(daemon.connect(), "GET", "/metrics");
    assert_eq!(status, 200);
    for line in [
        "rcptmapd_requests_total{protocol=\"socketmap\",verdict=\"exists\"} 1",
        "rcptmapd_requests_total{protocol=\"socketmap\",verdict=\"absent\"} 1",
        "rcptmapd_recipients 1",
        "rcptmapd_source_ok{source=\"list\"} 1",
        "# EOF",
    ] {
        assert!(page.lines().any(|there| there == line), "{line} is not in\n{page}");
    }
}

#[test]
fn a_refusal_of_postmaster_is_not_carried_out_and_said() {
    let daemon = Setup::new().list("access", "To:anna@example.org RELAY\nTo:postmaster@example.org REJECT\n").start();
    assert_eq!(daemon.query("postmaster@example.org"), "OK postmaster@example.org");
    daemon.wait_for_log("access:2: postmaster is refused here, and exists all the same");
}

#[test]
fn a_start_that_fails_leaves_no_socket_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let listeners = format!("[[listen]]\non = \"unix:DIR/first.sock\"\n[[listen]]\non = \"127.0.0.1:{port}\"\n");
    let setup = || Setup::new().file("list", "anna@example.org\n");
    let source = "[[source]]\npath = \"list\"\n";
    for (config, why) in [
        (format!("{source}{listeners}"), "the port is taken"),
        (format!("pid_file = \"DIR/list/pid\"\n{source}[[listen]]\non = \"unix:DIR/first.sock\"\n"), "list/pid"),
    ] {
        // The folder outlives the daemon that was refused it.
        let folder = tempfile::tempdir().expect("a folder");
        let config = config.replace("DIR/first.sock", &folder.path().join("first.sock").display().to_string());
        let config = format!("control = \"{}\"\n{config}", folder.path().join("control.sock").display());
        let failed = setup().config(&config).try_start().err().expect("it can't start");
        assert!(failed.err.contains(why), "{failed:?}");
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
