//! [`Ipam`]: address pools and the claims on them.
//!
//! A claim gets its address in the transaction that creates it, and keeps it until it is gone.
//! Invariants: no two claims hold one address; pools do not overlap; an address that was released
//! rests for its pool's `reuseAfter`; a pool does not shrink under its claims. That neither goes while
//! it is in use is [`super::Protection`]'s.

mod grants;
mod space;

use isocast_api::{
    meta::{ConditionStatus, Finding, set_condition},
    network::{
        AddressClaim, AddressClaimSpec, AddressPool, AddressPoolSpec, Family, RELEASED_MAX,
        ReleasedAddress,
    },
    resourcemanager::OrganizationSpec,
    text::HostAddress,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub(super) use self::grants::holds as is_granted;
use self::space::{Holder, Space, Taken};
use super::lookup::{self, Step, organization_of};
use crate::{
    admission::{Admission, ProposedChange},
    error::{ApiError, Cause, Reason},
    store::{Glance, Key, View},
};

/// Gives out addresses.
#[derive(Clone, Copy, Debug)]
pub struct Ipam;

/// Named in a refusal to shrink a pool.
const CLAIMS_SHOWN: usize = 5;

impl Admission for Ipam {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        if change.key.resource().is_of::<AddressPoolSpec>() {
            return admit_pool(view, change);
        }
        if change.key.resource().is_of::<OrganizationSpec>() {
            return grants::follow(view, change);
        }
        if !change.key.resource().is_of::<AddressClaimSpec>() {
            return Ok(());
        }
        let step = Step::of(change);
        if step.removes() {
            return release(view, change);
        }
        match step {
            Step::Create => allocate(view, change),
            _ => keep_address(change),
        }
    }
}

// === pools ===

fn admit_pool(view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    let key = change.key.clone();
    if Step::of(change).asks_for_deletion() {
        return Ok(());
    }
    let Some(new) = &change.new else { return Ok(()) };
    let mut pool: AddressPool = lookup::decode(new)?;
    expect_no_overlap(view, &key, &pool)?;
    let inside = |address: HostAddress| {
        pool.spec.prefixes.iter().any(|prefix| prefix.contains(address.get()))
    };
    expect_no_claims(view, &key, |address| !inside(address))?;
    // What is held, what rests, and who has grants is known here alone, whatever a writer of the
    // status says.
    let old: Option<AddressPool> = change.old_value().map(|old| lookup::decode(old)).transpose()?;
    if let Some(old) = &old {
        pool.status.allocated = old.status.allocated;
        pool.status.released.clone_from(&old.status.released);
    } else {
        pool.status = <_>::default();
    }
    let find = |name: &str| {
        let organization = view.get(&lookup::key::<OrganizationSpec>(name));
        organization.map(|organization| Glance::Shared(organization.value()))
    };
    grants::settle(&mut pool, old.as_ref(), find, change.now);
    write_pool(view, change, key, pool)
}

fn expect_no_overlap(view: &View, key: &Key, pool: &AddressPool) -> Result<(), ApiError> {
    for other in view.range(&lookup::all::<AddressPoolSpec>()).filter(|other| other.key != *key) {
        let other: AddressPool = lookup::decode(&other.value())?;
        for (index, prefix) in pool.spec.prefixes.iter().enumerate() {
            let Some(theirs) = other.spec.prefixes.iter().find(|theirs| theirs.overlaps(*prefix))
            else {
                continue;
            };
            let field = format!("spec.prefixes[{index}]");
            let message = format!("{prefix} overlaps {theirs} of pool {:?}", other.name());
            let cause = cause("FieldValueInvalid", &field, &message);
            let message = format!("addresspool {:?}: {field}: {message}", key.name());
            return Err(ApiError::about(Reason::Conflict, key, message).with_causes(vec![cause]));
        }
    }
    Ok(())
}

/// Refuses to shrink a pool while claims hold addresses that `concerns` names.
fn expect_no_claims(
    view: &View,
    pool: &Key,
    concerns: impl Fn(HostAddress) -> bool,
) -> Result<(), ApiError> {
    let space = Space::of(view, pool.name());
    let holders: Vec<_> = space
        .held()
        .filter(|(address, _)| HostAddress::try_from(*address).is_ok_and(&concerns))
        .map(|(address, holder)| format!("{address} by {holder}"))
        .collect();
    if holders.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<_> = holders.iter().take(CLAIMS_SHOWN).cloned().collect();
    if holders.len() > CLAIMS_SHOWN {
        shown.push(format!("{} more", holders.len() - CLAIMS_SHOWN));
    }
    let message = format!(
        "cannot shrink addresspool {:?} while claims hold its addresses: {}",
        pool.name(),
        shown.join(", "),
    );
    Err(ApiError::about(Reason::Conflict, pool, message))
}

