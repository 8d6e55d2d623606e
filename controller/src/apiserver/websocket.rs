//! Watches over a WebSocket (RFC 6455): an event, a message.
//!
//! Clients in Java ask for a watch this way first, and browsers can. Over HTTP/1.1 only, and only for
//! watches: whoever asks to upgrade anything else is answered as if they had not (RFC 9110 §7.8). A
//! browser that has no certificate names its token among the protocols that it offers, as Kubernetes has
//! it: it cannot say it elsewhere.
//!
//! What the client says is not listened to, but for its goodbye.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    header::{self, HeaderName, HeaderValue},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::respond::Body;
use crate::error::{ApiError, Reason};

/// Where a connection finds the socket that it has become.
pub(super) type Slot = Arc<Mutex<Option<Socket>>>;

/// What somebody said who wants a WebSocket.
pub(super) struct Handshake {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    upgrade: OnUpgrade,
}

/// A connection that is to be a WebSocket, and the lines that go over it.
pub(super) struct Socket {
    upgrade: OnUpgrade,
    lines: Lines,
}

/// A body, line by line.
struct Lines {
    body: Body,
    read: BytesMut,
}

impl Handshake {
    /// What a request says of a WebSocket, if it wants one.
    ///
    /// # Errors
    /// `BadRequest` for a version other than 13, `Forbidden` for a page of another site that would be
    /// answered by the certificate of whoever looks at it (RFC 6455 §10.2).
    pub(super) fn of<B>(request: &mut Request<B>) -> Result<Option<Self>, ApiError> {
        let headers = request.headers();
        let is_asked = request.version() == Version::HTTP_11
            && tokens(headers, &header::CONNECTION).any(|it| it.eq_ignore_ascii_case("upgrade"))
            && tokens(headers, &header::UPGRADE).any(|it| it.eq_ignore_ascii_case("websocket"));
        if !is_asked {
            return Ok(None);
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(ApiError::bad_request("the version of WebSocket that is spoken is 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.ok_or_else(|| ApiError::bad_request("there is no Sec-WebSocket-Key"))?;
        let names_itself = headers.contains_key(header::AUTHORIZATION) || token(headers).is_some();
        if !names_itself && !is_of_here(headers) {
            let why = "a page of another site needs a token";
            return Err(ApiError::new(Reason::Forbidden, why));
        }
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
            .map_err(|_malformed| ApiError::bad_request("a malformed Sec-WebSocket-Key"))?;
        // Browsers want one of those that they offered.
        let protocol = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .find(|protocol| !protocol.starts_with(BEARER))
            .and_then(|protocol| HeaderValue::from_str(protocol).ok());
        Ok(Some(Self { accept, protocol, upgrade: hyper::upgrade::on(request) }))
    }

    /// The answer to it, in place of a stream of lines, which the connection finds in `slot`.
    pub(super) fn complete(self, stream: Response<Body>, slot: &Slot) -> Response<Body> {
        let lines = Lines { body: stream.into_body(), read: BytesMut::new() };
        *slot.lock() = Some(Socket { upgrade: self.upgrade, lines });
        let mut response = Response::new(Full::default().boxed());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// The token that a client names among the protocols that it offers.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let token = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
        .find_map(|protocol| protocol.strip_prefix(BEARER))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok()?).ok()
}

/// Whether the page that asks, if any does, came from here.
fn is_of_here(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return true };
    let of =
        origin.and_then(|origin| origin.split_once("://")).map(|(_scheme, authority)| authority);
    of.is_some() && of == text(header::HOST).flatten()
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

impl Socket {
    /// Sends each line as it comes, until there are no more or the client has had enough.
    pub(super) async fn serve(mut self) -> Result<(), super::connection::BoxError> {
        let stream = TokioIo::new(self.upgrade.await?);
        let mut socket =
            WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
        loop {
            tokio::select! {
                line = self.lines.next() => match line {
                    Some(line) => socket.send(Message::Text(Utf8Bytes::try_from(line)?)).await?,
                    None => break,
                },
                said = socket.next() => match said {
                    Some(Ok(_unheard)) => {}
                    None | Some(Err(Error::ConnectionClosed)) => return Ok(()),
                    Some(Err(error)) => return Err(error.into()),
                },
            }
        }
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        socket.send(Message::Close(Some(goodbye))).await?;
        let answered = async { while let Some(Ok(_)) = socket.next().await {} };
        // Whoever does not answer is hung up on.
        let _late = timeout(GOODBYE, answered).await;
        socket.get_mut().shutdown().await?;
        Ok(())
    }
}

impl Lines {
    /// The next one. A call that is given up loses nothing.
    async fn next(&mut self) -> Option<Bytes> {
        let mut searched = 0;
        loop {
            let unread = self.read.get(searched..).unwrap_or_default();
            if let Some(at) = unread.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(searched + at + 1).freeze();
                return Some(line.slice(..line.len() - 1));
            }
            searched = self.read.len();
            let Ok(frame) = self.body.frame().await?;
            if let Some(data) = frame.data_ref() {
                self.read.extend_from_slice(data);
            }
        }
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// There are thousands that wait, and what they say is small.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(HEARD_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(HEARD_BYTES))
        .max_frame_size(Some(HEARD_BYTES))
}

/// Before the token, URL-safe base64 without padding, in the name of a protocol.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// The most that a client may say at once.
const HEARD_BYTES: usize = 4 << 10;
/// How long a client may take to answer a goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
