//! What services take at most: packets and new flows, of a service and of a tenant.

use std::time::{Duration, Instant};

use isocast_dataplane::{
    Action, Ceilings, Outcome, Protocol, Refused, ServiceKey, ServicePolicy, Tables,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::support::{
    network::NOBODY,
    node::{Bench, Node, OWN_V4, TENANT, UPLINK, backend, one_service, ring, vip},
    packet::{ACK, ROUTER_MAC, SYN, ethernet, flow, tcp, udp},
};

const SECOND: &str = "192.0.2.11";
const STRANGER: &str = "192.0.2.12";

/// Three services on this node: "www" and "second" of one tenant, "stranger" of another.
fn tables() -> Tables {
    let mut tables = one_service(OWN_V4);
    for (address, name, tenant) in [(SECOND, "second", TENANT), (STRANGER, "stranger", 9)] {
        let mut vip = vip(address, Protocol::Tcp, 443);
        (vip.service, vip.tenant) = (ServiceKey(name.into()), tenant);
        tables.edge.vips.push(vip);
    }
    tables
}

fn ceilings(packets: u32, new_flows: u32) -> Ceilings {
    let some = |value: u32| (value != 0).then_some(value);
    Ceilings { packets_per_second: some(packets), new_flows_per_second: some(new_flows) }
}

fn limited(ceilings: Ceilings, syn_cookies: bool) -> Tables {
    let mut tables = tables();
    let policy = ServicePolicy { ceilings, syn_cookies, ..ServicePolicy::default() };
    tables.edge.policies.insert(ServiceKey("www".into()), policy);
    tables
}

/// Sends a packet so many times; how many passed.
fn passed(bench: &Bench, packet: &[u8], times: u64) -> u64 {
    let delivered = |bench: &Bench| bench.counters().outcomes[&Outcome::DeliveredHere];
    let before = delivered(bench);
    let frame = ethernet(bench.mac, ROUTER_MAC, packet);
    let repeat = u32::try_from(times).expect("small");
    bench.dataplane.trace(&frame, UPLINK, repeat).expect("test run");
    delivered(bench) - before
}

fn refused(bench: &Bench, service: &str) -> Refused {
    bench.counters().refused[&ServiceKey(service.into())]
}

/// What a ceiling lets through in the time since `since`, burst and rounding included.
fn most(per_second: u64, since: Instant) -> u64 {
    let cores = std::thread::available_parallelism().expect("cores").get() as u64;
    let millis = millis(since) + 20;
    per_second * millis / 1000 + per_second / 5 + cores + 1
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).expect("not for ever").max(1)
}

fn syn(destination: &str) -> Vec<u8> {
    tcp(flow("198.51.100.7", destination, 443), SYN, 0)
}

fn ack(destination: &str) -> Vec<u8> {
    tcp(flow("198.51.100.7", destination, 443), ACK, 0)
}

#[test]
fn packets_beyond_the_ceiling_are_dropped_and_counted() {
    let node = Node::new("packets");
    node.with_tables(&limited(ceilings(100, 0), false), |bench| {
        let start = Instant::now();
        let mut sum = 0;
        for packet in [
            syn("192.0.2.10"),
            ack("192.0.2.10"),
            tcp(flow("2001:db8:c::7", "2001:db8:f::10", 443), ACK, 0),
            udp(flow("198.51.100.7", "192.0.2.10", 53), b"query"),
        ] {
            sum += passed(bench, &packet, 5_000);
        }

        assert!(sum >= 1 && sum <= most(100, start), "{sum} passed");
        assert_eq!(refused(bench, "www").packets, 20_000 - sum);
        assert_eq!(bench.counters().outcomes[&Outcome::OverPacketRate], 20_000 - sum);
        assert_eq!(passed(bench, &ack(SECOND), 5_000), 5_000, "others are not concerned");
    });
}

#[test]
fn new_flows_beyond_the_ceiling_are_dropped_and_standing_ones_are_not() {
    let node = Node::new("flows");
    node.with_tables(&limited(ceilings(0, 50), false), |bench| {
        let start = Instant::now();
        let sum = passed(bench, &syn("192.0.2.10"), 10_000);

        assert!(sum >= 1 && sum <= most(50, start), "{sum} passed");
        assert_eq!(refused(bench, "www").flows, 10_000 - sum);
        assert_eq!(passed(bench, &ack("192.0.2.10"), 10_000), 10_000);
        let query = udp(flow("198.51.100.7", "192.0.2.10", 53), b"query");
        assert_eq!(passed(bench, &query, 10_000), 10_000, "UDP has no new flows");
        let answer = tcp(flow("198.51.100.7", "192.0.2.10", 443), SYN | ACK, 0);
        assert_eq!(passed(bench, &answer, 100), 100, "nor is an answer one");
    });
}

#[test]
fn flood_of_new_flows_uses_up_no_packets_of_those_that_stand() {
    let node = Node::new("both");
    node.with_tables(&limited(ceilings(100_000, 10), false), |bench| {
        let sum = passed(bench, &syn("192.0.2.10"), 1_000_000);

        assert_eq!(refused(bench, "www").packets, 0, "{sum} passed");
        assert_eq!(passed(bench, &ack("192.0.2.10"), 1_000), 1_000);
    });
}

