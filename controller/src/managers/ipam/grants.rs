//! Whom a pool is granted to: organizations by name in its spec, by uid in its status.
//!
//! A grant is for the organization that has the name when it is granted; one that comes later under
//! the same name was granted nothing, until the grant is taken out and made again. A grant may be
//! ahead of its organization: then it is for the first one at the top of the tree, which the platform
//! alone makes. Parts of organizations are made by tenants, who may call them as they like.

use isocast_api::{
    meta::{ConditionStatus, Finding, set_condition},
    network::{AddressPool, AddressPoolSpec, GrantHolder},
    resourcemanager::OrganizationSpec,
};
use jiff::Timestamp;
use serde_json::Value;

use super::super::lookup;
use crate::{
    admission::ProposedChange,
    error::ApiError,
    store::{Glance, View},
};

/// Organizations named in a condition.
const SHOWN_MAX: usize = 5;

/// Says whom each grant of `pool`, which was `old`, is for; `find` knows organizations by name.
pub(super) fn settle<'a>(
    pool: &mut AddressPool,
    old: Option<&AddressPool>,
    find: impl Fn(&str) -> Option<Glance<'a>>,
    now: Timestamp,
) {
    let mut holders = Vec::new();
    let mut missing = Vec::new();
    for grant in &pool.spec.grants {
        let name = grant.organization.as_str();
        let organization = find(name);
        let organization = organization.as_deref();
        let before = old.filter(|old| old.spec.grant_to(name).is_some());
        let holder = match before.and_then(|old| old.status.holder(name)) {
            Some(holder) => Some(holder.clone()),
            None => organization.filter(|it| before.is_none() || is_topmost(it)).map(|it| {
                GrantHolder { organization: grant.organization.clone(), uid: uid(it).to_owned() }
            }),
        };
        match (&holder, organization) {
            (_, None) => missing.push(format!("{name} (there is none)")),
            (Some(holder), Some(organization)) if holder.uid == uid(organization) => {}
            (_, Some(_)) => missing.push(format!("{name} (it is another one)")),
        }
        holders.extend(holder);
    }
    pool.status.grants = holders;
    let finding = if missing.is_empty() {
        Finding::new("Granted", ConditionStatus::True, "Granted", "")
    } else {
        let more = missing.len().saturating_sub(SHOWN_MAX);
        missing.truncate(SHOWN_MAX);
        if more > 0 {
            missing.push(format!("{more} more"));
        }
        let message = format!(
            "grants that no organization has: {}; to grant another one of the same name, take the \
             grant out and add it again",
            missing.join(", ")
        );
        Finding::new("Granted", ConditionStatus::False, "OrganizationNotFound", message)
    };
    set_condition(&mut pool.status.conditions, finding, pool.metadata.generation, now);
}

/// An organization comes or goes: pools that grant to its name say what that means.
pub(super) fn follow(view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    if change.old.is_some() && change.new.is_some() {
        return Ok(());
    }
    let mut pools = Vec::new();
    for stored in view.range(&lookup::all::<AddressPoolSpec>()) {
        // Most are for others, and are not decoded.
        let value = stored.glance();
        if !is_granted(&value, change.key.name()) {
            continue;
        }
        let old: AddressPool = lookup::decode(&value)?;
        let mut pool = old.clone();
        let find = |name: &str| change.pending(view, &lookup::key::<OrganizationSpec>(name));
        settle(&mut pool, Some(&old), find, change.now);
        if pool.status != old.status {
            let mut value = Value::clone(&value);
            lookup::set_status::<AddressPoolSpec>(&mut value, &pool.status)?;
            pools.push((stored.key.clone(), value));
        }
    }
    for (key, value) in pools {
        change.also(key, Some(value));
    }
    Ok(())
}

/// Whether `pool` is granted to the organization called `name` now.
pub(in crate::managers) fn holds(view: &View, pool: &AddressPool, name: &str) -> bool {
    let organization = view.get(&lookup::key::<OrganizationSpec>(name));
    organization.is_some_and(|it| pool.grant_of(name, uid(&it.value())).is_some())
}

fn is_granted(pool: &Value, name: &str) -> bool {
    let grants = pool.pointer("/spec/grants").and_then(Value::as_array);
    grants.into_iter().flatten().any(|it| lookup::text(it, "/organization") == Some(name))
}

fn is_topmost(organization: &Value) -> bool {
    lookup::text(organization, "/spec/parent").is_none()
}

fn uid(object: &Value) -> &str {
    lookup::text(object, "/metadata/uid").unwrap_or_default()
}
