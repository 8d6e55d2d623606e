//! Lowers the segment size that a TCP handshake offers (RFC 9293 §3.7.1), for paths on which
//! packet-too-big messages get lost.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use isocast_dataplane_common::{
    Outcome,
    directory::{Address, Key, Space},
    encap::ETHERNET_LEN,
};

use crate::{
    header::fold,
    maps::{self, Generation},
    packet::{Frame, Ip, TCP, ip_len, opens_connection},
};

/// TCP header without options.
const TCP_LEN: usize = 20;
/// No header is longer; the verifier needs to be told.
const HEADER_MAX: usize = 60;
/// Options that are looked at: the segment size is among the first that any host sends.
const OPTIONS_MAX: usize = 8;

/// Lowers what the packet's handshake offers, if it is one, to what fits `room`.
#[inline(always)]
pub fn clamp<const V6: bool>(ctx: &XdpContext, generation: Generation, room: u32) {
    if V6 {
        clamp_v6(ctx.ctx, generation, room);
    } else {
        clamp_v4(ctx.ctx, generation, room);
    }
}

#[inline(never)]
fn clamp_v4(ctx: *mut xdp_md, generation: Generation, room: u32) -> u32 {
    incoming::<false>(Frame::of_argument(ctx), generation, room)
}

#[inline(never)]
fn clamp_v6(ctx: *mut xdp_md, generation: Generation, room: u32) -> u32 {
    incoming::<true>(Frame::of_argument(ctx), generation, room)
}

/// A client's handshake: the service is the destination.
#[inline(always)]
fn incoming<const V6: bool>(frame: Frame, generation: Generation, room: u32) -> u32 {
    const PORT: usize = 2;
    let transport = ETHERNET_LEN + ip_len::<V6>();
    if !frame.has(transport + TCP_LEN) || !opens_connection(frame, transport) {
        return 0;
    }
    // SAFETY: asked for right above.
    let (ip, port) = unsafe { (Ip::read::<V6>(frame, ETHERNET_LEN), frame.read(transport + PORT)) };
    lower::<V6>(frame, generation, &ip.destination, port, room)
}

#[inline(always)]
fn lower<const V6: bool>(
    frame: Frame,
    generation: Generation,
    service: &Address,
    port: u16,
    room: u32,
) -> u32 {
    let key = Key::new(Space::SegmentSize, service, 0, TCP, port);
    let Some(ceiling) = generation.find(&key) else { return 0 };
    let headers = (ip_len::<V6>() + TCP_LEN) as u32;
    let fits = u32::from(ceiling.index).min(room.saturating_sub(headers)) as u16;
    if rewrite(frame, ETHERNET_LEN + ip_len::<V6>(), fits) {
        maps::count(Outcome::SegmentSizeClamped);
        return 1;
    }
    0
}

/// Writes `largest` into the segment size option of the header at `at`, if it is there and larger.
#[inline(always)]
fn rewrite(frame: Frame, at: usize, largest: u16) -> bool {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    const SEGMENT_SIZE_LEN: u8 = 4;
    // SAFETY: the caller asked for the fixed header.
    let header_len = usize::from(unsafe { frame.read::<u8>(at + 12) } >> 4) * 4;
    let mut offset = TCP_LEN;
    for _ in 0..OPTIONS_MAX {
        if offset + 4 > header_len || offset > HEADER_MAX {
            return false;
        }
        let option = frame.beyond(at + offset);
        if !option.has(4) {
            return false;
        }
        // SAFETY: asked for right above.
        let (kind, len) = unsafe { (option.read::<u8>(0), option.read::<u8>(1)) };
        match (kind, len) {
            (END, _) => return false,
            (NOTHING, _) => offset += 1,
            (SEGMENT_SIZE, SEGMENT_SIZE_LEN) => {
                let alignment = if offset % 2 == 0 { Alignment::Even } else { Alignment::Odd };
                return lower_to(frame, at, option, alignment, largest);
            }
            (_, 0 | 1) => return false,
            _ => offset += usize::from(len),
        }
    }
    false
}

/// Where an option lies in the words of the checksum.
#[derive(Clone, Copy)]
enum Alignment {
    Even,
    Odd,
}

/// Replaces the option's size if it is larger, and repairs the checksum of the header at `at`
/// (RFC 1624, equation 3).
#[inline(always)]
fn lower_to(frame: Frame, at: usize, option: Frame, alignment: Alignment, largest: u16) -> bool {
    // SAFETY: the caller asked for the option and for the fixed header.
    unsafe {
        let old = option.read::<u16>(2);
        if u16::from_be(old) <= largest {
            return false;
        }
        let new = largest.to_be();
        option.write(2, new);
        // At an odd place the two bytes belong to two words of the sum, which then is the same
        // with the bytes of each swapped (RFC 1071 §2).
        let (old, new) = match alignment {
            Alignment::Even => (old, new),
            Alignment::Odd => (old.swap_bytes(), new.swap_bytes()),
        };
        let sum = u32::from(!frame.read::<u16>(at + 16)) + u32::from(!old) + u32::from(new);
        frame.write(at + 16, !fold(sum));
    }
    true
}
