//! [`Sealed`]: a backend below which the values of Secrets are never in the clear.
//!
//! Stands between the store and whatever keeps the log, so rows, archives and backups hold
//! ciphertext alone. Each value is sealed by AES-256-GCM under a key of its own, which BLAKE3 derives
//! from a key of the [`Keyring`] and a random salt; so no nonce can repeat. The name of the object is
//! authenticated with it: a sealed value is good in its place only. What else a row says (who, when,
//! which object) stays readable.

use std::{collections::BTreeMap, fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{
    Backend, BackendError, Capacity, ChangeSet, Commit, Document, Key, Resource, Row, Snapshot,
    Wake,
};
use crate::files;

/// A backend, with what must not be read from disk sealed.
#[derive(Debug)]
pub struct Sealed<B> {
    below: B,
    keyring: Keyring,
}

/// Keys by name; values are sealed with the active one and opened with whichever they name.
#[derive(Clone)]
pub struct Keyring {
    active: String,
    keys: BTreeMap<String, [u8; KEY_BYTES]>,
}

/// Why a file is no keyring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// It cannot be read or written.
    #[error("the file cannot be used")]
    File(#[from] io::Error),
    /// It is not what was written.
    #[error("the file is not a keyring: {0}")]
    Malformed(&'static str),
    /// Others than its owner can read it.
    #[error("others may read the file (mode {0:o}); it must be 0600")]
    Open(u32),
}

/// The file.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    active: String,
    keys: BTreeMap<String, String>,
}

/// A sealed value, where the value was.
#[derive(Serialize, Deserialize)]
struct Envelope {
    key: String,
    salt: String,
    text: String,
}

const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 24;

/// The only field of a sealed value.
const FIELD: &str = "sealed";

/// Whether the values of a key are sealed.
pub(super) fn is_sealed(key: &Key) -> bool {
    is_secret(key.resource())
}

/// Whether a resource is that of Secrets.
pub(super) fn is_secret(resource: &Resource) -> bool {
    resource.as_str() == "secrets"
}

/// Whether a row of the log may have a value that is sealed.
pub(super) fn may_have(row: &[u8]) -> bool {
    // As JSON writes the NUL that ends a resource in a key.
    const MARK: &[u8] = b"\"secrets\\u0000";
    row.windows(MARK.len()).any(|part| part == MARK)
}

/// The name of the key that a stored value is sealed with, if it is.
pub(super) fn key_of(place: &Key, stored: &Document) -> Option<String> {
    if !is_sealed(place) {
        return None;
    }
    stored.glance().get(FIELD)?.get("key")?.as_str().map(str::to_owned)
}

impl Keyring {
    /// The keyring in `path`, made if there is none.
    ///
    /// # Errors
    /// When the file cannot be used, is malformed, or others may read it.
    pub fn open(path: &Path) -> Result<Self, KeyringError> {
        match fs::metadata(path) {
            Ok(metadata) => {
                let mode = metadata.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(KeyringError::Open(mode));
                }
                Self::parse(&fs::read(path)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = KeyFile {
                    active: "1".to_owned(),
                    keys: BTreeMap::from([(
                        "1".to_owned(),
                        STANDARD.encode(rand::random::<[u8; KEY_BYTES]>()),
                    )]),
                };
                let text = json!(file).to_string();
                files::replace_secret(path, text.as_bytes())?;
                Self::parse(text.as_bytes())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Name of the key that is sealed with.
    pub(super) fn active(&self) -> &str {
        &self.active
    }

    /// Names of the keys that are only opened with.
    pub(super) fn former(&self) -> Vec<String> {
        self.keys.keys().filter(|name| **name != self.active).cloned().collect()
    }

    fn parse(text: &[u8]) -> Result<Self, KeyringError> {
        let malformed = KeyringError::Malformed;
        let file: KeyFile =
            serde_json::from_slice(text).map_err(|_source| malformed("it is not JSON"))?;
        let keys = file.keys.into_iter().map(|(name, key)| {
            let key = STANDARD.decode(key).ok().and_then(|key| key.try_into().ok());
            key.map(|key| (name, key)).ok_or_else(|| malformed("a key is not 32 bytes in base64"))
        });
        let keys: BTreeMap<String, [u8; KEY_BYTES]> = keys.collect::<Result<_, _>>()?;
        if !keys.contains_key(&file.active) {
            return Err(malformed("the active key is not among the keys"));
        }
        Ok(Self { active: file.active, keys })
    }

    fn seal(&self, place: &Key, document: &Document) -> Result<Value, BackendError> {
        let fault = || BackendError::Sealed { key: self.active.clone() };
        let mut text = Vec::new();
        document.append_to(&mut text);
        let salt: [u8; SALT_BYTES] = rand::random();
        let key = self.derive(&self.active, &salt).ok_or_else(fault)?;
        let aad = Aad::from(place.to_string().into_bytes());
        key.seal_in_place_append_tag(once(), aad, &mut text).map_err(|_unspecified| fault())?;
        let envelope = Envelope {
            key: self.active.clone(),
            salt: STANDARD.encode(salt),
            text: STANDARD.encode(text),
        };
        Ok(json!({ FIELD: envelope }))
    }

    /// The value, also of a row from before there were keys.
    fn open_document(
        &self,
        place: &Key,
        document: &Arc<Document>,
    ) -> Result<Arc<Document>, BackendError> {
        let value = document.glance();
        let Some(sealed) = value.get(FIELD) else { return Ok(Arc::clone(document)) };
        let envelope: Envelope = serde_json::from_value(sealed.clone())
            .map_err(|_source| BackendError::Sealed { key: String::new() })?;
        let fault = || BackendError::Sealed { key: envelope.key.clone() };
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_source| fault());
        let (salt, mut text) = (bytes(&envelope.salt)?, bytes(&envelope.text)?);
        let key = self.derive(&envelope.key, &salt).ok_or_else(fault)?;
        let aad = Aad::from(place.to_string().into_bytes());
        let opened = key.open_in_place(once(), aad, &mut text).map_err(|_unspecified| fault())?;
        let opened: Box<RawValue> = serde_json::from_slice(opened).map_err(|_source| fault())?;
        Ok(Arc::new(opened.into()))
    }

    /// A file, sealed under its name.
    pub(super) fn seal_file(&self, name: &str, content: &[u8]) -> Result<Vec<u8>, BackendError> {
        let sealed = self.seal(&file(name), &Document::of(json!(STANDARD.encode(content))))?;
        serde_json::to_vec(&sealed).map_err(|source| BackendError::Encode { source })
    }

    /// A file that was sealed under its name.
    pub(super) fn open_file(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, BackendError> {
        let fault = || BackendError::Sealed { key: name.to_owned() };
        let sealed: Value = serde_json::from_slice(sealed).map_err(|_source| fault())?;
        if sealed.get(FIELD).is_none() {
            return Err(fault());
        }
        let text = self.open_document(&file(name), &Arc::new(sealed.into()))?;
        text.glance().as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or_else(fault)
    }

    /// The change-set with its secret values sealed, if it has any.
    pub(super) fn sealed_set(&self, set: &ChangeSet) -> Result<Option<ChangeSet>, BackendError> {
        if !set.changes.iter().any(|change| is_sealed(&change.key)) {
            return Ok(None);
        }
        let mut set = set.clone();
        for change in set.changes.iter_mut().filter(|change| is_sealed(&change.key)) {
            change.document = Arc::new(self.seal(&change.key, &change.document)?.into());
        }
        Ok(Some(set))
    }

    /// Opens what is sealed in a change-set.
    pub(super) fn open_set(&self, set: &mut ChangeSet) -> Result<(), BackendError> {
        for change in &mut set.changes {
            self.open_change(&change.key, &mut change.document)?;
        }
        Ok(())
    }

    /// Opens what a change puts at `key`, if it is sealed.
    pub(super) fn open_change(
        &self,
        key: &Key,
        document: &mut Arc<Document>,
    ) -> Result<(), BackendError> {
        if is_sealed(key) {
            *document = self.open_document(key, document)?;
        }
        Ok(())
    }

    fn derive(&self, name: &str, salt: &[u8]) -> Option<LessSafeKey> {
        let key = blake3::keyed_hash(self.keys.get(name)?, salt);
        UnboundKey::new(&AES_256_GCM, key.as_bytes()).ok().map(LessSafeKey::new)
    }
}

/// Where a file stands for what authenticates it: no object is there.
fn file(name: &str) -> Key {
    Key::new(Resource::new("files", ""), None, name)
}

/// Each key seals one value, so one nonce is enough.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; ring::aead::NONCE_LEN])
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("active", &self.active).finish_non_exhaustive()
    }
}

impl<B: Backend> Sealed<B> {
    /// Seals what goes to `below`.
    pub fn new(below: B, keyring: Keyring) -> Self {
        Self { below, keyring }
    }
}

impl<B: Backend> Backend for Sealed<B> {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, BackendError> {
        self.below.snapshot()
    }

    fn commit(&self, commit: &Commit) -> Result<(), BackendError> {
        self.below.commit(commit)
    }

    fn fill(&self, rows: &[Row]) -> Result<(), BackendError> {
        self.below.fill(rows)
    }

    fn capacity(&self) -> Capacity {
        self.below.capacity()
    }

    fn keyring(&self) -> Option<&Keyring> {
        Some(&self.keyring)
    }

    fn is_shared(&self) -> bool {
        self.below.is_shared()
    }

    fn has_news(&self) -> bool {
        self.below.has_news()
    }

    fn give_way(&self) {
        self.below.give_way();
    }

    fn follow(&self, wake: Wake) {
        self.below.follow(wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Audit, Change, Operation, RedbBackend, Revision, log::Log};

    fn place(name: &str) -> Key {
        Key::new(Resource::new("secrets", ""), Some("web"), name)
    }

    fn keyring(names: &[&str]) -> Keyring {
        let keys: BTreeMap<_, _> = names
            .iter()
            .map(|name| ((*name).to_owned(), [u8::try_from(name.len()).expect("short"); KEY_BYTES]))
            .collect();
        Keyring { active: (*names.last().expect("one")).to_owned(), keys }
    }

    fn set(key: &Key, value: Value) -> ChangeSet {
        ChangeSet {
            audit: Audit {
                actor: "a".into(),
                verb: "create".into(),
                agent: "b".into(),
                time_ms: 1,
                details: <_>::default(),
            },
            changes: vec![Change {
                key: key.clone(),
                operation: Operation::Put,
                previous: Revision(0),
                document: Arc::new(value.into()),
            }],
        }
    }

    #[test]
    fn what_is_on_disk_does_not_hold_the_secret_and_reads_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let value = json!({"metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}});
        let open = |names: &[&str]| {
            let below = RedbBackend::open(&path).expect("opens");
            Log::open(Arc::new(Sealed::new(below, keyring(names)))).expect("opens")
        };
        let mut log = open(&["1"]);
        let plain = json!({"metadata": {"name": "m"}, "data": {"visible": "yes"}});
        let map = Key::new(Resource::new("configmaps", ""), Some("web"), "m");
        for set in [set(&place("s"), value.clone()), set(&map, plain)] {
            let sets = [set];
            log.append(log.draft(&sets).expect("JSON"), &sets).expect("durable");
        }
        drop(log);

        let disk = fs::read(&path).expect("readable");
        let holds = |text: &str| disk.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!holds("aHVudGVyMg==") && !holds("password"));
        assert!(holds("visible"));

        // Another key is active by now; the old one still opens.
        let log = open(&["1", "new"]);
        let reading = log.reading().expect("readable");
        let objects = reading.objects().expect("readable");
        assert!(objects.iter().any(|object| *object.value() == value));
        let read = reading.read(Revision(1), 1).expect("readable");
        assert_eq!(*read[0].1.changes[0].value(), value);
    }

    #[test]
    fn a_sealed_value_opens_in_its_place_with_its_key_and_unaltered_only() {
        let ring = keyring(&["1"]);
        let document = Document::of(json!({"data": {"a": "b"}}));
        let first = ring.seal(&place("s"), &document).expect("sealed");
        let sealed = Arc::new(Document::of(first.clone()));
        let opened = ring.open_document(&place("s"), &sealed).expect("opened");
        assert_eq!(*opened.value(), *document.value());

        assert!(ring.open_document(&place("other"), &sealed).is_err());
        assert!(keyring(&["another"]).open_document(&place("s"), &sealed).is_err());
        let mut altered = first.clone();
        altered[FIELD]["text"] = json!(STANDARD.encode([7; 40]));
        assert!(ring.open_document(&place("s"), &Arc::new(altered.into())).is_err());
        let again = ring.seal(&place("s"), &document).expect("sealed");
        assert_ne!(again, first, "two times the same are not seen to be the same");
    }

    #[test]
    fn a_keyring_is_made_once_and_read_by_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secrets.keys");
        let made = Keyring::open(&path).expect("made");
        assert_eq!(Keyring::open(&path).expect("read").keys, made.keys);
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        assert!(matches!(Keyring::open(&path), Err(KeyringError::Open(0o640))));
        for text in
            ["", r#"{"active": "2", "keys": {}}"#, r#"{"active": "1", "keys": {"1": "c2hvcnQ="}}"#]
        {
            assert!(matches!(Keyring::parse(text.as_bytes()), Err(KeyringError::Malformed(_))));
        }
    }
}
