//! `POST bgppolicies/NAME/preview`: what a policy would do, before it does.

use isocast_api::{
    network::{BgpPeerSpec, BgpPolicy, BgpPolicySpec},
    object::Spec,
    registry::{self, KindDescriptor},
};
use serde::Serialize;
use serde_json::Value;

use super::{super::lookup, Exports, withdrawals, world};
use crate::{
    error::{ApiError, Cause, Reason},
    store::{Key, View},
};

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// Prefixes that the platform announces.
    prefixes: usize,
    /// Prefixes that some router would no longer be told of.
    withdrawn: usize,
    /// How many may be withdrawn without an annotation that says so.
    withdrawals_allowed: usize,
    /// What routers would be told otherwise that name the policy for export.
    peers: Vec<PeerAnswer>,
    /// Routers that name the policy for import. What they send is not known here.
    imported_from: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PeerAnswer {
    name: String,
    gained: Vec<String>,
    lost: Vec<String>,
    changed: Vec<String>,
}

/// Compares the policy at `key` with `candidate`, a whole BGPPolicy. Changes nothing.
///
/// # Errors
/// The candidate is not valid, or is not the policy at `key`.
pub(crate) fn preview(view: &View, key: &Key, candidate: &Value) -> Result<Value, ApiError> {
    let candidate = valid(key, candidate)?;
    let mut world = world(view);
    let exports = Exports::of(&world);
    let by_peer = exports.preview(&world, &candidate);
    let before = exports.told(&world);
    world.policies.insert_mut(candidate.name().to_owned(), candidate);
    let lost = withdrawals::lost(&before, &exports.told(&world));
    let texts = |prefixes: Vec<ipnet::IpNet>| prefixes.iter().map(ToString::to_string).collect();
    let peers = by_peer.into_iter().map(|(name, it)| PeerAnswer {
        name,
        gained: texts(it.gained),
        lost: texts(it.lost),
        changed: texts(it.changed),
    });
    let range = lookup::all::<BgpPeerSpec>();
    let importers = view
        .range(&range)
        .filter(|peer| lookup::text(&peer.value(), "/spec/importPolicy") == Some(key.name()));
    let answer = Answer {
        prefixes: exports.len(),
        withdrawn: lost.len(),
        withdrawals_allowed: withdrawals::free(&before),
        peers: peers.collect(),
        imported_from: importers.map(|peer| peer.key.name().to_owned()).collect(),
    };
    serde_json::to_value(answer).map_err(|error| ApiError::internal(error.to_string()))
}

fn valid(key: &Key, candidate: &Value) -> Result<BgpPolicy, ApiError> {
    let mut candidate = candidate.clone();
    if lookup::text(&candidate, "/metadata/name") != Some(key.name()) {
        return Err(ApiError::bad_request("the body is not the policy that the path names"));
    }
    let is_it = |kind: &&KindDescriptor| kind.plural == BgpPolicySpec::KIND.plural;
    if let Some(kind) = registry::kinds().iter().find(is_it) {
        (kind.default)(&mut candidate);
        let errors = (kind.validate)(&candidate, None);
        if !errors.is_empty() {
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let causes = errors.into_iter().map(|error| Cause {
                reason: error.reason.as_str().to_owned(),
                message: error.message,
                field: error.field,
            });
            let refusal = ApiError::about(Reason::Invalid, key, texts.join(", "));
            return Err(refusal.with_causes(causes.collect()));
        }
    }
    lookup::decode(&candidate)
}
