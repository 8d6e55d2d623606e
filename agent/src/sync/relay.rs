//! Questions that the controller passes on to this node's local API: one stream for each.
//!
//! Only what reads, and only by the lists of [`RELAYED_PATHS`] and [`RELAYED_POST_PATHS`]: whoever
//! controls the controller still learns no more than the node's operator could, and changes nothing by
//! this road. How many there are at a time is the transport's limit.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, http};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use isocast_api::agent::{
    FrameDecoder, LOCAL_REQUEST_BYTES_MAX, LOCAL_RESPONSE_BYTES_MAX, LocalRequest, LocalResponse,
    frame,
    local::{RELAYED_PATHS, RELAYED_POST_PATHS, Refusal},
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::{task::JoinSet, time::timeout};
use tower::ServiceExt as _;

use super::error::LinkError;

/// How long a question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an answer may lose to its envelope.
const ENVELOPE_BYTES: usize = 1024;

/// Answers until the connection ends.
pub(super) async fn serve(connection: &Connection, local: Option<&Router>) -> LinkError {
    let Some(local) = local else { return std::future::pending().await };
    let serve = async {
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                stream = connection.accept_bi() => {
                    let (send, receive) = stream?;
                    answers.spawn(timeout(PATIENCE, exchange(send, receive, local.clone())));
                }
                // What became of it, only the controller wants to know.
                Some(_) = answers.join_next() => {}
            }
        }
    };
    let outcome: Result<Infallible, LinkError> = serve.await;
    match outcome {
        Err(error) => error,
    }
}

async fn exchange(
    mut send: SendStream,
    mut receive: RecvStream,
    local: Router,
) -> Result<(), LinkError> {
    let mut decoder = FrameDecoder::new(LOCAL_REQUEST_BYTES_MAX);
    let request: LocalRequest = loop {
        if let Some(request) = decoder.take()? {
            break request;
        }
        let chunk = receive.read_chunk(LOCAL_REQUEST_BYTES_MAX, true).await?;
        decoder.push(&chunk.ok_or(LinkError::Ended)?.bytes);
    };
    let response = answer(request, local).await;
    send.write_all(&frame(&response)).await?;
    send.finish().map_err(|_closed| LinkError::Ended)
}

/// What the local API says.
async fn answer(request: LocalRequest, local: Router) -> LocalResponse {
    let LocalRequest { target, body } = request;
    let path = target.split('?').next().unwrap_or_default();
    let (method, known) = if body.is_empty() {
        (http::Method::GET, RELAYED_PATHS.contains(&path))
    } else {
        (http::Method::POST, RELAYED_POST_PATHS.contains(&path))
    };
    if !known {
        return refusal(http::StatusCode::NOT_FOUND, "the node answers no such question");
    }
    let request = http::Request::builder().method(method).uri(&target);
    let request = request.header(http::header::CONTENT_TYPE, "application/json");
    let Ok(request) = request.body(Body::from(body)) else {
        return refusal(http::StatusCode::BAD_REQUEST, "the question is not a path and a query");
    };
    let Ok(response) = local.oneshot(request).await;
    let (head, body) = response.into_parts();
    let content_type = head.headers.get(http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let most = LOCAL_RESPONSE_BYTES_MAX.saturating_sub(ENVELOPE_BYTES);
    match Limited::new(body, most).collect().await {
        Ok(body) => respond(head.status, content_type, &body.to_bytes()),
        Err(_too_large) => {
            let error = "the answer is too large: ask for less at a time";
            refusal(http::StatusCode::PAYLOAD_TOO_LARGE, error)
        }
    }
}

fn respond(status: http::StatusCode, content_type: &str, body: &Bytes) -> LocalResponse {
    LocalResponse {
        status: status.as_u16().into(),
        content_type: content_type.to_owned(),
        body: body.to_vec(),
    }
}

fn refusal(status: http::StatusCode, error: &str) -> LocalResponse {
    let refusal = Refusal { error: error.to_owned() };
    let body = serde_json::to_vec(&refusal).unwrap_or_default();
    respond(status, "application/json", &body.into())
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use isocast_api::agent::local::IMPORT_PREVIEW_PATH;

    use super::*;

    fn question(target: &str) -> LocalRequest {
        LocalRequest { target: target.to_owned(), ..LocalRequest::default() }
    }

    fn local(body: String) -> Router {
        let status = move || async move { body.clone() };
        Router::new()
            .route("/v1/status", get(status))
            .route("/v1/secret", get(|| async { "secret" }))
    }

    #[tokio::test]
    async fn what_is_on_the_list_is_answered_and_nothing_else() {
        let answered = answer(question("/v1/status?x=y"), local("fine".into())).await;
        assert_eq!((answered.status, answered.body), (200, b"fine".to_vec()));

        for target in ["/v1/secret", "/v1/status/", "/v1/../v1/secret", "", "/v1/why x"] {
            let refused = answer(question(target), local(String::new())).await;
            assert_eq!(refused.status, 404, "{target}");
        }
        let malformed = answer(question("/v1/status?a b"), local(String::new())).await;
        assert_eq!(malformed.status, 400);
    }

    #[tokio::test]
    async fn a_body_is_posted_where_that_only_reads_and_nowhere_else() {
        let echo = || post(|body: String| async { body });
        let local = Router::new().route(IMPORT_PREVIEW_PATH, echo()).route("/v1/status", echo());
        let with_body = |target| LocalRequest { body: b"{}".to_vec(), ..question(target) };

        let answered = answer(with_body(IMPORT_PREVIEW_PATH), local.clone()).await;
        assert_eq!((answered.status, answered.body), (200, b"{}".to_vec()));
        for refused in [with_body("/v1/status"), question(IMPORT_PREVIEW_PATH)] {
            assert_eq!(answer(refused, local.clone()).await.status, 404);
        }
    }

    #[tokio::test]
    async fn an_answer_at_the_limit_is_passed_on_and_a_larger_one_is_not() {
        let most = LOCAL_RESPONSE_BYTES_MAX - ENVELOPE_BYTES;

        let largest = answer(question("/v1/status"), local("x".repeat(most))).await;
        let too_large = answer(question("/v1/status"), local("x".repeat(most + 1))).await;

        assert_eq!((largest.status, largest.body.len()), (200, most));
        assert_eq!(too_large.status, 413);
        assert!(frame(&largest).len() <= LOCAL_RESPONSE_BYTES_MAX);
    }
}
