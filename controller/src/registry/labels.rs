//! Labels, annotations and finalizers: what their names and values may be, in Kubernetes' words.
//!
//! A name is qualified: a prefix that is a DNS subdomain, a slash, and a part of its own; the prefix
//! may be left out. Checked when they change: what was stored under other rules stays until then.

use isocast_api::{
    field::{Errors, FieldError, FieldErrorReason, FieldPath},
    text::is_label,
};
use serde_json::{Map, Value};

use crate::limits;

/// Characters of the part after the prefix, and of a label's value.
const PART_MAX: usize = 63;
/// Characters of a DNS subdomain (RFC 1123 §2.1).
const PREFIX_MAX: usize = 253;

/// What is wrong with those of `new` that `old` does not have alike.
pub(super) fn check(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let changed = |field: &str| {
        let value = of(new, field)?;
        (old.and_then(|old| of(old, field)) != Some(value)).then_some(value)
    };
    let metadata = FieldPath::root().field("metadata");
    if let Some(Value::Object(labels)) = changed("labels") {
        check_labels(labels, &metadata.field("labels"), &mut errors);
    }
    if let Some(Value::Object(annotations)) = changed("annotations") {
        check_annotations(annotations, &metadata.field("annotations"), &mut errors);
    }
    if let Some(Value::Array(finalizers)) = changed("finalizers") {
        let path = metadata.field("finalizers");
        for name in finalizers.iter().filter_map(Value::as_str) {
            check_name(name, name, &path, &mut errors);
        }
    }
    errors.into_vec()
}

fn of<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(field)
}

fn check_labels(labels: &Map<String, Value>, path: &FieldPath, errors: &mut Errors) {
    for (name, value) in labels {
        check_name(name, name, path, errors);
        let value = value.as_str().unwrap_or_default();
        if value.len() > PART_MAX {
            errors.invalid(path, value, too_long(PART_MAX));
        }
        if !value.is_empty() && !is_part(value) {
            errors.invalid(path, value, VALUE);
        }
    }
}

fn check_annotations(annotations: &Map<String, Value>, path: &FieldPath, errors: &mut Errors) {
    let mut bytes = 0_usize;
    for (name, value) in annotations {
        // Kubernetes' annotations may have prefixes in upper case.
        check_name(&name.to_ascii_lowercase(), name, path, errors);
        let value = value.as_str().unwrap_or_default();
        bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
    }
    if bytes > limits::ANNOTATIONS_BYTES {
        let message = format!("may not be more than {} bytes", limits::ANNOTATIONS_BYTES);
        errors.push(path, FieldErrorReason::TooLong, message, None);
    }
}

/// Checks a qualified name, which was written as `given`.
fn check_name(name: &str, given: &str, path: &FieldPath, errors: &mut Errors) {
    let part = match name.split_once('/') {
        None => name,
        Some((_, part)) if part.contains('/') => {
            return errors.invalid(path, given, QUALIFIED);
        }
        Some(("", part)) => {
            errors.invalid(path, given, "prefix part must be non-empty");
            part
        }
        Some((prefix, part)) => {
            if prefix.len() > PREFIX_MAX {
                errors.invalid(path, given, format!("prefix part {}", too_long(PREFIX_MAX)));
            }
            if !prefix.split('.').all(is_label) {
                errors.invalid(path, given, PREFIX);
            }
            part
        }
    };
    if part.is_empty() {
        return errors.invalid(path, given, "name part must be non-empty");
    }
    if part.len() > PART_MAX {
        errors.invalid(path, given, format!("name part {}", too_long(PART_MAX)));
    }
    if !is_part(part) {
        errors.invalid(path, given, NAME);
    }
}

fn is_part(text: &str) -> bool {
    let is_inner = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    let is_end = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.iter().copied().all(is_inner) && is_end(bytes.first()) && is_end(bytes.last())
}

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

const QUALIFIED: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
    used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain \
    prefix and '/' (e.g. 'example.com/MyName')";
const PREFIX: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
    regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
    end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
    validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
    or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
    '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is wrong with an object of this metadata: each field, and how its message begins.
    fn faults(metadata: Value) -> Vec<(String, String)> {
        let errors = check(&json!({"metadata": metadata}), None);
        let begin = |text: &str| text.chars().take(12).collect();
        errors.iter().map(|error| (error.field.clone(), begin(&error.message))).collect()
    }

    fn fault(field: &str, message: &str) -> Vec<(String, String)> {
        vec![(format!("metadata.{field}"), message.to_owned())]
    }

    #[test]
    fn what_kubernetes_takes_is_taken() {
        let label = "a".repeat(63);
        let metadata = json!({
            "labels": {
                "app": "", "app.kubernetes.io/name": "Web_1.2-x", "A9": "9", &label: &label,
                format!("{}/x", ["a".repeat(60).as_str(); 4].join(".")): "y",
            },
            "annotations": {"Example.COM/Any": "what\nis said \u{e9}", "b": ""},
            "finalizers": ["example.com/guard", "orphan"],
        });
        assert_eq!(faults(metadata), []);
        assert_eq!(faults(json!({})), []);
    }

    #[test]
    fn what_it_does_not_take_is_refused() {
        for name in ["a b", "-a", "a-", "_", "é", "x/a b"] {
            let [labels, annotations] = [json!({name: "v"}), json!({name: "v"})];
            assert_eq!(
                faults(json!({"labels": labels})),
                fault("labels", "name part mu"),
                "{name}"
            );
            let refused = faults(json!({"annotations": annotations}));
            assert_eq!(refused, fault("annotations", "name part mu"), "{name}");
            let refused = faults(json!({"finalizers": [name]}));
            assert_eq!(refused, fault("finalizers", "name part mu"), "{name}");
        }
        for (name, message) in [
            ("a/b/c", "a qualified "),
            ("/a", "prefix part "),
            ("Example.com/a", "prefix part "),
            ("a..b/c", "prefix part "),
            ("example.com/", "name part mu"),
            ("", "name part mu"),
        ] {
            assert_eq!(faults(json!({"labels": {name: "v"}})), fault("labels", message), "{name}");
        }
        for value in ["a b", "-a", "a.", "/"] {
            let refused = faults(json!({"labels": {"a": value}}));
            assert_eq!(refused, fault("labels", "a valid labe"), "{value}");
        }
        let long = "a".repeat(64);
        let refused = faults(json!({"labels": {"a": long}}));
        assert_eq!(refused, fault("labels", "must be no m"));
        let refused = faults(json!({"labels": {long: "a"}}));
        assert_eq!(refused, fault("labels", "name part mu"));
    }

    #[test]
    fn annotations_have_a_limit() {
        let annotations = |bytes: usize| json!({"annotations": {"a": "x".repeat(bytes - 1)}});
        assert_eq!(faults(annotations(limits::ANNOTATIONS_BYTES)), []);
        let refused = faults(annotations(limits::ANNOTATIONS_BYTES + 1));
        assert_eq!(refused, fault("annotations", "may not be m"));
    }

    #[test]
    fn what_was_stored_under_other_rules_stays_until_it_changes() {
        let old = json!({"metadata": {"labels": {"a b": "c"}}});
        let mut new = old.clone();
        new["metadata"]["annotations"] = json!({"d": "e"});
        assert_eq!(check(&new, Some(&old)), []);
        new["metadata"]["labels"]["f"] = json!("g");
        assert_eq!(check(&new, Some(&old)).len(), 1);
    }
}
