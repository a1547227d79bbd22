//! One test's world: a network, a folder, a running MTA wired to the daemon, and the daemon when it is wanted.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;

use super::backends::{DOMAIN, Kind};
use super::daemon::{Daemon, Files, start_daemon};
use super::network::Network;
use super::packages::{EXIM, POSTFIX, Packages, SENDMAIL};
use super::sandbox::{Root, Sandbox};
use super::sendmail::Place;
use super::smtp::{STRANGER, Session};
use super::snippet::{self, Endpoint};
use super::words::Words;
use super::{exim, poll_until, postfix, sendmail};

/// How an MTA is wired to the daemon; each is a shipped snippet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// `relay_recipient_maps`.
    PostfixRelayRecipients,
    /// `check_recipient_access`.
    PostfixCheckAccess,
    /// `${readsocket}` with a line.
    EximLine,
    /// `${readsocket}` with a netstring.
    EximNetstring,
    /// A K map in `Local_check_rcpt`.
    SendmailRuleSet,
    /// `FEATURE(access_db)`.
    SendmailAccess,
    /// The rule set with the client's address in each request.
    SendmailClient,
    /// `INPUT_MAIL_FILTER`.
    SendmailMilter,
    /// `smtpd_milters`.
    PostfixMilter,
    /// `check_policy_service`.
    PostfixPolicy,
    /// `tcp:`.
    PostfixTcpTable,
    /// `${readsocket}` with a line that begins with the client's address.
    EximClient,
}

