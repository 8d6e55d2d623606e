//! Keeps ceilings divided over the cores by use.
//!
//! A thread of its own, because it must go on while a generation is written; it sleeps while there
//! are no ceilings. What it last wrote stays in force when this process ends.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use aya::{
    maps::{MapData, PerCpuArray, PerCpuValues},
    util::{nr_cpus, online_cpus},
};
use isocast_dataplane_common::policy::{Level, Rate, Rates, Refused};
use parking_lot::{Condvar, Mutex};

use crate::{
    bpf::{LevelsValue, RatesValue, RefusedValue},
    maps::{MapFailure, failed},
    policy::Ceilings,
    rates::{Arming, Demand, INTERVAL, divide},
};

pub(crate) const RATES: &str = "RATES";
pub(crate) const LEVELS: &str = "LEVELS";
pub(crate) const SERVICE_REFUSED: &str = "SERVICE_REFUSED";

/// What one bucket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) ceilings: Ceilings,
    pub(crate) syn_cookies: bool,
}

/// The kernel's buckets.
pub(crate) struct BucketMaps {
    pub(crate) rates: PerCpuArray<MapData, RatesValue>,
    pub(crate) levels: PerCpuArray<MapData, LevelsValue>,
    pub(crate) refused: PerCpuArray<MapData, RefusedValue>,
}

/// The dividing thread's owner.
pub(crate) struct CeilingKeeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    maps: BucketMaps,
    cores: Cores,
    kept: BTreeMap<u32, Kept>,
    stopping: bool,
}

/// One bucket, as it was last divided.
struct Kept {
    bucket: Bucket,
    /// Per core, as of the last look.
    asked: Vec<[u64; 2]>,
    packets: Demand,
    flows: Demand,
    arming: Arming,
    written: Vec<Rates>,
}

/// The cores that packets may arrive at, and the kernel's tick.
struct Cores {
    /// By the kernel's number: whether it is online.
    online: Vec<bool>,
    tick: Duration,
}

