//! What every wiring has to stand, told once; the replies are those of [`World::words`].
//!
//! Each scenario is a test of its own for each wiring and endpoint, with an MTA of its own.

use std::fs;
use std::net::Ipv4Addr;

use super::daemon::{ACCESS, RECIPIENTS};
use super::smtp::{STRANGER, Session};
use super::snippet::Endpoint;
use super::words::Recovery;
use super::world::{Wiring, World};

/// The verdict on a recipient.
#[derive(Clone, Copy)]
enum Verdict {
    Accepted,
    Refused,
    Left,
    Foreign,
    Subdomain,
}

use Verdict::{Accepted, Foreign, Left, Refused, Subdomain};

/// Recipients in the order in which one mail names them: good and bad ones by turns.
const RECIPIENT_VERDICTS: [(&str, Verdict); 15] = [
    ("anna@example.com", Accepted),
    ("nobody@example.com", Refused),
    ("anna+shop@example.com", Accepted),
    ("nobody+shop@example.com", Refused),
    ("\"first last\"@example.com", Accepted),
    ("\"last first\"@example.com", Refused),
    ("ANNA@Example.COM", Accepted),
    ("NOBODY@Example.COM", Refused),
    ("\"otto\"@example.com", Accepted),
    ("leaver@example.com", Left),
    ("postmaster@example.com", Accepted),
    ("anna@elsewhere.example", Foreign),
    ("anna@sub.example.com", Subdomain),
    ("@relay.example:otto@example.com", Accepted),
    ("nobody@example.com", Refused),
];

/// Known and unknown recipients, details, quoted names, upper case, postmaster: all in one mail.
pub fn each_recipient_of_a_mail_gets_its_verdict(wiring: Wiring, endpoint: Endpoint) {
    let Some(world) = World::start_with_daemon(wiring, endpoint) else { return };
    let mut session = Session::open();
    for (recipient, verdict) in RECIPIENT_VERDICTS {
        let reply = match verdict {
            Accepted => world.words.accepted,
            Refused => world.words.refused,
            Left => world.words.left,
            Foreign => world.words.foreign,
            Subdomain => world.words.subdomain,
        };
        assert_eq!(session.rcpt(recipient), reply(recipient), "RCPT TO:<{recipient}>");
    }
}

/// Without the daemon nobody is refused for good, and nobody is let in.
pub fn daemon_down_is_temporary(wiring: Wiring, endpoint: Endpoint) {
    let Some(mut world) = World::start(wiring, endpoint) else { return };
    let mut session = Session::open();
    for recipient in ["anna@example.com", "nobody@example.com", "anna@example.com"] {
        assert_eq!(session.rcpt(recipient), (world.words.down)(recipient));
    }

    world.start_daemon();
    let later = match world.words.recovery {
        Recovery::AtOnce => world.words.accepted,
        Recovery::NotWhenFoundDown | Recovery::LosesOne | Recovery::Never => world.words.down,
    };
    assert_eq!(session.rcpt("anna@example.com"), later("anna@example.com"), "the session that found it down");
    assert_verdicts(&world, &mut Session::open());
}

/// The daemon goes while a session has a connection to it.
pub fn daemon_gone_is_temporary(wiring: Wiring, endpoint: Endpoint) {
    let Some(mut world) = World::start_with_daemon(wiring, endpoint) else { return };
    let mut session = Session::open();
    assert_verdicts(&world, &mut session);
    world.stop_daemon();
    let first = world.words.lost.unwrap_or(world.words.down);
    assert_eq!(session.rcpt("nobody@example.com"), first("nobody@example.com"));
    assert_eq!(session.rcpt("anna@example.com"), (world.words.down)("anna@example.com"));
    assert_eq!(session.rcpt("nobody@example.com"), (world.words.down)("nobody@example.com"));
    assert_eq!(Session::open().rcpt("anna@example.com"), (world.words.down)("anna@example.com"), "a new session");

    world.start_daemon();
    assert_verdicts(&world, &mut Session::open());
}

