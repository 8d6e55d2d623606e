//! [`Duties`]: what must be done once on a platform, however many controllers it has.
//!
//! Agents' configuration, deletions that follow others, events that are too old, trials of policies,
//! proofs of counts. Each begins with what the store says, so whoever has the lease begins them anew, and
//! whoever has lost it drops them; they may overlap for a moment, and the log judges their writes.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    channel::{Bound, Channel},
    gc::{self, Collector, Owners},
    managers::{EventExpiry, GrantExpiry, Prover, Purge, Quota, Reseal, ResealMetrics, Trials},
    registry::Registry,
    store::Lease,
};

/// Between attempts to serve agents.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Duties {
    pub(crate) registry: Arc<Registry>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) gc_metrics: Arc<gc::Metrics>,
    pub(crate) reseal_metrics: Arc<ResealMetrics>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) channel: Arc<Channel>,
}

impl Duties {
    /// Sees to them until `shutdown`, whenever this controller has the lease.
    pub(crate) async fn share(self, lease: Lease, shutdown: CancellationToken) {
        loop {
            let Some(term) = shutdown.run_until_cancelled(lease.held()).await else { return };
            let end = shutdown.child_token();
            let channel = Arc::clone(&self.channel);
            // It reads files, which may take a while.
            match tokio::task::spawn_blocking(move || channel.bind()).await {
                Ok(Ok(bound)) => {
                    let work = self.see_to(bound, end.clone());
                    tokio::pin!(work);
                    tokio::select! {
                        () = &mut work => {}
                        () = term.lost() => {
                            end.cancel();
                            work.await;
                        }
                    }
                }
                Ok(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "agents cannot be served; another controller may");
                }
                Err(_panic) => tracing::error!("agents cannot be served"),
            }
            term.release().await;
            if shutdown.is_cancelled() {
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Sees to them until `end`.
    pub(crate) async fn see_to(&self, bound: Bound, end: CancellationToken) {
        let store = self.registry.store();
        let mut parts = JoinSet::new();
        parts.spawn(bound.run(end.clone()));
        parts.spawn(Purge::new(Arc::clone(&self.registry)).run(end.clone()));
        let event_expiry = EventExpiry::new(Arc::clone(store)).run();
        parts.spawn(until(end.clone(), event_expiry));
        let reseal = Reseal::new(Arc::clone(store), Arc::clone(&self.reseal_metrics)).run();
        parts.spawn(until(end.clone(), reseal));
        parts.spawn(until(end.clone(), Trials::new(Arc::clone(store)).run()));
        let (registry, owners) = (Arc::clone(&self.registry), Arc::clone(&self.owners));
        let collector = Collector::new(registry, owners, Arc::clone(&self.gc_metrics));
        parts.spawn(until(end.clone(), collector.run()));
        let grants = GrantExpiry::new(Arc::clone(store), Arc::clone(&self.quota));
        parts.spawn(until(end.clone(), grants.run()));
        let prover = Prover::new(Arc::clone(store), Arc::clone(&self.quota));
        parts.spawn(until(end.clone(), prover.run()));
        while let Some(ended) = parts.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = &error as &dyn std::error::Error, "a part failed");
                end.cancel();
            }
        }
    }
}

async fn until(end: CancellationToken, work: impl Future<Output = ()>) {
    end.run_until_cancelled(work).await;
}
