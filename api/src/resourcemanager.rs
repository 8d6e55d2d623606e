//! Group `resourcemanager.isocast.dev`: the containers that everything a tenant owns lives in.

mod folder;
mod organization;
mod phase;
mod project;

pub use self::{
    folder::{Folder, FolderSpec, FolderStatus},
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
