//! [`Gate`]: seats, and a line in front of them.
//!
//! Whoever comes while nobody waits and a seat is free takes it without a lock, unless seats are
//! counted by flow. A seat that is given back goes to the next in line, or is free.
//!
//! Invariant: while somebody waits who may go on, no seat is free. What is put in line is counted
//! before seats are looked at, and a seat is given back before the line is: one of both sees the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
use smallvec::SmallVec;
use tokio::{sync::oneshot, time::timeout};

use super::queue::{Bounds, FairQueue, Flow};
use crate::error::{ApiError, Reason};

/// What a gate tells of itself.
#[derive(Clone, Debug)]
pub(in crate::apiserver) struct GateMetrics {
    pub(in crate::apiserver) taken: Gauge<i64, AtomicI64>,
    pub(in crate::apiserver) waiting: Gauge<i64, AtomicI64>,
    pub(in crate::apiserver) rejected: Counter,
    /// Of those who had to.
    pub(in crate::apiserver) waited: Histogram,
}

/// Seats, and who waits for them.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seats: i64,
    counts_flows: bool,
    patience: Duration,
    metrics: GateMetrics,
    queue: Mutex<FairQueue<oneshot::Sender<Seat>>>,
}

/// A seat, given back when it is dropped.
#[derive(Debug)]
pub(in crate::apiserver) struct Seat {
    gate: Gate,
    flow: Flow,
}

/// A place in line, given up when it is dropped.
struct Place<'a> {
    gate: &'a Gate,
    flow: Flow,
    ticket: u64,
    called: oneshot::Receiver<Seat>,
}

impl Gate {
    /// Nobody waits longer than `patience`.
    pub(super) fn new(
        seats: usize,
        bounds: Bounds,
        patience: Duration,
        metrics: GateMetrics,
    ) -> Self {
        Self(Arc::new(Inner {
            seats: i64::try_from(seats).unwrap_or(i64::MAX),
            counts_flows: bounds.share.is_some(),
            patience,
            metrics,
            queue: Mutex::new(FairQueue::new(bounds)),
        }))
    }

    /// Waits for a seat, or says to come back.
    pub(super) async fn enter(&self, flow: impl FnOnce() -> Flow) -> Result<Seat, ApiError> {
        if !self.0.counts_flows && self.0.metrics.waiting.inner().load(SeqCst) == 0 && self.take() {
            return Ok(Seat { gate: self.clone(), flow: 0 });
        }
        let flow = flow();
        let mut place = match self.arrive(flow)? {
            Ok(seat) => return Ok(seat),
            Err(place) => place,
        };
        match timeout(self.0.patience, &mut place.called).await {
            Ok(Ok(seat)) => Ok(seat),
            // The sender is in line as long as the place is.
            Ok(Err(_)) | Err(_) => Err(self.refuse()),
        }
    }

    /// Takes a seat if there is one, or says to come back.
    pub(super) fn try_enter(&self, flow: Flow) -> Result<Seat, ApiError> {
        let queue = &mut *self.0.queue.lock();
        if queue.admits(flow) && self.take() {
            queue.started(flow);
            return Ok(Seat { gate: self.clone(), flow });
        }
        Err(self.refuse())
    }

    fn arrive(&self, flow: Flow) -> Result<Result<Seat, Place<'_>>, ApiError> {
        let (caller, called) = oneshot::channel();
        let mut queue = self.0.queue.lock();
        if queue.admits(flow) && self.take() {
            queue.started(flow);
            return Ok(Ok(Seat { gate: self.clone(), flow }));
        }
        let Some(ticket) = queue.push(flow, caller, Instant::now()) else {
            return Err(self.refuse());
        };
        let place = Place { gate: self, flow, ticket, called };
        self.0.metrics.waiting.inner().fetch_add(1, SeqCst);
        let next = self.next(&mut queue);
        drop(queue);
        call(next);
        Ok(Err(place))
    }

    fn take(&self) -> bool {
        let free = |taken| (taken < self.0.seats).then_some(taken + 1);
        self.0.metrics.taken.inner().fetch_update(SeqCst, SeqCst, free).is_ok()
    }

    /// Whoever can be seated now. They are called when the queue is free again: a seat that nobody
    /// takes any more comes back at once.
    fn next(&self, queue: &mut FairQueue<oneshot::Sender<Seat>>) -> Called {
        let mut called = Called::new();
        while queue.len() > 0 && self.take() {
            let Some(next) = queue.pop(Instant::now()) else {
                self.0.metrics.taken.inner().fetch_sub(1, SeqCst);
                break;
            };
            self.0.metrics.waiting.inner().fetch_sub(1, SeqCst);
            self.0.metrics.waited.observe(next.waited.as_secs_f64());
            called.push((next.item, Seat { gate: self.clone(), flow: next.flow }));
        }
        called
    }

    fn refuse(&self) -> ApiError {
        self.0.metrics.rejected.inc();
        let message = "too many requests at once, please try again later";
        ApiError::new(Reason::TooManyRequests, message).with_retry_after(1)
    }
}

