//! [`Roles`]: what each role allows, with what it has from others.

use std::sync::Arc;

use hashbrown::Equivalent;

use super::{permission::PermissionSet, slots::Slots, tree::Tree};

/// A namespaced name, owned and borrowed; both hash alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PlacedName(pub(super) Arc<str>, pub(super) Arc<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PlacedRef<'a>(pub(super) &'a str, pub(super) &'a str);

/// The roles, also those that are merely spoken of.
#[derive(Debug, Default)]
pub(super) struct Roles {
    slots: Slots<PlacedName, Role>,
}

#[derive(Debug, Default)]
struct Role {
    /// Whether it exists, as opposed to being spoken of.
    defined: bool,
    /// What it says itself; nothing while it does not exist.
    own: PermissionSet,
    /// What it allows altogether.
    effective: PermissionSet,
    /// Its container.
    container: u32,
    /// Roles it inherits from.
    inherits: Vec<u32>,
    /// Roles that inherit from it.
    heirs: Vec<u32>,
    /// Revision of the last change of what it allows, or where.
    changed: u64,
}

/// Roles that a role has permissions from, altogether.
pub(super) const INHERITED_MAX: usize = 64;
/// Roles that have permissions from a role, altogether.
pub(super) const HEIRS_MAX: usize = 1024;

impl Roles {
    pub(super) fn acquire(&mut self, name: PlacedRef<'_>) -> u32 {
        self.slots.acquire(&name, || PlacedName(name.0.into(), name.1.into()))
    }

    pub(super) fn release(&mut self, number: u32) {
        self.slots.release(number);
    }

    pub(super) fn find(&self, name: PlacedRef<'_>) -> Option<u32> {
        self.slots.find(&name)
    }

    pub(super) fn name(&self, number: u32) -> Option<&PlacedName> {
        self.slots.key(number)
    }

    /// Whether the role exists.
    pub(super) fn is_defined(&self, number: u32) -> bool {
        self.slots.get(number).is_some_and(|role| role.defined)
    }

    /// What the role allows, and where it lives.
    pub(super) fn get(&self, number: u32) -> Option<(&PermissionSet, u32)> {
        self.slots.get(number).map(|role| (&role.effective, role.container))
    }

    /// Whether what the role allows, or where, is another than at a revision.
    pub(super) fn has_changed_since(&self, number: u32, revision: u64) -> bool {
        self.slots.get(number).is_some_and(|role| role.changed > revision)
    }

    /// The role says something else than before, from revision `at` on. The caller holds the numbers of `inherits`.
    pub(super) fn set(
        &mut self,
        number: u32,
        container: u32,
        own: PermissionSet,
        inherits: Vec<u32>,
        (tree, at): (&Tree, u64),
    ) {
        for parent in &inherits {
            if let Some(parent) = self.slots.get_mut(*parent) {
                parent.heirs.push(number);
            }
        }
        if let Some(role) = self.slots.get_mut(number) {
            role.defined = true;
            (role.own, role.container, role.inherits) = (own, container, inherits);
        }
        self.recompute(number, tree, at);
    }

    /// The role says nothing any more; returns what it inherited from, for release.
    pub(super) fn clear(&mut self, number: u32, (tree, at): (&Tree, u64)) -> Vec<u32> {
        let Some(role) = self.slots.get_mut(number) else { return Vec::new() };
        role.defined = false;
        role.own = PermissionSet::default();
        let inherits = std::mem::take(&mut role.inherits);
        for parent in &inherits {
            if let Some(parent) = self.slots.get_mut(*parent)
                && let Some(place) = parent.heirs.iter().position(|heir| *heir == number)
            {
                parent.heirs.swap_remove(place);
            }
        }
        self.recompute(number, tree, at);
        inherits
    }

    /// Containers moved: what comes from roles that are no longer above counts no more.
    pub(super) fn moved(&mut self, tree: &Tree, at: u64) {
        let inheriting =
            |number: &u32| self.slots.get(*number).is_some_and(|role| !role.inherits.is_empty());
        let numbers: Vec<u32> = self.slots.numbers().filter(inheriting).collect();
        for number in numbers {
            self.refresh(number, tree, at);
        }
    }

    /// The role and all that inherit from it, directly or not.
    pub(super) fn heirs(&self, number: u32) -> Vec<u32> {
        self.reach(number, |role| &role.heirs)
    }

    /// The role and all that it inherits from, directly or not.
    pub(super) fn inherited(&self, number: u32) -> Vec<u32> {
        self.reach(number, |role| &role.inherits)
    }

    fn reach(&self, number: u32, next: impl Fn(&Role) -> &Vec<u32>) -> Vec<u32> {
        let mut reached = vec![number];
        let mut place = 0;
        while let Some(at) = reached.get(place).copied()
            && reached.len() <= HEIRS_MAX
        {
            for other in self.slots.get(at).map_or(&[][..], |role| next(role)) {
                if !reached.contains(other) {
                    reached.push(*other);
                }
            }
            place += 1;
        }
        reached
    }

    fn recompute(&mut self, number: u32, tree: &Tree, at: u64) {
        for heir in self.heirs(number) {
            self.refresh(heir, tree, at);
        }
        // It may have come to be, or be somewhere else.
        if let Some(role) = self.slots.get_mut(number) {
            role.changed = at;
        }
    }

    /// Adds up what the role allows: its own, and that of the roles above it that it names.
    fn refresh(&mut self, number: u32, tree: &Tree, at: u64) {
        let Some(role) = self.slots.get(number) else { return };
        let mut effective = role.own;
        let mut reached = vec![number];
        let mut place = 0;
        while let Some(at) = reached.get(place).copied() {
            place += 1;
            let Some(role) = self.slots.get(at) else { continue };
            let Some(chain) = tree.chain(role.container) else { continue };
            for &other in &role.inherits {
                let Some(parent) = self.slots.get(other) else { continue };
                if reached.contains(&other) || !chain.contains(parent.container) {
                    continue;
                }
                effective.add(&parent.own);
                reached.push(other);
            }
        }
        if let Some(role) = self.slots.get_mut(number)
            && role.effective != effective
        {
            role.effective = effective;
            role.changed = at;
        }
    }
}

impl Equivalent<PlacedName> for PlacedRef<'_> {
    fn equivalent(&self, key: &PlacedName) -> bool {
        *self.0 == *key.0 && *self.1 == *key.1
    }
}
