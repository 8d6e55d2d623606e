//! [`Document`]: an object as the JSON that it is stored, served and sent to watchers as.
//!
//! Text is what most readers want, and a tenth of the size of what it parses to. What a view keeps is
//! packed besides. The texts that were used last, and what they parse to, are kept as they are, within
//! a bound for the whole process; every other one is unpacked, and parsed if need be, for whoever
//! wants to look into it. A document never changes, whatever form it is in.

use std::{
    collections::VecDeque,
    fmt,
    ops::Deref,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Resource, packed::Packed};
use crate::limits;

/// An object's JSON.
pub struct Document(Mutex<Form>);

/// How it is in memory.
enum Form {
    Plain(Arc<Text>),
    /// Packed, and its text while somebody has that.
    Packed(Packed, Weak<Text>),
}

/// The JSON of an object.
pub struct Text {
    json: Box<str>,
    /// What it parses to, while somebody has that.
    parsed: Mutex<Weak<Value>>,
}

impl Document {
    /// The document of `value`, which whoever follows the write gets without parsing it.
    pub fn of(value: Value) -> Self {
        let json = json(&value);
        let value = Arc::new(value);
        let text = Arc::new(Text { json, parsed: Mutex::new(Arc::downgrade(&value)) });
        RECENT.lock().push(Arc::clone(&text), value);
        Self(Mutex::new(Form::Plain(text)))
    }

    /// Its text.
    pub fn text(&self) -> Arc<Text> {
        self.known_text().unwrap_or_else(|| self.unpack())
    }

    /// Length of its text.
    pub fn size(&self) -> usize {
        match &*self.0.lock() {
            Form::Plain(text) => text.json.len(),
            Form::Packed(packed, _) => packed.length(),
        }
    }

    /// Appends its text.
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        let text = match &*self.0.lock() {
            Form::Plain(text) => Arc::clone(text),
            Form::Packed(packed, text) => match text.upgrade() {
                Some(text) => text,
                None => return unpack(packed, buffer),
            },
        };
        buffer.extend_from_slice(text.as_bytes());
    }

    /// What it parses to, which is kept for whoever asks next.
    pub fn value(&self) -> Arc<Value> {
        let text = self.text();
        let mut parsed = text.parsed.lock();
        if let Some(value) = parsed.upgrade() {
            return value;
        }
        let value = Arc::new(text.parse());
        *parsed = Arc::downgrade(&value);
        drop(parsed);
        if let Form::Packed(_, known) = &mut *self.0.lock() {
            *known = Arc::downgrade(&text);
        }
        RECENT.lock().push(text, Arc::clone(&value));
        value
    }

    /// The same, for one of many that are looked through: it does not displace what others use.
    pub fn glance(&self) -> Arc<Value> {
        self.known().unwrap_or_else(|| Arc::new(self.text().parse()))
    }

    /// What it parses to, if somebody has that.
    pub fn known(&self) -> Option<Arc<Value>> {
        self.known_text()?.parsed.lock().upgrade()
    }

    /// Keeps it as small as may be, now that it is an object of `resource` that stays for a while.
    pub(super) fn pack(&self, resource: &Resource) {
        let mut form = self.0.lock();
        if let Form::Plain(text) = &*form
            && let Some(packed) = Packed::of(text, resource)
        {
            *form = Form::Packed(packed, Arc::downgrade(text));
        }
    }

    fn known_text(&self) -> Option<Arc<Text>> {
        match &*self.0.lock() {
            Form::Plain(text) => Some(Arc::clone(text)),
            Form::Packed(_, text) => text.upgrade(),
        }
    }

    fn unpack(&self) -> Arc<Text> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        // It was text when it was packed.
        let json = String::from_utf8(bytes).unwrap_or_default().into_boxed_str();
        Arc::new(Text::from(json))
    }
}

/// Appends what was packed.
fn unpack(packed: &Packed, buffer: &mut Vec<u8>) {
    if let Err(error) = packed.append_to(buffer) {
        // It cannot be: nothing but this process ever had these bytes.
        tracing::error!(error = &error as &dyn std::error::Error, "a document does not unpack");
        buffer.extend_from_slice(b"null");
    }
}

// === impl Text ===

