//! A node's configuration from a file, for labs and hosts without a controller.
//!
//! The file holds what the controller would send: `entries`, each a `key` and a `value`, in the
//! form of proto3 JSON or the same in YAML. Unknown fields are errors.

use std::{fs, io, path::PathBuf};

use isocast_api::agent::{Configuration, ConfigurationError, Entry};
use serde::Deserialize;
use thiserror::Error;

/// Largest file that is read.
const BYTES_MAX: u64 = 16 << 20;

/// Why a file is not a configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigFileError {
    /// Entries that contradict one another.
    #[error("{path}")]
    Entries {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ConfigurationError,
    },
    /// Not readable, or too large.
    #[error("{path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// Not of the expected form.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    entries: Vec<Entry>,
}

/// Reads a configuration file.
///
/// # Errors
/// A file that cannot be read, is larger than 16 MiB, or is not a configuration.
pub fn load(path: &std::path::Path) -> Result<Configuration, ConfigFileError> {
    let path = path.to_owned();
    let text = match fs::metadata(&path) {
        Ok(meta) if meta.len() > BYTES_MAX => Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => fs::read_to_string(&path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(source) => return Err(ConfigFileError::Read { path, source }),
    };
    let file: File = match serde_saphyr::from_str(&text) {
        Ok(file) => file,
        Err(error) => return Err(ConfigFileError::Syntax { path, message: error.to_string() }),
    };
    Configuration::from_entries(file.entries)
        .map_err(|source| ConfigFileError::Entries { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Result<Configuration, ConfigFileError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        load(file.path())
    }

    #[test]
    fn yaml_is_read() {
        let text = "
entries:
- key: node
  value:
    node: { name: edge-1, datacenter: ams, roles: [ROLE_EDGE], asn: 65010 }
- key: source/10.0.0.1
  value: { source: { address: 10.0.0.1 } }
";
        assert_eq!(loaded(text).unwrap().len(), 2);
    }

    #[test]
    fn an_unknown_field_is_named() {
        let text = "entries: [{ key: node, value: { node: { nmae: edge-1 } } }]";

        let refused = loaded(text).unwrap_err().to_string();

        assert!(refused.contains("nmae"), "{refused}");
    }
}
