//! The shell around the pure parts: sockets, sessions, timers, signals. The only place that knows mio.
//!
//! One thread runs [`Server::run`]. It takes events, lets sessions read, asks the directory, writes the replies, and
//! never waits for anything but the next event. Loading, parsing and dropping lists happen on the loader's thread
//! ([`crate::reload`]), which hands over an `Arc` and wakes the loop.

mod ahead;
mod core;
mod dialect;
mod listener;
mod metrics;
mod pages;
mod probing;
mod report;
mod server;
mod session;
mod spared;
mod stream;
mod timer;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod token;
mod upstream;
mod verdicts;
mod watch;

pub use server::{Server, ServerError, Setup};
pub use tls::Client as TlsClient;
pub use upstream::Upstream;
