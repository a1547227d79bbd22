//! Runs the bodies of the fuzz targets over the committed corpus: as it is, cut short at every length, and with bytes
//! changed. What the fuzzers found once stays found, also where there is no nightly compiler.
//!
//! A part of the corpus is made of the transcripts; `BLESS=1` writes it anew.

#[allow(dead_code)]
#[path = "fuzz/targets.rs"]
mod targets;
#[path = "vectors/mod.rs"]
mod transcript;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// Everything that is committed for a target: file name and bytes.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        })
        .collect();
    files.sort();
    files
}

fn run(target: &str, body: targets::Body, name: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| body(input))).is_err() {
        panic!("{target}/{name}: broken by {}", transcript::show(input));
    }
}

#[test]
fn every_target_has_a_folder_and_every_folder_a_target() {
    let targets: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folders: BTreeSet<String> = fs::read_dir(corpus())
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(targets, folders);
    for name in &targets {
        assert!(!inputs(name).is_empty(), "nothing for {name}");
        let binary = corpus().with_file_name("fuzz_targets").join(name).with_extension("rs");
        assert!(binary.exists(), "no {}", binary.display());
    }
}

#[test]
fn as_it_is() {
    for (target, body) in targets::ALL {
        inputs(target).iter().for_each(|(name, input)| run(target, *body, name, input));
    }
}

#[test]
fn cut_short() {
    for (target, body) in targets::ALL {
        for (name, input) in inputs(target) {
            let stride = input.len() / 100 + 1;
            (0..input.len()).step_by(stride).for_each(|n| run(target, *body, &name, &input[..n]));
        }
    }
}

#[test]
fn with_bytes_changed() {
    for (target, body) in targets::ALL {
        for (name, mut input) in inputs(target) {
            let stride = input.len() / 12 + 1;
            for at in (0..input.len()).step_by(stride) {
                let before = input[at];
                for changed in [0, b'\n', b' ', b'%', b'9', b':', b'@', 0x7f, 0xff, before ^ 1, before ^ 0x80] {
                    input[at] = changed;
                    run(target, *body, &name, &input);
                }
                input[at] = before;
            }
        }
    }
}

/// One case of a transcript as an input: what it sends, on which decoder, and as operations of a session.
#[test]
fn every_transcript_is_in_the_corpus() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut missing = Vec::new();
    let mut put = |target: &str, name: &str, bytes: &[u8]| {
        let path = corpus().join(target).join(name);
        if bless {
            fs::create_dir_all(corpus().join(target)).and_then(|()| fs::write(&path, bytes)).expect("a file");
        } else if fs::read(&path).ok().as_deref() != Some(bytes) {
            missing.push(format!("{target}/{name}"));
        }
    };
    for case in transcript::all() {
        let sent = case.sent();
        if sent.is_empty() || sent.len() > 3000 {
            continue;
        }
        let slug: String = case.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let folder = case.file.split('/').next().unwrap_or_default();
        let target = if folder == "detect" { "detect" } else { folder };
        put(target, &slug, &sent);
        // one listener is enough: "auto" where it is among them, since it has more ways to go
        if let Some(listen) = case.settings.listen.last() {
            let choice = ["auto", "socketmap", "line", "policy", "http", "tcp-table", "milter"]
                .iter()
                .position(|name| name == listen)
                .unwrap_or_else(|| panic!("{case}: {listen}"));
            let mut operations = vec![choice as u8 | if case.settings.no_data { 0x80 } else { 0 }];
            for step in &case.steps {
                match step {
                    transcript::Step::Send(bytes) => {
                        for piece in bytes.chunks(100) {
                            operations.extend([0xfe, piece.len() as u8]);
                            operations.extend_from_slice(piece);
                        }
                    }
                    transcript::Step::HalfClose => operations.push(0xff),
                    _ => (),
                }
            }
            put("session", &format!("{folder}-{slug}"), &operations);
        }
    }
    assert!(missing.is_empty(), "with BLESS=1 this test writes them anew: {missing:?}");
}
