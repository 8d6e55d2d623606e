//! One question to the running agent, on its socket.

use std::path::Path;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use isocast_api::agent::local::Refusal;
use tokio::net::UnixStream;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What the agent answers to a GET of `target`.
pub(super) fn ask(socket: &Path, target: &str) -> anyhow::Result<Bytes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(exchange(socket, target));
    answer.with_context(|| format!("agent at {}", socket.display()))
}

async fn exchange(socket: &Path, target: &str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.context("connect")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(target).header(HOST, "agent").body(Empty::<Bytes>::new())?;
    // Takes the sender along: once it is dropped, the connection ends.
    let exchange = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => anyhow::bail!("{} ({status})", refusal.error),
            Err(_) => anyhow::bail!("status {status}"),
        }
    };
    let (answer, _closed) = tokio::join!(exchange, async { connection.await.ok() });
    answer
}
