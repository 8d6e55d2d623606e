//! The built-in kinds of Kubernetes that clients bring along: ConfigMap, Secret, Event, Lease.
//!
//! They have Kubernetes' groups, versions and fields, and most have neither spec nor status: what is
//! wanted lies beside `metadata`. An Event is one object in two groups, see [`aliases`].

mod config_map;
mod event;
mod lease;
mod secret;

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde_json::{Map, Value};

pub use self::{
    config_map::ConfigMap,
    event::{Event, EventSeries, EventSource, ObjectReference},
    lease::{Lease, LeaseSpec},
    secret::Secret,
};
use crate::{
    field::{Errors, FieldError, FieldErrorReason, FieldPath},
    registry::{Column, KindDescriptor, ResourceKind, Scope},
    schema,
    text::check_format,
};

/// Version of every built-in kind.
const V1: &str = "v1";

/// What a built-in kind is called, and how it shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) resource_kind: ResourceKind,
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) columns: &'static [Column],
    pub(crate) selectable_fields: &'static [&'static str],
    pub(crate) description: &'static str,
}

/// A built-in kind; the fields of the type are those beside `metadata`.
pub(crate) trait BuiltIn: JsonSchema {
    const WORDS: Words;

    fn schema() -> &'static Value;

    /// Fills in what goes without saying.
    fn complete(_value: &mut Value) {}

    /// Adds what the schema cannot say.
    fn validate(_new: &Value, _old: Option<&Value>, _errors: &mut Errors) {}
}

/// Another group in which objects of a kind are served too, with some fields named otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// The kind as it is served there.
    pub descriptor: KindDescriptor,
    /// The kind as it is stored.
    pub stored: ResourceKind,
    /// Fields of the object: there, and as stored.
    pub renames: &'static [(&'static str, &'static str)],
}

/// Every alias.
#[must_use]
pub fn aliases() -> &'static [Alias] {
    const ALIASES: &[Alias] = &[event::ALIAS];
    ALIASES
}

pub(crate) const fn descriptor<B: BuiltIn>() -> KindDescriptor {
    let words = B::WORDS;
    KindDescriptor {
        resource_kind: words.resource_kind,
        group: words.group,
        version: V1,
        kind: words.kind,
        plural: words.plural,
        singular: words.singular,
        short_names: words.short_names,
        categories: &[],
        scope: Scope::Namespaced,
        columns: words.columns,
        selectable_fields: words.selectable_fields,
        description: words.description,
        reported: false,
        references: &[],
        built_in: true,
        schema: B::schema,
        default: B::complete,
        validate: validate::<B>,
    }
}

fn validate<B: BuiltIn>(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    schema::check(new, B::schema(), &FieldPath::root(), &mut errors);
    let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if let Err(message) = check_format("dns-subdomain", name) {
        errors.invalid(&FieldPath::root().field("metadata").field("name"), name, message);
    }
    if errors.is_empty() {
        B::validate(new, old, &mut errors);
    }
    errors.into_vec()
}

/// Empty data is as good as none.
fn omit_empty(object: &mut Map<String, Value>, fields: &[&str]) {
    for field in fields {
        if object.get(*field).and_then(Value::as_object).is_some_and(Map::is_empty) {
            object.shift_remove(*field);
        }
    }
}

/// Keys of ConfigMaps and Secrets: names of files.
fn check_keys(value: &Value, fields: &[&str], errors: &mut Errors) {
    let legal = |key: &str| {
        (1..=KEY_BYTES).contains(&key.len())
            && ![".", ".."].contains(&key)
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    for field in fields {
        let path = FieldPath::root().field(field);
        let keys = value.get(field).and_then(Value::as_object).into_iter().flatten();
        for (key, _) in keys.filter(|(key, _)| !legal(key)) {
            let message = "a valid config key must consist of at most 253 alphanumeric characters, \
                           '-', '_' or '.'";
            errors.invalid(&path.key(key), key, message.to_owned());
        }
    }
}

/// Values of a field that holds bytes; a refusal does not quote them.
fn check_base64(value: &Value, field: &str, errors: &mut Errors) {
    let path = FieldPath::root().field(field);
    for (key, value) in value.get(field).and_then(Value::as_object).into_iter().flatten() {
        if STANDARD.decode(value.as_str().unwrap_or_default()).is_err() {
            let message = "must be base64".to_owned();
            errors.push(&path.key(key), FieldErrorReason::Invalid, message, None);
        }
    }
}

/// An object that says it is immutable stays as it is.
fn check_immutable(new: &Value, old: Option<&Value>, fields: &[&str], errors: &mut Errors) {
    let Some(old) = old.filter(|old| old.get("immutable") == Some(&Value::Bool(true))) else {
        return;
    };
    let changed = |field: &&&str| new.get(**field) != old.get(**field);
    for field in ["immutable"].iter().chain(fields).filter(changed) {
        let path = FieldPath::root().field(field);
        let message = "field is immutable when `immutable` is set".to_owned();
        errors.push(&path, FieldErrorReason::Forbidden, message, None);
    }
}

const KEY_BYTES: usize = 253;
