//! Lists as they are answered: written while they are read, piece by piece.
//!
//! A list may have ten thousands of objects, and who asked for it may read slowly: of what is not sent
//! yet there are the objects, which the store has as well, and no text.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Response, StatusCode,
    body::{self, Frame, SizeHint},
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    request::Form,
    respond::{self, Body, JSON},
    view::{Collection, text, unencodable},
};
use crate::{
    error::ApiError,
    registry::{Listing, table},
    store::{Document, Version},
};

/// A listing in the form that was asked for.
pub(super) fn answer(
    collection: &Collection,
    form: Form,
    listing: Listing,
    now: Timestamp,
) -> Result<Response<Body>, ApiError> {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), json!(Version::from(listing.revision).to_string()));
    if let Some(token) = &listing.next {
        metadata.insert("continue".into(), json!(token));
    }
    if let Some(remaining) = listing.remaining {
        metadata.insert("remainingItemCount".into(), json!(remaining));
    }
    let metadata = Value::Object(metadata);
    let parsed = || listing.items.iter().map(|item| item.glance());
    let rendered = match form {
        Form::Table(include) => collection.columns().table(&metadata, parsed(), include, now),
        Form::Partial => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": parsed().map(|item| table::partial(&item)).collect::<Vec<_>>(),
        }),
        Form::Object => {
            let (kind, api_version) =
                (format!("{}List", collection.kind()), collection.api_version());
            let list = List::new(&Head { kind, api_version, metadata }, listing.items)?;
            return Ok(respond::streamed(StatusCode::OK, JSON, list.boxed()));
        }
    };
    Ok(respond::streamed(StatusCode::OK, JSON, Full::new(text(&rendered)?).boxed()))
}

/// What comes before the items.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    kind: String,
    api_version: &'a str,
    metadata: Value,
}

/// The objects of a listing as they are: their text is copied and not looked at.
struct List {
    /// Written, and not handed out yet.
    written: Vec<u8>,
    items: vec::IntoIter<Arc<Document>>,
    /// Bytes of all that is not handed out yet.
    rest: u64,
}

impl List {
    fn new(head: &Head<'_>, items: Vec<Arc<Document>>) -> Result<Self, ApiError> {
        let mut written = serde_json::to_vec(head).map_err(unencodable)?;
        // The items go into the object that was just closed.
        written.pop();
        written.extend_from_slice(b",\"items\":[");
        if items.is_empty() {
            written.extend_from_slice(END);
        }
        let mut list = Self { written, items: items.into_iter(), rest: 0 };
        let left = list.items.as_slice().iter().enumerate();
        let texts: usize = left.map(|(at, item)| item.size() + list.after(at + 1).len()).sum();
        list.rest = (list.written.len() + texts) as u64;
        Ok(list)
    }

    /// Writes as many items as make a piece, and the end after the last.
    fn write(&mut self) {
        self.written.reserve(PIECE_BYTES);
        while self.written.len() < PIECE_BYTES - ITEM_BYTES
            && let Some(item) = self.items.next()
        {
            item.append_to(&mut self.written);
            self.written.extend_from_slice(self.after(0));
        }
    }

    /// What follows the item after which this is the next of those that are left.
    fn after(&self, next: usize) -> &'static [u8] {
        if next < self.items.len() { b"," } else { END }
    }
}

impl body::Body for List {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest == 0 {
            return Poll::Ready(None);
        }
        self.write();
        let piece = mem::take(&mut self.written);
        self.rest = self.rest.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest)
    }
}

/// After the last item.
const END: &[u8] = b"]}";
/// Room for what is written at a time: no more than the allocator keeps at hand.
const PIECE_BYTES: usize = 72 << 10;
/// Room that most items find in what is left of it.
const ITEM_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    async fn whole(texts: &[Value]) -> (usize, Value) {
        let head = Head { kind: "XList".into(), api_version: "v1", metadata: json!({"a": 1}) };
        let items = texts.iter().map(|text| Arc::new(Document::from(text.clone()))).collect();
        let mut list = List::new(&head, items).expect("a list");
        let (mut pieces, mut bytes) = (0, Vec::new());
        loop {
            let size = body::Body::size_hint(&list).exact().expect("a known size");
            assert_eq!(body::Body::is_end_stream(&list), size == 0);
            let Some(Ok(piece)) = list.frame().await else { break };
            let piece = piece.into_data().expect("data");
            assert!(!piece.is_empty() && piece.len() as u64 <= size);
            pieces += 1;
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(body::Body::size_hint(&list).exact(), Some(0));
        (pieces, serde_json::from_slice(&bytes).expect("JSON"))
    }

    #[tokio::test]
    async fn a_list_is_whole_and_as_long_as_it_said_in_one_piece_or_many() {
        let short = json!({"x": "y"});
        let long = json!({"text": "z".repeat(3 * PIECE_BYTES)});
        for (items, pieces) in [
            (vec![], 1),
            (vec![short.clone()], 1),
            (vec![long.clone()], 1),
            (vec![short.clone(), long.clone(), short.clone(), long, short], 3),
            (vec![json!({"text": "a".repeat(1000)}); 1000], 16),
        ] {
            let list = whole(&items).await;

            let expected = json!({
                "kind": "XList", "apiVersion": "v1", "metadata": {"a": 1}, "items": items,
            });
            assert_eq!(list, (pieces, expected));
        }
    }
}
