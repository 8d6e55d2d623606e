//! Secret keys of 32 bytes in the data folder, made at first start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::files;

/// Length of a key.
pub(super) const KEY_BYTES: usize = 32;

/// Why a key cannot be loaded or made.
#[derive(Debug, Error)]
#[error("cannot use the key {}", path.display())]
pub struct KeyError {
    path: PathBuf,
    source: io::Error,
}

/// What went wrong with the key at `path`.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> KeyError {
    move |source| KeyError { path: path.to_owned(), source }
}

/// The key at `path`; made there, mode 0600, if there is none.
pub(super) fn load_or_make(path: &Path) -> Result<[u8; KEY_BYTES], KeyError> {
    let fault = at(path);
    match fs::read(path) {
        Ok(content) => <[u8; KEY_BYTES]>::try_from(content.as_slice())
            .map_err(|_length| fault(io::ErrorKind::InvalidData.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key: [u8; KEY_BYTES] = rand::random();
            files::replace_secret(path, &key).map_err(fault)?;
            Ok(key)
        }
        Err(error) => Err(fault(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_a_torn_one_is_refused_rather_than_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");

        let made = load_or_make(&path).unwrap();

        assert_eq!(load_or_make(&path).unwrap(), made);
        fs::write(&path, b"torn").unwrap();
        assert!(load_or_make(&path).is_err());
    }
}