impl Text {
    /// Read as `T`: for one of many, of which a few fields matter.
    ///
    /// # Errors
    /// When it is no `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.json)
    }

    fn parse(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_else(|error| {
            // Neither can be: a document is made of a value, or of text that was read as one.
            tracing::error!(error = &error as &dyn std::error::Error, "a document does not parse");
            Value::Null
        })
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.json
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

impl From<Box<str>> for Text {
    fn from(json: Box<str>) -> Self {
        Self { json, parsed: Mutex::new(Weak::new()) }
    }
}

/// A value that somebody else has, or a share of it.
#[derive(Clone, Debug)]
pub enum Glance<'a> {
    /// Somebody else's.
    Borrowed(&'a Value),
    /// A share.
    Shared(Arc<Value>),
}

impl Deref for Glance<'_> {
    type Target = Value;

    fn deref(&self) -> &Value {
        match self {
            Self::Borrowed(value) => value,
            Self::Shared(value) => value,
        }
    }
}

impl From<Value> for Document {
    /// The document of a value that nobody asks for again.
    fn from(value: Value) -> Self {
        Self(Mutex::new(Form::Plain(Arc::new(json(&value).into()))))
    }
}

impl From<Box<RawValue>> for Document {
    fn from(json: Box<RawValue>) -> Self {
        let json: Box<str> = json.into();
        Self(Mutex::new(Form::Plain(Arc::new(json.into()))))
    }
}

/// A value's keys are text and its numbers finite, so it has a text.
fn json(value: &Value) -> Box<str> {
    serde_json::to_string(value).unwrap_or_default().into_boxed_str()
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// The texts that were made or parsed last, and what they parse to.
static RECENT: Mutex<Recent> = Mutex::new(Recent { values: VecDeque::new(), bytes: 0 });

struct Recent {
    values: VecDeque<(Arc<Text>, Arc<Value>)>,
    /// Length of the texts.
    bytes: usize,
}

impl Recent {
    fn push(&mut self, text: Arc<Text>, value: Arc<Value>) {
        if text.len() > limits::PARSED_BYTES / 4 {
            return;
        }
        self.bytes += text.len();
        self.values.push_back((text, value));
        while self.bytes > limits::PARSED_BYTES
            && let Some((text, _)) = self.values.pop_front()
        {
            self.bytes -= text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(text: &str) -> Document {
        RawValue::from_string(text.to_owned()).expect("JSON").into()
    }

    #[test]
    fn a_document_is_parsed_once_while_somebody_has_it() {
        let document = document(r#"{"a":[1,"b"]}"#);

        let value = document.value();

        assert_eq!(*value, json!({"a": [1, "b"]}));
        assert!(Arc::ptr_eq(&value, &document.value()));
        assert!(Arc::ptr_eq(&value, &document.glance()));
        assert_eq!(**Document::of((*value).clone()).text(), **document.text());
    }

    #[test]
    fn a_packed_document_is_the_one_it_was() {
        let text = r#"{"kind":"ConfigMap","data":{"a":"b"}}"#;
        let document = document(text);

        document.pack(&Resource::new("documents", "example.com"));

        assert!(document.known().is_none(), "nobody parsed it");
        assert_eq!((&**document.text(), document.size()), (text, text.len()));
        let mut buffer = b"[".to_vec();
        document.append_to(&mut buffer);
        assert_eq!(buffer, format!("[{text}").into_bytes());
        let value = document.value();
        assert_eq!(value["data"]["a"], "b");
        assert!(Arc::ptr_eq(&value, &document.glance()));
    }

    #[test]
    fn what_is_kept_parsed_is_bounded() {
        let mut recent = Recent { values: VecDeque::new(), bytes: 0 };
        let each = limits::PARSED_BYTES / 8;
        let text = |bytes: usize| Arc::new(Text::from("x".repeat(bytes).into_boxed_str()));
        let first = Arc::new(json!(0));
        recent.push(text(each), Arc::clone(&first));
        for number in 1..8 {
            recent.push(text(each), Arc::new(json!(number)));
        }
        assert_eq!((recent.values.len(), Arc::strong_count(&first)), (8, 2));

        recent.push(text(each), Arc::new(json!(8)));
        assert_eq!(
            (recent.values.len(), recent.bytes, Arc::strong_count(&first)),
            (8, 8 * each, 1)
        );
        recent.push(text(limits::PARSED_BYTES / 2), Arc::new(json!("large")));
        assert_eq!(recent.values.len(), 8, "one large object does not displace all others");
    }
}
