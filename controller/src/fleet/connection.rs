//! One connection from an agent, from its handshake to its end.
//!
//! Reads and writes what the session decides, and tells [`Nodes`](super::Nodes) what became of it.
//! A fault here costs one agent its connection, which it makes anew.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use isocast_api::agent::{
    CloseCode, ENROLL_BYTES_MAX, EnrollRequest, FleetView, FrameDecoder, FrameError, FromAgent,
    FromController, NodeStatus, STATUS_BYTES_MAX, ServiceView, frame, from_agent, from_controller,
};
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::{
    announcers::Announcers,
    enroll::Enroller,
    limits::{CHUNK_BYTES, OPENING_TIME},
    metrics::Metrics,
    nodes::{Nodes, Progress, Tenure},
    session::{Action, Compiled, History, Session},
    source::Desired,
    tls::{Peer, PeerError},
    tokens::NodeRef,
};

/// What every connection works with.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) desired: watch::Receiver<Arc<dyn Desired>>,
    pub(super) nodes: Arc<Nodes>,
    pub(super) announcers: watch::Receiver<Arc<Announcers>>,
    pub(super) enroller: Enroller,
    pub(super) metrics: Arc<Metrics>,
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// We close it.
    Close(CloseCode, String),
    /// The agent did, or the network.
    Lost,
}

/// Serves an established connection to its end.
pub(super) async fn serve(connection: Connection, context: Context) {
    let remote = connection.remote_address();
    let end = match Peer::of(&connection, SystemTime::now()) {
        Ok(Peer::Enroll(bearer)) => enroll(&connection, context, bearer).await,
        Ok(Peer::Session(node, until)) => session(&connection, context, node, until).await,
        Err(PeerError::Expired) => End::close(CloseCode::CertificateExpired),
        Err(PeerError::Missing | PeerError::NotANode) => End::close(CloseCode::CertificateRequired),
    };
    match end {
        End::Close(code, why) => {
            tracing::info!(%remote, reason = %code, why, "connection closed");
            connection.close(VarInt::from_u32(code.code()), why.as_bytes());
        }
        End::Lost => tracing::info!(%remote, "connection lost"),
    }
}

// === enrolment ===

async fn enroll(connection: &Connection, context: Context, bearer: Option<NodeRef>) -> End {
    let exchange = async {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let mut decoder = FrameDecoder::new(ENROLL_BYTES_MAX);
        let request: EnrollRequest = next(&mut receive, &mut decoder).await?;
        let desired = Arc::clone(&context.desired.borrow());
        let Context { enroller, metrics, .. } = context;
        let answering = spawn_blocking(move || {
            enroller.answer(&request, bearer.as_ref(), &*desired, SystemTime::now())
        });
        let response = answering.await.map_err(|_panic| End::close(CloseCode::Overloaded))?;
        let is_refusal = !response.error_reason.is_empty();
        let counter = if is_refusal { &metrics.not_enrolled } else { &metrics.enrolled };
        counter.inc();
        send.write_all(&frame(&response)).await?;
        // The agent closes, once it has read the answer.
        connection.closed().await;
        Err(End::Lost)
    };
    let outcome: Result<Result<Infallible, End>, _> = timeout(OPENING_TIME, exchange).await;
    match outcome {
        Ok(Err(end)) => end,
        Err(_elapsed) => End::violation("enrolment took too long"),
    }
}

// === session ===

async fn session(
    connection: &Connection,
    context: Context,
    node: NodeRef,
    until: SystemTime,
) -> End {
    let Some(target) = compile(&context.desired.borrow(), &node) else {
        return End::close(CloseCode::NodeUnknown);
    };
    let (seat, history, mut superseded) = Seat::take(&context, &node);
    tracing::info!(node = node.name, remote = %connection.remote_address(), "session opened");
    let life = until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
    let tenure = seat.tenure;
    context.nodes.attach(&node.name, tenure, connection.clone());
    let mut talk = Talk {
        session: Session::new(history, target),
        node: &node,
        seat,
        metrics: &context.metrics,
        offered_at: None,
        told: None,
    };
    let end = tokio::select! {
        end = talk.configuration(connection, context.desired.clone(), context.announcers) => end,
        end = status(connection, &context.nodes, &node, tenure) => end,
        changed = superseded.changed() => match changed {
            Ok(()) => End::close(CloseCode::Superseded),
            Err(_forgotten) => End::close(CloseCode::NodeUnknown),
        },
        () = sleep(life) => End::close(CloseCode::CertificateExpired),
    };
    talk.seat.history = talk.session.history().clone();
    if let End::Close(CloseCode::Protocol, _) = end {
        context.metrics.violations.inc();
    }
    end
}

/// What the node shall run, if it is still the node that the certificate was issued to.
fn compile(desired: &Arc<dyn Desired>, node: &NodeRef) -> Option<Arc<Compiled>> {
    (desired.node_uid(&node.name)? == node.uid)
        .then(|| Arc::new(Compiled::new(desired.revision(), desired.compile(&node.name))))
}

/// A session's place among the nodes' reports; leaves it when dropped, however that comes about.
struct Seat {
    nodes: Arc<Nodes>,
    metrics: Arc<Metrics>,
    node: String,
    tenure: Tenure,
    history: History,
}

impl Seat {
    fn take(context: &Context, node: &NodeRef) -> (Self, History, watch::Receiver<Tenure>) {
        let Context { nodes, metrics, .. } = context;
        let (tenure, history, superseded) = nodes.open(&node.name, &node.uid, Instant::now());
        metrics.connected.inc();
        let seat = Self {
            nodes: Arc::clone(nodes),
            metrics: Arc::clone(metrics),
            node: node.name.clone(),
            tenure,
            history: History::default(),
        };
        (seat, history, superseded)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.connected.dec();
        let history = std::mem::take(&mut self.history);
        self.nodes.close(&self.node, self.tenure, history, Instant::now());
    }
}

