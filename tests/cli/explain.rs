//! `rcptmapd explain`.

use serde_json::Value;

use crate::common::{Ran, Setup, run};
use crate::golden;

const CONFIG: &str = r#"
user = ""
[[source]]
path = "staff"
[[source]]
path = "access"
priority = 1
[[domain]]
names = ["example.org", "open.example"]
[[domain]]
names = ["example.net"]
mode = "warn"
[[domain]]
names = ["campus.example"]
subdomains = true
case_sensitive = true
unwrap = ["batv", "srs"]
always = ["abuse"]
[[domain]]
names = ["alias.example"]
same_as = "example.org"
[[map]]
name = "relay"
kind = "recipients"
value = "RELAY"
"#;

const STAFF: &str = "\
# who works here
anna@example.org
info+*@example.org
help++@example.org
office@
list-*@example.org
@open.example
full@example.org state=full
Prof@campus.example
@.lab.campus.example
both@example.org
";

const ACCESS: &str = "\
To:leaver@example.org ERROR:5.7.1:\"550 5.7.1 Left the company\"
To:both@example.org REJECT
";

fn setup() -> Setup {
    Setup::new().file("rcptmapd.toml", CONFIG).file("staff", STAFF).file("access", ACCESS)
}

fn explain(setup: &Setup, args: &[&str]) -> Ran {
    let config = setup.path("rcptmapd.toml");
    let mut ran = run(&[&["explain", "-c", &config.display().to_string()], args].concat());
    ran.out = ran.out.replace(&config.parent().expect("a folder").display().to_string(), "DIR");
    ran
}

/// Name of the golden file, address, exit code.
const CASES: [(&str, &str, i32); 23] = [
    ("exact", "Anna@Example.ORG", 0),
    ("refused", "leaver@example.org", 1),
    ("priority", "both@example.org", 1),
    ("full", "full@example.org", 75),
    ("detail", "anna+news@example.org", 0),
    ("detail-wildcard", "help+me@example.org", 0),
    ("detail-required", "help@example.org", 1),
    ("any-domain", "office@open.example", 0),
    ("prefix", "list-7@example.org", 0),
    ("catch-all", "whoever@open.example", 0),
    ("subdomains", "x@deep.lab.campus.example", 0),
    ("case", "Prof@campus.example", 0),
    ("case-differs", "prof@campus.example", 1),
    ("below", "Prof@physics.campus.example", 0),
    ("alias", "anna@alias.example", 0),
    ("batv", "prvs=0417ab1234=anna@example.org", 0),
    ("srs", "SRS0=hhh=tt=sender.example=joe@campus.example", 0),
    ("always", "abuse@campus.example", 0),
    ("postmaster", "postmaster", 0),
    ("warn", "nobody@example.net", 0),
    ("absent", "nobody@example.org", 1),
    ("foreign", "anna@foreign.example", 1),
    ("percent-hack", "a%b.example@example.org", 1),
];

#[test]
fn every_step_is_shown_with_what_it_found() {
    let setup = setup();
    for (name, address, code) in CASES {
        let ran = explain(&setup, &[address]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{address}: {}", ran.out);
        golden(&format!("explain/{name}.txt"), &ran.out);
    }
}

#[test]
fn the_daemon_says_what_explain_says() {
    let setup = setup().config(CONFIG);
    let config = setup.path("rcptmapd.toml");
    let daemon = setup.start();
    for (_, address, code) in CASES {
        let ran = run(&["explain", "--json", "-c", &config.display().to_string(), address]);
        let value: Value = serde_json::from_str(&ran.out).expect("JSON");
        let verdict = match code {
            0 => "exists",
            75 => "unknown",
            _ if address.ends_with("foreign.example") => "foreign",
            _ => "absent",
        };
        assert_eq!((ran.code, &value["verdict"]), (Some(code), &verdict.into()), "{address}");
        for exchange in value["replies"].as_array().expect("replies") {
            let (request, reply) =
                (exchange["request"].as_str().expect("text"), exchange["reply"].as_str().expect("text"));
            let (request, reply) = (request.replace("\\n", "\n"), reply.replace("\\n", "\n"));
            assert_eq!(String::from_utf8_lossy(&daemon.exchange(&request)), reply, "{request}");
        }
    }
}

#[test]
fn json_names_the_entry_that_decided() {
    let setup = setup();
    let ran = explain(&setup, &["--json", "anna+x@example.org"]);
    let value: Value = serde_json::from_str(&ran.out).expect("JSON");
    let entry = &value["entry"];
    assert_eq!((&entry["source"], &entry["path"], &entry["line"]), (&"staff".into(), &"DIR/staff".into(), &2.into()));
    assert_eq!((&entry["key"], &value["step"]), (&"anna@example.org".into(), &"detail".into()));
    assert_eq!(value["replies"][2]["request"], "23:rcpt anna+x@example.org,");
}

#[test]
fn what_could_not_be_read_makes_it_uncertain() {
    let setup = Setup::new().file("list", "anna@example.org\n");
    let (list, missing) = (setup.path("list").display().to_string(), setup.path("missing").display().to_string());
    let known = run(&["explain", "anna@example.org", &list, &missing]);
    assert_eq!(known.code, Some(0), "{}", known.out);
    let unknown = run(&["explain", "bob@example.org", &list, &missing]);
    assert_eq!(unknown.code, Some(75), "{}", unknown.out);
    let said = ["not read: ", "/missing: no such file", "nothing is refused", "TEMP no data yet\\n"];
    assert!(said.iter().all(|said| unknown.out.contains(said)), "{}", unknown.out);
    let wrong = run(&["explain", "-c", &missing, "anna@example.org"]);
    assert_eq!(wrong.code, Some(78), "{}", wrong.err);
}
