//! Origination safety: which of our own prefixes are announced, and why not the others.
//!
//! A prefix is announced while a lease on it is held, that is while every [`Gate`] is open. Gates
//! open and close for good reasons and for bad ones: a health checker that goes mad, a
//! configuration that lost its services and an operator's typo all look like "withdraw". So
//! [`decide()`] stands between the wish and the speaker:
//!
//! | what closed the gate | goes | unless |
//! |---|---|---|
//! | health, the export guard | at once, within [`Budget::WITHDRAWALS`] | it is the last announcer, or everything fails at once |
//! | data plane, a lapsed lease | at once | it is the last announcer |
//! | a drain | after its choreography ([`Drain`]) | it is the last announcer and nobody confirmed |
//! | an explicit removal | at once, within [`Budget::REMOVALS`] | – |
//! | nothing: the prefix is merely missing | never | – |
//!
//! What is refused is held: announced as before, with a reason ([`Hold`]) and a count. A prefix that
//! comes and goes is held down longer each time (RFC 4786 §4.4.2: stability of anycast routes is
//! the origin's task). [`OwnAnnouncements`] is the same caution for announcements that come one by
//! one, from an API or a file.
//!
//! Invariants: pure, `now` is an argument and nothing is read from outside; equal inputs decide
//! equally, in every edge of a datacenter; an empty set of wishes withdraws nothing; within a
//! window no more prefixes are missing by automation's doing than the budget says; the last
//! announcer of a prefix is never withdrawn by automation.

mod budget;
mod decide;
mod drain;
mod gate;
mod hysteresis;
mod lease;
mod ledger;
mod moment;
mod own;
#[cfg(test)]
mod tests;

pub use self::{
    budget::{Budget, Spending},
    decide::{Decision, Rules, Standing, WhyNot, decide},
    drain::{Drain, Stage, Traffic},
    gate::{Closed, Elsewhere, Gate, Hold, Wish},
    hysteresis::{Damper, Hysteresis},
    lease::Lease,
    ledger::Ledger,
    moment::Moment,
    own::{Author, OwnAnnouncements, Refusal},
};
