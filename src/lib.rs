//! rcptmapd tells mail servers at RCPT time whether a recipient exists.
//!
//! Bytes from a mail server become a query, a query becomes a verdict (exists, absent, unknown, foreign), a verdict becomes
//! bytes. What we don't know is always "unknown": try again later, never "no such user".
//!
//! # Layers
//!
//! An outer layer may use an inner one, never the reverse (`tests/layers.rs` looks).
//!
//! ```text
//! cli                             arguments in, exit code out
//! net   reload   sys   logging    the shell: sockets and the loop; files; the system; the log
//! tally                           what became of recipients, by map and domain and lately
//! resolve   stats                 a request's one way to its answer; counters
//! probe   harvest   skip          call-ahead; who guesses recipients; who is not checked
//! config                          what was configured
//! proto   source   map            codecs; list parsers; what is known
//! address   verdict               the words that all layers share
//! ```
//!
//! From `resolve` down (but for `config`, which can read its file) everything is pure: bytes in, bytes or values out, no
//! socket, file, clock, random number or log line. That is what makes it testable byte by byte.
//!
//! # Threads
//!
//! - The *loop* ([`net::Server`]) owns sockets, sessions, timers and counters, and answers. It never waits for anything
//!   but the next event, takes no lock, and allocates nothing for a look-up.
//! - The *loader* ([`reload::Loader`]) turns files into a directory beside the one in force, at low priority, and hands over
//!   an `Arc`; old directories come back to it to be dropped.
//! - The *resolver* (`net/probing.rs`) looks up the names of backends; it exists only where there are any.
//! - For a while, one that reads the file of what backends said, or writes it (`net/verdicts.rs`).
//!
//! # From a connection to the reply
//!
//! 1. `net/server.rs` accepts, and serves the session before it is registered: many ask once and close.
//! 2. `net/session.rs` reads into the loop's buffer; only an unfinished request is kept.
//! 3. `net/dialect.rs` takes requests from the front: [`proto`] decodes, and found out which protocol it is.
//! 4. [`resolve::Directory::answer`] finds the map; [`map::Snapshot::lookup`] folds the address and looks it up, in the order
//!    that is written down there once for loading, asking and explaining.
//! 5. The codec appends the reply; all replies of a batch leave in one write.
//!
//! Where the lists have not the last word (`verify` of a domain), a `resolve::Prober` is asked on the way: it answers out of
//! the cache, or says "later". Then the request stays where it is in the session's input, the scheduler (`probe/schedule.rs`)
//! asks the backend, and the session asks again when the answer or its deadline has come.
//!
//! # From a list to the snapshot
//!
//! 1. `reload/read.rs` reads a file, a folder or a command's output in pieces, once; [`source`] finds the format out and makes items of lines.
//! 2. [`map::Builder`] folds, interns and stores them: one [`map::Content`] a source.
//! 3. `reload/catalog.rs` keeps the last good content of each source and joins all with our domains (`reload/assemble.rs`) to a
//!    [`map::Snapshot`]. A list that `reload/guard.rs` does not let pass leaves its last good content in force, from memory or
//!    out of `state_dir` (`reload/store.rs`).

pub mod address;
pub mod cli;
pub mod config;
pub mod harvest;
pub mod logging;
pub mod map;
pub mod net;
pub mod probe;
pub mod proto;
pub mod reload;
pub mod resolve;
pub mod skip;
pub mod source;
pub mod stats;
pub mod sys;
pub mod tally;
pub mod verdict;