impl CeilingKeeper {
    pub(crate) fn start(maps: BucketMaps) -> io::Result<Self> {
        let cores = Cores::read()?;
        let state = State { maps, cores, kept: BTreeMap::new(), stopping: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let thread = std::thread::Builder::new().name("ceilings".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Puts ceilings on buckets that have none.
    pub(crate) fn add(&self, buckets: &BTreeMap<u32, Bucket>) -> Result<(), MapFailure> {
        let mut state = self.shared.state.lock();
        for (&number, &bucket) in buckets {
            if !state.kept.contains_key(&number) {
                state.put(number, bucket)?;
            }
        }
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Replaces all ceilings. Those that stay keep their division.
    pub(crate) fn replace(&self, buckets: &BTreeMap<u32, Bucket>) -> Result<(), MapFailure> {
        let mut state = self.shared.state.lock();
        state.kept.retain(|number, _| buckets.contains_key(number));
        for (&number, &bucket) in buckets {
            if state.kept.get(&number).is_none_or(|kept| kept.bucket != bucket) {
                state.put(number, bucket)?;
            }
        }
        self.shared.changed.notify_one();
        Ok(())
    }

    /// The ceilings of a bucket; unknown until the first tables, if a predecessor put them on.
    pub(crate) fn of(&self, bucket: u32) -> Option<Ceilings> {
        self.shared.state.lock().kept.get(&bucket).map(|kept| kept.bucket.ceilings)
    }

    /// What a service kept out.
    pub(crate) fn refused(&self, service: u16) -> Result<Refused, MapFailure> {
        let state = self.shared.state.lock();
        let values = state.maps.refused.get(&u32::from(service), 0);
        let mut sum = Refused::default();
        for RefusedValue(value) in values.map_err(failed(SERVICE_REFUSED))?.iter() {
            sum.sources = sum.sources.wrapping_add(value.sources);
            sum.packets = sum.packets.wrapping_add(value.packets);
            sum.flows = sum.flows.wrapping_add(value.flows);
            sum.tenant = sum.tenant.wrapping_add(value.tenant);
            sum.challenged = sum.challenged.wrapping_add(value.challenged);
        }
        Ok(sum)
    }

    /// Forgets what a service number's former owner kept out.
    pub(crate) fn forget(&self, service: u16) -> Result<(), MapFailure> {
        let mut state = self.shared.state.lock();
        let zeros = vec![RefusedValue(Refused::default()); state.cores.online.len()];
        let Ok(zeros) = PerCpuValues::try_from(zeros) else { return Ok(()) };
        state.maps.refused.set(u32::from(service), zeros, 0).map_err(failed(SERVICE_REFUSED))
    }
}

impl Drop for CeilingKeeper {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A division is followed by at least so many times its own length of rest: thousands of ceilings
/// are divided less often, and never cost more than a small part of one core.
const REST: u32 = 20;

fn run(shared: &Shared) {
    let mut state = shared.state.lock();
    let mut last = Instant::now();
    let mut interval = INTERVAL;
    while !state.stopping {
        if state.kept.is_empty() {
            shared.changed.wait(&mut state);
            last = Instant::now();
            continue;
        }
        let rest = interval.saturating_sub(last.elapsed());
        if !rest.is_zero() {
            // Whoever wakes this thread early wants it to look again, not to divide early.
            shared.changed.wait_for(&mut state, rest);
            continue;
        }
        let elapsed = last.elapsed();
        last = Instant::now();
        state.divide_all(elapsed);
        interval = INTERVAL.max(last.elapsed().saturating_mul(REST));
    }
}

impl State {
    /// Begins to keep a bucket, equally divided.
    fn put(&mut self, number: u32, bucket: Bucket) -> Result<(), MapFailure> {
        let mut kept = Kept {
            bucket,
            asked: self.asked(number)?,
            packets: Demand::default(),
            flows: Demand::default(),
            arming: Arming::default(),
            written: Vec::new(),
        };
        let rates = kept.rates(&self.cores, false);
        self.write(number, &rates)?;
        kept.written = rates;
        self.kept.insert(number, kept);
        Ok(())
    }

    fn divide_all(&mut self, elapsed: Duration) {
        // A core that has come online since has its share from now on.
        match Cores::read() {
            Ok(cores) => self.cores = cores,
            Err(error) => tracing::warn!(%error, "cores cannot be counted"),
        }
        let mut kept = std::mem::take(&mut self.kept);
        for (&number, kept) in &mut kept {
            let outcome = self.asked(number).and_then(|asked| {
                let rates = kept.divide(&self.cores, asked, elapsed);
                if rates != kept.written {
                    self.write(number, &rates)?;
                    kept.written = rates;
                }
                Ok(())
            });
            if let Err(error) = outcome {
                tracing::warn!(bucket = number, %error, "a ceiling stays divided as it was");
            }
        }
        self.kept = kept;
    }

    /// How often tokens were asked for so far: of packets and of flows, core by core.
    fn asked(&self, number: u32) -> Result<Vec<[u64; 2]>, MapFailure> {
        let values = self.maps.levels.get(&number, 0).map_err(failed(LEVELS))?;
        let of = |level: &Level| level.asked;
        Ok(values.iter().map(|LevelsValue(it)| [of(&it.packets), of(&it.flows)]).collect())
    }

    fn write(&mut self, number: u32, rates: &[Rates]) -> Result<(), MapFailure> {
        let values: Vec<_> = rates.iter().map(|rates| RatesValue(*rates)).collect();
        let Ok(values) = PerCpuValues::try_from(values) else { return Ok(()) };
        self.maps.rates.set(number, values, 0).map_err(failed(RATES))
    }
}

impl Kept {
    fn divide(&mut self, cores: &Cores, asked: Vec<[u64; 2]>, elapsed: Duration) -> Vec<Rates> {
        let since = |kind: usize| -> Vec<u64> {
            let of = |counts: &[u64; 2]| counts.get(kind).copied().unwrap_or_default();
            let pairs = asked.iter().zip(&self.asked);
            pairs.map(|(now, then)| of(now).wrapping_sub(of(then))).collect()
        };
        let (packets, flows) = (since(0), since(1));
        self.packets.record(&cores.online_only(&packets));
        self.flows.record(&cores.online_only(&flows));
        self.asked = asked;
        let armed = match self.bucket.ceilings.new_flows_per_second {
            Some(ceiling) if self.bucket.syn_cookies => {
                self.arming.record(flows.iter().sum(), ceiling, elapsed)
            }
            _ => false,
        };
        self.rates(cores, armed)
    }

    fn rates(&self, cores: &Cores, armed: bool) -> Vec<Rates> {
        let Ceilings { packets_per_second, new_flows_per_second } = self.bucket.ceilings;
        let packets = cores.share_out(packets_per_second, &self.packets);
        let flows = cores.share_out(new_flows_per_second, &self.flows);
        let both = packets.into_iter().zip(flows);
        both.map(|(packets, flows)| Rates { packets, flows, armed: armed.into() }).collect()
    }
}

impl Cores {
    fn read() -> io::Result<Self> {
        let possible = nr_cpus().map_err(|(_, error)| error)?;
        let mut online = vec![false; possible];
        for core in online_cpus().map_err(|(_, error)| error)? {
            if let Some(is_online) = online.get_mut(core as usize) {
                *is_online = true;
            }
        }
        Ok(Self { online, tick: tick()? })
    }

    fn online_only(&self, values: &[u64]) -> Vec<u64> {
        let pairs = values.iter().zip(&self.online);
        pairs.filter(|(_, is_online)| **is_online).map(|(value, _)| *value).collect()
    }

    /// Rates by the kernel's number of the core.
    fn share_out(&self, per_second: Option<u32>, demand: &Demand) -> Vec<Rate> {
        let Some(per_second) = per_second else { return vec![Rate::NONE; self.online.len()] };
        let cores = self.online.iter().filter(|is_online| **is_online).count();
        let none = vec![0; cores];
        let demand = if demand.per_core().len() == cores { demand.per_core() } else { &none };
        let mut shares = divide(per_second, demand, self.tick).into_iter();
        let absent = Rate { per_tick: 0, burst: 0 };
        let of = |is_online: &bool| {
            if *is_online { shares.next().unwrap_or(absent) } else { absent }
        };
        self.online.iter().map(of).collect()
    }
}

/// The kernel's tick: what the resolution of its coarse clock is.
pub(crate) fn tick() -> io::Result<Duration> {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC_COARSE;
    Ok(nix::time::clock_getres(clock)?.into())
}
