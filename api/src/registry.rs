//! [`KindDescriptor`]: everything the API server must know about a kind, declared once.
//!
//! The server holds no code per kind: storage, discovery, tables, OpenAPI, defaulting and
//! validation all come from this table. Schemas are structural (no `$ref`), so one walk over them
//! serves strict decoding, defaulting, validation and server-side apply.

use serde_json::Value;

pub use crate::field::{FieldError, FieldErrorReason};
use crate::{
    core::{self, ConfigMap, Event, Lease, Secret},
    iam::{
        GroupMembershipSpec, GroupSpec, PolicyBindingSpec, ProtectedResourceSpec, RoleSpec,
        ServiceAccountSpec, UserSpec,
    },
    network::{
        AddressClaimSpec, AddressPoolSpec, AnycastServiceSpec, BackendPoolSpec,
        BgpAdvertisementSpec, BgpPeerSpec, BgpPolicySpec, BgpSessionSpec, DatacenterSpec,
        DrainSpec, KeyRotationSpec, NodeSpec,
    },
    object::descriptor,
    quota::{AllowanceBucketSpec, ResourceClaimSpec, ResourceGrantSpec, ResourceRegistrationSpec},
    reference::Reference,
    resourcemanager::{FolderSpec, LienSpec, OrganizationSpec, ProjectSpec},
};

/// Whether objects of a kind live in a container's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One space of names for the whole platform.
    Cluster,
    /// Names are unique within a namespace.
    Namespaced,
}

/// A column of `kubectl get`.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`, or `count`: of what a map or list holds.
    pub kind: &'static str,
    /// Simple JSON path into the object: `.spec.region`, `.status.conditions[?(@.type=="Ready")].status`,
    /// `.spec.prefixes` (a list is printed as JSON). `.a||.b` means the first one that is there.
    pub json_path: &'static str,
    /// 0: always shown, 1: with `-o wide`.
    pub priority: i32,
    /// For `kubectl explain`-like help.
    pub description: &'static str,
}

impl Column {
    /// A column that is always shown.
    #[must_use]
    pub const fn new(
        name: &'static str,
        kind: &'static str,
        json_path: &'static str,
        description: &'static str,
    ) -> Self {
        Self { name, kind, json_path, priority: 0, description }
    }

    /// The same, shown with `-o wide` only.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// Version of every kind.
pub const VERSION: &str = "v1alpha1";

/// The column every table ends with.
pub(crate) const AGE: Column =
    Column::new("Age", "date", ".metadata.creationTimestamp", "Time since creation");

/// The column for the condition that sums an object up.
pub(crate) const READY: Column = Column::new(
    "Ready",
    "string",
    ".status.conditions[?(@.type==\"Ready\")].status",
    "Whether everything is as wanted",
);

/// The kinds, for matches; the text forms are in [`KindDescriptor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// `organizations.resourcemanager.isocast.dev`
    Organization,
    /// `folders.resourcemanager.isocast.dev`
    Folder,
    /// `projects.resourcemanager.isocast.dev`
    Project,
    /// `liens.resourcemanager.isocast.dev`
    Lien,
    /// `datacenters.network.isocast.dev`
    Datacenter,
    /// `nodes.network.isocast.dev`
    Node,
    /// `bgppeers.network.isocast.dev`
    BgpPeer,
    /// `bgppolicies.network.isocast.dev`
    BgpPolicy,
    /// `addresspools.network.isocast.dev`
    AddressPool,
    /// `addressclaims.network.isocast.dev`
    AddressClaim,
    /// `backendpools.network.isocast.dev`
    BackendPool,
    /// `anycastservices.network.isocast.dev`
    AnycastService,
    /// `drains.network.isocast.dev`
    Drain,
    /// `keyrotations.network.isocast.dev`
    KeyRotation,
    /// `bgpsessions.network.isocast.dev`
    BgpSession,
    /// `bgpadvertisements.network.isocast.dev`
    BgpAdvertisement,
    /// `users.iam.isocast.dev`
    User,
    /// `serviceaccounts.iam.isocast.dev`
    ServiceAccount,
    /// `groups.iam.isocast.dev`
    Group,
    /// `groupmemberships.iam.isocast.dev`
    GroupMembership,
    /// `roles.iam.isocast.dev`
    Role,
    /// `policybindings.iam.isocast.dev`
    PolicyBinding,
    /// `protectedresources.iam.isocast.dev`
    ProtectedResource,
    /// `resourceregistrations.quota.isocast.dev`
    ResourceRegistration,
    /// `resourcegrants.quota.isocast.dev`
    ResourceGrant,
    /// `allowancebuckets.quota.isocast.dev`
    AllowanceBucket,
    /// `resourceclaims.quota.isocast.dev`
    ResourceClaim,
    /// `configmaps`
    ConfigMap,
    /// `secrets`
    Secret,
    /// `events`
    Event,
    /// `leases.coordination.k8s.io`
    Lease,
}

