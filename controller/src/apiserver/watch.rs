//! Watches on the wire: a stream of events that goes on as fast as its reader reads.
//!
//! A watch has no buffer: the stream asks its cursor for more only when what it gave is on its way.
//! Objects that enter or leave a selection appear as ADDED and DELETED.

mod framing;

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use http_body_util::{BodyExt, Full};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{self, HeaderValue},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

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

/// A stream under way. It is polled a few times for each event and watcher, so it keeps what it waits
/// for instead of making it anew.
struct Running {
    watch: WatchStream,
    pending: VecDeque<Pending>,
    deadline: Instant,
    /// Goes off at the next bookmark, or at the end.
    alarm: Pin<Box<Sleep>>,
    /// Looked at only when it is over: many wait for it, behind one lock.
    shutdown: FuturesUnordered<WaitForCancellationFutureOwned>,
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
        let shutdown = FuturesUnordered::from_iter([self.shutdown.clone().cancelled_owned()]);
        let alarm = Box::pin(sleep_until(self.next_alarm(deadline)));
        let running = Running { watch: self, pending, deadline, alarm, shutdown, ended: false };
        response(framing, running.boxed())
    }

    /// When it is to say something, or to end.
    fn next_alarm(&self, deadline: Instant) -> Instant {
        let bookmark = Instant::now() + limits::BOOKMARK_EVERY;
        if self.bookmarks { deadline.min(bookmark) } else { deadline }
    }

    /// Appends what an event means to somebody who sees the selection only.
    fn translate(&self, event: &Event, resume: Resume, frame: &mut BytesMut) {
        if !self.collection.covers(&event.key) {
            return;
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
            (_, false) => return,
        };
        self.append(kind, &self.collection.project(&event.document), resume, frame);
    }

    fn append(&self, kind: &str, object: &Document, resume: Resume, frame: &mut BytesMut) {
        if self.form == Form::Object {
            let text = object.text();
            return self.framing.append(frame, kind, text.as_bytes(), resume);
        }
        match render_one(&self.collection, self.form, object, Timestamp::now()) {
            Ok(text) => self.framing.append(frame, kind, &text, resume),
            Err(error) => frame.extend_from_slice(&failure(self.framing, &error)),
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

impl hyper::body::Body for Running {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            let frame = this.take();
            if !frame.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if this.ended || this.shutdown.poll_next_unpin(context).is_ready() {
                return Poll::Ready(None);
            }
            if this.alarm.poll_unpin(context).is_ready() {
                this.wake_up();
                continue;
            }
            match this.watch.cursor.poll_next(context) {
                Poll::Ready(Ok(events)) => {
                    this.pending.extend(events.into_iter().map(Pending::Event));
                }
                Poll::Ready(Err(error)) => {
                    this.ended = true;
                    let failure = failure(this.watch.framing, &error);
                    this.pending.push_back(Pending::Framed(failure));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Running {
    /// Says how far the watch has come; at the end too, so that whoever comes back goes on from here,
    /// however quiet it was.
    fn wake_up(&mut self) {
        self.ended = Instant::now() >= self.deadline;
        self.alarm.as_mut().reset(self.watch.next_alarm(self.deadline));
        if self.watch.bookmarks {
            let bookmark = self.watch.bookmark(self.watch.cursor.position(), false);
            self.pending.push_back(Pending::Framed(bookmark));
        }
    }

    /// As many events as make a reasonable frame; nothing when nothing of it is selected.
    fn take(&mut self) -> Bytes {
        let mut frame = BytesMut::new();
        while frame.len() < limits::WATCH_FRAME_BYTES
            && let Some(pending) = self.pending.pop_front()
        {
            match pending {
                Pending::Event(event) if self.watch.collection.ends_with(&event) => {
                    self.ended = true;
                    self.pending.clear();
                    let expired = ApiError::expired(event.version, event.version);
                    frame.extend_from_slice(&failure(self.watch.framing, &expired));
                }
                Pending::Event(event) => {
                    self.watch.translate(&event, Resume::After(event.version), &mut frame);
                }
                // Of what exists, part is as good as nothing.
                Pending::Existing(object) => {
                    self.watch.append("ADDED", &object, Resume::Unchanged, &mut frame);
                }
                Pending::Framed(line) => frame.extend_from_slice(&line),
            }
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
