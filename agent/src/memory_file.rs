//! [`MemoryFile`]: the steering memory on disk, so that an agent that is killed goes on where it
//! was.
//!
//! It is a cache of beliefs, not of configuration: losing it costs one round of health checks,
//! so a damaged file is reported and ignored. Written whole and renamed; never believed unless
//! the data plane it speaks of was found running (see [`crate::runtime`]).

use std::{fs, io, path::PathBuf};

use crate::steer::Memory;

/// Largest file that is read back; far above what any node's services need.
const BYTES_MAX: u64 = 64 << 20;

/// Where the memory is kept; nowhere without a state directory.
#[derive(Debug, Default)]
pub struct MemoryFile {
    path: Option<PathBuf>,
    written: Option<Memory>,
}

// === impl MemoryFile ===

impl MemoryFile {
    /// The file in state directory `dir`.
    #[must_use]
    pub fn in_dir(dir: Option<PathBuf>) -> Self {
        Self { path: dir.map(|dir| dir.join("steering.json")), written: None }
    }

    /// What the predecessor left; empty if nothing usable is there.
    #[must_use]
    pub fn load(&self) -> Memory {
        let Some(path) = &self.path else { return Memory::default() };
        match self.read() {
            Ok(memory) => memory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "steering memory is unusable");
                Memory::default()
            }
        }
    }

    /// Keeps `memory` if it differs from what was kept last.
    pub fn store(&mut self, memory: &Memory) {
        if self.written.as_ref() == Some(memory) {
            return;
        }
        match self.write(memory) {
            Ok(()) => self.written = Some(memory.clone()),
            Err(error) => tracing::warn!(%error, "steering memory cannot be written"),
        }
    }

    fn read(&self) -> io::Result<Memory> {
        let Some(path) = &self.path else { return Ok(Memory::default()) };
        if fs::metadata(path)?.len() > BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    fn write(&self, memory: &Memory) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let draft = path.with_extension("json.new");
        fs::write(&draft, serde_json::to_vec(memory)?)?;
        fs::rename(&draft, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steer::ServiceMemory;

    #[test]
    fn what_was_stored_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::default();
        memory.services.insert("s".into(), ServiceMemory::default());

        MemoryFile::in_dir(Some(dir.path().into())).store(&memory);

        assert_eq!(MemoryFile::in_dir(Some(dir.path().into())).load(), memory);
    }

    #[test]
    fn a_damaged_file_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("steering.json"), b"{\"services\":").unwrap();

        assert_eq!(MemoryFile::in_dir(Some(dir.path().into())).load(), Memory::default());
    }
}
