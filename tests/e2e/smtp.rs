//! A small SMTP client that shows the exact replies.
//!
//! It connects from an address of its own choice, since MTAs trust 127.0.0.1.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A stranger: in nobody's list of hosts that may relay.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// A sender that nobody objects to.
pub const SENDER: &str = "someone@sender.example";
/// Longer than any MTA may take; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub struct Session {
    stream: BufReader<TcpStream>,
    in_mail: bool,
    /// What the server said first.
    pub greeting: String,
}

impl Session {
    /// Connects from `client` to port 25 and reads the greeting.
    pub fn connect(client: Ipv4Addr) -> io::Result<Session> {
        Session::connect_to(client, 25)
    }

    /// Connects from `client` to `port` and reads the greeting.
    pub fn connect_to(client: Ipv4Addr, port: u16) -> io::Result<Session> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((client, 0)).into())?;
        socket.connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut session = Session { stream: BufReader::new(stream), in_mail: false, greeting: String::new() };
        session.greeting = session.reply()?;
        Ok(session)
    }

    /// Connects as a stranger and says EHLO.
    pub fn open() -> Session {
        let mut session = Session::connect(STRANGER).expect("the MTA was ready");
        session.command("EHLO client.example.net");
        session
    }

    /// Sends one command; the whole reply, lines parted by LF.
    #[track_caller]
    pub fn command(&mut self, command: &str) -> String {
        let line = format!("{command}\r\n");
        let reply = self.stream.get_mut().write_all(line.as_bytes()).and_then(|()| self.reply());
        reply.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// The reply to a recipient, one more of the same mail; the reply to MAIL when already that is refused.
    #[track_caller]
    pub fn rcpt(&mut self, recipient: &str) -> String {
        if !self.in_mail {
            let reply = self.command(&format!("MAIL FROM:<{SENDER}>"));
            if !reply.starts_with("250") {
                return reply;
            }
            self.in_mail = true;
        }
        self.command(&format!("RCPT TO:<{recipient}>"))
    }

    /// Gives the open mail up.
    #[track_caller]
    pub fn reset(&mut self) {
        let reply = self.command("RSET");
        assert!(reply.starts_with("250"), "RSET: {reply}");
        self.in_mail = false;
    }

    /// Sends the open mail's content; the reply to its end.
    #[track_caller]
    pub fn send(&mut self, content: &str) -> String {
        let reply = self.command("DATA");
        assert!(reply.starts_with("354"), "DATA: {reply}");
        self.in_mail = false;
        self.command(&format!("{content}\r\n."))
    }

    fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(io::Error::other(format!("closed by the MTA after {reply:?}")));
            }
            reply.push_str(String::from_utf8_lossy(&line).trim_end());
            if line.get(3) != Some(&b'-') {
                return Ok(reply);
            }
            reply.push('\n');
        }
    }
}
