use isocast_api::agent as wire;
use serde_json::{Value as Json, json};

use super::*;
use crate::fleet::testing::{self, node, objects, uid};

fn compile(objects: &[Json]) -> Compilation {
    Compilation::new(Arc::new(testing::world(objects)))
}

fn entry(compilation: &Compilation, node: &str, key: &str) -> Option<Value> {
    let configuration = compilation.configuration(node).unwrap();
    let found = configuration.entries().find(|entry| entry.key == key).cloned();
    found.and_then(|entry| entry.value)
}

fn keys(compilation: &Compilation, node: &str) -> Vec<String> {
    let configuration = compilation.configuration(node).unwrap();
    configuration.entries().map(|entry| entry.key.clone()).collect()
}

fn own(compilation: &Compilation, node: &str) -> wire::Node {
    match entry(compilation, node, "node") {
        Some(Value::Node(node)) => node,
        other => panic!("{other:?}"),
    }
}

fn service(compilation: &Compilation, node: &str) -> Option<wire::Service> {
    match entry(compilation, node, &format!("service/{}", uid("www"))) {
        Some(Value::Service(service)) => Some(service),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn pool(compilation: &Compilation, node: &str) -> wire::BackendPool {
    match entry(compilation, node, &format!("pool/{}", uid("backends"))) {
        Some(Value::Pool(pool)) => pool,
        other => panic!("{other:?}"),
    }
}

/// The objects with one of them changed.
fn with(name: &str, change: impl FnOnce(&mut Json)) -> Vec<Json> {
    let mut objects = objects();
    change(objects.iter_mut().find(|object| object["metadata"]["name"] == name).unwrap());
    objects
}

fn without(name: &str) -> Vec<Json> {
    objects().into_iter().filter(|object| object["metadata"]["name"] != name).collect()
}

#[test]
fn an_edge_gets_its_peers_every_service_and_their_pools() {
    let compilation = compile(&objects());

    let expected = [
        format!("bgppeer/{}", uid("bor-ams")),
        "node".to_owned(),
        format!("pool/{}", uid("backends")),
        format!("service/{}", uid("www")),
    ];
    assert_eq!(keys(&compilation, "edge-ams"), expected);
    let own = own(&compilation, "edge-ams");
    assert_eq!(own.announceable_prefixes, ["203.0.113.10/32"]);
    assert_eq!((own.asn, own.router_id.as_str()), (65010, "10.1.0.1"));
    assert_eq!(own.keyring.unwrap().id, "one");
    let service = service(&compilation, "edge-ams").unwrap();
    assert_eq!((service.tenant_id, service.generation), (0x00a1_b2c3, 4));
    assert_eq!(service.addresses, ["203.0.113.10"]);
    assert_eq!(service.health_check.unwrap().port, 443);
    assert_eq!(service.communities, ["65010:100"]);
}

#[test]
fn a_service_carries_its_sources_and_ceilings_and_the_lowest_of_its_organizations() {
    let plain = service(&compile(&objects()), "edge-ams").unwrap();
    assert_eq!((plain.limits, plain.tenant_limits, plain.syn_cookies), (None, None, false));

    let mut objects = with("www", |it| {
        it["spec"]["allowedSources"] = json!(["2001:db8::/32", "10.0.0.0/8", "192.0.2.0/24"]);
        it["spec"]["deniedSources"] = json!(["10.1.0.0/16"]);
        it["spec"]["limits"] = json!({"newFlowsPerSecond": 50, "synCookies": "Auto"});
    });
    let grant = |limits: Json| json!([{"organization": "acme", "limits": limits}]);
    let vips = objects.iter_mut().find(|it| it["metadata"]["name"] == "vips").unwrap();
    vips["spec"]["grants"] = grant(json!({"packetsPerSecond": 1000, "newFlowsPerSecond": 7}));
    let mut more = vips.clone();
    more["metadata"]["name"] = json!("more");
    more["metadata"]["uid"] = json!(uid("more"));
    more["spec"]["prefixes"] = json!(["198.51.100.0/24"]);
    more["spec"]["grants"] = grant(json!({"packetsPerSecond": 900}));
    objects.push(more);

    let service = service(&compile(&objects), "edge-ams").unwrap();

    assert_eq!(service.allowed_sources, ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
    assert_eq!(service.denied_sources, ["10.1.0.0/16"]);
    let ceilings = |packets_per_second, new_flows_per_second| {
        Some(wire::Ceilings { packets_per_second, new_flows_per_second })
    };
    assert_eq!(service.limits, ceilings(0, 50));
    assert_eq!(service.tenant_limits, ceilings(900, 7));
    assert!(service.syn_cookies);
}

#[test]
fn a_backend_gets_what_it_serves_and_the_sources_to_believe() {
    let compilation = compile(&objects());

    let sources = ["10.1.0.1", "10.1.0.12", "10.2.0.1", "fd00:1::1"];
    let mut expected = vec![
        "node".to_owned(),
        format!("pool/{}", uid("backends")),
        format!("service/{}", uid("www")),
    ];
    expected.extend(sources.map(|address| format!("source/{address}")));
    expected.sort();
    assert_eq!(keys(&compilation, "be-ams-1"), expected);
    assert_eq!(own(&compilation, "be-ams-1").announceable_prefixes, [""; 0]);
}

#[test]
fn a_backend_in_no_pool_serves_nothing_and_believes_edges_only() {
    let compilation = compile(&objects());

    let expected = ["node", "source/10.1.0.1", "source/10.2.0.1", "source/fd00:1::1"];
    assert_eq!(keys(&compilation, "be-idle"), expected);
    assert!(own(&compilation, "be-idle").idle);
    assert!(!own(&compilation, "be-ams-1").idle);
}

#[test]
fn nobody_is_told_to_be_idle_by_a_platform_that_lost_its_services() {
    let mut objects = objects();
    objects.retain(|it| it["kind"] != "AnycastService");

    assert!(!own(&compile(&objects), "be-ams-1").idle);
}

#[test]
fn backends_carry_their_nodes_address_and_datacenter_and_are_in_no_order_of_the_list() {
    let compilation = compile(&objects());
    let backwards = with("backends", |pool| {
        pool["spec"]["backends"].as_array_mut().unwrap().reverse();
    });

    let backends = pool(&compilation, "edge-ams").backends;

    let mut seen: Vec<_> = backends
        .iter()
        .map(|it| (it.name.as_str(), it.datacenter.as_str(), it.tunnel_address.as_str(), it.weight))
        .collect();
    seen.sort_unstable();
    let expected = [
        ("198.51.100.9", "fra", "198.51.100.9", 50),
        ("be-ams-1", "ams", "10.1.0.11", 100),
        ("be-ams-2", "ams", "10.1.0.12", 100),
    ];
    assert_eq!(seen, expected);
    let same = compile(&backwards);
    let digest =
        |compilation: &Compilation| compilation.configuration("edge-ams").unwrap().digest();
    assert_eq!(digest(&same), digest(&compilation));
}

#[test]
fn a_re_created_node_or_pool_is_another_backend() {
    let uids = |objects: &[Json]| -> BTreeSet<String> {
        let pool = pool_of_any_uid(&compile(objects));
        pool.backends.into_iter().map(|backend| backend.uid).collect()
    };
    let before = uids(&objects());
    let node = uids(&with("be-ams-1", |node| node["metadata"]["uid"] = json!("another")));
    let pool = uids(&with("backends", |pool| pool["metadata"]["uid"] = json!("another")));

    assert_eq!(before.intersection(&node).count(), 2);
    assert_eq!(before.intersection(&pool).count(), 0);
}

fn pool_of_any_uid(compilation: &Compilation) -> wire::BackendPool {
    let configuration = compilation.configuration("edge-ams").unwrap();
    let pools = configuration.entries().filter_map(|entry| match &entry.value {
        Some(Value::Pool(pool)) => Some(pool.clone()),
        _ => None,
    });
    pools.last().unwrap()
}

#[test]
fn what_does_not_resolve_is_said_and_the_rest_goes_on() {
    let cases = [
        (without("backends"), "BackendPoolNotFound", "there is no backendpool \"backends\"", true),
        (without("www-v4"), "AddressClaimNotFound", "there is no addressclaim \"www-v4\"", false),
        (
            with("www-v4", |claim| claim["status"] = json!({})),
            "AddressNotAllocated",
            "addressclaim \"www-v4\" has no address",
            false,
        ),
        (
            with("vips", |pool| pool["spec"]["grants"] = json!([])),
            "AddressPoolNotGranted",
            "addresspool \"vips\" of addressclaim \"www-v4\" is not granted to the organization",
            false,
        ),
        (
            with("vips", |pool| pool["status"]["grants"][0]["uid"] = json!("another")),
            "AddressPoolNotGranted",
            "addresspool \"vips\" of addressclaim \"www-v4\" is not granted to the organization",
            false,
        ),
        (
            without("be-ams-2"),
            "NodeNotFound",
            "backendpool \"backends\": there is no node \"be-ams-2\"",
            true,
        ),
        (
            with("be-ams-2", |node| node["spec"]["roles"] = json!(["Edge"])),
            "NodeNotABackend",
            "backendpool \"backends\": node \"be-ams-2\" does not have the role Backend",
            true,
        ),
        (without("web"), "TenantNotFound", "namespace \"web\" belongs to no organization", false),
    ];
    for (objects, reason, message, is_carried) in cases {
        let compilation = compile(&objects);

        let problem = compilation.problem(&uid("www")).unwrap();
        assert_eq!((problem.reason.as_str(), problem.message.as_str()), (reason, message));
        assert_eq!(service(&compilation, "edge-ams").is_some(), is_carried, "{reason}");
        let announceable = own(&compilation, "edge-ams").announceable_prefixes;
        assert_eq!(!announceable.is_empty(), is_carried, "{reason}");
    }
    assert_eq!(compile(&objects()).problem(&uid("www")), None);
}

#[test]
fn an_unknown_datacenter_announces_nothing_and_serves_on() {
    let compilation = compile(&without("ams"));

    assert_eq!(own(&compilation, "edge-ams").announceable_prefixes, [""; 0]);
    assert!(service(&compilation, "edge-ams").is_some());
    assert_eq!(own(&compilation, "edge-fra").announceable_prefixes, ["203.0.113.10/32"]);
}

#[test]
fn a_draining_datacenter_drains_its_edges_and_no_others() {
    let draining = with("ams", |datacenter| datacenter["spec"]["state"] = json!("Draining"));
    let compilation = compile(&draining);

    let key = format!("drain/{}", uid("ams"));
    let Some(Value::Drain(drain)) = entry(&compilation, "edge-ams", &key) else {
        panic!("no drain");
    };
    assert_eq!(drain.target, Some(wire::drain::Target::Datacenter("ams".into())));
    assert!(!drain.confirmed);
    assert_eq!(own(&compilation, "edge-ams").announceable_prefixes, ["203.0.113.10/32"]);
    assert_eq!(entry(&compilation, "edge-fra", &key), None);
    assert_eq!(entry(&compilation, "be-ams-1", &key), None);
}

#[test]
fn a_drain_is_told_to_the_edges_it_concerns() {
    let drain = |kind: &str, name: &str| {
        let target = json!({"kind": kind, "name": name});
        let spec = json!({"target": target, "wait": "1500ms", "confirmLastAnnouncer": true});
        let mut drain = testing::object("network", "Drain", "off", spec);
        drain["metadata"]["namespace"] = json!("web");
        compile(&objects().into_iter().chain([drain]).collect::<Vec<_>>())
    };
    let key = format!("drain/{}", uid("off"));
    let told = |compilation: &Compilation| {
        let nodes = ["edge-ams", "edge-fra", "be-ams-1"].into_iter();
        nodes.filter(|node| entry(compilation, node, &key).is_some()).collect::<Vec<_>>()
    };

    let service = drain("AnycastService", "www");

    assert_eq!(told(&service), ["edge-ams", "edge-fra"]);
    let Some(Value::Drain(it)) = entry(&service, "edge-ams", &key) else { panic!("no drain") };
    assert_eq!(it.target, Some(wire::drain::Target::Service(uid("www"))));
    assert_eq!((it.wait_s, it.confirmed, it.name.as_str()), (2, true, "web/off"));
    assert_eq!(told(&drain("AnycastService", "gone")), [""; 0]);
    assert_eq!(told(&drain("Datacenter", "fra")), ["edge-fra"]);
    assert_eq!(told(&drain("Node", "edge-ams")), ["edge-ams"]);
    assert_eq!(told(&drain("Node", "be-ams-1")), [""; 0], "it announces nothing");
}

#[test]
fn a_drain_that_is_being_deleted_is_told_to_nobody() {
    let mut drain = testing::object(
        "network",
        "Drain",
        "off",
        json!({"target": {"kind": "Node", "name": "edge-ams"}}),
    );
    drain["metadata"]["namespace"] = json!("isocast-system");
    drain["metadata"]["deletionTimestamp"] = json!("2026-11-22T02:00:00Z");
    let compilation = compile(&objects().into_iter().chain([drain]).collect::<Vec<_>>());

    assert_eq!(entry(&compilation, "edge-ams", &format!("drain/{}", uid("off"))), None);
}

#[test]
fn an_edge_without_routers_is_told_that_none_is_its_own() {
    let compilation = compile(&objects());
    let key = format!("tombstone/{}", uid("bor-ams"));

    assert!(matches!(entry(&compilation, "edge-fra", &key), Some(Value::Tombstone(_))));
    assert_eq!(entry(&compilation, "edge-ams", &key), None);
}

#[test]
fn rules_for_packets_out_of_the_ordinary_are_said_where_they_are_not_the_usual_ones() {
    let usual = service(&compile(&objects()), "edge-ams").unwrap();
    assert_eq!((usual.fragments, usual.mss_clamp), (None, None));

    for (largest, told) in [(json!(null), 0), (json!(1400), 1400)] {
        let objects = with("www", |service| {
            service["spec"]["fragments"] = json!({"tcp": "Hash", "udp": "Drop"});
            service["spec"]["mssClamp"] = json!({"mode": "Auto", "largest": largest});
        });
        let service = service(&compile(&objects), "edge-ams").unwrap();
        let fragments = service.fragments.unwrap();
        assert_eq!(fragments.tcp(), wire::FragmentHandling::Hash);
        assert_eq!(fragments.udp(), wire::FragmentHandling::Drop);
        assert_eq!(service.mss_clamp, Some(wire::MssClamp { largest: told }));
    }
}

#[test]
fn a_service_that_is_being_deleted_is_nowhere() {
    let objects = with("www", |service| {
        service["metadata"]["deletionTimestamp"] = json!("2026-11-22T02:00:00Z");
    });

    assert_eq!(service(&compile(&objects), "edge-ams"), None);
}

#[test]
fn nothing_is_served_of_a_container_that_is_being_deleted() {
    let of_service = objects().into_iter().find(|it| it["metadata"]["name"] == "www").unwrap();
    let project = of_service["metadata"]["namespace"].as_str().unwrap().to_owned();
    let of_project = objects().into_iter().find(|it| it["metadata"]["name"] == *project).unwrap();
    let above = of_project["spec"]["parent"]["name"].as_str().unwrap().to_owned();
    for container in [project, above] {
        let objects = with(&container, |container| {
            container["metadata"]["deletionTimestamp"] = json!("2026-11-22T02:00:00Z");
        });

        let compilation = compile(&objects);

        assert_eq!(service(&compilation, "edge-ams"), None, "{container}");
        assert_eq!(compilation.reason(&uid("www")), None, "somebody removed it");
    }
}

#[test]
fn peers_are_selected_by_label_too() {
    let mut objects = with("bor-ams", |peer| {
        let spec = peer["spec"].as_object_mut().unwrap();
        spec.remove("nodes");
        spec.insert("nodeSelector".into(), json!({"matchLabels": {"rack": "r1"}}));
    });
    let peer = format!("bgppeer/{}", uid("bor-ams"));
    assert!(!keys(&compile(&objects), "edge-ams").contains(&peer));

    for object in &mut objects {
        object["metadata"]["labels"] = json!({"rack": "r1"});
    }

    assert!(keys(&compile(&objects), "edge-ams").contains(&peer));
    assert!(!keys(&compile(&objects), "be-ams-1").contains(&peer));
}

fn peer(compilation: &Compilation) -> wire::BgpPeer {
    match entry(compilation, "edge-ams", &format!("bgppeer/{}", uid("bor-ams"))) {
        Some(Value::BgpPeer(peer)) => peer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_kind_of_connection_implies_is_said_in_full() {
    let cases = [
        ("Fabric", wire::PeerRole::Unspecified, true, 0, 0),
        ("IXP", wire::PeerRole::Peer, true, 100_000, 10_000),
        ("PNI", wire::PeerRole::Peer, true, 100_000, 10_000),
        ("RouteServer", wire::PeerRole::RouteServerClient, false, 500_000, 10_000),
        ("Transit", wire::PeerRole::Customer, true, 2_000_000, 10_000),
    ];
    for (connection, role, enforces_first_as, inbound, outbound) in cases {
        let compilation = compile(&with("bor-ams", |peer| {
            peer["spec"]["connection"] = json!(connection);
        }));

        let peer = peer(&compilation);

        assert_eq!((peer.role(), peer.enforce_first_as), (role, enforces_first_as), "{connection}");
        let limits = (peer.max_prefixes_inbound, peer.max_prefixes_outbound);
        assert_eq!(limits, (inbound, outbound), "{connection}");
    }
}

#[test]
fn what_a_peer_says_itself_counts_more() {
    let compilation = compile(&with("bor-ams", |peer| {
        let spec = peer["spec"].as_object_mut().unwrap();
        spec.remove("address");
        let more = json!({
            "connection": "Transit", "prefix": "10.1.0.0/24", "role": "Peer", "multihop": 3,
            "bfd": {"interval": "10ms"}, "password": {"file": "/k"}, "enforceFirstAS": false,
            "maxPrefixes": {"inbound": 7, "outbound": 8}, "extendedNextHop": true,
        });
        spec.extend(more.as_object().unwrap().clone());
    }));

    let peer = peer(&compilation);

    assert_eq!((peer.address.as_str(), peer.prefix.as_str()), ("", "10.1.0.0/24"));
    assert!(peer.passive && peer.extended_next_hop && !peer.enforce_first_as);
    assert_eq!((peer.role(), peer.multihop), (wire::PeerRole::Peer, 3));
    assert_eq!(peer.bfd, Some(wire::Bfd { interval_ms: 10, multiplier: 3, multihop: true }));
    assert_eq!(peer.password_file, "/k");
    assert_eq!((peer.max_prefixes_inbound, peer.max_prefixes_outbound), (7, 8));
}

#[test]
fn a_peer_carries_the_policies_it_names() {
    let mut objects = with("bor-ams", |peer| {
        peer["spec"]["exportPolicy"] = json!("out");
        peer["spec"]["importPolicy"] = json!("nowhere");
    });
    objects.push(json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BGPPolicy",
        "metadata": {"name": "out", "uid": uid("out"), "generation": 3},
        "spec": {"terms": [{"name": "all", "then": "Accept"}]},
    }));

    let peer = peer(&compile(&objects));

    let (export, import) = (peer.export_policy.unwrap(), peer.import_policy.unwrap());
    assert_eq!((export.uid, export.name.as_str(), export.generation), (uid("out"), "out", 3));
    let terms: Json = serde_json::from_str(&export.terms).unwrap();
    assert_eq!(
        (terms[0]["name"].as_str(), terms[0]["then"].as_str()),
        (Some("all"), Some("Accept"))
    );
    assert_eq!((import.name.as_str(), import.terms.as_str()), ("nowhere", "[]"));
}

#[test]
fn of_two_peers_with_one_address_a_node_gets_the_first() {
    let mut objects = objects();
    let twin = objects.iter().find(|it| it["metadata"]["name"] == "bor-ams").cloned();
    let mut twin = twin.unwrap();
    twin["metadata"] = json!({"name": "twin", "uid": uid("twin")});
    objects.push(twin);

    let keys = keys(&compile(&objects), "edge-ams");

    assert!(keys.contains(&format!("bgppeer/{}", uid("bor-ams"))));
    assert!(!keys.contains(&format!("bgppeer/{}", uid("twin"))));
}

#[test]
fn two_nodes_with_one_address_do_not_break_a_third() {
    let mut objects = objects();
    objects.push(node("edge-twin", "ams", &["Edge"], &["10.1.0.1"]));

    assert!(compile(&objects).configuration("be-ams-1").is_some());
}

#[test]
fn an_unknown_node_has_no_configuration() {
    assert_eq!(compile(&objects()).configuration("nobody"), None);
}
