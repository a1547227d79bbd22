//! OpenLDAP's slapd as the place where people are added, renamed and deleted, and ldapsearch to get the list of them.

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::poll_until;
use super::sandbox::{Root, Sandbox};

/// Where it listens, in a network of the test's own.
const URL: &str = "ldap://127.0.0.1/";
/// Whom everything is below.
const BASE: &str = "dc=example,dc=com";
/// Who may change it, with the password.
const ADMIN: [&str; 4] = ["-D", "cn=admin,dc=example,dc=com", "-w", "secret"];

/// The server's configuration.
fn slapd_conf(entries_per_search: u32) -> String {
    format!(
        "include /etc/ldap/schema/core.schema\n\
         include /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\n\
         modulepath /usr/lib/ldap\n\
         moduleload back_mdb\n\
         sizelimit {entries_per_search}\n\
         database mdb\n\
         maxsize 16777216\n\
         suffix \"{BASE}\"\n\
         rootdn \"{}\"\n\
         rootpw {}\n\
         directory /var/lib/ldap/data\n",
        ADMIN[1], ADMIN[3]
    )
}

/// A directory server; ended when dropped. Fields are dropped in this order.
pub struct Directory {
    server: Option<Sandbox>,
    root: Root,
    packages: PathBuf,
    starts: u32,
    dir: TempDir,
}

impl Directory {
    /// Starts one from its unpacked `packages`, in the calling thread's network, without people.
    pub fn start(packages: &Path) -> Directory {
        let dir = TempDir::with_prefix("rcptmapd-ldap-").expect("a temporary folder is to be had");
        // ldapsearch is run by the daemon's user.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("the folder is ours");
        fs::create_dir_all(dir.path().join("slapd/data")).expect("the folder is ours");
        let mut root = Root::new(packages);
        root.mount(&dir.path().join("slapd"), "/var/lib/ldap");
        let mut directory = Directory { server: None, root, packages: packages.to_owned(), starts: 0, dir };
        directory.start_again(500);
        directory.change(&format!(
            "dn: {BASE}\nchangetype: add\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n"
        ));
        directory
    }

    /// Starts it, and waits until it listens. No search finds more than so many entries.
    pub fn start_again(&mut self, entries_per_search: u32) {
        self.starts += 1;
        let configuration = self.dir.path().join("slapd/slapd.conf");
        fs::write(configuration, slapd_conf(entries_per_search)).expect("the folder is ours");
        let dir = self.dir.path().join(format!("start-{}", self.starts));
        fs::create_dir(&dir).expect("the folder is ours");
        let command = ["/usr/sbin/slapd", "-d", "stats", "-h", URL, "-f", "/var/lib/ldap/slapd.conf"];
        self.server = Some(self.root.start(&command, &dir).expect("unshare is on every system"));
        poll_until("slapd listens", || {
            let server = self.server.as_mut().expect("just started");
            assert!(!server.ended(), "it ended at once:\n{}", server.said());
            listens()
        });
    }

    /// Ends it, at once and without a good-bye.
    pub fn stop(&mut self) {
        drop(self.server.take());
        poll_until("slapd is gone", || !listens());
    }

    /// Adds a person.
    pub fn add(&self, name: &str, mail: &str) {
        self.change(&format!(
            "dn: uid={name},{BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\n\
             mail: {mail}\n"
        ));
    }

    /// Gives a person another name and address.
    pub fn rename(&self, name: &str, new: &str, mail: &str) {
        self.change(&format!(
            "dn: uid={name},{BASE}\nchangetype: modrdn\nnewrdn: uid={new}\ndeleteoldrdn: 1\n\n\
             dn: uid={new},{BASE}\nchangetype: modify\nreplace: mail\nmail: {mail}\n"
        ));
    }

    /// Takes a person out.
    pub fn delete(&self, name: &str) {
        self.change(&format!("dn: uid={name},{BASE}\nchangetype: delete\n"));
    }

    fn change(&self, ldif: &str) {
        fs::write(self.dir.path().join("slapd/change.ldif"), ldif).expect("the folder is ours");
        let mut command = vec!["/usr/bin/ldapmodify", "-x", "-H", URL, "-f", "/var/lib/ldap/change.ldif"];
        command.extend(ADMIN);
        let output = self.root.run(&command).expect("unshare is on every system");
        assert!(output.status.success(), "{ldif}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The command that prints everybody's address, two entries a page.
    pub fn search(&self) -> Vec<String> {
        let ldapsearch = self.ldapsearch().unwrap_or_else(|error| panic!("ldapsearch: {error}"));
        let arguments = ["-LLL", "-x", "-H", URL, "-b", BASE, "-E", "pr=2/noprompt", "(mail=*)", "mail"];
        [&*ldapsearch.to_string_lossy()].iter().chain(&arguments).map(|&word| word.to_owned()).collect()
    }

    /// ldapsearch and its libraries, copied to where the daemon's user may go, behind a script that brings them together.
    fn ldapsearch(&self) -> io::Result<PathBuf> {
        let is_libraries = |path: &PathBuf| path.join("libc.so.6").exists();
        let libraries = fs::read_dir(self.packages.join("usr/lib"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(is_libraries)
            .ok_or_else(|| io::Error::other("no folder with libraries"))?;
        let is_loader =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
        let loader = fs::read_dir(&libraries)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(is_loader)
            .ok_or_else(|| io::Error::other("no loader"))?;
        let program = self.packages.join("usr/bin/ldapsearch");
        let list = Command::new(&loader).arg("--library-path").arg(&libraries).arg("--list").arg(&program).output()?;

        let to = self.dir.path().join("client");
        fs::create_dir(&to)?;
        fs::copy(&loader, to.join("loader"))?;
        fs::copy(&program, to.join("program"))?;
        for path in String::from_utf8_lossy(&list.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let path = Path::new(path);
            fs::copy(path, to.join(path.file_name().expect("a file")))?;
        }
        let script = to.join("ldapsearch");
        let here = to.display();
        fs::write(&script, format!("#!/bin/sh\nexec {here}/loader --library-path {here} {here}/program \"$@\"\n"))?;
        fs::set_permissions(&script, Permissions::from_mode(0o755))?;
        Ok(script)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(server) = self.server.as_ref().filter(|_| thread::panicking()) {
            eprintln!("--- slapd\n{}", server.said());
        }
    }
}

fn listens() -> bool {
    TcpStream::connect(("127.0.0.1", 389)).is_ok()
}
