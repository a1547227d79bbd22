//! `rcptmapd import`: what is printed, and that it can be run on.

use std::fs;
use std::path::Path;

use crate::common::{Ran, Setup, run};
use crate::golden;

fn folder() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/import").display().to_string()
}

/// Imports a file of the folder beside this one; a golden text shows what is printed and said.
fn import(name: &str, args: &[&str], file: &str) -> Ran {
    let file = format!("{}/{file}", folder());
    let ran = run(&[&["import"][..], args, &[&file]].concat());
    let text = format!("{}--- standard error, exit status {:?}\n{}", ran.out, ran.code, ran.err);
    golden(&format!("import/{name}.txt"), &text.replace(&folder(), "DIR"));
    ran
}

/// `rcptmapd check -c` takes it.
fn is_taken(ran: &Ran) {
    let setup =
        Setup::new().file("relay-domains", "example.org\n").file("mailertable", "example.org smtp:[192.0.2.1]\n");
    let path = setup.path("rcptmapd.toml");
    let dir = setup.path("").display().to_string();
    fs::write(&path, ran.out.replace("/etc/mail/", &dir)).expect("the folder is ours");
    let check = run(&["check", "-c", &path.display().to_string()]);
    assert_eq!(check.code, Some(0), "{}{}\n{}", check.out, check.err, ran.out);
}

#[test]
fn scam_conf_and_each_way_to_compile_it() {
    for (name, args) in [
        ("scam", &["scam-conf"][..]),
        ("scam-ehlo-bitbucket", &["scam-conf", "--ehlo", "--bitbucket"]),
        ("scam-usemailertable", &["scam-conf", "--usemailertable", "-p", "inet:8900@localhost"]),
        ("scam-alldomains", &["scam-conf", "--alldomains", "-u", "scamback", "-P", "/run/scam-back.pid"]),
    ] {
        let ran = import(name, args, "scam.conf");
        assert_eq!(ran.code, Some(65), "the BackList is left out, and standard error says so: {}", ran.err);
        is_taken(&ran);
    }
}

#[test]
fn mailertable() {
    let ran = import("mailertable", &["mailertable"], "mailertable");
    assert_eq!(ran.code, Some(65), "{}", ran.err);
    assert!(ran.err.contains("line 6: transport of an unknown kind"), "{}", ran.err);
}

#[test]
fn nothing_to_carry_over_prints_nothing() {
    let setup = Setup::new().file("scam.conf", "BackErrorTempfail:Yes\n").file("mailertable", "# nothing\n");
    for (from, said) in [("scam-conf", "--usemailertable"), ("mailertable", "no line names a domain")] {
        let file = setup.path(if from == "scam-conf" { "scam.conf" } else { from }).display().to_string();
        let ran = run(&["import", from, &file]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(65), ""));
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    let ran = run(&["import", "scam-conf", "/nonexistent/scam.conf"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(65), ""));
}
