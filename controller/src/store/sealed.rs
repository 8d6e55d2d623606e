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
use serde_json::{Value, json};

use super::{Backend, BackendError, Change, ChangeSet, Extent, Key, Object, Revision};
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
fn is_sealed(key: &Key) -> bool {
    key.resource().as_str() == "secrets"
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

    fn seal(&self, place: &Key, value: &Value) -> Result<Value, BackendError> {
        let encode = |source| BackendError::Encode { source };
        let fault = || BackendError::Sealed { key: self.active.clone() };
        let mut text = serde_json::to_vec(value).map_err(encode)?;
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
    fn open_value(&self, place: &Key, value: &Arc<Value>) -> Result<Arc<Value>, BackendError> {
        let Some(sealed) = value.get(FIELD) else { return Ok(Arc::clone(value)) };
        let envelope: Envelope = serde_json::from_value(sealed.clone())
            .map_err(|_source| BackendError::Sealed { key: String::new() })?;
        let fault = || BackendError::Sealed { key: envelope.key.clone() };
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_source| fault());
        let (salt, mut text) = (bytes(&envelope.salt)?, bytes(&envelope.text)?);
        let key = self.derive(&envelope.key, &salt).ok_or_else(fault)?;
        let aad = Aad::from(place.to_string().into_bytes());
        let opened = key.open_in_place(once(), aad, &mut text).map_err(|_unspecified| fault())?;
        serde_json::from_slice(opened).map(Arc::new).map_err(|_source| fault())
    }

    fn derive(&self, name: &str, salt: &[u8]) -> Option<LessSafeKey> {
        let key = blake3::keyed_hash(self.keys.get(name)?, salt);
        UnboundKey::new(&AES_256_GCM, key.as_bytes()).ok().map(LessSafeKey::new)
    }
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

    fn seal(&self, set: &ChangeSet) -> Result<ChangeSet, BackendError> {
        let changes = set.changes.iter().map(|change| {
            let value = match is_sealed(&change.key) {
                true => Arc::new(self.keyring.seal(&change.key, &change.value)?),
                false => Arc::clone(&change.value),
            };
            Ok(Change { value, ..change.clone() })
        });
        let changes = changes.collect::<Result<_, BackendError>>()?;
        Ok(ChangeSet { changes, ..set.clone() })
    }
}

impl<B: Backend> Backend for Sealed<B> {
    fn extent(&self) -> Result<Extent, BackendError> {
        self.below.extent()
    }

    fn objects(&self) -> Result<Vec<Object>, BackendError> {
        let mut objects = self.below.objects()?;
        for object in objects.iter_mut().filter(|object| is_sealed(&object.key)) {
            object.value = self.keyring.open_value(&object.key, &object.value)?;
        }
        Ok(objects)
    }

    fn read(
        &self,
        from: Revision,
        limit: usize,
    ) -> Result<Vec<(Revision, ChangeSet)>, BackendError> {
        let mut sets = self.below.read(from, limit)?;
        let changes = sets.iter_mut().flat_map(|(_, set)| &mut set.changes);
        for change in changes.filter(|change| is_sealed(&change.key)) {
            change.value = self.keyring.open_value(&change.key, &change.value)?;
        }
        Ok(sets)
    }

    fn append(&mut self, first: Revision, batch: &[ChangeSet]) -> Result<(), BackendError> {
        let has_secrets = |set: &ChangeSet| set.changes.iter().any(|it| is_sealed(&it.key));
        if !batch.iter().any(has_secrets) {
            return self.below.append(first, batch);
        }
        let batch: Vec<ChangeSet> =
            batch.iter().map(|set| self.seal(set)).collect::<Result<_, _>>()?;
        self.below.append(first, &batch)
    }

    fn truncate(&mut self, before: Revision) -> Result<(), BackendError> {
        self.below.truncate(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Audit, Operation, RedbBackend, Resource};

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
            },
            changes: vec![Change {
                key: key.clone(),
                operation: Operation::Put,
                previous: Revision(0),
                value: Arc::new(value),
            }],
        }
    }

    #[test]
    fn what_is_on_disk_does_not_hold_the_secret_and_reads_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let value = json!({"metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}});
        let mut backend = Sealed::new(RedbBackend::open(&path).expect("opens"), keyring(&["1"]));
        backend.append(Revision(1), &[set(&place("s"), value.clone())]).expect("durable");
        let plain = json!({"metadata": {"name": "m"}, "data": {"visible": "yes"}});
        let map = Key::new(Resource::new("configmaps", ""), Some("web"), "m");
        backend.append(Revision(2), &[set(&map, plain)]).expect("durable");
        drop(backend);

        let disk = fs::read(&path).expect("readable");
        let holds = |text: &str| disk.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!holds("aHVudGVyMg==") && !holds("password"));
        assert!(holds("visible"));

        // Another key is active by now; the old one still opens.
        let backend = Sealed::new(RedbBackend::open(&path).expect("opens"), keyring(&["1", "new"]));
        let objects = backend.objects().expect("readable");
        assert!(objects.iter().any(|object| *object.value == value));
        let read = backend.read(Revision(1), 1).expect("readable");
        assert_eq!(*read[0].1.changes[0].value, value);
    }

    #[test]
    fn a_sealed_value_opens_in_its_place_with_its_key_and_unaltered_only() {
        let ring = keyring(&["1"]);
        let value = json!({"data": {"a": "b"}});
        let sealed = Arc::new(ring.seal(&place("s"), &value).expect("sealed"));
        assert_eq!(*ring.open_value(&place("s"), &sealed).expect("opened"), value);

        assert!(ring.open_value(&place("other"), &sealed).is_err());
        assert!(keyring(&["another"]).open_value(&place("s"), &sealed).is_err());
        let mut altered = Value::clone(&sealed);
        altered[FIELD]["text"] = json!(STANDARD.encode([7; 40]));
        assert!(ring.open_value(&place("s"), &Arc::new(altered)).is_err());
        let again = ring.seal(&place("s"), &value).expect("sealed");
        assert_ne!(again, *sealed, "two times the same are not seen to be the same");
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
