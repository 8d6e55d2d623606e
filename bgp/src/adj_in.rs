//! What a peer has told us (the collector's side).
//!
//! Import is denied unless the session says otherwise (RFC 8212): then nothing is kept and no event
//! is made, whatever the peer sends. With import allowed, events report changes only: a prefix
//! announced again with the same attributes is none, nor is a withdrawal of an unknown prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::fsm::PrefixLimit;
use crate::types::{Asn, Family};
use crate::wire::attribute::PathAttributes;
use crate::wire::community::Community;
use crate::wire::next_hop::NextHop;
use crate::wire::update::Update;

/// What to do with a peer's routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportPolicy {
    /// Accept nothing.
    #[default]
    DenyAll,
    /// Accept everything, up to this many prefixes.
    AcceptAll {
        /// One more ends the session.
        prefixes_max: usize,
    },
}

/// A change of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// The prefix is reached this way now.
    Announced {
        /// The prefix.
        prefix: IpNet,
        /// How it is reached.
        route: Arc<Route>,
    },
    /// The session is over, and the route with it: the peer said nothing about it.
    Lost {
        /// The prefix.
        prefix: IpNet,
    },
    /// The peer no longer reaches the prefix, or said so in a way that is treated as if.
    Withdrawn {
        /// The prefix.
        prefix: IpNet,
    },
}

/// How a prefix is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where packets go.
    pub next_hop: NextHop,
    /// Everything else.
    pub attributes: PathAttributes,
}

/// The routes of one peer.
#[derive(Debug, Default)]
pub struct AdjIn {
    policy: ImportPolicy,
    routes: BTreeMap<IpNet, Arc<Route>>,
    /// Prefixes that the peer has not sent again yet.
    stale: BTreeSet<IpNet>,
}

impl AdjIn {
    /// No routes yet.
    #[must_use]
    pub const fn new(policy: ImportPolicy) -> Self {
        Self { policy, routes: BTreeMap::new(), stale: BTreeSet::new() }
    }

    /// Replaces the policy for what arrives from here on.
    pub const fn set_policy(&mut self, policy: ImportPolicy) {
        self.policy = policy;
    }

    /// Takes what an UPDATE says; changes are appended to `changes`. `local_asn` is ours: a route
    /// that came through us is a loop (RFC 4271 §9.1.2).
    ///
    /// # Errors
    /// The policy's limit.
    pub fn apply(
        &mut self,
        update: Update,
        local_asn: Option<Asn>,
        changes: &mut Vec<RouteChange>,
    ) -> Result<(), PrefixLimit> {
        let ImportPolicy::AcceptAll { prefixes_max } = self.policy else { return Ok(()) };
        let Update { withdrawn, reach, attributes, .. } = update;
        self.withdraw(withdrawn, changes);
        let looped = local_asn.is_some_and(|asn| attributes.as_path.0.contains(&asn));
        for reach in reach {
            if looped {
                self.withdraw(reach.prefixes, changes);
                continue;
            }
            let next_hop = reach.next_hop;
            let route = Arc::new(Route { next_hop, attributes: attributes.clone() });
            for prefix in reach.prefixes {
                self.stale.remove(&prefix);
                if self.routes.get(&prefix) == Some(&route) {
                    continue;
                }
                let known = self.routes.insert(prefix, Arc::clone(&route)).is_some();
                if !known && self.routes.len() > prefixes_max {
                    return Err(PrefixLimit { family: None, prefixes_max });
                }
                changes.push(RouteChange::Announced { prefix, route: Arc::clone(&route) });
            }
        }
        Ok(())
    }

    /// The session is over: every route of `family` is gone.
    pub fn lose(&mut self, family: Family, changes: &mut Vec<RouteChange>) {
        let lost = self.of(family).collect();
        self.remove(lost, changes, |prefix| RouteChange::Lost { prefix });
    }

    /// Every route of `family` is stale until the peer sends it again.
    pub fn mark_stale(&mut self, family: Family) {
        let of_family: Vec<_> = self.of(family).collect();
        self.stale.extend(of_family);
    }

    /// What is still stale of `family` is gone.
    pub fn drop_stale(&mut self, family: Family, changes: &mut Vec<RouteChange>) {
        let lost = self.stale.iter().filter(|p| Family::of(p) == family).copied().collect();
        self.remove(lost, changes, |prefix| RouteChange::Lost { prefix });
    }

    /// What is stale of `family` and must not outlive graceful restart is gone (RFC 9494 §4.2).
    pub fn drop_no_llgr(&mut self, family: Family, changes: &mut Vec<RouteChange>) {
        let refuses = |prefix: &&IpNet| {
            let route = self.routes.get(*prefix);
            route.is_some_and(|r| r.attributes.communities.standard.contains(&Community::NO_LLGR))
        };
        let of_family = self.stale.iter().filter(|p| Family::of(p) == family);
        let lost = of_family.filter(refuses).copied().collect();
        self.remove(lost, changes, |prefix| RouteChange::Lost { prefix });
    }

    /// Number of prefixes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether no prefix is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    fn of(&self, family: Family) -> impl Iterator<Item = IpNet> {
        self.routes.keys().filter(move |prefix| Family::of(prefix) == family).copied()
    }

    fn withdraw(&mut self, prefixes: Vec<IpNet>, changes: &mut Vec<RouteChange>) {
        self.remove(prefixes, changes, |prefix| RouteChange::Withdrawn { prefix });
    }

    fn remove(
        &mut self,
        prefixes: Vec<IpNet>,
        changes: &mut Vec<RouteChange>,
        change: impl Fn(IpNet) -> RouteChange,
    ) {
        for prefix in prefixes {
            self.stale.remove(&prefix);
            if self.routes.remove(&prefix).is_some() {
                changes.push(change(prefix));
            }
        }
    }
}
