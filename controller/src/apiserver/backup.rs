//! `GET /backup`: everything there is, as one stream, to whoever may have everything.
//!
//! The store is read at one moment and sent as fast as it is taken; nothing waits for it. A stream
//! that breaks off has no end, and whoever restores it is told so.

use std::{convert::Infallible, io, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Method, Response, StatusCode,
    body::Frame,
    header::{self, HeaderValue},
};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};

use super::respond::Body;
use crate::{
    authz::{Authorizer, Identity, verb},
    cabinet::Cabinet,
    error::{ApiError, Reason},
    limits,
    store::{NamedFile, Range, Store},
};

/// What of its files a restored controller needs besides the store.
const FILES: [&str; 4] = ["keyring.json", "pki/ca.crt", "pki/ca.key", "secrets.keys"];

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.isocast.backup");

/// The one backup at a time.
#[derive(Debug)]
pub(super) struct Backups(Arc<Semaphore>);

impl Default for Backups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::BACKUPS)))
    }
}

impl Backups {
    /// Begins one.
    pub(super) fn serve(
        &self,
        store: &Arc<Store>,
        files: Option<&Arc<dyn Cabinet>>,
        identity: &Identity,
        method: &Method,
    ) -> Result<Response<Body>, ApiError> {
        if *method != Method::GET {
            let refusal = ApiError::new(Reason::MethodNotAllowed, "a backup can only be read");
            return Err(refusal.allowing("GET"));
        }
        let proof = Authorizer.authorize::<verb::Backup, _>(identity, Range::Everything)?;
        let turn = Arc::clone(&self.0).try_acquire_owned().map_err(|_taken| {
            let message = "another backup is under way";
            ApiError::new(Reason::TooManyRequests, message).with_retry_after(10)
        })?;
        let files = files.map(read).transpose().map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot read own files");
            ApiError::internal("the controller's files cannot be read")
        })?;
        let (sender, receiver) = mpsc::channel(limits::BACKUP_CHUNKS);
        let store = Arc::clone(store);
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let began = Instant::now();
            let mut pipe = Pipe { sender, pending: Vec::new(), began };
            let files = files.unwrap_or_default();
            match store.back_up(&proof, &files, Timestamp::now(), &mut pipe) {
                Ok(revision) => tracing::info!(%revision, actor = %proof.actor(), "backed up"),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "no backup");
                }
            }
        });
        let chunks = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
        let body = StreamBody::new(chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk))));
        let mut response = Response::new(BodyExt::boxed(body));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
        Ok(response)
    }
}

fn read(cabinet: &Arc<dyn Cabinet>) -> io::Result<Vec<NamedFile>> {
    let mut files = Vec::new();
    for name in FILES {
        if let (Some(content), _) = cabinet.read(name)? {
            files.push((name.to_owned(), content));
        }
    }
    Ok(files)
}

/// Writes in chunks to whoever reads; gives up on one who takes too long.
struct Pipe {
    sender: mpsc::Sender<Bytes>,
    pending: Vec<u8>,
    began: Instant,
}

impl Pipe {
    fn send(&mut self) -> io::Result<()> {
        if self.began.elapsed() > limits::BACKUP_LASTS {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.pending));
        self.sender.blocking_send(chunk).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= limits::BACKUP_CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.send() }
    }
}
