//! [`Fleet`]: listens for agents.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use isocast_api::agent::CloseCode;
use quinn::{Endpoint, Incoming, TokioRuntime, VarInt};
use thiserror::Error;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    announcers::{self, Announcers},
    bucket::TokenBucket,
    connection::{Context, serve},
    enroll::Enroller,
    keys::KeyError,
    limits::{ADMISSION_BURST, ADMISSION_PER_SECOND, CONNECTIONS_MAX, OPENING_TIME},
    metrics::Metrics,
    nodes::Nodes,
    relay::Relay,
    reset::ResetKey,
    source::Source,
    tls::{TlsError, server_config},
    tokens::Tokens,
};
use crate::pki::Pki;

/// What the fleet needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Where to listen for agents.
    pub listen: SocketAddr,
    /// The controller's data folder.
    pub data: &'a Path,
    /// Life of a node's certificate.
    pub certificate_ttl: Duration,
    /// Permissions to join.
    pub tokens: &'a Arc<Tokens>,
}

/// The listening side of the channel.
#[derive(Debug)]
pub struct Fleet {
    endpoint: Endpoint,
    context: Context,
    announcers: watch::Sender<Arc<Announcers>>,
}

/// Why the fleet cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FleetError {
    /// A key cannot be loaded or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The address cannot be listened on.
    #[error("cannot listen for agents on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Fleet {
    /// Starts to listen.
    ///
    /// # Errors
    /// The address is taken, or the data folder cannot be used.
    pub fn bind(
        options: Options<'_>,
        pki: Arc<Pki>,
        source: &dyn Source,
        metrics: Arc<Metrics>,
    ) -> Result<Self, FleetError> {
        let Options { listen, data, certificate_ttl, tokens } = options;
        let config = server_config(&pki, SystemTime::now())?;
        let reset_key = ResetKey::open(data)?;
        let endpoint = UdpSocket::bind(listen)
            .and_then(|socket| {
                let runtime = Arc::new(TokioRuntime);
                Endpoint::new(reset_key.endpoint_config(), Some(config), socket, runtime)
            })
            .map_err(|source| FleetError::Listen { address: listen, source })?;
        let enroller = Enroller { pki, tokens: Arc::clone(tokens), certificate_ttl };
        let nodes = Arc::new(Nodes::default());
        let (announcers, announced) = watch::channel(Arc::default());
        let desired = source.desired();
        let context = Context { desired, nodes, announcers: announced, enroller, metrics };
        Ok(Self { endpoint, context, announcers })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// What the agents say.
    #[must_use]
    pub fn nodes(&self) -> Arc<Nodes> {
        Arc::clone(&self.context.nodes)
    }

    /// Asks nodes.
    #[must_use]
    pub fn relay(&self) -> Relay {
        Relay::new(self.nodes(), Arc::clone(&self.context.metrics))
    }

    /// Serves agents until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { endpoint, context, announcers, .. } = self;
        // Ends with this set.
        let mut followers = JoinSet::new();
        followers.spawn(announcers::follow(Arc::clone(&context.nodes), announcers));
        let mut desired = context.desired.clone();
        let mut bucket = TokenBucket::new(ADMISSION_BURST, ADMISSION_PER_SECOND, Instant::now());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                incoming = endpoint.accept() => {
                    let Some(incoming) = incoming else { break };
                    let has_room = connections.len() < CONNECTIONS_MAX;
                    if has_room && bucket.take(Instant::now()) {
                        connections.spawn(accept(incoming, context.clone()));
                    } else {
                        context.metrics.turned_away.inc();
                        incoming.refuse();
                    }
                }
                Some(ended) = connections.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        tracing::error!("a connection's task panicked");
                    }
                }
                Ok(()) = desired.changed() => {
                    let desired = Arc::clone(&desired.borrow_and_update());
                    context.nodes.retain(|node, uid| desired.node_uid(node).as_deref() == Some(uid));
                }
            }
        }
        endpoint.close(VarInt::from_u32(CloseCode::ShuttingDown.code()), b"");
        let farewell = async {
            while connections.join_next().await.is_some() {}
            endpoint.wait_idle().await;
        };
        tokio::select! {
            () = farewell => {}
            () = sleep(FAREWELL_TIME) => {}
        }
    }
}

async fn accept(incoming: Incoming, context: Context) {
    let remote = incoming.remote_address();
    match timeout(OPENING_TIME, incoming).await {
        Ok(Ok(connection)) => serve(connection, context).await,
        Ok(Err(error)) => tracing::info!(%remote, %error, "handshake failed"),
        Err(_elapsed) => tracing::info!(%remote, "handshake took too long"),
    }
}

const FAREWELL_TIME: Duration = Duration::from_secs(1);
