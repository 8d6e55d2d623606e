//! [`ResourceManager`]: containers, their names, and what lives in them.
//!
//! Invariants: a name is one container's; every namespaced object lives in a container; a
//! container has a living parent and goes only when it is empty; a tenant's number never changes.

use std::collections::BTreeSet;

use isocast_api::{
    meta::{Condition, ConditionStatus, Finding, set_condition},
    object::{Object, Spec},
    registry::{self, Scope},
    resourcemanager::{OrganizationSpec, ProjectSpec},
};
use serde_json::Value;

use super::lookup::{self, Step, text};
use crate::{
    admission::{Admission, ProposedChange},
    error::{ApiError, Cause, Reason},
    store::{Key, Range, Resource, View},
};

/// Keeps the tree of containers in order.
#[derive(Clone, Copy, Debug)]
pub struct ResourceManager;

/// The namespace of what belongs to the whole platform; no container may have its name.
pub const SYSTEM_NAMESPACE: &str = "isocast-system";

/// Containers above a container.
const DEPTH_MAX: usize = 10;

/// Named in a refusal to delete a container.
const LEFT_SHOWN: usize = 5;

/// Tenants' numbers have 24 bits; 0 is nobody's.
const TENANT_ID_MAX: u32 = (1 << 24) - 1;

impl Admission for ResourceManager {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        let resource = change.key.resource();
        if *resource == lookup::resource::<OrganizationSpec>() {
            admit_container::<OrganizationSpec>(view, change)?;
            return number_tenant(view, change);
        }
        if *resource == lookup::resource::<ProjectSpec>() {
            return admit_container::<ProjectSpec>(view, change);
        }
        match change.key.container() {
            Some(namespace) if Step::of(change) == Step::Create => {
                expect_living_namespace(view, namespace, &change.key)
            }
            _ => Ok(()),
        }
    }
}

/// A kind whose objects own a namespace of their own name.
trait Container: Spec {
    /// Name of the organization above.
    fn parent(&self) -> Option<&str>;
    /// Where the spec says so.
    const PARENT_FIELD: &'static str;
    /// What has been observed.
    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition>;
}

impl Container for OrganizationSpec {
    const PARENT_FIELD: &'static str = "spec.parent";

