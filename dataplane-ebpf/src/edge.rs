//! Balancing: flow hash, ring slot, backend.
//!
//! Nearly every packet goes the short way: its service asks nothing of it, its slot is at rest, or
//! tracked and somebody has the flow for sure, and that is another host with an agent. Everything else is in
//! [`crate::longer`], a function of its own: what it needs in registers and on the stack is no burden here.

use core::mem::MaybeUninit;

use aya_ebpf::programs::XdpContext;
use isocast_dataplane_common::{
    Outcome, RingPlace, Slot,
    directory::Value,
    encap::{ETHERNET_LEN, OUTER_V4_LEN, OUTER_V6_LEN, tenant_word},
    tables::{Root, Target},
};

use crate::{
    capture::{self, Served},
    flows,
    header::{self, Outer},
    maps::{self, Generation},
    packet::{Frame, Ip},
    task::{Met, Task},
};

/// What of a flow a packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One of its packets.
    Whole,
    /// A piece of one.
    Fragment,
    /// An error about a packet of the other direction.
    Quote,
}

/// Sends a packet of a service to the backend that has its flow. `ports` are the packet's. Where the
/// answer is not final yet, `served` is whose packet it is.
#[inline(always)]
pub fn run<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    generation: Generation,
    ports: u32,
    service: Value,
    served: &mut Served,
    met: &mut MaybeUninit<Met>,
) -> Result<u32, Outcome> {
    let root = generation.root()?;
    // SAFETY: whoever found the service asked for the fixed header.
    let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
    let mut place = Place::of::<V6>(root, &ip, ports, service, Part::Whole)?;
    let is_usual = service.tenant & Value::UNUSUAL == 0
        && root.others == 0
        && !capture::is_armed_for(service.service);
    if is_usual && place.slot.is_tracked() {
        // SAFETY: as above.
        let flow = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) }.flow(ports);
        place.slot = flows::owner::<V6>(frame, generation, flow, place.slot, Part::Whole)
            .unwrap_or(place.slot);
    }
    if is_usual && place.slot.is_at_rest() {
        let target = maps::target(place.slot.current)?;
        // Anew: registers are few, and the packet is as near as the stack.
        // SAFETY: as above.
        let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
        if target.flags & Target::WAY == Target::READY && u32::from(ip.len) <= target.room {
            *served = Served::of(service.service);
            maps::count_service(service.service, ip.len);
            let outer = Outer::of::<V6>(&ip, place.hash, tenant_word(service.tenant, 0));
            let action = if target.flags & Target::IPV6 == 0 {
                header::push_v4(ctx, room(ctx, OUTER_V4_LEN)?, target, &outer, 0)
            } else {
                header::push_v6(ctx, room(ctx, OUTER_V6_LEN)?, target, &outer, 0)
            };
            maps::count_target(place.slot.current, ip.len);
            maps::count(Outcome::Encapsulated);
            return Ok(action);
        }
    }
    met.write(Met { service: service.to_bits(), hash: place.hash, slot: place.slot.to_bits() });
    Ok(Task::Longer.of::<V6>(generation))
}

/// Where a flow is.
#[derive(Clone, Copy)]
pub struct Place {
    pub hash: u64,
    pub slot: Slot,
}

impl Place {
    /// The place of the flow `ip` and `ports`.
    #[inline(always)]
    pub fn of<const V6: bool>(
        root: &Root,
        ip: &Ip,
        ports: u32,
        service: Value,
        part: Part,
    ) -> Result<Self, Outcome> {
        let by_address = part == Part::Fragment || service.tenant & Value::BY_ADDRESS != 0;
        let flow = ip.flow(if by_address { 0 } else { ports });
        let hash = if V6 { flow.hash_v6(&root.flow_key) } else { flow.hash_v4(&root.flow_key) };
        Ok(Self { hash, slot: maps::slot(RingPlace::from_code(service.index), hash)? })
    }
}

/// Makes room for `len` bytes between the Ethernet header and the packet.
#[inline(always)]
pub fn room(ctx: &XdpContext, len: usize) -> Result<Frame, Outcome> {
    header::adjust(ctx, -(len as i32))?;
    let frame = Frame::of(ctx);
    if !frame.has(ETHERNET_LEN + len) {
        return Err(Outcome::NoHeadroom);
    }
    Ok(frame)
}