type Called = SmallVec<[(oneshot::Sender<Seat>, Seat); 2]>;

fn call(next: Called) {
    for (caller, seat) in next {
        // A seat that nobody takes is given back by being dropped.
        drop(caller.send(seat));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Inner { metrics, counts_flows, queue, .. } = &*self.gate.0;
        metrics.taken.inner().fetch_sub(1, SeqCst);
        if !counts_flows && metrics.waiting.inner().load(SeqCst) == 0 {
            return;
        }
        let mut queue = queue.lock();
        queue.ended(self.flow);
        let next = self.gate.next(&mut queue);
        drop(queue);
        call(next);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.gate.0.queue.lock();
        let before = queue.len();
        queue.abandon(self.flow, self.ticket);
        if queue.len() < before {
            self.gate.0.metrics.waiting.inner().fetch_sub(1, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::future::join_all;
    use prometheus_client::metrics::histogram::exponential_buckets;
    use tokio::task::yield_now;

    use super::*;

    fn gate(seats: usize, bounds: Bounds, patience: Duration) -> Gate {
        let metrics = GateMetrics {
            taken: Gauge::default(),
            waiting: Gauge::default(),
            rejected: Counter::default(),
            waited: Histogram::new(exponential_buckets(0.001, 4.0, 4)),
        };
        Gate::new(seats, bounds, patience, metrics)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_waits_is_called_and_no_seat_is_lost_or_taken_twice() {
        for share in [None, Some(2)] {
            let gate = gate(3, Bounds { waiting: 5000, waiting_of_flow: 5000, share }, MINUTE);
            let seated = Arc::new(AtomicUsize::new(0));
            let visitors = (0..4000_u64).map(|visitor| {
                let (gate, seated) = (gate.clone(), Arc::clone(&seated));
                tokio::spawn(async move {
                    let enter = gate.enter(|| visitor % 7);
                    // Some give up, wherever they are.
                    let patience = if visitor % 3 == 0 { Duration::ZERO } else { MINUTE };
                    let Ok(seat) = timeout(patience, enter).await else { return false };
                    let seat = seat.expect("there is room for all");
                    assert!(seated.fetch_add(1, SeqCst) < 3);
                    yield_now().await;
                    seated.fetch_sub(1, SeqCst);
                    drop(seat);
                    true
                })
            });
            let served = join_all(visitors).await.into_iter().filter_map(Result::ok);

            assert!(served.filter(|served| *served).count() >= 2666);
            let metrics = &gate.0.metrics;
            assert_eq!((metrics.taken.get(), metrics.waiting.get()), (0, 0));
            assert_eq!(gate.0.queue.lock().len(), 0);
        }
    }

    #[tokio::test]
    async fn who_waits_too_long_and_who_finds_no_place_is_told_to_come_back() {
        let bounds = Bounds { waiting: 1, waiting_of_flow: 1, share: None };
        let gate = gate(1, bounds, Duration::from_millis(50));
        let seat = gate.enter(|| 1).await.expect("free");
        let waits = gate.enter(|| 2);
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending());

        let refusal = gate.enter(|| 3).await.expect_err("no place");
        assert_eq!((refusal.code(), refusal.retry_after()), (429, Some(1)));
        assert_eq!(waits.await.expect_err("too long").code(), 429);
        assert_eq!(gate.0.metrics.rejected.get(), 2);
        drop(seat);
        assert!(gate.enter(|| 3).await.is_ok());
    }

    #[test]
    fn a_flow_has_its_share_and_leaves_the_rest_to_others() {
        let bounds = Bounds { waiting: 0, waiting_of_flow: 0, share: Some(2) };
        let gate = gate(3, bounds, MINUTE);
        let seats = [gate.try_enter(1), gate.try_enter(1)];
        assert!(seats.iter().all(Result::is_ok));

        assert!(gate.try_enter(1).is_err(), "it has its share");
        let other = gate.try_enter(2).expect("the last seat");
        assert!(gate.try_enter(3).is_err(), "all are taken");
        drop((seats, other));
        assert!(gate.try_enter(1).is_ok());
    }
}
