//! HTTP/1.x, as little as metrics scrapers, health checks and our own control commands need (RFC 9110, 9112).
//!
//! `GET` and `HEAD` on the data sockets (`/metrics`, `/health`, `/status`); on the control socket also `POST`
//! (`/reload?force=exchange`). Parsing of the head is httparse's. What it leaves to us is refused rather than guessed,
//! because a request that two readers understand differently is how one request is smuggled inside another: a
//! `Transfer-Encoding`, a `Content-Length` that is no plain number or comes twice with two values.
//!
//! Prometheus and `curl` keep the connection and send one request at a time; the caller writes the response and goes on
//! with the next request if [`Request::keep_alive`] says so, else it closes. Errors have a response each, and then the
//! connection is closed.

use std::borrow::Cow;

use super::{Limits, percent_decode, push_percent};

/// Most header fields of a request; browsers send some 20, Prometheus 6.
const MAX_FIELDS: usize = 64;

/// What the peer wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read a resource.
    Get,
    /// As `GET`, but the response ends after its header fields.
    Head,
    /// Have something done.
    Post,
    /// A method of HTTP that nothing here knows: 405.
    Other,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path of the target as it was written: it begins with `/`, percent-coding not undone.
    pub path: &'a str,
    /// What stands behind the `?`, or nothing; see [`parameter`].
    pub query: &'a str,
    /// The body, mostly empty.
    pub body: &'a [u8],
    /// Whether the peer wants to go on after the response.
    pub keep_alive: bool,
}

/// Why the input is no request. After any of these the stream has no further meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No request line or header fields as HTTP/1.0 and 1.1 have them, or a body whose length can't be told: 400.
    Malformed,
    /// The head is longer than [`Limits::http_head_bytes`] or has more than 64 fields: 431.
    HeadTooLong,
    /// The body is longer than [`Limits::http_body_bytes`]: 413.
    BodyTooLong,
}

impl Error {
    /// The status to answer with before closing.
    pub fn status(self) -> u16 {
        match self {
            Error::Malformed => 400,
            Error::HeadTooLong => 431,
            Error::BodyTooLong => 413,
        }
    }
}

/// Takes one request with its body from the front of `input`; see [`crate::proto`] for the meaning of the result.
///
/// Limits: [`http_head_bytes`](Limits::http_head_bytes), [`http_body_bytes`](Limits::http_body_bytes).
pub fn decode<'a>(input: &'a [u8], limits: &Limits) -> Result<Option<(Request<'a>, usize)>, Error> {
    // what is beyond the limit is not looked at, so that the answer doesn't depend on how much came at once
    let window = input.get(..limits.http_head_bytes).unwrap_or(input);
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let head_bytes = match head.parse(window) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) if window.len() >= limits.http_head_bytes => return Err(Error::HeadTooLong),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Error::HeadTooLong),
        Err(_) => return Err(Error::Malformed),
    };
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => Method::Other,
    };
    let (path, query) = split_target(head.path.unwrap_or_default()).ok_or(Error::Malformed)?;

    let mut body_bytes = None;
    let mut keep_alive = head.version == Some(1);
    for field in head.headers.iter() {
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Error::Malformed);
        } else if field.name.eq_ignore_ascii_case("content-length") {
            let length = content_length(field.value)?;
            if body_bytes.is_some_and(|before| before != length) {
                return Err(Error::Malformed);
            }
            body_bytes = Some(length);
        } else if field.name.eq_ignore_ascii_case("connection") {
            let has = |word| field.value.split(|&b| b == b',').any(|w| w.trim_ascii().eq_ignore_ascii_case(word));
            keep_alive = !has(b"close") && (keep_alive || has(b"keep-alive"));
        }
    }
    let body_bytes = body_bytes.unwrap_or(0);
    if body_bytes > limits.http_body_bytes {
        return Err(Error::BodyTooLong);
    }
    let used = head_bytes.checked_add(body_bytes).ok_or(Error::BodyTooLong)?;
    Ok(input.get(head_bytes..used).map(|body| (Request { method, path, query, body, keep_alive }, used)))
}

/// A plain decimal number; one that is absurdly long counts as too long a body.
fn content_length(value: &[u8]) -> Result<usize, Error> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Error::Malformed);
    }
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(Error::BodyTooLong)
}

/// Path and query of a request target. The absolute form, which every server must take (RFC 9112, 3.2.2), loses its
/// scheme and host: there is only one of us.
fn split_target(target: &str) -> Option<(&str, &str)> {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "" if target.starts_with('?') => Some(("/", query)),
        path if path.starts_with('/') => Some((path, query)),
        "*" => Some((path, query)),
        _ => None,
    }
}

