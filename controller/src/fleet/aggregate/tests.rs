use std::{collections::BTreeMap, sync::Arc};

use isocast_api::{
    agent::{EntryError, PeerStatus, ServiceStatus, Verdict},
    meta::find_condition,
    network::{AnycastServiceStatus, BgpPeerStatus},
};
use serde_json::{Value as Json, json};

use super::*;
use crate::fleet::{
    compile::{Compilation, World},
    testing::{self, objects, uid},
};

const CARRIERS: [&str; 4] = ["edge-ams", "edge-fra", "be-ams-1", "be-ams-2"];

fn verdict(status: bool, reason: &str) -> Option<Verdict> {
    Some(Verdict { status, reason: reason.into(), message: "as it says".into() })
}

/// A node that has the service in force and, if it is an edge, announces it.
fn content(node: &str) -> NodeStatus {
    let is_edge = node.starts_with("edge");
    let announced_prefixes = if is_edge { vec!["203.0.113.10/32".into()] } else { vec![] };
    NodeStatus {
        agent_version: "1.0".into(),
        revision: 9,
        services: vec![ServiceStatus {
            uid: uid("www"),
            generation: 4,
            programmed: verdict(true, "Programmed"),
            announced: verdict(is_edge, if is_edge { "Announced" } else { "NotAnEdge" }),
            healthy: verdict(true, "LocalBackends"),
            announced_prefixes,
            ..ServiceStatus::default()
        }],
        dataplane_generation: 2,
        ..NodeStatus::default()
    }
}

/// What every carrier says.
struct Chorus {
    statements: BTreeMap<&'static str, Option<NodeStatus>>,
    nacks: BTreeMap<&'static str, Nack>,
    refused: BTreeMap<&'static str, Vec<EntryError>>,
}

impl Chorus {
    fn new() -> Self {
        let statements = CARRIERS.iter().map(|node| (*node, Some(content(node)))).collect();
        Self { statements, nacks: BTreeMap::new(), refused: BTreeMap::new() }
    }

    fn service(mut self, node: &'static str, change: impl FnOnce(&mut ServiceStatus)) -> Self {
        let statement = self.statements.get_mut(node).unwrap().as_mut().unwrap();
        change(&mut statement.services[0]);
        self
    }

    fn refuses(mut self, node: &'static str, key: String, reason: &str) -> Self {
        let (reason, message) = (reason.into(), "as it says".into());
        let error = EntryError { key, reason, message, name: "web/x".into() };
        self.refused.entry(node).or_default().push(error);
        self
    }

    fn silent(mut self, node: &'static str) -> Self {
        self.statements.insert(node, None);
        self
    }

    fn voices(&self) -> BTreeMap<&str, Voice<'_>> {
        self.statements
            .iter()
            .map(|(node, statement)| {
                let (presence, progress) = match (statement, self.nacks.get(node)) {
                    (_, Some(nack)) => (Presence::Connected, Progress::Refused(nack)),
                    (Some(_), None) if self.refused.contains_key(node) => {
                        let refused = &self.refused[node];
                        (Presence::Connected, Progress::AppliedInPart { revision: 9, refused })
                    }
                    (Some(_), None) => (Presence::Connected, Progress::Applied { revision: 9 }),
                    (None, None) => (Presence::Disconnected, Progress::Pending),
                };
                (*node, Voice { node, presence, statement: statement.as_ref(), progress })
            })
            .collect()
    }
}

fn judge(objects: &[Json], chorus: &Chorus) -> AnycastServiceStatus {
    let compilation = Compilation::new(Arc::new(testing::world(objects)));
    let key = ("web".to_owned(), "www".to_owned());
    let object = &compilation.world().services[&key];
    service(&compilation, object, &chorus.voices(), Timestamp::UNIX_EPOCH)
}

/// `True Reason` of a condition.
fn condition(status: &AnycastServiceStatus, kind: &str) -> String {
    brief(&status.conditions, kind)
}

fn brief(conditions: &[Condition], kind: &str) -> String {
    let condition = find_condition(conditions, kind).unwrap();
    format!("{:?} {}", condition.status, condition.reason)
}

fn message<'a>(status: &'a AnycastServiceStatus, kind: &str) -> &'a str {
    &find_condition(&status.conditions, kind).unwrap().message
}

