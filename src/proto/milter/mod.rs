//! The milter protocol, version 6 down to 2, filter side: for sendmail (`INPUT_MAIL_FILTER`) and Postfix
//! (`smtpd_milters`). Sources: sendmail's `mfdef.h` and libmilter; Postfix `milter8.c`; PROTOCOLS.md section 7.
//!
//! [`packet`] finds packets, [`Machine`] is one MTA session without I/O: it is given packets and appends replies, and
//! when a recipient has to be decided about it says so and waits for [`Machine::answer`].
//!
//! **Legal order.** `O` comes first and once. Then, per session, `C? H? (M R* T? L* N? B* E | A)* Q`; what was negotiated
//! away, and what an MTA leaves out, is missing, so every order after `O` is taken. `K` ends a session and keeps the
//! connection: the next one begins without an `O`. `D` brings the macros of the command after it.
//!
//! **What is asked for** (DESIGN.md 11.6): CONNECT, MAIL, RCPT and ABORT, because client, sender and the limits of
//! messages are needed for `[skip]` and the harvest figures; all else is switched off as far as the MTA offers it (a bit
//! that is not offered makes sendmail reject the filter). No actions on messages. No NR bits: a reply is expected for
//! every command that comes, and a reply to an NR command would put all later ones off by one.
//!
//! **What the MTAs do with the replies** at RCPT:
//!
//! - `c`: this recipient passes. Without data: sendmail takes more bytes for a protocol error.
//! - `y550 5.1.1 text`: this recipient is refused with it. sendmail replaces the whole text by `550 5.7.1 Command
//!   rejected` if the NUL is missing or a single `%` occurs; Postfix drops the filter for the session if text is missing
//!   or the enhanced code is of another class. So replies are [`verdict::Reply`], and every `%` is doubled.
//! - `a` would accept the **whole message**, with recipients that we are never asked about, and is never written; nor are
//!   `r` (5.7.1, the wrong text) and `p` (sendmail: recipient accepted).
//! - `d` drops the whole message silently: only where `bitbucket` is on.
//! - Silence: sendmail waits 10 s (`T=R:10s`), Postfix 30 s, and both then go on without us (or with 451, as `F=T` and
//!   `milter_default_action` say) for the rest of the session. The caller has to answer 451 in time.
//!
//! Every error closes the connection without a reply: there is none that could be told from an answer.

mod macros;
pub mod packet;

pub use macros::{Macros, Stage};
pub use packet::{Client, Packet, decode};

use crate::verdict;

/// The newest version that we speak. sendmail has 7 too, which is of no use here.
const VERSION: u32 = 6;

// Protocol bits: commands that are not sent.
const NO_HELO: u32 = 0x02;
const NO_BODY: u32 = 0x10;
const NO_HEADERS: u32 = 0x20;
const NO_END_OF_HEADERS: u32 = 0x40;
const NO_UNKNOWN: u32 = 0x100;
const NO_DATA: u32 = 0x200;

/// The protocol bits that we ask for: everything but CONNECT, MAIL and RCPT is not to be sent.
pub const WANTED: u32 = NO_HELO | NO_BODY | NO_HEADERS | NO_END_OF_HEADERS | NO_UNKNOWN | NO_DATA;

/// Longest part of a sender or host name that is remembered; MTAs have shorter limits (sendmail 256, Postfix 2048).
const MAX_REMEMBERED: usize = 512;

/// Longest line of a reply text, as sendmail takes it.
const MAX_LINE: usize = 980;

/// Why the session can't go on. The connection is closed without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The length of a packet is 0 or above [`milter_bytes`](crate::proto::Limits::milter_bytes).
    Length,
    /// The data of a command are not what they have to be.
    Malformed,
    /// A command byte that no version has.
    UnknownCommand,
    /// A command before the negotiation, a second negotiation, or a packet while an answer is owed.
    OutOfOrder,
    /// The MTA speaks a version below 2.
    Version,
}

