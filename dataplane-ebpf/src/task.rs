//! What is left to do with a packet once the function that met it has returned.
//!
//! Functions that call each other share 512 bytes of stack, and the one that balances and
//! decapsulates needs most of them. What is rare therefore comes after it instead of within it: it
//! returns a task in place of a verdict. A task keeps the generation that the packet was met in.

use aya_ebpf::bindings::xdp_md;

use crate::{fragment, icmp, maps::Generation, syncookie};

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
}

/// No verdict has this bit.
const TASK: u32 = 1 << 8;
const V6: u32 = 1 << 1;
/// The generation's.
const HALF: u32 = 1;

impl Task {
    /// In place of a verdict.
    #[inline(always)]
    pub fn of<const OVER_V6: bool>(self, generation: Generation) -> u32 {
        self as u32 | if OVER_V6 { V6 } else { 0 } | generation.half()
    }
}

/// The verdict, after whatever is left to do.
#[inline(always)]
pub fn finish(ctx: *mut xdp_md, verdict: u32) -> u32 {
    const COOKIE_V4: u32 = Task::Cookie as u32;
    const COOKIE_V6: u32 = COOKIE_V4 | V6;
    const QUOTE_V4: u32 = Task::Quote as u32;
    const QUOTE_V6: u32 = QUOTE_V4 | V6;
    const FRAGMENT_V4: u32 = Task::Fragment as u32;
    const FRAGMENT_V6: u32 = FRAGMENT_V4 | V6;
    if verdict & TASK == 0 {
        return verdict;
    }
    let generation = Generation::of_half(verdict & HALF);
    match verdict & !HALF {
        COOKIE_V4 => syncookie::answer_v4(ctx, generation),
        COOKIE_V6 => syncookie::answer_v6(ctx, generation),
        QUOTE_V4 => icmp::run_v4(ctx, generation),
        QUOTE_V6 => icmp::run_v6(ctx, generation),
        FRAGMENT_V4 => fragment::run_v4(ctx, generation),
        FRAGMENT_V6 => fragment::run_v6(ctx, generation),
        _ => verdict,
    }
}
