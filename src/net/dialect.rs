//! From the bytes of a session to its replies: each dialect's requests, worked off one after the other.
//!
//! A dialect takes whole requests from the front of the input, asks the directory, and appends its replies; it stops at
//! an unfinished request, when the turn's budget is used up, or when nothing that follows has a meaning.

use super::core::Core;
use super::listener::Front;
use super::pages::{self, Page};
use crate::config::ListenProtocol;
use crate::proto::detect::{self, Dialect};
use crate::proto::milter::{self, Step};
use crate::proto::policy::{self, Action};
use crate::proto::{Reply, http, line, socketmap, tcp_table};
use crate::reload::Ticket;
use crate::resolve::Decision;
use crate::skip::{self, Asker, Origin};

/// What a session speaks, and what it has to remember for that.
#[derive(Debug)]
pub enum Speech {
    /// Not known yet: the first bytes tell.
    Undecided,
    /// One without memory.
    Plain(Dialect),
    /// A milter's session.
    Milter(Box<milter::Machine>),
}

/// What a turn gives a session to work with.
pub struct Batch<'a> {
    /// What was agreed on the listener.
    pub front: &'a Front,
    /// The input ends here.
    pub eof: bool,
    /// Whom to ask.
    pub core: &'a mut Core,
    /// Where replies go.
    pub out: &'a mut Vec<u8>,
    /// Requests that may still be answered in this turn.
    pub budget: usize,
}

/// How far a batch of input was worked off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Bytes that are done with.
    pub used: usize,
    /// How it goes on.
    pub next: Next,
}

/// How a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes are needed.
    More,
    /// There is more to do than the budget allows.
    Again,
    /// The peer has all that it asked for: close.
    Finish,
    /// The protocol is broken, nothing that follows has a meaning: close.
    Close,
    /// The answer to the request at the front has to be found out; it is to be asked again then.
    Probe,
    /// The answer comes when the loader is done with this order.
    Later(Ticket),
}

impl Batch<'_> {
    /// Whether another request fits into this turn.
    fn has_room(&self) -> bool {
        self.budget > 0 && self.out.len() < self.core.limits.output_bytes
    }
}

impl Speech {
    /// What is spoken on a listener.
    pub fn new(protocol: ListenProtocol) -> Speech {
        match protocol {
            ListenProtocol::Auto => Speech::Undecided,
            ListenProtocol::Socketmap => Speech::Plain(Dialect::Socketmap),
            ListenProtocol::Line => Speech::Plain(Dialect::Line),
            ListenProtocol::Policy => Speech::Plain(Dialect::Policy),
            ListenProtocol::Http => Speech::Plain(Dialect::Http),
            ListenProtocol::TcpTable => Speech::Plain(Dialect::TcpTable),
            ListenProtocol::Milter => Speech::Milter(Box::default()),
        }
    }

    /// What is spoken, once that is known.
    pub fn dialect(&self) -> Option<Dialect> {
        match self {
            Speech::Undecided => None,
            Speech::Plain(dialect) => Some(*dialect),
            Speech::Milter(_) => Some(Dialect::Milter),
        }
    }

    /// Works off the input.
    pub fn advance(&mut self, input: &[u8], batch: &mut Batch<'_>) -> Advance {
        if let Speech::Undecided = self {
            match detect::detect(input, batch.eof) {
                Some(dialect) => *self = Speech::Plain(dialect),
                None => return Advance { used: 0, next: Next::More },
            }
        }
        match self {
            Speech::Plain(Dialect::Socketmap) => each(input, batch, socketmap_request),
            Speech::Plain(Dialect::Line) => each(input, batch, line_request),
            Speech::Plain(Dialect::Policy) => each(input, batch, policy_request),
            Speech::Plain(Dialect::TcpTable) => each(input, batch, tcp_table_request),
            Speech::Plain(Dialect::Http) => each(input, batch, http_request),
            Speech::Milter(machine) => each(input, batch, |rest, batch| milter_packet(machine, rest, batch)),
            Speech::Plain(Dialect::Milter) | Speech::Undecided => Advance { used: 0, next: Next::Close },
        }
    }
}

