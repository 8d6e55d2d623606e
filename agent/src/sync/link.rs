//! [`Link`]: keeps a connection to the controller, for ever.
//!
//! Owns the identity and its renewal, and the two streams of a session. Knows nothing of what the
//! messages mean: configuration goes to and comes from the session's task as it is. A connection
//! that ends, for whatever reason, costs a delay and nothing else.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::Router;
use isocast_api::agent::{
    CONFIGURATION_BYTES_MAX, CloseCode, FrameDecoder, FromAgent, FromController, JoinToken,
    NodeStatus, frame,
};
use quinn::{Connection, SendStream};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    backoff::Backoff,
    controllers::Controllers,
    dial::dial,
    enroll::{Credential, enroll},
    error::LinkError,
    identity::{Identity, Validity},
    metrics::Metrics,
    relay,
    state_dir::StateDir,
    tls::Purpose,
};

/// Whether the controller is in touch, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// A session is open.
    Connected,
    /// There is none.
    Disconnected {
        /// What the last attempt ended with.
        reason: String,
    },
}

/// Where the controllers are, and who this node is to them.
#[derive(Debug)]
pub(super) struct LinkOptions {
    /// Where the controllers are.
    pub(super) controllers: Controllers,
    /// This node's name.
    pub(super) node: String,
    /// File with a join token, for a node that has not joined yet.
    pub(super) join_token_file: Option<PathBuf>,
}

/// What a link tells the session's task.
#[derive(Debug)]
pub(super) enum Event {
    /// A connection was opened; messages for the controller go into `outbox`.
    Opened { outbox: mpsc::Sender<FromAgent> },
    /// The controller sent a message.
    Received(FromController),
}

/// The driver of connections.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) options: LinkOptions,
    pub(super) dir: Arc<StateDir>,
    pub(super) identity: Option<Identity>,
    /// Set when the controller says that the certificate has expired, whatever our clock says.
    pub(super) is_renewal_due: bool,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) status: watch::Receiver<Option<Arc<NodeStatus>>>,
    pub(super) state: watch::Sender<LinkState>,
    pub(super) metrics: Metrics,
    /// What answers the controller's questions.
    pub(super) local: Option<Router>,
}

