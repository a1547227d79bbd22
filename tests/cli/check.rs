//! `rcptmapd check`.

use serde_json::Value;

use crate::common::{Ran, Setup, run};
use crate::golden;

/// Lists with something of everything.
pub fn lists() -> Setup {
    Setup::new()
        .file(
            "staff",
            "anna@example.org\nbob@example.org state=full\nanna@example.org\nbob@example.org\nfoo bar\n\
             x!y@example.org\noffice@\nzoe@foreign.example\nold@example.org until=2020-01-01\n",
        )
        .file(
            "access",
            "To:carl@example.net RELAY\nleaver@example.net ERROR:5.7.1:\"550 5.7.1 Left the company\"\n\
               Connect:192.0.2.7 REJECT\n",
        )
        .file("domains", "example.org\nexample.net\n# none of them: foreign.example\n")
        .file("virtuser", "a@b.example one\nc@d.example two\n")
}

const CONFIG: &str = r#"
user = ""
[[source]]
name = "people"
path = "staff"
[[source]]
path = "access"
[[domain]]
file = "domains"
[[map]]
name = "virtuser"
kind = "table"
path = "virtuser"
"#;

fn check(setup: &Setup, args: &[&str]) -> Ran {
    let config = setup.path("rcptmapd.toml");
    let mut ran = run(&[&["check", "-c", &config.display().to_string()], args].concat());
    // What differs from run to run.
    ran.out = ran.out.replace(&config.parent().expect("a folder").display().to_string(), "DIR");
    ran
}

#[test]
fn what_is_in_the_lists_is_told() {
    let setup = lists().file("rcptmapd.toml", CONFIG);
    let ran = check(&setup, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(65), ""));
    golden("check.txt", &ran.out);
    let json = check(&setup, &["--json"]);
    assert_eq!(json.code, Some(65));
    let value: Value = serde_json::from_str(&json.out).expect("JSON");
    let people = &value["sources"][0];
    assert_eq!(value["good"], false);
    assert_eq!(
        (&people["name"], &people["format"], &people["state"]),
        (&"people".into(), &"plain".into(), &"ok".into())
    );
    assert_eq!(people["bad_lines"], 2);
    assert_eq!(people["first_bad_lines"][0]["line"], 5);
    assert_eq!(people["conflicts"][0]["line"], 4);
    assert_eq!(people["domains"]["example.org"], 1);
    assert_eq!(people["foreign_domains"]["foreign.example"], 1);
    assert_eq!(value["files"][1]["entries"], 2);
}

#[test]
fn good_lists_are_fine() {
    let setup = Setup::new().file("list", "anna@example.org\nanna@example.org\n");
    let ran = run(&["check", &setup.path("list").display().to_string()]);
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    assert!(ran.out.contains("fine: 1 recipient in 1 domain, read in "), "{}", ran.out);
    let json = run(&["check", "--json", &setup.path("list").display().to_string()]);
    let value: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((json.code, &value["good"]), (Some(0), &true.into()));
}

#[test]
fn a_list_that_would_not_be_taken_is_65() {
    let setup = Setup::new()
        .file("empty", "")
        .file("prose", "these are no addresses\nnor is this\n")
        .file("good", "a@b.example\n");
    std::fs::create_dir(setup.path("folder")).expect("a writable folder");
    for (name, said) in [
        ("empty", "the file is empty"),
        ("prose", "no entry in 2 lines, 2 of which can't be understood; the first is line 1: "),
        ("missing", "no such file"),
        ("folder", "no file is there"),
    ] {
        let paths = [setup.path(name).display().to_string(), setup.path("good").display().to_string()];
        let ran = run(&["check", &paths[0], &paths[1]]);
        assert_eq!(ran.code, Some(65), "{name}: {}", ran.out);
        let wanted = format!("NOT TAKEN   {}: {said}", paths[0]);
        assert!(
            ran.out.contains(&wanted) && ran.out.contains("1 list not taken: 1 recipient in 1 domain"),
            "{}",
            ran.out
        );
    }
}

#[test]
fn a_wrong_configuration_is_78_with_every_mistake() {
    let setup =
        Setup::new().file("rcptmapd.toml", "nonsense = 1\n[limits]\nsesions = 7\n[[source]]\npath = \"list\"\n");
    let ran = check(&setup, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(78), ""));
    assert!(
        ran.err.contains("rcptmapd.toml:1: nonsense: no such key") && ran.err.contains("rcptmapd.toml:3: "),
        "{}",
        ran.err
    );
    let json = check(&setup, &["--json"]);
    let value: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((json.code, &value["good"], &value["configuration"][1]["line"]), (Some(78), &false.into(), &3.into()));
    let missing = run(&["check", "-c", "/nonexistent.toml"]);
    assert_eq!(missing.code, Some(78));
    assert!(missing.err.contains("/nonexistent.toml: can't read the configuration: no such file"), "{}", missing.err);
}

#[test]
fn nothing_named_is_told_what_to_name() {
    if std::path::Path::new("/etc/rcptmapd/rcptmapd.toml").exists() {
        eprintln!("skipped: this machine has a configuration");
        return;
    }
    for args in [&["check"][..], &["serve"][..], &["explain", "a@b.example"][..]] {
        let ran = run(args);
        assert_eq!(ran.code, Some(78), "{args:?}");
        assert!(ran.err.contains("name the lists") && ran.err.contains("/etc/rcptmapd/rcptmapd.toml"), "{}", ran.err);
    }
}
