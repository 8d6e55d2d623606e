//! One IEEE 802.1Q tag before a packet. What is for a service or for the tunnel's end is treated as if
//! it had none; everything else passes as it came, and so does everything with two tags.
//!
//! What goes up the stack has the tag that it came with, or the host would look for its interface in
//! vain. What leaves has the tag of its own next hop, or none: routes say which, not arrivals.

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    programs::XdpContext,
};
use isocast_dataplane_common::{
    Outcome,
    directory::{Key, Space, Value, mapped},
    encap::{ETHERNET_LEN, PORT},
    tables::Target,
};

use crate::{
    header::adjust,
    maps::{self, Generation},
    packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Ip, UDP, ip_len},
};

pub const ETHERTYPE_TAGGED: u16 = 0x8100_u16.to_be();
const TAG_LEN: usize = 4;

/// In place of a verdict: the packet has a tag.
pub const MET: u32 = 1 << 10;
/// No tag; others are the bits of a target's flags.
pub const NONE: u32 = 0;
/// The lowest byte of a verdict is the action, above it is the tag to leave with.
pub const ACTION: u32 = 0xff;

const _: () = assert!(MET & (Target::TAG | ACTION) == 0);

/// Takes the tag off a packet that is ours; it is returned.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn take_off(ctx: *mut xdp_md) -> u32 {
    try_take_off(&XdpContext::new(ctx), Frame::of_argument(ctx)).unwrap_or(NONE)
}

#[inline(always)]
fn try_take_off(ctx: &XdpContext, frame: Frame) -> Option<u32> {
    const IP: usize = ETHERNET_LEN + TAG_LEN;
    if !frame.has(IP + ip_len::<false>()) {
        return None;
    }
    // SAFETY: asked for right above.
    let (to, from, tag, ethertype) = unsafe {
        (
            frame.read::<[u16; 3]>(0),
            frame.read::<[u16; 3]>(6),
            frame.read::<u16>(ETHERNET_LEN),
            frame.read::<u16>(ETHERNET_LEN + 2),
        )
    };
    // SAFETY: what is read was asked for.
    let destination = match ethertype {
        ETHERTYPE_IPV4 => mapped(unsafe { frame.read(IP + 16) }),
        ETHERTYPE_IPV6 if frame.has(IP + ip_len::<true>()) => {
            unsafe { Ip::read::<true>(frame, IP) }.destination
        }
        _ => return None,
    };
    let generation = Generation::in_force().ok()?;
    let tunnel = Key::new(Space::Listener, &destination, 0, UDP, PORT.to_be());
    let is_ours = generation.find(&Key::new(Space::Vip, &destination, 0, 0, 0)).is_some()
        || generation.find(&tunnel).is_some_and(|it| it.tenant == Value::TUNNEL);
    if !is_ours {
        return None;
    }
    adjust(ctx, TAG_LEN as i32).ok()?;
    let frame = Frame::of(ctx);
    if !frame.has(ETHERNET_LEN) {
        return None;
    }
    // SAFETY: asked for right above.
    unsafe {
        frame.write(0, to);
        frame.write(6, from);
    }
    Some(Target::tag(u16::from_be(tag)))
}

/// The action, after the tag was put on that the packet has to have.
#[inline(always)]
pub fn put_on(ctx: *mut xdp_md, verdict: u32, arrived: u32) -> u32 {
    if (verdict | arrived) & Target::TAGGED == 0 {
        return verdict;
    }
    let action = verdict & ACTION;
    let tag = match action {
        XDP_PASS => arrived,
        XDP_DROP => NONE,
        _ => verdict,
    };
    if tag & Target::TAGGED == 0 || tagged(ctx, tag) != 0 { action } else { XDP_DROP }
}

/// Whether there was room.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn tagged(ctx: *mut xdp_md, tag: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    if adjust(&ctx, -(TAG_LEN as i32)).is_err() {
        maps::count(Outcome::NoHeadroom);
        return 0;
    }
    let frame = Frame::of(&ctx);
    if !frame.has(ETHERNET_LEN + TAG_LEN) {
        return 0;
    }
    // SAFETY: asked for right above.
    unsafe {
        let (to, from) = (frame.read::<[u16; 3]>(TAG_LEN), frame.read::<[u16; 3]>(TAG_LEN + 6));
        frame.write(0, to);
        frame.write(6, from);
        frame.write(12, ETHERTYPE_TAGGED);
        frame.write(ETHERNET_LEN, Target::tag_of(tag).to_be());
    }
    1
}
