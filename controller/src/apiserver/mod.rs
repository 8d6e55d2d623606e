//! The API server: HTTP over TLS 1.3, by Kubernetes' conventions.
//!
//! A thin driver around the registry: accepts connections, says who is on the other end, keeps
//! limits and turns requests into calls. Nobody gets further than health and version without a
//! client certificate of the platform's authority or a token.

mod audit;
mod authenticate;
mod backup;
mod compress;
mod discovery;
mod flows;
mod impersonate;
mod methods;
mod metrics;
mod openapi;
mod paced;
mod protobuf;
mod relay;
mod request;
mod resources;
mod respond;
mod reviews;
mod service;
mod view;
mod watch;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use isocast_api::ResourceKind;
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::metrics::Metrics;
use self::{
    backup::Backups, discovery::Discovery, flows::Flows, openapi::OpenApi, paced::Disconnect,
    service::Service,
};
use crate::{
    audit::{Call, Limiter, of_call},
    authz::Identity,
    cabinet::Cabinet,
    error::ApiError,
    limits,
    pki::{self, Credential, Pki},
    registry::Registry,
    store::Object,
};

/// Serves the registry.
#[derive(Debug)]
pub struct ApiServer {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    service: Service,
}

/// A subresource that another part of the controller serves, `nodes/{name}/token` for one. It is
/// only ever POSTed to.
#[derive(Clone)]
pub struct Extension {
    /// The kind it belongs to.
    pub kind: ResourceKind,
    /// Its name.
    pub name: &'static str,
    /// Answers; may block.
    pub serve: Serve,
}

/// From who asks, the object and the body of a request to the answer.
pub type Serve = Arc<dyn Fn(&Identity, &Object, &Value) -> Result<Value, ApiError> + Send + Sync>;

/// A subresource below which somebody else answers what is read: `nodes/{name}/agent/{path}`.
#[derive(Clone)]
pub struct Relayed {
    /// The kind it belongs to.
    pub kind: ResourceKind,
    /// Its name.
    pub name: &'static str,
    /// Answers.
    pub ask: Ask,
}

/// From the object, path and query below the subresource, and a body, to the answer.
pub type Ask = Arc<
    dyn Fn(Object, String, Bytes) -> BoxFuture<'static, Result<Answer, ApiError>> + Send + Sync,
>;

/// What somebody else answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the body is.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate and its key do not fit TLS.
    #[error("cannot set TLS up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ApiServer {
    /// Listens on `address`; nothing is served before [`Self::run`].
    ///
    /// # Errors
    /// When the address cannot be listened on, or the credential does not fit TLS.
    pub async fn bind(
        address: SocketAddr,
        pki: &Pki,
        credential: &Credential,
        registry: Arc<Registry>,
        extensions: Vec<Extension>,
        relayed: Vec<Relayed>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ServerError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServerError::Listen { address, source })?;
        let tls = Arc::new(tls(pki, credential).map_err(ServerError::Tls)?);
        let service = Service {
            openapi: OpenApi::new(&registry, &extensions),
            flows: Flows::new(&metrics),
            discovery: Discovery::new(&registry, &extensions, &relayed),
            registry,
            extensions,
            relayed,
            metrics,
            backups: Backups::default(),
            files: None,
            patience: DEFAULT_PATIENCE,
            limiter: Mutex::new(Limiter::new(Timestamp::now())),
            refused_limiter: Mutex::new(Limiter::new(Timestamp::now())),
            shutdown: CancellationToken::new(),
        };
        Ok(Self { listener, tls, service })
    }

    /// The same, whose backups have what a controller needs of `files` besides its store.
    #[must_use]
    pub fn backing_up(mut self, files: Arc<dyn Cabinet>) -> Self {
        self.service.files = Some(files);
        self
    }

    /// The same, with clients that may take so long to take a piece of an answer, and as much the
    /// less or more for what they say themselves.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.service.patience = patience;
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then lets requests finish.
    pub async fn run(self, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let service = Arc::new(self.service);
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a client that gave up; either passes.
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(under_way) = service.metrics.begin_connection() else {
                tracing::warn!(%peer, "too many connections");
                continue;
            };
            let tls = TlsAcceptor::from(Arc::clone(&self.tls));
            let service = Arc::clone(&service);
            connections.spawn(async move {
                if let Err(error) = serve(tls, service, stream, peer.ip()).await {
                    tracing::debug!(%peer, error = &*error, "connection failed");
                }
                drop(under_way);
            });
        }
        drop(self.listener);
        service.shutdown.cancel();
        connections.close();
        if timeout(limits::SHUTDOWN_GRACE, connections.wait()).await.is_err() {
            tracing::warn!("requests were still under way when the server stopped");
        }
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extension").field("kind", &self.kind).field("name", &self.name).finish()
    }
}