/// What the caller has to do after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing; a reply may have been appended.
    Done,
    /// Decide about this recipient and call [`Machine::answer`]; until then no further packet may be handled, but the
    /// same one again.
    Recipient(Recipient<'a>),
    /// The MTA has finished: close.
    Close,
}

/// A recipient as it stands in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient<'a> {
    /// The address as the client typed it: mostly in `<>`, case, quotes and source route untouched.
    pub address: &'a [u8],
    parameters: &'a [u8],
}

impl<'a> Recipient<'a> {
    /// The ESMTP parameters: `NOTIFY=NEVER`.
    pub fn parameters(&self) -> impl Iterator<Item = &'a [u8]> {
        packet::strings(self.parameters)
    }
}

/// The answer about a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// No objection.
    Continue,
    /// Refuse or defer this recipient with this reply, all its lines. 421 closes the SMTP session.
    Reply(&'a verdict::Reply),
    /// Drop the whole message, other recipients included, and tell nobody. Scam-backscatter could be built so.
    Discard,
}

/// The message that is being handed over, as far as it matters here.
#[derive(Clone, Debug, Default)]
struct Message {
    open: bool,
    sender: Vec<u8>,
    asked: u32,
    refused: u32,
}

/// One session of an MTA; see the module's comment.
///
/// An idle one owns the few macros and names that it remembers, some hundred bytes.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Version and protocol bits, once they are agreed.
    agreed: Option<Agreed>,
    macros: Macros,
    client: Client,
    host: Vec<u8>,
    message: Message,
    owes_answer: bool,
}

#[derive(Clone, Copy, Debug)]
struct Agreed {
    version: u32,
    protocol: u32,
}

impl Machine {
    /// A new connection.
    pub fn new() -> Machine {
        Machine::default()
    }

