//! Tenants' numbers: unique, given once, kept.

use std::collections::BTreeSet;

use isocast_api::{object::Object, resourcemanager::OrganizationSpec};
use serde_json::Value;

use super::super::lookup;
use crate::{
    admission::ProposedChange,
    error::{ApiError, Reason},
    store::View,
};

/// Tenants' numbers have 24 bits; 0 is nobody's.
const TENANT_ID_MAX: u32 = (1 << 24) - 1;

/// Gives a new organization its number, and keeps the one it has.
pub(super) fn number_tenant(view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    let old = change.old_value().and_then(|old| old.pointer("/status/tenantID")).cloned();
    let Some(new) = &mut change.new else { return Ok(()) };
    let mut object: Object<OrganizationSpec> = lookup::decode(new)?;
    let number = match old.as_ref().and_then(Value::as_u64) {
        Some(number) => u32::try_from(number).ok(),
        None => Some(free_tenant_id(view, &object.metadata.uid)?),
    };
    if object.status.tenant_id == number {
        return Ok(());
    }
    object.status.tenant_id = number;
    lookup::set_status::<OrganizationSpec>(new, &object.status)
}

/// A number that no organization has: a hash of the uid, so that numbers of deleted organizations
/// do not come back soon, and the next free one if it is taken.
fn free_tenant_id(view: &View, uid: &str) -> Result<u32, ApiError> {
    let organizations = lookup::all::<OrganizationSpec>();
    let taken: BTreeSet<u64> = view
        .range(&organizations)
        .filter_map(|object| object.glance().pointer("/status/tenantID")?.as_u64())
        .collect();
    let [a, b, c, ..] = *blake3::hash(uid.as_bytes()).as_bytes();
    let first = u32::from_be_bytes([0, a, b, c]).max(1);
    let candidates = (first..=TENANT_ID_MAX).chain(1..first);
    candidates
        .take(taken.len() + 1)
        .find(|number| !taken.contains(&u64::from(*number)))
        .ok_or_else(|| ApiError::new(Reason::ServiceUnavailable, "there are no tenant ids left"))
}