impl fmt::Debug for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relayed").field("kind", &self.kind).field("name", &self.name).finish()
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves one connection.
async fn serve(
    tls: TlsAcceptor,
    service: Arc<Service>,
    stream: TcpStream,
    source: IpAddr,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let stream = timeout(limits::HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
    let identity: Option<Arc<Identity>> = identity(&stream).map(Arc::new);
    let (shutdown, metrics) = (service.shutdown.clone(), Arc::clone(&service.metrics));
    // Idle clients of Go and Rust keep a connection for this long.
    let head_patience = service.patience.saturating_mul(3) / 2;
    let (lazy, began) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let disconnect = Disconnect { patience: service.patience, connection: lazy.clone() };
    let begins = Arc::clone(&began);
    let answer = service_fn(move |request: Request<Incoming>| {
        begins.store(true, Relaxed);
        let (service, identity) = (Arc::clone(&service), identity.clone());
        let disconnect = disconnect.clone();
        async move {
            let call = Arc::new(Call::new(source));
            let answered = service.answer(identity.as_deref(), request, disconnect);
            // A connection keeps the room of what answers, also while a watch goes on for hours.
            Ok::<_, std::convert::Infallible>(Box::pin(of_call(call, answered)).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_patience)
        .max_buf_size(limits::HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits::HEADER_BYTES).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(STREAMS_RESET)
        .max_local_error_reset_streams(Some(STREAMS_RESET))
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(limits::HTTP2_PING);
    let connection = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    // What is said before the first request is not the business of any protocol's own timeouts.
    let silent = async {
        sleep(head_patience).await;
        if began.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let gone = async {
        tokio::select! {
            () = silent => metrics.disconnected("silent"),
            () = lazy.cancelled() => metrics.disconnected("untaken"),
        }
        Aside::Gone
    };
    let stops = async {
        shutdown.cancelled().await;
        Aside::Stops
    };
    // What rarely happens is looked at when it does, and not whenever the connection has something to
    // say: each look takes a lock, one of them that of all connections.
    let mut aside = FuturesUnordered::from_iter([gone.left_future(), stops.right_future()]);
    loop {
        tokio::select! {
            result = connection.as_mut() => return result,
            Some(aside) = aside.next() => match aside {
                Aside::Gone => return Ok(()),
                Aside::Stops => connection.as_mut().graceful_shutdown(),
            },
        }
    }
}

/// What happens to a connection besides what is said on it.
enum Aside {
    /// Whoever is on the other end says or takes nothing.
    Gone,
    /// The server does.
    Stops,
}

/// Who the client's certificate, verified by TLS, says it is.
fn identity(stream: &TlsStream<TcpStream>) -> Option<Identity> {
    let (_, session) = stream.get_ref();
    session.peer_certificates()?.first().and_then(pki::identity)
}

fn tls(pki: &Pki, credential: &Credential) -> Result<ServerConfig, BoxError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients: Arc<dyn ClientCertVerifier> =
        WebPkiClientVerifier::builder_with_provider(Arc::new(pki.roots()), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(credential.chain.clone(), credential.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// How long a client may leave a piece of an answer untaken, unless it is said otherwise.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
/// After a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 250;
/// Streams that a client may give up before they were looked at; one that goes on so is disconnected
/// (CVE-2023-44487).
const STREAMS_RESET: usize = 64;
