//! [`Reseal`]: seals Secrets anew that are sealed with a key which is no longer the active one.
//!
//! Each is written again as it is, in a commit of its own: whenever the controller stops, some are done
//! and the rest are found at the next start. How far it has come is in the ConfigMap
//! `isocast-system/secret-sealing` and in metrics; which former keys nothing needs any more, too.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, stream};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::SYSTEM_NAMESPACE;
use crate::{
    authz::{Authorized, Authorizer, Identity, Verb, WriteVerb, verb},
    error::{ApiError, Reason},
    limits,
    store::{
        BackendError, Expect, Key, Needs, Object, Persistence, Range, Resource, Revision, Store,
        Write,
    },
};

/// Seals Secrets anew.
#[derive(Debug)]
pub struct Reseal {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

/// How far it has come.
#[derive(Debug, Default)]
pub struct Metrics {
    waiting: Gauge,
    resealed: Counter,
}

/// What is known of the past.
#[derive(Debug, Default)]
struct Past {
    needs: Needs,
    /// What was looked through.
    until: Revision,
}

const IDENTITY: Identity = Identity::Component { name: "reseal" };
const AGENT: &str = "isocast-reseal";
/// Name of the ConfigMap.
const STATUS: &str = "secret-sealing";

impl Metrics {
    /// Lists the figures in `registry`.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        registry.register(
            "isocast_controller_secrets_under_former_keys",
            "Secrets sealed with a key that is no longer the active one",
            self.waiting.clone(),
        );
        registry.register(
            "isocast_controller_secrets_resealed",
            "Secrets that were sealed anew",
            self.resealed.clone(),
        );
    }
}

impl Reseal {
    /// The Secrets of `store`.
    #[must_use]
    pub fn new(store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    /// Works until the store closes.
    pub async fn run(self) {
        let Some((active, former)) = self.store.sealing_keys() else { return };
        let mut past = Past::default();
        while self.store.is_alive() {
            if let Err(error) = self.round(&active, &former, &mut past).await {
                tracing::warn!(%error, "secrets cannot be sealed anew");
            }
            sleep(limits::RESEAL_LOOK).await;
        }
    }

    async fn round(
        &self,
        active: &str,
        former: &[String],
        past: &mut Past,
    ) -> Result<(), ApiError> {
        if former.is_empty() {
            return self.tell(active, &[], 0, &Needs::new(), Revision(0)).await;
        }
        let stale = self.stale(active).await?;
        if !stale.is_empty() {
            tracing::info!(secrets = stale.len(), key = active, "sealing anew");
        }
        let mut left = self.waiting(stale.len());
        self.tell(active, former, left, &past.needs, Revision(0)).await?;
        for some in stale.chunks(limits::RESEAL_AT_ONCE) {
            let written = stream::iter(some.to_vec()).map(|object| self.reseal(object));
            let written = written.buffer_unordered(limits::RESEAL_AT_ONCE);
            let done = written.filter(|done| std::future::ready(*done)).count().await;
            left = self.waiting(left.saturating_sub(done));
            sleep(limits::RESEAL_EVERY).await;
        }
        // Also what was written above.
        let floor = self.look_back(past).await?;
        self.tell(active, former, left, &past.needs, floor).await
    }

    fn waiting(&self, secrets: usize) -> usize {
        self.metrics.waiting.set(i64::try_from(secrets).unwrap_or(i64::MAX));
        secrets
    }

    /// The Secrets that are sealed with another key than the active one, or not at all.
    async fn stale(&self, active: &str) -> Result<Vec<Object>, ApiError> {
        let (store, active) = (Arc::clone(&self.store), active.to_owned());
        blocking(move || {
            let proof = everything()?;
            let secrets = Range::Resource(Resource::new("secrets", ""));
            let mut stale = Vec::new();
            for object in store.view(&proof).range(&secrets) {
                let key = store.sealed_with(&proof, object).map_err(unreadable)?;
                if key.as_deref() != Some(&*active) {
                    stale.push(object.clone());
                }
            }
            Ok(stale)
        })
        .await
    }

    /// Learns what the log needs since it was last looked at; gives where it begins.
    async fn look_back(&self, past: &mut Past) -> Result<Revision, ApiError> {
        loop {
            let store = Arc::clone(&self.store);
            let (from, mut needs) = (past.until, std::mem::take(&mut past.needs));
            let found = blocking(move || {
                let next = store.needs(&everything()?, from, limits::RESEAL_SCAN, &mut needs);
                Ok((next.map_err(unreadable)?, needs))
            });
            let found = found.await.inspect_err(|_error| *past = Past::default())?;
            let ((next, is_over), needs) = found;
            *past = Past { needs, until: next };
            if is_over {
                return self.store.floor().map_err(unreadable);
            }
        }
    }

    /// Writes a Secret as it is; whether that was done.
    async fn reseal(&self, object: Object) -> bool {
        let value = Value::clone(&object.value());
        let written = self.write::<verb::Update>(&object.key, Expect::At(object.revision), value);
        match written.await {
            Ok(()) => {
                self.metrics.resealed.inc();
                true
            }
            // Whoever was faster wrote it with the active key.
            Err(error) if matches!(error.reason(), Reason::Conflict | Reason::NotFound) => true,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(key = %object.key, error, "a secret stays under its former key");
                false
            }
        }
    }

