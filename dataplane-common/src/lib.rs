//! What the kernel's programs and their host side agree on: map keys and values, limits, the flow
//! hash, the encapsulation header and the ring.
//!
//! Everything here is plain data or a pure function of its arguments, compiled from one source
//! for both sides, so that the host can compute what the kernel will do. No allocation reaches
//! the `bpf` target; the ring filler, which only the host runs, is left out there.
#![no_std]

#[cfg(not(target_arch = "bpf"))]
extern crate alloc;

pub mod answers;
pub mod bfd;
pub mod capture;
pub mod directory;
pub mod drops;
pub mod encap;
pub mod flow;
pub mod limits;
#[cfg(not(target_arch = "bpf"))]
pub mod maglev;
pub mod outcome;
pub mod pace;
pub mod policy;
pub mod siphash;
pub mod slot;
pub mod tables;
pub mod tracking;

pub use outcome::Outcome;
pub use slot::{
    CHAIN_HOPS, NO_BACKEND, NO_CHAIN, OTHER_FLOW_KEYS, RING_SLOTS_MAX, RING_SLOTS_MIN, RingPlace,
    Slot, TRACKED,
};
