//! What a container may not take along when it moves.
//!
//! Most of what it holds goes with it as it is. Two things would leave a former owner a hold on it, or it
//! a hold on theirs: addresses of pools that its new organization was not granted, and roles that live
//! above its old place, which others could widen from there. Both are named, and the move is refused.
//! A move is rare, and looks at everything in the container and below; no other write does.

use std::{fmt, sync::Arc};

use isocast_api::{
    iam::{PolicyBindingSpec, RoleReference, RoleSpec},
    network::{AddressClaimSpec, AddressPoolSpec},
    object::Spec,
};

use super::{
    super::{SYSTEM_NAMESPACE, ipam, lookup},
    container,
};
use crate::{
    error::ApiError,
    store::{Key, View},
};

/// A container and those below it, on their way elsewhere.
pub(super) struct Belongings<'a> {
    pub(super) view: &'a View,
    /// The container itself, and those below.
    pub(super) containers: Vec<Arc<str>>,
    /// The containers above its new place.
    pub(super) above: Vec<Arc<str>>,
}

/// Objects named in a refusal.
const SHOWN_MAX: usize = 5;

impl<'a> Belongings<'a> {
    /// Of the containers of these names, which go below `above`.
    pub(super) fn new(view: &'a View, containers: Vec<Arc<str>>, above: Option<&str>) -> Self {
        let chain = above.into_iter().flat_map(|above| container::chain(view, above));
        let above = chain.map(|container| container.key.name().into()).collect();
        Self { view, containers, above }
    }

    /// Addresses of pools that an organization was not granted, as a refusal says it.
    pub(super) fn foreign_addresses(&self, organization: &str) -> Result<Option<String>, ApiError> {
        let mut found = Vec::new();
        for (key, claim) in self.all::<AddressClaimSpec>() {
            let claim = claim?;
            let pool = lookup::key::<AddressPoolSpec>(claim.spec.pool.as_str());
            let pool = lookup::find::<AddressPoolSpec>(self.view, &pool)?;
            if !pool.is_some_and(|pool| ipam::is_granted(self.view, &pool, organization)) {
                let pool = claim.spec.pool.as_str();
                found.push(format!("addressclaim {} (pool {pool:?})", Placed(&key)));
            }
        }
        Ok(listed(found).map(|found| {
            format!(
                "it would take addresses along whose pools are not granted to organization \
                 {organization:?}: {found}"
            )
        }))
    }

    /// Roles that would not be above what refers to them any more, as a refusal says it.
    pub(super) fn foreign_roles(&self) -> Result<Option<String>, ApiError> {
        let mut found = Vec::new();
        for (key, binding) in self.all::<PolicyBindingSpec>() {
            let role = binding?.spec.role;
            found.extend(self.foreign("policybinding", &key, &role));
        }
        for (key, heir) in self.all::<RoleSpec>() {
            for role in &heir?.spec.inherited_roles {
                found.extend(self.foreign("role", &key, role));
            }
        }
        Ok(listed(found).map(|found| {
            format!(
                "it would refer to roles that are not above it any more, and could be changed from \
                 there: {found}"
            )
        }))
    }

    fn foreign(&self, kind: &str, key: &Key, role: &RoleReference) -> Option<String> {
        let place = role.namespace.as_ref()?.as_str();
        let mut places = self.containers.iter().chain(&self.above);
        if place == SYSTEM_NAMESPACE || places.any(|known| **known == *place) {
            return None;
        }
        Some(format!("{kind} {} (role {place}/{})", Placed(key), role.name.as_str()))
    }

    /// Objects of a kind in what moves.
    fn all<S: Spec>(
        &self,
    ) -> impl Iterator<Item = (Key, Result<isocast_api::object::Object<S>, ApiError>)> {
        self.containers.iter().flat_map(|container| {
            let range = lookup::within::<S>(container);
            let objects: Vec<_> = self.view.range(&range).cloned().collect();
            objects.into_iter().map(|object| (object.key.clone(), lookup::read::<S>(&object)))
        })
    }
}

/// `shop/www`
struct Placed<'a>(&'a Key);

impl fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.container().unwrap_or_default(), self.0.name())
    }
}

fn listed(mut found: Vec<String>) -> Option<String> {
    let more = found.len().saturating_sub(SHOWN_MAX);
    found.truncate(SHOWN_MAX);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    (!found.is_empty()).then(|| found.join(", "))
}
