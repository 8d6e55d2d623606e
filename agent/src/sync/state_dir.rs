//! [`StateDir`]: the folder in which an agent keeps what must outlive it.
//!
//! Owns the lock that keeps two agents out of one folder, and the one way in which files here
//! change: written beside, synced, renamed, folder synced. A crash leaves the old file or the new
//! one, never a mixture. Everything is private to the owner: keys and the cluster secret live here.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use thiserror::Error;

/// An agent's folder, locked for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Why a state folder cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateDirError {
    /// Another agent uses the folder.
    #[error("{path} is in use by another agent")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder or a file in it cannot be read or written.
    #[error("cannot use {path}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl StateDir {
    /// Opens the folder, and makes it if need be.
    ///
    /// # Errors
    /// The folder cannot be made or is in use.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let fault = |source| StateDirError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(fault(source)),
        }
    }

    /// The same, but gives an agent that was there until a moment ago time to be gone: its lock goes
    /// with its last thread, and whoever restarts it may be sooner.
    ///
    /// # Errors
    /// The folder cannot be made, or is still in use after `patience`.
    pub async fn open_once_free(path: &Path, patience: Duration) -> Result<Self, StateDirError> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::open(path) {
                Err(StateDirError::InUse { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file, if it exists.
    ///
    /// # Errors
    /// The file cannot be read, or is larger than `bytes_max`.
    pub fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StateDirError> {
        let read = || {
            let file = File::open(self.path.join(name))?;
            let mut content = Vec::new();
            file.take(bytes_max + 1).read_to_end(&mut content)?;
            if content.len() as u64 > bytes_max {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            Ok(content)
        };
        match read() {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.fault(name, error)),
        }
    }

    /// Replaces a file as one step; once this returns the new content is on the disk.
    ///
    /// # Errors
    /// The file cannot be written; the old one is as it was.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), StateDirError> {
        let write = || {
            let beside = self.path.join(format!("{name}.new"));
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, self.path.join(name))?;
            self.sync()
        };
        write().map_err(|error| self.fault(name, error))
    }

    /// Removes a file, if it exists.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StateDirError> {
        match fs::remove_file(self.path.join(name)) {
            Ok(()) => self.sync().map_err(|error| self.fault(name, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.fault(name, error)),
        }
    }

    /// A rename is durable once its folder is.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn fault(&self, name: &str, source: io::Error) -> StateDirError {
        StateDirError::Io { path: self.path.join(name), source }
    }
}

/// Between two looks at whether a folder is free.
const LOOK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_agent_is_kept_out_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();

        let second = StateDir::open(folder.path());

        assert!(matches!(second, Err(StateDirError::InUse { .. })));
        drop(first);
        assert!(StateDir::open(folder.path()).is_ok());
    }

    #[tokio::test]
    async fn an_agent_waits_for_one_that_is_about_to_go_and_not_for_one_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        let open = |patience| StateDir::open_once_free(folder.path(), patience);

        let in_vain = open(LOOK).await;
        let leave = async { drop(first) };
        let (second, ()) = tokio::join!(open(Duration::from_secs(60)), leave);

        assert!(matches!(in_vain, Err(StateDirError::InUse { .. })));
        assert!(second.is_ok());
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(&folder.path().join("state")).unwrap();

        state.replace("file", b"a longer first content").unwrap();
        state.replace("file", b"second").unwrap();

        assert_eq!(state.read("file", 6).unwrap(), Some(b"second".to_vec()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state.path().join("file")), 0o600);
        assert_eq!(mode(state.path()), 0o700);
    }

    #[test]
    fn a_file_above_the_limit_is_an_error_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        state.replace("file", b"1234567").unwrap();

        assert!(state.read("file", 6).is_err());
        state.remove("file").unwrap();
        state.remove("file").unwrap();
        assert_eq!(state.read("file", 6).unwrap(), None);
    }
}
