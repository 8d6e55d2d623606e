//! [`Trials`]: puts the former terms of a policy back when nobody confirms the new ones in time.
//!
//! Everything it knows is in the store, so it goes on where an earlier controller ended: a trial
//! whose time ran out meanwhile is over at once.

use std::{sync::Arc, time::Duration};

use isocast_api::network::{BgpPolicy, BgpPolicySpec};
use jiff::Timestamp;
use tokio::time::sleep;

use super::{super::lookup, trial};
use crate::{
    authz::{Authorizer, Identity, verb},
    error::Reason,
    store::{Expect, Key, Object, Persistence, Range, Store, View, Write},
};

/// Follows the store and the clock.
#[derive(Debug)]
pub struct Trials {
    store: Arc<Store>,
}

/// Who puts terms back.
pub(super) const IDENTITY: Identity = Identity::Component { name: "policy-trials" };

/// The clock may be set while this waits for it, and a write may fail.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A trial that is over, and the policy after it.
#[derive(Debug)]
struct Over {
    stored: Object,
    after: BgpPolicy,
}

impl Trials {
    /// The trials in `store`.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Follows until the store closes.
    pub async fn run(self) {
        let mut revisions = self.store.revisions();
        loop {
            revisions.mark_unchanged();
            let Some(next) = self.round().await else { return };
            let wait = next
                .map(|deadline| deadline.duration_since(Timestamp::now()))
                .map(|left| Duration::try_from(left).unwrap_or_default());
            tokio::select! {
                changed = revisions.changed() => if changed.is_err() { return },
                () = sleep(wait.map_or(LOOK_AGAIN, |wait| wait.min(LOOK_AGAIN))) => {}
            }
        }
    }

    /// Ends what is over; the deadline of the next one. None: the store is closed to this.
    async fn round(&self) -> Option<Option<Timestamp>> {
        let range = lookup::all::<BgpPolicySpec>();
        let proof = Authorizer.authorize::<verb::List, Range>(&IDENTITY, range).ok()?;
        let (over, mut next) = due(&self.store.view(&proof), Timestamp::now());
        for over in over {
            if !self.put_back(over).await {
                let again = Timestamp::now().checked_add(LOOK_AGAIN).ok();
                next = next.into_iter().chain(again).min();
            }
        }
        Some(next)
    }

    /// Whether it is done, or has become somebody else's business.
    async fn put_back(&self, Over { stored, after }: Over) -> bool {
        let key = stored.key.clone();
        let Ok(proof) = Authorizer.authorize::<verb::Update, Key>(&IDENTITY, key.clone()) else {
            return false;
        };
        let value = match serde_json::to_value(&after) {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(%key, %error, "the former terms cannot be put back");
                return false;
            }
        };
        let write = Write {
            expect: Expect::At(stored.revision),
            value: Some(value),
            subresource: None,
            agent: "isocast-policy-trials".into(),
            persistence: Persistence::Durable,
        };
        match self.store.write(&proof, write).await {
            Ok(_) => {
                tracing::warn!(%key, "nobody confirmed the change: the former terms are back");
                true
            }
            // Confirmed, changed or deleted in this very moment; the next round sees it.
            Err(error) if matches!(error.reason(), Reason::Conflict | Reason::NotFound) => true,
            Err(error) => {
                tracing::error!(%key, %error, "the former terms cannot be put back");
                false
            }
        }
    }
}

/// Trials that are over at `now`, and when the next one will be.
fn due(view: &View, now: Timestamp) -> (Vec<Over>, Option<Timestamp>) {
    let mut over = Vec::new();
    let mut next: Option<Timestamp> = None;
    for stored in view.range(&lookup::all::<BgpPolicySpec>()) {
        let Ok(policy) = BgpPolicy::decode(&stored.value()) else { continue };
        let Some(pending) = &policy.status.pending_rollback else { continue };
        let deadline = pending.deadline.timestamp();
        if deadline > now {
            next = next.into_iter().chain([deadline]).min();
        } else if let Some(after) = trial::put_back(policy, now) {
            over.push(Over { stored: stored.clone(), after });
        }
    }
    (over, next)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::managers::testing::State;

    fn policy(term: &str, generation: i64) -> Value {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BGPPolicy",
            "metadata": {"name": "p", "generation": generation},
            "spec": {"terms": [{"name": term, "then": "Accept"}], "confirmWithin": "1m"},
        })
    }

    /// A change is proposed at 100 s and on trial until 160 s.
    fn on_trial() -> State {
        let state = State::default().with(policy("a", 1)).at(100);
        let change = state.update(policy("b", 2)).unwrap();
        state.after(change)
    }

    #[test]
    fn a_trial_is_over_at_its_deadline_and_not_before() {
        let view = on_trial().view();
        let at = |second| Timestamp::from_second(second).unwrap();

        let (over, next) = due(&view, at(159));
        assert_eq!((over.len(), next), (0, Some(at(160))));

        let (over, next) = due(&view, at(160));
        assert_eq!(next, None);
        assert_eq!(over[0].after.spec.terms[0].name, "a");
        assert_eq!(over[0].after.metadata.generation, 3);
    }

    #[test]
    fn what_is_confirmed_is_no_trial() {
        let state = on_trial();
        let mut confirmation = state.get(&lookup::key::<BgpPolicySpec>("p")).unwrap();
        confirmation["metadata"]["annotations"] = json!({"isocast.dev/confirm": "2"});

        let change = state.update(confirmation).unwrap();

        let annotations = &change.new.as_ref().unwrap()["metadata"]["annotations"];
        assert_eq!(*annotations, json!({}));
        let view = state.after(change).view();
        let (over, next) = due(&view, Timestamp::from_second(1_000).unwrap());
        assert_eq!((over.len(), next), (0, None));
    }
}
