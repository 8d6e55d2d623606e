//! What a forwarding table is told: prefixes whose paths changed, and where their packets go now.
//!
//! Unlike a peer it cares for every path that shares traffic with the best one, so a prefix is marked
//! whenever any of its paths changes. It is told levels, not events: where a prefix leads is read
//! when it is asked for, so whoever asks seldom hears the last word alone. While nobody listens, a
//! change costs one comparison.
//!
//! Invariant: a prefix is marked at most once, and its name is held as long.

use std::collections::VecDeque;
use std::net::IpAddr;

use ipnet::IpNet;

use super::attributes::AttributeStore;
use super::best;
use super::bitmap::Bitmap;
use super::path::{Path, Source};
use super::table::{Address, Node, Table};
use super::{Rib, with_table, with_table_ref};
use crate::types::Family;

/// Where packets to a prefix go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardingRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// Routers to share the traffic, without repetition and in a fixed order; none: the prefix is
    /// not reached through anybody else.
    pub next_hops: Vec<IpAddr>,
}

/// Prefixes of one family whose paths changed.
#[derive(Debug, Default)]
pub(super) struct Dirt {
    marked: Bitmap,
    queue: VecDeque<u32>,
    /// The rest of a walk over the whole table.
    walk: Option<Walk>,
}

#[derive(Clone, Copy, Debug)]
struct Walk {
    next: u32,
    end: u32,
}

impl Dirt {
    /// Marks a prefix; whether it was not marked before.
    pub(super) fn mark(&mut self, id: u32) -> bool {
        if self.marked.contains(id) {
            return false;
        }
        self.marked.insert(id);
        self.queue.push_back(id);
        true
    }

    fn pop(&mut self) -> Option<u32> {
        /// Room for marks that is kept once a backlog is gone.
        const KEPT: usize = 4096;
        let id = self.queue.pop_front()?;
        self.marked.remove(id);
        if self.queue.is_empty() && self.queue.capacity() > KEPT {
            self.queue.shrink_to(KEPT);
        }
        Some(id)
    }

    fn step(&mut self) -> Option<u32> {
        let Walk { next, end } = self.walk?;
        let following = next.saturating_add(1);
        self.walk = (following < end).then_some(Walk { next: following, end });
        Some(next)
    }

    fn is_clean(&self) -> bool {
        self.queue.is_empty() && self.walk.is_none()
    }
}

impl Rib {
    /// From here on changes are noted, beginning with all that is there.
    pub(crate) fn watch_forwarding(&mut self) {
        for family in Family::ALL {
            with_table!(self, family, table => {
                let end = table.bound();
                let dirt = table.dirt.get_or_insert_default();
                dirt.walk = (end > 0).then_some(Walk { next: 0, end });
            });
        }
    }

    /// Whether a forwarding table is to be told something.
    pub(crate) fn has_forwarding(&self) -> bool {
        Family::ALL.into_iter().any(|family| {
            with_table_ref!(self, family, table => {
                table.dirt.as_ref().is_some_and(|dirt| !dirt.is_clean())
            })
        })
    }

    /// Appends where prefixes lead that changed, after a look at so many prefixes at most.
    pub(crate) fn take_forwarding(
        &mut self,
        multipath_max: usize,
        visits: usize,
        out: &mut Vec<ForwardingRoute>,
    ) {
        let mut left = visits;
        for family in Family::ALL {
            with_table!(self, family, table => {
                while left > 0 && visit(table, &self.store, multipath_max, out) {
                    left = left.saturating_sub(1);
                }
            });
        }
    }
}

/// Looks at one prefix; whether there was one.
fn visit<A: Address>(
    table: &mut Table<A>,
    store: &AttributeStore,
    multipath_max: usize,
    out: &mut Vec<ForwardingRoute>,
) -> bool {
    let Some(dirt) = &mut table.dirt else { return false };
    let marked = dirt.pop();
    let Some(id) = marked.or_else(|| dirt.step()) else { return false };
    if let Some(node) = table.node(id) {
        let next_hops = next_hops(node, table, store, multipath_max);
        // A walk comes by names that nobody bears, too.
        let prefix = node.prefix().filter(|_| marked.is_some() || !next_hops.is_empty());
        out.extend(prefix.map(|prefix| ForwardingRoute { prefix, next_hops }));
    }
    if marked.is_some() {
        table.let_go(id);
    }
    true
}

fn next_hops<A: Address>(
    node: &Node<A>,
    table: &Table<A>,
    store: &AttributeStore,
    multipath_max: usize,
) -> Vec<IpAddr> {
    let sources = table.sources();
    let Some(best) = node.best() else { return Vec::new() };
    let next_hop = |path: &Path| {
        let next_hop = store.block(path.used?).next_hop();
        next_hop.map(|next_hop| next_hop.address())
    };
    // Our own announcement is delivered here.
    if table.source(best.source).is_none_or(Source::is_local) {
        return Vec::new();
    }
    let paths = node.paths.as_slice().iter();
    let mut equal: Vec<_> = paths
        .filter(|path| best::is_equal_cost(best, path, sources, store))
        .filter_map(|path| Some((best::last_rank(path, sources)?, next_hop(path)?)))
        .collect();
    // As selection would rank them, so that which are beyond the limit does not depend on age.
    equal.sort_unstable();
    let mut next_hops = Vec::new();
    for (_, next_hop) in equal {
        if next_hops.len() < multipath_max && !next_hops.contains(&next_hop) {
            next_hops.push(next_hop);
        }
    }
    next_hops.sort_unstable();
    next_hops
}
