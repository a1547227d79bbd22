//! The layers of the program, as `src/lib.rs` draws them: an outer one may use an inner one, never the reverse, and
//! the pure ones touch neither sockets nor files nor clocks nor the log.

use std::fs;
use std::path::{Path, PathBuf};

/// From the outermost to the innermost; those of one line are equals.
const LAYERS: [&[&str]; 8] = [
    &["cli"],
    &["net", "reload", "sys", "logging"],
    &["tally"],
    &["resolve", "stats"],
    &["probe", "harvest", "skip"],
    &["config"],
    &["proto", "source", "map"],
    &["address", "verdict"],
];

/// Equals that may still not use each other in this direction: (who, whom).
const NOT: [(&str, &str); 3] = [("map", "source"), ("map", "proto"), ("sys", "net")];

/// What modules below `net` may not touch.
const IMPURE: [&str; 9] = [
    "mio::",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
    "log::",
    "thread::",
];

const PURE: [&str; 11] =
    ["tally", "resolve", "stats", "harvest", "skip", "proto", "probe", "source", "map", "address", "verdict"];

fn sources(of: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                walk(&entry, files);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                files.push(entry);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = src.join(of).with_extension("rs");
    let mut files = Vec::new();
    if file.exists() {
        files.push(file);
    }
    if src.join(of).is_dir() {
        walk(&src.join(of), &mut files);
    }
    files
}

/// The code of a file without comments and unit tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a source file");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

fn uses(code: &str, module: &str) -> bool {
    let direct = code.match_indices(&format!("crate::{module}")).any(|(at, found)| {
        code[at + found.len()..].chars().next().is_none_or(|next| !next.is_alphanumeric() && next != '_')
    });
    // `use crate::{a, b::c};`
    let grouped = code.match_indices("crate::{").any(|(at, found)| {
        let group = code[at + found.len()..].split(';').next().unwrap_or_default();
        group.split([',', '{', '}', '\n', ' ']).any(|word| word.split("::").next() == Some(module))
    });
    direct || grouped
}

#[test]
fn every_module_has_its_layer() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).expect("lib.rs");
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in modules {
        assert!(LAYERS.iter().any(|layer| layer.contains(&module)), "{module} is in no layer");
        assert!(!sources(module).is_empty(), "{module} has no file");
        assert!(
            lib.contains(&format!("`{module}`")) || lib.contains(&format!(" {module} ")),
            "lib.rs does not tell of {module}"
        );
    }
}

#[test]
fn nothing_uses_what_lies_further_out() {
    for (inner, layer) in LAYERS.iter().enumerate() {
        for module in *layer {
            for file in sources(module) {
                let code = code(&file);
                for outer in LAYERS[..inner].iter().copied().flatten() {
                    assert!(!uses(&code, outer), "{} uses {outer}, which lies further out", file.display());
                }
                for (_, whom) in NOT.iter().filter(|(who, _)| who == module) {
                    assert!(!uses(&code, whom), "{} uses {whom}", file.display());
                }
            }
        }
    }
}

#[test]
fn the_pure_layers_touch_nothing() {
    for module in PURE {
        for file in sources(module) {
            let code = code(&file);
            for word in IMPURE {
                let found = code.match_indices(word).any(|(at, _)| {
                    code[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_')
                });
                assert!(!found, "{} touches {word}", file.display());
            }
        }
    }
}

#[test]
fn files_keep_to_their_purpose() {
    // No law, but the size at which to look for the noun that wants out. Unit tests are not counted.
    for module in LAYERS.concat() {
        for file in sources(module) {
            let lines = code(&file).lines().count();
            assert!(lines <= 800, "{} has {lines} lines of code", file.display());
        }
    }
}
