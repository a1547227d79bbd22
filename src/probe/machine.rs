//! One SMTP or LMTP session with a next hop: greets, asks for recipients as long as its owner has some, says QUIT.
//!
//! PROTOCOLS.md sections 8.1, 8.4, 8.5; RFC 5321, 2033, 2920, 3207, 6531. No socket, no clock: `handle_*` takes what
//! happened, `poll_*` tells what to do. What the replies mean is [`classify`](super::classify)'s business.
//!
//! # Phases
//!
//! `Connecting` (connect_timeout) → `Hello`: banner, then EHLO (HELO if that is refused), HELO or LHLO, perhaps STARTTLS
//! → `Handshake`, and EHLO again → `Ready`: groups of commands, nothing in between → `Quitting` → `Closed`. Every reply
//! has reply_timeout, from when the command was sent or the reply before it came, however slowly its bytes drip;
//! connecting and greeting together, and every group, have total_timeout; an unused session has idle.
//!
//! # Groups
//!
//! A group is `MAIL RCPT RCPT ... RSET`, in one flight with PIPELINING, else command by command; nothing is sent while the
//! reply to an earlier flight is outstanding. **Its answers count only when the RSET is answered, and nothing came
//! besides**: a server that says too much or too little, or leaves in the middle, has shifted the answers by one, and an
//! innocent recipient would get his neighbour's 550, or a stranger his neighbour's 250. Such a group is given back
//! unanswered, for the owner to ask again, more cautiously.
//!
//! That it is the RSET's reply is seen by its words: a session begins with an RSET, and those of the later ones must be the
//! same. They are known from those to MAIL and to a RCPT that is taken in Postfix, Exim, sendmail, Exchange and Dovecot. A
//! server that says the same to several, as qmail does, is asked for a 221 instead: it gets QUIT, and its answers count when
//! that has come. RSET costs no round trip with PIPELINING, and as it also ends the transaction no server keeps one open
//! while we are idle; Exim takes 10 of them in a session (`smtp_accept_max_nonmail`), which is our limit, too.
//!
//! # What can go wrong
//!
//! | what | becomes |
//! |---|---|
//! | no connection, refused or silent before RCPT, every sender refused | [`End::Refused`]: it is about us or about the server |
//! | closed, reset or 421 after a pause, or while idle, used or not | [`End::Gone`]: normal, ask again elsewhere |
//! | 421, closed or reset after refusals; two refusals slower than before | [`End::Limit`], and [`Outcome::Limit`] for the next sessions |
//! | the same without refusals, silence, garbage, out of step | [`End::Broken`] |
//! | closed or 421 in place of the reply to RSET, after the only RCPT of the session was refused | an answer: it can't be a neighbour's |
//! | MAIL refused | the next sender of the list; RCPTs sent along with it are asked again |
//! | 452 4.5.3 and kin, not for the first in a transaction | asked again in a new transaction of the same session |
//! | SMTPUTF8 needed but not offered | an answer: unknown |

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::classify::{Cause, Finding, Judgement, Stage, judge};
use super::outcome::{Closed, End, Hangup, JobId, Line, Outcome, Settings, Start, Transcript, Voice};
use crate::config::{Greeting, Tls};
use crate::proto::smtp::{self, Capabilities, Command, Mailbox, Reply};

/// RCPTs in one transaction: what RFC 5321, 4.5.3.1.8, says a server must take.
const MAX_TRANSACTION: u32 = 100;
/// RSETs in one session: what Exim takes (`smtp_accept_max_nonmail`).
const MAX_RESETS: u32 = 10;
/// How long the answer to QUIT is awaited.
const QUIT_PATIENCE: Duration = Duration::from_secs(1);
/// A reply that takes this long, and four times as long as those before the first refusal, is a tarpit's: Postfix and
/// sendmail wait a second.
const SLOW: Duration = Duration::from_millis(500);
/// After a pause like this a closed connection is no sign of a limit.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Hello,
    Handshake,
    Ready,
    Quitting,
    Closed,
}

/// A question with its address.
#[derive(Debug)]
struct Ask {
    id: JobId,
    mailbox: Mailbox,
}

