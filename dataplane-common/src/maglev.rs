//! The weighted Maglev ring (Eisenbud et al., NSDI 2016, §3.4).
//!
//! A pure function of the key and the members: every edge with the same inputs fills the same
//! ring, whatever order it learned the members in. A member's turn comes as often as its weight
//! says; in its turn it takes the first free slot of its own permutation of the ring. Removing a
//! member moves its slots and few others.
//!
//! **A larger ring is a finer copy of the smaller one.** A ring of more than [`RING_SLOTS_MIN`] slots
//! is the ring of half its size twice over, in which members that have more than their share cede
//! single slots to those that have less. A hash that is masked to one bit more finds the same member
//! but for those slots, so the size of a ring may follow the number of its members: the step from one
//! size to the next moves hardly more than the member that caused it.

use alloc::{vec, vec::Vec};

use crate::{NO_BACKEND, RING_SLOTS_MIN, siphash::siphash13};

/// One candidate for the slots of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Stable identity: decides which slots it prefers.
    pub id: [u8; 16],
    /// Share of the slots relative to the other members; 0 takes none.
    pub weight: u32,
}

/// Fills `ring` with positions in `members`, or with [`NO_BACKEND`] when no member has a weight.
///
/// The length of `ring` is a power of two: with that, any odd step visits every slot. A ring of
/// another length gets no backends. Members beyond the 65,535th are not considered.
pub fn fill(key: &[u64; 2], members: &[Member], ring: &mut [u16]) {
    ring.fill(NO_BACKEND);
    if !ring.len().is_power_of_two() {
        return;
    }
    let mut turns: Vec<Turn> = members
        .iter()
        .zip(0..NO_BACKEND)
        .filter(|(member, _)| member.weight > 0)
        .map(|(member, position)| Turn::new(key, member, position))
        .collect();
    if turns.is_empty() {
        return;
    }
    // By identity, not by position: the order of the caller's list must not matter.
    turns.sort_unstable_by_key(|turn| (turn.id, turn.position));

    let mut slots = ring.len().min(RING_SLOTS_MIN);
    let (base, _) = ring.split_at_mut(slots);
    in_turns(&mut turns, slots, |turn| turn.take_slot(base));
    while slots < ring.len() {
        slots *= 2;
        let (refined, _) = ring.split_at_mut(slots);
        refine(&mut turns, members.len(), refined);
    }
}

