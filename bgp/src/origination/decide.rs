//! [`decide()`]: from wishes to announcements.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::ledger::Entry;
use super::{Budget, Gate, Hold, Hysteresis, Ledger, Moment, Stage, Wish};

/// The numbers that decide. The defaults are the interlocks that are always on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For what automation withdraws.
    pub withdrawals: Budget,
    /// For what people remove.
    pub removals: Budget,
    /// For what comes and goes.
    pub hysteresis: Hysteresis,
    /// If so many percent of all prefixes fail within a window, and more than the budget, they
    /// are taken to have one cause.
    pub shared_share_percent: usize,
}

/// What is to be announced, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Every prefix that is wished for or announced.
    pub standings: BTreeMap<IpNet, Standing>,
    /// Withdrawals that were refused by this decision and not by the one before.
    pub newly_held: Vec<(IpNet, Hold)>,
    /// To be handed to the next decision.
    pub ledger: Ledger,
    /// When to decide again even if nothing happens.
    pub wake_at: Option<Moment>,
}

/// How it stands with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Announced.
    Announced {
        /// With GRACEFUL_SHUTDOWN (RFC 8326).
        graceful_shutdown: bool,
    },
    /// Announced although it should not be.
    Held {
        /// Why.
        hold: Hold,
        /// With GRACEFUL_SHUTDOWN (RFC 8326).
        graceful_shutdown: bool,
    },
    /// Not announced.
    NotAnnounced(WhyNot),
}

/// Why a prefix is not announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// A gate is closed; of several, the first that explains it.
    Closed(Gate),
    /// It came and went too often.
    HeldUp {
        /// From then on it may be announced.
        until: Moment,
    },
}

/// Decides what is announced. Deterministic: prefixes are taken in their order.
#[must_use]
pub fn decide(
    wishes: &BTreeMap<IpNet, Wish>,
    rules: &Rules,
    ledger: Ledger,
    now: Moment,
) -> Decision {
    let mut deciding = Deciding::new(wishes, rules, ledger, now);
    deciding.missing();
    for (prefix, wish) in wishes {
        if deciding.is_announced(prefix) {
            deciding.announced(*prefix, wish);
        } else {
            deciding.not_announced(*prefix, wish);
        }
    }
    deciding.failing();
    deciding.finish()
}

struct Deciding<'a> {
    wishes: &'a BTreeMap<IpNet, Wish>,
    rules: &'a Rules,
    now: Moment,
    ledger: Ledger,
    standings: BTreeMap<IpNet, Standing>,
    newly_held: Vec<(IpNet, Hold)>,
    wake_at: Option<Moment>,
    /// Announced prefixes that automation wants withdrawn, to be judged together.
    failing: Vec<IpNet>,
    /// How many are announced, before this decision and during it.
    count: usize,
}

impl<'a> Deciding<'a> {
    fn new(
        wishes: &'a BTreeMap<IpNet, Wish>,
        rules: &'a Rules,
        mut ledger: Ledger,
        now: Moment,
    ) -> Self {
        ledger.withdrawals.prune(&rules.withdrawals, now);
        ledger.removals.prune(&rules.removals, now);
        let count = ledger.announced().count();
        let (standings, newly_held, failing) = <_>::default();
        Self { wishes, rules, now, ledger, standings, newly_held, wake_at: None, failing, count }
    }

    fn is_announced(&self, prefix: &IpNet) -> bool {
        self.ledger.is_announced(prefix)
    }

    /// What is announced and not even wished for stays: absence is no wish.
    fn missing(&mut self) {
        let announced: Vec<_> = self.ledger.announced().copied().collect();
        for prefix in announced.into_iter().filter(|prefix| !self.wishes.contains_key(prefix)) {
            self.hold(prefix, Hold::Missing);
        }
    }

    fn not_announced(&mut self, prefix: IpNet, wish: &Wish) {
        let now = self.now;
        let entry = self.ledger.prefixes.entry(prefix).or_default();
        entry.hold = None;
        if let Some(gate) = wish.closed.first() {
            entry.damper.agree();
            let why = WhyNot::Closed(*gate);
            self.standings.insert(prefix, Standing::NotAnnounced(why));
        } else if let Err(until) = entry.damper.rise(&self.rules.hysteresis, now) {
            let why = WhyNot::HeldUp { until };
            self.standings.insert(prefix, Standing::NotAnnounced(why));
            self.wake(Some(until));
        } else {
            entry.announced = true;
            entry.damper.announced(now);
            self.count = self.count.saturating_add(1);
            self.keep(prefix, wish);
        }
    }

