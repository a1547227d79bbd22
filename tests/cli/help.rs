//! Help, usage errors, and what is made from the definition of the command line.

use crate::common::run;
use crate::golden;

const COMMANDS: [&str; 15] = [
    "serve",
    "check",
    "query",
    "explain",
    "probe",
    "status",
    "stats",
    "report",
    "reload",
    "rollback",
    "cache",
    "flush",
    "import",
    "completions",
    "man",
];

#[test]
fn help_is_what_it_is_meant_to_be() {
    let main = run(&["--help"]);
    assert_eq!((main.code, main.err.as_str()), (Some(0), ""));
    golden("help/rcptmapd.txt", &main.out);
    for command in COMMANDS {
        let help = run(&[command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{command}");
        assert!(help.out.contains("Examples:\n  rcptmapd "), "{command} teaches by examples");
        assert!(help.out.lines().all(|line| line.len() <= 100), "{command}");
        golden(&format!("help/{command}.txt"), &help.out);
    }
}

#[test]
fn every_command_has_its_golden_help() {
    let main = run(&["--help"]).out;
    let listed: Vec<&str> = main
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS);
}

#[test]
fn a_wrong_command_line_is_64_and_says_what_is_meant() {
    for (args, said) in [
        (&["qeury", "a@b.example"][..], "query"),
        (&[][..], "Usage: rcptmapd <COMMAND>"),
        (&["query"][..], "<ADDRESS>..."),
        (&["query", "--timeout", "5", "a@b.example"][..], "\"90s\""),
        (&["query", "--map", "a b", "a@b.example"][..], "one word"),
        (&["query", "-", "a@b.example"][..], "stands alone"),
        (&["query", "--to", "localhost", "a@b.example"][..], "127.0.0.1:8910"),
        (&["serve", "--listen", "8910", "list"][..], "a host is needed"),
        (&["status", "--to", "127.0.0.1:1", "--control", "/x"][..], "cannot be used with"),
        (&["completions", "csh"][..], "bash"),
        (&["man", "nonsense"][..], "there are: serve check query"),
    ] {
        let ran = run(args);
        assert_eq!(ran.code, Some(64), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(said) && ran.out.is_empty(), "{args:?}: {}", ran.err);
    }
}

#[test]
fn shells_and_man_get_what_they_need() {
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef rcptmapd"), ("fish", "complete -c rcptmapd")] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, Some(0));
        assert!(script.out.contains(sign) && script.out.contains("explain"), "{shell}");
    }
    assert!(run(&["man"]).out.contains(".TH rcptmapd 8"));
    let page = run(&["man", "query"]);
    assert!(page.out.contains(".TH rcptmapd-query 8") && page.out.contains("Exit status"), "{}", page.out);
    assert!(run(&["--version"]).out.starts_with("rcptmapd 0."));
}
