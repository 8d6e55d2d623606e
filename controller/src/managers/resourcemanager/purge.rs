//! [`Purge`]: takes away what containers hold that somebody deleted.
//!
//! Follows the log for containers that are marked, and works at each in bounded steps until nothing
//! is left; then the mark goes, and the container with it. All that it knows is in the store, so it
//! goes on wherever it was stopped. What cannot go is named in the container's conditions, and tried
//! again.

mod plan;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use isocast_api::{
    meta::{Change, Finding, set_condition},
    object::Object as Typed,
    resourcemanager::{FolderSpec, OrganizationSpec, ProjectSpec},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::plan::{Family, Plan};
use super::{
    super::lookup,
    container::{Container, is_container, is_leaving},
    deletion::{FINALIZER, finalizers},
};
use crate::{
    authz::{Authorized, Authorizer, Identity, Verb, verb},
    error::{ApiError, Reason},
    registry::{DeleteOptions, FieldValidation, Registry, WriteOptions},
    store::{Expect, Key, Object, Operation, Persistence, Range, Revision, View, Write},
};

/// Deletes what deleted containers hold.
#[derive(Debug)]
pub struct Purge {
    registry: Arc<Registry>,
    /// Marked containers.
    leaving: BTreeSet<Key>,
}

/// Deletions between two looks at the state.
const STEP: usize = 2048;
/// Deletions at once.
const AT_ONCE: usize = 64;
/// Pauses between attempts at what cannot go.
const RETRY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(250)..=Duration::from_secs(5);

const IDENTITY: Identity = Identity::Component { name: "purge" };
const AGENT: &str = "isocast-purge";

impl Purge {
    /// A purge of the registry's objects.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, leaving: BTreeSet::new() }
    }

