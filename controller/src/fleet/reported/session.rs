//! Sessions: one object for each router that a node speaks with, or should.

use isocast_api::{
    agent::PeerStatus,
    meta::{ConditionStatus, Finding, set_condition},
    network::{BgpPeer, BgpSessionSpec, BgpSessionStatus, SessionError},
    text::Time,
};
use jiff::Timestamp;

use super::{Draft, Drafts, Reported, name};
use crate::fleet::aggregate::Voice;

const ESTABLISHED: &str = "Established";
const UNKNOWN: &str = "Unknown";

impl Reported for BgpSessionSpec {
    fn silent(mut status: BgpSessionStatus, now: Timestamp) -> BgpSessionStatus {
        if status.state != UNKNOWN {
            UNKNOWN.clone_into(&mut status.state);
            status.since = Some(now.into());
        }
        let message = "the node has not been heard of lately";
        let finding = Finding::new(ESTABLISHED, ConditionStatus::Unknown, "NodeSilent", message);
        set_condition(&mut status.conditions, finding, 1, now);
        status
    }

    fn differs_in_counts_only(old: &BgpSessionStatus, new: &BgpSessionStatus) -> bool {
        let without_counts = |status: &BgpSessionStatus| BgpSessionStatus {
            prefixes_received: 0,
            prefixes_sent: 0,
            prefixes_withheld: 0,
            ..status.clone()
        };
        without_counts(old) == without_counts(new)
    }
}

/// The sessions of a node that is heard: those it reports, and those it should have.
pub(super) fn drafts<'a>(
    voice: &Voice<'_>,
    configured: impl Iterator<Item = &'a BgpPeer>,
) -> Drafts<BgpSessionSpec> {
    let Ok(node) = voice.node.parse() else { return Drafts::new() };
    let said = voice.statement.into_iter().flat_map(|statement| &statement.peers);
    let mut drafts: Drafts<BgpSessionSpec> = said
        .map(|said| {
            let spec = BgpSessionSpec { node: Clone::clone(&node), peer: said.name.clone() };
            (name::of_session(voice.node, &said.name), Draft { spec, status: of_peer(said) })
        })
        .collect();
    // Routers behind a prefix are known once they connect.
    for peer in configured.filter(|peer| peer.spec.prefix.is_none()) {
        let spec = BgpSessionSpec { node: Clone::clone(&node), peer: peer.name().to_owned() };
        drafts
            .entry(name::of_session(voice.node, peer.name()))
            .or_insert_with(|| Draft { spec, status: not_begun(voice, peer) });
    }
    drafts
}

/// What is so, with the past of its conditions.
pub(super) fn carry(
    mut status: BgpSessionStatus,
    old: &BgpSessionStatus,
    now: Timestamp,
) -> BgpSessionStatus {
    status.conditions.clone_from(&old.conditions);
    let state = status.state.as_str();
    let is_up = state == ESTABLISHED;
    let error = status.last_error.as_ref();
    let reason = match error {
        _ if is_up => ESTABLISHED,
        Some(error) if !error.code.is_empty() => &error.code,
        _ => state,
    };
    let message = error.filter(|_| !is_up).map(|error| error.message.as_str()).unwrap_or_default();
    let finding = Finding::new(ESTABLISHED, is_up.into(), reason, message);
    set_condition(&mut status.conditions, finding, 1, now);
    status
}

fn of_peer(said: &PeerStatus) -> BgpSessionStatus {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let error = text(&said.last_error)
        .map(|message| SessionError { code: said.last_error_code.clone(), message });
    BgpSessionStatus {
        conditions: Vec::new(),
        state: said.state.clone(),
        since: Time::from_unix_ms(said.since_ms),
        address: said.address.parse().ok(),
        local_address: said.local_address.parse().ok(),
        peer_asn: (said.asn != 0).then_some(said.asn),
        families: said.families.clone(),
        graceful_restart: text(&said.graceful_restart),
        bfd: text(&said.bfd),
        prefixes_received: said.prefixes_received,
        prefixes_sent: said.prefixes_sent,
        prefixes_withheld: said.prefixes_withheld,
        flaps: said.flaps,
        last_error: error,
    }
}

/// A session that the node should have and does not speak of.
fn not_begun(voice: &Voice<'_>, peer: &BgpPeer) -> BgpSessionStatus {
    let refusal = voice.refusal_of(&format!("bgppeer/{}", peer.metadata.uid));
    BgpSessionStatus {
        state: "Idle".to_owned(),
        address: peer.spec.address,
        last_error: refusal.map(|error| SessionError {
            code: error.reason.clone(),
            message: error.message.clone(),
        }),
        ..BgpSessionStatus::default()
    }
}
