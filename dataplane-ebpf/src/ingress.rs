//! What arrives: is it for a service, for the tunnel's end, for a VIP in a way that is not
//! served, or none of our business?

use core::mem::MaybeUninit;

use aya_ebpf::{bindings::xdp_action::XDP_PASS, programs::XdpContext};
use isocast_dataplane_common::{
    Outcome,
    bfd::PORT,
    directory::{Key, Space, Value},
    encap::ETHERNET_LEN,
};

use crate::{
    bfd,
    capture::Served,
    decap, echo, edge, icmp,
    maps::Generation,
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, ICMP, ICMPV6, Ip, TCP, UDP, ip_len},
    task::{Met, Task},
    vlan,
};

#[inline(always)]
pub fn run(
    ctx: &XdpContext,
    served: &mut Served,
    met: &mut MaybeUninit<Met>,
) -> Result<u32, Outcome> {
    let frame = Frame::of(ctx);
    if !frame.has(ETHERNET_LEN + ip_len::<false>()) {
        return Ok(XDP_PASS);
    }
    // SAFETY: within the 34 bytes.
    match unsafe { frame.read::<u16>(12) } {
        ETHERTYPE_IPV4 => family::<false>(ctx, frame, served, met),
        ETHERTYPE_IPV6 if frame.has(ETHERNET_LEN + ip_len::<true>()) => {
            family::<true>(ctx, frame, served, met)
        }
        vlan::ETHERTYPE_TAGGED => Ok(vlan::MET),
        _ => Ok(XDP_PASS),
    }
}

#[inline(always)]
fn family<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    served: &mut Served,
    met: &mut MaybeUninit<Met>,
) -> Result<u32, Outcome> {
    // SAFETY: `run` asked for the fixed header.
    let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
    let generation = Generation::in_force()?;

    let transport = ETHERNET_LEN + ip_len::<V6>();
    if ip.oddity.is_none() && (ip.protocol == TCP || ip.protocol == UDP) && frame.has(transport + 8)
    {
        // SAFETY: asked for right here.
        let ports: u32 = unsafe { frame.read(transport) };
        let port = crate::packet::destination_port(ports);
        let key = Key::new(Space::Listener, &ip.destination, 0, ip.protocol, port);
        if let Some(listener) = generation.find(&key) {
            // Anew: registers are few, and the packet is as near as the stack.
            // SAFETY: `run` asked for the fixed header.
            let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
            if !ip.fits(frame, ETHERNET_LEN) {
                return Err(Outcome::Malformed);
            }
            return if listener.tenant == Value::TUNNEL {
                decap::run::<V6>(ctx, frame, generation, &ip)
            } else {
                edge::run::<V6>(ctx, frame, generation, ports, listener, served, met)
            };
        }
    }
    if generation.find(&Key::new(Space::Vip, &ip.destination, 0, 0, 0)).is_none() {
        return Ok(host::<V6>(ctx, frame, &ip));
    }
    match (ip.oddity, ip.protocol) {
        (Some(Outcome::Fragment), _) => Ok(Task::Fragment.of::<V6>(generation)),
        (Some(oddity), _) => Err(oddity),
        (None, ICMP | ICMPV6)
            if (ip.protocol == ICMPV6) == V6 && icmp::is_error::<V6>(frame, transport) =>
        {
            Ok(Task::Quote.of::<V6>(generation))
        }
        (None, ICMP) if !V6 => echo::run_v4(ctx, frame),
        (None, ICMPV6) if V6 => echo::run_v6(ctx, frame),
        (None, TCP | UDP) if frame.has(transport + 8) => Err(Outcome::UnlistedPort),
        (None, TCP | UDP) => Err(Outcome::Malformed),
        _ => Err(Outcome::UnlistedProtocol),
    }
}

/// None of our business, unless it asks whether we forward.
#[inline(always)]
fn host<const V6: bool>(ctx: &XdpContext, frame: Frame, ip: &Ip) -> u32 {
    let transport = ETHERNET_LEN + ip_len::<V6>();
    if ip.protocol != UDP || ip.oddity.is_some() || !frame.has(transport + 4) {
        return XDP_PASS;
    }
    // SAFETY: asked for right here.
    match unsafe { frame.read::<u16>(transport + 2) } {
        // SAFETY: `run` asked for the fixed header.
        BFD_PORT => bfd::run::<V6>(ctx, frame, &unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) }),
        _ => XDP_PASS,
    }
}

const BFD_PORT: u16 = PORT.to_be();
