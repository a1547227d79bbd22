//! Runs a command source: a program without a shell, in a process group of its own, whose standard output is the list.
//!
//! A time-out, an output that is too long, a signal and an exit status other than 0 are failures of the source: what such
//! a program has printed may be a part only. What it says on standard error is for the log. It runs as the user, with the
//! environment (but for what systemd told us) and at the low priority of the loader.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::config::reason;
use crate::logging::escape;
use crate::sys;

/// The longest output, in bytes: more than ten million addresses.
pub const MAX_OUTPUT: u64 = 1 << 29;
/// Lines of standard error that are kept.
const KEPT_LINES: usize = 20;
/// Bytes of such a line that are kept.
const KEPT_BYTES: usize = 200;
/// How often an ending process is looked for once it has closed its outputs.
const ENDING: Duration = Duration::from_millis(5);

/// What a program has said on standard error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The first lines, escaped and cut.
    pub lines: Vec<String>,
    /// How many more there were.
    pub more: usize,
    line: Vec<u8>,
}

impl Said {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line();
            } else if self.line.len() < KEPT_BYTES {
                self.line.push(byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        if self.lines.len() < KEPT_LINES {
            self.lines.push(escape(line).to_string());
        } else {
            self.more += 1;
        }
    }
}

/// How far a program may go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From start to end.
    pub timeout: Duration,
    /// Bytes of its output.
    pub output: u64,
}

/// Why its output is not to be taken.
#[derive(Debug)]
pub enum Failed<E> {
    /// It could not be run, or did not end well.
    Command(String),
    /// Who takes the output does not want it.
    Output(E),
}

/// Runs a program; `take` gets its output piece by piece.
pub fn run<E>(
    words: &[String],
    bounds: Bounds,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> (Result<(), Failed<E>>, Said) {
    let mut said = Said::default();
    let Some((program, arguments)) = words.split_first() else {
        return (Err(Failed::Command("no program is named".to_owned())), said);
    };
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match sys::scrub(&mut command).spawn() {
        Ok(child) => child,
        Err(e) => {
            let advice = match e.kind() {
                io::ErrorKind::NotFound if program.starts_with('/') => "; is it installed?",
                io::ErrorKind::NotFound => "; is it installed? give the full path",
                io::ErrorKind::PermissionDenied => "; may the user that rcptmapd runs as execute it?",
                _ => "",
            };
            return (Err(Failed::Command(format!("can't run {program}: {}{advice}", reason(&e)))), said);
        }
    };
    let deadline = Instant::now() + bounds.timeout;
    let followed = follow(&mut child, deadline, bounds, take, &mut said);
    if followed.is_err() {
        // All of the group: a shell script's children hold the pipes as well. It is not reaped yet, so it is ours.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let _ = child.wait();
    }
    said.end_line();
    let ended = followed.and_then(|status| judge(status, &said).map_err(Failed::Command));
    (ended, said)
}

/// What an exit status says, with the program's own words.
fn judge(status: ExitStatus, said: &Said) -> Result<(), String> {
    if status.success() {
        return Ok(());
    }
    let words = said.lines.last().map_or_else(String::new, |line| format!(": {line}"));
    Err(match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit status {code}{words}"),
        (None, signal) => format!("it was ended by signal {}{words}", signal.unwrap_or_default()),
    })
}

fn follow<E>(
    child: &mut Child,
    deadline: Instant,
    bounds: Bounds,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    said: &mut Said,
) -> Result<ExitStatus, Failed<E>> {
    let broken = |e: io::Error| Failed::Command(format!("can't read its output: {}", reason(&e)));
    let late =
        || Failed::Command(format!("it was not done within {} s (timeout), and was ended", seconds(bounds.timeout)));
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let mut chunk = vec![0; 256 * 1024];
    let mut output = 0_u64;
    while stdout.is_some() || stderr.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        let (out_ready, err_ready) = {
            let out = stdout.as_ref().map(|pipe| pipe.as_fd());
            let err = stderr.as_ref().map(|pipe| pipe.as_fd());
            ready(out, err, left).map_err(broken)?
        };
        if out_ready && let Some(pipe) = &mut stdout {
            match read(pipe, &mut chunk).map_err(broken)? {
                0 => stdout = None,
                size => {
                    output += size as u64;
                    if output > bounds.output {
                        let text = format!("its output is longer than {} MiB", bounds.output >> 20);
                        return Err(Failed::Command(text));
                    }
                    take(&chunk[..size]).map_err(Failed::Output)?;
                }
            }
        }
        if err_ready && let Some(pipe) = &mut stderr {
            match read(pipe, &mut chunk).map_err(broken)? {
                0 => stderr = None,
                size => said.take(&chunk[..size]),
            }
        }
    }
    loop {
        if let Some(status) = child.try_wait().map_err(broken)? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
        std::thread::sleep(ENDING);
    }
}

