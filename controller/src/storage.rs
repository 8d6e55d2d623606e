//! [`Storage`]: what keeps a platform, as the command line names it.

use std::{fs, io, path::Path, path::PathBuf, sync::Arc};

use etcd_client::{Certificate, Identity, TlsOptions};
use isocast_api::agent::CaFingerprint;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    cabinet::{Cabinet, Folder, Sheet},
    options::{StoreKind, StoreOptions},
    restore::{JOURNAL_FILE, STORE_FILE},
    store::{
        Backend, BackendError, EtcdBackend, EtcdFiles, EtcdOptions, Journaled, Keyring,
        KeyringError, Lease, RedbBackend, Sealed, StoreMetrics,
    },
};

/// The log's tables, the files beside them, and the lease of who manages where there are several.
pub(crate) struct Storage {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) cabinet: Arc<dyn Cabinet>,
    pub(crate) lease: Option<Lease>,
}

/// Why a platform's storage cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database cannot be opened.
    #[error("cannot open {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// etcd cannot be used.
    #[error("cannot use etcd at {endpoints}")]
    Etcd {
        /// Where it should be.
        endpoints: String,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// A file cannot be read.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The keys of secrets cannot be used.
    #[error("cannot use the keys of secrets in {}", path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyringError,
    },
    /// The data folder is of another platform than etcd.
    #[error(
        "{} is not of the platform in etcd: {what}. Copy pki/ and secrets.keys from the data folder of \
         another of its controllers", data.display()
    )]
    Stranger {
        /// The data folder.
        data: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// What the platform says of itself in etcd cannot be read.
    #[error("cannot use the platform's files in etcd")]
    Files(#[source] io::Error),
}

/// What tells a platform from another one.
#[derive(PartialEq, Serialize, Deserialize)]
struct Platform {
    ca: String,
}

/// Its file.
const PLATFORM: &str = "platform.json";

impl Storage {
    /// Opens it for a controller that is called `name` and whose authority is `ca`.
    pub(crate) fn open(
        options: &StoreOptions,
        data: &Path,
        ca: &CaFingerprint,
        name: &str,
        metrics: &Arc<StoreMetrics>,
    ) -> Result<Self, StorageError> {
        let path = data.join("secrets.keys");
        let keyring =
            Keyring::open(&path).map_err(|source| StorageError::Keyring { path, source })?;
        let folder = Folder::new(data);
        match options.store {
            StoreKind::Redb => {
                let path = data.join(STORE_FILE);
                let open = || {
                    let tables = RedbBackend::open(&path)?;
                    Journaled::open(tables, &data.join(JOURNAL_FILE), Arc::clone(metrics))
                };
                let backend = open().map_err(|source| StorageError::Database { path, source })?;
                let backend = Arc::new(Sealed::new(backend, keyring));
                Ok(Self { backend, cabinet: Arc::new(folder), lease: None })
            }
            StoreKind::Etcd => {
                let backend = Arc::new(connect(options)?);
                let files = EtcdFiles::new(Arc::clone(&backend), keyring.clone(), folder);
                let cabinet: Arc<dyn Cabinet> = Arc::new(files);
                let stranger = |what| StorageError::Stranger { data: data.to_owned(), what };
                introduce(&cabinet, ca, stranger)?;
                let lease = Lease::of_managers(Arc::clone(&backend), name);
                let backend = Arc::new(Sealed::new(backend, keyring));
                Ok(Self { backend, cabinet, lease: Some(lease) })
            }
        }
    }
}

/// Connects to the etcd of `options`.
pub(crate) fn connect(options: &StoreOptions) -> Result<EtcdBackend, StorageError> {
    let etcd = EtcdOptions {
        endpoints: options.etcd_endpoints.clone(),
        prefix: options.etcd_prefix.clone(),
        tls: tls(options)?,
    };
    let endpoints = options.etcd_endpoints.join(", ");
    EtcdBackend::connect(etcd).map_err(|source| StorageError::Etcd { endpoints, source })
}

fn tls(options: &StoreOptions) -> Result<Option<TlsOptions>, StorageError> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|source| StorageError::File { path: path.clone(), source })
    };
    let mut tls = TlsOptions::new();
    if let Some(authority) = &options.etcd_ca {
        tls = tls.ca_certificate(Certificate::from_pem(read(authority)?));
    }
    if let (Some(certificate), Some(key)) = (&options.etcd_cert, &options.etcd_key) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    let is_used = options.etcd_ca.is_some() || options.etcd_cert.is_some();
    Ok(is_used.then_some(tls))
}

/// Makes sure that who comes to a platform is of it; the first one says what it is.
fn introduce(
    cabinet: &Arc<dyn Cabinet>,
    ca: &CaFingerprint,
    stranger: impl Fn(&'static str) -> StorageError,
) -> Result<(), StorageError> {
    let mine = Platform { ca: ca.to_string() };
    let mut sheet = Sheet::new(cabinet, PLATFORM);
    loop {
        let found = sheet.read().map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                stranger("its secrets.keys do not open what is there")
            }
            _ => StorageError::Files(error),
        })?;
        if let Some(found) = found {
            let theirs: Platform = serde_json::from_slice(&found)
                .map_err(|error| StorageError::Files(error.into()))?;
            let is_same = theirs == mine;
            return if is_same { Ok(()) } else { Err(stranger("its pki/ca.crt is another one")) };
        }
        let text = serde_json::to_vec(&mine).map_err(|error| StorageError::Files(error.into()))?;
        match sheet.write(&text) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            written => return written.map_err(StorageError::Files),
        }
    }
}
