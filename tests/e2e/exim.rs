//! Exim: its configuration around a snippet.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use super::packages::EXIM_ID;
use super::sandbox::Root;

/// The server, in the foreground.
pub const COMMAND: &[&str] = &["/usr/sbin/exim4", "-bdf"];

/// What is no business of the snippets. The ACL ends as a gateway's does: relay check, recipient check, accept.
const BEFORE: &str = "\
primary_hostname = gateway.example.net
domainlist relay_to_domains = example.com
local_interfaces = 127.0.0.1
daemon_smtp_ports = 25
log_file_path = syslog
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
keep_environment =
acl_smtp_rcpt = acl_check_rcpt

begin acl

acl_check_rcpt:
  require message = 550 5.7.1 relay not permitted
          domains = +relay_to_domains
  .include /etc/exim4/rcptmapd.acl
  accept
";

/// Writes configuration and spool below `dir`, and mounts them.
pub fn lay_out(root: &mut Root, dir: &Path, snippet: &str) -> io::Result<()> {
    let etc = dir.join("exim4");
    fs::create_dir(&etc)?;
    fs::write(etc.join("exim4.conf"), BEFORE)?;
    fs::write(etc.join("rcptmapd.acl"), snippet)?;
    root.mount(&etc, "/etc/exim4");
    for inside in ["/var/spool/exim4", "/var/log/exim4"] {
        let outside = dir.join(inside.replace('/', "_"));
        fs::create_dir(&outside)?;
        chown(&outside, Some(EXIM_ID), Some(EXIM_ID))?;
        root.mount(&outside, inside);
    }
    Ok(())
}
