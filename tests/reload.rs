//! What is not to happen when lists are loaded: every trouble that lists have been seen with, against the running daemon.

mod common;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{Daemon, Setup, ask, connect_unix, run, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};

/// `u0@example.org` to `u{count - 1}@example.org`.
fn list(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let _ = writeln!(text, "u{number}@example.org");
    }
    text
}

fn source(more: &str) -> String {
    format!("[[source]]\nname = \"list\"\npath = \"list\"\n{more}\n")
}

fn saving(more: &str) -> String {
    format!("state_dir = \"DIR/state\"\n{}", source(more))
}

fn first(daemon: &Daemon) -> Value {
    daemon.status()["sources"][0].clone()
}

fn utf16(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// Writes a file as a script on another host does: in its place.
fn write_in_place(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("written");
}

/// Tells threads to stop, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// --- the trouble matrix --------------------------------------------------------------------------------------------

/// What becomes of a list of 30 addresses (and 9 at other.example) that is replaced by this.
enum Then {
    /// It is taken: this address exists, and the log says so.
    Taken(&'static str, &'static str),
    /// It is not: the old answers hold, and the log says why.
    Kept(&'static str),
}

#[test]
fn every_trouble_of_the_matrix() {
    use Then::{Kept, Taken};
    let old = list(30) + &(0..9).map(|n| format!("o{n}@other.example\n")).collect::<String>();
    let with = |more: &str| format!("{old}{more}").into_bytes();
    let half = old.as_bytes()[..old.len() / 2].to_vec();
    let rows = |count: usize| (0..count).map(|n| format!("\"r{n}@example.org\",\"UserMailbox\"\n")).collect::<String>();
    let csv = |count: usize| {
        let others: String = old.lines().skip(30).map(|line| format!("\"{line}\",\"UserMailbox\"\n")).collect();
        let known: String = old.lines().take(30).map(|line| format!("\"{line}\",\"UserMailbox\"\n")).collect();
        let header = "\"PrimarySmtpAddress\",\"RecipientTypeDetails\"\n";
        format!("{header}{known}{others}{}", rows(count - 39)).into_bytes()
    };
    let exported: String = old.lines().map(|line| format!("alias: SMTP:{line}\r\nalias: X400:c=DE;a= ;\r\n")).collect();
    let mut berkeley = vec![0; 12];
    berkeley.extend_from_slice(&[0x61, 0x15, 0x06, 0]);
    berkeley.resize(8192, 0);
    let cases: Vec<(&str, Vec<u8>, Then)> = vec![
        (
            "CRLF",
            with("new@example.org\n")
                .iter()
                .flat_map(|&b| if b == b'\n' { vec![b'\r', b'\n'] } else { vec![b] })
                .collect(),
            Taken("new@example.org", "1 added"),
        ),
        (
            "a BOM",
            [b"\xef\xbb\xbf".to_vec(), with("new@example.org")].concat(),
            Taken("u0@example.org", "added new@example.org"),
        ),
        ("UTF-16", utf16(&format!("{old}new@example.org\r\n")), Taken("new@example.org", "1 added")),
        ("half written", half, Kept("are gone (")),
        (
            "half written, and it knows",
            [with("# end 40 lines\n")].concat(),
            Kept("the end mark says 40 lines, but 39 are before it"),
        ),
        ("empty", Vec::new(), Kept("the file is empty")),
        ("only comments", b"# nothing\n# at all\n".to_vec(), Kept("no entry in 2 lines")),
        ("a whole domain gone", list(30).into_bytes(), Kept("are gone (")),
        ("exactly 1000 rows", csv(1000), Taken("r7@example.org", "exactly 1000 rows: probably cut off")),
        ("exactly 1500 rows", csv(1500), Taken("r7@example.org", "exactly 1500 rows: probably cut off")),
        ("exactly 2000 rows", csv(2000), Taken("r7@example.org", "exactly 2000 rows: probably cut off")),
        ("upper case", with("New.Name@EXAMPLE.ORG\n"), Taken("new.name@example.org", "added new.name@example.org")),
        (
            "other kinds of addresses",
            format!("{exported}alias: smtp:new@example.org\r\nalias: sip:no@example.org\r\n").into_bytes(),
            Taken("new@example.org", "1 added"),
        ),
        (
            "foreign domains",
            with("partner@foreign.example\n"),
            Taken("u0@example.org", "1 recipient left out, it belongs to none of our domains"),
        ),
        (
            "umlauts",
            with("j\u{fc}rgen@example.org\nx@m\u{fc}ller.example\n"),
            Taken("J\u{dc}RGEN@example.org", "added j\\xc3\\xbcrgen@example.org, x@xn--mller-kva.example"),
        ),
        (
            "prose",
            with("etc...\nnew@example.org\n"),
            Taken("new@example.org", "1 line can't be understood; the first is"),
        ),
        (
            "twice with another value",
            with("u3@example.org state=disabled\n"),
            Taken("u3@example.org", "nothing has changed"),
        ),
        ("a database file", berkeley, Kept("this is a Berkeley DB file; give the text that it was made of")),
        (
            "another format",
            with(&"carl  Carl C., room 12\n".repeat(40)),
            Kept("40 of 79 lines can't be understood; the first is line 40"),
        ),
        ("a NUL", with("a\0b@example.org\n"), Kept("a NUL byte; this is not a text file")),
    ];
    let domains = "[[domain]]\nnames = [\"example.org\", \"other.example\", \"m\u{fc}ller.example\"]\n";
    let mut daemon = Setup::new().file("list", &old).config(&format!("{}{domains}", source(""))).start();
    for (what, content, then) in cases {
        daemon.write("list", &old);
        assert_eq!(daemon.http("POST", "/reload?force=list").0, 200, "{what}: the old list again");
        let before = daemon.log().len();
        daemon.write("list", &content);
        daemon.hup();
        let (Kept(why) | Taken(_, why)) = then;
        // What it writes comes through a pipe, and may be on its way still.
        until(&format!("{what}: {why}"), || daemon.log()[before..].contains(why));
        let log = daemon.log()[before..].to_owned();
        match then {
            Kept(_) => {
                assert_eq!(daemon.query("u29@example.org"), "OK u29@example.org", "{what}: {log}");
                assert_eq!(daemon.query("o8@other.example"), "OK o8@other.example", "{what}: {log}");
                assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ", "{what}: {log}");
                assert_eq!(daemon.http("GET", "/health").0, 503, "{what}");
                assert!(log.contains("its last good list of 39 recipients stays in force"), "{what}: {log}");
            }
            Taken(address, _) => {
                let answer = daemon.query(address);
                assert!(answer.starts_with("OK "), "{what}: {answer}: {log}");
                assert_eq!(daemon.query("no@example.org"), "NOTFOUND ", "{what}: {log}");
                assert_eq!(daemon.query("partner@foreign.example"), "NOTFOUND ", "{what}: {log}");
                assert_eq!(daemon.http("GET", "/health").0, 200, "{what}: {log}");
            }
        }
    }
}

#[test]
fn a_share_that_is_not_mounted_keeps_the_list_and_raises_the_alarm_by_age() {
    let mut daemon = Setup::new().file("list", list(30)).config(&source("max_age = \"1h\"")).start();
    std::fs::remove_file(daemon.path("list")).expect("it is there");
    daemon.hup();
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    daemon.wait_for_log("no such file; if it lies on a share, the share may not be mounted yet");
    // The list comes back, and is two hours old.
    let then = std::time::SystemTime::now() - Duration::from_secs(7200);
    daemon.write("list", list(31));
    let file = std::fs::OpenOptions::new().write(true).open(daemon.path("list")).expect("it is there");
    file.set_modified(then).expect("a time");
    daemon.hup();
    assert_eq!(daemon.query("u30@example.org"), "OK u30@example.org");
    assert!(daemon.query("nobody@example.org").starts_with("TEMP "));
    daemon.wait_for_log("older than max_age = 1h");
    assert_eq!((daemon.http("GET", "/health").0, &first(&daemon)["state"]), (503, &"old".into()));
    file.set_modified(std::time::SystemTime::now()).expect("a time");
    daemon.hup();
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    assert_eq!(daemon.http("GET", "/health").0, 200);
}

#[test]
fn a_list_that_root_alone_may_read_is_told_with_advice() {
    if !nix::unistd::geteuid().is_root() {
        writeln!(std::io::stderr(), "SKIPPED a_list_that_root_alone_may_read: needs root").expect("standard error");
        return;
    }
    let setup = Setup::new().file("list", list(3));
    for path in [setup.path(""), setup.path("list")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("ours");
    }
    let mut daemon = setup.config(&format!("user = \"nobody\"\n{}", source(""))).start();
    daemon.write("list", list(4));
    std::fs::set_permissions(daemon.path("list"), std::fs::Permissions::from_mode(0o600)).expect("ours");
    daemon.hup();
    daemon.wait_for_log("permission denied; make it readable for the user that rcptmapd runs as");
    assert_eq!(daemon.query("u2@example.org"), "OK u2@example.org");
}

#[test]
fn local_parts_with_dots_are_no_domains_where_a_domain_is_attached() {
    let config = "[[domain]]\nnames = [\"example.org\"]\n[[source]]\npath = \"list\"\ndomain = \"example.org\"\n[[source]]\npath = \
                  \"aliases\"\ndomain = \"example.org\"\n";
    let setup = Setup::new().file("list", "anna.adler\nbert.blau\n").file("aliases", "carl.c:root\ndora.d:root\n");
    let daemon = setup.config(config).start();
    for name in ["anna.adler", "bert.blau", "carl.c", "dora.d"] {
        let address = format!("{name}@example.org");
        assert_eq!(daemon.query(&address), format!("OK {address}"));
    }
    assert_eq!(daemon.query("emil@example.org"), "NOTFOUND ");
}

#[test]
fn nobody_is_absent_for_a_line_that_is_not_understood() {
    let list = format!(
        "{}all@example.org {}\nunclear@example.org state=ful\nlate@example.org state=ful\nlate@example.org\n",
        list(5),
        "x".repeat(70_000)
    );
    let recipients = "anna@prog.example\n@prog.example|/usr/bin/vrfy\ncdb.example:users.cdb\n";
    let config = "state_dir = \"DIR/state\"\n[[domain]]\nnames = [\"example.org\", \"prog.example\", \"cdb.example\"]\n[[source]]\nname = \"list\"\npath = \
                  \"list\"\nformat = \"plain\"\n[[source]]\nname = \"recipients\"\npath = \"recipients\"\n";
    let daemon = Setup::new().file("list", list).file("recipients", recipients).config(config).start();
    let check = |daemon: &Daemon| {
        for exists in ["all@example.org", "late@example.org", "u4@example.org", "anna@prog.example"] {
            assert_eq!(daemon.query(exists), format!("OK {exists}"));
        }
        for unknown in ["unclear@example.org", "bert@prog.example", "anna@cdb.example"] {
            assert!(daemon.query(unknown).starts_with("TEMP "), "{unknown}: {}", daemon.query(unknown));
        }
        assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    };
    check(&daemon);
    // What was saved can't tell either.
    until("saved", || daemon.status()["sources"][1]["version"] == 1);
    for name in ["list", "recipients"] {
        std::fs::remove_file(daemon.path(name)).expect("it is there");
    }
    check(&daemon.restart());
}

// --- guards --------------------------------------------------------------------------------------------------------

#[test]
fn a_guard_tells_the_command_that_forces_it() {
    let config = format!("{}[[source]]\nname = \"more\"\npath = \"more\"\n", source(""));
    let mut daemon = Setup::new().file("list", list(100)).file("more", "x@example.org\n").config(&config).start();
    daemon.write("list", list(50));
    daemon.write("more", "y@example.org\n");
    daemon.hup();
    let config = daemon.path("rcptmapd.toml").display().to_string();
    let command = format!("rcptmapd reload -c {config} --force list");
    let path = daemon.path("list").display().to_string();
    daemon.wait_for_log(&format!(
        "source list: {path}: 50 of 100 entries are gone (50 now), more than max_shrink = 20% allows; if that is right: \
         {command}"
    ));
    assert_eq!(daemon.query("u99@example.org"), "OK u99@example.org");
    assert_eq!(daemon.query("y@example.org"), "OK y@example.org", "other sources are taken");
    let diff = run(&["check", "--diff", "-c", &config]);
    assert!(diff.code == Some(65) && diff.out.contains(&command), "{diff:?}");
    assert_eq!(run(&["reload", "-c", &config, "--force", "lisst"]).code, Some(65));
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    let forced = run(&arguments);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_eq!(daemon.query("u99@example.org"), "NOTFOUND ");
    let diff = run(&["check", "--diff", "-c", &config]);
    assert_eq!(diff.code, Some(0), "{diff:?}");
    daemon.write("list", list(51));
    let diff = run(&["check", "--diff", "-c", &config]);
    assert!(diff.code == Some(1) && diff.out.contains("+1 in example.org"), "{diff:?}");
    assert_eq!(daemon.query("u50@example.org"), "NOTFOUND ", "nothing is taken by it");
}

#[test]
fn what_is_said_about_clients_makes_no_loss_small() {
    let clients: String = (0..500).map(|n| format!("Connect:192.0.2.{n} REJECT\n")).collect();
    let access =
        |count| clients.clone() + &list(count).lines().map(|line| format!("To:{line} RELAY\n")).collect::<String>();
    let mut daemon = Setup::new().file("list", access(100)).config(&source("")).start();
    daemon.write("list", access(1));
    daemon.hup();
    daemon.wait_for_log("99 of 100 entries are gone (1 now)");
    assert_eq!(daemon.query("u99@example.org"), "OK u99@example.org");
}

/// A source without a name is called after its file, and that name may come to be another file's.
#[test]
fn another_file_under_the_name_of_a_source_is_no_later_version_of_it() {
    let both = "state_dir = \"DIR/state\"\n[[source]]\npath = \"x/list\"\n[[source]]\npath = \"y/list\"\n";
    let one = "state_dir = \"DIR/state\"\n[[source]]\npath = \"y/list\"\n";
    let setup = Setup::new();
    for folder in ["x", "y"] {
        std::fs::create_dir(setup.path(folder)).expect("a folder");
    }
    let mut daemon =
        setup.file("x/list", list(30)).file("y/list", list(60).split_off(list(30).len())).config(both).start();
    until("saved", || !first(&daemon)["version"].is_null());
    daemon.write_config(one);
    daemon.hup();
    assert_eq!(daemon.query("u59@example.org"), "OK u59@example.org");
    assert_eq!(daemon.query("u0@example.org"), "NOTFOUND ", "it is in x/list, and that is none of the sources");
    assert_eq!(first(&daemon)["state"], "ok");
    // The same over a restart, and where the right file is not there yet.
    until("saved", || first(&daemon)["version"] == 2);
    let mut daemon = daemon.stop_and_keep().1.config(&one.replace("y/list", "z/list")).start();
    assert_eq!(daemon.query("u59@example.org"), "OK u59@example.org");
    assert!(daemon.query("nobody@example.org").starts_with("TEMP "), "z/list may have them");
    daemon.wait_for_log("y/list said, whom it does not list gets \"try again later\"");
    std::fs::rename(daemon.path("x"), daemon.path("z")).expect("a folder");
    daemon.hup();
    assert_eq!(daemon.query("u0@example.org"), "OK u0@example.org");
    assert_eq!(daemon.query("u59@example.org"), "NOTFOUND ");
}

/// Names that were folded are not those that were written.
#[test]
fn a_list_of_another_case_is_no_later_version_and_is_not_read_back() {
    let names: String = (0..40).map(|n| format!("User{n}@example.org\n")).collect();
    let domain = |sensitive: bool| {
        saving("") + &format!("[[domain]]\nnames = [\"example.org\"]\ncase_sensitive = {sensitive}\n")
    };
    let mut daemon = Setup::new().file("list", names).config(&domain(false)).start();
    assert_eq!(daemon.query("user1@example.org"), "OK user1@example.org");
    until("saved", || !first(&daemon)["version"].is_null());
    daemon.write_config(&domain(true));
    daemon.hup();
    assert_eq!(daemon.query("User1@example.org"), "OK User1@example.org");
    assert_eq!((daemon.query("user1@example.org").as_str(), &first(&daemon)["state"]), ("NOTFOUND ", &"ok".into()));
    until("saved", || first(&daemon)["version"] == 2);
    // What is saved of one kind says nothing under the other.
    daemon.write_config(&domain(false));
    std::fs::remove_file(daemon.path("list")).expect("it is there");
    let mut daemon = daemon.restart();
    daemon.wait_for_log("saved under another setting of case_sensitive; skipped");
    assert_eq!(daemon.query("User1@example.org"), "OK user1@example.org", "version 1 fits");
    daemon.write_config(&domain(true));
    daemon.hup();
    assert!(!daemon.query("User1@example.org").starts_with("NOTFOUND"));
}

#[test]
fn whom_a_list_can_t_tell_about_any_more_is_as_good_as_gone() {
    let mut daemon = Setup::new().file("list", list(30)).config(&source("grace = \"1h\"")).start();
    let doubtful = |count: usize| {
        list(30)
            .lines()
            .enumerate()
            .map(|(at, line)| format!("{line}{}\n", if at < count { " state=ful" } else { "" }))
            .collect()
    };
    let text: String = doubtful(14);
    daemon.write("list", text);
    daemon.hup();
    daemon.wait_for_log("14 of 30 entries are gone (16 now)");
    assert_eq!(daemon.query("u0@example.org"), "OK u0@example.org");
    let text: String = doubtful(1);
    daemon.write("list", text);
    daemon.hup();
    assert_eq!(daemon.query("u0@example.org"), "OK u0@example.org", "it has a time of grace");
}

#[test]
fn the_same_list_at_another_place_counts_as_before() {
    let mut daemon = Setup::new().file("list", list(30)).config(&source("")).start();
    daemon.write_config(&source("").replace("\"list\"\n\n", "\"new\"\n\n"));
    daemon.hup();
    assert!(daemon.query("nobody@example.org").starts_with("TEMP "), "the new file may have them");
    daemon.write("new", list(30));
    daemon.hup();
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
}

#[test]
fn an_end_mark_once_had_is_wanted_again() {
    let mut daemon = Setup::new().file("list", list(3) + "# end 3 lines\n").config(&source("")).start();
    daemon.write("list", list(4));
    daemon.hup();
    daemon.wait_for_log("it has no end mark (# end N lines) any more");
    assert_eq!(daemon.query("u3@example.org"), "NOTFOUND ");
    daemon.write("list", list(4) + "# end 4 lines\n");
    daemon.hup();
    assert_eq!(daemon.query("u3@example.org"), "OK u3@example.org");
}

#[test]
fn a_file_that_is_being_written_is_not_taken() {
    let daemon = Setup::new().file("list", list(20)).config(&source("watch = \"poll\"\nrefresh = \"1s\"")).start();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let path = daemon.path("list");
            let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("it is there");
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                file.write_all(format!("w{number}@example.org\n").as_bytes()).expect("written");
                number += 1;
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        let _stop = Stop(&stop);
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_log("changed while it was read");
        assert_eq!(daemon.query("w0@example.org"), "NOTFOUND ");
    });
    // Once it is at rest it is taken, without anybody asking.
    until("the rest", || daemon.query("w0@example.org") == "OK w0@example.org");
}

