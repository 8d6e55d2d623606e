//! [`Tree`]: the containers, and who is above whom.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use isocast_api::{
    object::Spec,
    quota::ConsumerKind,
    resourcemanager::{CONTAINERS_ABOVE_MAX, FolderSpec, OrganizationSpec, ProjectSpec},
};
use serde_json::Value;

use super::super::{SYSTEM_NAMESPACE, lookup::text};
use crate::{
    iam::parent_of,
    store::{Glance, Key, Resource},
};

/// The containers below the platform.
#[derive(Debug)]
pub(super) struct Tree {
    containers: HashMap<Arc<str>, Container, RandomState>,
    /// What is right below each.
    parts: HashMap<Arc<str>, HashSet<Arc<str>, RandomState>, RandomState>,
    root: Arc<str>,
}

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) kind: ConsumerKind,
    pub(super) uid: Arc<str>,
    parent: Arc<str>,
}

/// Finds the object at a key, for what the tree does not know yet.
pub(super) type Find<'a> = dyn Fn(&Key) -> Option<Glance<'a>> + 'a;

/// The containers above a container, itself, and the platform.
pub(super) const CHAIN_MAX: usize = CONTAINERS_ABOVE_MAX + 2;

impl Default for Tree {
    fn default() -> Self {
        let (containers, parts) = (HashMap::default(), HashMap::default());
        Self { containers, parts, root: SYSTEM_NAMESPACE.into() }
    }
}

impl Tree {
    /// A container comes to be, gets another parent, or goes.
    pub(super) fn apply(&mut self, key: &Key, new: Option<&Value>) {
        let Some(kind) = kind_of(key.resource()) else { return };
        if let Some(before) = self.containers.remove(key.name())
            && let Some(parts) = self.parts.get_mut(&before.parent)
        {
            parts.remove(key.name());
            if parts.is_empty() {
                self.parts.remove(&before.parent);
            }
        }
        let Some(new) = new else { return };
        let parent = self.shared(parent_of(key.resource(), new).unwrap_or(SYSTEM_NAMESPACE));
        let uid = text(new, "/metadata/uid").unwrap_or_default().into();
        let name: Arc<str> = key.name().into();
        self.parts.entry(Arc::clone(&parent)).or_default().insert(Arc::clone(&name));
        self.containers.insert(name, Container { kind, uid, parent });
    }

    /// The containers right below one.
    pub(super) fn parts(&self, name: &str) -> impl Iterator<Item = &Arc<str>> {
        self.parts.get(name).into_iter().flatten()
    }

    /// The container called `name`; none for the platform.
    pub(super) fn get(&self, name: &str) -> Option<&Container> {
        self.containers.get(name)
    }

    /// Every container there is, and the platform.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.containers.keys().chain([&self.root])
    }

    /// The container above `name`; the platform is above itself.
    pub(super) fn above(&self, name: &str) -> &Arc<str> {
        self.containers.get(name).map_or(&self.root, |container| &container.parent)
    }

    /// A container and those above it, itself first, the platform last.
    pub(super) fn chain(&self, name: &str, find: &Find<'_>) -> Vec<Arc<str>> {
        let mut chain = Vec::with_capacity(4);
        let mut next = self.shared(name);
        while *next != *self.root && chain.len() < CHAIN_MAX {
            let above = match self.containers.get(&next) {
                Some(container) => Arc::clone(&container.parent),
                None => match parent_in(find, &next) {
                    Some(parent) => self.shared(&parent),
                    None => Arc::clone(&self.root),
                },
            };
            chain.push(next);
            next = above;
        }
        chain.push(Arc::clone(&self.root));
        chain
    }

    /// A name, once for all that have it.
    fn shared(&self, name: &str) -> Arc<str> {
        match self.containers.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None if *name == *self.root => Arc::clone(&self.root),
            None => name.into(),
        }
    }
}

/// Where an object counts: its namespace, the container above if it is one, or the platform.
pub(super) fn place_of<'a>(key: &'a Key, value: &'a Value) -> &'a str {
    let place = key.container().or_else(|| parent_of(key.resource(), value));
    place.unwrap_or(SYSTEM_NAMESPACE)
}

/// What kind of container a resource is of.
pub(super) fn kind_of(resource: &Resource) -> Option<ConsumerKind> {
    if resource.group() != isocast_api::resourcemanager::GROUP {
        return None;
    }
    let plural = resource.plural();
    let kinds = [
        (OrganizationSpec::KIND, ConsumerKind::Organization),
        (FolderSpec::KIND, ConsumerKind::Folder),
        (ProjectSpec::KIND, ConsumerKind::Project),
    ];
    kinds.into_iter().find(|(kind, _)| kind.plural == plural).map(|(_, kind)| kind)
}

/// The container above one, by its object; none also where it is the platform.
pub(super) fn parent_in(find: &Find<'_>, name: &str) -> Option<String> {
    containers().iter().find_map(|resource| {
        let value = find(&Key::new(resource.clone(), None, name))?;
        let pointer =
            if resource.plural() == "organizations" { "/spec/parent" } else { "/spec/parent/name" };
        text(&value, pointer).map(str::to_owned)
    })
}

/// The resources whose objects are containers.
pub(super) fn containers() -> [Resource; 3] {
    use super::lookup::resource;
    [resource::<OrganizationSpec>(), resource::<FolderSpec>(), resource::<ProjectSpec>()]
}
