//! Answers: bodies, content types and the `Status` of a refusal.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{self, Frame, SizeHint},
    header::{self, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::error::ApiError;

/// The body of an answer, whole or streamed.
pub(super) type Body = BoxBody<Bytes, Infallible>;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON answer.
pub(super) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(code, JSON, body),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot encode an answer");
            bytes(StatusCode::INTERNAL_SERVER_ERROR, JSON, Vec::new())
        }
    }
}

/// An answer of any type.
pub(super) fn bytes(
    code: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Body> {
    streamed(code, content_type, whole(body))
}

/// A body that is there already.
pub(super) fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}

/// An answer that is made as it is read.
pub(super) fn streamed(code: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// An answer that clients keep by its hash: without a body when they have it already.
pub(super) fn tagged(
    asked: &HeaderMap,
    hash: &str,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let tag = format!("\"{hash}\"");
    let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    // RFC 9110 §13.1.2: a list, or anything; §8.8.3: weakness does not matter here.
    let is_known = known.is_some_and(|known| {
        let tags = known.split(',').map(|tag| tag.trim().trim_start_matches("W/"));
        known.trim() == "*" || tags.into_iter().any(|known| known == tag)
    });
    let mut response = if is_known {
        bytes(StatusCode::NOT_MODIFIED, content_type, Bytes::new())
    } else {
        bytes(StatusCode::OK, content_type, body)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A refusal.
pub(super) fn refusal(error: &ApiError) -> Response<Body> {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &error.to_status());
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(methods) = error.allow() {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// What is answered to HEAD: no content, only its size (RFC 9110 §9.3.2). HTTP/2 would send what it
/// is given, and clients reset the stream.
pub(super) fn without_content(response: Response<Body>) -> Response<Body> {
    let size = body::Body::size_hint(response.body()).exact();
    let mut response = response.map(|_content| Full::default().boxed());
    if let Some(size) = size {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    response
}

/// `body`, with what is held until it is taken.
pub(super) fn holding(body: Body, held: impl Send + Sync + Unpin + 'static) -> Body {
    Holding { body, held }.boxed()
}

struct Holding<T> {
    body: Body,
    #[expect(dead_code, reason = "held")]
    held: T,
}

impl<T: Unpin> body::Body for Holding<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Adds `Warning` headers, RFC 7234 §5.5.
pub(super) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let text: String = warning.chars().filter(|c| !c.is_control()).take(256).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            headers.append(HeaderName::from_static("warning"), value);
        }
    }
}

/// Warnings that fit into a reasonable header.
const WARNINGS_MAX: usize = 16;
