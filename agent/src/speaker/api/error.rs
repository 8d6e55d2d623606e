//! What a request that is not answered is told.

use std::fmt::Display;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::bgp::SpeakerError;
use crate::speaker::announcements::Refusal;
use crate::speaker::routing::RoutingError;

/// A status and a sentence.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
}

#[derive(Serialize)]
struct Body {
    error: String,
}

// === impl ApiError ===

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Display) -> Self {
        Self { status, message: message.to_string() }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::FileOwned(_) | Refusal::TooMany | Refusal::Unsafe(_) => StatusCode::CONFLICT,
            Refusal::NextHop { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::NotAnnounced(_) => StatusCode::NOT_FOUND,
        };
        Self::new(status, refusal)
    }
}

impl From<SpeakerError> for ApiError {
    fn from(error: SpeakerError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

impl From<RoutingError> for ApiError {
    fn from(error: RoutingError) -> Self {
        match error {
            RoutingError::Refused(refusal) => refusal.into(),
            RoutingError::Speaker(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(Body { error: self.message })).into_response()
    }
}

/// A query string that cannot be read.
pub(super) fn of_query(rejection: QueryRejection) -> ApiError {
    ApiError::new(rejection.status(), rejection.body_text())
}
