//! What needs a process of its own runs in a child: this test binary again, with the same test, which is told so.
//! What needs root is skipped loudly without it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::config::{Endpoint, Listen};

const CHILD: &str = "RCPTMAPD_TEST_CHILD";

/// Whether this process was started by [`child`], and with what.
fn told() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// The command that runs a test in a process of its own, on its main thread, where it finds out that it is a child.
fn child(test: &str, told: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("ourselves"));
    command.args(["--exact", &format!("sys::tests::{test}"), "--nocapture", "--test-threads=1"]);
    command.env(CHILD, told).env("RUST_BACKTRACE", "0");
    command
}

fn succeeded(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed") || text.contains("child done"), "{text}");
    text
}

/// Past the harness, which keeps what `eprintln!` says of a test that passes.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED sys::tests::{what}");
}

fn root_or_skip(test: &str) -> bool {
    if !is_root() {
        skipped(&format!("{test}: it needs root"));
    }
    is_root()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    folder
}

fn listen(on: &str) -> Listen {
    Listen::new(on.parse().unwrap_or_else(|e| panic!("{on}: {e}")))
}

fn unix_at(path: &Path) -> Listen {
    Listen::new(Endpoint::Unix(path.into()))
}

fn bind_one(listen: &Listen) -> Result<Bound, String> {
    let mut bound = bind(listen, 16, &mut Activated::default()).map_err(|e| e.to_string())?;
    assert_eq!(bound.len(), 1);
    bound.pop().ok_or_else(|| "nothing".into())
}

fn accept(bound: &Bound) -> bool {
    match &bound.listener {
        Listener::Unix(l) => l.accept().is_ok(),
        Listener::Tcp(l) => l.accept().is_ok(),
    }
}

#[test]
fn a_unix_socket_has_the_mode_that_was_asked_for() {
    let folder = folder();
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let path = folder.path().join(format!("{mode:o}"));
        let bound = bind_one(&Listen { mode, ..unix_at(&path) }).expect("bound");
        let meta = std::fs::symlink_metadata(&path).expect("a socket");
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "whatever the umask");
        assert!(!accept(&bound), "it does not block");
        let _client = UnixStream::connect(&path).expect("it listens");
        assert!(accept(&bound));
        drop(bound);
        assert!(!path.exists());
    }
}

#[test]
fn a_unix_socket_has_the_owner_and_the_group_that_were_asked_for() {
    if !root_or_skip("a_unix_socket_has_the_owner_and_the_group_that_were_asked_for") {
        return;
    }
    let folder = folder();
    let path = folder.path().join("s");
    let (owner, group) = (Some("nobody".to_owned()), Some("mail".to_owned()));
    let _bound = bind_one(&Listen { owner, group, ..unix_at(&path) }).expect("bound");
    let meta = std::fs::symlink_metadata(&path).expect("a socket");
    assert_eq!(meta.uid(), user_id("nobody").expect("nobody"));
    assert_eq!(meta.gid(), group_id("mail").expect("mail"));
    permit(&path, 0o600, Some("0"), Some("0")).expect("numbers are taken as well");
    let meta = std::fs::symlink_metadata(&path).expect("a socket");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (0, 0, 0o600));
    let _control = bind_control(&folder.path().join("c"), Some(&account("nobody").expect("nobody"))).expect("bound");
    let meta = std::fs::symlink_metadata(folder.path().join("c")).expect("a socket");
    assert_eq!((meta.uid(), meta.mode() & 0o777), (user_id("nobody").expect("nobody"), 0o600));
}

#[test]
fn what_is_no_socket_is_not_touched() {
    let folder = folder();
    let path = folder.path().join("s");
    let at = format!("unix:{}", path.display());
    std::fs::write(&path, "precious").expect("a file");
    let error = bind_one(&unix_at(&path)).expect_err("a file");
    assert_eq!(error, format!("{at}: there is a file of this name; remove it, or choose another path"));
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "precious");
    std::fs::remove_file(&path).expect("ours");

    std::os::unix::fs::symlink("/nonexistent", &path).expect("a link");
    let error = bind_one(&unix_at(&path)).expect_err("a link");
    assert!(error.starts_with(&format!("{at}: there is a symbolic link of this name;")), "{error}");
    std::fs::remove_file(&path).expect("ours");

    std::fs::create_dir(&path).expect("a folder");
    let error = bind_one(&unix_at(&path)).expect_err("a folder");
    assert!(error.starts_with(&format!("{at}: there is a folder of this name;")), "{error}");
}

