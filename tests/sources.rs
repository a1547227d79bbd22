//! Plays the lists under `tests/sources/FORMAT/`: what a parser says of `NAME.list` stands in `NAME.events`.
//!
//! Every list is read whole, byte by byte and cut at every position. An events file may begin with a line
//! `options: domain=example.org today=2026-12-31 uid_min=500 shells=/bin/sh disabled=drop`. `BLESS=1` writes the files anew;
//! look at what it wrote.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rcptmapd::source::{Disabled, Encoding, Format, Options, detect, digest, digest_chunks};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sources")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("a folder entry").path()).collect();
    paths.sort();
    paths
}

/// Every list: its format, its path, its content, and what is expected of it.
fn lists() -> Vec<(Format, PathBuf, Vec<u8>, String)> {
    let mut lists = Vec::new();
    for folder in entries(&folder()).into_iter().filter(|p| p.is_dir()) {
        let name = folder.file_name().and_then(|n| n.to_str()).expect("a name");
        let format: Format = name.parse().expect("folders are named as formats");
        for path in entries(&folder).into_iter().filter(|p| p.extension().is_some_and(|e| e == "list")) {
            let bytes = fs::read(&path).expect("a list");
            let expected = fs::read_to_string(path.with_extension("events")).unwrap_or_default();
            lists.push((format, path, bytes, expected));
        }
    }
    lists
}

/// The options that the first line of an events file names.
fn options(events: &str) -> Options {
    let mut options = Options::default();
    let words = events.lines().next().and_then(|line| line.strip_prefix("options:")).unwrap_or_default();
    for (name, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
        match name {
            "domain" => options.domain = value.into(),
            "today" => options.today = value.parse().expect("a day"),
            "uid_min" => options.uid_min = value.parse().expect("a number"),
            "shells" => options.shells = value.split(',').map(Into::into).collect(),
            "disabled" => options.disabled = if value == "drop" { Disabled::Drop } else { Disabled::Keep },
            _ => panic!("unknown option {name}"),
        }
    }
    options
}

