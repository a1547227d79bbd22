//! End-to-end tests with the real sendmail, Exim and Postfix of Debian, wired to the daemon by the snippets in `contrib`.
//!
//! Each test has a network namespace, an MTA and a daemon of its own, and looks at the replies as an SMTP client
//! does. The packages are fetched once, into `.cache/mta` or `RCPTMAPD_CACHE`. Without root, apt or the network the
//! tests say that they were skipped, and pass; with `RCPTMAPD_REQUIRE_MTA=1` they fail then.

mod e2e;

use std::net::Ipv4Addr;

use e2e::smtp::Session;
use e2e::snippet::Endpoint::{self, Tcp, Unix};
use e2e::world::{Wiring, World};
use e2e::{postfix, scenarios, snippet};

/// A module for each wiring and endpoint, with a test for each scenario.
macro_rules! wirings {
    ($($module:ident: $wiring:ident over $endpoint:ident;)*) => {
        $(wirings! {
            @scenarios $module $wiring $endpoint
            each_recipient_of_a_mail_gets_its_verdict
            daemon_down_is_temporary
            daemon_gone_is_temporary
            no_list_is_temporary
            restart_is_survived
            reload_changes_the_next_answer
            bad_list_leaves_the_old_answers
        })*
    };
    (@scenarios $module:ident $wiring:ident $endpoint:ident $($scenario:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $scenario() {
                    crate::scenarios::$scenario(crate::Wiring::$wiring, crate::Endpoint::$endpoint);
                }
            )*
        }
    };
}

wirings! {
    postfix_relay_recipients_unix: PostfixRelayRecipients over Unix;
    postfix_relay_recipients_tcp: PostfixRelayRecipients over Tcp;
    postfix_check_access_unix: PostfixCheckAccess over Unix;
    postfix_check_access_tcp: PostfixCheckAccess over Tcp;
    exim_line_unix: EximLine over Unix;
    exim_line_tcp: EximLine over Tcp;
    exim_netstring_unix: EximNetstring over Unix;
    exim_netstring_tcp: EximNetstring over Tcp;
    sendmail_rule_set_unix: SendmailRuleSet over Unix;
    sendmail_rule_set_tcp: SendmailRuleSet over Tcp;
    sendmail_access_unix: SendmailAccess over Unix;
    sendmail_access_tcp: SendmailAccess over Tcp;
    sendmail_client_unix: SendmailClient over Unix;
    sendmail_milter_unix: SendmailMilter over Unix;
    sendmail_milter_tcp: SendmailMilter over Tcp;
    postfix_milter_unix: PostfixMilter over Unix;
    postfix_milter_tcp: PostfixMilter over Tcp;
    postfix_policy_unix: PostfixPolicy over Unix;
    postfix_policy_tcp: PostfixPolicy over Tcp;
    postfix_tcp_table: PostfixTcpTable over Tcp;
    exim_client_unix: EximClient over Unix;
}

/// Scenarios of protocols that tell who the client is.
mod clients {
    use super::scenarios::*;
    use super::{Endpoint, Wiring};

    #[test]
    fn sendmail_milter_messages() {
        messages_do_not_get_mixed(Wiring::SendmailMilter, Endpoint::Unix);
    }

    #[test]
    fn sendmail_milter_many_messages() {
        many_messages_in_one_connection(Wiring::SendmailMilter, Endpoint::Unix);
    }

    #[test]
    fn sendmail_milter_listed_networks() {
        listed_networks_are_not_checked(Wiring::SendmailMilter, Endpoint::Unix);
    }

    #[test]
    fn sendmail_milter_submission() {
        submission_is_not_checked(Wiring::SendmailMilter, Endpoint::Tcp);
    }

    #[test]
    fn sendmail_milter_guesses() {
        who_guesses_is_put_off(Wiring::SendmailMilter, Endpoint::Unix);
    }

    #[test]
    fn sendmail_client_guesses() {
        who_guesses_is_put_off(Wiring::SendmailClient, Endpoint::Unix);
    }

    #[test]
    fn exim_client_guesses() {
        who_guesses_is_put_off(Wiring::EximClient, Endpoint::Unix);
    }

    #[test]
    fn postfix_milter_messages() {
        messages_do_not_get_mixed(Wiring::PostfixMilter, Endpoint::Unix);
    }

    #[test]
    fn postfix_milter_many_messages() {
        many_messages_in_one_connection(Wiring::PostfixMilter, Endpoint::Unix);
    }

