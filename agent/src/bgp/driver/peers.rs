//! Who the peers are: those that are configured, and those that came from a configured prefix.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use isocast_bgp::fsm::ConnectionId;
use isocast_bgp::speaker::PeerId;
use mio::Token;

use crate::bgp::config::{PeerConfig, Uid};
use crate::bgp::md5::Md5Key;
use crate::bgp::status::PeerStatus;
use crate::model::Remote;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_id: BTreeMap<PeerId, Peer>,
    by_address: HashMap<IpAddr, PeerId>,
    /// What connects from these prefixes becomes a peer.
    templates: BTreeMap<Uid, Arc<PeerConfig>>,
    next_id: u32,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) config: Arc<PeerConfig>,
    pub(super) status: PeerStatus,
    /// Of which prefix it came; nothing: it is configured itself.
    pub(super) template: Option<Uid>,
    /// Its connections: one, but for collisions.
    pub(super) links: Vec<(ConnectionId, Token)>,
    /// When its socket last took something.
    pub(super) told_at: Option<Instant>,
    /// When the last malformed UPDATE was logged as a warning.
    pub(super) malformed_at: Option<Instant>,
}

/// What a new set of peers changes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) removed: Vec<PeerId>,
    pub(super) changed: Vec<(PeerId, Arc<PeerConfig>)>,
    pub(super) added: Vec<Arc<PeerConfig>>,
}

// === impl Peers ===

impl Peers {
    /// What it takes to get from these peers to `wanted`. Templates are replaced already.
    pub(super) fn plan(&mut self, wanted: Vec<Arc<PeerConfig>>) -> Plan {
        let (templates, mut fixed): (BTreeMap<_, _>, BTreeMap<_, _>) = wanted
            .into_iter()
            .map(|config| (Arc::clone(&config.uid), config))
            .partition(|(_, config)| matches!(config.remote, Remote::Prefix(_)));
        let mut plan = Plan::default();
        for (id, peer) in &self.by_id {
            let config = match &peer.template {
                None => fixed.remove(&peer.config.uid),
                Some(uid) => templates.get(uid).and_then(|template| admit(template, peer)),
            };
            match config {
                None => plan.removed.push(*id),
                Some(config) if config != peer.config => plan.changed.push((*id, config)),
                Some(_) => {}
            }
        }
        plan.added.extend(fixed.into_values());
        self.templates = templates;
        plan
    }

    pub(super) fn insert(&mut self, config: Arc<PeerConfig>, template: Option<Uid>) -> PeerId {
        let id = PeerId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        if let Remote::Address(address) = config.remote {
            self.by_address.insert(address, id);
        }
        let status = PeerStatus::new(config.name.clone());
        let (links, told_at, malformed_at) = (Vec::new(), None, None);
        self.by_id.insert(id, Peer { config, status, template, links, told_at, malformed_at });
        id
    }

    pub(super) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let peer = self.by_id.remove(&id)?;
        self.by_address.retain(|_, known| *known != id);
        Some(peer)
    }

    /// Replaces the configuration of a peer that stays where it is.
    pub(super) fn reconfigure(&mut self, id: PeerId, config: Arc<PeerConfig>) {
        if let Some(peer) = self.by_id.get_mut(&id) {
            peer.status.name.clone_from(&config.name);
            peer.config = config;
        }
    }

    pub(super) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.by_id.iter().map(|(id, peer)| (*id, peer))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut Peer)> {
        self.by_id.iter_mut().map(|(id, peer)| (*id, peer))
    }

    pub(super) fn at(&self, address: IpAddr) -> Option<PeerId> {
        self.by_address.get(&address).copied()
    }

    /// The template of an address, the one with the longest prefix, if it has room for one more.
    pub(super) fn template(&self, address: IpAddr) -> Option<&Arc<PeerConfig>> {
        let prefix = |config: &PeerConfig| match config.remote {
            Remote::Prefix(prefix) if prefix.contains(&address) => Some(prefix.prefix_len()),
            _ => None,
        };
        let covering = self.templates.values().filter(|config| prefix(config).is_some());
        let template = covering.max_by_key(|config| prefix(config))?;
        let of_template = |peer: &&Peer| peer.template.as_ref() == Some(&template.uid);
        let count = self.by_id.values().filter(of_template).count();
        let has_room = u32::try_from(count).is_ok_and(|count| count < template.peers_max);
        has_room.then_some(template)
    }

    /// The keys of all peers that sign.
    pub(super) fn keys(&self) -> BTreeMap<IpNet, Md5Key> {
        let fixed = self.by_id.values().map(|peer| &peer.config);
        let key = |config: &Arc<PeerConfig>| {
            let key = config.transport.md5.clone()?;
            Some(match config.remote {
                Remote::Address(address) => (IpNet::from(address), key),
                Remote::Prefix(prefix) => (prefix, key),
            })
        };
        fixed.chain(self.templates.values()).filter_map(key).collect()
    }
}

/// What a changed template makes of a peer that came by it.
fn admit(template: &PeerConfig, peer: &Peer) -> Option<Arc<PeerConfig>> {
    match (template.remote, peer.config.remote) {
        (Remote::Prefix(prefix), Remote::Address(address)) if prefix.contains(&address) => {
            Some(Arc::new(template.instance(address)))
        }
        _ => None,
    }
}
