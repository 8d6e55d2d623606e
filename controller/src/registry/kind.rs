//! [`Kind`]: a declared kind, with what the registry derives from the declaration once.

use isocast_api::registry::{KindDescriptor, Scope};
use serde_json::{Value, json};

use super::{decode::Decoded, structure::Structure, table::Columns};
use crate::{
    error::{ApiError, Cause, Reason},
    store::{Key, Range, Resource},
};

/// A kind of the API.
#[derive(Debug)]
pub struct Kind {
    descriptor: &'static KindDescriptor,
    resource: Resource,
    api_version: String,
    structure: Structure,
    columns: Columns,
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
            api_version: format!("{}/{}", descriptor.group, descriptor.version),
            structure: Structure::of((descriptor.schema)()),
            columns: Columns::new(descriptor.columns),
        }
    }

    /// Its declaration.
    pub fn descriptor(&self) -> &'static KindDescriptor {
        self.descriptor
    }

    /// Its resource.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// `network.isocast.dev/v1alpha1`
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
        let errors = (self.descriptor.validate)(new, old);
        if errors.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let list = match &*texts {
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let causes = errors
            .iter()
            .zip(&texts)
            .map(|(error, text)| Cause {
                reason: error.reason.as_str().to_owned(),
                // The field has a place of its own.
                message: text
                    .strip_prefix(&format!("{}: ", error.field))
                    .unwrap_or(text)
                    .to_owned(),
                field: error.field.clone(),
            })
            .collect();
        let message = format!(
            "{}.{} {:?} is invalid: {list}",
            self.descriptor.kind,
            self.descriptor.group,
            key.name()
        );
        Err(ApiError::new(Reason::Invalid, message)
            .of(self.descriptor.kind, self.descriptor.group, key.name())
            .with_causes(causes))
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
