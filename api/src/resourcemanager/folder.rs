//! Folder: groups projects within an organization.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ContainerPhase, ContainerReference};
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    reference::{Reference, Target},
    registry::{AGE, Column, READY, ResourceKind, Scope, VERSION},
    schema,
};

/// Groups projects and folders within an organization; owns the namespace of its own name.
pub type Folder = Object<FolderSpec>;

/// What is wanted of the folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderSpec {
    /// Name for people. Default: the object's name is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub display_name: Option<String>,
    /// The container that the folder belongs to. Can change within an organization.
    pub parent: ContainerReference,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FolderStatus {
    /// Latest observations: `Ready`; while it is being deleted `ContentRemaining` and
    /// `DeletionBlocked`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// `Terminating` from when somebody deletes it until all that it holds is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<ContainerPhase>,
}

impl Spec for FolderSpec {
    type Status = FolderStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Folder,
        group: super::GROUP,
        version: VERSION,
        kind: "Folder",
        plural: "folders",
        singular: "folder",
        short_names: &["fold"],
        scope: Scope::Cluster,
        name_format: "dns-label",
        columns: &[
            Column::new("Display Name", "string", ".spec.displayName", "Name for people").wide(),
            Column::new("Parent", "string", ".spec.parent.name", "The container above"),
            READY,
            AGE,
        ],
        selectable_fields: &["spec.parent.kind", "spec.parent.name"],
        description: "Folder groups projects and folders within an organization, and owns the \
                      namespace of its own name for what belongs to all of them.",
    };

    const REFERENCES: &'static [Reference] = &[Reference::naming(&["spec", "parent"], Target::Any)];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<FolderSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
