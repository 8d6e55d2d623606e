//! The maps, and their reading.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray},
    helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64},
    macros::btf_map,
};
use isocast_dataplane_common::{
    Outcome, RingPlace, Slot,
    answers::AnsweredFlow,
    bfd,
    directory::{Entry, Key, Value},
    flow::Flow,
    limits::{
        ANSWERED_FLOWS, CHAIN_POOL, CPUS_MAX, DIRECTORY_BUCKETS, DIRECTORY_PLACES, RING_CHUNKS,
        SERVICE_POOL, TARGET_POOL,
    },
    outcome::OUTCOMES,
    tables::{
        Chain, Counter, LINES_PER_CHUNK, Name, PassedOn, RingLine, Root, SLOTS_PER_LINE, Target,
    },
    tracking::{Eras, LINES, Line},
};

/// The host writes these through its own memory. They also begin at a page, so that a value of a
/// cache line's size is in one.
const MAPPED: usize = BPF_F_MMAPABLE as usize;

/// The word that says which generation is in force: its low bit.
#[btf_map]
static GENERATION: Array<u32, 1> = Array::new();
#[btf_map]
static ROOTS: Array<Root, 2> = Array::new();
#[btf_map]
static DISPLACEMENTS: Array<u64, { 2 * DIRECTORY_BUCKETS }, MAPPED> = Array::new();
#[btf_map]
static ENTRIES: Array<Entry, { 2 * DIRECTORY_PLACES }, MAPPED> = Array::new();
/// The pool of rings, in pieces that are there as soon as one is needed.
#[btf_map]
static RINGS: ArrayOfMaps<Array<RingLine, LINES_PER_CHUNK, MAPPED>, RING_CHUNKS> =
    ArrayOfMaps::new();
#[btf_map]
static CHAINS: Array<Chain, { CHAIN_POOL + CPUS_MAX }> = Array::new();
#[btf_map]
static TARGETS: Array<Target, TARGET_POOL, MAPPED> = Array::new();
/// Whose counters and targets these are: written and read by the host side alone.
#[btf_map]
static SERVICE_NAMES: Array<Name, SERVICE_POOL> = Array::new();
#[btf_map]
static TARGET_NAMES: Array<Name, TARGET_POOL> = Array::new();
#[btf_map]
static SERVICE_COUNTERS: PerCpuArray<Counter, SERVICE_POOL> = PerCpuArray::new();
#[btf_map]
static TARGET_COUNTERS: PerCpuArray<Counter, TARGET_POOL> = PerCpuArray::new();
#[btf_map]
static OUTCOME_COUNTERS: PerCpuArray<u64, OUTCOMES> = PerCpuArray::new();
/// What this CPU passed on lately.
#[btf_map]
static PASSED_ON: PerCpuArray<PassedOn, 1> = PerCpuArray::new();
/// When this host last answered a UDP flow. On hosts that are no backends it has one place.
#[btf_map]
static ANSWERED: LruHashMap<AnsweredFlow, u64, ANSWERED_FLOWS> = LruHashMap::new();
/// What time it is in the flow table, for each half of the tables.
#[btf_map]
static ERAS: Array<Eras, 2> = Array::new();
/// The flow table. On hosts that balance nothing it has one line, which nobody reads.
#[btf_map]
static FLOWS: Array<Line, LINES, MAPPED> = Array::new();
/// The flow that a function of its own is asked about: too much for the stack.
#[btf_map]
static FLOW: PerCpuArray<Flow, 1> = PerCpuArray::new();
/// Until when the past has used up the pace of packet-too-big messages, in nanoseconds of the
/// monotonic clock. Not pinned: a new program starts afresh.
#[btf_map]
static TOO_BIG_USED_UNTIL: PerCpuArray<u64, 1> = PerCpuArray::new();
/// Exchanges that the program answers, by our discriminator; a replaced one is replaced at once.
#[btf_map]
static BFD_SESSIONS: HashMap<u32, bfd::Session, { bfd::SESSIONS }> = HashMap::new();
/// When it last did: kept apart, because the host replaces whole values.
#[btf_map]
static BFD_SEEN: HashMap<u32, bfd::Seen, { bfd::SESSIONS }> = HashMap::new();

/// One generation, chosen once per packet: a packet never sees two.
#[derive(Clone, Copy)]
pub struct Generation {
    half: u32,
}

impl Generation {
    #[inline(always)]
    pub fn in_force() -> Result<Self, Outcome> {
        let word = GENERATION.get_ptr(0).ok_or(Outcome::TablesInconsistent)?;
        // SAFETY: a live map value; volatile, because the host changes it at any time.
        Ok(Self { half: unsafe { word.read_volatile() } & 1 })
    }

    /// The one that a packet was met in.
    #[inline(always)]
    pub fn of_half(half: u32) -> Self {
        Self { half }
    }

    /// Which half of the tables.
    #[inline(always)]
    pub const fn half(self) -> u32 {
        self.half
    }

    #[inline(always)]
    pub fn root(self) -> Result<&'static Root, Outcome> {
        ROOTS.get(self.half).ok_or(Outcome::TablesInconsistent)
    }

    #[inline(always)]
    pub fn find(self, key: &Key) -> Option<Value> {
        let bucket = self.half * DIRECTORY_BUCKETS as u32 + key.bucket();
        let displacement = *DISPLACEMENTS.get(bucket)?;
        if displacement & key.bit() == 0 {
            return None;
        }
        let place = self.half * DIRECTORY_PLACES as u32 + key.place(displacement as u32);
        let entry = ENTRIES.get(place)?;
        (entry.key == *key).then_some(entry.value)
    }
}