#[test]
fn a_live_socket_is_not_stolen() {
    let folder = folder();
    let path = folder.path().join("s");
    let first = bind_one(&unix_at(&path)).expect("bound");
    let error = bind_one(&unix_at(&path)).expect_err("taken");
    let expected = "somebody listens there already; is rcptmapd running? Stop it, or choose another path";
    assert_eq!(error, format!("unix:{}: {expected}", path.display()));
    assert!(accept(&first), "that was the question whether somebody listens");
    let _client = UnixStream::connect(&path).expect("it is still there");
    assert!(accept(&first));
}

#[test]
fn a_live_socket_with_a_full_backlog_is_not_stolen() {
    let folder = folder();
    let path = folder.path().join("s");
    let _first = bind(&unix_at(&path), 1, &mut Activated::default()).expect("bound");
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(UnixStream::connect(&path).expect("room in the backlog"));
    }
    let start = Instant::now();
    let error = bind_one(&unix_at(&path)).expect_err("taken");
    assert!(error.contains("somebody listens there already"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "and nobody waits for it");
}

#[test]
fn a_stale_socket_is_replaced() {
    let folder = folder();
    let path = folder.path().join("s");
    drop(UnixListener::bind(&path).expect("a socket that stays on the disk"));
    let bound = bind_one(&unix_at(&path)).expect("nobody listens");
    let _client = UnixStream::connect(&path).expect("it listens");
    assert!(accept(&bound));
    std::fs::remove_file(&path).expect("somebody cleans up");
    drop(UnixListener::bind(&path).expect("another's"));
    drop(bound);
    assert!(path.exists(), "what isn't ours any more is not removed");
}

#[test]
fn another_kind_of_socket_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("s");
    let _log = UnixDatagram::bind(&path).expect("a datagram socket");
    let error = bind_one(&unix_at(&path)).expect_err("somebody's");
    assert!(
        error.contains("it can't be told whether somebody listens there (protocol wrong type for socket)"),
        "{error}"
    );
    assert!(path.exists());
}

#[test]
fn many_that_start_at_once_get_one_socket() {
    let folder = folder();
    for round in 0..50 {
        let path = folder.path().join(round.to_string());
        drop(UnixListener::bind(&path).expect("a stale one"));
        let start = std::sync::Barrier::new(8);
        let bound: Vec<_> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                bind_one(&unix_at(&path))
            };
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            starts.into_iter().map(|t| t.join().expect("a result")).collect()
        });
        let winners: Vec<_> = bound.iter().flatten().collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let _client = UnixStream::connect(&path).expect("the winner's");
        assert!(winners.iter().all(|b| accept(b)), "round {round}");
    }
}

#[test]
fn a_missing_folder_is_told_with_advice() {
    let folder = folder();
    let missing = folder.path().join("no");
    let error = bind_one(&unix_at(&missing.join("s"))).expect_err("no folder");
    let (at, m) = (missing.join("s"), missing.display());
    let advice = format!("unix:{}: there is no folder {m}; create it: install -d -o ", at.display());
    assert!(error.starts_with(&advice) && error.ends_with(&format!(" {m}")), "{error}");
}

#[test]
fn a_folder_below_run_is_made() {
    let folder = folder();
    let made = folder.path().join("rcptmapd");
    let nobody = account("nobody").expect("nobody");
    super::bind::create_folder(&made, Some(&nobody)).expect("made");
    let meta = std::fs::metadata(&made).expect("a folder");
    assert_eq!(meta.mode() & 0o777, 0o755);
    if is_root() {
        assert_eq!((meta.uid(), meta.gid()), (nobody.uid, nobody.gid));
    }
    super::bind::create_folder(&made, None).expect("there already");
    runtime_folder(&folder.path().join("elsewhere/s"), None).expect("not ours to make");
    assert!(!folder.path().join("elsewhere").exists());
}