/// Lets each member act as often as its share of `slots` says.
fn in_turns(turns: &mut [Turn], slots: usize, mut act: impl FnMut(&mut Turn)) {
    let heaviest = u64::from(turns.iter().map(|turn| turn.weight).max().unwrap_or(0));
    for turn in &mut *turns {
        turn.credit = 0;
    }
    let mut left = slots;
    while left > 0 {
        for turn in &mut *turns {
            // Katran's scheme: credit grows by the weight and a slot costs the largest weight.
            turn.credit += u64::from(turn.weight);
            if turn.credit < heaviest {
                continue;
            }
            turn.credit -= heaviest;
            act(turn);
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
}

/// Fills `ring` from its first half: the same twice over, evened out.
fn refine(turns: &mut [Turn], members: usize, ring: &mut [u16]) {
    let (coarse, copy) = ring.split_at_mut(ring.len() / 2);
    copy.copy_from_slice(coarse);
    // By position in the list of members: slots that each has beyond its share.
    let mut surplus = vec![0_isize; members];
    for &owner in &*ring {
        if let Some(surplus) = surplus.get_mut(usize::from(owner)) {
            *surplus += 1;
        }
    }
    in_turns(turns, ring.len(), |turn| {
        if let Some(surplus) = surplus.get_mut(usize::from(turn.position)) {
            *surplus -= 1;
        }
    });
    for turn in turns {
        turn.rewind();
        while surplus.get(usize::from(turn.position)).is_some_and(|surplus| *surplus < 0) {
            turn.take_surplus(ring, &mut surplus);
        }
    }
}

/// A member's walk through its permutation of the ring.
struct Turn {
    id: [u8; 16],
    position: u16,
    weight: u32,
    credit: u64,
    first: u64,
    next: u64,
    step: u64,
}

impl Turn {
    fn new(key: &[u64; 2], member: &Member, position: u16) -> Self {
        let id = u128::from_le_bytes(member.id);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the identity")]
        let (low, high) = (id as u64, (id >> 64) as u64);
        let first = siphash13(key, &[low, high, 0]);
        Self {
            id: member.id,
            position,
            weight: member.weight,
            credit: 0,
            first,
            next: first,
            step: siphash13(key, &[low, high, 1]) | 1,
        }
    }

    fn rewind(&mut self) {
        self.next = self.first;
    }

    /// Takes the first free slot. There is one: the caller counts.
    fn take_slot(&mut self, ring: &mut [u16]) {
        for _ in 0..ring.len() {
            if let Some(slot) = self.step(ring)
                && *slot == NO_BACKEND
            {
                *slot = self.position;
                return;
            }
        }
    }

    /// Takes the first slot of a member that has too many. There is one: somebody has too few.
    fn take_surplus(&mut self, ring: &mut [u16], surplus: &mut [isize]) {
        for _ in 0..ring.len() {
            let Some(slot) = self.step(ring) else { return };
            if let Some(others) = surplus.get_mut(usize::from(*slot))
                && *others > 0
            {
                *others -= 1;
                *slot = self.position;
                break;
            }
        }
        // Also if there was none: a loop that waits for it must end.
        if let Some(own) = surplus.get_mut(usize::from(self.position)) {
            *own += 1;
        }
    }

    /// The next slot of this member's permutation.
    fn step<'a>(&mut self, ring: &'a mut [u16]) -> Option<&'a mut u16> {
        let mask = ring.len() as u64 - 1;
        #[expect(clippy::cast_possible_truncation, reason = "masked by the ring's length")]
        let at = (self.next & mask) as usize;
        self.next = self.next.wrapping_add(self.step);
        ring.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::slot::ring_slots;

    const KEY: [u64; 2] = [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];

    fn member(id: u32, weight: u32) -> Member {
        Member { id: (u128::from(id) * 0x9e37_79b9_7f4a_7c15).to_le_bytes(), weight }
    }

    fn ring_of(members: &[Member]) -> Vec<u16> {
        let mut ring = vec![0; RING_SLOTS_MIN];
        fill(&KEY, members, &mut ring);
        ring
    }

    fn owners(members: &[Member]) -> Vec<Option<[u8; 16]>> {
        ring_of(members)
            .into_iter()
            .map(|position| members.get(usize::from(position)).map(|member| member.id))
            .collect()
    }

    #[test]
    fn nobody_gets_the_slots_of_an_empty_or_weightless_set() {
        assert!(ring_of(&[]).iter().all(|&slot| slot == NO_BACKEND));
        assert!(ring_of(&[member(1, 0)]).iter().all(|&slot| slot == NO_BACKEND));
    }

    #[test]
    fn another_key_gives_another_ring() {
        let members = [member(1, 1), member(2, 1), member(3, 1)];
        let mut other = vec![0; RING_SLOTS_MIN];
        fill(&[1, 2], &members, &mut other);

        assert_ne!(ring_of(&members), other);
    }

    #[test]
    fn ring_is_the_same_on_every_build() {
        let ring = ring_of(&[member(1, 1), member(2, 2), member(3, 3)]);
        let digest = ring.iter().fold(0u64, |digest, &slot| {
            digest.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(slot))
        });

        assert_eq!(
            digest, 0x41cc_be1c_caf4_b3cb,
            "edges of different versions must agree; change this knowingly"
        );
    }

    #[test]
    fn ring_that_is_no_power_of_two_stays_empty() {
        let mut ring = [7u16; 100];
        fill(&KEY, &[member(1, 1)], &mut ring);

        assert!(ring.iter().all(|&slot| slot == NO_BACKEND));
    }

    /// The members' identities, slot by slot, in a ring of that size.
    fn owners_in(members: &[Member], slots: usize) -> Vec<Option<[u8; 16]>> {
        let mut ring = vec![0; slots];
        fill(&KEY, members, &mut ring);
        let owner = |position| members.get(usize::from(position)).map(|member| member.id);
        ring.into_iter().map(owner).collect()
    }

    /// Each member may be a fraction of a slot short when the ring is full; all share what that
    /// leaves, by their weights.
    fn left_over(members: usize, weight: u32, total: u64) -> i64 {
        (members as u64 * u64::from(weight)).div_ceil(total) as i64
    }

    /// How many hashes of a ring as large as the larger find another owner.
    fn moved<T: PartialEq>(a: &[T], b: &[T]) -> usize {
        let slots = a.len().max(b.len());
        (0..slots).filter(|slot| a[slot % a.len()] != b[slot % b.len()]).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// As the configured number of backends grows, also where the ring's size steps up.
        #[test]
        fn adding_a_member_moves_its_share_and_little_else(count in 1u32..700) {
            let grown: Vec<_> = (0..=count).map(|i| member(i, 1)).collect();
            let before = &grown[..count as usize];
            let (old_size, new_size) = (ring_slots(before.len()), ring_slots(grown.len()));
            let old = owners_in(before, old_size);
            let new = owners_in(&grown, new_size);

            let share = new_size / grown.len();
            let moved = moved(&old, &new);
            prop_assert!(moved <= share + new_size / 16, "{moved} of {new_size}, share {share}");
        }

        #[test]
        fn larger_ring_is_a_finer_copy_of_the_smaller_one(
            weights in prop::collection::vec(1u32..=4, 1..200),
        ) {
            let members: Vec<_> = (0u32..).zip(&weights).map(|(i, &w)| member(i, w)).collect();
            for slots in [RING_SLOTS_MIN, 2 * RING_SLOTS_MIN, 4 * RING_SLOTS_MIN] {
                let (coarse, fine) = (owners_in(&members, slots), owners_in(&members, 2 * slots));
                let moved = moved(&coarse, &fine);
                // Each member's share was right to a slot or two of the coarse ring.
                prop_assert!(moved <= 2 * members.len(), "{moved} of {} moved", 2 * slots);
            }
        }

        #[test]
        fn slots_of_a_large_ring_are_shared_by_weight(
            weights in prop::collection::vec(1u32..=100, 50..160),
        ) {
            let members: Vec<_> = (0u32..).zip(&weights).map(|(i, &w)| member(i, w)).collect();
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            let slots = ring_slots(members.len());
            let owners = owners_in(&members, slots);
            for (member, &weight) in members.iter().zip(&weights) {
                let got = owners.iter().filter(|owner| **owner == Some(member.id)).count() as i64;
                let fair = (slots as u64 * u64::from(weight) / total) as i64;
                let off = 2 + left_over(weights.len(), weight, total);
                prop_assert!((got - fair).abs() <= off, "{got} slots, {fair} would be fair");
            }
        }

        #[test]
        fn slots_are_shared_by_weight(weights in prop::collection::vec(1u32..=100, 1..40)) {
            let members: Vec<_> = (0u32..).zip(&weights).map(|(i, &w)| member(i, w)).collect();
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            let ring = ring_of(&members);

            for (position, &weight) in (0u16..).zip(&weights) {
                let slots = ring.iter().filter(|&&slot| slot == position).count() as i64;
                let fair = (RING_SLOTS_MIN as u64 * u64::from(weight) / total) as i64;
                let off = 2 + left_over(weights.len(), weight, total);
                prop_assert!((slots - fair).abs() <= off, "{slots} slots, {fair} would be fair");
            }
        }

        #[test]
        fn order_of_members_does_not_matter(
            members in prop::collection::vec((any::<u32>(), 0u32..10), 1..30),
            seed in any::<usize>(),
        ) {
            let members: Vec<_> = members.into_iter().map(|(i, w)| member(i, w)).collect();
            let mut rotated = members.clone();
            rotated.rotate_left(seed % members.len());
            rotated.reverse();

            prop_assert_eq!(owners(&members), owners(&rotated));
        }

        #[test]
        fn removing_a_member_moves_little_else(count in 2u32..40, gone in any::<u32>()) {
            let before: Vec<_> = (0..count).map(|i| member(i, 1)).collect();
            let gone = before[(gone % count) as usize];
            let after: Vec<_> = before.iter().copied().filter(|m| *m != gone).collect();

            let moved = owners(&before)
                .into_iter()
                .zip(owners(&after))
                .filter(|(old, new)| *old != Some(gone.id) && old != new)
                .count();
            prop_assert!(moved <= RING_SLOTS_MIN / 8, "{moved} slots of the others moved");
        }
    }
}
