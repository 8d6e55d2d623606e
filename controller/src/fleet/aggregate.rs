//! From what nodes say to the status of objects.
//!
//! Pure: takes `now` and returns the next status; writes nothing and remembers nothing. A node
//! that is silent is never spoken for: what depends on it is Unknown, and `Ready` is judged by the
//! nodes that are heard.

mod drain;
mod platform;
mod service;
#[cfg(test)]
mod tests;

use isocast_api::{
    agent::{EntryError, Nack, NodeStatus},
    meta::{Condition, ConditionStatus, Finding, set_condition},
};
use jiff::Timestamp;

pub use self::{
    drain::drain,
    platform::{backend_pool, bgp_peer, datacenter, node},
    service::service,
};

/// What is known of one node's agent.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Whether it is connected.
    pub presence: Presence,
    /// What it said of itself, unless that is too old to count.
    pub statement: Option<&'a NodeStatus>,
    /// How it stands with its newest configuration.
    pub progress: Progress<'a>,
}

/// Whether an agent is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Connected,
    /// It was, or has never been.
    Disconnected,
}

/// How an agent stands with its node's newest configuration.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// It is in force.
    Applied {
        /// Its revision.
        revision: u64,
    },
    /// The same, but for the entries that the agent refused.
    AppliedInPart {
        /// Its revision.
        revision: u64,
        /// What was refused.
        refused: &'a [EntryError],
    },
    /// It is on its way, or the agent is not there to take it.
    Pending,
    /// The agent refused it and goes on with what it had.
    Refused(&'a Nack),
}

impl Voice<'_> {
    /// Why the agent left this entry out of what it took.
    pub(super) fn refusal_of(&self, key: &str) -> Option<&EntryError> {
        match self.progress {
            Progress::AppliedInPart { refused, .. } => refused.iter().find(|it| it.key == key),
            Progress::Applied { .. } | Progress::Pending | Progress::Refused(_) => None,
        }
    }
}

/// Conditions that are being judged anew.
struct Judgement<'a> {
    conditions: &'a mut Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl Judgement<'_> {
    fn set(&mut self, finding: Finding) {
        set_condition(self.conditions, finding, self.generation, self.now);
    }
}

/// The worst of several answers: False, then Unknown, then True; Unknown if there are none.
fn worst(findings: &[Finding]) -> Option<&Finding> {
    let badness = |finding: &&Finding| match finding.status {
        ConditionStatus::False => 0,
        ConditionStatus::Unknown => 1,
        ConditionStatus::True => 2,
    };
    findings.iter().min_by_key(badness)
}

/// The sentence for a refused configuration.
fn refusal(node: &str, nack: &Nack) -> String {
    let why = nack.errors.first().map_or(nack.reason.as_str(), |error| error.message.as_str());
    format!("node {node} refused revision {}: {why}", nack.revision)
}
