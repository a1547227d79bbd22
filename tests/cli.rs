//! The command line, run as people run it.
//!
//! Texts that are long stand in files beside this one (`tests/cli/help`, `tests/cli/explain`, ...). `BLESS=1 cargo test
//! --test cli` writes them anew: read the difference before you commit it.

mod common;

#[path = "cli/check.rs"]
mod check;
#[path = "cli/control.rs"]
mod control;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/query.rs"]
mod query;
#[path = "cli/serve.rs"]
mod serve;

use std::path::Path;

/// Compares a text with the file of this name below `tests/cli`, or writes it there.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).expect("a writable folder");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{} differs; wanted:\n{wanted}\nfound:\n{text}", path.display());
}
