//! [`Feed`]: where configurations come from and verdicts go to: the controller, or a file.

use std::sync::Arc;

use isocast_api::agent::{Configuration, EntryError, NodeStatus};
use tokio::sync::watch;

use crate::{
    model::Refusals,
    sync::{FleetView, Received, Source, SyncHandle},
};

/// A source of configurations.
#[derive(Debug)]
pub struct Feed {
    /// What there is at the start. It is never skipped: what was in force decides what a refused
    /// change falls back to.
    first: Option<Arc<Received>>,
    config: watch::Receiver<Option<Arc<Received>>>,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    /// The controller, by way of the last-known-good store.
    Channel(SyncHandle),
    /// One configuration for ever; the sender keeps the channel open.
    File(#[expect(dead_code, reason = "held, not used")] watch::Sender<Option<Arc<Received>>>),
}

// === impl Feed ===

impl Feed {
    /// The controller's configurations.
    #[must_use]
    pub fn channel(handle: SyncHandle) -> Self {
        let mut config = handle.config.clone();
        let first = config.borrow_and_update().clone();
        Self { first, config, origin: Origin::Channel(handle) }
    }

    /// A feed of one configuration.
    #[must_use]
    pub fn file(configuration: Configuration) -> Self {
        let received = Received::new(1, configuration, Source::LastKnownGood);
        let first = Some(Arc::new(received));
        let (sender, config) = watch::channel(first.clone());
        Self { first, config, origin: Origin::File(sender) }
    }

    /// Waits for a configuration that was not returned before; for ever once there can be none.
    /// Cancellation-safe.
    pub async fn next(&mut self) -> Arc<Received> {
        if let Some(first) = self.first.take() {
            return first;
        }
        while self.config.changed().await.is_ok() {
            if let Some(received) = self.config.borrow_and_update().clone() {
                return received;
            }
        }
        std::future::pending().await
    }

    /// Who else announces this node's services, where somebody can say.
    #[must_use]
    pub fn fleet(&self) -> Option<watch::Receiver<FleetView>> {
        match &self.origin {
            Origin::Channel(handle) => Some(handle.fleet.clone()),
            Origin::File(_) => None,
        }
    }

    /// The configuration of `revision` is in force but for `refusals`.
    pub fn ack(&self, revision: u64, refusals: Arc<Refusals>) {
        for EntryError { key, name, reason, message } in &refusals.errors {
            tracing::warn!(revision, key, name, reason, message, "entry refused");
        }
        if let Origin::Channel(handle) = &self.origin {
            handle.ack_in_part(revision, refusals);
        }
    }

    /// The configuration of `revision` cannot be taken.
    pub fn nack(&self, revision: u64, errors: Vec<EntryError>) {
        let reason = errors.first().map_or_else(String::new, |error| error.message.clone());
        tracing::error!(revision, reason, errors = errors.len(), "configuration refused");
        if let Origin::Channel(handle) = &self.origin {
            handle.nack(revision, reason, errors);
        }
    }

    /// The whole truth about this node.
    pub fn set_status(&self, status: NodeStatus) {
        if let Origin::Channel(handle) = &self.origin {
            handle.set_status(status);
        }
    }
}