/// Writes a pool's status with what follows from it.
fn write_pool(
    view: &View,
    change: &mut ProposedChange,
    key: Key,
    mut pool: AddressPool,
) -> Result<(), ApiError> {
    let now = change.now;
    pool.status.released.retain(|released| released.reusable_at.timestamp() > now);
    let ready = Finding::new("Ready", ConditionStatus::True, "Available", "");
    set_condition(&mut pool.status.conditions, ready, pool.metadata.generation, now);
    if change.key == key {
        return match &mut change.new {
            Some(new) => lookup::set_status::<AddressPoolSpec>(new, &pool.status),
            None => Ok(()),
        };
    }
    let Some(stored) = view.get(&key) else { return Ok(()) };
    let mut value = Value::clone(&stored.value());
    lookup::set_status::<AddressPoolSpec>(&mut value, &pool.status)?;
    change.also(key, Some(value));
    Ok(())
}

// === claims ===

fn allocate(view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    let key = change.key.clone();
    let Some(new) = &mut change.new else { return Ok(()) };
    let mut claim: AddressClaim = lookup::decode(new)?;
    let (pool_key, mut pool) = granted_pool(view, &key, &claim)?;
    let space = Space::of(view, pool.name()).resting(&pool.status.released, change.now);
    let request = Request { view, key: &key, pool: &pool, space: &space };
    let address = match (claim.spec.address, claim.spec.family) {
        (Some(address), _) => request.exactly(address)?,
        (None, Some(family)) => request.lowest(family)?,
        (None, None) => return Err(ApiError::internal("a claim for nothing passed validation")),
    };
    let message = format!("{address} of pool {:?}", pool.name());
    let allocated = Finding::new("Allocated", ConditionStatus::True, "Allocated", message);
    claim.status = <_>::default();
    claim.status.address = Some(address);
    let generation = claim.metadata.generation;
    set_condition(&mut claim.status.conditions, allocated, generation, change.now);
    lookup::set_status::<AddressClaimSpec>(new, &claim.status)?;
    pool.status.allocated += 1;
    write_pool(view, change, pool_key, pool)
}

/// An address stays the claim's, whatever a writer of the status says.
fn keep_address(change: &mut ProposedChange) -> Result<(), ApiError> {
    let Some(old) = change.old_value() else { return Ok(()) };
    let old: AddressClaim = lookup::decode(old)?;
    let Some(new) = &mut change.new else { return Ok(()) };
    let mut claim: AddressClaim = lookup::decode(new)?;
    if claim.status.address == old.status.address {
        return Ok(());
    }
    claim.status.address = old.status.address;
    lookup::set_status::<AddressClaimSpec>(new, &claim.status)
}

fn release(view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    let Some(old) = change.old_value() else { return Ok(()) };
    let claim: AddressClaim = lookup::decode(old)?;
    let pool_key = lookup::key::<AddressPoolSpec>(claim.spec.pool.as_str());
    let (Some(address), Some(mut pool)) =
        (claim.status.address, lookup::find::<AddressPoolSpec>(view, &pool_key)?)
    else {
        return Ok(());
    };
    let now = change.now;
    let released = &mut pool.status.released;
    released.retain(|released| released.reusable_at.timestamp() > now);
    if let Some(first) = released.iter().map(|released| released.reusable_at).min()
        && released.len() >= RELEASED_MAX
    {
        let wait_s = now.duration_until(first.timestamp()).as_secs().max(1);
        let message = format!(
            "addresspool {:?} has {RELEASED_MAX} released addresses at rest already; the next \
             one ends its rest at {first}",
            pool.name(),
        );
        let refusal = ApiError::about(Reason::TooManyRequests, &change.key, message);
        return Err(refusal.with_retry_after(u32::try_from(wait_s).unwrap_or(u32::MAX)));
    }
    let reuse_after = SignedDuration::from_millis(
        i64::try_from(pool.spec.reuse_after.as_millis()).unwrap_or(i64::MAX),
    );
    let reusable_at = now.checked_add(reuse_after).unwrap_or(Timestamp::MAX);
    released.push(ReleasedAddress { address: address.get(), reusable_at: reusable_at.into() });
    pool.status.allocated = pool.status.allocated.saturating_sub(1);
    write_pool(view, change, pool_key, pool)
}

