//! UPDATEs into the table.
//!
//! One message is judged once: its attributes are interned, policy is asked unless it reads prefixes,
//! and every prefix of the message takes the same two names. A message without faults goes from
//! socket buffer to table without an allocation, but for attribute sets never seen before.

use std::marker::PhantomData;

use ipnet::IpNet;

use super::attributes::{AttrId, AttributeStore, WellKnown};
use super::path::{Path, PeerIndex, Verdict};
use super::peer::{OverLimit, PeerSettings, RibPeer};
use super::peers::Peers;
use super::table::{Address, Change, Table};
use super::{Rib, Scratch, notify, with_table};
use crate::fsm::PrefixLimit;
use crate::fsm::{Action, EndReason, SessionTerms, otc_ingress};
use crate::guard::ExportGuard;
use crate::policy::{Context, NextHopEdit, Source, Verdict as PolicyVerdict};
use crate::types::{Asn, Family, PeerKind};
use crate::wire::attribute::PathAttributes;
use crate::wire::block;
use crate::wire::community::Community;
use crate::wire::next_hop::NextHop;
use crate::wire::update::{self, Codec, Update};
use crate::wire::view::UpdateView;

/// RFC 1997.
const NO_EXPORT: Community = Community(0xffff_ff01);

/// Prefixes of a section that has been checked, as the table wants them.
struct Prefixes<'a, A>(&'a [u8], PhantomData<A>);

impl<A: Address> Iterator for Prefixes<'_, A> {
    type Item = (A, u8);

    fn next(&mut self) -> Option<Self::Item> {
        let (bits, rest) = self.0.split_first()?;
        let (octets, rest) = rest.split_at_checked(usize::from(bits.div_ceil(8)))?;
        self.0 = rest;
        Some((A::from_octets(octets, *bits), *bits))
    }
}

