//! [`Tree`]: which containers are below which, so that no write looks at all of them.
//!
//! Follows the log; what the batch under way has brought so far is announced to it, and counts as if
//! it were there. It is never too small: a container that was announced and then refused is believed
//! in until the next commit, which costs nothing but the way by the purge.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use isocast_api::resourcemanager::CONTAINERS_ABOVE_MAX;
use serde_json::Value;

use super::{
    super::lookup::text,
    container::{is_container, parent_of},
};
use crate::store::{Event, Operation, View};

/// Containers below containers, by name.
#[derive(Debug, Default)]
pub(super) struct Tree {
    children: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Containers that somebody asked to delete.
    leaving: BTreeSet<Arc<str>>,
    /// Parents and children that may be about to be.
    announced: Vec<(Arc<str>, Arc<str>)>,
}

impl Tree {
    pub(super) fn of(view: &View) -> Self {
        let mut tree = Self::default();
        for object in view.iter().filter(|object| is_container(object.key.resource())) {
            tree.add(object.key.name(), &object.glance());
        }
        tree
    }

    /// Moves on by what was committed.
    pub(super) fn follow(&mut self, events: &[Event]) {
        self.announced.clear();
        for event in events.iter().filter(|event| is_container(event.key.resource())) {
            if let Some(old) = &event.old {
                self.remove(event.key.name(), &old.value());
            }
            if event.operation == Operation::Put {
                self.add(event.key.name(), &event.value());
            }
        }
    }

    /// A container may be about to be below another.
    pub(super) fn announce(&mut self, parent: &str, child: &str) {
        self.announced.push((parent.into(), child.into()));
    }

    pub(super) fn has_children(&self, name: &str) -> bool {
        self.children(name).next().is_some()
    }

    /// A container and all below it.
    pub(super) fn family(&self, name: &str) -> Vec<Arc<str>> {
        let mut family = vec![Arc::from(name)];
        let mut next = 0;
        while let Some(above) = family.get(next).cloned() {
            let below =
                self.children(&above).filter(|it| !family.iter().any(|known| **known == **it));
            let below: Vec<Arc<str>> = below.map(Arc::from).collect();
            family.extend(below);
            next += 1;
        }
        family
    }

    /// Levels of containers below a container.
    pub(super) fn height(&self, name: &str) -> usize {
        let mut level = vec![name];
        let mut height = 0;
        while height <= CONTAINERS_ABOVE_MAX {
            level = level.iter().flat_map(|above| self.children(above)).collect();
            if level.is_empty() {
                break;
            }
            height += 1;
        }
        height
    }

    /// Whether any container is on its way out.
    pub(super) fn is_anything_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    fn children(&self, name: &str) -> impl Iterator<Item = &str> {
        let known = self.children.get(name).into_iter().flatten();
        let announced = self.announced.iter().filter(move |(parent, _)| **parent == *name);
        known.chain(announced.map(|(_, child)| child)).map(|child| &**child)
    }

    fn add(&mut self, name: &str, container: &Value) {
        if let Some(parent) = parent_of(container) {
            let siblings = match self.children.get_mut(parent) {
                Some(siblings) => siblings,
                None => self.children.entry(parent.into()).or_default(),
            };
            siblings.insert(name.into());
        }
        if text(container, "/metadata/deletionTimestamp").is_some() {
            self.leaving.insert(name.into());
        }
    }

    fn remove(&mut self, name: &str, container: &Value) {
        if let Some(parent) = parent_of(container)
            && let Some(siblings) = self.children.get_mut(parent)
        {
            siblings.remove(name);
            if siblings.is_empty() {
                self.children.remove(parent);
            }
        }
        self.leaving.remove(name);
    }
}