    fn parent(&self) -> Option<&str> {
        self.parent.as_ref().map(|name| name.as_str())
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

impl Container for ProjectSpec {
    const PARENT_FIELD: &'static str = "spec.parent.name";

    fn parent(&self) -> Option<&str> {
        Some(self.parent.name.as_str())
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

fn admit_container<S: Container>(view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    let step = Step::of(change);
    if step.asks_for_deletion() {
        return expect_empty(view, &change.key);
    }
    let (Step::Create, Some(new)) = (step, &mut change.new) else { return Ok(()) };
    let mut object: Object<S> = lookup::decode(new)?;
    expect_free_name(view, &change.key)?;
    expect_parent(view, &change.key, &object.spec)?;
    let ready = Finding::new("Ready", ConditionStatus::True, "Created", "");
    let conditions = S::conditions(&mut object.status);
    set_condition(conditions, ready, object.metadata.generation, change.now);
    lookup::set_status::<S>(new, &object.status)
}

fn expect_free_name(view: &View, key: &Key) -> Result<(), ApiError> {
    let name = key.name();
    if name == "default" || name.starts_with("isocast-") || name.starts_with("kube-") {
        let message = "the name is reserved: default, isocast-… and kube-… are not for containers";
        return Err(ApiError::forbidden(key, message));
    }
    for other in [lookup::key::<OrganizationSpec>(name), lookup::key::<ProjectSpec>(name)] {
        if other != *key && view.get(&other).is_some() {
            let message = format!(
                "{} {name:?} already exists: the names of organizations and projects are one \
                 space, because each owns the namespace of its name",
                other.resource(),
            );
            return Err(ApiError::about(Reason::AlreadyExists, key, message));
        }
    }
    Ok(())
}

fn expect_parent<S: Container>(view: &View, key: &Key, spec: &S) -> Result<(), ApiError> {
    let Some(parent) = spec.parent() else { return Ok(()) };
    let refuse = |message: String| {
        let cause = Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: message.clone(),
            field: S::PARENT_FIELD.to_owned(),
        };
        let message =
            format!("{} {:?} is invalid: {}: {message}", S::KIND.kind, key.name(), S::PARENT_FIELD);
        ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause])
    };
    let mut above = Some(parent.to_owned());
    let mut depth = 0;
    while let Some(name) = above {
        let container: Option<Object<OrganizationSpec>> =
            lookup::find(view, &lookup::key::<OrganizationSpec>(&name))?;
        let container =
            container.ok_or_else(|| refuse(format!("there is no organization {name:?}")))?;
        if container.metadata.deletion_timestamp.is_some() {
            return Err(refuse(format!("organization {name:?} is being deleted")));
        }
        depth += 1;
        if depth > DEPTH_MAX {
            return Err(refuse(format!("there may be at most {DEPTH_MAX} containers above")));
        }
        above = container.spec.parent.map(|parent| parent.to_string());
    }
    Ok(())
}

/// Refuses to delete a container that holds anything.
fn expect_empty(view: &View, key: &Key) -> Result<(), ApiError> {
    let name = key.name();
    let parents = [
        (lookup::all::<OrganizationSpec>(), "/spec/parent"),
        (lookup::all::<ProjectSpec>(), "/spec/parent/name"),
    ];
    let namespaced = registry::kinds().iter().filter(|kind| kind.scope == Scope::Namespaced);
    let ranges: Vec<_> = namespaced
        .map(|kind| Range::Container(Resource::new(kind.plural, kind.group), name.into()))
        .collect();
    let children = parents.iter().flat_map(|(range, parent)| {
        view.range(range).filter(move |child| text(&child.value, parent) == Some(name))
    });
    let contents = ranges.iter().flat_map(|range| view.range(range));
    let left: Vec<_> = children.chain(contents).map(|object| &object.key).collect();
    if left.is_empty() {
        return Ok(());
    }
    let shown = left.iter().take(LEFT_SHOWN);
    let mut names: Vec<_> =
        shown.map(|key| format!("{} {:?}", key.resource().plural(), key.name())).collect();
    if left.len() > LEFT_SHOWN {
        names.push(format!("{} more", left.len() - LEFT_SHOWN));
    }
    let message = format!(
        "{} {name:?} is not empty: delete first what it holds: {}",
        key.resource(),
        names.join(", "),
    );
    Err(ApiError::about(Reason::Conflict, key, message))
}

fn expect_living_namespace(view: &View, namespace: &str, key: &Key) -> Result<(), ApiError> {
    if namespace == SYSTEM_NAMESPACE {
        return Ok(());
    }
    let containers =
        [lookup::key::<OrganizationSpec>(namespace), lookup::key::<ProjectSpec>(namespace)];
    match containers.iter().find_map(|container| view.get(container)) {
        None => {
            Err(ApiError::not_found(&Key::new(Resource::new("namespaces", ""), None, namespace)))
        }
        Some(found) if text(&found.value, "/metadata/deletionTimestamp").is_some() => {
            let message = format!(
                "unable to create new content in namespace {namespace} because it is being \
                 terminated",
            );
            Err(ApiError::forbidden(key, &message))
        }
        Some(_) => Ok(()),
    }
}

/// Gives a new organization its number, and keeps the one it has.
fn number_tenant(view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    let old = change.old_value().and_then(|old| old.pointer("/status/tenantID")).cloned();
    let Some(new) = &mut change.new else { return Ok(()) };
    let mut object: Object<OrganizationSpec> = lookup::decode(new)?;
    let number = match old.as_ref().and_then(Value::as_u64) {
        Some(number) => u32::try_from(number).ok(),
        None => Some(free_tenant_id(view, &object.metadata.uid)?),
    };
    if object.status.tenant_id == number {
        return Ok(());
    }
    object.status.tenant_id = number;
    lookup::set_status::<OrganizationSpec>(new, &object.status)
}

/// A number that no organization has: a hash of the uid, so that numbers of deleted organizations
/// do not come back soon, and the next free one if it is taken.
fn free_tenant_id(view: &View, uid: &str) -> Result<u32, ApiError> {
    let organizations = lookup::all::<OrganizationSpec>();
    let taken: BTreeSet<u64> = view
        .range(&organizations)
        .filter_map(|object| object.value.pointer("/status/tenantID")?.as_u64())
        .collect();
    let [a, b, c, ..] = *blake3::hash(uid.as_bytes()).as_bytes();
    let first = u32::from_be_bytes([0, a, b, c]).max(1);
    let candidates = (first..=TENANT_ID_MAX).chain(1..first);
    candidates
        .take(taken.len() + 1)
        .find(|number| !taken.contains(&u64::from(*number)))
        .ok_or_else(|| ApiError::new(Reason::ServiceUnavailable, "there are no tenant ids left"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::managers::testing::{State, organization, project};

    #[test]
    fn containers_share_one_space_of_names() {
        let state = State::default().with(organization("acme"));

        let refusal = state.create(project("acme", "acme")).unwrap_err();

        assert_eq!(refusal.code(), 409);
        assert!(refusal.message().contains("organizations.resourcemanager.isocast.dev \"acme\""));
    }

    #[test]
    fn reserved_names_are_refused() {
        for name in ["default", "isocast-system", "kube-system"] {
            assert_eq!(State::default().create(organization(name)).unwrap_err().code(), 403);
        }
    }

    #[test]
    fn a_parent_must_exist() {
        let refusal = State::default().create(project("web", "acme")).unwrap_err();

        assert_eq!(refusal.code(), 422);
        assert_eq!(refusal.causes()[0].field, "spec.parent.name");
        assert_eq!(refusal.causes()[0].message, "there is no organization \"acme\"");
    }

    #[test]
    fn containers_nest_to_a_limit() {
        let mut state = State::default().with(organization("org-0"));
        let child = |depth: usize| {
            let mut child = organization(&format!("org-{depth}"));
            child["spec"]["parent"] = json!(format!("org-{}", depth - 1));
            child
        };
        for depth in 1..=DEPTH_MAX {
            state = state.with(child(depth));
        }

        let refusal = state.create(child(DEPTH_MAX + 1)).unwrap_err();

        assert!(refusal.message().contains("at most 10 containers"), "{refusal}");
    }

    #[test]
    fn an_object_needs_a_living_namespace() {
        let claim = || {
            json!({
                "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
                "metadata": {"name": "www", "namespace": "web"}, "spec": {},
            })
        };

        let refusal = State::default().create(claim()).unwrap_err();
        assert_eq!((refusal.code(), refusal.message()), (404, "namespaces \"web\" not found"));

        let state = State::default().with(organization("acme")).with(project("web", "acme"));
        assert!(state.create(claim()).is_ok());

        let mut leaving = project("web", "acme");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-11-22T02:00:00Z");
        let refusal = State::default().with(leaving).create(claim()).unwrap_err();
        assert_eq!(refusal.code(), 403);
    }

    #[test]
    fn a_container_goes_only_when_empty() {
        let state = State::default().with(organization("acme")).with(project("web", "acme"));
        let organizations = lookup::key::<OrganizationSpec>("acme");

        let refusal = state.delete(&organizations).unwrap_err();

        assert_eq!(refusal.code(), 409);
        assert!(refusal.message().ends_with("what it holds: projects \"web\""), "{refusal}");
        assert!(state.delete(&lookup::key::<ProjectSpec>("web")).is_ok());
    }

    #[test]
    fn tenants_have_numbers_of_their_own_that_stay() {
        let first = State::default().create(organization("a")).unwrap();
        let number = first.new.as_ref().unwrap()["status"]["tenantID"].clone();
        assert!(number.as_u64().is_some_and(|number| (1..1 << 24).contains(&number)));

        // The same uid hashes to the same number, which is taken by now.
        let state = State::default().with(first.new.unwrap());
        let second = state.create(organization("b")).unwrap().new.unwrap();
        assert_ne!(second["status"]["tenantID"], number);

        let mut forged = organization("a");
        forged["status"] = json!({"tenantID": 7});
        let kept = state.update(forged).unwrap().new.unwrap();
        assert_eq!(kept["status"]["tenantID"], number);
    }
}