    /// Handles one packet; replies are appended to `out`.
    pub fn handle_packet<'a>(&mut self, packet: Packet<'a>, out: &mut Vec<u8>) -> Result<Step<'a>, Error> {
        let Packet { command, data } = packet;
        if self.owes_answer {
            // The caller had to find out first, and has left the packet where it was.
            return match command {
                b'R' => {
                    packet::string(data).map(|(address, parameters)| Step::Recipient(Recipient { address, parameters }))
                }
                _ => Err(Error::OutOfOrder),
            };
        }
        match (command, self.agreed) {
            (b'O', None) => {
                self.negotiate(data, WANTED, out)?;
                return Ok(Step::Done);
            }
            (b'Q', _) => return Ok(Step::Close),
            (b'O', Some(_)) | (_, None) => return Err(Error::OutOfOrder),
            (_, Some(_)) => (),
        }
        match command {
            b'D' => {
                let (&stage, pairs) = data.split_first().ok_or(Error::Malformed)?;
                if let Some(stage) = Stage::from_command(stage) {
                    self.macros.set(stage, pairs);
                }
            }
            b'C' => {
                let connect = packet::connect(data)?;
                self.client = connect.client;
                remember(&mut self.host, connect.host);
                self.message = Message::default();
                self.go_on(command, out);
            }
            b'M' => {
                let (sender, _parameters) = packet::string(data)?;
                self.begin_message(sender);
                self.go_on(command, out);
            }
            b'R' => {
                let (address, parameters) = packet::string(data)?;
                self.message.asked = self.message.asked.saturating_add(1);
                self.owes_answer = true;
                return Ok(Step::Recipient(Recipient { address, parameters }));
            }
            b'H' | b'U' => {
                packet::string(data)?;
                self.go_on(command, out);
            }
            b'T' | b'N' | b'L' | b'B' => self.go_on(command, out),
            b'E' => {
                // can't be switched off; old MTAs send the last bytes of the body with it
                self.end_message();
                self.go_on(command, out);
            }
            b'A' => self.end_message(),
            b'K' => {
                self.end_message();
                self.macros.clear();
                self.client = Client::Unknown;
                self.host.clear();
            }
            _ => return Err(Error::UnknownCommand),
        }
        Ok(Step::Done)
    }

    /// Answers the recipient of the last [`Step::Recipient`]; the reply is appended to `out`. Without one it does nothing,
    /// so an answer that comes too late can't get between others.
    pub fn answer(&mut self, answer: &Answer<'_>, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.owes_answer) {
            return;
        }
        if matches!(answer, Answer::Reply(_)) {
            self.message.refused = self.message.refused.saturating_add(1);
        }
        if self.expects_reply(b'R') {
            match answer {
                Answer::Continue => packet::encode(b'c', b"", out),
                Answer::Reply(reply) => write_reply(reply, out),
                Answer::Discard => packet::encode(b'd', b"", out),
            }
        }
    }

    fn negotiate(&mut self, data: &[u8], wanted: u32, out: &mut Vec<u8>) -> Result<(), Error> {
        let [version, _actions, offered] = packet::numbers(data)?;
        if version < 2 {
            return Err(Error::Version);
        }
        let agreed = Agreed { version: version.min(VERSION), protocol: wanted & offered };
        self.agreed = Some(agreed);
        let mut answer = [0; 12];
        let numbers = [agreed.version, 0, agreed.protocol].map(u32::to_be_bytes);
        for (to, from) in answer.iter_mut().zip(numbers.iter().flatten()) {
            *to = *from;
        }
        packet::encode(b'O', &answer, out);
        Ok(())
    }

    fn go_on(&self, command: u8, out: &mut Vec<u8>) {
        if self.expects_reply(command) {
            packet::encode(b'c', b"", out);
        }
    }

    /// Whether the MTA waits for a reply to a command, by the NR bits that were agreed.
    fn expects_reply(&self, command: u8) -> bool {
        let bit = match command {
            b'C' => 0x1000,
            b'H' => 0x2000,
            b'M' => 0x4000,
            b'R' => 0x8000,
            b'T' => 0x1_0000,
            b'U' => 0x2_0000,
            b'N' => 0x4_0000,
            b'B' => 0x8_0000,
            b'L' => 0x80,
            _ => 0,
        };
        self.agreed.is_some_and(|agreed| agreed.protocol & bit == 0)
    }

    fn begin_message(&mut self, sender: &[u8]) {
        let sender = sender.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">")).unwrap_or(sender);
        remember(&mut self.message.sender, sender);
        self.message.open = true;
        self.message.asked = 0;
        self.message.refused = 0;
    }

    fn end_message(&mut self) {
        self.message.open = false;
        self.message.sender.clear();
        self.message.asked = 0;
        self.message.refused = 0;
        // `i` and the authentication belong to one message; both MTAs send them again with each MAIL
        self.macros.clear_stage(Stage::Mail);
        self.macros.clear_stage(Stage::Rcpt);
    }

    /// The version that was agreed; `None` before the negotiation.
    pub fn version(&self) -> Option<u32> {
        self.agreed.map(|agreed| agreed.version)
    }

    /// Who is connected to the MTA.
    pub fn client(&self) -> Client {
        self.client
    }

    /// The name that the MTA found for the client; empty before CONNECT, at most 512 bytes.
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// The MTA's word for the port (`{daemon_name}`): `MTA`, `MSA`; Postfix sends its host name unless
    /// `milter_macro_daemon_name` is set.
    pub fn daemon_name(&self) -> Option<&[u8]> {
        self.macros.get(Stage::Connect, "{daemon_name}")
    }

    /// The name with which the client has authenticated (`{auth_authen}`), known from MAIL on.
    pub fn authenticated(&self) -> Option<&[u8]> {
        self.macros.get(Stage::Mail, "{auth_authen}").filter(|name| !name.is_empty())
    }

    /// The queue id, for the log: sendmail has it from MAIL on, Postfix from the second recipient on.
    pub fn queue_id(&self) -> Option<&[u8]> {
        self.macros.get(Stage::Rcpt, "i").or_else(|| self.macros.get(Stage::Mail, "i"))
    }

    /// The reverse-path of the open message without `<>`, empty for the null one, at most 512 bytes; `None` between
    /// messages.
    pub fn sender(&self) -> Option<&[u8]> {
        self.message.open.then_some(&self.message.sender)
    }

    /// Recipients of this message so far: asked about and refused (or deferred).
    pub fn recipients(&self) -> (u32, u32) {
        (self.message.asked, self.message.refused)
    }

    /// All macros that are kept.
    pub fn macros(&self) -> &Macros {
        &self.macros
    }
}