    #[test]
    fn postfix_milter_listed_networks() {
        listed_networks_are_not_checked(Wiring::PostfixMilter, Endpoint::Unix);
    }

    #[test]
    fn postfix_milter_submission() {
        submission_is_not_checked(Wiring::PostfixMilter, Endpoint::Tcp);
    }

    #[test]
    fn postfix_milter_guesses() {
        who_guesses_is_put_off(Wiring::PostfixMilter, Endpoint::Unix);
    }

    #[test]
    fn postfix_policy_messages() {
        messages_do_not_get_mixed(Wiring::PostfixPolicy, Endpoint::Unix);
    }

    #[test]
    fn postfix_policy_many_messages() {
        many_messages_in_one_connection(Wiring::PostfixPolicy, Endpoint::Unix);
    }

    #[test]
    fn postfix_policy_listed_networks() {
        listed_networks_are_not_checked(Wiring::PostfixPolicy, Endpoint::Unix);
    }

    #[test]
    fn postfix_policy_guesses() {
        who_guesses_is_put_off(Wiring::PostfixPolicy, Endpoint::Unix);
    }
}

/// The whole chain: a sender, a real gateway, the daemon, a real mailbox server behind it.
mod backends {
    use super::e2e::backends::{Backend, DOMAIN, Kind};
    use super::e2e::poll_until;
    use super::{Session, Unix, Wiring, World};

    /// Who exists gets mail, who doesn't is refused; while the backend is down nobody is, and who was known is still.
    fn behind_postfix(kind: Kind) {
        let Some(packages) = kind.packages().root() else { return };
        let Some(mut world) = World::start(Wiring::PostfixRelayRecipients, Unix) else { return };
        let mut backend = Backend::start(kind, &packages);
        world.files.configure(&kind.configuration());
        world.start_daemon();
        let words = world.words;
        let at = |name: &str| format!("{name}@{DOMAIN}");
        let ask = |name: &str| Session::open().rcpt(&at(name));

        let mut both = Session::open();
        for _ in 0..2 {
            assert_eq!(both.rcpt(&at("anna")), (words.accepted)(&at("anna")));
            assert_eq!(both.rcpt(&at("nobody")), (words.refused)(&at("nobody")));
        }

        backend.stop();
        assert_eq!(ask("anna"), (words.accepted)(&at("anna")), "known before");
        assert_eq!(ask("nobody"), (words.refused)(&at("nobody")), "known before");
        for name in ["bert", "nemo"] {
            assert_eq!(ask(name), (words.no_list)(&at(name)), "nobody can tell");
        }

        backend.start_again();
        poll_until("the backend is asked again", || ask("bert") == (words.accepted)(&at("bert")));
        assert_eq!(ask("cora"), (words.accepted)(&at("cora")));
        for name in ["nemo", "nobody"] {
            assert_eq!(ask(name), (words.refused)(&at(name)));
        }
        assert_eq!(ask("anna"), (words.accepted)(&at("anna")));
    }

    /// Mail past RCPT: for who exists it arrives; for who doesn't there is none, no bounce either; while the backend is down
    /// it is put off, or taken and kept where that is wished for.
    fn mail_goes_through(wiring: Wiring, kind: Kind) {
        let Some(packages) = kind.packages().root() else { return };
        let Some(mut world) = World::start_before(wiring, Unix, Some(kind)) else { return };
        let mut backend = Backend::start(kind, &packages);
        world.files.configure(&kind.configuration());
        world.start_daemon();
        let words = world.words;
        let at = |name: &str| format!("{name}@{DOMAIN}");
        let ask = |name: &str| Session::open().rcpt(&at(name));
        let send = |name: &str, subject: &str| {
            let mut session = Session::open();
            assert_eq!(session.rcpt(&at(name)), (words.accepted)(&at(name)));
            assert_eq!(session.rcpt(&at("nobody")), (words.refused)(&at("nobody")));
            let reply = session.send(&format!("Subject: {subject}\r\n\r\ntext"));
            assert!(reply.starts_with("250"), "{reply}");
        };
        let has = |backend: &Backend, subjects: &[&str]| {
            let mail = backend.mail();
            mail.len() == subjects.len()
                && subjects.iter().all(|subject| mail.iter().any(|m| m.contains(&format!("Subject: {subject}\n"))))
        };

        send("anna", "one");
        assert_eq!(ask("nemo"), (words.refused)(&at("nemo")));
        poll_until("the mail arrives", || has(&backend, &["one"]) && world.queued() == 0);

        backend.stop();
        assert_eq!(ask("bert"), (words.no_list)(&at("bert")), "nobody can tell");
        assert_eq!(world.queued(), 0);
        backend.start_again();
        poll_until("the backend is asked again", || ask("bert") == (words.accepted)(&at("bert")));
        send("bert", "two");
        poll_until("the mail arrives", || has(&backend, &["one", "two"]) && world.queued() == 0);

        backend.stop();
        world.stop_daemon();
        // The last section is the backend's.
        world.files.configure("unavailable = \"accept\"\n");
        world.start_daemon();
        let mut session = Session::open();
        assert_eq!(session.rcpt(&at("cora")), (words.accepted)(&at("cora")));
        assert!(session.send("Subject: three\r\n\r\ntext").starts_with("250"));
        poll_until("the mail is kept", || world.queued() > 0);
        backend.start_again();
        poll_until("the mail arrives", || {
            world.flush_queue();
            has(&backend, &["one", "two", "three"]) && world.queued() == 0
        });
        poll_until("the backend is asked again", || ask("nemo") == (words.refused)(&at("nemo")));
        assert!(!world.has_bounced());
    }

