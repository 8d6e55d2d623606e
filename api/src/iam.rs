//! Group `iam.isocast.dev`: who there is, what roles allow, and who has which role where.

mod group;
mod group_membership;
mod permission;
mod policy_binding;
mod protected_resource;
mod role;
mod service_account;
mod subject;
mod user;

pub use self::{
    group::{Group, GroupSpec, GroupStatus},
    group_membership::{GroupMembership, GroupMembershipSpec, GroupMembershipStatus},
    permission::{InvalidPermission, PermissionPattern, PermissionWord},
    policy_binding::{
        Condition, Effect, PolicyBinding, PolicyBindingSpec, PolicyBindingStatus, RoleReference,
    },
    protected_resource::{ProtectedResource, ProtectedResourceSpec, ProtectedResourceStatus},
    role::{LaunchStage, Role, RoleSpec, RoleStatus},
    service_account::{ServiceAccount, ServiceAccountSpec, ServiceAccountStatus},
    subject::{AUTHENTICATED, MASTERS, SERVICE_ACCOUNTS, Subject, SubjectKind},
    user::{AccountState, Token, TokenScope, User, UserSpec, UserStatus},
};

/// The API group.
pub const GROUP: &str = "iam.isocast.dev";
