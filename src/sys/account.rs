//! Users and groups, and becoming one of them for good.

use std::ffi::CString;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, geteuid, getresgid, getresuid, initgroups, setresgid, setresuid, setuid};

use super::SysError;

/// A user that we may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the user's group.
    pub gid: u32,
}

/// What became of the wish to be somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// We are that user now, and can't go back.
    Done,
    /// We weren't root, so there was nothing to drop: we stay who we are.
    NotRoot,
    /// The user is root: a warning is due.
    WantsRoot,
}

/// Whether we are root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Finds a user by name.
pub fn account(name: &str) -> Result<Account, SysError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        Ok(None) => Err(SysError::UnknownUser(name.to_owned())),
        Err(e) => Err(look_up("user", name, e)),
    }
}

fn look_up(what: &'static str, name: &str, error: Errno) -> SysError {
    match error {
        // what some name services say of a name that they don't have (getpwnam(3))
        Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM if what == "user" => {
            SysError::UnknownUser(name.to_owned())
        }
        Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM => SysError::UnknownGroup(name.to_owned()),
        e => SysError::LookUp { what, name: name.to_owned(), error: e.into() },
    }
}

/// The number of a user: by name, or a number as it is.
pub fn user_id(name: &str) -> Result<u32, SysError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => name.parse().map_err(|_| SysError::UnknownUser(name.to_owned())),
        Err(e) => Err(look_up("user", name, e)),
    }
}

/// The number of a group: by name, or a number as it is.
pub fn group_id(name: &str) -> Result<u32, SysError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => name.parse().map_err(|_| SysError::UnknownGroup(name.to_owned())),
        Err(e) => Err(look_up("group", name, e)),
    }
}

/// Becomes `account` for good, with all its groups and no others, and makes sure that there is no way back.
///
/// All threads change (glibc sees to that), but let none run yet: what they opened before stays open.
pub fn drop_privileges(account: &Account) -> Result<Dropped, SysError> {
    if !is_root() {
        return Ok(Dropped::NotRoot);
    }
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    if uid.is_root() {
        return Ok(Dropped::WantsRoot);
    }
    let failed =
        |step| move |e: Errno| SysError::Become { user: account.name.clone(), step, error: io::Error::from(e) };
    let name = CString::new(account.name.as_str()).map_err(|_| SysError::UnknownUser(account.name.clone()))?;
    // groups first: without root's rights they could not be changed any more
    initgroups(&name, gid).map_err(failed("initgroups"))?;
    setresgid(gid, gid, gid).map_err(failed("setgid"))?;
    setresuid(uid, uid, uid).map_err(failed("setuid"))?;

    let users = getresuid().map_err(failed("getuid"))?;
    let groups = getresgid().map_err(failed("getgid"))?;
    let ours = [users.real, users.effective, users.saved].iter().all(|u| *u == uid)
        && [groups.real, groups.effective, groups.saved].iter().all(|g| *g == gid);
    if !ours || setuid(Uid::from_raw(0)).is_ok() {
        return Err(SysError::StillRoot(account.name.clone()));
    }
    Ok(Dropped::Done)
}
