//! The slow model: a tree, roles and bindings as plain lists, and what follows from them.
//!
//! It walks every binding for every question, and knows of the server nothing but its rules.

#![allow(unreachable_pub, clippy::allow_attributes, reason = "test support")]

use std::collections::BTreeSet;

use proptest::prelude::*;

pub const USERS: usize = 3;
pub const GROUPS: usize = 2;

/// Roles, with what they may do to ConfigMaps and to containers.
pub const ROLES: &[(&str, &[&str], &[&str])] = &[
    ("viewer", READ, READ),
    ("editor", ALL, READ),
    ("admin", ALL, ALL),
    ("network-operator", READ, READ),
    ("security-auditor", READ, READ),
    ("getter", &["get"], &[]),
    ("lister", &["list"], &[]),
    ("follower", &["list", "watch"], &[]),
    ("maker", &["create"], &[]),
];
/// Those of them that do not come with the platform.
pub const OWN_ROLES: std::ops::Range<usize> = 5..9;
pub const READ: &[&str] = &["get", "list", "watch"];
const ALL: &[&str] = &["create", "delete", "get", "list", "watch"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Organization,
    Folder,
    Project,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Containers,
    Maps,
}

/// Who may do what, as objects say it; containers and subjects by number.
#[derive(Clone, Debug)]
pub struct World {
    /// Each with the one above it, which comes before it.
    pub containers: Vec<(Kind, Option<usize>)>,
    /// ConfigMaps in each.
    pub maps: Vec<usize>,
    pub bindings: Vec<Binding>,
    /// User and group.
    pub memberships: BTreeSet<(usize, usize)>,
}

#[derive(Clone, Debug)]
pub struct Binding {
    /// None: the platform.
    pub place: Option<usize>,
    /// A user, or a group beyond them.
    pub subject: usize,
    pub role: usize,
    pub denies: bool,
}

// === the model ===

impl World {
    pub fn chain(&self, container: usize) -> Vec<Option<usize>> {
        let mut chain = vec![Some(container)];
        while let Some(Some(last)) = chain.last().copied() {
            chain.push(self.containers[last].1);
        }
        chain
    }

    /// The bindings that are a user's, or of a group of theirs.
    fn of(&self, who: usize) -> impl Iterator<Item = &Binding> {
        self.bindings.iter().filter(move |binding| {
            binding.subject == who
                || (binding.subject >= USERS
                    && self.memberships.contains(&(who, binding.subject - USERS)))
        })
    }

    pub fn may(&self, who: usize, what: What, verb: &str, container: usize) -> bool {
        let chain = self.chain(container);
        let about = |binding: &&Binding| {
            let (_, maps, containers) = ROLES[binding.role];
            let verbs = if what == What::Maps { maps } else { containers };
            chain.contains(&binding.place) && verbs.contains(&verb)
        };
        let mut counting: Vec<&Binding> = self.of(who).filter(about).collect();
        counting.sort_by_key(|binding| !binding.denies);
        counting.first().is_some_and(|binding| !binding.denies)
    }

    /// They may read it, or were given something right there.
    pub fn knows(&self, who: usize, container: usize) -> bool {
        self.may(who, What::Containers, "get", container)
            || self.of(who).any(|it| it.place == Some(container) && !it.denies)
    }

    pub fn all(&self) -> std::ops::Range<usize> {
        0..self.containers.len()
    }

    /// ConfigMaps where somebody may do something, in order, as `namespace/name`.
    pub fn maps_where(
        &self,
        who: usize,
        verb: &str,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<String> {
        let places = self.all().filter(|at| wanted(*at) && self.may(who, What::Maps, verb, *at));
        let maps = places.flat_map(|at| (0..self.maps[at]).map(move |it| (at, it)));
        maps.map(|(at, it)| format!("{}/{}", container_name(at), map_name(at, it))).collect()
    }

    /// Texts that nobody may show to somebody.
    pub fn hidden_from(&self, who: usize) -> Vec<String> {
        // What is above something tells of itself: objects name their parents.
        let known: BTreeSet<usize> = self
            .all()
            .filter(|at| {
                self.knows(who, *at) || READ.iter().any(|it| self.may(who, What::Maps, it, *at))
            })
            .flat_map(|at| self.chain(at))
            .flatten()
            .collect();
        let mut hidden = Vec::new();
        for at in self.all() {
            if !known.contains(&at) {
                hidden.push(container_name(at));
            }
            if !READ.iter().any(|verb| self.may(who, What::Maps, verb, at)) {
                hidden.extend((0..self.maps[at]).map(|it| map_name(at, it)));
                hidden.extend((0..self.maps[at]).map(|it| content(at, it)));
            }
        }
        hidden
    }
}

pub fn container_name(at: usize) -> String {
    format!("place{at}z")
}

pub fn map_name(at: usize, it: usize) -> String {
    format!("map{at}x{it}z")
}

pub fn content(at: usize, it: usize) -> String {
    format!("content{at}x{it}z")
}

pub fn late_name(at: usize) -> String {
    format!("late{at}z")
}

// === any world ===

pub fn any_world() -> impl Strategy<Value = World> {
    let more = prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize), 1..6);
    let binding = (any::<prop::sample::Index>(), 0..USERS + GROUPS, 0..ROLES.len(), 0..4);
    (
        more,
        prop::collection::vec(0..4_usize, 8),
        prop::collection::vec(binding, 0..8),
        prop::collection::btree_set((0..USERS, 0..GROUPS), 0..4),
    )
        .prop_map(|(more, maps, bindings, memberships)| {
            let mut containers = vec![(Kind::Organization, None), (Kind::Organization, None)];
            for (above, kind) in more {
                let above = above.index(containers.len());
                let kind = [Kind::Organization, Kind::Folder, Kind::Project][kind];
                containers.push(match (containers[above].0, kind) {
                    (Kind::Project, _) | (Kind::Folder, Kind::Organization) => {
                        (Kind::Project, Some(0))
                    }
                    (_, kind) => (kind, Some(above)),
                });
            }
            // One in so many is of the platform, and one in four denies.
            let bindings = bindings.into_iter().map(|(place, subject, role, effect)| {
                let place = place.index(containers.len() * 2 + 1);
                let place = (place > 0).then(|| (place - 1) / 2);
                Binding { place, subject, role, denies: effect == 0 }
            });
            let bindings = bindings.collect();
            World { containers, maps, bindings, memberships }
        })
}
