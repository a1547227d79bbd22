//! What the kernel tells about a process, and where and how urgently it runs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// User and system time of all its threads, past ones too, to the nanosecond.
pub fn cpu_time(pid: Pid) -> Result<Duration> {
    let gone = || format!("process {pid} is gone: see its log above");
    let time = clock_getcpuclockid(pid).and_then(|clock| clock.now()).with_context(gone)?;
    Ok(Duration::from(time))
}

/// Resident bytes now.
pub fn resident_bytes(pid: Pid) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most resident bytes since the start or [`reset_peak`].
pub fn peak_bytes(pid: Pid) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Lets [`peak_bytes`] begin anew from what is resident now.
pub fn reset_peak(pid: Pid) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("cannot write {path} (needs the same user or root)"))
}

fn status_bytes(pid: Pid, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| anyhow!("{path} has no {field}"))
}

/// Cores this process may use, in order.
pub fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core) == Ok(true)).collect())
}

/// Ties the calling thread, and what it starts from now on, to one core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core).with_context(|| format!("there is no core {core}"))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("cannot run on core {core}: choose others with --cores"))
}

/// Raised priority of this process and what it starts, for as long as it lives.
///
/// `nice` alone counts only within a terminal session where the kernel groups processes by session
/// (`sched_autogroup_enabled`), so the session's group is raised, too, and set back at the end.
#[derive(Debug)]
pub struct Priority {
    group_raised: bool,
    process_raised: bool,
}

const GROUP: &str = "/proc/self/autogroup";

impl Priority {
    /// Raises it as far as we may.
    pub fn raise(nice: i32) -> Self {
        let pid = std::process::id().to_string();
        let renice = Command::new("renice").args(["-n", &nice.to_string(), "-p", &pid]).output();
        Priority {
            group_raised: fs::write(GROUP, nice.to_string()).is_ok(),
            process_raised: renice.is_ok_and(|output| output.status.success()),
        }
    }

    /// Whether we had the right to.
    pub fn is_raised(&self) -> bool {
        self.process_raised
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if self.group_raised {
            // nothing more to be done about it here
            let _ = fs::write(GROUP, "0");
        }
    }
}

/// Allows as many descriptors as the hard limit has; servers started later inherit it.
pub fn raise_descriptor_limit() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit")?;
    Ok(hard)
}

/// The 1-minute load, to judge how far absolute figures can be trusted.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}
