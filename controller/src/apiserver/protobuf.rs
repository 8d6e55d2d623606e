//! Built-in kinds in Kubernetes' protobuf, which Helm and Go clients send; answers are JSON.
//!
//! A table says for each message which field has which number (those of the `generated.proto` files
//! of `k8s.io/api` and `k8s.io/apimachinery`), and one walk turns bytes into the JSON they stand
//! for. What the tables do not name is skipped, as protobuf wants it; values that are the default
//! of their type are left out, for Go's clients write them all.

use base64::{Engine, engine::general_purpose::STANDARD};
use isocast_api::ResourceKind;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{error::ApiError, registry::Kind};

/// Content type of such a body.
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

/// A field of a message.
struct Field {
    number: u64,
    name: &'static str,
    kind: Type,
}

type Message = &'static [Field];

/// What a field holds.
#[derive(Clone, Copy)]
enum Type {
    Bool,
    Integer,
    /// JSON as it is.
    Json,
    ListOf(Message),
    ListOfTexts,
    MapOfBytes,
    MapOfTexts,
    Message(Message),
    /// A time with microseconds.
    MicroTime,
    Text,
    Time,
}

const fn field(number: u64, name: &'static str, kind: Type) -> Field {
    Field { number, name, kind }
}

/// The envelope; the object in it, field 2, is read in a second step.
const UNKNOWN: Message = &[field(1, "typeMeta", Type::Message(TYPE_META))];

const TYPE_META: Message = &[field(1, "apiVersion", Type::Text), field(2, "kind", Type::Text)];

const OBJECT_META: Message = &[
    field(1, "name", Type::Text),
    field(2, "generateName", Type::Text),
    field(3, "namespace", Type::Text),
    field(5, "uid", Type::Text),
    field(6, "resourceVersion", Type::Text),
    field(7, "generation", Type::Integer),
    field(8, "creationTimestamp", Type::Time),
    field(9, "deletionTimestamp", Type::Time),
    field(10, "deletionGracePeriodSeconds", Type::Integer),
    field(11, "labels", Type::MapOfTexts),
    field(12, "annotations", Type::MapOfTexts),
    field(13, "ownerReferences", Type::ListOf(OWNER_REFERENCE)),
    field(14, "finalizers", Type::ListOfTexts),
    field(17, "managedFields", Type::ListOf(MANAGED_FIELDS)),
];

const OWNER_REFERENCE: Message = &[
    field(1, "kind", Type::Text),
    field(3, "name", Type::Text),
    field(4, "uid", Type::Text),
    field(5, "apiVersion", Type::Text),
    field(6, "controller", Type::Bool),
    field(7, "blockOwnerDeletion", Type::Bool),
];

const MANAGED_FIELDS: Message = &[
    field(1, "manager", Type::Text),
    field(2, "operation", Type::Text),
    field(3, "apiVersion", Type::Text),
    field(4, "time", Type::Time),
    field(6, "fieldsType", Type::Text),
    field(7, "fieldsV1", Type::Json),
    field(8, "subresource", Type::Text),
];

const SECRET: Message = &[
    field(1, "metadata", Type::Message(OBJECT_META)),
    field(2, "data", Type::MapOfBytes),
    field(3, "type", Type::Text),
    field(4, "stringData", Type::MapOfTexts),
    field(5, "immutable", Type::Bool),
];

const CONFIG_MAP: Message = &[
    field(1, "metadata", Type::Message(OBJECT_META)),
    field(2, "data", Type::MapOfTexts),
    field(3, "binaryData", Type::MapOfBytes),
    field(4, "immutable", Type::Bool),
];

const LEASE: Message = &[
    field(1, "metadata", Type::Message(OBJECT_META)),
    field(2, "spec", Type::Message(LEASE_SPEC)),
];

const LEASE_SPEC: Message = &[
    field(1, "holderIdentity", Type::Text),
    field(2, "leaseDurationSeconds", Type::Integer),
    field(3, "acquireTime", Type::MicroTime),
    field(4, "renewTime", Type::MicroTime),
    field(5, "leaseTransitions", Type::Integer),
    field(6, "strategy", Type::Text),
    field(7, "preferredHolder", Type::Text),
];

