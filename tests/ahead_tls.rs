//! STARTTLS in probes, through the running daemon, against a server of our own. Its certificates: `tests/ahead/README`.
#![cfg(feature = "tls")]

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{Daemon, Ran, Setup, finish, rcptmapd};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

/// What the server does about STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It knows nothing of it.
    None,
    /// It does it with this certificate, in these versions.
    Tls(&'static str, &'static [&'static SupportedProtocolVersion]),
    /// It refuses what it has offered.
    Refuses,
    /// After its consent it goes on in the clear.
    Garbage,
    /// After its consent it closes, or says nothing.
    Closes,
    Silent,
    /// It says more than its consent, in the clear.
    Injects,
}

const BOTH: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;
const PROVEN: Manner = Manner::Tls("server.pem", BOTH);
const SELF_SIGNED: Manner = Manner::Tls("self_signed.pem", BOTH);

/// How it is asked.
const OPPORTUNISTIC: &str = "opportunistic";
const REQUIRED: &str = "required";

struct Backend {
    address: SocketAddr,
    /// Recipients that were asked about in the clear, and under TLS.
    clear: Arc<AtomicUsize>,
    encrypted: Arc<AtomicUsize>,
}

impl Backend {
    fn start(manner: Manner) -> Backend {
        Backend::at("127.0.0.1:0", manner)
    }

    fn at(address: &str, manner: Manner) -> Backend {
        let listener = TcpListener::bind(address).expect("a free port");
        let backend = Backend {
            address: listener.local_addr().expect("an address"),
            clear: Arc::default(),
            encrypted: Arc::default(),
        };
        let (clear, encrypted) = (Arc::clone(&backend.clear), Arc::clone(&backend.encrypted));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (clear, encrypted) = (Arc::clone(&clear), Arc::clone(&encrypted));
                // A client that leaves ends its session.
                thread::spawn(move || serve(stream, manner, &clear, &encrypted));
            }
        });
        backend
    }

    fn counts(&self) -> (usize, usize) {
        (self.clear.load(Ordering::SeqCst), self.encrypted.load(Ordering::SeqCst))
    }
}

fn serve(mut stream: TcpStream, manner: Manner, clear: &AtomicUsize, encrypted: &AtomicUsize) -> io::Result<()> {
    stream.write_all(b"220 backend.example ESMTP\r\n")?;
    if !converse(&mut stream, manner, manner != Manner::None, clear)? {
        return Ok(());
    }
    match manner {
        Manner::Tls(certificate, versions) => {
            let connection = ServerConnection::new(server_config(certificate, versions)).map_err(io::Error::other)?;
            converse(&mut StreamOwned::new(connection, stream), manner, false, encrypted)?;
        }
        Manner::Garbage => {
            stream.write_all(b"250 2.0.0 no TLS here\r\n550 5.1.1 no such user\r\n")?;
            stream.read_to_end(&mut Vec::new())?;
        }
        Manner::Silent | Manner::Injects => drop(stream.read_to_end(&mut Vec::new())?),
        Manner::Closes | Manner::None | Manner::Refuses => {}
    }
    Ok(())
}