/// A command whose reply is outstanding; the banner is a reply, too.
#[derive(Debug)]
enum Sent {
    /// Banner, EHLO, HELO, LHLO, STARTTLS, MAIL, RSET or QUIT.
    Plain(Stage),
    Rcpt(Ask),
    /// The RSET behind a group.
    Proof,
}

impl Sent {
    fn stage(&self) -> Stage {
        match self {
            Sent::Plain(stage) => *stage,
            Sent::Rcpt(_) => Stage::Rcpt,
            Sent::Proof => Stage::Rset,
        }
    }
}

/// How far a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// There is none.
    None,
    /// It may still grow.
    Open,
    /// Nothing goes into it any more, its RSET is sent.
    Closed,
    /// Its RSET is answered, in words that this server has for other commands, too: QUIT will tell.
    Doubtful,
    /// Its answers count.
    Proven,
}

/// The words of a server, by which the reply to RSET is known.
#[derive(Debug, Default)]
struct Words {
    /// To the first RSET, if it was taken.
    reset: Option<Box<[u8]>>,
    /// To MAIL.
    mail: Option<Box<[u8]>>,
    /// A RCPT that was taken had others than both.
    rcpt_differs: bool,
    /// Two of them were the same.
    alike: bool,
}

impl Words {
    fn mail(&mut self, reply: &Reply<'_>) {
        self.alike |= self.reset.as_deref() == Some(reply.last_line());
        self.mail = Some(reply.last_line().into());
    }

    fn taken(&mut self, reply: &Reply<'_>) {
        let line = Some(reply.last_line());
        let alike = self.reset.as_deref() == line || self.mail.as_deref() == line;
        self.alike |= alike;
        self.rcpt_differs |= !alike;
    }

    /// Whether this can be the reply to RSET and to nothing else. As long as no RCPT was taken, it must speak for itself.
    fn prove(&self, reply: &Reply<'_>) -> bool {
        let Some(reset) = self.reset.as_deref().filter(|words| *words == reply.last_line()) else { return false };
        let speaks = |word: &[u8]| reset.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        let code = |line: &[u8]| line.split(|&b| b == b' ').nth(1).filter(|c| c.starts_with(b"2.")).map(<[u8]>::to_vec);
        let own_code = code(reset).is_some_and(|own| self.mail.as_deref().and_then(code).is_some_and(|c| c != own));
        !self.alike && (self.rcpt_differs || own_code || speaks(b"reset") || speaks(b"flush"))
    }
}

/// A transaction that MAIL has begun.
#[derive(Debug, Default)]
struct Transaction {
    utf8: bool,
    /// RCPTs sent.
    rcpts: u32,
    /// RCPTs that had an answer of their own.
    answered: u32,
    /// Takes no more.
    full: bool,
}

/// One session.
#[derive(Debug)]
pub struct Machine {
    settings: Arc<Settings>,
    start: Start,
    phase: Phase,
    now: Instant,
    /// The next greeting command.
    hello: Option<Stage>,
    capabilities: Capabilities,
    encrypted: bool,
    input: Vec<u8>,
    queue: VecDeque<Ask>,
    sent: VecDeque<Sent>,
    /// Answers of the group, until it is whole.
    held: Vec<(JobId, Finding)>,
    /// Questions of the group to be asked again in this session.
    again: Vec<Ask>,
    /// MAIL of this group was refused.
    mail_refused: Option<Finding>,
    transaction: Option<Transaction>,
    /// RCPTs that a transaction may have.
    per_transaction: u32,
    group: Group,
    words: Words,
    /// RSETs and RCPTs sent.
    resets: u32,
    rcpts: u32,
    /// Index of the sender, and how many were refused.
    sender: usize,
    senders_refused: usize,
    asked: u32,
    refusals: u32,
    limit: Option<u32>,
    /// Refusals that came slowly, in a row, and how many came before.
    slow: u32,
    before_slow: u32,
    /// It slowed down in this group.
    slowed: bool,
    /// It has answered a group.
    served: bool,
    /// Of the replies before the first refusal, the slowest.
    usual: Duration,
    /// RCPTs of this group that were answered behind another reply, and how long after those all in all: without the way.
    paced: u32,
    labour: Duration,
    /// When the last reply came or the group was sent.
    mark: Instant,
    /// A group or greeting is under way; replies are expected, or unexpected bytes have begun to come.
    unsettled: bool,
    /// The pause before this group, until its first reply has come.
    paused: Option<Duration>,
    /// Since when there is something to do.
    busy_since: Option<Instant>,
    idle_since: Option<Instant>,
    /// Say QUIT when there is nothing more to ask.
    finishing: bool,
    outcomes: VecDeque<Outcome>,
    transcript: Option<Transcript>,
}

