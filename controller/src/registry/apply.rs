//! Server-side apply: what an object becomes when a manager states the fields it cares for.
//!
//! Merge by structure, remove what the manager stated before and no longer does (unless another
//! manager owns it), and refuse to change what others own unless forced. Pure; the semantics are
//! those of the Kubernetes API reference, "Server-Side Apply".

use serde_json::{Map, Value};

use super::{
    fields::{Difference, FieldSet},
    managed::{ManagedFields, Manager},
    structure::{ListType, Structure, key_element},
};

/// What to do about fields that others own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflicts {
    /// Take them over.
    Force,
    /// Leave everything as it is.
    Refuse,
}

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) manager: Manager,
    pub(crate) fields: FieldSet,
}

/// Merges `applied` into `live` for `manager`, and moves the ownership of fields in `managed`.
pub(crate) fn apply(
    live: &Value,
    applied: &Value,
    structure: &Structure,
    manager: &Manager,
    managed: &mut ManagedFields,
    conflicts: Conflicts,
) -> Result<Value, Vec<Conflict>> {
    let mut stated = FieldSet::of(applied, structure);
    manager.strip(&mut stated);
    let mut merged = merge(Some(live), applied, structure);

    let others = managed.owned_by_others(manager);
    let mut dropped = managed.fields(manager).cloned().unwrap_or_default();
    dropped.subtract(&stated);
    dropped.subtract(&others);
    let mut kept = others;
    kept.add(&stated);
    remove(&mut merged, structure, &dropped, Some(&kept));

    let mut changed = Difference::between(live, &merged, structure).changed;
    manager.strip(&mut changed);
    let taken = managed.conflicts(manager, &changed);
    if conflicts == Conflicts::Refuse && !taken.is_empty() {
        return Err(taken
            .into_iter()
            .map(|(manager, fields)| Conflict { manager, fields })
            .collect());
    }
    for (other, fields) in taken {
        managed.take(&other, &fields);
    }
    managed.set(manager, stated);
    Ok(merged)
}

/// `live` with what `applied` says.
fn merge(live: Option<&Value>, applied: &Value, structure: &Structure) -> Value {
    match (structure, live, applied) {
        (
            Structure::Struct(..) | Structure::Map(_),
            Some(Value::Object(live)),
            Value::Object(applied),
        ) => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let below = structure.field(name).unwrap_or(&Structure::Any);
                let value = merge(live.get(name), value, below);
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (
            Structure::List(item, ListType::Map(keys)),
            Some(Value::Array(live)),
            Value::Array(applied),
        ) => {
            let mut merged = live.clone();
            for value in applied {
                let element = key_element(value, keys);
                match merged.iter_mut().find(|other| key_element(other, keys) == element) {
                    Some(other) => *other = merge(Some(other), value, item),
                    None => merged.push(value.clone()),
                }
            }
            Value::Array(merged)
        }
        (Structure::List(_, ListType::Set), Some(Value::Array(live)), Value::Array(applied)) => {
            let mut merged = live.clone();
            merged.extend(applied.iter().filter(|value| !live.contains(value)).cloned());
            Value::Array(merged)
        }
        _ => applied.clone(),
    }
}

/// Takes the fields of `set` out of `value`, unless `kept` has something below them.
fn remove(value: &mut Value, structure: &Structure, set: &FieldSet, kept: Option<&FieldSet>) {
    if set.is_empty() {
        return;
    }
    let goes = |element: &str| {
        let kept = kept.and_then(|kept| kept.below(element));
        kept.is_none_or(FieldSet::is_empty) && set.below(element).is_some_and(FieldSet::this)
    };
    let kept_below = |element: &str| kept.and_then(|kept| kept.below(element));
    match (structure, value) {
        (Structure::Struct(..) | Structure::Map(_), Value::Object(object)) => {
            for (element, below) in set.iter() {
                let Some(name) = element.strip_prefix("f:") else { continue };
                if goes(element) {
                    object.shift_remove(name);
                    continue;
                }
                let structure = structure.field(name).unwrap_or(&Structure::Any);
                let Some(field) = object.get_mut(name) else { continue };
                remove(field, structure, below, kept_below(element));
                let is_kept = kept_below(element).is_some_and(FieldSet::this);
                if is_hollow(field) && !is_kept {
                    object.shift_remove(name);
                }
            }
        }
        (Structure::List(item, ListType::Map(keys)), Value::Array(items)) => {
            items.retain(|value| !goes(&key_element(value, keys)));
            for value in items {
                let element = key_element(value, keys);
                if let Some(below) = set.below(&element) {
                    remove(value, item, below, kept_below(&element));
                }
            }
        }
        (Structure::List(_, ListType::Set), Value::Array(items)) => {
            items.retain(|value| !goes(&format!("v:{value}")));
        }
        _ => {}
    }
}