    fn announced(&mut self, prefix: IpNet, wish: &Wish) {
        let is_closed = |gate| wish.closed.contains(&gate);
        let is_last = wish.elsewhere.is_last_here();
        if is_closed(Gate::Backends) {
            let now = self.now;
            self.entry(prefix).failing_since.get_or_insert(now);
        }
        if wish.closed.is_empty() {
            self.entry(prefix).damper.agree();
            self.keep(prefix, wish);
        } else if is_closed(Gate::Removal) {
            self.remove(prefix, wish);
        } else if wish.closed.iter().all(|gate| *gate == Gate::Judged) {
            // Not to know is no reason to change anything.
            self.hold(prefix, Hold::Unjudged);
        } else if is_last && !(is_closed(Gate::Drain) && wish.drain_confirmed) {
            // I2: never by automation, nor by a drain that nobody knew would take the last one.
            self.hold(prefix, Hold::LastAnnouncer);
        } else if is_closed(Gate::Drain) {
            self.withdraw(prefix, wish, Withdrawal::Wanted);
        } else if is_closed(Gate::DataPlane) || is_closed(Gate::Lease) {
            // Nothing forwards, or nobody knows whether anything does: no budget for that.
            self.withdraw(prefix, wish, Withdrawal::Failed);
        } else if let Err(until) = self.fall(prefix) {
            self.hold(prefix, Hold::Settling);
            self.wake(Some(until));
        } else {
            self.failing.push(prefix);
        }
    }

    /// What automation wants withdrawn, as far as the budget goes.
    fn failing(&mut self) {
        let failing = std::mem::take(&mut self.failing);
        if self.is_shared(&failing) {
            failing.into_iter().for_each(|prefix| self.hold(prefix, Hold::SharedCause));
            return;
        }
        let mut is_refused = false;
        for prefix in failing {
            let Some(wish) = self.wishes.get(&prefix) else { continue };
            if self.ledger.withdrawals.left(&self.rules.withdrawals, self.count) > 0 {
                self.ledger.withdrawals.spend(prefix, self.now);
                self.withdraw(prefix, wish, Withdrawal::Failed);
            } else {
                is_refused = true;
                self.hold(prefix, Hold::WithdrawalBudget);
            }
        }
        if is_refused {
            self.wake(self.ledger.withdrawals.relief(&self.rules.withdrawals));
        }
    }

    /// Whether what fails now is part of nearly everything failing within one window, and of more
    /// than the budget: one fault that everything shares, such as the checker's own.
    fn is_shared(&self, failing: &[IpNet]) -> bool {
        let since = |prefix: &IpNet| self.ledger.prefixes.get(prefix)?.failing_since;
        let Some(first) = failing.iter().filter_map(since).min() else { return false };
        let earliest = first.before(self.rules.withdrawals.window);
        let is_with_them = |prefix: &IpNet| since(prefix).is_some_and(|at| at >= earliest);
        let (mut together, mut well) = (0_usize, 0_usize);
        for (prefix, wish) in self.wishes {
            if wish.closed.is_empty() {
                well = well.saturating_add(1);
            } else if is_with_them(prefix) {
                together = together.saturating_add(1);
            }
        }
        let all = together.saturating_add(well);
        let share = all.saturating_mul(self.rules.shared_share_percent).div_ceil(100);
        together > self.rules.withdrawals.limit(all) && together >= share
    }

    fn remove(&mut self, prefix: IpNet, wish: &Wish) {
        if self.ledger.removals.left(&self.rules.removals, self.count) > 0 {
            self.ledger.removals.spend(prefix, self.now);
            self.withdraw(prefix, wish, Withdrawal::Wanted);
        } else {
            self.hold(prefix, Hold::RemovalBudget);
            self.wake(self.ledger.removals.relief(&self.rules.removals));
        }
    }

    fn keep(&mut self, prefix: IpNet, wish: &Wish) {
        let entry = self.entry(prefix);
        (entry.hold, entry.failing_since) = (None, None);
        self.refund(&prefix);
        let graceful_shutdown = wish.drain.is_some();
        self.standings.insert(prefix, Standing::Announced { graceful_shutdown });
    }

    fn hold(&mut self, prefix: IpNet, hold: Hold) {
        let entry = self.entry(prefix);
        if entry.hold.replace(hold) != Some(hold) {
            self.newly_held.push((prefix, hold));
        }
        let wish = self.wishes.get(&prefix);
        let graceful_shutdown = wish.is_some_and(|wish| wish.drain.is_some());
        self.standings.insert(prefix, Standing::Held { hold, graceful_shutdown });
    }

