//! Who may have a flow besides its slot's own backend, written once more: independent of the
//! program, and compared with it.

use isocast_dataplane_common::{
    CHAIN_HOPS, NO_BACKEND, NO_CHAIN, RingPlace, Slot,
    directory::Address,
    tables::{Chain, Target},
};

use super::Lookup;
use crate::header::address_of;

/// The hosts that are asked in turn for a flow of `slot`: those of the slot's chain. While there are
/// `other_keys`, the backends of the slots that these find come first, and the chains of all
/// follow hop by hop. Nothing: the tables contradict themselves.
pub(super) fn chain(
    tables: &impl Lookup,
    ring: RingPlace,
    slot: Slot,
    other_keys: &[[u64; 2]],
    hash: impl Fn(&[u64; 2]) -> u64,
) -> Option<Chain> {
    let others = other_keys.iter().map(|key| Some(tables.slot(ring, hash(key))?.1));
    let others: Vec<Slot> = others.collect::<Option<_>>()?;
    let slots = [slot].into_iter().chain(others.iter().copied());
    let chains = slots.filter(|slot| slot.chain != NO_CHAIN).map(|slot| tables.chain(slot.chain));
    let chains: Vec<Chain> = chains.collect::<Option<_>>()?;
    if others.is_empty() {
        return Some(chains.into_iter().next().unwrap_or_default());
    }
    let own = tables.target(slot.current)?;
    if own.flags & Target::PLAIN != 0 {
        return Some(Chain::default());
    }
    let is_here = |target: &Target| target.flags & Target::LOCAL != 0;
    let mut candidates = Vec::new();
    for other in others.iter().filter(|slot| slot.current != NO_BACKEND) {
        let target = tables.target(other.backend())?;
        let has_agent = target.flags & Target::PLAIN == 0;
        if has_agent && !(is_here(&own) && is_here(&target)) {
            candidates.push((target.address, other.backend()));
        }
    }
    for hop in 0..CHAIN_HOPS {
        for chain in &chains {
            let number = if hop == 0 { chain.first } else { NO_BACKEND };
            let address = chain.hops.get(hop).filter(|_| hop < chain.len.into());
            candidates.extend(address.map(|address| (*address, number)));
        }
    }
    let family = (!is_here(&own)).then(|| is_ipv4(&own.address));
    Some(of_one_family(&candidates, &own.address, family))
}

/// The first of the candidates, each once and without the slot's own backend.
fn of_one_family(candidates: &[(Address, u16)], own: &Address, mut family: Option<bool>) -> Chain {
    let mut chosen: Vec<(Address, u16)> = Vec::new();
    for (address, number) in candidates {
        let is_new = address != own && chosen.iter().all(|(chosen, _)| chosen != address);
        let is_of_family = family.is_none_or(|is_v4| is_v4 == is_ipv4(address));
        if is_new && is_of_family && chosen.len() < CHAIN_HOPS {
            family = Some(is_ipv4(address));
            chosen.push((*address, *number));
        }
    }
    let mut chain = Chain { first: chosen.first().map_or(0, |it| it.1), ..Chain::default() };
    for (hop, (address, _)) in chain.hops.iter_mut().zip(chosen) {
        *hop = address;
        chain.len = chain.len.saturating_add(1);
    }
    chain
}

fn is_ipv4(address: &Address) -> bool {
    address_of(address).is_ipv4()
}
