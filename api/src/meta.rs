//! [`ObjectMeta`] and [`Condition`]: what every object carries, in Kubernetes' terms.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::text::Time;

/// Metadata of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Unique among the objects of its kind in its namespace. Cannot change.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Beginning of a name that the server completes, if `name` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 248))]
    pub generate_name: Option<String>,
    /// Name of the container that the object belongs to. Cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_link: Option<String>,
    /// Identity of this object in time and space: a re-created object has another. Set by the
    /// server.
    pub uid: String,
    /// Revision of the last change; comparable across all kinds. Set by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts changes of the desired state. Set by the server.
    pub generation: i64,
    /// When the object was created. Set by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
    /// When deletion was asked for; the object goes when its finalizers are done. Set by the
    /// server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Time>,
    /// Seconds allowed for a graceful deletion. Set by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// Keys and values to select objects by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Keys and values for people and tools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Objects that this one depends on; when the last of them is gone, so is this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub owner_references: Vec<OwnerReference>,
    /// What must be done before the object may go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub finalizers: Vec<String>,
    /// Which manager set which fields. Kept by the server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub managed_fields: Vec<ManagedFields>,
}

/// An object that another one depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Identity of the owner.
    pub uid: String,
    /// Whether this owner is the one that manages the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether the owner may only go once this object is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// The fields that one manager set, see server-side apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedFields {
    /// Who set the fields.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// Group and version the fields are named in.
    pub api_version: String,
    /// When they were last set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// `FieldsV1`
    pub fields_type: String,
    /// The fields, as a tree.
    #[serde(rename = "fieldsV1", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub fields_v1: Option<serde_json::Value>,
    /// `status`, or nothing for the object itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
}

/// One aspect of an object's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, for example `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// `metadata.generation` of the object that this was observed of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// Why, as one CamelCase word for programs.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// Why, as a sentence for people.
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ConditionStatus {
    /// It does not.
    False,
    /// It does.
    True,
    /// Nobody has said so lately.
    Unknown,
}

/// A condition without its time, as a decision leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type.
    pub kind: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as one CamelCase word.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
}

impl Finding {
    /// The condition `kind` has `status`, because of `reason`.
    #[must_use]
    pub fn new(
        kind: &'static str,
        status: ConditionStatus,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status, reason: reason.into(), message: message.into() }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Whether [`set_condition`] found something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The conditions are other than before.
    Changed,
    /// They are as they were.
    Unchanged,
}

/// Puts `finding`, made of `observed_generation`, among `conditions`.
///
/// `lastTransitionTime` becomes `now` only if the status changes, so setting a condition again and
/// again writes nothing.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    finding: Finding,
    observed_generation: i64,
    now: Timestamp,
) -> Change {
    let Finding { kind, status, reason, message } = finding;
    let current = conditions.iter_mut().find(|condition| condition.kind == kind);
    let since = match &current {
        Some(current) if current.status == status => current.last_transition_time,
        _ => now.into(),
    };
    let next = Condition {
        kind: kind.to_owned(),
        status,
        observed_generation: Some(observed_generation),
        last_transition_time: since,
        reason,
        message,
    };
    match current {
        Some(current) if *current == next => return Change::Unchanged,
        Some(current) => *current = next,
        None => conditions.push(next),
    }
    Change::Changed
}

/// The condition of type `kind`.
#[must_use]
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

fn any_object(_generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: bool, reason: &str) -> Finding {
        Finding::new("Ready", status.into(), reason, "")
    }

    #[test]
    fn a_condition_remembers_when_its_status_changed() {
        let mut conditions = Vec::new();
        let at = |second| Timestamp::from_second(second).unwrap();

        assert_eq!(set_condition(&mut conditions, ready(false, "A"), 1, at(10)), Change::Changed);
        assert_eq!(set_condition(&mut conditions, ready(false, "A"), 1, at(20)), Change::Unchanged);
        assert_eq!(set_condition(&mut conditions, ready(false, "B"), 2, at(30)), Change::Changed);
        assert_eq!(conditions[0].last_transition_time, at(10).into());
        assert_eq!(conditions[0].observed_generation, Some(2));

        assert_eq!(set_condition(&mut conditions, ready(true, "C"), 2, at(40)), Change::Changed);
        assert_eq!(conditions[0].last_transition_time, at(40).into());
        assert_eq!(conditions.len(), 1);
    }
}