    #[test]
    fn mail_through_postfix_to_dovecot() {
        mail_goes_through(Wiring::PostfixRelayRecipients, Kind::Dovecot);
    }

    #[test]
    fn mail_through_postfix_to_exim() {
        mail_goes_through(Wiring::PostfixRelayRecipients, Kind::Exim);
    }

    #[test]
    fn mail_through_exim_to_postfix() {
        mail_goes_through(Wiring::EximLine, Kind::Postfix);
    }

    #[test]
    fn mail_through_exim_to_dovecot() {
        mail_goes_through(Wiring::EximLine, Kind::Dovecot);
    }

    #[test]
    fn mail_through_sendmail_to_postfix() {
        mail_goes_through(Wiring::SendmailRuleSet, Kind::Postfix);
    }

    #[test]
    fn mail_through_sendmail_to_exim() {
        mail_goes_through(Wiring::SendmailMilter, Kind::Exim);
    }

    #[test]
    fn postfix_virtual_mailboxes() {
        behind_postfix(Kind::Postfix);
    }

    #[test]
    fn exim() {
        behind_postfix(Kind::Exim);
    }

    #[test]
    fn dovecot_lmtp() {
        behind_postfix(Kind::Dovecot);
    }
}

/// Lists as other programs write them, between a real gateway and its senders.
mod lists {
    use super::e2e::lists;

    #[test]
    fn people_of_a_directory() {
        lists::people_of_a_directory();
    }

    #[test]
    fn export_of_an_exchange_server() {
        lists::export_of_an_exchange_server(|text| text.as_bytes().to_vec());
    }

    #[test]
    fn export_of_an_exchange_server_in_utf16() {
        lists::export_of_an_exchange_server(|text| {
            std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
        });
    }

    #[test]
    fn lists_of_mailman() {
        lists::lists_of_mailman();
    }
}

/// Whom Postfix calls authenticated is not checked, nor is a listed network that it is told of by XCLIENT.
fn xclient(wiring: Wiring) {
    let Some(world) = World::start_with_daemon(wiring, Unix) else { return };
    for (attributes, skipped) in [
        ("LOGIN=anna ADDR=203.0.113.7", true),
        ("LOGIN=[UNAVAILABLE] ADDR=203.0.113.7", false),
        ("ADDR=192.0.2.40", true),
        ("ADDR=192.0.2.48", false),
    ] {
        let mut session = Session::open();
        let reply = session.command(&format!("XCLIENT NAME=client.example.net {attributes}"));
        assert!(reply.starts_with("220"), "{attributes}: {reply}");
        session.command("EHLO client.example.net");
        let reply = if skipped { world.words.accepted } else { world.words.refused };
        assert_eq!(session.rcpt("nobody@example.com"), reply("nobody@example.com"), "{attributes}");
    }
}

#[test]
fn authenticated_senders_and_networks_are_not_checked_by_the_postfix_milter() {
    xclient(Wiring::PostfixMilter);
}

#[test]
fn authenticated_senders_and_networks_are_not_checked_by_the_postfix_policy() {
    xclient(Wiring::PostfixPolicy);
}

