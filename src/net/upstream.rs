//! A connection to a server that is asked, in the clear or after STARTTLS: for the loop, and for `rcptmapd probe`, which
//! has only one and waits for it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mio::event::Source;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::stream::Stream;
use super::tls::{Client, Tunnel};
use crate::probe::schedule::Target;

/// A connection that never blocks.
pub struct Upstream {
    stream: Stream,
    /// After STARTTLS.
    tunnel: Option<Tunnel>,
    /// What the stream has not taken yet.
    output: Vec<u8>,
}

impl Upstream {
    /// Begins to connect.
    pub fn connect(to: &Target) -> io::Result<Upstream> {
        let stream = match to {
            Target::Tcp(address) => Stream::Tcp(mio::net::TcpStream::connect(*address)?),
            Target::Unix(path) => Stream::Unix(mio::net::UnixStream::connect(path)?),
        };
        Ok(Upstream { stream, tunnel: None, output: Vec::new() })
    }

    /// For the registry.
    pub fn source(&mut self) -> &mut impl Source {
        &mut self.stream
    }

    /// What became of [`Upstream::connect`]: `false`, nothing yet.
    pub fn connect_result(&self) -> io::Result<bool> {
        self.stream.connect_result()
    }

    /// Begins the handshake with the server of this name; `verify`: its certificate must prove it.
    pub fn start_tls(&mut self, client: &Client, name: Option<&str>, verify: bool) -> io::Result<()> {
        self.tunnel = Some(client.begin(name, verify)?);
        self.flush()
    }

    /// Whether the handshake is over; `true` once.
    pub fn established(&mut self) -> bool {
        self.tunnel.as_mut().is_some_and(Tunnel::established)
    }

    /// The version of TLS that is spoken, once it is.
    pub fn tls_version(&self) -> Option<&'static str> {
        self.tunnel.as_ref().and_then(Tunnel::version)
    }

    /// Reads what the server has sent. Afterwards, [`Upstream::established`] may be news.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tunnel {
            Some(tunnel) => tunnel.read(&mut self.stream, buffer),
            None => self.stream.read(buffer),
        }
    }

    /// Writes; what the stream does not take waits for [`Upstream::flush`].
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(bytes);
        self.flush()
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tunnel) = &mut self.tunnel {
            return tunnel.write(&mut self.stream, &mut self.output);
        }
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.output.drain(..written);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Says goodbye, as far as TLS wants one.
    pub fn close(mut self) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.close(&mut self.stream);
        }
    }

    /// Waits until there is something to read, or to connect or write while that is under way. Not for the loop. What became
    /// of connecting can be asked for only once, so the caller says whether it is over.
    pub fn wait(&self, is_connected: bool, patience: Duration) -> io::Result<()> {
        let mut wanted = PollFlags::POLLIN;
        if !is_connected || !self.output.is_empty() || self.tunnel.as_ref().is_some_and(Tunnel::wants_write) {
            wanted |= PollFlags::POLLOUT;
        }
        // A remainder of a millisecond is waited for, not spun for.
        let timeout = PollTimeout::try_from(patience.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.fd(), wanted)], timeout) {
            Err(Errno::EINTR) | Ok(_) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}
