//! The data plane's programs: one XDP program for both roles of a node, a tc program that sends
//! health checks the way traffic goes, and two for backends: one has them offer smaller segments, one
//! notes whom they answer.
//!
//! Which role a node plays is decided by its directory alone: a listener that is a service is
//! balanced ([`edge`]), one that is the tunnel's end is taken out of the tunnel ([`decap`]), and
//! everything that the directory does not know passes untouched. A packet to a VIP never passes
//! up the stack of an edge: it is forwarded, answered or dropped with a counted reason.
//!
//! Packet fields are read and written through plain pointers: the target has no unaligned access
//! of its own, so `read_unaligned` would become one load per byte. The verifier proves each bound.
//!
//! What is out of line, and whose arguments allow it, is exported, as a function of C: the verifier proves such a function once, for
//! any arguments, in place of anew on each way that leads to it. It takes the context, numbers, or what
//! may be null, and returns a number; a generation is handed over as its half.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod answers;
mod bfd;
mod capture;
mod decap;
mod drops;
mod echo;
mod edge;
mod flows;
mod fragment;
mod header;
mod icmp;
mod ingress;
mod limits;
mod longer;
mod maps;
mod mss;
mod mtu;
mod others;
mod packet;
mod probe;
mod socket;
mod sources;
mod syncookie;
mod task;
mod vlan;

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use isocast_dataplane_common::{Outcome, capture::UNDECIDED};

use crate::{capture::Served, task::Met};

/// Balances and decapsulates.
#[xdp]
#[inline(always)]
pub fn isocast(ctx: XdpContext) -> u32 {
    let mut met = MaybeUninit::uninit();
    let mut verdict = arrive(ctx.ctx, &mut met);
    // Nearly every packet's way ends here.
    if verdict <= vlan::ACTION {
        return verdict;
    }
    let mut tag = vlan::NONE;
    if verdict == vlan::MET {
        tag = vlan::take_off(ctx.ctx);
        if tag == vlan::NONE {
            return xdp_action::XDP_PASS;
        }
        verdict = arrive(ctx.ctx, &mut met);
    }
    vlan::put_on(ctx.ctx, task::finish(ctx.ctx, verdict, &met), tag)
}

/// The verdict, or what is left to do. The stack that it needs is free again afterwards.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn arrive(ctx: *mut xdp_md, met: *mut MaybeUninit<Met>) -> u32 {
    // SAFETY: the caller's own, or nothing as far as the verifier can tell.
    let Some(met) = (unsafe { met.as_mut() }) else { return xdp_action::XDP_PASS };
    let mut served = Served::NOBODY;
    let verdict = ingress::run(&XdpContext::new(ctx), &mut served, met);
    match verdict {
        Ok(task) if task::is_left(task) => task::of_service(task, served),
        verdict => settle(ctx, served, verdict),
    }
}

/// The verdict; what is dropped is counted.
#[inline(always)]
fn settle(ctx: *mut xdp_md, served: Served, verdict: Result<u32, Outcome>) -> u32 {
    match verdict {
        Ok(action) => {
            capture::leaves(ctx, served, UNDECIDED, action & vlan::ACTION);
            action
        }
        Err(reason) => {
            drops::count(served, reason);
            capture::leaves(ctx, served, reason as u32, xdp_action::XDP_DROP);
            maps::count(reason);
            xdp_action::XDP_DROP
        }
    }
}

/// Encapsulates the packets of marked local sockets.
#[classifier]
pub fn isocast_probe(ctx: TcContext) -> i32 {
    match probe::run(&ctx) {
        Ok(action) => action,
        Err(reason) => {
            maps::count(reason);
            probe::TC_ACT_SHOT
        }
    }
}

/// Lowers the segment size in the handshakes of a backend's own sockets. Leaves the packet to
/// whatever comes next on the interface, whatever it finds.
#[classifier]
pub fn isocast_mss(ctx: TcContext) -> i32 {
    if let Err(reason) = mss::run(&ctx) {
        maps::count(reason);
    }
    probe::TCX_NEXT
}

/// Notes which UDP flows a backend's own sockets answer. Leaves the packet to whatever comes next on
/// the interface, whatever it finds.
#[classifier]
pub fn isocast_answers(ctx: TcContext) -> i32 {
    if let Err(reason) = answers::run(&ctx) {
        maps::count(reason);
    }
    probe::TCX_NEXT
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// The kernel lends some helpers only to programs under the GPL, which is one of this crate's two
// licences.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