#[test]
fn a_service_that_everybody_has_is_ready() {
    let status = judge(&objects(), &Chorus::new());

    for kind in ["ResolvedRefs", "Programmed", "Announced", "Healthy", "Ready"] {
        assert_eq!(condition(&status, kind), format!("True {kind}"));
    }
    assert_eq!(status.observed_generation, Some(4));
    assert_eq!(status.addresses[0].to_string(), "203.0.113.10");
    let names: Vec<_> = status.datacenters.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["ams", "fra"]);
    assert_eq!(status.datacenters[0].announced_by, ["edge-ams"]);
    assert_eq!(brief(&status.datacenters[0].conditions, "Announced"), "True Announced");
}

#[test]
fn judging_again_changes_nothing_whatever_the_time() {
    let compilation = Compilation::new(Arc::new(testing::world(&objects())));
    let mut object = compilation.world().services.values().next().unwrap().clone();
    let chorus = Chorus::new();

    object.status = service(&compilation, &object, &chorus.voices(), Timestamp::UNIX_EPOCH);
    let again = service(&compilation, &object, &chorus.voices(), Timestamp::MAX);

    assert_eq!(again, object.status);
}

#[test]
fn an_older_generation_in_force_is_pending() {
    let chorus = Chorus::new().service("edge-fra", |it| it.generation = 3);

    let status = judge(&objects(), &chorus);

    assert_eq!(condition(&status, "Programmed"), "False Pending");
    assert_eq!(condition(&status, "Ready"), "False Pending");
    assert_eq!(brief(&status.datacenters[0].conditions, "Programmed"), "True Programmed");
}

#[test]
fn a_refused_configuration_says_why_and_by_whom() {
    let error = |key: String| EntryError {
        key,
        reason: "TooManyServices".into(),
        message: "this node takes at most 1 services".into(),
        name: String::new(),
    };
    let nack = |key| Nack { revision: 12, reason: "Invalid".into(), errors: vec![error(key)] };
    let mut chorus = Chorus::new().service("edge-ams", |it| it.generation = 3);
    chorus.nacks.insert("edge-ams", nack(format!("service/{}", uid("www"))));

    let status = judge(&objects(), &chorus);
    assert_eq!(condition(&status, "Programmed"), "False TooManyServices");
    assert_eq!(
        message(&status, "Programmed"),
        "datacenter ams: node edge-ams refused it: this node takes at most 1 services",
    );

    chorus.nacks.insert("edge-ams", nack("service/another".into()));
    let status = judge(&objects(), &chorus);
    assert_eq!(condition(&status, "Programmed"), "False ConfigurationRefused");
    assert_eq!(
        message(&status, "Programmed"),
        "datacenter ams: node edge-ams refused revision 12: this node takes at most 1 services",
    );
}

#[test]
fn a_refusal_that_leaves_the_service_in_force_is_not_its_business() {
    let mut chorus = Chorus::new();
    let nack = Nack { revision: 12, reason: "Invalid".into(), errors: Vec::new() };
    chorus.nacks.insert("edge-ams", nack);

    assert_eq!(condition(&judge(&objects(), &chorus), "Programmed"), "True Programmed");
}

#[test]
fn a_silent_node_is_unknown_and_does_not_stop_the_service_from_being_ready() {
    let status = judge(&objects(), &Chorus::new().silent("edge-ams"));

    assert_eq!(condition(&status, "Programmed"), "Unknown NodeSilent");
    assert_eq!(message(&status, "Programmed"), "datacenter ams: node edge-ams is silent");
    assert_eq!(brief(&status.datacenters[0].conditions, "Announced"), "Unknown NodeSilent");
    assert_eq!(condition(&status, "Announced"), "True Announced");
    assert_eq!(condition(&status, "Ready"), "True Ready");
}

#[test]
fn nobody_heard_is_not_ready() {
    let chorus = CARRIERS.iter().fold(Chorus::new(), |chorus, node| chorus.silent(node));

    let status = judge(&objects(), &chorus);

    assert_eq!(condition(&status, "Ready"), "Unknown NodeSilent");
}

