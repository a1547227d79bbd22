//! A mailbox server that does as it is told, and misbehaves where it is told to.

// Each test file takes what it needs.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Daemon, PATIENCE, Setup};

/// What the backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should: anna and known-* exist.
    Good,
    /// Takes everybody.
    TakesAll,
    /// Refuses everybody: a directory that is empty.
    RefusesAll,
    /// Says nothing, not even a banner.
    Silent,
    /// Closes at once.
    Closes,
    /// Refuses us at the banner, EHLO, MAIL.
    RefusesBanner,
    RefusesEhlo,
    RefusesMail,
    /// 421 at RCPT.
    ShutsDown,
    /// 450 at RCPT.
    Greylists,
    /// 5.7.1 at RCPT.
    Policy,
    /// Not SMTP.
    Garbage,
    /// Bytes that no text has.
    Binary,
    /// A line without an end, longer than any reply.
    LongLine,
    /// Says nothing at EHLO, MAIL, RCPT.
    SilentAtEhlo,
    SilentAtMail,
    SilentAtRcpt,
    /// Closes at RCPT.
    ClosesAtRcpt,
    /// A byte a time, and never the last one.
    Drips,
    /// A reply too many after MAIL.
    OutOfStep,
}

/// A backend, on a port of its own.
pub struct Backend {
    /// Where.
    pub address: SocketAddr,
    /// What it does from now on; while it is held, the backend says nothing.
    pub manner: Arc<Mutex<Manner>>,
    /// Connections that it has had.
    pub sessions: Arc<AtomicUsize>,
    /// Recipients that it was asked for and has told about.
    pub recipients: Arc<AtomicUsize>,
    /// All that was said to it, line by line.
    pub heard: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    /// Starts one.
    pub fn start(manner: Manner) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let backend = Backend {
            address: listener.local_addr().expect("an address"),
            manner: Arc::new(Mutex::new(manner)),
            sessions: Arc::default(),
            recipients: Arc::default(),
            heard: Arc::default(),
        };
        let (manner, sessions) = (Arc::clone(&backend.manner), Arc::clone(&backend.sessions));
        let (recipients, heard) = (Arc::clone(&backend.recipients), Arc::clone(&backend.heard));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                sessions.fetch_add(1, Ordering::SeqCst);
                let (manner, recipients, heard) = (Arc::clone(&manner), Arc::clone(&recipients), Arc::clone(&heard));
                thread::spawn(move || {
                    // A client that leaves ends its session.
                    let _ = converse(stream, &|| *manner.lock().expect("no panic"), &recipients, &heard);
                });
            }
        });
        backend
    }

    /// Whether this recipient was asked for, exactly so.
    pub fn was_asked_for(&self, recipient: &str) -> bool {
        let line = format!("RCPT TO:<{recipient}>");
        self.heard.lock().expect("no panic").contains(&line)
    }

    /// From now on it does this.
    pub fn become_(&self, manner: Manner) {
        *self.manner.lock().expect("no panic") = manner;
    }
}

fn converse(
    mut stream: TcpStream,
    manner: &dyn Fn() -> Manner,
    recipients: &AtomicUsize,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let wait_for_the_end = |stream: &TcpStream| {
        let mut rest = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        while rest.read_line(&mut line)? > 0 {}
        Ok(())
    };
    match manner() {
        Manner::Silent => return wait_for_the_end(&stream),
        Manner::Closes => return Ok(()),
        Manner::RefusesBanner => return stream.write_all(b"554 5.7.1 no service for you\r\n"),
        Manner::Garbage => return stream.write_all(b"\x16\x03\x01 this is not SMTP\r\n250 hello\r\n"),
        _ => stream.write_all(b"220 backend.example ESMTP\r\n")?,
    }
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        let command = line.trim_end().to_owned();
        line.clear();
        heard.lock().expect("no panic").push(command.clone());
        let verb = command.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match (verb.as_str(), manner()) {
            ("EHLO" | "HELO", Manner::RefusesEhlo) => b"550 5.7.1 your name is not welcome\r\n",
            ("EHLO", Manner::SilentAtEhlo) | ("MAIL", Manner::SilentAtMail) => b"",
            ("RCPT", Manner::Binary) => b"550 5.1.1 \0\x01\xfe\xff\r550 \0\r\n\x80\x81\x82\x83\r\n",
            ("RCPT", Manner::LongLine) => {
                for _ in 0..1_000 {
                    stream.write_all(b"550 5.1.1 no such user, and no end of the line either; ")?;
                }
                b""
            }
            ("EHLO", _) => b"250-backend.example\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n",
            ("MAIL", Manner::RefusesMail) => b"550 5.1.8 the null sender is not welcome\r\n",
            ("MAIL", Manner::OutOfStep) => b"250 2.1.0 ok\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n550 5.1.1 no\r\n",
            ("RCPT", Manner::ShutsDown) => b"421 4.3.2 shutting down\r\n",
            ("RCPT", Manner::Greylists) => b"450 4.7.1 greylisted\r\n",
            ("RCPT", Manner::Policy) => b"550 5.7.1 relaying denied\r\n",
            ("RCPT", Manner::TakesAll) => b"250 2.1.5 ok\r\n",
            ("RCPT", Manner::RefusesAll) => b"550 5.1.1 no such user\r\n",
            ("RCPT", Manner::SilentAtRcpt | Manner::OutOfStep) => b"",
            ("RCPT", Manner::Closes | Manner::ClosesAtRcpt) => return Ok(()),
            ("RCPT", Manner::Drips) => {
                for byte in b"550 5.1.1 no such user".iter().cycle() {
                    stream.write_all(&[*byte])?;
                    thread::park_timeout(Duration::from_millis(20));
                }
                b""
            }
            ("RCPT", _) => {
                recipients.fetch_add(1, Ordering::SeqCst);
                if command.contains("<anna@") || command.contains("<known-") {
                    b"250 2.1.5 ok\r\n"
                } else {
                    b"550 5.1.1 no such user\r\n"
                }
            }
            ("QUIT", _) => {
                stream.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            ("MAIL", _) => b"250 2.1.0 ok\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        stream.write_all(reply)?;
    }
    Ok(())
}

/// A daemon's configuration that asks it, with more for the `[[backend]]` and the `[[domain]]`.
pub fn config(backend: &Backend, more: &str, domain: &str) -> String {
    format!(
        "[limits]\nanswer = \"3s\"\nanswer_line = \"2s\"\n\
         [[source]]\nname = \"a\"\npath = \"list\"\n\
         [[domain]]\nnames = [\"example.org\"]\nverify = \"list-then-probe\"\nbackend = \"hub\"\n{domain}\
         [[backend]]\nname = \"hub\"\nservers = [\"{}\"]\nreply_timeout = \"1s\"\nconnect_timeout = \"1s\"\n{more}",
        backend.address
    )
}

/// A daemon with that.
pub fn start(backend: &Backend, more: &str, domain: &str) -> Daemon {
    Setup::new().file("list", "listed@example.org\n").config(&config(backend, more, domain)).start()
}

/// The same for a test that holds the backend: nobody loses patience meanwhile.
pub fn patient(backend: &Backend, more: &str) -> String {
    let text = config(backend, more, "").replace("reply_timeout = \"1s\"", "reply_timeout = \"60s\"");
    text.replace("answer = \"3s\"", "answer = \"60s\"")
}

/// Waits until something holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}
