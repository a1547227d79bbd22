//! Debian's packages of MTAs and of what stands beside them, unpacked side by side into a cache folder.
//!
//! Owns the cache: one read-only root per MTA, made once and reused. Installs nothing on the host and runs no
//! maintainer script: the packages conflict with each other, and with whatever MTA the host has.
//! `apt-get` works out the whole closure against an empty status file, so that nothing counts as installed.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The part of the layout that changes when this file does: an older root is thrown away.
const LAYOUT: &str = "2";

/// Ids of the accounts that the packages' maintainer scripts would have made; see [`accounts`].
pub const POSTFIX_ID: u32 = 901;
/// Group that may drop mail into Postfix's queue.
pub const POSTDROP_ID: u32 = 902;
/// Exim's account.
pub const EXIM_ID: u32 = 903;
/// Dovecot's account.
pub const DOVECOT_ID: u32 = 905;
/// Dovecot's account for what strangers talk to.
const DOVENULL_ID: u32 = 906;
/// sendmail's unprivileged account.
const SMMSP_ID: u32 = 904;

/// What one MTA needs on disk.
pub struct Packages {
    /// Name of its root in the cache.
    pub name: &'static str,
    /// Packages to unpack; their dependencies come along, but for essential ones such as a shell.
    packages: &'static [&'static str],
    /// Folders that a sandbox mounts over: the root itself is read-only then.
    mount_points: &'static [&'static str],
}

/// Postfix.
pub const POSTFIX: Packages = Packages {
    name: "postfix",
    packages: &["postfix", "dash"],
    mount_points: &["etc/postfix", "var/spool/postfix", "var/lib/postfix"],
};

/// Exim, the light daemon: `${readsocket}` is in both.
pub const EXIM: Packages = Packages {
    name: "exim",
    packages: &["exim4-daemon-light", "dash"],
    mount_points: &["etc/exim4", "var/spool/exim4", "var/log/exim4"],
};

/// sendmail with its configuration macros, and the programs that these call.
pub const SENDMAIL: Packages = Packages {
    name: "sendmail",
    packages: &["sendmail-bin", "sendmail-cf", "m4", "dash", "coreutils", "sed"],
    mount_points: &["etc/mail", "var/spool/mqueue"],
};

/// Dovecot with LMTP: a backend only.
pub const DOVECOT: Packages = Packages {
    name: "dovecot",
    packages: &["dovecot-core", "dovecot-lmtpd", "dash"],
    mount_points: &["etc/dovecot", "var/lib/dovecot"],
};

/// OpenLDAP's server with its clients: a directory to get lists from.
pub const SLAPD: Packages =
    Packages { name: "slapd", packages: &["slapd", "ldap-utils", "dash"], mount_points: &["var/lib/ldap"] };

impl Packages {
    /// The unpacked root, made on first use.
    ///
    /// `None` tells the test to pass without having tested anything, which standard error then says loudly; with
    /// `RCPTMAPD_REQUIRE_MTA=1`, as in CI, that is a failure instead.
    pub fn root(&self) -> Option<PathBuf> {
        let reason = match self.unpacked() {
            Ok(root) => return Some(root),
            Err(reason) => reason,
        };
        assert!(
            env::var_os("RCPTMAPD_REQUIRE_MTA").is_none_or(|value| value != "1"),
            "RCPTMAPD_REQUIRE_MTA=1, but {} can't be run here: {reason}",
            self.name
        );
        say(&format!("\n*** SKIPPED, NOTHING TESTED: {} can't be run here: {reason} ***\n", self.name));
        None
    }

