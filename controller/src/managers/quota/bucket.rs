//! AllowanceBuckets, as the index makes them.

use isocast_api::{
    meta::ObjectMeta,
    object::Spec,
    quota::{AllowanceBucketSpec, AllowanceBucketStatus, ConsumerKind, ContributingGrant},
    registry::VERSION,
    resourcemanager,
};
use serde_json::{Value, json};

use super::{
    index::{Limit, amount},
    ledger::Account,
    meters::Type,
    tree::Container,
};
use crate::{managers::lookup, store::Key};

/// Grants that a bucket names.
const GRANTS_SHOWN: usize = 64;

/// Where the bucket of a container and a registration is.
pub(super) fn key(container: &str, registration: &str) -> Key {
    Key::new(lookup::resource::<AllowanceBucketSpec>(), Some(container), registration)
}

/// A bucket.
pub(super) fn of(
    name: &str,
    container: Option<&Container>,
    one: &Type,
    limit: &Limit<'_>,
    account: &Account,
) -> Value {
    let grants: Vec<ContributingGrant> = limit
        .contributing()
        .map(|grant| ContributingGrant { name: grant.name.to_string(), amount: grant.amount })
        .collect();
    let allocated = amount(account.allocated);
    let overage = allocated.saturating_sub(limit.amount);
    let (limit, available) = match (one.is_feature(), limit.amount.min(1)) {
        (true, is_on) => (is_on, is_on),
        (false, _) => (limit.amount, limit.amount.saturating_sub(allocated)),
    };
    let status = AllowanceBucketStatus {
        limit,
        allocated,
        available,
        overage,
        claim_count: u64::try_from(account.claims).unwrap_or_default(),
        grant_count: grants.len() as u64,
        contributing_grant_refs: grants.into_iter().take(GRANTS_SHOWN).collect(),
    };
    let metadata = ObjectMeta {
        name: one.registration.to_string(),
        namespace: Some(name.to_owned()),
        uid: uid(&one.uid, container.map_or(name, |container| &*container.uid)),
        generation: 1,
        creation_timestamp: one.created,
        ..ObjectMeta::default()
    };
    json!({
        "apiVersion": format!("{}/{VERSION}", isocast_api::quota::GROUP),
        "kind": AllowanceBucketSpec::KIND.kind,
        "metadata": metadata,
        "spec": {
            "consumerRef": consumer(name, container.map(|container| container.kind)),
            "resourceType": &*one.resource_type},
        "status": status,
    })
}

/// How a container is referred to; of no kind is the platform.
pub(super) fn consumer(name: &str, kind: Option<ConsumerKind>) -> Value {
    match kind {
        Some(kind) => json!({
            "apiGroup": resourcemanager::GROUP, "kind": kind.as_str(), "name": name,
        }),
        None => json!({"apiGroup": "", "kind": "Namespace", "name": name}),
    }
}

/// A uid that stays as long as both that it is made of do (RFC 9562 §5.8).
pub(super) fn uid(first: &str, second: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(first.as_bytes()).update(b"/").update(second.as_bytes());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