/// SMTP, until the client goes (`false`) or the handshake is to begin (`true`).
fn converse(stream: &mut (impl Read + Write), manner: Manner, offers: bool, asked: &AtomicUsize) -> io::Result<bool> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        line.push(byte[0]);
        if byte[0] != b'\n' {
            continue;
        }
        let command = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        let reply: &[u8] = match command.get(..4).unwrap_or_default() {
            "EHLO" if offers => b"250-backend.example\r\n250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n",
            "EHLO" => b"250-backend.example\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n",
            "STAR" if manner == Manner::Refuses => b"454 4.7.0 TLS is not available\r\n",
            "STAR" if manner == Manner::Injects => {
                b"220 2.0.0 go ahead\r\n250 mine\r\n250 2.1.0 ok\r\n550 5.1.1 no\r\n"
            }
            "STAR" if offers => b"220 2.0.0 go ahead\r\n",
            "RCPT" => {
                asked.fetch_add(1, Ordering::SeqCst);
                if command.contains("<anna@") { b"250 2.1.5 ok\r\n" } else { b"550 5.1.1 no such user\r\n" }
            }
            "QUIT" => {
                stream.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(false);
            }
            "MAIL" => b"250 2.1.0 ok\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        stream.write_all(reply)?;
        stream.flush()?;
        if reply.starts_with(b"220") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn material(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ahead").join(name)
}

fn server_config(certificate: &str, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(material(certificate)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(material("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .expect("versions that there are")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.expect("the certificate is the key's"))
}

fn config(server: &str, tls: &str) -> String {
    format!(
        "[limits]\nanswer = \"8s\"\nanswer_line = \"8s\"\n\
         [[domain]]\nnames = [\"example.org\"]\nverify = \"probe\"\nbackend = \"hub\"\n\
         [[backend]]\nname = \"hub\"\nservers = [\"{server}\"]\ntls = \"{tls}\"\nreply_timeout = \"2s\"\n"
    )
}

/// A daemon that trusts the authority of the tests.
fn start_with(server: &str, tls: &str, trusted: &Path) -> Daemon {
    Setup::new().config(&config(server, tls)).env("SSL_CERT_FILE", trusted).start()
}

/// `rcptmapd probe` of anna, by the same configuration.
fn probe(server: &str, tls: &str, trusted: &Path) -> Ran {
    let setup = Setup::new();
    let file = setup.path("probe.toml");
    std::fs::write(&file, setup.complete_config(&config(server, tls))).expect("a writable folder");
    let mut command = rcptmapd();
    command.arg("probe").arg("-c").arg(file).arg("anna@example.org").env("SSL_CERT_FILE", trusted);
    finish(command, b"")
}

fn start(backend: &Backend, tls: &str) -> Daemon {
    start_with(&backend.address.to_string(), tls, &material("authority.pem"))
}

fn answers(daemon: &Daemon) {
    assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
    assert_eq!(daemon.query("nobody@example.org"), "NOTFOUND ");
}

/// Try again later, and a log that says why.
fn is_unknown(daemon: &Daemon, why: &str) {
    for key in ["nobody@example.org", "anna@example.org"] {
        let reply = daemon.query(key);
        assert!(reply.starts_with("TEMP "), "{key}: {reply}");
    }
    daemon.wait_for_log(why);
}

#[test]
fn opportunistic_takes_any_certificate() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let versions: &'static [_] = Box::leak(Box::new([version]));
        for certificate in ["self_signed.pem", "server.pem"] {
            let backend = Backend::start(Manner::Tls(certificate, versions));
            let daemon = start(&backend, OPPORTUNISTIC);
            answers(&daemon);
            let (clear, encrypted) = backend.counts();
            assert!(clear == 0 && encrypted >= 2, "{version:?} {certificate}: {clear} in the clear, {encrypted} not");
        }
    }
}

#[test]
fn required_takes_a_certificate_that_proves_name_or_address() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let backend = Backend::start(Manner::Tls("server.pem", Box::leak(Box::new([version]))));
        answers(&start(&backend, REQUIRED));
        let port = backend.address.port();
        answers(&start_with(&format!("localhost:{port}"), REQUIRED, &material("authority.pem")));
        let (clear, encrypted) = backend.counts();
        assert!(clear == 0 && encrypted >= 4, "{version:?}: {clear} in the clear, {encrypted} not");
    }
}

#[test]
fn required_with_a_certificate_that_proves_nothing_is_temporary() {
    let backend = Backend::start(SELF_SIGNED);
    is_unknown(&start(&backend, REQUIRED), "TLS handshake: the certificate is of no authority that is trusted here");
    assert_eq!(backend.counts(), (0, 0));
    // The right authority, and another address.
    let elsewhere = Backend::at("127.0.0.2:0", PROVEN);
    is_unknown(&start(&elsewhere, REQUIRED), "certificate not valid for name \"127.0.0.2\"");
    assert_eq!(elsewhere.counts(), (0, 0));
    // Authorities, but not this one; none; a self-signed one that is trusted by name.
    let backend = Backend::start(PROVEN);
    let server = backend.address.to_string();
    is_unknown(&start_with(&server, REQUIRED, &material("self_signed.pem")), "no authority that is trusted here");
    is_unknown(&start_with(&server, REQUIRED, &material("server.key")), "certificates of authorities: none in it");
    let none = start_with(&server, REQUIRED, Path::new("/nonexistent/authorities.pem"));
    is_unknown(&none, "certificates of authorities: no such file or directory");
    assert_eq!(backend.counts(), (0, 0));
}

#[test]
fn a_self_signed_certificate_may_be_trusted_by_itself() {
    let backend = Backend::start(SELF_SIGNED);
    answers(&start_with(&backend.address.to_string(), REQUIRED, &material("self_signed.pem")));
}

#[test]
fn a_failed_handshake_is_temporary_or_in_the_clear() {
    for manner in [Manner::Garbage, Manner::Closes, Manner::Silent, Manner::Refuses, Manner::None] {
        let backend = Backend::start(manner);
        let why = match manner {
            Manner::Garbage => "TLS handshake: not TLS",
            Manner::None => "does not offer STARTTLS, which is required",
            Manner::Refuses => "TLS is not available",
            _ => "TLS handshake: ",
        };
        is_unknown(&start(&backend, REQUIRED), why);
        assert_eq!(backend.counts(), (0, 0), "{manner:?}");
        answers(&start(&backend, OPPORTUNISTIC));
        let (clear, encrypted) = backend.counts();
        assert!(clear >= 2 && encrypted == 0, "{manner:?}: {clear} in the clear, {encrypted} not");
    }
}

