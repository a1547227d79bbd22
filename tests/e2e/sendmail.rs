//! sendmail: its configuration, made by m4 from a snippet and what an administrator's sendmail.mc has around it.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::sandbox::Root;
use super::words::{Recovery, Words};

/// The server, in the foreground.
pub const COMMAND: &[&str] = &["/usr/libexec/sendmail/sendmail", "-C/etc/mail/sendmail.cf", "-bD"];

/// What is no business of the snippets: who we are, no network, no delays.
const BEFORE: &str = "\
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
define(`confDOMAIN_NAME', `gateway.example.net')dnl
define(`confTO_IDENT', `0')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`ALIAS_FILE', `')dnl
undefine(`confSTATUS_FILE')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port=smtp')dnl
DAEMON_OPTIONS(`Name=MSA, Addr=127.0.0.1, Port=587')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
RELAY_DOMAIN(`example.com')dnl
";
const MAILERS: &str = "\
MAILER_DEFINITIONS
MAILER(`local')dnl
MAILER(`smtp')dnl
";

/// Where in sendmail.mc a snippet belongs.
pub enum Place {
    /// With the other features.
    BeforeMailers,
    /// At the end.
    AfterMailers,
}

/// Lines of sendmail.mc for a gateway that passes all mail on.
pub fn route(to: SocketAddr) -> String {
    format!("define(`SMART_HOST', `relay:[{}]')dnl\n", to.ip())
}

/// Writes configuration and queue below `dir`, and mounts them. `route` is what [`route`] makes, or nothing.
pub fn lay_out(root: &mut Root, dir: &Path, snippet: &str, place: Place, route: &str) -> io::Result<()> {
    let etc = dir.join("mail");
    fs::create_dir(&etc)?;
    let configuration = match place {
        Place::BeforeMailers => [BEFORE, route, snippet, MAILERS].concat(),
        Place::AfterMailers => [BEFORE, route, MAILERS, snippet].concat(),
    };
    fs::write(etc.join("sendmail.mc"), configuration)?;
    fs::write(etc.join("service.switch"), "hosts files\naliases files\n")?;
    root.mount(&etc, "/etc/mail");
    let queue = dir.join("mqueue");
    fs::create_dir(&queue)?;
    fs::set_permissions(&queue, Permissions::from_mode(0o700))?;
    root.mount(&queue, "/var/spool/mqueue");

    let made = root.run(&["/usr/bin/m4", "/etc/mail/sendmail.mc"])?;
    if !made.status.success() || !made.stderr.is_empty() {
        return Err(io::Error::other(format!("m4: {}", String::from_utf8_lossy(&made.stderr))));
    }
    fs::write(etc.join("sendmail.cf"), made.stdout)
}

/// Replies with the rule set, over TCP.
pub const RULE_SET_TCP: Words = Words {
    accepted,
    refused: user_unknown,
    left: user_unknown,
    foreign: |recipient| format!("550 5.7.1 <{recipient}>... Relaying denied. IP name lookup failed [127.0.0.9]"),
    subdomain: user_unknown,
    no_list: not_possible,
    down: not_possible,
    lost: None,
    recovery: Recovery::LosesOne,
};

/// Replies with the rule set, over the UNIX socket: sendmail reports a broken one in words of its own.
pub const RULE_SET_UNIX: Words = Words { lost: Some(|_| broken_pipe("rcpt")), ..RULE_SET_TCP };

/// Replies with the rule set that names the client, over the UNIX socket.
pub const CLIENT_UNIX: Words = Words { lost: Some(|_| broken_pipe("rcpt_client")), ..RULE_SET_TCP };

/// Replies with the access map, over TCP.
pub const ACCESS_TCP: Words = Words {
    left: |recipient| format!("550 5.7.1 <{recipient}>... Left the company"),
    subdomain: accepted,
    no_list: system_failure,
    down: system_failure,
    ..RULE_SET_TCP
};

/// Replies with the access map, over the UNIX socket.
pub const ACCESS_UNIX: Words = Words { lost: Some(|_| broken_pipe("access")), ..ACCESS_TCP };

/// Replies with the milter. A session that has lost it does not look for it again.
pub const MILTER: Words = Words {
    left: |recipient| format!("550 5.7.1 <{recipient}>... Left the company"),
    subdomain: accepted,
    no_list: |_| "451 4.3.0 Recipient lookup failed, try again later".to_owned(),
    down: try_again,
    recovery: Recovery::Never,
    ..RULE_SET_TCP
};

fn try_again(_: &str) -> String {
    "451 4.3.2 Please try again later".to_owned()
}

fn accepted(recipient: &str) -> String {
    format!("250 2.1.5 <{recipient}>... Recipient ok")
}

fn user_unknown(recipient: &str) -> String {
    format!("550 5.1.1 <{recipient}>... User unknown")
}

fn not_possible(_: &str) -> String {
    "451 4.3.0 Recipient check is not possible now, try again later".to_owned()
}

fn system_failure(_: &str) -> String {
    "451 4.3.0 Temporary system failure. Please try again later.".to_owned()
}

fn broken_pipe(map: &str) -> String {
    format!("451 4.3.0 socket_map_lookup({map}): failed to send lookup request: Broken pipe")
}