/// The value of the first parameter called `name` in a query (`force=exchange&dry`), percent-coding undone; without `=`
/// it is empty. Names are compared as written.
///
/// A `+` stays a `+`, unlike in HTML forms: most values here are addresses, and `user+detail@example.org` typed behind
/// `curl` must not become another one. A value that is badly coded is none.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(key, _)| *key == name).and_then(
        |(_, value)| {
            if value.contains('%') {
                percent_decode(value.as_bytes()).map(Cow::Owned)
            } else {
                Some(Cow::Borrowed(value.as_bytes()))
            }
        },
    )
}

/// Appends `value` so that [`parameter`] gives it back: everything but the unreserved characters of RFC 3986 (2.3) and
/// `@` as `%XX`.
pub fn encode_parameter(value: &[u8], out: &mut Vec<u8>) {
    for &b in value {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => out.push(b),
            _ => push_percent(b, out),
        }
    }
}

/// The reason phrase of the status codes in use.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

/// The `Content-Type` of the texts that [`encode_status`] writes.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Appends a response.
pub fn encode(status: u16, content_type: &str, body: &[u8], keep_alive: bool, out: &mut Vec<u8>) {
    encode_head(status, content_type, body.len(), keep_alive, out);
    out.extend_from_slice(body);
}

/// Appends the head of a response whose body of `body_bytes` follows, or, after `HEAD`, does not.
///
/// There is no `Date`, since there is no clock here (RFC 9110, 6.6.1, allows that), and nothing may be cached.
pub fn encode_head(status: u16, content_type: &str, body_bytes: usize, keep_alive: bool, out: &mut Vec<u8>) {
    write_head(status, "", content_type, body_bytes, keep_alive, out);
}

fn write_head(status: u16, more: &str, content_type: &str, body_bytes: usize, keep_alive: bool, out: &mut Vec<u8>) {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {body_bytes}\r\n{more}Cache-Control: no-store\r\nConnection: {connection}\r\n\r\n",
        reason(status)
    );
    out.extend_from_slice(head.as_bytes());
}

/// Appends the 405 for a path that takes only the methods in `allow` (`GET, HEAD`), which RFC 9110 (15.5.6) wants named.
pub fn encode_not_allowed(allow: &str, keep_alive: bool, out: &mut Vec<u8>) {
    let text = b"405 Method Not Allowed\n";
    write_head(405, &format!("Allow: {allow}\r\n"), TEXT, text.len(), keep_alive, out);
    out.extend_from_slice(text);
}

/// Appends a response that says no more than its status: `404 Not Found` and a line of text that says the same.
pub fn encode_status(status: u16, keep_alive: bool, out: &mut Vec<u8>) {
    let text = format!("{status} {}\n", reason(status));
    encode(status, TEXT, text.as_bytes(), keep_alive, out);
}

/// Client side: appends a request without a body for `target` (`/reload?force=exchange`), after which the server closes.
pub fn encode_request(method: &str, target: &str, out: &mut Vec<u8>) {
    encode_request_with(method, target, b"", out);
}