// --- unchanged -----------------------------------------------------------------------------------------------------

#[test]
fn equal_content_is_no_change_and_a_change_is_told() {
    let mut daemon = Setup::new().file("list", list(30)).config(&source("")).start();
    let backwards: String = list(30).lines().rev().map(|line| format!("{}\r\n", line.to_uppercase())).collect();
    daemon.write("list", backwards);
    daemon.hup();
    let log = daemon.wait_for_log("nothing has changed: 30 recipients in 1 domain from 1 source");
    assert_eq!(log.matches("loaded 30 recipients").count(), 1, "{log}");
    daemon.write("list", list(31).replace("u0@", "new@"));
    daemon.hup();
    for line in [
        "source list: 2 added, 1 removed, 31 entries now: example.org +2 -1",
        "source list: added new@example.org, u30@example.org",
        "source list: removed u0@example.org",
    ] {
        daemon.wait_for_log(line);
    }
}

#[test]
fn an_error_is_told_once() {
    let mut daemon = Setup::new().file("list", list(3)).config(&source("")).start();
    daemon.write("list", "");
    for _ in 0..3 {
        daemon.hup();
    }
    daemon.wait_for_log("the file is empty");
    assert_eq!(daemon.log().matches("the file is empty").count(), 1, "{}", daemon.log());
}

