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

pub mod admin;
pub mod bfd;
pub mod bgp;
pub mod commands;
pub mod config_file;
pub mod health;
pub mod inside;
pub mod memory_file;
pub mod model;
pub mod options;
mod priority;
pub mod runtime;
pub mod safety;
pub mod speaker;
pub mod status;
pub mod steer;
pub mod sync;
pub mod telemetry;
