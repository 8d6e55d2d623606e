//! Balancing packets that do not go the short way of [`crate::edge`]: guarded services, slots that are
//! in transition or tracked, backends on this node and without an agent, handshakes and packets that
//! are too large, pieces and quotes, and whatever is captured.
//!
//! Out of line, but for what is rare in itself.

use aya_ebpf::{
    bindings::{xdp_action::XDP_PASS, xdp_md},
    programs::XdpContext,
};
use isocast_dataplane_common::{
    NO_BACKEND, NO_CHAIN, Outcome, Slot, TRACKED,
    directory::{Address, Value},
    encap::{
        ETHERNET_LEN, FLAG_COOKIE, FLAG_RETURNS, HOP_V4_LEN, HOP_V6_LEN, OUTER_V4_LEN,
        OUTER_V6_LEN, PLAIN_V4_LEN, PLAIN_V6_LEN, tenant_word,
    },
    tables::{Chain, Target},
};

use crate::{
    answers,
    capture::{self, Served},
    edge::{Part, Place, room},
    flows,
    header::{self, Outer},
    limits,
    maps::{self, Generation},
    mss, mtu, others,
    packet::{Frame, Ip, TCP, UDP, ip_len, opens_connection},
    settle,
    socket::{self, Claim},
    task::{self, Task},
};

/// Sends a packet over IPv4 on its way: the verdict, or what is left to do. The numbers are those of
/// [`task::Met`].
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn longer_v4(
    ctx: *mut xdp_md,
    half: u32,
    service: u64,
    hash: u64,
    slot: u32,
) -> u32 {
    whole::<false>(ctx, Generation::of_half(half), service, hash, slot)
}

/// The same over IPv6.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn longer_v6(
    ctx: *mut xdp_md,
    half: u32,
    service: u64,
    hash: u64,
    slot: u32,
) -> u32 {
    whole::<true>(ctx, Generation::of_half(half), service, hash, slot)
}

#[inline(always)]
fn whole<const V6: bool>(
    ctx: *mut xdp_md,
    generation: Generation,
    service: u64,
    hash: u64,
    slot: u32,
) -> u32 {
    let frame = Frame::of_argument(ctx);
    let service = Value::from_bits(service);
    let place = Place { hash, slot: Slot::from_bits(slot) };
    let mut served = Served::NOBODY;
    let transport = ETHERNET_LEN + ip_len::<V6>();
    let verdict = if frame.has(transport + 8) {
        // SAFETY: asked for right here.
        let (ip, ports) =
            unsafe { (Ip::read::<V6>(frame, ETHERNET_LEN), frame.read::<u32>(transport)) };
        let ctx = XdpContext::new(ctx);
        send::<V6>(&ctx, frame, generation, &ip, ports, service, Part::Whole, place, &mut served)
    } else {
        Err(Outcome::Malformed)
    };
    match verdict {
        Ok(task) if task::is_left(task) => task::of_service(task, served),
        verdict => settle(ctx, served, verdict),
    }
}

/// Sends a packet of the flow `ip` and `ports` to the backend that has the flow. `ip` says who
/// belongs to the flow, and the length and class of the packet at hand. `served` is whose it is.
#[inline(always)]
pub fn send_part<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    generation: Generation,
    ip: &Ip,
    ports: u32,
    service: Value,
    part: Part,
    served: &mut Served,
) -> Result<u32, Outcome> {
    let place = Place::of::<V6>(generation.root()?, ip, ports, service, part)?;
    send::<V6>(ctx, frame, generation, ip, ports, service, part, place, served)
}

