//! [`ManagedFields`]: who owns which fields of an object (`metadata.managedFields`).
//!
//! One entry a [`Manager`]; entries without fields do not exist. Pure: the time comes in.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fields::{Difference, FieldSet};
use crate::limits;

/// Fields that the server sets: nobody owns them.
const SERVER_FIELDS: &[&[&str]] = &[
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:generateName"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:resourceVersion"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:deletionTimestamp"],
    &["f:metadata", "f:deletionGracePeriodSeconds"],
    &["f:metadata", "f:managedFields"],
];

/// Who the oldest managers by update are together, as in Kubernetes.
const ANCIENT: &str = "ancient-changes";

/// Somebody who sets fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    pub(crate) operation: Operation,
    pub(crate) name: String,
    /// `status`, or none for the object itself.
    pub(crate) subresource: Option<String>,
}

/// How a manager sets fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// It states what it wants.
    Apply,
    /// It changes what is there.
    Update,
}

/// The owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ManagedFields {
    entries: BTreeMap<Manager, Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    fields: FieldSet,
    /// Absent: set by the change in progress.
    time: Option<String>,
}

// === impl Manager ===

impl Manager {
    /// Takes fields away that this manager cannot own: the server's, and those of the other side of
    /// the status subresource.
    pub(crate) fn strip(&self, fields: &mut FieldSet) {
        if self.subresource.is_some() {
            fields.keep_only("f:status");
            return;
        }
        fields.prune(&["f:status"]);
        for path in SERVER_FIELDS {
            fields.prune(path);
        }
    }
}

// === impl ManagedFields ===

impl ManagedFields {
    /// Reads `metadata.managedFields`; entries that make no sense are forgotten.
    pub(crate) fn of(object: &Value) -> Self {
        let listed = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let entries = listed.into_iter().flatten().filter_map(|entry| {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
            let operation = match text("operation")?.as_str() {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            let manager = Manager {
                operation,
                name: text("manager").unwrap_or_default(),
                subresource: text("subresource").filter(|name| !name.is_empty()),
            };
            let fields = FieldSet::from_json(entry.get("fieldsV1")?)?;
            Some((manager, Entry { fields, time: text("time") }))
        });
        Self { entries: entries.collect() }
    }

    /// Writes `metadata.managedFields`; what the change in progress set gets the time `now`.
    pub(crate) fn write(&self, object: &mut Value, api_version: &str, now: &str) {
        let entries: Vec<Value> = self
            .entries
            .iter()
            .map(|(manager, entry)| {
                let operation = match manager.operation {
                    Operation::Apply => "Apply",
                    Operation::Update => "Update",
                };
                let mut written = Map::new();
                written.insert("manager".into(), json!(manager.name));
                written.insert("operation".into(), json!(operation));
                written.insert("apiVersion".into(), json!(api_version));
                written.insert("time".into(), json!(entry.time.as_deref().unwrap_or(now)));
                written.insert("fieldsType".into(), json!("FieldsV1"));
                written.insert("fieldsV1".into(), entry.fields.to_json());
                if let Some(subresource) = &manager.subresource {
                    written.insert("subresource".into(), json!(subresource));
                }
                Value::Object(written)
            })
            .collect();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("managedFields");
            if !entries.is_empty() {
                metadata.insert("managedFields".into(), Value::Array(entries));
            }
        }
    }

    /// What a manager owns.
    pub(crate) fn fields(&self, manager: &Manager) -> Option<&FieldSet> {
        self.entries.get(manager).map(|entry| &entry.fields)
    }

    /// What anybody else owns.
    pub(crate) fn owned_by_others(&self, manager: &Manager) -> FieldSet {
        let mut owned = FieldSet::default();
        for (_, entry) in self.entries.iter().filter(|(other, _)| *other != manager) {
            owned.add(&entry.fields);
        }
        owned
    }

    /// Which of `changed` others own.
    pub(crate) fn conflicts(
        &self,
        manager: &Manager,
        changed: &FieldSet,
    ) -> Vec<(Manager, FieldSet)> {
        self.entries
            .iter()
            .filter(|(other, _)| *other != manager)
            .map(|(other, entry)| (other.clone(), entry.fields.intersection(changed)))
            .filter(|(_, fields)| !fields.is_empty())
            .collect()
    }

    /// Takes fields away from a manager.
    pub(crate) fn take(&mut self, manager: &Manager, fields: &FieldSet) {
        let Some(entry) = self.entries.get_mut(manager) else { return };
        let before = entry.fields.clone();
        entry.fields.subtract(fields);
        if entry.fields.is_empty() {
            self.entries.remove(manager);
        } else if entry.fields != before {
            entry.time = None;
        }
    }

    /// Makes `fields` all that a manager owns.
    pub(crate) fn set(&mut self, manager: &Manager, fields: FieldSet) {
        if fields.is_empty() {
            self.entries.remove(manager);
        } else if self.fields(manager) != Some(&fields) {
            self.entries.insert(manager.clone(), Entry { fields, time: None });
        }
    }

