//! [`Container`]: what organizations, folders and projects have in common.

use isocast_api::{
    meta::Condition,
    object::Spec,
    resourcemanager::{
        CONTAINERS_ABOVE_MAX, ContainerPhase, ContainerReference, FolderSpec, OrganizationSpec,
        ParentKind, ProjectSpec,
    },
};

use super::super::lookup::{self, text};
use crate::store::{Key, Object, Resource, View};

/// A kind whose objects own a namespace of their own name.
pub(super) trait Container: Spec {
    /// Where the spec names the container above.
    const PARENT_FIELD: &'static str;

    /// The container above.
    fn parent(&self) -> Option<ContainerReference>;

    /// What has been observed.
    fn observed(status: &mut Self::Status) -> (&mut Vec<Condition>, &mut Option<ContainerPhase>);
}

impl Container for OrganizationSpec {
    const PARENT_FIELD: &'static str = "spec.parent";

    fn parent(&self) -> Option<ContainerReference> {
        let name = self.parent.clone()?;
        Some(ContainerReference { kind: ParentKind::Organization, name })
    }

    fn observed(status: &mut Self::Status) -> (&mut Vec<Condition>, &mut Option<ContainerPhase>) {
        (&mut status.conditions, &mut status.phase)
    }
}

impl Container for ProjectSpec {
    const PARENT_FIELD: &'static str = "spec.parent.name";

    fn parent(&self) -> Option<ContainerReference> {
        Some(self.parent.clone())
    }

    fn observed(status: &mut Self::Status) -> (&mut Vec<Condition>, &mut Option<ContainerPhase>) {
        (&mut status.conditions, &mut status.phase)
    }
}

impl Container for FolderSpec {
    const PARENT_FIELD: &'static str = "spec.parent.name";

    fn parent(&self) -> Option<ContainerReference> {
        Some(self.parent.clone())
    }

    fn observed(status: &mut Self::Status) -> (&mut Vec<Condition>, &mut Option<ContainerPhase>) {
        (&mut status.conditions, &mut status.phase)
    }
}

/// Whether objects of the resource are containers.
pub(super) fn is_container(resource: &Resource) -> bool {
    [OrganizationSpec::KIND, FolderSpec::KIND, ProjectSpec::KIND]
        .iter()
        .any(|kind| resource.is(kind.plural, kind.group))
}

/// Where a container called `name` can be, the likeliest place first.
pub(super) fn places(name: &str) -> impl Iterator<Item = Key> {
    let kinds: [fn(&str) -> Key; 3] =
        [lookup::key::<ProjectSpec>, lookup::key::<FolderSpec>, lookup::key::<OrganizationSpec>];
    kinds.into_iter().map(move |key| key(name))
}

/// The container called `name`.
pub(super) fn find<'a>(view: &'a View, name: &str) -> Option<&'a Object> {
    places(name).find_map(|place| view.get(&place))
}

/// Name of the container above a container.
pub(super) fn parent_of(container: &serde_json::Value) -> Option<&str> {
    text(container, "/spec/parent/name").or_else(|| text(container, "/spec/parent"))
}

/// The container called `name` and those above it.
pub(super) fn chain<'a>(view: &'a View, name: &str) -> impl Iterator<Item = &'a Object> {
    let first = find(view, name);
    let next = |below: &&'a Object| find(view, parent_of(&below.value())?);
    std::iter::successors(first, next).take(CONTAINERS_ABOVE_MAX + 1)
}

/// Whether somebody asked for the container's deletion.
pub(super) fn is_leaving(container: &Object) -> bool {
    text(&container.value(), "/metadata/deletionTimestamp").is_some()
}