/// One kind of the API.
#[derive(Clone, Copy, Debug)]
pub struct KindDescriptor {
    /// The kind, for matches.
    pub resource_kind: ResourceKind,
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// `AnycastService`
    pub kind: &'static str,
    /// `anycastservices`
    pub plural: &'static str,
    /// `anycastservice`
    pub singular: &'static str,
    /// Short names for the command line.
    pub short_names: &'static [&'static str],
    /// `kubectl get <category>`
    pub categories: &'static [&'static str],
    /// Cluster-scoped or namespaced.
    pub scope: Scope,
    /// Columns after `Name`; the last one is `Age`.
    pub columns: &'static [Column],
    /// Paths that `--field-selector` accepts besides metadata: `spec.datacenter`.
    pub selectable_fields: &'static [&'static str],
    /// One paragraph for `kubectl explain`.
    pub description: &'static str,
    /// Objects of this kind only report: clients can read them and nothing else.
    pub reported: bool,
    /// What objects of this kind name, as far as it concerns what is named.
    pub references: &'static [Reference],
    /// The kind is one of Kubernetes' own: without status and generation, and known to clients by
    /// heart.
    pub built_in: bool,
    /// OpenAPI v3 structural schema of the whole object, with `x-kubernetes-*` hints.
    pub schema: fn() -> &'static Value,
    /// Fills the schema's defaults in; idempotent; leaves what is malformed to `validate`.
    pub default: fn(&mut Value),
    /// Checks a whole defaulted object; `old` is the stored one on update. Empty: valid.
    pub validate: fn(new: &Value, old: Option<&Value>) -> Vec<FieldError>,
}

impl KindDescriptor {
    /// `network.isocast.dev/v1alpha1`, `v1`
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `/apis/network.isocast.dev/v1alpha1`, `/api/v1`
    #[must_use]
    pub fn path(&self) -> String {
        let folder = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{folder}/{}", self.api_version())
    }

    /// The group in the words of permissions, where the core group has a name.
    #[must_use]
    pub fn permission_group(&self) -> &'static str {
        if self.group.is_empty() { CORE } else { self.group }
    }
}

/// What permissions call Kubernetes' core group, whose name is empty.
pub const CORE: &str = "core";

/// Every kind, in the order of dependence: what is named first is referred to by what follows.
#[must_use]
pub fn kinds() -> &'static [KindDescriptor] {
    const KINDS: &[KindDescriptor] = &[
        descriptor::<OrganizationSpec>(),
        descriptor::<FolderSpec>(),
        descriptor::<ProjectSpec>(),
        descriptor::<LienSpec>(),
        descriptor::<DatacenterSpec>(),
        descriptor::<NodeSpec>(),
        descriptor::<BgpPolicySpec>(),
        descriptor::<BgpPeerSpec>(),
        descriptor::<AddressPoolSpec>(),
        descriptor::<AddressClaimSpec>(),
        descriptor::<BackendPoolSpec>(),
        descriptor::<AnycastServiceSpec>(),
        descriptor::<DrainSpec>(),
        descriptor::<KeyRotationSpec>(),
        descriptor::<BgpSessionSpec>(),
        descriptor::<BgpAdvertisementSpec>(),
        descriptor::<UserSpec>(),
        descriptor::<ServiceAccountSpec>(),
        descriptor::<GroupSpec>(),
        descriptor::<GroupMembershipSpec>(),
        descriptor::<RoleSpec>(),
        descriptor::<PolicyBindingSpec>(),
        descriptor::<ProtectedResourceSpec>(),
        descriptor::<ResourceRegistrationSpec>(),
        descriptor::<ResourceGrantSpec>(),
        descriptor::<AllowanceBucketSpec>(),
        descriptor::<ResourceClaimSpec>(),
        core::descriptor::<ConfigMap>(),
        core::descriptor::<Secret>(),
        core::descriptor::<Event>(),
        core::descriptor::<Lease>(),
    ];
    KINDS
}
