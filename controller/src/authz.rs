//! Who may do what: the only place that makes [`Authorized`] values, which every storage call asks
//! for.
//!
//! An [`Authorized<V, R>`] says "the bearer may do `V` to `R`" and carries `R` itself, so a proof
//! for one object cannot be spent on another. It has no public constructor and no `Default`; what
//! is not authorised does not compile, or does not exist. Default is deny.

mod rules;
mod sight;

use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc};

pub(crate) use self::{
    rules::{About, authorize},
    sight::{Sight, Standing},
};
use crate::{
    error::{ApiError, Reason},
    iam::{Access, Bearer},
    store::{Key, Range},
};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A person or program with the platform's administrator credential.
    Administrator {
        /// Common name of its certificate.
        name: Arc<str>,
    },
    /// A part of this controller, such as `fleet`.
    Component {
        /// The part.
        name: &'static str,
    },
    /// A node's agent; it has no rights in the API, its road is the channel.
    Node {
        /// Name of its Node object.
        name: Arc<str>,
    },
    /// A user or service account; what it may is said by bindings.
    Subject(Arc<Bearer>),
}

/// Proof that a [`Verb`] on a resource (a [`Key`] or a [`Range`]) was allowed to somebody.
#[derive(Clone, Debug)]
pub struct Authorized<V: Verb, R> {
    actor: Identity,
    resource: R,
    /// Empty for the object itself.
    subresource: &'static str,
    /// What of a range is visible; none: all of it.
    sight: Option<Arc<Sight>>,
    verb: PhantomData<V>,
}

/// Decides for those whose rights are fixed: the administrator and the controller's own parts. For
/// users and service accounts, [`Registry::authorize`](crate::registry::Registry::authorize) asks
/// the bindings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Authorizer;

/// What is asked for, as a type.
pub trait Verb {
    /// The Kubernetes verb.
    const NAME: &'static str;
}

/// A [`Verb`] that changes objects.
pub trait WriteVerb: Verb {}

/// What a right can be about.
pub trait Target: fmt::Debug {
    /// `nodes.network.isocast.dev "ams-1"`, for refusals.
    fn describe(&self) -> String;
    /// Plural, group and name for the details of a refusal.
    fn coordinates(&self) -> (&str, &str, &str);
    /// The share of the store that it is.
    fn range(&self) -> Cow<'_, Range>;
}

/// The verbs of the Kubernetes API.
pub mod verb {
    use super::{Verb, WriteVerb};