// --- state_dir -----------------------------------------------------------------------------------------------------

#[test]
fn what_was_accepted_serves_after_a_restart_while_the_source_is_away() {
    let mut daemon = Setup::new().file("list", list(30)).config(&saving("")).start();
    daemon.write("list", list(31));
    daemon.hup();
    until("saved", || first(&daemon)["version"] == 2);
    std::fs::remove_file(daemon.path("list")).expect("it is there");
    let mut daemon = daemon.restart();
    assert_eq!(daemon.query("u30@example.org"), "OK u30@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    assert_eq!((&daemon.status()["complete"], &first(&daemon)["state"]), (&true.into(), &"kept".into()));
    // And the guards compare with it.
    daemon.write("list", list(9));
    daemon.hup();
    daemon.wait_for_log("22 of 31 entries are gone");
    let daemon = daemon.restart();
    daemon.wait_for_log("22 of 31 entries are gone");
    assert_eq!(daemon.query("u30@example.org"), "OK u30@example.org");
}

#[test]
fn a_full_disk_and_a_read_only_folder_stop_nothing() {
    let mut daemon = Setup::new().file("list", list(20_000)).file_blocks(16).config(&saving("")).start();
    daemon.wait_for_log("can't save a list for the next start: ");
    daemon.write("list", list(20_001));
    daemon.hup();
    assert_eq!(daemon.query("u20000@example.org"), "OK u20000@example.org");
    assert_eq!(daemon.log().matches("can't save a list").count(), 1, "once: {}", daemon.log());
    assert_eq!(daemon.http("GET", "/health").0, 200);
    assert!(daemon.status()["state_dir_error"].as_str().is_some_and(|why| why.contains("can't save")));
    // A file where the folder should be: nobody can write below it, not even root.
    let mut daemon = Setup::new().file("list", list(3)).file("state", "").config(&saving("")).start();
    daemon.wait_for_log("can't save a list for the next start: ");
    daemon.write("list", list(4));
    daemon.hup();
    assert_eq!(daemon.query("u3@example.org"), "OK u3@example.org");
    std::fs::remove_file(daemon.path("state")).expect("it is there");
    // A reload is over when what it brought is saved, so what is told then is true.
    let (code, body) = daemon.http("POST", "/reload");
    let status: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((code, &status["state_dir_error"], &status["sources"][0]["version"]), (200, &Value::Null, &1.into()));
    daemon.wait_for_log("lists are saved in");
    daemon.write("list", list(5));
    daemon.hup();
    assert_eq!((&daemon.status()["state_dir_error"], &first(&daemon)["version"]), (&Value::Null, &2.into()));
}

#[test]
fn a_state_dir_that_is_mounted_read_only_is_told_and_stops_nothing() {
    let may_mount =
        std::process::Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !may_mount.is_ok_and(|tried| tried.status.success()) {
        let text = "SKIPPED a_state_dir_that_is_mounted_read_only: needs root that may mount";
        writeln!(std::io::stderr(), "{text}").expect("standard error");
        return;
    }
    let mut daemon = Setup::new().read_only("state").file("list", list(30)).config(&saving("")).start();
    daemon.wait_for_log("can't save a list for the next start: ");
    daemon.wait_for_log("read-only file system");
    for size in [31, 32] {
        daemon.write("list", list(size));
        daemon.hup();
        assert_eq!(daemon.query(&format!("u{}@example.org", size - 1)), format!("OK u{}@example.org", size - 1));
        assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    }
    assert_eq!(daemon.log().matches("can't save a list").count(), 1, "once: {}", daemon.log());
    assert_eq!(daemon.http("GET", "/health").0, 200);
    assert!(daemon.status()["state_dir_error"].as_str().is_some_and(|why| why.contains("read-only file system")));
    // The guards are there without it.
    daemon.write("list", list(9));
    daemon.hup();
    daemon.wait_for_log("23 of 32 entries are gone");
    assert_eq!(daemon.query("u31@example.org"), "OK u31@example.org");
    // Once it can be written to, what is in force is saved with the next change.
    let pid = daemon.pid().to_string();
    let state = daemon.path("state");
    let remounted = std::process::Command::new("nsenter")
        .args(["--mount", "--target", &pid, "--", "mount", "-o", "remount,rw"])
        .arg(state)
        .status();
    assert!(remounted.is_ok_and(|status| status.success()), "remounted");
    daemon.write("list", list(33));
    daemon.hup();
    daemon.wait_for_log("lists are saved in");
    assert_eq!(daemon.status()["state_dir_error"], Value::Null);
}

#[test]
fn killed_while_saving_leaves_the_old_or_the_new_version() {
    let sizes = [3_000, 3_001];
    let mut daemon = Setup::new().file("list", list(sizes[0])).config(&saving("keep_versions = 1")).start();
    for round in 0..25 {
        until("saved", || !first(&daemon)["version"].is_null());
        let size = sizes[(round + 1) % 2];
        daemon.write("list", list(size));
        daemon.signal(Signal::SIGHUP);
        // A little later each time: before, while and after it is written.
        thread::park_timeout(Duration::from_millis(round as u64 * 2));
        daemon.signal(Signal::SIGKILL);
        std::fs::rename(daemon.path("list"), daemon.path("away")).expect("it is there");
        let restarted = daemon.restart();
        let recipients = first(&restarted)["recipients"].as_u64().expect("a number") as usize;
        assert!(sizes.contains(&recipients), "round {round}: {recipients}: {}", restarted.log());
        assert!(!restarted.log().contains("skipped"), "{}", restarted.log());
        restarted.write("list", list(size));
        daemon = restarted;
        daemon.hup();
    }
}

#[test]
fn a_rollback_holds_until_the_list_changes() {
    let mut daemon = Setup::new().file("list", list(30)).config(&saving("")).start();
    for size in [31, 32] {
        daemon.write("list", list(size));
        daemon.hup();
    }
    until("saved", || first(&daemon)["version"] == 3);
    let config = daemon.path("rcptmapd.toml").display().to_string();
    let wrong = run(&["rollback", "-c", &config, "list", "9"]);
    assert!(wrong.code == Some(65) && wrong.err.contains("there are 3, 2, 1"), "{wrong:?}");
    let done = run(&["rollback", "-c", &config, "list"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("version 2 with 31 entries is in force until the list changes"), "{done:?}");
    daemon.wait_for_log("source list: 1 removed, 31 entries now: example.org -1");
    daemon.wait_for_log("source list: removed u31@example.org");
    let is_rolled_back = |daemon: &Daemon| {
        assert_eq!(daemon.query("u31@example.org"), "NOTFOUND ");
        assert_eq!(daemon.query("u30@example.org"), "OK u30@example.org");
        assert_eq!(first(daemon)["state"], "rolled-back");
    };
    is_rolled_back(&daemon);
    daemon.hup();
    is_rolled_back(&daemon);
    let mut daemon = daemon.restart();
    is_rolled_back(&daemon);
    daemon.write("list", list(33));
    daemon.hup();
    assert_eq!(daemon.query("u32@example.org"), "OK u32@example.org");
    assert_eq!(first(&daemon)["state"], "ok");
}

#[test]
fn what_was_saved_and_is_gone_is_saved_again() {
    let daemon = Setup::new().file("list", list(30)).config(&saving("")).start();
    until("saved", || !first(&daemon)["version"].is_null());
    std::fs::remove_dir_all(daemon.path("state")).expect("it is there");
    std::fs::create_dir(daemon.path("state")).expect("a folder");
    assert_eq!(daemon.http("POST", "/reload").0, 200);
    std::fs::remove_file(daemon.path("list")).expect("it is there");
    let daemon = daemon.restart();
    assert_eq!(daemon.query("u29@example.org"), "OK u29@example.org");
}

#[test]
fn a_list_that_failed_often_is_soon_found_and_told_of() {
    let mut daemon = Setup::new().file("list", list(30)).config(&source("retry = \"1s\"")).start();
    std::fs::remove_file(daemon.path("list")).expect("it is there");
    // Who asks again and again does not make the pauses grow: the eighth would be four minutes.
    for _ in 0..8 {
        daemon.hup();
    }
    daemon.wait_for_log("from 1 source (1 not taken), read in");
    daemon.write("list", list(30));
    daemon.wait_for_log("source list: it is taken again: 30 recipients");
    until("ok", || first(&daemon)["state"] == "ok");
}

// --- sources -------------------------------------------------------------------------------------------------------

#[test]
fn a_folder_and_a_pattern_are_sources() {
    let config = "[[source]]\nname = \"all\"\npath = \"lists\"\n[[source]]\nname = \"some\"\npath = \"*.csv\"\n";
    let setup = Setup::new().file("users.csv", "Mail\ncarl@example.org\n");
    std::fs::create_dir(setup.path("lists")).expect("a folder");
    let mut daemon = setup
        .file("lists/a", "anna@example.org\n")
        .file("lists/b", "bert@example.org\nodd line\n")
        .config(config)
        .start();
    for name in ["anna", "bert", "carl"] {
        assert!(daemon.query(&format!("{name}@example.org")).starts_with("OK "), "{name}");
    }
    daemon.wait_for_log("lists/b:2: ");
    daemon.write("lists/c", "cora@example.org\n");
    daemon.write("more.csv", "Mail\ndora@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("cora@example.org"), "OK cora@example.org");
    assert_eq!(daemon.query("dora@example.org"), "OK dora@example.org");
    daemon.write("lists/a", "");
    daemon.hup();
    daemon.wait_for_log("lists/a: the file is empty");
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
}

#[test]
fn a_domain_file_may_name_what_is_below_a_domain_and_its_bad_lines_are_told() {
    let mut daemon = Setup::new()
        .file("list", "anna@a.lab.example\nanna@example.org\n")
        .file("domains", "example.org\n.lab.example   # and all below\nand so on\n")
        .config(&format!("{}[[domain]]\nfile = \"domains\"\n", source("")))
        .start();
    daemon.wait_for_log("domains: 1 line can't be understood; the first is ");
    assert_eq!(daemon.ask("domains", "example.org"), "OK example.org");
    assert!(daemon.ask("domains", "b.lab.example").starts_with("OK "));
    assert_eq!(daemon.ask("domains", "b.example.org"), "NOTFOUND ");
    assert_eq!(daemon.ask("check", "anna@a.lab.example"), "OK DUNNO");
    assert_eq!(daemon.ask("check", "bert@b.lab.example"), "OK 550 5.1.1 User unknown");
    assert_eq!(daemon.status()["files"][0]["first_bad_lines"][0]["line"], 3);
    daemon.hup();
    assert_eq!(daemon.log().matches("domains: 1 line can't be understood").count(), 1, "{}", daemon.log());
    // As a list of recipients it has none, and nothing in it is wrong.
    let checked = run(&["check", &daemon.path("domains").display().to_string()]);
    assert!(checked.out.contains("1 (names below a domain)"), "{}", checked.out);
}

#[test]
fn a_domain_file_that_is_being_written_or_cut_short_loses_no_domain() {
    let names = |count| (0..count).map(|n| format!("d{n}.example\n")).collect::<String>();
    let users: String = (0..40).map(|n| format!("anna@d{n}.example\n")).collect();
    let mut daemon = Setup::new()
        .file("list", users)
        .file("domains", names(3))
        .config(&format!("{}[[domain]]\nfile = \"domains\"\n", source("")))
        .start();
    // In its place, the first line before the rest: who reads it now does not believe that the others are gone.
    write_in_place(&daemon.path("domains"), names(1).as_bytes());
    daemon.hup();
    assert_eq!(daemon.query("anna@d2.example"), "OK anna@d2.example");
    write_in_place(&daemon.path("domains"), names(40).as_bytes());
    until("all of it, without anybody asking", || daemon.query("anna@d39.example").starts_with("OK "));
    // Put in place as a whole it is complete; but so much is not lost by intention. What is lost is told.
    daemon.write("domains", names(39));
    daemon.hup();
    assert_eq!(daemon.ask("domains", "d39.example"), "NOTFOUND ");
    daemon.wait_for_log("/domains no longer names d39.example");
    daemon.write("domains", names(10));
    let checked = run(&["check", "--diff", "-c", &daemon.path("rcptmapd.toml").display().to_string()]);
    assert!(checked.code == Some(65) && checked.out.contains("29 of 39 entries are gone"), "{checked:?}");
    daemon.hup();
    let path = daemon.path("domains").display().to_string();
    let config = daemon.path("rcptmapd.toml").display().to_string();
    let command = format!("rcptmapd reload -c {config} --force {path}");
    daemon.wait_for_log(&format!(
        "{path}: 29 of 39 entries are gone (10 now), more than max_shrink = 20% allows; if that is right: {command}"
    ));
    assert_eq!(daemon.ask("domains", "d38.example"), "OK d38.example");
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    let forced = run(&arguments);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_eq!(daemon.ask("domains", "d38.example"), "NOTFOUND ");
    let wrong = run(&["reload", "-c", &config, "--force", "domains"]);
    assert!(wrong.code == Some(65) && wrong.err.contains(&path), "{wrong:?}");
    // Few names are guarded, too.
    daemon.write("domains", names(6));
    daemon.hup();
    let forced = run(&arguments);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    daemon.write("domains", names(2));
    daemon.hup();
    daemon.wait_for_log("4 of 6 entries are gone (2 now)");
    assert_eq!(daemon.query("anna@d5.example"), "OK anna@d5.example");
}

#[test]
fn check_diff_tells_what_a_changed_configuration_takes_away() {
    let two = format!("{}[[source]]\nname = \"more\"\npath = \"more\"\n", source(""));
    let domains = |names: &str| format!("[[domain]]\nnames = [{names}]\n");
    let mut daemon = Setup::new()
        .file("list", list(30))
        .file("more", "anna@example.net\nbert@example.net\n")
        .config(&format!("{two}{}", domains("\"example.org\", \"example.net\"")))
        .start();
    let config = daemon.path("rcptmapd.toml").display().to_string();
    let diff = || run(&["check", "--diff", "-c", &config]);
    assert_eq!(diff().code, Some(0));
    daemon.write_config(&format!("{}{}", source(""), domains("\"example.org\", \"example.com\"")));
    let told = diff();
    assert_eq!(told.code, Some(1), "{told:?}");
    for line in [
        "more: no longer in the configuration",
        "removed     2 recipients",
        "added       example.com",
        "removed     example.net",
    ] {
        assert!(told.out.contains(line), "{line}: {told:?}");
    }
    daemon.hup();
    assert_eq!(diff().code, Some(0));
}

#[test]
fn the_files_of_valiases_are_named_as_their_domains() {
    let setup = Setup::new();
    std::fs::create_dir(setup.path("valiases")).expect("a folder");
    let daemon = setup
        .file("valiases/example.org", "anna: anna@mbx.example\nbert@example.org: bert\n*: :fail: No such person\n")
        .file("valiases/example.net", "carl: carl@mbx.example\n")
        .config("[[source]]\npath = \"valiases\"\n")
        .start();
    for (address, reply) in [
        ("anna@example.org", "OK DUNNO"),
        ("bert@example.org", "OK DUNNO"),
        ("carl@example.net", "OK DUNNO"),
        ("carl@example.org", "OK 550 5.1.1 No such person"),
        ("anna@example.net", "OK 550 5.1.1 User unknown"),
    ] {
        assert_eq!(daemon.ask("check", address), reply, "{address}");
    }
}

/// What comes back to a list bears `+`, whatever the domain's own delimiter is.
#[test]
fn bounces_of_mailman_exist_without_a_delimiter() {
    let list = "# AUTOMATICALLY GENERATED BY MAILMAN\nchess@lists.example lmtp:[::1]:8024\n\
                chess-bounces@lists.example lmtp:[::1]:8024\nchess-join@lists.example lmtp:[::1]:8024\n";
    for delimiter in ["", "-", "+"] {
        let domain = format!("[[domain]]\nnames = [\"lists.example\"]\nsubaddress = \"{delimiter}\"\n");
        let daemon = Setup::new().file("list", list).config(&format!("{}{domain}", source(""))).start();
        let returned = "chess-bounces+anna=example.net@lists.example";
        assert_eq!(daemon.query(returned), format!("OK {returned}"), "{delimiter}");
        assert_eq!(daemon.query("chess-bounces@lists.example"), "OK chess-bounces@lists.example", "{delimiter}");
        let joins = daemon.query("chess-join+x@lists.example");
        assert_eq!(joins.starts_with("OK "), !delimiter.is_empty(), "{delimiter}: {joins}");
    }
}

#[test]
fn a_folder_is_not_taken_without_one_of_its_files() {
    let setup = Setup::new();
    for folder in ["lists", "share"] {
        std::fs::create_dir(setup.path(folder)).expect("a folder");
    }
    std::os::unix::fs::symlink(setup.path("share/b"), setup.path("lists/b")).expect("a link");
    let config = "[[source]]\nname = \"all\"\npath = \"lists\"\n";
    let setup = setup.file("lists/a", list(30)).file("share/b", "bert@example.org\n");
    let mut daemon = setup.config(config).start();
    // One of many that is away, or says nothing, would go unnoticed by the guard against loss.
    std::fs::rename(daemon.path("share"), daemon.path("away")).expect("renamed");
    daemon.hup();
    daemon.wait_for_log("lists/b: no such file");
    assert_eq!(daemon.query("bert@example.org"), "OK bert@example.org");
    std::fs::rename(daemon.path("away"), daemon.path("share")).expect("renamed");
    for (content, why) in
        [("# to be filled\n", "lists/b: no entry in 1 line"), ("?? ??\n", "lists/b: no entry in 1 lines, 1 of which")]
    {
        daemon.write("share/b", content);
        daemon.hup();
        daemon.wait_for_log(why);
        assert_eq!(daemon.query("bert@example.org"), "OK bert@example.org", "{why}");
    }
    daemon.write("share/b", "bodo@example.org\n");
    daemon.hup();
    assert_eq!(daemon.query("bodo@example.org"), "OK bodo@example.org");
    assert_eq!(daemon.query("bert@example.org"), "NOTFOUND ");
    // One that may be empty needs that said.
    daemon.write("share/b", "# to be filled\n");
    daemon.write_config(&format!("{config}min_entries = 0\n"));
    daemon.hup();
    assert_eq!(daemon.query("bodo@example.org"), "NOTFOUND ");
    assert_eq!(daemon.query("u1@example.org"), "OK u1@example.org");
}

fn command(script: &str, more: &str) -> String {
    format!(
        "state_dir = \"DIR/state\"\n[[source]]\nname = \"ad\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nformat = \
         \"plain\"\n{more}\n"
    )
}

#[test]
fn the_output_of_a_program_is_a_source() {
    let script = "echo ${NOTIFY_SOCKET-not told} >&2; cat DIR/out && exit $(cat DIR/status)";
    let mut daemon = Setup::new().file("out", list(30)).file("status", "0").config(&command(script, "")).start();
    assert_eq!(daemon.query("u29@example.org"), "OK u29@example.org");
    daemon.wait_for_log("source ad: sh: not told");
    daemon.write("out", list(29));
    daemon.write("status", "7");
    daemon.hup();
    daemon.wait_for_log("sh: it ended with exit status 7: not told");
    assert_eq!(daemon.query("u29@example.org"), "OK u29@example.org");
    until("saved", || !first(&daemon)["version"].is_null());
    // At the next start what was saved serves at once; the program still fails.
    let mut daemon = daemon.restart();
    assert_eq!(daemon.query("u29@example.org"), "OK u29@example.org");
    daemon.wait_for_log("sh: it ended with exit status 7");
    daemon.write("status", "0");
    daemon.hup();
    assert_eq!(daemon.query("u29@example.org"), "NOTFOUND ");
}

#[test]
fn a_program_that_hangs_is_ended_and_runs_again_by_itself() {
    let script = "cat DIR/out; test -e DIR/hang && sleep 3600; true";
    let more = "timeout = \"1s\"\nrefresh = \"1s\"";
    let mut daemon = Setup::new().file("out", list(30)).config(&command(script, more)).start();
    daemon.write("hang", "");
    daemon.write("out", list(31));
    daemon.hup();
    daemon.wait_for_log("sh: it was not done within 1 s (timeout), and was ended");
    assert_eq!(daemon.query("u30@example.org"), "NOTFOUND ");
    std::fs::remove_file(daemon.path("hang")).expect("it is there");
    until("refreshed", || daemon.query("u30@example.org") == "OK u30@example.org");
}

#[test]
fn a_watched_list_is_read_when_it_changes() {
    for watch in ["watch = \"poll\"\nrefresh = \"1s\"", "watch = \"inotify\"\nrefresh = \"1h\""] {
        let daemon = Setup::new().file("list", list(3)).config(&source(watch)).start();
        // The watch begins after the first load; what happens before is seen at the next look, so until then again.
        let mut size = 3;
        until("renamed into its place", || {
            size += 1;
            daemon.write("list", list(size));
            // In every list but the first: the one that is taken may be older than the last that was written.
            (0..200).any(|_| daemon.query("u3@example.org").starts_with("OK "))
        });
        write_in_place(&daemon.path("list"), list(size + 100).as_bytes());
        let last = format!("u{}@example.org", size + 99);
        until("written in place", || daemon.query(&last) == format!("OK {last}"));
    }
}

#[test]
fn a_vanished_address_has_a_time_of_grace() {
    let mut daemon = Setup::new().file("list", list(30)).config(&source("grace = \"2s\"")).start();
    daemon.write("list", list(29));
    daemon.hup();
    assert_eq!(daemon.query("u29@example.org"), "OK u29@example.org");
    assert_eq!(first(&daemon)["vanished"], 1);
    until("its end", || daemon.query("u29@example.org") == "NOTFOUND ");
    assert_eq!(daemon.query("u28@example.org"), "OK u28@example.org");
}

#[test]
fn a_time_of_grace_is_not_ended_by_a_restart() {
    let setup = Setup::new().file("list", list(30)).config(&saving("grace = \"1h\""));
    let mut daemon = setup.start();
    daemon.write("list", list(29));
    daemon.hup();
    assert_eq!(daemon.query("u29@example.org"), "OK u29@example.org");
    // While it is down, one more goes.
    daemon.write("list", list(28));
    let daemon = daemon.restart();
    for gone in ["u28@example.org", "u29@example.org"] {
        assert_eq!(daemon.query(gone), format!("OK {gone}"));
    }
    assert_eq!(first(&daemon)["vanished"], 2);
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    let daemon = daemon.kill_and_keep().config(&saving("grace = \"2s\"")).start();
    until("the end of a shorter one", || daemon.query("u29@example.org") == "NOTFOUND ");
}

#[test]
fn a_list_grows_old_by_itself() {
    let daemon = Setup::new().file("list", list(3)).config(&source("max_age = \"2s\"")).start();
    until("old", || daemon.query("nobody@example.org").starts_with("TEMP "));
    assert_eq!(daemon.query("u1@example.org"), "OK u1@example.org");
    daemon.wait_for_log("older than max_age = 2s");
}

#[test]
fn who_would_have_been_refused_is_told_and_counted() {
    let domains = "[[domain]]\nnames = [\"example.org\"]\nmode = \"warn\"\n[[domain]]\nnames = [\"off.example\"]\nmode = \"off\"\n";
    let daemon = Setup::new().file("list", list(3)).config(&format!("{}{domains}", source(""))).start();
    assert_eq!(daemon.query("u1@example.org"), "OK u1@example.org");
    for n in 0..100 {
        assert!(daemon.query(&format!("no\x1b{n}@example.org")).starts_with("OK "));
        assert!(daemon.query(&format!("no{n}@off.example")).starts_with("OK "));
    }
    let log = daemon.wait_for_log("no\\x1b0@example.org: would have been refused (mode = \"warn\")");
    assert!(log.matches("would have been refused").count() <= 60 && !log.contains("off.example"), "{log}");
    assert_eq!(daemon.stats()["spared_by_domain"], serde_json::json!({"example.org": 100}));
}

// --- as a whole ----------------------------------------------------------------------------------------------------

fn resident_kib(daemon: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_thousand_reloads_under_load() {
    // Two lists of which each answers for itself: half of the names are in one, half in the other.
    let lists = [0, 1].map(|which| {
        let mut text = String::from("always@example.org\n");
        for number in 0..50 {
            let _ = writeln!(text, "u{}@example.org", number * 2 + which);
        }
        text
    });
    let daemon = Setup::new().file("list", &lists[0]).config(&source("max_shrink = \"100%\"")).start();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let path = daemon.unix();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut stream = connect_unix(&path).expect("the daemon accepts");
                let request = b"19:rcpt u4@example.org,19:rcpt u5@example.org,";
                let replies: [&[u8]; 2] = [b"17:OK u4@example.org,9:NOTFOUND ,", b"9:NOTFOUND ,17:OK u5@example.org,"];
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(request).expect("the connection stays");
                    let mut reply = vec![0; replies[0].len()];
                    stream.read_exact(&mut reply).expect("the connection stays");
                    assert!(replies.contains(&&reply[..]), "{:?}", String::from_utf8_lossy(&reply));
                    asked.fetch_add(1, Ordering::Relaxed);
                    // At a pace: the loader has the lowest priority, and others use the machine, too.
                    thread::park_timeout(Duration::from_millis(1));
                }
            });
        }
        let _stop = Stop(&stop);
        let mut resident = Vec::new();
        for round in 1..=1000 {
            daemon.write("list", &lists[round % 2]);
            assert_eq!(daemon.http("POST", "/reload").0, 200, "round {round}");
            let mut stream = connect_unix(&path).expect("the daemon accepts");
            let expected =
                if round % 2 == 0 { ["OK u4@example.org", "NOTFOUND "] } else { ["NOTFOUND ", "OK u5@example.org"] };
            for (name, expected) in [&b"u4@example.org"[..], b"u5@example.org"].into_iter().zip(expected) {
                assert_eq!(ask(&mut stream, "rcpt", name), expected, "round {round}");
            }
            if round % 100 == 0 {
                resident.push(resident_kib(&daemon));
            }
        }
        let (early, late) = (resident[1], resident[9]);
        assert!(late < early + early / 10 + 1024, "resident memory grows: {resident:?} KiB");
    });
    assert!(asked.load(Ordering::Relaxed) > 1000, "the load was there");
    let stats = daemon.stats();
    assert_eq!((&stats["reloads"], &stats["reload_failures"]), (&1001.into(), &0.into()));
}