impl Rib {
    /// Takes the body of an UPDATE.
    ///
    /// # Errors
    /// What ends the session.
    pub(crate) fn update(
        &mut self,
        peer: PeerIndex,
        body: &[u8],
        codec: &Codec,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Family>, EndReason> {
        let Some(mut entry) = self.peer_mut(peer) else { return Ok(None) };
        entry.counters.updates_in = entry.counters.updates_in.saturating_add(1);
        let ignored = entry.settings.imports_nothing();
        drop(entry);
        match UpdateView::read(body, codec) {
            Some(view) if ignored => Ok(view.end_of_rib),
            Some(view) => self.take_view(peer, &view).map(|()| view.end_of_rib),
            None => self.take_unusual(peer, body, codec, actions),
        }
    }

    fn take_view(&mut self, peer: PeerIndex, view: &UpdateView<'_>) -> Result<(), EndReason> {
        let legacy = (Family::Ipv4Unicast, view.withdrawn);
        for (family, list) in [legacy].into_iter().chain(view.unreach) {
            if !list.is_empty() {
                let count = with_table!(self, family, table => {
                    let list = Prefixes(list, PhantomData);
                    withdraw(peer, table, &mut self.store, list, &mut self.scratch.changes)
                });
                self.count_withdrawn(peer, count);
                self.publish(family);
            }
        }
        if let (Some(address), false) = (view.next_hop, view.announced.is_empty()) {
            let next_hop = NextHop::V4(address);
            self.take_reach(peer, Family::Ipv4Unicast, next_hop, view, view.announced)?;
        }
        let Some(reach) = view.reach else { return Ok(()) };
        self.take_reach(peer, reach.family, reach.next_hop, view, reach.announced)
    }

    fn take_reach(
        &mut self,
        peer: PeerIndex,
        family: Family,
        next_hop: NextHop,
        view: &UpdateView<'_>,
        list: &[u8],
    ) -> Result<(), EndReason> {
        self.scratch.block.clear();
        view.write_block(next_hop, &mut self.scratch.block);
        with_table!(self, family, table => {
            let mut learning = Learning {
                table,
                store: &mut self.store,
                peers: &mut self.peers,
                guard: &self.guard,
                scratch: &mut self.scratch,
            };
            let prefixes = Prefixes(list, PhantomData);
            learning.learn(peer, |asn| view.path_contains(asn), prefixes)
        })?;
        self.publish(family);
        Ok(())
    }

    /// An UPDATE that is not as usual, decoded by the rules of RFC 7606.
    fn take_unusual(
        &mut self,
        peer: PeerIndex,
        body: &[u8],
        codec: &Codec,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Family>, EndReason> {
        let decoded = update::decode(body, codec);
        let Some(mut entry) = self.peer_mut(peer) else { return Ok(None) };
        let update = decoded.map_err(|fault| {
            entry.counters.fault(fault.disposition);
            EndReason::update(fault, body)
        })?;
        for fault in &update.faults {
            entry.counters.fault(fault.disposition);
        }
        actions.extend(update.faults.iter().copied().map(Action::Fault));
        let end_of_rib = update.end_of_rib;
        let ignored = entry.settings.imports_nothing();
        drop(entry);
        if !ignored {
            self.take_decoded(peer, update)?;
        }
        Ok(end_of_rib)
    }

    fn take_decoded(&mut self, peer: PeerIndex, update: Update) -> Result<(), EndReason> {
        let router_id = self.peer(peer).map(|entry| entry.settings.router_id);
        // RFC 4456 §8: a reflector sent back what came from us.
        let reflected = update.originator.is_some() && update.originator == router_id;
        for family in Family::ALL {
            let count = with_table!(self, family, table => {
                let list = update.withdrawn.iter().filter_map(Address::of);
                withdraw(peer, table, &mut self.store, list, &mut self.scratch.changes)
            });
            self.count_withdrawn(peer, count);
            self.publish(family);
        }
        for reach in &update.reach {
            let Some(family) = reach.prefixes.first().map(Family::of) else { continue };
            self.scratch.block.clear();
            block::write(Some(reach.next_hop), &update.attributes, &mut self.scratch.block);
            with_table!(self, family, table => {
                let mut learning = Learning {
                    table,
                    store: &mut self.store,
                    peers: &mut self.peers,
                    guard: &self.guard,
                    scratch: &mut self.scratch,
                };
                let looped = |asn| reflected || update.attributes.as_path.0.contains(&asn);
                let prefixes = reach.prefixes.iter().filter_map(Address::of);
                learning.learn(peer, looped, prefixes)
            })?;
            self.publish(family);
        }
        Ok(())
    }

    fn count_withdrawn(&mut self, peer: PeerIndex, count: u64) {
        if let Some(mut entry) = self.peer_mut(peer) {
            entry.counters.withdrawn_in = entry.counters.withdrawn_in.saturating_add(count);
        }
    }

    /// Tells the outboxes what changed.
    pub(super) fn publish(&mut self, family: Family) {
        let Scratch { changes, .. } = &mut self.scratch;
        if !changes.is_empty() {
            let listeners = self.listeners.get(family);
            with_table!(self, family, table => {
                notify(changes, table, &mut self.peers, listeners);
            });
            changes.clear();
        }
    }
}

/// Takes prefixes back; returns how many of them the peer had announced.
fn withdraw<A: Address>(
    peer: PeerIndex,
    table: &mut Table<A>,
    store: &mut AttributeStore,
    prefixes: impl Iterator<Item = (A, u8)>,
    changes: &mut Vec<Change>,
) -> u64 {
    let mut count = 0_u64;
    for (address, bits) in prefixes {
        if let Some(change) = table.withdraw(address, bits, peer, store) {
            count = count.saturating_add(1);
            changes.extend(change);
        }
    }
    count
}

/// The parts of the table that learning a route takes.
struct Learning<'a, A> {
    table: &'a mut Table<A>,
    store: &'a mut AttributeStore,
    peers: &'a mut Peers,
    guard: &'a ExportGuard,
    scratch: &'a mut Scratch,
}

impl<A: Address> Learning<'_, A> {
    /// Takes the prefixes of a message; `scratch.block` holds what they share.
    fn learn(
        &mut self,
        peer: PeerIndex,
        goes_through: impl Fn(Asn) -> bool,
        prefixes: impl Iterator<Item = (A, u8)>,
    ) -> Result<(), EndReason> {
        let Some(mut entry) = self.peers.get_mut(peer) else { return Ok(()) };
        let RibPeer { settings, terms: Some(terms), current, counters, warned, .. } = &mut *entry
        else {
            return Ok(());
        };
        let Some(source) = *current.get(A::FAMILY) else { return Ok(()) };
        let Some(received) = self.store.intern(&self.scratch.block) else { return Ok(()) };
        let bench = Bench { settings, terms, guard: self.guard };
        let mut judge = Judge { bench, edited: &mut self.scratch.edited };
        let looped = goes_through(terms.local_asn);
        // RFC 4271 §9.1.2: whatever policy would say.
        let shared = if looped {
            Some((None, Verdict::Loop))
        } else if settings.import.reads_prefix() {
            None
        } else {
            Some(judge.judge(received, any_prefix::<A>(), self.store))
        };
        let mut held = self.table.source(source).map_or(0, |source| source.paths);
        let mut outcome = Ok(());
        for (address, bits) in prefixes {
            counters.announced_in = counters.announced_in.saturating_add(1);
            if held >= settings.import_limit.prefixes_max {
                held = self.table.source(source).map_or(0, |source| source.paths);
                if held >= settings.import_limit.prefixes_max
                    && !self.table.has_path_of(address, bits, source)
                {
                    match settings.import_limit.over {
                        OverLimit::EndSession => {
                            let prefixes_max = settings.import_limit.prefixes_max as usize;
                            outcome = Err(EndReason::PrefixLimit(PrefixLimit {
                                prefixes_max,
                                family: A::FAMILY,
                            }));
                            break;
                        }
                        OverLimit::Ignore => {
                            counters.rejected_limit = counters.rejected_limit.saturating_add(1);
                            *warned.get_mut(A::FAMILY) = true;
                            continue;
                        }
                    }
                }
            }
            held = held.saturating_add(1);
            let (used, verdict) = match shared {
                Some((used, verdict)) => {
                    if let Some(used) = used {
                        self.store.retain(used);
                    }
                    (used, verdict)
                }
                None => {
                    let prefix = address.prefix(bits).unwrap_or_default();
                    judge.judge(received, prefix, self.store)
                }
            };
            counters.judged(verdict);
            self.store.retain(received);
            let path = Path { received, used, source, verdict };
            self.scratch.changes.extend(self.table.announce(address, bits, path, self.store));
        }
        self.store.release(received);
        if let Some((Some(used), _)) = shared {
            self.store.release(used);
        }
        outcome
    }
}

