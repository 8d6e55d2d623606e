//! Errors about packets of a VIP: who answers for the flow that an error quotes gets the error.
//!
//! An error quotes the packet that it is about, which a backend sent with the VIP as its source.
//! Turned round, the quote is the flow that clients' packets have; so the error finds the same
//! slot, and the same backend, as they do (path MTU discovery depends on it: RFC 1191, RFC 8201).
//! Eight bytes behind the quoted IP header suffice, which is all that RFC 792 promises.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use isocast_dataplane_common::{
    Outcome,
    directory::{Key, Space, Value},
    encap::ETHERNET_LEN,
};

use crate::{
    capture::Served,
    edge::Part,
    longer,
    maps::Generation,
    packet::{Frame, Ip, TCP, UDP, destination_port, ip_len, same},
    task,
};

/// ICMP and ICMPv6 headers, up to the quote.
const HEADER_LEN: usize = 8;

/// Whether the message at `at` is an error whose quote tells its flow: destination unreachable
/// (which includes fragmentation needed), time exceeded, parameter problem (RFC 792); the same and
/// packet too big (RFC 4443). Redirects are not: no router tells a VIP where to go.
#[inline(always)]
pub fn is_error<const V6: bool>(frame: Frame, at: usize) -> bool {
    // SAFETY: asked for right here.
    frame.has(at + HEADER_LEN)
        && match unsafe { frame.read::<u8>(at) } {
            1..=4 if V6 => true,
            3 | 11 | 12 if !V6 => true,
            _ => false,
        }
}

/// The client's side of the quoted flow: `ip` as if it were a packet of the client, and its ports.
#[inline(always)]
pub fn quoted<const V6: bool>(frame: Frame, at: usize, ip: &Ip) -> Result<(Ip, u32), Outcome> {
    let quote = at + ip_len::<V6>() + HEADER_LEN;
    if !frame.has(quote + ip_len::<V6>() + 8) {
        return Err(Outcome::Malformed);
    }
    // SAFETY: asked for right above.
    let sent = unsafe { Ip::read::<V6>(frame, quote) };
    let (protocol, transport) = transport::<V6>(frame, quote, &sent)?;
    if protocol != TCP && protocol != UDP {
        return Err(Outcome::UnlistedProtocol);
    }
    if !same(&sent.source, &ip.destination) {
        return Err(Outcome::ForeignQuote);
    }
    // SAFETY: asked for in `transport`.
    let ports: u32 = unsafe { frame.read(transport) };
    Ok((Ip { source: sent.destination, protocol, ..*ip }, ports.rotate_left(16)))
}

/// Protocol and place of the quoted transport header. A first fragment has one too.
#[inline(always)]
fn transport<const V6: bool>(
    frame: Frame,
    quote: usize,
    sent: &Ip,
) -> Result<(u8, usize), Outcome> {
    let behind = quote + ip_len::<V6>();
    match sent.oddity {
        None => Ok((sent.protocol, behind)),
        Some(Outcome::Fragment) if V6 => {
            if !frame.has(behind + 16) {
                return Err(Outcome::Malformed);
            }
            // SAFETY: asked for right above.
            let (protocol, offset) =
                unsafe { (frame.read::<u8>(behind), frame.read::<u16>(behind + 2)) };
            match offset & 0xfff8_u16.to_be() {
                0 => Ok((protocol, behind + 8)),
                _ => Err(Outcome::Fragment),
            }
        }
        Some(Outcome::Fragment) => {
            // SAFETY: the caller asked for the quoted header.
            let (shape, offset) =
                unsafe { (frame.read::<u8>(quote), frame.read::<u16>(quote + 6)) };
            match (shape, offset & 0x1fff_u16.to_be()) {
                (0x45, 0) => Ok((sent.protocol, behind)),
                _ => Err(Outcome::Fragment),
            }
        }
        Some(oddity) => Err(oddity),
    }
}

/// Forwards an error that was sent to a VIP over IPv4. A function of its own in the kernel: what
/// is rare must not cost registers where it is not.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn quote_v4(ctx: *mut xdp_md, half: u32) -> u32 {
    let generation = Generation::of_half(half);
    let forward =
        |frame, ip: &Ip, served: &mut Served| forward::<false>(ctx, generation, frame, ip, served);
    task::carry_on::<false>(ctx, forward)
}

/// The same over IPv6.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn quote_v6(ctx: *mut xdp_md, half: u32) -> u32 {
    let generation = Generation::of_half(half);
    let forward =
        |frame, ip: &Ip, served: &mut Served| forward::<true>(ctx, generation, frame, ip, served);
    task::carry_on::<true>(ctx, forward)
}

#[inline(always)]
fn forward<const V6: bool>(
    ctx: *mut xdp_md,
    generation: Generation,
    frame: Frame,
    ip: &Ip,
    served: &mut Served,
) -> Result<u32, Outcome> {
    let (flow, ports) = quoted::<V6>(frame, ETHERNET_LEN, ip)?;
    let port = destination_port(ports);
    let key = Key::new(Space::Listener, &flow.destination, 0, flow.protocol, port);
    let listener = generation.find(&key).filter(|it| it.tenant != Value::TUNNEL);
    let service = listener.ok_or(Outcome::UnlistedPort)?;
    let ctx = XdpContext::new(ctx);
    longer::send_part::<V6>(&ctx, frame, generation, &flow, ports, service, Part::Quote, served)
}
