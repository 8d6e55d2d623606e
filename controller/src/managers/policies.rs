//! [`Policies`]: changes of routing policy that cannot take the platform off the Internet by
//! mistake.
//!
//! Three rules, each in the transaction that makes the change:
//! - A policy that a router's object names is there: none is named that is not, and none that is
//!   named is deleted ([`super::Protection`]).
//! - A change that withdraws more than a few prefixes says how many it means to
//!   ([`withdrawals`]).
//! - A change on trial remembers what to put back ([`trial`]); [`Trials`] does when nobody confirms.

mod preview;
mod trial;
mod trials;
mod withdrawals;

use std::collections::BTreeMap;

use isocast_api::network::{BgpPeer, BgpPeerSpec, BgpPolicy, BgpPolicySpec};

pub(crate) use self::preview::preview;
pub use self::trials::Trials;
use super::lookup;
use crate::{
    admission::{Admission, ProposedChange},
    error::ApiError,
    fleet::compile::{Exports, World},
    store::{Key, View},
};

/// Judges changes of policies, and of which router has which.
#[derive(Clone, Copy, Debug)]
pub struct Policies;

impl Admission for Policies {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        // What is put back was in force before, and reports of status change nothing.
        if change.actor == trials::IDENTITY || change.subresource.is_some() {
            return Ok(());
        }
        if change.key.resource().is_of::<BgpPolicySpec>() {
            return admit_policy(view, change);
        }
        if change.key.resource().is_of::<BgpPeerSpec>() {
            return admit_peer(view, change);
        }
        Ok(())
    }
}

fn admit_policy(view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
    let Some(value) = &change.new else { return Ok(()) };
    let mut new: BgpPolicy = lookup::decode(value)?;
    let old: Option<BgpPolicy> =
        change.old_value().map(|value| lookup::decode(value)).transpose()?;
    let old = old.as_ref();
    if old.is_some_and(|old| old.spec.terms != new.spec.terms) {
        let edit = |world: &mut World| {
            world.policies.insert_mut(new.name().to_owned(), new.clone());
        };
        expect_few_withdrawals(view, &change.key, &new.metadata.annotations, edit)?;
    }
    trial::advance(old, &mut new, change.now)
        .map_err(|refusal| ApiError::conflict(&change.key, &refusal.to_string()))?;
    let Some(value) = &mut change.new else { return Ok(()) };
    trial::forget_annotation(value);
    lookup::set_status::<BgpPolicySpec>(value, &new.status)
}

fn admit_peer(view: &View, change: &ProposedChange) -> Result<(), ApiError> {
    let Some(value) = &change.new else { return Ok(()) };
    let new: BgpPeer = lookup::decode(value)?;
    let old: Option<BgpPeer> = change.old_value().map(|value| lookup::decode(value)).transpose()?;
    let named =
        [("importPolicy", &new.spec.import_policy), ("exportPolicy", &new.spec.export_policy)];
    for (field, name) in named {
        let Some(name) = name else { continue };
        if view.get(&lookup::key::<BgpPolicySpec>(name.as_str())).is_none() {
            let message = format!("spec.{field}: there is no bgppolicy {:?}", name.as_str());
            return Err(ApiError::conflict(&change.key, &message));
        }
    }
    let judged_by = |peer: &BgpPeer| (peer.spec.connection, peer.spec.export_policy.clone());
    if old.is_some_and(|old| judged_by(&old) != judged_by(&new)) {
        let edit = |world: &mut World| {
            world.peers.insert_mut(new.name().to_owned(), new.clone());
        };
        expect_few_withdrawals(view, &change.key, &new.metadata.annotations, edit)?;
    }
    Ok(())
}

fn world(view: &View) -> World {
    let mut world = World::default();
    for object in view.iter() {
        // What does not decode announces nothing, and so loses nothing.
        let _undecodable = world.insert(&object.glance());
    }
    world
}