#[test]
fn one_datacenter_that_announces_will_do() {
    let withdrawn = |it: &mut ServiceStatus| {
        it.announced = verdict(false, "NoHealthyBackend");
        it.announced_prefixes.clear();
        it.healthy = verdict(false, "NoHealthyBackend");
    };

    let status = judge(&objects(), &Chorus::new().service("edge-ams", withdrawn));
    assert_eq!(condition(&status, "Announced"), "True Announced");
    assert_eq!(condition(&status, "Healthy"), "True Healthy");
    assert!(message(&status, "Healthy").starts_with("in 1 of 2 datacenters; datacenter ams"));
    assert_eq!(brief(&status.datacenters[0].conditions, "Announced"), "False NoHealthyBackend");

    let nowhere = Chorus::new().service("edge-ams", withdrawn).service("edge-fra", withdrawn);
    let status = judge(&objects(), &nowhere);
    assert_eq!(condition(&status, "Announced"), "False NoHealthyBackend");
    assert_eq!(condition(&status, "Ready"), "False NoHealthyBackend");
}

#[test]
fn an_unknown_backend_pool_is_a_condition() {
    let objects: Vec<_> =
        objects().into_iter().filter(|it| it["metadata"]["name"] != "backends").collect();

    let status = judge(&objects, &Chorus::new());

    assert_eq!(condition(&status, "ResolvedRefs"), "False BackendPoolNotFound");
    assert_eq!(message(&status, "ResolvedRefs"), "there is no backendpool \"backends\"");
    assert_eq!(condition(&status, "Ready"), "False BackendPoolNotFound");
}

#[test]
fn without_an_address_nobody_carries_it_and_that_is_why() {
    let objects: Vec<_> =
        objects().into_iter().filter(|it| it["metadata"]["name"] != "www-v4").collect();

    let status = judge(&objects, &Chorus::new());

    for kind in ["Programmed", "Announced", "Healthy", "Ready"] {
        assert_eq!(condition(&status, kind), "False AddressClaimNotFound", "{kind}");
    }
    assert!(status.datacenters.is_empty());
}

#[test]
fn a_draining_datacenter_says_that_it_drains() {
    let mut objects = objects();
    let ams = objects.iter_mut().find(|it| it["metadata"]["name"] == "ams").unwrap();
    ams["spec"]["state"] = json!("Draining");
    let chorus = Chorus::new().service("edge-ams", |it| it.announced_prefixes.clear());

    let status = judge(&objects, &chorus);

    assert_eq!(brief(&status.datacenters[0].conditions, "Announced"), "False Draining");
}

#[test]
fn a_refused_entry_concerns_its_owner_alone() {
    let own = Chorus::new().refuses("edge-ams", format!("service/{}", uid("www")), "PortInUse");
    let status = judge(&objects(), &own);
    assert_eq!(condition(&status, "Programmed"), "False PortInUse");
    assert_eq!(
        message(&status, "Programmed"),
        "datacenter ams: node edge-ams refused it: as it says",
    );
    assert_eq!(condition(&status, "Announced"), "True Announced", "the former version still is");

    let others = Chorus::new().refuses("edge-ams", "service/another".into(), "PortInUse");
    let status = judge(&objects(), &others);
    assert_eq!(condition(&status, "Ready"), "True Ready");
}

#[test]
fn a_refused_pool_and_a_refused_peer_say_so() {
    let compilation = Compilation::new(Arc::new(testing::world(&objects())));
    let world = compilation.world();
    let chorus = Chorus::new()
        .refuses("edge-fra", format!("pool/{}", uid("backends")), "Invalid")
        .refuses("edge-ams", format!("bgppeer/{}", uid("bor-ams")), "Invalid");
    let voices = chorus.voices();

    let pool = world.backend_pools.get("web", "backends").expect("a pool");
    let pool = backend_pool(world, &pool, &voices, Timestamp::UNIX_EPOCH);
    assert_eq!(brief(&pool.conditions, "Accepted"), "False Invalid");
    assert_eq!(brief(&pool.conditions, "Ready"), "True BackendsExist");

    let peer = bgp_peer(&compilation, &world.peers["bor-ams"], &voices, Timestamp::UNIX_EPOCH);
    assert_eq!(peer.sessions[0].last_error.as_deref(), Some("Invalid: as it says"));
}

#[test]
fn what_a_service_may_ask_for_is_enforced() {
    let mut objects = objects();
    let www = objects.iter_mut().find(|it| it["kind"] == "AnycastService").unwrap();
    www["spec"]["limits"] = json!({"newFlowsPerSecond": 50_000});
    www["spec"]["affinity"] = json!({"midFlowMove": "Rescue"});

    let status = judge(&objects, &Chorus::new());

    assert_eq!(condition(&status, "Ready"), "True Ready");
    assert_eq!(condition(&status, "FullyEnforced"), "True Enforced");
}

