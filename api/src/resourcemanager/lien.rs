//! Lien: keeps something from being deleted.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{Errors, FieldPath},
    object::{Kind, Object, Spec},
    reference::{Reference, Target},
    registry::{AGE, Column, ResourceKind, Scope, VERSION, kinds},
    schema,
    text::{Name, Time},
};

/// Keeps something from being deleted, whoever asks, until the lien is removed or expires.
pub type Lien = Object<LienSpec>;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LienSpec {
    /// What is kept: the container of the lien's namespace, an object in that namespace, or, from the
    /// namespace isocast-system, an object of the platform. Cannot change.
    pub target: LienTarget,
    /// Why, for whoever is refused.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Who put it there, for people: a team, or the system that makes such liens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub origin: Option<String>,
    /// What is refused: `delete`, or `update`, any change of the target's spec.
    #[serde(default = "default_restrictions")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub restrictions: Vec<Restriction>,
    /// Until when. Default: until the lien is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LienTarget {
    /// Its kind, `Project` or `AnycastService` for example.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name.
    pub name: Name,
}

/// What a lien refuses: the verbs of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Restriction {
    /// The target is not deleted.
    Delete,
    /// The target's spec is not changed.
    Update,
}

/// Nothing is observed of a lien: it holds from the revision on that it was written at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LienStatus {}

fn default_restrictions() -> Vec<Restriction> {
    vec![Restriction::Delete]
}

impl Spec for LienSpec {
    type Status = LienStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Lien,
        group: super::GROUP,
        version: VERSION,
        kind: "Lien",
        plural: "liens",
        singular: "lien",
        short_names: &["ln"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Kind", "string", ".spec.target.kind", "Kind of what is kept"),
            Column::new("Target", "string", ".spec.target.name", "What is kept"),
            Column::new("Restrictions", "string", ".spec.restrictions", "What is refused"),
            Column::new("Reason", "string", ".spec.reason", "Why"),
            Column::new("Origin", "string", ".spec.origin", "Who put it there").wide(),
            Column::new("Expires", "string", ".spec.expiresAt", "Until when").wide(),
            AGE,
        ],
        selectable_fields: &["spec.target.kind", "spec.target.name", "spec.origin"],
        description: "Lien keeps a container, or an object in it, from being deleted by anybody \
                      until the lien itself is deleted or expires.",
    };

    const REFERENCES: &'static [Reference] = &[Reference::naming(&["spec", "target"], Target::Any)];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<LienSpec>);
        &SCHEMA
    }

    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        let target = spec.field("target");
        errors.immutable(&target, &self.target, old.map(|old| &old.target));
        let field = target.field("kind");
        match kinds().iter().find(|kind| kind.kind == self.target.kind) {
            None => errors.invalid(&field, &self.target.kind, "there is no such kind"),
            Some(kind) if kind.resource_kind == ResourceKind::Lien => {
                errors.forbidden(&field, "a lien cannot be kept by another");
            }
            Some(kind) if kind.reported => {
                errors.forbidden(&field, "such objects come and go with what they report");
            }
            Some(_) => {}
        }
    }
}