/// What became of the request at the front of the input.
#[derive(Clone, Copy)]
enum Done {
    /// It was so many bytes long, and is answered.
    Answered(usize),
    /// It is not complete.
    Unfinished,
    /// Its answer has to be found out; it is to be asked again then.
    Later,
    /// It was the last one; what follows has no meaning.
    Last(Next),
}

impl Done {
    fn answered(answered: bool, size: usize) -> Done {
        if answered { Done::Answered(size) } else { Done::Later }
    }
}

#[inline]
fn each(input: &[u8], batch: &mut Batch<'_>, mut one: impl FnMut(&[u8], &mut Batch<'_>) -> Done) -> Advance {
    let mut used = 0;
    loop {
        let rest = &input[used..];
        if rest.is_empty() {
            return Advance { used, next: Next::More };
        }
        if !batch.has_room() {
            return Advance { used, next: Next::Again };
        }
        match one(rest, batch) {
            Done::Answered(size) => {
                used += size;
                // What was found out is about this request. One that a reload has settled meanwhile did not take it, and the
                // next one must not.
                batch.core.ahead.resume = None;
                batch.budget -= 1;
            }
            Done::Unfinished => return Advance { used, next: Next::More },
            Done::Later => return Advance { used, next: Next::Probe },
            Done::Last(next) => return Advance { used: input.len(), next },
        }
    }
}

#[inline]
fn socketmap_request(input: &[u8], batch: &mut Batch<'_>) -> Done {
    let Batch { core, out, .. } = batch;
    match socketmap::decode(input, &core.proto_limits) {
        Ok(None) => Done::Unfinished,
        Ok(Some((request, size))) => {
            let write = |reply: &Reply<'_>| socketmap::encode(reply, out);
            Done::answered(core.answer(Dialect::Socketmap, request.map, request.key, write), size)
        }
        Err(error) => {
            core.stats.count_violation(Dialect::Socketmap);
            if let Some(reply) = error.reply() {
                socketmap::encode(&reply, out);
            }
            Done::Last(Next::Close)
        }
    }
}

fn line_request(input: &[u8], batch: &mut Batch<'_>) -> Done {
    let Batch { core, out, front, .. } = batch;
    match line::decode(input, batch.eof, &core.proto_limits) {
        Ok(None) => Done::Unfinished,
        Ok(Some((request, size))) => {
            let map = request.map.unwrap_or(front.default_map.as_bytes());
            Done::answered(core.answer(Dialect::Line, map, request.key, |reply| line::encode(reply, out)), size)
        }
        Err(error) => {
            core.stats.count_violation(Dialect::Line);
            if let Some(reply) = error.reply() {
                line::encode(&reply, out);
            }
            Done::Last(Next::Close)
        }
    }
}

fn tcp_table_request(input: &[u8], batch: &mut Batch<'_>) -> Done {
    let Batch { core, out, front, .. } = batch;
    match tcp_table::decode(input, &core.proto_limits) {
        Ok(None) => Done::Unfinished,
        Ok(Some((tcp_table::Request::Get(key), size))) => {
            let map = front.default_map.as_bytes();
            Done::answered(core.answer(Dialect::TcpTable, map, &key, |reply| tcp_table::encode(reply, out)), size)
        }
        Ok(Some((tcp_table::Request::Put, size))) => {
            tcp_table::encode_read_only(out);
            Done::Answered(size)
        }
        Err(error) => {
            core.stats.count_violation(Dialect::TcpTable);
            if let Some(reply) = error.reply() {
                tcp_table::encode(&reply, out);
            }
            Done::Last(Next::Close)
        }
    }
}