/// The configuration stream.
struct Talk<'a> {
    session: Session,
    node: &'a NodeRef,
    seat: Seat,
    metrics: &'a Metrics,
    offered_at: Option<Instant>,
    /// What it knows of who announces its services.
    told: Option<BTreeMap<String, ServiceView>>,
}

impl Talk<'_> {
    async fn configuration(
        &mut self,
        connection: &Connection,
        mut desired: watch::Receiver<Arc<dyn Desired>>,
        mut announcers: watch::Receiver<Arc<Announcers>>,
    ) -> End {
        let talk = async {
            let (mut send, mut receive) = timeout(OPENING_TIME, connection.accept_bi())
                .await
                .map_err(|_elapsed| End::violation("no configuration stream"))??;
            let mut decoder = FrameDecoder::new(STATUS_BYTES_MAX);
            announcers.mark_changed();
            loop {
                let actions = tokio::select! {
                    message = next(&mut receive, &mut decoder) => self.received(message?)?,
                    changed = desired.changed() => {
                        changed.map_err(|_gone| End::close(CloseCode::ShuttingDown))?;
                        let desired = Arc::clone(&desired.borrow_and_update());
                        let target = compile(&desired, self.node)
                            .ok_or_else(|| End::close(CloseCode::NodeUnknown))?;
                        self.session.retarget(target)
                    }
                    changed = announcers.changed() => {
                        changed.map_err(|_gone| End::close(CloseCode::ShuttingDown))?;
                        let news = announcers.borrow_and_update();
                        news.news(&self.node.name, &mut self.told).map(view).into_iter().collect()
                    }
                };
                for action in actions {
                    self.act(action, &mut send).await?;
                }
            }
        };
        let outcome: Result<Infallible, End> = talk.await;
        match outcome {
            Err(end) => end,
        }
    }

    fn received(&mut self, message: FromAgent) -> Result<Vec<Action>, End> {
        if let Some(from_agent::Message::Hello(hello)) = &message.message
            && hello.node != self.node.name
        {
            return Err(End::violation("the greeting names another node"));
        }
        Ok(self.session.received(message))
    }

    async fn act(&mut self, action: Action, send: &mut SendStream) -> Result<(), End> {
        let progress = match action {
            Action::Applied { revision } => {
                self.acknowledged();
                Progress::Applied { revision }
            }
            Action::AppliedInPart { revision, refused } => {
                self.acknowledged();
                let (node, entries) = (&self.node.name, refused.len());
                tracing::warn!(node, revision, entries, "configuration refused in part");
                Progress::AppliedInPart { revision, refused }
            }
            Action::Offered => {
                let since = Instant::now();
                self.offered_at = Some(since);
                Progress::Offered { since }
            }
            Action::Refused { nack, held } => {
                self.metrics.nacks.inc();
                let (node, revision) = (&self.node.name, nack.revision);
                tracing::warn!(node, revision, reason = nack.reason, "configuration refused");
                Progress::Refused { held, nack: Arc::new(nack) }
            }
            Action::Send(message) => {
                let message = frame(&message);
                self.metrics.sent_bytes.inc_by(message.len() as u64);
                return Ok(send.write_all(&message).await?);
            }
            Action::Violation(what) => return Err(End::violation(what)),
        };
        self.seat.nodes.update(&self.node.name, self.seat.tenure, |report| {
            report.progress = progress;
        });
        Ok(())
    }

    fn acknowledged(&mut self) {
        self.metrics.acks.inc();
        if let Some(offered_at) = self.offered_at.take() {
            self.metrics.lag.observe(offered_at.elapsed().as_secs_f64());
        }
    }
}

/// Tells who else announces the node's services.
fn view(view: FleetView) -> Action {
    Action::Send(FromController { message: Some(from_controller::Message::FleetView(view)) })
}

/// The status stream.
async fn status(connection: &Connection, nodes: &Nodes, node: &NodeRef, tenure: Tenure) -> End {
    let listen = async {
        let mut receive = connection.accept_uni().await?;
        let mut decoder = FrameDecoder::new(STATUS_BYTES_MAX);
        loop {
            let status: NodeStatus = next(&mut receive, &mut decoder).await?;
            let statement = Some((Arc::new(status), Instant::now()));
            nodes.update(&node.name, tenure, |report| report.statement = statement);
        }
    };
    let outcome: Result<Infallible, End> = listen.await;
    match outcome {
        Err(end) => end,
    }
}

/// The stream's next message. Cancel-safe: what has been read stays in the decoder.
async fn next<M: prost::Message + Default>(
    receive: &mut RecvStream,
    decoder: &mut FrameDecoder,
) -> Result<M, End> {
    loop {
        if let Some(message) = decoder.take()? {
            return Ok(message);
        }
        let chunk = receive.read_chunk(CHUNK_BYTES, true).await?.ok_or(End::Lost)?;
        decoder.push(&chunk.bytes);
    }
}

impl End {
    fn close(code: CloseCode) -> Self {
        Self::Close(code, String::new())
    }

    fn violation(what: impl ToString) -> Self {
        Self::Close(CloseCode::Protocol, what.to_string())
    }
}

impl From<ConnectionError> for End {
    fn from(_: ConnectionError) -> Self {
        Self::Lost
    }
}

impl From<ReadError> for End {
    fn from(_: ReadError) -> Self {
        Self::Lost
    }
}

impl From<WriteError> for End {
    fn from(_: WriteError) -> Self {
        Self::Lost
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        Self::violation(error)
    }
}