impl Link {
    /// Connects again and again.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let outcome = self.connect().await;
            self.metrics.connected.set(0);
            if started.elapsed() >= STABLE_TIME {
                backoff.reset();
            }
            let error = match outcome {
                Ok(()) => continue, // renewed: the next session has the new certificate
                Err(error) => error,
            };
            match &error {
                LinkError::Closed(CloseCode::Overloaded) => backoff.slow_down(),
                LinkError::Closed(CloseCode::CertificateExpired) => self.is_renewal_due = true,
                _ => {}
            }
            self.lost(&error);
            self.options.controllers.pass();
            sleep(backoff.next(rand::random())).await;
        }
    }

    fn lost(&self, error: &LinkError) {
        let next = LinkState::Disconnected { reason: error.to_string() };
        // The same words every three seconds help nobody.
        if *self.state.borrow() == next {
            debug!(%error, "controller still out of reach");
        } else {
            let controller = self.options.controllers.names();
            warn!(%error, controller, "no session with the controller");
        }
        self.state.send_replace(next);
    }

    /// Whatever comes next: enrolment, or a session. Ends well only with another certificate.
    async fn connect(&mut self) -> Result<(), LinkError> {
        let address = self.options.controllers.address().await?;
        let now = SystemTime::now();
        let renewed = match &self.identity {
            None => {
                let token = self.join_token().await?;
                self.enroll(address, Credential::Join(&token)).await?
            }
            Some(held) if self.is_renewal_due || held.validity().is_expired(now) => {
                self.enroll(address, Credential::Renew(held)).await?
            }
            Some(held) => self.session(address, held).await?,
        };
        self.is_renewal_due = false;
        self.identity = Some(renewed);
        Ok(())
    }

    /// A session, until it ends or the identity has been renewed.
    async fn session(
        &self,
        address: SocketAddr,
        identity: &Identity,
    ) -> Result<Identity, LinkError> {
        let dialed = dial(address, Purpose::Session(identity)).await?;
        let connection = &dialed.connection;
        let (outbox, inbox) = mpsc::channel(OUTBOX_MESSAGES);
        if self.events.send(Event::Opened { outbox }).await.is_err() {
            return Err(LinkError::Ended);
        }
        info!(controller = %address, "session opened");
        self.state.send_replace(LinkState::Connected);
        self.metrics.connected.set(1);
        self.metrics.connections.inc();

        let renewed = tokio::select! {
            error = self.configuration(connection, inbox) => return Err(error),
            error = report(connection, self.status.clone()) => return Err(error),
            error = relay::serve(connection, self.local.as_ref()) => return Err(error),
            renewed = self.renewal(address, identity) => renewed,
        };
        dialed.close().await;
        Ok(renewed)
    }

    /// The configuration stream, both ways.
    async fn configuration(
        &self,
        connection: &Connection,
        mut inbox: mpsc::Receiver<FromAgent>,
    ) -> LinkError {
        let exchange = async {
            let (mut send, mut receive) = connection.open_bi().await?;
            let mut decoder = FrameDecoder::new(CONFIGURATION_BYTES_MAX);
            loop {
                tokio::select! {
                    message = inbox.recv() => {
                        let message = message.ok_or(LinkError::Ended)?;
                        send.write_all(&frame(&message)).await?;
                    }
                    chunk = receive.read_chunk(CHUNK_BYTES, true) => {
                        let chunk = chunk?.ok_or(LinkError::Ended)?;
                        self.metrics.received_bytes.inc_by(chunk.bytes.len() as u64);
                        decoder.push(&chunk.bytes);
                        while let Some(message) = decoder.take()? {
                            let event = Event::Received(message);
                            self.events.send(event).await.map_err(|_gone| LinkError::Ended)?;
                        }
                    }
                }
            }
        };
        let outcome: Result<std::convert::Infallible, LinkError> = exchange.await;
        match outcome {
            Err(error) => connection.close_reason().map_or(error, LinkError::from),
        }
    }

    /// Waits until renewal is due, and tries until it succeeds.
    async fn renewal(&self, address: SocketAddr, identity: &Identity) -> Identity {
        let mut wait = RENEWAL_INTERVAL_MIN;
        loop {
            sleep(wait.max(until_renewal(identity.validity(), SystemTime::now()))).await;
            if SystemTime::now() < identity.validity().renew_at() {
                continue;
            }
            match self.enroll(address, Credential::Renew(identity)).await {
                Ok(renewed) => return renewed,
                Err(error) => warn!(%error, "the certificate could not be renewed"),
            }
            wait = RENEWAL_RETRY_MAX.mul_f64(rand::random_range(0.1..1.0));
        }
    }

    async fn enroll(
        &self,
        address: SocketAddr,
        credential: Credential<'_>,
    ) -> Result<Identity, LinkError> {
        let node = &self.options.node;
        let enrolling = enroll(address, &self.dir, node, credential);
        let enrolled =
            timeout(ENROLL_TIME, enrolling).await.map_err(|_elapsed| LinkError::Timeout)??;
        info!(node, until = ?enrolled.validity().not_after, "certificate issued");
        self.metrics.enrollments.inc();
        Ok(enrolled)
    }

    /// The token is read anew for each attempt, so that an operator can put a better one in place.
    async fn join_token(&self) -> Result<JoinToken, LinkError> {
        let node = &self.options.node;
        let Some(path) = &self.options.join_token_file else {
            return Err(LinkError::NotJoined { node: node.clone() });
        };
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|source| LinkError::TokenFile { path: path.clone(), source })?;
        text.parse().map_err(|source| LinkError::TokenText { path: path.clone(), source })
    }
}

/// The status stream: the latest value, at most every 100 ms, and a heartbeat.
async fn report(
    connection: &Connection,
    mut status: watch::Receiver<Option<Arc<NodeStatus>>>,
) -> LinkError {
    let report = async {
        let mut send: Option<SendStream> = None;
        loop {
            let latest = status.borrow_and_update().clone();
            let earliest_next = Instant::now() + STATUS_INTERVAL_MIN;
            if let Some(latest) = latest {
                let stream = match send.as_mut() {
                    Some(stream) => stream,
                    None => send.insert(connection.open_uni().await?),
                };
                stream.write_all(&frame(&*latest)).await?;
            }
            tokio::select! {
                changed = status.changed() => changed.map_err(|_gone| LinkError::Ended)?,
                () = sleep(HEARTBEAT_INTERVAL) => {}
            }
            sleep_until(earliest_next).await;
        }
    };
    let outcome: Result<std::convert::Infallible, LinkError> = report.await;
    match outcome {
        Err(error) => error,
    }
}

/// How long to sleep before looking at the clock again: a clock may be set in the meantime.
fn until_renewal(validity: Validity, now: SystemTime) -> Duration {
    validity.renew_at().duration_since(now).unwrap_or_default().min(CLOCK_CHECK_INTERVAL)
}

/// A connection this old counts as stable: the next attempt starts without delay.
const STABLE_TIME: Duration = Duration::from_secs(5);

const ENROLL_TIME: Duration = Duration::from_secs(10);

const STATUS_INTERVAL_MIN: Duration = Duration::from_millis(100);

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// Whatever lives the controller grants, renewals do not follow one another at once.
const RENEWAL_INTERVAL_MIN: Duration = Duration::from_secs(1);

const RENEWAL_RETRY_MAX: Duration = Duration::from_secs(60);

const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// The protocol has one message under way each direction; a full box means a broken peer.
const OUTBOX_MESSAGES: usize = 8;

const CHUNK_BYTES: usize = 64 << 10;
