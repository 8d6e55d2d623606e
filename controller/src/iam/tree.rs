//! [`Tree`]: the containers, and who is above whom.

use std::sync::Arc;

use isocast_api::resourcemanager::CONTAINERS_ABOVE_MAX;

use super::slots::Slots;
use crate::managers::SYSTEM_NAMESPACE;

/// The containers. The platform itself is above all others.
#[derive(Debug)]
pub(super) struct Tree {
    containers: Slots<Arc<str>, Container>,
    root: u32,
}

/// A container, or one that is merely spoken of.
#[derive(Debug, Default)]
struct Container {
    /// Its resource, `projects`; none while it does not exist.
    plural: Option<&'static str>,
    /// The one above; none for the platform.
    parent: Option<u32>,
}

/// A container and those above it, itself first, the platform last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    ids: [u32; CHAIN_MAX],
    length: usize,
}

/// The containers above a container, itself, and the platform.
const CHAIN_MAX: usize = CONTAINERS_ABOVE_MAX + 2;

impl Default for Tree {
    fn default() -> Self {
        let mut containers = Slots::default();
        let root = containers.acquire(SYSTEM_NAMESPACE, || Arc::from(SYSTEM_NAMESPACE));
        Self { containers, root }
    }
}

impl Tree {
    /// The platform.
    pub(super) fn root(&self) -> u32 {
        self.root
    }

    pub(super) fn acquire(&mut self, name: &str) -> u32 {
        self.containers.acquire(name, || name.into())
    }

    pub(super) fn release(&mut self, id: u32) {
        self.containers.release(id);
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.containers.find(name)
    }

    pub(super) fn name(&self, id: u32) -> &str {
        self.containers.key(id).map_or("", |name| name)
    }

    /// The resource that the container is of; empty for the platform and what does not exist.
    pub(super) fn plural(&self, id: u32) -> &'static str {
        self.containers.get(id).and_then(|container| container.plural).unwrap_or_default()
    }

    /// A container comes to be, or gets another parent.
    pub(super) fn insert(&mut self, plural: &'static str, name: &str, parent: Option<&str>) {
        let id = self.acquire(name);
        let parent = match parent {
            Some(parent) => self.acquire(parent),
            None => self.acquire(SYSTEM_NAMESPACE),
        };
        if let Some(container) = self.containers.get_mut(id) {
            *container = Container { plural: Some(plural), parent: Some(parent) };
        }
    }

    /// A container goes.
    pub(super) fn remove(&mut self, name: &str) {
        let Some(id) = self.find(name).filter(|id| *id != self.root) else { return };
        let Some(container) = self.containers.get_mut(id) else { return };
        let Container { plural, parent } = std::mem::take(container);
        if plural.is_some() {
            self.containers.release(id);
        }
        if let Some(parent) = parent {
            self.containers.release(parent);
        }
    }

    /// The container and those above it; none when it does not exist, hangs below one that does not,
    /// or below itself.
    pub(super) fn chain(&self, id: u32) -> Option<Chain> {
        let mut chain = Chain { ids: [0; CHAIN_MAX], length: 0 };
        let mut next = id;
        loop {
            *chain.ids.get_mut(chain.length)? = next;
            chain.length += 1;
            if next == self.root {
                return Some(chain);
            }
            let container = self.containers.get(next)?;
            container.plural?;
            next = container.parent?;
        }
    }
}

impl Chain {
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.ids.iter().take(self.length).copied()
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.iter().any(|it| it == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tree: &Tree, of: &str) -> Option<Vec<String>> {
        let chain = tree.chain(tree.find(of)?)?;
        Some(chain.iter().map(|id| tree.name(id).to_owned()).collect())
    }

    #[test]
    fn a_chain_leads_from_a_container_to_the_platform_whatever_came_first() {
        let mut tree = Tree::default();
        tree.insert("projects", "shop", Some("eng"));
        assert_eq!(names(&tree, "shop"), None, "its folder does not exist yet");
        tree.insert("folders", "eng", Some("acme"));
        tree.insert("organizations", "acme", None);

        let expected = ["shop", "eng", "acme", "isocast-system"].map(str::to_owned).to_vec();
        assert_eq!(names(&tree, "shop"), Some(expected));

        tree.remove("shop");
        assert_eq!(tree.find("shop"), None);
    }

    #[test]
    fn what_is_below_itself_or_too_deep_is_nowhere() {
        let mut tree = Tree::default();
        tree.insert("folders", "a", Some("b"));
        tree.insert("folders", "b", Some("a"));
        assert_eq!(names(&tree, "a"), None);

        tree.insert("organizations", "o-0", None);
        for depth in 1..=CONTAINERS_ABOVE_MAX + 1 {
            tree.insert("folders", &format!("o-{depth}"), Some(&format!("o-{}", depth - 1)));
        }
        assert!(names(&tree, &format!("o-{CONTAINERS_ABOVE_MAX}")).is_some());
        assert_eq!(names(&tree, &format!("o-{}", CONTAINERS_ABOVE_MAX + 1)), None);
    }
}
