//! [`Drains`]: who may drain what, and never the last announcer by mistake.
//!
//! Three rules, each in the transaction that makes the drain:
//! - Nodes and datacenters concern every tenant: they are drained from [`SYSTEM_NAMESPACE`] alone.
//! - What is drained is there: a name that was mistyped drains nothing and is believed to have.
//! - A drain after which nobody announces a prefix says that it is meant.
//!
//! The last one goes by what nodes said last. Where they said nothing, the agents' own lock holds
//! the prefix, and the drain's status says so.

use isocast_api::{
    network::{
        AnycastServiceSpec, DatacenterSpec, Drain, DrainSpec, DrainTargetKind, NodeRole, NodeSpec,
    },
    object::Spec,
};

use super::{SYSTEM_NAMESPACE, lookup};
use crate::{
    admission::{Admission, ProposedChange},
    error::{ApiError, Cause, Reason},
    fleet::compile::{World, drains},
    store::{Key, View},
};

/// Judges drains before they begin.
#[derive(Clone, Copy, Debug)]
pub struct Drains;

/// A refusal names no more prefixes than this.
const NAMED_MAX: usize = 8;

impl Admission for Drains {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        if change.subresource.is_some() || !change.key.resource().is_of::<DrainSpec>() {
            return Ok(());
        }
        let Some(new) = &change.new else { return Ok(()) };
        let drain: Drain = lookup::decode(new)?;
        let old: Option<Drain> =
            change.old_value().map(|value| lookup::decode(value)).transpose()?;
        if old.is_some_and(|old| old.spec == drain.spec) {
            return Ok(());
        }
        expect_right(&change.key, &drain)?;
        let world = world(view);
        expect_target(&world, &change.key, &drain)?;
        expect_somebody_else(&world, &change.key, &drain)
    }
}

fn expect_right(key: &Key, drain: &Drain) -> Result<(), ApiError> {
    let target = &drain.spec.target;
    if drain.namespace() == SYSTEM_NAMESPACE {
        return Ok(());
    }
    if target.kind != DrainTargetKind::AnycastService {
        let kind = target.kind.as_str();
        let why = format!("a {kind} is drained from the namespace {SYSTEM_NAMESPACE}");
        return Err(ApiError::forbidden(key, &why));
    }
    if drains::namespace(drain) != drain.namespace() {
        let why = format!(
            "services of other namespaces are drained from the namespace {SYSTEM_NAMESPACE}"
        );
        return Err(ApiError::forbidden(key, &why));
    }
    Ok(())
}

fn expect_target(world: &World, key: &Key, drain: &Drain) -> Result<(), ApiError> {
    let target = &drain.spec.target;
    let (kind, name) = (target.kind.as_str(), target.name.as_str());
    let message = if !drains::has_target(world, drain) {
        match target.kind {
            DrainTargetKind::AnycastService => {
                format!("there is no {kind} {name:?} in namespace {}", drains::namespace(drain))
            }
            DrainTargetKind::Datacenter | DrainTargetKind::Node => {
                format!("there is no {kind} {name:?}")
            }
        }
    } else if target.kind == DrainTargetKind::Node
        && world.nodes.get(name).is_some_and(|node| !node.spec.has_role(NodeRole::Edge))
    {
        format!("Node {name:?} is no edge: it announces nothing")
    } else {
        return Ok(());
    };
    Err(refusal(Reason::Invalid, key, "spec.target.name", message))
}

fn expect_somebody_else(world: &World, key: &Key, drain: &Drain) -> Result<(), ApiError> {
    if drain.spec.confirm_last_announcer {
        return Ok(());
    }
    let lost = drains::last_announced(world, drain);
    if lost.is_empty() {
        return Ok(());
    }
    let named = lost.iter().take(NAMED_MAX);
    let mut named: Vec<_> =
        named.map(|(prefix, service)| format!("{prefix} ({service})")).collect();
    if lost.len() > NAMED_MAX {
        named.push(format!("{} more", lost.len() - NAMED_MAX));
    }
    let message = format!(
        "nobody would announce {} any more; set spec.confirmLastAnnouncer if that is meant",
        named.join(", "),
    );
    Err(refusal(Reason::Conflict, key, "spec.confirmLastAnnouncer", message))
}

