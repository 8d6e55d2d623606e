//! [`Grants`]: what somebody was given or denied, by container.
//!
//! Most have a few dozen: the containers' numbers lie next to each other, the first of them in the
//! principal's own cache lines, so that finding out that none is in a chain reads nothing else, and
//! no hash. Whoever has more is looked up by hash. Which of the two it is makes no difference to what
//! is found.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use isocast_api::iam::Effect;
use smallvec::SmallVec;

use super::{condition::Condition, tree::Chain};

/// A binding, as one of its subjects sees it.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) binding: u32,
    pub(super) role: u32,
    pub(super) effect: Effect,
    /// Seconds since 1970; `i64::MAX` for good.
    pub(super) expires: i64,
    pub(super) condition: Option<Arc<Condition>>,
}

/// The bindings of one subject.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// Containers of the few, in their order; empty when there are many.
    containers: SmallVec<[u32; INLINE]>,
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// In the order of their containers.
    Few(Box<[Grant]>),
    Many(Box<HashMap<u32, Vec<Grant>, RandomState>>),
}

/// Containers that a principal itself has room for: as many as fit its cache lines.
const INLINE: usize = 16;

/// Beyond so many, hashes are faster.
const FEW_MAX: usize = 32;

impl Default for Store {
    fn default() -> Self {
        Self::Few(Box::default())
    }
}

impl Grants {
    pub(super) fn push(&mut self, container: u32, grant: Grant) {
        match &mut self.store {
            Store::Few(few) if few.len() < FEW_MAX => {
                let mut grants = std::mem::take(few).into_vec();
                grants.push(grant);
                *few = grants.into_boxed_slice();
                self.containers.push(container);
            }
            Store::Few(few) => {
                let grants = std::mem::take(few).into_iter();
                let known = std::mem::take(&mut self.containers).into_iter().zip(grants);
                let mut many: HashMap<u32, Vec<Grant>, RandomState> = HashMap::default();
                for (container, grant) in known.chain([(container, grant)]) {
                    many.entry(container).or_default().push(grant);
                }
                self.store = Store::Many(Box::new(many));
            }
            Store::Many(many) => many.entry(container).or_default().push(grant),
        }
    }

    /// Takes a binding away.
    pub(super) fn remove(&mut self, container: u32, binding: u32) {
        let is_empty = match &mut self.store {
            Store::Few(few) => {
                let mut grants = std::mem::take(few).into_vec();
                while let Some(place) = grants.iter().position(|it| it.binding == binding) {
                    grants.swap_remove(place);
                    self.containers.swap_remove(place);
                }
                *few = grants.into_boxed_slice();
                few.is_empty()
            }
            Store::Many(many) => {
                if let Some(grants) = many.get_mut(&container) {
                    grants.retain(|grant| grant.binding != binding);
                    if grants.is_empty() {
                        many.remove(&container);
                    }
                }
                many.is_empty()
            }
        };
        if is_empty {
            *self = Self::default();
        }
    }

    /// Calls `visit` with each grant in a container of `chain`, until it breaks off.
    pub(super) fn along<'a, B>(
        &'a self,
        chain: &Chain,
        mut visit: impl FnMut(u32, &'a Grant) -> Option<B>,
    ) -> Option<B> {
        match &self.store {
            Store::Few(few) => {
                for (place, &container) in self.containers.iter().enumerate() {
                    if chain.contains(container)
                        && let Some(grant) = few.get(place)
                        && let Some(end) = visit(container, grant)
                    {
                        return Some(end);
                    }
                }
                None
            }
            Store::Many(many) => chain.iter().find_map(|container| {
                many.get(&container)?.iter().find_map(|grant| visit(container, grant))
            }),
        }
    }

    /// All of them, with their containers.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = (u32, &Grant)> + '_> {
        match &self.store {
            Store::Few(few) => Box::new(self.containers.iter().copied().zip(few)),
            Store::Many(many) => {
                Box::new(many.iter().flat_map(|(at, all)| all.iter().map(move |it| (*at, it))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iam::tree::Tree;

    fn grant(binding: u32) -> Grant {
        Grant { binding, role: 0, effect: Effect::Allow, expires: i64::MAX, condition: None }
    }

    fn found(grants: &Grants, chain: &Chain) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        let _all: Option<()> = grants.along(chain, |container, grant| {
            found.push((container, grant.binding));
            None
        });
        found.sort_unstable();
        found
    }

    #[test]
    fn few_and_many_are_found_alike_and_go_without_a_trace() {
        let mut tree = Tree::default();
        tree.insert("organizations", "acme", None, 1);
        tree.insert("projects", "shop", Some("acme"), 1);
        let [shop, acme] = ["shop", "acme"].map(|name| tree.find(name).unwrap());
        let chain = tree.chain(shop).unwrap();
        let elsewhere = 1000;
        for others in [0, FEW_MAX - 3, FEW_MAX - 2, 10 * FEW_MAX] {
            let mut grants = Grants::default();
            let others: Vec<u32> = (10..).take(others).collect();
            for binding in &others {
                grants.push(elsewhere + binding % 7, grant(*binding));
            }
            for (container, binding) in [(shop, 1), (acme, 2), (shop, 3)] {
                grants.push(container, grant(binding));
            }

            let mut expected = [(shop, 1), (acme, 2), (shop, 3)];
            expected.sort_unstable();
            assert_eq!(found(&grants, &chain), expected, "{}", others.len());
            assert_eq!(grants.iter().count(), others.len() + 3);
            grants.remove(shop, 1);
            grants.remove(acme, 2);
            assert_eq!(found(&grants, &chain), [(shop, 3)]);
            grants.remove(shop, 3);
            for binding in &others {
                grants.remove(elsewhere + binding % 7, *binding);
            }
            assert!(matches!(&grants.store, Store::Few(few) if few.is_empty()));
            assert!(grants.containers.is_empty() && !grants.containers.spilled());
        }
    }
}
