//! Files with secrets in them: for their owner alone, and whole or not there at all.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;

/// Puts what `write` writes at `path`, in place of what is there. It gets its name only once it is whole.
///
/// # Errors
/// What `write` says, or that the file cannot be made. What is there stays then.
pub(crate) fn write_whole<T>(
    path: &Path,
    write: impl FnOnce(&File) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut name = path.file_name().context("a file is needed")?.to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let result = write_partial(&partial, write);
    if result.is_err() {
        // What is not whole is of no use; whether it can be removed changes nothing about that.
        drop(fs::remove_file(&partial));
    }
    let written = result?;
    fs::rename(&partial, path).with_context(|| path.display().to_string())?;
    Ok(written)
}

fn write_partial<T>(
    partial: &Path,
    write: impl FnOnce(&File) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let context = || partial.display().to_string();
    // Of an attempt that was interrupted.
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        Ok(()) | Err(_) => {}
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(partial);
    let file = file.with_context(context)?;
    let written = write(&file)?;
    file.sync_all().with_context(context)?;
    Ok(written)
}
