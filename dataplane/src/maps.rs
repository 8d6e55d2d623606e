//! Typed handles to the kernel's maps.
//!
//! Reading and writing single values, nothing more: what belongs together is decided in
//! [`crate::plan`].

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues},
};
use isocast_dataplane_common::{
    NO_BACKEND, RING_SLOTS, Slot,
    directory::Entry,
    limits::{DIRECTORY_BUCKETS, DIRECTORY_PLACES, MAX_NAME_LEN},
    tables::{Counter, LINES_PER_RING, Name, RingLine, Root, SLOTS_PER_LINE, Target},
};

use crate::{
    bpf::{CounterValue, EntryValue, NameValue, RingLineValue, RootValue, TargetValue},
    directory::Directory,
};

/// Names of all maps: what is pinned.
pub(crate) const MAP_NAMES: [&str; 11] = [
    "GENERATION",
    "ROOTS",
    "DISPLACEMENTS",
    "ENTRIES",
    "RINGS",
    "TARGETS",
    "SERVICE_NAMES",
    "TARGET_NAMES",
    "SERVICE_COUNTERS",
    "TARGET_COUNTERS",
    "OUTCOME_COUNTERS",
];

/// Names of the maps of BFD, which have a folder of their own: see [`crate::pins`].
pub(crate) const BFD_MAP_NAMES: [&str; 2] = [BFD_SESSIONS, BFD_SEEN];
pub(crate) const BFD_SESSIONS: &str = "BFD_SESSIONS";
pub(crate) const BFD_SEEN: &str = "BFD_SEEN";

/// The maps, but for the targets, which [`crate::next_hops`] keeps.
pub(crate) struct Maps {
    generation: Array<MapData, u32>,
    roots: Array<MapData, RootValue>,
    displacements: Array<MapData, u32>,
    entries: Array<MapData, EntryValue>,
    rings: Array<MapData, RingLineValue>,
    service_names: Array<MapData, NameValue>,
    target_names: Array<MapData, NameValue>,
    service_counters: PerCpuArray<MapData, CounterValue>,
    target_counters: PerCpuArray<MapData, CounterValue>,
    outcome_counters: PerCpuArray<MapData, u64>,
}

/// Numbers with owners come in two kinds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbered {
    Service,
    Target,
}

/// What went wrong with a map.
#[derive(Debug, thiserror::Error)]
#[error("map {name}")]
pub struct MapFailure {
    name: &'static str,
    #[source]
    source: MapError,
}

pub(crate) fn failed(name: &'static str) -> impl FnOnce(MapError) -> MapFailure {
    move |source| MapFailure { name, source }
}

