//! Secret: what must not be read by others. Refusals never quote a value.

use std::{collections::BTreeMap, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{BuiltIn, Words, check_base64, check_immutable, check_keys, omit_empty};
use crate::{
    field::{Errors, FieldErrorReason, FieldPath},
    registry::{AGE, Column, ResourceKind},
    schema,
};

/// What must not be read by others: keys, passwords, tokens.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// Keys and values, in base64. Sealed wherever it is stored.
    #[schemars(extend("additionalProperties" = {"type": "string"}))]
    pub data: BTreeMap<String, String>,
    /// Keys and texts to add to `data`; never returned.
    pub string_data: BTreeMap<String, String>,
    /// What the secret is, for programs: `Opaque`, `kubernetes.io/tls`. Cannot change.
    #[serde(rename = "type")]
    pub secret_type: Option<String>,
    /// Whether the data can never change again.
    pub immutable: Option<bool>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("Secret").field("keys", &keys).finish_non_exhaustive()
    }
}

impl BuiltIn for Secret {
    const WORDS: Words = Words {
        resource_kind: ResourceKind::Secret,
        group: "",
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        short_names: &[],
        columns: &[
            Column::new("Type", "string", ".type", "What the secret is"),
            Column::new("Data", "count", ".data", "Number of keys"),
            AGE,
        ],
        selectable_fields: &["type"],
        description: "Secret holds what must not be read by others: keys, passwords, tokens.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::built_in_schema::<Secret>);
        &SCHEMA
    }

    /// Moves `stringData` into `data`, where it wins.
    fn complete(value: &mut Value) {
        let Some(secret) = value.as_object_mut() else { return };
        let is_text = |texts: &Map<String, Value>| texts.values().all(Value::is_string);
        if secret.get("stringData").and_then(Value::as_object).is_some_and(is_text)
            && let Some(Value::Object(texts)) = secret.shift_remove("stringData")
            && let Value::Object(data) = secret.entry("data").or_insert_with(|| json!({}))
        {
            for (key, text) in texts {
                data.insert(key, json!(STANDARD.encode(text.as_str().unwrap_or_default())));
            }
        }
        omit_empty(secret, &["data"]);
        let kind = secret.entry("type").or_insert_with(|| json!(OPAQUE));
        if kind == "" {
            *kind = json!(OPAQUE);
        }
    }

    fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
        check_keys(new, &["data"], errors);
        check_immutable(new, old, &["data"], errors);
        check_base64(new, "data", errors);
        let data = FieldPath::root().field("data");
        let kind = FieldPath::root().field("type");
        if old.is_some_and(|old| old.get("type") != new.get("type")) {
            let message = "field is immutable".to_owned();
            errors.push(&kind, FieldErrorReason::Immutable, message, None);
        }
        let name = new.get("type").and_then(Value::as_str).unwrap_or_default();
        let lacks = |key: &&&str| new.get("data").and_then(|data| data.get(**key)).is_none();
        for key in required_keys(name).iter().filter(lacks) {
            errors.required(&data.key(key), String::new());
        }
        // One of them is enough.
        if name == "kubernetes.io/basic-auth" && BASIC_AUTH.iter().filter(lacks).count() == 2 {
            for key in BASIC_AUTH {
                errors.required(&data.key(key), String::new());
            }
        }
        let annotations = new.pointer("/metadata/annotations");
        if name == "kubernetes.io/service-account-token"
            && annotations.and_then(|it| it.get(ACCOUNT)).is_none()
        {
            let path = FieldPath::root().field("metadata").field("annotations").key(ACCOUNT);
            errors.required(&path, String::new());
        }
    }
}

/// The account that a token is of.
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const BASIC_AUTH: [&str; 2] = ["username", "password"];

/// Keys that a secret of a well-known type has.
fn required_keys(secret_type: &str) -> &'static [&'static str] {
    match secret_type {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}

const OPAQUE: &str = "Opaque";

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(mut new: Value, old: Option<&Value>) -> Vec<String> {
        let fields = new.as_object_mut().unwrap();
        fields.insert("apiVersion".into(), json!("v1"));
        fields.insert("kind".into(), json!("Secret"));
        fields.insert("metadata".into(), json!({"name": "s"}));
        Secret::complete(&mut new);
        let errors = (super::super::descriptor::<Secret>().validate)(&new, old);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn texts_become_data_and_win() {
        let mut secret = json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "z"}});
        Secret::complete(&mut secret);
        assert_eq!(secret, json!({"data": {"a": "eA==", "b": "eg=="}, "type": "Opaque"}));
        let once = secret.clone();
        Secret::complete(&mut secret);
        assert_eq!(secret, once);
    }

    #[test]
    fn a_refusal_never_quotes_a_value() {
        let refused = refusals(json!({"data": {"key": "hunter2!"}}), None);
        assert_eq!(refused, ["data[key]: Invalid value: must be base64"]);
        let refused = refusals(json!({"data": {"key": 77}}), None);
        assert!(!refused.is_empty() && !refused.concat().contains("77"), "{refused:?}");
    }

    #[test]
    fn what_is_immutable_stays_and_so_does_the_type() {
        let old = json!({"data": {"a": "eA=="}, "immutable": true, "type": "Opaque"});
        for new in [
            json!({"data": {"a": "eQ=="}, "immutable": true}),
            json!({"data": {"a": "eA=="}}),
            json!({"data": {"a": "eA=="}, "immutable": true, "type": "x/y"}),
        ] {
            assert_eq!(refusals(new.clone(), Some(&old)).len(), 1, "{new}");
        }
        assert_eq!(refusals(json!({"type": "kubernetes.io/tls"}), None).len(), 2);
    }
}
