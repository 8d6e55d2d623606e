//! Status of the platform's own objects: nodes, datacenters, peers; and of backend pools.

use std::collections::BTreeMap;

use isocast_api::{
    agent::{self as wire, EntryError, PeerStatus},
    meta::{ConditionStatus, Finding},
    network::{
        BackendPool, BackendPoolStatus, BgpPeer, BgpPeerStatus, Datacenter, DatacenterStatus, Node,
        NodeStatus, SessionStatus,
    },
};
use jiff::Timestamp;

use super::{Judgement, Presence, Progress, Voice, refusal};
use crate::fleet::compile::{Compilation, World, backends};

const ESTABLISHED: &str = "Established";

/// What is so of `node`.
#[must_use]
pub fn node(node: &Node, voice: &Voice<'_>, now: Timestamp) -> NodeStatus {
    let mut status = node.status.clone();
    let generation = node.metadata.generation;
    let mut judgement = Judgement { conditions: &mut status.conditions, generation, now };
    judgement.set(match voice.presence {
        Presence::Connected => Finding::new("Connected", ConditionStatus::True, "Connected", ""),
        Presence::Disconnected => {
            let message = "the agent is not connected; the node goes on with what it has";
            Finding::new("Connected", ConditionStatus::False, "Disconnected", message)
        }
    });
    judgement.set(match (voice.progress, voice.presence) {
        (Progress::Applied { revision }, Presence::Connected) => {
            let message = format!("revision {revision}");
            Finding::new("Applied", ConditionStatus::True, "Applied", message)
        }
        (Progress::AppliedInPart { revision, refused }, Presence::Connected) => {
            let example = refused.first().map(of_entry).unwrap_or_default();
            let count = refused.len();
            let message = format!("revision {revision} but for {count} entries; {example}");
            Finding::new("Applied", ConditionStatus::False, "RefusedInPart", message)
        }
        (Progress::Refused(nack), _) => {
            let message = refusal(node.name(), nack);
            Finding::new("Applied", ConditionStatus::False, "Refused", message)
        }
        (_, Presence::Connected) => {
            let message = "the newest configuration is on its way";
            Finding::new("Applied", ConditionStatus::False, "Pending", message)
        }
        (_, Presence::Disconnected) => {
            let message = "the agent is not connected";
            Finding::new("Applied", ConditionStatus::Unknown, "Disconnected", message)
        }
    });
    if let Some(statement) = voice.statement {
        status.agent_version = Some(statement.agent_version.clone());
        status.revision = Some(statement.revision);
        status.dataplane_generation = Some(statement.dataplane_generation);
    }
    status
}

/// What is so of `datacenter`.
#[must_use]
pub fn datacenter(
    world: &World,
    datacenter: &Datacenter,
    voices: &BTreeMap<&str, Voice<'_>>,
    now: Timestamp,
) -> DatacenterStatus {
    let mut status = datacenter.status.clone();
    let stands_here = |node: &&Node| node.spec.datacenter.as_str() == datacenter.name();
    let nodes: Vec<_> = world.nodes.values().filter(stands_here).collect();
    let is_connected = |node: &&&Node| {
        voices.get(node.name()).is_some_and(|voice| voice.presence == Presence::Connected)
    };
    let connected = nodes.iter().filter(is_connected).count();
    status.nodes = count(nodes.len());
    status.connected_nodes = count(connected);
    let message = format!("{connected} of {} nodes are connected", nodes.len());
    let reason = if connected > 0 { "NodesConnected" } else { "NoNodeConnected" };
    let generation = datacenter.metadata.generation;
    let mut judgement = Judgement { conditions: &mut status.conditions, generation, now };
    judgement.set(Finding::new("Ready", (connected > 0).into(), reason, message));
    status
}