    fn withdraw(&mut self, prefix: IpNet, wish: &Wish, withdrawal: Withdrawal) {
        let (now, rules) = (self.now, &self.rules.hysteresis);
        let entry = self.ledger.prefixes.entry(prefix).or_default();
        (entry.announced, entry.hold) = (false, None);
        if withdrawal == Withdrawal::Failed {
            entry.damper.withdrawn(rules, now);
        }
        self.count = self.count.saturating_sub(1);
        let gate = wish.closed.first().copied().unwrap_or(Gate::Backends);
        self.standings.insert(prefix, Standing::NotAnnounced(WhyNot::Closed(gate)));
    }

    fn fall(&mut self, prefix: IpNet) -> Result<(), Moment> {
        let (now, rules) = (self.now, &self.rules.hysteresis);
        self.ledger.prefixes.entry(prefix).or_default().damper.fall(rules, now)
    }

    fn refund(&mut self, prefix: &IpNet) {
        self.ledger.withdrawals.refund(prefix);
        self.ledger.removals.refund(prefix);
    }

    fn entry(&mut self, prefix: IpNet) -> &mut Entry {
        self.ledger.prefixes.entry(prefix).or_default()
    }

    fn wake(&mut self, at: Option<Moment>) {
        self.wake_at = [self.wake_at, at].into_iter().flatten().min();
    }

    fn finish(mut self) -> Decision {
        let (wishes, rules, now) = (self.wishes, &self.rules.hysteresis, self.now);
        // A prefix that nobody wishes for and that is not announced has a past only while it could
        // still be held up by it.
        self.ledger.prefixes.retain(|prefix, entry| {
            entry.announced || wishes.contains_key(prefix) || !entry.damper.is_stable(rules, now)
        });
        let Self { standings, newly_held, ledger, wake_at, .. } = self;
        Decision { standings, newly_held, ledger, wake_at }
    }
}

/// Why a prefix is withdrawn, as far as its own stability is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Withdrawal {
    /// Something behind it failed.
    Failed,
    /// Somebody wanted it.
    Wanted,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            withdrawals: Budget::WITHDRAWALS,
            removals: Budget::REMOVALS,
            hysteresis: Hysteresis::default(),
            shared_share_percent: 90,
        }
    }
}

impl Standing {
    /// Whether peers are told.
    #[must_use]
    pub const fn is_announced(&self) -> bool {
        !matches!(self, Self::NotAnnounced(_))
    }

    /// Whether peers are told that it is going (RFC 8326).
    #[must_use]
    pub const fn graceful_shutdown(&self) -> bool {
        match self {
            Self::Announced { graceful_shutdown } | Self::Held { graceful_shutdown, .. } => {
                *graceful_shutdown
            }
            Self::NotAnnounced(_) => false,
        }
    }

    /// Why it is held, if it is.
    #[must_use]
    pub const fn hold(&self) -> Option<Hold> {
        match self {
            Self::Held { hold, .. } => Some(*hold),
            Self::Announced { .. } | Self::NotAnnounced(_) => None,
        }
    }

    /// A CamelCase reason for a condition.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Announced { graceful_shutdown: false } => "Announced",
            Self::Announced { graceful_shutdown: true } => "Draining",
            Self::Held { hold, .. } => hold.reason(),
            Self::NotAnnounced(WhyNot::Closed(gate)) => gate.reason(),
            Self::NotAnnounced(WhyNot::HeldUp { .. }) => "HeldUp",
        }
    }

    /// A sentence for the prefix's owner.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        match self {
            Self::Announced { graceful_shutdown: false } => "announced",
            Self::Announced { graceful_shutdown: true } => "announced as going: it is drained",
            Self::Held { hold, .. } => hold.message(),
            Self::NotAnnounced(WhyNot::Closed(gate)) => gate.message(),
            Self::NotAnnounced(WhyNot::HeldUp { .. }) => "kept back: it came and went too often",
        }
    }
}

impl Wish {
    /// A wish with the gate of a drain closed as its stage says.
    #[must_use]
    pub fn draining(mut self, stage: Stage, confirmed: bool) -> Self {
        if stage > Stage::Signalled {
            self.closed.insert(Gate::Drain);
        }
        (self.drain, self.drain_confirmed) = (Some(stage), confirmed);
        self
    }
}
