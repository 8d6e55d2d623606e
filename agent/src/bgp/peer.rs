//! The task of one peer: feeds its session with what happens and carries out what it says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use isocast_bgp::{
    adj_in::RouteChange,
    adj_out::Desired,
    adj_ribs::AdjRibs,
    fsm::{Action, ConfigError, ConnectionId, Input, RestartState, Session, State, Stop},
    guard::ExportGuard,
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::config::{PeerConfig, SpeakerConfig};
use super::connection::{self, Arrival, Order, Origin, Progress, Reports};
use super::status::{PeerStatus, PeerStatuses, RouteEvent};

/// Reports of connections that wait for the peer's task.
const REPORTS_MAX: usize = 8;

/// What all peers are to announce.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub(super) desired: Arc<Desired>,
    pub(super) guard: Arc<ExportGuard>,
    pub(super) forwarding_preserved: bool,
    pub(super) initial_set_complete: bool,
}

/// What one peer is to do.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) config: Arc<PeerConfig>,
    pub(super) stop: Option<Stop>,
}

/// Everything a peer's task listens to and reports to.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) wishes: watch::Receiver<Wishes>,
    pub(super) accepted: mpsc::Receiver<TcpStream>,
    pub(super) statuses: watch::Sender<PeerStatuses>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    speaker: Arc<SpeakerConfig>,
    config: Arc<PeerConfig>,
    ends: Ends,
    session: Session,
    routes: AdjRibs,
    status: PeerStatus,
    actions: Vec<Action>,
    connections: BTreeMap<ConnectionId, Wire>,
    tasks: JoinSet<()>,
    reports: Reports,
    progress: mpsc::Receiver<Progress>,
    arrivals: mpsc::Receiver<Arrival>,
    /// Route changes that the consumer has no room for yet; reading pauses meanwhile.
    undelivered: VecDeque<RouteEvent>,
}

/// Our end of a connection's task.
#[derive(Debug)]
struct Wire {
    orders: mpsc::Sender<Order>,
    flow: Flow,
}

/// Whether a connection can take a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Ready,
    Writing,
}

impl Peer {
    pub(super) fn new(
        speaker: Arc<SpeakerConfig>,
        config: Arc<PeerConfig>,
        seed: u64,
        ends: Ends,
    ) -> Result<Self, ConfigError> {
        let wishes = ends.wishes.borrow().clone();
        let restart = RestartState {
            restarting: speaker.restarting && !wishes.initial_set_complete,
            forwarding_preserved: wishes.forwarding_preserved,
        };
        let session = Session::new(Instant::now(), config.session(&speaker)?, restart, seed)?;
        let routes = AdjRibs::new(config.import);
        let (progress_end, progress) = mpsc::channel(REPORTS_MAX);
        let (arrivals_end, arrivals) = mpsc::channel(REPORTS_MAX);
        Ok(Self {
            status: PeerStatus::new(config.name.clone()),
            speaker,
            config,
            ends,
            session,
            routes,
            actions: Vec::new(),
            connections: BTreeMap::new(),
            tasks: JoinSet::new(),
            reports: Reports { progress: progress_end, arrivals: arrivals_end },
            progress,
            arrivals,
            undelivered: VecDeque::new(),
        })
    }

