//! Postfix policy delegation, server side (SMTPD_POLICY_README; PROTOCOLS.md section 6).
//!
//! A request is lines `name=value`, ended by an empty line; the reply is `action=...` and an empty line, both with LF
//! alone. Order and number of attributes vary by release, so they are read by name and unknown ones are passed over.
//! One request at a time, no identifier.
//!
//! What smtpd does with the actions:
//!
//! - `DUNNO` goes on with the next restriction: the right word for "exists", "not ours" and every state in which there
//!   is nothing to decide. `OK` would skip the rest of the list and may open a relay; it is never written, and neither is
//!   an empty action, which Postfix takes for "permit".
//! - `550 5.1.1 User unknown` refuses with these very codes; Postfix puts the address in front of the text.
//! - `DEFER_IF_PERMIT 4.3.0 text` is 450 unless a later restriction rejects: "unknown".
//! - An action with bytes that are no UTF-8 is a failed request (`smtpd_policy_service_default_action`).
//!
//! After an error we close without a reply, as Postfix's manual asks a server in trouble to do: Postfix tries once more
//! on a new connection and then takes its default action (451).

use super::Limits;
use crate::verdict;

/// Longest text behind `action=`; Postfix has no limit, an SMTP reply line has 512 bytes.
const MAX_ACTION: usize = 480;

/// Where in the SMTP session the question is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// `RCPT` and `VRFY`: there is one recipient, to be decided about. With `smtpd_delay_reject = yes`, the default, all
    /// restriction lists up to the recipient's are run here.
    Recipient,
    /// CONNECT, EHLO, HELO, MAIL, DATA, END-OF-MESSAGE, ETRN, and whatever comes after our time: nothing to decide.
    #[default]
    Other,
}

/// The attributes that matter; each is empty where Postfix sent none. Of two with one name the first counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// `request`: `smtpd_access_policy`.
    pub request: &'a [u8],
    /// `protocol_state`.
    pub state: State,
    /// `recipient`: unquoted, case as typed, before rewriting, no brackets.
    pub recipient: &'a [u8],
    /// `sender`; empty for the null reverse-path.
    pub sender: &'a [u8],
    /// `client_address`: IPv4 or IPv6 without brackets; `unknown` may occur.
    pub client_address: &'a [u8],
    /// `client_name`: verified, or `unknown`.
    pub client_name: &'a [u8],
    /// `helo_name`: empty before HELO.
    pub helo_name: &'a [u8],
    /// `sasl_username`: not empty means authenticated.
    pub sasl_username: &'a [u8],
    /// `instance`: the same in all requests of one message.
    pub instance: &'a [u8],
    /// `queue_id`: mostly empty at RCPT.
    pub queue_id: &'a [u8],
    /// `policy_context`: a word from main.cf per call (Postfix 3.1); we take it for a map's name.
    pub policy_context: &'a [u8],
}

impl<'a> Request<'a> {
    /// The recipient to decide about; `None`: the answer is `DUNNO`, whoever it is.
    pub fn question(&self) -> Option<&'a [u8]> {
        let asks = self.request == b"smtpd_access_policy" && self.state == State::Recipient;
        Some(self.recipient).filter(|recipient| asks && !recipient.is_empty())
    }

    /// Whether the client has authenticated.
    pub fn is_authenticated(&self) -> bool {
        !self.sasl_username.is_empty()
    }
}

/// Why the input is no request. After any of these the connection is closed without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A line without `=`.
    NoAttribute,
    /// The empty line came before an attribute `request`.
    NoRequest,
    /// More attributes than [`Limits::policy_attributes`].
    TooMany,
    /// No empty line within [`Limits::policy_bytes`].
    TooLong,
}

