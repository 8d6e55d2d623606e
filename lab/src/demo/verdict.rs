//! Judges an event by its limits. A pure function of what was observed.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::report::{Outcome, Proof};
use crate::{
    load::{Break, Expected, FlowKey, Record, Sample, longest_gap, metrics},
    scenario::{BreaksInRepair, Event},
    stream::Streamed,
};

/// What was seen of an event.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) record: &'a Record,
    pub(super) expected: &'a HashMap<FlowKey, Expected>,
    pub(super) from: Instant,
    pub(super) repair_from: Instant,
    pub(super) until: Instant,
    pub(super) backends_before: BTreeSet<String>,
    pub(super) backends_after: BTreeSet<String>,
    pub(super) withdrawals: u64,
    pub(super) programmed_after: Option<Duration>,
    pub(super) flooded: Option<u64>,
    pub(super) streamed: Option<Streamed>,
    pub(super) problems: Vec<String>,
}

/// Why a long-lived connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// What served it was killed.
    Lost,
    /// Anycast moved it to another datacenter.
    Moved,
    /// Nothing that explains it.
    Reset,
}

/// Judges `event`.
pub(super) fn judge(event: &Event, observed: Observed<'_>) -> Outcome {
    let Observed { record, from, repair_from, until, .. } = observed;
    let all = metrics(record.samples(), from, until);
    let in_repair = metrics(record.samples(), repair_from, until);
    let gap = longest_gap(record.samples(), observed.expected, from, until);
    let causes: Vec<_> =
        record.breaks().iter().map(|end| cause(event, end, from, repair_from)).collect();
    let count = |cause| causes.iter().filter(|other| **other == cause).count();
    let (lost, moved, resets) = (count(Cause::Lost), count(Cause::Moved), count(Cause::Reset));

    let limits = event.limits;
    let mut problems = observed.problems;
    let mut hold = |what: &str, seen: String, is_held: bool, limit: String| {
        if !is_held {
            problems.push(format!("{what}: {seen}, at most {limit}"));
        }
    };
    if let Some(limit) = limits.failed {
        hold("failed", all.failed.to_string(), all.failed <= limit, limit.to_string());
    }
    if let Some(limit) = limits.failed_after_return {
        let failed = in_repair.failed;
        hold("failed after return", failed.to_string(), failed <= limit, limit.to_string());
    }
    if let Some(limit) = limits.resets {
        hold("resets", resets.to_string(), resets <= limit, limit.to_string());
    }
    let stalled = record.breaks().iter().filter(|end| end.stalled).count();
    if let Some(limit) = limits.stalled {
        hold("stalled", stalled.to_string(), stalled <= limit, limit.to_string());
    }
    if let Some(limit) = limits.longest_gap {
        hold("longest gap", format!("{gap:?}"), gap <= limit, format!("{limit:?}"));
    }
    if let Some(limit) = limits.withdrawals {
        let seen = observed.withdrawals;
        hold("withdrawals", seen.to_string(), seen <= limit, limit.to_string());
    }
    if let Some(limit) = limits.lost_packets {
        let lost = observed.streamed.map(|it| it.lost);
        let is_held = lost.is_some_and(|lost| lost <= limit);
        hold("lost packets", format!("{lost:?}"), is_held, limit.to_string());
    }
    if let Some(limit) = limits.programmed_within {
        let seen = observed.programmed_after;
        let is_held = seen.is_some_and(|took| took <= limit);
        hold("programmed after", format!("{seen:?}"), is_held, format!("{limit:?}"));
    }
    if limits.failed.is_some_and(|limit| all.failed > limit) {
        let of_window = |sample: &&Sample| (from..until).contains(&sample.started);
        let samples = record.samples().iter().filter(of_window);
        problems.extend(samples.filter_map(|sample| failure(sample, from)).take(DETAILS_MAX));
    }
    if limits.resets.is_some_and(|limit| resets > limit) {
        let of_resets = record.breaks().iter().zip(&causes);
        let of_resets = of_resets.filter(|(_, cause)| **cause == Cause::Reset);
        problems.extend(of_resets.map(|(end, _)| description(end, from)).take(DETAILS_MAX));
    }
    if all.requests == 0 {
        problems.push("no requests were made".to_owned());
    }
    if record.skipped() > all.requests / SKIPPED_PART {
        problems.push(format!("{} requests were not made: ports in use", record.skipped()));
    }
    if record.overflows() > 0 {
        problems.push(format!("{} samples were not kept", record.overflows()));
    }

    Outcome {
        name: event.name.clone(),
        story: event.story.clone(),
        requests: all.requests,
        failed: all.failed,
        failed_after_return: in_repair.failed,
        resets,
        stalled,
        lost,
        moved,
        longest_gap_ms: millis(gap),
        withdrawals: observed.withdrawals,
        served_by: all.served_by,
        limit: limits.into(),
        proof: Proof {
            backends_before: observed.backends_before,
            backends_after: observed.backends_after,
        },
        programmed_after_ms: observed.programmed_after.map(millis),
        flooded: observed.flooded,
        streamed: observed.streamed,
        ok: problems.is_empty(),
        problems,
    }
}

