//! One probe: a marked socket, a handshake, perhaps a GET. Thin driver, no decisions.

use std::{net::SocketAddr, pin::pin, time::Duration};

use http_body_util::Empty;
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use thiserror::Error;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::Target;
use crate::model::Check;

/// Why a probe failed. The text ends up in a backend's health reason.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum ProbeError {
    #[error("connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("http: {0}")]
    Http(#[source] hyper::Error),
    #[error("http request: {0}")]
    Request(#[source] hyper::http::Error),
    #[error("socket: {0}")]
    Socket(#[source] std::io::Error),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Probes once.
///
/// # Errors
/// Whatever kept the target from answering well in time.
pub(super) async fn probe(target: &Target, mark: Option<u32>) -> Result<(), ProbeError> {
    match timeout(target.timeout, ask(target, mark)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(ProbeError::Timeout(target.timeout)),
    }
}

async fn ask(target: &Target, mark: Option<u32>) -> Result<(), ProbeError> {
    let stream = connect(target.address, mark).await?;
    match &target.check {
        Check::TcpConnect => Ok(()),
        Check::Http { path, host } => get(stream, target.address, path, host.as_deref()).await,
    }
}

async fn connect(address: SocketAddr, mark: Option<u32>) -> Result<TcpStream, ProbeError> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(ProbeError::Socket)?;
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark).map_err(ProbeError::Socket)?;
    }
    // Closing by reset leaves no TIME_WAIT behind: thousands of probes a second would pile up.
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).map_err(ProbeError::Socket)?;
    socket.connect(address).await.map_err(ProbeError::Connect)
}

async fn get(
    stream: TcpStream,
    address: SocketAddr,
    path: &str,
    host: Option<&str>,
) -> Result<(), ProbeError> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(ProbeError::Http)?;
    let request = Request::get(path)
        .header(HOST, host.map_or_else(|| address.to_string(), str::to_owned))
        .header("user-agent", concat!("isocast-agent/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(ProbeError::Request)?;
    let mut answer = pin!(sender.send_request(request));
    // A connection that ends has delivered the answer, or the reason why there is none.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _closed = connection => answer.await,
    };
    let answer = answer.map_err(ProbeError::Http)?;
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(ProbeError::Status(status))
    }
}
