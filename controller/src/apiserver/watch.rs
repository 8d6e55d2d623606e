//! Watches on the wire: a stream of events that goes on as fast as its reader reads.
//!
//! A watch has no buffer: the stream asks its cursor for more only when what it gave is on its way.
//! Objects that enter or leave a selection appear as ADDED and DELETED.

mod framing;

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{self, HeaderValue},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::framing::Resume;
pub(super) use self::framing::{EVENT_STREAM, Framing};
use super::{
    flows::Seat,
    metrics::UnderWay,
    request::Form,
    respond::Body,
    view::{Collection, render_one},
};
use crate::{
    error::ApiError,
    limits,
    registry::Selector,
    store::{Cursor, Document, Event, Operation, Version},
};

/// A watch about to be served.
pub(super) struct WatchStream {
    pub(super) collection: Collection,
    pub(super) selector: Selector,
    pub(super) form: Form,
    pub(super) framing: Framing,
    /// What exists, sent first.
    pub(super) existing: Vec<Arc<Document>>,
    /// Whether the end of what exists is marked, and at which version.
    pub(super) mark: Option<Version>,
    pub(super) bookmarks: bool,
    pub(super) cursor: Cursor,
    pub(super) lasts: Duration,
    pub(super) shutdown: CancellationToken,
    #[expect(dead_code, reason = "held, so that the watch counts as long as it lasts")]
    pub(super) under_way: (UnderWay, Option<Seat>),
}

/// A stream between two frames.
struct Running {
    watch: WatchStream,
    pending: VecDeque<Pending>,
    deadline: Instant,
    bookmark: tokio::time::Interval,
    ended: bool,
}

/// What is yet to be sent; encoded only then, for it may be much.
enum Pending {
    Event(Event),
    Existing(Arc<Document>),
    Framed(Bytes),
}

impl WatchStream {
    /// The answer that streams it.
    pub(super) fn into_response(mut self) -> Response<Body> {
        let (deadline, framing) = (Instant::now() + self.lasts, self.framing);
        let mut pending = VecDeque::new();
        for object in std::mem::take(&mut self.existing) {
            pending.push_back(Pending::Existing(object));
        }
        if let Some(version) = self.mark {
            pending.push_back(Pending::Framed(self.bookmark(version, true)));
        }
        let mut bookmark = interval(limits::BOOKMARK_EVERY);
        bookmark.set_missed_tick_behavior(MissedTickBehavior::Delay);
        bookmark.reset();
        let running = Running { watch: self, pending, deadline, bookmark, ended: false };
        let frames = stream::unfold(running, |mut running| async move {
            let bytes = running.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), running))
        });
        response(framing, StreamBody::new(frames).boxed())
    }

    /// What an event means to somebody who sees the selection only.
    fn translate(&self, event: &Event, resume: Resume) -> Option<Bytes> {
        if !self.collection.covers(&event.key) {
            return None;
        }
        let selects = |document: &Arc<Document>| {
            self.collection.selects(&self.selector, &event.key, document)
        };
        let selected = selects(&event.document);
        let now = event.operation == Operation::Put && selected;
        let before = event.old.as_ref().map(selects);
        let kind = match (before, now) {
            (Some(true), true) => "MODIFIED",
            (_, true) => "ADDED",
            (Some(true), false) => "DELETED",
            // The past is unknown: it may have been selected.
            (None, false) if event.operation == Operation::Delete && selected => "DELETED",
            (_, false) => return None,
        };
        Some(self.framed(kind, &self.collection.project(&event.document), resume))
    }

    fn framed(&self, kind: &str, object: &Document, resume: Resume) -> Bytes {
        if self.form == Form::Object {
            return self.framing.event(kind, object.json().get().as_bytes(), resume);
        }
        match render_one(&self.collection, self.form, object, Timestamp::now()) {
            Ok(text) => self.framing.event(kind, &text, resume),
            Err(error) => failure(self.framing, &error),
        }
    }

    fn bookmark(&self, version: Version, ends_existing: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if ends_existing && let Some(fields) = metadata.as_object_mut() {
            fields.insert("annotations".into(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let object = match self.form {
            Form::Table(include) => self.collection.columns().table(
                &metadata,
                std::iter::empty::<&Value>(),
                include,
                Timestamp::now(),
            ),
            _ => json!({
                "kind": self.collection.kind(),
                "apiVersion": self.collection.api_version(),
                "metadata": metadata,
            }),
        };
        self.framing.event("BOOKMARK", object.to_string().as_bytes(), Resume::After(version))
    }
}

impl Running {
    /// The next bytes to send, none when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.take();
            if !frame.is_empty() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                () = self.watch.shutdown.cancelled() => return None,
                () = sleep_until(self.deadline) => {
                    self.ended = true;
                    // Whoever comes back goes on from here, however quiet it was.
                    if self.watch.bookmarks {
                        self.mark();
                    }
                }
                events = self.watch.cursor.next() => match events {
                    Ok(events) => self.pending.extend(events.into_iter().map(Pending::Event)),
                    Err(error) => {
                        self.ended = true;
                        let failure = failure(self.watch.framing, &error);
                        self.pending.push_back(Pending::Framed(failure));
                    }
                },
                _ = self.bookmark.tick(), if self.watch.bookmarks => self.mark(),
            }
        }
    }

    /// Says how far the watch has come.
    fn mark(&mut self) {
        let bookmark = self.watch.bookmark(self.watch.cursor.position(), false);
        self.pending.push_back(Pending::Framed(bookmark));
    }

    /// As many events as make a reasonable frame; nothing when nothing of it is selected.
    fn take(&mut self) -> Bytes {
        let mut frame = BytesMut::new();
        while frame.len() < limits::WATCH_FRAME_BYTES
            && let Some(pending) = self.pending.pop_front()
        {
            let line = match pending {
                Pending::Event(event) if self.watch.collection.ends_with(&event) => {
                    self.ended = true;
                    self.pending.clear();
                    let expired = ApiError::expired(event.version, event.version);
                    Some(failure(self.watch.framing, &expired))
                }
                Pending::Event(event) => self.watch.translate(&event, Resume::After(event.version)),
                // Of what exists, part is as good as nothing.
                Pending::Existing(object) => {
                    Some(self.watch.framed("ADDED", &object, Resume::Unchanged))
                }
                Pending::Framed(line) => Some(line),
            };
            frame.extend_from_slice(&line.unwrap_or_default());
        }
        frame.freeze()
    }
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").field("collection", &self.collection).finish_non_exhaustive()
    }
}

/// A stream that only says that it cannot go on from where it was told to.
pub(super) fn failed(framing: Framing, error: &ApiError) -> Response<Body> {
    response(framing, Full::new(failure(framing, error)).boxed())
}

/// Whoever follows a stream that failed must look at everything again.
fn failure(framing: Framing, error: &ApiError) -> Bytes {
    framing.event("ERROR", error.to_status().to_string().as_bytes(), Resume::Anew)
}

fn response(framing: Framing, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, framing.content_type());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
