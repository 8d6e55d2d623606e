//! The channel, controller side: what nodes shall run goes down, what is so comes up.
//!
//! Owns enrolment, the agents' connections, and what they said last. Decides nothing about what a
//! node shall run: that is compiled from the store's objects by pure functions. Must never be
//! needed by a node that is already running.

pub mod aggregate;
mod announcers;
mod bucket;
pub mod compile;
mod connection;
mod due;
mod enroll;
mod first_status;
mod key_metrics;
mod keys;
mod limits;
mod metrics;
mod nodes;
mod relay;
mod removals;
mod reported;
mod reporter;
mod reset;
mod rotation;
mod rotations;
mod secret;
mod server;
mod session;
mod source;
mod store_source;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;

pub use self::{
    first_status::FirstStatus,
    keys::KeyError,
    metrics::Metrics,
    nodes::{Link, Nodes, Progress, Report},
    relay::{Relay, RelayError},
    reported::RoutingReporter,
    reporter::Reporter,
    server::{Fleet, FleetError, Options},
    session::Compiled,
    source::{Desired, Source},
    store_source::StoreSource,
    tls::TlsError,
    tokens::{Issued, NodeRef, RedeemError, Tokens, TokensError},
};