#[test]
fn what_follows_the_consent_in_the_clear_is_never_an_answer() {
    for tls in [REQUIRED, OPPORTUNISTIC] {
        let backend = Backend::start(Manner::Injects);
        is_unknown(&start(&backend, tls), "STARTTLS: ");
        assert_eq!(backend.counts(), (0, 0), "{tls}");
    }
}

/// Exit code and dialogue of `rcptmapd probe`: all of `shown` in this order, none of `hidden`.
fn shows(ran: &Ran, code: i32, shown: &[&str], hidden: &[&str]) {
    assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{}", ran.out);
    let mut rest = ran.out.as_str();
    for said in shown {
        let at = rest.find(said).unwrap_or_else(|| panic!("{said:?} in {rest:?} of {}", ran.out));
        rest = &rest[at + said.len()..];
    }
    for said in hidden {
        assert!(!ran.out.contains(said), "{said} in {}", ran.out);
    }
}

#[test]
fn the_command_encrypts_as_the_daemon_does_and_shows_where() {
    for (version, name) in [(&rustls::version::TLS12, "TLS 1.2"), (&rustls::version::TLS13, "TLS 1.3")] {
        let backend = Backend::start(Manner::Tls("server.pem", Box::leak(Box::new([version]))));
        let trusted = material("authority.pem");
        let ran = probe(&backend.address.to_string(), REQUIRED, &trusted);
        let proven = format!(" ms = {name} from here on; the certificate proves 127.0.0.1\n");
        let (ehlo, rcpt) = (" ms > EHLO ", " ms > RCPT TO:<anna@example.org>\n");
        let go_ahead = " ms > STARTTLS\n";
        let exists = "\nverdict: exists\n  RCPT TO: 250 2.1.5 ok\n  a made-up address is refused, so this counts\n";
        shows(&ran, 0, &[ehlo, go_ahead, &proven, ehlo, rcpt, " ms > QUIT\n", exists], &[]);
        let localhost = format!("localhost:{}", backend.address.port());
        let ran = probe(&localhost, REQUIRED, &trusted);
        shows(&ran, 0, &[go_ahead, "; the certificate proves localhost\n", rcpt, exists], &[]);
        let ran = probe(&backend.address.to_string(), OPPORTUNISTIC, Path::new("/nonexistent/authorities.pem"));
        let unchecked = format!(" ms = {name} from here on; the certificate is not checked\n");
        shows(&ran, 0, &[go_ahead, &unchecked, ehlo, rcpt, exists], &["in the clear"]);
        assert_eq!(backend.counts().0, 0);
        shows(&probe(&backend.address.to_string(), "off", &trusted), 0, &[rcpt, exists], &["STARTTLS\n>", " ms = "]);
        assert_eq!(backend.counts(), (2, 6));
    }
}

#[test]
fn the_command_asks_nobody_who_proves_nothing() {
    for (manner, why) in [
        (SELF_SIGNED, "TLS handshake: the certificate is of no authority that is trusted here"),
        (Manner::Garbage, "TLS handshake: not TLS"),
        (Manner::None, "the server does not offer STARTTLS, which is required"),
        (Manner::Refuses, "STARTTLS: 454 4.7.0 TLS is not available"),
        (Manner::Closes, "TLS handshake: the server closed the connection"),
        (Manner::Silent, "TLS handshake: no reply within 2s"),
    ] {
        let backend = Backend::start(manner);
        let ran = probe(&backend.address.to_string(), REQUIRED, &material("authority.pem"));
        shows(&ran, 75, &["\nverdict: unknown\n  ", why], &["RCPT", "in the clear"]);
        assert_eq!(backend.counts(), (0, 0), "{manner:?}");
    }
    let backend = Backend::start(PROVEN);
    let ran = probe(&backend.address.to_string(), REQUIRED, Path::new("/nonexistent/authorities.pem"));
    shows(&ran, 75, &["certificates of authorities: no such file or directory"], &["RCPT"]);
}

#[test]
fn the_command_goes_on_in_the_clear_where_the_daemon_does() {
    for manner in [Manner::Garbage, Manner::Closes, Manner::Silent] {
        let backend = Backend::start(manner);
        let ran = probe(&backend.address.to_string(), OPPORTUNISTIC, &material("authority.pem"));
        let clear = format!("\n{}, now in the clear\n", backend.address);
        let rcpt = " ms > RCPT TO:<anna@example.org>\n";
        shows(&ran, 0, &[" ms > STARTTLS\n", "TLS handshake: ", &clear, rcpt, "\nverdict: exists\n"], &[" ms = "]);
        assert_eq!(backend.counts(), (2, 0), "{manner:?}");
    }
}