/// Takes one request from the front of `input`; see [`crate::proto`] for the meaning of the result.
///
/// Limits: [`policy_bytes`](Limits::policy_bytes), [`policy_attributes`](Limits::policy_attributes).
pub fn decode<'a>(input: &'a [u8], limits: &Limits) -> Result<Option<(Request<'a>, usize)>, Error> {
    let window = input.get(..limits.policy_bytes).unwrap_or(input);
    let mut fields = Fields::default();
    let mut attributes = 0;
    let mut rest = window;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, b""));
        rest = behind.get(1..).unwrap_or_default();
        if line.is_empty() {
            let request = fields.finish().ok_or(Error::NoRequest)?;
            return Ok(Some((request, window.len() - rest.len())));
        }
        let equals = memchr::memchr(b'=', line).ok_or(Error::NoAttribute)?;
        attributes += 1;
        if attributes > limits.policy_attributes {
            return Err(Error::TooMany);
        }
        let (name, value) = line.split_at_checked(equals).unwrap_or((line, b""));
        fields.put(name, value.get(1..).unwrap_or_default());
    }
    if window.len() >= limits.policy_bytes { Err(Error::TooLong) } else { Ok(None) }
}

/// The attributes as they come in; `None` is "not yet", so that a second one does not count even if the first is empty.
#[derive(Default)]
struct Fields<'a> {
    request: Option<&'a [u8]>,
    state: Option<&'a [u8]>,
    recipient: Option<&'a [u8]>,
    sender: Option<&'a [u8]>,
    client_address: Option<&'a [u8]>,
    client_name: Option<&'a [u8]>,
    helo_name: Option<&'a [u8]>,
    sasl_username: Option<&'a [u8]>,
    instance: Option<&'a [u8]>,
    queue_id: Option<&'a [u8]>,
    policy_context: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn put(&mut self, name: &[u8], value: &'a [u8]) {
        let field = match name {
            b"request" => &mut self.request,
            b"protocol_state" => &mut self.state,
            b"recipient" => &mut self.recipient,
            b"sender" => &mut self.sender,
            b"client_address" => &mut self.client_address,
            b"client_name" => &mut self.client_name,
            b"helo_name" => &mut self.helo_name,
            b"sasl_username" => &mut self.sasl_username,
            b"instance" => &mut self.instance,
            b"queue_id" => &mut self.queue_id,
            b"policy_context" => &mut self.policy_context,
            _ => return,
        };
        field.get_or_insert(value);
    }

    fn finish(self) -> Option<Request<'a>> {
        Some(Request {
            request: self.request?,
            state: match self.state {
                Some(b"RCPT" | b"VRFY") => State::Recipient,
                _ => State::Other,
            },
            recipient: self.recipient.unwrap_or_default(),
            sender: self.sender.unwrap_or_default(),
            client_address: self.client_address.unwrap_or_default(),
            client_name: self.client_name.unwrap_or_default(),
            helo_name: self.helo_name.unwrap_or_default(),
            sasl_username: self.sasl_username.unwrap_or_default(),
            instance: self.instance.unwrap_or_default(),
            queue_id: self.queue_id.unwrap_or_default(),
            policy_context: self.policy_context.unwrap_or_default(),
        })
    }
}

