//! [`Tree`]: the containers, and who is above whom.

use std::{collections::VecDeque, sync::Arc};

use isocast_api::resourcemanager::CONTAINERS_ABOVE_MAX;

use super::slots::Slots;
use crate::managers::SYSTEM_NAMESPACE;

/// The containers. The platform itself is above all others.
#[derive(Debug)]
pub(super) struct Tree {
    containers: Slots<Arc<str>, Container>,
    root: u32,
    /// Containers that are gone, oldest first. Where they were is remembered: whoever saw them sees
    /// what their end changed.
    departed: VecDeque<u32>,
}

/// A container, or one that is merely spoken of.
#[derive(Debug, Default)]
struct Container {
    /// Its resource, `projects`; empty for one that never was.
    plural: &'static str,
    /// Whether it is there now.
    exists: bool,
    /// The one above, also of one that is gone; none for the platform.
    parent: Option<u32>,
    /// Revision since when it is where it is.
    since: u64,
    /// Of an organization without another above, and of the platform: revision of the last change
    /// of what is below it that rights may follow from.
    moved: u64,
}

/// How many containers are remembered that are gone.
const DEPARTED_MAX: usize = 4096;

/// A container and those above it, itself first, the platform last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    ids: [u32; CHAIN_MAX],
    length: usize,
    /// A bit for each id, by its last six: most ids that are not in the chain are told by it.
    bits: u64,
}

/// The containers above a container, itself, and the platform.
const CHAIN_MAX: usize = CONTAINERS_ABOVE_MAX + 2;

impl Default for Tree {
    fn default() -> Self {
        let mut containers = Slots::default();
        let root = containers.acquire(SYSTEM_NAMESPACE, || Arc::from(SYSTEM_NAMESPACE));
        Self { containers, root, departed: VecDeque::new() }
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

    /// The resource that the container is of, or was; empty for the platform and what never was.
    pub(super) fn plural(&self, id: u32) -> &'static str {
        self.containers.get(id).map_or("", |container| container.plural)
    }

    pub(super) fn exists(&self, id: u32) -> bool {
        self.containers.get(id).is_some_and(|container| container.exists)
    }

    /// Whether anything but itself refers to a container that is remembered.
    pub(super) fn is_spoken_of(&self, name: &str) -> bool {
        self.find(name).is_some_and(|id| self.containers.references(id) > 1)
    }

    /// A container comes to be, or comes back, at a revision.
    pub(super) fn insert(
        &mut self,
        plural: &'static str,
        name: &str,
        parent: Option<&str>,
        at: u64,
    ) {
        let id = self.acquire(name);
        if self.is_remembered(id) {
            self.forget(id, at);
        }
        let parent = match parent {
            Some(parent) => self.acquire(parent),
            None => self.acquire(SYSTEM_NAMESPACE),
        };
        if let Some(container) = self.containers.get_mut(id) {
            container.plural = plural;
            container.exists = true;
            container.parent = Some(parent);
            container.since = at;
        }
    }

    /// A container moves from where it is, at a revision.
    pub(super) fn move_to(
        &mut self,
        plural: &'static str,
        name: &str,
        parent: Option<&str>,
        at: u64,
    ) {
        if let Some(id) = self.find(name) {
            self.mark(id, at);
        }
        self.remove(name, at);
        self.insert(plural, name, parent, at);
        if let Some(id) = self.find(name) {
            self.mark(id, at);
        }
    }

    /// A container that is there is where it is since a revision.
    pub(super) fn note(&mut self, name: &str, at: u64) {
        let container = self.find(name).and_then(|id| self.containers.get_mut(id));
        if let Some(container) = container.filter(|container| container.exists) {
            container.since = container.since.max(at);
        }
    }

    /// A container goes, at a revision.
    pub(super) fn remove(&mut self, name: &str, at: u64) {
        let Some(id) = self.find(name).filter(|id| *id != self.root) else { return };
        let Some(container) = self.containers.get_mut(id) else { return };
        if !std::mem::take(&mut container.exists) {
            return;
        }
        self.departed.push_back(id);
        if self.departed.len() > DEPARTED_MAX
            && let Some(oldest) = self.departed.pop_front()
            && self.is_remembered(oldest)
        {
            self.forget(oldest, at);
        }
    }

    /// Whether the container is gone, and where it was is still known.
    fn is_remembered(&self, id: u32) -> bool {
        let container = self.containers.get(id);
        container.is_some_and(|container| !container.exists && container.parent.is_some())
    }

    /// Where a container was is known no more: whoever saw it must look again.
    fn forget(&mut self, id: u32, at: u64) {
        self.mark(id, at);
        self.mark(self.root, at);
        let parent = self.containers.get_mut(id).and_then(|container| container.parent.take());
        self.containers.release(id);
        if let Some(parent) = parent {
            self.containers.release(parent);
        }
    }

