//! [`FieldSet`]: a set of fields of an object, as `metadata.managedFields` holds it (FieldsV1).
//!
//! A tree whose edges are path elements in their wire form (`f:spec`, `k:{"name":"a"}`, `v:"x"`),
//! so that reading and writing FieldsV1 is a walk. Pure.

use std::collections::{BTreeMap, btree_map::Entry};

use serde_json::{Map, Value, json};

use super::structure::{Structure, display};

/// Some fields of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the field at this path is itself in the set.
    this: bool,
    below: BTreeMap<String, Self>,
}

/// How one object differs from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Fields that are new or have another value.
    pub(crate) changed: FieldSet,
    /// Fields that are gone.
    pub(crate) removed: FieldSet,
}

impl FieldSet {
    /// Every field of `value`.
    pub(crate) fn of(value: &Value, structure: &Structure) -> Self {
        let Some(parts) = structure.parts(value) else {
            return Self { this: true, below: BTreeMap::new() };
        };
        let mut set = Self::default();
        for part in parts {
            let mut below = Self::of(part.value, part.structure);
            below.this |= is_item(&part.element);
            set.below.insert(part.element, below);
        }
        set
    }

    /// Reads FieldsV1.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        let object = value.as_object()?;
        for (element, below) in object {
            if element == "." {
                set.this = true;
            } else {
                set.below.insert(element.clone(), Self::from_json(below)?);
            }
        }
        // A leaf is written as {}; the root is not a field.
        set.this |= object.is_empty();
        Some(set)
    }

    /// Writes FieldsV1.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        if self.this && !self.below.is_empty() {
            object.insert(".".into(), json!({}));
        }
        for (element, below) in &self.below {
            object.insert(element.clone(), below.to_json());
        }
        Value::Object(object)
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.this && self.below.is_empty()
    }

    /// Whether the field itself is in the set, whatever of it is.
    pub(crate) fn this(&self) -> bool {
        self.this
    }

    /// The fields below `element`.
    pub(crate) fn below(&self, element: &str) -> Option<&Self> {
        self.below.get(element)
    }

    /// Path elements and what is below them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Self)> {
        self.below.iter()
    }

    /// Adds the fields of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.this |= other.this;
        for (element, below) in &other.below {
            self.below.entry(element.clone()).or_default().add(below);
        }
    }

    /// Takes the fields of `other` away.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.this &= !other.this;
        for (element, below) in &other.below {
            if let Entry::Occupied(mut mine) = self.below.entry(element.clone()) {
                mine.get_mut().subtract(below);
                if mine.get().is_empty() {
                    mine.remove();
                }
            }
        }
    }

    /// The fields that both hold.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { this: self.this && other.this, below: BTreeMap::new() };
        for (element, mine) in &self.below {
            let Some(theirs) = other.below.get(element) else { continue };
            let below = mine.intersection(theirs);
            if !below.is_empty() {
                both.below.insert(element.clone(), below);
            }
        }
        both
    }

    /// Takes a whole branch away.
    pub(crate) fn prune(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let Entry::Occupied(mut branch) = self.below.entry((*first).to_owned()) else { return };
        branch.get_mut().prune(rest);
        if rest.is_empty() || branch.get().is_empty() {
            branch.remove();
        }
    }

    /// Keeps one branch only.
    pub(crate) fn keep_only(&mut self, element: &str) {
        self.this = false;
        self.below.retain(|other, _| other == element);
    }

    /// The paths of the set, for people: `.spec.ports[name="https"].port`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.this {
            paths.push(prefix.to_owned());
        }
        for (element, below) in &self.below {
            below.collect(&format!("{prefix}{}", display(element)), paths);
        }
    }
}

impl Difference {
    /// What has to change to make `new` of `old`.
    pub(crate) fn between(old: &Value, new: &Value, structure: &Structure) -> Self {
        if old == new {
            return Self::default();
        }
        let (Some(olds), Some(news)) = (structure.parts(old), structure.parts(new)) else {
            return Self {
                changed: FieldSet::of(new, structure),
                removed: structure.parts(old).map_or_else(FieldSet::default, |_| {
                    let mut gone = FieldSet::of(old, structure);
                    gone.this = false;
                    gone
                }),
            };
        };
        let mut difference = Self::default();
        let mut olds: BTreeMap<String, _> =
            olds.into_iter().map(|part| (part.element, part.value)).collect();
        for part in news {
            let below = match olds.remove(&part.element) {
                Some(old) => Self::between(old, part.value, part.structure),
                None => {
                    let mut changed = FieldSet::of(part.value, part.structure);
                    changed.this |= is_item(&part.element);
                    Self { changed, removed: FieldSet::default() }
                }
            };
            for (mine, below) in
                [(&mut difference.changed, below.changed), (&mut difference.removed, below.removed)]
            {
                if !below.is_empty() {
                    mine.below.insert(part.element.clone(), below);
                }
            }
        }
        for part in structure.parts(old).into_iter().flatten() {
            if olds.contains_key(&part.element) {
                let mut gone = FieldSet::of(part.value, part.structure);
                gone.this = true;
                difference.removed.below.insert(part.element, gone);
            }
        }
        difference
    }
}

fn is_item(element: &str) -> bool {
    element.starts_with("k:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure() -> Structure {
        Structure::of(&json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {
                "pool": {"type": "string"},
                "tags": {"type": "array", "x-kubernetes-list-type": "set",
                    "items": {"type": "string"}},
                "ports": {"type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {
                        "name": {"type": "string"}, "port": {"type": "integer"}}}},
            },
        }}}))
    }

    #[test]
    fn fields_v1_is_written_as_kubernetes_writes_it_and_reads_back() {
        let value = json!({"spec": {
            "pool": "www", "tags": ["a"], "ports": [{"name": "https", "port": 443}]}});

        let set = FieldSet::of(&value, &structure());

        let written = json!({"f:spec": {
            "f:pool": {},
            "f:ports": {"k:{\"name\":\"https\"}": {".": {}, "f:name": {}, "f:port": {}}},
            "f:tags": {"v:\"a\"": {}},
        }});
        assert_eq!(set.to_json(), written);
        assert_eq!(FieldSet::from_json(&written), Some(set));
    }

    #[test]
    fn a_difference_names_exactly_what_moved() {
        let old = json!({"spec": {"pool": "www", "tags": ["a", "b"],
            "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}]}});
        let new = json!({"spec": {"pool": "www2", "tags": ["b", "c"],
            "ports": [{"name": "https", "port": 8443}, {"name": "dns", "port": 53}]}});

        let difference = Difference::between(&old, &new, &structure());

        assert_eq!(
            difference.changed.paths(),
            [
                ".spec.pool",
                ".spec.ports[name=\"dns\"]",
                ".spec.ports[name=\"dns\"].name",
                ".spec.ports[name=\"dns\"].port",
                ".spec.ports[name=\"https\"].port",
                ".spec.tags[=\"c\"]",
            ]
        );
        assert_eq!(
            difference.removed.paths(),
            [
                ".spec.ports[name=\"http\"]",
                ".spec.ports[name=\"http\"].name",
                ".spec.ports[name=\"http\"].port",
                ".spec.tags[=\"a\"]",
            ]
        );
    }

    #[test]
    fn subtraction_leaves_no_empty_branches() {
        let value = json!({"spec": {"pool": "www"}});
        let mut set = FieldSet::of(&value, &structure());

        set.subtract(&set.clone());

        assert!(set.is_empty());
    }
}
