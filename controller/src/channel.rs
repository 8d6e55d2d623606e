//! [`Channel`]: the fleet on top of the store, and the subresource that lets nodes join.
//!
//! Glue between the rooms: the fleet knows no store and no HTTP, the API server knows no fleet.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use isocast_api::{
    ResourceKind,
    agent::{
        CaFingerprint, LocalRequest, LocalResponse,
        local::{RELAYED_PATHS, RELAYED_POST_PATHS, Refusal},
    },
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    apiserver::{Answer, Extension, Relayed},
    cabinet::{Cabinet, Sheet},
    error::{ApiError, Reason},
    fleet::{
        Fleet, FleetError, KeyError, Metrics, NodeRef, Options, Relay, RelayError, Reporter,
        RoutingReporter, StoreSource, Tokens, TokensError,
    },
    pki::Pki,
    store::{Object, Store},
};

/// Life of a node's certificate; agents renew theirs when two thirds are over.
const CERTIFICATE_TTL: Duration = Duration::from_secs(24 * 3600);

/// What it takes to talk to agents. One of the platform's controllers does, the others could.
#[derive(Debug)]
pub(crate) struct Channel {
    listen: SocketAddr,
    data: PathBuf,
    pki: Arc<Pki>,
    store: Arc<Store>,
    cabinet: Arc<dyn Cabinet>,
    metrics: Arc<Metrics>,
    tokens: Arc<Tokens>,
    /// While this controller talks to agents.
    relay: Arc<ArcSwapOption<Relay>>,
    source: Arc<Mutex<Weak<StoreSource>>>,
}

/// Everything that talks to agents, listening but not serving yet.
#[derive(Debug)]
pub(crate) struct Bound {
    fleet: Fleet,
    source: Arc<StoreSource>,
    reporter: Reporter,
    routing: RoutingReporter,
    relay: Arc<ArcSwapOption<Relay>>,
}

/// Why agents cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The fleet cannot start.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The cluster's secret cannot be loaded or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The join tokens cannot be loaded.
    #[error(transparent)]
    Tokens(#[from] TokensError),
}

/// Body of a request for a join token.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TokenRequest {
    /// How long it can be used: `1h`.
    ttl: Option<String>,
}

impl Channel {
    /// Loads the join tokens. May block.
    pub(crate) fn open(
        listen: SocketAddr,
        data: &Path,
        cabinet: Arc<dyn Cabinet>,
        pki: Arc<Pki>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ChannelError> {
        let ca = CaFingerprint::of(pki.certificate());
        let tokens = Tokens::open(Sheet::new(&cabinet, "join-tokens.json"), ca)?;
        let (data, tokens, relay) = (data.to_owned(), Arc::new(tokens), Arc::default());
        let source = Arc::default();
        Ok(Self { listen, data, pki, store, cabinet, metrics, tokens, relay, source })
    }

    /// Adds figures of what is known only when asked for to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        StoreSource::register(&self.source, registry);
    }

    /// Listens for agents. May block.
    pub(crate) fn bind(&self) -> Result<Bound, ChannelError> {
        let (store, metrics) = (&self.store, &self.metrics);
        let source = StoreSource::open(Arc::clone(store), &self.cabinet)?;
        let options = Options {
            listen: self.listen,
            data: &self.data,
            certificate_ttl: CERTIFICATE_TTL,
            tokens: &self.tokens,
        };
        let fleet = Fleet::bind(options, Arc::clone(&self.pki), &*source, Arc::clone(metrics))?;
        source.listen_to(fleet.nodes());
        let (nodes, shared) = (fleet.nodes(), Arc::clone(metrics));
        let routing = RoutingReporter::new(Arc::clone(store), &source, nodes, shared);
        let (nodes, shared) = (fleet.nodes(), Arc::clone(metrics));
        let reporter = Reporter::new(Arc::clone(store), &source, nodes, shared);
        self.relay.store(Some(Arc::new(fleet.relay())));
        *self.source.lock() = Arc::downgrade(&source);
        Ok(Bound { fleet, source, reporter, routing, relay: Arc::clone(&self.relay) })
    }

    /// `POST nodes/{name}/token`
    pub(crate) fn token_subresource(&self) -> Extension {
        let tokens = Arc::clone(&self.tokens);
        Extension {
            kind: ResourceKind::Node,
            name: "token",
            serve: Arc::new(move |_who, node, body| issue(&tokens, node, body)),
        }
    }

