//! In the place of `tls.rs` when the feature `tls` is off. The configuration refuses what would lead here.

use std::io;

use super::stream::Stream;

/// Begins nothing.
#[derive(Default)]
pub struct Client;

/// There is none.
pub enum Tunnel {}

impl Client {
    /// Holds nothing.
    pub fn new() -> Client {
        Client
    }

    /// Nothing to read.
    pub fn configure(&mut self, _: bool) {}

    /// Always an error.
    pub fn begin(&self, _: Option<&str>, _: bool) -> io::Result<Tunnel> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "TLS is not built in"))
    }
}

impl Tunnel {
    /// Never.
    pub fn established(&mut self) -> bool {
        match *self {}
    }

    /// Never.
    pub fn version(&self) -> Option<&'static str> {
        match *self {}
    }

    /// Never.
    pub fn wants_write(&self) -> bool {
        match *self {}
    }

    /// Never.
    pub fn read(&mut self, _: &mut Stream, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    /// Never.
    pub fn write(&mut self, _: &mut Stream, _: &mut Vec<u8>) -> io::Result<()> {
        match *self {}
    }

    /// Never.
    pub fn close(&mut self, _: &mut Stream) {
        match *self {}
    }
}