/// Stands for every prefix of a family where policy reads none.
fn any_prefix<A: Address>() -> IpNet {
    A::default().prefix(0).unwrap_or_default()
}

/// Says what becomes of what one peer sends.
pub(super) struct Judge<'a> {
    pub(super) bench: Bench<'a>,
    /// A buffer.
    pub(super) edited: &'a mut Vec<u8>,
}

/// Everything an opinion depends on besides the route.
#[derive(Clone, Copy)]
pub(super) struct Bench<'a> {
    pub(super) settings: &'a PeerSettings,
    pub(super) terms: &'a SessionTerms,
    pub(super) guard: &'a ExportGuard,
}

/// What becomes of a route that is no loop.
pub(super) enum Opinion<'a> {
    /// It may be used as it came.
    AsItIs,
    /// It left the valley.
    Leak,
    /// Policy refuses it.
    Rejected { term: &'a str },
    /// It may be used like this.
    Edited { term: &'a str, attributes: Box<PathAttributes>, next_hop: Option<NextHop> },
}

impl Judge<'_> {
    /// The verdict on a route; the name it is used by counts as used once.
    pub(super) fn judge(
        &mut self,
        received: AttrId,
        prefix: IpNet,
        store: &mut AttributeStore,
    ) -> (Option<AttrId>, Verdict) {
        match self.bench.opinion(received, prefix, store) {
            Opinion::AsItIs => {
                store.retain(received);
                (Some(received), Verdict::Accepted)
            }
            Opinion::Leak => (None, Verdict::Leak),
            Opinion::Rejected { .. } => (None, Verdict::Policy),
            Opinion::Edited { attributes, next_hop, .. } => {
                self.edited.clear();
                block::write(next_hop, &attributes, self.edited);
                match store.intern(self.edited) {
                    Some(used) => (Some(used), Verdict::Accepted),
                    None => (None, Verdict::Policy),
                }
            }
        }
    }
}

impl<'a> Bench<'a> {
    /// What is to become of a route. Asked again with the same route, it answers the same.
    pub(super) fn opinion(
        &self,
        received: AttrId,
        prefix: IpNet,
        store: &AttributeStore,
    ) -> Opinion<'a> {
        let external = self.terms.negotiated.codec.peer_kind == PeerKind::External;
        let well_known = store.traits(received).well_known;
        let shuts_down = external && well_known.contains(WellKnown::GRACEFUL_SHUTDOWN);
        let black_hole = self.settings.blackhole && well_known.contains(WellKnown::BLACKHOLE);
        let peer_role = self.terms.negotiated.peer_role;
        let as_it_is = self.settings.import.constant().is_some_and(|verdict| verdict.is_accept());
        if as_it_is && !shuts_down && !black_hole && peer_role.is_none() {
            return Opinion::AsItIs;
        }
        let block = store.block(received);
        let mut attributes = Box::new(block.decode());
        let mut next_hop = block.next_hop();
        if let Some(role) = peer_role {
            let peer_asn = self.terms.negotiated.peer_asn;
            match otc_ingress(attributes.only_to_customer, role, peer_asn) {
                Ok(otc) => attributes.only_to_customer = otc,
                Err(_leak) => return Opinion::Leak,
            }
        }
        let context = Context {
            local_asn: self.terms.local_asn,
            connection: self.settings.connection,
            peer_kind: self.terms.negotiated.codec.peer_kind,
            source: Source::Learned,
            next_hop,
            own_space: self.guard,
        };
        let (term, edits) = match self.settings.import.evaluate(prefix, &attributes, &context) {
            PolicyVerdict::Accept { term, edits } => (term, edits),
            PolicyVerdict::Reject { term } => return Opinion::Rejected { term },
        };
        edits.apply(&mut attributes);
        if let Some(NextHopEdit::Address(address)) = edits.next_hop(Family::of(&prefix)) {
            next_hop = NextHop::new(address).or(next_hop);
        }
        if shuts_down {
            // RFC 8326 §4.2: a last resort, whatever policy made of it.
            attributes.local_pref = Some(0);
        }
        if black_hole {
            // RFC 7999 §3.2: who may ask for it asks us, not the Internet.
            attributes.communities.standard.insert(NO_EXPORT);
        }
        Opinion::Edited { term, attributes, next_hop }
    }
}
