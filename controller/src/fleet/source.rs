//! What the fleet asks of the rest of the control plane: which nodes there are, and what each one
//! shall run.
//!
//! A narrow view, so that everything that talks to agents is tested without a store.

use std::{fmt, sync::Arc};

use isocast_api::agent::Configuration;
use tokio::sync::watch;

/// Gives the newest [`Desired`] state, again and again.
pub trait Source: Send + Sync + 'static {
    /// The newest desired state; the receiver wakes up when there is a newer one.
    fn desired(&self) -> watch::Receiver<Arc<dyn Desired>>;
}

/// The desired state of every node at one revision of the store.
pub trait Desired: fmt::Debug + Send + Sync {
    /// The store's revision.
    fn revision(&self) -> u64;

    /// The uid of a node's object; none if there is no such node.
    fn node_uid(&self, node: &str) -> Option<String>;

    /// What the node shall run.
    fn compile(&self, node: &str) -> Configuration;
}