/// The pool of `claim`, if it may be claimed from.
fn granted_pool(
    view: &View,
    key: &Key,
    claim: &AddressClaim,
) -> Result<(Key, AddressPool), ApiError> {
    let name = claim.spec.pool.as_str();
    let pool_key = lookup::key::<AddressPoolSpec>(name);
    let Some(pool) = lookup::find::<AddressPoolSpec>(view, &pool_key)? else {
        let message = format!("there is no addresspool {name:?}");
        let cause = cause("FieldValueNotFound", "spec.pool", &message);
        let message = format!("AddressClaim {:?} is invalid: spec.pool: {message}", key.name());
        return Err(ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause]));
    };
    match organization_of(view, claim.namespace()) {
        Some(organization) if grants::holds(view, &pool, &organization) => Ok((pool_key, pool)),
        Some(organization) => Err(ApiError::forbidden(
            key,
            &format!("addresspool {name:?} is not granted to organization {organization:?}"),
        )),
        None => {
            let message = format!("namespace {:?} belongs to no organization", claim.namespace());
            Err(ApiError::forbidden(key, &message))
        }
    }
}

/// A claim's request for an address of a pool.
struct Request<'a> {
    view: &'a View,
    key: &'a Key,
    pool: &'a AddressPool,
    space: &'a Space,
}

impl Request<'_> {
    fn exactly(&self, address: HostAddress) -> Result<HostAddress, ApiError> {
        let name = self.pool.name();
        if !self.pool.spec.prefixes.iter().any(|prefix| prefix.contains(address.get())) {
            let message = format!(
                "{address} is outside addresspool {name:?}, which has {}",
                self.prefixes(|_| true),
            );
            return Err(ApiError::forbidden(self.key, &message));
        }
        let why = match self.space.taken(address.get()) {
            None => return Ok(address),
            Some(Taken::Held(holder)) if self.may_see(holder) => format!("held by {holder}"),
            Some(Taken::Held(_)) => "held by another organization".to_owned(),
            Some(Taken::Resting(until)) => format!("released and at rest until {until}"),
        };
        let family = Family::of(address.get());
        let free = match self.space.lowest_free(&self.pool.spec.prefixes, family) {
            Some(free) => format!("the lowest free {family} address is {free}"),
            None => format!("no {family} address is free"),
        };
        let message = format!("{address} of addresspool {name:?} is {why}; {free}");
        Err(self.conflict("spec.address", message))
    }

    fn lowest(&self, family: Family) -> Result<HostAddress, ApiError> {
        let name = self.pool.name();
        let free = self.space.lowest_free(&self.pool.spec.prefixes, family);
        if let Some(free) = free.and_then(|address| HostAddress::try_from(address).ok()) {
            return Ok(free);
        }
        let mine = self.prefixes(|prefix| prefix == family);
        let message = if mine.is_empty() {
            format!("addresspool {name:?} has no {family} addresses")
        } else {
            format!("no {family} address of addresspool {name:?} ({mine}) is free")
        };
        let others = self.others_with(family)?;
        let message = if others.is_empty() {
            message
        } else {
            format!("{message}; free ones are in {}", others.join(", "))
        };
        Err(self.conflict("spec.pool", message))
    }

    /// Other pools granted to the claim's organization that have a free address.
    fn others_with(&self, family: Family) -> Result<Vec<String>, ApiError> {
        let namespace = self.key.container().unwrap_or_default();
        let Some(organization) = organization_of(self.view, namespace) else {
            return Ok(Vec::new());
        };
        let mut others = Vec::new();
        for other in self.view.range(&lookup::all::<AddressPoolSpec>()) {
            let other: AddressPool = lookup::decode(&other.value())?;
            // Released ones count as taken: what is offered must be there.
            let space =
                Space::of(self.view, other.name()).resting(&other.status.released, Timestamp::MIN);
            if other.name() != self.pool.name()
                && grants::holds(self.view, &other, &organization)
                && space.lowest_free(&other.spec.prefixes, family).is_some()
            {
                others.push(format!("{:?}", other.name()));
            }
        }
        Ok(others)
    }

    /// Whether the holder ("namespace/name") belongs to the claim's own organization.
    fn may_see(&self, holder: &Holder) -> bool {
        let mine = organization_of(self.view, self.key.container().unwrap_or_default());
        mine.is_some() && organization_of(self.view, &holder.namespace) == mine
    }

    fn prefixes(&self, wanted: impl Fn(Family) -> bool) -> String {
        let prefixes = self.pool.spec.prefixes.iter();
        let texts = prefixes
            .filter(|prefix| wanted(Family::of(prefix.get().addr())))
            .map(ToString::to_string);
        texts.collect::<Vec<_>>().join(", ")
    }

    fn conflict(&self, field: &str, message: String) -> ApiError {
        let cause = cause("FieldValueInvalid", field, &message);
        let message = format!("addressclaim {:?}: {message}", self.key.name());
        ApiError::about(Reason::Conflict, self.key, message).with_causes(vec![cause])
    }
}

fn cause(reason: &str, field: &str, message: &str) -> Cause {
    Cause { reason: reason.to_owned(), message: message.to_owned(), field: field.to_owned() }
}

#[cfg(test)]
mod tests;