fn failure(sample: &Sample, from: Instant) -> Option<String> {
    let why = sample.answer.as_ref().err()?;
    let started = sample.started.saturating_duration_since(from).as_secs_f64();
    Some(format!("the request of port {} at {started:.1} s: {why}", sample.flow.port))
}

fn description(end: &Break, from: Instant) -> String {
    let seconds = |at: Instant| at.saturating_duration_since(from).as_secs_f64();
    let age = end.at.saturating_duration_since(end.opened).as_secs_f64();
    format!(
        "a connection to {} broke at {:.1} s, {age:.1} s old: {}",
        end.server.backend,
        seconds(end.at),
        end.reason
    )
}

fn cause(event: &Event, end: &Break, from: Instant, repair_from: Instant) -> Cause {
    if end.opened < from && event.victims.contains(&end.server.backend) {
        return Cause::Lost;
    }
    match event.breaks_in_repair {
        BreaksInRepair::AreMoves if end.at >= repair_from => Cause::Moved,
        BreaksInRepair::AreMoves | BreaksInRepair::AreResets => Cause::Reset,
    }
}

/// One request of so many may find its flow's port in use by the connection before.
const SKIPPED_PART: usize = 100;
/// Most failed requests, and most broken connections, that are described.
const DETAILS_MAX: usize = 5;

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{load::Server, scenario::Scenario};

    fn event(name: &str) -> Event {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/main-job.yml");
        let scenario = Scenario::read(&path).unwrap();
        scenario.events.into_iter().find(|event| event.name == name).unwrap()
    }

    fn broke(backend: &str, opened: Instant, at: Instant) -> Break {
        let server = Server { datacenter: "ams".into(), backend: backend.into() };
        Break { stream: 0, opened, at, server, reason: String::new(), stalled: false }
    }

    #[test]
    fn a_connection_to_what_was_killed_is_lost_and_others_are_reset() {
        let from = Instant::now();
        let before = from.checked_sub(Duration::from_secs(1)).unwrap();
        let later = from + Duration::from_secs(1);
        let cause = |backend, opened| {
            cause(&event("backend_killed"), &broke(backend, opened, later), from, later)
        };

        assert_eq!(cause("be-ams-1", before), Cause::Lost);
        assert_eq!(cause("be-ams-2", before), Cause::Reset);
        assert_eq!(cause("be-ams-1", later), Cause::Reset);
    }

    #[test]
    fn a_connection_that_breaks_in_a_repair_was_moved_where_the_event_says_so() {
        let from = Instant::now();
        let later = from + Duration::from_secs(1);
        let end = broke("be-fra-1", from, later);
        let event = event("datacenter_back");
        let moving = Event { breaks_in_repair: BreaksInRepair::AreMoves, ..event.clone() };

        assert_eq!(cause(&moving, &end, from, from), Cause::Moved);
        assert_eq!(cause(&event, &end, from, from), Cause::Reset);
    }

    #[test]
    fn a_limit_that_is_not_held_is_named() {
        let from = Instant::now();
        let record = Record::default();
        let observed = Observed {
            record: &record,
            expected: &HashMap::new(),
            from,
            repair_from: from,
            until: from,
            backends_before: BTreeSet::new(),
            backends_after: BTreeSet::new(),
            withdrawals: 1,
            programmed_after: None,
            flooded: None,
            streamed: None,
            problems: Vec::new(),
        };

        let outcome = judge(&event("agent_killed"), observed);

        assert!(!outcome.ok);
        assert_eq!(outcome.problems, ["withdrawals: 1, at most 0", "no requests were made"]);
    }
}
