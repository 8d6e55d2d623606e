//! Small files that must be whole or absent, and secret ones that only the owner may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Puts `bytes` at `path`, mode 0600: readers see the old file or the new one, also after a power
/// cut.
pub(crate) fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A left-over of a crash may have other permissions.
    let new = aside(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder(path))?.sync_all()
}

/// Makes a file by `make` if there is none at `path`: whole, or after a crash not at all. What `make`
/// leaves at the path it is given need not be flushed.
pub(crate) fn make_whole(
    path: &Path,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    if fs::exists(path)? {
        return Ok(());
    }
    let new = aside(path)?;
    make(&new)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder(path))?.sync_all()
}

/// Where a file is made before it gets its name: nothing is there, whatever a crash has left.
fn aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(new),
    }
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}
