//! `rcptmapd query`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;

use crate::common::{Daemon, Ran, Setup, finish, rcptmapd, run, run_with_input};

fn unix(daemon: &Daemon) -> String {
    format!("unix:{}", daemon.unix().display())
}

fn query(daemon: &Daemon, args: &[&str]) -> Ran {
    let to = unix(daemon);
    run(&[&["query", "--to", &to], args].concat())
}

#[test]
fn one_key_gets_its_reply_and_several_get_lines() {
    let daemon = Daemon::serving(&["anna@example.org\n", "full@example.net state=full\n"]);
    for (args, code, out) in [
        (&["Anna@Example.ORG"][..], 0, "OK anna@example.org\n"),
        (&["nobody@example.org"][..], 1, "NOTFOUND \n"),
        (&["full@example.net"][..], 75, "TEMP 4.2.2 Mailbox full\n"),
        (&["anna@foreign.example"][..], 1, "NOTFOUND \n"),
        (&["--map", "nomap", "anna@example.org"][..], 75, "TEMP unknown map nomap\n"),
        (&["--map", "check", "anna@example.org"][..], 0, "OK DUNNO\n"),
        (&["--map", "check", "nobody@example.org"][..], 1, "OK 550 5.1.1 User unknown\n"),
        (&["--map", "access", "to:full@example.net"][..], 75, "OK ERROR:4.2.2:\"452 4.2.2 Mailbox full\"\n"),
        (&["--line", "anna@example.org"][..], 0, "OK anna@example.org\n"),
        (&["--line", "--map", "check", "nobody@example.org"][..], 1, "OK 550 5.1.1 User unknown\n"),
        (
            &["anna@example.org", "nobody@example.org"][..],
            1,
            "anna@example.org\tOK anna@example.org\nnobody@example.org\tNOTFOUND \n",
        ),
        (
            &["nobody@example.org", "full@example.net", "a\tb@example.org"][..],
            75,
            "nobody@example.org\tNOTFOUND \nfull@example.net\tTEMP 4.2.2 Mailbox full\n\
             a\\x09b@example.org\tNOTFOUND \n",
        ),
    ] {
        let ran = query(&daemon, args);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(code), out, ""), "{args:?}");
    }
    let over_tcp = run(&["query", "--to", &daemon.tcp().to_string(), "anna@example.org"]);
    assert_eq!((over_tcp.code, over_tcp.out.as_str()), (Some(0), "OK anna@example.org\n"));
}

#[test]
fn the_configuration_says_where_to_ask() {
    let daemon = Setup::new()
        .file("list", "anna@example.org\n")
        .config(
            "[[source]]\npath = \"list\"\n[[listen]]\non = \"unix:DIR/exim.sock\"\nprotocol = \"line\"\n\
                 [[listen]]\non = \"unix:DIR/any.sock\"\n",
        )
        .start();
    let config = daemon.path("rcptmapd.toml").display().to_string();
    for args in [&["-c", &config, "anna@example.org"][..], &["-c", &config, "--line", "anna@example.org"][..]] {
        let ran = run(&[&["query"], args].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "OK anna@example.org\n"), "{args:?}: {}", ran.err);
    }
    let wrong = run(&["query", "-c", "/nonexistent/rcptmapd.toml", "anna@example.org"]);
    assert_eq!(wrong.code, Some(78), "{}", wrong.err);
}

#[test]
fn a_hundred_thousand_keys_are_asked_in_one_go_and_answered_in_order() {
    let list: String = (0..100_000).step_by(2).map(|n| format!("user{n}@example.org\n")).collect();
    let daemon = Daemon::serving(&[&list]);
    let keys: String = (0..100_000).map(|n| format!("user{n}@example.org\n")).collect();
    let wanted: String = (0..100_000)
        .map(|n| match n % 2 {
            0 => format!("user{n}@example.org\tOK user{n}@example.org\n"),
            _ => format!("user{n}@example.org\tNOTFOUND \n"),
        })
        .collect();
    for to in [unix(&daemon), daemon.tcp().to_string()] {
        for how in [&["query", "--to", &to, "-"][..], &["query", "--to", &to, "--line", "-"][..]] {
            let ran = run_with_input(how, keys.as_bytes());
            assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{how:?}");
            assert!(ran.out == wanted, "{how:?}");
        }
    }
}

