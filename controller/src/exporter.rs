//! The Prometheus endpoint: `/metrics` over plain HTTP, for a scraper beside the controller.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, header, header::HeaderValue, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::limits;

/// Serves one set of figures.
#[derive(Debug)]
pub(crate) struct Exporter {
    listener: TcpListener,
    registry: Arc<Registry>,
}

impl Exporter {
    pub(crate) async fn bind(address: SocketAddr, registry: Registry) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, registry: Arc::new(registry) })
    }

    /// Serves until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < limits::SCRAPERS => {
                    let Ok((stream, _)) = accepted else { continue };
                    let registry = Arc::clone(&self.registry);
                    connections.spawn(async move {
                        let answer = service_fn(|request| {
                            let response = answer(&registry, &request);
                            async move { Ok::<_, Infallible>(response) }
                        });
                        let served = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(limits::HANDSHAKE_TIMEOUT)
                            .serve_connection(TokioIo::new(stream), answer);
                        if let Err(error) = served.await {
                            let error = &error as &dyn std::error::Error;
                            tracing::debug!(error, "scrape failed");
                        }
                    });
                }
            }
        }
    }
}

fn answer(registry: &Registry, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut text = String::new();
    let code = if request.uri().path() != "/metrics" {
        StatusCode::NOT_FOUND
    } else if encode(&mut text, registry).is_ok() {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = code;
    let content_type =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
