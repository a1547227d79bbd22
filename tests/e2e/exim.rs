//! Exim: its configuration around a snippet.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::Path;

use super::packages::EXIM_ID;
use super::sandbox::Root;
use super::words::{Recovery, Words};

/// The server, in the foreground.
pub const COMMAND: &[&str] = &["/usr/sbin/exim4", "-bdf"];

/// What is no business of the snippets, in short what Debian's has: macros first, and an ACL of relay check, recipient
/// check and accept.
const CONFIGURATION: &str = "\
.include /etc/exim4/exim4.conf.localmacros
primary_hostname = gateway.example.net
domainlist relay_to_domains = example.com : store.example.com
local_interfaces = 127.0.0.1
daemon_smtp_ports = 25
log_file_path = syslog
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
keep_environment =
deliver_drop_privilege = true
acl_smtp_rcpt = acl_check_rcpt

begin acl

acl_check_rcpt:
  require message = 550 5.7.1 relay not permitted
          domains = +relay_to_domains
  .ifdef CHECK_RCPT_LOCAL_ACL_FILE
  .include CHECK_RCPT_LOCAL_ACL_FILE
  .endif
  accept
";

/// As a mailbox server: it verifies recipients by its router, and delivers into maildirs. It runs as its own user only:
/// its program has lost its set-uid bit when the package was unpacked.
fn store_configuration(address: Ipv4Addr, domain: &str, mailboxes: &[&str]) -> String {
    format!(
        "\
primary_hostname = {domain}
domainlist local_domains = {domain}
local_interfaces = {address}
daemon_smtp_ports = 25
log_file_path = syslog
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
keep_environment =
deliver_drop_privilege = true
acl_smtp_rcpt = acl_check_rcpt

begin acl

acl_check_rcpt:
  require message = 550 5.7.1 relay not permitted
          domains = +local_domains
  require verify = recipient
  accept

begin routers

mailboxes:
  driver = accept
  domains = +local_domains
  local_parts = {}
  transport = maildir

begin transports

maildir:
  driver = appendfile
  directory = /tmp/mail/$local_part_data
  maildir_format
  create_directory
  delivery_date_add
",
        mailboxes.join(" : ")
    )
}

/// Writes the configuration of a mailbox server and its spool below `dir`, and mounts them.
pub fn lay_out_store(
    root: &mut Root,
    dir: &Path,
    address: Ipv4Addr,
    domain: &str,
    mailboxes: &[&str],
) -> io::Result<()> {
    let etc = dir.join("exim4");
    fs::create_dir(&etc)?;
    fs::write(etc.join("exim4.conf"), store_configuration(address, domain, mailboxes))?;
    root.mount(&etc, "/etc/exim4");
    spool(root, dir)
}

/// Settings of a gateway that passes the mail of `domain` on.
pub fn route(domain: &str, to: SocketAddr, lmtp: bool) -> String {
    format!(
        "\
begin routers

store:
  driver = manualroute
  domains = {domain}
  route_list = * {}
  self = send
  transport = store

begin transports

store:
  driver = smtp
  port = {}
  protocol = {}
  allow_localhost
  hosts_avoid_tls = *

begin retry

* * F,1h,1m
",
        to.ip(),
        to.port(),
        if lmtp { "lmtp" } else { "smtp" }
    )
}

/// Writes configuration and spool below `dir`, and mounts them. `route` is what [`route`] makes, or nothing.
pub fn lay_out(root: &mut Root, dir: &Path, macros: &str, acl: &str, route: &str) -> io::Result<()> {
    let etc = dir.join("exim4");
    fs::create_dir(&etc)?;
    fs::write(etc.join("exim4.conf"), format!("{CONFIGURATION}\n{route}"))?;
    fs::write(etc.join("exim4.conf.localmacros"), macros)?;
    fs::write(etc.join("rcptmapd.acl"), acl)?;
    root.mount(&etc, "/etc/exim4");
    spool(root, dir)
}

/// Makes the folders that it writes to.
fn spool(root: &mut Root, dir: &Path) -> io::Result<()> {
    for inside in ["/var/spool/exim4", "/var/log/exim4"] {
        let outside = dir.join(inside.replace('/', "_"));
        fs::create_dir(&outside)?;
        chown(&outside, Some(EXIM_ID), Some(EXIM_ID))?;
        root.mount(&outside, inside);
    }
    Ok(())
}

/// Replies over TCP.
pub const TCP: Words = Words {
    accepted: |_| "250 Accepted".to_owned(),
    refused: user_unknown,
    left: user_unknown,
    foreign: not_permitted,
    subdomain: not_permitted,
    no_list: not_possible,
    down: not_possible,
    lost: None,
    recovery: Recovery::AtOnce,
};

/// Replies over the UNIX socket; because of Exim's bug with these a session asks no more after a failure.
pub const UNIX: Words = Words { recovery: Recovery::NotWhenFoundDown, ..TCP };

fn user_unknown(_: &str) -> String {
    "550 5.1.1 User unknown".to_owned()
}

fn not_permitted(_: &str) -> String {
    "550 5.7.1 relay not permitted".to_owned()
}

fn not_possible(_: &str) -> String {
    "451 4.3.0 Recipient check is not possible now, try again later".to_owned()
}
