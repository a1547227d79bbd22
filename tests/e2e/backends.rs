//! Real mailbox servers as backends: who exists is known to them alone, and the daemon asks.
//!
//! They listen on an address of their own, beside the gateway's, and deliver into maildirs. Each can be stopped, at once
//! and without a good-bye, and started again.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::thread;

use tempfile::TempDir;

use super::packages::{DOVECOT, DOVECOT_ID, EXIM, EXIM_ID, POSTFIX, Packages};
use super::sandbox::{Root, Sandbox};
use super::{exim, poll_until, postfix};

/// Where all of them listen: a second host, as it were.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The domain whose mailboxes they have; the gateway relays for it, since it does for example.com.
pub const DOMAIN: &str = "store.example.com";
/// The mailboxes.
const MAILBOXES: [&str; 3] = ["anna", "bert", "cora"];
/// Debian's account `mail`.
const MAIL_ID: u32 = 8;

/// A program that has mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `virtual_mailbox_maps`.
    Postfix,
    /// `verify = recipient`.
    Exim,
    /// LMTP.
    Dovecot,
}

impl Kind {
    /// Its packages; to be called before the network is left, since they may have to be fetched.
    pub fn packages(self) -> &'static Packages {
        match self {
            Kind::Postfix => &POSTFIX,
            Kind::Exim => &EXIM,
            Kind::Dovecot => &DOVECOT,
        }
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Kind::Postfix => postfix::COMMAND,
            Kind::Exim => exim::COMMAND,
            Kind::Dovecot => &["/usr/sbin/dovecot", "-F"],
        }
    }

    /// Where it listens.
    pub fn address(self) -> SocketAddr {
        SocketAddr::from((ADDRESS, if self == Kind::Dovecot { 24 } else { 25 }))
    }

    /// What the daemon must be told.
    pub fn configuration(self) -> String {
        let lmtp = if self == Kind::Dovecot { "lmtp:" } else { "" };
        format!(
            "[[domain]]\nnames = [\"{DOMAIN}\"]\nverify = \"probe\"\nbackend = \"store\"\n\
             [[backend]]\nname = \"store\"\nservers = [\"{lmtp}{}\"]\n",
            self.address()
        )
    }

    /// Writes its files below `dir`, and mounts them.
    fn lay_out(self, root: &mut Root, packages: &Path, dir: &Path) -> io::Result<()> {
        let mail = dir.join("mail");
        fs::create_dir(&mail)?;
        let owner = if self == Kind::Exim { EXIM_ID } else { MAIL_ID };
        chown(&mail, Some(owner), Some(owner))?;
        root.mount(&mail, "/tmp/mail");
        match self {
            Kind::Postfix => {
                let sockets = dir.join("sockets");
                fs::create_dir(&sockets)?;
                let mailboxes: Vec<String> = MAILBOXES.iter().map(|name| format!("{name}@{DOMAIN}={name}/")).collect();
                let settings = format!(
                    "myhostname = {DOMAIN}\n\
                     virtual_mailbox_domains = {DOMAIN}\n\
                     virtual_mailbox_base = /tmp/mail\n\
                     virtual_uid_maps = static:{MAIL_ID}\n\
                     virtual_gid_maps = static:{MAIL_ID}\n\
                     virtual_minimum_uid = {MAIL_ID}\n\
                     virtual_mailbox_maps = inline:{{ {} }}\n",
                    mailboxes.join(", ")
                );
                postfix::lay_out(root, packages, dir, &sockets, &settings)?;
                // Not by inet_interfaces: no interface has the address, loopback takes all of 127.0.0.0/8.
                let services = dir.join("postfix/master.cf");
                let here = |line: &str| match line.split_whitespace().nth(1) {
                    Some("inet") if !line.starts_with('#') => format!("{ADDRESS}:{line}\n"),
                    _ => format!("{line}\n"),
                };
                let text: String = fs::read_to_string(&services)?.lines().map(here).collect();
                fs::write(&services, text)
            }
            Kind::Exim => exim::lay_out_store(root, dir, ADDRESS, DOMAIN, &MAILBOXES),
            Kind::Dovecot => dovecot(root, dir),
        }
    }
}

