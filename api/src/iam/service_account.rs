//! ServiceAccount: a program that may be allowed something.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AccountState, Token};
use crate::{
    field::{Errors, FieldPath},
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
};

/// A program, with tokens instead of a certificate.
pub type ServiceAccount = Object<ServiceAccountSpec>;

/// What is wanted of the account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountSpec {
    /// Name for people. Default: the object's name is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub display_name: Option<String>,
    /// Whether the account can be used.
    #[serde(default)]
    pub state: AccountState,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccountStatus {
    /// Tokens that were given out; the tokens themselves are not kept. To revoke one, remove it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub tokens: Vec<Token>,
}

impl Spec for ServiceAccountSpec {
    type Status = ServiceAccountStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::ServiceAccount,
        group: super::GROUP,
        version: VERSION,
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Display Name", "string", ".spec.displayName", "Name for people").wide(),
            Column::new("State", "string", ".spec.state", "Whether the account can be used"),
            AGE,
        ],
        selectable_fields: &["spec.state"],
        description: "ServiceAccount is a program that can be allowed something by PolicyBindings. \
                      It proves who it is by tokens, which expire.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<ServiceAccountSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
