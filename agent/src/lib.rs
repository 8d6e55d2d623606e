//! The Isocast agent: one binary per host, in the roles edge and backend.
//!
//! ```text
//!  sync ──configuration──► model ──► steer ◄── health ◄── probes
//!   ▲                                  │
//!   └──────status── runtime ──┬── tables ──► dataplane
//!                             └── leases ──► bgp
//! ```
//!
//! [`runtime`] is the only room that knows all others. [`model`], [`steer`] and the cores below
//! [`health`] and [`bgp`] decide; everything else moves bytes.

pub mod bgp;
pub mod health;
pub mod model;
pub mod steer;
pub mod sync;
