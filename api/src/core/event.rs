//! Event: something that happened to an object. Kept for a while only.
//!
//! Stored as core/v1; `events.k8s.io/v1` is the same object with other names for some fields.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Alias, BuiltIn, Words, descriptor};
use crate::{
    field::{Errors, FieldPath},
    registry::{Column, KindDescriptor, ResourceKind},
    schema,
};

/// Something that happened to an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// What it happened to.
    pub involved_object: ObjectReference,
    /// Why, in one word for programs.
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// Who says so.
    pub source: EventSource,
    /// When it happened first.
    #[schemars(extend("format" = "date-time"))]
    pub first_timestamp: Option<String>,
    /// When it happened last.
    #[schemars(extend("format" = "date-time"))]
    pub last_timestamp: Option<String>,
    /// How often it happened.
    pub count: Option<i32>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When it was observed first.
    #[schemars(extend("format" = "date-time"))]
    pub event_time: Option<String>,
    /// If it happened again and again.
    pub series: Option<EventSeries>,
    /// What was done about it, or could not be.
    pub action: String,
    /// Another object that it concerns.
    pub related: Option<ObjectReference>,
    /// The program that says so.
    pub reporting_component: String,
    /// Which of several such programs.
    pub reporting_instance: String,
}

/// An object, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Its group and version.
    pub api_version: String,
    /// Its revision then.
    pub resource_version: String,
    /// What of it.
    pub field_path: String,
}

/// Who reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSource {
    /// The program.
    pub component: String,
    /// The host it runs on.
    pub host: String,
}

/// Something that happens again and again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSeries {
    /// How often so far.
    pub count: i32,
    /// When it was seen last.
    #[schemars(extend("format" = "date-time"))]
    pub last_observed_time: Option<String>,
}

impl BuiltIn for Event {
    const WORDS: Words = Words {
        resource_kind: ResourceKind::Event,
        group: "",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        columns: &[
            Column::new(
                "Last Seen",
                "date",
                ".series.lastObservedTime||.lastTimestamp||.eventTime||.firstTimestamp",
                "When it happened last",
            ),
            Column::new("Type", "string", ".type", "Normal or Warning"),
            Column::new("Reason", "string", ".reason", "Why, in one word"),
            Column::new("Object", "string", ".involvedObject", "What it happened to"),
            Column::new("Subobject", "string", ".involvedObject.fieldPath", "What of it").wide(),
            Column::new(
                "Source",
                "string",
                ".source.component||.reportingComponent",
                "Who says so",
            )
            .wide(),
            Column::new("Message", "string", ".message", "What happened"),
            Column::new(
                "First Seen",
                "date",
                ".firstTimestamp||.eventTime",
                "When it happened first",
            )
            .wide(),
            Column::new("Count", "integer", ".series.count||.count", "How often").wide(),
            Column::new("Name", "string", ".metadata.name", "Name of the object").wide(),
        ],
        selectable_fields: &[
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.resourceVersion",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "source.component",
            "type",
        ],
        description: "Event is something that happened to an object. Kept for an hour.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::built_in_schema::<Event>);
        &SCHEMA
    }

    fn validate(new: &Value, _old: Option<&Value>, errors: &mut Errors) {
        let text = |pointer| new.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (namespace, place) = (text("/metadata/namespace"), text("/involvedObject/namespace"));
        // What has no namespace itself is told of in the platform's.
        if !place.is_empty() && place != namespace {
            let path = FieldPath::root().field("involvedObject").field("namespace");
            errors.invalid(&path, place, "does not match event.namespace".to_owned());
        }
        // What says when it was observed is of the newer sort, whatever the group it came by.
        if !text("/eventTime").is_empty() {
            check_texts(new, errors);
        }
    }
}

/// Who reports, what was done and why is said, and shortly.
fn check_texts(event: &Value, errors: &mut Errors) {
    for (field, most, required) in [
        ("reportingComponent", QUALIFIED_NAME_BYTES, true),
        ("reportingInstance", WORD_BYTES, true),
        ("action", WORD_BYTES, true),
        ("reason", WORD_BYTES, true),
        ("message", MESSAGE_BYTES, false),
    ] {
        let (path, text) = (FieldPath::root().field(field), event.get(field));
        let text = text.and_then(Value::as_str).unwrap_or_default();
        if text.is_empty() && required {
            errors.required(&path, "where there is an eventTime");
        } else if text.len() > most {
            errors.invalid(&path, "", format!("can have at most {most} bytes"));
        }
    }
}

const QUALIFIED_NAME_BYTES: usize = 253 + 1 + 63;
const WORD_BYTES: usize = 128;
const MESSAGE_BYTES: usize = 1024;

const GROUP: &str = "events.k8s.io";

/// Fields that `events.k8s.io/v1` calls otherwise.
const RENAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// `events.k8s.io/v1`
pub(super) const ALIAS: Alias = Alias {
    descriptor: KindDescriptor { group: GROUP, schema: alias_schema, ..descriptor::<Event>() },
    stored: ResourceKind::Event,
    renames: RENAMES,
};

fn alias_schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let mut schema = Event::schema().clone();
        if let Some(properties) = schema.pointer_mut("/properties").and_then(Value::as_object_mut) {
            let renamed: Map<String, Value> = std::mem::take(properties)
                .into_iter()
                .map(|(name, field)| {
                    let other = RENAMES.iter().find(|(_, stored)| *stored == name);
                    (other.map_or(name, |(alias, _)| (*alias).to_owned()), field)
                })
                .collect();
            *properties = renamed;
        }
        if let Some(group) = schema.pointer_mut("/x-kubernetes-group-version-kind/0/group") {
            *group = Value::from(GROUP);
        }
        schema
    });
    &SCHEMA
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "www.1", "namespace": "web"},
            "involvedObject": {"kind": "AnycastService", "namespace": "web", "name": "www"},
            "eventTime": "2026-11-24T08:00:00.000001Z",
            "reportingComponent": "example.com/test", "reportingInstance": "one",
            "action": "Drain", "reason": "Drained", "message": "it is drained", "type": "Normal",
        });
        change(&mut event);
        let faults = (descriptor::<Event>().validate)(&event, None);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn who_says_when_it_was_observed_says_who_why_and_what_was_done() {
        assert!(faults(|_| {}).is_empty());
        for field in ["reportingComponent", "reportingInstance", "action", "reason"] {
            assert_eq!(faults(|event| event[field] = json!("")), [field]);
        }
        assert!(faults(|event| event["message"] = json!("")).is_empty());
        // Older recorders say neither.
        let old = |event: &mut Value| {
            for field in ["eventTime", "reportingComponent", "reportingInstance", "action"] {
                event.as_object_mut().expect("an object").shift_remove(field);
            }
        };
        assert!(faults(old).is_empty());
    }

    #[test]
    fn texts_are_as_long_as_in_kubernetes() {
        for (field, most) in
            [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)]
        {
            assert!(faults(|event| event[field] = json!("a".repeat(most))).is_empty(), "{field}");
            assert_eq!(faults(|event| event[field] = json!("a".repeat(most + 1))), [field]);
        }
    }

    #[test]
    fn an_event_is_where_its_object_is() {
        let elsewhere = |event: &mut Value| event["involvedObject"]["namespace"] = json!("mail");
        assert_eq!(faults(elsewhere), ["involvedObject.namespace"]);
        let nowhere = |event: &mut Value| event["involvedObject"]["namespace"] = json!("");
        assert!(faults(nowhere).is_empty(), "what has no namespace is told of anywhere");
    }
}