    /// Notes a change below the container's topmost organization.
    fn mark(&mut self, id: u32, at: u64) {
        let top = self.top(id);
        if let Some(container) = self.containers.get_mut(top) {
            container.moved = at;
        }
    }

    /// The topmost organization above a container; the platform for what is below none.
    fn top(&self, id: u32) -> u32 {
        let ids = self.remembered(id).map(|chain| chain.iter().rev().nth(1));
        ids.flatten().unwrap_or(self.root)
    }

    /// Whether rights in a container may follow from other containers since a revision.
    pub(super) fn has_moved_since(&self, id: u32, revision: u64) -> bool {
        self.containers.get(self.top(id)).is_some_and(|top| top.moved > revision)
    }

    /// Whether a container is, or was, where it is now as early as at a revision.
    pub(super) fn was_here_at(&self, id: u32, revision: u64) -> bool {
        self.containers.get(id).is_some_and(|container| container.since <= revision)
    }

    /// The container and those above it; none when it does not exist, hangs below one that does not,
    /// or below itself.
    pub(super) fn chain(&self, id: u32) -> Option<Chain> {
        self.climb(id, |container| container.exists)
    }

    /// The same, also of containers that are gone.
    pub(super) fn remembered(&self, id: u32) -> Option<Chain> {
        self.climb(id, |_| true)
    }

    fn climb(&self, id: u32, counts: impl Fn(&Container) -> bool) -> Option<Chain> {
        let mut chain = Chain { ids: [0; CHAIN_MAX], length: 0, bits: 0 };
        let mut next = id;
        loop {
            *chain.ids.get_mut(chain.length)? = next;
            chain.length += 1;
            chain.bits |= Chain::bit(next);
            if next == self.root {
                return Some(chain);
            }
            next = self.containers.get(next).filter(|container| counts(container))?.parent?;
        }
    }
}

impl Chain {
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.ids.iter().take(self.length).copied()
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.bits & Self::bit(id) != 0 && self.iter().any(|it| it == id)
    }

    fn bit(id: u32) -> u64 {
        1 << (id % u64::BITS)
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
        tree.insert("projects", "shop", Some("eng"), 1);
        assert_eq!(names(&tree, "shop"), None, "its folder does not exist yet");
        tree.insert("folders", "eng", Some("acme"), 1);
        tree.insert("organizations", "acme", None, 1);

        let expected = ["shop", "eng", "acme", "isocast-system"].map(str::to_owned).to_vec();
        assert_eq!(names(&tree, "shop"), Some(expected));

        tree.remove("shop", 1);
        assert_eq!(names(&tree, "shop"), None);
    }

    #[test]
    fn where_a_container_was_is_remembered_for_a_while() {
        let mut tree = Tree::default();
        tree.insert("organizations", "acme", None, 1);
        tree.insert("projects", "shop", Some("acme"), 2);
        tree.remove("shop", 3);
        let acme = tree.find("acme").unwrap();
        let shop = tree.find("shop").unwrap();
        assert!(tree.remembered(shop).unwrap().contains(acme) && tree.chain(shop).is_none());
        assert!(!tree.has_moved_since(acme, 2));

        for number in 0..DEPARTED_MAX {
            let name = format!("p-{number}");
            tree.insert("projects", &name, Some("acme"), 4);
            tree.remove(&name, 5);
        }

        assert_eq!(tree.find("shop"), None);
        assert!(tree.has_moved_since(acme, 2), "who saw it must look again");
    }

    #[test]
    fn a_container_of_a_name_that_was_another_ones_is_not_taken_for_it() {
        let mut tree = Tree::default();
        tree.insert("organizations", "acme", None, 1);
        tree.insert("organizations", "globex", None, 1);
        tree.insert("projects", "shop", Some("acme"), 2);
        tree.remove("shop", 3);
        tree.insert("projects", "shop", Some("globex"), 4);
        let [acme, globex, shop] = ["acme", "globex", "shop"].map(|it| tree.find(it).unwrap());

        assert!(!tree.was_here_at(shop, 3) && tree.was_here_at(shop, 4));
        assert!(tree.has_moved_since(acme, 3), "who saw the former one must look again");
        assert!(!tree.has_moved_since(globex, 3));
    }

    #[test]
    fn what_is_below_itself_or_too_deep_is_nowhere() {
        let mut tree = Tree::default();
        tree.insert("folders", "a", Some("b"), 1);
        tree.insert("folders", "b", Some("a"), 1);
        assert_eq!(names(&tree, "a"), None);

        tree.insert("organizations", "o-0", None, 1);
        for depth in 1..=CONTAINERS_ABOVE_MAX + 1 {
            tree.insert("folders", &format!("o-{depth}"), Some(&format!("o-{}", depth - 1)), 1);
        }
        assert!(names(&tree, &format!("o-{CONTAINERS_ABOVE_MAX}")).is_some());
        assert_eq!(names(&tree, &format!("o-{}", CONTAINERS_ABOVE_MAX + 1)), None);
    }
}