fn remember(place: &mut Vec<u8>, bytes: &[u8]) {
    place.clear();
    place.extend_from_slice(bytes.get(..MAX_REMEMBERED).unwrap_or(bytes));
}

/// Appends a `y` packet: lines `NNN-X.Y.Z text` with CRLF between them, the last with a blank behind the code, `%`
/// doubled, a NUL at the end.
fn write_reply(reply: &verdict::Reply, out: &mut Vec<u8>) {
    let mut text = Vec::with_capacity(64);
    let lines = std::iter::once(reply.text()).chain(reply.further()).take(verdict::MAX_LINES);
    let last = reply.further().len();
    for (n, line) in lines.enumerate() {
        let separator = if n == last { ' ' } else { '-' };
        let start = text.len();
        text.extend_from_slice(format!("{}{separator}{} ", reply.code(), reply.status()).as_bytes());
        for byte in line.bytes() {
            if text.len() - start >= MAX_LINE {
                break;
            }
            match byte {
                b'%' => text.extend_from_slice(b"%%"),
                b' '..=b'~' => text.push(byte),
                _ => text.push(b'?'),
            }
        }
        if n < last {
            text.extend_from_slice(b"\r\n");
        }
    }
    text.push(0);
    packet::encode(b'y', &text, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Limits;
    use proptest::prelude::*;

    const OFFER: &[u8] = b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff";

    fn agreed() -> Machine {
        let mut machine = Machine::new();
        assert_eq!(said(&mut machine, b'O', OFFER), Ok(b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\x03\x72".to_vec()));
        machine
    }

    /// What is answered to a packet; a recipient is let pass.
    fn said(machine: &mut Machine, command: u8, data: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        if let Step::Recipient(_) = machine.handle_packet(Packet { command, data }, &mut out)? {
            machine.answer(&Answer::Continue, &mut out);
        }
        Ok(out)
    }

    fn go_on() -> Result<Vec<u8>, Error> {
        Ok(b"\0\0\0\x01c".to_vec())
    }

    #[test]
    fn options_are_what_is_wanted_and_offered() {
        let mut out = Vec::new();
        let mut machine = Machine::new();
        let offer = Packet { command: b'O', data: b"\0\0\0\x02\0\0\0\x3f\0\0\0\x7f" };
        assert_eq!(machine.handle_packet(offer, &mut out), Ok(Step::Done));
        assert_eq!(out, b"\0\0\0\x0dO\0\0\0\x02\0\0\0\0\0\0\0\x72");
        assert_eq!(machine.version(), Some(2));
        assert_eq!(said(&mut Machine::new(), b'O', b"\0\0\0\x01\0\0\0\0\0\0\0\0"), Err(Error::Version));
        assert_eq!(said(&mut Machine::new(), b'O', b"\0\0\0\x06\0\0\0\0\0\0\0"), Err(Error::Malformed));
        assert_eq!(said(&mut machine, b'O', OFFER), Err(Error::OutOfOrder));
        // version 7 of sendmail
        let mut machine = Machine::new();
        assert!(said(&mut machine, b'O', b"\0\0\0\x07\0\0\x01\xff\0\x1f\xff\xff").is_ok());
        assert_eq!(machine.version(), Some(6));
    }

    #[test]
    fn nothing_comes_before_the_negotiation() {
        for command in b"CHMRTNLBEAKDU" {
            assert_eq!(said(&mut Machine::new(), *command, b"x\0"), Err(Error::OutOfOrder));
        }
        let mut out = Vec::new();
        assert_eq!(Machine::new().handle_packet(Packet { command: b'Q', data: b"" }, &mut out), Ok(Step::Close));
        assert!(out.is_empty());
    }

    #[test]
    fn what_is_known_at_rcpt() {
        let mut machine = agreed();
        let nothing = Ok(Vec::new());
        assert_eq!(said(&mut machine, b'D', b"Cj\0mail.relay.example\0{daemon_name}\0MTA\0"), nothing);
        assert_eq!(said(&mut machine, b'C', b"mx.example.net\x004\x9c\x40192.0.2.9\0"), go_on());
        assert_eq!(said(&mut machine, b'D', b"H"), nothing);
        assert_eq!(said(&mut machine, b'H', b"mx.example.net\0"), go_on());
        assert_eq!(said(&mut machine, b'D', b"Mi\x004XyZ\0{auth_authen}\0anna\0"), nothing);
        assert_eq!(said(&mut machine, b'M', b"<s@src.example>\0SIZE=1000\0"), go_on());
        assert_eq!(said(&mut machine, b'D', b"R{rcpt_mailer}\0smtp\0"), nothing);
        assert_eq!(machine.client(), Client::Ip("192.0.2.9".parse().expect("an address")));
        assert_eq!(machine.host(), b"mx.example.net");
        assert_eq!(machine.daemon_name(), Some(&b"MTA"[..]));
        assert_eq!(machine.authenticated(), Some(&b"anna"[..]));
        assert_eq!(machine.queue_id(), Some(&b"4XyZ"[..]));
        assert_eq!(machine.sender(), Some(&b"s@src.example"[..]));

        let mut out = Vec::new();
        let packet = Packet { command: b'R', data: b"<User+Ext@Relay.Example>\0NOTIFY=NEVER\0ORCPT=x\0" };
        let Ok(Step::Recipient(recipient)) = machine.handle_packet(packet, &mut out) else { panic!("no question") };
        assert_eq!(recipient.address, b"<User+Ext@Relay.Example>");
        assert_eq!(recipient.parameters().collect::<Vec<_>>(), [&b"NOTIFY=NEVER"[..], b"ORCPT=x"]);
        assert!(out.is_empty());
        machine.answer(&Answer::Reply(&verdict::Reply::absent()), &mut out);
        assert_eq!(out, b"\0\0\0\x18y550 5.1.1 User unknown\0");
        assert_eq!(machine.recipients(), (1, 1));

        // the next message of the same session knows the client, and nothing of the one before
        assert_eq!(said(&mut machine, b'A', b""), nothing);
        assert_eq!((machine.sender(), machine.authenticated(), machine.recipients()), (None, None, (0, 0)));
        assert_eq!(machine.daemon_name(), Some(&b"MTA"[..]));
        assert_eq!(said(&mut machine, b'M', b"<>\0"), go_on());
        assert_eq!(machine.sender(), Some(&b""[..]));
        // the next session on the same connection knows nothing
        assert_eq!(said(&mut machine, b'K', b""), nothing);
        assert_eq!((machine.client(), machine.daemon_name(), machine.host()), (Client::Unknown, None, &b""[..]));
        assert_eq!(said(&mut machine, b'C', b"localhost\0U"), go_on());
        assert_eq!(machine.client(), Client::Local);
    }

    #[test]
    fn an_answer_is_given_once_and_in_turn() {
        let mut machine = agreed();
        let mut out = Vec::new();
        let packet = Packet { command: b'R', data: b"bob@relay.example\0" };
        assert!(matches!(machine.handle_packet(packet, &mut out), Ok(Step::Recipient(_))));
        assert_eq!(machine.handle_packet(packet, &mut out), Err(Error::OutOfOrder));
        machine.answer(&Answer::Continue, &mut out);
        machine.answer(&Answer::Continue, &mut out);
        assert_eq!(out, b"\0\0\0\x01c");
    }

    #[test]
    fn commands_with_bit_nr_are_not_answered() {
        let mut machine = Machine::new();
        let mut out = Vec::new();
        assert_eq!(machine.negotiate(OFFER, WANTED | 0x1000 | 0x4000 | 0x8000, &mut out), Ok(()));
        let nothing = Ok(Vec::new());
        assert_eq!(said(&mut machine, b'C', b"localhost\0U"), nothing);
        assert_eq!(said(&mut machine, b'M', b"<>\0"), nothing);
        assert_eq!(said(&mut machine, b'R', b"<a@b>\0"), nothing);
        assert_eq!(said(&mut machine, b'E', b""), go_on());
    }

    #[test]
    fn what_is_malformed_or_unknown_ends_the_session() {
        for (command, data, error) in [
            (b'R', &b""[..], Error::Malformed),
            (b'R', b"<a@b>", Error::Malformed),
            (b'M', b"<a@b>", Error::Malformed),
            (b'H', b"mx", Error::Malformed),
            (b'U', b"XFOO", Error::Malformed),
            (b'C', b"mx\0", Error::Malformed),
            (b'D', b"", Error::Malformed),
            (b'X', b"", Error::UnknownCommand),
            (0, b"", Error::UnknownCommand),
            (b'c', b"", Error::UnknownCommand),
        ] {
            assert_eq!(said(&mut agreed(), command, data), Err(error), "{}", command.escape_ascii());
        }
    }

    fn reply_text(reply: &str, further: &[&str]) -> String {
        let mut out = Vec::new();
        let reply: verdict::Reply = reply.parse().expect("a reply");
        write_reply(&reply.with_lines(further.iter().copied()).expect("lines"), &mut out);
        let (packet, used) = decode(&out, &Limits::DEFAULT).expect("a packet").expect("complete");
        assert_eq!((packet.command, used), (b'y', out.len()));
        let text = packet.data.strip_suffix(b"\0").expect("a NUL at the end");
        assert!(!text.contains(&0));
        String::from_utf8(text.to_vec()).expect("ASCII")
    }

    #[test]
    fn texts_are_written_as_both_mtas_take_them() {
        assert_eq!(reply_text("550 5.1.1 100% unknown", &[]), "550 5.1.1 100%% unknown");
        assert_eq!(
            reply_text("550 5.1.1 User unknown", &["See https://relay.example/%20", ""]),
            "550-5.1.1 User unknown\r\n550-5.1.1 See https://relay.example/%%20\r\n550 5.1.1 -"
        );
        assert_eq!(reply_text("550 5.1.1 x", &["a\r\n250 ok\0\u{fc}"]), "550-5.1.1 x\r\n550 5.1.1 a??250 ok??");
        let many = reply_text("550 5.1.1 x", &["y"; 31]);
        assert_eq!(many.split("\r\n").count(), 32);
        assert!(many.ends_with("\r\n550 5.1.1 y"));
        let long = "%".repeat(390);
        assert!(reply_text("550 5.1.1 x", &[&long]).split("\r\n").all(|line| line.len() <= 981));
    }

    proptest! {
        #[test]
        fn any_packets_are_survived(packets in proptest::collection::vec(("[OCHMRTNLBEAKQDUx]", proptest::collection::vec(any::<u8>(), 0..20)), 0..20)) {
            let mut machine = agreed();
            for (command, mut data) in packets {
                data.push(0);
                let before = machine.recipients().0;
                match said(&mut machine, command.as_bytes()[0], &data) {
                    Ok(reply) => prop_assert!(reply.is_empty() || reply == b"\0\0\0\x01c"),
                    Err(_) => break,
                }
                prop_assert!(machine.recipients().0 <= before + 1);
            }
        }
    }
}
