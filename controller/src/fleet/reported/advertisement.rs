//! Advertisements: one object for each prefix that a node carries.

use ipnet::IpNet;
use isocast_api::{
    agent::{PrefixPeer, PrefixStatus},
    meta::{ConditionStatus, Finding, set_condition},
    network::{AdvertisementPeer, BgpAdvertisementSpec, BgpAdvertisementStatus},
    text::Time,
};
use jiff::Timestamp;

use super::{Draft, Drafts, Reported, name};
use crate::fleet::aggregate::Voice;

const ANNOUNCED: &str = "Announced";

impl Reported for BgpAdvertisementSpec {
    fn silent(mut status: BgpAdvertisementStatus, now: Timestamp) -> BgpAdvertisementStatus {
        let message = "the node has not been heard of lately";
        let finding = Finding::new(ANNOUNCED, ConditionStatus::Unknown, "NodeSilent", message);
        set_condition(&mut status.conditions, finding, 1, now);
        status
    }

    fn differs_in_counts_only(_: &BgpAdvertisementStatus, _: &BgpAdvertisementStatus) -> bool {
        false
    }
}

/// The prefixes of a node that is heard.
pub(super) fn drafts(voice: &Voice<'_>) -> Drafts<BgpAdvertisementSpec> {
    let said = voice.statement.into_iter().flat_map(|statement| &statement.prefixes);
    let draft = |said: &PrefixStatus| {
        let prefix: IpNet = said.prefix.parse().ok()?;
        let spec = BgpAdvertisementSpec {
            node: voice.node.parse().ok()?,
            prefix: said.prefix.parse().ok()?,
        };
        let name = name::of_advertisement(voice.node, prefix);
        Some((name, Draft { spec, status: of_prefix(said) }))
    };
    said.filter_map(draft).collect()
}

/// What is so, with the past of its conditions.
pub(super) fn carry(
    mut status: BgpAdvertisementStatus,
    old: &BgpAdvertisementStatus,
    now: Timestamp,
) -> BgpAdvertisementStatus {
    let finding = status.conditions.pop().map(|condition| Finding {
        kind: ANNOUNCED,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
    });
    status.conditions.clone_from(&old.conditions);
    if let Some(finding) = finding {
        set_condition(&mut status.conditions, finding, 1, now);
    }
    status
}

fn of_prefix(said: &PrefixStatus) -> BgpAdvertisementStatus {
    let peers: Vec<_> = said.peers.iter().map(of_peer).collect();
    let told = peers.iter().filter(|peer| peer.since.is_some()).count();
    let finding = if said.announced && told == 0 {
        let message = "the node may announce it, and no router has been told";
        Finding::new(ANNOUNCED, ConditionStatus::False, "NotTold", message)
    } else {
        Finding::new(ANNOUNCED, said.announced.into(), &said.reason, &said.message)
    };
    let mut conditions = Vec::new();
    set_condition(&mut conditions, finding, 1, Timestamp::UNIX_EPOCH);
    BgpAdvertisementStatus {
        conditions,
        services: said.services.clone(),
        communities: said.communities.clone(),
        told: u32::try_from(told).unwrap_or(u32::MAX),
        peers,
    }
}

fn of_peer(said: &PrefixPeer) -> AdvertisementPeer {
    let since = if said.since_ms == 0 { None } else { Time::from_unix_ms(said.since_ms) };
    AdvertisementPeer {
        name: said.peer.clone(),
        since,
        withheld: Some(said.withheld.clone()).filter(|why| !why.is_empty()),
    }
}
