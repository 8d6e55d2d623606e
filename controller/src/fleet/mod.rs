//! The channel, controller side: what nodes shall run goes down, what is so comes up.
//!
//! Owns enrolment, the agents' connections, and what they said last. Decides nothing about what a
//! node shall run: that is compiled from the store's objects by pure functions. Must never be
//! needed by a node that is already running.

mod bucket;
pub mod compile;
mod connection;
mod enroll;
mod limits;
mod metrics;
mod nodes;
mod server;
mod session;
mod source;
#[cfg(test)]
mod testing;
mod tls;
mod tokens;

pub use self::{
    metrics::Metrics,
    nodes::{Link, Nodes, Progress, Report},
    server::{Fleet, FleetError, Options},
    session::Compiled,
    source::{Desired, Source},
    tls::TlsError,
    tokens::{Issued, NodeRef, RedeemError, Tokens, TokensError},
};
