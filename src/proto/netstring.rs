//! Netstrings: `<length> ":" <bytes> ","` (D. J. Bernstein, 1997; PROTOCOLS.md section 1).
//!
//! Postfix and sendmail write the length without sign, leading zero or blank. We take leading zeros (as Postfix and
//! postsrsd do) in one to six digits; sign, blank, CR and LF in front are no netstring, though some readers skip them.
//! The length is judged digit by digit, so that neither memory nor time is spent on a request that is too long.

/// Most digits of a length; with them no limit in use can overflow anything.
const MAX_DIGITS: usize = 6;

/// Why the input is no netstring of ours. After any of these the stream has no further meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No digit where the length begins, something else than digits and `:` in it, or more than six digits.
    Length,
    /// The length is above the limit; known before the payload, often before the last digit.
    TooLong,
    /// The payload is not followed by a comma.
    Terminator,
}

/// Takes the payload of one netstring from the front of `input`; see [`crate::proto`] for the meaning of the result.
///
/// `max_payload` is [`request_bytes`](crate::proto::Limits::request_bytes) on the server side.
#[inline]
pub fn decode(input: &[u8], max_payload: usize) -> Result<Option<(&[u8], usize)>, Error> {
    let mut len = 0;
    let mut digits = 0;
    loop {
        let Some(&byte) = input.get(digits) else { return Ok(None) };
        let value = byte.wrapping_sub(b'0');
        if value > 9 {
            if byte == b':' && digits > 0 {
                break;
            }
            return Err(Error::Length);
        }
        if digits == MAX_DIGITS {
            return Err(Error::Length);
        }
        len = len * 10 + usize::from(value);
        if len > max_payload {
            return Err(Error::TooLong);
        }
        digits += 1;
    }
    let start = digits + 1;
    let end = start + len;
    match input.get(end) {
        None => Ok(None),
        Some(b',') => Ok(input.get(start..end).map(|payload| (payload, end + 1))),
        Some(_) => Err(Error::Terminator),
    }
}

/// Appends the head of a netstring, `22:`; the payload of that length and `,` are the caller's to append.
#[inline]
pub fn encode_head(len: usize, out: &mut Vec<u8>) {
    // replies have one to three digits; anything else takes the long way
    let digit = |n: usize| b'0' + (n % 10) as u8;
    match len {
        0..10 => out.extend_from_slice(&[digit(len), b':']),
        10..100 => out.extend_from_slice(&[digit(len / 10), digit(len), b':']),
        100..1000 => out.extend_from_slice(&[digit(len / 100), digit(len / 10), digit(len), b':']),
        _ => {
            out.extend_from_slice(len.to_string().as_bytes());
            out.push(b':');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 10_500;

    #[test]
    fn one_request_is_taken_from_the_front() {
        let input = b"14:rcpt bob@ex.am,14:rcpt eve@ex.am,";
        assert_eq!(decode(input, MAX), Ok(Some((&b"rcpt bob@ex.am"[..], 18))));
        assert_eq!(decode(&input[18..], MAX), Ok(Some((&b"rcpt eve@ex.am"[..], 18))));
        assert_eq!(decode(b"", MAX), Ok(None));
        assert_eq!(decode(b"0:,", MAX), Ok(Some((&b""[..], 3))));
    }

    #[test]
    fn leading_zeros_are_taken_up_to_six_digits() {
        assert_eq!(decode(b"014:rcpt bob@ex.am,", MAX), Ok(Some((&b"rcpt bob@ex.am"[..], 19))));
        assert_eq!(decode(b"000001:x,", MAX), Ok(Some((&b"x"[..], 9))));
        assert_eq!(decode(b"000000", MAX), Ok(None));
        assert_eq!(decode(b"0000001", MAX), Err(Error::Length));
    }

    #[test]
    fn what_is_no_length_is_refused_at_once() {
        for bad in
            [&b":rcpt,"[..], b"-1:,", b" 4:abcd,", b"4 :abcd,", b"GET / HTTP/1.1\r\n", b"+4:abcd,", b"\n4:", b"4\0"]
        {
            assert_eq!(decode(bad, MAX), Err(Error::Length), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_payload_too_long_is_refused_before_it_comes() {
        assert_eq!(decode(b"10500", MAX), Ok(None));
        assert_eq!(decode(b"10501", MAX), Err(Error::TooLong));
        assert_eq!(decode(b"200000:", MAX), Err(Error::TooLong));
        assert_eq!(decode(b"99999999999999999999:", MAX), Err(Error::TooLong));
        assert_eq!(decode(b"999999", usize::MAX), Ok(None));
        assert_eq!(decode(b"9999999", usize::MAX), Err(Error::Length));
    }

    #[test]
    fn only_a_comma_ends_it() {
        assert_eq!(decode(b"14:rcpt bob@ex.am;", MAX), Err(Error::Terminator));
        assert_eq!(decode(b"14:rcpt bob@ex.am", MAX), Ok(None));
    }

    #[test]
    fn heads_of_every_width() {
        for n in [0, 9, 10, 22, 99, 100, 999, 1000, 10_500, 100_000, usize::MAX] {
            let mut out = Vec::new();
            encode_head(n, &mut out);
            assert_eq!(out, format!("{n}:").into_bytes());
        }
    }

    /// The first result that is not "more, please" when the input comes byte by byte.
    fn bytewise(input: &[u8], max: usize) -> Result<Option<(&[u8], usize)>, Error> {
        (0..=input.len()).map(|n| decode(&input[..n], max)).find(|r| *r != Ok(None)).unwrap_or(Ok(None))
    }

    proptest! {
        #[test]
        fn anything_is_read_alike_in_any_pieces(input in "[0-9:,a ]{0,30}", max in 0usize..30) {
            let whole = decode(input.as_bytes(), max);
            prop_assert_eq!(whole, bytewise(input.as_bytes(), max));
        }

        #[test]
        fn what_is_written_is_read_back(payload in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut out = Vec::new();
            encode_head(payload.len(), &mut out);
            out.extend_from_slice(&payload);
            out.push(b',');
            prop_assert_eq!(decode(&out, MAX), Ok(Some((&payload[..], out.len()))));
        }
    }
}
