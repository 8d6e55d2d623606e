//! [`LastKnownGood`]: the configuration that this node last ran, kept on disk.
//!
//! Two slots, written in turn: a write touches only the slot that is not the newest, so whatever
//! happens to it, the newest whole configuration stays readable. Each slot carries a sequence
//! number and a BLAKE3 checksum over everything before it. Only configurations that the agent
//! acknowledged come here; nothing here ever expires.

use std::sync::Arc;

use isocast_api::agent::{
    CONFIGURATION_BYTES_MAX, Configuration, LastKnownGood as Content, Snapshot,
};
use prost::Message;
use thiserror::Error;
use tracing::warn;

use super::state_dir::{StateDir, StateDirError};
use crate::model::Refusals;

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
    /// The configuration itself, as it was sent.
    pub configuration: Configuration,
    /// What was refused of it.
    pub refusals: Refusals,
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
        refusals: &Refusals,
    ) -> Result<(), StateDirError> {
        let next = self.newest.map_or(Newest { slot: 0, sequence: 1 }, |newest| Newest {
            slot: 1 - newest.slot,
            sequence: newest.sequence.saturating_add(1),
        });
        let [first, second] = SLOTS;
        let name = if next.slot == 0 { first } else { second };
        let Snapshot { revision, digest, entries } = configuration.snapshot(revision);
        let refused = refusals.errors.clone();
        let kept = refusals.kept.entries().cloned().collect();
        let content = Content { revision, digest, entries, refused, kept };
        self.dir.replace(name, &encode(next.sequence, &content))?;
        self.newest = Some(next);
        Ok(())
    }
}

/// ```text
/// magic (8) | sequence (8, little endian) | LastKnownGood (protobuf) | BLAKE3 of all before (32)
/// ```
fn encode(sequence: u64, message: &Content) -> Vec<u8> {
    let mut content = MAGIC.to_vec();
    content.extend(sequence.to_le_bytes());
    content.extend(message.encode_to_vec());
    let checksum = blake3::hash(&content);
    content.extend(checksum.as_bytes());
    content
}

fn decode(content: &[u8]) -> Result<(u64, Stored), SlotError> {
    let (covered, checksum) =
        content.split_last_chunk::<{ blake3::OUT_LEN }>().ok_or(SlotError::Format)?;
    let (magic, rest) = covered.split_first_chunk::<8>().ok_or(SlotError::Format)?;
    let (sequence, message) = rest.split_first_chunk::<8>().ok_or(SlotError::Format)?;
    if magic != MAGIC {
        return Err(SlotError::Format);
    }
    if blake3::hash(covered) != *checksum {
        return Err(SlotError::Checksum);
    }
    let fault = |error: &dyn std::error::Error| SlotError::Content(error.to_string());
    let Content { revision, digest, entries, refused, kept } =
        Content::decode(message).map_err(|error| fault(&error))?;
    let snapshot = Snapshot { revision, digest, entries };
    let configuration = Configuration::from_snapshot(snapshot).map_err(|error| fault(&error))?;
    let kept = Configuration::from_entries(kept).map_err(|error| fault(&error))?;
    let refusals = Refusals { errors: refused, kept };
    Ok((u64::from_le_bytes(*sequence), Stored { revision, configuration, refusals }))
}

const SLOTS: [&str; 2] = ["last-known-good.0", "last-known-good.1"];

const MAGIC: &[u8; 8] = b"isolkg1\n";

/// A configuration, and as much again of former versions and refusals.
const SLOT_BYTES_MAX: u64 = 2 * CONFIGURATION_BYTES_MAX as u64 + 4096;

#[cfg(test)]
mod tests {
    use std::fs;

    use isocast_api::agent::{EncapSource, Entry, EntryError, entry::Value};
    use proptest::prelude::*;

    use super::*;

    fn configuration(address: &str) -> Configuration {
        let source = EncapSource { address: address.into(), node: String::new() };
        let entry = Entry { key: format!("source/{address}"), value: Some(Value::Source(source)) };
        Configuration::from_entries([entry]).unwrap()
    }

    fn stored(revision: u64, address: &str) -> Stored {
        let refusals = Refusals::default();
        Stored { revision, configuration: configuration(address), refusals }
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
            lkg.store(1, &configuration("192.0.2.1"), &Refusals::default()).unwrap();
            lkg.store(2, &configuration("192.0.2.2"), &Refusals::default()).unwrap();
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
    fn what_was_refused_is_found_again() {
        let disk = Disk::with_two_generations();
        let error = EntryError { key: "source/x".into(), ..EntryError::default() };
        let refusals = Refusals { errors: vec![error], kept: configuration("192.0.2.7") };

        let (mut lkg, _) = disk.open();
        lkg.store(3, &configuration("192.0.2.3"), &refusals).unwrap();
        drop(lkg);

        assert_eq!(disk.open().1, Some(Stored { refusals, ..stored(3, "192.0.2.3") }));
    }

    #[test]
    fn a_slot_of_a_version_that_refused_nothing_by_itself_is_read() {
        let configuration = configuration("192.0.2.1");
        let mut slot = encode(4, &Content::default());
        slot.truncate(16);
        slot.extend(configuration.snapshot(1).encode_to_vec());
        slot.extend(blake3::hash(&slot).as_bytes());

        assert_eq!(decode(&slot), Ok((4, stored(1, "192.0.2.1"))));
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
        lkg.store(3, &configuration("192.0.2.3"), &Refusals::default()).unwrap();

        assert_eq!(fs::read(disk.slot(0)).unwrap(), before);
        drop(lkg);
        assert_eq!(disk.open().1, Some(stored(3, "192.0.2.3")));
    }

    #[test]
    fn a_restored_controller_with_lower_revisions_is_still_the_newest() {
        let disk = Disk::with_two_generations();
        let (mut lkg, _) = disk.open();

        lkg.store(1, &configuration("192.0.2.9"), &Refusals::default()).unwrap();

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