fn policy_request(input: &[u8], batch: &mut Batch<'_>) -> Done {
    let Batch { core, out, front, .. } = batch;
    match policy::decode(input, &core.proto_limits) {
        Ok(None) => Done::Unfinished,
        Ok(Some((request, size))) => {
            let map = match request.policy_context {
                b"" => front.default_map.as_bytes(),
                context => context,
            };
            match request.question() {
                Some(recipient) => {
                    let asker = Asker {
                        origin: skip::client(request.client_address).map_or(Origin::Unknown, Origin::Ip),
                        daemon: None,
                        authenticated: request.is_authenticated(),
                    };
                    let whom = core.watch.whom(&asker);
                    let answered = core.decide(Dialect::Policy, map, recipient, whom, |decision| {
                        policy::encode(&policy_action(decision), out);
                    });
                    return Done::answered(answered, size);
                }
                None => policy::encode(&Action::Dunno, out),
            }
            Done::Answered(size)
        }
        // Not a word: Postfix tries once more on a new connection, and then takes its own default action (451).
        Err(_) => {
            core.stats.count_violation(Dialect::Policy);
            Done::Last(Next::Close)
        }
    }
}

/// Never OK: it would end the list of restrictions.
fn policy_action<'a>(decision: &Decision<'a>) -> Action<'a> {
    match *decision {
        Decision::Pass => Action::Dunno,
        Decision::Refuse(reply) => Action::Reply(reply),
        Decision::Defer(reply) => Action::DeferIfPermit(reply),
        Decision::Discard => Action::Other(b"DISCARD"),
    }
}

fn milter_packet(machine: &mut milter::Machine, input: &[u8], batch: &mut Batch<'_>) -> Done {
    let Batch { core, out, front, .. } = batch;
    let (packet, size) = match milter::decode(input, &core.proto_limits) {
        Ok(None) => return Done::Unfinished,
        Ok(Some(found)) => found,
        Err(_) => {
            core.stats.count_violation(Dialect::Milter);
            return Done::Last(Next::Close);
        }
    };
    match machine.handle_packet(packet, out) {
        Ok(Step::Done) => Done::Answered(size),
        Ok(Step::Recipient(recipient)) => {
            let map = front.default_map.as_bytes();
            let asker = Asker {
                origin: match machine.client() {
                    milter::Client::Ip(address) => Origin::Ip(address),
                    milter::Client::Local => Origin::Local,
                    milter::Client::Unknown => Origin::Unknown,
                },
                daemon: machine.daemon_name(),
                authenticated: machine.authenticated().is_some(),
            };
            let whom = core.watch.whom(&asker);
            let answered = core.decide(Dialect::Milter, map, recipient.address, whom, |decision| {
                machine.answer(&milter_answer(decision), out);
            });
            Done::answered(answered, size)
        }
        Ok(Step::Close) => Done::Last(Next::Finish),
        Err(_) => {
            core.stats.count_violation(Dialect::Milter);
            Done::Last(Next::Close)
        }
    }
}

/// Never "accept": it would take the whole message out of our sight.
fn milter_answer<'a>(decision: &Decision<'a>) -> milter::Answer<'a> {
    match *decision {
        Decision::Pass => milter::Answer::Continue,
        Decision::Refuse(reply) | Decision::Defer(reply) => milter::Answer::Reply(reply),
        Decision::Discard => milter::Answer::Discard,
    }
}

/// One page, then the connection is closed: nobody asks for pages in a hurry.
fn http_request(input: &[u8], batch: &mut Batch<'_>) -> Done {
    let Batch { core, out, front, .. } = batch;
    match http::decode(input, &core.proto_limits) {
        Ok(None) => Done::Unfinished,
        Ok(Some((request, _))) => Done::Last(match pages::respond(&request, front.control, core, out) {
            Page::Written => Next::Finish,
            Page::Later(ticket) => Next::Later(ticket),
        }),
        Err(error) => {
            core.stats.count_violation(Dialect::Http);
            http::encode_status(error.status(), false, out);
            Done::Last(Next::Close)
        }
    }
}
