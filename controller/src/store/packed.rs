//! [`Packed`]: a text without what it has in common with others of its kind.
//!
//! Objects of one kind say much the same, so a text is kept as LZ4 against a dictionary: the first
//! texts of its kind that were unlike those before them. A dictionary grows up to a limit and is then
//! what it is until the process ends; what was packed with a smaller one keeps that one.
//!
//! A dictionary outlives the objects that it was made of and is in memory only. Nothing of a secret
//! ever becomes part of one.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use lz4_flex::block::{DecompressError, compress_with_dict, decompress_into_with_dict};
use parking_lot::RwLock;

use super::{Resource, sealed};
use crate::limits;

/// A dictionary that leaves more of a text than this part learns from it.
const LEARNS_FROM: usize = 3;

/// A text, packed.
pub(super) struct Packed {
    bytes: Box<[u8]>,
    /// Bytes of the text.
    length: u32,
    dictionary: Option<Arc<Dictionary>>,
}

/// Texts of a kind, one after the other.
struct Dictionary(Box<[u8]>);

/// What the texts of each resource are packed with.
static DICTIONARIES: LazyLock<RwLock<HashMap<Resource, Arc<Dictionary>>>> =
    LazyLock::new(RwLock::default);

// === impl Packed ===

impl Packed {
    /// Packs the text of an object; none if it is too long to be kept so.
    pub(super) fn of(text: &str, resource: &Resource) -> Option<Self> {
        let length = u32::try_from(text.len()).ok()?;
        let with = |dictionary: Option<Arc<Dictionary>>| {
            let words = words(dictionary.as_ref());
            let bytes = compress_with_dict(text.as_bytes(), words).into_boxed_slice();
            Self { bytes, length, dictionary }
        };
        if sealed::is_secret(resource) {
            return Some(with(None));
        }
        let known = DICTIONARIES.read().get(resource).map(Arc::clone);
        let packed = with(known);
        let is_new = packed.bytes.len().saturating_mul(LEARNS_FROM) > text.len();
        if is_new && let Some(learned) = learn(text, resource, packed.dictionary.as_ref()) {
            return Some(with(Some(learned)));
        }
        Some(packed)
    }

    /// Bytes of the text.
    pub(super) fn length(&self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// Appends the text.
    ///
    /// # Errors
    /// When these are not the bytes that were packed; then nothing is appended.
    pub(super) fn append_to(&self, buffer: &mut Vec<u8>) -> Result<(), DecompressError> {
        let start = buffer.len();
        buffer.resize(start.saturating_add(self.length()), 0);
        let place = buffer.get_mut(start..).unwrap_or_default();
        let words = words(self.dictionary.as_ref());
        let appended = decompress_into_with_dict(&self.bytes, place, words);
        if appended.is_err() {
            buffer.truncate(start);
        }
        appended.map(drop)
    }
}

fn words(dictionary: Option<&Arc<Dictionary>>) -> &[u8] {
    dictionary.map_or(&[], |dictionary| &dictionary.0)
}

/// The dictionary of a resource that knows a text, too; none if it has no room for it. `before` is the
/// one that did not know it.
fn learn(
    text: &str,
    resource: &Resource,
    before: Option<&Arc<Dictionary>>,
) -> Option<Arc<Dictionary>> {
    let words = words(before);
    if words.len().saturating_add(text.len()) > limits::DICTIONARY_BYTES {
        return None;
    }
    let mut dictionaries = DICTIONARIES.write();
    let current = dictionaries.get(resource);
    if current.map(Arc::as_ptr) != before.map(Arc::as_ptr) {
        // Somebody else was first.
        return current.map(Arc::clone);
    }
    let larger = Arc::new(Dictionary([words, text.as_bytes()].concat().into_boxed_slice()));
    dictionaries.insert(resource.clone(), Arc::clone(&larger));
    Some(larger)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unpacked(packed: &Packed) -> String {
        let mut text = b"before".to_vec();
        packed.append_to(&mut text).expect("what was packed");
        String::from_utf8(text).expect("text").strip_prefix("before").expect("after it").to_owned()
    }

    fn text(number: usize) -> String {
        let rule = "spec.backends: at most 64, each of them once; spec.healthCheck: HTTP or TCP";
        format!(r#"{{"kind":"BackendPool","name":"pool-{number}","description":"{rule}"}}"#)
    }

    #[test]
    fn texts_of_a_kind_are_kept_as_what_they_do_not_share() {
        let resource = Resource::new("backendpools", "packed.example.com");
        let first = Packed::of(&text(1), &resource).expect("short");
        let second = Packed::of(&text(22), &resource).expect("short");

        assert_eq!((unpacked(&first), unpacked(&second)), (text(1), text(22)));
        assert_eq!(second.length(), text(22).len());
        assert!(second.bytes.len() * 4 < second.length(), "{} bytes", second.bytes.len());
    }

    #[test]
    fn a_dictionary_has_a_limit_and_older_texts_are_still_read() {
        let resource = Resource::new("limits", "packed.example.com");
        // No two have anything in common.
        let digits = |number: usize| {
            let hashes = (0..16).map(|part| blake3::hash(format!("{number} {part}").as_bytes()));
            hashes.map(|hash| hash.to_hex().to_string()).collect::<String>()
        };
        let texts: Vec<String> = (0..40).map(digits).collect();
        let packed: Vec<_> = texts.iter().map(|it| Packed::of(it, &resource).unwrap()).collect();

        let known = DICTIONARIES.read().get(&resource).map(Arc::clone).expect("a dictionary");
        assert!(known.0.len() <= limits::DICTIONARY_BYTES);
        assert!(known.0.len() > limits::DICTIONARY_BYTES / 2, "{}", known.0.len());
        assert_eq!(packed.iter().map(unpacked).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn nothing_of_a_secret_outlives_it() {
        let resource = Resource::new("secrets", "");
        let packed = Packed::of(r#"{"data":{"password":"aHVudGVyMg=="}}"#, &resource).unwrap();

        assert_eq!(unpacked(&packed), r#"{"data":{"password":"aHVudGVyMg=="}}"#);
        assert!(packed.dictionary.is_none());
        assert!(DICTIONARIES.read().get(&resource).is_none());
    }

    #[test]
    fn other_bytes_are_refused_and_leave_nothing() {
        let resource = Resource::new("altered", "packed.example.com");
        let mut packed = Packed::of(&text(1), &resource).expect("short");
        packed.bytes = Box::from([0xf0, 0xff, 0xff]);

        let mut buffer = b"before".to_vec();
        packed.append_to(&mut buffer).unwrap_err();
        assert_eq!(buffer, b"before");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(texts in prop::collection::vec(".{0,300}", 1..8)) {
            let resource = Resource::new("any", "packed.example.com");
            for text in texts {
                let packed = Packed::of(&text, &resource).expect("short");
                prop_assert_eq!(unpacked(&packed), text);
            }
        }
    }
}
