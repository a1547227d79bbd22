//! passwd(5), and Dovecot's passwd-file, which looks like it. The password never leaves this file: it is neither kept
//! nor part of a report. A line without a colon may be the rest of one, so the word in it is told to nobody; since it may
//! as well be a name, it is everybody at the attached domain about whom the list then can't tell.

use memchr::memchr;

use super::lines::is_idle;
use super::syntax::{Shape, attached, is_full_domain, is_local, shape};
use super::unclear::{Cut, unknown};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink, Skip};

/// `name:x:uid:gid:gecos:home:shell`: people, by uid and shell.
#[derive(Debug)]
pub(super) struct Passwd {
    options: Options,
}

impl Reader for Passwd {
    fn new(options: &Options) -> Passwd {
        Passwd { options: options.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if !is_idle(line) {
            tell(number, line, self.account(line), &self.options.domain, sink);
        }
        Ok(())
    }

    fn cut<S: Sink>(&mut self, number: u32, start: &[u8], sink: &mut S) -> Result<(), Refused> {
        tell(number, start, Err(Fault::TooLong), &self.options.domain, sink);
        self.line(number, start, &mut Cut(sink))
    }
}

impl Passwd {
    fn account<'a>(&'a self, line: &'a [u8]) -> Result<Result<Key<'a>, Skip>, Fault> {
        if matches!(line, [b'+' | b'-', ..]) {
            return Ok(Err(Skip::Nis));
        }
        let mut fields = line.split(|&b| b == b':');
        let (Some(name), Some(_password), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(Fault::Fields);
        };
        let uid: u32 = std::str::from_utf8(uid).ok().and_then(|uid| uid.parse().ok()).ok_or(Fault::Fields)?;
        // gid, gecos, home, shell; master.passwd of the BSDs has class, change and expire before them
        let rest = fields.clone().count();
        let shell = fields.next_back().unwrap_or_default();
        if rest != 4 && rest != 7 {
            return Err(Fault::Fields);
        }
        let key = attached(name, &self.options.domain)?;
        Ok(if self.options.always.iter().any(|always| always == name) {
            Ok(key)
        } else if uid < self.options.uid_min {
            Err(Skip::Uid)
        } else if !self.is_wanted(shell) {
            Err(Skip::Shell)
        } else {
            Ok(key)
        })
    }

