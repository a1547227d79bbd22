//! The configuration: what is taken, and the exact words for what is not.
//!
//! `tests/config/*.toml` are configurations with mistakes, each beside an `.err` with everything that is said of it. A
//! line `#### NAME` starts a further file of the same configuration. `BLESS=1 cargo test --test config` writes the `.err`
//! files anew: read the difference before you commit it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcptmapd::config::*;

/// Files in memory.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Reader for Files {
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let inside = self.0.keys().filter(|p| p.parent() == Some(folder));
        Ok(inside.rev().filter_map(|p| p.file_name().map(OsString::from)).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn parse_with(text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
    let mut parts = text.split("#### ");
    let main = parts.next().unwrap_or_default();
    let mut files = Files::default();
    for part in parts {
        let (name, content) = part.split_once('\n').expect("a name and a content");
        files.0.insert(name.trim().into(), content.into());
    }
    Config::parse(Path::new("rcptmapd.toml"), main.as_bytes(), &files, overrides)
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_with(text, &Overrides::default())
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|e| panic!("{e}"))
}

const ONE: &str = "[[source]]\npath = \"/etc/list\"\n";

#[test]
fn every_mistake_is_told_in_these_words() {
    let bless = std::env::var_os("BLESS").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut cases = 0;
    let mut wrong = Vec::new();
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("tests/config").map(|e| e.expect("an entry").path()).collect();
    names.sort();
    for path in names.iter().filter(|p| p.extension().is_some_and(|e| e == "toml")) {
        let text = std::fs::read_to_string(path).expect("a readable case");
        let said = match parse(&text) {
            Ok(_) => "taken\n".to_owned(),
            Err(e) => format!("{e}\n"),
        };
        let expected = path.with_extension("err");
        if bless {
            std::fs::write(&expected, &said).expect("a writable folder");
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if said != wanted {
            wrong.push(format!("--- {}\nwanted:\n{wanted}said:\n{said}", path.display()));
        }
        cases += 1;
    }
    assert!(cases > 20, "{cases} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_word_everything_has_its_default() {
    let config = good(ONE);
    assert_eq!(config.user.as_deref(), Some("rcptmapd"));
    assert_eq!(config.state_dir.as_deref(), Some(Path::new("/var/lib/rcptmapd")));
    assert_eq!(config.pid_file, None);
    assert_eq!(config.control.as_deref(), Some(Path::new("/run/rcptmapd/control.sock")));
    assert_eq!(config.listen.iter().map(|l| l.on.to_string()).collect::<Vec<_>>(), ["127.0.0.1:8910"]);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.log, Log::default());
    assert_eq!(config.sources.len(), 1);
    let source = config.sources.first().expect("one");
    assert_eq!((source.name.as_str(), source.format, source.max_shrink), ("list", None, 20));
    assert_eq!(source.origin, Origin::Path("/etc/list".into()));
    assert_eq!(config.files, [Path::new("rcptmapd.toml")]);
}

#[test]
fn what_is_said_is_what_we_run_on() {
    let config = good(
        r#"
user = ""
state_dir = ""
control = "unix:/run/c.sock"
pid_file = "r.pid"
[log]
facility = "local3"
level = "warn,probe=debug"
[[listen]]
on = "local:/run/r.sock"
mode = "666"
owner = "postfix"
group = "mail"
protocol = "socketmap"
default_map = "virtuser"
[[listen]]
on = "inet:8910@0.0.0.0"
allow = ["192.0.2.77/24", "::1"]
protocol = "line"
[limits]
sessions = 5
request_bytes = "16KiB"
line_bytes = 600
idle = "7d"
answer_line = "250ms"
[defaults]
max_shrink = "5%"
min_entries = 10
[[source]]
path = "lists/a"
domain = "Müller.example"
priority = -1
min_entries = 0
[[source]]
path = "/srv/lists/a"
max_shrink = "100%"
[[domain]]
names = ["Example.ORG.", "müller.example"]
subaddress = "+-+"
always = ["Abuse", "POSTMASTER"]
absent = "550 5.1.1 Never heard of"
unwrap = ["batv", "srs"]
mode = "warn"
[[domain]]
names = "alias.example"
same_as = "EXAMPLE.org"
unwrap = []
subaddress = ""
[[map]]
name = "virtuser"
kind = "table"
path = "virtusertable"
[[map]]
name = "relay"
kind = "recipients"
value = "RELAY"
"#,
    );
    let here = std::env::current_dir().expect("a folder");
    assert_eq!((&config.user, &config.state_dir), (&None, &None));
    assert_eq!(config.control.as_deref(), Some(Path::new("/run/c.sock")));
    assert_eq!(config.pid_file, Some(here.join("r.pid")), "relative to the file");
    assert_eq!((config.log.facility, config.log.level.to_string()), (Facility::Local3, "warn,probe=debug".into()));
    let [first, second] = config.listen.as_slice() else { panic!("two listeners") };
    assert_eq!((first.on.to_string(), first.mode), ("unix:/run/r.sock".into(), 0o666));
    assert_eq!((first.owner.as_deref(), first.group.as_deref()), (Some("postfix"), Some("mail")));
    assert_eq!((first.protocol, first.default_map.as_str()), (ListenProtocol::Socketmap, "virtuser"));
    assert_eq!(first.place.as_ref().map(Place::to_string), Some("rcptmapd.toml:10".into()));
    assert_eq!(second.allow.iter().map(|n| n.to_string()).collect::<Vec<_>>(), ["192.0.2.0/24", "::1/128"]);
    assert_eq!((config.limits.sessions, config.limits.request_bytes, config.limits.line_bytes), (5, 16384, 600));
    assert_eq!(config.limits.idle, Duration::from_secs(7 * 86_400));
    assert_eq!(config.limits.answer_line, Duration::from_millis(250));
    let [a, b] = config.sources.as_slice() else { panic!("two sources") };
    assert_eq!(a.origin, Origin::Path(here.join("lists/a")));
    assert_eq!((a.name.as_str(), b.name.as_str()), ("a", "/srv/lists/a"), "the short name is taken once");
    assert_eq!(a.domain, Some(DomainName("xn--mller-kva.example".into())));
    assert_eq!((a.priority, a.min_entries, a.max_shrink), (-1, 0, 5));
    assert_eq!((b.min_entries, b.max_shrink), (10, 100));
    let [main, alias] = config.domains.as_slice() else { panic!("two domains") };
    assert_eq!(main.names, [DomainName("example.org".into()), DomainName("xn--mller-kva.example".into())]);
    assert_eq!((main.subaddress.as_slice(), main.always.join(" ")), (&b"+-"[..], "postmaster abuse".into()));
    assert_eq!((main.absent.to_string(), main.mode), ("550 5.1.1 Never heard of".into(), Mode::Warn));
    assert_eq!(main.unwrap, [Wrapper::Batv, Wrapper::Srs]);
    assert_eq!(alias.same_as, Some(DomainName("example.org".into())));
    assert_eq!((alias.subaddress.as_slice(), alias.unwrap.len()), (&b""[..], 0));
    assert_eq!(config.map("virtuser").map(|m| m.path.clone()), Some(Some(here.join("virtusertable"))));
    assert_eq!(config.map("relay").map(|m| m.value.clone()), Some(MapValue::Word("RELAY".into())));
}

#[test]
fn included_files_are_read_in_the_order_of_their_names() {
    let config = good(
        "include = \"more/*.conf\"\n[limits]\nidle = \"1h\"\n[[source]]\npath = \"/etc/0\"\n\
         #### more/20-b.conf\n[[source]]\npath = \"/etc/2\"\n\
         #### more/10-a.conf\n[limits]\nsessions = 3\n[[source]]\npath = \"/etc/1\"\n\
         #### more/.hidden.conf\nnonsense\n\
         #### more/10-a.conf~\nnonsense\n\
         #### conf.d/10-a.toml\nnonsense\n",
    );
    let names: Vec<&str> = config.sources.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["0", "1", "2"]);
    assert_eq!((config.limits.sessions, config.limits.idle), (3, Duration::from_secs(3600)));
    let place = config.sources.last().and_then(|s| s.place.clone()).map(|p| p.to_string());
    assert_eq!(place.as_deref(), Some("more/20-b.conf:1"));
    assert_eq!(config.files.len(), 3);
    assert_eq!(good(&format!("include = \"\"\n{ONE}#### conf.d/x.toml\nnonsense\n")).files.len(), 1);
}