/// What smtpd is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing: go on with the next restriction.
    Dunno,
    /// Refuse with this reply, codes and text.
    Reply(&'a verdict::Reply),
    /// Defer, unless a later restriction refuses for good; a reply that is not temporary is written as
    /// [`Action::Reply`] would be.
    DeferIfPermit(&'a verdict::Reply),
    /// Another action of access(5), as a map or an entry has it. An empty one is written as `DUNNO`; bytes that smtpd
    /// could stumble over become `?`.
    Other(&'a [u8]),
}

/// Appends the reply.
pub fn encode(action: &Action<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"action=");
    match action {
        Action::DeferIfPermit(reply) if reply.is_temporary() => {
            out.extend_from_slice(b"DEFER_IF_PERMIT ");
            out.extend_from_slice(reply.status_and_text().as_bytes());
        }
        Action::Reply(reply) | Action::DeferIfPermit(reply) => out.extend_from_slice(reply.to_string().as_bytes()),
        Action::Other(action) if !action.trim_ascii().is_empty() => {
            let text = action.trim_ascii().iter().take(MAX_ACTION);
            out.extend(text.map(|&b| if matches!(b, b' '..=b'~') { b } else { b'?' }));
        }
        Action::Dunno | Action::Other(_) => out.extend_from_slice(b"DUNNO"),
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: &str = "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.9\n\
        client_name=mx.example.net\nhelo_name=mx\nsender=\nrecipient=Bob@relay.example\nrecipient_count=0\nqueue_id=\n\
        instance=123.456.7.0\nsize=0\nsasl_username=\npolicy_context=rcpt\nnew_attribute=a=b\n\n";

    fn one(input: &str) -> Result<Option<(Request<'_>, usize)>, Error> {
        decode(input.as_bytes(), &Limits::DEFAULT)
    }

    #[test]
    fn attributes_are_read_by_name() {
        let (request, used) = one(FULL).expect("a request").expect("complete");
        assert_eq!(used, FULL.len());
        assert_eq!(request.question(), Some(&b"Bob@relay.example"[..]));
        assert_eq!(request.client_address, b"192.0.2.9");
        assert_eq!((request.policy_context, request.instance), (&b"rcpt"[..], &b"123.456.7.0"[..]));
        assert!(!request.is_authenticated());
        assert_eq!(one(&FULL[..FULL.len() - 1]), Ok(None));
        assert_eq!(one(""), Ok(None));
    }

    #[test]
    fn only_a_recipient_is_a_question() {
        let ask = |text: &str| one(text).expect("a request").expect("complete").0.question().map(<[u8]>::to_vec);
        assert!(ask("request=smtpd_access_policy\nprotocol_state=VRFY\nrecipient=a@b\n\n").is_some());
        for text in [
            "request=smtpd_access_policy\nprotocol_state=DATA\nrecipient=\n\n",
            "request=smtpd_access_policy\nprotocol_state=DATA\nrecipient=a@b\n\n",
            "request=smtpd_access_policy\nprotocol_state=rcpt\nrecipient=a@b\n\n",
            "request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=\n\n",
            "request=smtpd_access_policy\n\n",
            "request=other\nprotocol_state=RCPT\nrecipient=a@b\n\n",
        ] {
            assert_eq!(ask(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_of_two_counts() {
        let (request, _) =
            one("request=x\nsasl_username=\nsasl_username=root\n\n").expect("a request").expect("complete");
        assert!(!request.is_authenticated());
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        assert_eq!(one("recipient=bob@relay.example\n\n"), Err(Error::NoRequest));
        assert_eq!(one("\n"), Err(Error::NoRequest));
        assert_eq!(one("request=x\nno attribute\n"), Err(Error::NoAttribute));
        assert_eq!(one("request=x\r\n\r\n"), Err(Error::NoAttribute));
        assert_eq!(one(&"a=b\n".repeat(65)), Err(Error::TooMany));
        assert_eq!(one(&"a=b\n".repeat(64)), Ok(None));
        assert_eq!(one(&"x".repeat(32 * 1024)), Err(Error::TooLong));
        assert_eq!(one(&"x".repeat(32 * 1024 - 1)), Ok(None));
    }

    #[test]
    fn actions() {
        let (absent, unknown) = (verdict::Reply::absent(), verdict::Reply::unknown());
        for (action, expected) in [
            (Action::Dunno, "DUNNO"),
            (Action::Reply(&absent), "550 5.1.1 User unknown"),
            (Action::DeferIfPermit(&unknown), "DEFER_IF_PERMIT 4.3.0 Recipient lookup failed, try again later"),
            (Action::DeferIfPermit(&absent), "550 5.1.1 User unknown"),
            (Action::Other(b""), "DUNNO"),
            (Action::Other(b" "), "DUNNO"),
            (Action::Other(b"REJECT a\n\naction=OK\xff"), "REJECT a??action=OK?"),
        ] {
            let mut out = Vec::new();
            encode(&action, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("action={expected}\n\n"));
        }
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_does_not_mind_pieces(input in "(request=x\n)?([a-c]{0,3}=?[a-c]{0,3}\n?){0,12}", max in 0usize..60) {
            let limits = Limits { policy_bytes: max, policy_attributes: 6, ..Limits::DEFAULT };
            let bytes = input.as_bytes();
            let whole = decode(bytes, &limits);
            let first = (0..=bytes.len()).map(|n| decode(&bytes[..n], &limits)).find(|r| *r != Ok(None));
            prop_assert_eq!(whole, first.unwrap_or(Ok(None)));
        }

        #[test]
        fn a_reply_has_exactly_one_empty_line(action in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut out = Vec::new();
            encode(&Action::Other(&action), &mut out);
            prop_assert_eq!(out.windows(2).position(|w| w == b"\n\n"), Some(out.len() - 2));
            prop_assert!(out.starts_with(b"action=") && out.len() > 9 && out.is_ascii());
        }
    }
}
