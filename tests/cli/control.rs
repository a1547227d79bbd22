//! `rcptmapd status`, `stats` and `reload`.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use serde_json::Value;

use crate::common::{Daemon, Ran, Setup, finish, rcptmapd, run};

fn over_control(daemon: &Daemon, command: &str, args: &[&str]) -> Ran {
    let control = daemon.control().display().to_string();
    run(&[&[command, "--control", &control], args].concat())
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

#[test]
fn status_is_good_then_red_then_good_again() {
    let daemon = Daemon::serving(&["anna@example.org\n", "bob@example.net\n"]);
    let good = over_control(&daemon, "status", &[]);
    assert_eq!((good.code, good.err.as_str()), (Some(0), ""));
    assert!(good.out.starts_with("ok: serving 2 recipients in 2 domains\n"), "{}", good.out);
    assert!(good.out.contains(&format!("{}  ", daemon.listeners()[0])), "{}", good.out);
    assert!(!good.out.contains('\x1b'), "colour is for terminals");

    std::fs::remove_file(daemon.path("list1")).expect("it is there");
    let refused = over_control(&daemon, "reload", &[]);
    assert_eq!(refused.code, Some(65), "{}", refused.out);
    let red = over_control(&daemon, "status", &[]);
    assert_eq!(red.code, Some(1));
    assert!(red.out.starts_with("degraded: 1 list was not taken; serving 2 recipients"), "{}", red.out);
    let (list, control) = (daemon.path("list1"), daemon.control());
    let to_do = format!(
        "to do: mend {list}, see `rcptmapd check {list}`, then `rcptmapd reload --control {control}`",
        list = list.display(),
        control = control.display()
    );
    for said in ["list1: no such file", "its last good list of 1 recipient, ", &to_do] {
        assert!(red.out.contains(said), "{said}: {}", red.out);
    }
    assert_eq!(json(&over_control(&daemon, "status", &["--json"]))["sources"][1]["state"], "kept");
    assert_eq!(daemon.query("bob@example.net"), "OK bob@example.net");

    daemon.write("list1", "carl@example.net\n");
    let taken = over_control(&daemon, "reload", &["--json"]);
    assert_eq!((taken.code, &json(&taken)["state"]), (Some(0), &"ok".into()));
    assert_eq!(daemon.query("bob@example.net"), "NOTFOUND ");
    assert_eq!(over_control(&daemon, "status", &[]).code, Some(0));
}

#[test]
fn a_configuration_that_is_not_taken_is_78() {
    let daemon = Setup::new().file("list", "anna@example.org\n").config("[[source]]\npath = \"list\"\n").start();
    let config = daemon.path("rcptmapd.toml").display().to_string();
    assert_eq!(run(&["status", "-c", &config]).code, Some(0));
    daemon.write_config("nonsense = 1\n[[source]]\npath = \"list\"\n");
    let refused = over_control(&daemon, "reload", &[]);
    assert_eq!(refused.code, Some(78), "{}", refused.out);
    assert!(
        refused.out.starts_with("degraded: the configuration was not taken; serving 1 recipient"),
        "{}",
        refused.out
    );
    assert!(refused.out.contains("nonsense: no such key"), "{}", refused.out);
    assert_eq!(over_control(&daemon, "status", &[]).code, Some(1));
    daemon.write_config("[[source]]\npath = \"list\"\n");
    assert_eq!(run(&["reload", "-c", &config]).code, Some(0));
}

#[test]
fn stats_count() {
    let daemon = Daemon::serving(&["anna@example.org\n"]);
    daemon.query("anna@example.org");
    daemon.query("nobody@example.org");
    daemon.exchange("anna@example.org\n");
    let ran = over_control(&daemon, "stats", &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [&["socketmap", "1", "1", "2"][..], &["line", "1", "0", "1"][..], &["all", "2", "1", "3"][..]] {
        assert!(rows.iter().any(|found| found == row), "{row:?} in {}", ran.out);
    }
    let listener = daemon.tcp().to_string();
    let value = json(&run(&["stats", "--json", "--to", &listener]));
    assert_eq!(value["requests"]["socketmap"]["exists"], 1);
    let status = run(&["status", "--to", &listener]);
    assert!(status.code == Some(0) && status.out.starts_with("ok: "), "{status:?}");
}

#[test]
fn without_a_daemon_it_is_69_and_without_the_right_77() {
    let daemon = Daemon::serving(&["anna@example.org\n"]);
    let file = daemon.path("list0").display().to_string();
    for command in ["status", "stats", "reload"] {
        for (control, said) in
            [("/nonexistent/control.sock", "there is no such socket"), (&file, "nobody listens there")]
        {
            let ran = run(&[command, "--control", control]);
            assert_eq!(ran.code, Some(69), "{command}: {}", ran.err);
            assert!(ran.err.contains(said) && ran.err.contains("is rcptmapd running?"), "{command}: {}", ran.err);
        }
        // A user whom the socket's mode does not allow; root is allowed everything.
        let mode = std::fs::metadata(daemon.control()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut denied = rcptmapd();
        denied.args([command, "--control"]).arg(daemon.control());
        if nix::unistd::geteuid().is_root() {
            denied.uid(65_534);
        } else {
            std::fs::set_permissions(daemon.control(), PermissionsExt::from_mode(0o000)).expect("it is ours");
        }
        let ran = finish(denied, b"");
        assert_eq!(ran.code, Some(77), "{command}: {}", ran.err);
        assert!(ran.err.contains("you may not use this socket"), "{command}: {}", ran.err);
        std::fs::set_permissions(daemon.control(), PermissionsExt::from_mode(0o600)).expect("it is ours");
    }
}

#[test]
fn what_is_no_control_socket_is_told() {
    let daemon = Daemon::serving(&["anna@example.org\n"]);
    let data = daemon.unix().display().to_string();
    // The data socket has the pages, but takes no command.
    let ran = run(&["reload", "--control", &data]);
    assert_eq!(ran.code, Some(76), "{}", ran.err);
    assert!(ran.err.contains("is this its control socket?"), "{}", ran.err);
    assert_eq!(run(&["status", "--control", &data]).code, Some(0));
    let setup = Setup::new().file("list", "a@b.example\n").config(
        "control = \"\"\n[[source]]\npath = \"list\"\n[[listen]]\non = \"unix:DIR/rcptmapd.sock\"\nprotocol = \"socketmap\"\n",
    );
    let config = setup.path("rcptmapd.toml").display().to_string();
    let _daemon = setup.start();
    let ran = run(&["reload", "-c", &config]);
    assert_eq!(ran.code, Some(78), "{}", ran.err);
    assert!(ran.err.contains("no control socket") && ran.err.contains("kill -HUP"), "{}", ran.err);
    assert_eq!(run(&["status", "-c", &config]).code, Some(78));
}

#[test]
fn a_reload_answers_for_itself_and_not_for_the_load_before_it() {
    let long: String = (0..300_000).map(|n| format!("user{n}@example.org\n")).collect();
    let daemon = Daemon::serving(&[&long]);
    // This load takes a while, and takes the list; what is asked for meanwhile must see the empty one.
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_for_log("SIGHUP");
    daemon.write("list0", "");
    let ran = over_control(&daemon, "reload", &[]);
    assert_eq!(ran.code, Some(65), "{}", ran.out);
    assert!(ran.out.contains("list0: the file is empty"), "{}", ran.out);
}