#[test]
fn new_flows_that_prove_their_address_take_only_packets_that_others_leave() {
    let node = Node::new("spare");
    let tables = limited(ceilings(100_000, 10), true);
    node.with_tables(&tables, |bench| {
        let start = Instant::now();
        let sum = passed(bench, &syn("192.0.2.10"), 1_000_000);

        assert!(sum <= most(100_000, start), "{sum} passed");
        assert!(refused(bench, "www").flows > 0);
        assert_eq!(passed(bench, &ack("192.0.2.10"), 500), 500, "half a burst is left");
        assert_eq!(refused(bench, "www").packets, 0);
    });
}

#[test]
fn services_of_a_tenant_share_its_ceiling_and_others_have_their_own() {
    let node = Node::new("tenants");
    let mut tables = tables();
    tables.edge.tenants.insert(TENANT, ceilings(100, 0));
    tables.edge.tenants.insert(9, ceilings(0, 30));
    node.with_tables(&tables, |bench| {
        let start = Instant::now();
        let sum = passed(bench, &ack("192.0.2.10"), 5_000) + passed(bench, &ack(SECOND), 5_000);

        assert!(sum >= 1 && sum <= most(100, start), "{sum} passed");
        let kept_out = refused(bench, "www").tenant + refused(bench, "second").tenant;
        assert_eq!(kept_out, 10_000 - sum);
        assert_eq!(bench.counters().outcomes[&Outcome::OverTenantRate], kept_out);
        assert_eq!(passed(bench, &ack(STRANGER), 5_000), 5_000);
        assert!(passed(bench, &syn(STRANGER), 5_000) <= most(30, start));
        assert!(refused(bench, "stranger").tenant > 0);
    });
}

#[test]
fn ceilings_hold_while_no_agent_lives_and_for_whoever_adopts_them() {
    let node = Node::new("orphaned");
    let mut tables = limited(ceilings(50, 0), false);
    tables.edge.tenants.insert(9, ceilings(50, 0));
    node.with_tables(&tables, |_| ());

    node.namespace.enter(|| {
        let start = Instant::now();
        let (mut bench, _) = Bench::open(node.config());
        let mut sum = passed(&bench, &ack("192.0.2.10"), 5_000);
        bench.dataplane.apply(&tables).expect("the same");
        sum += passed(&bench, &ack("192.0.2.10"), 5_000);

        assert!(sum >= 1 && sum <= 2 * most(50, start), "{sum} passed");
        assert!(passed(&bench, &ack(STRANGER), 5_000) <= most(50, start));
        assert_eq!(refused(&bench, "www").packets, 10_000 - sum, "counted on");
    });
}

#[test]
fn ceiling_changes_and_goes_without_a_break() {
    let node = Node::new("changes");
    node.with_tables(&limited(ceilings(10, 0), false), |bench| {
        assert!(passed(bench, &ack("192.0.2.10"), 5_000) < 1_000);
        bench.dataplane.apply(&limited(ceilings(4_000_000_000, 0), false)).expect("more");
        assert_eq!(passed(bench, &ack("192.0.2.10"), 5_000), 5_000);
        bench.dataplane.apply(&limited(ceilings(10, 0), false)).expect("less");
        assert!(passed(bench, &ack("192.0.2.10"), 5_000) < 1_000);
        bench.dataplane.apply(&tables()).expect("none");
        assert_eq!(passed(bench, &ack("192.0.2.10"), 5_000), 5_000);
    });
}

#[test]
fn busy_core_gets_the_shares_of_idle_ones_and_never_more_than_the_ceiling() {
    const PER_SECOND: u64 = 20_000;
    let node = Node::new("shares");
    let ceilings = ceilings(u32::try_from(PER_SECOND).expect("small"), 0);
    node.with_tables(&limited(ceilings, false), |bench| {
        let mut one = CpuSet::new();
        one.set(0).expect("core");
        sched_setaffinity(Pid::from_raw(0), &one).expect("pin to one core");
        let cores = std::thread::available_parallelism().expect("cores").get() as u64;
        let packet = ack("192.0.2.10");
        let (start, mut sum) = (Instant::now(), 0);
        let deadline = start + Duration::from_secs(20);
        // Windows of half a second, until one holds clearly more than an equal share.
        loop {
            let (window, mut within) = (Instant::now(), 0);
            while window.elapsed() < Duration::from_millis(500) {
                within += passed(bench, &packet, 2_000);
            }
            sum += within;
            let rate = within * 1000 / millis(window);
            assert!(sum <= most(PER_SECOND, start), "{sum} since {:?}", start.elapsed());
            if rate > PER_SECOND * 2 / 3 {
                break;
            }
            assert!(Instant::now() < deadline, "{rate} a second on one of {cores} cores");
        }
    });
}

#[test]
fn new_flows_beyond_the_ceiling_are_marked_where_they_have_to_prove_their_address() {
    let node = Node::new("marked");
    let mut tables = limited(ceilings(0, 10), true);
    tables.edge.backends.push(backend("b2", "10.1.0.2"));
    tables.edge.rings = vec![ring(1, NOBODY)];
    node.with_tables(&tables, |bench| {
        // Packet flags are the last byte of the second word of the tunnel header.
        let flags = |packet: &[u8]| {
            let traced = bench.arrive(packet);
            assert_eq!(traced.action, Action::Transmit);
            traced.packet[14 + 20 + 8 + 7]
        };
        let marked = (0..200).filter(|_| flags(&syn("192.0.2.10")) == 4).count();

        assert!(marked > 100, "{marked} of 200");
        assert_eq!(flags(&ack("192.0.2.10")), 0);
        let refused = refused(bench, "www");
        assert_eq!((refused.challenged, refused.flows), (marked as u64, 0));
    });
}
