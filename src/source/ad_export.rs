//! What Active Directory scripts print, an address a line: `alias: SMTP:Anna.Adler@example.org` (cscript), also without
//! the attribute's name in front.
//!
//! SMTP addresses are taken, other types counted, a script host's banner passed over. Old scripts write Windows-1252.

use super::encoding::windows_1252;
use super::lines::{is_idle, trim_start};
use super::postmap::tell;
use super::proxy::{LIMITS, Proxy, is_type_name, kind, proxy};
use super::{Fault, Grant, Item, Note, Options, Reader, Refused, Sink, Skip};

#[derive(Debug)]
pub(super) struct AdExport {
    noted_code: bool,
    /// Primary addresses (`SMTP:`, in capitals), of which every object has one.
    objects: u32,
}

impl Reader for AdExport {
    fn new(_: &Options) -> AdExport {
        AdExport { noted_code: false, objects: 0 }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        let decoded = windows_1252(line);
        if decoded.is_some() {
            tell(&mut self.noted_code, number, Note::Windows1252, sink);
        }
        let line = trim_start(decoded.as_deref().unwrap_or(line));
        if is_idle(line) {
            return Ok(());
        }
        let value = labelled(line);
        if is_type_name(value) {
            return Err(Refused::Export { line: number });
        }
        match proxy(value) {
            Ok(Proxy::Address(key)) => {
                self.objects = self.objects.saturating_add(u32::from(value.starts_with(b"SMTP:")));
                sink.item(number, Item { key, grant: Grant::ACCEPT });
            }
            _ if is_banner(line) => sink.skip(number, Skip::Banner),
            Ok(Proxy::Other) => sink.skip(number, Skip::AddressType),
            Ok(Proxy::Word) => sink.fault(number, line, Fault::Prose),
            Err(fault) => sink.fault(number, line, fault),
        }
        Ok(())
    }

    fn end<S: Sink>(&mut self, lines: u32, sink: &mut S) -> Result<(), Refused> {
        if LIMITS.contains(&self.objects) {
            sink.note(lines, Note::Rows(self.objects));
        }
        Ok(())
    }
}

/// The value of `name: value`; without a blank behind the colon it is a type and part of the value.
fn labelled(line: &[u8]) -> &[u8] {
    match kind(line) {
        Some((_, rest @ [b' ' | b'\t', ..])) => trim_start(rest),
        _ => line,
    }
}

/// The first and the last words of cscript and of the scripts that it runs.
fn is_banner(line: &[u8]) -> bool {
    const WORDS: [&[u8]; 6] = [b"microsoft (r)", b"microsoft ", b"copyright", b"(c) ", b"finished", b"done"];
    let lower = line.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.starts_with(word))
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Refused, digest};

    fn events(text: &[u8]) -> Vec<String> {
        digest(Format::AdExport, text).events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn smtp_addresses_of_either_case() {
        assert_eq!(
            events(
                b"Microsoft (R) Windows Script Host Version 5.812\r\nCopyright (C) Microsoft Corporation. All rights reserved.\r\n\r\n\
                  alias: SMTP:Anna.Adler@example.org\r\nalias: smtp:anna@example.org\r\n\
                  alias: X400:c=DE;a= ;p=Example;o=Exchange;s=Adler;g=Anna;\r\nalias: sip:anna@example.org\r\n\
                  alias: smtp:office@example.org\r\nsmtp:bert@example.org\r\nmail: carla@example.org\r\netc...\r\n\
                  and so on\r\nalias: smtp:two words@example.org\r\nFinished\r\n"
            ),
            [
                "1 skip banner",
                "2 skip banner",
                "4 recipient Anna.Adler@example.org",
                "5 recipient anna@example.org",
                "6 skip address type",
                "7 skip address type",
                "8 recipient office@example.org",
                "9 recipient bert@example.org",
                "10 recipient carla@example.org",
                "11 fault Prose | etc...",
                "12 fault Prose | and so on",
                "13 fault Address | alias: smtp:two words@example.org",
                "13 recipient words@example.org ?",
                "14 skip banner",
            ]
        );
    }

    #[test]
    fn windows_1252_is_read_with_a_note() {
        assert_eq!(
            events(b"alias: smtp:j\xfcrgen@example.org\nalias: smtp:g\xf6tz@example.org\n"),
            ["1 note Windows1252", "1 recipient jürgen@example.org", "2 recipient götz@example.org"]
        );
    }

    #[test]
    fn a_thousand_objects_are_a_limit() {
        let text = b"alias: SMTP:a@example.org\nalias: smtp:b@example.org\n".repeat(1000);
        assert_eq!(events(&text).last().map(String::as_str), Some("2000 note Rows(1000)"));
    }

    #[test]
    fn a_list_that_nobody_joined_is_refused() {
        assert_eq!(digest(Format::AdExport, b"\nalias: System.String[]\n").outcome, Err(Refused::Export { line: 2 }));
    }
}
