//! A synthetic packet through the program in force, compared with what the tables say.
//!
//! The packet enters by a test run: it is counted, and never on a wire. Counters are those of the
//! whole host, so other packets may add to them meanwhile; what the packet itself must have added
//! is looked for among the differences.

use std::collections::BTreeMap;

use aya::programs::ProgramError;
use isocast_dataplane_common::Outcome;

use crate::{
    counters::Counters,
    dataplane::Dataplane,
    explain::{Explained, Found, Question},
    maps::MapFailure,
    trace::Traced,
};

/// What a packet met, and what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What the tables say.
    pub explained: Explained,
    /// What the program did.
    pub traced: Traced,
    /// What was counted meanwhile.
    pub counted: BTreeMap<Outcome, u64>,
    /// Where the two disagree; empty: nowhere.
    pub differences: Vec<Difference>,
}

/// A disagreement of program and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The program decided otherwise.
    Action,
    /// The bytes that left are others.
    Bytes,
    /// What should have been counted was not.
    Outcome,
    /// The service did not count the packet.
    Service,
    /// The backend did not count the packet.
    Backend,
}

/// Why a packet could not be sent through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no uplink to arrive by.
    #[error("the node has no uplink")]
    NoUplink,
    /// The interface cannot be used.
    #[error("interface {interface}")]
    Interface {
        /// Which.
        interface: String,
        #[source]
        #[expect(missing_docs, reason = "the cause")]
        source: std::io::Error,
    },
    /// The counters cannot be read.
    #[error(transparent)]
    Counters(#[from] MapFailure),
    /// The kernel does not run the program.
    #[error("the program cannot be run")]
    Run(#[source] ProgramError),
}

impl Dataplane {
    /// Explains a packet that would arrive by the first uplink.
    ///
    /// # Errors
    /// A node without uplinks.
    pub fn explain_arrival(&self, question: &Question) -> Result<Explained, InspectError> {
        let interface = self.first_uplink().ok_or(InspectError::NoUplink)?;
        self.explain(question, interface).map_err(|source| {
            let interface = interface.to_owned();
            InspectError::Interface { interface, source }
        })
    }

    /// Runs a packet through the program as if it had arrived by the first uplink.
    ///
    /// # Errors
    /// A node without uplinks, or a kernel that refuses.
    pub fn inspect(&self, question: &Question) -> Result<Inspection, InspectError> {
        let interface = self.first_uplink().ok_or(InspectError::NoUplink)?;
        let explained = self.explain_arrival(question)?;
        let before = self.counters()?;
        let traced = self.trace(&question.frame(), interface, 1).map_err(InspectError::Run)?;
        let after = self.counters()?;
        let differences = differences(&explained, &traced, &before, &after);
        let counted = counted(&before, &after);
        Ok(Inspection { explained, traced, counted, differences })
    }
}

fn counted(before: &Counters, after: &Counters) -> BTreeMap<Outcome, u64> {
    let increase = |(&outcome, &now): (&Outcome, &u64)| {
        let then = before.outcomes.get(&outcome).copied().unwrap_or_default();
        (outcome, now.wrapping_sub(then))
    };
    after.outcomes.iter().map(increase).filter(|(_, increase)| *increase > 0).collect()
}

fn differences(
    explained: &Explained,
    traced: &Traced,
    before: &Counters,
    after: &Counters,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    if traced.action != explained.action {
        differences.push(Difference::Action);
    }
    if traced.packet != explained.frame {
        differences.push(Difference::Bytes);
    }
    let counted = counted(before, after);
    if explained.outcome.is_some_and(|outcome| !counted.contains_key(&outcome)) {
        differences.push(Difference::Outcome);
    }
    if let Found::Service { service, .. } = &explained.found
        && before.services.get(service) == after.services.get(service)
    {
        differences.push(Difference::Service);
    }
    if let Some(key) = explained.backend.as_ref().and_then(|backend| backend.key.as_ref())
        && matches!(explained.outcome, Some(Outcome::Encapsulated | Outcome::DeliveredHere))
        && before.backends.get(key) == after.backends.get(key)
    {
        differences.push(Difference::Backend);
    }
    differences
}
