//! [`Channel`]: the fleet on top of the store, and the subresource that lets nodes join.
//!
//! Glue between the rooms: the fleet knows no store and no HTTP, the API server knows no fleet.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use isocast_api::ResourceKind;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    apiserver::Extension,
    error::{ApiError, Reason},
    fleet::{
        Fleet, FleetError, KeyError, Metrics, NodeRef, Options, Reporter, StoreSource, Tokens,
        TokensError,
    },
    pki::Pki,
    store::{Object, Store},
};

/// Life of a node's certificate; agents renew theirs when two thirds are over.
const CERTIFICATE_TTL: Duration = Duration::from_secs(24 * 3600);

/// Everything that talks to agents, listening but not serving yet.
#[derive(Debug)]
pub(crate) struct Channel {
    fleet: Fleet,
    source: Arc<StoreSource>,
    reporter: Reporter,
    tokens: Arc<Tokens>,
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
}

/// Body of a request for a join token.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TokenRequest {
    /// How long it can be used: `1h`.
    ttl: Option<String>,
}

impl Channel {
    /// Listens for agents.
    pub(crate) fn bind(
        listen: SocketAddr,
        data: &Path,
        pki: Arc<Pki>,
        store: Arc<Store>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ChannelError> {
        let source = StoreSource::open(Arc::clone(&store), data)?;
        let options = Options { listen, data, certificate_ttl: CERTIFICATE_TTL };
        let fleet = Fleet::bind(options, pki, &*source, Arc::clone(metrics))?;
        source.listen_to(fleet.nodes());
        let reporter = Reporter::new(store, &source, fleet.nodes(), Arc::clone(metrics));
        let tokens = fleet.tokens();
        Ok(Self { fleet, source, reporter, tokens })
    }

    /// Where agents connect to.
    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.fleet.local_addr()
    }

    /// `POST nodes/{name}/token`
    pub(crate) fn token_subresource(&self) -> Extension {
        let tokens = Arc::clone(&self.tokens);
        Extension {
            kind: ResourceKind::Node,
            name: "token",
            serve: Arc::new(move |node, body| issue(&tokens, node, body)),
        }
    }

    /// Serves agents until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Self { fleet, source, reporter, .. } = self;
        // The two that follow the store end with this set.
        let mut followers = JoinSet::new();
        followers.spawn(source.run());
        followers.spawn(reporter.run());
        tokio::select! {
            () = fleet.run(shutdown.clone()) => {}
            Some(ended) = followers.join_next() => {
                if !shutdown.is_cancelled() {
                    tracing::error!(panicked = ended.is_err(), "the fleet no longer follows");
                    shutdown.cancel();
                }
            }
        }
    }
}

fn issue(tokens: &Tokens, node: &Object, body: &Value) -> Result<Value, ApiError> {
    let request: TokenRequest = serde_json::from_value(body.clone())
        .map_err(|error| ApiError::bad_request(format!("not a request for a token: {error}")))?;
    let ttl = request
        .ttl
        .map(|ttl| humantime::parse_duration(&ttl))
        .transpose()
        .map_err(|error| ApiError::bad_request(format!("ttl: {error}")))?;
    let uid = node.value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
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
