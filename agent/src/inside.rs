//! The data plane seen from inside, in the words of the local API: what a packet would meet, what
//! the program does with it, what was counted.
//!
//! Composes what [`isocast_dataplane`] says with the names of the status; decides nothing.

mod admission;
mod capture;
mod explain;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use isocast_api::agent::{
    NodeStatus,
    local::dataplane::{
        BackendCount, CaptureQuery, CaptureView, CountersView, ExplainView, FlowQuery,
        OutcomeCount, ServiceCount, ServiceRef, TraceView,
    },
};
use isocast_dataplane::{Dataplane, InspectError, NotAPacket};
use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;
use thiserror::Error;

use self::capture::Session;
pub use self::capture::{
    CAPTURE_ID_MAX, CAPTURE_LEASE, CAPTURE_PAGE, CAPTURE_TIME_MAX, Refusal as CaptureRefusal,
};
use crate::{
    runtime::{KernelCounters, error_chain},
    telemetry::Names,
};

/// Looks into the data plane of this host.
#[derive(Clone, Debug)]
pub struct Inside {
    kernel: KernelCounters,
    session: Arc<Mutex<Option<Session>>>,
}

/// There is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Blind {
    /// Nothing was put in force yet.
    #[error("the data plane is not open")]
    Closed,
    /// Nothing is captured.
    #[error(transparent)]
    Capture(#[from] CaptureRefusal),
    /// The counters cannot be read.
    #[error("the counters cannot be read")]
    Counters,
    /// The data plane does not say.
    #[error("{}", error_chain(.0))]
    Inspect(#[from] InspectError),
    /// The packet that is asked about cannot be.
    #[error(transparent)]
    Question(#[from] NotAPacket),
}

/// What an answer is composed of besides the data plane's.
#[derive(Clone, Debug)]
pub struct About {
    /// Name of the node.
    pub node: String,
    /// The names of what the data plane knows by uid.
    pub status: Arc<NodeStatus>,
}

// === impl Inside ===

impl Inside {
    /// Looks into the data plane whose counters these are.
    #[must_use]
    pub fn new(kernel: KernelCounters) -> Self {
        Self { kernel, session: Arc::default() }
    }

    /// What the tables say of a packet.
    ///
    /// # Errors
    /// There is no data plane, or no such packet.
    pub fn explain(&self, about: &About, query: &FlowQuery) -> Result<ExplainView, Blind> {
        let question = explain::question(query)?;
        let look = |dataplane: &Dataplane| {
            let explained = dataplane.explain_arrival(&question)?;
            Ok(explain::view(about, query, &explained))
        };
        self.kernel.with(look).unwrap_or(Err(Blind::Closed))
    }

    /// What the program does with a packet.
    ///
    /// # Errors
    /// There is no data plane, no such packet, or the kernel refuses.
    pub fn trace(&self, about: &About, query: &FlowQuery) -> Result<TraceView, Blind> {
        let question = explain::question(query)?;
        let look = |dataplane: &Dataplane| {
            let inspection = dataplane.inspect(&question)?;
            Ok(explain::trace(about, query, &inspection))
        };
        self.kernel.with(look).unwrap_or(Err(Blind::Closed))
    }

    /// The next records of a capture.
    ///
    /// # Errors
    /// There is no data plane, no such service, or somebody else captures.
    pub fn capture(&self, about: &About, query: &CaptureQuery) -> Result<CaptureView, Blind> {
        let session = &mut *self.session.lock();
        let step = capture::step(session, query, Instant::now())?;
        let look = |dataplane: &Dataplane| capture::carry_out(dataplane, session, step, about);
        let Some(answer) = self.kernel.with(look) else {
            // It holds up nobody.
            *session = None;
            return Err(Blind::Closed);
        };
        Ok(answer?)
    }

    /// What was counted.
    ///
    /// # Errors
    /// There is no data plane, or the kernel refuses.
    pub fn counters(&self, about: &About) -> Result<CountersView, Blind> {
        let look = |dataplane: &Dataplane| {
            let counters = dataplane.counters().ok()?;
            let (drops, tenants) = (dataplane.drops().ok()?, dataplane.tenants());
            Some((counters, monotonic_ns(), dataplane.generation().0, tenants, drops))
        };
        let read = self.kernel.with(look).ok_or(Blind::Closed)?;
        let (counters, at_ns, generation, tenants, drops) = read.ok_or(Blind::Counters)?;
        let names = Names::of(&about.status);
        let service =
            |(key, count): (&isocast_dataplane::ServiceKey, &isocast_dataplane::Counter)| {
                ServiceCount {
                    service: service_ref(
                        &names,
                        &key.0,
                        tenants.get(key).copied().unwrap_or_default(),
                    ),
                    packets: count.packets,
                    bytes: count.bytes,
                    drops: (drops.get(key).into_iter().flatten())
                        .map(|(reason, packets)| (reason.as_str().to_owned(), *packets))
                        .collect(),
                }
            };
        let backend =
            |(key, count): (&isocast_dataplane::BackendKey, &isocast_dataplane::Counter)| {
                let uid: &str = &key.0;
                let (namespace, pool, name) = names.backends.get(uid).copied().unwrap_or_default();
                BackendCount {
                    namespace: namespace.to_owned(),
                    pool: pool.to_owned(),
                    name: name.to_owned(),
                    uid: uid.to_owned(),
                    packets: count.packets,
                    bytes: count.bytes,
                }
            };
        let outcomes = counters.outcomes.iter().map(|(outcome, packets)| OutcomeCount {
            outcome: outcome.as_str().to_owned(),
            drop: outcome.is_drop(),
            packets: *packets,
        });
        let had = |count: &isocast_dataplane::Counter| count.packets > 0;
        Ok(CountersView {
            node: about.node.clone(),
            at_ns,
            generation,
            services: counters.services.iter().filter(|it| had(it.1)).map(service).collect(),
            backends: counters.backends.iter().filter(|it| had(it.1)).map(backend).collect(),
            outcomes: outcomes.collect(),
        })
    }
}

/// A service by uid, with the names it has.
fn service_ref(names: &Names<'_>, uid: &str, tenant: u32) -> ServiceRef {
    let (namespace, name) = names.services.get(uid).copied().unwrap_or_default();
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    ServiceRef { namespace, name, uid: uid.to_owned(), tenant }
}

/// The clock that readings are stamped by: nobody sets it.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
