//! Captures: arms the program for one service, and reads what it hands up.
//!
//! The maps are not pinned: a capture ends with the program that does it, at the latest when its
//! time is over, whatever becomes of this process.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, MapData, PerCpuArray, RingBuf},
};
use isocast_dataplane_common::{
    NO_BACKEND, Outcome, Slot,
    capture::{Control, NO_SLOT, Progress, RING_BYTES, Record, SNAP_LEN, UNDECIDED, armed_for},
};
use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use crate::{
    Action, BackendKey, ServiceKey,
    bpf::{ControlValue, ProgressValue},
    dataplane::Dataplane,
    explain::{Lookup as _, Member, further},
    maps::{MapFailure, failed, take},
};

/// Most records that wait to be read; with the ring full, the next is lost.
pub const CAPTURE_RECORDS: usize = RING_BYTES / (size_of::<Record>() + RING_HEADER);
/// What the kernel puts before each record of a ring.
const RING_HEADER: usize = 8;

/// The program's side of captures.
pub(crate) struct Tap {
    state: Mutex<State>,
}

struct State {
    armed: Array<MapData, u32>,
    control: Array<MapData, ControlValue>,
    progress: PerCpuArray<MapData, ProgressValue>,
    records: RingBuf<MapData>,
    /// Counts when the capture began.
    began: Losses,
}

/// What a capture did not get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that there was no room for.
    pub lost: u64,
    /// Packets beyond the rate.
    pub limited: u64,
}

/// What is captured, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// Number of the packet: the same in both of its frames.
    pub packet: u64,
    /// Interface that it arrived by.
    pub interface: u32,
    /// Low bit of the generation.
    pub half: u32,
    /// Slot of the flow.
    pub slot: Option<u32>,
    /// The slot's backend.
    pub current: Option<CapturedMember>,
    /// Who may have flows of the slot besides, in turn.
    pub further: Vec<CapturedMember>,
    /// The slot is tracked: the flow table says which of them has the flow.
    pub tracked: bool,
    /// What became of the packet; nothing of a frame as it arrived.
    pub verdict: Option<CapturedVerdict>,
    /// Bytes of the frame.
    pub len: u32,
    /// The first bytes of it.
    pub data: Vec<u8>,
}

/// A backend of a captured packet's slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedMember {
    /// Whose number it is now.
    pub key: Option<BackendKey>,
    /// Its tunnel address.
    pub address: IpAddr,
}

/// What became of a captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapturedVerdict {
    /// Dropped, and why.
    Dropped(Outcome),
    /// Anything else.
    Went(Action),
}

/// Why nothing can be captured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A map cannot be used.
    #[error(transparent)]
    Map(#[from] MapFailure),
    /// The service is not in force here.
    #[error("the service is not in force on this node")]
    NoService,
}

const ARMED: &str = ".data.capture";
const CONTROL: &str = "CAPTURE_CONTROL";
const PROGRESS: &str = "CAPTURE_PROGRESS";
const RECORDS: &str = "CAPTURE_RECORDS";

impl Tap {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, MapFailure> {
        let state = State {
            armed: take(ebpf, ARMED)?,
            control: take(ebpf, CONTROL)?,
            progress: take(ebpf, PROGRESS)?,
            records: take(ebpf, RECORDS)?,
            began: Losses::default(),
        };
        Ok(Self { state: Mutex::new(state) })
    }
}

impl State {
    fn losses(&self) -> Result<Losses, MapFailure> {
        let mut sum = Losses::default();
        for ProgressValue(Progress { lost, limited, .. }) in
            self.progress.get(&0, 0).map_err(failed(PROGRESS))?.iter()
        {
            sum.lost = sum.lost.wrapping_add(*lost);
            sum.limited = sum.limited.wrapping_add(*limited);
        }
        Ok(sum)
    }

    fn set(&mut self, one_in: u32, time: Duration) -> Result<(), MapFailure> {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = monotonic_ns().saturating_add(time);
        let control = ControlValue(Control { until_ns, one_in: u64::from(one_in.max(1)) });
        self.control.set(0, control, 0).map_err(failed(CONTROL))
    }
}

impl Dataplane {
    /// Begins to capture a service's packets, one in `one_in`, for this long. What another capture
    /// left unread is thrown away.
    ///
    /// # Errors
    /// The service is not in force, or the kernel refuses.
    pub fn capture(
        &self,
        service: &ServiceKey,
        one_in: u32,
        time: Duration,
    ) -> Result<(), CaptureError> {
        let number =
            *self.in_force().ledger.services.get(&service.0).ok_or(CaptureError::NoService)?;
        let mut state = self.tap().state.lock();
        state.armed.set(0, 0, 0).map_err(failed(ARMED))?;
        for _ in 0..CAPTURE_RECORDS {
            if state.records.next().is_none() {
                break;
            }
        }
        state.began = state.losses()?;
        state.set(one_in, time)?;
        state.armed.set(0, armed_for(number), 0).map_err(failed(ARMED))?;
        Ok(())
    }

