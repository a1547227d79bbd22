//! Macros: what an MTA tells a filter beside the commands, stage by stage (PROTOCOLS.md section 7.3).

use super::packet::string;

/// The macros that are kept, as they are named on the wire; all others are passed over.
///
/// The queue id (`i`) and the MTA's name (`j`) are for the log, the daemon's name and the authentication for `[skip]`,
/// mailer and host for `explain` and the log.
const KEPT: [&[u8]; 8] =
    [b"i", b"j", b"_", b"{daemon_name}", b"{auth_type}", b"{auth_authen}", b"{rcpt_mailer}", b"{rcpt_host}"];

/// Longest value that is kept, cut beyond it. Host names have at most 255 bytes; Postfix cuts nothing.
const MAX_VALUE: usize = 256;

/// The command that a set of macros belongs to. Macros of other commands are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// CONNECT: `j`, `_`, `{daemon_name}`.
    Connect,
    /// HELO: TLS, nothing that is kept.
    Helo,
    /// MAIL: `i` (sendmail), `{auth_type}`, `{auth_authen}`.
    Mail,
    /// RCPT: `i` (Postfix, from the second recipient on), `{rcpt_mailer}`, `{rcpt_host}`.
    Rcpt,
}

impl Stage {
    /// The stage of a command byte.
    pub fn from_command(command: u8) -> Option<Stage> {
        match command {
            b'C' => Some(Stage::Connect),
            b'H' => Some(Stage::Helo),
            b'M' => Some(Stage::Mail),
            b'R' => Some(Stage::Rcpt),
            _ => None,
        }
    }
}

/// Names and values per stage. They hold until the next set for the same stage, which takes their place as a whole.
///
/// At most `KEPT` x `MAX_VALUE` bytes a stage, whatever the peer sends; the memory is used again from one message to
/// the next.
#[derive(Clone, Debug, Default)]
pub struct Macros {
    stages: [Vec<u8>; 4],
}

impl Macros {
    /// Takes a set: `pairs` is `name NUL value NUL` again and again. A pair that is cut off, or comes twice, is ignored.
    pub fn set(&mut self, stage: Stage, pairs: &[u8]) {
        let Some(kept) = self.stages.get_mut(stage as usize) else { return };
        kept.clear();
        let mut rest = pairs;
        while let Ok((name, behind)) = string(rest) {
            let Ok((value, behind)) = string(behind) else { break };
            rest = behind;
            if KEPT.contains(&name) && find(kept, name).is_none() {
                kept.extend_from_slice(name);
                kept.push(0);
                kept.extend_from_slice(value.get(..MAX_VALUE).unwrap_or(value));
                kept.push(0);
            }
        }
    }

    /// The value of a macro in a stage; names of more than one letter are in braces.
    pub fn get(&self, stage: Stage, name: &str) -> Option<&[u8]> {
        self.stages.get(stage as usize).and_then(|kept| find(kept, name.as_bytes()))
    }

    /// Forgets one stage.
    pub fn clear_stage(&mut self, stage: Stage) {
        if let Some(kept) = self.stages.get_mut(stage as usize) {
            kept.clear();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.stages.iter_mut().for_each(Vec::clear);
    }
}

fn find<'a>(pairs: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = pairs;
    loop {
        let (this, behind) = string(rest).ok()?;
        let (value, behind) = string(behind).ok()?;
        if this == name {
            return Some(value);
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_takes_the_place_of_the_one_before() {
        let mut macros = Macros::default();
        macros.set(Stage::Connect, b"j\0mail.relay.example\0{daemon_name}\0MTA\0{if_name}\0eth0\0");
        assert_eq!(macros.get(Stage::Connect, "{daemon_name}"), Some(&b"MTA"[..]));
        assert_eq!(macros.get(Stage::Connect, "j"), Some(&b"mail.relay.example"[..]));
        assert_eq!(macros.get(Stage::Connect, "{if_name}"), None);
        assert_eq!(macros.get(Stage::Mail, "j"), None);
        macros.set(Stage::Connect, b"j\0\0");
        assert_eq!(macros.get(Stage::Connect, "j"), Some(&b""[..]));
        assert_eq!(macros.get(Stage::Connect, "{daemon_name}"), None);
        macros.set(Stage::Connect, b"");
        assert_eq!(macros.get(Stage::Connect, "j"), None);
    }

    #[test]
    fn what_is_odd_or_long_does_no_harm() {
        let mut macros = Macros::default();
        macros.set(Stage::Mail, b"i\0first\0i\0second\0{auth_authen}\0cut off");
        assert_eq!(macros.get(Stage::Mail, "i"), Some(&b"first"[..]));
        assert_eq!(macros.get(Stage::Mail, "{auth_authen}"), None);
        let mut long = b"i\0".to_vec();
        long.extend([b'x'; 60_000]);
        long.push(0);
        macros.set(Stage::Mail, &long.repeat(3));
        assert_eq!(macros.get(Stage::Mail, "i").map(<[u8]>::len), Some(MAX_VALUE));
        assert!(macros.stages.iter().map(Vec::len).sum::<usize>() < 300);
    }
}