    macro_rules! verbs {
        ($($(#[$doc:meta])* $verb:ident = $name:literal),* $(,)?) => {
            $($(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $verb;
            impl Verb for $verb {
                const NAME: &'static str = $name;
            })*
        };
    }
    verbs! {
        /// Take a copy of everything.
        Backup = "backup",
        /// Make an object.
        Create = "create",
        /// Remove an object.
        Delete = "delete",
        /// Read an object.
        Get = "get",
        /// Ask as somebody else.
        Impersonate = "impersonate",
        /// Read a collection.
        List = "list",
        /// Change an object in part.
        Patch = "patch",
        /// Replace an object.
        Update = "update",
        /// Follow a collection.
        Watch = "watch",
    }
    impl WriteVerb for Create {}
    impl WriteVerb for Delete {}
    impl WriteVerb for Patch {}
    impl WriteVerb for Update {}
}

// === impl Authorizer ===

impl Authorizer {
    /// Lets `identity` do `V` to `resource`, or says why not.
    ///
    /// # Errors
    /// `Forbidden` when no right covers it.
    pub fn authorize<V: Verb, R: Target>(
        self,
        identity: &Identity,
        resource: R,
    ) -> Result<Authorized<V, R>, ApiError> {
        match identity {
            Identity::Administrator { .. } | Identity::Component { .. } => {
                Ok(Authorized::new(identity, resource))
            }
            Identity::Node { .. } | Identity::Subject(_) => {
                let (plural, group, name) = resource.coordinates();
                let message = format!(
                    "{} is forbidden: {identity} cannot {} it",
                    resource.describe(),
                    V::NAME
                );
                Err(ApiError::new(Reason::Forbidden, message).of(plural, group, name))
            }
        }
    }
}

// === impl Authorized ===

impl<V: Verb, R> Authorized<V, R> {
    fn new(actor: &Identity, resource: R) -> Self {
        Self { actor: actor.clone(), resource, subresource: "", sight: None, verb: PhantomData }
    }

    /// The part of the object that it is about; empty for the object itself.
    pub fn subresource(&self) -> &'static str {
        self.subresource
    }

    pub(crate) fn sight(&self) -> Option<&Arc<Sight>> {
        self.sight.as_ref()
    }

    /// Whose right it is.
    pub fn actor(&self) -> &Identity {
        &self.actor
    }

    /// What it is about.
    pub fn resource(&self) -> &R {
        &self.resource
    }
}

impl<V: Verb> Authorized<V, Range> {
    /// The same right, for what lies below the container `top` alone.
    #[must_use]
    pub(crate) fn below(self, access: &Arc<Access>, top: &str) -> Self {
        let sight = match &self.sight {
            Some(sight) => sight.limited(top),
            None => Sight::below(access, top),
        };
        Self { sight: Some(Arc::new(sight)), ..self }
    }

    /// The same right for a part of its range, or none when `part` reaches beyond it.
    #[must_use]
    pub fn narrow(&self, part: Range) -> Option<Self> {
        self.resource.covers(&part).then(|| Self {
            actor: self.actor.clone(),
            resource: part,
            subresource: self.subresource,
            sight: self.sight.clone(),
            verb: PhantomData,
        })
    }
}

// === impl Identity ===

impl Identity {
    /// Who asks, if it is as somebody else.
    pub(crate) fn impersonator(&self) -> Option<Arc<str>> {
        match self {
            Self::Subject(bearer) => bearer.impersonator(),
            Self::Administrator { .. } | Self::Component { .. } | Self::Node { .. } => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrator { name } => write!(f, "user {name:?}"),
            Self::Component { name } => write!(f, "component {name:?}"),
            Self::Node { name } => write!(f, "node {name:?}"),
            Self::Subject(bearer) => bearer.fmt(f),
        }
    }
}

// === impl Target ===

impl Target for Key {
    fn describe(&self) -> String {
        format!("{} {:?}", self.resource(), self.name())
    }

    fn coordinates(&self) -> (&str, &str, &str) {
        (self.resource().plural(), self.resource().group(), self.name())
    }

    fn range(&self) -> Cow<'_, Range> {
        Cow::Owned(Range::Object(self.clone()))
    }
}

impl Target for Range {
    fn describe(&self) -> String {
        match self {
            Self::Everything => "everything".to_owned(),
            Self::Containers => "namespaces".to_owned(),
            Self::Resource(resource) => resource.to_string(),
            Self::Container(resource, container) => format!("{resource} in {container:?}"),
            Self::Object(key) => key.describe(),
        }
    }

    fn coordinates(&self) -> (&str, &str, &str) {
        match self {
            Self::Everything => ("", "", ""),
            Self::Containers => ("namespaces", "", ""),
            Self::Resource(resource) | Self::Container(resource, _) => {
                (resource.plural(), resource.group(), "")
            }
            Self::Object(key) => key.coordinates(),
        }
    }

    fn range(&self) -> Cow<'_, Range> {
        Cow::Borrowed(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Resource;

    fn key() -> Key {
        Key::new(Resource::new("nodes", "network.isocast.dev"), None, "ams-1")
    }

    #[test]
    fn the_administrator_may() {
        let who = Identity::Administrator { name: "admin".into() };

        let proof = Authorizer.authorize::<verb::Get, _>(&who, key());

        assert!(proof.is_ok_and(|proof| proof.resource() == &key()));
    }

    #[test]
    fn a_node_may_nothing() {
        let who = Identity::Node { name: "ams-1".into() };

        let refusal = Authorizer.authorize::<verb::Get, _>(&who, key()).err();

        assert_eq!(
            refusal.map(|error| (error.code(), error.to_string())),
            Some((
                403,
                "nodes.network.isocast.dev \"ams-1\" is forbidden: node \"ams-1\" cannot get it"
                    .to_owned()
            ))
        );
    }

    #[test]
    fn a_proof_narrows_but_never_widens() {
        let who = Identity::Component { name: "test" };
        let nodes = Resource::new("nodes", "network.isocast.dev");
        let pools = Resource::new("addresspools", "network.isocast.dev");
        let Ok(proof) = Authorizer.authorize::<verb::List, _>(&who, Range::Resource(nodes)) else {
            panic!("components are allowed");
        };

        assert!(proof.narrow(Range::Object(key())).is_some());
        assert!(proof.narrow(Range::Resource(pools)).is_none());
        assert!(proof.narrow(Range::Everything).is_none());
    }
}
