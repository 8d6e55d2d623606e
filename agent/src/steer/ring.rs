//! A service's ring: who gets each slot, and who else may own flows of it.
//!
//! Both follow from member lists alone. A slot's own backend is that of the ring in force. Its chain
//! names the hosts that had the slot in earlier rings, the latest first, and then, where the service
//! asks for it, those that have or had it in other datacenters: anycast may have moved a flow from
//! there. A slot that never changed, of a service that keeps to its datacenter, has none.
//!
//! **Invariant:** slots depend on the name of the service and on where its flows go, not on uids. A
//! service or a pool that is deleted and applied again has the ring that it had, so its flows live.
//!
//! **Invariant:** the size of a ring follows the configured number of backends, so every edge comes
//! to the same. While rings of several sizes count, the slots are those of the largest: a slot of a
//! smaller ring stands for all that have the same low bits, as it does for the flow hash.
//!
//! **Datagrams** have chains of their own. A host that does not know a connection has lost nothing if the
//! packet goes on to a host that is dead; a datagram may begin a flow. So its chain has only hosts that
//! are healthy, and none of another datacenter: the first packet of each flow would go there and back.
//!
//! **Hosts without an agent** cannot be asked, and ask nobody. A slot that one has, or had in an earlier
//! ring, is *tracked* instead: connections that open are noted with the backend that the slot has then, and
//! what is not noted belongs to the *former* backend, the one that had the slot when noting began. That is
//! the one before the oldest host without an agent, or that host itself if it is the oldest there is. The
//! dead are no former backends: what they had is lost, and noting new flows would help nobody.
//!
//! Filling a ring costs some hundred microseconds and an edge has thousands of them, so rings of
//! services to which nothing happened are taken from the plan before ([`Rings`]). That is a matter
//! of time only: with and without it the slots are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use isocast_dataplane::{Ring, Track, ring_key};
use isocast_dataplane_common::{
    CHAIN_HOPS, NO_BACKEND, NO_CHAIN, Slot, TRACKED, maglev, tracking::BETWEEN_MAX,
};

use super::{Member, ServiceMemory, Succession, memory::Ancestor};
use crate::model::{Service, Uid};

/// The rings of a plan, by service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    made: BTreeMap<Uid, Made>,
}

/// A ring, and all that it follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    key: [u64; 2],
    lineage: Lineage,
    filled: Filled,
}

/// Slots and chains that point at the lineage's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filled {
    connections: Linked,
    datagrams: Linked,
}

/// Slots with their chains and tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Linked {
    slots: Arc<[Slot]>,
    chains: Arc<[Vec<u16>]>,
    tracks: Arc<[Track]>,
}

/// The rings of one service: they differ in their chains alone.
#[derive(Clone, Debug)]
pub(super) struct ServiceRings {
    pub(super) connections: Ring,
    pub(super) datagrams: Ring,
}

/// Members and sizes of rings that a ring follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The ring in force, and those before it.
    own: Vec<Ancestor>,
    /// Rings of other datacenters, in order of preference, each before those that it followed.
    others: Vec<Ancestor>,
    /// Members of earlier rings that may be given datagrams, if the service has any.
    healthy: Option<BTreeSet<Uid>>,
}

// === impl Rings ===

impl Rings {
    /// The rings of a service; `position` numbers its backends in the tables. Those in `before` are
    /// taken over if they are the same.
    pub(super) fn rings(
        &mut self,
        before: &Self,
        service: &Service,
        lineage: Lineage,
        position: impl FnMut(&Member) -> usize,
    ) -> ServiceRings {
        let backends: Arc<[usize]> = lineage.backends().into_iter().map(position).collect();
        let key = ring_key(&format!("{}/{}", service.namespace, service.name));
        let same = |made: &&Made| made.key == key && made.lineage == lineage;
        let made = before.made.get(&service.uid).filter(same).cloned().unwrap_or_else(|| {
            let filled = fill(&key, &lineage);
            Made { key, lineage, filled }
        });
        let Filled { connections, datagrams } = made.filled.clone();
        self.made.insert(service.uid.clone(), made);
        let ring = |Linked { slots, chains, tracks }| {
            let backends = Arc::clone(&backends);
            Ring { backends, chains, tracks, slots }
        };
        ServiceRings { connections: ring(connections), datagrams: ring(datagrams) }
    }
}

// === impl Lineage ===

