//! From somebody and what they ask for to a proof, or to a refusal that tells no more than they may
//! know.

use std::{marker::PhantomData, sync::Arc};

use isocast_api::{
    registry::{Scope as KindScope, kinds},
    resourcemanager,
};
use jiff::Timestamp;

use super::{Authorized, Authorizer, Identity, Sight, Target, Verb};
use crate::{
    error::{ApiError, Reason},
    iam::{Access, Asked, Bearer, Catalog, Reach, Refusal, Scope},
    store::{Key, Range, Resource},
};

/// What is asked for besides the verb and the object.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    /// Empty for the object itself.
    pub(crate) subresource: &'static str,
    /// Of a container that is to be made: the one above it.
    pub(crate) parent: Option<&'a str>,
}

/// Lets `identity` do `V` to `resource`, or says why not.
pub(crate) fn authorize<V: Verb, R: Target>(
    access: &Arc<Access>,
    identity: &Identity,
    resource: R,
    about: About<'_>,
) -> Result<Authorized<V, R>, ApiError> {
    let Identity::Subject(who) = identity else {
        let proof = Authorizer.authorize::<V, R>(identity, resource)?;
        return Ok(Authorized { subresource: about.subresource, ..proof });
    };
    let range = resource.range();
    let sight = look(access, who, V::NAME, &range, about).map_err(|refusal| match refusal {
        Refusal::Unknown => {
            about.parent.map_or_else(|| hidden(&range), no_namespace).for_want_of_rights()
        }
        Refusal::Forbidden => forbidden(who, V::NAME, &range, about.subresource),
    })?;
    let actor = identity.clone();
    let subresource = about.subresource;
    drop(range);
    Ok(Authorized { actor, resource, subresource, sight, verb: PhantomData })
}

/// What of a range somebody may see.
fn look(
    access: &Arc<Access>,
    who: &Arc<Bearer>,
    verb: &'static str,
    range: &Range,
    about: About<'_>,
) -> Result<Option<Arc<Sight>>, Refusal> {
    let now = Timestamp::now();
    let (resource, namespace, name) = match range {
        Range::Everything => return Err(Refusal::Forbidden),
        Range::Containers => {
            return Ok(Some(Arc::new(Sight::new(access, who, verb, None, Scope::Known))));
        }
        Range::Resource(resource) => (resource, None, ""),
        Range::Container(resource, namespace) => (resource, Some(&**namespace), ""),
        Range::Object(key) => (key.resource(), key.container(), key.name()),
    };
    let subresource = about.subresource;
    let asked = Asked { verb, resource, subresource, namespace, name, parent: about.parent };
    let permission = Catalog::get().find(resource.as_str(), subresource, verb);
    let permission = permission.ok_or(Refusal::Forbidden)?;
    let sight = || Sight::new(access, who, verb, Some(resource), Scope::Permitted(permission));
    if matches!(range, Range::Resource(_)) && is_spread(resource) {
        return match access.reach(who, permission, None, now) {
            Reach::Nowhere => Err(Refusal::Forbidden),
            // A watch lasts: what it shows is asked about again and again.
            Reach::Everywhere if verb != "watch" => Ok(None),
            Reach::Everywhere | Reach::Somewhere => Ok(Some(Arc::new(sight()))),
        };
    }
    access.check(who, &asked, now)?;
    Ok((verb == "watch").then(|| Arc::new(sight().of(asked.place()))))
}

/// Whether objects of a resource belong to containers, as opposed to the platform.
fn is_spread(resource: &Resource) -> bool {
    let is_its = |plural: &str, group: &str| resource.is(plural, group);
    resource.group() == resourcemanager::GROUP
        || kinds()
            .iter()
            .any(|kind| kind.scope == KindScope::Namespaced && is_its(kind.plural, kind.group))
}

/// As if the container were not there.
fn hidden(range: &Range) -> ApiError {
    match range {
        Range::Container(_, namespace) => no_namespace(namespace),
        Range::Object(key) => match key.container() {
            Some(namespace) => no_namespace(namespace),
            None => ApiError::not_found(key),
        },
        _ => ApiError::new(Reason::NotFound, "not found"),
    }
}

fn no_namespace(name: &str) -> ApiError {
    ApiError::not_found(&Key::new(Resource::new("namespaces", ""), None, name))
}

/// In Kubernetes' words.
fn forbidden(who: &Bearer, verb: &str, range: &Range, subresource: &str) -> ApiError {
    let (plural, group, name) = range.coordinates();
    let what = match subresource {
        "" => plural.to_owned(),
        subresource => format!("{plural}/{subresource}"),
    };
    let namespace = match range {
        Range::Container(_, namespace) => Some(&**namespace),
        Range::Object(key) => key.container(),
        _ => None,
    };
    let place = match namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let subject = match name {
        "" => format!("{plural}.{group} is forbidden"),
        name => format!("{plural}.{group} {name:?} is forbidden"),
    };
    let user = who.subject.username();
    let message = format!(
        "{subject}: User {user:?} cannot {verb} resource {what:?} in API group {group:?} {place}"
    );
    ApiError::new(Reason::Forbidden, message).of(plural, group, name)
}
