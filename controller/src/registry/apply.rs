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
    remove(&mut merged, structure, &dropped, Some(&others));

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
                if is_hollow(field) {
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
