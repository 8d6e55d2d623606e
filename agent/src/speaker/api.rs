//! The speaker's HTTP API: what it knows, and what it shall announce.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | `ok` |
//! | `GET /metrics` | Prometheus |
//! | `GET /v1/peers` | every session |
//! | `GET /v1/routes?family=…[&prefix=…][&peer=…]` | routes as they stand, streamed |
//! | `GET /v1/announcements` | what the speaker originates |
//! | `POST /v1/announcements` | announces one prefix: 201, or 200 if it replaced or changed nothing |
//! | `DELETE /v1/announcements[?confirm=1]` | withdraws one prefix: 200, or 404; confirmed, whatever the budget says |
//!
//! Every error is `{"error": "…"}`. There is no authentication: listen where only those can connect
//! who may announce.

mod error;
mod routes;
mod views;

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ipnet::IpNet;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::error::ApiError;
use self::views::{AnnouncementView, PeerView};
use super::announcements::{Announcement, Change, Owner};
use super::file::Announce;
use super::metrics;
use super::routing::Routing;

/// Largest body of a request: an announcement with as many communities as it may have is far
/// smaller.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Route listings at a time: each holds on to a page of routes.
const LISTINGS_MAX: usize = 8;

/// The content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What requests are answered from.
#[derive(Clone, Debug)]
pub(super) struct Context {
    routing: Arc<Routing>,
    listings: Arc<Semaphore>,
}

/// The body of a request to withdraw: an announcement, of which only the prefix counts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Withdraw {
    prefix: IpNet,
    #[serde(rename = "next-hop")]
    _next_hop: Option<serde::de::IgnoredAny>,
    #[serde(rename = "communities")]
    _communities: Option<serde::de::IgnoredAny>,
}

/// How many withdrawals a request says it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    confirm: Option<usize>,
}

// === impl Context ===

impl Context {
    pub(super) fn new(routing: Arc<Routing>) -> Self {
        Self { routing, listings: Arc::new(Semaphore::new(LISTINGS_MAX)) }
    }
}

/// Serves until `stop` is there.
///
/// # Errors
/// The listener's.
pub(super) async fn serve(
    listener: TcpListener,
    context: Context,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(context)).with_graceful_shutdown(stop).await
}

fn router(context: Context) -> axum::Router {
    let announcements = get(announcements).post(announce).delete(withdraw);
    axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(show_metrics))
        .route("/v1/peers", get(peers))
        .route("/v1/routes", get(routes::list))
        .route("/v1/announcements", announcements)
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "no such resource") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "the resource has no such method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(context)
}

async fn show_metrics(State(context): State<Context>) -> Result<Response, ApiError> {
    let peers = context.routing.peers().await?;
    let mut text = String::new();
    let announcements = context.routing.announcements().len();
    metrics::write(peers, announcements, context.routing.kernel(), &mut text)
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

async fn peers(State(context): State<Context>) -> Result<Json<Vec<PeerView>>, ApiError> {
    Ok(Json(context.routing.peers().await?.iter().map(PeerView::new).collect()))
}

async fn announcements(State(context): State<Context>) -> Json<Vec<AnnouncementView>> {
    let all = context.routing.announcements();
    Json(all.iter().map(|(prefix, it)| AnnouncementView::new(*prefix, it)).collect())
}

async fn announce(
    State(context): State<Context>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<AnnouncementView>), ApiError> {
    let written: Announce = read(body)?;
    let (prefix, wanted) = Announcement::new(Owner::Api, written)?;
    let view = AnnouncementView::new(prefix, &wanted);
    let status = match context.routing.announce(prefix, wanted)? {
        Change::Created => StatusCode::CREATED,
        Change::None | Change::Replaced => StatusCode::OK,
    };
    Ok((status, Json(view)))
}

async fn withdraw(
    State(context): State<Context>,
    confirmation: Result<Query<Confirmation>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AnnouncementView>, ApiError> {
    let Query(Confirmation { confirm }) = confirmation.map_err(error::of_query)?;
    let Withdraw { prefix, .. } = read(body)?;
    let withdrawn = context.routing.withdraw(prefix, confirm)?;
    Ok(Json(AnnouncementView::new(prefix, &withdrawn)))
}

fn read<T: for<'de> Deserialize<'de>>(body: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let body = body.map_err(|rejection| ApiError::new(rejection.status(), rejection))?;
    serde_json::from_slice(&body).map_err(|error| {
        let status = if error.is_data() {
            StatusCode::UNPROCESSABLE_ENTITY
        } else {
            StatusCode::BAD_REQUEST
        };
        ApiError::new(status, error)
    })
}
