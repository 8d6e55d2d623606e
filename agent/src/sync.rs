//! The controller channel, agent side.
//!
//! Owns the node's identity, its connection to the controller, and the last-known-good
//! configuration on disk. Delivers configurations and takes verdicts; never judges a configuration
//! itself. The controller may be away for ever: then this module is silent, and what was delivered
//! last stays in force.
//!
//! [`start`] gives a [`SyncHandle`] for the rest of the agent and a [`Sync`] to be run. Whoever
//! takes a configuration from the handle says [`SyncHandle::ack`] once it is in force, or
//! [`SyncHandle::nack`]; only what was acknowledged is kept on disk.

mod backoff;
mod controllers;
mod dial;
mod driver;
mod enroll;
mod error;
mod fleet;
mod handle;
mod identity;
mod link;
mod lkg;
mod metrics;
mod relay;
mod session;
mod state_dir;
mod tls;

pub use self::{
    driver::{Options, Sync, SyncError, start},
    error::LinkError,
    fleet::FleetView,
    handle::SyncHandle,
    identity::{Identity, IdentityError},
    link::LinkState,
    lkg::{LastKnownGood, Stored},
    metrics::Metrics,
    session::{Received, Source},
    state_dir::{StateDir, StateDirError},
};
