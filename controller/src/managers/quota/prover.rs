//! [`Prover`]: counts everything anew now and then, and says whether that is what was counted.
//!
//! What it finds is a condition of each registration and a metric; it corrects nothing, for a count
//! that is wrong is a defect to be found.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isocast_api::{
    meta::{Change, ConditionStatus, Finding, set_condition},
    quota::{ResourceRegistration, ResourceRegistrationSpec},
};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::{Quota, index::Index};
use crate::{
    authz::{Authorizer, Identity, verb},
    error::{ApiError, Reason},
    managers::lookup,
    store::{Expect, Key, Object, Persistence, Range, Store, View, Write},
};

/// Counts what there is.
#[derive(Debug)]
pub struct Prover {
    store: Arc<Store>,
    quota: Arc<Quota>,
}

/// What is counted in each container, by registration.
pub(super) type Totals = BTreeMap<(Arc<str>, Arc<str>), (i128, i64)>;

const IDENTITY: Identity = Identity::Component { name: "quota" };
/// Time from one proof to the next.
const PROVE_EVERY: Duration = Duration::from_secs(600);
/// Times that it looks for a moment in which the counts and the state are of one revision; most often
/// the first is one.
const LOOKS: usize = 1024;
/// Differences that are logged.
const DIFFERENCES_SHOWN: usize = 8;

impl Prover {
    /// Proves what `quota` counts of what is in `store`.
    #[must_use]
    pub fn new(store: Arc<Store>, quota: Arc<Quota>) -> Self {
        Self { store, quota }
    }

    /// Proves at once and every now and then, for as long as it is polled.
    pub async fn run(self) {
        let mut tick = interval(PROVE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "the quota's counts cannot be proved");
            }
        }
    }

    async fn round(&self) -> Result<(), ApiError> {
        let proof = Authorizer.authorize::<verb::List, _>(&IDENTITY, Range::Everything)?;
        let mut moments = (0..LOOKS).map(|_| self.store.view(&proof));
        let found = moments.find_map(|view| Some((self.quota.totals_at(&view)?, view)));
        let Some((counted, view)) = found else {
            return Err(ApiError::new(Reason::Timeout, "the platform changes too fast"));
        };
        let state = view.clone();
        let there = tokio::task::spawn_blocking(move || Index::of(&state).totals()).await;
        let there = there.map_err(|_panic| ApiError::internal("counting failed"))?;
        let wrong = differences(&counted, &there);
        if wrong.is_empty() {
            self.quota.metrics.proofs.inc();
        } else {
            self.quota.metrics.failures.inc();
        }
        for (container, registration) in wrong.iter().take(DIFFERENCES_SHOWN) {
            let key = (Arc::clone(container), Arc::clone(registration));
            let (counted, there) = (counted.get(&key), there.get(&key));
            tracing::error!(%container, %registration, ?counted, ?there, "a count is wrong");
        }
        for object in view.range(&lookup::all::<ResourceRegistrationSpec>()) {
            let its =
                |(_, registration): &&(Arc<str>, Arc<str>)| **registration == *object.key.name();
            self.tell(object, wrong.iter().filter(its).count(), &view).await?;
        }
        Ok(())
    }

    /// Writes what was found into a registration, if it says something else.
    async fn tell(&self, object: &Object, wrong: usize, view: &View) -> Result<(), ApiError> {
        let mut registration: ResourceRegistration = lookup::decode(&object.value())?;
        let finding = finding(wrong);
        let conditions = &mut registration.status.conditions;
        let generation = registration.metadata.generation;
        if set_condition(conditions, finding, generation, Timestamp::now()) == Change::Unchanged {
            return Ok(());
        }
        let mut value = serde_json::Value::clone(&object.value());
        lookup::set_status::<ResourceRegistrationSpec>(&mut value, &registration.status)?;
        let proof = Authorizer.authorize::<verb::Update, Key>(&IDENTITY, object.key.clone())?;
        let write = Write {
            expect: Expect::At(object.revision),
            value: Some(value),
            subresource: Some("status"),
            agent: "isocast-quota".into(),
            persistence: Persistence::Durable,
        };
        match self.store.write(&proof, write).await {
            // Changed or deleted since; the next proof tells it.
            Err(error) if matches!(error.reason(), Reason::Conflict | Reason::NotFound) => {
                tracing::debug!(revision = %view.revision(), "a registration changed meanwhile");
                Ok(())
            }
            written => written.map(drop),
        }
    }
}

fn finding(wrong: usize) -> Finding {
    match wrong {
        0 => Finding::new("Accurate", ConditionStatus::True, "Proved", ""),
        several => {
            let message = format!("the counts of {several} containers are not what there is");
            Finding::new("Accurate", ConditionStatus::False, "CountsDiffer", message)
        }
    }
}

/// Where two counts are not the same.
fn differences(counted: &Totals, there: &Totals) -> Vec<(Arc<str>, Arc<str>)> {
    let is_other = |key: &&(Arc<str>, Arc<str>)| counted.get(*key) != there.get(*key);
    let is_new = |key: &&(Arc<str>, Arc<str>)| !counted.contains_key(*key);
    let mut keys: Vec<_> = counted.keys().filter(is_other).cloned().collect();
    keys.extend(there.keys().filter(is_new).cloned());
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_too_much_too_little_or_not_at_all_is_found() {
        let totals = |all: &[(&str, i128)]| -> Totals {
            all.iter().map(|(name, sum)| (((*name).into(), "x".into()), (*sum, 1))).collect()
        };
        let counted = totals(&[("a", 1), ("b", 2), ("c", 3)]);
        let there = totals(&[("a", 1), ("b", 1), ("d", 4)]);

        let wrong: Vec<_> = differences(&counted, &there).into_iter().map(|it| it.0).collect();

        assert_eq!(wrong, ["b", "c", "d"].map(Arc::from));
        assert_eq!(differences(&counted, &counted), []);
        assert_eq!(finding(0).status, ConditionStatus::True);
        assert!(finding(3).message.contains("3 containers"));
    }
}
