//! `rcptmapd serve`: how it starts, or does not.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{self, Daemon, PATIENCE, Setup, run};

#[test]
fn lists_without_a_configuration_are_served() {
    let mut daemon = Daemon::serving(&["anna@example.org\n", "bob@example.net OK\n"]);
    assert_eq!(daemon.query("Anna@Example.ORG"), "OK anna@example.org");
    assert_eq!(daemon.query("nobody@example.net"), "NOTFOUND ");
    assert_eq!(daemon.exchange("bob@example.net\n"), b"OK bob@example.net\n");
    assert_eq!(common::ask(&mut daemon.connect_tcp(), "rcpt", b"bob@example.net"), "OK bob@example.net");
    daemon.write("list0", "carl@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("anna@example.org"), "NOTFOUND ");
    assert_eq!(daemon.query("carl@example.org"), "OK carl@example.org");
    let (unix, control) = (daemon.unix(), daemon.control().to_path_buf());
    assert_eq!(daemon.stop().code, Some(0));
    assert!(!unix.exists() && !control.exists(), "it takes its sockets away");
}

#[test]
fn lists_on_the_command_line_join_those_of_the_configuration() {
    let daemon = Setup::new()
        .file("one", "anna@example.org\n")
        .list("two", "bob@example.org\n")
        .config("[[source]]\npath = \"one\"\n")
        .start();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("bob@example.org"), "OK bob@example.org");
    assert_eq!(daemon.status()["sources"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_list_that_comes_later_is_found() {
    let mut daemon = Setup::new().list_named("later").start();
    assert_eq!(daemon.query("anna@example.org"), "TEMP no data yet");
    daemon.write("later", "anna@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
}

#[test]
fn a_start_that_fails_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let busy = taken.local_addr().expect("its address").to_string();
    let live = Setup::new();
    let _live = UnixListener::bind(live.path("live.sock")).expect("a socket");
    let live_socket = live.path("live.sock").display().to_string();
    let list = |setup: Setup| setup.list("list", "a@b.example\n");
    for (setup, code, said) in [
        (Setup::new().config("nonsense = 1\n"), 78, "rcptmapd.toml:4: nonsense: no such key"),
        (Setup::new().config(""), 78, "source"),
        (list(Setup::new()).arg("--listen").arg(&busy), 71, "the port is taken"),
        (list(Setup::new()).arg("--listen").arg(&live_socket), 71, "somebody listens there already"),
        (list(Setup::new()).arg("--listen").arg("/nonexistent/r.sock"), 71, "there is no folder /nonexistent"),
        (list(Setup::new()).arg("-u").arg("no-such-user"), 67, "unknown user no-such-user: create it with `useradd"),
        (list(Setup::new()).arg("-P").arg("/nonexistent/pid"), 71, "/nonexistent/pid: no such file"),
    ] {
        if code == 67 && !nix::unistd::geteuid().is_root() {
            continue; // who isn't root stays who they are
        }
        let failed = setup.try_start().err().unwrap_or_else(|| panic!("it started in spite of {said}"));
        assert_eq!(failed.code, Some(code), "{}", failed.err);
        assert!(failed.err.contains("rcptmapd: ") && failed.err.contains(said), "{said}: {}", failed.err);
    }
}

#[test]
fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let setup = Setup::new().list("list", "anna@example.org\n");
    drop(UnixListener::bind(setup.path("rcptmapd.sock")).expect("a socket"));
    assert_eq!(setup.start().query("anna@example.org"), "OK anna@example.org");
    let setup = Setup::new().list("list", "anna@example.org\n").file("rcptmapd.sock", "precious\n");
    let failed = setup.try_start().err().expect("a file is there");
    assert!(failed.code == Some(71) && failed.err.contains("there is a file of this name"), "{failed:?}");
}

#[test]
fn detached_it_leaves_a_pid_file_and_goes_on() {
    let setup = Setup::new().file("list", "anna@example.org\n");
    let path = |name: &str| setup.path(name).display().to_string();
    let (pid_file, socket) = (path("pid"), path("r.sock"));
    let started =
        run(&["serve", "-D", "-P", &pid_file, "--listen", &socket, "--control", &path("c.sock"), &path("list")]);
    assert_eq!((started.code, started.out.as_str()), (Some(0), ""), "{}", started.err);
    // The sockets are bound before the parent ends, and a connection waits in the queue until the loop runs.
    let asked =
        || common::ask(&mut common::connect_unix(Path::new(&socket)).expect("it listens"), "rcpt", b"anna@example.org");
    let began = Instant::now();
    while asked() != "OK anna@example.org" {
        assert!(began.elapsed() < PATIENCE, "the list is never loaded");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid: i32 = std::fs::read_to_string(&pid_file).expect("a pid file").trim().parse().expect("a number");
    let second = run(&["serve", "-P", &pid_file, "--listen", "127.0.0.1:0", &path("list")]);
    assert_eq!(second.code, Some(71), "{}", second.err);
    assert!(second.err.contains(&format!("runs already as process {pid}")), "{}", second.err);
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    while Path::new(&pid_file).exists() {
        assert!(began.elapsed() < PATIENCE, "it does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!Path::new(&socket).exists());
}

#[test]
fn root_is_warned_and_a_user_is_become() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let daemon = Daemon::serving(&["anna@example.org\n"]);
    assert_eq!(daemon.wait_for_log("loaded ").matches("running as root").count(), 1);
    let setup = Setup::new().list("list", "anna@example.org\n").arg("-u").arg("nobody");
    let daemon = setup.start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let uid = status.lines().find(|line| line.starts_with("Uid:")).expect("a uid");
    assert!(uid.split_whitespace().skip(1).all(|uid| uid == "65534"), "{uid}");
    assert!(!daemon.log().contains("running as root"), "{}", daemon.log());
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
}

#[test]
fn a_listener_gets_its_new_mode_and_stays_open() {
    let config = |mode: &str, more: &str| {
        format!("[[source]]\npath = \"list\"\n[[listen]]\non = \"unix:DIR/r.sock\"\nmode = \"{mode}\"\n{more}")
    };
    let mut daemon = Setup::new().file("list", "anna@example.org\n").config(&config("0600", "")).start();
    let mode = |daemon: &Daemon| {
        let metadata = std::fs::metadata(daemon.unix()).expect("it is there");
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
    };
    assert_eq!(mode(&daemon), 0o600);
    let mut held = daemon.connect();
    daemon.write_config(&config("0666", ""));
    daemon.hup();
    assert_eq!(mode(&daemon), 0o666);
    assert_eq!(common::ask(&mut held, "rcpt", b"anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");

    // One that can't be bound costs none that is open; one that is left out is closed.
    daemon.write_config(&config("0666", "[[listen]]\non = \"unix:DIR/s.sock\"\n"));
    daemon.hup();
    assert_eq!(daemon.listeners().len(), 2);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let busy = taken.local_addr().expect("its address");
    daemon.write_config(&config("0666", &format!("[[listen]]\non = \"{busy}\"\n")));
    daemon.hup();
    assert_eq!(daemon.listeners().len(), 2, "{}", daemon.log());
    daemon.wait_for_log("the port is taken");
    drop(taken);
    daemon.hup();
    assert_eq!(daemon.listeners().len(), 2);
    assert_eq!(daemon.tcp(), busy);
    assert!(!daemon.path("s.sock").exists());
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
}

#[test]
fn the_log_level_changes_on_hup_and_what_takes_a_restart_is_told() {
    let config = |level: &str, more: &str| format!("{more}[log]\nlevel = \"{level}\"\n[[source]]\npath = \"list\"\n");
    let mut daemon = Setup::new().file("list", "anna@example.org\n").config(&config("error", "")).start();
    daemon.write_config(&config("info", "pid_file = \"DIR/pid\"\n"));
    daemon.hup();
    daemon.wait_for_log("pid_file has changed in the configuration; that takes a restart");
    assert_eq!(daemon.stop().err.matches("listening on").count(), 0);
}