    /// Makes the root under a lock that holds between threads and between processes.
    fn unpacked(&self) -> Result<PathBuf, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("namespaces and chroot need root".to_owned());
        }
        if !Path::new("/usr/bin/apt-get").exists() || !Path::new("/usr/bin/dpkg-deb").exists() {
            return Err("the packages are fetched with apt-get and dpkg-deb, which are not here".to_owned());
        }
        run(Command::new("unshare").args(["--mount", "--pid", "--net", "--uts", "--fork", "true"]))?;
        let cache = cache_dir();
        fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
        let lock = cache.join(format!("{}.lock", self.name));
        let lock = File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
        lock.lock().map_err(|error| format!("lock on {}: {error}", cache.display()))?;

        let root = cache.join(self.name);
        let stamp = cache.join(format!("{}.stamp", self.name));
        let wanted = format!("{LAYOUT} {} {}\n", self.packages.join(" "), self.mount_points.join(" "));
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(root);
        }
        // A root without its stamp is made again, so also one that was left half done.
        let _ = fs::remove_file(&stamp);
        let archives = cache.join(format!("{}.archives", self.name));
        let made = self
            .download(&archives)
            .and_then(|()| self.unpack(&archives, &root).map_err(|error| format!("unpacking {}: {error}", self.name)));
        // Of no further use, either way.
        let _ = fs::remove_dir_all(&archives);
        made?;
        fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
        Ok(root)
    }

    /// Fetches the packages and all that they depend on; with fresh package lists when the first try fails.
    fn download(&self, archives: &Path) -> Result<(), String> {
        say(&format!("fetching the Debian packages of {} (once)", self.name));
        let _ = fs::remove_dir_all(archives);
        fs::create_dir_all(archives.join("partial")).map_err(|error| format!("{}: {error}", archives.display()))?;
        let nothing_installed = archives.join("status");
        fs::write(&nothing_installed, "").map_err(|error| format!("{}: {error}", nothing_installed.display()))?;
        let install = || {
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive")
                .arg(format!("-oDir::State::status={}", nothing_installed.display()))
                .arg(format!("-oDir::Cache::archives={}/", archives.display()))
                .args(["-oDebug::NoLocking=1", "-oAPT::Install-Recommends=0", "-oAPT::Sandbox::User=root"])
                .args(["-qq", "-y", "--download-only", "install"])
                .args(self.packages);
            run(&mut apt)
        };
        install().or_else(|_| {
            run(Command::new("apt-get").args(["-qq", "update"]))?;
            install()
        })
    }

    fn unpack(&self, archives: &Path, root: &Path) -> Result<(), String> {
        let io = |error: std::io::Error| error.to_string();
        if root.exists() {
            fs::remove_dir_all(root).map_err(io)?;
        }
        // The links must stand first: an archive unpacked without them makes folders of them, and then nobody
        // finds the loader.
        for dir in ["bin", "sbin", "lib", "lib32", "lib64"] {
            fs::create_dir_all(root.join("usr").join(dir)).map_err(io)?;
            symlink(Path::new("usr").join(dir), root.join(dir)).map_err(io)?;
        }
        for entry in fs::read_dir(archives).map_err(io)? {
            let archive = entry.map_err(io)?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                extract(&archive, root)?;
            }
        }
        for dir in ["etc", "proc", "dev", "run", "tmp", "var/log"].iter().chain(self.mount_points) {
            fs::create_dir_all(root.join(dir)).map_err(io)?;
        }
        accounts(root).map_err(io)?;
        // Nobody needs them here, and a folder of a developer's is no place for set-uid programs.
        run(Command::new("find").arg(root).args(["-perm", "/6000", "-exec", "chmod", "ug-s", "{}", "+"]))
    }
}

/// `RCPTMAPD_CACHE`, or `.cache/mta` in the source tree.
fn cache_dir() -> PathBuf {
    env::var_os("RCPTMAPD_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/mta"), PathBuf::from)
}

/// Unpacks one archive without what only people read.
fn extract(archive: &Path, root: &Path) -> Result<(), String> {
    let mut content = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("dpkg-deb: {error}"))?;
    let pipe = content.stdout.take().expect("standard output was asked for");
    run(Command::new("tar")
        .args(["-x", "-f", "-", "--keep-directory-symlink"])
        .args(["--exclude=./usr/share/doc", "--exclude=./usr/share/man", "--exclude=./usr/share/locale"])
        .arg("-C")
        .arg(root)
        .stdin(pipe))?;
    match content.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("dpkg-deb on {}: {status}", archive.display())),
        Err(error) => Err(format!("dpkg-deb on {}: {error}", archive.display())),
    }
}

/// What maintainer scripts and an administrator would have written: accounts, and names looked up in files only.
fn accounts(root: &Path) -> std::io::Result<()> {
    let etc = root.join("etc");
    fs::write(
        etc.join("passwd"),
        format!(
            "root:x:0:0::/root:/bin/sh\n\
             daemon:x:1:1::/:/usr/sbin/nologin\n\
             mail:x:8:8::/var/mail:/usr/sbin/nologin\n\
             postfix:x:{POSTFIX_ID}:{POSTFIX_ID}::/var/spool/postfix:/usr/sbin/nologin\n\
             Debian-exim:x:{EXIM_ID}:{EXIM_ID}::/var/spool/exim4:/usr/sbin/nologin\n\
             smmsp:x:{SMMSP_ID}:{SMMSP_ID}::/var/lib/sendmail:/usr/sbin/nologin\n\
             dovecot:x:{DOVECOT_ID}:{DOVECOT_ID}::/nonexistent:/usr/sbin/nologin\n\
             dovenull:x:{DOVENULL_ID}:{DOVENULL_ID}::/nonexistent:/usr/sbin/nologin\n\
             nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
        ),
    )?;
    fs::write(
        etc.join("group"),
        format!(
            "root:x:0:\ndaemon:x:1:\nmail:x:8:\npostfix:x:{POSTFIX_ID}:\npostdrop:x:{POSTDROP_ID}:\n\
             Debian-exim:x:{EXIM_ID}:\nsmmsp:x:{SMMSP_ID}:\ndovecot:x:{DOVECOT_ID}:\n\
             dovenull:x:{DOVENULL_ID}:\nnogroup:x:65534:\n"
        ),
    )?;
    fs::write(etc.join("hosts"), "127.0.0.1 gateway.example.net gateway localhost\n")?;
    fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\nservices: files\n")?;
    fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    let tmp = root.join("tmp");
    fs::set_permissions(tmp, Permissions::from_mode(0o1777))?;
    let var_run = root.join("var/run");
    if var_run.is_dir() && !var_run.is_symlink() {
        fs::remove_dir_all(&var_run)?;
    }
    if !var_run.is_symlink() {
        symlink("/run", var_run)?;
    }
    // Debian's alternatives would have made it.
    if root.join("usr/libexec/sendmail/sendmail").exists() {
        symlink("../libexec/sendmail/sendmail", root.join("usr/sbin/sendmail"))?;
    }
    Ok(())
}

/// Tells people at once: the test harness keeps what passing tests print with macros.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Runs a command to its end; what it said is part of the error.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
