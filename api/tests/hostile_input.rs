//! Whatever a client sends is read or refused, never a panic.

use isocast_api::{
    registry::{KindDescriptor, kinds},
    schema::prune_unknown,
};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Every field name of a schema, so that what is made up reaches deep into it.
fn names(schema: &Value, into: &mut Vec<String>) {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, property) in properties {
            into.push(name.clone());
            names(property, into);
        }
    }
    for word in ["items", "additionalProperties"] {
        if let Some(child) = schema.get(word) {
            names(child, into);
        }
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] = &[
        "",
        "Edge",
        "TCP",
        "GUE",
        "IPv4",
        "10.0.0.0/8",
        "203.0.113.1",
        "::1",
        "500ms",
        "1h",
        "/",
        "65010:1",
        "a",
        "2026-11-22T02:00:00Z",
        "True",
        "\u{0}",
        "ä",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_i64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(WORDS).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

fn tree(names: Vec<String>) -> impl Strategy<Value = Value> {
    scalar().prop_recursive(6, 64, 8, move |inner| {
        let field = (proptest::sample::select(names.clone()), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            proptest::collection::vec(field, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A kind, and something that has a little of one of its objects.
fn input() -> impl Strategy<Value = (KindDescriptor, Value, Value)> {
    proptest::sample::select(kinds()).prop_flat_map(|kind| {
        let mut known = Vec::new();
        names((kind.schema)(), &mut known);
        let object = (tree(known.clone()), tree(known.clone())).prop_map(|(spec, status)| {
            serde_json::json!({
                "apiVersion": "x/v1", "kind": "x", "metadata": {"name": "x"},
                "spec": spec, "status": status,
            })
        });
        (Just(kind), object, tree(known))
    })
}

proptest! {
    #[test]
    fn any_json_is_defaulted_pruned_and_judged((kind, mut new, old) in input()) {
        (kind.default)(&mut new);
        let once = new.clone();
        (kind.default)(&mut new);
        prop_assert_eq!(&new, &once, "defaulting is idempotent");

        let errors = (kind.validate)(&new, Some(&old));
        let unknown = prune_unknown(&mut new, (kind.schema)());

        if errors.is_empty() {
            prop_assert_eq!(unknown, Vec::<String>::new());
        }
        prop_assert_eq!(prune_unknown(&mut new, (kind.schema)()), Vec::<String>::new());
    }
}
