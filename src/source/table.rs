//! Any key-value table, verbatim: what `table` maps serve and next hops are read from.
//!
//! Key, blanks, the whole rest as value; Postfix's continuation lines, which makemap's tables don't have and don't miss.

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
            Ok((_, [])) => sink.fault(number, line, Fault::NoValue),
            Ok((key, value)) => sink.pair(number, key, value),
            Err(fault) => sink.fault(number, line, fault),
        }
        Ok(())
    }

    fn cut<S: Sink>(&mut self, number: u32, _: &[u8], _: &mut S) -> Result<(), Refused> {
        Err(Refused::TooLong { line: number })
    }
}

#[cfg(test)]
mod tests {
    use crate::source::table;

    #[test]
    fn a_table_is_served_as_it_is() {
        let table = table(b"# c\nexample.org  smtp:[a]:25\n.\tesmtp:b\nkey two\n  words\nalone\n").expect("a table");
        let rows: Vec<(u32, &str, &str)> = table
            .rows
            .iter()
            .map(|r| (r.line, str::from_utf8(&r.key).unwrap_or("?"), str::from_utf8(&r.value).unwrap_or("?")))
            .collect();
        assert_eq!(rows, [(2, "example.org", "smtp:[a]:25"), (3, ".", "esmtp:b"), (4, "key", "two  words")]);
        assert_eq!(table.faults, [(6, crate::source::Fault::NoValue)]);
    }
}
