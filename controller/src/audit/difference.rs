//! What a change did to an object, as a JSON patch (RFC 6902), without the secrets in it.

use json_patch::{Patch, diff};
use serde_json::{Value, json};

use crate::store::Resource;

/// Secrets: resources, and where in their objects they are.
const SECRETS: &[(&str, &[&str])] = &[("secrets", &["/data", "/stringData"])];

/// What kubectl puts the whole object into.
const LAST_APPLIED: &str =
    "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

/// Whether objects of a resource are secrets.
pub(crate) fn holds_secrets(resource: &str) -> bool {
    SECRETS.iter().any(|(secret, _)| *secret == resource)
}

/// From `old` to `new`; none: it was not there, or is not any more. What changes with every write
/// and says nothing is left out.
pub(super) fn difference(resource: &Resource, old: Option<&Value>, new: Option<&Value>) -> Patch {
    let nothing = json!({});
    let (mut old, mut new) =
        (old.cloned().unwrap_or_else(|| nothing.clone()), new.cloned().unwrap_or(nothing));
    for object in [&mut old, &mut new] {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("managedFields");
            metadata.shift_remove("resourceVersion");
        }
    }
    let secrets = SECRETS.iter().find(|(secret, _)| *secret == resource.as_str());
    for pointer in secrets.iter().flat_map(|(_, pointers)| *pointers).chain(&[LAST_APPLIED]) {
        if *pointer == LAST_APPLIED && secrets.is_none() {
            continue;
        }
        redact(old.pointer_mut(pointer), new.pointer_mut(pointer));
    }
    diff(&old, &new)
}

/// Says that something is there, and whether it changed, but not what it is.
fn redact(old: Option<&mut Value>, new: Option<&mut Value>) {
    let hide = |value: &mut Value, word: &str| *value = json!(word);
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for (key, value) in new.iter_mut() {
                redact(old.get_mut(key), Some(value));
            }
            for value in old.values_mut() {
                if !value.as_str().is_some_and(|text| text == SAME || text == BEFORE) {
                    hide(value, BEFORE);
                }
            }
        }
        (Some(old), Some(new)) if old == new => {
            hide(old, SAME);
            hide(new, SAME);
        }
        (old, new) => {
            for (value, word) in [(old, BEFORE), (new, AFTER)] {
                match value {
                    Some(Value::Object(fields)) => {
                        fields.values_mut().for_each(|value| hide(value, word));
                    }
                    Some(value) => hide(value, word),
                    None => {}
                }
            }
        }
    }
}

const SAME: &str = "(secret)";
const BEFORE: &str = "(secret before)";
const AFTER: &str = "(another secret)";

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(resource: &str, old: Option<&Value>, new: Option<&Value>) -> Value {
        serde_json::to_value(difference(&Resource::new(resource, ""), old, new)).unwrap()
    }

    #[test]
    fn a_difference_says_what_changed_and_nothing_else() {
        let old = json!({
            "metadata": {"name": "a", "resourceVersion": "1", "managedFields": [1]},
            "spec": {"size": 1},
        });
        let new = json!({
            "metadata": {"name": "a", "resourceVersion": "2", "managedFields": [2]},
            "spec": {"size": 2},
        });

        assert_eq!(
            patch("pools", Some(&old), Some(&new)),
            json!([{"op": "replace", "path": "/spec/size", "value": 2}]),
        );
    }

    #[test]
    fn a_secret_never_shows_but_that_it_changed_does() {
        let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": "{hunter2}"});
        let old = json!({
            "metadata": {"annotations": applied},
            "data": {"same": "hunter1", "other": "hunter2", "gone": "hunter3"},
        });
        let mut new = old.clone();
        new["data"] = json!({"same": "hunter1", "other": "hunter4", "new": "hunter5"});

        let changed = patch("secrets", Some(&old), Some(&new)).to_string();
        assert!(changed.contains("/data/other") && changed.contains("/data/new"), "{changed}");
        assert!(!changed.contains("/data/same"), "{changed}");
        let made = patch("secrets", None, Some(&old)).to_string();
        let gone = patch("secrets", Some(&old), None).to_string();
        for text in [changed, made, gone] {
            assert!(!text.contains("hunter"), "{text}");
        }
    }
}
