//! What every wiring has to stand, told once.
use super::smtp::Session;
use super::snippet::Endpoint;
use super::world::{Wiring, World};

/// temporary
pub fn show(wiring: Wiring, endpoint: Endpoint) {
    let Some(mut world) = World::start(wiring, endpoint) else { return };
    let mut down = Session::open();
    eprintln!("== {wiring:?} {endpoint:?}");
    eprintln!("GREET {}", down.greeting);
    eprintln!("down {}", down.verdict("anna@example.com"));
    eprintln!("down {}", down.verdict("nobody@example.com"));
    world.start_daemon();
    eprintln!("same session, up {}", down.verdict("anna@example.com"));
    eprintln!("same session, up {}", down.verdict("anna@example.com"));
    let mut s = Session::open();
    for r in ["anna@example.com", "nobody@example.com", "anna+shop@example.com", "nobody+shop@example.com", "\"first last\"@example.com","\"last first\"@example.com","ANNA@Example.COM", "postmaster@example.com", "postmaster", "leaver@example.com","anna@elsewhere.example", "anna@sub.example.com", "@relay.example:anna@example.com", "\"anna\"@example.com"] {
        eprintln!("up {r}: {}", s.verdict(r));
    }
    world.stop_daemon();
    eprintln!("broken {}", s.verdict("anna@example.com"));
    eprintln!("broken {}", s.verdict("anna@example.com"));
    world.start_daemon();
    eprintln!("again {}", s.verdict("anna@example.com"));
    eprintln!("again {}", s.verdict("anna@example.com"));
    let mut s = Session::open();
    eprintln!("new session {}", s.verdict("anna@example.com"));
    world.stop_daemon();
    world.start_daemon();
    eprintln!("restarted {}", s.verdict("anna@example.com"));
    eprintln!("restarted {}", s.verdict("nobody@example.com"));
    world.stop_daemon();
    std::fs::remove_file(world.files.recipients()).unwrap();
    world.start_daemon();
    let mut s = Session::open();
    eprintln!("no data {}", s.verdict("anna@example.com"));
    eprintln!("no data {}", s.verdict("nobody@example.com"));
    if std::env::var_os("SAY").is_some() { panic!("say"); }
}