#[test]
fn a_file_that_is_no_text_is_told_with_the_line() {
    let error = |text: &[u8]| {
        Config::parse(Path::new("r.toml"), text, &Files::default(), &Overrides::default())
            .expect_err("no text")
            .to_string()
    };
    assert_eq!(error(b"[log]\nlevel = \"\xfc\"\n"), "r.toml:2: byte 0xfc: not UTF-8; save the file as UTF-8");
    assert!(error(&vec![b'#'; 5 << 20]).starts_with("r.toml: longer than 4 MiB: this is no configuration"));
    let with_bom = format!("\u{feff}{}", ONE.replace('\n', "\r\n"));
    assert_eq!(good(&with_bom).sources.len(), 1, "BOM and CRLF are taken");
}

#[test]
fn the_command_line_adds_to_the_file() {
    let overrides = Overrides {
        sources: vec!["/srv/list".into(), "/srv/x".into()],
        listen: vec!["/run/x.sock".parse().expect("good"), "/run/x.sock".parse().expect("good")],
        user: Some("nobody".into()),
        pid_file: Some("/run/x.pid".into()),
        ..Overrides::default()
    };
    let config = parse_with(ONE, &overrides).unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<&str> = config.sources.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["list", "/srv/list", "x"], "a name that is taken makes room for the path");
    assert_eq!(config.listen.iter().map(|l| l.on.to_string()).collect::<Vec<_>>(), ["unix:/run/x.sock"]);
    assert_eq!(config.user.as_deref(), Some("nobody"));
    assert_eq!(config.pid_file.as_deref(), Some(Path::new("/run/x.pid")));
    assert!(parse("").is_err() && parse_with("", &overrides).is_ok(), "a file without a list, lists beside it");
}

