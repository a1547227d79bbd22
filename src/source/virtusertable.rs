//! sendmail virtusertable (cf/README, "VIRTUSER DOMAIN"): key, blanks, target.
//!
//! `error:` targets are refusals; every other key exists, and its value is the target, with `%0` to `%3` as written.
//! A catch-all that keeps the local part (`@example.net  %1@example.org`) exists where its target does.

use super::action::{error_mailer, strip};
use super::lines::{is_blank, is_idle};
use super::syntax::{Shape, is_prose, key_and_value, shape, wildcard};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink};

#[derive(Debug)]
pub(super) struct Virtusertable;

impl Reader for Virtusertable {
    fn new(_: &Options) -> Virtusertable {
        Virtusertable
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if is_idle(line) {
            return Ok(());
        }
        match entry(line) {
            Ok(item) => sink.item(number, item),
            Err(fault) => sink.fault(number, line, fault),
        }
        Ok(())
    }
}

fn entry(line: &[u8]) -> Result<Item<'_>, Fault> {
    if line.first().is_some_and(|&b| is_blank(b)) {
        return Err(Fault::LeadingBlank);
    }
    let (key, value) = key_and_value(line)?;
    if value.is_empty() {
        return Err(Fault::NoValue);
    }
    let key = match shape(key)? {
        Shape::Address { local, domain } => match wildcard(local, domain) {
            // Only `+*` and `++` have a meaning here.
            Key::Prefix { .. } | Key::CatchAll { .. } => Key::Recipient { local, domain },
            key => key,
        },
        Shape::At { domain } => Key::CatchAll { domain },
        Shape::Bare { .. } if is_prose(value) => return Err(Fault::Prose),
        _ => return Err(Fault::Address),
    };
    let grant = match key {
        Key::CatchAll { .. } => renamed(value).unwrap_or_else(|| target(value)),
        _ => target(value),
    };
    Ok(Item { key, grant })
}

/// A target that is the same local part at another domain, with its detail or without.
fn renamed(value: &[u8]) -> Option<Grant<'_>> {
    let domain = [&b"%1@"[..], b"%1%3@", b"%1+%2@"].iter().find_map(|same| value.strip_prefix(*same))?;
    (!domain.contains(&b'@') && !domain.contains(&b'%')).then_some(Grant::Follow { domain, value })
}

/// What a target says.
fn target(value: &[u8]) -> Grant<'_> {
    match strip(&String::from_utf8_lossy(value), "error:") {
        Some(error) => Grant::Refuse(error_mailer(error)),
        None => Grant::Accept { value },
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, digest};

    #[test]
    fn keys_targets_and_refusals() {
        let text = "anna@example.org        anna\nbert@example.org        bert%internal.example.org@smart.example.org\n\
                    info+*@example.org      sales+%2\nhelp++@example.org      desk+%2\n\
                    root@example.org        error:5.7.0:550 Address not for the outside\n\
                    joe@example.org         error:nouser 550 No such user here\n@example.net            %1@example.org\n\
                    @example.com            error:nouser No such user here\n+*@example.com x\n\
                    etc...\nexample.org OK\n a@example.org x\nand so on\n";
        let events: Vec<String> =
            digest(Format::Virtusertable, text.as_bytes()).events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "1 recipient anna@example.org = anna",
                "2 recipient bert@example.org = bert%internal.example.org@smart.example.org",
                "3 detail info+*@example.org = sales+%2",
                "4 detail help++@example.org = desk+%2",
                "5 recipient root@example.org ! 550 5.7.0 Address not for the outside",
                "6 recipient joe@example.org ! 550 5.1.1 No such user here",
                "7 catch-all @example.net -> example.org",
                "8 catch-all @example.com ! 550 5.1.1 No such user here",
                "9 detail +*@example.com = x",
                "10 fault NoValue | etc...",
                "11 fault Address | example.org OK",
                "12 fault LeadingBlank |  a@example.org x",
                "12 recipient a@example.org ?",
                "13 fault Prose | and so on",
            ]
        );
    }
}