    /// Runs until ordered to stop, and farewells are said.
    pub(super) async fn run(mut self) {
        self.take_wishes();
        self.handle(Input::Start);
        loop {
            self.carry_out();
            self.transmit();
            self.publish();
            if self.step().await.is_break() {
                break;
            }
        }
        self.carry_out();
        self.publish();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits for the next thing to happen. Cancellation-safe: each branch takes one message.
    async fn step(&mut self) -> std::ops::ControlFlow<()> {
        let deadline = self.session.next_deadline().map(tokio::time::Instant::from_std);
        tokio::select! {
            biased;
            changed = self.ends.orders.changed() => return self.take_orders(changed.is_ok()),
            Ok(()) = self.ends.wishes.changed() => self.take_wishes(),
            Some(progress) = self.progress.recv() => self.on_progress(progress),
            Some(stream) = self.ends.accepted.recv() => self.on_accepted(stream),
            Some(arrival) = self.arrivals.recv(), if self.undelivered.is_empty() => {
                self.on_arrival(&arrival);
            }
            () = room(self.speaker.routes.as_ref()), if !self.undelivered.is_empty() => {
                self.deliver();
            }
            () = sleep_until(deadline) => self.handle(Input::Tick),
            Some(_) = self.tasks.join_next() => {}
        }
        std::ops::ControlFlow::Continue(())
    }

    fn handle(&mut self, input: Input<'_>) {
        self.session.handle(Instant::now(), input, &mut self.routes, &mut self.actions);
    }

    /// A speaker that is gone has been dropped: its routes are to stay.
    fn take_orders(&mut self, speaker_lives: bool) -> std::ops::ControlFlow<()> {
        let Orders { config, stop } = self.ends.orders.borrow_and_update().clone();
        let stop = if speaker_lives { stop } else { Some(Stop::Preserve) };
        if let Some(stop) = stop {
            self.handle(Input::Stop(stop));
            return std::ops::ControlFlow::Break(());
        }
        let now = Instant::now();
        let reconnect = self.config.needs_reconnect(&config) || self.config.import != config.import;
        self.config = config;
        self.status.name.clone_from(&self.config.name);
        let outcome = self.config.session(&self.speaker).and_then(|session| {
            self.session.reconfigure(now, session, &mut self.routes, &mut self.actions)
        });
        if let Err(error) = outcome {
            self.status.last_error = Some(error.to_string());
        }
        if reconnect {
            self.session.reset(now, &mut self.routes, &mut self.actions);
            self.routes.adj_in.set_policy(self.config.import);
        }
        std::ops::ControlFlow::Continue(())
    }

    fn take_wishes(&mut self) {
        let wishes = self.ends.wishes.borrow_and_update().clone();
        self.session.set_forwarding_preserved(wishes.forwarding_preserved);
        self.routes.adj_out.set_guard(wishes.guard);
        self.routes.adj_out.set_desired(wishes.desired);
        if wishes.initial_set_complete {
            self.session.initial_set_complete();
        }
    }

    fn on_progress(&mut self, progress: Progress) {
        match progress {
            Progress::Connected { id, local } => self.handle(Input::Connected { id, local }),
            Progress::Failed { id, error } => {
                self.handle(Input::ConnectFailed { id, error: error.to_string() });
            }
            Progress::Written { id } => {
                if let Some(wire) = self.connections.get_mut(&id) {
                    wire.flow = Flow::Ready;
                }
            }
        }
    }

    fn on_accepted(&mut self, stream: TcpStream) {
        let Ok(local) = connection::endpoint(&stream) else { return };
        if let Some(id) = self.session.incoming(Instant::now(), local) {
            self.open(id, Origin::Accepted(stream));
        }
    }

    fn on_arrival(&mut self, arrival: &Arrival) {
        match arrival {
            Arrival::Bytes { id, bytes } => self.handle(Input::Received { id: *id, bytes }),
            Arrival::Closed { id } => self.handle(Input::Closed { id: *id }),
        }
    }

    fn open(&mut self, id: ConnectionId, origin: Origin) {
        let (orders, receiver) = connection::orders();
        self.connections.insert(id, Wire { orders, flow: Flow::Ready });
        self.tasks.spawn(connection::run(id, origin, receiver, self.reports.clone()));
    }

    fn carry_out(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Connect(id) => {
                    let local = self.config.local_address;
                    self.open(id, Origin::Dial { remote: self.config.remote(), local });
                }
                Action::Close { id, farewell } => {
                    // One chunk may be under way; the second place in the queue is for this.
                    let wire = self.connections.remove(&id);
                    drop(wire.map(|wire| wire.orders.try_send(Order::Close { farewell })));
                }
                Action::Established => {
                    self.status.last_error = None;
                    tracing::info!(peer = %self.config.name, address = %self.config.address, "BGP session established");
                }
                Action::Ended { state, reason } => {
                    let error = reason.to_string();
                    if state == State::Established
                        || self.status.last_error.as_ref() != Some(&error)
                    {
                        tracing::warn!(peer = %self.config.name, address = %self.config.address, %state, %reason, "BGP session ended");
                    }
                    self.status.last_error = Some(error);
                }
                Action::Routes(changes) => self.queue(changes),
                Action::EndOfRib(family) => {
                    tracing::debug!(peer = %self.config.name, %family, "End-of-RIB received");
                }
                Action::Fault(fault) => {
                    self.status.faults = self.status.faults.saturating_add(1);
                    tracing::debug!(peer = %self.config.name, %fault, "UPDATE with a fault");
                }
            }
        }
    }

    fn transmit(&mut self) {
        for (id, wire) in &mut self.connections {
            if wire.flow == Flow::Writing {
                continue;
            }
            let mut chunk = Vec::new();
            self.session.transmit(*id, &mut self.routes, &mut chunk);
            if !chunk.is_empty() && wire.orders.try_send(Order::Write(chunk)).is_ok() {
                wire.flow = Flow::Writing;
            }
        }
    }

    fn queue(&mut self, changes: Vec<RouteChange>) {
        if self.speaker.routes.is_none() {
            return;
        }
        let at = SystemTime::now();
        let peer = &self.config.uid;
        let events =
            changes.into_iter().map(|change| RouteEvent { peer: Arc::clone(peer), at, change });
        self.undelivered.extend(events);
        self.deliver();
    }

    /// Hands over what the consumer has room for.
    fn deliver(&mut self) {
        let Some(routes) = &self.speaker.routes else { return };
        while let Some(event) = self.undelivered.pop_front() {
            match routes.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.undelivered.push_front(event);
                    return;
                }
            }
        }
    }

    fn publish(&mut self) {
        let state = self.session.state();
        if self.status.state != state {
            self.status.state = state;
            self.status.since = SystemTime::now();
        }
        let adj_out = &self.routes.adj_out;
        if !adj_out.sent().keys().eq(self.status.announced.iter()) {
            self.status.announced = adj_out.sent().keys().copied().collect();
        }
        if adj_out.withheld() != &self.status.withheld {
            self.status.withheld = adj_out.withheld().clone();
        }
        self.status.initial_routes_sent =
            state == State::Established && self.session.end_of_rib_owed().is_empty();
        self.ends.statuses.send_if_modified(|statuses| {
            // The speaker makes and removes entries: a peer that was removed leaves none behind.
            match statuses.get_mut(&self.config.uid) {
                Some(known) if *known != self.status => {
                    known.clone_from(&self.status);
                    true
                }
                _ => false,
            }
        });
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits until the consumer has room, or is gone.
async fn room(routes: Option<&mpsc::Sender<RouteEvent>>) {
    if let Some(routes) = routes {
        drop(routes.reserve().await);
    }
}
