//! [`Kind`]: a declared kind, with what the registry derives from the declaration once.

use std::{borrow::Cow, sync::Arc};

use isocast_api::{
    core::Alias,
    field::{FieldError, FieldErrorReason},
    registry::{KindDescriptor, Scope},
};
use serde_json::{Value, json};

use super::{decode::Decoded, labels, metadata, structure::Structure, table::Columns};
use crate::{
    error::{ApiError, Reason},
    store::{Document, Key, Range, Resource},
};

/// A kind of the API.
#[derive(Debug)]
pub struct Kind {
    descriptor: &'static KindDescriptor,
    resource: Resource,
    api_version: String,
    structure: Structure,
    columns: Columns,
    stored: Option<Stored>,
}

/// The kind that objects of an alias are stored as.
#[derive(Debug)]
struct Stored {
    kind: Arc<Kind>,
    /// Fields of the object: of the alias, and as stored.
    renames: &'static [(&'static str, &'static str)],
}

/// What to do about fields that are unknown or given twice (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Refuse the object.
    Strict,
    /// Drop them and say so.
    #[default]
    Warn,
}

impl Kind {
    pub(super) fn new(descriptor: &'static KindDescriptor) -> Self {
        Self {
            descriptor,
            resource: Resource::new(descriptor.plural, descriptor.group),
            api_version: descriptor.api_version(),
            structure: Structure::of((descriptor.schema)()),
            columns: Columns::new(descriptor.columns),
            stored: None,
        }
    }

    /// Another group in which the objects of `kind` are served.
    pub(super) fn alias(alias: &'static Alias, kind: &Arc<Self>) -> Self {
        let stored = Stored { kind: Arc::clone(kind), renames: alias.renames };
        let resource = kind.resource.clone();
        let columns = kind.columns.clone();
        Self { resource, columns, stored: Some(stored), ..Self::new(&alias.descriptor) }
    }

    /// The kind that its objects are stored as.
    pub(super) fn stored(&self) -> &Self {
        self.stored.as_ref().map_or(self, |stored| &stored.kind)
    }

    /// An object of this kind as it is stored.
    pub(super) fn to_stored(&self, mut object: Value) -> Value {
        if let Some(Stored { kind, renames }) = &self.stored {
            rename(&mut object, &kind.api_version, renames.iter().copied());
        }
        object
    }

    /// A stored object as it is served.
    pub(crate) fn to_served(&self, object: &Arc<Document>) -> Arc<Document> {
        let Some(Stored { renames, .. }) = &self.stored else { return Arc::clone(object) };
        let mut object = Value::clone(&object.glance());
        let back = renames.iter().map(|(alias, stored)| (*stored, *alias));
        rename(&mut object, &self.api_version, back);
        Arc::new(object.into())
    }

