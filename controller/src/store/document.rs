//! [`Document`]: an object as the JSON that it is stored, served and sent to watchers as.
//!
//! Text is what most readers want, and a tenth of the size of what it parses to. Whoever has to look
//! into it gets it parsed: the values that were used last are kept, within a bound for the whole
//! process, and every other one is parsed anew. A document never changes.

use std::{
    collections::VecDeque,
    fmt,
    ops::Deref,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::limits;

/// An object's JSON.
pub struct Document {
    json: Box<RawValue>,
    /// What it parses to, while somebody has that.
    parsed: Mutex<Weak<Value>>,
}

impl Document {
    /// The document of `value`, which whoever follows the write gets without parsing it.
    pub fn of(value: Value) -> Self {
        let json = text(&value);
        let value = Arc::new(value);
        let parsed = Mutex::new(Arc::downgrade(&value));
        RECENT.lock().push(value, json.get().len());
        Self { json, parsed }
    }

    /// Its text.
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// Length of its text.
    pub fn size(&self) -> usize {
        self.json.get().len()
    }

    /// What it parses to, which is kept for whoever asks next.
    pub fn value(&self) -> Arc<Value> {
        let mut parsed = self.parsed.lock();
        if let Some(value) = parsed.upgrade() {
            return value;
        }
        let value = Arc::new(self.parse());
        *parsed = Arc::downgrade(&value);
        drop(parsed);
        RECENT.lock().push(Arc::clone(&value), self.size());
        value
    }

    /// The same, for one of many that are looked through: it does not displace what others use.
    pub fn glance(&self) -> Arc<Value> {
        self.known().unwrap_or_else(|| Arc::new(self.parse()))
    }

    /// What it parses to, if somebody has that.
    pub fn known(&self) -> Option<Arc<Value>> {
        self.parsed.lock().upgrade()
    }

    /// Its text, read as `T`: for one of many, of which a few fields matter.
    ///
    /// # Errors
    /// When it is no `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.json.get())
    }

    fn parse(&self) -> Value {
        serde_json::from_str(self.json.get()).unwrap_or_else(|error| {
            // Neither can be: a document is made of a value, or of text that was read as one.
            tracing::error!(error = &error as &dyn std::error::Error, "a document does not parse");
            Value::Null
        })
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
        Self::from(text(&value))
    }
}

impl From<Box<RawValue>> for Document {
    fn from(json: Box<RawValue>) -> Self {
        Self { json, parsed: Mutex::new(Weak::new()) }
    }
}

/// A value's keys are text and its numbers finite, so it has a text.
fn text(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_default()
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json.get())
    }
}

/// The values that were parsed or made last, so that they stay what documents parse to.
static RECENT: Mutex<Recent> = Mutex::new(Recent { values: VecDeque::new(), bytes: 0 });

struct Recent {
    values: VecDeque<(Arc<Value>, usize)>,
    /// Length of their texts.
    bytes: usize,
}

impl Recent {
    fn push(&mut self, value: Arc<Value>, bytes: usize) {
        if bytes > limits::PARSED_BYTES / 4 {
            return;
        }
        self.values.push_back((value, bytes));
        self.bytes += bytes;
        while self.bytes > limits::PARSED_BYTES
            && let Some((_, bytes)) = self.values.pop_front()
        {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_parsed_once_while_somebody_has_it() {
        let text = RawValue::from_string(r#"{"a":[1,"b"]}"#.to_owned()).expect("JSON");
        let document = Document::from(text);

        let value = document.value();

        assert_eq!(*value, json!({"a": [1, "b"]}));
        assert!(Arc::ptr_eq(&value, &document.value()));
        assert!(Arc::ptr_eq(&value, &document.glance()));
        assert_eq!(Document::of((*value).clone()).json().get(), document.json().get());
    }

    #[test]
    fn what_is_kept_parsed_is_bounded() {
        let mut recent = Recent { values: VecDeque::new(), bytes: 0 };
        let each = limits::PARSED_BYTES / 8;
        let first = Arc::new(json!(0));
        recent.push(Arc::clone(&first), each);
        for number in 1..8 {
            recent.push(Arc::new(json!(number)), each);
        }
        assert_eq!((recent.values.len(), Arc::strong_count(&first)), (8, 2));

        recent.push(Arc::new(json!(8)), each);
        assert_eq!(
            (recent.values.len(), recent.bytes, Arc::strong_count(&first)),
            (8, 8 * each, 1)
        );
        recent.push(Arc::new(json!("large")), limits::PARSED_BYTES / 2);
        assert_eq!(recent.values.len(), 8, "one large object does not displace all others");
    }
}
