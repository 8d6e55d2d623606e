//! The speaker from outside: decoders against malformed input, sessions against each other on a
//! virtual clock, and properties of both.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod allocations;
mod faults;
mod lone;
mod malformed;
mod messages;
mod mutations;
mod open;
mod packing;
mod pair;
mod probe;
mod properties;
mod refresh;
mod restart;
mod session;
mod strategies;
mod vectors;
