//! Hands packets of one service up: each as it arrived, and as the program leaves it.
//!
//! A packet of another service, or of any while nothing is captured, costs one word that is read
//! and a branch that is not taken. Everything else is out of the packets' road, in functions of
//! its own. What is captured is never changed by it.

use aya_ebpf::{
    bindings::xdp_md,
    btf_maps::{Array, PerCpuArray, RingBuf},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_xdp_load_bytes},
    macros::btf_map,
    programs::XdpContext,
};
use isocast_dataplane_common::{
    RingPlace, Slot,
    capture::{
        Control, FlowPlace, NO_SLOT, PACKETS_PER_WINDOW, Progress, RING_BYTES, Record, SNAP_LEN,
        UNDECIDED, WINDOW_NS_LOG2, armed_for,
    },
    directory::Value,
    flow::Flow,
};

use crate::{
    maps::{self, Generation},
    packet::Ip,
};

/// Of which service packets are captured; 0: of none. A section of its own, and so a map of its
/// own, which the host side writes.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.capture")]
static mut CAPTURED_SERVICE: u32 = 0;
#[btf_map]
static CAPTURE_CONTROL: Array<Control, 1> = Array::new();
#[btf_map]
static CAPTURE_PROGRESS: PerCpuArray<Progress, 1> = PerCpuArray::new();
#[btf_map]
static CAPTURE_RECORDS: RingBuf<(), RING_BYTES> = RingBuf::new();

/// The number of a packet is its CPU's, and its own on that CPU.
const SEEN: u64 = (1 << 48) - 1;

/// Records are read when somebody asks, so nobody need be woken.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// Takes a packet of a service as it arrives, if it is one of those that are captured.
#[inline(always)]
pub fn arrives<const V6: bool>(
    ctx: &XdpContext,
    generation: Generation,
    ip: &Ip,
    ports: u32,
    service: Value,
) {
    if is_armed_for(service.service) {
        take::<V6>(ctx.ctx, generation, &ip.flow(ports), service.index, service.service);
    }
}

/// Whether packets of the service are captured.
#[inline(always)]
pub fn is_armed_for(service: u16) -> bool {
    armed() == armed_for(service)
}

/// Whose packet it is, once that is known. Lives in a register of the road that it is known on.
#[derive(Clone, Copy)]
pub struct Served(u32);

impl Served {
    pub const NOBODY: Self = Self(0);

    #[inline(always)]
    pub const fn of(service: u16) -> Self {
        Self(armed_for(service))
    }