/// The same with a body, which should not be longer than [`http_body_bytes`](Limits::http_body_bytes).
pub fn encode_request_with(method: &str, target: &str, body: &[u8], out: &mut Vec<u8>) {
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// Client side: status and body of a complete response in `input`, as [`encode`] writes them. `max_body` is what the
/// caller is ready to hold.
pub fn decode_response(input: &[u8], max_body: usize) -> Result<Option<(u16, &[u8])>, Error> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let head_bytes = match head.parse(input) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) if input.len() > Limits::DEFAULT.http_head_bytes => {
            return Err(Error::HeadTooLong);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Error::Malformed),
    };
    let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let body_bytes = content_length(field.ok_or(Error::Malformed)?.value)?;
    if body_bytes > max_body {
        return Err(Error::BodyTooLong);
    }
    let status = head.code.ok_or(Error::Malformed)?;
    let end = head_bytes.checked_add(body_bytes).ok_or(Error::BodyTooLong)?;
    Ok(input.get(head_bytes..end).map(|body| (status, body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Error> {
        decode(input, &Limits::DEFAULT)
    }

    fn request(input: &str) -> Request<'_> {
        let (request, used) = one(input.as_bytes()).expect("a request").expect("complete");
        assert_eq!(used, input.len());
        request
    }

    #[test]
    fn a_scrape() {
        let r = request("GET /metrics HTTP/1.1\r\nHost: gw:8910\r\nAccept: text/plain\r\n\r\n");
        assert_eq!((r.method, r.path, r.query, r.body, r.keep_alive), (Method::Get, "/metrics", "", &b""[..], true));
        assert_eq!(one(b"GET /metrics HTTP/1.1\r\nHost: gw"), Ok(None));
        assert_eq!(one(b""), Ok(None));
        assert_eq!(request("HEAD / HTTP/1.0\n\n").method, Method::Head);
        assert_eq!(request("DELETE / HTTP/1.1\r\n\r\n").method, Method::Other);
    }

    #[test]
    fn targets() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/reload?force=exchange&x", "/reload", "force=exchange&x"),
            ("/a?b?c", "/a", "b?c"),
            ("http://gw:8910/metrics?x=1", "/metrics", "x=1"),
            ("http://gw:8910", "/", ""),
            ("http://gw:8910?x", "/", "x"),
            ("/go?to=http://x/", "/go", "to=http://x/"),
            ("*", "*", ""),
        ] {
            assert_eq!(split_target(target), Some((path, query)), "{target}");
        }
        assert_eq!(split_target("metrics"), None);
        assert_eq!(split_target(""), None);
        assert_eq!(one(b"CONNECT gw:25 HTTP/1.1\r\n\r\n"), Err(Error::Malformed));
    }

    #[test]
    fn connections_are_kept_as_the_peer_wants() {
        for (head, keep) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nconnection: TE, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(request(head).keep_alive, keep, "{head:?}");
        }
    }

    #[test]
    fn bodies_have_a_plain_length() {
        let r = request("POST /import HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(r.body, b"hello");
        assert_eq!(one(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell"), Ok(None));
        let post = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
        for (fields, error) in [
            ("Transfer-Encoding: chunked", Error::Malformed),
            ("Content-Length: 5\r\nContent-Length: 6", Error::Malformed),
            ("Content-Length: +5", Error::Malformed),
            ("Content-Length: 0x5", Error::Malformed),
            ("Content-Length:", Error::Malformed),
            ("Content-Length: 65537", Error::BodyTooLong),
            ("Content-Length: 99999999999999999999999", Error::BodyTooLong),
        ] {
            assert_eq!(one(post(fields).as_bytes()), Err(error), "{fields}");
        }
    }

    #[test]
    fn a_head_has_limits() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(8192));
        assert_eq!(one(long.as_bytes()), Err(Error::HeadTooLong));
        assert_eq!(one(&long.as_bytes()[..8191]), Ok(None));
        let exact = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(8192 - 18));
        assert_eq!(exact.len(), 8192);
        assert!(one(exact.as_bytes()).is_ok_and(|found| found.is_some()));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert_eq!(one(many.as_bytes()), Err(Error::HeadTooLong));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for bad in [
            &b"GET /\r\n\r\n"[..],
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET /a b HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\r\na b\r\n\r\n",
        ] {
            assert_eq!(one(bad), Err(Error::Malformed), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn parameters_are_decoded_and_keep_their_plus() {
        let query = "force=exchange&address=a%40b.c&dry&x=1&x=2&bad=%zz&plus=u+d@x";
        assert_eq!(parameter(query, "force").as_deref(), Some(&b"exchange"[..]));
        assert_eq!(parameter(query, "address").as_deref(), Some(&b"a@b.c"[..]));
        assert_eq!(parameter(query, "dry").as_deref(), Some(&b""[..]));
        assert_eq!(parameter(query, "x").as_deref(), Some(&b"1"[..]));
        assert_eq!(parameter(query, "plus").as_deref(), Some(&b"u+d@x"[..]));
        assert_eq!(parameter(query, "bad"), None);
        assert_eq!(parameter(query, "none"), None);
    }

    #[test]
    fn responses() {
        let mut out = Vec::new();
        encode_not_allowed("GET, HEAD", false, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 23\r\nAllow: GET, HEAD\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n405 Method Not Allowed\n"
        );
        assert_eq!(decode_response(&out, 100), Ok(Some((405, &b"405 Method Not Allowed\n"[..]))));
        assert_eq!(decode_response(&out[..out.len() - 1], 100), Ok(None));
        assert_eq!(decode_response(&out, 10), Err(Error::BodyTooLong));
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_does_not_mind_pieces(
            start in "(GET|POST|HEAD) /[a-z?=]{0,6} HTTP/1.[01]\r\n",
            rest in "([A-Za-z-]{1,5}: [a-z0-9]{0,4}\r\n|Content-Length: [0-9]{1,2}\r\n|[\r\n:a ]){0,5}",
            max in 0usize..80
        ) {
            let input = format!("{start}{rest}\r\nabcdefgh").into_bytes();
            let limits = Limits { http_head_bytes: max, ..Limits::DEFAULT };
            let whole = decode(&input, &limits);
            let first = (0..=input.len()).map(|n| decode(&input[..n], &limits)).find(|r| *r != Ok(None));
            prop_assert_eq!(whole, first.unwrap_or(Ok(None)));
        }

        #[test]
        fn parameters_come_back(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut query = b"a=".to_vec();
            encode_parameter(&value, &mut query);
            let query = String::from_utf8(query).expect("ASCII");
            let back = parameter(&query, "a");
            prop_assert_eq!(back.as_deref(), Some(&value[..]));
        }

        #[test]
        fn a_request_of_ours_comes_back(path in "/[a-z/]{0,10}") {
            let mut out = Vec::new();
            encode_request("POST", &path, &mut out);
            let (request, used) = one(&out).expect("a request").expect("complete");
            prop_assert_eq!((request.method, request.path, used), (Method::Post, &path[..], out.len()));
            prop_assert!(!request.keep_alive);
        }
    }
}
