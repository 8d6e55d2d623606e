//! Figures over recorded samples. Pure functions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::record::{FlowKey, Sample, Server};

/// Where a flow is expected to be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expected {
    /// The edge host its packets go to.
    pub edge: Option<String>,
    /// The backend that answered it last.
    pub backend: Option<String>,
}

/// Figures of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Requests.
    pub requests: usize,
    /// Those without a right answer in time.
    pub failed: usize,
    /// Right answers by datacenter.
    pub served_by: BTreeMap<String, usize>,
    /// Backends that answered.
    pub backends: BTreeSet<String>,
}

/// Counts the samples that started in `from..until`.
#[must_use]
pub fn metrics(samples: &[Sample], from: Instant, until: Instant) -> Metrics {
    let mut metrics = Metrics::default();
    for sample in samples.iter().filter(|sample| (from..until).contains(&sample.started)) {
        metrics.requests += 1;
        match &sample.answer {
            Ok(server) => {
                *metrics.served_by.entry(server.datacenter.clone()).or_default() += 1;
                metrics.backends.insert(server.backend.clone());
            }
            Err(_) => metrics.failed += 1,
        }
    }
    metrics
}

/// Where each flow is expected: its edge as told, its backend as it was served last.
#[must_use]
pub fn expected_groups<S: std::hash::BuildHasher>(
    edges: &HashMap<FlowKey, String, S>,
    last: &HashMap<FlowKey, Server>,
) -> HashMap<FlowKey, Expected> {
    let mut groups: HashMap<FlowKey, Expected> = HashMap::new();
    for (flow, edge) in edges {
        groups.entry(*flow).or_default().edge = Some(edge.clone());
    }
    for (flow, server) in last {
        groups.entry(*flow).or_default().backend = Some(server.backend.clone());
    }
    groups
}

/// The longest wait of any group of users: over each (client, family, edge and backend that were
/// expected to serve), from the start of the first request that failed or was [`SLOW`] to the
/// first success after it, of the requests that started in `from..until`; what never succeeds
/// waits until `until`.
#[must_use]
pub fn longest_gap(
    samples: &[Sample],
    expected: &HashMap<FlowKey, Expected>,
    from: Instant,
    until: Instant,
) -> Duration {
    let mut groups: BTreeMap<(usize, Option<&Expected>), Vec<&Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| (from..until).contains(&sample.started)) {
        let group = (sample.flow.stream, expected.get(&sample.flow));
        groups.entry(group).or_default().push(sample);
    }
    groups.into_values().map(|group| gap_of_group(group, until)).max().unwrap_or_default()
}

fn gap_of_group(mut samples: Vec<&Sample>, until: Instant) -> Duration {
    samples.sort_by_key(|sample| sample.started);
    let mut longest = Duration::ZERO;
    let mut closed_at: Option<Instant> = None;
    for (position, sample) in samples.iter().enumerate() {
        let is_covered = closed_at.is_some_and(|closed| sample.started < closed);
        if is_covered || !is_troubled(sample) {
            continue;
        }
        let later = samples.iter().skip(position + 1).filter(|s| s.answer.is_ok());
        let end = later.map(|success| success.ended).min().unwrap_or(until);
        closed_at = Some(end);
        longest = longest.max(end.saturating_duration_since(sample.started));
    }
    longest
}

fn is_troubled(sample: &Sample) -> bool {
    sample.answer.is_err() || sample.ended.saturating_duration_since(sample.started) > SLOW
}

/// A request that took longer is no success of a healthy service.
pub const SLOW: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    /// A request on `port` from `start` to `end` ms.
    fn sample(base: Instant, port: u16, start: u64, end: u64, answered: bool) -> Sample {
        let at = |ms| base + Duration::from_millis(ms);
        let server = Server { datacenter: "ams".into(), backend: "be-ams-1".into() };
        let flow = FlowKey { stream: 0, port };
        Sample {
            flow,
            started: at(start),
            ended: at(end),
            answer: answered.then_some(server).ok_or_else(String::new),
        }
    }

    fn expected(ports: &[(u16, &str)]) -> HashMap<FlowKey, Expected> {
        let group = |edge: &str| Expected { edge: Some(edge.into()), backend: None };
        ports.iter().map(|(port, edge)| (FlowKey { stream: 0, port: *port }, group(edge))).collect()
    }

    fn gap_ms(samples: &[Sample], groups: &[(u16, &str)], base: Instant) -> u128 {
        longest_gap(samples, &expected(groups), base, base + Duration::from_secs(10)).as_millis()
    }

    #[test]
    fn a_gap_runs_from_the_first_failure_to_the_first_success_after() {
        let base = Instant::now();
        let samples = [
            sample(base, 1, 0, 1, true),
            sample(base, 1, 100, 2100, false),
            sample(base, 1, 200, 2200, false),
            sample(base, 1, 900, 902, true),
            sample(base, 1, 1000, 1001, true),
        ];

        assert_eq!(gap_ms(&samples, &[(1, "e1")], base), 802);
    }

    #[test]
    fn users_of_the_living_edge_do_not_hide_those_of_the_dead_one() {
        let base = Instant::now();
        let samples = [
            sample(base, 1, 100, 2100, false),
            sample(base, 2, 110, 111, true),
            sample(base, 1, 3000, 3001, true),
        ];

        assert_eq!(gap_ms(&samples, &[(1, "e1"), (2, "e2")], base), 2901);
        assert_eq!(gap_ms(&samples, &[(1, "e1"), (2, "e1")], base), 11);
    }

    #[test]
    fn a_slow_success_opens_a_gap_and_a_fast_one_does_not() {
        let base = Instant::now();
        let slow = [sample(base, 1, 0, 400, true), sample(base, 1, 500, 501, true)];
        let fast = [sample(base, 1, 0, 300, true), sample(base, 1, 500, 501, true)];

        assert_eq!(gap_ms(&slow, &[(1, "e1")], base), 501);
        assert_eq!(gap_ms(&fast, &[(1, "e1")], base), 0);
    }

    #[test]
    fn what_never_comes_back_waits_until_the_end() {
        let base = Instant::now();

        assert_eq!(gap_ms(&[sample(base, 1, 1000, 3000, false)], &[], base), 9000);
    }

    #[test]
    fn only_requests_that_start_in_the_window_count() {
        let base = Instant::now();
        let samples = [
            sample(base, 1, 0, 1, true),
            sample(base, 1, 10, 2010, false),
            sample(base, 1, 20, 21, true),
        ];

        let counted = metrics(&samples, base, base + Duration::from_millis(20));

        assert_eq!((counted.requests, counted.failed), (2, 1));
        assert_eq!(counted.served_by["ams"], 1);
    }
}
