//! Which domains are ours, and whose settings hold for them, through the running daemon.

mod common;

use common::{Daemon, Setup};

fn start(setup: Setup, domains: &str) -> Daemon {
    setup.config(&format!("[[source]]\npath = \"list\"\nformat = \"plain\"\n{domains}")).start()
}

#[test]
fn a_table_may_name_a_domain_those_below_it_or_both() {
    let table = "example.org smtp:[192.0.2.1]\n.example.org smtp:[192.0.2.2]\n.only.example smtp:[192.0.2.3]\n";
    let config = "[nexthops]\nfile = \"mailertable\"\ndomains = true\n";
    let daemon = Setup::new().file("mailertable", table).config(config).start();
    for ours in ["example.org", "x.example.org", "y.x.example.org", "x.only.example"] {
        assert_eq!(daemon.ask("domains", ours), format!("OK {ours}"));
    }
    for foreign in ["only.example", "example", "xonly.example", ".only.example"] {
        assert_eq!(daemon.ask("domains", foreign), "NOTFOUND ", "{foreign}");
    }
    assert_eq!(daemon.ask("nexthop", "x.example.org"), "OK smtp:[192.0.2.2]:25");
    assert_eq!(daemon.ask("nexthop", "x.only.example"), "OK smtp:[192.0.2.3]:25");
    assert_eq!(daemon.query("anna@.only.example"), "NOTFOUND ");
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

#[test]
fn nobody_is_absent_from_an_alias_whose_main_domain_is_not_known() {
    let setup = Setup::new().file("list", "anna@main.example\nonly@alias.example\n");
    let domains = "[[domain]]\nfile = \"domains\"\n\
                   [[domain]]\nnames = [\"alias.example\"]\nsame_as = \"main.example\"\n";
    let mut daemon = start(setup, domains);
    assert!(daemon.query("anna@alias.example").starts_with("TEMP "));
    assert_eq!(daemon.query("only@alias.example"), "OK only@alias.example");
    daemon.write("domains", "main.example\n");
    daemon.hup();
    assert_eq!(daemon.query("anna@alias.example"), "OK anna@alias.example");
    assert_eq!(daemon.query("nobody@alias.example"), "NOTFOUND ");
    // The file does not name it: that is a mistake, and no reason to refuse anybody.
    daemon.write("domains", "other.example\n");
    daemon.hup();
    daemon.wait_for_log("alias.example: same_as = \"main.example\" is none of our domains");
    assert!(daemon.query("anna@alias.example").starts_with("TEMP "));
}

#[test]
fn an_alias_domain_has_every_name_of_its_main_domain() {
    let setup = Setup::new().file("list", "anna@main.example\n");
    let domains = "[[domain]]\nnames = [\"main.example\"]\nalways = [\"abuse\"]\nsubaddress = \"-\"\n\
                   unwrap = [\"srs\"]\n[[domain]]\nnames = [\"alias.example\"]\nsame_as = \"main.example\"\n\
                   [[domain]]\nnames = [\"trial.example\"]\nmode = \"warn\"\n\
                   [[domain]]\nnames = [\"trial-alias.example\"]\nsame_as = \"trial.example\"\n";
    let daemon = start(setup, domains);
    for exists in ["anna", "anna-x", "anna+x", "abuse", "SRS0=h=t=d.example=u", "prvs=0123abcd=anna"] {
        let answer = daemon.query(&format!("{exists}@alias.example"));
        assert!(answer.starts_with("OK "), "{exists}: {answer}");
    }
    assert_eq!(daemon.query("anna+x@main.example"), "NOTFOUND ");
    assert_eq!(daemon.query("nobody@alias.example"), "NOTFOUND ");
    assert_eq!(daemon.query("nobody@trial-alias.example"), "OK nobody@trial-alias.example");
    daemon.wait_for_log("would have been refused (mode = \"warn\")");
}
