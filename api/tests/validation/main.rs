//! What each kind accepts, and how it refuses the rest: the exact field and words.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod addresses;
mod bgp;
mod containers;
mod iam;
mod nodes;
mod services;

use isocast_api::registry::{KindDescriptor, kinds};
use serde_json::{Value, json};

fn kind(name: &str) -> &'static KindDescriptor {
    kinds().iter().find(|kind| kind.kind == name).unwrap()
}

fn object(kind: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "x"}, "spec": spec,
    })
}

/// The refusals of an object, as the server words them.
fn refusals(value: &Value, old: Option<&Value>) -> Vec<String> {
    let kind = kind(value["kind"].as_str().unwrap());
    let mut value = value.clone();
    (kind.default)(&mut value);
    (kind.validate)(&value, old).iter().map(ToString::to_string).collect()
}

/// `good` is accepted; with each of `changes` (JSON pointer, value; null removes) it is refused in
/// exactly these words.
fn table(kind: &str, good: &Value, cases: &[(&[(&str, Value)], &str)]) {
    let good = object(kind, good.clone());
    assert_eq!(refusals(&good, None), [""; 0], "{kind}");
    for (changes, expected) in cases {
        let mut bad = good.clone();
        for (pointer, value) in *changes {
            set(&mut bad["spec"], pointer, value.clone());
        }
        assert_eq!(refusals(&bad, None), [*expected], "{kind} {changes:?}");
    }
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Object(fields) if new.is_null() => drop(fields.remove(name)),
        Value::Object(fields) => drop(fields.insert(name.to_owned(), new)),
        Value::Array(items) if name == "-" => items.push(new),
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = new,
        other => panic!("{pointer} is in {other}"),
    }
}

fn defaulted(kind_name: &str, spec: Value) -> Value {
    let mut value = object(kind_name, spec);
    (kind(kind_name).default)(&mut value);
    value["spec"].take()
}

fn updated(kind: &str, old: Value, new: Value) -> Vec<String> {
    refusals(&object(kind, new), Some(&object(kind, old)))
}

#[test]
fn an_object_of_the_wrong_shape_is_refused_without_a_panic() {
    for kind in kinds() {
        for value in [json!(null), json!([]), json!({}), json!({"spec": 1, "metadata": "x"})] {
            let mut value = value;
            (kind.default)(&mut value);
            assert!(!(kind.validate)(&value, Some(&json!(7))).is_empty(), "{}", kind.kind);
        }
    }
}

#[test]
fn a_malformed_object_is_refused_and_panics_nobody() {
    for kind in kinds() {
        for value in [json!(null), json!([]), json!({"spec": 1})] {
            assert_ne!((kind.validate)(&value, None), [], "{}", kind.kind);
        }
    }
}