fn refusal(reason: Reason, key: &Key, field: &str, message: String) -> ApiError {
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: message.clone(),
        field: field.to_owned(),
    };
    let message = format!("{} {:?}: {field}: {message}", DrainSpec::KIND.singular, key.name());
    ApiError::about(reason, key, message).with_causes(vec![cause])
}

/// What drains depend on.
fn world(view: &View) -> World {
    let mut world = World::default();
    let ranges = [
        lookup::all::<AnycastServiceSpec>(),
        lookup::all::<DatacenterSpec>(),
        lookup::all::<DrainSpec>(),
        lookup::all::<NodeSpec>(),
    ];
    for object in ranges.iter().flat_map(|range| view.range(range)) {
        // What does not decode announces nothing, and so loses nothing.
        let _undecodable = world.insert(&object.glance());
    }
    world
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::managers::testing::{State, organization, project};

    fn network(kind: &str, name: &str, namespace: &str, spec: &Value) -> Value {
        let metadata = if namespace.is_empty() {
            json!({"name": name, "uid": name, "generation": 1})
        } else {
            json!({"name": name, "namespace": namespace, "uid": name, "generation": 1})
        };
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": kind, "metadata": metadata,
            "spec": spec,
        })
    }

    fn edge(name: &str, datacenter: &str, address: &str) -> Value {
        let spec = json!({
            "datacenter": datacenter, "roles": ["Edge"], "tunnelAddresses": [address],
            "uplinks": [{"interface": "eth1"}], "asn": 65010,
        });
        network("Node", name, "", &spec)
    }

    /// Two datacenters, two edges in one and one in the other, a service at `announcers`.
    fn state(announcers: &[(&str, &[&str])]) -> State {
        let spec = json!({
            "addresses": [{"claim": "www"}], "backendPool": "www",
            "ports": [{"protocol": "TCP", "port": 443}],
        });
        let mut service = network("AnycastService", "www", "web", &spec);
        let datacenters: Vec<_> = announcers
            .iter()
            .map(|(name, nodes)| json!({"name": name, "announcedBy": nodes}))
            .collect();
        service["status"] = json!({"addresses": ["203.0.113.10"], "datacenters": datacenters});
        let backend = json!({
            "datacenter": "ams", "roles": ["Backend"], "tunnelAddresses": ["10.1.0.9"],
            "uplinks": [{"interface": "eth1"}],
        });
        State::default()
            .with(organization("acme"))
            .with(project("web", "acme"))
            .with(project("shop", "acme"))
            .with(network("Datacenter", "ams", "", &json!({})))
            .with(network("Datacenter", "fra", "", &json!({})))
            .with(edge("ams-1", "ams", "10.1.0.1"))
            .with(edge("ams-2", "ams", "10.1.0.2"))
            .with(edge("fra-1", "fra", "10.2.0.1"))
            .with(network("Node", "be-1", "", &backend))
            .with(service)
    }

    fn everywhere() -> State {
        state(&[("ams", &["ams-1", "ams-2"]), ("fra", &["fra-1"])])
    }

    fn drain(namespace: &str, kind: &str, name: &str) -> Value {
        let spec = json!({"target": {"kind": kind, "name": name}, "wait": "30s"});
        network("Drain", &format!("drain-{name}"), namespace, &spec)
    }

    fn of_system(kind: &str, name: &str) -> Value {
        drain(SYSTEM_NAMESPACE, kind, name)
    }

    fn confirmed(mut drain: Value) -> Value {
        drain["spec"]["confirmLastAnnouncer"] = json!(true);
        drain
    }

    #[test]
    fn what_concerns_every_tenant_is_drained_from_the_system_namespace_alone() {
        let state = everywhere();

        for (kind, name) in [("Node", "ams-1"), ("Datacenter", "ams")] {
            assert_eq!(state.create(drain("web", kind, name)).unwrap_err().code(), 403);
            assert!(state.create(of_system(kind, name)).is_ok());
        }
    }

    #[test]
    fn a_tenant_drains_services_of_its_own_namespace_alone() {
        let state = everywhere();
        let mut foreign = confirmed(drain("shop", "AnycastService", "www"));
        foreign["spec"]["target"]["namespace"] = json!("web");

        assert!(state.create(confirmed(drain("web", "AnycastService", "www"))).is_ok());
        assert_eq!(state.create(foreign.clone()).unwrap_err().code(), 403);
        foreign["metadata"]["namespace"] = json!(SYSTEM_NAMESPACE);
        assert!(state.create(foreign).is_ok());
    }

    #[test]
    fn what_is_drained_is_there_and_announces() {
        let state = everywhere();
        let cases = [
            ("Node", "ams-9", "there is no Node \"ams-9\""),
            ("Datacenter", "lon", "there is no Datacenter \"lon\""),
            ("AnycastService", "www", "there is no AnycastService \"www\" in namespace isocast"),
            ("Node", "be-1", "Node \"be-1\" is no edge: it announces nothing"),
        ];

        for (kind, name, words) in cases {
            let refusal = state.create(of_system(kind, name)).unwrap_err();
            assert_eq!(refusal.code(), 422, "{refusal}");
            assert!(refusal.message().contains(words), "{refusal}");
        }
    }

    #[test]
    fn the_last_announcer_is_not_drained_unless_that_is_meant() {
        let state = state(&[("ams", &["ams-1"]), ("fra", &[])]);

        for last in [of_system("Node", "ams-1"), of_system("Datacenter", "ams")] {
            let refusal = state.create(last.clone()).unwrap_err();
            assert_eq!(refusal.code(), 409);
            assert!(refusal.message().contains("203.0.113.10/32 (web/www)"), "{refusal}");
            assert!(state.create(confirmed(last)).is_ok());
        }
        assert!(state.create(of_system("Node", "fra-1")).is_ok(), "announces nothing anyway");
    }

    #[test]
    fn drains_together_do_not_take_what_none_of_them_takes_alone() {
        let mut state = everywhere();
        for drain in [of_system("Datacenter", "fra"), of_system("Node", "ams-1")] {
            let change = state.create(drain).unwrap();
            state = state.after(change);
        }

        assert_eq!(state.create(of_system("Node", "ams-2")).unwrap_err().code(), 409);
        let mut cancelled = of_system("Datacenter", "fra");
        cancelled["metadata"]["deletionTimestamp"] = json!("2026-11-22T02:00:00Z");
        assert!(state.with(cancelled).create(of_system("Node", "ams-2")).is_ok());
    }

    #[test]
    fn a_datacenter_that_drains_by_its_state_counts_as_drained() {
        let ams = network("Datacenter", "ams", "", &json!({"state": "Draining"}));

        let refusal = everywhere().with(ams).create(of_system("Node", "fra-1")).unwrap_err();

        assert_eq!(refusal.code(), 409);
    }

    #[test]
    fn a_service_is_drained_everywhere_so_that_has_to_be_meant() {
        let refusal = everywhere().create(drain("web", "AnycastService", "www")).unwrap_err();

        assert_eq!(refusal.causes()[0].field, "spec.confirmLastAnnouncer");
    }

    #[test]
    fn where_nobody_knows_who_announces_the_agents_decide() {
        assert!(state(&[]).create(of_system("Datacenter", "ams")).is_ok());
    }

    #[test]
    fn a_confirmation_cannot_be_taken_back_and_words_can_be_changed() {
        let meant = confirmed(of_system("Node", "ams-1"));
        let state = state(&[("ams", &["ams-1"])]).with(meant.clone());
        let mut explained = meant;
        explained["spec"]["reason"] = json!("a new power supply");

        assert!(state.update(explained).is_ok());
        assert_eq!(state.update(of_system("Node", "ams-1")).unwrap_err().code(), 409);
    }
}
