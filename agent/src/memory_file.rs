//! [`MemoryFile`]: the steering memory on disk, so that an agent that is killed goes on where it
//! was.
//!
//! It is a cache of beliefs, not of configuration: losing it costs one round of health checks,
//! so a damaged file is reported and ignored. Written whole and renamed; never believed unless
//! the data plane it speaks of was found running (see [`crate::runtime`]).
//!
//! A thread of its own writes: a disk may take its time, and no decision waits for it. What is
//! overtaken before it was begun is not written at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use parking_lot::{Condvar, Mutex};

use crate::steer::Memory;

/// Largest file that is read back; far above what any node's services need.
const BYTES_MAX: u64 = 64 << 20;

/// Where the memory is kept; nowhere without a state directory. Dropping it waits until what was
/// stored last is on disk.
#[derive(Debug, Default)]
pub struct MemoryFile {
    path: Option<PathBuf>,
    stored: Option<Arc<Memory>>,
    writer: Option<Writer>,
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What is to be written next.
#[derive(Debug, Default)]
struct Desk {
    order: Mutex<Order>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Order {
    next: Option<Arc<Memory>>,
    /// The last attempt failed: what is stored is not on disk.
    has_failed: bool,
    is_closed: bool,
}

// === impl MemoryFile ===

impl MemoryFile {
    /// The file in state directory `dir`.
    #[must_use]
    pub fn in_dir(dir: Option<PathBuf>) -> Self {
        Self { path: dir.map(|dir| dir.join("steering.json")), stored: None, writer: None }
    }

    /// What the predecessor left; empty if nothing usable is there.
    #[must_use]
    pub fn load(&self) -> Memory {
        let Some(path) = &self.path else { return Memory::default() };
        match read(path) {
            Ok(memory) => memory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "steering memory is unusable");
                Memory::default()
            }
        }
    }

    /// Keeps `memory` if it differs from what was kept last. Does not wait for the disk.
    pub fn store(&mut self, memory: &Memory) {
        let Some(path) = &self.path else { return };
        let has_failed = self.writer.as_ref().is_some_and(|writer| writer.desk.has_failed());
        if self.stored.as_deref() == Some(memory) && !has_failed {
            return;
        }
        if self.writer.is_none() {
            self.writer = Writer::start(path.clone());
        }
        let Some(writer) = &self.writer else { return };
        let memory = Arc::new(memory.clone());
        writer.desk.put(Arc::clone(&memory));
        self.stored = Some(memory);
    }
}

// === impl Writer ===

impl Writer {
    fn start(path: PathBuf) -> Option<Self> {
        let desk = Arc::new(Desk::default());
        let orders = Arc::clone(&desk);
        let write = move || {
            while let Some(memory) = orders.take() {
                let outcome = write(&path, &memory);
                if let Err(error) = &outcome {
                    tracing::warn!(%error, "steering memory cannot be written");
                }
                orders.order.lock().has_failed = outcome.is_err();
            }
        };
        match std::thread::Builder::new().name("memory-file".to_owned()).spawn(write) {
            Ok(thread) => Some(Self { desk, thread: Some(thread) }),
            Err(error) => {
                tracing::warn!(%error, "steering memory has no writer");
                None
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.desk.order.lock().is_closed = true;
        self.desk.changed.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer of the steering memory panicked");
        }
    }
}

// === impl Desk ===

impl Desk {
    fn has_failed(&self) -> bool {
        self.order.lock().has_failed
    }

    fn put(&self, memory: Arc<Memory>) {
        self.order.lock().next = Some(memory);
        self.changed.notify_one();
    }

    /// What is to be written; none after the last.
    fn take(&self) -> Option<Arc<Memory>> {
        let mut order = self.order.lock();
        self.changed.wait_while(&mut order, |order| order.next.is_none() && !order.is_closed);
        order.next.take()
    }
}

fn read(path: &Path) -> io::Result<Memory> {
    if fs::metadata(path)?.len() > BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    fs::write(&draft, serde_json::to_vec(memory)?)?;
    fs::rename(&draft, path)
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

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut file = MemoryFile::in_dir(Some(state.clone()));
        file.store(&Memory::default());
        let desk = Arc::clone(&file.writer.as_ref().unwrap().desk);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !desk.has_failed() {
            assert!(std::time::Instant::now() < deadline, "never failed");
            std::thread::yield_now();
        }
        fs::create_dir(&state).unwrap();

        file.store(&Memory::default());
        drop(file);

        assert!(state.join("steering.json").exists());
    }
}
