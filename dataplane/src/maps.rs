//! Typed handles to the kernel's maps.
//!
//! Reading and writing single values, nothing more: what belongs together is decided in
//! [`crate::plan`].

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues},
};
use isocast_dataplane_common::{
    limits::{DIRECTORY_BUCKETS, DIRECTORY_PLACES, MAX_NAME_LEN},
    tables::{Chain, Counter, Name, Root, Target},
    tracking::Eras,
};

use crate::{
    bpf::{ChainValue, CounterValue, ErasValue, NameValue, RootValue, TargetValue},
    directory::Directories,
    mapped::{Mapped, Shared},
    rings::Rings,
};

/// Names of all maps: what is pinned.
pub(crate) const MAP_NAMES: [&str; 13] = [
    "GENERATION",
    "ROOTS",
    "ERAS",
    "DISPLACEMENTS",
    "ENTRIES",
    "RINGS",
    "CHAINS",
    "TARGETS",
    "SERVICE_NAMES",
    "TARGET_NAMES",
    "SERVICE_COUNTERS",
    "TARGET_COUNTERS",
    "OUTCOME_COUNTERS",
];

/// Which UDP flows a backend answers: pinned, so that a restart forgets none.
pub(crate) const ANSWERED: &str = "ANSWERED";

/// The flow table of a node that balances: pinned, so that a restart forgets no connection.
pub(crate) const FLOWS: &str = "FLOWS";

/// Names of the maps of BFD, which have a folder of their own: see [`crate::pins`].
pub(crate) const BFD_MAP_NAMES: [&str; 2] = [BFD_SESSIONS, BFD_SEEN];
pub(crate) const BFD_SESSIONS: &str = "BFD_SESSIONS";
pub(crate) const BFD_SEEN: &str = "BFD_SEEN";

/// The maps that are written value by value, but for the targets, which [`crate::next_hops`] keeps.
pub(crate) struct Maps {
    generation: Array<MapData, u32>,
    roots: Array<MapData, RootValue>,
    eras: Array<MapData, ErasValue>,
    chains: Array<MapData, ChainValue>,
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
    source: Box<dyn std::error::Error + Send + Sync>,
}

pub(crate) fn failed<E>(name: &'static str) -> impl FnOnce(E) -> MapFailure
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| MapFailure { name, source: source.into() }
}

/// Everything of a loaded object that is written to.
pub(crate) struct Taken {
    pub(crate) maps: Maps,
    pub(crate) directories: Directories,
    pub(crate) rings: Rings,
    pub(crate) targets: Targets,
}

impl Taken {
    /// Takes the maps out of a loaded object.
    pub(crate) fn of(ebpf: &mut Ebpf) -> Result<Self, MapFailure> {
        let maps = Maps {
            generation: take(ebpf, "GENERATION")?,
            roots: take(ebpf, "ROOTS")?,
            eras: take(ebpf, "ERAS")?,
            chains: take(ebpf, "CHAINS")?,
            service_names: take(ebpf, "SERVICE_NAMES")?,
            target_names: take(ebpf, "TARGET_NAMES")?,
            service_counters: take(ebpf, "SERVICE_COUNTERS")?,
            target_counters: take(ebpf, "TARGET_COUNTERS")?,
            outcome_counters: take(ebpf, "OUTCOME_COUNTERS")?,
        };
        let displacements = map_values(ebpf, "DISPLACEMENTS", 2 * DIRECTORY_BUCKETS)?;
        let directories =
            Directories::open(displacements, map_values(ebpf, "ENTRIES", 2 * DIRECTORY_PLACES)?);
        let rings = Rings::open(take_data(ebpf, "RINGS")?).map_err(failed("RINGS"))?;
        Ok(Self { maps, directories, rings, targets: Targets { map: take(ebpf, "TARGETS")? } })
    }
}

impl Maps {
    /// The generation in force; its low bit says which half of the tables.
    pub(crate) fn generation(&self) -> Result<u32, MapFailure> {
        self.generation.get(&0, 0).map_err(failed("GENERATION"))
    }

    /// The one store that puts a generation in force.
    pub(crate) fn flip(&mut self, generation: u32) -> Result<(), MapFailure> {
        self.generation.set(0, generation, 0).map_err(failed("GENERATION"))
    }

    pub(crate) fn read_root(&self, half: u32) -> Result<Root, MapFailure> {
        Ok(self.roots.get(&half, 0).map_err(failed("ROOTS"))?.0)
    }

    pub(crate) fn write_root(&mut self, half: u32, root: Root) -> Result<(), MapFailure> {
        self.roots.set(half, RootValue(root), 0).map_err(failed("ROOTS"))
    }

    pub(crate) fn read_eras(&self, half: u32) -> Result<Eras, MapFailure> {
        Ok(self.eras.get(&half, 0).map_err(failed("ERAS"))?.0)
    }

    pub(crate) fn write_eras(&mut self, half: u32, eras: Eras) -> Result<(), MapFailure> {
        self.eras.set(half, ErasValue(eras), 0).map_err(failed("ERAS"))
    }

    pub(crate) fn read_chain(&self, number: u16) -> Result<Chain, MapFailure> {
        Ok(self.chains.get(&u32::from(number), 0).map_err(failed("CHAINS"))?.0)
    }

    pub(crate) fn write_chain(&mut self, number: u16, chain: Chain) -> Result<(), MapFailure> {
        self.chains.set(u32::from(number), ChainValue(chain), 0).map_err(failed("CHAINS"))
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

/// Takes one map out of a loaded object.
pub(crate) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, MapFailure> {
    let map = ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
    map.and_then(T::try_from).map_err(failed(name))
}

fn take_data(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, MapFailure> {
    match ebpf.take_map(name) {
        Some(Map::Array(data) | Map::ArrayOfMaps(data)) => Ok(data),
        _ => Err(failed(name)(MapError::InvalidName { name: name.to_owned() })),
    }
}

pub(crate) fn map_values<T: Shared>(
    ebpf: &mut Ebpf,
    name: &'static str,
    len: usize,
) -> Result<Mapped<T>, MapFailure> {
    Mapped::of(take_data(ebpf, name)?.fd(), len).map_err(failed(name))
}