const EVENT: Message = &[
    field(1, "metadata", Type::Message(OBJECT_META)),
    field(2, "involvedObject", Type::Message(OBJECT_REFERENCE)),
    field(3, "reason", Type::Text),
    field(4, "message", Type::Text),
    field(5, "source", Type::Message(EVENT_SOURCE)),
    field(6, "firstTimestamp", Type::Time),
    field(7, "lastTimestamp", Type::Time),
    field(8, "count", Type::Integer),
    field(9, "type", Type::Text),
    field(10, "eventTime", Type::MicroTime),
    field(11, "series", Type::Message(EVENT_SERIES)),
    field(12, "action", Type::Text),
    field(13, "related", Type::Message(OBJECT_REFERENCE)),
    field(14, "reportingComponent", Type::Text),
    field(15, "reportingInstance", Type::Text),
];

/// The same in `events.k8s.io/v1`.
const NEWER_EVENT: Message = &[
    field(1, "metadata", Type::Message(OBJECT_META)),
    field(2, "eventTime", Type::MicroTime),
    field(3, "series", Type::Message(EVENT_SERIES)),
    field(4, "reportingController", Type::Text),
    field(5, "reportingInstance", Type::Text),
    field(6, "action", Type::Text),
    field(7, "reason", Type::Text),
    field(8, "regarding", Type::Message(OBJECT_REFERENCE)),
    field(9, "related", Type::Message(OBJECT_REFERENCE)),
    field(10, "note", Type::Text),
    field(11, "type", Type::Text),
    field(12, "deprecatedSource", Type::Message(EVENT_SOURCE)),
    field(13, "deprecatedFirstTimestamp", Type::Time),
    field(14, "deprecatedLastTimestamp", Type::Time),
    field(15, "deprecatedCount", Type::Integer),
];

const OBJECT_REFERENCE: Message = &[
    field(1, "kind", Type::Text),
    field(2, "namespace", Type::Text),
    field(3, "name", Type::Text),
    field(4, "uid", Type::Text),
    field(5, "apiVersion", Type::Text),
    field(6, "resourceVersion", Type::Text),
    field(7, "fieldPath", Type::Text),
];

const EVENT_SOURCE: Message = &[field(1, "component", Type::Text), field(2, "host", Type::Text)];

const EVENT_SERIES: Message =
    &[field(1, "count", Type::Integer), field(2, "lastObservedTime", Type::MicroTime)];

const DELETE_OPTIONS: Message = &[
    field(1, "gracePeriodSeconds", Type::Integer),
    field(2, "preconditions", Type::Message(PRECONDITIONS)),
    field(3, "orphanDependents", Type::Bool),
    field(4, "propagationPolicy", Type::Text),
    field(5, "dryRun", Type::ListOfTexts),
];

const PRECONDITIONS: Message =
    &[field(1, "uid", Type::Text), field(2, "resourceVersion", Type::Text)];

/// The object of `kind` that `body` is, as JSON; none when the kind has no such form.
pub(super) fn object(kind: &Kind, body: &[u8]) -> Option<Result<Vec<u8>, ApiError>> {
    let declared = kind.descriptor();
    let message = match (declared.resource_kind, declared.group) {
        (ResourceKind::ConfigMap, _) => CONFIG_MAP,
        (ResourceKind::Event, "") => EVENT,
        (ResourceKind::Event, _) => NEWER_EVENT,
        (ResourceKind::Lease, _) => LEASE,
        (ResourceKind::Secret, _) => SECRET,
        _ => return None,
    };
    Some(decode(message, body))
}

/// The options of a deletion that `body` is, as JSON.
pub(super) fn delete_options(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    decode(DELETE_OPTIONS, body)
}

