//! [`LastKnownGood`]: the configuration that this node last ran, kept on disk.
//!
//! Two slots, written in turn: a write touches only the slot that is not the newest, so whatever
//! happens to it, the newest whole configuration stays readable. Each slot carries a sequence
//! number and a BLAKE3 checksum over everything before it. Only configurations that the agent
//! acknowledged come here; nothing here ever expires.

use std::sync::Arc;

use isocast_api::agent::{CONFIGURATION_BYTES_MAX, Configuration, Snapshot};
use prost::Message;
use thiserror::Error;
use tracing::warn;

use super::state_dir::{StateDir, StateDirError};

/// The two slots on disk.
#[derive(Debug)]
pub struct LastKnownGood {
    dir: Arc<StateDir>,
    newest: Option<Newest>,
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The store's revision at which the configuration was compiled.
    pub revision: u64,
    /// The configuration itself.
    pub configuration: Configuration,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    slot: usize,
    sequence: u64,
}

/// Why a slot is not used.
#[derive(Debug, Error, PartialEq, Eq)]
enum SlotError {
    #[error("checksum mismatch")]
    Checksum,
    #[error("not a configuration: {0}")]
    Content(String),
    #[error("not a slot of this format")]
    Format,
}

impl LastKnownGood {
    /// Opens the slots and reads the newest whole one.
    ///
    /// A slot that is torn or unreadable is passed over with a warning: an agent that has lost its
    /// memory must still start and ask the controller.
    #[must_use]
    pub fn open(dir: Arc<StateDir>) -> (Self, Option<Stored>) {
        let mut found: Option<(Newest, Stored)> = None;
        for (slot, name) in SLOTS.into_iter().enumerate() {
            let content = match dir.read(name, SLOT_BYTES_MAX) {
                Ok(Some(content)) => content,
                Ok(None) => continue,
                Err(error) => {
                    warn!(slot = name, %error, "last-known-good slot is unreadable");
                    continue;
                }
            };
            match decode(&content) {
                Ok((sequence, stored)) => {
                    if found.as_ref().is_none_or(|(newest, _)| newest.sequence < sequence) {
                        found = Some((Newest { slot, sequence }, stored));
                    }
                }
                Err(error) => warn!(slot = name, %error, "last-known-good slot is not usable"),
            }
        }
        let (newest, stored) = found.unzip();
        (Self { dir, newest }, stored)
    }

    /// Puts `configuration` on disk as the newest; blocks until it is durable.
    ///
    /// # Errors
    /// The slot cannot be written; the newest one is as it was.
    pub fn store(
        &mut self,
        revision: u64,
        configuration: &Configuration,
    ) -> Result<(), StateDirError> {
        let next = self.newest.map_or(Newest { slot: 0, sequence: 1 }, |newest| Newest {
            slot: 1 - newest.slot,
            sequence: newest.sequence.saturating_add(1),
        });
        let [first, second] = SLOTS;
        let name = if next.slot == 0 { first } else { second };
        self.dir.replace(name, &encode(next.sequence, &configuration.snapshot(revision)))?;
        self.newest = Some(next);
        Ok(())
    }
}

/// ```text
/// magic (8) | sequence (8, little endian) | Snapshot (protobuf) | BLAKE3 of all before (32)
/// ```
fn encode(sequence: u64, snapshot: &Snapshot) -> Vec<u8> {
    let mut content = MAGIC.to_vec();
    content.extend(sequence.to_le_bytes());
    content.extend(snapshot.encode_to_vec());
    let checksum = blake3::hash(&content);
    content.extend(checksum.as_bytes());
    content
}

fn decode(content: &[u8]) -> Result<(u64, Stored), SlotError> {
    let (covered, checksum) =
        content.split_last_chunk::<{ blake3::OUT_LEN }>().ok_or(SlotError::Format)?;
    let (magic, rest) = covered.split_first_chunk::<8>().ok_or(SlotError::Format)?;
    let (sequence, snapshot) = rest.split_first_chunk::<8>().ok_or(SlotError::Format)?;
    if magic != MAGIC {
        return Err(SlotError::Format);
    }
    if blake3::hash(covered) != *checksum {
        return Err(SlotError::Checksum);
    }
    let snapshot =
        Snapshot::decode(snapshot).map_err(|error| SlotError::Content(error.to_string()))?;
    let revision = snapshot.revision;
    let configuration = Configuration::from_snapshot(snapshot)
        .map_err(|error| SlotError::Content(error.to_string()))?;
    Ok((u64::from_le_bytes(*sequence), Stored { revision, configuration }))
}

