//! [`Object`]: one object of any kind, and [`Spec`], what a kind must say of itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use thiserror::Error;

use crate::{
    field::{Errors, FieldError, FieldPath},
    meta::ObjectMeta,
    reference::Reference,
    registry::{Column, KindDescriptor, ResourceKind, Scope},
    schema,
    text::check_format,
};

/// An object: who it is, what is wanted, what is so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(bound(deserialize = "S: Spec"))]
pub struct Object<S: Spec> {
    /// Group and version.
    pub api_version: String,
    /// The kind's name.
    pub kind: String,
    /// Who it is.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: S,
    /// What is so.
    #[serde(default)]
    pub status: S::Status,
}

/// The desired state of a kind's objects; declares the kind.
pub trait Spec:
    Clone + std::fmt::Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema
{
    /// What is observed of such an object.
    type Status: Clone
        + std::fmt::Debug
        + Default
        + PartialEq
        + Serialize
        + DeserializeOwned
        + JsonSchema;

    /// The words for this kind.
    const KIND: Kind;

    /// Whether such objects only report: they come from what nodes say, and nobody else writes them.
    const REPORTED: bool = false;

    /// What such objects name, as far as it concerns what is named.
    const REFERENCES: &'static [Reference] = &[];

    /// The kind's structural schema, made once.
    fn schema() -> &'static Value;

    /// Adds what the schema cannot say: rules over several fields, and over time.
    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors);
}

/// What [`KindDescriptor`] says of a kind in words alone.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The kind, for matches.
    pub resource_kind: ResourceKind,
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// CamelCase name.
    pub kind: &'static str,
    /// Plural for paths.
    pub plural: &'static str,
    /// Singular for the command line.
    pub singular: &'static str,
    /// Short names for the command line.
    pub short_names: &'static [&'static str],
    /// Cluster-scoped or namespaced.
    pub scope: Scope,
    /// The `format` of `metadata.name`: `dns-subdomain`, or `dns-label` where a namespace has that
    /// name too.
    pub name_format: &'static str,
    /// Columns of a table.
    pub columns: &'static [Column],
    /// Fields to select by.
    pub selectable_fields: &'static [&'static str],
    /// One paragraph for users.
    pub description: &'static str,
}

/// An object that passed validation once and does not decode: stored by a newer version.
#[derive(Debug, Error)]
#[error("{kind} {name:?} does not decode")]
pub struct DecodeError {
    kind: &'static str,
    name: String,
    #[source]
    source: serde_json::Error,
}

impl DecodeError {
    /// Why the object called `name` does not decode.
    #[must_use]
    pub fn new(kind: &'static str, name: &str, source: serde_json::Error) -> Self {
        Self { kind, name: name.to_owned(), source }
    }
}

impl<S: Spec> Object<S> {
    /// Decodes a stored object.
    ///
    /// # Errors
    /// The value is not an object of this kind; names it.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        Self::deserialize(value).map_err(|source| {
            let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            DecodeError::new(S::KIND.kind, name, source)
        })
    }

    /// A new object that has yet to be stored.
    #[must_use]
    pub fn new(metadata: ObjectMeta, spec: S) -> Self {
        Self {
            api_version: format!("{}/{}", S::KIND.group, S::KIND.version),
            kind: S::KIND.kind.to_owned(),
            metadata,
            spec,
            status: S::Status::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its namespace; empty for a cluster-scoped object.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }
}

/// The descriptor of the kind that `S` declares.
pub(crate) const fn descriptor<S: Spec>() -> KindDescriptor {
    let kind = S::KIND;
    KindDescriptor {
        resource_kind: kind.resource_kind,
        group: kind.group,
        version: kind.version,
        kind: kind.kind,
        plural: kind.plural,
        singular: kind.singular,
        short_names: kind.short_names,
        categories: &["isocast"],
        scope: kind.scope,
        columns: kind.columns,
        selectable_fields: kind.selectable_fields,
        description: kind.description,
        reported: S::REPORTED,
        references: S::REFERENCES,
        built_in: false,
        schema: S::schema,
        default: default::<S>,
        validate: validate::<S>,
    }
}

fn default<S: Spec>(value: &mut Value) {
    schema::apply_defaults(value, S::schema());
}

fn validate<S: Spec>(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    schema::check(new, S::schema(), &FieldPath::root(), &mut errors);
    let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if let Err(message) = check_format(S::KIND.name_format, name) {
        errors.invalid(&FieldPath::root().field("metadata").field("name"), name, message);
    }
    if !errors.is_empty() {
        return errors.into_vec();
    }
    match Object::<S>::decode(new) {
        Ok(new) => {
            let old = old.and_then(|old| Object::<S>::decode(old).ok());
            new.spec.validate(old.as_ref().map(|old| &old.spec), &FieldPath::spec(), &mut errors);
        }
        Err(DecodeError { source, .. }) => {
            errors.invalid(&FieldPath::spec(), "", source.to_string());
        }
    }
    errors.into_vec()
}
