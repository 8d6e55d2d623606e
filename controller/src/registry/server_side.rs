//! Server-side apply as a request: makes the object or merges into it, and says who is in the way.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Kind, Registry, Subresource, WriteOptions, Written,
    apply::{self, Conflict, Conflicts},
    decode::{self, Nulls},
    fields::{Difference, FieldSet},
    managed::{ManagedFields, Manager, Operation},
    metadata,
    successor::{check_version, manager, outcome, seconds, strip_status},
    write::check_name,
};
use crate::{
    authz::{Authorized, verb},
    error::{ApiError, Cause, Reason},
    store::{Expect, Key},
};

/// Where kubectl records what it applied from the client's side.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manager that kubectl is by default when it applies from the server's side.
const KUBECTL: &str = "kubectl";

impl Registry {
    pub(super) async fn apply(
        &self,
        proof: &Authorized<verb::Patch, Key>,
        kind: &Kind,
        subresource: Subresource,
        body: &[u8],
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let key = proof.resource();
        if options.manager.is_empty() {
            return Err(ApiError::bad_request("fieldManager is required for apply"));
        }
        let decoded = decode::yaml(body, Nulls::Drop)?;
        let (mut applied, warnings) = kind.prune(decoded, options.validation)?;
        kind.check_type(&mut applied)?;
        let (kind, applied) = (kind.stored(), kind.to_stored(applied));
        check_name(&applied, key)?;
        if applied.pointer("/metadata/managedFields").is_some() {
            return Err(ApiError::bad_request("metadata.managedFields must not be set"));
        }
        if let Some(path) = kind.structure().duplicate(&applied) {
            return Err(ApiError::bad_request(format!(
                "failed to create typed patch object: {path}: duplicate entries"
            )));
        }
        let manager = manager(Operation::Apply, subresource, options);
        let merge = |live: &Value| {
            let merged = |conflicts| {
                let mut managed = ManagedFields::of(live);
                apply::apply(live, &applied, kind.structure(), &manager, &mut managed, conflicts)
                    .map(|merged| (merged, managed))
            };
            if options.force {
                return merged(Conflicts::Force);
            }
            merged(Conflicts::Refuse).or_else(|conflicts| {
                let others = kind.beyond_client_side_apply(live, &manager, conflicts);
                if others.is_empty() { merged(Conflicts::Force) } else { Err(others) }
            })
        };
        let merge = |live: &Value| merge(live).map_err(|conflicts| conflict(key, &conflicts));
        if self.store.current(proof).is_none() {
            if subresource == Subresource::Status {
                return Err(ApiError::not_found(key));
            }
            let uid = metadata::text(&applied, "uid");
            if !uid.is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object \
                     was found"
                );
                return Err(ApiError::conflict(key, &why));
            }
            self.authorize_creation::<verb::Create>(proof.actor(), key.clone(), &applied)?;
            let mut object = applied.clone();
            strip_status(&mut object);
            let now = Timestamp::now();
            kind.begin(&mut object, key, &seconds(now))?;
            kind.complete(&mut object);
            kind.check(key, &object, None)?;
            let (_, managed) = merge(&object)?;
            managed.write(&mut object, kind.api_version(), &seconds(now));
            match self.put(proof, Expect::Absent, object, subresource, options).await {
                Ok(made) => {
                    return Ok(Written { object: made.document, created: true, warnings });
                }
                Err(taken) if taken.reason() == Reason::AlreadyExists => {}
                Err(other) => return Err(other),
            }
        }
        let object = self
            .modify(proof, subresource, options, |old| {
                let (mut new, managed) = merge(&old.value())?;
                let base = metadata::text(&applied, "resourceVersion");
                check_version(key, base, old)?;
                kind.follow(key, old, &mut new, subresource)?;
                managed.write(&mut new, kind.api_version(), &seconds(Timestamp::now()));
                Ok(outcome(old, new))
            })
            .await?;
        Ok(Written { object, created: false, warnings })
    }
}

impl Kind {
    /// The conflicts that a manager has not with itself alone: kubectl recorded what it applied from
    /// the client's side in an annotation, and now applies from the server's. What is not as it was
    /// recorded has been changed by somebody else since.
    fn beyond_client_side_apply(
        &self,
        live: &Value,
        manager: &Manager,
        mut conflicts: Vec<Conflict>,
    ) -> Vec<Conflict> {
        let annotations = live.pointer("/metadata/annotations");
        let recorded = annotations
            .and_then(|annotations| annotations.get(LAST_APPLIED)?.as_str())
            .and_then(|text| decode::json(text.as_bytes(), Nulls::Drop).ok());
        let Some(recorded) = recorded.filter(|_| manager.name == KUBECTL) else {
            return conflicts;
        };
        let structure = self.structure();
        let mut stated = FieldSet::of(&recorded.value, structure);
        let since = Difference::between(&recorded.value, live, structure);
        stated.subtract(&since.changed);
        stated.subtract(&since.removed);
        for conflict in &mut conflicts {
            conflict.fields.subtract(&stated);
        }
        conflicts.retain(|conflict| !conflict.fields.is_empty());
        conflicts
    }
}

fn conflict(key: &Key, conflicts: &[Conflict]) -> ApiError {
    let mut causes = Vec::new();
    for Conflict { manager, fields } in conflicts {
        let using = match manager.operation {
            Operation::Apply => "",
            Operation::Update => " using an update",
        };
        for path in fields.paths() {
            causes.push(Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {:?}{using}", manager.name),
                field: path,
            });
        }
    }
    let list: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.message, cause.field)).collect();
    let count = match causes.len() {
        1 => "1 conflict".to_owned(),
        several => format!("{several} conflicts"),
    };
    let message = format!("Apply failed with {count}: {}", list.join(", "));
    ApiError::about(Reason::Conflict, key, message).with_causes(causes)
}