    /// Records an update: the manager owns what it changed, nobody owns what is gone.
    pub(crate) fn update(&mut self, manager: &Manager, mut difference: Difference) {
        manager.strip(&mut difference.changed);
        manager.strip(&mut difference.removed);
        let Difference { changed, removed } = difference;
        let managers: Vec<Manager> = self.entries.keys().cloned().collect();
        for other in managers {
            self.take(&other, &removed);
            if other != *manager {
                self.take(&other, &changed);
            }
        }
        let mut fields = self.fields(manager).cloned().unwrap_or_default();
        fields.add(&changed);
        self.set(manager, fields);
        self.join_ancient(manager);
    }

    /// Makes one manager of the oldest, when there are too many by update.
    fn join_ancient(&mut self, newest: &Manager) {
        loop {
            let updates = self.entries.iter().filter(|(manager, _)| {
                manager.operation == Operation::Update && manager.subresource.is_none()
            });
            if updates.clone().count() <= limits::UPDATE_MANAGERS {
                return;
            }
            let oldest = updates
                .filter(|(manager, _)| *manager != newest && manager.name != ANCIENT)
                .min_by_key(|(_, entry)| {
                    entry.time.is_none().then_some("").or(entry.time.as_deref())
                })
                .map(|(manager, _)| manager.clone());
            let Some(oldest) = oldest else { return };
            let Some(entry) = self.entries.remove(&oldest) else { return };
            let ancient = Manager { name: ANCIENT.to_owned(), ..oldest };
            let mut fields = self.fields(&ancient).cloned().unwrap_or_default();
            fields.add(&entry.fields);
            self.entries.insert(ancient, Entry { fields, time: entry.time });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::structure::Structure;

    fn updater(name: &str) -> Manager {
        Manager { operation: Operation::Update, name: name.to_owned(), subresource: None }
    }

    fn labels(names: impl IntoIterator<Item = usize>) -> Value {
        let labels: Map<String, Value> =
            names.into_iter().map(|name| (format!("l{name}"), json!("x"))).collect();
        json!({"metadata": {"labels": labels}})
    }

    fn structure() -> Structure {
        Structure::of(&json!({"type": "object", "properties": {"metadata": {
            "type": "object",
            "properties": {"labels": {"additionalProperties": {"type": "string"}}},
        }}}))
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut managed = ManagedFields::default();
        let difference = Difference::between(&json!({}), &labels([1]), &structure());
        managed.update(&updater("kubectl"), difference);
        let mut object = labels([1]);

        managed.write(&mut object, "v1", "2026-01-01T00:00:00Z");

        let entry = &object["metadata"]["managedFields"][0];
        assert_eq!(entry["fieldsV1"], json!({"f:metadata": {"f:labels": {"f:l1": {}}}}));
        assert_eq!(entry["time"], "2026-01-01T00:00:00Z");
        let mut again = object.clone();
        ManagedFields::of(&object).write(&mut again, "v1", "2027-01-01T00:00:00Z");
        assert_eq!(again, object, "nothing changed, so nothing is newer");
    }

    #[test]
    fn an_update_takes_fields_over_and_nobody_owns_what_is_gone() {
        let mut managed = ManagedFields::default();
        let change = |old: &Value, new: &Value| Difference::between(old, new, &structure());
        managed.update(&updater("a"), change(&json!({}), &labels([1, 2])));
        let mut taken = labels([1]);
        taken["metadata"]["labels"]["l1"] = json!("y");

        managed.update(&updater("b"), change(&labels([1, 2]), &taken));

        assert_eq!(managed.fields(&updater("a")), None);
        let owned = managed.fields(&updater("b")).map(FieldSet::paths);
        assert_eq!(owned, Some(vec![".metadata.labels.l1".to_owned()]));
    }

    #[test]
    fn one_manager_too_many_makes_the_oldest_ancient() {
        let mut object = labels([]);
        let update = |object: &mut Value, count: usize| {
            let mut managed = ManagedFields::of(object);
            let new = labels(0..=count);
            managed.update(
                &updater(&format!("m{count:02}")),
                Difference::between(&labels(0..count), &new, &structure()),
            );
            managed.write(object, "v1", &format!("2026-01-01T00:00:{count:02}Z"));
            managed.entries.len()
        };
        for count in 0..limits::UPDATE_MANAGERS {
            assert_eq!(update(&mut object, count), count + 1);
        }

        assert_eq!(update(&mut object, limits::UPDATE_MANAGERS), limits::UPDATE_MANAGERS);

        let managed = ManagedFields::of(&object);
        let ancient = managed.fields(&updater(ANCIENT)).map(FieldSet::paths);
        let expected = [".metadata.labels.l0", ".metadata.labels.l1"].map(str::to_owned);
        assert_eq!(ancient, Some(expected.to_vec()));
    }
}
