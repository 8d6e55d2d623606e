//! What the agent answers about itself: Prometheus metrics over TCP, and the local API for the
//! operator of this host, over a local socket or passed on by the controller.
//!
//! Read-only, what is POSTed is a question, too; whoever may open the socket (mode 0600) may know everything the agent knows.

mod bgp;
mod dataplane;
mod error;
mod preview;

use std::{io, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use isocast_api::agent::{
    NodeStatus,
    local::{
        ADVERTISEMENTS_PATH, IMPORT_PREVIEW_PATH, METRICS_PATH, PEERS_PATH, POST_BYTES_MAX,
        ROUTES_PATH, STATUS_PATH, WHY_PATH,
        dataplane::{CAPTURE_PATH, COUNTERS_PATH, EXPLAIN_PATH, TRACE_PATH},
    },
};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};

use self::error::Refused;
use crate::{inside::Inside, runtime::Inquirer};

/// The content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the endpoints show.
#[derive(Clone, Debug)]
pub struct Views {
    /// The node's own statement.
    pub status: watch::Receiver<Arc<NodeStatus>>,
    /// Every metric of the agent.
    pub metrics: Arc<Registry>,
    /// Whom to ask about routing.
    pub inquirer: Inquirer,
    /// Who looks into the data plane.
    pub inside: Inside,
}

/// Serves metrics until the future is dropped.
///
/// # Errors
/// An address that cannot be listened on.
pub async fn serve_metrics(address: SocketAddr, views: Views) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(views);
    axum::serve(listener, routes).await
}

/// Serves the local API on a socket until the future is dropped.
///
/// # Errors
/// A path that cannot be listened on. A socket that a killed agent left behind is replaced.
pub async fn serve_local(path: PathBuf, views: Views) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    axum::serve(listener, local(views)).await
}

/// The local API.
pub fn local(views: Views) -> Router {
    Router::new()
        .route(METRICS_PATH, get(metrics))
        .route(STATUS_PATH, get(status))
        .route(PEERS_PATH, get(bgp::peers))
        .route(ROUTES_PATH, get(bgp::routes))
        .route(ADVERTISEMENTS_PATH, get(bgp::advertisements))
        .route(WHY_PATH, get(bgp::why))
        .route(CAPTURE_PATH, get(dataplane::capture))
        .route(COUNTERS_PATH, get(dataplane::counters))
        .route(EXPLAIN_PATH, get(dataplane::explain))
        .route(TRACE_PATH, get(dataplane::trace))
        .route(
            IMPORT_PREVIEW_PATH,
            post(preview::imports).layer(DefaultBodyLimit::max(POST_BYTES_MAX)),
        )
        .fallback(|| async { Refused::new(StatusCode::NOT_FOUND, "no such resource") })
        .with_state(views)
}

async fn status(State(views): State<Views>) -> Json<NodeStatus> {
    Json(NodeStatus::clone(&views.status.borrow()))
}

async fn metrics(State(views): State<Views>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &views.metrics) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
