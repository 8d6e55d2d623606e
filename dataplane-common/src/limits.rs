//! How much of everything there may be.
//!
//! Kernel maps have fixed sizes. What is referenced by number (rings, targets, services) is
//! written beside what is in force and freed one generation later, so each pool holds twice what
//! may live. The pool of rings takes memory as it is used, the others from the start.

use crate::slot::{RING_SLOTS_MAX, RING_SLOTS_MIN};

/// Slots of all rings in force, in blocks of [`RING_SLOTS_MIN`]: 16 KiB each.
pub const MAX_RING_BLOCKS: usize = 16_384;
/// Encapsulation targets in force: backends, and the nodes that this one accepts packets from.
pub const MAX_TARGETS: usize = 16_384;
/// Services with counters.
pub const MAX_SERVICES: usize = 10_240;
/// Chains of further hops in force; equal ones are one.
pub const MAX_CHAINS: usize = 16_384;
/// Entries of the directory: listeners, addresses, sources, accepted destinations, probes, takers of
/// fragments, segment sizes, answers.
pub const MAX_DIRECTORY_ENTRIES: usize = 262_144;
/// Packets that one CPU passes on to further hops in a second, unless it is told otherwise; counted
/// by the kernel's tick. What a change of hands needs is far below, and what a flood of stray
/// packets could cost the backbone far above.
pub const PASS_ON_PER_SECOND: u32 = 100_000;
/// UDP flows that a backend remembers to have answered. Whoever was not heard of for longest is
/// forgotten for one more.
pub const ANSWERED_FLOWS: usize = 65_536;
/// Bytes of a service's or backend's identity.
pub const MAX_NAME_LEN: usize = 124;

/// Packet-too-big messages of one CPU, a second.
pub const TOO_BIG_PER_SECOND: u64 = 1000;
/// How many of them may follow each other at once.
pub const TOO_BIG_BURST: u64 = 100;

/// Blocks of rings.
pub const RING_BLOCK_POOL: usize = 2 * MAX_RING_BLOCKS;
/// Blocks of rings that get their memory together: 4 MiB.
pub const BLOCKS_PER_CHUNK: usize = 256;
/// Pieces that the pool of rings consists of.
pub const RING_CHUNKS: usize = RING_BLOCK_POOL / BLOCKS_PER_CHUNK;
/// Chain numbers.
pub const CHAIN_POOL: usize = 2 * MAX_CHAINS;
/// Processors that a node may have: each has a place for a chain of its own behind the others.
pub const CPUS_MAX: usize = 4096;
/// Places of targets, the reserved ones included.
pub const TARGET_POOL: usize = 2 * MAX_TARGETS;
/// Target numbers: with the bit of tracked slots, none is the number of no backend.
pub const TARGET_NUMBERS: usize = TARGET_POOL - 1;
/// Service numbers.
pub const SERVICE_POOL: usize = 2 * MAX_SERVICES;
/// Places of one generation's directory: twice the entries, so that a place is always found.
pub const DIRECTORY_PLACES: usize = 2 * MAX_DIRECTORY_ENTRIES;
/// Displacements of one generation's directory: on average two entries share one.
pub const DIRECTORY_BUCKETS: usize = MAX_DIRECTORY_ENTRIES / 2;

const _: () = assert!(CHAIN_POOL + CPUS_MAX <= crate::NO_CHAIN as usize);
const _: () = assert!(TARGET_NUMBERS < (crate::NO_BACKEND & !crate::TRACKED) as usize + 1);
const _: () = assert!(SERVICE_POOL <= u16::MAX as usize);
const _: () = assert!(2 * RING_BLOCK_POOL <= u16::MAX as usize + 1);
const _: () = assert!(BLOCKS_PER_CHUNK.is_multiple_of(RING_SLOTS_MAX / RING_SLOTS_MIN));
const _: () = assert!(DIRECTORY_PLACES.is_power_of_two() && DIRECTORY_BUCKETS.is_power_of_two());
