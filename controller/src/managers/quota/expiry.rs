//! [`GrantExpiry`]: says of grants that have ended that they have.
//!
//! Decisions go by the clock and need nobody to say so. Buckets are what the log makes of them: they
//! follow once the grant's condition `Active` is written, a second later at most.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::Quota;
use crate::{
    authz::{Authorizer, Identity, verb},
    error::{ApiError, Reason},
    limits,
    store::{Expect, Key, Persistence, Store, Write},
};

/// Ends grants.
#[derive(Debug)]
pub struct GrantExpiry {
    store: Arc<Store>,
    quota: Arc<Quota>,
}

const IDENTITY: Identity = Identity::Component { name: "grant-expiry" };

impl GrantExpiry {
    /// The grants that `quota` knows of.
    #[must_use]
    pub fn new(store: Arc<Store>, quota: Arc<Quota>) -> Self {
        Self { store, quota }
    }

    /// Looks until the store closes.
    pub async fn run(self) {
        let mut tick = interval(limits::GRANT_LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.store.is_alive() {
            tick.tick().await;
            for grant in self.quota.ended(Timestamp::now()) {
                if let Err(error) = self.end(&grant).await {
                    tracing::warn!(%grant, %error, "that a grant has ended is not said");
                }
            }
        }
    }

    /// Writes a grant as it is: what it is at this time is found out where it is judged.
    async fn end(&self, grant: &Key) -> Result<(), ApiError> {
        let proof = Authorizer.authorize::<verb::Update, Key>(&IDENTITY, grant.clone())?;
        let Some(object) = self.store.current(&proof) else { return Ok(()) };
        let write = Write {
            expect: Expect::At(object.revision),
            value: Some(Value::clone(&object.value())),
            subresource: Some("status"),
            agent: "isocast-grant-expiry".into(),
            persistence: Persistence::Durable,
        };
        match self.store.write(&proof, write).await {
            // Changed or deleted since: there is a next look.
            Err(error) if matches!(error.reason(), Reason::Conflict | Reason::NotFound) => Ok(()),
            written => written.map(drop),
        }
    }
}
