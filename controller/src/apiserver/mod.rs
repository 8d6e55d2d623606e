//! The API server: HTTP over TLS 1.3, by Kubernetes' conventions.
//!
//! A thin driver around the registry: accepts connections, says who is on the other end, keeps
//! limits and turns requests into calls. Nobody gets further than health and version without a
//! client certificate of the platform's authority or a token.

mod audit;
mod authenticate;
mod backup;
mod compress;
mod connection;
mod definitions;
mod discovery;
mod flows;
mod impersonate;
mod lists;
mod methods;
mod metrics;
mod namespaces;
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
mod websocket;
mod yaml;

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use isocast_api::ResourceKind;
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::metrics::Metrics;
use self::{
    backup::Backups,
    connection::{BoxError, PROTOCOLS, serve},
    discovery::Discovery,
    flows::Flows,
    openapi::OpenApi,
    service::Service,
};
use crate::{
    audit::Limiter,
    authz::Identity,
    cabinet::Cabinet,
    error::ApiError,
    limits,
    managers::Quota,
    pki::{Credential, Pki},
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
            quota: None,
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

    /// The same, which counts requests where `quota` has them counted.
    #[must_use]
    pub fn within(mut self, quota: Arc<Quota>) -> Self {
        self.service.quota = Some(quota);
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
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// How long a client may leave a piece of an answer untaken, unless it is said otherwise.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
/// After a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
