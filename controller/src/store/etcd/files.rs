//! [`EtcdFiles`]: the small files of a platform, sealed, beside its log in etcd.

use std::{io, sync::Arc};

use super::EtcdBackend;
use crate::{
    cabinet::{Cabinet, Folder, Version},
    store::{BackendError, Keyring},
};

/// Keeps files in etcd. What etcd has not got yet is read from the data folder: of a controller that was
/// alone before, or of one that was restored.
#[derive(Debug)]
pub struct EtcdFiles {
    backend: Arc<EtcdBackend>,
    keyring: Keyring,
    folder: Folder,
}

impl EtcdFiles {
    /// Files beside `backend`'s log that `keyring` opens.
    pub fn new(backend: Arc<EtcdBackend>, keyring: Keyring, folder: Folder) -> Self {
        Self { backend, keyring, folder }
    }
}

impl Cabinet for EtcdFiles {
    fn read(&self, name: &str) -> io::Result<(Option<Vec<u8>>, Version)> {
        let (found, version) = self.backend.beside(name).map_err(fault)?;
        let content = match found {
            Some(sealed) => Some(self.keyring.open_file(name, &sealed).map_err(fault)?),
            None => self.folder.read(name)?.0,
        };
        Ok((content, Version(version)))
    }

    fn replace(&self, name: &str, bytes: &[u8], over: Version) -> io::Result<Version> {
        let sealed = self.keyring.seal_file(name, bytes).map_err(fault)?;
        self.backend.put_beside(name, sealed, over.0).map(Version).map_err(fault)
    }
}

fn fault(error: BackendError) -> io::Error {
    let kind = match &error {
        BackendError::Moved => io::ErrorKind::ResourceBusy,
        BackendError::NoSpace => io::ErrorKind::StorageFull,
        BackendError::Sealed { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