#[test]
fn keys_and_replies_of_any_size_never_end_in_a_deadlock() {
    let daemon = Daemon::serving(&["anna@example.org\n"]);
    // Together more than all buffers between the two hold.
    let long = "x".repeat(9_900);
    let keys: String = (0..1_000).map(|n| format!("{n}{long}@example.org\n")).collect();
    let ran = run_with_input(&["query", "--to", &unix(&daemon), "-"], keys.as_bytes());
    assert_eq!((ran.code, ran.out.lines().count(), ran.err.as_str()), (Some(1), 1_000, ""));
    // One that the daemon would close the connection for is not sent, and costs the others nothing.
    let mixed = format!("anna@example.org\n{}\r\nanna@example.org", "y".repeat(20_000));
    for how in [&["-"][..], &["--line", "-"][..]] {
        let to = unix(&daemon);
        let ran = run_with_input(&[&["query", "--to", &to], how].concat(), mixed.as_bytes());
        let replies: Vec<&str> = ran.out.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        assert_eq!(ran.code, Some(75));
        assert!(replies[0] == "OK anna@example.org" && replies[2] == replies[0], "{replies:?}");
        assert!(replies[1].starts_with("TEMP key too long"), "{replies:?}");
    }
    let empty = run_with_input(&["query", "--to", &unix(&daemon), "-"], b"\n\nanna@example.org\r\n");
    assert_eq!(empty.out, "\tNOTFOUND \n\tNOTFOUND \nanna@example.org\tOK anna@example.org\n");
    assert_eq!(run_with_input(&["query", "--to", &unix(&daemon), "-"], b"").code, Some(0));
}

#[test]
fn who_types_keys_gets_each_answer_at_once() {
    let daemon = Daemon::serving(&["anna@example.org\n"]);
    let mut command = rcptmapd();
    let mut child = command
        .args(["query", "--to", &unix(&daemon), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let (mut keys, answers) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut answers = BufReader::new(answers);
    for key in ["anna@example.org", "bob@example.org", "carl@example.org"] {
        writeln!(keys, "{key}").expect("it reads");
        let mut line = String::new();
        answers.read_line(&mut line).expect("an answer");
        assert!(line.starts_with(&format!("{key}\t")), "{line}");
    }
    drop(keys);
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn who_has_heard_enough_may_go() {
    let daemon = Daemon::serving(&["anna@example.org\n"]);
    let keys = "anna@example.org\n".repeat(100_000);
    let mut command = std::process::Command::new("sh");
    let script = "\"$0\" query --to \"$1\" - | head -n 1";
    command.args(["-c", script, env!("CARGO_BIN_EXE_rcptmapd"), &unix(&daemon)]);
    let ran = finish(command, keys.as_bytes());
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (Some(0), "anna@example.org\tOK anna@example.org\n", "")
    );
}

/// Accepts one connection and does this with it; tells where.
fn server(behave: impl FnOnce(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        behave(stream);
    });
    at
}

#[test]
fn what_is_no_daemon_is_told_apart() {
    let read = |stream: &mut std::net::TcpStream| {
        let _ = stream.read(&mut [0; 1024]);
    };
    let silent = server(move |mut stream| {
        read(&mut stream);
        // Until the client has gone.
        read(&mut stream);
    });
    let closing = server(move |mut stream| read(&mut stream));
    let smtp = server(move |mut stream| {
        let _ = stream.write_all(b"220 mx.example ESMTP\r\n");
        read(&mut stream);
    });
    let halfway = server(move |mut stream| {
        read(&mut stream);
        let _ = stream.write_all(b"19:OK anna@example.org,9:NOTF");
    });
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").to_string();
    for (to, code, said) in [
        (silent.as_str(), 75, "no answer in time (--timeout)"),
        (&closing, 69, "closed the connection"),
        (&smtp, 76, "no netstring"),
        (&halfway, 69, "closed the connection; on TCP, `allow` says who may ask, after 1 answer"),
        (&free, 69, "nobody listens there; is rcptmapd running?"),
        ("unix:/nonexistent/rcptmapd.sock", 69, "there is no such socket; is rcptmapd running?"),
        ("fd:rcptmapd", 69, "only systemd knows"),
    ] {
        let timeout = if code == 75 { "200ms" } else { "60s" };
        let ran = run(&["query", "--timeout", timeout, "--to", to, "anna@example.org", "bob@example.org"]);
        assert_eq!(ran.code, Some(code), "{to}: {}", ran.err);
        assert!(ran.err.starts_with("rcptmapd: ") && ran.err.contains(said), "{to}: {}", ran.err);
    }
}
