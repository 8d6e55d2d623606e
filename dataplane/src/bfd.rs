//! BFD sessions that the XDP program answers by itself: puts exchanges into the kernel, and reads
//! when their peers were last heard.
//!
//! A handle of its own on the pinned maps, because it is used on another thread and at another
//! pace than the tables. Entries outlive this process, as the program does: that is their point.
//! What should be in them is decided elsewhere.

mod entry;

use std::{io, net::IpAddr, path::Path, time::Duration};

use aya::maps::{HashMap, Map, MapData, MapError};
use isocast_dataplane_common::bfd::{PACKET_WORDS, SESSIONS, Seen};

use crate::{
    bpf::{BfdSeenValue, BfdSessionValue},
    maps::{BFD_SEEN, BFD_SESSIONS, MapFailure, failed},
    pins,
};

/// Bytes of a control packet.
pub const PACKET_BYTES: usize = PACKET_WORDS * 4;

/// Exchanges that the kernel holds at most.
pub const REFLECTIONS_MAX: usize = SESSIONS;

/// One exchange: what the peer sends, and what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reflection {
    /// The peer.
    pub peer: IpAddr,
    /// Our end, of the same family.
    pub local: IpAddr,
    /// Index of the interface the peer is heard on.
    pub interface: u32,
    /// UDP source port of the answers.
    pub source_port: u16,
    /// The peer's control packet.
    pub expected: [u8; PACKET_BYTES],
    /// Ours.
    pub answer: [u8; PACKET_BYTES],
    /// Packets that follow each other sooner are not answered.
    pub gap: Duration,
}

/// What the program saw of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When a packet was last answered, by the kernel's monotonic clock.
    pub at: Duration,
    /// How many were.
    pub answered: u64,
}

/// The sessions in the kernel, by our discriminator.
#[derive(Debug)]
pub struct Reflector {
    sessions: HashMap<MapData, u32, BfdSessionValue>,
    seen: HashMap<MapData, u32, BfdSeenValue>,
}

impl Reflector {
    /// Opens the maps of the data plane that was opened with this `pin_dir`.
    ///
    /// # Errors
    /// When there is none, or none with this version's layout.
    pub fn open(pin_dir: &Path) -> Result<Self, MapFailure> {
        let dir = pins::bfd_dir(pin_dir);
        Ok(Self { sessions: open(&dir, BFD_SESSIONS)?, seen: open(&dir, BFD_SEEN)? })
    }

    /// Has the program answer an exchange from now on, in place of the session's former one.
    ///
    /// # Errors
    /// When the kernel refuses: there is no room.
    pub fn put(&mut self, reflection: &Reflection) -> Result<(), MapFailure> {
        let key = entry::key(reflection);
        let value = entry::compose(reflection);
        if self.seen(key)?.is_none() {
            self.seen.insert(key, BfdSeenValue(Seen::default()), 0).map_err(failed(BFD_SEEN))?;
        }
        self.sessions.insert(key, BfdSessionValue(value), 0).map_err(failed(BFD_SESSIONS))
    }

    /// Has the program answer a session no longer.
    ///
    /// # Errors
    /// When the kernel refuses. That there is no such session is none.
    pub fn remove(&mut self, our_discriminator: u32) -> Result<(), MapFailure> {
        let key = our_discriminator.to_be();
        absent_is_fine(self.sessions.remove(&key)).map_err(failed(BFD_SESSIONS))?;
        absent_is_fine(self.seen.remove(&key)).map_err(failed(BFD_SEEN))
    }

    /// What the program saw of a session; nothing if it does not know it, or never answered.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn heard(&self, our_discriminator: u32) -> Result<Option<Heard>, MapFailure> {
        let seen = self.seen(our_discriminator.to_be())?;
        Ok(seen
            .filter(|seen| seen.at_ns != 0)
            .map(|seen| Heard { at: Duration::from_nanos(seen.at_ns), answered: seen.answered }))
    }

    /// All exchanges, as they are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn all(&self) -> Result<Vec<Reflection>, MapFailure> {
        let entries = self.sessions.iter().take(SESSIONS);
        let entries =
            entries.map(|entry| entry.map(|(_, BfdSessionValue(value))| entry::read(&value)));
        entries.collect::<Result<_, _>>().map_err(failed(BFD_SESSIONS))
    }

    fn seen(&self, key: u32) -> Result<Option<Seen>, MapFailure> {
        match self.seen.get(&key, 0) {
            Ok(BfdSeenValue(seen)) => Ok(Some(seen)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed(BFD_SEEN)(error)),
        }
    }
}

fn open<V: aya::Pod>(
    dir: &Path,
    name: &'static str,
) -> Result<HashMap<MapData, u32, V>, MapFailure> {
    let data = MapData::from_pin(dir.join(name)).map_err(failed(name))?;
    HashMap::try_from(Map::HashMap(data)).map_err(failed(name))
}

fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}