impl Lineage {
    /// Datacenters that `order` does not name served until lately; they come last. Datagrams may be
    /// given to the `healthy`, if the service has any.
    pub(super) fn of<'o>(
        memory: &ServiceMemory,
        order: impl Iterator<Item = &'o str>,
        healthy: Option<BTreeSet<Uid>>,
    ) -> Self {
        let mut names: Vec<&str> = order.collect();
        let rest = memory.others.keys().filter(|name| !names.contains(&name.as_str()));
        let rest: Vec<_> = rest.map(String::as_str).collect();
        names.extend(rest);
        let others = names.iter().filter_map(|name| memory.others.get(*name));
        Self {
            own: memory.own.rings().collect(),
            others: others.flat_map(Succession::rings).collect(),
            healthy,
        }
    }

    fn lists(&self) -> impl Iterator<Item = &Ancestor> {
        self.own.iter().chain(&self.others)
    }

    /// Whether slots may have to be tracked.
    fn has_agentless(&self) -> bool {
        self.own.iter().flat_map(|ring| &ring.members).any(Member::is_agentless)
    }

    /// The backends that slots and chains point at, in the order of their positions: each uid once.
    fn backends(&self) -> Vec<&Member> {
        let mut seen = BTreeSet::new();
        let members = self.lists().flat_map(|ring| &ring.members);
        members.filter(|member| seen.insert(&member.uid)).collect()
    }
}

/// Who may have a slot's flows besides its own backend.
#[derive(Clone, Debug, Default)]
struct Claims {
    own: Option<IpAddr>,
    /// From earlier rings, the latest first.
    former: Vec<Claim>,
    /// Those of them that may be given datagrams.
    healthy: Vec<Claim>,
    /// From other datacenters, in order of preference.
    others: Vec<Claim>,
    /// Who has and had the slot here, the latest first, none twice in a row, without the dead; empty where
    /// all of them can be asked.
    owners: Vec<Owner>,
}

/// Who has or had a slot.
#[derive(Clone, Copy, Debug)]
struct Owner {
    claim: Claim,
    is_agentless: bool,
    /// When the next one came.
    until: u32,
}

/// What a slot has besides its own backend.
enum Wanted {
    Chain(Vec<u16>),
    Track(Track),
}

/// A host, and the position of the backend that it is.
type Claim = (IpAddr, u16);

impl Claims {
    /// Those that a chain of connections has room for. As many as there is room for come from
    /// earlier rings, but one of another datacenter has its place.
    fn of_connections(&self) -> Vec<u16> {
        self.chain([
            (&self.former, CHAIN_HOPS.saturating_sub(1)),
            (&self.others, CHAIN_HOPS),
            (&self.former, CHAIN_HOPS),
        ])
    }

    /// What connections need.
    fn wanted(&self) -> Wanted {
        self.track().map_or_else(|| Wanted::Chain(self.of_connections()), Wanted::Track)
    }

    /// Whose the connections of the slot are, if one of its hosts has no agent and it was another's.
    fn track(&self) -> Option<Track> {
        let oldest_agentless = self.owners.iter().rposition(|owner| owner.is_agentless)?;
        // It came after this one, which is asked, and asks those before it.
        let last = self.owners.len().checked_sub(1)?;
        let at = oldest_agentless.saturating_add(1).min(last);
        let (since, before) = self.owners.split_at_checked(at)?;
        let (former, before) = before.split_first()?;
        let own = since.first()?;
        let older: Vec<Claim> = before.iter().map(|owner| owner.claim).collect();
        let further = Self { own: Some(former.claim.0), ..Self::default() };
        let further = further.chain([(&older, CHAIN_HOPS), (&self.others, CHAIN_HOPS)]);
        let mut between = Vec::new();
        for Owner { claim: (_, position), .. } in since {
            let is_new = ![own.claim.1, former.claim.1].contains(position);
            if is_new && !between.contains(position) && between.len() < BETWEEN_MAX {
                between.push(*position);
            }
        }
        Some(Track { former: former.claim.1, further, between, since: former.until })
    }

    /// Takes note of who had the slot before those that are known.
    fn had(&mut self, owner: Owner) {
        match self.owners.last_mut() {
            // The same host, under another name or not. Of many rings not all are remembered, so there may
            // have been others between: what was noted with them since counts.
            Some(last) if last.claim.0 == owner.claim.0 => last.until = owner.until,
            _ => self.owners.push(owner),
        }
    }

    /// Those that a chain of datagrams has room for.
    fn of_datagrams(&self) -> Vec<u16> {
        self.chain([(&self.healthy, CHAIN_HOPS)])
    }

    /// Lists one after the other, each as far as there is room for so many; none twice.
    fn chain<const LISTS: usize>(&self, lists: [(&Vec<Claim>, usize); LISTS]) -> Vec<u16> {
        let mut chain: Vec<Claim> = Vec::new();
        for (claims, most) in lists {
            for claim in claims {
                let is_known = self.own == Some(claim.0) || chain.iter().any(|it| it.0 == claim.0);
                if !is_known && chain.len() < most {
                    chain.push(*claim);
                }
            }
        }
        chain.into_iter().map(|(_, position)| position).collect()
    }
}

