//! What the agent answers about its data plane. The shapes are
//! [`isocast_api::agent::local::dataplane`].

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use isocast_api::agent::local::dataplane::{
    CaptureQuery, CaptureView, CountersView, ExplainView, FlowQuery, TraceView,
};
use tokio::task::spawn_blocking;

use super::{Views, error::Refused};
use crate::inside::{About, Blind, CaptureRefusal, Inside};

type Asked<T> = Result<Query<T>, QueryRejection>;
type Answered<T> = Result<Json<T>, Refused>;

pub(super) async fn explain(
    State(views): State<Views>,
    query: Asked<FlowQuery>,
) -> Answered<ExplainView> {
    let Query(query) = query?;
    look(views, move |inside, about| inside.explain(about, &query)).await
}

pub(super) async fn trace(
    State(views): State<Views>,
    query: Asked<FlowQuery>,
) -> Answered<TraceView> {
    let Query(query) = query?;
    look(views, move |inside, about| inside.trace(about, &query)).await
}

pub(super) async fn counters(State(views): State<Views>) -> Answered<CountersView> {
    look(views, |inside, about| inside.counters(about)).await
}

pub(super) async fn capture(
    State(views): State<Views>,
    query: Asked<CaptureQuery>,
) -> Answered<CaptureView> {
    let Query(query) = query?;
    look(views, move |inside, about| inside.capture(about, &query)).await
}

/// Looks from a thread that may wait: the data plane may be busy with new tables.
pub(super) async fn look<T: Send + 'static>(
    views: Views,
    look: impl FnOnce(&Inside, &About) -> Result<T, Blind> + Send + 'static,
) -> Answered<T> {
    let node = views.inquirer.ask(None).await?.node;
    let about = About { node, status: views.status.borrow().clone() };
    let answer = spawn_blocking(move || look(&views.inside, &about)).await;
    let broken = |_panic| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the question failed");
    Ok(Json(answer.map_err(broken)??))
}

impl From<Blind> for Refused {
    fn from(error: Blind) -> Self {
        let status = match error {
            Blind::Question(_) | Blind::Capture(CaptureRefusal::Parameter(_)) => {
                StatusCode::BAD_REQUEST
            }
            Blind::Capture(CaptureRefusal::NoService(_)) => StatusCode::NOT_FOUND,
            Blind::Capture(CaptureRefusal::Busy) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
