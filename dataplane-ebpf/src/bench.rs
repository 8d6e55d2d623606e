//! Programs of the benchmark: a driver that feeds a program under test, and programs that do next
//! to nothing, to know what the feeding costs.
//!
//! A test run does not restore the packet between its repeats: a program that encapsulates would
//! see its own output. The driver runs first in each repeat: it gives the packet its length back,
//! writes its headers anew, picks the next flow and tail-calls the program under test. What it shall
//! write is constants that the host sets before loading.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_TX},
    btf_maps::{Array, ProgramArray},
    helpers::generated::bpf_xdp_adjust_head,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Bytes that are written anew, in words.
const HEADER_WORDS: usize = 16;

/// Length of the packet.
#[unsafe(no_mangle)]
static PACKET_LEN: u32 = 0;
/// Words of the header that are written anew.
#[unsafe(no_mangle)]
static WORDS: u32 = 0;
/// What is written.
#[unsafe(no_mangle)]
static HEADER: [u64; HEADER_WORDS] = [0; HEADER_WORDS];
/// Flows less one; their number is a power of two.
#[unsafe(no_mangle)]
static FLOW_MASK: u32 = 0;
/// Odd: visits the flows in a scattered order.
#[unsafe(no_mangle)]
static FLOW_STEP: u32 = 0;
/// Where the last word of the source address is.
#[unsafe(no_mangle)]
static SOURCE_AT: u32 = 0;
/// Where the source port is.
#[unsafe(no_mangle)]
static PORT_AT: u32 = 0;
/// By how many bytes [`adjust`] moves the start of the packet.
#[unsafe(no_mangle)]
static ADJUST_BY: i32 = 0;

/// The program under test.
#[btf_map]
static UNDER_TEST: ProgramArray<1> = ProgramArray::new();
/// Packets so far.
#[btf_map]
static SEQUENCE: Array<u32, 1> = Array::new();

macro_rules! constant {
    ($name:ident) => {
        // SAFETY: a live static; volatile, because the host sets it after compilation.
        unsafe { (&raw const $name).read_volatile() }
    };
}

/// Restores the packet and runs the program under test.
#[xdp]
pub fn drive(ctx: XdpContext) -> u32 {
    match restore(&ctx) {
        Some(()) => {
            // SAFETY: no pointers are kept.
            unsafe { UNDER_TEST.tail_call(&ctx, 0) };
            XDP_ABORTED
        }
        None => XDP_ABORTED,
    }
}

/// The floor: a packet that is sent back.
#[xdp]
pub fn transmit(_: XdpContext) -> u32 {
    XDP_TX
}

/// The floor: a packet that is dropped.
#[xdp]
pub fn discard(_: XdpContext) -> u32 {
    XDP_DROP
}

/// Only makes the room that every encapsulation must make.
#[xdp]
pub fn adjust(ctx: XdpContext) -> u32 {
    // SAFETY: the context is the kernel's.
    match unsafe { bpf_xdp_adjust_head(ctx.ctx, constant!(ADJUST_BY)) } {
        0 => XDP_TX,
        _ => XDP_ABORTED,
    }
}

#[inline(always)]
fn restore(ctx: &XdpContext) -> Option<()> {
    let len = ctx.data_end() - ctx.data();
    // Through memory, or the compiler would subtract in an order that the verifier refuses.
    // SAFETY: a live variable.
    let len = unsafe { (&raw const len).read_volatile() };
    let grown = len as i32 - constant!(PACKET_LEN) as i32;
    // SAFETY: the context is the kernel's; packet pointers are taken afterwards.
    if grown != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, grown) } != 0 {
        return None;
    }
    let (data, end) = (ctx.data(), ctx.data_end());
    for word in 0..HEADER_WORDS {
        if word >= constant!(WORDS) as usize {
            break;
        }
        let at = data + word * 8;
        if at + 8 > end {
            return None;
        }
        // SAFETY: asked for right above.
        unsafe { *(at as *mut u64) = (&raw const HEADER[word]).read_volatile() };
    }
    let mask = constant!(FLOW_MASK);
    if mask != 0 {
        let sequence = SEQUENCE.get_ptr_mut(0)?;
        // SAFETY: one CPU runs the test.
        let n = unsafe {
            *sequence = (*sequence).wrapping_add(1);
            *sequence
        };
        let flow = n.wrapping_mul(constant!(FLOW_STEP)) & mask;
        let (source, port) =
            (data + constant!(SOURCE_AT) as usize, data + constant!(PORT_AT) as usize);
        if source + 4 > end || port + 2 > end {
            return None;
        }
        // SAFETY: asked for right above.
        unsafe {
            let first = *(source as *const u8);
            *(source as *mut u32) = (u32::from(first) << 24 | flow & 0xff_ffff).to_be();
            *(port as *mut u16) = (1024 + (flow >> 24 << 7 | flow & 0x7f) as u16).to_be();
        }
    }
    Some(())
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