fn expect_few_withdrawals(
    view: &View,
    key: &Key,
    annotations: &BTreeMap<String, String>,
    edit: impl FnOnce(&mut World),
) -> Result<(), ApiError> {
    let mut world = world(view);
    let exports = Exports::of(&world);
    let before = exports.told(&world);
    edit(&mut world);
    let lost = withdrawals::lost(&before, &exports.told(&world));
    withdrawals::judge(&before, &lost, annotations)
        .map_err(|refusal| ApiError::conflict(key, &refusal.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::managers::testing::{State, granted, organization, project};

    fn network(kind: &str, name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec,
        })
    }

    fn policy(prefixes: &[&str]) -> Value {
        let ranges: Vec<_> =
            prefixes.iter().map(|prefix| json!({"prefix": prefix, "le": 32})).collect();
        let terms = json!([{
            "name": "these", "match": {"prefixes": ranges}, "set": {}, "then": "Accept",
        }]);
        network("BGPPolicy", "to-transit", &json!({"terms": terms}))
    }

    fn peer(export_policy: Option<&str>) -> Value {
        let mut spec = json!({
            "connection": "Transit", "nodes": ["edge"], "address": "10.0.0.254",
            "peerASN": 65001, "families": ["IPv4"], "holdTime": "9s",
        });
        if let Some(name) = export_policy {
            spec["exportPolicy"] = json!(name);
        }
        network("BGPPeer", "transit", &spec)
    }

    /// A site that announces `services` addresses, 192.0.2.0 and up.
    fn state(services: u8) -> State {
        let mut acme = organization("acme");
        acme["status"] = json!({"tenantID": 1});
        let vips = json!({
            "prefixes": ["192.0.2.0/24"], "grants": [{"organization": "acme"}], "reuseAfter": "1d",
        });
        let mut vips = network("AddressPool", "vips", &vips);
        vips["status"] = granted(&["acme"]);
        let edge = json!({
            "datacenter": "ams", "roles": ["Edge"], "tunnelAddresses": ["10.0.0.1"],
            "uplinks": [{"interface": "eth1"}], "asn": 65010,
        });
        let mut state = State::default()
            .with(acme)
            .with(project("web", "acme"))
            .with(network("Datacenter", "ams", &json!({"state": "Active"})))
            .with(network("Node", "edge", &edge))
            .with(vips)
            .with(policy(&["192.0.2.0/24"]))
            .with(peer(Some("to-transit")));
        for n in 0..services {
            let name = format!("s{n}");
            let mut claim = network("AddressClaim", &name, &json!({"pool": "vips"}));
            claim["metadata"]["namespace"] = json!("web");
            claim["status"] = json!({"address": format!("192.0.2.{n}")});
            let mut service = network(
                "AnycastService",
                &name,
                &json!({
                    "addresses": [{"claim": name}], "backendPool": "www",
                    "ports": [{"protocol": "TCP", "port": 443}],
                }),
            );
            service["metadata"]["namespace"] = json!("web");
            state = state.with(claim).with(service);
        }
        state
    }

    fn annotated(mut value: Value, annotation: &str, text: &str) -> Value {
        value["metadata"]["annotations"] = json!({ annotation: text });
        value
    }

    #[test]
    fn a_policy_that_drops_everything_is_refused_unless_it_is_meant() {
        let state = state(12);
        let nothing = policy(&["198.51.100.0/24"]);

        let refusal = state.update(nothing.clone()).unwrap_err();
        assert_eq!(refusal.code(), 409);
        assert!(refusal.message().contains("withdraw 12 of 12 prefixes"), "{refusal}");
        assert!(refusal.message().contains("192.0.2.0/32 from transit,"), "{refusal}");

        let allow = |count| annotated(nothing.clone(), "isocast.dev/allow-withdrawals", count);
        assert!(state.update(allow("11")).is_err());
        assert!(state.update(allow("12")).is_ok());
    }

    #[test]
    fn a_few_prefixes_may_go_without_a_word() {
        let state = state(12);

        assert!(state.update(policy(&["192.0.2.0/29"])).is_ok());
        assert!(state.update(policy(&["192.0.2.0/30"])).is_err());
    }

    #[test]
    fn another_policy_of_a_router_is_judged_alike() {
        let state = state(12).with(network("BGPPolicy", "none", &json!({"terms": []})));

        assert!(state.update(peer(Some("none"))).is_err());
        assert!(state.update(peer(None)).is_ok());
    }

    #[test]
    fn a_policy_that_is_named_is_there() {
        let state = state(0);
        let key = lookup::key::<BgpPolicySpec>("to-transit");

        let refusal = state.delete(&key).unwrap_err();
        assert_eq!(refusal.code(), 409);
        assert!(refusal.message().contains("in use by bgppeers \"transit\""), "{refusal}");
        let refusal = state.update(peer(Some("to-nobody"))).unwrap_err();
        assert!(
            refusal.message().contains("spec.exportPolicy: there is no bgppolicy \"to-nobody\""),
            "{refusal}"
        );
        assert!(state.with(peer(None)).delete(&key).is_ok());
    }
}
