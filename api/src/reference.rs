//! [`Reference`]: how objects of one kind name objects of another.
//!
//! Declared with the kind that names, in [`Spec::REFERENCES`](crate::object::Spec::REFERENCES): one
//! line each, from which the server keeps who is named by whom. Pure: what is named need not exist.

use serde_json::Value;

use crate::registry::{KindDescriptor, ResourceKind, Scope, kinds};

/// A field that names an object.
///
/// The field is the name itself, or has a `name`, perhaps a `namespace`, and a `kind` where several
/// are possible. A name without a namespace is one of the naming object's own, or cluster-scoped.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Where the field is; `*` stands for every item of a list.
    pub path: &'static [&'static str],
    /// What it names.
    pub target: Target,
    /// What becomes of the target meanwhile.
    pub hold: Hold,
}

/// What a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An object of the kind that its `kind` says.
    Any,
    /// An object of this kind.
    Kind(ResourceKind),
}

/// Whether what is named may go.
///
/// A reference holds its target only where the naming object breaks without it *and* was let use it:
/// who merely writes a name cannot keep others from deleting what is theirs. So subjects of bindings,
/// nodes in a pool and targets of drains are no references in this sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It may; other rules say when.
    Free,
    /// Not while it is named.
    InUse,
}

/// An object that is named.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Its kind.
    pub kind: &'static KindDescriptor,
    /// Its namespace; none for a cluster-scoped kind.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

impl Reference {
    /// The object of `target` at `path` is in use.
    #[must_use]
    pub const fn using(path: &'static [&'static str], target: ResourceKind) -> Self {
        Self { path, target: Target::Kind(target), hold: Hold::InUse }
    }

    /// Whatever is named at `path` may go.
    #[must_use]
    pub const fn naming(path: &'static [&'static str], target: Target) -> Self {
        Self { path, target, hold: Hold::Free }
    }

    /// Every object that `object` names by this reference. What does not read as a name is none.
    #[must_use]
    pub fn names<'a>(&self, object: &'a Value) -> Vec<Named<'a>> {
        let own = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let mut named = Vec::new();
        walk(object, self.path, &mut |field| named.extend(self.name(field, own)));
        named
    }

    /// The path for people: `spec.addresses[*].claim`.
    #[must_use]
    pub fn field(&self) -> String {
        self.path.join(".").replace(".*", "[*]")
    }

    fn name<'a>(&self, field: &'a Value, own: Option<&'a str>) -> Option<Named<'a>> {
        let part = |name: &str| field.get(name).and_then(Value::as_str);
        let name = field.as_str().or_else(|| part("name"))?;
        let kind = match self.target {
            Target::Any => {
                let word = part("kind")?;
                kinds().iter().find(|kind| kind.kind == word)?
            }
            Target::Kind(target) => kinds().iter().find(|kind| kind.resource_kind == target)?,
        };
        let namespace = match kind.scope {
            Scope::Cluster => None,
            Scope::Namespaced => Some(part("namespace").or(own)?),
        };
        Some(Named { kind, namespace, name })
    }
}

fn walk<'a>(value: &'a Value, path: &[&str], found: &mut impl FnMut(&'a Value)) {
    match path {
        [] => found(value),
        ["*", rest @ ..] => {
            for item in value.as_array().into_iter().flatten() {
                walk(item, rest, found);
            }
        }
        [field, rest @ ..] => {
            if let Some(value) = value.get(field) {
                walk(value, rest, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(reference: Reference, object: &Value) -> Vec<String> {
        let named = reference.names(object).into_iter();
        named
            .map(|it| format!("{} {}/{}", it.kind.plural, it.namespace.unwrap_or("-"), it.name))
            .collect()
    }

    #[test]
    fn a_name_is_one_of_the_objects_own_namespace() {
        let service = json!({
            "metadata": {"namespace": "web"},
            "spec": {"addresses": [{"claim": "v4"}, {"claim": "v6"}, {"other": 1}]},
        });
        let claims =
            Reference::using(&["spec", "addresses", "*", "claim"], ResourceKind::AddressClaim);

        assert_eq!(names(claims, &service), ["addressclaims web/v4", "addressclaims web/v6"]);
        assert_eq!(claims.field(), "spec.addresses[*].claim");
    }

    #[test]
    fn an_object_may_say_kind_and_namespace() {
        let binding = json!({
            "metadata": {"namespace": "web"},
            "spec": {
                "role": {"name": "viewer", "namespace": "isocast-system"},
                "target": {"kind": "Organization", "name": "acme"},
                "odd": {"kind": "Nothing", "name": "x"},
            },
        });
        let role = Reference::using(&["spec", "role"], ResourceKind::Role);

        assert_eq!(names(role, &binding), ["roles isocast-system/viewer"]);
        let any = Reference::naming(&["spec", "target"], Target::Any);
        assert_eq!(names(any, &binding), ["organizations -/acme"]);
        assert!(names(Reference::naming(&["spec", "odd"], Target::Any), &binding).is_empty());
    }

    #[test]
    fn every_declared_reference_is_a_field_of_its_kind() {
        for kind in kinds() {
            for reference in kind.references {
                let mut schema = (kind.schema)();
                for step in reference.path {
                    let next = match *step {
                        "*" => schema.get("items"),
                        field => schema.get("properties").and_then(|all| all.get(field)),
                    };
                    schema = next.unwrap_or_else(|| panic!("{}: {}", kind.kind, reference.field()));
                }
            }
        }
    }
}
