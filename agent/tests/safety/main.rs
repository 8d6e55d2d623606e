//! What would be an outage without the interlocks: a real agent between a controller that says
//! something wrong and a router that must not lose its routes for it.

mod bench;

use bench::{Bench, EDGE, EDGE_ASN, NODE, PORT, ROUTER, ROUTER_ASN, Told, address};
use isocast_api::agent::{
    AddressFamily, Backend, BackendPool, BgpPeer, BgpPolicy, Connection, Entry, Failover,
    HealthCheck, Node, OnNoLocalBackend, Port, Protocol, Role, Service, Tombstone, Uplink,
    entry::Value,
};

const SERVICES: u8 = 30;

fn entry(key: impl Into<String>, value: Value) -> Entry {
    Entry { key: key.into(), value: Some(value) }
}

fn node() -> Entry {
    let node = Node {
        name: NODE.into(),
        datacenter: "ams".into(),
        roles: vec![Role::Edge.into(), Role::Backend.into()],
        tunnel_addresses: vec![EDGE.to_string()],
        uplinks: vec![Uplink { interface: "eth1".into(), ..Uplink::default() }],
        asn: EDGE_ASN,
        router_id: EDGE.to_string(),
        cluster_secret: vec![7; 32],
        announceable_prefixes: vec!["203.0.113.0/24".into()],
        idle: false,
    };
    entry("node", Value::Node(node))
}

fn router(export_policy: Option<BgpPolicy>) -> Entry {
    let peer = BgpPeer {
        uid: "router".into(),
        name: "router".into(),
        address: ROUTER.to_string(),
        peer_asn: ROUTER_ASN,
        families: vec![AddressFamily::Ipv4Unicast.into()],
        hold_time_s: 9,
        connection: Connection::Fabric.into(),
        export_policy,
        ..BgpPeer::default()
    };
    entry("bgppeer/router", Value::BgpPeer(peer))
}

fn pool() -> Entry {
    let backend = Backend {
        uid: "backend".into(),
        name: NODE.into(),
        datacenter: "ams".into(),
        node: NODE.into(),
        tunnel_address: EDGE.to_string(),
        weight: 1,
    };
    let pool =
        BackendPool { uid: "pool".into(), backends: vec![backend], ..BackendPool::default() };
    entry("pool/pool", Value::Pool(pool))
}

fn service(number: u8) -> Entry {
    let uid = format!("service-{number:02}");
    let service = Service {
        uid: uid.clone(),
        namespace: "web".into(),
        name: uid.clone(),
        generation: 1,
        tenant_id: 1,
        addresses: vec![address(number)],
        ports: vec![Port { protocol: Protocol::Tcp.into(), port: PORT.into(), ..Port::default() }],
        pool_uid: "pool".into(),
        health_check: Some(HealthCheck {
            port: PORT.into(),
            interval_ms: 200,
            fast_interval_ms: 50,
            timeout_ms: 500,
            rise: 1,
            fall: 2,
            http: None,
        }),
        failover: Some(Failover {
            on_no_local_backend: OnNoLocalBackend::Withdraw.into(),
            min_healthy_backends: 1,
            ..Failover::default()
        }),
        ..Service::default()
    };
    entry(format!("service/{uid}"), Value::Service(service))
}

fn tombstone(number: u8) -> Entry {
    let uid = format!("service-{number:02}");
    let tombstone =
        Tombstone { uid: uid.clone(), reason: "Deleted".into(), ..Tombstone::default() };
    entry(format!("tombstone/{uid}"), Value::Tombstone(tombstone))
}

fn full() -> Vec<Entry> {
    let services = (0..SERVICES).map(service);
    services.chain([node(), router(None), pool()]).collect()
}

/// A bench whose router has every route.
fn run(test: impl FnOnce(&mut Bench) + Send + 'static) {
    Bench::run(Told::ByController, SERVICES, full(), |bench| {
        bench.eventually("the router has every route", |bench| bench.routes() == 30);
        bench.eventually("the fleet's view is known", Bench::keeps_everything);
        test(bench);
    });
}

