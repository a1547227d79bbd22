//! Which domains are ours, and whose settings hold for them, through the running daemon.

mod common;

use common::{Daemon, Setup};

fn start(setup: Setup, domains: &str) -> Daemon {
    setup.config(&format!("[[source]]\npath = \"list\"\nformat = \"plain\"\n{domains}")).start()
}

#[test]
fn a_domain_that_is_named_counts_before_a_file_that_lists_it_too() {
    let setup = Setup::new().file("list", "anna@main.example\n").file("domains", "main.example\n");
    let domains = "[[domain]]\nfile = \"domains\"\n\
                   [[domain]]\nnames = [\"main.example\"]\nabsent = \"550 5.7.1 Its own words\"\n";
    let daemon = start(setup, domains);
    assert_eq!(daemon.ask("check", "nobody@main.example"), "OK 550 5.7.1 Its own words");
}