impl Machine {
    /// A session whose connection is being made.
    pub fn new(settings: Arc<Settings>, start: Start, now: Instant) -> Machine {
        let sender = if start.sender < settings.senders.len() { start.sender } else { 0 };
        Machine {
            settings,
            start,
            phase: Phase::Connecting,
            now,
            hello: None,
            capabilities: Capabilities::default(),
            encrypted: false,
            input: Vec::new(),
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            held: Vec::new(),
            again: Vec::new(),
            mail_refused: None,
            transaction: None,
            per_transaction: MAX_TRANSACTION,
            group: Group::None,
            words: Words::default(),
            resets: 0,
            rcpts: 0,
            sender,
            senders_refused: 0,
            asked: 0,
            refusals: 0,
            limit: start.refusals,
            slow: 0,
            before_slow: 0,
            slowed: false,
            served: false,
            usual: Duration::ZERO,
            paced: 0,
            labour: Duration::ZERO,
            mark: now,
            unsettled: true,
            paused: None,
            busy_since: Some(now),
            idle_since: None,
            finishing: false,
            outcomes: VecDeque::new(),
            transcript: None,
        }
    }

    /// Keeps the dialogue, for `rcptmapd probe`.
    pub fn keep_transcript(&mut self) {
        self.transcript = Some(Transcript::default());
    }

