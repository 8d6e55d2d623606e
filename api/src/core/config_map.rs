//! ConfigMap: configuration that programs read.

use std::{collections::BTreeMap, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BuiltIn, Words, check_base64, check_immutable, check_keys, omit_empty};
use crate::{
    field::{Errors, FieldPath},
    registry::{AGE, Column, ResourceKind},
    schema,
};

/// Configuration that programs read, as keys and values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMap {
    /// Keys and texts.
    pub data: BTreeMap<String, String>,
    /// Keys and bytes, in base64.
    #[schemars(extend("additionalProperties" = {"type": "string", "format": "byte"}))]
    pub binary_data: BTreeMap<String, String>,
    /// Whether the data can never change again.
    pub immutable: Option<bool>,
}

impl BuiltIn for ConfigMap {
    const WORDS: Words = Words {
        resource_kind: ResourceKind::ConfigMap,
        group: "",
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        columns: &[Column::new("Data", "count", ".data", "Number of keys"), AGE],
        selectable_fields: &[],
        description: "ConfigMap holds configuration that programs read.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::built_in_schema::<ConfigMap>);
        &SCHEMA
    }

    fn complete(value: &mut Value) {
        if let Some(map) = value.as_object_mut() {
            omit_empty(map, &["data", "binaryData"]);
        }
    }

    fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
        check_keys(new, &["data", "binaryData"], errors);
        let (data, binary) = (new.get("data"), new.get("binaryData"));
        let binary = binary.and_then(Value::as_object).into_iter().flatten();
        for (key, _) in binary.filter(|(key, _)| data.is_some_and(|data| data.get(key).is_some())) {
            let message = "duplicate of key present in data".to_owned();
            errors.invalid(&FieldPath::root().field("binaryData").key(key), key, message);
        }
        check_immutable(new, old, &["data", "binaryData"], errors);
        check_base64(new, "binaryData", errors);
    }
}
