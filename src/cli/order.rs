//! Orders to a running daemon over its control socket: what `reload`, `rollback` and `check --diff` have in common.

use std::time::Duration;

use super::client::{self, Whom};
use super::{Failure, exit};
use crate::proto::http;

/// How long the daemon may take: a little more than it gives itself.
const PATIENCE: Duration = Duration::from_secs(610);

/// Gives an order and waits for the answer: its status, 200 or 409, and its text.
pub fn order(whom: &Whom, path: &str, parameters: &[(&str, String)]) -> Result<(u16, String), Failure> {
    let endpoint = whom.control()?.ok_or_else(|| {
        let text = "the configuration has no control socket (control = \"\"); a reload can be asked for by a signal: \
                    systemctl reload rcptmapd, or kill -HUP PID";
        Failure::new(exit::CONFIG, text)
    })?;
    let mut stream = client::connect(&endpoint, client::PAGE_PATIENCE)?;
    let patience = stream.set_read_timeout(PATIENCE);
    patience.map_err(|e| Failure::new(exit::OS, format!("{endpoint}: {}", crate::config::reason(&e))))?;
    let (status, body) = client::page(&mut stream, "POST", &target(path, parameters))?;
    if status == 400 {
        return Err(Failure::new(exit::DATA, body.trim_end()));
    }
    if status != 200 && status != 409 {
        let text = format!("{endpoint}: the daemon answers {status} to {path}; is this its control socket?");
        return Err(Failure::new(exit::PROTOCOL, text));
    }
    Ok((status, body))
}

fn target(path: &str, parameters: &[(&str, String)]) -> String {
    let mut target = path.as_bytes().to_vec();
    for (at, (name, value)) in parameters.iter().enumerate() {
        target.push(if at == 0 { b'?' } else { b'&' });
        target.extend_from_slice(name.as_bytes());
        target.push(b'=');
        http::encode_parameter(value.as_bytes(), &mut target);
    }
    String::from_utf8_lossy(&target).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_coded_for_a_target() {
        assert_eq!(target("/reload", &[]), "/reload");
        let force = [("force", "a\nb&c".to_owned()), ("x", "1".to_owned())];
        assert_eq!(target("/reload", &force), "/reload?force=a%0Ab%26c&x=1");
    }
}
