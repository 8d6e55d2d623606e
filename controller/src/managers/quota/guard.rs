//! What may be written about quota, and by whom.
//!
//! A limit is no limit when those whom it restrains can raise it: it takes the right to write grants
//! in the container above.

use isocast_api::{
    meta::{ConditionStatus, Finding, set_condition},
    object::Spec,
    quota::{
        AllowanceBucketSpec, RegistrationType, ResourceClaimSpec, ResourceGrant, ResourceGrantSpec,
        ResourceRegistration, ResourceRegistrationSpec,
    },
};
use serde_json::Value;

use super::{
    bucket,
    index::{ACTIVE, Index},
    meters, tree,
};
use crate::{
    admission::ProposedChange,
    authz::Identity,
    error::{ApiError, Cause, Reason},
    iam::Access,
    managers::{
        SYSTEM_NAMESPACE,
        lookup::{self, Step},
    },
    store::{Key, View},
};

/// Things that can be counted: each of them costs each write that takes of it.
pub(super) const REGISTRATIONS_MAX: usize = 256;
/// Grants of one container.
pub(super) const GRANTS_MAX: usize = 64;

/// Judges a write to an object of the group.
pub(super) fn admit(
    access: &Access,
    index: &Index,
    view: &View,
    change: &mut ProposedChange,
) -> Result<(), ApiError> {
    let resource = change.key.resource();
    if resource.is_of::<ResourceGrantSpec>() {
        expect_right_above(access, index, change)?;
        return grant(index, change);
    }
    if resource.is_of::<ResourceRegistrationSpec>() {
        return registration(index, view, change);
    }
    if resource.is_of::<AllowanceBucketSpec>() || resource.is_of::<ResourceClaimSpec>() {
        return Err(ApiError::forbidden(&change.key, "it is derived, and not written"));
    }
    Ok(())
}

/// The right to do the same in the container above.
fn expect_right_above(
    access: &Access,
    index: &Index,
    change: &ProposedChange,
) -> Result<(), ApiError> {
    if !matches!(change.actor, Identity::Subject(_)) {
        return Ok(());
    }
    let key = &change.key;
    let namespace = key.container().unwrap_or_default();
    if namespace == SYSTEM_NAMESPACE {
        return Ok(());
    }
    let verb = if change.old.is_none() { "create" } else { change.verb };
    let above = Key::new(key.resource().clone(), Some(index.tree.above(namespace)), key.name());
    if access.allows(&change.actor, verb, &above, change.now) {
        return Ok(());
    }
    let why = format!(
        "{} cannot {verb} it: what {namespace:?} may have is decided by those who may {verb} \
         resourcegrants in the container above it",
        change.actor,
    );
    Err(ApiError::forbidden(key, &why))
}

// === grants ===

fn grant(index: &Index, change: &mut ProposedChange) -> Result<(), ApiError> {
    let Some(new) = &change.new else { return Ok(()) };
    let mut grant: ResourceGrant = lookup::decode(new)?;
    let key = &change.key;
    let namespace = key.container().unwrap_or_default();
    if let Some(consumer) = &grant.spec.consumer_ref {
        let expected = bucket::consumer(namespace, index.tree.get(namespace).map(|it| it.kind));
        let given = serde_json::to_value(consumer)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        if given != expected {
            let message = "must be the container of the grant's own namespace, which it is for";
            return Err(invalid::<ResourceGrantSpec>(key, "spec.consumerRef", message));
        }
    }
    for (place, allowance) in grant.spec.allowances.iter().enumerate() {
        let resource_type = allowance.resource_type.as_str();
        if !index.meters.knows(resource_type) {
            let message = format!("no resourceregistration has the type {resource_type:?}");
            let field = format!("spec.allowances[{place}].resourceType");
            return Err(invalid::<ResourceGrantSpec>(key, &field, &message));
        }
    }
    expect_undivided(index, change, &grant)?;
    if change.old.is_none() && index.grants_in(namespace).count() >= GRANTS_MAX {
        let message = format!("a container has at most {GRANTS_MAX} resourcegrants");
        return Err(ApiError::forbidden(key, &message));
    }
    let active = match grant.spec.expires_at {
        Some(at) if at.timestamp() <= change.now => {
            Finding::new(ACTIVE, ConditionStatus::False, "Ended", format!("it ended at {at}"))
        }
        _ => Finding::new(ACTIVE, ConditionStatus::True, "Granted", ""),
    };
    let generation = grant.metadata.generation;
    set_condition(&mut grant.status.conditions, active, generation, change.now);
    let Some(new) = &mut change.new else { return Ok(()) };
    lookup::set_status::<ResourceGrantSpec>(new, &grant.status)
}

/// What the container above may have is not granted to its parts more often than is said.
fn expect_undivided(
    index: &Index,
    change: &ProposedChange,
    grant: &ResourceGrant,
) -> Result<(), ApiError> {
    let namespace = change.key.container().unwrap_or_default();
    if namespace == SYSTEM_NAMESPACE {
        return Ok(());
    }
    let above = index.tree.above(namespace);
    let old: Option<ResourceGrant> =
        change.old_value().map(|old| lookup::decode(old)).transpose()?;
    for allowance in &grant.spec.allowances {
        let resource_type = allowance.resource_type.as_str();
        let one = index.meters.iter().find(|(_, one)| *one.resource_type == *resource_type);
        let Some((_, one)) = one else { continue };
        let (Some(percent), Some(limit)) = (one.overcommit_percent, index.limit(above, one)) else {
            continue;
        };
        let allowances = old.iter().flat_map(|old| &old.spec.allowances);
        let before = allowances.filter(|it| it.resource_type == allowance.resource_type);
        let before = before.fold(0_u64, |sum, it| sum.saturating_add(it.total()));
        let granted = index.granted_to_parts(above, resource_type).saturating_sub(before);
        let after = granted.saturating_add(allowance.total());
        let most = u128::from(limit.amount) * u128::from(percent) / 100;
        // One that is lowered helps, also when it does not suffice.
        if allowance.total() > before && u128::from(after) > most {
            let message = format!(
                "{:?} may have {} of {resource_type}, of which others of its parts were granted \
                 {granted}: {} more do not fit into {percent} % of it",
                &**above,
                limit.amount,
                allowance.total(),
            );
            return Err(ApiError::forbidden(&change.key, &message));
        }
    }
    Ok(())
}

