//! [`Relay`]: questions to a node's local API, passed on over the node's own connection.
//!
//! One stream for each question, and the agent decides what it answers: it only ever reads. The
//! transport bounds how many there are at a time; one more waits, as long as any question may.

use std::{sync::Arc, time::Duration};

use isocast_api::agent::{
    FrameDecoder, FrameError, LOCAL_RESPONSE_BYTES_MAX, LocalRequest, LocalResponse, frame,
};
use quinn::{Connection, ConnectionError, ReadError, WriteError};
use thiserror::Error;
use tokio::time::timeout;

use super::{limits::CHUNK_BYTES, metrics::Metrics, nodes::Nodes};

/// How long a question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks nodes.
#[derive(Clone, Debug)]
pub struct Relay {
    nodes: Arc<Nodes>,
    metrics: Arc<Metrics>,
}

/// Why there is no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RelayError {
    /// The connection broke, or the agent does not know how to answer.
    #[error("the node's connection broke: {0}")]
    Broken(String),
    /// There was no answer in time.
    #[error("the node did not answer within {} s", PATIENCE.as_secs())]
    Late,
    /// Nobody is there to ask.
    #[error("the node is not connected")]
    NotConnected,
}

// === impl Relay ===

impl Relay {
    pub(super) const fn new(nodes: Arc<Nodes>, metrics: Arc<Metrics>) -> Self {
        Self { nodes, metrics }
    }

    /// What the node of this name and uid answers.
    ///
    /// # Errors
    /// It is not connected, or does not answer.
    pub async fn ask(
        &self,
        node: &str,
        uid: &str,
        question: LocalRequest,
    ) -> Result<LocalResponse, RelayError> {
        let connection = self.nodes.connection(node, uid).ok_or(RelayError::NotConnected);
        let answer = match connection {
            Ok(connection) => timeout(PATIENCE, exchange(&connection, question))
                .await
                .unwrap_or(Err(RelayError::Late)),
            Err(error) => Err(error),
        };
        let counter =
            if answer.is_ok() { &self.metrics.questions } else { &self.metrics.unanswered };
        counter.inc();
        answer
    }
}

async fn exchange(
    connection: &Connection,
    question: LocalRequest,
) -> Result<LocalResponse, RelayError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&frame(&question)).await?;
    // The agent may have answered already; then it wants no more.
    let _answered = send.finish();
    let mut decoder = FrameDecoder::new(LOCAL_RESPONSE_BYTES_MAX);
    loop {
        if let Some(response) = decoder.take()? {
            return Ok(response);
        }
        let chunk = receive.read_chunk(CHUNK_BYTES, true).await?;
        let Some(chunk) = chunk else {
            let broken = "it ended without an answer".to_owned();
            return Err(RelayError::Broken(broken));
        };
        decoder.push(&chunk.bytes);
    }
}

impl From<ConnectionError> for RelayError {
    fn from(error: ConnectionError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<FrameError> for RelayError {
    fn from(error: FrameError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<ReadError> for RelayError {
    fn from(error: ReadError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<WriteError> for RelayError {
    fn from(error: WriteError) -> Self {
        Self::Broken(error.to_string())
    }
}
