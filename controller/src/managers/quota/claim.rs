//! [`Claims`]: ResourceClaims, as projections of the objects they are about.
//!
//! Nothing is stored for a claim, as for a namespace: what an object takes is in the object. Pure
//! but for the question who sees what.

use std::sync::Arc;

use isocast_api::{
    object::Spec,
    quota::{ResourceClaimSpec, ResourceRegistrationSpec},
    registry::{self, KindDescriptor, Scope, VERSION},
};
use serde_json::{Value, json};

use super::{bucket, meters::Meters, tree};
use crate::{
    authz::Sight,
    iam::Access,
    managers::{
        SYSTEM_NAMESPACE,
        lookup::{self, text},
    },
    store::{Document, Event, Glance, Key, Object, Range, Resource, View},
};

/// The claims of some time's registrations.
pub(crate) struct Claims {
    meters: Meters,
    access: Arc<Access>,
    /// What is visible of them; none: all of it.
    sight: Option<Arc<Sight>>,
}

impl Claims {
    /// The claims as of `view`, of which `sight` is shown.
    pub(crate) fn new(view: &View, access: &Arc<Access>, sight: Option<Arc<Sight>>) -> Self {
        let meters = Meters::of_registrations(view);
        Self { meters, access: Arc::clone(access), sight }
    }

    /// The visible claims of one namespace or of all that are `wanted`, `limit` at most, in order of
    /// what they are about; only those behind the object `after`. If there are more, also the object
    /// that the last one is about.
    pub(crate) fn list(
        &self,
        view: &View,
        namespace: Option<&str>,
        (after, limit): (Option<&Key>, usize),
        wanted: impl Fn(&Value) -> bool,
    ) -> (Vec<Arc<Document>>, Option<Key>) {
        let is_ahead = |it: &&Resource| after.is_none_or(|after| *it >= after.resource());
        let mut resources: Vec<&Resource> = self.meters.kinds().filter(is_ahead).collect();
        resources.sort();
        let mut claims = Vec::new();
        let mut last = None;
        for resource in resources {
            let is_spread = declared(resource).is_some_and(|it| it.scope == Scope::Namespaced);
            let range = match namespace.filter(|_| is_spread) {
                Some(namespace) => Range::Container(resource.clone(), namespace.into()),
                None => Range::Resource(resource.clone()),
            };
            let after = after.filter(|after| after.resource() == resource);
            let objects: Box<dyn Iterator<Item = &Object>> = match after {
                Some(after) => Box::new(view.range_after(&range, after)),
                None => Box::new(view.range(&range)),
            };
            for object in objects {
                let value = object.glance();
                let place = tree::place_of(&object.key, &value);
                if namespace.is_some_and(|namespace| namespace != place) {
                    continue;
                }
                let claim = self.of(&value).filter(|claim| {
                    let claim = claim.value();
                    self.shows(&claim) && wanted(&claim)
                });
                let Some(claim) = claim else { continue };
                if claims.len() == limit {
                    return (claims, last);
                }
                last = Some(object.key.clone());
                claims.push(claim);
            }
        }
        (claims, None)
    }

    /// The object that the claim called `name` in a namespace is about.
    pub(crate) fn get(&self, view: &View, namespace: &str, name: &str) -> Option<Arc<Document>> {
        let source = self.meters.kinds().find_map(|resource| {
            let rest = name.strip_prefix(resource.as_str())?.strip_prefix('.')?;
            let is_spread = declared(resource)?.scope == Scope::Namespaced;
            Some(Key::new(resource.clone(), Some(namespace).filter(|_| is_spread), rest))
        })?;
        let object = view.get(&source)?;
        let value = object.value();
        let is_its = tree::place_of(&object.key, &value) == namespace;
        is_its.then(|| Arc::clone(&object.document))
    }

    /// Whether somebody claims what is at `key`.
    pub(crate) fn covers(&self, key: &Key) -> bool {
        self.meters.counts(key.resource())
    }

    /// Whether a claim is visible.
    pub(crate) fn shows(&self, claim: &Value) -> bool {
        let Some(sight) = &self.sight else { return true };
        let key = Key::new(
            lookup::resource::<ResourceClaimSpec>(),
            text(claim, "/metadata/namespace"),
            text(claim, "/metadata/name").unwrap_or_default(),
        );
        sight.sees(&key)
    }

    /// Whether an event changes what is counted: these claims are no longer all there are.
    pub(crate) fn end_with(event: &Event) -> bool {
        let spec = |value: &Value| value.get("spec").cloned();
        event.key.resource().is_of::<ResourceRegistrationSpec>()
            && (event.operation == crate::store::Operation::Delete
                || event.old_value().and_then(|old| spec(&old)) != spec(&event.value()))
    }

