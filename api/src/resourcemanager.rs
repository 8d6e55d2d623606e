//! Group `resourcemanager.isocast.dev`: the containers that everything a tenant owns lives in.

mod organization;
mod project;

pub use self::{
    organization::{Organization, OrganizationSpec, OrganizationStatus},
    project::{ContainerReference, ParentKind, Project, ProjectSpec, ProjectStatus},
};

/// The API group.
pub const GROUP: &str = "resourcemanager.isocast.dev";
