//! Balancing: flow hash, ring slot, backend.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, programs::XdpContext};
use isocast_dataplane_common::{
    NO_BACKEND, Outcome,
    directory::Value,
    encap::{ETHERNET_LEN, OUTER_V4_LEN, OUTER_V6_LEN, entropy_port, tenant_word},
    tables::Target,
};

use crate::{
    header::{self, Outer},
    maps::{self, Generation},
    packet::{Frame, IPIP, IPV6, Ip, TCP, ip_len, opens_connection},
    socket,
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
    let root = generation.root()?;
    let flow = ip.flow(ports);
    let hash = if V6 { flow.hash_v6(&root.flow_key) } else { flow.hash_v4(&root.flow_key) };
    let slot = maps::slot(service.index, hash)?;
    maps::count_service(service.service, ip.len);
    if slot.current == NO_BACKEND {
        return Err(Outcome::NoBackend);
    }

    let mut number = slot.current;
    let mut target = maps::target(number)?;
    // Only a TCP packet within a connection can be told to be a stranger's.
    let mut previous = None;
    if slot.previous != NO_BACKEND
        && ip.protocol == TCP
        && !opens_connection(frame, ETHERNET_LEN + ip_len::<V6>())
    {
        previous = Some(maps::target(slot.previous)?);
    }
    if target.flags & Target::LOCAL != 0 {
        match previous {
            // Two backends in turn on this very node have one socket table.
            Some(other)
                if other.flags & Target::LOCAL == 0 && !socket::owns::<V6>(ctx, ip, ports) =>
            {
                number = slot.previous;
                target = other;
                previous = None;
            }
            _ => {
                maps::count_target(number, ip.len);
                maps::count(Outcome::DeliveredHere);
                return Ok(XDP_PASS);
            }
        }
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
        tenant: tenant_word(service.tenant, 0),
    };
    // The word of a further hop has the outer family's length: a hop of the other one cannot go.
    let hop = previous.filter(|hop| (hop.flags ^ target.flags) & Target::IPV6 == 0);
    let action = match (target.flags & Target::IPV6 != 0, hop) {
        (false, None) => {
            let frame = room(ctx, OUTER_V4_LEN)?;
            header::push_v4::<0>(ctx, frame, target, &outer)
        }
        (false, Some(hop)) => {
            let frame = room(ctx, OUTER_V4_LEN + 4)?;
            header::push_hop_v4(frame, hop);
            header::push_v4::<4>(ctx, frame, target, &outer)
        }
        (true, None) => {
            let frame = room(ctx, OUTER_V6_LEN)?;
            header::push_v6::<0>(ctx, frame, target, &outer)
        }
        (true, Some(hop)) => {
            let frame = room(ctx, OUTER_V6_LEN + 16)?;
            header::push_hop_v6(frame, hop);
            header::push_v6::<16>(ctx, frame, target, &outer)
        }
    };
    maps::count_target(number, ip.len);
    maps::count(Outcome::Encapsulated);
    Ok(action)
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