/// Dovecot's configuration: LMTP, and users in a file.
fn dovecot(root: &mut Root, dir: &Path) -> io::Result<()> {
    let etc = dir.join("dovecot");
    fs::create_dir(&etc)?;
    fs::write(
        etc.join("dovecot.conf"),
        format!(
            "protocols = lmtp\n\
             ssl = no\n\
             mail_location = maildir:/tmp/mail/%u\n\
             first_valid_uid = 1\n\
             userdb {{\n  driver = passwd-file\n  args = /etc/dovecot/users\n}}\n\
             passdb {{\n  driver = passwd-file\n  args = /etc/dovecot/users\n}}\n\
             service lmtp {{\n  inet_listener lmtp {{\n    address = {ADDRESS}\n    port = 24\n  }}\n}}\n"
        ),
    )?;
    let users: Vec<String> =
        MAILBOXES.iter().map(|name| format!("{name}@{DOMAIN}::8:8::/tmp/mail/{name}::\n")).collect();
    fs::write(etc.join("users"), users.concat())?;
    root.mount(&etc, "/etc/dovecot");
    let state = dir.join("state");
    fs::create_dir(&state)?;
    chown(&state, Some(DOVECOT_ID), Some(DOVECOT_ID))?;
    root.mount(&state, "/var/lib/dovecot");
    Ok(())
}

/// A backend; ended when dropped. Fields are dropped in this order.
pub struct Backend {
    kind: Kind,
    server: Option<Sandbox>,
    root: Root,
    starts: u32,
    dir: TempDir,
}

impl Backend {
    /// Starts one from its unpacked `packages`, in the calling thread's network.
    pub fn start(kind: Kind, packages: &Path) -> Backend {
        let dir = TempDir::with_prefix("rcptmapd-store-").expect("a temporary folder is to be had");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("the folder is ours");
        let mut root = Root::new(packages);
        kind.lay_out(&mut root, packages, dir.path()).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let mut backend = Backend { kind, server: None, root, starts: 0, dir };
        backend.start_again();
        backend
    }

    /// Starts it, and waits until it greets.
    pub fn start_again(&mut self) {
        self.starts += 1;
        let dir = self.dir.path().join(format!("start-{}", self.starts));
        fs::create_dir(&dir).expect("the folder is ours");
        self.server = Some(self.root.start(self.kind.command(), &dir).expect("unshare is on every system"));
        poll_until("the backend greets", || {
            let server = self.server.as_mut().expect("just started");
            assert!(!server.ended(), "{:?}: it ended at once:\n{}", self.kind, server.said());
            self.greets().is_ok_and(|yes| yes)
        });
    }

    /// Ends it, and waits until nobody listens any more.
    pub fn stop(&mut self) {
        drop(self.server.take());
        poll_until("the backend is gone", || TcpStream::connect(self.kind.address()).is_err());
    }

    /// The messages in its mailboxes.
    pub fn mail(&self) -> Vec<String> {
        messages(&self.dir.path().join("mail"))
    }

    fn greets(&self) -> io::Result<bool> {
        let mut code = [0; 3];
        TcpStream::connect(self.kind.address())?.read_exact(&mut code)?;
        Ok(&code == b"220")
    }
}

/// What lies in the maildirs below a folder.
fn messages(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    // A message may be on its way from one folder to another.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(messages(&path));
        } else if path.parent().is_some_and(|folder| folder.ends_with("new") || folder.ends_with("cur")) {
            found.extend(fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(server) = self.server.as_ref().filter(|_| thread::panicking()) {
            eprintln!("--- backend\n{}", server.said());
        }
    }
}