fn decode(message: Message, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let malformed = || ApiError::bad_request("the body is not Kubernetes' protobuf");
    let body = body.strip_prefix(MAGIC).ok_or_else(malformed)?;
    let envelope = read(UNKNOWN, body).ok_or_else(malformed)?;
    let raw = raw(body).ok_or_else(malformed)?;
    let mut object = read(message, raw).ok_or_else(malformed)?;
    if let Some(Value::Object(words)) = envelope.get("typeMeta") {
        object.extend(words.clone());
    }
    Ok(Value::Object(object).to_string().into_bytes())
}

/// The object within its envelope.
fn raw(envelope: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(envelope);
    let mut raw: &[u8] = &[];
    while let Some((number, wire)) = reader.next()? {
        if let (2, Wire::Bytes(bytes)) = (number, wire) {
            raw = bytes;
        }
    }
    Some(raw)
}

/// Reads a message; none when it is malformed.
fn read(message: Message, bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut reader = Reader(bytes);
    let mut object = Map::new();
    while let Some((number, wire)) = reader.next()? {
        let Some(field) = message.iter().find(|field| field.number == number) else { continue };
        match (field.kind, wire) {
            (Type::Bool, Wire::Number(number)) => {
                object.insert(field.name.into(), json!(number != 0));
            }
            (Type::Integer, Wire::Number(number)) => {
                object.insert(field.name.into(), json!(number.cast_signed()));
            }
            (kind, Wire::Bytes(bytes)) => add(&mut object, field.name, kind, bytes)?,
            _ => return None,
        }
    }
    object.retain(|_, value| !is_default(value));
    Some(object)
}

fn add(object: &mut Map<String, Value>, name: &str, kind: Type, bytes: &[u8]) -> Option<()> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let mut listed = |value: Value| {
        let list = object.entry(name).or_insert_with(|| json!([]));
        list.as_array_mut().map(|list| list.push(value))
    };
    match kind {
        Type::ListOf(message) => return listed(Value::Object(read(message, bytes)?)),
        Type::ListOfTexts => return listed(json!(text(bytes)?)),
        Type::MapOfBytes | Type::MapOfTexts => {
            let (key, value) = entry(bytes)?;
            let value = match kind {
                Type::MapOfBytes => json!(STANDARD.encode(value)),
                _ => json!(text(value)?),
            };
            let map = object.entry(name).or_insert_with(|| json!({}));
            return map.as_object_mut().map(|map| drop(map.insert(key.to_owned(), value)));
        }
        _ => {}
    }
    let value = match kind {
        Type::Json => {
            let json = Reader(bytes).next()?;
            match json {
                Some((1, Wire::Bytes(json))) => serde_json::from_slice(json).ok()?,
                _ => json!({}),
            }
        }
        Type::Message(message) => Value::Object(read(message, bytes)?),
        Type::MicroTime => time(bytes, "%Y-%m-%dT%H:%M:%S%.6fZ")?,
        Type::Text => json!(text(bytes)?),
        Type::Time => time(bytes, "%Y-%m-%dT%H:%M:%SZ")?,
        _ => return None,
    };
    object.insert(name.to_owned(), value);
    Some(())
}

/// Key and value of a map's entry.
fn entry(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let mut reader = Reader(bytes);
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = bytes,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => return None,
        }
    }
    Some((std::str::from_utf8(key).ok()?, value))
}

/// Seconds and nanoseconds; nothing at all stands for no time.
fn time(bytes: &[u8], format: &str) -> Option<Value> {
    let mut reader = Reader(bytes);
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Number(number)) => seconds = number.cast_signed(),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).ok()?,
            _ => return None,
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Some(Value::Null);
    }
    let time = Timestamp::new(seconds, nanos).ok()?;
    Some(json!(time.strftime(format).to_string()))
}

/// Whether a value is what its absence means. Maps keep their values whatever they are.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Object(fields) => fields.is_empty(),
        Value::Array(_) | Value::Bool(_) => false,
    }
}

/// What a field is on the wire.
enum Wire<'a> {
    Bytes(&'a [u8]),
    /// Of fixed size: no field that is known here.
    Fixed,
    Number(u64),
}

