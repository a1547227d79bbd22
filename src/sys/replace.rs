//! Writing a file so that there is the old one or the new one, whatever happens.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::config::reason;

/// Writes `folder/name`: under the name `new` first, synced, renamed, and its folder synced. The folder is made if it is
/// missing. What fails comes with the path in its words.
pub fn replace(
    folder: &Path,
    name: &Path,
    new: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |e: io::Error| io::Error::new(e.kind(), format!("{}: {}", path.display(), reason(&e)))
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    let new = folder.join(new);
    let written = (|| {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        write(&mut out)?;
        let file = out.into_inner().map_err(|e| e.into_error())?;
        file.sync_all()?;
        std::fs::rename(&new, folder.join(name))
    })();
    if let Err(e) = written {
        // What is half there takes the space that others may need.
        let _ = std::fs::remove_file(&new);
        return Err(at(&new)(e));
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}
