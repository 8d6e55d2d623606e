//! A BGP-4 speaker without sockets and without a clock.
//!
//! - [`wire`] reads and writes messages; faults carry what RFC 7606 makes of them in their type.
//! - [`fsm`] runs the session with one peer: connections, timers, negotiation, the reasons it ends.
//! - [`guard`] says which prefixes of our own may be told to anybody.
//! - [`origination`] decides which prefixes of our own are announced, and holds those that must not go.
//! - [`policy`] says which routes pass a peer's border, and how they are changed there.
//! - [`speaker`] is all of it together: many sessions around one route table.
//! - [`types`] and [`limits`] are what all share.
//!
//! Invariant: nothing here reads a clock, a socket or a random source. Callers pass `now`, bytes
//! and a seed, and carry out the actions that come back.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(clippy::arithmetic_side_effects)]

pub mod bfd;
pub mod fsm;
pub mod guard;
pub mod limits;
pub mod origination;
pub mod policy;
mod rib;
pub mod speaker;
pub mod types;
pub mod wire;