impl Maps {
    /// Takes the maps out of a loaded object; the targets apart.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<(Self, Targets), MapFailure> {
        let maps = Self {
            generation: take(ebpf, "GENERATION")?,
            roots: take(ebpf, "ROOTS")?,
            displacements: take(ebpf, "DISPLACEMENTS")?,
            entries: take(ebpf, "ENTRIES")?,
            rings: take(ebpf, "RINGS")?,
            service_names: take(ebpf, "SERVICE_NAMES")?,
            target_names: take(ebpf, "TARGET_NAMES")?,
            service_counters: take(ebpf, "SERVICE_COUNTERS")?,
            target_counters: take(ebpf, "TARGET_COUNTERS")?,
            outcome_counters: take(ebpf, "OUTCOME_COUNTERS")?,
        };
        Ok((maps, Targets { map: take(ebpf, "TARGETS")? }))
    }

    /// The generation in force; its low bit says which half of the tables.
    pub(crate) fn generation(&self) -> Result<u32, MapFailure> {
        self.generation.get(&0, 0).map_err(failed("GENERATION"))
    }

    /// The one store that puts a generation in force.
    pub(crate) fn flip(&mut self, generation: u32) -> Result<(), MapFailure> {
        self.generation.set(0, generation, 0).map_err(failed("GENERATION"))
    }

    pub(crate) fn write_root(&mut self, half: u32, root: Root) -> Result<(), MapFailure> {
        self.roots.set(half, RootValue(root), 0).map_err(failed("ROOTS"))
    }

    pub(crate) fn read_directory(&self, half: u32) -> Result<Directory, MapFailure> {
        let mut directory = Directory::empty();
        for (at, displacement) in (half * BUCKETS..).zip(&mut directory.displacements) {
            *displacement = self.displacements.get(&at, 0).map_err(failed("DISPLACEMENTS"))?;
        }
        for (at, place) in (half * PLACES..).zip(&mut directory.places) {
            *place = self.entries.get(&at, 0).map_err(failed("ENTRIES"))?.0;
        }
        Ok(directory)
    }

    /// Writes what differs from `present`, and keeps `present` true to the kernel also when it
    /// fails half-way.
    pub(crate) fn write_directory(
        &mut self,
        half: u32,
        present: &mut Directory,
        wanted: &Directory,
    ) -> Result<(), MapFailure> {
        let displacements = present.displacements.iter_mut().zip(&wanted.displacements);
        for (at, (present, wanted)) in (half * BUCKETS..).zip(displacements) {
            if present != wanted {
                self.displacements.set(at, *wanted, 0).map_err(failed("DISPLACEMENTS"))?;
                *present = *wanted;
            }
        }
        let places = present.places.iter_mut().zip(&wanted.places);
        for (at, (present, wanted)) in (half * PLACES..).zip(places) {
            if present != wanted {
                self.entries.set(at, EntryValue(*wanted), 0).map_err(failed("ENTRIES"))?;
                *present = *wanted;
            }
        }
        Ok(())
    }

    pub(crate) fn read_ring(&self, ring: u16) -> Result<Vec<Slot>, MapFailure> {
        let mut slots = Vec::with_capacity(RING_SLOTS);
        for line in ring_lines(ring) {
            slots.extend(self.rings.get(&line, 0).map_err(failed("RINGS"))?.0.slots);
        }
        Ok(slots)
    }

    pub(crate) fn write_ring(&mut self, ring: u16, slots: &[Slot]) -> Result<(), MapFailure> {
        for (at, chunk) in ring_lines(ring).zip(slots.chunks(SLOTS_PER_LINE)) {
            let mut line = RingLine { slots: [Slot::settled(NO_BACKEND); SLOTS_PER_LINE] };
            for (to, from) in line.slots.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.rings.set(at, RingLineValue(line), 0).map_err(failed("RINGS"))?;
        }
        Ok(())
    }

    /// Owners of numbers, as text; numbers without an owner are left out.
    pub(crate) fn read_names(&self, of: Numbered) -> Result<Vec<(u16, String)>, MapFailure> {
        let (map, name) = match of {
            Numbered::Service => (&self.service_names, "SERVICE_NAMES"),
            Numbered::Target => (&self.target_names, "TARGET_NAMES"),
        };
        let mut names = Vec::new();
        for number in 0..u16::try_from(map.len()).unwrap_or(u16::MAX) {
            let record = map.get(&u32::from(number), 0).map_err(failed(name))?.0;
            if record.len != Name::FREE {
                let len = record.len as usize - 1;
                let bytes = record.bytes.get(..len).unwrap_or(&record.bytes);
                names.push((number, String::from_utf8_lossy(bytes).into_owned()));
            }
        }
        Ok(names)
    }

    /// Gives a number to an owner, with counters at zero, or takes it away.
    pub(crate) fn write_name(
        &mut self,
        of: Numbered,
        number: u16,
        owner: Option<&str>,
    ) -> Result<(), MapFailure> {
        let mut record = Name { len: Name::FREE, bytes: [0; MAX_NAME_LEN] };
        if let Some(owner) = owner {
            // One more than the length: a name may be empty.
            record.len = u32::try_from(owner.len()).unwrap_or(u32::MAX).saturating_add(1);
            for (to, from) in record.bytes.iter_mut().zip(owner.bytes()) {
                *to = from;
            }
        }
        let number = u32::from(number);
        let (names, counters, name) = match of {
            Numbered::Service => {
                (&mut self.service_names, &mut self.service_counters, "SERVICE_NAMES")
            }
            Numbered::Target => (&mut self.target_names, &mut self.target_counters, "TARGET_NAMES"),
        };
        if owner.is_some() {
            let cpus = counters.get(&number, 0).map_err(failed(name))?.len();
            let zeros = vec![CounterValue(Counter::default()); cpus];
            if let Ok(zeros) = PerCpuValues::try_from(zeros) {
                counters.set(number, zeros, 0).map_err(failed(name))?;
            }
        }
        names.set(number, NameValue(record), 0).map_err(failed(name))
    }

    pub(crate) fn read_counter(&self, of: Numbered, number: u16) -> Result<Counter, MapFailure> {
        let (counters, name) = match of {
            Numbered::Service => (&self.service_counters, "SERVICE_COUNTERS"),
            Numbered::Target => (&self.target_counters, "TARGET_COUNTERS"),
        };
        let mut sum = Counter::default();
        for CounterValue(counter) in
            counters.get(&u32::from(number), 0).map_err(failed(name))?.iter()
        {
            sum.packets = sum.packets.wrapping_add(counter.packets);
            sum.bytes = sum.bytes.wrapping_add(counter.bytes);
        }
        Ok(sum)
    }

    pub(crate) fn read_outcome(&self, outcome: u32) -> Result<u64, MapFailure> {
        let values = self.outcome_counters.get(&outcome, 0).map_err(failed("OUTCOME_COUNTERS"))?;
        Ok(values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value)))
    }
}

/// The targets.
pub(crate) struct Targets {
    map: Array<MapData, TargetValue>,
}

impl Targets {
    pub(crate) fn read(&self, number: u16) -> Result<Target, MapFailure> {
        Ok(self.map.get(&u32::from(number), 0).map_err(failed("TARGETS"))?.0)
    }

    /// A packet that reads while this writes may leave with half of a changed link-layer address;
    /// it would have been lost with the old one too.
    pub(crate) fn write(&mut self, number: u16, target: Target) -> Result<(), MapFailure> {
        self.map.set(u32::from(number), TargetValue(target), 0).map_err(failed("TARGETS"))
    }
}

pub(crate) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, MapFailure> {
    let map = ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
    map.and_then(T::try_from).map_err(failed(name))
}

fn ring_lines(ring: u16) -> std::ops::Range<u32> {
    let first = u32::from(ring) * LINES;
    first..first + LINES
}

#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const BUCKETS: u32 = DIRECTORY_BUCKETS as u32;
#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const PLACES: u32 = DIRECTORY_PLACES as u32;
#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const LINES: u32 = LINES_PER_RING as u32;

const _: () = assert!(size_of::<Entry>() == size_of::<EntryValue>());