#[test]
fn a_node_is_connected_and_applied_or_says_why_not() {
    let world = testing::world(&objects());
    let object = &world.nodes["edge-ams"];
    let statement = content("edge-ams");
    let nack = Nack { revision: 12, reason: "Invalid".into(), errors: Vec::new() };
    let error =
        EntryError { name: "web/api".into(), message: "no".into(), ..EntryError::default() };
    let in_part = Progress::AppliedInPart { revision: 9, refused: &[error] };
    let cases = [
        (Presence::Connected, in_part, "True Connected", "False RefusedInPart"),
        (Presence::Connected, Progress::Applied { revision: 9 }, "True Connected", "True Applied"),
        (Presence::Connected, Progress::Pending, "True Connected", "False Pending"),
        (Presence::Connected, Progress::Refused(&nack), "True Connected", "False Refused"),
        (Presence::Disconnected, Progress::Pending, "False Disconnected", "Unknown Disconnected"),
    ];
    for (presence, progress, connected, applied) in cases {
        let voice = Voice { node: "edge-ams", presence, statement: Some(&statement), progress };

        let status = node(object, &voice, Timestamp::UNIX_EPOCH);

        assert_eq!(brief(&status.conditions, "Connected"), connected);
        assert_eq!(brief(&status.conditions, "Applied"), applied);
        assert_eq!(status.revision, Some(9));
    }
}

#[test]
fn a_datacenter_counts_its_nodes() {
    let world = testing::world(&objects());
    let chorus = Chorus::new().silent("be-ams-1");

    let status =
        datacenter(&world, &world.datacenters["ams"], &chorus.voices(), Timestamp::UNIX_EPOCH);

    assert_eq!((status.nodes, status.connected_nodes), (3, 2));
    assert_eq!(brief(&status.conditions, "Ready"), "True NodesConnected");
}

#[test]
fn a_peer_is_established_when_every_session_is() {
    let compilation = Compilation::new(Arc::new(testing::world(&objects())));
    let judge = |peers: Option<Vec<PeerStatus>>| -> BgpPeerStatus {
        let mut chorus = Chorus::new();
        match (peers, chorus.statements.get_mut("edge-ams").unwrap()) {
            (Some(peers), Some(statement)) => statement.peers = peers,
            (_, statement) => *statement = None,
        }
        let peer = &compilation.world().peers["bor-ams"];
        bgp_peer(&compilation, peer, &chorus.voices(), Timestamp::UNIX_EPOCH)
    };
    let session = |state: &str| PeerStatus {
        uid: uid("bor-ams"),
        state: state.into(),
        last_error: "hold timer expired".into(),
        prefixes_sent: 1,
        ..PeerStatus::default()
    };

    let up = judge(Some(vec![session("Established")]));
    assert_eq!(brief(&up.conditions, "Established"), "True Established");
    assert_eq!(up.sessions[0].prefixes_sent, 1);

    let down = judge(Some(vec![session("Active")]));
    assert_eq!(brief(&down.conditions, "Established"), "False SessionsDown");
    assert_eq!(
        down.conditions[0].message,
        "0 of 1 sessions; node edge-ams: Active, hold timer expired",
    );
    assert_eq!(brief(&judge(Some(vec![])).conditions, "Established"), "False SessionsDown");
    assert_eq!(brief(&judge(None).conditions, "Established"), "Unknown SessionsDown");
}

#[test]
fn a_pool_says_which_backend_does_not_exist() {
    let pool = |world: &World| {
        let pool = world.backend_pools.get("web", "backends").expect("a pool");
        backend_pool(world, &pool, &BTreeMap::new(), Timestamp::UNIX_EPOCH)
    };
    let whole = pool(&testing::world(&objects()));
    assert_eq!(
        (whole.resolved_backends, brief(&whole.conditions, "Ready").as_str()),
        (3, "True BackendsExist")
    );
    let ready = whole.conditions.iter().find(|it| it.kind == "Ready").unwrap();
    assert_eq!(
        ready.message,
        "1 of 3 hosts have no agent: their UDP flows move when the ring changes",
    );

    let objects: Vec<_> =
        objects().into_iter().filter(|it| it["metadata"]["name"] != "be-ams-2").collect();
    let partial = pool(&testing::world(&objects));

    assert_eq!(partial.resolved_backends, 2);
    assert_eq!(brief(&partial.conditions, "Ready"), "False NodeNotFound");
}
