//! [`SyncHandle`]: the channel as the rest of the agent sees it.

use std::sync::Arc;

use isocast_api::agent::{EntryError, NodeStatus};
use tokio::sync::watch;

use super::{
    fleet::FleetView,
    link::LinkState,
    session::{Received, Verdict},
};
use crate::model::Refusals;

/// Delivers configurations, takes verdicts and status. Never blocks.
#[derive(Clone, Debug)]
pub struct SyncHandle {
    /// The configuration to put in force: the last-known-good one at first, then the controller's.
    /// None on a node that has never had one. Latest wins: what was skipped needs no verdict.
    pub config: watch::Receiver<Option<Arc<Received>>>,
    /// Who else announces this node's services, as the controller said last.
    pub fleet: watch::Receiver<FleetView>,
    /// Whether the controller is in touch.
    pub link: watch::Receiver<LinkState>,
    pub(super) verdicts: watch::Sender<Option<Verdict>>,
    pub(super) status: watch::Sender<Option<Arc<NodeStatus>>>,
}

impl SyncHandle {
    /// The delivered configuration of `revision` is in force.
    pub fn ack(&self, revision: u64) {
        self.ack_in_part(revision, Arc::default());
    }

    /// The delivered configuration of `revision` is in force but for `refusals`, whose owners are to
    /// be told.
    pub fn ack_in_part(&self, revision: u64, refusals: Arc<Refusals>) {
        self.verdicts.send_replace(Some(Verdict::Ack { revision, refusals }));
    }

    /// The delivered configuration of `revision` cannot be taken at all: `reason` says why, `errors` name
    /// the entries at fault, so that their owners can be told. What was in force still is.
    pub fn nack(&self, revision: u64, reason: impl Into<String>, errors: Vec<EntryError>) {
        let verdict = Verdict::Nack { revision, reason: reason.into(), errors };
        self.verdicts.send_replace(Some(verdict));
    }

    /// The whole truth about this node. The controller hears of it within 100 ms if it differs from
    /// what was said before.
    pub fn set_status(&self, status: NodeStatus) {
        self.status.send_if_modified(|held| {
            let is_news = held.as_deref() != Some(&status);
            if is_news {
                *held = Some(Arc::new(status));
            }
            is_news
        });
    }
}
