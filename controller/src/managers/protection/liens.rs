//! Liens: what must not be deleted or changed because somebody said so.
//!
//! A lien on a container holds everything above it as well: whoever deletes an organization deletes
//! its projects. Liens live in the namespace of what they keep, so they are found without a search.

use std::collections::HashSet;

use isocast_api::{
    object::Spec,
    registry::{Scope, kinds},
    resourcemanager::{Lien, LienSpec, Restriction, is_container},
};
use jiff::Timestamp;

use super::index::Index;
use crate::{
    admission::ProposedChange,
    error::{ApiError, Cause, Reason},
    managers::{
        SYSTEM_NAMESPACE,
        lookup::{self, Step},
    },
    store::{Key, Resource, View},
};

/// Refuses a lien on what is not there, or lives elsewhere.
pub(super) fn admit(view: &View, change: &ProposedChange) -> Result<(), ApiError> {
    let (Step::Create, Some(new)) = (Step::of(change), &change.new) else { return Ok(()) };
    let lien: Lien = lookup::decode(new)?;
    let (namespace, target) = (lien.namespace(), &lien.spec.target);
    let Some(kept) = place(&lien) else { return Ok(()) };
    let is_at_home = match kept.container() {
        Some(container) => container == namespace,
        None if is_container(kept.resource().plural(), kept.resource().group()) => {
            target.name.as_str() == namespace
        }
        None => namespace == SYSTEM_NAMESPACE,
    };
    let fault = if !is_at_home {
        match kept.resource().group() {
            isocast_api::resourcemanager::GROUP => "a container is kept from its own namespace",
            _ => "what belongs to the platform is kept from the namespace isocast-system",
        }
        .to_owned()
    } else if view.get(&kept).is_none() {
        format!("there is no {} {:?}", target.kind, target.name.as_str())
    } else {
        return Ok(());
    };
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: fault.clone(),
        field: "spec.target".to_owned(),
    };
    let (kind, name) = (LienSpec::KIND.kind, change.key.name());
    let message = format!("{kind} {name:?} is invalid: spec.target: {fault}");
    Err(ApiError::about(Reason::Invalid, &change.key, message).with_causes(vec![cause]))
}

/// Where what a lien keeps lives.
fn place(lien: &Lien) -> Option<Key> {
    let target = &lien.spec.target;
    let kind = kinds().iter().find(|kind| kind.kind == target.kind)?;
    let namespace = match kind.scope {
        Scope::Cluster => None,
        Scope::Namespaced => Some(lien.namespace()),
    };
    let resource = Resource::new(kind.plural, kind.group);
    Some(Key::new(resource, namespace, target.name.as_str()))
}

/// The first lien that restrains what is to be done to `target`.
pub(super) fn find(
    index: &Index,
    view: &View,
    target: &Key,
    restriction: Restriction,
    now: Timestamp,
) -> Option<Lien> {
    let holds = |lien: &Lien| {
        lien.spec.restrictions.contains(&restriction)
            && lien.spec.expires_at.is_none_or(|until| until.timestamp() > now)
    };
    let of = |key: &Key| {
        let lien: Option<Lien> = lookup::find::<LienSpec>(view, key).ok().flatten();
        lien.filter(holds)
    };
    let liens = lookup::resource::<LienSpec>();
    let direct = index
        .candidates_of(target, &liens)
        .filter_map(of)
        .find(|lien| place(lien).as_ref() == Some(target));
    if direct.is_some() || restriction != Restriction::Delete {
        return direct;
    }
    // What goes with a container: everything in it, and everything in the containers below.
    below(index, target).iter().find_map(|container| {
        let range = lookup::within::<LienSpec>(container.name());
        view.range(&range).find_map(|lien| of(&lien.key))
    })
}

/// A container and all containers that may be below it.
fn below(index: &Index, container: &Key) -> Vec<Key> {
    let is_its = |key: &Key| is_container(key.resource().plural(), key.resource().group());
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    if is_its(container) {
        found.push(container.clone());
        seen.insert(container.clone());
    }
    let mut next = 0;
    while let Some(container) = found.get(next) {
        let (_, users) = index.candidates(container);
        let children: Vec<Key> =
            users.filter(|user| is_its(user) && seen.insert((*user).clone())).cloned().collect();
        found.extend(children);
        next += 1;
    }
    found
}

/// The refusal for whoever met a lien.
pub(super) fn refusal(lien: &Lien, target: &Key, verb: &str, names_it: bool) -> ApiError {
    let which = if names_it {
        format!("lien {:?} in namespace {:?}", lien.name(), lien.namespace())
    } else {
        "a lien".to_owned()
    };
    let until = match lien.spec.expires_at {
        Some(until) => format!(" until {until}"),
        None => String::new(),
    };
    let why = if names_it { format!(": {}", lien.spec.reason) } else { String::new() };
    let message = format!("{which} forbids to {verb} it{until}{why}");
    let cause = Cause { reason: "Lien".to_owned(), message: message.clone(), field: String::new() };
    ApiError::conflict(target, &message).with_causes(vec![cause])
}
