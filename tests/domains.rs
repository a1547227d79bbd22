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

#[test]
fn the_case_counts_in_the_domains_of_a_file_too() {
    let setup = Setup::new().file("list", "Anna@case.example\n").file("domains", "case.example\n");
    let mut daemon = start(setup, "[[domain]]\nfile = \"domains\"\ncase_sensitive = true\n");
    assert_eq!(daemon.query("Anna@case.example"), "OK Anna@case.example");
    assert_eq!(daemon.query("anna@case.example"), "NOTFOUND ");
    // A domain that comes later keeps the case of a list that was read before.
    daemon.write("domains", "case.example\nlate.example\n");
    daemon.write("list", "Anna@case.example\nBea@late.example\n");
    daemon.hup();
    assert_eq!(daemon.query("Bea@late.example"), "OK Bea@late.example");
    assert_eq!(daemon.query("bea@late.example"), "NOTFOUND ");
}
