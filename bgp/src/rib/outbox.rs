//! What one peer has been told of one family, and what it is still to be told.
//!
//! Four bits a prefix: told, and waiting in each of three lanes. Lanes hold names of prefixes, not
//! messages: what is said is decided when the peer can take it, so a peer that does not read costs
//! four bytes a prefix at most, and hears the last word rather than every one in between. There is
//! no timer: what waits, waits for the peer alone.
//!
//! Invariant: a prefix stands in a lane at most once, and [`Outbox::mark`] never adds to a slower
//! lane what already waits in a faster one.

use std::collections::VecDeque;

/// In which order changes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Our own announcements and host routes: somebody's service moves.
    Urgent,
    /// Prefixes no longer reached: until it knows, the peer sends traffic into a hole.
    Withdrawal,
    /// Everything else.
    Bulk,
}

/// A walk over the whole table, after which the peer has been told everything once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The next prefix.
    pub(super) next: u32,
    /// Where the walk ends: what came later was marked.
    pub(super) end: u32,
    pub(super) what: Scope,
}

/// What a scan tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// What must be told or withdrawn, and has not been.
    Differences,
    /// Every route, told before or not (RFC 2918 §4).
    Everything,
}

impl Scan {
    fn covers(&self, id: u32) -> bool {
        (self.next..self.end).contains(&id)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    states: Vec<u8>,
    lanes: [VecDeque<u32>; 3],
    pub(super) scan: Option<Scan>,
    /// Another, when that has ended.
    then: Option<(u32, Scope)>,
    /// Prefixes that the peer holds from us.
    pub(super) told: u32,
    /// Refused for the sake of the peer's limit.
    pub(super) over_limit: bool,
}

const TOLD: u8 = 0b1000;

impl Lane {
    const ALL: [Self; 3] = [Self::Urgent, Self::Withdrawal, Self::Bulk];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Outbox {
    /// The peer is to be told what lies below `end`. A scan under way is not begun anew, or changes
    /// that come fast enough would keep it from ever ending: another follows it.
    pub(super) fn start_scan(&mut self, end: u32, what: Scope) {
        match &mut self.scan {
            Some(scan) if scan.next > 0 => {
                let then = self.then.map_or(what, |(_, then)| then.max(what));
                self.then = Some((end, then));
            }
            Some(scan) => {
                *scan = Scan { next: 0, end: scan.end.max(end), what: scan.what.max(what) }
            }
            none => *none = (end > 0).then_some(Scan { next: 0, end, what }),
        }
    }

    /// A route changed. Whether the prefix is held now and was not before.
    pub(super) fn mark(&mut self, id: u32, lane: Lane) -> bool {
        let state = self.state(id);
        let faster = (lane.bit() << 1).wrapping_sub(1);
        let scanned = lane == Lane::Bulk && self.is_to_be_scanned(id);
        if state & faster != 0 || scanned {
            return false;
        }
        if let Some(queue) = self.lanes.get_mut(lane as usize) {
            queue.push_back(id);
            self.set_state(id, state | lane.bit());
        }
        state == 0
    }

    /// The fastest lane in which something waits.
    pub(super) fn next_lane(&self) -> Option<Lane> {
        let waiting = Lane::ALL.into_iter().zip(&self.lanes).find(|(_, queue)| !queue.is_empty());
        waiting.map(|(lane, _)| lane)
    }

    /// The first prefix of a lane.
    pub(super) fn pop(&mut self, lane: Lane) -> Option<u32> {
        let id = self.lanes.get_mut(lane as usize)?.pop_front()?;
        self.set_state(id, self.state(id) & !lane.bit());
        Some(id)
    }

    /// The next prefix of the scan.
    pub(super) fn next_scanned(&mut self) -> Option<u32> {
        let scan = self.scan.as_mut()?;
        let id = scan.next;
        scan.next = id.saturating_add(1);
        if scan.next >= scan.end {
            self.scan = self.then.take().map(|(end, what)| Scan { next: 0, end, what });
        }
        Some(id)
    }

    /// Puts a prefix back at the head of its lane: there was no room.
    pub(super) fn unpop(&mut self, lane: Lane, id: u32) {
        let state = self.state(id);
        if let (0, Some(queue)) = (state & lane.bit(), self.lanes.get_mut(lane as usize)) {
            queue.push_front(id);
            self.set_state(id, state | lane.bit());
        }
    }

    /// The peer holds the prefix from here on, or not.
    pub(super) fn set_told(&mut self, id: u32, told: bool) {
        let state = self.state(id);
        match (state & TOLD != 0, told) {
            (false, true) => {
                self.told = self.told.saturating_add(1);
                self.set_state(id, state | TOLD);
            }
            (true, false) => {
                self.told = self.told.saturating_sub(1);
                self.set_state(id, state & !TOLD);
            }
            _ => {}
        }
    }

    /// Whether the peer holds the prefix from us.
    pub(super) fn is_told(&self, id: u32) -> bool {
        self.state(id) & TOLD != 0
    }

    /// Whether the prefix is told or waits: its name must not be given to another.
    pub(super) fn holds(&self, id: u32) -> bool {
        self.state(id) != 0
    }

    /// Whether a change of the prefix waits to be told.
    pub(super) fn is_waiting(&self, id: u32) -> bool {
        self.state(id) & !TOLD != 0 || self.is_to_be_scanned(id)
    }

    /// Whether a scan will come by and tell whatever there is to tell.
    fn is_to_be_scanned(&self, id: u32) -> bool {
        self.scan.is_some_and(|scan| scan.what == Scope::Everything && scan.covers(id))
    }

    /// Whether nothing waits.
    pub(super) fn is_settled(&self) -> bool {
        self.scan.is_none() && self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Prefixes in the lanes.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// Gives back the memory of a backlog that is gone.
    pub(super) fn trim(&mut self) {
        const KEPT: usize = 4096;
        for lane in &mut self.lanes {
            if lane.is_empty() && lane.capacity() > KEPT {
                lane.shrink_to(KEPT);
            }
        }
    }

    fn state(&self, id: u32) -> u8 {
        let (at, shift) = place(id);
        self.states.get(at).map_or(0, |pair| pair >> shift & 0xf)
    }

    fn set_state(&mut self, id: u32, state: u8) {
        let (at, shift) = place(id);
        if at >= self.states.len() {
            self.states.resize(at.saturating_add(1), 0);
        }
        if let Some(pair) = self.states.get_mut(at) {
            *pair = *pair & !(0xf << shift) | state << shift;
        }
    }
}

const fn place(id: u32) -> (usize, u32) {
    ((id >> 1) as usize, (id & 1) << 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faster_lanes_go_first_and_nothing_waits_twice() {
        let mut outbox = Outbox::default();
        assert!(outbox.mark(1, Lane::Bulk));
        assert!(!outbox.mark(1, Lane::Bulk));
        assert!(outbox.mark(2, Lane::Withdrawal));
        assert!(outbox.mark(3, Lane::Urgent));
        assert!(!outbox.mark(3, Lane::Bulk));
        assert!(!outbox.mark(1, Lane::Urgent));
        assert_eq!(outbox.waiting(), 4);

        let order: Vec<_> =
            std::iter::from_fn(|| outbox.next_lane().and_then(|lane| outbox.pop(lane))).collect();

        assert_eq!(order, [3, 1, 2, 1]);
        assert!(outbox.is_settled() && !outbox.holds(1));
    }

    #[test]
    fn what_a_scan_will_reach_need_not_wait_in_a_lane() {
        let mut outbox = Outbox::default();
        outbox.start_scan(10, Scope::Everything);

        assert!(!outbox.mark(9, Lane::Bulk));
        assert!(outbox.mark(10, Lane::Bulk));
        assert!(outbox.mark(5, Lane::Urgent));
        assert_eq!(outbox.waiting(), 2);
    }

    #[test]
    fn a_scan_under_way_ends_before_another_begins() {
        let mut outbox = Outbox::default();
        outbox.start_scan(2, Scope::Everything);
        assert_eq!(outbox.next_scanned(), Some(0));
        outbox.start_scan(3, Scope::Differences);
        outbox.start_scan(3, Scope::Differences);

        let rest: Vec<_> = std::iter::from_fn(|| outbox.next_scanned()).collect();

        assert_eq!(rest, [1, 0, 1, 2]);
    }

    #[test]
    fn told_prefixes_are_counted_once() {
        let mut outbox = Outbox::default();
        outbox.set_told(7, true);
        outbox.set_told(7, true);
        assert_eq!((outbox.told, outbox.is_told(7)), (1, true));
        outbox.set_told(7, false);
        assert_eq!((outbox.told, outbox.holds(7)), (0, false));
    }
}
