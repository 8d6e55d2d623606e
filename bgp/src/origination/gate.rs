//! [`Gate`], [`Wish`], [`Hold`]: the words in which origination is wished for and explained.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::drain::Stage;

/// What must be so for a prefix to be announced. The order is that in which a closed gate explains
/// why there is no announcement: what an operator wanted first, then what is nearest to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum Gate {
    /// Nobody removed it explicitly.
    Removal,
    /// It is not drained.
    Drain,
    /// The export guard lets it pass.
    Announceable,
    /// The data plane's tables with it are in force.
    DataPlane,
    /// The gate-keeper is alive.
    Lease,
    /// Enough backends have been judged to say how many are healthy.
    Judged,
    /// Enough healthy backends stand behind it.
    Backends,
}

/// Gates that are closed.
pub type Closed = BTreeSet<Gate>;

/// What is known of one prefix that this node could announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Gates that are closed; with none closed it should be announced.
    pub closed: Closed,
    /// Who else announces it.
    pub elsewhere: Elsewhere,
    /// How far a drain has come, if there is one.
    pub drain: Option<Stage>,
    /// Whether an operator accepts that the drain takes the last announcer.
    pub drain_confirmed: bool,
}

/// Who else announces a prefix, as the controller said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Elsewhere {
    /// Others announce it, or none do.
    Known {
        /// How many other nodes announce it.
        others: u32,
        /// Whether this node is the one that must not go: of several that fail at the same
        /// moment, each would count on the others.
        keeper: bool,
    },
    /// Nobody ever said.
    #[default]
    Unknown,
}

/// Why a prefix is announced although a gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum Hold {
    /// It is the last announcer that is known.
    LastAnnouncer,
    /// It is missing from the configuration and nobody said that it was removed.
    Missing,
    /// More was removed at once than the removal budget allows.
    RemovalBudget,
    /// The gate closed a moment ago, and may open again.
    Settling,
    /// Everything fails at the same time, which is more likely one fault than many.
    SharedCause,
    /// Nobody has asked its backends yet: they are new to this node.
    Unjudged,
    /// More would go at once than the withdrawal budget allows.
    WithdrawalBudget,
}

impl Gate {
    /// Every one, in their order.
    pub const ALL: [Self; 7] = [
        Self::Removal,
        Self::Drain,
        Self::Announceable,
        Self::DataPlane,
        Self::Lease,
        Self::Judged,
        Self::Backends,
    ];

    /// A CamelCase reason for a condition when the gate is closed.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Announceable => "NotAnnounceable",
            Self::Backends => "NoHealthyBackend",
            Self::DataPlane => "DataPlaneNotReady",
            Self::Drain => "Drained",
            Self::Judged => "HealthUnknown",
            Self::Lease => "LeaseLapsed",
            Self::Removal => "Removed",
        }
    }

    /// A sentence for the prefix's owner when the gate is closed.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Announceable => "no address grant covers it",
            Self::Backends => "nothing is announced without a backend",
            Self::DataPlane => "the data plane does not have it in force",
            Self::Drain => "it was drained",
            Self::Judged => "its backends are not judged yet",
            Self::Lease => "a gate-keeper stalled and its lease lapsed",
            Self::Removal => "it was removed",
        }
    }
}

impl Elsewhere {
    /// Whether this node is the last that is known to announce.
    #[must_use]
    pub const fn is_last_here(self) -> bool {
        match self {
            Self::Known { others, keeper } => keeper || others == 0,
            Self::Unknown => false,
        }
    }
}

impl Hold {
    /// Every one, for metrics.
    pub const ALL: [Self; 7] = [
        Self::LastAnnouncer,
        Self::Missing,
        Self::RemovalBudget,
        Self::Settling,
        Self::SharedCause,
        Self::Unjudged,
        Self::WithdrawalBudget,
    ];

    /// A CamelCase reason for a condition.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::LastAnnouncer => "LastAnnouncer",
            Self::Missing => "MissingFromConfiguration",
            Self::RemovalBudget => "HeldByRemovalBudget",
            Self::Settling => "Settling",
            Self::SharedCause => "HeldBySharedCause",
            Self::Unjudged => "HeldUntilJudged",
            Self::WithdrawalBudget => "HeldByWithdrawalBudget",
        }
    }

    /// A sentence for the prefix's owner.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::LastAnnouncer => "kept although it should go: no other node announces it",
            Self::Missing => {
                "kept although it is missing from the configuration: nobody removed it"
            }
            Self::RemovalBudget => "kept for now: too much was removed at once",
            Self::Settling => "kept for a moment: it may recover",
            Self::SharedCause => "kept although every check fails: that is more likely the checker",
            Self::Unjudged => "kept for a moment: its backends are not judged yet",
            Self::WithdrawalBudget => "kept for now: too much would be withdrawn at once",
        }
    }

    /// Whether somebody should look: a refusal, not a pause.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::Settling | Self::Unjudged)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}
