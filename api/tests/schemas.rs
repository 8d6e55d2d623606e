//! What holds for the schema of every kind.

use isocast_api::{
    field::FieldPath,
    registry::{KindDescriptor, kinds},
};
use serde_json::Value;

/// Words that a structural schema may use; `kubectl explain` and server-side apply read these.
const WORDS: [&str; 18] = [
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "properties",
    "required",
    "type",
    "x-kubernetes-group-version-kind",
];

fn walk(schema: &Value, path: &FieldPath, visit: &mut impl FnMut(&Value, &FieldPath)) {
    visit(schema, path);
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, child) in properties {
            walk(child, &path.field(name), visit);
        }
    }
    for word in ["items", "additionalProperties"] {
        if let Some(child) = schema.get(word) {
            walk(child, &path.key(word), visit);
        }
    }
}

fn each_schema(mut visit: impl FnMut(&KindDescriptor, &Value, &FieldPath)) {
    for kind in kinds() {
        let visit = &mut |schema: &Value, path: &FieldPath| visit(kind, schema, path);
        walk((kind.schema)(), &FieldPath::root(), visit);
    }
}

#[test]
fn schemas_are_structural() {
    each_schema(|kind, schema, path| {
        for word in schema.as_object().unwrap().keys() {
            let known = WORDS.contains(&word.as_str()) || word.starts_with("x-kubernetes-");
            assert!(known, "{} {path}: {word}", kind.kind);
        }
        assert!(schema["type"].is_string(), "{} {path} has no type", kind.kind);
    });
}

#[test]
fn every_field_is_described() {
    each_schema(|kind, schema, path| {
        if let Some(Value::Object(properties)) = schema.get("properties") {
            for (name, child) in properties {
                let described = child["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(described, "{} {path}.{name} has no description", kind.kind);
            }
        }
    });
}

#[test]
fn every_list_says_how_it_merges() {
    each_schema(|kind, schema, path| {
        if schema["type"] != "array" {
            return;
        }
        match schema["x-kubernetes-list-type"].as_str() {
            Some("atomic" | "set") => {}
            Some("map") => {
                for key in schema["x-kubernetes-list-map-keys"].as_array().unwrap() {
                    let key = key.as_str().unwrap();
                    let field = &schema["items"]["properties"][key];
                    assert!(field.is_object(), "{} {path} has no {key}", kind.kind);
                    let required = schema["items"]["required"]
                        .as_array()
                        .is_some_and(|names| names.iter().any(|name| name == key));
                    let certain = required || field.get("default").is_some();
                    assert!(certain, "{} {path}: {key} may be absent", kind.kind);
                }
            }
            other => panic!("{} {path}: {other:?}", kind.kind),
        }
    });
}

#[test]
fn columns_and_selectable_fields_exist_in_the_schema() {
    let exists = |kind: &KindDescriptor, path: &str| {
        let mut schema = (kind.schema)();
        for segment in path.trim_start_matches('.').split('.') {
            let name = segment.split('[').next().unwrap();
            schema = &schema["properties"][name];
            if segment.contains('[') {
                schema = &schema["items"];
            }
        }
        schema.is_object()
    };
    for kind in kinds() {
        for column in kind.columns {
            // A filter holds dots itself: cut it out.
            let (before, after) = match column.json_path.split_once("[?(") {
                Some((before, rest)) => (before, rest.split_once(")]").unwrap().1),
                None => (column.json_path, ""),
            };
            let path =
                if after.is_empty() { before.to_owned() } else { format!("{before}[]{after}") };
            for path in path.split("||") {
                assert!(exists(kind, path), "{} {}", kind.kind, column.json_path);
            }
            assert!(["string", "integer", "boolean", "count", "date"].contains(&column.kind));
        }
        // Events begin with their age and end with their name, as kubectl shows them.
        let last = if kind.kind == "Event" { "Name" } else { "Age" };
        assert_eq!(kind.columns.last().unwrap().name, last, "{}", kind.kind);
        for field in kind.selectable_fields {
            assert!(exists(kind, field), "{} {field}", kind.kind);
        }
    }
}

#[test]
fn names_of_kinds_do_not_collide() {
    let mut seen = std::collections::BTreeSet::new();
    for kind in kinds() {
        let words =
            [kind.plural, kind.singular].into_iter().chain(kind.short_names.iter().copied());
        for word in words {
            assert!(seen.insert(word), "{word} names two kinds");
        }
    }
}