    /// What an object claims.
    pub(crate) fn of(&self, object: &Value) -> Option<Arc<Document>> {
        let kind = kind_of(object)?;
        let resource = Resource::new(kind.plural, kind.group);
        let name = text(object, "/metadata/name")?;
        let namespace = text(object, "/metadata/namespace");
        let key = Key::new(resource.clone(), namespace, name);
        let place = tree::place_of(&key, object);
        let taken: Vec<_> = self
            .meters
            .of(&resource, object)
            .filter_map(|(id, amount)| Some((&*self.meters.get(id)?.resource_type, amount)))
            .collect();
        if taken.is_empty() {
            return None;
        }
        let requests: Vec<Value> = taken
            .iter()
            .map(|(resource_type, amount)| json!({"resourceType": resource_type, "amount": amount}))
            .collect();
        let allocations: Vec<Value> = taken
            .iter()
            .map(|(resource_type, amount)| {
                json!({
                    "resourceType": resource_type, "status": "Granted", "allocatedAmount": amount,
                })
            })
            .collect();
        let uid = text(object, "/metadata/uid").unwrap_or_default();
        let created = text(object, "/metadata/creationTimestamp");
        let mut resource_ref = json!({
            "apiGroup": kind.group, "kind": kind.kind, "name": name, "uid": uid,
        });
        if let (Some(namespace), Some(fields)) = (namespace, resource_ref.as_object_mut()) {
            fields.insert("namespace".into(), json!(namespace));
        }
        let claim = json!({
            "apiVersion": format!("{}/{VERSION}", isocast_api::quota::GROUP),
            "kind": ResourceClaimSpec::KIND.kind,
            "metadata": {
                "name": format!("{resource}.{name}"),
                "namespace": place,
                "uid": bucket::uid(ResourceClaimSpec::KIND.plural, uid),
                "resourceVersion": text(object, "/metadata/resourceVersion"),
                "generation": 1,
                "creationTimestamp": created,
            },
            "spec": {
                "consumerRef": self.consumer(place),
                "resourceRef": resource_ref,
                "requests": requests,
            },
            "status": {
                "conditions": [{
                    "type": "Granted", "status": "True", "reason": "Granted", "message": "",
                    "observedGeneration": 1, "lastTransitionTime": created,
                }],
                "allocations": allocations,
            },
        });
        Some(Arc::new(claim.into()))
    }

    fn consumer(&self, place: &str) -> Value {
        let kinds = tree::containers();
        let kind = kinds.iter().find(|kind| self.access.has_container(kind.plural(), place));
        bucket::consumer(place, kind.and_then(tree::kind_of))
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").field("sight", &self.sight).finish_non_exhaustive()
    }
}

/// What one who rehearses a write hears of its use, as far as they may see the limits.
pub(crate) fn foresee(
    view: &View,
    key: &Key,
    new: &Value,
    may_see: impl Fn(&Key) -> bool,
) -> Vec<String> {
    let meters = Meters::of_registrations(view);
    let mut warnings = Vec::new();
    let old = view.get(key).map(Object::value);
    let mut place = Some(tree::place_of(key, new).to_owned());
    let taken: Vec<_> = meters.of(key.resource(), new).collect();
    for _ in 0..tree::CHAIN_MAX {
        let Some(container) = place else { break };
        for (id, amount) in &taken {
            let Some(one) = meters.get(*id) else { continue };
            let had = old.as_ref().map_or(0, |old| {
                let mut had = meters.of(key.resource(), old);
                had.find(|(other, _)| other == id).map_or(0, |(_, amount)| amount)
            });
            let bucket = bucket::key(&container, &one.registration);
            let Some(bucket) = view.get(&bucket).filter(|bucket| may_see(&bucket.key)) else {
                continue;
            };
            let bucket = bucket.value();
            let figure = |pointer| bucket.pointer(pointer).and_then(Value::as_u64);
            let (Some(limit), Some(allocated)) =
                (figure("/status/limit"), figure("/status/allocated"))
            else {
                continue;
            };
            let after = allocated.saturating_sub(had).saturating_add(*amount);
            warnings.push(format!(
                "would use {}: {after} of {limit} in {container:?}",
                one.resource_type
            ));
        }
        place = (container != SYSTEM_NAMESPACE)
            .then(|| {
                tree::parent_in(
                    &|key| view.get(key).map(|it| Glance::Shared(it.value())),
                    &container,
                )
            })
            .map(|above| above.unwrap_or_else(|| SYSTEM_NAMESPACE.to_owned()));
    }
    warnings
}

/// The declared kind of an object.
fn kind_of(object: &Value) -> Option<&'static KindDescriptor> {
    // The core group has no name.
    let (group, _) = text(object, "/apiVersion")?.split_once('/').unwrap_or_default();
    super::meters::kind_of(group, text(object, "/kind")?)
}

fn declared(resource: &Resource) -> Option<&'static KindDescriptor> {
    let mut kinds = registry::kinds().iter();
    kinds.find(|kind| resource.is(kind.plural, kind.group))
}
