//! [`World`]: the objects that configurations are made of, without their annotations and the managers of
//! their fields.
//!
//! One world follows the store change by change; each compilation has a copy of its own. Both share what
//! did not change, so neither costs more than the change does, however many objects there are.

use std::{fmt, sync::Arc};

use isocast_api::{
    agent::Keyring,
    network::{
        AddressClaimSpec, AddressPoolSpec, AnycastServiceSpec, BackendPoolSpec, BgpPeerSpec,
        BgpPolicySpec, DatacenterSpec, DrainSpec, KeyRotationSpec, NodeSpec,
    },
    object::{DecodeError, Object, Spec},
    registry,
    resourcemanager::{
        CONTAINERS_ABOVE_MAX, FolderSpec, Organization, OrganizationSpec, ProjectSpec,
    },
};
use rpds::RedBlackTreeMapSync;
use serde::Deserialize;
use serde_json::Value;

use super::texts::{Outline, Texts};
use crate::{
    registry::metadata::text,
    store::{Document, Key, Operation, Resource},
};

/// Objects of a kind, in order; a copy shares them.
pub type Objects<K, S> = RedBlackTreeMapSync<K, Object<S>>;

/// Every object that concerns nodes, at one revision of the store.
#[derive(Clone, Default)]
pub struct World {
    /// The same on every node.
    pub keyring: Keyring,
    /// By name.
    pub organizations: Objects<String, OrganizationSpec>,
    /// By name.
    pub folders: Objects<String, FolderSpec>,
    /// By name.
    pub projects: Objects<String, ProjectSpec>,
    /// By name.
    pub datacenters: Objects<String, DatacenterSpec>,
    /// By name.
    pub nodes: Objects<String, NodeSpec>,
    /// By name.
    pub peers: Objects<String, BgpPeerSpec>,
    /// By name.
    pub policies: Objects<String, BgpPolicySpec>,
    /// By name.
    pub address_pools: Objects<String, AddressPoolSpec>,
    /// By namespace and name.
    pub claims: Objects<(String, String), AddressClaimSpec>,
    /// Not decoded: they are many.
    pub backend_pools: Texts<BackendPoolSpec>,
    /// By namespace and name.
    pub services: Objects<(String, String), AnycastServiceSpec>,
    /// By namespace and name.
    pub drains: Objects<(String, String), DrainSpec>,
    /// By namespace and name.
    pub key_rotations: Objects<(String, String), KeyRotationSpec>,
}

impl World {
    /// Adds an object, or puts it in the place of the one that it was; one of a kind that does not
    /// concern nodes is passed over.
    ///
    /// # Errors
    /// The object does not decode: the world is without it.
    pub fn insert(&mut self, value: &Value) -> Result<(), DecodeError> {
        let outcome = self.change(&Source::Value(value), Change::Insert);
        if outcome.is_err() {
            self.remove(value);
        }
        outcome
    }

    /// Takes an object out; `value` is what it was last.
    pub fn remove(&mut self, value: &Value) {
        // Nothing is decoded for it.
        drop(self.change(&Source::Value(value), Change::Remove));
    }

    /// Follows what became of a stored object.
    ///
    /// # Errors
    /// The object does not decode: the world is without it.
    pub(crate) fn follow(
        &mut self,
        key: &Key,
        document: &Arc<Document>,
        operation: Operation,
    ) -> Result<(), DecodeError> {
        let Some(kind) = kind_of(key) else { return Ok(()) };
        let source = Source::Stored { kind, key, document };
        let outcome = match operation {
            Operation::Put => self.change(&source, Change::Insert),
            Operation::Delete => self.change(&source, Change::Remove),
        };
        if outcome.is_err() {
            drop(self.change(&source, Change::Remove));
        }
        outcome
    }

