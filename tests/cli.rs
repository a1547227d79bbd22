//! The command line, run as people run it.

mod common;

use common::{Daemon, Setup, run};

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
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_configuration_is_served() {
    let daemon = Setup::new().file("list", "anna@example.org\n").config("[[source]]\npath = \"list\"\n").start();
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.status()["state"], "ok");
}

#[test]
fn a_start_that_fails_says_why() {
    let failed = Setup::new().config("nonsense = 1\n").try_start().err().expect("a mistake");
    assert_eq!(failed.code, Some(78));
    assert!(failed.err.contains("rcptmapd.toml:3: nonsense: no such key"), "{}", failed.err);
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    assert_eq!(run(&["frobnicate"]).code, Some(64));
    assert_eq!(run(&["--version"]).code, Some(0));
}