    /// Works until `shutdown`, or until the store closes.
    pub async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        let mut pause = *RETRY.start();
        loop {
            let Ok(position) = self.look() else { return };
            let Ok(watch) = right::<verb::Watch, _>(Range::Everything) else { return };
            let mut cursor = match self.registry.store().watch(&watch, position) {
                Ok(cursor) => cursor,
                Err(error) if error.reason() == Reason::Expired => continue,
                Err(error) => return tracing::error!(%error, "the log cannot be followed"),
            };
            loop {
                let has_moved = self.step().await;
                if has_moved {
                    pause = *RETRY.start();
                }
                let events = if self.leaving.is_empty() {
                    cursor.next().await
                } else {
                    // Whatever holds it up may change without a trace in the log.
                    let wait = if has_moved { Duration::ZERO } else { pause };
                    pause = (pause * 2).min(*RETRY.end());
                    sleep(wait).await;
                    let Some(events) = ready(cursor.next()).await else { continue };
                    events
                };
                match events {
                    Ok(events) => {
                        for event in events.iter().filter(|it| is_container(it.key.resource())) {
                            let object = Object {
                                key: event.key.clone(),
                                revision: event.revision(),
                                document: Arc::clone(&event.document),
                            };
                            if event.operation == Operation::Put && is_leaving(&object) {
                                self.leaving.insert(object.key);
                            } else {
                                self.leaving.remove(&object.key);
                            }
                        }
                    }
                    Err(error) if error.reason() == Reason::Expired => break,
                    Err(_closed) => return,
                }
            }
        }
    }

    /// Finds the containers that are marked now.
    fn look(&mut self) -> Result<Revision, ApiError> {
        let view = self.view()?;
        let containers = view.iter().filter(|object| is_container(object.key.resource()));
        self.leaving = containers.filter(|it| is_leaving(it)).map(|it| it.key.clone()).collect();
        Ok(view.revision())
    }

    fn view(&self) -> Result<View, ApiError> {
        Ok(self.registry.store().view(&right::<verb::List, _>(Range::Everything)?))
    }

    /// One step for each container; whether anything went.
    async fn step(&self) -> bool {
        if self.leaving.is_empty() {
            return false;
        }
        let Ok(view) = self.view() else { return false };
        let mut has_moved = false;
        let plans: Vec<(Object, Plan)> = {
            let family = Family::of(&view);
            let marked = self.leaving.iter().filter_map(|key| view.get(key));
            marked
                .map(|object| {
                    let plan = Plan::of(&view, &family, object.key.name(), STEP);
                    (object.clone(), plan)
                })
                .collect()
        };
        for (container, plan) in plans {
            let outcome = if plan.is_done() {
                self.finish(&container).await
            } else {
                self.take_away(&container, &plan).await
            };
            match outcome {
                Ok(moved) => has_moved |= moved,
                Err(error) if matches!(error.reason(), Reason::Conflict | Reason::NotFound) => {}
                Err(error) => tracing::warn!(key = %container.key, %error, "not purged"),
            }
        }
        has_moved
    }

    /// Deletes what the plan says; whether anything went.
    async fn take_away(&self, container: &Object, plan: &Plan) -> Result<bool, ApiError> {
        let mut gone = 0_usize;
        let mut refused = Vec::new();
        for stage in &plan.stages {
            let deletions = stage.iter().cloned().map(|key| async move {
                let outcome = self.delete(&key).await;
                (key, outcome)
            });
            let mut deletions = stream::iter(deletions).buffer_unordered(AT_ONCE);
            while let Some((key, outcome)) = deletions.next().await {
                match outcome {
                    Ok(()) => gone += 1,
                    Err(error) if error.reason() == Reason::NotFound => gone += 1,
                    Err(error) => refused.push((key, error.message().to_owned())),
                }
            }
        }
        if gone > 0 {
            tracing::info!(key = %container.key, gone, refused = refused.len(), "purging");
            // What refused may have been in use by what is gone now.
            refused.clear();
        }
        refused.sort();
        let said = self.say(&container.key, plan.findings(&refused)).await;
        // What went is progress, whether it could be said or not.
        if gone > 0 { Ok(true) } else { said.map(|()| false) }
    }

    async fn delete(&self, key: &Key) -> Result<(), ApiError> {
        let options = WriteOptions {
            manager: AGENT.to_owned(),
            persistence: Persistence::Durable,
            validation: FieldValidation::Ignore,
            force: false,
        };
        let proof = right::<verb::Delete, _>(key.clone())?;
        self.registry.delete(&proof, &DeleteOptions::default(), &options).await.map(drop)
    }

    /// Takes the mark away from a container that is empty: without other finalizers it goes.
    async fn finish(&self, container: &Object) -> Result<bool, ApiError> {
        let now = container.value();
        let others: Vec<&str> = finalizers(&now).filter(|it| *it != FINALIZER).collect();
        if !super::deletion::has_finalizer(&now) {
            return Ok(false);
        }
        let value = if others.is_empty() {
            None
        } else {
            let told = observed(container, plan::waits_itself(&others))?;
            let mut value = told.unwrap_or_else(|| Value::clone(&now));
            if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("finalizers".to_owned(), json!(others));
            }
            Some(value)
        };
        self.write(container, value, None).await?;
        tracing::info!(key = %container.key, "nothing is left of it");
        Ok(true)
    }

    /// Writes what is left into the container's status.
    async fn say(&self, key: &Key, findings: [Finding; 2]) -> Result<(), ApiError> {
        let Some(container) = self.view()?.get(key).cloned() else { return Ok(()) };
        match observed(&container, findings)? {
            Some(value) => self.write(&container, Some(value), Some("status")).await,
            None => Ok(()),
        }
    }

    async fn write(
        &self,
        container: &Object,
        value: Option<Value>,
        subresource: Option<&'static str>,
    ) -> Result<(), ApiError> {
        let proof = right::<verb::Update, _>(container.key.clone())?;
        let write = Write {
            expect: Expect::At(container.revision),
            value,
            subresource,
            agent: AGENT.to_owned(),
            persistence: Persistence::Durable,
        };
        self.registry.store().write(&proof, write).await.map(drop)
    }
}

/// The container with conditions that say so; none when they said so before.
fn observed(container: &Object, findings: [Finding; 2]) -> Result<Option<Value>, ApiError> {
    let resource = container.key.resource();
    if *resource == lookup::resource::<OrganizationSpec>() {
        with_findings::<OrganizationSpec>(container, findings)
    } else if *resource == lookup::resource::<FolderSpec>() {
        with_findings::<FolderSpec>(container, findings)
    } else {
        with_findings::<ProjectSpec>(container, findings)
    }
}

fn with_findings<S: Container>(
    container: &Object,
    findings: [Finding; 2],
) -> Result<Option<Value>, ApiError> {
    let mut object: Typed<S> = lookup::decode(&container.value())?;
    let (conditions, _) = S::observed(&mut object.status);
    let mut is_new = false;
    for finding in findings {
        let change =
            set_condition(conditions, finding, object.metadata.generation, Timestamp::now());
        is_new |= change == Change::Changed;
    }
    if !is_new {
        return Ok(None);
    }
    let mut value = Value::clone(&container.value());
    lookup::set_status::<S>(&mut value, &object.status)?;
    Ok(Some(value))
}

fn right<V: Verb, R: crate::authz::Target>(resource: R) -> Result<Authorized<V, R>, ApiError> {
    Authorizer.authorize(&IDENTITY, resource)
}

/// What a future gives without waiting, if it does.
async fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        result = future => Some(result),
        () = std::future::ready(()) => None,
    }
}
