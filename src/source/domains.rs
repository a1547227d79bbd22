//! One domain a line: relay-domains, virtuserdomain, local-host-names, rcpthosts, relay_domains, Mailman's
//! postfix_domains. Words behind the first don't count; `#` begins a comment.
//!
//! A leading dot (rcpthosts, sendmail's class R with nets and hosts) is kept: the domains below, itself not.

use super::lines::{is_idle, trim_start};
use super::syntax::{is_domain, is_full_domain, is_network, is_prose, key_and_value};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink, Skip};

#[derive(Debug)]
pub(super) struct Domains;

impl Reader for Domains {
    fn new(_: &Options) -> Domains {
        Domains
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if is_idle(line) {
            return Ok(());
        }
        let uncommented = line.split(|&b| b == b'#').next().unwrap_or(line);
        let (word, value) = key_and_value(trim_start(uncommented)).unwrap_or((line, b""));
        let name = word.strip_prefix(b".").unwrap_or(word);
        if is_full_domain(name) && !is_prose(value) || is_domain(word) && value.is_empty() && !is_network(word) {
            sink.item(number, Item { key: Key::Domain { domain: word }, grant: Grant::Accept { value } });
        } else if is_network(word) {
            sink.skip(number, Skip::Network);
        } else {
            sink.fault(number, line, if is_prose(uncommented) { Fault::Prose } else { Fault::Domain });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, digest};

    #[test]
    fn one_domain_a_line() {
        let text = "# ours\nexample.org\nExample.NET   # and this\n.lab.example.org\nlocalhost\nlists.example.org lists.example.org\n\
                    192.0.2\netc...\nand so on\nanna@example.org\nexample.org and so on\n";
        let events: Vec<String> =
            digest(Format::Domains, text.as_bytes()).events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "2 domain example.org",
                "3 domain Example.NET",
                "4 domain .lab.example.org",
                "5 domain localhost",
                "6 domain lists.example.org = lists.example.org",
                "7 skip network",
                "8 fault Domain | etc...",
                "9 fault Prose | and so on",
                "10 fault Domain | anna@example.org",
                "10 recipient anna@example.org ?",
                "11 fault Prose | example.org and so on",
            ]
        );
    }
}