/// What is so of `peer`, by the sessions that its nodes report.
#[must_use]
pub fn bgp_peer(
    compilation: &Compilation,
    peer: &BgpPeer,
    voices: &BTreeMap<&str, Voice<'_>>,
    now: Timestamp,
) -> BgpPeerStatus {
    let session = |node: &Node| {
        let statement = voices.get(node.name()).and_then(|voice| voice.statement);
        let said = statement
            .map(|statement| statement.peers.iter().find(|said| said.uid == peer.metadata.uid));
        match said {
            Some(Some(said)) => of_session(node, said),
            Some(None) => unheard(node, "Idle"),
            None => unheard(node, "Unknown"),
        }
    };
    let key = format!("bgppeer/{}", peer.metadata.uid);
    let session = |node: &Node| {
        let mut session = session(node);
        let refusal = voices.get(node.name()).and_then(|voice| voice.refusal_of(&key));
        if let Some(error) = refusal {
            session.last_error = Some(format!("{}: {}", error.reason, error.message));
        }
        session
    };
    let speakers = compilation.speakers(peer);
    let sessions: Vec<_> = speakers.into_iter().map(session).collect();
    let up = sessions.iter().filter(|session| session.state == ESTABLISHED).count();
    let down = sessions.iter().find(|session| session.state != ESTABLISHED);
    let finding = match down {
        _ if sessions.is_empty() => {
            let message = "no edge node is named or selected";
            Finding::new(ESTABLISHED, ConditionStatus::False, "NoNode", message)
        }
        None => {
            let message = format!("{up} sessions");
            Finding::new(ESTABLISHED, ConditionStatus::True, ESTABLISHED, message)
        }
        Some(session) => {
            let why = session.last_error.as_deref().unwrap_or_default();
            let comma = if why.is_empty() { "" } else { ", " };
            let message = format!(
                "{up} of {} sessions; node {}: {}{comma}{why}",
                sessions.len(),
                session.node,
                session.state,
            );
            let known = sessions.iter().any(|it| it.state != ESTABLISHED && it.state != "Unknown");
            let status = if known { ConditionStatus::False } else { ConditionStatus::Unknown };
            Finding::new(ESTABLISHED, status, "SessionsDown", message)
        }
    };
    let mut conditions = peer.status.conditions.clone();
    let generation = peer.metadata.generation;
    Judgement { conditions: &mut conditions, generation, now }.set(finding);
    BgpPeerStatus { conditions, sessions }
}

fn of_session(node: &Node, said: &PeerStatus) -> SessionStatus {
    SessionStatus {
        node: node.name().to_owned(),
        state: said.state.clone(),
        last_error: (!said.last_error.is_empty()).then(|| said.last_error.clone()),
        prefixes_sent: said.prefixes_sent,
    }
}

fn unheard(node: &Node, state: &str) -> SessionStatus {
    SessionStatus {
        node: node.name().to_owned(),
        state: state.to_owned(),
        last_error: None,
        prefixes_sent: 0,
    }
}

/// What an agent said of one entry.
fn of_entry(error: &EntryError) -> String {
    let EntryError { key, name, message, .. } = error;
    let kind = key.split('/').next().unwrap_or_default();
    format!("{kind} {name}: {message}")
}

/// What is so of `pool`: whether what it names exists, and whether nodes take it.
#[must_use]
pub fn backend_pool(
    world: &World,
    pool: &BackendPool,
    voices: &BTreeMap<&str, Voice<'_>>,
    now: Timestamp,
) -> BackendPoolStatus {
    let (resolved, problems) = backends(world, pool);
    let finding = match problems.into_iter().next() {
        None => {
            let message = of_agentless(&resolved);
            Finding::new("Ready", ConditionStatus::True, "BackendsExist", message)
        }
        Some(Finding { reason, message, .. }) => {
            Finding::new("Ready", ConditionStatus::False, reason, message)
        }
    };
    let mut conditions = pool.status.conditions.clone();
    let generation = pool.metadata.generation;
    let mut judgement = Judgement { conditions: &mut conditions, generation, now };
    judgement.set(finding);
    judgement.set(accepted(pool, voices));
    BackendPoolStatus { conditions, resolved_backends: count(resolved.len()) }
}

/// What those who apply a pool should know of its hosts without an agent; empty: it has none.
fn of_agentless(backends: &[wire::Backend]) -> String {
    match backends.iter().filter(|backend| backend.node.is_empty()).count() {
        0 => String::new(),
        count => format!(
            "{count} of {} hosts have no agent: their UDP flows move when the ring changes",
            backends.len(),
        ),
    }
}

/// Whether every node that is heard takes the pool as it is now.
fn accepted(pool: &BackendPool, voices: &BTreeMap<&str, Voice<'_>>) -> Finding {
    let key = format!("pool/{}", pool.metadata.uid);
    let mut refusals =
        voices.values().filter_map(|voice| Some((voice.node, voice.refusal_of(&key)?)));
    let Some((node, error)) = refusals.next() else {
        return Finding::new("Accepted", ConditionStatus::True, "Accepted", "");
    };
    let message = format!("node {node} refused it: {}", error.message);
    Finding::new("Accepted", ConditionStatus::False, &error.reason, message)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