#[test]
fn unknown_accounts_are_told_with_advice_and_nothing_stays_behind() {
    let folder = folder();
    let path = folder.path().join("s");
    let error = bind_one(&Listen { group: Some("nogroup-xyz".into()), ..unix_at(&path) }).expect_err("no group");
    let advice = "create it with `groupadd --system nogroup-xyz`, or name another";
    assert_eq!(error, format!("unix:{}: unknown group nogroup-xyz: {advice}", path.display()));
    assert!(!path.exists());
    let error = bind_one(&Listen { owner: Some("nouser-xyz".into()), ..unix_at(&path) }).expect_err("no user");
    assert!(error.contains(": unknown user nouser-xyz: create it with `useradd --system "), "{error}");
    assert!(!path.exists());
    assert_eq!(
        account("nouser-xyz").expect_err("no user").to_string(),
        "unknown user nouser-xyz: create it with `useradd --system --no-create-home --shell /usr/sbin/nologin \
         nouser-xyz`, or set `user` (-u) to another; user = \"\" stays what it is"
    );
}

#[test]
fn the_place_in_the_configuration_is_told() {
    let config = crate::config::Config::parse(
        Path::new("/etc/r.toml"),
        b"[[source]]\npath = \"/x\"\n[[listen]]\non = \"fd:milter\"\n",
        &crate::config::Disk,
        &crate::config::Overrides::default(),
    )
    .expect("a good configuration");
    let listen = config.listen.first().expect("one");
    let error = bind_one(listen).expect_err("not started by systemd");
    assert_eq!(
        error,
        "/etc/r.toml:4: fd:milter: systemd handed over no socket of this name, nor any other; the socket unit needs \
         FileDescriptorName=milter"
    );
}

#[test]
fn a_busy_port_is_told_with_advice() {
    let first = bind_one(&listen("127.0.0.1:0")).expect("bound");
    let Endpoint::Tcp(address) = first.endpoint.clone() else { panic!("{}", first.endpoint) };
    assert_ne!(address.port(), 0, "the port that was chosen");
    let error = bind_one(&listen(&address.to_string())).expect_err("taken");
    let port = address.port();
    assert_eq!(
        error,
        format!(
            "{address}: the port is taken; `ss -ltnp sport = :{port}` tells by whom: stop that, or choose another port"
        )
    );
}

#[test]
fn an_address_of_another_host_is_told() {
    let error = bind_one(&listen("192.0.2.1:8910")).expect_err("not ours");
    assert_eq!(error, "192.0.2.1:8910: this host has no address 192.0.2.1; `ip address` shows those that it has");
    let error = bind_one(&listen("host.invalid:8910")).expect_err("no host");
    assert!(error.starts_with("host.invalid:8910: can't find the address of host.invalid: "), "{error}");
    assert!(error.ends_with("; write the address itself"), "{error}");
}

#[test]
fn ipv6_and_ipv4_stand_side_by_side_and_localhost_is_both() {
    let Ok(six) = bind_one(&listen("[::]:0")) else {
        skipped("ipv6_and_ipv4_stand_side_by_side_and_localhost_is_both: no IPv6 here");
        return;
    };
    let Endpoint::Tcp(address) = six.endpoint else { panic!("{}", six.endpoint) };
    bind_one(&listen(&format!("0.0.0.0:{}", address.port()))).expect("the same port on IPv4");
    let bound = bind(&listen("localhost:0"), 16, &mut Activated::default()).expect("bound");
    assert!(bound.iter().all(|b| b.endpoint.is_local()) && !bound.is_empty());
}

#[test]
fn accepted_connections_send_at_once() {
    let bound = bind_one(&listen("127.0.0.1:0")).expect("bound");
    let Endpoint::Tcp(address) = bound.endpoint else { panic!("{}", bound.endpoint) };
    let Listener::Tcp(listener) = &bound.listener else { panic!("TCP") };
    let _client = TcpStream::connect(address).expect("it listens");
    let (accepted, _) = listener.accept().expect("a connection");
    assert!(accepted.nodelay().expect("an option"), "TCP_NODELAY is inherited");
    assert!(socket2::SockRef::from(&accepted).keepalive().expect("an option"), "keep-alive is inherited");
}

