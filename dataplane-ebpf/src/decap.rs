//! The tunnel's end: believes only listed nodes with a valid key tag, and only what they send to
//! a destination that is served here.
//!
//! A TCP packet within a connection that this host does not know goes on to the first further hop
//! that its header names (the second chance), if that is a listed node too, and not more often than
//! a real change of hands asks for: anybody can send packets of connections that nobody has. So does
//! an error about a packet of such a connection.
//!
//! A UDP packet of a flow that was not answered here lately goes the same way, but comes back if
//! nobody else answered it either: it may be of a new flow, which is for the slot's own backend.
//! That one delivers it as well where it cannot be passed on, for most such packets are of new flows.
//! Hosts that it is passed to do not: who had a slot before must not begin flows.
//!
//! A host that has only what is left of a closed connection lets the others go first, and is the
//! last hop itself: nobody else could answer a FIN that was sent again.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, programs::XdpContext};
use isocast_dataplane_common::{
    CHAIN_HOPS, Outcome,
    directory::{Address, Key, Space, mapped},
    encap::{
        ETHERNET_LEN, FLAG_COOKIE, FLAG_RETURNS, FLAG_SECOND_HOP, GUE_LEN, HOP_V4_LEN, HOP_V6_LEN,
        OUTER_V4_LEN, OUTER_V6_LEN, UDP_LEN, hlen,
    },
    tables::Target,
};

use crate::{
    answers, fragment,
    header::{self, Outer, adjust, fold},
    icmp,
    limits::begins_connection,
    maps::{self, Generation},
    packet::{
        ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, ICMP, ICMPV6, IPIP, IPV6, Ip, TCP, UDP,
        destination_port, ip_len, opens_connection,
    },
    socket::{self, Claim},
    task::Task,
};

#[inline(always)]
pub fn run<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    generation: Generation,
    ip: &Ip,
) -> Result<u32, Outcome> {
    let gue = ETHERNET_LEN + ip_len::<V6>() + UDP_LEN;
    if !frame.has(gue + GUE_LEN) {
        return Err(Outcome::Malformed);
    }
    if generation.find(&Key::new(Space::Source, &ip.source, 0, 0, 0)).is_none() {
        return Err(Outcome::UnlistedSource);
    }
    let root = generation.root()?;
    // SAFETY: asked for above.
    let (shape, protocol, flags, tag) = unsafe {
        (
            frame.read::<u8>(gue),
            frame.read::<u8>(gue + 1),
            frame.read::<u16>(gue + 2),
            frame.read::<u32>(gue + 8),
        )
    };
    if tag != root.key_tags[0] && tag != root.key_tags[1] {
        return Err(Outcome::WrongKey);
    }
    if flags != 0 {
        return Err(Outcome::UnknownEncap);
    }
    // The first byte holds version, control bit and Hlen: version 0, data, up to three hops.
    let hop = hop_len(V6);
    if shape == hlen(0) {
        of_family::<V6, 0>(ctx, frame, generation, ip, protocol)
    } else if shape == hlen(hop) {
        of_family::<V6, 1>(ctx, frame, generation, ip, protocol)
    } else if shape == hlen(2 * hop) {
        of_family::<V6, 2>(ctx, frame, generation, ip, protocol)
    } else if shape == hlen(3 * hop) {
        of_family::<V6, 3>(ctx, frame, generation, ip, protocol)
    } else {
        Err(Outcome::UnknownEncap)
    }
}

const _: () = assert!(CHAIN_HOPS == 3);

#[inline(always)]
fn of_family<const OUTER6: bool, const HOPS: usize>(
    ctx: &XdpContext,
    frame: Frame,
    generation: Generation,
    outer: &Ip,
    protocol: u8,
) -> Result<u32, Outcome> {
    match protocol {
        IPIP => inner::<OUTER6, HOPS, false>(ctx, frame, generation, outer),
        IPV6 => inner::<OUTER6, HOPS, true>(ctx, frame, generation, outer),
        _ => Err(Outcome::UnknownEncap),
    }
}

