//! User-space instructions a look-up, counted by valgrind's callgrind.
//!
//! A server is run twice under callgrind, with few look-ups and with many; the difference between the two
//! counts, divided by the difference in look-ups, has neither start nor load in it. It is the same on every
//! machine, busy or not, but blind to what the kernel does.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::load::{self, Target, Until};
use crate::recipients::Recipients;
use crate::server::{Kind, Launcher};

/// The load under which instructions are counted.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// 64 connections with so many requests at a time.
    Closed(usize),
    /// A connection for each request.
    OneShot,
}

const FEW: u64 = 2_048;
const MANY: u64 = 12_288;

/// Whether callgrind can be run at all.
pub fn available() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Instructions that `kind` needs for one look-up of `recipients`.
pub fn per_lookup(launcher: &Launcher, kind: Kind, list: &Path, recipients: Recipients, load: Load) -> Result<f64> {
    let few = count(launcher, kind, list, recipients, load, FEW)?;
    let many = count(launcher, kind, list, recipients, load, MANY)?;
    Ok((many.1 as f64 - few.1 as f64) / (many.0 as f64 - few.0 as f64))
}

/// valgrind keeps some descriptors, and takes no other hard limit than what it left: memcached sets one.
fn descriptors_left() -> Result<String> {
    let output = Command::new("valgrind").args(["-q", "--tool=none", "sh", "-c", "ulimit -Hn"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Look-ups done and instructions of the whole run.
fn count(
    launcher: &Launcher,
    kind: Kind,
    list: &Path,
    recipients: Recipients,
    load: Load,
    lookups: u64,
) -> Result<(u64, u64)> {
    let mut launcher = launcher.clone();
    launcher.wrapper =
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"].map(std::ffi::OsString::from).to_vec();
    launcher.memcached_sessions = descriptors_left()?;
    let server = launcher.start(kind, list, recipients)?;
    let target: Target = server.unix()?;
    let slice = match load {
        Load::Closed(pipeline) => load::closed(&target, 5, 64, pipeline, Until::Lookups(lookups))?,
        Load::OneShot => load::one_shot(&target, 5, 8, lookups)?,
    };
    let log = server.stop()?;
    let instructions = log
        .lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .context("callgrind told no count; see the log")?;
    ensure!(slice.lookups >= lookups, "asked {lookups}, answered {}", slice.lookups);
    Ok((slice.lookups, instructions))
}