fn child_drops_privileges(path: &str) {
    let path = Path::new(path);
    let nobody = account("nobody").expect("nobody");
    assert_eq!(drop_privileges(&account("root").expect("root")).expect("nothing"), Dropped::WantsRoot);
    assert_eq!(drop_privileges(&nobody).expect("dropped"), Dropped::Done);

    let status = std::fs::read_to_string("/proc/self/status").expect("our status");
    let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).expect("a line").trim().to_owned();
    let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
    assert_eq!((line("Uid:"), line("Gid:")), (four(nobody.uid), four(nobody.gid)));
    assert_eq!(line("Groups:"), nobody.gid.to_string(), "none of root's");
    assert_eq!(line("CapEff:"), "0000000000000000");
    assert!(nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_err(), "no way back");
    assert_eq!(drop_privileges(&nobody).expect("nothing to drop"), Dropped::NotRoot);

    // what only root may do is refused with advice
    let listen = Listen { group: Some("mail".into()), ..unix_at(&path.join("open/s")) };
    let error = bind_one(&listen).expect_err("not our group");
    let advice = "user nobody may not give it to group mail; start as root, or add the user: usermod -aG mail nobody";
    assert_eq!(error, format!("unix:{}: {advice}", path.join("open/s").display()));
    assert!(!path.join("open/s").exists());
    let listen = Listen { owner: Some("root".into()), ..unix_at(&path.join("open/s")) };
    let error = bind_one(&listen).expect_err("not root");
    assert!(error.ends_with("user nobody may not give it to user root; start as root, or take `owner` out"), "{error}");
    bind_one(&Listen { owner: Some("nobody".into()), ..unix_at(&path.join("open/s")) }).expect("that is us");

    let closed = path.join("closed");
    let error = bind_one(&unix_at(&closed.join("s"))).expect_err("not our folder");
    let advice = "start as root, or choose a folder of that user";
    let expected = format!("user nobody may not create a socket in {}; {advice}", closed.display());
    assert_eq!(error, format!("unix:{}: {expected}", closed.join("s").display()));
    let error = PidFile::create(&closed.join("pid")).expect_err("not our folder").to_string();
    assert!(error.ends_with("; start as root, or name a pid_file (-P) in a folder of your own"), "{error}");
    let pid_file = closed.join("left.pid");
    assert_eq!(std::fs::read_to_string(&pid_file).expect("root's"), "4194304\n");

    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first.trim().parse::<u16>().is_ok_and(|first| first > 25) {
        let error = bind_one(&listen_low()).expect_err("a port for root");
        assert!(
            error.starts_with("127.0.0.1:25: user nobody may not use port 25; start as root, give the service "),
            "{error}"
        );
    }
}

fn listen_low() -> Listen {
    listen("127.0.0.1:25")
}

#[test]
fn privileges_are_dropped_for_good() {
    if let Some(path) = told() {
        return child_drops_privileges(&path);
    }
    if !root_or_skip("privileges_are_dropped_for_good") {
        return;
    }
    let folder = folder();
    for (name, mode) in [("open", 0o777), ("closed", 0o755)] {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
    }
    std::fs::write(folder.path().join("closed/left.pid"), "4194304\n").expect("a file");
    let output =
        child("privileges_are_dropped_for_good", &folder.path().display().to_string()).output().expect("a child");
    succeeded(&output);
}

fn child_leaves_a_pid_file(path: &str) {
    let pid_file = PidFile::create(Path::new(path)).expect("as root");
    drop_privileges(&account("nobody").expect("nobody")).expect("dropped");
    pid_file.remove();
}

#[test]
fn a_pid_file_that_may_not_be_removed_is_left_empty() {
    if let Some(path) = told() {
        return child_leaves_a_pid_file(&path);
    }
    if !root_or_skip("a_pid_file_that_may_not_be_removed_is_left_empty") {
        return;
    }
    let folder = folder();
    let path = folder.path().join("pid");
    succeeded(
        &child("a_pid_file_that_may_not_be_removed_is_left_empty", &path.display().to_string())
            .output()
            .expect("a child"),
    );
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "");
    PidFile::create(&path).expect("taken over by the next start").remove();
}

