//! [`Flows`]: who is served when many ask at once, so that nobody keeps the others out.
//!
//! The platform is always served. Everybody else has a level by what is asked: nodes, then people and
//! programs, then what asks for all objects of a kind. Each level has seats of its own, and a line in
//! front of them in which tenants take turns. A tenant is the organization of a service account, or a
//! user. What lasts without costing anything, a body on its way or a watch, has a bound by itself.

mod gate;
mod queue;

use std::{
    hash::BuildHasher,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

use foldhash::fast::RandomState;
use hyper::Method;
use tokio::{runtime::RuntimeFlavor, task::block_in_place};

pub(super) use self::gate::{GateMetrics, Seat};
use self::{
    gate::Gate,
    queue::{Bounds, Flow},
};
use super::{Metrics, request::Route};
use crate::{
    authz::Identity,
    error::ApiError,
    iam::{Access, SubjectName},
    limits,
};

/// Who is served.
#[derive(Debug)]
pub(super) struct Flows {
    agents: Gate,
    interactive: Gate,
    bulk: Gate,
    /// Large answers that are not taken yet.
    answers: Gate,
    /// Bodies that are on their way.
    bodies: Gate,
    watches: Gate,
    /// Lists being made, also the platform's.
    lists: Arc<AtomicUsize>,
    hasher: RandomState,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) access: &'a Access,
    pub(super) identity: &'a Identity,
}

/// How much a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// All objects of a kind, or their removal.
    Bulk,
    /// Anything else.
    Single,
}

/// A request that is being served.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Held as long as the request is served.
    pub(super) seat: Option<Seat>,
    /// Held until the answer is taken.
    pub(super) answer: Option<Seat>,
}

impl Weight {
    /// How much `method` asks for at `route`. A watch of all objects reads them as they are taken.
    pub(super) fn of(method: &Method, route: &Route, is_watch: bool) -> Self {
        let is_collection = match route {
            Route::Objects(path) => path.name.is_none(),
            Route::Namespaces { name } => name.is_none(),
            Route::Audit(_) => true,
            _ => false,
        };
        let is_bulk = is_collection && *method != Method::POST && !is_watch;
        if is_bulk { Self::Bulk } else { Self::Single }
    }
}

impl Flows {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let gate = |name, seats, waiting, waiting_of_flow, share| {
            let bounds = Bounds { waiting, waiting_of_flow, share };
            Gate::new(seats, bounds, limits::QUEUE_PATIENCE, metrics.gate(name))
        };
        let (bulk, share) = (cores.max(2) * 2, cores.max(2));
        let (queued, of_flow) = (limits::QUEUED, limits::QUEUED_OF_FLOW);
        Self {
            agents: gate("agents", limits::AGENT_SEATS, queued, of_flow, None),
            interactive: gate("interactive", limits::SEATS, queued, of_flow, None),
            bulk: gate("bulk", bulk, limits::ANSWERS, limits::ANSWERS_OF_FLOW, Some(share)),
            answers: gate("answers", limits::ANSWERS, 0, 0, Some(limits::ANSWERS_OF_FLOW)),
            bodies: gate("bodies", limits::BODIES, 0, 0, Some(limits::BODIES_OF_FLOW)),
            watches: gate("watches", limits::TENANTS_WATCHES, 0, 0, Some(limits::WATCHES_OF_FLOW)),
            lists: Arc::default(),
            hasher: RandomState::default(),
        }
    }

    /// Waits until it is the caller's turn, or says to come back.
    pub(super) async fn enter(&self, caller: Caller<'_>, weight: Weight) -> Result<Turn, ApiError> {
        if caller.is_platform() {
            return Ok(Turn::default());
        }
        let flow = || self.flow(caller);
        let (gate, answer) = match (caller.identity, weight) {
            (Identity::Node { .. }, _) => (&self.agents, None),
            (_, Weight::Single) => (&self.interactive, None),
            (_, Weight::Bulk) => (&self.bulk, Some(self.answers.try_enter(flow())?)),
        };
        Ok(Turn { seat: Some(gate.enter(flow).await?), answer })
    }

    /// Room for a body that is on its way.
    pub(super) fn begin_body(&self, caller: Caller<'_>) -> Result<Option<Seat>, ApiError> {
        self.try_enter(&self.bodies, caller)
    }

    /// Room for a watch.
    pub(super) fn begin_watch(&self, caller: Caller<'_>) -> Result<Option<Seat>, ApiError> {
        self.try_enter(&self.watches, caller)
    }

    fn try_enter(&self, gate: &Gate, caller: Caller<'_>) -> Result<Option<Seat>, ApiError> {
        match caller.is_platform() {
            true => Ok(None),
            false => gate.try_enter(self.flow(caller)).map(Some),
        }
    }

    /// Makes a list. While others are made, it makes room for what is quick: threads of the runtime
    /// are few, and each list would keep one from everything else.
    pub(super) fn list<T>(&self, make: impl FnOnce() -> T) -> T {
        let others = self.lists.fetch_add(1, Ordering::Relaxed);
        let _made = Made(&self.lists);
        let is_multi = |runtime: tokio::runtime::Handle| {
            runtime.runtime_flavor() == RuntimeFlavor::MultiThread
        };
        if others > 0 && tokio::runtime::Handle::try_current().is_ok_and(is_multi) {
            return block_in_place(make);
        }
        make()
    }

    /// Whom a request is counted for.
    fn flow(&self, caller: Caller<'_>) -> Flow {
        let name = match caller.identity {
            Identity::Administrator { .. } | Identity::Component { .. } => return 0,
            Identity::Node { name } => return self.hasher.hash_one(("node", name)),
            Identity::Subject(who) => &who.subject,
        };
        match name {
            SubjectName::ServiceAccount(namespace, _) => {
                let top = caller.access.organization_of(namespace);
                self.hasher.hash_one(("organization", top.as_deref().unwrap_or(namespace)))
            }
            subject => self.hasher.hash_one(("user", subject.username())),
        }
    }
}

impl Caller<'_> {
    fn is_platform(self) -> bool {
        matches!(self.identity, Identity::Administrator { .. } | Identity::Component { .. })
    }
}

/// A list that was made.
struct Made<'a>(&'a AtomicUsize);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_ask_for_much_and_creates_and_watches_do_not() {
        let of = |method, path, is_watch| {
            Weight::of(&method, &Route::parse(path).expect("a route"), is_watch)
        };
        for path in ["/api/v1/namespaces", "/api/v1/namespaces/web/secrets", "/apis/g/v/nodes"] {
            assert_eq!(of(Method::GET, path, false), Weight::Bulk, "{path}");
            assert_eq!(of(Method::GET, path, true), Weight::Single, "{path}");
            assert_eq!(of(Method::DELETE, path, false), Weight::Bulk, "{path}");
            assert_eq!(of(Method::POST, path, false), Weight::Single, "{path}");
        }
        assert_eq!(of(Method::GET, "/apis/g/v/nodes/a", false), Weight::Single);
        assert_eq!(of(Method::GET, "/apis", false), Weight::Single);
    }
}
