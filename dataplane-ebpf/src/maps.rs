//! The maps, and their reading.

use aya_ebpf::{
    btf_maps::{Array, HashMap, PerCpuArray},
    macros::btf_map,
};
use isocast_dataplane_common::{
    Outcome, Slot, bfd,
    directory::{Entry, Key, Value},
    limits::{DIRECTORY_BUCKETS, DIRECTORY_PLACES, RING_POOL, SERVICE_POOL, TARGET_POOL},
    outcome::OUTCOMES,
    tables::{Counter, LINES_PER_RING, Name, RingLine, Root, SLOTS_PER_LINE, Target},
};

/// The word that says which generation is in force: its low bit.
#[btf_map]
static GENERATION: Array<u32, 1> = Array::new();
#[btf_map]
static ROOTS: Array<Root, 2> = Array::new();
#[btf_map]
static DISPLACEMENTS: Array<u32, { 2 * DIRECTORY_BUCKETS }> = Array::new();
#[btf_map]
static ENTRIES: Array<Entry, { 2 * DIRECTORY_PLACES }> = Array::new();
#[btf_map]
static RINGS: Array<RingLine, { RING_POOL * LINES_PER_RING }> = Array::new();
#[btf_map]
static TARGETS: Array<Target, TARGET_POOL> = Array::new();
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

    /// Which half of the tables it is.
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
        let place = self.half * DIRECTORY_PLACES as u32 + key.place(displacement);
        let entry = ENTRIES.get(place)?;
        (entry.key == *key).then_some(entry.value)
    }
}

#[inline(always)]
pub fn slot(ring: u16, hash: u64) -> Result<Slot, Outcome> {
    let slot = hash as u32 & (isocast_dataplane_common::RING_SLOTS as u32 - 1);
    let line = u32::from(ring) * LINES_PER_RING as u32 + slot / SLOTS_PER_LINE as u32;
    let line = RINGS.get_ptr(line).ok_or(Outcome::TablesInconsistent)?;
    // SAFETY: the offset is masked to the line's sixteen slots; the host replaces whole words.
    Ok(unsafe { *line.cast::<Slot>().add(slot as usize & (SLOTS_PER_LINE - 1)) })
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

#[inline(always)]
pub fn count(outcome: Outcome) {
    if let Some(counter) = OUTCOME_COUNTERS.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own value, and programs do not interrupt each other on a CPU.
        unsafe { *counter += 1 };
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
