//! AddressPool: address space that tenants' addresses are taken from.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::policy::OrganizationLimits;
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, READY, ResourceKind, Scope, VERSION},
    schema,
    text::{Duration, Label, Prefix, Time},
};

/// Address space that tenants' addresses are taken from.
pub type AddressPool = Object<AddressPoolSpec>;

/// What is wanted of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressPoolSpec {
    /// The address space, for example `203.0.113.0/24`. Blocks may not overlap, neither here nor
    /// with those of other pools.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub prefixes: Vec<Prefix>,
    /// Organizations whose projects may claim addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1024),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["organization"])
    )]
    pub grants: Vec<Grant>,
    /// How long an address rests after its claim is deleted, before another claim may have it: 0s
    /// to 30d.
    #[serde(default = "default_reuse_after")]
    pub reuse_after: Duration,
}

/// Lets an organization's projects claim addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// Name of the organization.
    pub organization: Label,
    /// Ceilings on what the organization's services take in together. Where several pools are
    /// granted to it, the lowest of each holds. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<OrganizationLimits>,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressPoolStatus {
    /// Latest observations: `Ready`, whether addresses can be claimed; `Granted`, whether every grant
    /// is some organization's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of addresses that claims hold.
    pub allocated: u32,
    /// Whose each grant is: the organization that had the name when it was granted. One that comes
    /// later under the same name has no grant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1024),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["organization"])
    )]
    pub grants: Vec<GrantHolder>,
    /// Addresses whose claims were deleted, and when they may be given out again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1024),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"])
    )]
    pub released: Vec<ReleasedAddress>,
}

/// Whose a grant is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantHolder {
    /// Name of the organization.
    pub organization: Label,
    /// Its identity.
    pub uid: String,
}

/// An address at rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleasedAddress {
    /// The address.
    pub address: std::net::IpAddr,
    /// When another claim may have it.
    pub reusable_at: Time,
}

/// Most addresses of a pool that may be at rest at the same time.
pub const RELEASED_MAX: usize = 1024;

impl AddressPool {
    /// The grant that is the organization's with this name and uid, if there is one.
    #[must_use]
    pub fn grant_of(&self, organization: &str, uid: &str) -> Option<&Grant> {
        self.status.holder(organization).filter(|holder| holder.uid == uid)?;
        self.spec.grant_to(organization)
    }
}

impl AddressPoolSpec {
    /// The grant to the organization of that name, whoever has the name.
    #[must_use]
    pub fn grant_to(&self, organization: &str) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.organization.as_str() == organization)
    }
}

impl AddressPoolStatus {
    /// Whose the grant to the organization of that name is.
    #[must_use]
    pub fn holder(&self, organization: &str) -> Option<&GrantHolder> {
        self.grants.iter().find(|holder| holder.organization.as_str() == organization)
    }
}

const REUSE_AFTER_MAX: Duration = Duration::from_secs(30 * 86_400);

impl Spec for AddressPoolSpec {
    type Status = AddressPoolStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::AddressPool,
        group: super::GROUP,
        version: VERSION,
        kind: "AddressPool",
        plural: "addresspools",
        singular: "addresspool",
        short_names: &["apool"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Prefixes", "string", ".spec.prefixes", "The address space"),
            Column::new("Allocated", "integer", ".status.allocated", "Addresses in use"),
            Column::new("Reuse After", "string", ".spec.reuseAfter", "Rest of addresses").wide(),
            READY,
            AGE,
        ],
        selectable_fields: &[],
        description: "AddressPool is address space of the platform; the organizations it is \
                      granted to claim addresses for their services from it.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<AddressPoolSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        for (index, prefix) in self.prefixes.iter().enumerate() {
            let earlier = self.prefixes.iter().take(index).find(|other| other.overlaps(*prefix));
            if let Some(earlier) = earlier {
                let path = spec.field("prefixes").index(index);
                errors.invalid(&path, prefix, format!("overlaps {earlier}"));
            }
        }
        if self.reuse_after > REUSE_AFTER_MAX {
            let message = format!("must be at most {REUSE_AFTER_MAX}");
            errors.invalid(&spec.field("reuseAfter"), self.reuse_after, message);
        }
    }
}

fn default_reuse_after() -> Duration {
    Duration::from_secs(600)
}
