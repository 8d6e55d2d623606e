//! The flow table: which connections began while a slot was handed over to or by a host that cannot
//! be asked whose a flow is.
//!
//! A slot is *tracked* while a host without an agent has it, or had it lately and may have its flows.
//! A connection that opens meanwhile is noted with the backend that the slot has at that time. What
//! is not noted is older, and belongs to the backend that had the slot before: its *former*. So what
//! was there before takes no place in the table, and no packet but one that opens a connection does.
//!
//! **Time** is counted in *eras*: the host side begins one whenever the ring of a service with such
//! hosts changes. A slot is tracked since an era, and an entry that was last seen before that is
//! one of an earlier time, and says nothing.
//!
//! **Room.** A line of eight entries is a cache line. An entry that no tracked slot can believe any
//! more is taken first, then one that said goodbye, then one whose connection was never seen to go
//! on. One that was is never taken: if there is nothing else, the connection is not noted, and begins
//! at the former backend, where it needs no note.
//!
//! A table is shared by all processors: its entries are words, replaced by compare and swap. It
//! makes no difference which processor a flow's packets come to.

use crate::{flow::Flow, siphash::siphash13_words};

/// Entries of a line.
pub const WAYS: usize = 8;
/// Connections that are noted at most.
pub const TRACKED_FLOWS: usize = LINES * WAYS;
/// Lines of the table: two megabytes, which caches hold.
pub const LINES: usize = 32_768;
/// Backends, besides its own and its former, that flows of a slot may have been noted with.
pub const BETWEEN_MAX: usize = 4;

/// Eras are counted in so many bits.
pub const ERA_BITS: u32 = 14;
const ERA_MASK: u16 = (1 << ERA_BITS) - 1;
/// How many eras an entry is told from one of an earlier time.
pub const ERAS_MAX: u16 = ERA_MASK / 2;

/// One cache line of the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Entries; 0 for none.
    pub entries: [u64; WAYS],
}

/// What an entry's time is compared with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eras {
    /// The one that packets are seen in.
    pub now: u16,
    /// The first that any slot is tracked since.
    pub first: u16,
    /// Fills the word.
    pub reserved: u32,
}

/// What of a connection was seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// That it opens: nobody answered for the client yet.
    Opening = 1,
    /// That it goes on.
    Open = 2,
    /// That the client closes or resets it.
    Closing = 3,
}

/// A connection and its backend.
///
/// The fingerprint in the upper half, then the number of the backend's target, and below the state
/// and the era that it was last seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// An entry.
    #[inline(always)]
    #[must_use]
    pub const fn new(id: FlowId, target: u16, state: State, era: u16) -> Self {
        let time = (state as u64) << ERA_BITS | (era & ERA_MASK) as u64;
        Self((id.fingerprint() as u64) << 32 | (target as u64) << 16 | time)
    }

    /// The same, seen again.
    #[inline(always)]
    #[must_use]
    pub const fn seen(self, says_goodbye: bool, era: u16) -> Self {
        const CLOSING: u64 = State::Closing as u64;
        let closing = says_goodbye || self.state() == CLOSING;
        let state = if closing { CLOSING } else { State::Open as u64 };
        let time = state << ERA_BITS | (era & ERA_MASK) as u64;
        Self(self.0 & !0xffff | time)
    }

    /// Number of the backend's target.
    #[expect(clippy::cast_possible_truncation, reason = "a part of the word")]
    #[inline(always)]
    #[must_use]
    pub const fn target(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// With the state above it, which ages do not look at.
    #[expect(clippy::cast_possible_truncation, reason = "a part of the word")]
    #[inline(always)]
    const fn era(self) -> u16 {
        self.0 as u16
    }

    #[inline(always)]
    const fn state(self) -> u64 {
        self.0 >> ERA_BITS & 3
    }

    #[inline(always)]
    const fn is_of(self, id: FlowId) -> bool {
        self.0 >> 32 == id.fingerprint() as u64 && self.state() != 0
    }

    /// Whether it says whose the flow is in a slot that is tracked `since` an era, where it is `now`.
    #[inline(always)]
    #[must_use]
    pub const fn counts(self, since: u16, now: u16) -> bool {
        age(self.era(), now) <= age(since, now)
    }
}

/// How many eras ago one was.
#[inline(always)]
#[must_use]
pub const fn age(era: u16, now: u16) -> u16 {
    now.wrapping_sub(era) & ERA_MASK
}

/// A flow in the table: keyed, and of all that tells flows apart, whichever service they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId(pub u64);

impl FlowId {
    /// Of a flow whose addresses are IPv4, by two words: one more than its place in a ring.
    #[inline(always)]
    #[must_use]
    pub fn of_v4(flow: &Flow, key: &[u64; 2]) -> Self {
        let addresses = u64::from(flow.destination[3]) << 32 | u64::from(flow.source[3]);
        Self(siphash13_words(key, &[addresses, u64::from(flow.ports)]))
    }