fn lossy(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[test]
fn every_list_says_what_it_should() {
    let lists = lists();
    assert!(lists.len() > 3, "no lists found");
    let mut wrong = Vec::new();
    for (format, path, bytes, expected) in lists {
        let detection = detect(&bytes, &lossy(&path).replace(".list", ""));
        let mut said =
            expected.lines().next().filter(|l| l.starts_with("options:")).map(|l| format!("{l}\n")).unwrap_or_default();
        let also: String = detection.also.iter().map(|f| format!(", also {f}")).collect();
        said += &format!("detected: {}{also}: {}\n", detection.format, detection.why);
        said += &digest_chunks(format, &options(&expected), [bytes.as_slice()]).to_string();
        if std::env::var_os("BLESS").is_some() {
            fs::write(path.with_extension("events"), said).expect("written");
        } else if said != expected {
            wrong.push(format!("{}:\n--- expected\n{expected}--- said\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn chunking_makes_no_difference() {
    for (format, path, bytes, expected) in lists() {
        let options = options(&expected);
        let whole = digest_chunks(format, &options, [bytes.as_slice()]);
        let same = |chunks: Vec<&[u8]>, how: &dyn Fn() -> String| {
            let digest = digest_chunks(format, &options, chunks);
            match whole.outcome {
                Ok(_) => assert_eq!(digest, whole, "{}, {}", path.display(), how()),
                Err(_) => assert_eq!(digest.outcome, whole.outcome, "{}, {}", path.display(), how()),
            }
        };
        same(bytes.chunks(1).collect(), &|| "byte by byte".into());
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            same(vec![a, b], &|| format!("cut at {cut}"));
        }
    }
}

/// Lists as administrators write them, of no format that anybody has named, and who is not to be refused because of it.
#[test]
fn nobody_vanishes_whatever_a_list_is_taken_for() {
    let long = format!("all@x.example {}\nanna@x.example\nbert@x.example\n", "m@y.example,".repeat(9000));
    let cases: &[(&str, &[&str])] = &[
        ("Recipients of x.example\n=======\n\nanna@x.example\nbert@x.example\n", &["anna@x.example", "bert@x.example"]),
        ("email addresses, as of monday\nanna@x.example\nbert@x.example\n", &["anna@x.example", "bert@x.example"]),
        (
            "; comment\n// comment\n# comment\nanna@x.example\nbert@x.example\ncarl@x.example # left\n",
            &["anna@x.example", "carl@x.example"],
        ),
        ("mail\nanna\nbert\n", &["mail", "anna", "bert"]),
        ("alias: anna\nmail: bert\nemail: carl\n", &["alias", "mail", "email"]),
        ("email:anna\nmail:bert\n", &["email", "mail"]),
        ("email:\tanna\nmail:\tbert\n", &["email", "mail"]),
        ("\"anna@x.example\"\n\"bert@x.example\"\n", &["anna@x.example", "bert@x.example"]),
        ("'anna@x.example',\n'bert@x.example',\n", &["anna@x.example", "bert@x.example"]),
        ("anna@x.example;\nbert@x.example;\ncarl@x.example\n", &["anna@x.example", "bert@x.example", "carl@x.example"]),
        ("anna@x.example; bert@x.example\ncarl@x.example\ndora@x.example\n", &["bert@x.example", "carl@x.example"]),
        ("anna@x.example, bert@x.example, carl@x.example\n", &["anna@x.example", "carl@x.example"]),
        ("anna@x.example,Anna\nbert@x.example,Bert\n", &["anna@x.example", "bert@x.example"]),
        ("Anna,anna@x.example\nBert,bert@x.example\n", &["anna@x.example", "bert@x.example"]),
        ("Name;Adresse\nAnna;anna@x.example\nBert;bert@x.example\n", &["anna@x.example", "bert@x.example"]),
        ("Anna Adler <anna@x.example>\nBert <bert@x.example>\ncarl@x.example\n", &["anna@x.example", "carl@x.example"]),
        ("<anna@x.example>\n<bert@x.example>\n", &["anna@x.example", "bert@x.example"]),
        ("mailto:anna@x.example\nbert@x.example\ncarl@x.example\n", &["anna@x.example", "bert@x.example"]),
        ("smtp:anna@x.example\nbert@x.example\n", &["anna@x.example", "bert@x.example"]),
        (
            "anna@x.example:\nbert@x.example:\ncarl@x.example: c\n",
            &["anna@x.example", "bert@x.example", "carl@x.example"],
        ),
        ("anna@x.example OK\nbert@x.example\n\tcarl@x.example OK\n", &["anna@x.example", "bert@x.example"]),
        (" anna@x.example\n bert@x.example\n", &["anna@x.example", "bert@x.example"]),
        (
            "anna@x.example OK\n bert@x.example OK\n carl@x.example OK\n",
            &["anna@x.example", "bert@x.example", "carl@x.example"],
        ),
        ("anna@x.example\rbert@x.example\rcarl@x.example\r", &["anna@x.example", "bert@x.example", "carl@x.example"]),
        ("\u{feff}anna@x.example\n\u{feff}bert@x.example\n", &["anna@x.example", "bert@x.example"]),
        (
            "anna@x.example OK\nbert@x.example REJECT\ncarl@x.example carl\ndora@x.example dora\n",
            &["anna@x.example", "carl@x.example"],
        ),
        (
            "To:anna@x.example RELAY\nbert@x.example bert\ncarl@x.example OK\n",
            &["anna@x.example", "bert@x.example", "carl@x.example"],
        ),
        ("anna@x.example error:nouser\nbert@x.example bert\nlist-*@x.example x\n", &["bert@x.example"]),
        ("anna.a:bert\nbert.b:carl\nroot:anna\n", &["anna.a", "bert.b", "root"]),
        ("# STANZA START: chess\nchess: \"|x\"\n# STANZA END\nroot:anna\n\"a b\":anna\n", &["chess", "root"]),
        ("anna@x.example valid\nbert@x.example valid\ncarl@x.example\n", &["anna@x.example", "carl@x.example"]),
        ("dn: anna\nmail: anna@y.example\nroot: anna\n", &["dn", "root", "mail"]),
        ("a:maildrop x@y.example\nb@x.example c\nd@x.example e\n", &["b@x.example", "d@x.example"]),
        (
            "chess-bounces@l.example lmtp:[::1]:8024\nanna@x.example x\nbert@x.example\n",
            &["anna@x.example", "bert@x.example"],
        ),
        ("/^anna(\\+.*)?@x\\.example$/ OK\nbert@x.example OK\n", &["anna@x.example", "bert@x.example"]),
        ("^anna@x\\.example$: a\nbert@x.example: b\ncarl@x.example: c\n", &["anna@x.example", "bert@x.example"]),
        ("anna@x.example|/bin/x\nbert@x.example\ncarl@x.example\n", &["anna@x.example", "bert@x.example"]),
        ("@x.example|/bin/x\nbert@x.example\n", &["anna@x.example", "bert@x.example"]),
        ("anna@x.example  Anna  A.\nbert@x.example  Bert\n-- \nsent by cron\n", &["anna@x.example", "bert@x.example"]),
        (
            "Mail,Name\nanna@x.example,\"Anna\nbert@x.example,Bert\n\"carl@x.example\",Carl\n",
            &["anna@x.example", "bert@x.example", "carl@x.example"],
        ),
        ("Mail\nanna@x.example\n\nbert@x.example bert2@x.example\n", &["anna@x.example", "bert2@x.example"]),
        (&long, &["all@x.example", "anna@x.example", "bert@x.example"]),
    ];
    let mut lost = Vec::new();
    for (text, people) in cases {
        let detection = detect(text.as_bytes(), "list");
        let options = Options { domain: b"x.example".to_vec(), detected: true, ..Options::default() };
        let digest = digest_chunks(detection.with_domain().format, &options, [text.as_bytes()]);
        let said: Vec<String> = digest.events.iter().map(ToString::to_string).collect();
        let count = |word: &str| said.iter().filter(|event| event.contains(word)).count();
        let entries =
            said.iter().filter(|e| !e.contains(" fault ") && !e.ends_with(" ?") && !e.contains(" skip ")).count();
        // What is refused as a whole makes nobody absent.
        if digest.outcome.is_err() || entries == 0 || count(" fault ") > 5.max(entries + count(" skip ")) {
            continue;
        }
        for person in *people {
            let (local, domain) = person.split_once('@').unwrap_or((person, "x.example"));
            let keys = [
                format!(" recipient {local}@{domain}"),
                format!(" any-domain {local}@"),
                format!(" detail {local}+*@{domain}"),
                format!(" catch-all @{domain}"),
                " prefix *@".to_owned(),
            ];
            let speaks = |event: &String| {
                keys.iter().any(|key| {
                    event.split_once(key.as_str()).is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(' '))
                })
            };
            if !said.iter().any(speaks) {
                let shown: String = said.join("\n  ").chars().take(600).collect();
                lost.push(format!(
                    "{person} of {:?}, {}:\n  {shown}",
                    text.chars().take(120).collect::<String>(),
                    detect(text.as_bytes(), "list").format
                ));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

/// Lines count alike in every format but cdb, which has none.
fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&b| b == b'\n').count() + usize::from(bytes.last().is_some_and(|&b| b != b'\n'))
}

fn format() -> impl Strategy<Value = Format> {
    prop::sample::select(Format::ALL)
}

/// Texts made of what lists are made of, so that a parser gets further than its first check.
fn listish() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(
        &[
            "anna",
            "@",
            "example.org",
            ".",
            ":",
            " ",
            "\t",
            "\n",
            "\r\n",
            "#",
            "\"",
            "\\",
            "+",
            "-",
            "*",
            "=",
            ",",
            ";",
            "/",
            "|",
            "!",
            "To:",
            "smtp:",
            "error:",
            "OK",
            "REJECT",
            "550 5.1.1 no",
            "mail: ",
            "mail:: ",
            "dn: x",
            "result: ",
            "0",
            "1001",
            "\u{fc}",
            "PrimarySmtpAddress",
            "EmailAddresses",
            "state=full",
            "until=2026-01-01",
            "# end 1 lines\n",
            "%1",
            "{SSHA}x",
            "x:1:1:::",
            "[",
            "]",
            "<",
            ">",
            "alias: ",
            "anna@example.org",
            "\n ",
            "lmtp:[127.0.0.1]:8024",
            "/^",
            "$/",
            "user",
            "valid",
            "maildrop",
        ][..],
    );
    let byte = any::<u8>().prop_map(|b| vec![b]);
    let part = prop_oneof![30 => piece.prop_map(|s| s.as_bytes().to_vec()), 1 => byte];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_harmless_and_chunks_invisible(
        format in format(),
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), listish()],
        sizes in prop::collection::vec(1usize..40, 1..8),
    ) {
        let options = Options { domain: b"example.org".to_vec(), ..Options::default() };
        let whole = digest(format, &bytes);
        let mut chunks = Vec::new();
        let mut rest = bytes.as_slice();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        let cut = digest_chunks(format, &options, chunks);
        prop_assert_eq!(&cut.outcome, &whole.outcome);
        if whole.outcome.is_ok() {
            prop_assert_eq!(cut.events, whole.events);
        }
    }

    #[test]
    fn lines_are_counted_right(format in format(), bytes in listish()) {
        if let Ok(summary) = digest(format, &bytes).outcome
            && summary.encoding == Encoding::Bytes
            && format.name() != "cdb"
        {
            prop_assert_eq!(summary.lines as usize, count_lines(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)));
        }
    }

    #[test]
    fn detection_never_panics(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), listish()], name in "[a-z./]{0,12}") {
        let detection = detect(&bytes, &name);
        prop_assert!(!detection.why.is_empty());
    }
}