fn is_hollow(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::registry::managed::Operation;

    fn structure() -> Structure {
        let text = json!({"type": "string"});
        Structure::of(&json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {
                "pool": text,
                "mode": text,
                "labels": {"type": "object", "additionalProperties": text},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
                "order": {"type": "array", "items": text},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {
                        "name": text, "port": {"type": "integer"}, "note": text}},
                },
            },
        }}}))
    }

    fn applier(name: &str) -> Manager {
        Manager { operation: Operation::Apply, name: name.to_owned(), subresource: None }
    }

    /// A live object and its owners.
    struct World {
        live: Value,
        managed: ManagedFields,
    }

    impl World {
        fn new() -> Self {
            Self { live: json!({}), managed: ManagedFields::default() }
        }

        fn apply(
            &mut self,
            name: &str,
            spec: &Value,
            conflicts: Conflicts,
        ) -> Result<&Value, Vec<String>> {
            let applied = json!({"spec": spec});
            let manager = applier(name);
            let mut managed = self.managed.clone();
            let merged =
                apply(&self.live, &applied, &structure(), &manager, &mut managed, conflicts)
                    .map_err(|conflicts| {
                        let paths = |it: &Conflict| {
                            let manager = it.manager.name.clone();
                            it.fields
                                .paths()
                                .into_iter()
                                .map(move |path| format!("{manager}{path}"))
                        };
                        conflicts.iter().flat_map(paths).collect::<Vec<_>>()
                    })?;
            self.live = merged;
            self.managed = managed;
            Ok(&self.live["spec"])
        }
    }

    #[test]
    fn managers_own_their_parts_of_one_object() {
        let mut world = World::new();
        let refuse = Conflicts::Refuse;
        world
            .apply("a", &json!({"pool": "www", "ports": [{"name": "http", "port": 80}]}), refuse)
            .expect("alone");

        let theirs = json!({"tags": ["x"], "ports": [{"name": "dns", "port": 53}]});
        let merged = world.apply("b", &theirs, refuse).expect("elsewhere");

        let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53}]);
        assert_eq!(*merged, json!({"pool": "www", "ports": ports, "tags": ["x"]}));
    }

    #[test]
    fn what_is_no_longer_stated_goes_unless_another_owns_it() {
        let mut world = World::new();
        let refuse = Conflicts::Refuse;
        let full = json!({
            "pool": "www",
            "mode": "GUE",
            "labels": {"x": "1", "y": "2"},
            "tags": ["a", "b"],
            "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53}],
        });
        world.apply("a", &full, refuse).expect("alone");
        let shared = json!({"mode": "GUE", "tags": ["b"], "ports": [{"name": "dns"}]});
        world.apply("b", &shared, refuse).expect("the same values");

        let merged = world.apply("a", &json!({"pool": "www"}), refuse).expect("its own");

        let ports = json!([{"name": "dns"}]);
        let left = json!({"pool": "www", "mode": "GUE", "tags": ["b"], "ports": ports});
        assert_eq!(*merged, left);
    }

    #[test]
    fn another_value_for_anothers_field_conflicts_and_force_takes_it() {
        let mut world = World::new();
        world.apply("a", &json!({"pool": "www", "mode": "GUE"}), Conflicts::Refuse).expect("alone");
        let theirs = json!({"pool": "other", "order": ["x"]});

        let refusal = world.apply("b", &theirs, Conflicts::Refuse).cloned();
        assert_eq!(refusal, Err(vec!["a.spec.pool".to_owned()]));
        world.apply("b", &theirs, Conflicts::Force).expect("forced");

        let owned = world.managed.fields(&applier("a")).map(FieldSet::paths);
        assert_eq!(owned, Some(vec![".spec.mode".to_owned()]));
        assert_eq!(world.live["spec"]["pool"], "other");
    }

    #[test]
    fn an_atomic_list_has_one_owner() {
        let mut world = World::new();
        world.apply("a", &json!({"order": ["x", "y"]}), Conflicts::Refuse).expect("alone");

        let refusal = world.apply("b", &json!({"order": ["z"]}), Conflicts::Refuse).cloned();

        assert_eq!(refusal, Err(vec!["a.spec.order".to_owned()]));
    }

    fn spec() -> impl Strategy<Value = Value> {
        let word = || prop::sample::select(vec!["p", "q"]);
        let names = prop::collection::btree_set(prop::sample::select(vec!["x", "y", "z"]), 0..3);
        (
            prop::option::of(word()),
            prop::collection::btree_map(prop::sample::select(vec!["k", "l"]), word(), 0..3),
            names.clone(),
            prop::collection::btree_map(prop::sample::select(vec!["h", "d"]), 1..3_u16, 0..3),
        )
            .prop_map(|(pool, labels, tags, ports)| {
                let ports: Vec<Value> = ports
                    .into_iter()
                    .map(|(name, port)| json!({"name": name, "port": port}))
                    .collect();
                let mut spec = json!({"labels": labels, "tags": tags, "ports": ports});
                if let (Some(pool), Some(fields)) = (pool, spec.as_object_mut()) {
                    fields.insert("pool".into(), json!(pool));
                }
                spec
            })
    }

    proptest! {
        #[test]
        fn what_a_manager_states_is_so_and_stating_it_again_changes_nothing(
            steps in prop::collection::vec((0..3_usize, spec()), 1..12)
        ) {
            let mut world = World::new();
            for (manager, spec) in steps {
                let name = ["a", "b", "c"][manager];
                world.apply(name, &spec, Conflicts::Force).expect("forced");
                let stated = FieldSet::of(&json!({"spec": spec}), &structure());
                prop_assert_eq!(world.managed.fields(&applier(name)), Some(&stated));
                // Applying the same again conflicts with nobody and moves nothing.
                let (live, managed) = (world.live.clone(), world.managed.clone());
                world.apply(name, &spec, Conflicts::Refuse).expect("no conflict with itself");
                prop_assert_eq!(&world.live, &live);
                prop_assert_eq!(&world.managed, &managed);
            }
            // Whatever was stated and is owned is there.
            for name in ["a", "b", "c"] {
                let Some(owned) = world.managed.fields(&applier(name)) else { continue };
                let present = FieldSet::of(&world.live, &structure());
                for path in owned.paths() {
                    let is_there = present.paths().iter().any(|other| other.starts_with(&path));
                    prop_assert!(is_there, "{} owns {}, which is gone", name, path);
                }
            }
        }
    }
}