fn read(pipe: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match pipe.read(chunk) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Waits until one of two pipes has something to read, or its end.
fn ready(out: Option<BorrowedFd<'_>>, err: Option<BorrowedFd<'_>>, patience: Duration) -> io::Result<(bool, bool)> {
    let mut fds: Vec<PollFd<'_>> = out.iter().chain(&err).map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let patience = PollTimeout::try_from(patience.min(Duration::from_secs(3600))).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, patience) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(e) => return Err(e.into()),
    }
    let mut some = fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
    let out_ready = out.is_some() && some.next().unwrap_or_default();
    Ok((out_ready, err.is_some() && some.next().unwrap_or_default()))
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration, output: u64) -> (Result<String, String>, Said) {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let mut text = Vec::new();
        let mut take = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            if text.starts_with(b"no") { Err("not wanted") } else { Ok(()) }
        };
        let (ended, said) = run(&words, Bounds { timeout, output }, &mut take);
        let ended = ended.map(|()| String::from_utf8_lossy(&text).into_owned()).map_err(|failed| match failed {
            Failed::Command(why) => why,
            Failed::Output(why) => why.to_owned(),
        });
        (ended, said)
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn output_is_the_list_and_errors_are_for_the_log() {
        let (list, said) = shell("echo a; echo '  odd\tthing ' >&2; echo b; cat", PATIENCE, 1 << 20);
        assert_eq!(list, Ok("a\nb\n".to_owned()));
        assert_eq!(said.lines, ["odd\\tthing"]);
        let (_, said) = shell("i=0; while [ $i -lt 50 ]; do echo $i; i=$((i+1)); done >&2", PATIENCE, 1 << 20);
        assert_eq!((said.lines.len(), said.more), (KEPT_LINES, 30));
    }

    #[test]
    fn what_did_not_end_well_is_not_taken() {
        let (list, _) = shell("echo a; echo can not reach the server >&2; exit 3", PATIENCE, 1 << 20);
        assert_eq!(list, Err("it ended with exit status 3: can not reach the server".to_owned()));
        let (list, _) = shell("echo a; kill -9 $$", PATIENCE, 1 << 20);
        assert_eq!(list, Err("it was ended by signal 9".to_owned()));
        let (list, _) = shell("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaa; done", PATIENCE, 1 << 20);
        assert_eq!(list, Err("its output is longer than 1 MiB".to_owned()));
        let (list, _) = shell("echo no; while :; do echo x; done", PATIENCE, 1 << 20);
        assert_eq!(list, Err("not wanted".to_owned()));
        let missing =
            run::<()>(&["/nonexistent/prog".to_owned()], Bounds { timeout: PATIENCE, output: 1 }, &mut |_| Ok(()));
        assert!(matches!(missing.0, Err(Failed::Command(why)) if why.contains(": no such file")));
    }

    #[test]
    fn the_whole_group_ends_with_the_time_out() {
        let began = Instant::now();
        // The child would hold the pipe for an hour.
        let (list, _) = shell("echo a; sleep 3600 & echo $! >&2; wait", Duration::from_millis(300), 1 << 20);
        assert_eq!(list, Err("it was not done within 0.3 s (timeout), and was ended".to_owned()));
        assert!(began.elapsed() < PATIENCE);
    }

    #[test]
    fn what_systemd_told_us_is_not_passed_on() {
        let (list, _) = shell("echo ${NOTIFY_SOCKET-unset} ${LISTEN_FDS-unset}", PATIENCE, 1 << 20);
        assert_eq!(list, Ok("unset unset\n".to_owned()));
    }
}
