//! [`Texts`]: objects of a kind that are many, as the text that the store has of them, too; and
//! [`Outline`], what nodes can notice of an object.
//!
//! Decoded, a small object takes more room than its text, and few of many are looked at. So the text is
//! shared with the store, and decoded anew for whoever looks.

use std::{collections::BTreeMap, fmt, marker::PhantomData, sync::Arc};

use isocast_api::{
    meta::ObjectMeta,
    object::{DecodeError, Object, Spec},
    text::Time,
};
use rpds::RedBlackTreeMapSync;
use serde::Deserialize;

use crate::store::{Document, Key, Resource};

/// Objects of a kind by namespace and name, in order; a copy shares them. All of them decode.
pub struct Texts<S> {
    documents: RedBlackTreeMapSync<Key, Arc<Document>>,
    kind: PhantomData<fn() -> S>,
}

impl<S: Spec> Texts<S> {
    /// The object, decoded.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Object<S>> {
        let resource = Resource::new(S::KIND.plural, S::KIND.group);
        let document = self.documents.get(&Key::new(resource, Some(namespace), name))?;
        Outline::read(document).ok()
    }

    /// Each of them, decoded when it comes.
    pub fn values(&self) -> impl Iterator<Item = Object<S>> {
        self.documents.values().filter_map(|document| Outline::read(document).ok())
    }

    /// # Errors
    /// The object does not decode: nothing changes.
    pub(super) fn insert(&mut self, key: Key, document: &Arc<Document>) -> Result<(), DecodeError> {
        Outline::<S>::read(document)
            .map_err(|source| DecodeError::new(S::KIND.kind, key.name(), source))?;
        self.documents.insert_mut(key, Arc::clone(document));
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.documents.remove_mut(key);
    }
}

impl<S> Clone for Texts<S> {
    fn clone(&self) -> Self {
        Self { documents: self.documents.clone(), kind: PhantomData }
    }
}

impl<S> Default for Texts<S> {
    fn default() -> Self {
        Self { documents: RedBlackTreeMapSync::default(), kind: PhantomData }
    }
}

impl<S: Spec> fmt::Debug for Texts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(S::KIND.kind).field("count", &self.documents.size()).finish_non_exhaustive()
    }
}

/// An object without its annotations and the managers of its fields: these are larger than all the rest of
/// most objects, and nothing that a node can notice. They are not even read.
#[derive(Deserialize)]
#[serde(bound(deserialize = "S: Spec"))]
pub(super) struct Outline<S: Spec> {
    #[serde(default)]
    metadata: Metadata,
    spec: S,
    #[serde(default)]
    status: S::Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: String,
    resource_version: Option<String>,
    generation: i64,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: BTreeMap<String, String>,
}

impl<S: Spec> Outline<S> {
    /// Reads a stored object so.
    pub(super) fn read(document: &Document) -> Result<Object<S>, serde_json::Error> {
        document.text().read::<Self>().map(Object::from)
    }
}

impl<S: Spec> From<Outline<S>> for Object<S> {
    fn from(Outline { metadata, spec, status }: Outline<S>) -> Self {
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            labels: metadata.labels,
            ..ObjectMeta::default()
        };
        Self { status, ..Self::new(metadata, spec) }
    }
}
