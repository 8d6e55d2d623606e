//! [`Turns`]: who wins gives way to who has lost.
//!
//! Who has just committed knows the head and is there first again; who has lost must read what was
//! written before it can try again, and would lose for as long as the other has something to write. So
//! who loses puts a mark beside the head, in the transaction that tells it so; who wins is told of the
//! marks in its answer, and lets somebody else be next, for a while: a little longer each time that this
//! was in vain. A mark that was waited for is not waited for again; who loses again puts a new one.
//! Sans-IO: takes what etcd said, and says how long to wait.

use std::{collections::BTreeMap, time::Duration};

use crate::limits;

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Marks that were given way to, and when they were put there.
    served: BTreeMap<Vec<u8>, i64>,
    /// How many times in a row that was in vain.
    in_vain: u32,
    is_owed: bool,
}

impl Turns {
    /// A commit has succeeded, and these wait: whose mark, and the revision that it is of.
    pub(super) fn won(&mut self, waiting: impl IntoIterator<Item = (Vec<u8>, i64)>) {
        let before = std::mem::take(&mut self.served);
        self.is_owed = false;
        for (who, since) in waiting {
            self.is_owed |= before.get(&who) != Some(&since);
            self.served.insert(who, since);
        }
    }

    /// How long to give way, if it is somebody else's turn.
    pub(super) fn owes(&self) -> Option<Duration> {
        let longer = 1_u32.checked_shl(self.in_vain).unwrap_or(u32::MAX);
        self.is_owed.then(|| limits::GIVE_WAY.saturating_mul(longer).min(limits::GIVE_WAY_MAX))
    }

    /// It was done, and somebody has used it, or nobody.
    pub(super) fn gave_way(&mut self, is_used: bool) {
        self.is_owed = false;
        self.in_vain = if is_used { 0 } else { self.in_vain.saturating_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(who: &str, since: i64) -> (Vec<u8>, i64) {
        (who.into(), since)
    }

    #[test]
    fn who_wins_alone_waits_for_nobody() {
        let mut turns = Turns::default();
        turns.won([]);
        assert_eq!(turns.owes(), None);
    }

    #[test]
    fn each_mark_is_given_way_to_once() {
        let mut turns = Turns::default();
        turns.won([mark("a", 5)]);
        assert_eq!(turns.owes(), Some(limits::GIVE_WAY));
        turns.gave_way(true);
        assert_eq!(turns.owes(), None);

        turns.won([mark("a", 5)]);
        assert_eq!(turns.owes(), None, "it may be of one who is dead");
        turns.won([mark("a", 5), mark("b", 7)]);
        assert!(turns.owes().is_some(), "another one");
        turns.won([mark("a", 9)]);
        assert!(turns.owes().is_some(), "it has lost again");
    }

    #[test]
    fn who_is_slow_gets_longer_up_to_a_limit() {
        let mut turns = Turns::default();
        let mut last = Duration::ZERO;
        for since in 0..40 {
            turns.won([mark("a", since)]);
            let window = turns.owes().expect("it has lost again");
            assert!(window > last || window == limits::GIVE_WAY_MAX);
            last = window;
            turns.gave_way(false);
        }
        assert_eq!(last, limits::GIVE_WAY_MAX);
        turns.won([mark("a", 100)]);
        turns.gave_way(true);
        turns.won([mark("a", 101)]);
        assert_eq!(turns.owes(), Some(limits::GIVE_WAY));
    }
}
