//! [`compressed`]: large answers as gzip, for clients that take it (RFC 9110 §12.5.3).
//!
//! A body is compressed piece by piece as its reader reads, so that neither a large answer nor many
//! hold a thread or more memory than they had. Small answers are left alone, for it costs more time
//! than it saves; watches are, for their events must not wait for each other.

use std::{
    convert::Infallible,
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::{Body as _, Frame, SizeHint},
    header::{self, HeaderValue},
};

use super::respond::Body;
use crate::limits;

/// The answer to a request with `method` and `asked`, compressed if that is worth it.
pub(super) fn compressed(
    method: &Method,
    asked: &HeaderMap,
    response: Response<Body>,
) -> Response<Body> {
    // What is streamed has no size, and so is never compressed.
    let size = response.body().size_hint().exact();
    let is_large = size.is_some_and(|size| usize::try_from(size).is_ok_and(is_worth_it));
    let is_whole = *method == Method::GET && response.status() == StatusCode::OK;
    if !is_large || !is_whole || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    // Whether it is compressed or not: caches must not give one for the other.
    head.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if !accepts_gzip(asked) {
        return Response::from_parts(head, body);
    }
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    // RFC 9110 §8.8.1: a strong tag names these very bytes, which these are not.
    let tag = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    if let Some(tag) = tag.filter(|tag| !tag.starts_with("W/"))
        && let Ok(weak) = HeaderValue::from_str(&format!("W/{tag}"))
    {
        head.headers.insert(header::ETAG, weak);
    }
    Response::from_parts(head, Gzip::new(body).boxed())
}

fn is_worth_it(size: usize) -> bool {
    size >= limits::GZIP_FROM
}

/// RFC 9110 §12.5.3: what is named counts before `*`, and a weight of 0 is a refusal.
fn accepts_gzip(asked: &HeaderMap) -> bool {
    let mut any = false;
    let values = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|it| it.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let is_taken =
            weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| weight > 0.0));
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return is_taken;
        }
        any |= coding == "*" && is_taken;
    }
    any
}

/// A body on its way through a compressor.
struct Gzip {
    body: Body,
    /// Read, and not compressed yet.
    pending: Bytes,
    /// None when all is said.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Gzip {
    fn new(body: Body) -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        Self { body, pending: Bytes::new(), encoder: Some(encoder) }
    }

    /// Compresses a piece; gives what came out, which may be nothing.
    fn step(&mut self) -> io::Result<Vec<u8>> {
        let piece = self.pending.split_to(self.pending.len().min(PIECE_BYTES));
        let Some(encoder) = &mut self.encoder else { return Ok(Vec::new()) };
        encoder.write_all(&piece)?;
        Ok(std::mem::take(encoder.get_mut()))
    }
}

impl hyper::body::Body for Gzip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        loop {
            let made = if !this.pending.is_empty() {
                this.step()
            } else if this.encoder.is_none() {
                return Poll::Ready(None);
            } else if let Some(Ok(frame)) = ready!(Pin::new(&mut this.body).poll_frame(context)) {
                this.pending = frame.into_data().unwrap_or_default();
                continue;
            } else {
                this.encoder.take().map_or_else(|| Ok(Vec::new()), GzEncoder::finish)
            };
            match made {
                Ok(made) if made.is_empty() => {}
                Ok(made) => return Poll::Ready(Some(Ok(Frame::data(made.into())))),
                Err(error) => {
                    // Writing into memory does not fail; the reader would see that the end is missing.
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot compress");
                    this.encoder = None;
                    this.pending.clear();
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Compressed at a time: a fraction of a millisecond.
const PIECE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::apiserver::respond;

    fn asked(encodings: &str) -> HeaderMap {
        let value = HeaderValue::from_str(encodings).expect("a header");
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)])
    }

    fn answer(size: usize) -> Response<Body> {
        respond::bytes(StatusCode::OK, respond::JSON, text(size))
    }

    fn text(size: usize) -> Vec<u8> {
        b"isocast ".iter().copied().cycle().take(size).collect()
    }

    const LIMIT: usize = limits::GZIP_FROM;

    #[tokio::test]
    async fn an_answer_of_the_limit_comes_out_of_the_compressor_as_it_went_in() {
        for size in [LIMIT, LIMIT + 1, 3 * PIECE_BYTES, 10 * PIECE_BYTES + 7] {
            let response = compressed(&Method::GET, &asked("gzip"), answer(size));

            assert_eq!(response.headers()["content-encoding"], "gzip");
            assert_eq!(response.headers()["vary"], "Accept-Encoding");
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert!(body.len() < size / 50, "{} of {size}", body.len());
            let mut read = Vec::new();
            GzDecoder::new(&*body).read_to_end(&mut read).expect("gzip");
            assert_eq!(read, text(size));
        }
    }

    #[test]
    fn what_is_small_or_refused_or_not_asked_for_is_left_alone() {
        let plain = |response: Response<Body>| !response.headers().contains_key("content-encoding");
        assert!(plain(compressed(&Method::GET, &asked("gzip"), answer(LIMIT - 1))));
        assert!(plain(compressed(&Method::POST, &asked("gzip"), answer(LIMIT))));
        for encodings in ["", "identity", "br, deflate", "gzip;q=0", "*, gzip; q=0.0", "*;q=0"] {
            assert!(
                plain(compressed(&Method::GET, &asked(encodings), answer(LIMIT))),
                "{encodings}"
            );
        }
        for encodings in ["GZIP", "x-gzip", "br;q=1, gzip;q=0.1", "*", "deflate, *;q=0.5"] {
            let response = compressed(&Method::GET, &asked(encodings), answer(LIMIT));
            assert_eq!(response.headers()["content-encoding"], "gzip", "{encodings}");
        }
    }

    #[test]
    fn the_tag_of_a_compressed_answer_is_weak() {
        let document = respond::tagged(&HeaderMap::new(), "a", respond::JSON, text(LIMIT));

        let response = compressed(&Method::GET, &asked("gzip"), document);

        assert_eq!(response.headers()["etag"], "W/\"a\"");
    }
}
