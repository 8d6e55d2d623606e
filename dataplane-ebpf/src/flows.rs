//! Whose a TCP flow of a tracked slot is: looked up in the flow table, and noted there where it opens.
//!
//! Out of line, and on no packet's way whose slot is at rest or whose hosts can be asked.

use core::arch::asm;

use isocast_dataplane_common::{
    NO_BACKEND, NO_CHAIN, Outcome, Slot,
    encap::ETHERNET_LEN,
    flow::Flow,
    tables::Chain,
    tracking::{self, Entry, Eras, FlowId, State, WAYS},
};

use crate::{
    edge::Part,
    maps::{self, Generation},
    packet::{Frame, TCP, ip_len, opens_connection},
};

/// What a packet says of its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Sign {
    /// It opens.
    Opens = 0,
    /// It goes on.
    GoesOn = 1,
    /// It says goodbye.
    Closes = 2,
    /// Nothing that its client said: an error of somebody else's.
    Nothing = 3,
}

/// Above the sign: the flow is over IPv6.
const V6: u32 = 1 << 2;
const SIGN: u32 = V6 - 1;

/// Who has a flow of a tracked `slot`, with the chain of further hosts that may have it.
#[inline(always)]
pub fn owner<const OVER_V6: bool>(
    frame: Frame,
    generation: Generation,
    flow: Flow,
    slot: Slot,
    part: Part,
) -> Result<Slot, Outcome> {
    let transport = ETHERNET_LEN + ip_len::<OVER_V6>();
    let sign = match part {
        // A piece does not say whose it is, and has no second chance elsewhere either. Of datagrams
        // none says that it is the first.
        Part::Fragment => return Ok(Slot::settled(slot.backend())),
        _ if flow.protocol != TCP => return Ok(Slot::settled(slot.backend())),
        Part::Quote => Sign::Nothing,
        Part::Whole if opens_connection(frame, transport) => Sign::Opens,
        Part::Whole if says_goodbye(frame, transport) => Sign::Closes,
        Part::Whole => Sign::GoesOn,
    };
    maps::set_flow(flow)?;
    let packed = u32::from(slot.chain) << 16 | u32::from(slot.backend());
    let packet = sign as u32 | if OVER_V6 { V6 } else { 0 };
    let owner = track(generation.half(), packed, packet);
    if owner as u16 == NO_BACKEND {
        return Err(Outcome::TablesInconsistent);
    }
    Ok(Slot { current: owner as u16, chain: (owner >> 16) as u16 })
}

/// Whether the TCP header at `at` closes its direction, or resets the connection.
#[inline(always)]
fn says_goodbye(frame: Frame, at: usize) -> bool {
    const FIN: u8 = 1;
    const RST: u8 = 4;
    // SAFETY: asked for right here.
    frame.has(at + 14) && unsafe { frame.read::<u8>(at + 13) } & (FIN | RST) != 0
}

// A global function: the verifier proves it once, for any arguments. Numbers are all that it takes.

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn track(half: u32, slot: u32, packet: u32) -> u32 {
    let (current, chain) = (slot as u16, (slot >> 16) as u16);
    match tracked(half, current, chain, packet) {
        Ok(Slot { current, chain }) => u32::from(chain) << 16 | u32::from(current),
        Err(_inconsistent) => u32::MAX,
    }
}

#[inline(always)]
fn tracked(half: u32, current: u16, chain_number: u16, packet: u32) -> Result<Slot, Outcome> {
    let generation = Generation::of_half(half);
    let root = generation.root()?;
    let eras = maps::eras(half)?;
    let chain = maps::chain(chain_number)?;
    let flow = maps::flow()?;
    let id = if packet & V6 != 0 {
        FlowId::of_v6(flow, &root.flow_key)
    } else {
        FlowId::of_v4(flow, &root.flow_key)
    };
    let former =
        Slot { current: chain.former, chain: if chain.len == 0 { NO_CHAIN } else { chain_number } };
    // A node that balances has a table.
    let Some(line) = maps::flow_line(id.line()) else { return Err(Outcome::TablesInconsistent) };
    if packet & SIGN == Sign::Opens as u32 {
        return Ok(opens(line, id, eras, current, former));
    }
    if let Some((way, entry)) = tracking::find(id, |way| read(line, way))
        && entry.counts(chain.since, eras.now)
        && is_named(entry.target(), current, chain)
    {
        if packet & SIGN != Sign::Nothing as u32 {
            let seen = entry.seen(packet & SIGN == Sign::Closes as u32, eras.now);
            if seen != entry {
                // Where another processor was first, its word is as good.
                let _replaced = replace(line, way, entry, seen);
            }
        }
        maps::count(Outcome::FlowFound);
        return Ok(Slot::settled(entry.target()));
    }
    maps::count(Outcome::FlowOfFormer);
    Ok(former)
}

/// Notes a connection that opens. Where that needs no note, an earlier one between the same ports is
/// forgotten.
#[inline(always)]
fn opens(line: *mut u64, id: FlowId, eras: &Eras, current: u16, former: Slot) -> Slot {
    if current == former.current {
        if let Some((way, entry)) = tracking::find(id, |way| read(line, way)) {
            let _replaced = replace(line, way, entry, Entry(0));
        }
        return Slot::settled(current);
    }
    let entry = Entry::new(id, current, State::Opening, eras.now);
    if let Some((way, before)) = tracking::place(id, *eras, |way| read(line, way))
        && replace(line, way, before, entry)
    {
        maps::count(Outcome::FlowNoted);
        if before.is_forgotten_for(id, *eras) {
            maps::count(Outcome::FlowForgotten);
        }
        return Slot::settled(current);
    }
    maps::count(Outcome::FlowNotNoted);
    Slot::settled(former.current)
}

/// Whether a slot names the backend: numbers of others may be somebody else's by now.
#[inline(always)]
fn is_named(target: u16, current: u16, chain: &Chain) -> bool {
    let between = &chain.between;
    target == current
        || target == chain.former
        || target == between[0]
        || target == between[1]
        || target == between[2]
        || target == between[3]
}

#[inline(always)]
fn read(line: *mut u64, way: usize) -> u64 {
    // SAFETY: within the line's eight words; the mask tells the verifier.
    unsafe { line.add(way & (WAYS - 1)).read_volatile() }
}

/// Whether the word was still what it was, and is replaced. The instruction itself: the language gives
/// this target no compare and swap.
#[inline(always)]
fn replace(line: *mut u64, way: usize, before: Entry, after: Entry) -> bool {
    let found: u64;
    // SAFETY: within the line's eight words, as above; a live map value, aligned to its size.
    unsafe {
        asm!(
            "r0 = cmpxchg_64(r1 + 0, r0, r2)",
            inlateout("r0") before.0 => found,
            in("r1") line.add(way & (WAYS - 1)),
            in("r2") after.0,
        );
    }
    found == before.0
}