#[inline(always)]
fn inner<const OUTER6: bool, const HOPS: usize, const INNER6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    generation: Generation,
    outer: &Ip,
) -> Result<u32, Outcome> {
    let hop_at = ETHERNET_LEN + if OUTER6 { OUTER_V6_LEN } else { OUTER_V4_LEN };
    let at = hop_at + HOPS * hop_len(OUTER6);
    let transport = at + ip_len::<INNER6>();
    if !frame.has(transport + 8) {
        return Err(Outcome::Malformed);
    }
    // SAFETY: asked for right above.
    let (ip, ports, tenant) = unsafe {
        (Ip::read::<INNER6>(frame, at), frame.read::<u32>(transport), frame.read::<u32>(hop_at - 8))
    };
    if !ip.fits(frame, at) {
        return Err(Outcome::Malformed);
    }
    let tenant_id = u32::from_be(tenant) >> 8;
    match ip.oddity {
        None => {
            // What the packet belongs to: an error to the flow that it quotes.
            let (flow, ports, may_be_anothers) = match ip.protocol {
                TCP => (ip, ports, !opens_connection(frame, transport)),
                UDP => (ip, ports, true),
                ICMP | ICMPV6
                    if (ip.protocol == ICMPV6) == INNER6
                        && icmp::is_error::<INNER6>(frame, transport) =>
                {
                    let (flow, ports) = icmp::quoted::<INNER6>(frame, at, &ip)?;
                    (flow, ports, true)
                }
                _ => return Err(Outcome::UnlistedProtocol),
            };
            let port = destination_port(ports);
            let accept = Key::new(Space::Accept, &ip.destination, tenant_id, flow.protocol, port);
            if generation.find(&accept).is_none() {
                return Err(Outcome::UnlistedDestination);
            }
            if HOPS > 0 && may_be_anothers {
                // SAFETY: the further hops lie before the inner header, which is within bounds.
                let hop = unsafe { read_hop::<OUTER6>(frame, hop_at) };
                let claim = match ip.protocol {
                    _ if flow.protocol == UDP => answers::claim(&flow, ports),
                    TCP => socket::claim::<INNER6>(ctx, frame, at, &ip, ports),
                    _ => socket::claim_of_quoted::<INNER6>(ctx, &flow, ports),
                };
                match claim {
                    Claim::Open => {}
                    Claim::Closed if u32::from_be(tenant) as u8 & FLAG_RETURNS == 0 => {
                        // Where nobody else can be asked, the packet is this host's.
                        if let Ok(target) = next_hop(generation, &hop, ip.len) {
                            return pass_on::<OUTER6, HOPS, INNER6, true>(
                                ctx, frame, outer, &ip, target,
                            );
                        }
                    }
                    Claim::Closed | Claim::None => {
                        let target = next_hop(generation, &hop, ip.len)?;
                        return pass_on::<OUTER6, HOPS, INNER6, false>(
                            ctx, frame, outer, &ip, target,
                        );
                    }
                }
            }
        }
        Some(Outcome::Fragment) => {
            fragment::accept::<INNER6>(frame, at, generation, &ip, tenant_id)?;
        }
        Some(oddity) => return Err(oddity),
    }
    propagate_congestion::<INNER6>(frame, at, outer.traffic_class, ip.traffic_class)?;

    // SAFETY: the frame has an Ethernet header.
    let (to, from) = unsafe { (frame.read::<[u16; 3]>(0), frame.read::<[u16; 3]>(6)) };
    adjust(ctx, (at - ETHERNET_LEN) as i32)?;
    let frame = Frame::of(ctx);
    if !frame.has(ETHERNET_LEN) {
        return Err(Outcome::Malformed);
    }
    // SAFETY: asked for right above.
    unsafe {
        frame.write(0, to);
        frame.write(6, from);
        frame.write(12, if INNER6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 });
    }
    maps::count(Outcome::Decapsulated);
    if u32::from_be(tenant) as u8 & FLAG_COOKIE != 0
        && ip.protocol == TCP
        && begins_connection(frame, ETHERNET_LEN + ip_len::<INNER6>())
    {
        return Ok(Task::Cookie.of::<INNER6>(generation));
    }
    Ok(XDP_PASS)
}

/// The node that a further hop names, if it is listed, `len` bytes fit the way there and this CPU may
/// pass on one packet more.
#[inline(always)]
fn next_hop(generation: Generation, hop: &Address, len: u16) -> Result<&'static Target, Outcome> {
    let listed =
        generation.find(&Key::new(Space::Source, hop, 0, 0, 0)).ok_or(Outcome::UnlistedHop)?;
    let target = maps::ready_target(listed.index)?;
    if u32::from(len) > target.room {
        return Err(Outcome::TooBig);
    }
    if !maps::may_pass_on(generation.root()?.pass_on_max) {
        return Err(Outcome::SecondChanceLimited);
    }
    Ok(target)
}

