//! While flow keys change: the hosts that a flow may be at by another key than the one in force.
//!
//! Each other key finds the flow another slot of the same ring. That slot's own backend is the most
//! likely owner, and so comes first; then the chains, hop by hop in turn, as many as a header holds.
//! Out of line, and on no packet's way while there is no other key.

use isocast_dataplane_common::{
    CHAIN_HOPS, NO_BACKEND, NO_CHAIN, OTHER_FLOW_KEYS, Outcome, RingPlace, Slot,
    directory::Address,
    flow::Flow,
    tables::{Chain, Target},
};

use crate::maps::{self, Generation};

/// The chain of the hosts that have the flow if the backend of its slot does not; one of no hosts if
/// nobody else can have it. Valid until this CPU asks for the next.
#[inline(always)]
pub fn chain_of<const V6: bool>(
    generation: Generation,
    flow: Flow,
    ring: u16,
    slot: Slot,
) -> Result<u16, Outcome> {
    maps::set_flow(flow)?;
    let slot = u32::from(slot.chain) << 16 | u32::from(slot.current);
    let (half, ring) = (generation.half(), u32::from(ring));
    let composed = if V6 { compose_v6(half, ring, slot) } else { compose_v4(half, ring, slot) };
    u16::try_from(composed).map_err(|_| Outcome::TablesInconsistent)
}

/// What a function of its own can return: a number. No chain has this one.
const INCONSISTENT: u32 = u32::MAX;

// Global functions: the verifier proves them once, for any arguments, and not for each road of a packet
// that leads here. Numbers are all that such a function takes.

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn compose_v4(half: u32, ring: u32, slot: u32) -> u32 {
    compose::<false>(half, ring, slot).map_or(INCONSISTENT, u32::from)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn compose_v6(half: u32, ring: u32, slot: u32) -> u32 {
    compose::<true>(half, ring, slot).map_or(INCONSISTENT, u32::from)
}

/// Writes the chain to this CPU's own place among the chains, which makes it one like any other: the
/// verifier need not follow the road of the packet once more for it.
#[inline(always)]
fn compose<const V6: bool>(half: u32, ring: u32, slot: u32) -> Result<u16, Outcome> {
    let flow = maps::flow()?;
    let root = Generation::of_half(half).root()?;
    let own = maps::target(slot as u16)?;
    let (number, chain) = maps::own_chain()?;
    chain.len = 0;
    if own.flags & Target::PLAIN != 0 {
        return Ok(number);
    }
    let mut hosts = Hosts { chain, len: 0, own };
    let mut chains = [NO_CHAIN; 1 + OTHER_FLOW_KEYS];
    chains[0] = (slot >> 16) as u16;
    for number in 0..OTHER_FLOW_KEYS {
        if number as u32 >= root.others {
            break;
        }
        let key = &root.other_flow_keys[number];
        let hash = if V6 { flow.hash_v6(key) } else { flow.hash_v4(key) };
        let other = maps::slot(RingPlace::from_code(ring as u16), hash)?;
        chains[1 + number] = other.chain;
        if other.current != NO_BACKEND {
            let target = maps::target(other.backend())?;
            // Here is here, whatever it is called; and who has no agent cannot pass anything on.
            if own.flags & target.flags & Target::LOCAL == 0 && target.flags & Target::PLAIN == 0 {
                hosts.add(&target.address, other.backend());
            }
        }
    }
    for hop in 0..CHAIN_HOPS {
        for number in chains {
            if number == NO_CHAIN {
                continue;
            }
            let chain = maps::chain(number)?;
            if hop < chain.len as usize {
                hosts.add(&chain.hops[hop], if hop == 0 { chain.first } else { NO_BACKEND });
            }
        }
    }
    hosts.chain.len = hosts.len as u16;
    Ok(number)
}

/// Hosts that are to be asked in turn.
struct Hosts {
    chain: &'static mut Chain,
    len: usize,
    /// Of the slot's own backend.
    own: &'static Target,
}

impl Hosts {
    /// One more, unless there is no room, it is asked already, or it is of another family than the
    /// outer header. From here the first is reached as a target of its own, and decides the family.
    #[inline(always)]
    fn add(&mut self, host: &Address, target: u16) {
        let chain = &mut *self.chain;
        let is_decided = self.own.flags & Target::LOCAL == 0;
        let family = if is_decided || self.len == 0 { &self.own.address } else { &chain.hops[0] };
        if self.len >= CHAIN_HOPS
            || (is_decided || self.len > 0) && is_v4(family) != is_v4(host)
            || is_same(&self.own.address, host)
            || self.len > 0 && is_same(&chain.hops[0], host)
            || self.len > 1 && is_same(&chain.hops[1], host)
        {
            return;
        }
        if self.len == 0 {
            chain.first = target;
        }
        chain.hops[self.len] = *host;
        self.len += 1;
    }
}

#[inline(always)]
fn is_same(one: &Address, other: &Address) -> bool {
    (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3]) == 0
}

#[inline(always)]
fn is_v4(address: &Address) -> bool {
    address[0] | address[1] | (address[2] ^ 0xffff_u32.to_be()) == 0
}
