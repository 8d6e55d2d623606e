//! Project: where a tenant's services live.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ContainerPhase;
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    reference::{Reference, Target},
    registry::{AGE, Column, READY, ResourceKind, Scope, VERSION},
    schema,
    text::Label,
};

/// A tenant's services and what they need, in the namespace of the project's name.
pub type Project = Object<ProjectSpec>;

/// What is wanted of the project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectSpec {
    /// Name for people. Default: the object's name is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub display_name: Option<String>,
    /// The container that the project belongs to. Can change within an organization.
    pub parent: ContainerReference,
}

/// Names a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerReference {
    /// What the container is.
    pub kind: ParentKind,
    /// The container's name.
    pub name: Label,
}

/// Kinds of containers that hold projects and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParentKind {
    /// A part of an organization.
    Folder,
    /// A tenant.
    Organization,
}

impl ParentKind {
    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "Folder",
            Self::Organization => "Organization",
        }
    }
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectStatus {
    /// Latest observations: `Ready`; while it is being deleted `ContentRemaining` and
    /// `DeletionBlocked`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// `Terminating` from when somebody deletes it until all that it holds is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<ContainerPhase>,
}

impl Spec for ProjectSpec {
    type Status = ProjectStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Project,
        group: super::GROUP,
        version: VERSION,
        kind: "Project",
        plural: "projects",
        singular: "project",
        short_names: &["proj"],
        scope: Scope::Cluster,
        name_format: "dns-label",
        columns: &[
            Column::new("Display Name", "string", ".spec.displayName", "Name for people").wide(),
            Column::new("Parent", "string", ".spec.parent.name", "The container above"),
            READY,
            AGE,
        ],
        selectable_fields: &["spec.parent.kind", "spec.parent.name"],
        description: "Project holds a tenant's services and what they need, in a namespace of the \
                      project's name.",
    };

    const REFERENCES: &'static [Reference] = &[Reference::naming(&["spec", "parent"], Target::Any)];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<ProjectSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
