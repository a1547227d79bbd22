//! Call-ahead: asking the real mailbox server, without ever stalling or lying. No I/O in here: time, bytes, names and a
//! seed come in, commands go out.
//!
//! | file | owns |
//! |---|---|
//! | [`classify`] | what a reply proves, by stage and code: the one table |
//! | [`machine`], [`outcome`] | one SMTP or LMTP session |
//! | [`schedule`] | who is asked what, when, over which session, and who gets the answer; the proofs that an answer needs |
//! | [`hop`], [`pace`] | the books of one next hop; rate, back-off, chance |
//! | [`cache`], [`store`], [`backlist`] | what is known of addresses; its file; scam-backscatter's list |
//! | [`clock`] | the time by which it grows old |
//! | [`route`] | relay domain to next hop |
//!
//! # How the shell drives it
//!
//! One [`Scheduler`](schedule::Scheduler) lives in the loop, beside the sessions of the clients. It is told what
//! happened, and after *every* call its commands are carried out until there are none left:
//!
//! ```text
//! start      Cache::new(config.cache, hash_key)  Scheduler::new(cache, limits, hash_key, seed, now, epoch)
//!            set_own(listeners)                  our own endpoints, which are never asked
//!            set_hop(HopConfig::new(backend, host_name)?, now) -> HopId     per [[backend]], then
//!            begin_load(now), read(file, is_ours) on a thread, adopt(loading, now): facts find next hops by name
//! a request  Routes::find(domain, Ours::Yes(backend))  -> Route             no route: unknown, and why
//!            ask(&Question { key, hop, unavailable }, ticket, deadline, now)
//!                -> Some(answer)                 say it: no session waits
//!                -> None                         the session waits with this ticket and reads nothing meanwhile
//!            cancel(ticket)                      the client has left
//! the loop   poll_timeout()                      goes into the timeout of the poll; when due:
//!            handle_timeout(now)
//!            poll_command() until None:
//!                Connect { link, to }            upstream: non-blocking connect, keep the stream under `link`
//!                Transmit { link, bytes }        write; what is not taken waits for writable
//!                StartTls { link, name, verify } wrap the stream; `verify`: the certificate must be right for `name`
//!                Close(link)                     drop the stream; late events for it are harmless
//!                Resolve(name)                   to the resolver's thread, over a channel
//!                Deliver(ticket, answer)         to the session, if it still waits with this ticket
//!                Log(level, text)                under the topic "probe"
//! upstream   handle_connected(link, now)         writable, and no error on the socket
//!            handle_input(link, bytes, now)      as much as there is in one call; plaintext only, after the handshake
//!            handle_tls_established(link, now)
//!            handle_close(link, &Hangup, now)    end of file, refused, reset, TLS failure
//! resolver   handle_resolved(name, result, life, now)   addresses in the order in which they are to be tried; NAME_LIFE
//! a reload   set_hop for each next hop, retain_hops, set_own, cache().set_lives; call_off for domains that have another
//!            next hop. What is remembered bears the mark of the server that said it, and counts only where that is asked
//! calendar_is_due(now)  set_clock(now, epoch)     the calendar's clock may have been set, or the machine have slept
//! saving     begin_save(), save_some(...)        pieces to a thread: written beside, fsync, rename
//! the end    finish(now)                         QUIT everywhere; then poll until is_idle() or out of patience
//! ```
//!
//! - A **ticket** is the shell's own number for a waiting request, never used for two at a time: slot and generation of
//!   the session do. Each gets exactly one answer, by `ask` or by `Deliver`, at its deadline at the latest (`unknown`
//!   then); the probe goes on and its answer is kept. A `Deliver` may cross a `cancel`: an unknown ticket is ignored.
//! - A **link** means nothing after its `Close`; events that arrive later are ignored by generation.
//! - The **key** of a question is the folded address with its detail and in the domain that the next hop knows (the main
//!   domain of an alias domain), and only for domains of ours: [`route::Routes::find`] refuses all others.
//! - Bytes that a peer sent in one piece should be passed on in one piece: a server that says too much is found out by
//!   what follows a reply at once.
//! - A next hop of a table has no settings of its own: `template.for_next_hop(hop)` makes a [`hop::HopConfig`] of those
//!   of a backend, named as the `nexthop` map shows it.
//! - `rcptmapd probe ADDRESS` drives one [`machine::Machine`] by itself, with `keep_transcript`.

pub mod backlist;
pub mod cache;
pub mod classify;
pub mod clock;
pub mod hop;
pub mod machine;
pub mod outcome;
pub mod pace;
pub mod route;
pub mod schedule;
pub mod store;
