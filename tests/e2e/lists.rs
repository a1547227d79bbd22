//! Scenarios of lists that other programs write, or print: what senders hear from a real Postfix meanwhile.

use std::fmt::Write as _;
use std::fs;

use super::packages::SLAPD;
use super::poll_until;
use super::slapd::Directory;
use super::smtp::Session;
use super::snippet::Endpoint::Unix;
use super::world::{Wiring, World};

/// A gateway whose daemon is still to be told of the list, and started.
fn gateway() -> Option<World> {
    World::start(Wiring::PostfixRelayRecipients, Unix)
}

/// Every one of these is accepted.
#[track_caller]
fn accepted(world: &World, recipients: &[&str]) {
    let mut session = Session::open();
    for recipient in recipients {
        assert_eq!(session.rcpt(recipient), (world.words.accepted)(recipient));
    }
}

/// Every one of these is refused for good.
#[track_caller]
fn refused(world: &World, recipients: &[&str]) {
    let mut session = Session::open();
    for recipient in recipients {
        assert_eq!(session.rcpt(recipient), (world.words.refused)(recipient));
    }
}

/// People come, get another name and go in a directory server; then it can't be asked any more.
pub fn people_of_a_directory() {
    let Some(packages) = SLAPD.root() else { return };
    let Some(mut world) = gateway() else { return };
    let mut directory = Directory::start(&packages);
    for name in ["bea", "cem", "dora", "emil", "fay", "gustav", "hana"] {
        directory.add(name, &format!("{name}@people.example.com"));
    }
    // Printed in two lines.
    let long = "this.is.a.very.long.address.that.ldapsearch.does.not.print.in.one.line@people.example.com";
    directory.add("long", long);
    let command = directory.search();
    world.files.configure(&format!(
        "[[domain]]\nnames = [\"people.example.com\"]\n\
         [[source]]\nname = \"directory\"\ncommand = {command:?}\nformat = \"ldif\"\n"
    ));
    world.start_daemon();
    let listed = ["bea@people.example.com", "Hana@People.Example.COM", "gustav+shop@people.example.com", long];
    accepted(&world, &listed);
    refused(&world, &["ida@people.example.com", "uid=bea@people.example.com"]);

    directory.add("ida", "ida@people.example.com");
    refused(&world, &["ida@people.example.com"]);
    world.daemon().reload_says("source directory: added ida@people.example.com");
    accepted(&world, &["ida@people.example.com"]);

    directory.rename("bea", "beate", "beate@people.example.com");
    world.daemon().reload_says("source directory: removed bea@people.example.com");
    accepted(&world, &["beate@people.example.com"]);
    refused(&world, &["bea@people.example.com"]);

    directory.delete("cem");
    world.daemon().reload_says("source directory: removed cem@people.example.com");
    refused(&world, &["cem@people.example.com", "bea@people.example.com"]);

    let there = ["beate@people.example.com", "hana@people.example.com", "ida@people.example.com", long];
    let gone = ["bea@people.example.com", "cem@people.example.com"];
    // The server breaks a search off: what was printed before is not the list.
    directory.stop();
    directory.start_again(3);
    world.daemon().reload_says("it ended with exit status 4: Size limit exceeded (4)");
    accepted(&world, &there);
    refused(&world, &gone);

    directory.stop();
    world.daemon().reload_says("Can't contact LDAP server (-1)");
    accepted(&world, &there);
    refused(&world, &gone);
    let said = world.files.said();
    assert!(said.contains("its last good list of 8 recipients stays in force"), "{said}");

    directory.start_again(500);
    directory.add("jo", "jo@people.example.com");
    world.daemon().reload_says("source directory: added jo@people.example.com");
    accepted(&world, &["jo@people.example.com", "ida@people.example.com"]);
    refused(&world, &gone);
}

