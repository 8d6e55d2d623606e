//! [`Framing`]: how the events of a watch are told apart on the wire.
//!
//! Kubernetes' lines of JSON, or server-sent events for browsers (WHATWG HTML §9.2), which come back
//! by themselves and say with `Last-Event-ID` where they were: the version of the last object they were
//! given, which is what other clients go on from as well.

use bytes::{Bytes, BytesMut};
use hyper::header::HeaderValue;

use crate::store::Version;

/// How events are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::apiserver) enum Framing {
    /// Server-sent events.
    EventStream,
    /// A line of JSON each.
    Lines,
}

/// Where somebody who breaks off after an event goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// After this version.
    After(Version),
    /// At the beginning.
    Anew,
    /// Where they would have gone on before it.
    Unchanged,
}

/// Media type of server-sent events.
pub(in crate::apiserver) const EVENT_STREAM: &str = "text/event-stream";

impl Framing {
    pub(in crate::apiserver) const fn content_type(self) -> HeaderValue {
        match self {
            Self::EventStream => HeaderValue::from_static(EVENT_STREAM),
            Self::Lines => HeaderValue::from_static("application/json;stream=watch"),
        }
    }

    /// One event: `{"type":"ADDED","object":{…}}`, framed; `object` is compact JSON, which has no line
    /// breaks.
    pub(super) fn event(self, kind: &str, object: &[u8], resume: Resume) -> Bytes {
        let mut event = BytesMut::new();
        self.append(&mut event, kind, object, resume);
        event.freeze()
    }

    /// The same, after others.
    pub(super) fn append(self, event: &mut BytesMut, kind: &str, object: &[u8], resume: Resume) {
        event.reserve(object.len() + 64);
        if self == Self::EventStream {
            match resume {
                Resume::After(version) => {
                    event.extend_from_slice(format!("id: {version}\n").as_bytes());
                }
                Resume::Anew => event.extend_from_slice(b"id:\n"),
                Resume::Unchanged => {}
            }
            event.extend_from_slice(b"data: ");
        }
        event.extend_from_slice(b"{\"type\":\"");
        event.extend_from_slice(kind.as_bytes());
        event.extend_from_slice(b"\",\"object\":");
        event.extend_from_slice(object);
        event.extend_from_slice(match self {
            Self::EventStream => b"}\n\n",
            Self::Lines => b"}\n",
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Revision;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let object = json!({"text": "a\nb\r\u{2028}"}).to_string();

        let resume = Resume::After(Revision(7).into());

        let line = Framing::Lines.event("ADDED", object.as_bytes(), resume);
        let event = Framing::EventStream.event("ADDED", object.as_bytes(), resume);

        let text = r#"{"type":"ADDED","object":{"text":"a\nb\r"#;
        assert!(line.starts_with(text.as_bytes()) && line.ends_with(b"}\n"), "{line:?}");
        assert_eq!(event, [b"id: 7999\ndata: ", &*line, b"\n"].concat());
    }

    #[test]
    fn an_id_is_set_or_emptied_or_left_as_it_was() {
        let framed = |resume| Framing::EventStream.event("X", b"1", resume);
        assert_eq!(framed(Resume::Unchanged), "data: {\"type\":\"X\",\"object\":1}\n\n");
        assert_eq!(framed(Resume::Anew), "id:\ndata: {\"type\":\"X\",\"object\":1}\n\n");
    }
}