fn child_raises_its_limit() {
    let limit = raise_nofile().expect("raised");
    println!("limit {limit}");
    assert_eq!(raise_nofile().expect("no harm"), limit);
}

#[test]
fn the_descriptor_limit_is_raised_to_the_hard_one() {
    if told().is_some() {
        return child_raises_its_limit();
    }
    let exe = child("the_descriptor_limit_is_raised_to_the_hard_one", "1");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 64 && ulimit -Hn 512 && exec \"$0\" \"$@\""]);
    shell.arg(exe.get_program()).args(exe.get_args()).env(CHILD, "1");
    let text = succeeded(&shell.output().expect("a child"));
    assert!(text.contains("limit 512"), "{text}");
}

#[test]
fn only_the_loader_is_made_nice() {
    let nice = || {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("a thread");
        let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
        rest.split(' ').nth(16).and_then(|n| n.parse::<i32>().ok()).expect("a number")
    };
    let before = nice();
    let theirs = std::thread::spawn(move || {
        lower_own_priority().expect("always allowed");
        nice()
    });
    assert_eq!(theirs.join().expect("a thread"), 19);
    assert_eq!(nice(), before);
}

#[test]
fn children_do_not_inherit_what_systemd_told_us() {
    let mut command = Command::new("env");
    for name in PRIVATE_ENV {
        command.env(name, "secret");
    }
    command.env("PATH", "/usr/bin:/bin");
    let output = scrub(&mut command).output().expect("env");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("PATH=") && !text.contains("secret"), "{text}");
}

fn child_is_activated(path: &str) {
    let mut activated = Activated::from_env().expect("good sockets");
    assert_eq!(activated.names(), ["map", "other"]);
    assert!(activated.take(&Endpoint::Fd("nothing".into())).is_empty());
    assert_eq!(activated.left(), ["map", "other"]);

    let error = bind(&listen("fd:nothing"), 16, &mut activated).expect_err("no such name").to_string();
    assert_eq!(
        error,
        "fd:nothing: systemd handed over no socket of this name, only map, other; the socket unit needs \
         FileDescriptorName=nothing"
    );
    let by_name = bind(&listen("fd:map"), 16, &mut activated).expect("the first");
    let [map] = by_name.as_slice() else { panic!("{by_name:?}") };
    assert_eq!((map.endpoint.to_string(), map.activated), (format!("unix:{path}"), true));
    let mut client = UnixStream::connect(path).expect("it listens");
    let Listener::Unix(listener) = &map.listener else { panic!("UNIX") };
    let (mut accepted, _) = listener.accept().expect("our client");
    client.write_all(b"x").expect("written");
    accepted.read_exact(&mut [0]).expect("read");
    assert!(listener.accept().is_err(), "it does not block");
    let address = std::env::var("RCPTMAPD_TEST_ADDRESS").expect("an address");
    let by_address = bind(&listen(&address), 16, &mut activated).expect("the second, by its address");
    assert!(by_address.iter().all(|b| b.activated && b.endpoint.to_string() == address));
    assert!(activated.left().is_empty());
    let flags = nix::fcntl::fcntl(listener, nix::fcntl::FcntlArg::F_GETFD).expect("flags");
    assert_eq!(flags & nix::fcntl::FdFlag::FD_CLOEXEC.bits(), nix::fcntl::FdFlag::FD_CLOEXEC.bits());
    drop(by_name);
    assert!(Path::new(path).exists(), "the socket is systemd's");
    eprintln!("child done");
}

/// Runs a child as systemd would, with `stdin` and `stdout` as descriptors 3 and 4.
fn activate(test: &str, script: &str, path: &Path, address: &str, stdin: OwnedFd, stdout: OwnedFd) -> Output {
    let exe = child(test, "");
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(exe.get_program()).args(exe.get_args());
    shell.env(CHILD, path).env("RCPTMAPD_TEST_ADDRESS", address).env("RUST_BACKTRACE", "0");
    shell.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::piped());
    shell.spawn().and_then(|c| c.wait_with_output()).expect("a child")
}

