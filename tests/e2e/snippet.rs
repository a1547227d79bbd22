//! The shipped snippets, as an administrator pastes them: unchanged, but for the choice between UNIX socket and TCP.

use std::fs;
use std::path::Path;

/// The sockets that the snippets name.
const UNIX: [&str; 2] = ["/run/rcptmapd/rcptmapd.sock", "/run/rcptmapd/milter.sock"];
/// The ports that they name.
const TCP: [&str; 2] = ["8910", "8911"];
/// What makes a comment of a setting, and nothing else of prose: no sentence names the port.
const COMMENT_MARKS: [&str; 2] = ["dnl ", "#"];

/// Where the MTA reaches the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The UNIX socket, as shipped.
    Unix,
    /// The commented alternative.
    Tcp,
}

/// `contrib/NAME` as it is.
pub fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `contrib/NAME` with its lines for `endpoint` in force.
pub fn read_for(name: &str, endpoint: Endpoint) -> String {
    let text = read(name);
    match endpoint {
        Endpoint::Unix => text,
        Endpoint::Tcp => over_tcp(&text),
    }
}

/// Comments the settings that name the UNIX socket, and uncomments those that name the port.
fn over_tcp(text: &str) -> String {
    let mut chosen = String::new();
    let mut settings = 0;
    for line in text.lines() {
        let mark = COMMENT_MARKS.into_iter().find(|mark| line.starts_with(mark));
        match mark {
            Some(mark) if TCP.iter().any(|port| line.contains(port)) => {
                chosen.push_str(&line[mark.len()..]);
                settings += 1;
            }
            None if UNIX.iter().any(|path| line.contains(path)) => {}
            _ => chosen.push_str(line),
        }
        chosen.push('\n');
    }
    assert_eq!(settings, 1, "the snippet offers one setting for TCP:\n{text}");
    chosen
}