#[test]
fn lists_alone_are_enough() {
    let config = Config::for_sources(&["list".into(), "list".into()], &[]);
    assert_eq!(config.listen.iter().map(|l| l.on.to_string()).collect::<Vec<_>>(), ["127.0.0.1:8910"]);
    assert_eq!((config.user, config.control, config.state_dir, config.pid_file), (None, None, None, None));
    assert_eq!(config.sources.len(), 1);
    let here = std::env::current_dir().expect("a folder");
    assert_eq!(config.sources.first().map(|s| s.origin.clone()), Some(Origin::Path(here.join("list"))));
    let overrides = Overrides { user: Some("nobody".into()), pid_file: Some("/run/x".into()), ..Overrides::default() };
    let config = Config::without_file(&overrides);
    assert_eq!((config.user.as_deref(), config.pid_file.as_deref()), (Some("nobody"), Some(Path::new("/run/x"))));
}

#[test]
fn a_file_that_is_not_there_is_told_with_advice() {
    let error = Config::load(Path::new("/nonexistent/r.toml"), &Overrides::default()).expect_err("no file");
    assert_eq!(
        error.to_string(),
        "/nonexistent/r.toml: can't read the configuration: no such file or directory; name another with -c FILE, or name \
         the lists: rcptmapd serve LIST..."
    );
    let error = Config::load(Path::new("/"), &Overrides::default()).expect_err("a folder");
    assert_eq!(error.to_string(), "/: can't read the configuration: is a directory");
}

#[test]
fn starttls_needs_a_program_that_was_built_with_it() {
    for (tls, is_taken) in
        [("off", true), ("opportunistic", cfg!(feature = "tls")), ("required", cfg!(feature = "tls"))]
    {
        let said = parse(&format!("[[backend]]\nname = \"hub\"\nservers = [\"192.0.2.1:25\"]\ntls = \"{tls}\"\n"));
        let said = said.map(|_| ()).map_err(|e| e.to_string());
        let refusal = format!(
            "rcptmapd.toml:4: [[backend]] tls = \"{tls}\": this rcptmapd was built without \"tls\"; it can be \"off\" here"
        );
        assert_eq!(said, if is_taken { Ok(()) } else { Err(refusal) });
    }
}

/// The shipped example, and the same with every setting in it switched on.
fn example() -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/rcptmapd.toml");
    let text = std::fs::read_to_string(path).expect("contrib/rcptmapd.toml");
    let is_setting = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let full = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if is_setting(rest) => rest,
        _ => line,
    });
    let full = full.collect::<Vec<_>>().join("\n");
    (text, full)
}

#[test]
fn the_example_can_be_used_as_it_is() {
    let (text, _) = example();
    let config = good(&text);
    assert_eq!(
        config.listen.iter().map(|l| l.on.to_string()).collect::<Vec<_>>(),
        ["unix:/run/rcptmapd/rcptmapd.sock", "127.0.0.1:8910"]
    );
    assert_eq!(config.sources.len(), 1);
    assert_eq!(config.user.as_deref(), Some(DEFAULT_USER));
}