/// The bytes of a message that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field and its number: none at the end, and none at all when there is no sense in it.
    #[expect(clippy::option_option, reason = "the outer one is for `?`")]
    fn next(&mut self) -> Option<Option<(u64, Wire<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.number()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.number()?),
            1 => self.fixed(8)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.fixed(4)?,
            _ => return None,
        };
        Some(Some((tag >> 3, wire)))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn fixed(&mut self, bytes: usize) -> Option<Wire<'a>> {
        self.take(bytes).map(|_| Wire::Fixed)
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push(u8::try_from(number & 0x7f).expect("7 bits") | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).expect("7 bits"));
        bytes
    }

    fn bytes(number: u64, value: &[u8]) -> Vec<u8> {
        [varint(number << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    fn text(number: u64, value: &str) -> Vec<u8> {
        bytes(number, value.as_bytes())
    }

    fn integer(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    fn wrapped(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
        let type_meta = [text(1, api_version), text(2, kind)].concat();
        [MAGIC.to_vec(), bytes(1, &type_meta), bytes(2, object), text(3, ""), text(4, "")].concat()
    }

    fn json_of(message: Message, body: &[u8]) -> Value {
        let json = decode(message, body).expect("an object");
        serde_json::from_slice(&json).expect("JSON")
    }

    #[test]
    fn a_secret_as_helm_sends_it_is_the_json_it_stands_for() {
        let label = [text(1, "owner"), text(2, "helm")].concat();
        // Go writes what is empty too.
        let meta = [
            text(1, "sh.helm.release.v1.web.v1"),
            text(2, ""),
            text(3, "web"),
            text(5, ""),
            integer(7, 0),
            bytes(8, &[]),
            bytes(11, &label),
        ]
        .concat();
        let entry = [text(1, "release"), bytes(2, b"\x00\xff")].concat();
        let empty = [text(1, "empty"), bytes(2, b"")].concat();
        let secret =
            [bytes(1, &meta), bytes(2, &entry), bytes(2, &empty), text(3, "helm.sh/release.v1")]
                .concat();

        let object = json_of(SECRET, &wrapped("v1", "Secret", &secret));

        let expected = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "sh.helm.release.v1.web.v1", "namespace": "web",
                "labels": {"owner": "helm"}},
            "data": {"release": "AP8=", "empty": ""},
            "type": "helm.sh/release.v1",
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn a_lease_keeps_its_microseconds() {
        let renewed = [integer(1, 1_795_348_800), integer(2, 123_456_000)].concat();
        let spec = [text(1, "me"), integer(2, 15), bytes(4, &renewed)].concat();

        let object = json_of(LEASE, &wrapped("coordination.k8s.io/v1", "Lease", &bytes(2, &spec)));

        assert_eq!(object["spec"]["renewTime"], "2026-11-22T12:00:00.123456Z");
        assert_eq!(object["spec"]["leaseDurationSeconds"], 15);
    }

    #[test]
    fn what_is_unknown_is_skipped_and_what_makes_no_sense_refused() {
        let known = text(4, "Foreground");
        let unknown = [vec![9 << 3 | 5, 1, 2, 3, 4], vec![10 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8]];
        let body = [unknown.concat(), known].concat();
        let options = json_of(DELETE_OPTIONS, &wrapped("v1", "DeleteOptions", &body));
        assert_eq!(options["propagationPolicy"], "Foreground");

        for body in [&b""[..], b"k8s", b"{}", b"k8s\0\xff", b"k8s\0\x12\x7f"] {
            assert_eq!(decode(SECRET, body).map_err(|error| error.code()), Err(400));
        }
        let wrong_type = wrapped("v1", "Secret", &integer(1, 1));
        assert!(decode(SECRET, &wrong_type).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..256)) {
            for message in [SECRET, EVENT, LEASE, DELETE_OPTIONS] {
                let _read = decode(message, &wrapped("v1", "x", &body));
                let _read = decode(message, &[MAGIC, body.as_slice()].concat());
            }
        }
    }
}