/// S3: a script on a Windows host writes the addresses of Exchange in place, to a share that is mounted late.
#[test]
fn the_export_of_an_exchange_server() {
    let export = |people: usize| {
        let mut text = String::from("Microsoft (R) Windows Script Host Version 5.8\r\n\r\n");
        for number in 0..people {
            let _ = write!(text, "alias: SMTP:User{number}@Example.ORG\r\nalias: smtp:u{number}@example.org\r\n");
            let _ = write!(text, "alias: X400:c=DE;a= ;p=Example;o=Exchange;s=User{number};\r\n");
        }
        text
    };
    let config = "state_dir = \"DIR/state\"\n[[source]]\nname = \"exchange\"\npath = \"share/recipients.txt\"\nwatch = \"poll\"\nrefresh = \"1s\"\nretry = \"1s\"\n\
                  [[domain]]\nnames = [\"example.org\"]\n";
    let mut daemon = Setup::new().config(config).start();
    assert!(daemon.query("user1@example.org").starts_with("TEMP "), "nobody is refused before the share is there");
    std::fs::create_dir(daemon.path("share")).expect("a folder");
    let path = daemon.path("share/recipients.txt");
    write_in_place(&path, export(40).as_bytes());
    until("found by itself", || daemon.query("u39@example.org") == "OK u39@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
    // The next night: first empty, then half of it, then all of it, as UTF-16 this time.
    write_in_place(&path, b"");
    daemon.hup();
    assert_eq!(daemon.query("u39@example.org"), "OK u39@example.org");
    write_in_place(&path, export(20).as_bytes());
    daemon.hup();
    assert_eq!(daemon.query("u39@example.org"), "OK u39@example.org");
    write_in_place(&path, &utf16(&export(41)));
    until("taken by itself", || daemon.query("u40@example.org") == "OK u40@example.org");
    // The share is gone, and the gateway is restarted.
    until("saved", || first(&daemon)["version"] == 2);
    std::fs::remove_dir_all(daemon.path("share")).expect("it is there");
    let daemon = daemon.restart();
    assert_eq!(daemon.query("u40@example.org"), "OK u40@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
}

#[test]
fn addresses_in_the_log_may_be_hashed() {
    let config = "[log]\naddresses = \"hashed\"\n[[source]]\nname = \"a\"\npath = \"list\"\n";
    let mut daemon = Setup::new().file("list", "anna@example.org\n").config(config).start();
    daemon.write("list", "anna@example.org\nbert@example.org\nsecret words of carla@example.org etc.\n");
    daemon.hup();
    let log = daemon.wait_for_log("added <");
    assert!(!log.contains("bert@") && !log.contains("carla"), "{log}");
    assert_eq!(daemon.query("bert@example.org"), "OK bert@example.org");
}