impl Wiring {
    fn packages(self) -> &'static Packages {
        match self {
            Wiring::PostfixRelayRecipients
            | Wiring::PostfixCheckAccess
            | Wiring::PostfixMilter
            | Wiring::PostfixPolicy
            | Wiring::PostfixTcpTable => &POSTFIX,
            Wiring::EximLine | Wiring::EximNetstring | Wiring::EximClient => &EXIM,
            Wiring::SendmailRuleSet | Wiring::SendmailAccess | Wiring::SendmailClient | Wiring::SendmailMilter => {
                &SENDMAIL
            }
        }
    }

    /// What the MTA must be told to pass mail on to a backend; this is no business of the snippets.
    fn route(self, store: Kind) -> String {
        let (to, lmtp) = (store.address(), store == Kind::Dovecot);
        match self.packages().name {
            "postfix" => postfix::route(DOMAIN, to, lmtp),
            "exim" => exim::route(DOMAIN, to, lmtp),
            _ => sendmail::route(to),
        }
    }

    /// The folders of its queue, below that of the MTA.
    fn queues(self) -> &'static [&'static str] {
        match self.packages().name {
            "postfix" => &["queue/maildrop", "queue/incoming", "queue/active", "queue/deferred", "queue/corrupt"],
            "exim" => &["_var_spool_exim4/input"],
            _ => &["mqueue"],
        }
    }

    /// Has it try all that is in its queue again.
    fn flush(self) -> &'static [&'static str] {
        match self.packages().name {
            "postfix" => &["/usr/sbin/postqueue", "-f"],
            "exim" => &["/usr/sbin/exim4", "-qff"],
            // -v: in the foreground, else it would end with its parent.
            _ => &["/usr/libexec/sendmail/sendmail", "-C/etc/mail/sendmail.cf", "-v", "-q"],
        }
    }

    fn command(self) -> &'static [&'static str] {
        match self.packages().name {
            "postfix" => postfix::COMMAND,
            "exim" => exim::COMMAND,
            _ => sendmail::COMMAND,
        }
    }

    /// Writes the MTA's files below `dir`, around the shipped snippet, and mounts them.
    fn lay_out(
        self,
        endpoint: Endpoint,
        root: &mut Root,
        packages: &Path,
        dir: &Path,
        sockets: &Path,
        store: Option<Kind>,
    ) -> io::Result<()> {
        let for_endpoint = |name| snippet::read_for(name, endpoint);
        let route = store.map_or_else(String::new, |store| self.route(store));
        match self {
            Wiring::PostfixRelayRecipients => {
                let snippet = for_endpoint("postfix/relay-recipients.cf") + &route;
                postfix::lay_out(root, packages, dir, sockets, &snippet)
            }
            Wiring::PostfixCheckAccess => {
                postfix::lay_out(root, packages, dir, sockets, &for_endpoint("postfix/check-recipient-access.cf"))
            }
            Wiring::EximLine => exim::lay_out(
                root,
                dir,
                &for_endpoint("exim/macros.conf"),
                &snippet::read("exim/acl-line.conf"),
                &route,
            ),
            Wiring::EximNetstring => exim::lay_out(
                root,
                dir,
                &for_endpoint("exim/macros.conf"),
                &snippet::read("exim/acl-netstring.conf"),
                &route,
            ),
            Wiring::SendmailRuleSet => {
                sendmail::lay_out(root, dir, &for_endpoint("sendmail/local-check-rcpt.mc"), Place::AfterMailers, &route)
            }
            Wiring::SendmailAccess => {
                sendmail::lay_out(root, dir, &for_endpoint("sendmail/access-db.mc"), Place::BeforeMailers, &route)
            }
            Wiring::SendmailClient => sendmail::lay_out(
                root,
                dir,
                &for_endpoint("sendmail/local-check-rcpt-client.mc"),
                Place::AfterMailers,
                &route,
            ),
            Wiring::SendmailMilter => {
                sendmail::lay_out(root, dir, &for_endpoint("sendmail/milter.mc"), Place::BeforeMailers, &route)
            }
            Wiring::PostfixMilter => postfix::lay_out(root, packages, dir, sockets, &for_endpoint("postfix/milter.cf")),
            Wiring::PostfixPolicy => postfix::lay_out(root, packages, dir, sockets, &for_endpoint("postfix/policy.cf")),
            Wiring::PostfixTcpTable => {
                postfix::lay_out(root, packages, dir, sockets, &snippet::read("postfix/tcp-table.cf"))
            }
            Wiring::EximClient => {
                let acl = snippet::read("exim/acl-line.conf");
                let (plain, with_client) = acl
                    .lines()
                    .find_map(|line| line.split_once("write ")?.1.split_once(" for "))
                    .map(|(with_client, plain)| (plain.trim(), with_client))
                    .expect("the snippet tells how to name the client");
                assert!(acl.contains(&format!("{plain}{{5s}}")), "{plain} is what the snippet has");
                let acl = acl.replace(&format!("{plain}{{5s}}"), &format!("{with_client}{{5s}}"));
                exim::lay_out(root, dir, &for_endpoint("exim/macros.conf"), &acl, &route)
            }
        }
    }

    /// What SMTP clients get to see.
    fn words(self, endpoint: Endpoint) -> &'static Words {
        match (self, endpoint) {
            (Wiring::PostfixRelayRecipients, _) => &postfix::RELAY_RECIPIENTS,
            (Wiring::PostfixCheckAccess, _) => &postfix::CHECK_ACCESS,
            (Wiring::EximLine | Wiring::EximNetstring | Wiring::EximClient, Endpoint::Unix) => &exim::UNIX,
            (Wiring::EximLine | Wiring::EximNetstring | Wiring::EximClient, Endpoint::Tcp) => &exim::TCP,
            (Wiring::SendmailRuleSet, Endpoint::Unix) => &sendmail::RULE_SET_UNIX,
            (Wiring::SendmailRuleSet | Wiring::SendmailClient, Endpoint::Tcp) => &sendmail::RULE_SET_TCP,
            (Wiring::SendmailClient, Endpoint::Unix) => &sendmail::CLIENT_UNIX,
            (Wiring::SendmailMilter, _) => &sendmail::MILTER,
            (Wiring::PostfixMilter, _) => &postfix::MILTER,
            (Wiring::PostfixPolicy, _) => &postfix::POLICY,
            (Wiring::PostfixTcpTable, _) => &postfix::RELAY_RECIPIENTS,
            (Wiring::SendmailAccess, Endpoint::Unix) => &sendmail::ACCESS_UNIX,
            (Wiring::SendmailAccess, Endpoint::Tcp) => &sendmail::ACCESS_TCP,
        }
    }
}