    /// Field selectors in the words of the stored kind.
    pub(crate) fn to_stored_selector<'a>(&self, fields: &'a str) -> Cow<'a, str> {
        let Some(Stored { renames, .. }) = &self.stored else { return Cow::Borrowed(fields) };
        let terms = fields.split(',').map(|term| {
            let found = renames.iter().find_map(|(alias, stored)| {
                let rest = term.trim_start().strip_prefix(alias)?;
                rest.starts_with(['.', '=', '!']).then(|| format!("{stored}{rest}"))
            });
            found.unwrap_or_else(|| term.to_owned())
        });
        Cow::Owned(terms.collect::<Vec<_>>().join(","))
    }

    /// Its declaration.
    pub fn descriptor(&self) -> &'static KindDescriptor {
        self.descriptor
    }

    /// Its resource.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// `network.isocast.dev/v1alpha1`, `v1`
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// Where an object of this kind lives.
    ///
    /// # Errors
    /// When a namespace is given to a cluster-scoped kind, or none to a namespaced one.
    pub fn key(&self, namespace: Option<&str>, name: &str) -> Result<Key, ApiError> {
        self.check_scope(namespace)?;
        Ok(Key::new(self.resource.clone(), namespace, name))
    }

    /// The objects of this kind, everywhere or in one namespace.
    pub fn range(&self, namespace: Option<&str>) -> Range {
        match namespace {
            Some(namespace) => Range::Container(self.resource.clone(), namespace.into()),
            None => Range::Resource(self.resource.clone()),
        }
    }

    pub(super) fn structure(&self) -> &Structure {
        &self.structure
    }

    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Drops what the kind does not know from `decoded`, and says what that was.
    pub(super) fn prune(
        &self,
        decoded: Decoded,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), ApiError> {
        let Decoded { mut value, duplicates } = decoded;
        let unknown = isocast_api::schema::prune_unknown(&mut value, (self.descriptor.schema)());
        let faults: Vec<String> = unknown
            .iter()
            .map(|path| format!("unknown field {path:?}"))
            .chain(duplicates.iter().map(|path| format!("duplicate field {path:?}")))
            .collect();
        match validation {
            FieldValidation::Ignore => Ok((value, Vec::new())),
            FieldValidation::Strict if !faults.is_empty() => {
                let (kind, version) = (self.descriptor.kind, self.descriptor.version);
                Err(ApiError::bad_request(format!(
                    "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding \
                     error: {}",
                    faults.join(", ")
                )))
            }
            FieldValidation::Strict | FieldValidation::Warn => Ok((value, faults)),
        }
    }

    /// Refuses an object that says it is of another kind.
    pub(super) fn check_type(&self, object: &mut Value) -> Result<(), ApiError> {
        let fields =
            object.as_object_mut().ok_or_else(|| ApiError::bad_request("expected an object"))?;
        for (field, expected) in
            [("apiVersion", self.api_version.as_str()), ("kind", self.descriptor.kind)]
        {
            match fields.get(field).and_then(Value::as_str).unwrap_or_default() {
                // Clients that know a kind by heart need not say which it is.
                "" if self.descriptor.built_in => {}
                "" => {
                    return Err(ApiError::bad_request(format!(
                        "the object has no {field}; {expected:?} is expected"
                    )));
                }
                given if given != expected => {
                    return Err(ApiError::bad_request(format!(
                        "the object provided has {field} {given:?}, which does not match the \
                         expected {expected:?}"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Fills in what goes without saying.
    pub(super) fn complete(&self, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            fields.insert("apiVersion".into(), json!(self.api_version));
            fields.insert("kind".into(), json!(self.descriptor.kind));
        }
        (self.descriptor.default)(object);
    }

    /// Checks a whole object by the rules of its kind.
    pub(super) fn check(
        &self,
        key: &Key,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let mut errors = labels::check(new, old);
        errors.extend((self.descriptor.validate)(new, old));
        if errors.is_empty() { Ok(()) } else { Err(self.invalid(key, &errors)) }
    }

    /// A replacement says which version it replaces, or it would undo what its author has not seen. Of
    /// ConfigMaps, Secrets and Events it is taken without one, as by Kubernetes.
    pub(super) fn check_based(&self, key: &Key, new: &Value) -> Result<(), ApiError> {
        let is_free = self.descriptor.built_in && self.descriptor.kind != "Lease";
        if is_free || !metadata::text(new, "resourceVersion").is_empty() {
            return Ok(());
        }
        let missing = FieldError {
            field: "metadata.resourceVersion".to_owned(),
            reason: FieldErrorReason::Invalid,
            message: "must be specified for an update".to_owned(),
            bad_value: Some("0".to_owned()),
        };
        Err(self.invalid(key, &[missing]))
    }

    /// Whether what is not there is made when it is to be replaced, as by Kubernetes: whoever holds a
    /// Lease or counts an Event writes the whole of it.
    pub(super) fn is_made_by_update(&self) -> bool {
        self.descriptor.built_in && matches!(self.descriptor.kind, "Event" | "Lease")
    }

    fn invalid(&self, key: &Key, errors: &[FieldError]) -> ApiError {
        ApiError::invalid(self.descriptor.kind, self.descriptor.group, key.name(), errors)
    }

    fn check_scope(&self, namespace: Option<&str>) -> Result<(), ApiError> {
        match (namespace, self.descriptor.scope) {
            (Some(_), Scope::Cluster) => {
                Err(ApiError::new(Reason::NotFound, "the kind is not namespaced"))
            }
            (None, Scope::Namespaced) => {
                Err(ApiError::bad_request("an empty namespace may not be set"))
            }
            _ => Ok(()),
        }
    }
}

/// Gives fields of an object other names, and the object another group.
fn rename<'a>(
    object: &mut Value,
    api_version: &str,
    renames: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in renames {
        if let Some(value) = fields.shift_remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
    fields.insert("apiVersion".into(), json!(api_version));
}