/// A daemon whose list is missing knows nothing, also not that a recipient doesn't exist; until the list is there.
pub fn no_list_is_temporary(wiring: Wiring, endpoint: Endpoint) {
    let Some(mut world) = World::start(wiring, endpoint) else { return };
    fs::remove_file(world.files.recipients()).expect("it was there");
    world.start_daemon();
    let mut session = Session::open();
    for recipient in ["anna@example.com", "nobody@example.com"] {
        assert_eq!(session.rcpt(recipient), (world.words.no_list)(recipient));
    }

    fs::write(world.files.recipients(), RECIPIENTS).expect("the folder is ours");
    world.daemon().reload("rcpt anna@example.com", "OK anna@example.com");
    assert_verdicts(&world, &mut session);
}

/// A restart between two recipients of a session.
pub fn restart_is_survived(wiring: Wiring, endpoint: Endpoint) {
    let Some(mut world) = World::start_with_daemon(wiring, endpoint) else { return };
    let mut session = Session::open();
    assert_verdicts(&world, &mut session);
    world.stop_daemon();
    world.start_daemon();
    if world.words.recovery == Recovery::Never {
        let reply = world.words.lost.unwrap_or(world.words.down);
        assert_eq!(session.rcpt("anna@example.com"), reply("anna@example.com"));
        assert_eq!(session.rcpt("nobody@example.com"), (world.words.down)("nobody@example.com"));
        session = Session::open();
    }
    if world.words.recovery == Recovery::LosesOne {
        let reply = world.words.lost.unwrap_or(world.words.down);
        assert_eq!(session.rcpt("anna@example.com"), reply("anna@example.com"));
    }
    assert_verdicts(&world, &mut session);
}

/// After SIGHUP the next recipient of a session is judged by the new list.
pub fn reload_changes_the_next_answer(wiring: Wiring, endpoint: Endpoint) {
    let Some(mut world) = World::start_with_daemon(wiring, endpoint) else { return };
    let mut session = Session::open();
    assert_eq!(session.rcpt("eva@example.com"), (world.words.refused)("eva@example.com"));

    let edited = RECIPIENTS.replace("otto@", "eva@");
    fs::write(world.files.recipients(), edited).expect("the folder is ours");
    world.daemon().reload("rcpt eva@example.com", "OK eva@example.com");
    assert_eq!(session.rcpt("eva@example.com"), (world.words.accepted)("eva@example.com"));
    assert_eq!(session.rcpt("otto@example.com"), (world.words.refused)("otto@example.com"));
    assert_verdicts(&world, &mut session);
}

