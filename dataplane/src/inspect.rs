//! A synthetic packet through the program in force, compared with what the tables say.
//!
//! The packet enters by a test run: it is counted, and never on a wire. Counters are those of the
//! whole host, so other packets may add to them meanwhile; what the packet itself must have added
//! is looked for among the differences.
//!
//! The flow table notes what opens a connection, and a test run must not: what was noted is taken back.
//!
//! How full the buckets of ceilings were is in no table: it is taken from what the program did, and
//! everything else must follow from it.

use std::collections::BTreeMap;

use aya::programs::ProgramError;
use isocast_dataplane_common::{Outcome, encap::FLAG_COOKIE, policy::Refused};

use crate::{
    counters::Counters,
    dataplane::Dataplane,
    explain::{Explained, Found, Guard, Level, Note, Question, flow_id},
    maps::MapFailure,
    trace::{Action, Traced},
    tunnel::TunnelHeader,
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
    /// Explains a packet that would arrive by the first uplink, within all ceilings.
    ///
    /// # Errors
    /// A node without uplinks.
    pub fn explain_arrival(&self, question: &Question) -> Result<Explained, InspectError> {
        self.explain_at(question, Level::Within)
    }

    fn explain_at(&self, question: &Question, level: Level) -> Result<Explained, InspectError> {
        let interface = self.first_uplink().ok_or(InspectError::NoUplink)?;
        self.explain(question, interface, level).map_err(|source| {
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
        let mut explained = self.explain_arrival(question)?;
        let before = self.counters()?;
        let id = flow_id(question, &self.in_force().root.flow_key);
        let line = self.flow_table().read(id);
        let traced = self.trace(&question.frame(), interface, 1);
        if let Some(line) = line {
            self.flow_table().restore(id, line);
        }
        let traced = traced.map_err(InspectError::Run)?;
        let after = self.counters()?;
        let level = level(&explained, &traced, &before, &after);
        if level != Level::Within {
            explained = self.explain_at(question, level)?;
        }
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

/// How full the packet found the buckets, as far as what was done with it says so.
fn level(explained: &Explained, traced: &Traced, before: &Counters, after: &Counters) -> Level {
    let (Some(guard), Found::Service { service, .. }) = (&explained.guard, &explained.found) else {
        return Level::Within;
    };
    let is_let_in = guard.source.is_none_or(|source| source.allowed);
    let counted = |of: fn(&Refused) -> u64| {
        let of = |counters: &Counters| counters.refused.get(service).map(of);
        of(before) != of(after)
    };
    if traced.action == Action::Drop && is_let_in {
        // To a host without an agent, which would answer by no cookie.
        let over = before.outcomes.get(&Outcome::OverFlowRate);
        let is_unanswerable = after.outcomes.get(&Outcome::OverFlowRate) != over;
        let reasons = [
            (guard.may_challenge && is_unanswerable, Outcome::OverFlowRate),
            (guard.ceilings.is_some() && counted(|it| it.flows), Outcome::OverFlowRate),
            (guard.ceilings.is_some() && counted(|it| it.packets), Outcome::OverPacketRate),
            (guard.tenant.is_some() && counted(|it| it.tenant), Outcome::OverTenantRate),
        ];
        let over = reasons.into_iter().find(|(is_it, _)| *is_it);
        return over.map_or(Level::Within, |(_, reason)| Level::Over(reason));
    }
    let flags = TunnelHeader::read(&traced.packet).map_or(0, |header| header.flags);
    let is_challenged = match explained.outcome {
        Some(Outcome::DeliveredHere) => counted(|it| it.challenged),
        _ => flags & FLAG_COOKIE != 0,
    };
    if guard.may_challenge && is_challenged { Level::Challenged } else { Level::Within }
}

/// The packet was answered here, by a cookie of this host's own listener: what it holds is the
/// kernel's secret.
fn is_cookie(explained: &Explained, traced: &Traced, counted: &BTreeMap<Outcome, u64>) -> bool {
    let is_challenged = |guard: &Guard| guard.level == Level::Challenged;
    explained.guard.as_ref().is_some_and(is_challenged)
        && explained.outcome == Some(Outcome::DeliveredHere)
        && matches!(traced.action, Action::Transmit | Action::Redirect)
        && counted.contains_key(&Outcome::SynCookieSent)
}

fn differences(
    explained: &Explained,
    traced: &Traced,
    before: &Counters,
    after: &Counters,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let counted = counted(before, after);
    // Answers to what does not fit have a pace, which no table knows.
    if explained.outcome == Some(Outcome::TooBigAnswered)
        && counted.contains_key(&Outcome::AnswerLimited)
    {
        return differences;
    }
    let is_cookie = is_cookie(explained, traced, &counted);
    if traced.action != explained.action && !is_cookie {
        differences.push(Difference::Action);
    }
    if traced.packet != explained.frame && !is_cookie {
        differences.push(Difference::Bytes);
    }
    let note = explained.choice.as_ref().and_then(|choice| choice.tracking.as_ref());
    let note = note.and_then(|tracking| Note::outcome(&tracking.note));
    if explained.outcome.iter().chain(&note).any(|outcome| !counted.contains_key(outcome)) {
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
