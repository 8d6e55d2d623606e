//! An XDP program that passes everything, for the far end of a veth pair.
//!
//! A veth takes frames that its peer's XDP program transmits or redirects only while it has an
//! XDP program itself. This one is two instructions, attached the way that lives as long as the
//! interface: nothing to pin, nobody to keep running.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp},
};

use crate::{
    bpf,
    netlink::{Answer, Netlink, interface_index},
};

/// Attaches the program to `interface` of the calling thread's network namespace, in the driver.
/// One that is there already, by this way, is replaced.
///
/// # Errors
/// When the interface is missing, has a program attached by a link, or the driver cannot.
pub fn attach(interface: &str) -> io::Result<()> {
    let program = load()?;
    set(interface, program.as_raw_fd())
}

/// Takes the program from `interface` again. Nothing happens when there is none.
///
/// # Errors
/// When the interface is missing or the kernel refuses.
pub fn detach(interface: &str) -> io::Result<()> {
    const NONE: i32 = -1;
    set(interface, NONE)
}

/// Loads the program.
fn load() -> io::Result<OwnedFd> {
    const XDP_PASS: u64 = 2;
    // r0 = XDP_PASS; exit
    bpf::load_program(bpf::ProgramType::Xdp, "isocast_pass", &[0xb7 | XDP_PASS << 32, 0x95])
}

fn set(interface: &str, program: i32) -> io::Result<()> {
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
    let mut message = LinkMessage::default();
    message.header.index = interface_index(interface)?;
    message
        .attributes
        .push(LinkAttribute::Xdp(vec![LinkXdp::Fd(program), LinkXdp::Flags(XDP_FLAGS_DRV_MODE)]));
    Netlink::open()?.request(RouteNetlinkMessage::SetLink(message), 0, Answer::One)?;
    Ok(())
}