    /// Keeps the capture going for this long from now, if its time is not over.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn prolong_capture(&self, one_in: u32, time: Duration) -> Result<(), CaptureError> {
        Ok(self.tap().state.lock().set(one_in, time)?)
    }

    /// Ends the capture; what was captured can still be read.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn end_capture(&self) -> Result<(), CaptureError> {
        Ok(self.tap().state.lock().armed.set(0, 0, 0).map_err(failed(ARMED))?)
    }

    /// The next records, no more than `most`, and what was lost since the capture began; whether it
    /// goes on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn captured(&self, most: usize) -> Result<(Vec<Captured>, Losses, bool), CaptureError> {
        let mut state = self.tap().state.lock();
        let mut records = Vec::new();
        // Many packets find the same few slots.
        let mut known = BTreeMap::new();
        while records.len() < most {
            let Some(item) = state.records.next() else { break };
            let Some(record) = read(&item) else { continue };
            let hosts = record.flow.hosts;
            let hosts = known.entry(hosts).or_insert_with(|| self.hosts(hosts));
            records.push(named(&record, hosts.clone()));
        }
        let (now, began) = (state.losses()?, state.began);
        let losses = Losses {
            lost: now.lost.wrapping_sub(began.lost),
            limited: now.limited.wrapping_sub(began.limited),
        };
        let goes_on = state.armed.get(&0, 0).map_err(failed(ARMED))? != 0;
        Ok((records, losses, goes_on))
    }

    /// The hosts of a slot: what its backend and its chain are now.
    fn hosts(&self, hosts: u32) -> Hosts {
        let tables = self.in_force();
        let [current, chain] =
            [hosts, hosts >> 16].map(|number| u16::try_from(number & 0xffff).unwrap_or(NO_BACKEND));
        let member = |it: Member| CapturedMember { key: it.key, address: it.address };
        let slot = Slot { current, chain };
        let (current, tracked) = (slot.backend(), slot.is_tracked());
        let current = tables.target(current).map(|_| member(Member::of(&tables, current)));
        let chain = tables.chain(chain).unwrap_or_default();
        let noted =
            [chain.former].into_iter().chain(chain.between).filter(|it| tracked && *it != 0);
        let noted = noted.map(|it| Member::of(&tables, it));
        let further = noted.chain(further(&tables, &chain)).map(member).collect();
        Hosts { current, further, tracked }
    }
}

/// The hosts of a slot.
#[derive(Clone)]
struct Hosts {
    current: Option<CapturedMember>,
    further: Vec<CapturedMember>,
    tracked: bool,
}

/// A record with names in place of numbers.
fn named(record: &Record, hosts: Hosts) -> Captured {
    let Hosts { current, further, tracked } = hosts;
    let Record { at_ns, packet, interface, len, captured, .. } = *record;
    let data: Vec<u8> = record.data.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let captured = (captured as usize).min(SNAP_LEN);
    let verdict = match (record.outcome, record.action) {
        (UNDECIDED, 0) => None,
        (UNDECIDED, action) => Some(CapturedVerdict::Went(Action::of(action))),
        (outcome, _) => {
            let reason = Outcome::ALL.iter().find(|it| **it as u32 == outcome);
            Some(CapturedVerdict::Dropped(*reason.unwrap_or(&Outcome::TablesInconsistent)))
        }
    };
    Captured {
        at_ns,
        packet,
        interface,
        half: record.flow.half,
        slot: Some(record.flow.slot).filter(|slot| *slot != NO_SLOT),
        current,
        further,
        tracked,
        verdict,
        len,
        data: data.get(..captured).unwrap_or_default().to_vec(),
    }
}

/// A record as it lies in the ring; nothing if it is not one.
fn read(bytes: &[u8]) -> Option<Record> {
    let mut words =
        bytes.chunks_exact(8).map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap_or_default()));
    let pair = |word: u64| {
        [word, word >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or_default())
    };
    let (at_ns, packet) = (words.next()?, words.next()?);
    let [interface, len] = pair(words.next()?);
    let [captured, outcome] = pair(words.next()?);
    let [action, reserved] = pair(words.next()?);
    let [service, half] = pair(words.next()?);
    let [slot, hosts] = pair(words.next()?);
    let mut data = [0; SNAP_LEN / 8];
    for word in &mut data {
        *word = words.next()?;
    }
    let flow = isocast_dataplane_common::capture::FlowPlace { service, half, slot, hosts };
    Some(Record { at_ns, packet, interface, len, captured, outcome, action, reserved, flow, data })
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_short_for_a_record_is_none() {
        assert!(read(&[0; size_of::<Record>()]).is_some());
        assert!(read(&[0; size_of::<Record>() - 1]).is_none());
        assert!(read(&[]).is_none());
    }
}
