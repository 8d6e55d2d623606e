//! What the demo found: for machines as JSON, for people as lines and a table.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use super::verdict::millis;
use crate::{inspect::columns, scenario::Limits, stream::Streamed};

/// The whole demo.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    scenario: String,
    topology: String,
    /// From `kubectl apply` of one more service to the first answer at a user; absent without a
    /// controller, or when there was none in time.
    apply_to_first_response_ms: Option<u64>,
    #[serde(skip)]
    apply_line: Option<String>,
    events: Vec<Outcome>,
    ok: bool,
}

/// One event.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    #[serde(skip)]
    pub(super) story: String,
    pub(super) requests: usize,
    pub(super) failed: usize,
    pub(super) failed_after_return: usize,
    pub(super) resets: usize,
    pub(super) stalled: usize,
    pub(super) lost: usize,
    pub(super) moved: usize,
    pub(super) longest_gap_ms: u64,
    pub(super) withdrawals: u64,
    pub(super) served_by: BTreeMap<String, usize>,
    pub(super) limit: LimitRow,
    pub(super) proof: Proof,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) programmed_after_ms: Option<u64>,
    /// SYNs of a flood that left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flooded: Option<u64>,
    /// Datagrams of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) streamed: Option<Streamed>,
    pub(super) problems: Vec<String>,
    pub(super) ok: bool,
}

/// Who served before the event, and who at the end of its fault (of its repair, without a fault).
#[derive(Clone, Debug, Serialize)]
pub(super) struct Proof {
    pub(super) backends_before: BTreeSet<String>,
    pub(super) backends_after: BTreeSet<String>,
}

/// An event's limits.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LimitRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_after_return: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longest_gap_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawals: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    programmed_after_ms: Option<u64>,
}

impl Report {
    pub(super) fn new(scenario: &str, topology: &str) -> Self {
        Self {
            scenario: scenario.to_owned(),
            topology: topology.to_owned(),
            apply_to_first_response_ms: None,
            apply_line: None,
            events: Vec::new(),
            ok: true,
        }
    }

    /// Judges the first answer after `kubectl apply`; returns a line of progress.
    pub(super) fn set_apply_to_first_response(
        &mut self,
        took: Option<Duration>,
        limit: Duration,
    ) -> String {
        self.apply_to_first_response_ms = took.map(millis);
        self.ok &= took.is_some_and(|took| took <= limit);
        let line = match self.apply_to_first_response_ms {
            Some(ms) => format!(
                "one more service: first answer {ms} ms after kubectl apply (limit {} ms)",
                limit.as_millis()
            ),
            None => "one more service: no answer after kubectl apply".to_owned(),
        };
        self.apply_line.insert(line).clone()
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.ok &= outcome.ok;
        self.events.push(outcome);
    }

    /// Whether every limit held.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.ok
    }

    /// The table at the end.
    #[must_use]
    pub fn table(&self) -> String {
        let header = [
            "EVENT",
            "RESULT",
            "REQUESTS",
            "FAILED",
            "LONGEST WAIT",
            "RESETS",
            "WITHDRAWN",
            "SERVED BY",
            "WHAT HAPPENED",
        ];
        let rows = self.events.iter().map(Outcome::row);
        let mut text = columns(std::iter::once(header.map(str::to_owned)).chain(rows).collect());
        if let Some(line) = &self.apply_line {
            text.push_str(line);
            text.push('\n');
        }
        for event in self.events.iter().filter(|event| !event.ok) {
            for problem in &event.problems {
                text.push_str(&format!("{}: {problem}\n", event.name));
            }
        }
        text.push_str(if self.ok { "every limit held\n" } else { "NOT every limit held\n" });
        text
    }
}

impl Outcome {
    /// One line of progress.
    pub(super) fn line(&self) -> String {
        let breaks = format!("{} lost, {} moved, {} reset", self.lost, self.moved, self.resets);
        let text = format!(
            "  {}: {} requests, {} failed, longest wait {} ms; long-lived connections: {breaks}",
            if self.ok { "ok" } else { "NOT OK" },
            self.requests,
            self.failed,
            self.longest_gap_ms,
        );
        let flooded = self.flooded.map(|sent| format!("\n    flooded with {sent} SYNs"));
        let streamed = self
            .streamed
            .map(|Streamed { sent, lost }| format!("\n    {lost} of {sent} datagrams lost"));
        let problems = self.problems.iter().map(|problem| format!("\n    {problem}"));
        std::iter::once(text).chain(flooded).chain(streamed).chain(problems).collect()
    }

    fn row(&self) -> [String; 9] {
        let limit = |limit: Option<String>| limit.map(|l| format!(" (≤ {l})")).unwrap_or_default();
        let gap_limit = limit(self.limit.longest_gap_ms.map(|ms| format!("{ms} ms")));
        let failed_limit = match (self.limit.failed, self.limit.failed_after_return) {
            (Some(all), _) => limit(Some(all.to_string())),
            (None, Some(after)) => {
                format!(", {} after return (≤ {after})", self.failed_after_return)
            }
            (None, None) => String::new(),
        };
        let served = self.served_by.iter().map(|(name, count)| format!("{name} {count}"));
        [
            self.name.clone(),
            if self.ok { "ok" } else { "NOT OK" }.to_owned(),
            self.requests.to_string(),
            format!("{}{failed_limit}", self.failed),
            format!("{} ms{gap_limit}", self.longest_gap_ms),
            self.resets.to_string(),
            self.withdrawals.to_string(),
            served.collect::<Vec<_>>().join(", "),
            self.story.clone(),
        ]
    }
}

impl From<Limits> for LimitRow {
    fn from(limits: Limits) -> Self {
        Self {
            failed: limits.failed,
            failed_after_return: limits.failed_after_return,
            resets: limits.resets,
            stalled: limits.stalled,
            longest_gap_ms: limits.longest_gap.map(millis),
            withdrawals: limits.withdrawals,
            lost_packets: limits.lost_packets,
            programmed_after_ms: limits.programmed_within.map(millis),
        }
    }
}
