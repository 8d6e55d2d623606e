//! [`ResourceManager`]: containers, their names, and what lives in them.
//!
//! Invariants: a name is one container's; every namespaced object lives in a container; a
//! container has a living parent and goes only when it is empty; a tenant's number never changes.

mod belongings;
mod container;
mod deletion;
mod placement;
mod purge;
mod tenants;
#[cfg(test)]
mod tests;
mod tree;

use isocast_api::{
    meta::{ConditionStatus, Finding, set_condition},
    object::Object,
    resourcemanager::{
        ContainerPhase, FolderSpec, OrganizationSpec, ProjectSpec, SYSTEM_NAMESPACE,
    },
};
use parking_lot::Mutex;

pub use self::purge::Purge;
use self::{container::Container, tree::Tree};
use super::lookup::{self, Step};
use crate::{
    admission::{Admission, ProposedChange},
    error::ApiError,
    store::{Event, Key, Resource, View},
};

/// Keeps the tree of containers in order.
#[derive(Debug, Default)]
pub struct ResourceManager {
    // The sequencer's thread alone has it: it never waits.
    tree: Mutex<Tree>,
}

impl Admission for ResourceManager {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        let mut tree = self.tree.lock();
        if change.key.resource().is_of::<OrganizationSpec>() {
            admit_container::<OrganizationSpec>(&mut tree, view, change)?;
            return tenants::number_tenant(view, change);
        }
        if change.key.resource().is_of::<FolderSpec>() {
            return admit_container::<FolderSpec>(&mut tree, view, change);
        }
        if change.key.resource().is_of::<ProjectSpec>() {
            return admit_container::<ProjectSpec>(&mut tree, view, change);
        }
        match change.key.container() {
            Some(namespace) if Step::of(change) == Step::Create => {
                expect_living_namespace(&tree, view, namespace, &change.key)
            }
            _ => Ok(()),
        }
    }

    fn open(&self, view: &View) {
        *self.tree.lock() = Tree::of(view);
    }

    fn follow(&self, events: &[Event], _view: &View) {
        self.tree.lock().follow(events);
    }

    fn settles(&self, change: &ProposedChange) -> bool {
        // What comes to be below a container that goes is refused from the next change on.
        container::is_container(change.key.resource()) && change.old.is_some()
    }
}

fn admit_container<S: Container>(
    tree: &mut Tree,
    view: &View,
    change: &mut ProposedChange,
) -> Result<(), ApiError> {
    let step = Step::of(change);
    if step == Step::Update {
        placement::admit_move::<S>(tree, view, change)?;
    }
    if step != Step::Create {
        return deletion::admit::<S>(tree, view, change);
    }
    let Some(new) = &mut change.new else { return Ok(()) };
    let mut object: Object<S> = lookup::decode(new)?;
    placement::expect_free_name(view, &change.key)?;
    placement::expect_parent(view, &change.key, &object.spec)?;
    if let Some(parent) = object.spec.parent() {
        tree.announce(parent.name.as_str(), change.key.name());
    }
    let ready = Finding::new("Ready", ConditionStatus::True, "Created", "");
    let (conditions, phase) = S::observed(&mut object.status);
    *phase = Some(ContainerPhase::Active);
    set_condition(conditions, ready, object.metadata.generation, change.now);
    lookup::set_status::<S>(new, &object.status)
}

fn expect_living_namespace(
    tree: &Tree,
    view: &View,
    namespace: &str,
    key: &Key,
) -> Result<(), ApiError> {
    if namespace == SYSTEM_NAMESPACE {
        return Ok(());
    }
    let mut chain = container::chain(view, namespace);
    let Some(own) = chain.next() else {
        return Err(ApiError::not_found(&Key::new(
            Resource::new("namespaces", ""),
            None,
            namespace,
        )));
    };
    // Hardly ever is anything leaving, and then nobody looks at them.
    let is_leaving = tree.is_anything_leaving()
        && (container::is_leaving(own) || chain.any(container::is_leaving));
    if is_leaving {
        let message = format!(
            "unable to create new content in namespace {namespace} because it is being terminated",
        );
        return Err(ApiError::forbidden(key, &message));
    }
    Ok(())
}