    /// `GET nodes/{name}/agent/{path}`, and `POST` of what a question is about.
    pub(crate) fn agent_subresource(&self) -> Relayed {
        let relay = Arc::clone(&self.relay);
        Relayed {
            kind: ResourceKind::Node,
            name: "agent",
            ask: Arc::new(move |node, target, body| {
                let question = LocalRequest { target, body: body.into() };
                Box::pin(ask(relay.load_full(), node, question))
            }),
        }
    }
}

impl Bound {
    /// Where agents connect to.
    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.fleet.local_addr()
    }

    /// Serves agents until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Self { fleet, source, reporter, routing, relay } = self;
        // Those that follow the store end with this set.
        let mut followers = JoinSet::new();
        followers.spawn(source.run());
        followers.spawn(reporter.run());
        followers.spawn(routing.run());
        tokio::select! {
            () = fleet.run(shutdown.clone()) => {}
            Some(ended) = followers.join_next() => {
                if !shutdown.is_cancelled() {
                    tracing::error!(panicked = ended.is_err(), "the fleet no longer follows");
                    shutdown.cancel();
                }
            }
        }
        relay.store(None);
    }
}

/// What a node answers, or why it does not.
async fn ask(
    relay: Option<Arc<Relay>>,
    node: Object,
    question: LocalRequest,
) -> Result<Answer, ApiError> {
    let path = question.target.split('?').next().unwrap_or_default();
    let key = &node.key;
    let paths: &[&str] =
        if question.body.is_empty() { &RELAYED_PATHS } else { &RELAYED_POST_PATHS };
    if !paths.contains(&path) {
        let known: Vec<_> = paths.iter().map(|path| path.trim_start_matches('/')).collect();
        let known = known.join(", ");
        let message = format!("a node answers no {path:?}; it answers {known}");
        return Err(ApiError::about(Reason::NotFound, key, message));
    }
    let value = node.value();
    let uid = value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let relay = relay.ok_or_else(|| {
        let message = "nodes are connected to another controller of this platform; ask that one";
        ApiError::about(Reason::ServiceUnavailable, key, message)
    })?;
    let response = relay.ask(key.name(), uid, question).await.map_err(|error| {
        let reason = match error {
            RelayError::Late => Reason::Timeout,
            RelayError::Broken(_) | RelayError::NotConnected => Reason::ServiceUnavailable,
        };
        ApiError::about(reason, key, format!("node {:?}: {error}", key.name()))
    })?;
    let LocalResponse { status, content_type, body } = response;
    let reason = match status {
        200 => return Ok(Answer { content_type, body: body.into() }),
        400 => Reason::BadRequest,
        404 => Reason::NotFound,
        409 => Reason::Conflict,
        413 => Reason::RequestEntityTooLarge,
        503 => Reason::ServiceUnavailable,
        _ => Reason::InternalError,
    };
    let refusal = serde_json::from_slice::<Refusal>(&body);
    let message = refusal.map_or_else(|_| format!("status {status}"), |refusal| refusal.error);
    Err(ApiError::about(reason, key, format!("node {:?}: {message}", key.name())))
}

fn issue(tokens: &Tokens, node: &Object, body: &Value) -> Result<Value, ApiError> {
    let request: TokenRequest = serde_json::from_value(body.clone())
        .map_err(|error| ApiError::bad_request(format!("not a request for a token: {error}")))?;
    let ttl = request
        .ttl
        .map(|ttl| humantime::parse_duration(&ttl))
        .transpose()
        .map_err(|error| ApiError::bad_request(format!("ttl: {error}")))?;
    let value = node.value();
    let uid = value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let node = NodeRef { name: node.key.name().to_owned(), uid: uid.to_owned() };
    let issued = tokens.create(node, ttl, SystemTime::now()).map_err(|error| match error {
        TokensError::Ttl => ApiError::bad_request(format!("ttl: {error}")),
        TokensError::Full => ApiError::new(Reason::TooManyRequests, error.to_string()),
        error => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot make a join token");
            ApiError::internal("the join token cannot be stored")
        }
    })?;
    serde_json::to_value(issued).map_err(|error| ApiError::internal(error.to_string()))
}