    fn change(&mut self, value: &Source<'_>, change: Change) -> Result<(), DecodeError> {
        match value.kind() {
            it if it == OrganizationSpec::KIND.kind => {
                named(&mut self.organizations, value, change)
            }
            it if it == FolderSpec::KIND.kind => named(&mut self.folders, value, change),
            it if it == ProjectSpec::KIND.kind => named(&mut self.projects, value, change),
            it if it == DatacenterSpec::KIND.kind => named(&mut self.datacenters, value, change),
            it if it == NodeSpec::KIND.kind => named(&mut self.nodes, value, change),
            it if it == BgpPeerSpec::KIND.kind => named(&mut self.peers, value, change),
            it if it == BgpPolicySpec::KIND.kind => named(&mut self.policies, value, change),
            it if it == AddressPoolSpec::KIND.kind => named(&mut self.address_pools, value, change),
            it if it == AddressClaimSpec::KIND.kind => namespaced(&mut self.claims, value, change),
            it if it == BackendPoolSpec::KIND.kind => {
                put_text(&mut self.backend_pools, value, change)
            }
            it if it == AnycastServiceSpec::KIND.kind => {
                namespaced(&mut self.services, value, change)
            }
            it if it == DrainSpec::KIND.kind => namespaced(&mut self.drains, value, change),
            it if it == KeyRotationSpec::KIND.kind => {
                namespaced(&mut self.key_rotations, value, change)
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
            .field("nodes", &self.nodes.size())
            .field("services", &self.services.size())
            .finish_non_exhaustive()
    }
}

/// What becomes of an object.
#[derive(Clone, Copy)]
enum Change {
    Insert,
    Remove,
}

/// Where an object comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Stored { kind: &'static str, key: &'a Key, document: &'a Arc<Document> },
    Value(&'a Value),
}

impl Source<'_> {
    fn kind(&self) -> &str {
        match self {
            Self::Stored { kind, .. } => kind,
            Self::Value(value) => value.get("kind").and_then(Value::as_str).unwrap_or_default(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Stored { key, .. } => key.name().to_owned(),
            Self::Value(value) => text(value, "name").to_owned(),
        }
    }

    fn namespace(&self) -> String {
        match self {
            Self::Stored { key, .. } => key.container().unwrap_or_default().to_owned(),
            Self::Value(value) => text(value, "namespace").to_owned(),
        }
    }

    fn key<S: Spec>(&self) -> Key {
        match self {
            Self::Stored { key, .. } => Key::clone(key),
            Self::Value(_) => {
                let resource = Resource::new(S::KIND.plural, S::KIND.group);
                Key::new(resource, Some(&self.namespace()), &self.name())
            }
        }
    }

    fn decode<S: Spec>(&self) -> Result<Object<S>, DecodeError> {
        let outline = match self {
            Self::Stored { document, .. } => Outline::read(document),
            Self::Value(value) => Outline::deserialize(*value).map(Object::from),
        };
        outline.map_err(|source| DecodeError::new(S::KIND.kind, &self.name(), source))
    }
}

/// The declared kind of what is at `key`.
fn kind_of(key: &Key) -> Option<&'static str> {
    let resource = key.resource();
    let mut kinds = registry::kinds().iter();
    let kind = kinds.find(|kind| resource.is(kind.plural, kind.group))?;
    Some(kind.kind)
}

fn named<S: Spec>(
    objects: &mut Objects<String, S>,
    value: &Source<'_>,
    change: Change,
) -> Result<(), DecodeError> {
    put(objects, value, change, value.name())
}

fn namespaced<S: Spec>(
    objects: &mut Objects<(String, String), S>,
    value: &Source<'_>,
    change: Change,
) -> Result<(), DecodeError> {
    put(objects, value, change, (value.namespace(), value.name()))
}

fn put<K: Ord, S: Spec>(
    objects: &mut Objects<K, S>,
    value: &Source<'_>,
    change: Change,
    key: K,
) -> Result<(), DecodeError> {
    match change {
        Change::Insert => {
            objects.insert_mut(key, value.decode::<S>()?);
        }
        Change::Remove => drop(objects.remove_mut(&key)),
    }
    Ok(())
}

fn put_text<S: Spec>(
    objects: &mut Texts<S>,
    value: &Source<'_>,
    change: Change,
) -> Result<(), DecodeError> {
    let key = value.key::<S>();
    match (change, value) {
        (Change::Insert, Source::Stored { document, .. }) => objects.insert(key, document),
        (Change::Insert, Source::Value(value)) => {
            objects.insert(key, &Arc::new(Value::clone(value).into()))
        }
        (Change::Remove, _) => {
            objects.remove(&key);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn datacenter(region: &Value) -> Value {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1",
            "kind": "Datacenter",
            "metadata": {"name": "ams"},
            "spec": {"region": region},
        })
    }

    #[test]
    fn a_world_follows_and_its_copies_do_not() {
        let mut world = World::default();
        world.insert(&datacenter(&json!("eu"))).unwrap();
        let copy = world.clone();

        world.insert(&datacenter(&json!("us"))).unwrap();
        assert_eq!(world.datacenters["ams"].spec.region.as_deref(), Some("us"));
        world.remove(&datacenter(&json!("us")));

        assert!(world.datacenters.is_empty());
        assert_eq!(copy.datacenters["ams"].spec.region.as_deref(), Some("eu"));
    }

    #[test]
    fn what_does_not_decode_any_more_is_not_what_it_was() {
        let mut world = World::default();
        world.insert(&datacenter(&json!("eu"))).unwrap();

        assert!(world.insert(&datacenter(&json!(1))).is_err());

        assert!(world.datacenters.is_empty());
    }
}
