//! What can be seen of a [`Simulator`]: routes, as its nodes have them.

use std::collections::BTreeMap;

use ipnet::IpNet;
use isocast_bgp::{
    speaker::{Cursor, PathView, PeerId},
    types::Family,
};

use super::network::{NodeId, Simulator};

/// How a node reaches a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The autonomous systems on the way, the nearest first; empty for what is its own.
    pub path: Vec<u32>,
    /// The peer that told is away, and may be back soon.
    pub stale: bool,
}

impl Simulator {
    /// The best route of a node to every IPv4 prefix that it can reach.
    #[must_use]
    pub fn table(&self, node: NodeId) -> BTreeMap<IpNet, Reach> {
        let known = self.nodes.get(usize::from(node.0));
        let Some(speaker) = known.and_then(|known| known.speaker.as_ref()) else {
            return BTreeMap::new();
        };
        let mut table = BTreeMap::new();
        let mut next = Some(Cursor::default());
        while let Some(from) = next {
            let page = speaker.routes(Family::Ipv4Unicast, from, PAGE);
            for view in page.entries {
                let best = view.paths.iter().find(|path| path.best).map(reach);
                table.extend(best.map(|reach| (view.prefix, reach)));
            }
            next = page.next;
        }
        table
    }
}

fn reach(path: &PathView<PeerId>) -> Reach {
    let hops = path.attributes.as_path.0.iter();
    Reach { path: hops.map(|asn| asn.0).collect(), stale: path.stale }
}

/// Prefixes asked for at once.
const PAGE: usize = 256;