#[test]
fn the_example_shows_the_defaults() {
    let (_, full) = example();
    let config = parse(&full).unwrap_or_else(|e| panic!("{e}"));
    let plain = good(ONE);
    assert_eq!((&config.user, &config.control), (&plain.user, &plain.control));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.log, Log::default());
    let (unix, tcp) = (&config.listen[0], &config.listen[1]);
    let default = Listen::new(DEFAULT_LISTEN);
    assert_eq!((unix.mode, unix.protocol), (default.mode, default.protocol));
    assert_eq!((&unix.default_map, &tcp.allow), (&default.default_map, &default.allow));
    let (source, default) = (&config.sources[0], &plain.sources[0]);
    assert_eq!((source.max_shrink, source.min_entries), (default.max_shrink, default.min_entries));
    assert_eq!((source.format, source.priority), (default.format, default.priority));
    let (domain, default) = (&config.domains[0], RelayDomain::default());
    assert_eq!((domain.subdomains, domain.verify, domain.mode), (default.subdomains, default.verify, default.mode));
    assert_eq!((&domain.subaddress, &domain.always), (&default.subaddress, &default.always));
    assert_eq!((&domain.unwrap, domain.case_sensitive), (&default.unwrap, default.case_sensitive));
    assert_eq!((&domain.absent, &domain.unknown), (&default.absent, &default.unknown));
    let shown = &config.backends[0];
    let default = Backend {
        known_good: shown.known_good.clone(),
        absent_codes: shown.absent_codes.clone(),
        place: shown.place.clone(),
        ..Backend::new(shown.name.clone(), shown.servers.clone())
    };
    assert_eq!(format!("{shown:?}"), format!("{default:?}"));
    assert_eq!(config.cache, Cache::default());
}

#[test]
fn the_example_names_every_key_that_the_program_acts_on() {
    let (_, full) = example();
    let mut section = String::new();
    let mut shown: Vec<String> = Vec::new();
    for line in full.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_matches(['[', ']']));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            shown.push(format!("{section}{key}"));
        }
    }
    let missing: Vec<String> = keys()
        .into_iter()
        .filter(|k| !shown.contains(k))
        // what can only be switched off today need not be shown
        .filter(|k| !["log.addresses", "map.format"].contains(&k.as_str()))
        .collect();
    assert!(missing.is_empty(), "contrib/rcptmapd.toml doesn't name {missing:?}");
}

#[test]
fn the_units_are_understood_by_systemd() {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd");
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["rcptmapd.service", "rcptmapd.socket"] {
        let text = std::fs::read_to_string(contrib.join(name)).expect("a unit");
        // the program is not installed here
        std::fs::write(folder.path().join(name), text.replace("/usr/sbin/rcptmapd", "/bin/true")).expect("written");
    }
    let output = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "rcptmapd.service", "rcptmapd.socket"])
        .current_dir(folder.path())
        .output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let ours: Vec<&str> = said.lines().filter(|l| l.contains("rcptmapd")).collect();
            assert!(output.status.success() && ours.is_empty(), "{said}");
        }
        // past the harness, which keeps what `eprintln!` says of a test that passes
        Err(e) => writeln!(io::stderr(), "SKIPPED the_units_are_understood_by_systemd: systemd-analyze: {e}")
            .expect("standard error"),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Whatever an editor leaves behind: something is said about a line that there is, and nothing panics.
    #[test]
    fn a_damaged_file_is_read_or_refused(
        cuts in proptest::collection::vec((0usize..6000, 0usize..30, "[\\[\\]=\"'#\\n\\x00-\\x7fü.,{}]{0,6}"), 1..6)
    ) {
        let (text, full) = example();
        for mut text in [text, full] {
            for (at, len, new) in &cuts {
                let start = text.floor_char_boundary(at % text.len());
                let end = text.ceil_char_boundary((start + len).min(text.len()));
                text.replace_range(start..end, new);
            }
            if let Err(e) = parse(&text) {
                proptest::prop_assert!(!e.problems.is_empty());
                for problem in &e.problems {
                    proptest::prop_assert!(problem.place.line <= text.lines().count() + 1, "{problem}");
                    proptest::prop_assert!(!problem.text.contains(|c: char| c.is_control()), "{problem:?}");
                    proptest::prop_assert!(problem.text.len() < 1000, "{problem}");
                }
            }
        }
    }
}
