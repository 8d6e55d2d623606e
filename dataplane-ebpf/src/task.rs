//! What is left to do with a packet once the function that met it has returned.
//!
//! Functions that call each other share 512 bytes of stack, and the one that balances and
//! decapsulates needs most of them. What is rare therefore comes after it instead of within it: it
//! returns a task in place of a verdict. A task keeps the generation that the packet was met in, and
//! whose it is if that is known.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::xdp_md;

use isocast_dataplane_common::{
    Outcome, capture::UNDECIDED, encap::ETHERNET_LEN, limits::SERVICE_POOL,
};

use crate::{
    capture::{self, Served},
    fragment, icmp, longer,
    maps::Generation,
    packet::{Frame, Ip, ip_len},
    settle, syncookie, vlan,
};

/// Something to be done, by family.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Task {
    /// Answer the new flow that stands right after the Ethernet header by a cookie.
    Cookie = TASK,
    /// Send an ICMP error where the flow goes that it quotes.
    Quote = TASK | 1 << 2,
    /// Send a piece of a packet where the whole would go.
    Fragment = TASK | 2 << 2,
    /// Send a packet of a service, which was [`Met`], the longer way.
    Longer = TASK | 3 << 2,
}

/// No verdict has this bit.
const TASK: u32 = 1 << 8;
const V6: u32 = 1 << 1;
/// The generation's.
const HALF: u32 = 1;
/// Above it is whose packet it is.
const SERVED: u32 = 16;
const _: () = assert!(SERVICE_POOL < u16::MAX as usize);

/// What was found of a packet that has to go the longer way. Written for those alone.
#[derive(Clone, Copy)]
pub struct Met {
    /// Bits of its service.
    pub service: u64,
    pub hash: u64,
    /// Bits of its slot.
    pub slot: u32,
}

impl Task {
    /// In place of a verdict.
    #[inline(always)]
    pub fn of<const OVER_V6: bool>(self, generation: Generation) -> u32 {
        self as u32 | if OVER_V6 { V6 } else { 0 } | generation.half()
    }
}

/// Whether this is a task and no verdict.
#[inline(always)]
pub const fn is_left(verdict: u32) -> bool {
    verdict & TASK != 0
}

/// The task, for a packet of a service.
#[inline(always)]
pub const fn of_service(task: u32, served: Served) -> u32 {
    task | served.to_code() << SERVED
}

/// Which task, and of which family.
#[inline(always)]
const fn kind(task: u32) -> u32 {
    task & (1 << SERVED) - 1 & !HALF
}

/// The verdict, after whatever is left to do.
#[inline(always)]
pub fn finish(ctx: *mut xdp_md, verdict: u32, met: &MaybeUninit<Met>) -> u32 {
    const LONGER_V4: u32 = Task::Longer as u32;
    const LONGER_V6: u32 = LONGER_V4 | V6;
    const COOKIE_V4: u32 = Task::Cookie as u32;
    const COOKIE_V6: u32 = COOKIE_V4 | V6;
    const QUOTE_V4: u32 = Task::Quote as u32;
    const QUOTE_V6: u32 = QUOTE_V4 | V6;
    const FRAGMENT_V4: u32 = Task::Fragment as u32;
    const FRAGMENT_V6: u32 = FRAGMENT_V4 | V6;
    if !is_left(verdict) {
        return verdict;
    }
    let half = verdict & HALF;
    let verdict = match kind(verdict) {
        way @ (LONGER_V4 | LONGER_V6) => {
            // SAFETY: written before such a task is returned. The verifier lets the privileged read
            // what it cannot tell.
            let Met { service, hash, slot } = unsafe { met.assume_init() };
            if way == LONGER_V4 {
                longer::longer_v4(ctx, half, service, hash, slot)
            } else {
                longer::longer_v6(ctx, half, service, hash, slot)
            }
        }
        _ => verdict,
    };
    let served = Served::from_code(verdict >> SERVED);
    match kind(verdict) {
        COOKIE_V4 => answered(ctx, served, syncookie::cookie_v4(ctx, half)),
        COOKIE_V6 => answered(ctx, served, syncookie::cookie_v6(ctx, half)),
        QUOTE_V4 => icmp::quote_v4(ctx, half),
        QUOTE_V6 => icmp::quote_v6(ctx, half),
        FRAGMENT_V4 => fragment::fragment_v4(ctx, half),
        FRAGMENT_V6 => fragment::fragment_v6(ctx, half),
        _ => verdict,
    }
}

/// Forwards a packet that was sent to a VIP, which the task reads anew.
#[inline(always)]
pub fn carry_on<const V6: bool>(
    ctx: *mut xdp_md,
    forward: impl FnOnce(Frame, &Ip, &mut Served) -> Result<u32, Outcome>,
) -> u32 {
    let mut served = Served::NOBODY;
    let frame = Frame::of_argument(ctx);
    let verdict = header::<V6>(frame).and_then(|ip| forward(frame, &ip, &mut served));
    settle(ctx, served, verdict)
}

#[inline(always)]
fn header<const V6: bool>(frame: Frame) -> Result<Ip, Outcome> {
    if !frame.has(ETHERNET_LEN + ip_len::<V6>()) {
        return Err(Outcome::Malformed);
    }
    // SAFETY: asked for right above.
    let ip = unsafe { Ip::read::<V6>(frame, ETHERNET_LEN) };
    if ip.fits(frame, ETHERNET_LEN) { Ok(ip) } else { Err(Outcome::Malformed) }
}

#[inline(always)]
fn answered(ctx: *mut xdp_md, served: Served, action: u32) -> u32 {
    capture::leaves(ctx, served, UNDECIDED, action & vlan::ACTION);
    action
}
