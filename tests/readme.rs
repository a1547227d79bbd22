//! What the README says is tried: its console lines against a daemon with the sample lists, its snippets against the files
//! that the tests with real mail servers run on, its commands and table against the program.

mod common;

use std::path::Path;

use common::{Setup, run};

fn repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn with_samples() -> common::Daemon {
    Setup::new()
        .list("relay_recipients", repository("contrib/sample/relay_recipients"))
        .list("access", repository("contrib/sample/access"))
        .start()
}

/// Fenced blocks: what stands in the line before, the language, the text.
fn blocks(readme: &str) -> Vec<(String, String, String)> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    let mut before = String::new();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((before.clone(), language.to_owned(), text.join("\n")));
        }
        before = line.to_owned();
    }
    blocks
}

#[test]
fn the_lines_for_netcat_print_what_the_readme_shows() {
    let daemon = with_samples();
    let readme = repository("README.md");
    let mut asked = 0;
    for (_, _, text) in blocks(&readme).iter().filter(|(_, language, _)| language == "console") {
        let mut lines = text.lines();
        while let Some(command) = lines.next() {
            let key = command
                .strip_prefix("$ echo '")
                .and_then(|rest| rest.strip_suffix("' | nc -N 127.0.0.1 8910"))
                .unwrap_or_else(|| panic!("a line that this test can't run: {command}"));
            let reply = daemon.exchange(format!("{key}\n"));
            assert_eq!(String::from_utf8_lossy(&reply).trim_end_matches('\n'), lines.next().unwrap_or_default());
            asked += 1;
        }
    }
    assert!(asked >= 2);
}

#[test]
fn the_snippets_are_those_that_are_tested() {
    let readme = repository("README.md");
    let mut seen = 0;
    for (before, _, text) in blocks(&readme) {
        let Some(file) = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else { continue };
        let shipped = repository(file);
        let mut shipped = shipped.lines();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            assert!(shipped.any(|there| there == line), "{file} does not have this line, or not here: {line}");
        }
        seen += 1;
    }
    assert_eq!(seen, 3, "Postfix, Exim and sendmail");
}

#[test]
fn the_table_of_replies_is_what_the_maps_say() {
    let daemon = with_samples();
    let readme = repository("README.md");
    let mut rows = 0;
    for row in readme
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains("` | `OK ") || line.starts_with("| `rcpt`"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(|cell| cell.trim_matches([' ', '|'])).collect();
        let map = cells[0].split('`').nth(1).expect("a name");
        let shown = |cell: &str| {
            cell.trim_matches('`').replace("<address>", "anna@example.org").replace("<domain>", "example.org")
        };
        let keys: [&str; 3] = match map {
            "access" => ["to:anna@example.org", "to:nobody@example.org", "to:anna@foreign.example"],
            "domains" => ["example.org", "", "foreign.example"],
            _ => ["anna@example.org", "nobody@example.org", "anna@foreign.example"],
        };
        for (key, cell) in keys.iter().zip(&cells[1..]).filter(|(_, cell)| **cell != "-") {
            assert_eq!(daemon.ask(map, key), shown(cell), "{map} {key}");
        }
        rows += 1;
    }
    assert_eq!(rows, 4);
}

#[test]
fn the_configuration_is_one() {
    let readme = repository("README.md");
    let mut seen = 0;
    for (_, _, text) in blocks(&readme).into_iter().filter(|(_, language, _)| language == "toml") {
        let setup = Setup::new().file("list", "anna@example.org\n");
        let file = setup.path("rcptmapd.toml");
        let setup = setup.file("rcptmapd.toml", format!("{text}\n[[source]]\npath = \"list\"\n"));
        let checked = run(&["check".as_ref(), "-c".as_ref(), file.as_os_str()]);
        assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
        drop(setup);
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn the_commands_are_there() {
    let readme = repository("README.md");
    let table = readme.split("## Commands").nth(1).expect("a section").split("\n## ").next().unwrap_or_default();
    let mut seen = 0;
    for row in table.lines().filter(|line| line.starts_with("| `rcptmapd")) {
        let names = row.split('|').nth(1).unwrap_or_default().replace("rcptmapd ", "");
        for name in names.split(',').map(|name| name.trim().trim_matches('`')) {
            let name = name.split(' ').next().unwrap_or_default();
            let help = run(&[name, "--help"]);
            assert_eq!(help.code, Some(0), "{name}: {}", help.err);
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen}");
}

#[test]
fn make_help_tells_every_target() {
    let makefile = repository("Makefile");
    for target in ["all", "run", "test", "bench", "check", "install"] {
        assert!(
            makefile.lines().any(|line| line.starts_with(&format!("{target}:")) && line.contains("## ")),
            "{target}"
        );
    }
}
