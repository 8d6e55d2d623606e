//! KeyRotation: an order to replace keys without losing a flow.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{Duration, Name},
};

/// An order to replace keys without losing a flow.
pub type KeyRotation = Object<KeyRotationSpec>;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRotationSpec {
    /// What is replaced. Cannot be changed.
    pub what: KeyKind,
    /// How long connections are looked for where the former cluster secret placed them: up to 30d.
    /// Of a `ClusterSecret` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_for: Option<Duration>,
    /// Nodes that are not waited for. What such a node sends by its former key is dropped, and so is
    /// what others send to it, until it has taken the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub skip_nodes: Vec<Name>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// What can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KeyKind {
    /// The key tag in tunnel packets.
    EncapsulationKey,
    /// What all keys derive from: the key tag, and the key of the flow hash.
    ClusterSecret,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KeyRotationStatus {
    /// Latest observations: `Complete`, whether the former key is worth nothing any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<KeyRotationPhase>,
    /// Nodes that have not taken the keys of this phase yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub waiting_for: Vec<String>,
}

/// How far a rotation has come.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum KeyRotationPhase {
    /// Another one goes first.
    Pending,
    /// Nodes learn to understand the new key; none uses it yet.
    Distributing,
    /// Nodes use the new key, and understand the former one.
    Switching,
    /// Nodes forget the former key.
    Retiring,
    /// Every node uses the new key and believes no other.
    Complete,
}

/// Condition of a rotation that is done.
pub const COMPLETE: &str = "Complete";

/// How long connections are looked for where the former cluster secret placed them, unless the
/// rotation says otherwise.
pub const FORMER_FOR: Duration = Duration::from_secs(24 * 3600);

const FORMER_FOR_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl KeyKind {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EncapsulationKey => "EncapsulationKey",
            Self::ClusterSecret => "ClusterSecret",
        }
    }
}

impl KeyRotationPhase {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Distributing => "Distributing",
            Self::Switching => "Switching",
            Self::Retiring => "Retiring",
            Self::Complete => "Complete",
        }
    }
}

impl Spec for KeyRotationSpec {
    type Status = KeyRotationStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::KeyRotation,
        group: super::GROUP,
        version: VERSION,
        kind: "KeyRotation",
        plural: "keyrotations",
        singular: "keyrotation",
        short_names: &["kr"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("What", "string", ".spec.what", "What is replaced"),
            Column::new("Phase", "string", ".status.phase", "How far it has come"),
            Column::new(
                "Complete",
                "string",
                ".status.conditions[?(@.type==\"Complete\")].status",
                "Whether the former key is worth nothing any more",
            ),
            Column::new("Waiting", "string", ".status.waitingFor", "Nodes it waits for").wide(),
            Column::new("Reason", "string", ".spec.reason", "Why").wide(),
            AGE,
        ],
        selectable_fields: &["spec.what"],
        description: "KeyRotation replaces the encapsulation key or the cluster secret on every \
                      node without losing a flow: nodes learn the new key, then use it, then forget \
                      the former one. One goes on at a time, in the order of creation. Lives in the \
                      namespace isocast-system.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<KeyRotationSpec>);
        &SCHEMA
    }

    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        errors.immutable(&spec.field("what"), &self.what, old.map(|old| &old.what));
        let former_for = spec.field("formerFor");
        match self.former_for {
            Some(_) if self.what != KeyKind::ClusterSecret => {
                let message = format!("an {} places no connections", self.what.as_str());
                errors.forbidden(&former_for, message);
            }
            Some(time) if time > FORMER_FOR_MAX => {
                errors.invalid(&former_for, time, format!("must be at most {FORMER_FOR_MAX}"));
            }
            _ => {}
        }
    }
}
