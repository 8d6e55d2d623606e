//! [`Writer`]: the thread that brings the kernel's table in line with the [`Plan`].
//!
//! Works in batches and looks at the tray in between. Looks at the kernel's table when it begins,
//! whenever links or addresses change, once a minute besides, and after an error: what somebody
//! took away comes back, and what was refused is tried again, but never in a loop.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Poll, Token};
use parking_lot::Mutex;

use super::netlink::{BATCH, Events, Routes};
use super::plan::{Change, Plan};
use super::tray::{Contents, Fate, Tray};
use super::{KernelConfig, KernelReport};

/// How long routes of a former process may stay that nobody has spoken of.
const STRAYS_MAX: Duration = Duration::from_secs(120);

/// From a change of links to a look at the table: such changes come in bursts.
const LOOK_DELAY: Duration = Duration::from_millis(200);

/// From one look at the table to the next, though nothing happened.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Least time between two requests to be told everything again.
const AGAIN_INTERVAL: Duration = Duration::from_secs(5);

const TRAY: Token = Token(0);
const EVENTS: Token = Token(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    poll: Poll,
    tray: Arc<Tray>,
    routes: Routes,
    events: Events,
    plan: Plan,
    report: Arc<Mutex<KernelReport>>,
    look_at: Instant,
    /// When what nobody spoke of goes at the latest; nothing: it is gone.
    sweep_at: Option<Instant>,
    again_not_before: Instant,
    end: Option<Fate>,
    /// The kernel refused something since the last look at its table.
    told_refusal: bool,
}

// === impl Writer ===

impl Writer {
    /// Opens sockets in the calling thread's network namespace, and reads what is there.
    pub(super) fn open(
        config: KernelConfig,
        bgp: std::task::Waker,
        report: Arc<Mutex<KernelReport>>,
    ) -> io::Result<(Self, Arc<Tray>)> {
        let poll = Poll::new()?;
        let tray = Arc::new(Tray::new(poll.registry(), TRAY, bgp)?);
        let events = Events::open()?;
        events.register(poll.registry(), EVENTS)?;
        let mut routes = Routes::open(config)?;
        let held = routes.held()?;
        if !held.is_empty() {
            tracing::info!(routes = held.len(), "routes of a former process are adopted");
        }
        let now = Instant::now();
        let writer = Self {
            poll,
            tray: Arc::clone(&tray),
            routes,
            events,
            plan: Plan::new(config.routes_max, held),
            report,
            look_at: after(now, LOOK_INTERVAL),
            sweep_at: now.checked_add(STRAYS_MAX),
            again_not_before: now,
            end: None,
            told_refusal: false,
        };
        Ok((writer, tray))
    }

    /// Runs until told to end.
    pub(super) fn run(mut self) {
        let mut events = mio::Events::with_capacity(2);
        loop {
            let timeout = self.timeout(Instant::now());
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "routes are no longer installed");
                    break;
                }
                Ok(()) => {}
            }
            let now = Instant::now();
            if events.iter().any(|event| event.token() == EVENTS) {
                self.events.drain();
                self.look_at = self.look_at.min(after(now, LOOK_DELAY));
            }
            self.take();
            if self.end == Some(Fate::Keep) {
                break;
            }
            if self.sweep_at.is_some_and(|at| at <= now) {
                self.sweep();
            }
            if self.look_at <= now {
                self.look(now);
            }
            self.write(now);
            self.publish();
            if self.end.is_some() && !self.plan.is_due() {
                break;
            }
        }
        self.tray.set_ended();
    }

    fn timeout(&self, now: Instant) -> Duration {
        if self.plan.is_due() {
            return Duration::ZERO;
        }
        let again = self.plan.is_relieved().then_some(self.again_not_before);
        let next = [self.sweep_at, again].into_iter().flatten().fold(self.look_at, Instant::min);
        next.saturating_duration_since(now)
    }

    fn take(&mut self) {
        let Contents { routes, complete, end, .. } = self.tray.take();
        for route in routes {
            self.plan.want(route);
        }
        if complete {
            self.sweep();
        }
        if self.end.is_none() && end == Some(Fate::Remove) {
            self.plan.withdraw_all();
        }
        self.end = self.end.or(end);
    }

    fn sweep(&mut self) {
        self.sweep_at = None;
        self.plan.sweep();
    }

    /// Looks at what the kernel holds in truth.
    fn look(&mut self, now: Instant) {
        self.look_at = after(now, LOOK_INTERVAL);
        self.told_refusal = false;
        match self.routes.held() {
            Ok(held) => self.plan.compare(held),
            Err(error) => tracing::warn!(%error, "the kernel's routes cannot be read"),
        }
    }

    fn write(&mut self, now: Instant) {
        let changes = self.plan.next_changes(BATCH);
        if !changes.is_empty() {
            match self.routes.apply(&changes) {
                Ok(outcomes) => {
                    for (change, outcome) in changes.into_iter().zip(outcomes) {
                        self.note(change, outcome);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "routes were perhaps not written");
                    self.look_at = self.look_at.min(after(now, LOOK_DELAY));
                }
            }
        }
        if self.again_not_before <= now && self.plan.is_relieved() {
            self.plan.start_over();
            self.again_not_before = after(now, AGAIN_INTERVAL);
            self.tray.ask_again();
        }
    }

    fn note(&mut self, change: Change, outcome: io::Result<()>) {
        let taken = match (&change, &outcome) {
            // It is gone, which is what was wanted.
            (Change::Remove(_), Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => true,
            (_, outcome) => outcome.is_ok(),
        };
        if let (false, Err(error)) = (taken, outcome) {
            // One line for a router that is gone, not one for each of its routes.
            if self.told_refusal {
                tracing::debug!(?change, %error, "the kernel refuses a route");
            } else {
                tracing::warn!(?change, %error, "the kernel refuses routes, this one first");
                self.told_refusal = true;
            }
        }
        self.plan.done(change, taken);
    }

    fn publish(&self) {
        let counts = self.plan.counts();
        *self.report.lock() = KernelReport {
            installed: self.plan.held(),
            refused: self.plan.refused(),
            over_limit: self.plan.is_over_limit(),
            written: counts.written,
            removed: counts.removed,
            refusals: counts.refused,
            beyond_limit: counts.beyond_limit,
        };
    }
}

fn after(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay).unwrap_or(now)
}