    /// Says how far it is, if that is not what it says already.
    async fn tell(
        &self,
        active: &str,
        former: &[String],
        left: usize,
        needs: &Needs,
        floor: Revision,
    ) -> Result<(), ApiError> {
        let key = Key::new(Resource::new("configmaps", ""), Some(SYSTEM_NAMESPACE), STATUS);
        let proof = Authorizer.authorize::<verb::Get, _>(&IDENTITY, key.clone())?;
        let known = self.store.get(&proof);
        if known.is_none() && former.is_empty() {
            return Ok(());
        }
        let data = report(active, former, left, needs, floor);
        let (expect, mut value) = match &known {
            Some(object) => (Expect::At(object.revision), Value::clone(&object.value())),
            None => (Expect::Absent, new_status()),
        };
        if value.get("data") == Some(&data) {
            return Ok(());
        }
        if let Some(fields) = value.as_object_mut() {
            fields.insert("data".to_owned(), data);
        }
        let written = match expect {
            Expect::Absent => self.write::<verb::Create>(&key, expect, value).await,
            Expect::At(_) => self.write::<verb::Update>(&key, expect, value).await,
        };
        match written {
            // The next round says it.
            Err(error) if matches!(error.reason(), Reason::Conflict | Reason::AlreadyExists) => {
                Ok(())
            }
            written => written,
        }
    }

    async fn write<V: Verb + WriteVerb>(
        &self,
        key: &Key,
        expect: Expect,
        value: Value,
    ) -> Result<(), ApiError>
    where
        Authorized<V, Key>: Send + Sync,
    {
        let proof = Authorizer.authorize::<V, Key>(&IDENTITY, key.clone())?;
        let write = Write {
            expect,
            value: Some(value),
            subresource: None,
            agent: AGENT.into(),
            persistence: Persistence::Durable,
        };
        self.store.write(&proof, write).await.map(drop)
    }
}

/// What is said, in the words of a ConfigMap.
fn report(active: &str, former: &[String], left: usize, needs: &Needs, floor: Revision) -> Value {
    // Not known before the past was looked through.
    let is_known = floor > Revision(0) && left == 0;
    let is_needed = |name: &String| needs.get(name).is_some_and(|until| *until >= floor);
    let (needed, unneeded): (BTreeSet<&String>, BTreeSet<&String>) =
        former.iter().partition(|name| !is_known || is_needed(name));
    let words = |names: &BTreeSet<&String>| {
        names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let until = needed.iter().filter_map(|name| needs.get(*name)).max().filter(|_| is_known);
    let mut data = json!({
        "active": active,
        "waiting": left.to_string(),
        "needed": words(&needed),
        "unneeded": words(&unneeded),
    });
    if let (Some(fields), Some(until)) = (data.as_object_mut(), until) {
        fields.insert("neededUntilRevision".to_owned(), json!(until.next().to_string()));
    }
    data
}

fn new_status() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": STATUS,
            "namespace": SYSTEM_NAMESPACE,
            "uid": Uuid::new_v4().to_string(),
            "creationTimestamp": jiff::Timestamp::now().round(jiff::Unit::Second)
                .unwrap_or_default().to_string(),
        },
    })
}

fn everything() -> Result<Authorized<verb::List, Range>, ApiError> {
    Authorizer.authorize::<verb::List, _>(&IDENTITY, Range::Everything)
}

fn unreadable(error: BackendError) -> ApiError {
    ApiError::new(Reason::ServiceUnavailable, error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_panic| ApiError::internal("looking at secrets failed"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_needed_while_secrets_wait_and_while_the_log_reaches_back_to_it() {
        let former = ["1".to_owned(), "2".to_owned()];
        let needs = Needs::from([("1".to_owned(), Revision(7)), ("2".to_owned(), Revision(90))]);
        let said = |left, floor| report("3", &former, left, &needs, Revision(floor));

        assert_eq!(said(4, 50)["needed"], "1 2");
        assert_eq!(said(0, 0)["needed"], "1 2");
        let some = said(0, 8);
        assert_eq!((&some["needed"], &some["unneeded"]), (&json!("2"), &json!("1")));
        assert_eq!(some["neededUntilRevision"], "91");
        let none = said(0, 91);
        assert_eq!((&none["needed"], &none["unneeded"]), (&json!(""), &json!("1 2")));
        assert_eq!(none.get("neededUntilRevision"), None);
    }
}
