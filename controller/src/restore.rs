//! `isocast-controller restore`: a backup into a data directory that has no platform yet.
//!
//! Everything is checked before anything is written, and the store gets its name last: whatever goes
//! wrong, the directory holds no half of a platform that a controller would serve.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;
use thiserror::Error;

use crate::{
    files,
    options::{StoreKind, StoreOptions},
    storage::{self, StorageError},
    store::{BackendError, BackupError, MemoryBackend, RedbBackend, Restored, restore},
};

/// The store's tables in a data directory.
pub const STORE_FILE: &str = "isocast.redb";

/// The journal before them.
pub const JOURNAL_FILE: &str = "isocast.journal";

/// Why nothing was restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The backup does not serve.
    #[error("{}", path.display())]
    Backup {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BackupError,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the backup would lie outside the data directory.
    #[error("the backup names a file {name:?}")]
    Name {
        /// Its name.
        name: String,
    },
    /// There is a platform already.
    #[error("{} exists; a platform is restored into an empty directory", path.display())]
    Occupied {
        /// What is there.
        path: PathBuf,
    },
    /// The new store cannot be made.
    #[error(transparent)]
    Store(#[from] BackendError),
    /// The new store cannot be reached.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reads the whole of `backup`, and says what is in it.
///
/// # Errors
/// When it is damaged.
pub fn check(backup: &Path) -> Result<Restored, RestoreError> {
    read(backup, &MemoryBackend::default())
}

/// Makes the platform that `backup` is of: its files in the folder `data`, its store where `options` say.
///
/// # Errors
/// When there is one already, the backup is damaged, or files cannot be written.
pub fn into_store(
    backup: &Path,
    data: &Path,
    options: &StoreOptions,
) -> Result<Restored, RestoreError> {
    let store = data.join(STORE_FILE);
    let others = [JOURNAL_FILE, "pki/ca.crt", "pki/ca.key", "secrets.keys"];
    let others = others.map(|name| data.join(name));
    for taken in others.iter().chain([&store]) {
        if fs::exists(taken).map_err(|source| file(taken, source))? {
            return Err(RestoreError::Occupied { path: taken.clone() });
        }
    }
    let checked = check(backup)?;
    for (name, _) in &checked.files {
        let is_plain =
            Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_plain {
            return Err(RestoreError::Name { name: name.clone() });
        }
    }
    make_folder(data)?;
    if options.store == StoreKind::Etcd {
        let backend = storage::connect(options)?;
        put_files(&checked, data)?;
        // The head comes last: without it, nothing is there.
        return read(backup, &backend).inspect_err(|_error| {
            for (name, _) in &checked.files {
                drop(fs::remove_file(data.join(name)));
            }
        });
    }
    let new = data.join("isocast.redb.restoring");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(&new, error)),
        Ok(()) | Err(_) => {}
    }
    let restored = read(backup, &RedbBackend::open(&new)?)?;
    put_files(&restored, data)?;
    let rename = || {
        File::open(&new)?.sync_all()?;
        fs::rename(&new, &store)?;
        File::open(data)?.sync_all()
    };
    rename().map_err(|source| file(&store, source))?;
    Ok(restored)
}

fn read(path: &Path, into: &dyn crate::store::Backend) -> Result<Restored, RestoreError> {
    let mut from = BufReader::new(File::open(path).map_err(|source| file(path, source))?);
    restore(into, &mut from, Timestamp::now())
        .map_err(|source| RestoreError::Backup { path: path.to_owned(), source })
}

fn put_files(restored: &Restored, data: &Path) -> Result<(), RestoreError> {
    for (name, content) in &restored.files {
        let path = data.join(name);
        make_folder(path.parent().unwrap_or(data))?;
        files::replace_secret(&path, content).map_err(|source| file(&path, source))?;
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), RestoreError> {
    use std::os::unix::fs::DirBuilderExt;

    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| file(folder, source))
}

fn file(path: &Path, source: io::Error) -> RestoreError {
    RestoreError::File { path: path.to_owned(), source }
}
