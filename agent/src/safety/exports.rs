//! [`lost_exports()`]: routes that no router would be told any more, because policies changed.
//!
//! A policy is edited once and in force everywhere, so a term in the wrong place can withdraw more
//! than any failure. Compared are the routers that stay: one that is removed is somebody's order.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use isocast_bgp::{
    guard::ExportGuard,
    origination::Budget,
    policy::{Context, Source, Verdict},
    types::{Asn, PeerKind},
    wire::attribute::PathAttributes,
};

use crate::model::{NodeModel, Peer, Uid};

/// The routes that some router was told under the policies of `before`, and none is under those of
/// `after`; none, if they are so few that they may go.
#[must_use]
pub fn lost_exports(before: &NodeModel, after: &NodeModel) -> BTreeSet<IpNet> {
    let stay: BTreeSet<&Uid> = after.peers.iter().map(|peer| &peer.uid).collect();
    let stays = |peer: &&Peer| stay.contains(&peer.uid);
    let former: Vec<_> = before.peers.iter().filter(stays).collect();
    let known: BTreeSet<&Uid> = former.iter().map(|peer| &peer.uid).collect();
    let present: Vec<_> = after.peers.iter().filter(|peer| known.contains(&peer.uid)).collect();
    let policies = |peers: &[&Peer]| -> BTreeMap<Uid, _> {
        peers.iter().map(|peer| (peer.uid.clone(), peer.export.clone())).collect()
    };
    if policies(&former) == policies(&present) {
        return BTreeSet::new();
    }
    let told = told(before, &former);
    let lost: BTreeSet<_> = told.difference(&self::told(before, &present)).copied().collect();
    if lost.len() > Budget::WITHDRAWALS.limit(told.len()) || lost.len() == told.len() {
        lost
    } else {
        BTreeSet::new()
    }
}

/// The routes of `model` that at least one of `peers` is told by its policy.
fn told(model: &NodeModel, peers: &[&Peer]) -> BTreeSet<IpNet> {
    let own_space = ExportGuard::new(model.announceable.iter().copied());
    let mut told = BTreeSet::new();
    for service in model.services.values() {
        let communities = service.communities.clone();
        let attributes = PathAttributes { communities, ..PathAttributes::default() };
        let passes = |prefix: IpNet, peer: &Peer| {
            let is_internal = peer.peer_asn == model.asn;
            let context = Context {
                local_asn: Asn(model.asn),
                connection: peer.connection,
                peer_kind: if is_internal { PeerKind::Internal } else { PeerKind::External },
                source: Source::Own,
                next_hop: None,
                own_space: &own_space,
            };
            let verdict = peer.export.evaluate(prefix, &attributes, &context);
            matches!(verdict, Verdict::Accept { .. })
        };
        let prefixes = service.addresses.iter().copied().map(IpNet::from);
        told.extend(prefixes.filter(|prefix| peers.iter().any(|peer| passes(*prefix, peer))));
    }
    told
}

#[cfg(test)]
mod tests {
    use isocast_bgp::policy::Policy;

    use super::*;
    use crate::model::{testing, testing::peer};

    fn model(export: &[Policy]) -> NodeModel {
        let mut model = testing::two_datacenters();
        for (number, export) in export.iter().enumerate() {
            let uid = format!("router-{number}");
            model.peers.push(Peer { export: export.clone(), ..peer(&uid) });
        }
        model
    }

    #[test]
    fn a_policy_that_drops_everything_loses_every_route() {
        let before = model(&[Policy::accept_all()]);
        let after = model(&[Policy::reject_all()]);

        assert_eq!(lost_exports(&before, &after).len(), 2);
        assert!(lost_exports(&after, &before).is_empty(), "gaining is no loss");
    }

    #[test]
    fn what_one_router_is_still_told_is_not_lost() {
        let before = model(&[Policy::accept_all(), Policy::accept_all()]);
        let after = model(&[Policy::reject_all(), Policy::accept_all()]);

        assert!(lost_exports(&before, &after).is_empty());
    }

    #[test]
    fn a_router_that_is_removed_is_somebodys_order() {
        let before = model(&[Policy::accept_all()]);

        assert!(lost_exports(&before, &model(&[])).is_empty());
    }
}