    /// Of a flow whose addresses are IPv6, by five words.
    #[inline(always)]
    #[must_use]
    pub fn of_v6(flow: &Flow, key: &[u64; 2]) -> Self {
        let [a, b, c, d] = flow.source;
        let [e, f, g, h] = flow.destination;
        let pair = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let words = [pair(a, b), pair(c, d), pair(e, f), pair(g, h), u64::from(flow.ports)];
        Self(siphash13_words(key, &words))
    }

    /// The line that it is in, if it is in any.
    #[inline(always)]
    #[must_use]
    pub const fn line(self) -> u32 {
        self.low() % LINES_U32
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    #[inline(always)]
    const fn low(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    const fn fingerprint(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Where in its line a place is looked for first: anywhere, so that a flood pushes out at random.
    #[inline(always)]
    const fn first(self) -> usize {
        (self.low() >> LINES.ilog2()) as usize % WAYS
    }
}

/// The entry of a flow in its line, and where it is.
#[inline(always)]
pub fn find(id: FlowId, read: impl Fn(usize) -> u64) -> Option<(usize, Entry)> {
    for way in 0..WAYS {
        let entry = Entry(read(way));
        if entry.is_of(id) {
            return Some((way, entry));
        }
    }
    None
}

/// The place in its line that a flow may take, and the entry there. Nothing: all are of connections
/// that were seen to go on.
#[inline(always)]
pub fn place(id: FlowId, eras: Eras, read: impl Fn(usize) -> u64) -> Option<(usize, Entry)> {
    const TAKEN: u64 = 4;
    let mut best = (TAKEN, 0, Entry(0));
    for step in 0..WAYS {
        let way = (id.first() + step) % WAYS;
        let entry = Entry(read(way));
        let rank = match entry.state() {
            _ if entry.is_of(id) || entry.is_past(eras) => 0,
            CLOSING => 1,
            OPENING => 2,
            _ => TAKEN,
        };
        if rank < best.0 {
            best = (rank, way, entry);
        }
    }
    if best.0 == TAKEN { None } else { Some((best.1, best.2)) }
}

const OPENING: u64 = State::Opening as u64;
const CLOSING: u64 = State::Closing as u64;

impl Entry {
    /// Whether no slot can believe it any more, or it is none.
    #[inline(always)]
    #[must_use]
    pub const fn is_past(self, eras: Eras) -> bool {
        self.state() == 0 || !self.counts(eras.first, eras.now)
    }

    /// Whether it is of another flow, which may miss it, that gives its place to this one.
    #[inline(always)]
    #[must_use]
    pub const fn is_forgotten_for(self, id: FlowId, eras: Eras) -> bool {
        !self.is_past(eras) && !self.is_of(id)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const LINES_U32: u32 = LINES as u32;

const _: () = assert!(size_of::<Line>() == 64 && size_of::<Eras>() == 8);
const _: () = assert!(LINES.is_power_of_two() && WAYS.is_power_of_two());
// Lines and first places are told by different bits than fingerprints.
const _: () = assert!(LINES.ilog2() + WAYS.ilog2() <= 32);

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;
    use crate::directory::mapped;

    const ERAS: Eras = Eras { now: 100, first: 90, reserved: 0 };

    /// The n-th flow of one line.
    fn id(n: u32) -> FlowId {
        FlowId(u64::from(n + 1) << 32)
    }

    fn note(line: &mut [u64; WAYS], id: FlowId, state: State, era: u16) -> bool {
        let found = place(id, ERAS, |way| line[way]);
        if let Some((way, _)) = found {
            line[way] = Entry::new(id, 7, state, era).0;
        }
        found.is_some()
    }

    #[test]
    fn flow_is_found_where_it_was_noted() {
        let mut line = [0; WAYS];
        for n in 0..8 {
            assert_eq!(find(id(n), |way| line[way]), None);
            assert!(note(&mut line, id(n), State::Opening, 100));
        }
        for n in 0..8 {
            let (_, entry) = find(id(n), |way| line[way]).expect("noted");
            assert_eq!((entry.target(), entry.state()), (7, OPENING));
        }
    }

    #[test]
    fn entry_remembers_that_its_flow_went_on_and_that_it_said_goodbye() {
        let opening = Entry::new(id(1), 9, State::Opening, 3);
        let open = opening.seen(false, 4);
        assert_eq!(open, Entry::new(id(1), 9, State::Open, 4));
        let closing = open.seen(true, 5);
        assert_eq!(closing, Entry::new(id(1), 9, State::Closing, 5));
        // The last acknowledgement of a close.
        assert_eq!(closing.seen(false, 6), Entry::new(id(1), 9, State::Closing, 6));
    }

    #[test]
    fn flood_pushes_out_none_that_was_seen_to_go_on() {
        let mut line = [0; WAYS];
        for n in 0..7 {
            assert!(note(&mut line, id(n), State::Open, 90));
        }
        for n in 100..1000 {
            assert!(note(&mut line, id(n), State::Opening, 100), "the one place that is left");
        }
        for n in 0..7 {
            assert!(find(id(n), |way| line[way]).is_some(), "{n}");
        }
        assert!(note(&mut line, id(7), State::Open, 100));
        assert!(!note(&mut line, id(8), State::Opening, 100), "all are of living connections");
    }

    #[test]
    fn what_is_past_goes_first_then_what_closes_then_what_opens() {
        let mut line = [0; WAYS];
        for n in 0..6 {
            note(&mut line, id(n), State::Open, 95);
        }
        note(&mut line, id(6), State::Opening, 95);
        note(&mut line, id(7), State::Open, 89);
        let taken = |line: &[u64; WAYS]| place(id(20), ERAS, |way| line[way]).map(|it| it.1);
        let entry_of = |line: &[u64; WAYS], n| find(id(n), |way| line[way]).map(|it| it.1);

        assert_eq!(taken(&line), entry_of(&line, 7), "of an era that no slot is tracked since");
        line[find(id(7), |way| line[way]).expect("there").0] =
            Entry::new(id(7), 7, State::Closing, 95).0;
        assert_eq!(taken(&line), entry_of(&line, 7));
        line[find(id(7), |way| line[way]).expect("there").0] =
            Entry::new(id(7), 7, State::Open, 95).0;
        assert_eq!(taken(&line), entry_of(&line, 6));
        assert_eq!(
            place(id(3), ERAS, |way| line[way]).map(|it| it.1),
            entry_of(&line, 3),
            "its own"
        );
    }

    #[test]
    fn era_is_told_from_earlier_ones_while_it_wraps() {
        for now in [0, 5, ERA_MASK, 12_345 & ERA_MASK] {
            let ago = |eras: u16| now.wrapping_sub(eras) & ERA_MASK;
            let entry = |eras| Entry::new(id(1), 2, State::Open, ago(eras));
            assert!(entry(0).counts(ago(0), now) && entry(3).counts(ago(3), now));
            assert!(entry(3).counts(ago(4), now) && !entry(4).counts(ago(3), now));
            assert!(!entry(ERAS_MAX).counts(ago(ERAS_MAX - 1), now));
        }
    }

    #[test]
    fn every_field_tells_flows_apart_the_service_address_too() {
        let key = [1, 2];
        let flow = Flow { source: mapped(1), destination: mapped(2), ports: 3, protocol: 6 };
        let others = [
            Flow { source: mapped(9), ..flow },
            Flow { destination: mapped(9), ..flow },
            Flow { ports: 9, ..flow },
        ];
        for other in others {
            assert_ne!(FlowId::of_v4(&flow, &key), FlowId::of_v4(&other, &key));
            assert_ne!(FlowId::of_v6(&flow, &key), FlowId::of_v6(&other, &key));
        }
        for word in 0..4 {
            let (mut source, mut destination) = (flow, flow);
            source.source[word] ^= 1;
            destination.destination[word] ^= 1;
            assert_ne!(FlowId::of_v6(&flow, &key), FlowId::of_v6(&source, &key));
            assert_ne!(FlowId::of_v6(&flow, &key), FlowId::of_v6(&destination, &key));
        }
        assert_ne!(FlowId::of_v4(&flow, &key).0, flow.hash_v4(&key), "not its place in a ring");
    }

    proptest! {
        /// Against a model without places: who opened, went on and closed, in which order.
        #[test]
        fn what_went_on_is_found_until_its_era_is_past(
            steps in prop::collection::vec((0_u32..24, 0_u8..4), 1..200),
        ) {
            let mut line = [0; WAYS];
            let mut open: Vec<u32> = Vec::new();
            for (n, what) in steps {
                let id = id(n);
                let found = find(id, |way| line[way]);
                prop_assert!(!open.contains(&n) || found.is_some(), "{} was forgotten", n);
                match (what, found) {
                    (0, _) => {
                        // A new connection between the same ports.
                        if note(&mut line, id, State::Opening, 100) {
                            open.retain(|it| *it != n);
                        } else {
                            prop_assert_eq!(open.len(), WAYS);
                        }
                    }
                    (1 | 2, Some((way, entry))) => {
                        line[way] = entry.seen(false, 100).0;
                        if entry.state() != CLOSING && !open.contains(&n) {
                            open.push(n);
                        }
                    }
                    (_, Some((way, entry))) => {
                        line[way] = entry.seen(true, 100).0;
                        open.retain(|it| *it != n);
                    }
                    (_, None) => {}
                }
                let of_flow = (0..WAYS).filter(|way| Entry(line[*way]).is_of(id)).count();
                prop_assert!(of_flow <= 1, "{} is there twice", n);
            }
        }
    }
}
