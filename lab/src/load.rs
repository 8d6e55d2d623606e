//! Users: open-loop requests and long-lived connections from the client nodes.
//!
//! Each client node has a thread inside its namespace. Requests follow a schedule fixed in advance,
//! so a stall never slows the arrivals that would show it. Source ports come round in a fixed
//! order: a port names a flow, and the same flow is expected at the same edge and backend each
//! time, which is what tells *whose* users wait when something dies.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

mod http;
mod metrics;
mod record;
mod users;

pub use self::{
    http::first_answer,
    metrics::{Expected, Metrics, SLOW, expected_groups, longest_gap, metrics},
    record::{Break, FlowKey, Record, Sample, Server},
};
use crate::{
    lab::{Lab, LabError},
    netns::Namespace,
};

/// Requests of one client node over one address family.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The client node.
    pub client: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its address.
    pub source: IpAddr,
    /// The service.
    pub destination: SocketAddr,
}

/// Load in progress; it ends when this is dropped.
#[derive(Debug)]
pub struct Load {
    streams: Vec<Stream>,
    connections: usize,
    /// Once long-lived connections may begin.
    begun: CancellationToken,
    record: Arc<Mutex<Record>>,
    stop: CancellationToken,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Load that cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A client's namespace or addresses.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A thread or its runtime.
    #[error("cannot start the users of {client}")]
    Thread {
        /// The client node.
        client: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Load {
    /// Starts requests on every stream; so many long-lived connections over all of them are to
    /// [begin](Self::begin_connections) later.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(streams: Vec<Stream>, connections: usize) -> Result<Self, LoadError> {
        let record = Arc::new(Mutex::new(Record::default()));
        let stop = CancellationToken::new();
        let begun = CancellationToken::new();
        let mut load = Self { streams, connections, begun, record, stop, threads: Vec::new() };
        let mut clients: Vec<_> = load.streams.iter().map(|stream| stream.client.clone()).collect();
        clients.dedup();
        for client in clients {
            let thread = load
                .start_client(&client)
                .map_err(|source| LoadError::Thread { client: client.clone(), source })?;
            load.threads.push(thread);
        }
        Ok(load)
    }

    /// The streams, in the order that samples refer to.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Opens the long-lived connections. Each begins where its user is then, and an event that moves it
    /// is the first to do so: not before every user is served where they belong.
    pub fn begin_connections(&self) {
        self.begun.cancel();
    }

    /// Forgets all samples so far and begins a window at the instant returned.
    #[must_use]
    pub fn begin_window(&self) -> Instant {
        self.record.lock().begin_window()
    }

    /// Looks at what is recorded so far.
    pub fn with_record<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record.lock())
    }

    /// Long-lived connections that do not live; `None`: all that have begun do.
    #[must_use]
    pub fn missing_connections(&self, now: Instant) -> Option<String> {
        if !self.begun.is_cancelled() {
            return None;
        }
        // Each has its turn, and time to answer.
        let span = RECENT + users::pause(self.connections);
        let since = now.checked_sub(span).unwrap_or(now);
        let alive = self.with_record(|record| record.steady_since(since));
        let all = self.connections;
        (alive < all).then(|| format!("only {alive} of {all} long-lived connections are alive"))
    }

    fn start_client(&self, client: &str) -> std::io::Result<std::thread::JoinHandle<()>> {
        let of_client = self.streams.iter().cloned().enumerate();
        let streams: Vec<_> = of_client.filter(|(_, stream)| stream.client == client).collect();
        let stream_count = self.streams.len();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (record, stop) = (Arc::clone(&self.record), self.stop.clone());
        let steady = users::Steady { count: self.connections, begun: self.begun.clone() };
        std::thread::Builder::new().name(format!("users-{client}")).spawn(move || {
            if let Some((_, stream)) = streams.first()
                && let Err(error) = stream.namespace.enter()
            {
                tracing::error!(%error, "users cannot enter their node");
                return;
            }
            runtime.block_on(users::run(streams, stream_count, steady, record, stop));
        })
    }
}

/// What is no longer ago than that is now.
pub const RECENT: Duration = Duration::from_secs(1);

/// The time in which every flow has its turn once.
pub const CYCLE: Duration = users::CYCLE;

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of users panicked");
            }
        }
    }
}

/// One stream per client node and address family, to `addresses` on `port`.
///
/// # Errors
/// A client's own addresses cannot be found out.
pub fn streams(lab: &Lab, addresses: &[IpAddr], port: u16) -> Result<Vec<Stream>, LabError> {
    let mut streams = Vec::new();
    for node in lab.topology.with_role(crate::topology::Role::Client) {
        for &address in addresses {
            streams.push(Stream {
                client: node.name.clone(),
                namespace: lab.topology.node_namespace(&node.name),
                source: lab.route(&node.name, address)?.source,
                destination: SocketAddr::new(address, port),
            });
        }
    }
    Ok(streams)
}