#[inline(always)]
fn send<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    generation: Generation,
    ip: &Ip,
    ports: u32,
    service: Value,
    part: Part,
    place: Place,
    served: &mut Served,
) -> Result<u32, Outcome> {
    capture::arrives::<V6>(ctx, generation, ip, ports, service);
    *served = Served::of(service.service);
    maps::count_service(service.service, ip.len);
    let challenged = service.tenant & Value::GUARDED != 0 && {
        let transport = ETHERNET_LEN + ip_len::<V6>();
        let is_whole = part == Part::Whole;
        let begins = is_whole && ip.protocol == TCP && limits::begins_connection(frame, transport);
        limits::admit::<V6>(generation, ip, service, begins)? && is_whole
    };
    let root = generation.root()?;
    let Place { hash, mut slot } = place;
    // One bit says that there is something about the backend; nothing more is asked of all others.
    if slot.current & TRACKED != 0 {
        if slot.current == NO_BACKEND {
            return Err(Outcome::NoBackend);
        }
        let ip = anew::<V6>(frame, ip, part);
        slot = flows::owner::<V6>(frame, generation, ip.flow(ports), slot, part)?;
    }

    let mut number = slot.current;
    let mut target = maps::target(number)?;
    // What opens a TCP connection is nobody else's, and a piece does not say whose it is.
    let mut further = Further::NOBODY;
    let asks_by_other_keys = root.others != 0 && ip.protocol == TCP;
    if (slot.chain != NO_CHAIN || asks_by_other_keys)
        && match part {
            Part::Whole if ip.protocol == UDP => true,
            Part::Whole => !opens_connection(frame, ETHERNET_LEN + ip_len::<V6>()),
            Part::Fragment => false,
            Part::Quote => true,
        }
    {
        further = Further::of(maps::chain(if asks_by_other_keys {
            let by_address = part == Part::Fragment || service.tenant & Value::BY_ADDRESS != 0;
            let flow = anew::<V6>(frame, ip, part).flow(if by_address { 0 } else { ports });
            others::chain_of::<V6>(generation, flow, service.index, slot)?
        } else {
            slot.chain
        })?);
    }
    if target.flags & Target::LOCAL != 0 {
        let ip = &anew::<V6>(frame, ip, part);
        let claim = match part {
            _ if further.len == 0 => Claim::Open,
            _ if ip.protocol == UDP => answers::claim(ip, ports),
            Part::Quote => socket::claim_of_quoted::<V6>(ctx, ip, ports),
            _ => socket::claim::<V6>(ctx, frame, ETHERNET_LEN, ip, ports),
        };
        // What is left of a closed connection is enough where nobody else can be asked.
        let next = match claim {
            Claim::Open => None,
            Claim::Closed => maps::ready_target(further.first).ok(),
            Claim::None => Some(maps::target(further.first)?),
        };
        let Some(next) = next else {
            maps::count_target(number, ip.len);
            maps::count(Outcome::DeliveredHere);
            return Ok(if challenged { Task::Cookie.of::<V6>(generation) } else { XDP_PASS });
        };
        number = further.first;
        target = next;
        further.begin(claim == Claim::Closed);
    }
    if target.flags & Target::READY == 0 {
        return Err(Outcome::NextHopUnresolved);
    }
    if u32::from(ip.len) > target.room {
        return match part {
            // RFC 1122 §3.2.2: no error about an error.
            Part::Quote => Err(Outcome::TooBig),
            _ if V6 => Ok(mtu::too_big_v6(ctx.ctx, target.room, service.service)),
            _ => Ok(mtu::too_big_v4(ctx.ctx, target.room, service.service)),
        };
    }
    if part == Part::Whole && service.tenant & Value::CLAMP != 0 && ip.protocol == TCP {
        mss::clamp::<V6>(ctx, generation, target.room);
    }
    let mut flags = if challenged { FLAG_COOKIE } else { 0 };
    if further.returns {
        flags |= FLAG_RETURNS;
    }
    let outer =
        Outer::of::<V6>(&anew::<V6>(frame, ip, part), hash, tenant_word(service.tenant, flags));
    let action = match (target.flags & Target::IPV6 != 0, further.len) {
        // Nobody there would answer by a cookie.
        _ if target.flags & Target::PLAIN != 0 && challenged => Err(Outcome::OverFlowRate),
        _ if target.flags & Target::PLAIN != 0 => over_ip(ctx, target, &outer),
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
    maps::count(if part == Part::Quote { Outcome::ErrorForwarded } else { Outcome::Encapsulated });
    Ok(action)
}

/// A whole packet's header is read where it is needed: the packet is as near as the stack, of which
/// there is too little to keep it. The fixed header is within bounds.
#[inline(always)]
fn anew<const V6: bool>(frame: Frame, ip: &Ip, part: Part) -> Ip {
    // SAFETY: the caller's promise.
    if part == Part::Whole { unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) } } else { *ip }
}

/// What is left of a chain.
struct Further {
    hops: *const Address,
    len: u16,
    first: u16,
    /// The last one is this node, in place of what is read.
    returns: bool,
}

impl Further {
    const NOBODY: Self = Self { hops: core::ptr::null(), len: 0, first: 0, returns: false };

    #[inline(always)]
    fn of(chain: &Chain) -> Self {
        let (hops, len) = (chain.hops.as_ptr(), chain.len);
        Self { hops, len, first: chain.first, returns: false }
    }

    /// The first is where the packet goes. A chain is longer than its hops, so the last is read
    /// within bounds.
    #[inline(always)]
    fn begin(&mut self, returns: bool) {
        // SAFETY: within the chain.
        self.hops = unsafe { self.hops.add(1) };
        self.returns = returns;
        if !returns {
            self.len -= 1;
        }
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
    let action = header::push_v4(ctx, frame, target, outer, HOPS);
    if HOPS > 0 && further.returns {
        // SAFETY: as above.
        unsafe { header::end_at_sender_v4(frame, HOPS) };
    }
    Ok(action)
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
    let action = header::push_v6(ctx, frame, target, outer, HOPS);
    if HOPS > 0 && further.returns {
        // SAFETY: as above.
        unsafe { header::end_at_sender_v6(frame, HOPS) };
    }
    Ok(action)
}

/// To a host without an agent, which is told of nobody else: the host side gives its slots no chain.
#[inline(always)]
fn over_ip(ctx: &XdpContext, target: &Target, outer: &Outer) -> Result<u32, Outcome> {
    if target.flags & Target::IPV6 != 0 {
        header::write_plain_v6(room(ctx, PLAIN_V6_LEN)?, target, outer);
    } else {
        header::write_plain_v4(room(ctx, PLAIN_V4_LEN)?, target, outer);
    }
    Ok(header::transmit(ctx, target))
}
