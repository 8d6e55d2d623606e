//! Watches on the wire: a stream of JSON lines that goes on as fast as its reader reads.
//!
//! A watch has no buffer: the stream asks its cursor for more only when what it gave is on its way.
//! Objects that enter or leave a selection appear as ADDED and DELETED.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{self, HeaderValue},
};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    metrics::UnderWay,
    request::Form,
    respond::Body,
    view::{Collection, render_one},
};
use crate::{
    error::ApiError,
    limits,
    registry::Selector,
    store::{Cursor, Document, Event, Operation, Revision},
};

/// A watch about to be served.
pub(super) struct WatchStream {
    pub(super) collection: Collection,
    pub(super) selector: Selector,
    pub(super) form: Form,
    /// What exists, sent first.
    pub(super) existing: Vec<Arc<Document>>,
    /// Whether the end of what exists is marked, and at which revision.
    pub(super) mark: Option<Revision>,
    pub(super) bookmarks: bool,
    pub(super) cursor: Cursor,
    pub(super) lasts: Duration,
    pub(super) shutdown: CancellationToken,
    #[expect(dead_code, reason = "held, so that the watch counts as long as it lasts")]
    pub(super) under_way: UnderWay,
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
    Line(Bytes),
}

impl WatchStream {
    /// The answer that streams it.
    pub(super) fn into_response(mut self) -> Response<Body> {
        let deadline = Instant::now() + self.lasts;
        let mut pending = VecDeque::new();
        for object in std::mem::take(&mut self.existing) {
            pending.push_back(Pending::Existing(object));
        }
        if let Some(revision) = self.mark {
            pending.push_back(Pending::Line(self.bookmark(revision, true)));
        }
        let mut bookmark = interval(limits::BOOKMARK_EVERY);
        bookmark.set_missed_tick_behavior(MissedTickBehavior::Delay);
        bookmark.reset();
        let running = Running { watch: self, pending, deadline, bookmark, ended: false };
        let frames = stream::unfold(running, |mut running| async move {
            let bytes = running.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), running))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed());
        *response.status_mut() = StatusCode::OK;
        let content_type = HeaderValue::from_static("application/json;stream=watch");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }

    /// What an event means to somebody who sees the selection only.
    fn translate(&self, event: &Event) -> Option<Bytes> {
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
        Some(self.line(kind, &self.collection.project(&event.document)))
    }

    fn line(&self, kind: &str, object: &Document) -> Bytes {
        if self.form == Form::Object {
            return line(kind, object.json().get().as_bytes());
        }
        match render_one(&self.collection, self.form, object, Timestamp::now()) {
            Ok(text) => line(kind, &text),
            Err(error) => failure(&error),
        }
    }

    fn bookmark(&self, revision: Revision, ends_existing: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if ends_existing && let Some(fields) = metadata.as_object_mut() {
            fields.insert("annotations".into(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let object = match self.form {
            Form::Table(include) => self.collection.columns().table(
                &metadata,
                std::iter::empty::<&serde_json::Value>(),
                include,
                Timestamp::now(),
            ),
            _ => json!({
                "kind": self.collection.kind(),
                "apiVersion": self.collection.api_version(),
                "metadata": metadata,
            }),
        };
        line("BOOKMARK", object.to_string().as_bytes())
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
                        self.pending.push_back(Pending::Line(failure(&error)));
                    }
                },
                _ = self.bookmark.tick(), if self.watch.bookmarks => self.mark(),
            }
        }
    }

    /// Says how far the watch has come.
    fn mark(&mut self) {
        let bookmark = self.watch.bookmark(self.watch.cursor.position(), false);
        self.pending.push_back(Pending::Line(bookmark));
    }

    /// As many lines as make a reasonable frame; nothing when nothing of it is selected.
    fn take(&mut self) -> Bytes {
        let mut frame = BytesMut::new();
        while frame.len() < limits::WATCH_FRAME_BYTES
            && let Some(pending) = self.pending.pop_front()
        {
            let line = match pending {
                Pending::Event(event) if self.watch.collection.ends_with(&event) => {
                    self.ended = true;
                    self.pending.clear();
                    Some(failure(&ApiError::expired(event.revision, event.revision)))
                }
                Pending::Event(event) => self.watch.translate(&event),
                Pending::Existing(object) => Some(self.watch.line("ADDED", &object)),
                Pending::Line(line) => Some(line),
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

fn failure(error: &ApiError) -> Bytes {
    line("ERROR", error.to_status().to_string().as_bytes())
}

/// One event: `{"type":"ADDED","object":{…}}` and a line feed.
fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + kind.len() + 32);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.freeze()
}