fn fill(key: &[u64; 2], lineage: &Lineage) -> Filled {
    let positions: BTreeMap<_, _> = lineage
        .backends()
        .into_iter()
        .map(|member| &member.uid)
        .zip(0..NO_BACKEND & !TRACKED)
        .collect();
    let size = lineage.lists().map(|ring| ring.size.slots()).max().unwrap_or(0);
    let tracks = lineage.has_agentless();
    let mut fillings = Fillings { key, known: Vec::new() };
    let mut slots = vec![Slot::EMPTY; size];
    let mut claims = vec![Claims::default(); size];
    for (age, ancestor) in lineage.lists().enumerate() {
        let Ancestor { members, era, lost, .. } = ancestor;
        let ring = fillings.of(ancestor);
        // Found once a member, not once a slot.
        let of_member = |member: &Member| {
            let position = positions.get(&member.uid).copied()?;
            let healthy = lineage.healthy.as_ref();
            let may_have_datagrams = healthy.is_some_and(|them| them.contains(&member.uid));
            let claim = (member.tunnel_address, position);
            let owner = Owner { claim, is_agentless: member.is_agentless(), until: *era };
            let is_tracked = tracks && age < lineage.own.len() && !lost.contains(&member.uid);
            Some((claim, may_have_datagrams, is_tracked.then_some(owner)))
        };
        let found: Vec<Option<_>> = members.iter().map(of_member).collect();
        for ((slot, claims), taken) in slots.iter_mut().zip(&mut claims).zip(ring.iter().cycle()) {
            let found = found.get(usize::from(*taken)).copied().flatten();
            let Some((claim, may_have_datagrams, owner)) = found else { continue };
            if let Some(owner) = owner {
                claims.had(owner);
            }
            if age == 0 {
                (claims.own, slot.current) = (Some(claim.0), claim.1);
            } else if age < lineage.own.len() {
                claims.former.push(claim);
                if may_have_datagrams {
                    claims.healthy.push(claim);
                }
            } else {
                claims.others.push(claim);
            }
        }
    }
    let datagrams = lineage.healthy.is_some();
    let chains = claims.iter().map(|claims| Wanted::Chain(claims.of_datagrams()));
    let datagrams = datagrams.then(|| link(slots.clone(), chains));
    let connections = link(slots, claims.iter().map(Claims::wanted));
    // What is the same is kept once.
    let datagrams = datagrams.filter(|it| *it != connections);
    let datagrams = datagrams.unwrap_or_else(|| connections.clone());
    Filled { connections, datagrams }
}

/// Rings by position of their members, filled once where rings take turns.
struct Fillings<'a> {
    key: &'a [u64; 2],
    known: Vec<(&'a Ancestor, Arc<[u16]>)>,
}

impl<'a> Fillings<'a> {
    fn of(&mut self, ring: &'a Ancestor) -> Arc<[u16]> {
        let is_same = |it: &Ancestor| it.members == ring.members && it.size == ring.size;
        if let Some((_, filled)) = self.known.iter().find(|(known, _)| is_same(known)) {
            return Arc::clone(filled);
        }
        let candidate = |member: &Member| maglev::Member {
            id: identity(member.tunnel_address),
            weight: member.weight.saturating_mul(member.share.into()),
        };
        let candidates: Vec<_> = ring.members.iter().map(candidate).collect();
        let mut filled = vec![NO_BACKEND; ring.size.slots()];
        maglev::fill(self.key, &candidates, &mut filled);
        let filled: Arc<[u16]> = filled.into();
        self.known.push((ring, Arc::clone(&filled)));
        filled
    }
}

/// Gives every slot its chain, if there is anybody in it, or its track; equal ones share one.
fn link(mut slots: Vec<Slot>, wanted: impl Iterator<Item = Wanted>) -> Linked {
    let (mut chains, mut tracks) = (Numbered::default(), Numbered::default());
    for (slot, wanted) in slots.iter_mut().zip(wanted) {
        // Flows of a slot that nobody serves are nobody's.
        if slot.current == NO_BACKEND {
            continue;
        }
        slot.chain = match wanted {
            Wanted::Chain(chain) if chain.is_empty() => NO_CHAIN,
            Wanted::Chain(chain) => chains.number(chain).unwrap_or(NO_CHAIN),
            Wanted::Track(track) => match tracks.number(track) {
                Some(number) => {
                    slot.current |= TRACKED;
                    number
                }
                None => NO_CHAIN,
            },
        };
    }
    Linked { slots: slots.into(), chains: chains.all.into(), tracks: tracks.all.into() }
}

/// Different things, by the order in which they came.
struct Numbered<T> {
    numbers: BTreeMap<T, u16>,
    all: Vec<T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), all: Vec::new() }
    }
}

impl<T: Clone + Ord> Numbered<T> {
    /// The number of one of them; nothing if there are too many.
    fn number(&mut self, it: T) -> Option<u16> {
        if let Some(number) = self.numbers.get(&it) {
            return Some(*number);
        }
        let number = u16::try_from(self.all.len()).ok()?;
        self.all.push(it.clone());
        self.numbers.insert(it, number);
        Some(number)
    }
}

fn identity(host: IpAddr) -> [u8; 16] {
    let mut id = [0; 16];
    let octets = match host {
        IpAddr::V4(host) => host.to_ipv6_mapped().octets(),
        IpAddr::V6(host) => host.octets(),
    };
    blake3::Hasher::new().update(&octets).finalize_xof().fill(&mut id);
    id
}
