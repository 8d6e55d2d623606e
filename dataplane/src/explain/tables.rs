//! What an explanation asks of the tables in force.

use std::net::IpAddr;

use isocast_dataplane_common::{
    NO_BACKEND, RingPlace, Slot,
    directory::{Key, Value},
    policy::Policy,
    tables::{Chain, Root, Target},
    tracking::{Eras, FlowId, WAYS},
};

use crate::{
    BackendKey, Ceilings, ServiceKey, SourceRule, dataplane::Generation, directory::Entries,
    flow_table::FlowTable, guards::Guards, next_hops::NextHopKeeper, plan::Ledger, rings::Rings,
};

/// The questions, in the words of the program.
pub(crate) trait Lookup {
    fn generation(&self) -> Generation;
    fn root(&self) -> Root;
    fn find(&self, key: &Key) -> Option<Value>;
    /// What is asked of a service's packets.
    fn policy(&self, service: u16) -> Policy;
    /// The rule of a list that decides about a source.
    fn rule(&self, list: u32, source: IpAddr) -> Option<SourceRule>;
    /// What a bucket lets through, if that is known.
    fn ceilings(&self, bucket: u32) -> Option<Ceilings>;
    /// The slot of a ring for a flow, and its place.
    fn slot(&self, ring: RingPlace, hash: u64) -> Option<(usize, Slot)>;
    fn chain(&self, number: u16) -> Option<Chain>;
    /// What time it is in the flow table.
    fn eras(&self) -> Eras;
    /// The line of the flow table that a flow may be noted in.
    fn flow_line(&self, flow: FlowId) -> Option<[u64; WAYS]>;
    fn target(&self, number: u16) -> Option<Target>;
    /// Whose counters these are.
    fn service(&self, number: u16) -> ServiceKey;
    /// Whose target this is.
    fn backend(&self, number: u16) -> Option<BackendKey>;
    /// The target with a tunnel address: a backend's rather than a node's.
    fn target_at(&self, address: IpAddr) -> Option<u16>;
}

/// What was put in force last, as this process remembers it; next hops as they are written.
pub(crate) struct InForce<'a> {
    pub(crate) generation: Generation,
    pub(crate) root: Root,
    pub(crate) entries: &'a Entries,
    pub(crate) rings: &'a Rings,
    pub(crate) guards: &'a Guards,
    pub(crate) flows: &'a FlowTable,
    pub(crate) eras: Eras,
    pub(crate) ledger: &'a Ledger,
    pub(crate) next_hops: &'a NextHopKeeper,
}

impl Lookup for InForce<'_> {
    fn generation(&self) -> Generation {
        self.generation
    }

    fn root(&self) -> Root {
        self.root
    }

    fn find(&self, key: &Key) -> Option<Value> {
        self.entries.get(key).copied()
    }

    fn policy(&self, service: u16) -> Policy {
        self.guards.policy(self.generation.half(), service)
    }

    fn rule(&self, list: u32, source: IpAddr) -> Option<SourceRule> {
        self.guards.rule(list, source)
    }

    fn ceilings(&self, bucket: u32) -> Option<Ceilings> {
        self.guards.ceilings().of(bucket)
    }

    fn slot(&self, ring: RingPlace, hash: u64) -> Option<(usize, Slot)> {
        let slots = self.rings.read(ring)?;
        // All sizes are powers of two.
        let place = usize::try_from(hash % slots.len().max(1) as u64).ok()?;
        Some((place, *slots.get(place)?))
    }

    fn chain(&self, number: u16) -> Option<Chain> {
        let mut chains = self.ledger.chains.iter();
        chains.find(|(_, it)| **it == number).map(|(owner, _)| owner.to_kernel())
    }

    fn eras(&self) -> Eras {
        self.eras
    }

    fn flow_line(&self, flow: FlowId) -> Option<[u64; WAYS]> {
        self.flows.read(flow)
    }

    fn target(&self, number: u16) -> Option<Target> {
        if number == NO_BACKEND { None } else { self.next_hops.target(number) }
    }

    fn service(&self, number: u16) -> ServiceKey {
        let mut services = self.ledger.services.iter();
        let name = services.find(|(_, it)| **it == number).map(|(name, _)| name.clone());
        ServiceKey(name.unwrap_or_default())
    }

    fn backend(&self, number: u16) -> Option<BackendKey> {
        let (owner, _) = self.ledger.targets.iter().find(|(_, it)| **it == number)?;
        Some(BackendKey(owner.key.clone()))
    }

    fn target_at(&self, address: IpAddr) -> Option<u16> {
        let targets = self.ledger.targets.iter().filter(|(owner, _)| owner.address == address);
        targets.max_by_key(|(owner, _)| !owner.key.is_empty()).map(|(_, number)| *number)
    }
}
