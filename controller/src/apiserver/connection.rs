//! One connection: from its handshake, through the protocol that was agreed on there, to its end.
//!
//! Owns what somebody may cost who says nothing, and when they are hung up on. It knows no request:
//! what one asks is the service's business.
//!
//! There are thousands of them that wait. HTTP/2 over TLS is always agreed on (RFC 9113 §3.2), so
//! what is said first need not be kept until it is known what it is.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{paced::Disconnect, respond::Body, service::Service, websocket::Slot};
use crate::{
    audit::{Call, of_call},
    authz::Identity,
    limits, pki,
};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a client may agree on with the server, the better one first.
pub(super) const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
const HTTP_2: &[u8] = b"h2";
/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 250;
/// Streams that a client may give up before they were looked at; one that goes on so is disconnected
/// (CVE-2023-44487).
const STREAMS_RESET: usize = 64;

/// Serves one connection.
pub(super) async fn serve(
    tls: TlsAcceptor,
    service: Arc<Service>,
    stream: TcpStream,
    source: IpAddr,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    // What only the handshake takes is not to stay.
    let handshake = Box::pin(timeout(limits::HANDSHAKE_TIMEOUT, tls.accept(stream)));
    let stream = handshake.await??;
    let identity: Option<Arc<Identity>> = identity(&stream).map(Arc::new);
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
    let (shutdown, metrics) = (service.shutdown.clone(), Arc::clone(&service.metrics));
    // Idle clients of Go and Rust keep a connection for this long.
    let head_patience = service.patience.saturating_mul(3) / 2;
    let (lazy, began) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let disconnect = Disconnect { patience: service.patience, connection: lazy.clone() };
    let (begins, becomes) = (Arc::clone(&began), Slot::default());
    let slot = Slot::clone(&becomes);
    let answer = service_fn(move |request: Request<Incoming>| {
        begins.store(true, Relaxed);
        let (service, identity) = (Arc::clone(&service), identity.clone());
        let (disconnect, slot) = (disconnect.clone(), Slot::clone(&slot));
        async move {
            let call = Arc::new(Call::new(source));
            let answered = service.answer(identity.as_deref(), request, disconnect, &slot);
            // A connection keeps the room of what answers, also while a watch goes on for hours.
            Ok::<_, Infallible>(Box::pin(of_call(call, answered)).await)
        }
    });
    let stream = TokioIo::new(stream);
    let mut connection: Pin<Box<dyn Spoken>> = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits::HEADER_BYTES).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(STREAMS_RESET)
            .max_local_error_reset_streams(Some(STREAMS_RESET))
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(limits::HTTP2_PING);
        Box::pin(builder.serve_connection(stream, answer))
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(head_patience)
            .max_buf_size(limits::HEADER_BYTES);
        Box::pin(builder.serve_connection(stream, answer).with_upgrades())
    };
    // What is said before the first request is not the business of any protocol's own timeouts.
    let silent = async {
        sleep(head_patience).await;
        if began.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let gone = async {
        tokio::select! {
            () = silent => metrics.disconnected("silent"),
            () = lazy.cancelled() => metrics.disconnected("untaken"),
        }
        Aside::Gone
    };
    let stops = async {
        shutdown.cancelled().await;
        Aside::Stops
    };
    // What rarely happens is looked at when it does, and not whenever the connection has something to
    // say: each look takes a lock, one of them that of all connections.
    let mut aside = FuturesUnordered::from_iter([gone.left_future(), stops.right_future()]);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                result?;
                break;
            }
            Some(aside) = aside.next() => match aside {
                Aside::Gone => return Ok(()),
                Aside::Stops => connection.as_mut().stop(),
            },
        }
    }
    drop(connection);
    let Some(socket) = becomes.lock().take() else { return Ok(()) };
    // A watch ends by itself when the server stops.
    tokio::select! {
        result = socket.serve() => result,
        Some(Aside::Gone) = aside.next() => Ok(()),
    }
}

/// A connection in the protocol that was agreed on.
trait Spoken: Future<Output = hyper::Result<()>> + Send {
    /// Answers what was asked, and nothing more.
    fn stop(self: Pin<&mut Self>);
}

type Stream = TokioIo<TlsStream<TcpStream>>;

impl<S> Spoken for http1::UpgradeableConnection<Stream, S>
where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible> + Send,
    S::Future: Send,
{
    fn stop(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S> Spoken for http2::Connection<Stream, S, TokioExecutor>
where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    fn stop(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// What happens to a connection besides what is said on it.
enum Aside {
    /// Whoever is on the other end says or takes nothing.
    Gone,
    /// The server does.
    Stops,
}

/// Who the client's certificate, verified by TLS, says it is.
fn identity(stream: &TlsStream<TcpStream>) -> Option<Identity> {
    let (_, session) = stream.get_ref();
    session.peer_certificates()?.first().and_then(pki::identity)
}
