//! Group `quota.isocast.dev`: how much of what the containers of tenants may hold, and hold.

mod allowance_bucket;
mod resource_claim;
mod resource_grant;
mod resource_registration;
mod resource_type;

pub use self::{
    allowance_bucket::{
        AllowanceBucket, AllowanceBucketSpec, AllowanceBucketStatus, ContributingGrant,
    },
    resource_claim::{
        Allocation, AllocationStatus, ClaimedResource, ResourceClaim, ResourceClaimSpec,
        ResourceClaimStatus, ResourceRequest,
    },
    resource_grant::{
        Allowance, GrantedAmount, ResourceGrant, ResourceGrantSpec, ResourceGrantStatus,
    },
    resource_registration::{
        ANY, ClaimingResource, ConsumerKind, ConsumerType, RegistrationType, RequestVerb,
        ResourceRegistration, ResourceRegistrationSpec, ResourceRegistrationStatus,
    },
    resource_type::{AmountField, InvalidAmountField, InvalidResourceType, ResourceType},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group.
pub const GROUP: &str = "quota.isocast.dev";

/// Whose allowance it is: a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerReference {
    /// API group of the container's kind.
    #[serde(default = "resource_manager")]
    #[schemars(length(max = 253))]
    pub api_group: String,
    /// The container's kind: Organization, Folder or Project; Namespace for the platform itself.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The container's name.
    pub name: crate::text::Label,
}

/// The largest amount: what every client can count to.
pub const AMOUNT_MAX: u64 = i64::MAX as u64;

fn resource_manager() -> String {
    crate::resourcemanager::GROUP.to_owned()
}