/// Everything of one test; fields are dropped in this order.
pub struct World {
    wiring: Wiring,
    mta: Sandbox,
    daemon: Option<Daemon>,
    /// What SMTP clients get to see.
    pub words: &'static Words,
    /// What the daemon reads.
    pub files: Files,
    /// The MTA's root, for commands beside the server.
    pub root: Root,
    dir: TempDir,
    /// Left last, when all that runs in it has ended.
    _network: Network,
}

impl World {
    /// Starts the MTA, not the daemon; `None` where MTAs can't be run and need not be.
    pub fn start(wiring: Wiring, endpoint: Endpoint) -> Option<World> {
        World::start_before(wiring, endpoint, None)
    }

    /// The same with an MTA that passes mail on to `store`.
    pub fn start_before(wiring: Wiring, endpoint: Endpoint, store: Option<Kind>) -> Option<World> {
        let packages = wiring.packages().root()?;
        let dir = TempDir::with_prefix("rcptmapd-mta-").expect("a temporary folder is to be had");
        // sendmail refuses sockets below folders that others may write to, and servers have users of their own.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("the folder is ours");
        let network = Network::enter().expect("root may make network namespaces");
        let files = Files::new(&dir.path().join("daemon")).expect("the folder is ours");
        let mut root = Root::new(&packages);
        root.mount(&files.sockets(), "/run/rcptmapd");

        let mta = dir.path().join("mta");
        fs::create_dir(&mta).expect("the folder is ours");
        let sockets = files.sockets();
        wiring
            .lay_out(endpoint, &mut root, &packages, &mta, &sockets, store)
            .unwrap_or_else(|error| panic!("{wiring:?}: {error}"));

        let mta = root.start(wiring.command(), &mta).expect("unshare is on every system");
        let mut world =
            World { wiring, mta, daemon: None, words: wiring.words(endpoint), files, root, dir, _network: network };
        poll_until("the MTA greets", || {
            assert!(!world.mta.ended(), "{wiring:?}: the MTA ended at once");
            Session::connect(STRANGER).is_ok()
        });
        Some(world)
    }

    /// The same with the daemon, which knows its lists.
    pub fn start_with_daemon(wiring: Wiring, endpoint: Endpoint) -> Option<World> {
        let mut world = World::start(wiring, endpoint)?;
        world.start_daemon();
        Some(world)
    }

    /// Starts the daemon.
    pub fn start_daemon(&mut self) {
        self.daemon = Some(start_daemon(&self.daemon_dir()));
    }

    /// Ends the daemon.
    pub fn stop_daemon(&mut self) {
        self.daemon.take().expect("the daemon is running").stop();
    }

    /// The running daemon.
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the daemon is running")
    }

    /// Messages in the MTA's queue, or files of such.
    pub fn queued(&self) -> usize {
        fn files(folder: &Path) -> usize {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
        }
        self.wiring.queues().iter().map(|queue| files(&self.dir.path().join("mta").join(queue))).sum()
    }

    /// Has the MTA try all that is in its queue again.
    pub fn flush_queue(&self) {
        let done = self.root.run(self.wiring.flush()).expect("unshare is on every system");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Whether the MTA has had mail from the null sender: a bounce, made or passed on.
    pub fn has_bounced(&self) -> bool {
        let said = self.mta.said();
        said.contains("from=<>") || said.contains("<= <>")
    }

    fn daemon_dir(&self) -> PathBuf {
        self.dir.path().join("daemon")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}\n{}", self.mta.said(), self.files.said());
        }
    }
}