#[inline(always)]
pub fn slot(ring: RingPlace, hash: u64) -> Result<Slot, Outcome> {
    let slot = ring.slot(hash);
    let line = slot / SLOTS_PER_LINE as u32;
    let (chunk, line) = (line / LINES_PER_CHUNK as u32, line % LINES_PER_CHUNK as u32);
    let line = RINGS.get_value_ptr_mut(chunk, &line).ok_or(Outcome::TablesInconsistent)?;
    // SAFETY: the offset is masked to the line's sixteen slots; the host replaces whole words.
    let bits = unsafe { *line.cast::<u32>().add(slot as usize & (SLOTS_PER_LINE - 1)) };
    Ok(Slot::from_bits(bits))
}

#[inline(always)]
pub fn chain(number: u16) -> Result<&'static Chain, Outcome> {
    CHAINS.get(u32::from(number)).ok_or(Outcome::TablesInconsistent)
}

/// The chain that this CPU writes itself, behind those of the host, and its number.
#[inline(always)]
pub fn own_chain() -> Result<(u16, &'static mut Chain), Outcome> {
    // SAFETY: the helper takes nothing.
    let number = CHAIN_POOL as u32 + unsafe { bpf_get_smp_processor_id() };
    let chain = CHAINS.get_ptr_mut(number).ok_or(Outcome::TablesInconsistent)?;
    // SAFETY: a live map value that no other CPU touches, and programs do not interrupt each other on
    // a CPU.
    Ok((number as u16, unsafe { &mut *chain }))
}

#[inline(always)]
pub fn eras(half: u32) -> Result<&'static Eras, Outcome> {
    ERAS.get(half).ok_or(Outcome::TablesInconsistent)
}

/// The words of a line of the flow table.
#[inline(always)]
pub fn flow_line(number: u32) -> Option<*mut u64> {
    Some(FLOWS.get_ptr_mut(number)?.cast())
}

/// Hands a flow to a function of its own.
#[inline(always)]
pub fn set_flow(flow: Flow) -> Result<(), Outcome> {
    let place = FLOW.get_ptr_mut(0).ok_or(Outcome::TablesInconsistent)?;
    // SAFETY: this CPU's own value, and programs do not interrupt each other on a CPU.
    unsafe { *place = flow };
    Ok(())
}

/// The flow that was handed over last.
#[inline(always)]
pub fn flow() -> Result<&'static Flow, Outcome> {
    FLOW.get(0).ok_or(Outcome::TablesInconsistent)
}

#[inline(always)]
pub fn target(number: u16) -> Result<&'static Target, Outcome> {
    TARGETS.get(u32::from(number)).ok_or(Outcome::TablesInconsistent)
}

/// A target whose header may be used.
#[inline(always)]
pub fn ready_target(number: u16) -> Result<&'static Target, Outcome> {
    let target = target(number)?;
    if target.flags & Target::READY == 0 {
        return Err(Outcome::NextHopUnresolved);
    }
    Ok(target)
}

#[inline(always)]
pub fn bfd_session(discriminator: u32) -> Option<&'static bfd::Session> {
    // SAFETY: the host replaces entries whole, and one that was removed keeps its bytes until
    // this program has ended, unless the place is taken anew: then one answer is garbled.
    unsafe { BFD_SESSIONS.get(discriminator) }
}

#[inline(always)]
pub fn bfd_seen(discriminator: u32) -> Option<*mut bfd::Seen> {
    BFD_SEEN.get_ptr_mut(discriminator)
}

/// When this host last answered a flow, in nanoseconds of the monotonic clock.
#[inline(always)]
pub fn answered(flow: &AnsweredFlow) -> Option<*mut u64> {
    ANSWERED.get_ptr_mut(flow)
}

/// Notes a flow's first answer. Where that fails, its next one is as good.
#[inline(always)]
pub fn note_answered(flow: &AnsweredFlow, now: u64) {
    let _next_one = ANSWERED.insert(flow, now, 0);
}

#[inline(always)]
pub fn too_big_used_until() -> Result<*mut u64, Outcome> {
    TOO_BIG_USED_UNTIL.get_ptr_mut(0).ok_or(Outcome::TablesInconsistent)
}

#[inline(always)]
pub fn count(outcome: Outcome) {
    if let Some(counter) = OUTCOME_COUNTERS.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own value, and programs do not interrupt each other on a CPU.
        unsafe { *counter += 1 };
    }
}

/// Whether this CPU may pass one more packet on to a further hop in this window.
#[inline(always)]
pub fn may_pass_on(most: u32) -> bool {
    let Some(passed) = PASSED_ON.get_ptr_mut(0) else { return false };
    // SAFETY: the helper takes nothing; this CPU's own value, as above.
    unsafe {
        // The kernel's tick is a word in memory; a clock costs as much as the rest of the way.
        let tick = bpf_jiffies64();
        if (*passed).tick != tick {
            *passed = PassedOn { tick, packets: 0, reserved: 0 };
        }
        (*passed).packets = (*passed).packets.saturating_add(1);
        (*passed).packets <= most
    }
}

#[inline(always)]
pub fn count_service(service: u16, bytes: u16) {
    add(SERVICE_COUNTERS.get_ptr_mut(u32::from(service)), bytes);
}

#[inline(always)]
pub fn count_target(target: u16, bytes: u16) {
    add(TARGET_COUNTERS.get_ptr_mut(u32::from(target)), bytes);
}

#[inline(always)]
fn add(counter: Option<*mut Counter>, bytes: u16) {
    if let Some(counter) = counter {
        // SAFETY: this CPU's own value, and programs do not interrupt each other on a CPU.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(bytes);
        }
    }
}
