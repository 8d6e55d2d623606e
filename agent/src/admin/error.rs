//! What a request that is not answered is told.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use isocast_api::agent::local::Refusal;

use crate::{bgp::SpeakerError, runtime::Unanswered};

/// A status and a sentence.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    error: String,
}

// === impl Refused ===

impl Refused {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl From<SpeakerError> for Refused {
    fn from(error: SpeakerError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<Unanswered> for Refused {
    fn from(error: Unanswered) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Refusal { error: self.error })).into_response()
    }
}
