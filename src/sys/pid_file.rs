//! The pid file: one line with our number, locked as long as we live.
//!
//! The lock tells whether the file is stale, not the number in it: numbers are used again. A file that holds something
//! else than a number is somebody's, and is left alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{SysError, file_error};

/// Our pid file. Dropping it leaves it on the disk: see [`PidFile::remove`].
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes the number of this process. A file that a process left behind is taken over.
    pub fn create(path: &Path) -> Result<PidFile, SysError> {
        // somebody may take the old file away while we wait for its lock: then look again
        for _ in 0..10 {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits() | nix::fcntl::OFlag::O_NONBLOCK.bits())
                .open(path)
                .map_err(|e| open_error(path, e))?;
            let meta = file.metadata().map_err(|e| file_error(path, e, ""))?;
            if !meta.is_file() {
                return Err(SysError::NoPidFile { path: path.into(), what: "it is no regular file" });
            }
            let mut text = String::new();
            let read = Read::by_ref(&mut file).take(64).read_to_string(&mut text);
            let pid: Option<i32> = text.trim().parse().ok();
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(SysError::Running { path: path.into(), pid }),
                Err(TryLockError::Error(e)) => return Err(file_error(path, e, "")),
            }
            if read.is_err() || (pid.is_none() && !text.trim().is_empty()) {
                return Err(SysError::NoPidFile { path: path.into(), what: "it holds something else than a number" });
            }
            if !std::fs::symlink_metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino())) {
                continue;
            }
            let mut pid_file = PidFile { path: path.into(), file };
            pid_file.update()?;
            return Ok(pid_file);
        }
        Err(file_error(path, io::ErrorKind::ResourceBusy.into(), "; something else writes it all the time"))
    }

    /// Writes the number of this process anew: [`super::daemonise`] changes it. The lock goes along.
    pub fn update(&mut self) -> Result<(), SysError> {
        self.write(&format!("{}\n", std::process::id())).map_err(|e| file_error(&self.path, e, ""))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }

    /// Removes it. Without the right to do so (the folder is root's, and we aren't root any more) it is left empty.
    pub fn remove(mut self) {
        let same = |m: std::fs::Metadata| {
            self.file.metadata().is_ok_and(|ours| (m.dev(), m.ino()) == (ours.dev(), ours.ino()))
        };
        if !std::fs::symlink_metadata(&self.path).is_ok_and(same) {
            return; // not ours any more
        }
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.write(""); // the next start takes it over either way
        }
    }
}

fn open_error(path: &Path, e: io::Error) -> SysError {
    if e.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) {
        return SysError::NoPidFile { path: path.into(), what: "it is a symbolic link" };
    }
    let advice = match e.kind() {
        io::ErrorKind::NotFound => "; the folder of the pid_file must be there",
        io::ErrorKind::PermissionDenied => "; start as root, or name a pid_file (-P) in a folder of your own",
        _ => "",
    };
    file_error(path, e, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("a pid file")
    }

    #[test]
    fn written_and_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pid");
        let pid_file = PidFile::create(&path).expect("ours");
        assert_eq!(read(&path), format!("{}\n", std::process::id()));
        pid_file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_one_is_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pid");
        for stale in ["4194304\n", "1\n", "1234567", ""] {
            std::fs::write(&path, stale).expect("a file");
            let pid_file = PidFile::create(&path).expect("ours, though process 1 runs");
            assert_eq!(read(&path), format!("{}\n", std::process::id()));
            drop(pid_file);
        }
    }

    #[test]
    fn that_of_a_running_process_is_respected() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pid");
        let pid_file = PidFile::create(&path).expect("ours");
        let error = PidFile::create(&path).expect_err("taken").to_string();
        let me = std::process::id();
        assert_eq!(
            error,
            format!(
                "{}: rcptmapd runs already as process {me}; stop it, or name another pid_file (-P)",
                path.display()
            )
        );
        assert_eq!(read(&path), format!("{me}\n"), "untouched");
        drop(pid_file);
        PidFile::create(&path).expect("free again").remove();
    }

    #[test]
    fn somebody_elses_file_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pid");
        std::fs::write(&path, "anna@example.org OK\n").expect("a file");
        let error = PidFile::create(&path).expect_err("a list").to_string();
        assert!(
            error.ends_with(
                "it holds something else than a number), so it is not overwritten; name another pid_file (-P)"
            )
        );
        assert_eq!(read(&path), "anna@example.org OK\n");

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let error = PidFile::create(&link).expect_err("a link").to_string();
        assert!(error.contains("it is a symbolic link"), "{error}");
        let error = PidFile::create(folder.path()).expect_err("a folder").to_string();
        assert!(error.ends_with(": is a directory"), "{error}");
        let error = PidFile::create(&folder.path().join("no/pid")).expect_err("no folder").to_string();
        assert!(error.ends_with("no such file or directory; the folder of the pid_file must be there"), "{error}");
    }

    #[test]
    fn one_that_was_replaced_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pid");
        let pid_file = PidFile::create(&path).expect("ours");
        std::fs::remove_file(&path).expect("ours");
        std::fs::write(&path, "5\n").expect("another's");
        pid_file.remove();
        assert_eq!(read(&path), "5\n");
    }
}
