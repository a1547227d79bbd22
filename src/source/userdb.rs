//! sendmail user database (doc/op, "User Database"), the text that `makemap btree` is given: `name:field  value`.
//!
//! A `maildrop` says where a name's mail goes, so the name exists; a `mailname` is the address that it goes out with,
//! and that exists, too.

use memchr::memrchr;

use super::aliases::name_key;
use super::lines::is_idle;
use super::syntax::key_and_value;
use super::{Fault, Grant, Item, Options, Reader, Refused, Sink, Skip};

#[derive(Debug)]
pub(super) struct Userdb {
    domain: Vec<u8>,
}

impl Reader for Userdb {
    fn new(options: &Options) -> Userdb {
        Userdb { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if is_idle(line) {
            return Ok(());
        }
        match entry(line, &self.domain) {
            Ok(Some(item)) => sink.item(number, item),
            Ok(None) => sink.skip(number, Skip::NoAddress),
            Err(fault) => sink.fault(number, line, fault),
        }
        Ok(())
    }
}

fn entry<'a>(line: &'a [u8], domain: &'a [u8]) -> Result<Option<Item<'a>>, Fault> {
    let (key, value) = key_and_value(line)?;
    let (name, field) = memrchr(b':', key).and_then(|at| key.split_at_checked(at)).ok_or(Fault::Fields)?;
    let field = field.get(1..).unwrap_or_default();
    match name {
        _ if value.is_empty() => Err(Fault::NoValue),
        b":default" => Ok(None),
        _ if field.eq_ignore_ascii_case(b"maildrop") => {
            Ok(Some(Item { key: name_key(name, domain)?, grant: Grant::Accept { value } }))
        }
        _ if field.eq_ignore_ascii_case(b"mailname") => {
            Ok(Some(Item { key: name_key(value, domain)?, grant: Grant::ACCEPT }))
        }
        _ if field.iter().all(u8::is_ascii_alphanumeric) => Ok(None),
        _ => Err(Fault::Fields),
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, digest};

    #[test]
    fn maildrops_and_mailnames() {
        let text = "anna:maildrop   anna@mbx1.inside.example.org\nanna:mailname   Anna.Adler@example.org\n\
                    :default:mailname   example.org\nbert:maildrop   bert@mbx2.inside.example.org\n\
                    anna:office 12\netc...\nand so on\nanna:maildrop\n";
        let events: Vec<String> =
            digest(Format::Userdb, text.as_bytes()).events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "1 recipient anna@example.org = anna@mbx1.inside.example.org",
                "2 recipient Anna.Adler@example.org",
                "3 skip no address",
                "4 recipient bert@example.org = bert@mbx2.inside.example.org",
                "5 skip no address",
                "6 fault Fields | etc...",
                "7 fault Fields | and so on",
                "8 fault NoValue | anna:maildrop",
                "8 any-domain anna@ ?",
            ]
        );
    }
}