#[test]
fn an_empty_snapshot_withdraws_nothing_and_says_what_is_missing() {
    run(|bench| {
        bench.configure(vec![node()]);

        bench.eventually("what is missing is said", |bench| {
            bench.count("MissingFromConfiguration") == 30
        });
        bench.all_along("every route is there", |bench| bench.routes() == 30);
        let missing = "isocast_origination_held_total{reason=\"MissingFromConfiguration\"}";
        assert_eq!(bench.metric(missing), Some(30.0));
        let refused = bench.status()["refused"].as_array().map(Vec::len);
        assert_eq!(refused, Some(31), "the services and the router");

        bench.configure(full());
        bench.eventually("all is well again", |bench| bench.count("Announced") == 30);
        assert_eq!(bench.routes(), 30);
    });
}

#[test]
fn all_services_deleted_at_once_go_a_few_at_a_time_and_one_goes_at_once() {
    run(|bench| {
        let one_less = full().into_iter().filter(|entry| entry.key != "service/service-00");
        bench.configure(one_less.chain([tombstone(0)]).collect());
        bench.eventually("its route is gone", |bench| bench.routes() == 29);
        bench.eventually("so is the service", |bench| {
            bench.status()["services"].as_array().map(Vec::len) == Some(29)
        });

        let graves = (0..SERVICES).map(tombstone);
        bench.configure(graves.chain([node(), router(None), pool()]).collect());

        bench.eventually("the others are held", |bench| bench.count("HeldByRemovalBudget") == 20);
        bench.eventually("ten are gone in all", |bench| bench.routes() == 20);
        bench.all_along("and no more", |bench| bench.routes() == 20);

        bench.configure(full());
        bench.eventually("they are put back", |bench| bench.routes() == 30);
    });
}

#[test]
fn a_checker_gone_mad_leaves_the_last_announcer_and_the_wire_is_fast() {
    run(|bench| {
        for number in 0..SERVICES {
            bench.fail(number);
        }

        bench.eventually("every route is held", |bench| bench.count("LastAnnouncer") == 30);
        bench.all_along("every route is there", |bench| bench.routes() == 30);

        for number in 0..SERVICES {
            bench.recover(number);
        }
        bench.eventually("all is well again", |bench| bench.count("Announced") == 30);
    });
}

#[test]
fn a_policy_that_drops_everything_is_refused_and_the_former_one_stays() {
    run(|bench| {
        let nothing = BgpPolicy {
            uid: "policy".into(),
            name: "nothing".into(),
            generation: 1,
            terms: "[]".into(),
        };
        let services = (0..SERVICES).map(service);
        bench.configure(services.chain([node(), router(Some(nothing)), pool()]).collect());

        bench.all_along("every route is there", |bench| bench.routes() == 30);
        let refused = &bench.status()["refused"][0];
        assert_eq!(refused["reason"], "WouldWithdraw", "{refused}");
        assert_eq!(refused["name"], "router");
    });
}

#[test]
fn a_single_failure_is_on_the_wire_at_once_and_many_only_within_the_budget() {
    Bench::run(Told::ByFile, SERVICES, full(), |bench| {
        bench.eventually("the router has every route", |bench| bench.routes() == 30);
        let measured = |bench: &Bench| bench.metric("isocast_health_to_update_seconds_count");
        let before = measured(bench).unwrap();

        for number in 0..10 {
            bench.fail(number);
            bench.eventually("the route is gone", |bench| bench.routes() == 29);
            bench.recover(number);
            bench.eventually("the route is back", |bench| bench.routes() == 30);
        }

        bench.eventually("each change was measured", |bench| {
            measured(bench).is_some_and(|count| count - before >= 20.0)
        });
        let within = bench.metric("isocast_health_to_update_seconds_bucket{le=\"1.0\"");
        assert_eq!(within, measured(bench), "none took a second, on whatever machine");

        for number in 0..20 {
            bench.fail(number);
        }
        bench
            .eventually("the others are held", |bench| bench.count("HeldByWithdrawalBudget") == 15);
        bench.all_along("and stay", |bench| bench.routes() == 25);
    });
}