/// Sends the packet to the first further hop, under a header of this node's own with the rest of
/// them, and at their end with this node where the packet `RETURNS`.
#[inline(always)]
fn pass_on<const OUTER6: bool, const HOPS: usize, const INNER6: bool, const RETURNS: bool>(
    ctx: &XdpContext,
    frame: Frame,
    outer: &Ip,
    inner: &Ip,
    target: &Target,
) -> Result<u32, Outcome> {
    let udp = ETHERNET_LEN + ip_len::<OUTER6>();
    // SAFETY: the outer headers are within bounds: the caller read what follows them.
    let (entropy, tenant) =
        unsafe { (frame.read::<u16>(udp), frame.read::<u32>(udp + UDP_LEN + 4)) };
    let flags = if RETURNS { FLAG_SECOND_HOP | FLAG_RETURNS } else { FLAG_SECOND_HOP };
    let outer = Outer {
        entropy,
        flow_label: u32::from(u16::from_be(entropy)),
        traffic_class: outer.traffic_class,
        inner_protocol: if INNER6 { IPV6 } else { IPIP },
        inner_len: inner.len,
        tenant: tenant | u32::from(flags).to_be(),
    };
    let hops_at = ETHERNET_LEN + if OUTER6 { OUTER_V6_LEN } else { OUTER_V4_LEN };
    let (rest, headers) = if RETURNS {
        // SAFETY: the caller read what follows the hops.
        unsafe { move_up::<OUTER6, HOPS>(frame, hops_at) };
        (HOPS, hops_at + HOPS * hop_len(OUTER6))
    } else {
        // The words of the others stay where they are, right before the inner packet.
        adjust(ctx, hop_len(OUTER6) as i32)?;
        (HOPS - 1, hops_at)
    };
    let frame = Frame::of(ctx);
    if !frame.has(headers) {
        return Err(Outcome::Malformed);
    }
    maps::count(Outcome::SecondChance);
    let action = if OUTER6 {
        header::push_v6(ctx, frame, target, &outer, rest)
    } else {
        header::push_v4(ctx, frame, target, &outer, rest)
    };
    if RETURNS {
        // SAFETY: asked for above.
        unsafe {
            if OUTER6 {
                header::end_at_sender_v6(frame, rest);
            } else {
                header::end_at_sender_v4(frame, rest);
            }
        }
    }
    Ok(action)
}

/// Moves the words of all hops but the first to the place of the one before.
#[inline(always)]
unsafe fn move_up<const OUTER6: bool, const HOPS: usize>(frame: Frame, at: usize) {
    let words = hop_len(OUTER6) / 4;
    for word in 0..(HOPS - 1) * words {
        let to = at + word * 4;
        // SAFETY: the caller's promise: all hops are within bounds.
        unsafe { frame.write(to, frame.read::<u32>(to + hop_len(OUTER6))) };
    }
}

const fn hop_len(outer6: bool) -> usize {
    if outer6 { HOP_V6_LEN } else { HOP_V4_LEN }
}

#[inline(always)]
unsafe fn read_hop<const OUTER6: bool>(frame: Frame, at: usize) -> Address {
    // SAFETY: the caller's promise: 16 or 4 bytes.
    unsafe {
        if OUTER6 {
            [frame.read(at), frame.read(at + 4), frame.read(at + 8), frame.read(at + 12)]
        } else {
            mapped(frame.read(at))
        }
    }
}

/// RFC 6040 §4.2: congestion experienced in the tunnel is told to the flow; a flow that cannot be
/// told loses the packet.
#[inline(always)]
fn propagate_congestion<const V6: bool>(
    frame: Frame,
    at: usize,
    outer_class: u8,
    inner_class: u8,
) -> Result<(), Outcome> {
    const CE: u8 = 3;
    if outer_class & CE != CE || inner_class & CE == CE {
        return Ok(());
    }
    if inner_class & CE == 0 {
        return Err(Outcome::CongestionUnmarkable);
    }
    let marked = inner_class | CE;
    // SAFETY: the caller read this header.
    unsafe {
        if V6 {
            let first = u16::from_be(frame.read::<u16>(at));
            frame.write(at, (first & 0xf00f | u16::from(marked) << 4).to_be());
        } else {
            // RFC 1624, equation 3, on the word {version, class}.
            let old = frame.read::<u16>(at);
            frame.write(at + 1, marked);
            let new = frame.read::<u16>(at);
            let sum = u32::from(!frame.read::<u16>(at + 10)) + u32::from(!old) + u32::from(new);
            frame.write(at + 10, !fold(sum));
        }
    }
    Ok(())
}