    fn is_wanted(&self, shell: &[u8]) -> bool {
        match self.options.shells.as_slice() {
            [] => !shell.ends_with(b"/nologin") && !shell.ends_with(b"/false"),
            shells => shells.iter().any(|wanted| wanted == shell),
        }
    }
}

/// `user@domain:{SCHEME}password:uid:gid::home::extra`: whoever is listed.
#[derive(Debug)]
pub(super) struct PasswdFile {
    domain: Vec<u8>,
}

impl Reader for PasswdFile {
    fn new(options: &Options) -> PasswdFile {
        PasswdFile { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if !is_idle(line) {
            tell(number, line, user(line, &self.domain).map(Ok), &self.domain, sink);
        }
        Ok(())
    }

    fn cut<S: Sink>(&mut self, number: u32, start: &[u8], sink: &mut S) -> Result<(), Refused> {
        tell(number, start, Err(Fault::TooLong), &self.domain, sink);
        self.line(number, start, &mut Cut(sink))
    }
}

fn user<'a>(line: &'a [u8], domain: &'a [u8]) -> Result<Key<'a>, Fault> {
    let mut fields = line.splitn(2, |&b| b == b':');
    let (Some(name), Some(_)) = (fields.next(), fields.next()) else {
        return Err(Fault::Fields);
    };
    match shape(name)? {
        Shape::Address { local, domain } => Ok(Key::Recipient { local, domain }),
        Shape::Bare { word } => attached(word, domain),
        _ => Err(Fault::Address),
    }
}

/// Reports an account. Of a line at fault the name is shown, since a password may follow.
fn tell<S: Sink>(number: u32, line: &[u8], account: Result<Result<Key<'_>, Skip>, Fault>, domain: &[u8], sink: &mut S) {
    match account {
        Ok(Ok(key)) => sink.item(number, Item { key, grant: Grant::ACCEPT }),
        Ok(Err(reason)) => sink.skip(number, reason),
        Err(fault) => {
            let name = name(line);
            sink.fault(number, name.unwrap_or_default(), fault);
            if name.is_none() && !domain.is_empty() && is_local(line) {
                unknown(number, Key::CatchAll { domain }, sink);
            }
        }
    }
}

/// The name of a line at fault: what is in front of a colon, or all of it, where it is an address.
fn name(line: &[u8]) -> Option<&[u8]> {
    match shape(line) {
        Ok(Shape::Address { domain, .. }) if is_full_domain(domain) => Some(line),
        _ => memchr(b':', line).and_then(|at| line.get(..at)),
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Options, digest, digest_chunks};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nanna:x:1001:1001:Anna Adler,,,:/home/anna:/bin/bash\n\
        www:*:80:80:web server:/nonexistent:/usr/sbin/nologin\nsvc:x:2000:2000::/srv:/usr/sbin/nologin\n+::::::\n\
        etc...\nand so on\nbert:secret:x:1::/:/bin/sh\ncarla:x:1002:1002:::0:0:Carla:/home/carla:/bin/ksh\n";

    fn events(options: &Options) -> Vec<String> {
        let digest = digest_chunks(Format::Passwd, options, [PASSWD.as_bytes()]);
        digest.events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn people_by_uid_and_shell() {
        let options = Options { domain: b"example.org".to_vec(), ..Options::default() };
        assert_eq!(
            events(&options),
            [
                "1 recipient root@example.org",
                "2 recipient anna@example.org",
                "3 skip uid",
                "4 skip shell",
                "5 skip nis",
                "6 fault Fields | ",
                "7 fault Fields | ",
                "8 fault Fields | bert",
                "8 any-domain bert@ ?",
                "9 fault Fields | carla",
                "9 any-domain carla@ ?",
            ]
        );
        let options = Options { uid_min: 50, shells: vec![b"/usr/sbin/nologin".to_vec()], always: vec![], ..options };
        assert_eq!(
            events(&options)[..4],
            ["1 skip uid", "2 skip shell", "3 recipient www@example.org", "4 recipient svc@example.org"]
        );
    }

    #[test]
    fn passwd_file_users_without_their_passwords() {
        let text = "anna@example.org:{SSHA}c2VjcmV0:1000:1000::/home/anna::\nbert:{PLAIN}geheim::::::\n\
                    bad user:{PLAIN}geheim\ngeheim\ncarla@example.org\n";
        let digest = digest(Format::PasswdFile, text.as_bytes());
        let events: Vec<String> = digest.events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "1 recipient anna@example.org",
                "2 recipient bert@example.org",
                "3 fault Address | bad user",
                "4 fault Fields | ",
                "4 catch-all @example.org ?",
                "5 fault Fields | carla@example.org",
                "5 recipient carla@example.org ?",
            ]
        );
        assert!(!format!("{:?}", digest.events).contains("geheim"));
    }

    #[test]
    fn the_rest_of_a_torn_line_is_neither_kept_nor_told() {
        let long = format!("geheim{}\n", "x".repeat(200_000));
        for (format, line) in [
            (Format::Passwd, "geheim\n"),
            (Format::PasswdFile, "geheim\n"),
            (Format::Passwd, "{PLAIN}geheim\n"),
            (Format::PasswdFile, "\"geheim\"\n"),
            (Format::Passwd, &long),
            (Format::PasswdFile, &long),
        ] {
            for domain in ["", "example.org"] {
                let options = Options { domain: domain.into(), ..Options::default() };
                let digest = digest_chunks(format, &options, [line.as_bytes()]);
                let events: Vec<String> = digest.events.iter().map(ToString::to_string).collect();
                assert!(events[0].starts_with("1 fault "), "{events:?}");
                assert!(!format!("{:?}", digest.events).contains("geheim"), "{events:?}");
            }
        }
    }
}