/// What a container that moves was granted must not divide what there is above its new place more often
/// than is said.
pub(super) fn admit_move(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    let (Some(old), Some(new)) = (change.old_value(), &change.new) else { return Ok(()) };
    let (from, to) = (tree::place_of(&change.key, old), tree::place_of(&change.key, new));
    if from == to {
        return Ok(());
    }
    let name = change.key.name();
    for (_, one) in index.meters.iter() {
        let resource_type = &*one.resource_type;
        let (Some(percent), Some(limit)) = (one.overcommit_percent, index.limit(to, one)) else {
            continue;
        };
        let mine = index.granted(name, resource_type);
        let others = index.granted_to_parts(to, resource_type);
        let most = u128::from(limit.amount) * u128::from(percent) / 100;
        if mine > 0 && u128::from(others.saturating_add(mine)) > most {
            let message = format!(
                "{to:?} may have {} of {resource_type}, of which its parts were granted {others}: \
                 the {mine} that {name:?} was granted do not fit into {percent} % of it",
                limit.amount,
            );
            return Err(ApiError::forbidden(&change.key, &message));
        }
    }
    Ok(())
}

// === registrations ===

fn registration(index: &Index, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    if Step::of(change).asks_for_deletion() {
        return expect_ungranted(index, change);
    }
    let Some(new) = &change.new else { return Ok(()) };
    let mut registration: ResourceRegistration = lookup::decode(new)?;
    let key = &change.key;
    expect_countable(key, &registration)?;
    let resource_type = registration.spec.resource_type.as_str();
    let taken = index
        .meters
        .iter()
        .find(|(_, one)| *one.resource_type == *resource_type && *one.registration != *key.name());
    if let Some((_, other)) = taken {
        let message = format!("is that of resourceregistration {:?}", &*other.registration);
        return Err(invalid::<ResourceRegistrationSpec>(key, "spec.resourceType", &message));
    }
    let all = lookup::all::<ResourceRegistrationSpec>();
    if change.old.is_none() && view.range(&all).count() >= REGISTRATIONS_MAX {
        let message = format!("there are at most {REGISTRATIONS_MAX} resourceregistrations");
        return Err(ApiError::forbidden(key, &message));
    }
    let active = Finding::new(ACTIVE, ConditionStatus::True, "Counted", "");
    let generation = registration.metadata.generation;
    set_condition(&mut registration.status.conditions, active, generation, change.now);
    let Some(new) = &mut change.new else { return Ok(()) };
    lookup::set_status::<ResourceRegistrationSpec>(new, &registration.status)
}

fn expect_ungranted(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    let key = &change.key;
    let Some(old) = change.old_value() else { return Ok(()) };
    let registration: ResourceRegistration = lookup::decode(old)?;
    let resource_type = registration.spec.resource_type.as_str();
    let Some(container) = index.granted_in(resource_type) else { return Ok(()) };
    let message = format!(
        "cannot delete resourceregistration {:?} while resourcegrants name {resource_type:?}, as \
         one in {container:?} does",
        key.name(),
    );
    Err(ApiError::about(Reason::Conflict, key, message))
}

/// The kinds are known, stored, and have what is to be added up.
fn expect_countable(key: &Key, registration: &ResourceRegistration) -> Result<(), ApiError> {
    for (place, claiming) in registration.spec.claiming_resources.iter().enumerate() {
        let field = format!("spec.claimingResources[{place}]");
        let refuse = |part: &str, message: &str| {
            Err(invalid::<ResourceRegistrationSpec>(key, &format!("{field}.{part}"), message))
        };
        if registration.spec.r#type == RegistrationType::Rate {
            match meters::requests_of(claiming).next() {
                Some(_) => continue,
                None => return refuse("kind", "there is no such kind in that group"),
            }
        }
        let Some(kind) = meters::kind_of(&claiming.api_group, &claiming.kind) else {
            return refuse("kind", "there is no such kind in that group");
        };
        if kind.reported || kind.group == isocast_api::quota::GROUP {
            return refuse("kind", "what the platform itself makes is not counted");
        }
        let Some(amount) = &claiming.amount_field else { continue };
        let schema = amount.as_str().split('.').try_fold((kind.schema)(), |schema, part| {
            schema.get("properties").and_then(|properties| properties.get(part))
        });
        let of_type = schema.and_then(|schema| schema.get("type")).and_then(Value::as_str);
        if registration.spec.r#type == RegistrationType::Feature {
            if schema.is_none() {
                return refuse("amountField", "must be a field of the kind");
            }
            continue;
        }
        if !of_type.is_some_and(|it| ["integer", "array"].contains(&it)) {
            return refuse("amountField", "must be a field of the kind that is a number or a list");
        }
    }
    Ok(())
}

fn invalid<S: Spec>(key: &Key, field: &str, message: &str) -> ApiError {
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: message.to_owned(),
        field: field.to_owned(),
    };
    let (kind, name) = (S::KIND.kind, key.name());
    let message = format!("{kind} {name:?} is invalid: {field}: {message}");
    ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause])
}
