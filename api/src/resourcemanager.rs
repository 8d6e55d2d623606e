//! Group `resourcemanager.isocast.dev`: the containers that everything a tenant owns lives in.

mod folder;
mod lien;
mod organization;
mod phase;
mod project;

pub use self::{
    folder::{Folder, FolderSpec, FolderStatus},
    lien::{Lien, LienSpec, LienStatus, LienTarget, Restriction},
    organization::{Organization, OrganizationSpec, OrganizationStatus},
    phase::ContainerPhase,
    project::{ContainerReference, ParentKind, Project, ProjectSpec, ProjectStatus},
};

/// Containers above a container, at most.
pub const CONTAINERS_ABOVE_MAX: usize = 10;

/// The namespace of what belongs to the whole platform; no container may have its name.
pub const SYSTEM_NAMESPACE: &str = "isocast-system";

/// The API group.
pub const GROUP: &str = "resourcemanager.isocast.dev";

/// Whether the objects of a resource are containers.
#[must_use]
pub fn is_container(plural: &str, group: &str) -> bool {
    group == GROUP && ["folders", "organizations", "projects"].contains(&plural)
}
