//! A key-value file that a `[[map]]` of kind table serves as it is: virtusertable, mailertable, transport, access.
//!
//! Key, white space, value; comments and continuation lines as postmap reads them (makemap has no continuation lines,
//! and no file made for it has an indented one). Says nothing about recipients.

use super::lines::Join;
use super::syntax::key_and_value;
use super::{Fault, Options, Reader, Refused, Sink};

#[derive(Debug)]
pub(super) struct Table;

impl Reader for Table {
    const JOIN: Join = Join::Blank;

    fn new(_: &Options) -> Table {
        Table
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        match key_and_value(line) {
            Ok((_, b"")) => sink.fault(number, line, Fault::NoValue),
            Ok((key, value)) => sink.pair(number, key, value),
            Err(fault) => sink.fault(number, line, fault),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Options, digest_chunks};

    #[test]
    fn keys_and_values_as_they_are() {
        let text =
            "# a comment\ninfo+*@example.org\tsales+%2\nroot@example.org error:5.7.0:550 Not\n  for you\nalone\n";
        let digest = digest_chunks(Format::Table, &Options::default(), [text.as_bytes()]);
        let events: Vec<String> = digest.events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "2 pair info+*@example.org = sales+%2",
                "3 pair root@example.org = error:5.7.0:550 Not  for you",
                "5 fault NoValue | alone",
            ]
        );
    }
}
