//! AddressClaim: a tenant's hold on one address.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Family;
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    reference::Reference,
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{HostAddress, Name},
};

/// A tenant's hold on one address.
pub type AddressClaim = Object<AddressClaimSpec>;

/// What is wanted of the claim. Cannot change: addresses do not move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressClaimSpec {
    /// Name of the pool that the address is taken from. It must be granted to the project's
    /// organization.
    pub pool: Name,
    /// Any free address of this IP version. Either this or `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// This address and no other, for example `203.0.113.10`. Either this or `family`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<HostAddress>,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressClaimStatus {
    /// Latest observations: `Allocated`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The address. Given together with the claim's creation, and the claim's until its deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<HostAddress>,
}

impl Spec for AddressClaimSpec {
    type Status = AddressClaimStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::AddressClaim,
        group: super::GROUP,
        version: VERSION,
        kind: "AddressClaim",
        plural: "addressclaims",
        singular: "addressclaim",
        short_names: &["aclaim"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Pool", "string", ".spec.pool", "Where the address is from"),
            Column::new("Address", "string", ".status.address", "The address"),
            Column::new(
                "Allocated",
                "string",
                ".status.conditions[?(@.type==\"Allocated\")].status",
                "Whether there is one",
            )
            .wide(),
            AGE,
        ],
        selectable_fields: &["spec.pool", "status.address"],
        description: "AddressClaim holds one address out of a pool for the services of a project. \
                      The address is in the reply to the claim's creation.",
    };

    const REFERENCES: &'static [Reference] =
        &[Reference::using(&["spec", "pool"], ResourceKind::AddressPool)];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<AddressClaimSpec>);
        &SCHEMA
    }

    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        match (self.family, self.address) {
            (None, None) => errors.required(&spec.field("family"), "or give address"),
            (Some(_), Some(_)) => {
                errors.forbidden(&spec.field("family"), "may not be given beside address");
            }
            _ => {}
        }
        errors.immutable(&spec.field("pool"), &self.pool, old.map(|old| &old.pool));
        errors.immutable(&spec.field("family"), &self.family, old.map(|old| &old.family));
        errors.immutable(&spec.field("address"), &self.address, old.map(|old| &old.address));
    }
}