fn sockets(folder: &Path) -> (PathBuf, String, OwnedFd, OwnedFd) {
    let path = folder.join("s");
    let unix = UnixListener::bind(&path).expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = tcp.local_addr().expect("an address").to_string();
    (path, address, unix.into(), tcp.into())
}

const AS_SYSTEMD: &str = "exec 3<&0 4<&1 0</dev/null 1>&2
    export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=map:other
    exec \"$0\" \"$@\"";

#[test]
fn sockets_of_systemd_are_taken_by_name_and_by_address() {
    if let Some(path) = told() {
        return child_is_activated(&path);
    }
    let folder = folder();
    let (path, address, unix, tcp) = sockets(folder.path());
    succeeded(&activate("sockets_of_systemd_are_taken_by_name_and_by_address", AS_SYSTEMD, &path, &address, unix, tcp));
}

#[test]
fn sockets_that_are_meant_for_another_process_are_not_taken() {
    if let Some(path) = told() {
        return child_is_activated(&path);
    }
    let folder = folder();
    for pid in ["LISTEN_PID=1", "LISTEN_PID=", "LISTEN_PID=x"] {
        let _ = std::fs::remove_file(folder.path().join("s"));
        let (path, address, unix, tcp) = sockets(folder.path());
        let output = activate(
            "sockets_that_are_meant_for_another_process_are_not_taken",
            &AS_SYSTEMD.replace("LISTEN_PID=$$", pid),
            &path,
            &address,
            unix,
            tcp,
        );
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("left: []"), "{pid}: {text}");
    }
}

#[test]
fn what_is_no_listening_socket_is_refused_with_its_name() {
    if let Some(path) = told() {
        return child_is_activated(&path);
    }
    let folder = folder();
    let (path, address, unix, _tcp) = sockets(folder.path());
    let file: OwnedFd = std::fs::File::create(folder.path().join("f")).expect("a file").into();
    let output =
        activate("what_is_no_listening_socket_is_refused_with_its_name", AS_SYSTEMD, &path, &address, unix, file);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("it is no stream socket: the socket unit needs ListenStream="), "{text}");
    assert!(text.contains("other"), "{text}");

    let _ = std::fs::remove_file(&path);
    let (path, address, unix, tcp) = sockets(folder.path());
    let connected = TcpStream::connect(&address).expect("it listens");
    drop(tcp);
    let output = activate(
        "what_is_no_listening_socket_is_refused_with_its_name",
        AS_SYSTEMD,
        &path,
        &address,
        unix,
        connected.into(),
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("it does not listen: the socket unit needs Accept=no"), "{text}");
}

fn child_daemonises(path: &str) {
    let before = std::process::id();
    let error = daemonise().expect_err("the threads of the test would be lost").to_string();
    assert_eq!(error, "can't detach from the terminal: 2 threads run already");
    let mut pid_file = PidFile::create(Path::new(path)).expect("ours");
    detach().expect("detached"); // the parent ends here
    pid_file.update().expect("ours");
    let locked = PidFile::create(Path::new(path)).is_err();
    let folder = std::env::current_dir().expect("a folder");
    let report = format!("{} {} {locked} {}", before != std::process::id(), folder.display(), std::process::id());
    std::fs::write(format!("{path}.part"), report).expect("written");
    std::fs::rename(format!("{path}.part"), format!("{path}.report")).expect("complete");
    std::process::exit(0);
}

#[test]
fn a_daemon_leaves_its_parent() {
    if let Some(path) = told() {
        return child_daemonises(&path);
    }
    let folder = folder();
    let path = folder.path().join("pid");
    let output = child("a_daemon_leaves_its_parent", &path.display().to_string()).output().expect("a child");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let report = folder.path().join("pid.report");
    let patience = Instant::now() + Duration::from_secs(20);
    while !report.exists() {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(Instant::now() < patience, "the daemon said nothing: {said}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let number = std::fs::read_to_string(&path).expect("a pid file");
    let report = std::fs::read_to_string(&report).expect("a report");
    assert_eq!(report, format!("true / true {}", number.trim()), "another number, in /, with the lock, in the file");
}