    /// In sixteen bits: there are not as many services.
    #[inline(always)]
    pub const fn to_code(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    #[inline(always)]
    pub const fn service(self) -> Option<u16> {
        if self.0 == 0 { None } else { Some((self.0 - 1) as u16) }
    }
}

/// Hands up what became of the packet, if it was taken.
#[inline(always)]
pub fn leaves(ctx: *mut xdp_md, served: Served, outcome: u32, action: u32) {
    if served.0 != 0 && armed() == served.0 {
        hand_up_again(ctx, outcome, action);
    }
}

#[inline(always)]
fn armed() -> u32 {
    // SAFETY: a live word of the program; volatile, because the host changes it at any time.
    unsafe { (&raw const CAPTURED_SERVICE).read_volatile() }
}

#[inline(never)]
fn take<const V6: bool>(
    ctx: *mut xdp_md,
    generation: Generation,
    flow: &Flow,
    ring: u16,
    service: u16,
) {
    let Some(control) = CAPTURE_CONTROL.get_ptr(0) else { return };
    let Some(progress) = CAPTURE_PROGRESS.get_ptr_mut(0) else { return };
    // SAFETY: live map values. What the host writes is read once and volatile; progress is this
    // CPU's own, and programs do not interrupt each other on a CPU.
    unsafe {
        // A packet that was disarmed on its way is not this one.
        (*progress).is_under_way = 0;
        let at_ns = bpf_ktime_get_ns();
        if at_ns >= (&raw const (*control).until_ns).read_volatile() {
            (&raw mut CAPTURED_SERVICE).write_volatile(0);
            return;
        }
        (*progress).seen += 1;
        let one_in = (&raw const (*control).one_in).read_volatile();
        if one_in == 0 || (*progress).seen % one_in != 0 {
            return;
        }
        let window = at_ns >> WINDOW_NS_LOG2;
        if (*progress).window != window {
            (*progress).window = window;
            (*progress).in_window = 0;
        }
        if (*progress).in_window >= PACKETS_PER_WINDOW {
            (*progress).limited += 1;
            return;
        }
        (*progress).in_window += 1;
        let (slot, chosen) = chosen::<V6>(generation, flow, ring);
        (*progress).packet = u64::from(bpf_get_smp_processor_id()) << 48 | (*progress).seen & SEEN;
        (*progress).flow = FlowPlace {
            service: u32::from(service),
            half: generation.half(),
            slot,
            hosts: u32::from(chosen.chain) << 16 | u32::from(chosen.current),
        };
        (*progress).is_under_way = 1;
        hand_up(ctx, progress, at_ns, UNDECIDED, 0);
    }
}

/// Counts what was handed up: 0 or 1.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn hand_up_again(ctx: *mut xdp_md, outcome: u32, action: u32) -> u32 {
    let Some(progress) = CAPTURE_PROGRESS.get_ptr_mut(0) else { return 0 };
    // SAFETY: as above.
    unsafe {
        if (*progress).is_under_way == 0 {
            return 0;
        }
        (*progress).is_under_way = 0;
        hand_up(ctx, progress, bpf_ktime_get_ns(), outcome, action);
    }
    1
}

/// # Safety
/// `progress` is this CPU's own.
#[inline(always)]
unsafe fn hand_up(
    ctx: *mut xdp_md,
    progress: *mut Progress,
    at_ns: u64,
    outcome: u32,
    action: u32,
) {
    // SAFETY: the context is the kernel's. What was reserved has a record's size, is written
    // before it is read by anybody, and is submitted on every way out.
    unsafe {
        let Some(mut place) = CAPTURE_RECORDS.reserve_untyped::<Record>(0) else {
            (*progress).lost += 1;
            return;
        };
        let record = place.as_mut_ptr();
        let len = ((*ctx).data_end - (*ctx).data) & 0xffff;
        let captured = if len > SNAP_LEN as u32 { SNAP_LEN as u32 } else { len };
        (*record).at_ns = at_ns;
        (*record).packet = (*progress).packet;
        (*record).interface = (*ctx).ingress_ifindex;
        (*record).len = len;
        (*record).captured = captured;
        (*record).outcome = outcome;
        (*record).action = action;
        (*record).reserved = 0;
        (*record).flow = (*progress).flow;
        // The verifier wants to see that it is not 0; a frame for a service never is.
        let data = (&raw mut (*record).data).cast();
        if captured == 0 || bpf_xdp_load_bytes(ctx, 0, data, captured) != 0 {
            (*record).captured = 0;
        }
        place.submit(BPF_RB_NO_WAKEUP);
    }
}

/// What the flow's slot says, before anything is decided.
#[inline(always)]
fn chosen<const V6: bool>(generation: Generation, flow: &Flow, ring: u16) -> (u32, Slot) {
    const NONE: (u32, Slot) = (NO_SLOT, Slot::EMPTY);
    let Ok(root) = generation.root() else { return NONE };
    let ring = RingPlace::from_code(ring);
    let hash = if V6 { flow.hash_v6(&root.flow_key) } else { flow.hash_v4(&root.flow_key) };
    match maps::slot(ring, hash) {
        Ok(slot) => (hash as u32 & ring.slots().wrapping_sub(1), slot),
        Err(_) => NONE,
    }
}
