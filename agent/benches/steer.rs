//! What a decision costs on an edge with many services: all rings anew, and after one verdict.
//!
//! `cargo bench -p isocast-agent`; medians, and the ratio that keeping rings is worth.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark: it prints or fails")]

use std::time::{Duration, Instant};

use isocast_agent::{
    health::{HealthView, Marks, Report, TargetId, Verdict, targets},
    model::{Limits, NodeModel},
    steer::{Inputs, Memory, Plan, Rings, UnixMs, steer},
};
use isocast_api::agent::{
    Backend, BackendPool, Configuration, Entry, HealthCheck, Keyring, Node, Port, Protocol, Role,
    Service, entry::Value,
};

const SERVICES: u32 = 1000;
const BACKENDS: u32 = 8;
const ROUNDS: usize = 15;

fn main() {
    let configuration = configuration();
    let parse = median(|| {
        NodeModel::parse(&configuration, LIMITS, None).expect("it is valid");
    });
    let model = NodeModel::parse(&configuration, LIMITS, None).expect("it is valid").model;
    assert_eq!(model.services.len(), SERVICES as usize, "none is refused");
    let targets = targets(&model);
    let mut marks = Marks::default();
    marks.assign(&targets);
    let mut health = HealthView::default();
    for target in targets.keys().cloned() {
        health.record(Report {
            target,
            verdict: Verdict::Healthy,
            reason: "".into(),
            at: Instant::now(),
        });
    }
    let (no_faults, no_traffic) = <_>::default();
    let decide = |health: &HealthView, memory: &Memory, rings: &Rings| -> Plan {
        let (model, targets, marks, now) = (&model, &targets, &marks, UnixMs(1));
        let (faults, traffic) = (&no_faults, &no_traffic);
        steer(&Inputs { model, targets, health, marks, memory, rings, faults, traffic, now })
    };
    let (no_memory, no_rings) = <(Memory, Rings)>::default();
    let before = decide(&health, &no_memory, &no_rings);
    let anew = median(|| drop(decide(&health, &no_memory, &no_rings)));

    let target = TargetId { service: "service-7".into(), backend: "backend-3".into() };
    health.record(Report {
        target,
        verdict: Verdict::Unhealthy,
        reason: "".into(),
        at: Instant::now(),
    });
    let one = median(|| drop(decide(&health, &before.memory, &before.rings)));
    let forgetful = median(|| drop(decide(&health, &before.memory, &no_rings)));

    println!("{SERVICES} services, {BACKENDS} backends each, of two datacenters");
    println!("parse the configuration     {parse:>12.3?}");
    println!("decide from nothing         {anew:>12.3?}");
    println!("decide after one verdict    {one:>12.3?}");
    let ratio = forgetful.as_secs_f64() / one.as_secs_f64();
    println!("  without kept rings        {forgetful:>12.3?}  ({ratio:.1} times)");
}

const LIMITS: Limits = Limits { services: 10_000 };

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    times.sort();
    times.get(ROUNDS / 2).copied().unwrap_or_default()
}

fn configuration() -> Configuration {
    let node = Node {
        name: "edge-1".into(),
        datacenter: "ams".into(),
        roles: vec![Role::Edge.into()],
        asn: 65010,
        router_id: "10.0.0.1".into(),
        keyring: Some(Keyring {
            sent_tag: vec![7; 4],
            believed_tags: vec![vec![7; 4]],
            flow_key: vec![7; 16],
            ..Keyring::default()
        }),
        ..Node::default()
    };
    let node = Entry { key: "node".into(), value: Some(Value::Node(node)) };
    let services = (0..SERVICES).flat_map(|number| [pool(number), service(number)]);
    Configuration::from_entries(services.chain([node])).expect("keys differ")
}

fn pool(number: u32) -> Entry {
    let backend = |index: u32| Backend {
        uid: format!("backend-{index}"),
        datacenter: if index < BACKENDS / 2 { "ams" } else { "fra" }.into(),
        tunnel_address: format!("10.1.0.{index}"),
        weight: 1,
        drained: false,
        ..Backend::default()
    };
    let uid = format!("pool-{number}");
    let backends = (0..BACKENDS).map(backend).collect();
    let pool = BackendPool { uid, backends, ..BackendPool::default() };
    Entry { key: format!("pool/pool-{number}"), value: Some(Value::Pool(pool)) }
}

fn service(number: u32) -> Entry {
    let service = Service {
        uid: format!("service-{number}"),
        addresses: vec![format!("203.0.{}.{}", number / 256, number % 256)],
        ports: vec![Port { protocol: Protocol::Tcp.into(), port: 443, ..Port::default() }],
        pool_uid: format!("pool-{number}"),
        health_check: Some(HealthCheck {
            port: 443,
            interval_ms: 500,
            fast_interval_ms: 100,
            timeout_ms: 300,
            rise: 2,
            fall: 3,
            http: None,
        }),
        ..Service::default()
    };
    Entry { key: format!("service/service-{number}"), value: Some(Value::Service(service)) }
}
