//! Postfix: its configuration around a snippet, with Debian's master.cf, where smtpd is chrooted.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::SystemTime;

use super::packages::{POSTDROP_ID, POSTFIX_ID};
use super::sandbox::Root;
use super::words::{Recovery, Words};

/// The server, in the foreground.
pub const COMMAND: &[&str] = &["/usr/lib/postfix/sbin/master", "-s"];

/// What is no business of the snippets: who we are, no network, no delays.
const MAIN_CF: &str = "\
compatibility_level = 3.6
myhostname = gateway.example.net
mydestination =
mynetworks = 127.0.0.1/32
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_junk_command_limit = 1000
smtpd_authorized_xclient_hosts = 127.0.0.9
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
";

/// Folders of the queue with their modes; those of `public` and `maildrop` are what postdrop needs.
const QUEUE: [(&str, u32); 15] = [
    ("active", 0o700),
    ("bounce", 0o700),
    ("corrupt", 0o700),
    ("defer", 0o700),
    ("deferred", 0o700),
    ("flush", 0o700),
    ("hold", 0o700),
    ("incoming", 0o700),
    ("maildrop", 0o730),
    ("pid", 0o755),
    ("private", 0o700),
    ("public", 0o710),
    ("run", 0o755),
    ("saved", 0o700),
    ("trace", 0o700),
];

/// The submission service as Debian's master.cf has it, without TLS and passwords.
const SUBMISSION: &str = "
submission inet n - y - - smtpd
  -o syslog_name=postfix/submission
  -o milter_macro_daemon_name=ORIGINATING
  -o smtpd_relay_restrictions=permit_mynetworks,reject_unauth_destination
";

/// Writes the configuration and the queue below `dir`, and mounts them. `sockets` is the daemon's folder.
pub fn lay_out(root: &mut Root, packages: &Path, dir: &Path, sockets: &Path, snippet: &str) -> io::Result<()> {
    let etc = dir.join("postfix");
    fs::create_dir(&etc)?;
    fs::write(etc.join("main.cf"), format!("{MAIN_CF}\n{snippet}"))?;
    // Postfix waits for seconds until a file that was just written has cooled down.
    File::options().write(true).open(etc.join("main.cf"))?.set_modified(SystemTime::UNIX_EPOCH)?;
    let services = fs::read_to_string(packages.join("usr/share/postfix/master.cf.dist"))?;
    fs::write(etc.join("master.cf"), services + SUBMISSION)?;
    root.mount(&etc, "/etc/postfix");

    let queue = dir.join("queue");
    fs::create_dir(&queue)?;
    for (name, mode) in QUEUE {
        let path = queue.join(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        let owner = if matches!(name, "pid" | "run") { 0 } else { POSTFIX_ID };
        let group = if matches!(name, "public" | "maildrop") { POSTDROP_ID } else { 0 };
        chown(&path, Some(owner), Some(group))?;
    }
    root.mount(&queue, "/var/spool/postfix");
    // Where the chrooted smtpd finds the socket under the same name as everybody else.
    root.mount(sockets, "/var/spool/postfix/run/rcptmapd");

    let data = dir.join("data");
    fs::create_dir(&data)?;
    chown(&data, Some(POSTFIX_ID), Some(POSTFIX_ID))?;
    root.mount(&data, "/var/lib/postfix");
    Ok(())
}

/// Settings of a gateway that passes the mail of `domain` on.
pub fn route(domain: &str, to: SocketAddr, lmtp: bool) -> String {
    let service = if lmtp { "lmtp:inet" } else { "smtp" };
    format!("transport_maps = inline:{{ {domain}={service}:[{}]:{} }}\n", to.ip(), to.port())
}

/// The value of `name` in a snippet.
pub fn setting<'a>(snippet: &'a str, name: &str) -> &'a str {
    snippet
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
        .map(str::trim)
        .unwrap_or_else(|| panic!("the snippet sets {name}"))
}

/// Replies with `relay_recipient_maps`, which has no words but yes and no.
pub const RELAY_RECIPIENTS: Words = Words {
    accepted: |_| "250 2.1.5 Ok".to_owned(),
    refused: unknown_relay_recipient,
    left: unknown_relay_recipient,
    foreign: |recipient| format!("554 5.7.1 <{}>: Relay access denied", shown(recipient)),
    subdomain: unknown_relay_recipient,
    no_list: lookup_failure,
    down: lookup_failure,
    lost: None,
    recovery: Recovery::AtOnce,
};

/// Replies with `check_recipient_access`.
pub const CHECK_ACCESS: Words = Words {
    refused: |recipient| rejected("550 5.1.1", recipient, "User unknown"),
    left: |recipient| rejected("550 5.7.1", recipient, "Left the company"),
    subdomain: RELAY_RECIPIENTS.accepted,
    no_list: |recipient| rejected("450 4.3.0", recipient, "Recipient lookup failed, try again later"),
    down: |recipient| rejected("451 4.3.5", recipient, "Server configuration error"),
    ..RELAY_RECIPIENTS
};

/// Replies with the milter. A session that has lost it does not look for it again.
pub const MILTER: Words = Words {
    refused: |_| "550 5.1.1 User unknown".to_owned(),
    left: |_| "550 5.7.1 Left the company".to_owned(),
    subdomain: RELAY_RECIPIENTS.accepted,
    no_list: |_| "451 4.3.0 Recipient lookup failed, try again later".to_owned(),
    down: |_| "451 4.7.1 Service unavailable - try again later".to_owned(),
    recovery: Recovery::Never,
    ..RELAY_RECIPIENTS
};

/// Replies with the policy service.
pub const POLICY: Words = Words {
    down: |recipient| rejected("451 4.3.0", recipient, "Recipient check is not possible now, try again later"),
    ..CHECK_ACCESS
};

fn unknown_relay_recipient(recipient: &str) -> String {
    rejected("550 5.1.1", recipient, "User unknown in relay recipient table")
}

fn lookup_failure(recipient: &str) -> String {
    format!("451 4.3.0 <{}>: Temporary lookup failure", shown(recipient))
}

fn rejected(code: &str, recipient: &str, text: &str) -> String {
    format!("{code} <{}>: Recipient address rejected: {text}", shown(recipient))
}

/// Postfix shows the address without quotes.
fn shown(recipient: &str) -> String {
    recipient.replace('"', "")
}
