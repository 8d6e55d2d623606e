//! What users saw, as it is recorded.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Server {
    /// Its datacenter.
    pub datacenter: String,
    /// Its name.
    pub backend: String,
}

/// A flow: it always has the same addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Position of its stream.
    pub stream: usize,
    /// The user's port.
    pub port: u16,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its flow.
    pub flow: FlowKey,
    /// When it was due.
    pub started: Instant,
    /// When it was answered or given up.
    pub ended: Instant,
    /// Who answered it right within the time limit; or what its user saw.
    pub answer: Result<Server, String>,
}

/// The unwanted end of a long-lived connection.
#[derive(Clone, Debug)]
pub struct Break {
    /// Position of its stream.
    pub stream: usize,
    /// When it was opened.
    pub opened: Instant,
    /// When it broke.
    pub at: Instant,
    /// Who served it.
    pub server: Server,
    /// What its user saw.
    pub reason: String,
    /// What its user saw is nothing: neither an answer nor an end.
    pub stalled: bool,
}

/// The record of one window.
#[derive(Debug, Default)]
pub struct Record {
    samples: Vec<Sample>,
    breaks: Vec<Break>,
    /// Who served each flow last, over all windows.
    last: HashMap<FlowKey, Server>,
    /// Requests in flight by number, with their start.
    open: BTreeMap<u64, Instant>,
    requests: u64,
    overflows: u64,
    skipped: usize,
    /// Long-lived connections by number, with their last answer.
    steady: BTreeMap<u64, Instant>,
}

impl Record {
    /// Begins a new window.
    pub(super) fn begin_window(&mut self) -> Instant {
        self.samples.clear();
        self.breaks.clear();
        self.overflows = 0;
        self.skipped = 0;
        Instant::now()
    }

    /// A request starts; its number is returned.
    pub(super) fn open(&mut self, started: Instant) -> u64 {
        let number = self.number();
        self.open.insert(number, started);
        number
    }

    /// The request of that number is over.
    pub(super) fn close(&mut self, number: u64, sample: Sample) {
        self.open.remove(&number);
        self.push(sample);
    }

    /// The request of that number could not be made: its flow is not free yet.
    pub(super) fn skip(&mut self, number: u64) {
        self.open.remove(&number);
        self.skipped += 1;
    }

    /// A request that was over as soon as it started.
    pub(super) fn push(&mut self, sample: Sample) {
        if let Ok(server) = &sample.answer {
            self.last.insert(sample.flow, server.clone());
        }
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(sample);
        } else {
            self.overflows += 1;
        }
    }

    /// A long-lived connection broke.
    pub(super) fn broke(&mut self, end: Break) {
        if self.breaks.len() < SAMPLES_MAX {
            self.breaks.push(end);
        } else {
            self.overflows += 1;
        }
    }

    /// A number for a new long-lived connection.
    pub(super) const fn number(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// A long-lived connection has had an answer.
    pub(super) fn steady_answered(&mut self, number: u64) {
        self.steady.insert(number, Instant::now());
    }

    /// A long-lived connection has ended.
    pub(super) fn steady_ended(&mut self, number: u64) {
        self.steady.remove(&number);
    }

    /// Requests of the window that are over.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Long-lived connections that broke in the window.
    #[must_use]
    pub fn breaks(&self) -> &[Break] {
        &self.breaks
    }

    /// Who served each flow last.
    #[must_use]
    pub const fn last(&self) -> &HashMap<FlowKey, Server> {
        &self.last
    }

    /// Long-lived connections that had an answer since `instant`.
    #[must_use]
    pub fn steady_since(&self, instant: Instant) -> usize {
        self.steady.values().filter(|answered| **answered >= instant).count()
    }

    /// Whether every request that started before `instant` is over.
    #[must_use]
    pub fn is_complete_until(&self, instant: Instant) -> bool {
        self.open.values().all(|started| *started >= instant)
    }

    /// Requests of the window that were not made.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Samples that did not fit; a window with any is not to be trusted.
    #[must_use]
    pub const fn overflows(&self) -> u64 {
        self.overflows
    }
}

/// Most samples of a window: half an hour at the demo's rate.
const SAMPLES_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(port: u16, answered: bool) -> Sample {
        let now = Instant::now();
        let server = Server { datacenter: "ams".into(), backend: "be-ams-1".into() };
        let flow = FlowKey { stream: 0, port };
        Sample {
            flow,
            started: now,
            ended: now,
            answer: answered.then_some(server).ok_or_else(String::new),
        }
    }

    #[test]
    fn a_window_is_complete_when_its_requests_are_over() {
        let mut record = Record::default();
        let start = record.begin_window();
        let number = record.open(start);
        let later = Instant::now();
        assert!(!record.is_complete_until(later));

        record.close(number, sample(1, true));

        assert!(record.is_complete_until(later));
        assert_eq!(record.samples().len(), 1);
    }

    #[test]
    fn the_last_server_of_a_flow_outlives_windows_and_failures() {
        let mut record = Record::default();
        record.push(sample(1, true));
        let _start = record.begin_window();

        record.push(sample(1, false));

        assert_eq!(record.last().get(&FlowKey { stream: 0, port: 1 }).unwrap().backend, "be-ams-1");
    }
}