/// A list that became empty, binary or missing is not taken: the last good one stays in force.
pub fn bad_list_leaves_the_old_answers(wiring: Wiring, endpoint: Endpoint) {
    let Some(mut world) = World::start_with_daemon(wiring, endpoint) else { return };
    let mut session = Session::open();
    assert_verdicts(&world, &mut session);
    let bad_lists: [Option<&[u8]>; 3] = [Some(b""), Some(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\n"), None];
    for (number, bad) in bad_lists.into_iter().enumerate() {
        match bad {
            Some(content) => fs::write(world.files.recipients(), content),
            None => fs::remove_file(world.files.recipients()),
        }
        .expect("the folder is ours");
        // The other source is good, and tells when the reload is through.
        fs::write(world.files.access(), format!("{ACCESS}To:mark{number}@example.com\tRELAY\n"))
            .expect("the folder is ours");
        let mark = format!("mark{number}@example.com");
        world.daemon().reload(&format!("rcpt {mark}"), &format!("OK {mark}"));
        assert_eq!(session.rcpt(&mark), (world.words.accepted)(&mark));
        assert_verdicts(&world, &mut session);
    }
}

/// RSET in the middle of a message, and a second message in the same session.
pub fn messages_do_not_get_mixed(wiring: Wiring, endpoint: Endpoint) {
    let Some(world) = World::start_with_daemon(wiring, endpoint) else { return };
    let mut session = Session::open();
    assert_verdicts(&world, &mut session);
    session.reset();
    assert_verdicts(&world, &mut session);
    assert!(session.send("Subject: one\r\n\r\ntext").starts_with("250"), "a whole message");
    assert_verdicts(&world, &mut session);
    session.reset();
    // nobody of this one is known
    assert_eq!(session.rcpt("nobody@example.com"), (world.words.refused)("nobody@example.com"));
    session.reset();
    assert_verdicts(&world, &mut session);
    assert!(session.send("Subject: two\r\n\r\ntext").starts_with("250"), "a second one");
}

/// One connection, many messages.
pub fn many_messages_in_one_connection(wiring: Wiring, endpoint: Endpoint) {
    let Some(world) = World::start_with_daemon(wiring, endpoint) else { return };
    let mut session = Session::open();
    for number in 0..200 {
        assert_verdicts(&world, &mut session);
        if number % 50 == 49 {
            assert!(session.send("Subject: one of many\r\n\r\ntext").starts_with("250"), "message {number}");
        } else {
            session.reset();
        }
    }
}

/// A client in a listed network is not checked; its neighbour is.
pub fn listed_networks_are_not_checked(wiring: Wiring, endpoint: Endpoint) {
    let Some(world) = World::start_with_daemon(wiring, endpoint) else { return };
    for (last, skipped) in [(31, false), (32, true), (47, true), (48, false)] {
        let mut session = Session::connect(Ipv4Addr::new(127, 0, 0, last)).expect("the MTA is running");
        session.command("EHLO client.example.net");
        let reply = if skipped { world.words.accepted } else { world.words.refused };
        assert_eq!(session.rcpt("nobody@example.com"), reply("nobody@example.com"), "127.0.0.{last}");
    }
    // mail of this host
    let mut session = Session::connect(Ipv4Addr::LOCALHOST).expect("the MTA is running");
    session.command("EHLO localhost");
    assert_eq!(session.rcpt("nobody@example.com"), (world.words.accepted)("nobody@example.com"));
}

/// The submission port is not checked, whoever comes.
pub fn submission_is_not_checked(wiring: Wiring, endpoint: Endpoint) {
    let Some(world) = World::start_with_daemon(wiring, endpoint) else { return };
    let mut session = Session::connect_to(STRANGER, 587).expect("the MTA has the port");
    session.command("EHLO client.example.net");
    assert_eq!(session.rcpt("nobody@example.com"), (world.words.accepted)("nobody@example.com"));
    assert_verdicts(&world, &mut Session::open());
}

/// Who guesses is found out, told in the log once, and put off from then on; a neighbour is served as ever.
pub fn who_guesses_is_put_off(wiring: Wiring, endpoint: Endpoint) {
    let Some(mut world) = World::start(wiring, endpoint) else { return };
    world.files.configure("[harvest]\nabsent = 5\naction = \"tempfail\"\n");
    world.start_daemon();
    let mut session = Session::open();
    for number in 0..4 {
        let name = format!("guess{number}@example.com");
        assert_eq!(session.rcpt(&name), (world.words.refused)(&name));
    }
    for name in ["guess4@example.com", "guess5@example.com", "anna@example.com"] {
        let reply = session.rcpt(name);
        assert!(reply.starts_with('4'), "{reply}");
    }
    let client = format!("harvest: client {STRANGER} guesses recipients: 5 of 5 don't exist");
    world.daemon().has_said(&client);
    world.daemon().has_said("harvest: domain example.com is guessed at: 5 of ");
    let mut other = Session::connect(Ipv4Addr::new(127, 0, 0, 10)).expect("the MTA is running");
    other.command("EHLO client.example.net");
    assert_verdicts(&world, &mut other);
    assert_eq!(world.files.said().matches("guesses recipients").count(), 1);
}

/// One recipient that exists, one that doesn't.
#[track_caller]
fn assert_verdicts(world: &World, session: &mut Session) {
    assert_eq!(session.rcpt("anna@example.com"), (world.words.accepted)("anna@example.com"));
    assert_eq!(session.rcpt("nobody@example.com"), (world.words.refused)("nobody@example.com"));
}
