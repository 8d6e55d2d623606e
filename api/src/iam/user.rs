//! User: a person who may be allowed something.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PermissionPattern;
use crate::{
    field::{Errors, FieldPath},
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{Label, Time},
};

/// A person. An account owns nothing; what it may do is said by PolicyBindings.
pub type User = Object<UserSpec>;

/// What is wanted of the account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserSpec {
    /// Name for people. Default: the object's name is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub display_name: Option<String>,
    /// Where to reach the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 254))]
    pub email: Option<String>,
    /// Whether the account can be used.
    #[serde(default)]
    pub state: AccountState,
}

/// Whether an account can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccountState {
    /// It can.
    #[default]
    Active,
    /// No certificate and no token of it is accepted, from the very next request on.
    Suspended,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UserStatus {
    /// Tokens that were given out; the tokens themselves are not kept. To revoke one, remove it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub tokens: Vec<Token>,
}

/// A token that was given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Its name in lists and logs.
    pub id: String,
    /// BLAKE3 hash of its text, in hexadecimal.
    pub hash: String,
    /// When it was given out.
    pub issued_at: Time,
    /// From when on it is not accepted any more.
    pub expires_at: Time,
    /// Whom it may be shown to; only tokens for `isocast` are accepted here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Vec<String>,
    /// What of the account's rights it carries. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<TokenScope>,
}

/// What of an account's rights a token carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenScope {
    /// In this container and those below alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Label>,
    /// These permissions alone. Default: every one the account has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub permissions: Vec<PermissionPattern>,
}

impl Spec for UserSpec {
    type Status = UserStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::User,
        group: super::GROUP,
        version: VERSION,
        kind: "User",
        plural: "users",
        singular: "user",
        short_names: &["usr"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Display Name", "string", ".spec.displayName", "Name for people"),
            Column::new("Email", "string", ".spec.email", "Where to reach the person").wide(),
            Column::new("State", "string", ".spec.state", "Whether the account can be used"),
            AGE,
        ],
        selectable_fields: &["spec.email", "spec.state"],
        description: "User is a person who can be allowed something by PolicyBindings, alone or as \
                      a member of groups.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<UserSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
