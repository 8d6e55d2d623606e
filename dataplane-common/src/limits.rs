//! How much of everything there may be.
//!
//! Kernel maps have fixed sizes. What is referenced by number (rings, targets, services) is
//! written beside what is in force and freed one generation later, so each pool holds twice what
//! may live.

/// Rings in force.
pub const MAX_RINGS: usize = 1024;
/// Encapsulation targets in force: backends, and the nodes that this one accepts packets from.
pub const MAX_TARGETS: usize = 2048;
/// Services with counters.
pub const MAX_SERVICES: usize = 1024;
/// Entries of the directory: listeners, addresses, sources, accepted destinations, probes.
pub const MAX_DIRECTORY_ENTRIES: usize = 8192;
/// Bytes of a service's or backend's identity.
pub const MAX_NAME_LEN: usize = 124;

/// Packet-too-big messages of one CPU, a second.
pub const TOO_BIG_PER_SECOND: u64 = 1000;
/// How many of them may follow each other at once.
pub const TOO_BIG_BURST: u64 = 100;

/// Ring numbers.
pub const RING_POOL: usize = 2 * MAX_RINGS;
/// Target numbers, the reserved ones included.
pub const TARGET_POOL: usize = 2 * MAX_TARGETS;
/// Service numbers.
pub const SERVICE_POOL: usize = 2 * MAX_SERVICES;
/// Places of one generation's directory: twice the entries, so that a place is always found.
pub const DIRECTORY_PLACES: usize = 2 * MAX_DIRECTORY_ENTRIES;
/// Displacements of one generation's directory: on average two entries share one.
pub const DIRECTORY_BUCKETS: usize = MAX_DIRECTORY_ENTRIES / 2;

const _: () = assert!(TARGET_POOL <= crate::NO_BACKEND as usize);
const _: () = assert!(DIRECTORY_PLACES.is_power_of_two() && DIRECTORY_BUCKETS.is_power_of_two());