const SLOTS: [&str; 2] = ["last-known-good.0", "last-known-good.1"];

const MAGIC: &[u8; 8] = b"isolkg1\n";

const SLOT_BYTES_MAX: u64 = CONFIGURATION_BYTES_MAX as u64 + 4096;

#[cfg(test)]
mod tests {
    use std::fs;

    use isocast_api::agent::{EncapSource, Entry, entry::Value};
    use proptest::prelude::*;

    use super::*;

    fn configuration(address: &str) -> Configuration {
        let source = EncapSource { address: address.into(), node: String::new() };
        let entry = Entry { key: format!("source/{address}"), value: Some(Value::Source(source)) };
        Configuration::from_entries([entry]).unwrap()
    }

    fn stored(revision: u64, address: &str) -> Stored {
        Stored { revision, configuration: configuration(address) }
    }

    struct Disk {
        folder: tempfile::TempDir,
    }

    impl Disk {
        /// A disk on which revisions 1 and then 2 were stored.
        fn with_two_generations() -> Self {
            let disk = Self { folder: tempfile::tempdir().unwrap() };
            let (mut lkg, empty) = disk.open();
            assert_eq!(empty, None);
            lkg.store(1, &configuration("192.0.2.1")).unwrap();
            lkg.store(2, &configuration("192.0.2.2")).unwrap();
            disk
        }

        fn open(&self) -> (LastKnownGood, Option<Stored>) {
            LastKnownGood::open(Arc::new(StateDir::open(self.folder.path()).unwrap()))
        }

        fn slot(&self, index: usize) -> std::path::PathBuf {
            self.folder.path().join(SLOTS[index])
        }
    }

    #[test]
    fn the_newest_generation_is_found_again() {
        let disk = Disk::with_two_generations();

        assert_eq!(disk.open().1, Some(stored(2, "192.0.2.2")));
    }

    #[test]
    fn a_newer_generation_torn_at_any_byte_falls_back_to_the_older() {
        let disk = Disk::with_two_generations();
        let whole = fs::read(disk.slot(1)).unwrap();

        for length in 0..whole.len() {
            fs::write(disk.slot(1), &whole[..length]).unwrap();
            assert_eq!(disk.open().1, Some(stored(1, "192.0.2.1")), "torn at {length}");
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let disk = Disk::with_two_generations();
        let whole = fs::read(disk.slot(1)).unwrap();

        for index in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[index] ^= 0x10;
            assert!(decode(&rotten).is_err(), "flipped at {index}");
        }
    }

    #[test]
    fn a_write_after_a_torn_one_does_not_touch_the_survivor() {
        let disk = Disk::with_two_generations();
        fs::write(disk.slot(1), b"torn").unwrap();

        let (mut lkg, survivor) = disk.open();
        assert_eq!(survivor, Some(stored(1, "192.0.2.1")));
        let before = fs::read(disk.slot(0)).unwrap();
        lkg.store(3, &configuration("192.0.2.3")).unwrap();

        assert_eq!(fs::read(disk.slot(0)).unwrap(), before);
        drop(lkg);
        assert_eq!(disk.open().1, Some(stored(3, "192.0.2.3")));
    }

    #[test]
    fn a_restored_controller_with_lower_revisions_is_still_the_newest() {
        let disk = Disk::with_two_generations();
        let (mut lkg, _) = disk.open();

        lkg.store(1, &configuration("192.0.2.9")).unwrap();

        drop(lkg);
        assert_eq!(disk.open().1, Some(stored(1, "192.0.2.9")));
    }

    #[test]
    fn with_both_slots_gone_the_agent_starts_empty() {
        let disk = Disk::with_two_generations();
        fs::write(disk.slot(0), b"").unwrap();
        fs::write(disk.slot(1), vec![0; 4096]).unwrap();

        assert_eq!(disk.open().1, None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