/// The command that a snippet names to try the wiring prints what is expected.
fn command_to_try_works(wiring: Wiring, snippet: &str, expected: &str) {
    let Some(world) = World::start_with_daemon(wiring, Unix) else { return };
    let text = snippet::read(snippet);
    let (_, command) = text.lines().find_map(|line| line.split_once("Try it: ")).expect("the snippet has a command");
    let output = world.root.run(&["/bin/sh", "-c", command]).expect("unshare is on every system");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains(expected), "{command}\n{printed}{errors}");
}

#[test]
fn commands_to_try_in_the_postfix_snippets_work() {
    let expected = "anna@example.com\n";
    command_to_try_works(Wiring::PostfixRelayRecipients, "postfix/relay-recipients.cf", expected);
    command_to_try_works(Wiring::PostfixCheckAccess, "postfix/check-recipient-access.cf", "DUNNO\n");
}

#[test]
fn commands_to_try_in_the_exim_snippets_work() {
    command_to_try_works(Wiring::EximLine, "exim/acl-line.conf", "OK anna@example.com\n");
    command_to_try_works(Wiring::EximNetstring, "exim/acl-netstring.conf", "19:OK anna@example.com,");
}

#[test]
fn commands_to_try_in_the_sendmail_snippets_work() {
    let expected = "map_lookup: rcpt (anna@example.com) returns anna@example.com (0)";
    command_to_try_works(Wiring::SendmailRuleSet, "sendmail/local-check-rcpt.mc", expected);
    let expected = "map_lookup: access (to:anna@example.com) returns RELAY (0)";
    command_to_try_works(Wiring::SendmailAccess, "sendmail/access-db.mc", expected);
}

/// `postmap -q`, which an administrator tries first.
fn postmap_tells_found_from_not_found_from_down(endpoint: Endpoint) {
    let Some(mut world) = World::start(Wiring::PostfixRelayRecipients, endpoint) else { return };
    let text = snippet::read_for("postfix/relay-recipients.cf", endpoint);
    let table = postfix::setting(&text, "relay_recipient_maps");
    let query = |world: &World, key: &str| {
        let output = world.root.run(&["/usr/sbin/postmap", "-q", key, table]).expect("unshare is on every system");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };

    let (status, found, said) = query(&world, "anna@example.com");
    assert_eq!((status, found.as_str()), (Some(1), ""), "down: {said}");
    assert!(said.contains("query error"), "down: {said}");
    world.start_daemon();
    let found = (Some(0), "anna@example.com\n".to_owned(), String::new());
    assert_eq!(query(&world, "anna@example.com"), found);
    let not_found = (Some(1), String::new(), String::new());
    assert_eq!(query(&world, "nobody@example.com"), not_found);
}

#[test]
fn postmap_over_the_unix_socket() {
    postmap_tells_found_from_not_found_from_down(Unix);
}

#[test]
fn postmap_over_tcp() {
    postmap_tells_found_from_not_found_from_down(Tcp);
}

/// The entries of a loaded access file that speak of senders and clients work as from sendmail's own map.
fn access_file_keeps_its_other_tags(endpoint: Endpoint) {
    let Some(_world) = World::start_with_daemon(Wiring::SendmailAccess, endpoint) else { return };
    let mut session = Session::open();
    assert_eq!(session.command("MAIL FROM:<x@spammer.example>"), "550 5.7.1 <x@spammer.example>... Access denied");
    assert_eq!(
        session.command("MAIL FROM:<anna@example.com>"),
        "250 2.1.0 <anna@example.com>... Sender ok",
        "a recipient of ours as a sender"
    );
    session.command("RSET");
    assert_eq!(
        session.command("MAIL FROM:<nobody@example.com>"),
        "250 2.1.0 <nobody@example.com>... Sender ok",
        "who doesn't exist as a recipient may still send"
    );

    let mut refused = Session::connect(Ipv4Addr::new(127, 0, 0, 66)).expect("the MTA is running");
    assert_eq!(refused.rcpt("anna@example.com"), "550 5.7.1 Access denied");
}

#[test]
fn sendmail_access_file_keeps_its_other_tags_over_the_unix_socket() {
    access_file_keeps_its_other_tags(Unix);
}

#[test]
fn sendmail_access_file_keeps_its_other_tags_over_tcp() {
    access_file_keeps_its_other_tags(Tcp);
}