/// S3: a script on a Windows host writes in place, to a share that is mounted late (S3-9 to S3-15, S3-17, S3-25).
pub fn export_of_an_exchange_server(encoded: fn(&str) -> Vec<u8>) {
    let Some(mut world) = gateway() else { return };
    let export = |people: usize| {
        let mut text = String::from("Microsoft (R) Windows Script Host Version 5.8\r\n\r\n");
        text += "alias: SMTP:Anna@Corp.Example.COM\r\nalias: smtp:anna.adler@corp.example.com\r\n";
        for number in 0..people {
            let _ = write!(
                text,
                "alias: SMTP:User{number}@Corp.Example.COM\r\nalias: sip:sip{number}@corp.example.com\r\n"
            );
            let _ = write!(text, "alias: X400:c=DE;a= ;p=Example;o=Exchange;s=User{number};\r\n");
        }
        encoded(&text)
    };
    let share = world.files.beside("share");
    let path = share.join("recipients.txt");
    world.files.configure(&format!(
        "[[domain]]\nnames = [\"corp.example.com\"]\n\
         [[source]]\nname = \"exchange\"\npath = \"{}\"\nwatch = \"poll\"\nrefresh = \"1s\"\nretry = \"1s\"\n",
        path.display()
    ));
    world.start_daemon();
    for recipient in ["anna@corp.example.com", "nobody@corp.example.com"] {
        let reply = Session::open().rcpt(recipient);
        assert_eq!(reply, (world.words.no_list)(recipient), "the share is not there");
        assert!(reply.starts_with("451 "), "{reply}");
    }

    fs::create_dir(&share).expect("the folder is ours");
    fs::write(&path, export(40)).expect("the folder is ours");
    let anna = "anna@corp.example.com";
    poll_until("the export is found", || Session::open().rcpt(anna) == (world.words.accepted)(anna));
    let listed = [anna, "Anna.Adler@corp.example.com", "user0@corp.example.com", "user39@corp.example.com"];
    let unknown = ["nobody@corp.example.com", "sip0@corp.example.com", "user40@corp.example.com"];
    accepted(&world, &listed);
    refused(&world, &unknown);
    assert!((world.words.refused)(unknown[0]).starts_with("550 5.1.1 "));

    // Cut off within a line, which is what is seen of a write that has not come to its end; then not even begun.
    let whole = export(40);
    fs::write(&path, &whole[..whole.len() / 4 * 2]).expect("the folder is ours");
    world.daemon().has_said("more than max_shrink = 20% allows");
    accepted(&world, &listed);
    refused(&world, &unknown);
    fs::write(&path, "").expect("the folder is ours");
    world.daemon().has_said("the file is empty");
    accepted(&world, &listed);
    refused(&world, &unknown);

    fs::write(&path, export(41)).expect("the folder is ours");
    let new = "user40@corp.example.com";
    poll_until("the whole export is taken", || Session::open().rcpt(new) == (world.words.accepted)(new));
    accepted(&world, &listed);
    refused(&world, &unknown[..2]);
}

/// S4: a host for lists only; every name that Mailman knows is taken, and no other (S4-3, S4-8, S4-13).
pub fn lists_of_mailman() {
    const HELPERS: [&str; 10] = [
        "",
        "-bounces",
        "-confirm",
        "-join",
        "-leave",
        "-owner",
        "-request",
        "-subscribe",
        "-unsubscribe",
        "-bounces+anna=example.org",
    ];
    let Some(mut world) = gateway() else { return };
    let written = |lists: &[&str]| {
        let mut text = String::from("# AUTOMATICALLY GENERATED BY MAILMAN ON 2024-05-01 10:00:00\n");
        for list in lists {
            // The last is no line of Mailman's.
            for helper in &HELPERS[..9] {
                let address = format!("{list}{helper}@lists.example.com");
                let _ = writeln!(text, "{address:<40}lmtp:[127.0.0.1]:8024");
            }
            text.push('\n');
        }
        text
    };
    let addresses = |list: &str| HELPERS.map(|helper| format!("{list}{helper}@lists.example.com"));
    let path = world.files.beside("postfix_lmtp");
    fs::write(&path, written(&["chess"])).expect("the folder is ours");
    world.files.configure(&format!(
        "[[domain]]\nnames = [\"lists.example.com\"]\n\
         [[source]]\nname = \"mailman\"\npath = \"{}\"\nwatch = \"inotify\"\n",
        path.display()
    ));
    world.start_daemon();
    let made_up = [
        "ches@lists.example.com",
        "chess-nobody@lists.example.com",
        "chess-nobody+anna=example.org@lists.example.com",
        "nobody-bounces+anna=example.org@lists.example.com",
        "info@lists.example.com",
        "anna@lists.example.com",
        "lmtp@lists.example.com",
    ];
    accepted(&world, &addresses("chess").each_ref().map(String::as_str));
    accepted(&world, &["CHESS@Lists.Example.COM", "chess-confirm+0123abc@lists.example.com"]);
    refused(&world, &made_up);
    refused(&world, &addresses("go").each_ref().map(String::as_str));
    assert!((world.words.refused)(made_up[0]).starts_with("550 5.1.1 "));

    // A list is made: Mailman writes beside the file, and renames; nobody tells the daemon.
    let new = world.files.beside("postfix_lmtp.new");
    fs::write(&new, written(&["chess", "go"])).expect("the folder is ours");
    fs::rename(&new, &path).expect("the folder is ours");
    let go = "go@lists.example.com";
    poll_until("the new list is known", || Session::open().rcpt(go) == (world.words.accepted)(go));
    for list in ["chess", "go"] {
        accepted(&world, &addresses(list).each_ref().map(String::as_str));
    }
    refused(&world, &made_up);
}
