//! What the lab put on the machine, written down before it is put there.
//!
//! One file per lab, so `down` finds everything again, in another process and after a crash.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A lab's record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Name of the lab.
    pub name: String,
    /// Its topology file.
    pub topology: PathBuf,
    /// Whether agents read files instead of asking a controller.
    pub is_static: bool,
    /// Every network namespace it has, or is about to make.
    pub namespaces: Vec<String>,
    /// Folders outside its own that it has, or is about to make.
    pub folders: Vec<PathBuf>,
}

/// A record that cannot be read or written.
#[derive(Debug, Error)]
#[error("lab record {path}")]
pub struct StateError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl State {
    /// Folder of a lab: its record, configuration files, logs.
    #[must_use]
    pub fn folder(name: &str) -> PathBuf {
        Path::new(RUN_FOLDER).join(name)
    }

    /// Names of the labs that have a record.
    #[must_use]
    pub fn all() -> Vec<String> {
        let entries = std::fs::read_dir(RUN_FOLDER).into_iter().flatten().flatten();
        let with_record = entries.filter(|entry| entry.path().join(RECORD).exists());
        let mut names: Vec<_> =
            with_record.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Reads a lab's record; `None` if there is no such lab.
    ///
    /// # Errors
    /// The record is there and cannot be read.
    pub fn load(name: &str) -> Result<Option<Self>, StateError> {
        let path = Self::folder(name).join(RECORD);
        let refuse = |source| StateError { path: path.clone(), source };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refuse(error)),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| refuse(error.into()))
    }

    /// Writes the record; readers see the old one or the new one.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self) -> Result<(), StateError> {
        let folder = Self::folder(&self.name);
        let path = folder.join(RECORD);
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| serde_json::to_vec_pretty(self).map_err(Into::into))
            .and_then(|text| std::fs::write(folder.join(RECORD_NEW), text))
            .and_then(|()| std::fs::rename(folder.join(RECORD_NEW), &path));
        written.map_err(|source| StateError { path, source })
    }

    /// Forgets the lab: removes its folder.
    ///
    /// # Errors
    /// The folder cannot be removed.
    pub fn remove(&self) -> Result<(), StateError> {
        let path = Self::folder(&self.name);
        std::fs::remove_dir_all(&path).map_err(|source| StateError { path, source })
    }
}

const RUN_FOLDER: &str = "/run/isocast-lab";
const RECORD: &str = "lab.json";
const RECORD_NEW: &str = "lab.json.new";
