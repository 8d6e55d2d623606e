//! The flow table, as the host side sees it: the time in it, and what it says of a flow.
//!
//! Programs note connections; this side reads. It writes only to take back what a test run noted, and
//! to begin anew where the time in the table is not that of the tables.

use std::sync::atomic::{AtomicU64, Ordering};

use isocast_dataplane_common::tracking::{
    self, ERA_BITS, ERAS_MAX, Entry, Eras, FlowId, LINES, WAYS,
};

use crate::{
    mapped::Mapped,
    plan::{Ledger, Tracked},
};

const ERA_MASK: u32 = (1 << ERA_BITS) - 1;

/// An era as the kernel's tables hold it.
pub(crate) fn in_kernel(era: u32) -> u16 {
    u16::try_from(era & ERA_MASK).unwrap_or_default()
}

/// The era that a slot is tracked since, where it is `now`. One that is too long ago to be told from
/// what is to come is put off: entries that were not seen since are not believed.
pub(crate) fn since(era: u32, now: u32) -> u16 {
    let ago = now.wrapping_sub(era).min(ERAS_MAX.into());
    in_kernel(now.wrapping_sub(ago))
}

/// The time for tables that have these chains.
pub(crate) fn eras(ledger: &Ledger, now: u32) -> Eras {
    let now = in_kernel(now);
    let tracked = ledger.chains.keys().filter_map(|owner| owner.tracked());
    let first = tracked.map(|tracked: Tracked| tracked.since);
    let first = first.max_by_key(|since| tracking::age(*since, now)).unwrap_or(now);
    Eras { now, first, reserved: 0 }
}

/// Whether the time of new tables does not follow that of those before.
pub(crate) const fn goes_back(before: Eras, after: Eras) -> bool {
    tracking::age(before.now, after.now) > ERAS_MAX
}

/// The table of a node that balances; the words of its lines.
pub(crate) struct FlowTable(Option<Mapped<u64>>);

impl FlowTable {
    /// Of the words of the kernel's table; none on a node that balances nothing.
    pub(crate) const fn of(words: Option<Mapped<u64>>) -> Self {
        Self(words)
    }

    fn line(&self, number: u32) -> Option<&[AtomicU64; WAYS]> {
        let words = self.0.as_ref()?.atomics();
        let first = usize::try_from(number).ok()?.checked_mul(WAYS)?;
        words.get(first..)?.first_chunk()
    }

    /// The line that a flow may be noted in. Nothing: there is no table.
    pub(crate) fn read(&self, id: FlowId) -> Option<[u64; WAYS]> {
        let line = self.line(id.line())?;
        Some(line.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    /// Takes back what a test run noted of a flow, whose line was `before` it. What others noted
    /// meanwhile stays.
    pub(crate) fn restore(&self, id: FlowId, before: [u64; WAYS]) {
        let Some(line) = self.line(id.line()) else { return };
        let own = |word: u64| tracking::find(id, |_| word).is_some();
        for (word, before) in line.iter().zip(before) {
            let now = word.load(Ordering::Relaxed);
            if now != before && (own(now) || own(before)) {
                // Where a program was first, its word stays.
                let _replaced =
                    word.compare_exchange(now, before, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for word in self.0.iter().flat_map(|words| words.atomics()) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// How many connections are noted that tables may believe.
    pub(crate) fn len(&self, eras: Eras) -> usize {
        let words = self.0.iter().flat_map(|words| words.atomics());
        words.filter(|word| !Entry(word.load(Ordering::Relaxed)).is_past(eras)).count()
    }
}

/// Words of the table.
pub(crate) const WORDS: usize = LINES * WAYS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn era_of_long_ago_is_put_off() {
        assert_eq!((since(5, 7), since(5, 5)), (5, 5));
        assert_eq!(since(ERA_MASK + 3, ERA_MASK + 4), 2, "it wraps");
        let now = 100_000;
        assert_eq!(tracking::age(since(now - 50_000, now), in_kernel(now)), ERAS_MAX);
        assert_eq!(since(7, 5), in_kernel(5_u32.wrapping_sub(ERAS_MAX.into())), "to come");
    }

    #[test]
    fn time_that_does_not_follow_is_noticed() {
        let at = |now: u32| Eras { now: in_kernel(now), ..Eras::default() };
        assert!(!goes_back(at(5), at(5)) && !goes_back(at(5), at(9)));
        assert!(goes_back(at(9), at(5)));
        assert!(!goes_back(at(ERA_MASK), at(ERA_MASK + 2)), "it wraps");
    }
}
