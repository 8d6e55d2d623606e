//! Balancing: flow hash, ring slot, backend.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, programs::XdpContext};
use isocast_dataplane_common::{
    NO_BACKEND, NO_CHAIN, Outcome, RingPlace,
    directory::{Address, Value},
    encap::{
        ETHERNET_LEN, FLAG_COOKIE, HOP_V4_LEN, HOP_V6_LEN, OUTER_V4_LEN, OUTER_V6_LEN,
        entropy_port, tenant_word,
    },
    tables::Target,
};

use crate::{
    header::{self, Outer},
    limits,
    maps::{self, Generation},
    packet::{Frame, IPIP, IPV6, Ip, TCP, ip_len, opens_connection},
    socket, syncookie,
};

#[inline(always)]
pub fn run<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    generation: Generation,
    ip: &Ip,
    ports: u32,
    service: Value,
) -> Result<u32, Outcome> {
    maps::count_service(service.service, ip.len);
    let challenged = service.tenant & Value::GUARDED != 0 && {
        let transport = ETHERNET_LEN + ip_len::<V6>();
        let begins = ip.protocol == TCP && limits::begins_connection(frame, transport);
        limits::admit::<V6>(generation, ip, service, begins)?
    };
    let root = generation.root()?;
    let flow = ip.flow(ports);
    let hash = if V6 { flow.hash_v6(&root.flow_key) } else { flow.hash_v4(&root.flow_key) };
    let slot = maps::slot(RingPlace::from_code(service.index), hash)?;
    if slot.current == NO_BACKEND {
        return Err(Outcome::NoBackend);
    }

    let mut number = slot.current;
    let mut target = maps::target(number)?;
    // Only a TCP packet within a connection can be told to be a stranger's.
    let mut further = Further::NOBODY;
    if slot.chain != NO_CHAIN
        && ip.protocol == TCP
        && !opens_connection(frame, ETHERNET_LEN + ip_len::<V6>())
    {
        further = Further::of(slot.chain)?;
    }
    if target.flags & Target::LOCAL != 0 {
        if further.len == 0 || socket::owns::<V6>(ctx, frame, ETHERNET_LEN, ip, ports) {
            maps::count_target(number, ip.len);
            maps::count(Outcome::DeliveredHere);
            return Ok(if challenged { syncookie::answer::<V6>(ctx) } else { XDP_PASS });
        }
        number = further.first;
        target = maps::target(number)?;
        further.skip();
    }
    if target.flags & Target::READY == 0 {
        return Err(Outcome::NextHopUnresolved);
    }
    let outer = Outer {
        entropy: entropy_port(hash),
        flow_label: hash as u32 & 0xf_ffff,
        traffic_class: ip.traffic_class,
        inner_protocol: if V6 { IPV6 } else { IPIP },
        inner_len: ip.len,
        tenant: tenant_word(service.tenant, if challenged { FLAG_COOKIE } else { 0 }),
    };
    let action = match (target.flags & Target::IPV6 != 0, further.len) {
        (false, 0) => over_v4::<0>(ctx, target, &outer, &further),
        (false, 1) => over_v4::<1>(ctx, target, &outer, &further),
        (false, 2) => over_v4::<2>(ctx, target, &outer, &further),
        (false, _) => over_v4::<3>(ctx, target, &outer, &further),
        (true, 0) => over_v6::<0>(ctx, target, &outer, &further),
        (true, 1) => over_v6::<1>(ctx, target, &outer, &further),
        (true, 2) => over_v6::<2>(ctx, target, &outer, &further),
        (true, _) => over_v6::<3>(ctx, target, &outer, &further),
    }?;
    maps::count_target(number, ip.len);
    maps::count(Outcome::Encapsulated);
    Ok(action)
}

/// What is left of a chain.
struct Further {
    hops: *const Address,
    len: u16,
    first: u16,
}

impl Further {
    const NOBODY: Self = Self { hops: core::ptr::null(), len: 0, first: 0 };

    #[inline(always)]
    fn of(chain: u16) -> Result<Self, Outcome> {
        let chain = maps::chain(chain)?;
        Ok(Self { hops: chain.hops.as_ptr(), len: chain.len, first: chain.first })
    }

    /// Leaves the first out. A chain is longer than its hops, so the last is read within bounds.
    #[inline(always)]
    fn skip(&mut self) {
        // SAFETY: within the chain.
        self.hops = unsafe { self.hops.add(1) };
        self.len -= 1;
    }
}

#[inline(always)]
fn over_v4<const HOPS: usize>(
    ctx: &XdpContext,
    target: &Target,
    outer: &Outer,
    further: &Further,
) -> Result<u32, Outcome> {
    let frame = room(ctx, OUTER_V4_LEN + HOPS * HOP_V4_LEN)?;
    // SAFETY: room was made, and the caller counted the hops.
    unsafe { header::push_hops_v4::<HOPS>(frame, further.hops) };
    Ok(header::push_v4(ctx, frame, target, outer, HOPS))
}

#[inline(always)]
fn over_v6<const HOPS: usize>(
    ctx: &XdpContext,
    target: &Target,
    outer: &Outer,
    further: &Further,
) -> Result<u32, Outcome> {
    let frame = room(ctx, OUTER_V6_LEN + HOPS * HOP_V6_LEN)?;
    // SAFETY: room was made, and the caller counted the hops.
    unsafe { header::push_hops_v6::<HOPS>(frame, further.hops) };
    Ok(header::push_v6(ctx, frame, target, outer, HOPS))
}

/// Makes room for `len` bytes between the Ethernet header and the packet.
#[inline(always)]
fn room(ctx: &XdpContext, len: usize) -> Result<Frame, Outcome> {
    header::adjust(ctx, -(len as i32))?;
    let frame = Frame::of(ctx);
    if !frame.has(ETHERNET_LEN + len) {
        return Err(Outcome::NoHeadroom);
    }
    Ok(frame)
}