    /// Puts into the dialogue what its bytes don't show.
    pub fn note(&mut self, text: &str, now: Instant) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push(Voice::Note, text.as_bytes(), now);
        }
    }

    /// The dialogue so far.
    pub fn transcript(&self) -> &[Line] {
        self.transcript.as_ref().map_or(&[], Transcript::lines)
    }

    /// Whether questions can be put now.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready && !self.unsettled && !self.finishing
    }

    /// How many more recipients this session can take, now or later.
    pub fn room(&self) -> usize {
        if self.finishing || matches!(self.phase, Phase::Quitting | Phase::Closed) {
            return 0;
        }
        let pending = self.queue.len() + self.sent.iter().filter(|sent| matches!(sent, Sent::Rcpt(_))).count();
        let by_count = self.settings.recipients.saturating_sub(self.asked) as usize;
        let by_refusals = self
            .limit
            .map_or(usize::MAX, |limit| (limit.saturating_sub(self.refusals) as usize).saturating_sub(pending));
        by_count.min(by_refusals)
    }

    /// Questions that were put and not yet asked.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Whether it can take a question beyond its number of recipients: a test of our own.
    pub fn takes_tests(&self) -> bool {
        let pending = self.queue.len() as u32;
        !self.is_leaving() && self.limit.is_none_or(|limit| self.refusals + pending < limit)
    }

    /// Whether it is on its way out.
    pub fn is_leaving(&self) -> bool {
        self.finishing || matches!(self.phase, Phase::Quitting | Phase::Closed)
    }

    /// What the server offers, once it has greeted.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        matches!(self.phase, Phase::Ready | Phase::Quitting).then_some(&self.capabilities)
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        match (self.phase, self.sent.front(), self.hello) {
            (Phase::Connecting, ..) => Stage::Connect,
            (Phase::Handshake, ..) => Stage::Tls,
            (_, Some(sent), _) => sent.stage(),
            (Phase::Hello, None, Some(stage)) => stage,
            _ if !self.held.is_empty() || !self.again.is_empty() => Stage::Rcpt,
            _ => Stage::Idle,
        }
    }

    /// Puts a question. Beyond [`Machine::room`] only tests of our own (`counts` is false) should be put.
    pub fn ask(&mut self, id: JobId, mailbox: Mailbox, counts: bool, now: Instant) {
        self.now = now;
        self.asked += u32::from(counts);
        self.busy_since.get_or_insert(now);
        self.queue.push_back(Ask { id, mailbox });
        if self.phase == Phase::Ready {
            self.drop_unaskable();
        }
    }

    /// Says QUIT as soon as nothing is under way.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Instant) {
        if self.phase == Phase::Connecting {
            self.now = now;
            self.mark = now;
            self.phase = Phase::Hello;
            self.sent.push_back(Sent::Plain(Stage::Banner));
        }
    }

    /// The handshake is done; all that follows is encrypted.
    pub fn handle_tls_established(&mut self, now: Instant) {
        if self.phase == Phase::Handshake {
            self.now = now;
            self.mark = now;
            self.phase = Phase::Hello;
            self.encrypted = true;
            self.hello = Some(if self.speaks_lmtp() { Stage::Lhlo } else { Stage::Ehlo });
        }
    }

    /// Bytes from the server, cut anywhere.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        self.now = now;
        if matches!(self.phase, Phase::Connecting | Phase::Handshake | Phase::Closed) {
            return;
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut used = 0;
        while self.phase != Phase::Closed && used < input.len() {
            match smtp::decode(&input[used..]) {
                Ok(None) => break,
                Ok(Some((reply, length))) => {
                    used += length;
                    self.reply(&reply);
                    if self.phase == Phase::Handshake && used < input.len() {
                        // Whoever wrote this wrote it in the clear, to be taken for the server's words after the handshake.
                        self.fail(Stage::StartTls, Cause::OutOfStep);
                    }
                }
                Err(error) => self.fail(self.stage(), Cause::Garbage(error)),
            }
        }
        input.drain(..used);
        self.input = input;
        if !self.sent.is_empty() {
            return;
        }
        if !self.input.is_empty() {
            // Perhaps a 421, perhaps more than was asked for: the rest will tell, and must come soon.
            if !self.unsettled {
                self.unsettled = true;
                self.mark = now;
                self.busy_since.get_or_insert(now);
            }
        } else if self.phase == Phase::Ready && self.unsettled {
            match self.group {
                Group::None | Group::Proven => self.settle(),
                // The next command follows.
                Group::Open if self.mail_refused.is_none() => {}
                Group::Open => self.settle(),
                Group::Closed | Group::Doubtful => {}
            }
        }
    }

    /// The connection is gone, or was never made.
    pub fn handle_close(&mut self, hangup: &Hangup, now: Instant) {
        self.now = now;
        let cause = match hangup {
            Hangup::Closed => Cause::Closed,
            Hangup::Error(text) => Cause::error(text),
        };
        match self.phase {
            Phase::Closed => {}
            Phase::Quitting if self.group != Group::Doubtful => self.end(End::InOrder, None),
            _ => self.fail(self.stage(), cause),
        }
    }

    /// Time has passed. Harmless when early.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        self.now = now;
        let total = self.settings.total_timeout;
        match self.phase {
            Phase::Quitting if self.group != Group::Doubtful => self.end(End::InOrder, None),
            Phase::Ready if !self.unsettled && self.queue.is_empty() => {
                self.idle_since = None;
                self.finishing = true;
            }
            _ if self.busy_since.is_some_and(|since| now >= since + total) => {
                self.fail(self.stage(), Cause::TooSlow(total));
            }
            Phase::Connecting => self.fail(Stage::Connect, Cause::Silence(self.settings.connect_timeout)),
            _ => self.fail(self.stage(), Cause::Silence(self.settings.reply_timeout)),
        }
    }

    /// When [`Machine::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let whole = self.busy_since.map(|since| since + self.settings.total_timeout);
        let earlier = |at: Instant| Some(whole.map_or(at, |whole| whole.min(at)));
        match self.phase {
            Phase::Closed => None,
            Phase::Quitting if self.group != Group::Doubtful => Some(self.mark + QUIT_PATIENCE),
            Phase::Connecting => earlier(self.mark + self.settings.connect_timeout),
            Phase::Ready if !self.unsettled && self.queue.is_empty() => {
                self.idle_since.map(|since| since + self.settings.idle)
            }
            Phase::Ready if !self.unsettled => whole,
            _ => earlier(self.mark + self.settings.reply_timeout),
        }
    }

    /// Appends what is to be sent now, and tells whether there was anything.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.sent.is_empty() || !self.input.is_empty() {
            return false;
        }
        let start = out.len();
        match self.phase {
            Phase::Hello => {
                if let Some(stage) = self.hello.take() {
                    let command = match stage {
                        Stage::Helo => Command::Helo(&self.settings.helo),
                        Stage::Lhlo => Command::Lhlo(&self.settings.helo),
                        Stage::StartTls => Command::StartTls,
                        _ => Command::Ehlo(&self.settings.helo),
                    };
                    command.write(out);
                    self.sent.push_back(Sent::Plain(stage));
                }
            }
            Phase::Ready => while self.write_next(out) && self.pipelines() {},
            _ => {}
        }
        if out.len() == start {
            return false;
        }
        self.mark = self.now;
        self.unsettled = true;
        self.paused = self.idle_since.take().map(|since| self.now.saturating_duration_since(since));
        if let Some(transcript) = &mut self.transcript {
            transcript.push(Voice::Ours, &out[start..], self.now);
        }
        true
    }

    /// What happened.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    fn speaks_lmtp(&self) -> bool {
        self.start.lmtp || self.settings.greeting == Greeting::Lhlo
    }

    /// Whether questions are asked in groups.
    pub fn pipelines(&self) -> bool {
        self.capabilities.pipelining && self.start.pipelining
    }

    /// Writes the next command of a group. `false`: the flight ends here.
    fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        let outstanding = self.sent.iter().filter(|sent| matches!(sent, Sent::Rcpt(_))).count() as u32;
        let used_up = self.limit.is_some_and(|limit| self.refusals + outstanding >= limit)
            || self.group == Group::None && self.resets >= MAX_RESETS;
        let next = self.queue.front().filter(|_| !used_up);
        match (self.group, &mut self.transaction, next) {
            (Group::Closed | Group::Proven, ..) => return false,
            (Group::Doubtful, ..) => {
                self.quit(out);
                return false;
            }
            (Group::None, _, None) => {
                self.pause(used_up, out);
                return false;
            }
            (Group::None, ..) if self.resets == 0 => {
                self.group = Group::Open;
                self.reset(Sent::Plain(Stage::Rset), out);
            }
            (_, None, Some(ask)) => {
                self.group = Group::Open;
                let sender = self.settings.senders.get(self.sender).and_then(Option::as_ref);
                let utf8 = ask.mailbox.needs_utf8() || sender.is_some_and(Mailbox::needs_utf8);
                Command::Mail { sender, utf8 }.write(out);
                self.transaction = Some(Transaction { utf8, ..Transaction::default() });
                self.sent.push_back(Sent::Plain(Stage::Mail));
            }
            (_, Some(t), Some(ask))
                if !t.full && t.rcpts < self.per_transaction && (t.utf8 || !ask.mailbox.needs_utf8()) =>
            {
                t.rcpts += 1;
                self.rcpts += 1;
                if let Some(ask) = self.queue.pop_front() {
                    Command::Rcpt(&ask.mailbox).write(out);
                    self.sent.push_back(Sent::Rcpt(ask));
                }
            }
            _ => {
                self.group = Group::Closed;
                self.reset(Sent::Proof, out);
            }
        }
        true
    }

    fn reset(&mut self, sent: Sent, out: &mut Vec<u8>) {
        Command::Rset.write(out);
        self.resets += 1;
        self.sent.push_back(sent);
    }

    fn quit(&mut self, out: &mut Vec<u8>) {
        Command::Quit.write(out);
        self.sent.push_back(Sent::Plain(Stage::Quit));
        self.phase = Phase::Quitting;
    }

    /// There is nothing to ask: QUIT, or wait for more.
    fn pause(&mut self, used_up: bool, out: &mut Vec<u8>) {
        let full = self.asked >= self.settings.recipients || self.settings.idle.is_zero();
        if used_up && !self.queue.is_empty() {
            self.end(End::Limit, None);
        } else if used_up || full || self.finishing {
            self.quit(out);
        } else {
            self.idle_since.get_or_insert(self.now);
            self.busy_since = None;
        }
    }

    /// One reply, whole.
    fn reply(&mut self, reply: &Reply<'_>) {
        if let Some(transcript) = &mut self.transcript {
            reply.raw_lines().for_each(|line| transcript.push(Voice::Server, line, self.now));
        }
        let took = self.now.saturating_duration_since(self.mark);
        let Some(sent) = self.sent.pop_front() else {
            return match self.phase {
                Phase::Quitting => {}
                // A server that shuts down says so unasked; what it answered before stays true.
                _ if reply.code == 421 => {
                    if self.group == Group::Proven {
                        self.release();
                    }
                    self.fail(self.stage(), Cause::reply(reply));
                }
                _ => self.fail(self.stage(), Cause::OutOfStep),
            };
        };
        self.mark = self.now;
        let stage = sent.stage();
        let judgement = judge(stage, reply, &self.settings.absent_codes);
        let finding = Finding { stage, judgement, cause: Cause::reply(reply) };
        match sent {
            Sent::Rcpt(ask) if reply.code == 421 || matches!(judgement, Judgement::Unknown { close: true, .. }) => {
                self.sent.push_front(Sent::Rcpt(ask));
                self.fail_with(finding);
            }
            Sent::Rcpt(ask) => {
                self.paused = None;
                if reply.is_positive() {
                    self.words.taken(reply);
                }
                if self.pipelines() {
                    self.paced += 1;
                    self.labour += took;
                }
                self.rcpt_reply(ask, finding, reply.class() == 5, took);
            }
            Sent::Proof => self.proof(finding, reply),
            Sent::Plain(Stage::Quit) if self.group == Group::Doubtful && reply.code != 221 => {
                self.fail(Stage::Quit, Cause::OutOfStep);
            }
            Sent::Plain(Stage::Quit) => {
                self.release();
                self.end(End::InOrder, None);
            }
            Sent::Plain(_) => {
                if !matches!(judgement, Judgement::Unknown { close: true, .. }) {
                    self.paused = None;
                }
                if stage != Stage::Banner && self.refusals == 0 {
                    self.usual = self.usual.max(took);
                }
                self.plain_reply(stage, finding, reply);
            }
        }
    }

    fn plain_reply(&mut self, stage: Stage, finding: Finding, reply: &Reply<'_>) {
        let required = self.settings.tls == Tls::Required;
        match (stage, finding.judgement) {
            (Stage::Mail, Judgement::Unknown { close: false, .. }) => self.mail_refused = Some(finding),
            (Stage::Mail, Judgement::GoOn) => {
                self.words.mail(reply);
                if self.senders_refused > 0 {
                    self.outcomes.push_back(Outcome::Sender(self.sender));
                    self.senders_refused = 0;
                }
            }
            (Stage::StartTls, Judgement::Unknown { close: false, .. }) if !required => self.greeted(),
            (_, Judgement::FallBack) if !required => self.hello = Some(Stage::Helo),
            (Stage::Banner, Judgement::GoOn) => {
                self.hello = Some(match self.settings.greeting {
                    _ if self.speaks_lmtp() => Stage::Lhlo,
                    Greeting::Helo if !required => Stage::Helo,
                    _ => Stage::Ehlo,
                });
            }
            (Stage::Ehlo | Stage::Lhlo, Judgement::GoOn) => {
                self.capabilities = Capabilities::read(reply);
                let offered = self.capabilities.starttls;
                match self.settings.tls {
                    _ if self.encrypted => self.greeted(),
                    Tls::Required if !offered => self.fail(Stage::StartTls, Cause::NoTls),
                    Tls::Required => self.hello = Some(Stage::StartTls),
                    Tls::Opportunistic if offered && self.start.starttls => self.hello = Some(Stage::StartTls),
                    _ => self.greeted(),
                }
            }
            (Stage::Helo, Judgement::GoOn) => self.greeted(),
            (Stage::StartTls, Judgement::GoOn) => {
                self.phase = Phase::Handshake;
                self.outcomes.push_back(Outcome::StartTls);
            }
            (Stage::Rset, Judgement::GoOn) => self.words.reset = Some(reply.last_line().into()),
            // Then QUIT is what proves.
            (Stage::Rset, _) if reply.code != 421 => {}
            _ => self.fail_with(finding),
        }
    }

    /// What came in the place of the reply to the RSET behind a group.
    fn proof(&mut self, finding: Finding, reply: &Reply<'_>) {
        self.group = match finding.judgement {
            // There is nothing to prove.
            Judgement::GoOn if self.held.is_empty() => Group::Proven,
            Judgement::GoOn if self.words.prove(reply) => Group::Proven,
            Judgement::GoOn => Group::Doubtful,
            _ if self.words.reset.is_none() && reply.code != 421 => Group::Doubtful,
            _ => return self.fail_with(finding),
        };
    }

    fn greeted(&mut self) {
        self.phase = Phase::Ready;
        self.outcomes.push_back(Outcome::Greeted(self.capabilities));
    }

    fn rcpt_reply(&mut self, ask: Ask, mut finding: Finding, refused: bool, took: Duration) {
        if self.mail_refused.is_some() {
            self.again.push(ask);
            return;
        }
        if self.refusals == 0 {
            self.usual = self.usual.max(took);
        } else if refused && took >= SLOW && took >= self.usual * 4 {
            if self.slow == 0 {
                self.before_slow = self.refusals;
            }
            self.slow += 1;
        } else if refused {
            self.slow = 0;
        }
        self.refusals += u32::from(refused);
        let transaction = self.transaction.get_or_insert_default();
        match finding.judgement {
            Judgement::TooMany if transaction.answered > 0 => {
                transaction.full = true;
                self.per_transaction = self.per_transaction.min(transaction.answered);
                self.again.push(ask);
            }
            judgement => {
                transaction.answered += 1;
                if judgement == Judgement::TooMany {
                    finding.judgement = Judgement::Unknown { alarm: false, close: false };
                }
                self.held.push((ask.id, finding));
            }
        }
        // A single one may have had other reasons.
        if self.slow > 1 && !self.slowed {
            self.slowed = true;
            let refusals = self.before_slow;
            self.learn(refusals);
            if self.sent.iter().any(|sent| matches!(sent, Sent::Rcpt(_))) {
                // The rest of the group would take a second each: ask elsewhere, in smaller groups.
                self.end(End::Limit, Some(Finding::failure(Stage::Rcpt, Cause::SlowedDown(refusals))));
            }
        }
    }

    fn tell_pace(&mut self) {
        if let Some(pace) = self.labour.checked_div(self.paced) {
            self.outcomes.push_back(Outcome::Pace(pace));
        }
        (self.labour, self.paced) = (Duration::ZERO, 0);
    }

    fn learn(&mut self, refusals: u32) {
        self.limit = Some(self.limit.map_or(refusals, |limit| limit.min(refusals)));
        self.outcomes.push_back(Outcome::Limit(refusals));
    }

    /// A group, or the greeting, is whole.
    fn settle(&mut self) {
        self.unsettled = false;
        self.tell_pace();
        self.release();
        self.group = Group::None;
        self.transaction = None;
        self.drop_unaskable();
        while let Some(ask) = self.again.pop() {
            self.queue.push_front(ask);
        }
        if let Some(finding) = self.mail_refused.take() {
            self.senders_refused += 1;
            if self.senders_refused >= self.settings.senders.len() {
                return self.end(End::Refused, Some(finding));
            }
            self.sender = (self.sender + 1) % self.settings.senders.len();
        }
        self.finishing |= self.resets >= MAX_RESETS;
        self.busy_since = (!self.queue.is_empty()).then_some(self.now);
        self.idle_since = Some(self.now);
        if self.slowed && !self.queue.is_empty() {
            self.end(End::Limit, None);
        }
        self.finishing |= self.slowed;
    }

    /// Answers what this server can't be asked.
    fn drop_unaskable(&mut self) {
        if self.capabilities.smtputf8 || !self.queue.iter().any(|ask| ask.mailbox.needs_utf8()) {
            return;
        }
        let judgement = Judgement::Unknown { alarm: false, close: false };
        for ask in std::mem::take(&mut self.queue) {
            if ask.mailbox.needs_utf8() {
                let finding = Finding { stage: Stage::Rcpt, judgement, cause: Cause::NoUtf8 };
                self.outcomes.push_back(Outcome::Answer(ask.id, finding));
            } else {
                self.queue.push_back(ask);
            }
        }
    }

    /// The group's answers count.
    fn release(&mut self) {
        self.served |= !self.held.is_empty();
        self.outcomes.extend(self.held.drain(..).map(|(id, finding)| Outcome::Answer(id, finding)));
    }

    fn fail(&mut self, stage: Stage, cause: Cause) {
        self.fail_with(Finding::failure(stage, cause));
    }

    fn fail_with(&mut self, finding: Finding) {
        let hung_up = match &finding.cause {
            Cause::Reply { code, .. } => *code == 421,
            Cause::Closed | Cause::Error(_) => true,
            _ => false,
        };
        let after_pause = self.paused.is_some_and(|pause| pause >= PAUSE);
        // It hung up where the RSET should have been answered. The refusals of the group may be one too many for it; but the
        // only RCPT of a session has no neighbours.
        let at_proof = !self.held.is_empty() && !self.sent.iter().any(|sent| matches!(sent, Sent::Rcpt(_)));
        if hung_up && at_proof && self.rcpts == 1 && self.refusals == 1 {
            self.release();
        }
        let refusals = if at_proof { (self.refusals.saturating_sub(1)).max(1) } else { self.refusals };
        let end = match (self.phase, finding.stage) {
            (Phase::Connecting | Phase::Hello | Phase::Handshake, _) => End::Refused,
            // While idle, that is: one that hangs up as soon as it has greeted can't be asked.
            (_, Stage::Idle) if hung_up && (self.served || self.idle_since.is_some()) => End::Gone,
            // Whatever that was, the answers before may have been others than they seemed.
            (_, Stage::Idle) if self.served => End::Broken,
            (_, Stage::Idle) => End::Refused,
            _ if hung_up && after_pause => End::Gone,
            (_, Stage::Quit) => End::Broken,
            _ if hung_up && self.refusals > 0 => {
                self.learn(refusals);
                End::Limit
            }
            (_, Stage::Mail) => End::Refused,
            (_, Stage::Rset) if self.words.mail.is_none() => End::Refused,
            _ => End::Broken,
        };
        self.end(end, Some(finding));
    }

    fn end(&mut self, end: End, finding: Option<Finding>) {
        self.tell_pace();
        let in_flight = self.held.drain(..).map(|(id, _)| id);
        let in_flight = in_flight.chain(self.again.drain(..).map(|ask| ask.id));
        let mut in_flight: Vec<JobId> = in_flight.collect();
        in_flight.extend(self.sent.drain(..).filter_map(|sent| match sent {
            Sent::Rcpt(ask) => Some(ask.id),
            Sent::Plain(_) | Sent::Proof => None,
        }));
        let untouched = self.queue.drain(..).map(|ask| ask.id).collect();
        self.phase = Phase::Closed;
        self.outcomes.push_back(Outcome::Closed(Closed { end, finding, in_flight, untouched }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_to_rset_is_known_by_its_words() {
        let proves = |reset: &str, mail: &str, taken: &[&str]| {
            let lines: Vec<String> = [reset, mail].iter().chain(taken).map(|line| format!("{line}\r\n")).collect();
            let reply = |at: usize| smtp::decode(lines[at].as_bytes()).expect("a reply").expect("a whole one").0;
            let mut words = Words { reset: Some(reply(0).last_line().into()), ..Words::default() };
            words.mail(&reply(1));
            (0..taken.len()).for_each(|at| words.taken(&reply(2 + at)));
            words.prove(&reply(0))
        };
        for (reset, mail, taken) in [
            ("250 2.0.0 Ok", "250 2.1.0 Ok", "250 2.1.5 Ok"), // Postfix
            ("250 Reset OK", "250 OK", "250 Accepted"),       // Exim
            ("250 2.0.0 Reset state", "250 2.1.0 <>... Sender ok", "250 2.1.5 <a@x>... Recipient ok"), // sendmail
            ("250 2.0.0 Resetting", "250 2.1.0 Sender OK", "250 2.1.5 Recipient OK"), // Exchange
            ("250 2.0.0 OK", "250 2.1.0 OK", "250 2.1.5 OK"), // Dovecot
            ("250 flushed", "250 ok", "250 ok"),              // qmail
        ] {
            // qmail says the same to MAIL and RCPT: a group that all are refused in is proved by RSET, else QUIT is asked for.
            assert_eq!(proves(reset, mail, &[taken]), mail != taken, "{reset}");
            assert!(proves(reset, mail, &[]), "{reset}, nobody taken");
        }
        assert!(!proves("250 ok", "250 ok", &[]));
        assert!(!proves("250 ok", "250 sender ok", &[]), "perhaps it says so to RCPT, too");
        assert!(proves("250 ok", "250 sender ok", &["250 recipient ok"]));
        assert!(!proves("250 ok", "250 sender ok", &["250 ok", "250 recipient ok"]));
    }
}
