//! [`ResourceManager`]: containers, their names, and what lives in them.
//!
//! Invariants: a name is one container's; every namespaced object lives in a container; a
//! container has a living parent and goes only when it is empty; a tenant's number never changes.

use std::collections::BTreeSet;

use isocast_api::{
    meta::{Condition, ConditionStatus, Finding, set_condition},
    object::{Object, Spec},
    registry::{self, KindDescriptor, ResourceKind, Scope},
    resourcemanager::{
        CONTAINERS_ABOVE_MAX, ContainerReference, FolderSpec, OrganizationSpec, ParentKind,
        ProjectSpec, SYSTEM_NAMESPACE,
    },
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
        if *resource == lookup::resource::<FolderSpec>() {
            return admit_container::<FolderSpec>(view, change);
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
    /// The container above.
    fn parent(&self) -> Option<ContainerReference>;
    /// Where the spec says so.
    const PARENT_FIELD: &'static str;
    /// What has been observed.
    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition>;
}

impl Container for OrganizationSpec {
    const PARENT_FIELD: &'static str = "spec.parent";

    fn parent(&self) -> Option<ContainerReference> {
        let name = self.parent.clone()?;
        Some(ContainerReference { kind: ParentKind::Organization, name })
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

impl Container for ProjectSpec {
    const PARENT_FIELD: &'static str = "spec.parent.name";

    fn parent(&self) -> Option<ContainerReference> {
        Some(self.parent.clone())
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

impl Container for FolderSpec {
    const PARENT_FIELD: &'static str = "spec.parent.name";

    fn parent(&self) -> Option<ContainerReference> {
        Some(self.parent.clone())
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
    if step == Step::Update {
        return admit_move::<S>(view, change);
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

/// A container may move within its organization: what it holds was given to that organization.
fn admit_move<S: Container>(view: &View, change: &ProposedChange) -> Result<(), ApiError> {
    let (Some(old), Some(new)) = (change.old_value(), &change.new) else { return Ok(()) };
    let (old, new): (Object<S>, Object<S>) = (lookup::decode(old)?, lookup::decode(new)?);
    if old.spec.parent() == new.spec.parent() {
        return Ok(());
    }
    expect_parent(view, &change.key, &new.spec)?;
    let height = height(view, change.key.name());
    let above = new.spec.parent().map_or(0, |parent| depth(view, parent.name.as_str()) + 1);
    if above + height > CONTAINERS_ABOVE_MAX {
        let message = format!("there may be at most {CONTAINERS_ABOVE_MAX} containers above");
        return Err(misplaced::<S>(&change.key, message));
    }
    let of = |spec: &S| {
        let parent = spec.parent();
        parent.and_then(|parent| lookup::organization_of(view, parent.name.as_str()))
    };
    if of(&old.spec) != of(&new.spec) {
        let message = "a container moves within its organization only: addresses and quotas are \
                       granted to organizations";
        return Err(misplaced::<S>(&change.key, message.to_owned()));
    }
    Ok(())
}

/// Containers above the container called `name`.
fn depth(view: &View, name: &str) -> usize {
    let mut name = name;
    let mut depth = 0;
    while depth <= CONTAINERS_ABOVE_MAX
        && let Some(above) = parent_name(view, name)
    {
        name = above;
        depth += 1;
    }
    depth
}

fn parent_name<'a>(view: &'a View, name: &str) -> Option<&'a str> {
    let found = |key: Key, pointer| view.get(&key).and_then(|it| text(&it.value, pointer));
    found(lookup::key::<OrganizationSpec>(name), "/spec/parent")
        .or_else(|| found(lookup::key::<FolderSpec>(name), "/spec/parent/name"))
        .or_else(|| found(lookup::key::<ProjectSpec>(name), "/spec/parent/name"))
}

/// Levels of containers below the container called `name`.
fn height(view: &View, name: &str) -> usize {
    let mut level = vec![name];
    let mut height = 0;
    let ranges = parents();
    while height <= CONTAINERS_ABOVE_MAX {
        let children: Vec<&str> = ranges
            .iter()
            .flat_map(|(range, pointer)| view.range(range).map(move |child| (child, *pointer)))
            .filter(|(child, pointer)| {
                text(&child.value, pointer).is_some_and(|parent| level.contains(&parent))
            })
            .map(|(child, _)| child.key.name())
            .collect();
        if children.is_empty() {
            break;
        }
        level = children;
        height += 1;
    }
    height
}

/// Every kind of container, and where it names the one above.
fn parents() -> [(Range, &'static str); 3] {
    [
        (lookup::all::<OrganizationSpec>(), "/spec/parent"),
        (lookup::all::<FolderSpec>(), "/spec/parent/name"),
        (lookup::all::<ProjectSpec>(), "/spec/parent/name"),
    ]
}

fn misplaced<S: Container>(key: &Key, message: String) -> ApiError {
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: message.clone(),
        field: S::PARENT_FIELD.to_owned(),
    };
    let message =
        format!("{} {:?} is invalid: {}: {message}", S::KIND.kind, key.name(), S::PARENT_FIELD);
    ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause])
}

fn expect_free_name(view: &View, key: &Key) -> Result<(), ApiError> {
    let name = key.name();
    if name == "default" || name.starts_with("isocast-") || name.starts_with("kube-") {
        let message = "the name is reserved: default, isocast-… and kube-… are not for containers";
        return Err(ApiError::forbidden(key, message));
    }
    for other in containers(name) {
        if other != *key && view.get(&other).is_some() {
            // Not what has the name: that may be another tenant's.
            let message = format!(
                "{} {name:?} already exists: the names of organizations, folders and projects are \
                 one space, because each owns the namespace of its name",
                key.resource(),
            );
            return Err(ApiError::about(Reason::AlreadyExists, key, message));
        }
    }
    Ok(())
}

fn expect_parent<S: Container>(view: &View, key: &Key, spec: &S) -> Result<(), ApiError> {
    let refuse = |message: String| Err(misplaced::<S>(key, message));
    let mut above = spec.parent();
    let mut depth = 0;
    while let Some(ContainerReference { kind, name }) = above {
        let name = name.as_str();
        let place = match kind {
            ParentKind::Folder => lookup::key::<FolderSpec>(name),
            ParentKind::Organization => lookup::key::<OrganizationSpec>(name),
        };
        let word = kind.as_str().to_lowercase();
        let Some(container) = view.get(&place) else {
            return refuse(format!("there is no {word} {name:?}"));
        };
        if place == *key {
            return refuse(format!("{word} {name:?} would be below itself"));
        }
        if text(&container.value, "/metadata/deletionTimestamp").is_some() {
            return refuse(format!("{word} {name:?} is being deleted"));
        }
        depth += 1;
        if depth > CONTAINERS_ABOVE_MAX {
            return refuse(format!("there may be at most {CONTAINERS_ABOVE_MAX} containers above"));
        }
        above = match kind {
            ParentKind::Folder => lookup::decode::<FolderSpec>(&container.value)?.spec.parent(),
            ParentKind::Organization => {
                lookup::decode::<OrganizationSpec>(&container.value)?.spec.parent()
            }
        };
    }
    Ok(())
}

/// Refuses to delete a container that holds anything.
fn expect_empty(view: &View, key: &Key) -> Result<(), ApiError> {
    let name = key.name();
    let parents = parents();
    // What only reports, or is told of a container, goes by itself.
    let holds = |kind: &&KindDescriptor| {
        kind.scope == Scope::Namespaced
            && !kind.reported
            && kind.resource_kind != ResourceKind::Event
    };
    let namespaced = registry::kinds().iter().filter(holds);
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

/// Where a container called `name` can be.
fn containers(name: &str) -> [Key; 3] {
    [
        lookup::key::<OrganizationSpec>(name),
        lookup::key::<FolderSpec>(name),
        lookup::key::<ProjectSpec>(name),
    ]
}

fn expect_living_namespace(view: &View, namespace: &str, key: &Key) -> Result<(), ApiError> {
    if namespace == SYSTEM_NAMESPACE {
        return Ok(());
    }
    match containers(namespace).iter().find_map(|container| view.get(container)) {
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
        assert!(
            refusal
                .message()
                .contains("projects.resourcemanager.isocast.dev \"acme\" already exists")
        );
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
        for depth in 1..=CONTAINERS_ABOVE_MAX {
            state = state.with(child(depth));
        }

        let refusal = state.create(child(CONTAINERS_ABOVE_MAX + 1)).unwrap_err();

        assert!(refusal.message().contains("at most 10 containers"), "{refusal}");
    }

    fn folder(name: &str, kind: &str, parent: &str) -> Value {
        json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Folder",
            "metadata": {"name": name},
            "spec": {"parent": {"kind": kind, "name": parent}},
        })
    }

    fn in_folder(name: &str, parent: &str) -> Value {
        let mut project = project(name, parent);
        project["spec"]["parent"]["kind"] = json!("Folder");
        project
    }

    #[test]
    fn containers_move_within_their_organization_and_never_below_themselves() {
        let state = State::default()
            .with(organization("acme"))
            .with(organization("globex"))
            .with(folder("eng", "Organization", "acme"))
            .with(folder("web", "Folder", "eng"))
            .with(project("shop", "acme"));

        assert!(state.update(in_folder("shop", "web")).is_ok());
        let stranger = state.update(project("shop", "globex")).unwrap_err();
        assert!(stranger.message().contains("within its organization only"), "{stranger}");
        let cycle = state.update(folder("eng", "Folder", "web")).unwrap_err();
        assert_eq!((cycle.code(), cycle.causes()[0].field.as_str()), (422, "spec.parent.name"));
        assert!(cycle.message().contains("would be below itself"), "{cycle}");
    }

    #[test]
    fn what_moves_takes_what_is_below_it_into_account() {
        let mut state = State::default()
            .with(organization("acme"))
            .with(folder("a-1", "Organization", "acme"))
            .with(folder("b-1", "Organization", "acme"));
        for depth in 2..=5 {
            state =
                state.with(folder(&format!("a-{depth}"), "Folder", &format!("a-{}", depth - 1)));
        }
        for depth in 2..=6 {
            state =
                state.with(folder(&format!("b-{depth}"), "Folder", &format!("b-{}", depth - 1)));
        }

        let refusal = state.update(folder("b-1", "Folder", "a-5")).unwrap_err();

        assert!(refusal.message().contains("at most 10 containers"), "{refusal}");
        assert!(state.update(folder("b-1", "Folder", "a-4")).is_ok());
    }

    #[test]
    fn the_organization_is_found_through_folders() {
        let state = State::default()
            .with(organization("acme"))
            .with(folder("eng", "Organization", "acme"))
            .with(in_folder("shop", "eng"));

        for name in ["acme", "eng", "shop"] {
            let found = lookup::organization_of(&state.view(), name);
            assert_eq!(found.as_deref(), Some("acme"), "{name}");
        }
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
