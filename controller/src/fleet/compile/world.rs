//! [`World`]: the objects that configurations are made of, decoded.

use std::{collections::BTreeMap, fmt};

use isocast_api::{
    agent::Keyring,
    network::{
        AddressClaim, AddressClaimSpec, AddressPool, AddressPoolSpec, AnycastService,
        AnycastServiceSpec, BackendPool, BackendPoolSpec, BgpPeer, BgpPeerSpec, BgpPolicy,
        BgpPolicySpec, Datacenter, DatacenterSpec, Drain, DrainSpec, KeyRotation, KeyRotationSpec,
        Node, NodeSpec,
    },
    object::{DecodeError, Object, Spec},
    resourcemanager::{
        CONTAINERS_ABOVE_MAX, Folder, FolderSpec, Organization, OrganizationSpec, Project,
        ProjectSpec,
    },
};
use serde_json::Value;

/// Every object that concerns nodes, at one revision of the store.
#[derive(Clone, Default)]
pub struct World {
    /// The same on every node.
    pub keyring: Keyring,
    /// By name.
    pub organizations: BTreeMap<String, Organization>,
    /// By name.
    pub folders: BTreeMap<String, Folder>,
    /// By name.
    pub projects: BTreeMap<String, Project>,
    /// By name.
    pub datacenters: BTreeMap<String, Datacenter>,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// By name.
    pub peers: BTreeMap<String, BgpPeer>,
    /// By name.
    pub policies: BTreeMap<String, BgpPolicy>,
    /// By name.
    pub address_pools: BTreeMap<String, AddressPool>,
    /// By namespace and name.
    pub claims: BTreeMap<(String, String), AddressClaim>,
    /// By namespace and name.
    pub backend_pools: BTreeMap<(String, String), BackendPool>,
    /// By namespace and name.
    pub services: BTreeMap<(String, String), AnycastService>,
    /// By namespace and name.
    pub drains: BTreeMap<(String, String), Drain>,
    /// By namespace and name.
    pub key_rotations: BTreeMap<(String, String), KeyRotation>,
}

impl World {
    /// Adds an object; one of a kind that does not concern nodes is passed over.
    ///
    /// # Errors
    /// The object does not decode: the world is without it.
    pub fn insert(&mut self, value: &Value) -> Result<(), DecodeError> {
        match value.get("kind").and_then(Value::as_str).unwrap_or_default() {
            it if it == OrganizationSpec::KIND.kind => add(&mut self.organizations, value),
            it if it == FolderSpec::KIND.kind => add(&mut self.folders, value),
            it if it == ProjectSpec::KIND.kind => add(&mut self.projects, value),
            it if it == DatacenterSpec::KIND.kind => add(&mut self.datacenters, value),
            it if it == NodeSpec::KIND.kind => add(&mut self.nodes, value),
            it if it == BgpPeerSpec::KIND.kind => add(&mut self.peers, value),
            it if it == BgpPolicySpec::KIND.kind => add(&mut self.policies, value),
            it if it == AddressPoolSpec::KIND.kind => add(&mut self.address_pools, value),
            it if it == AddressClaimSpec::KIND.kind => add_namespaced(&mut self.claims, value),
            it if it == BackendPoolSpec::KIND.kind => {
                add_namespaced(&mut self.backend_pools, value)
            }
            it if it == AnycastServiceSpec::KIND.kind => add_namespaced(&mut self.services, value),
            it if it == DrainSpec::KIND.kind => add_namespaced(&mut self.drains, value),
            it if it == KeyRotationSpec::KIND.kind => {
                add_namespaced(&mut self.key_rotations, value)
            }
            _ => Ok(()),
        }
    }

    /// The organization that `namespace` belongs to.
    #[must_use]
    pub fn organization_of(&self, namespace: &str) -> Option<&Organization> {
        let mut name = namespace;
        if let Some(project) = self.projects.get(name) {
            name = project.spec.parent.name.as_str();
        }
        for _ in 0..CONTAINERS_ABOVE_MAX {
            let Some(folder) = self.folders.get(name) else { break };
            name = folder.spec.parent.name.as_str();
        }
        self.organizations.get(name)
    }

    /// Whether somebody deleted the container that owns `namespace`, or one above it.
    #[must_use]
    pub fn is_leaving(&self, namespace: &str) -> bool {
        let mut next = Some(namespace);
        // Itself and those above it: a circle would be nobody's container.
        for _ in 0..=CONTAINERS_ABOVE_MAX {
            let Some(name) = next else { return false };
            let (metadata, above) = if let Some(project) = self.projects.get(name) {
                (&project.metadata, Some(project.spec.parent.name.as_str()))
            } else if let Some(folder) = self.folders.get(name) {
                (&folder.metadata, Some(folder.spec.parent.name.as_str()))
            } else if let Some(organization) = self.organizations.get(name) {
                let above = organization.spec.parent.as_ref();
                (&organization.metadata, above.map(|name| name.as_str()))
            } else {
                return false;
            };
            if metadata.deletion_timestamp.is_some() {
                return true;
            }
            next = above;
        }
        false
    }
}

impl fmt::Debug for World {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("nodes", &self.nodes.len())
            .field("services", &self.services.len())
            .finish_non_exhaustive()
    }
}

fn add<S: Spec>(map: &mut BTreeMap<String, Object<S>>, value: &Value) -> Result<(), DecodeError> {
    let object = Object::<S>::decode(value)?;
    map.insert(object.name().to_owned(), object);
    Ok(())
}

fn add_namespaced<S: Spec>(
    map: &mut BTreeMap<(String, String), Object<S>>,
    value: &Value,
) -> Result<(), DecodeError> {
    let object = Object::<S>::decode(value)?;
    map.insert((object.namespace().to_owned(), object.name().to_owned()), object);
    Ok(())
}
