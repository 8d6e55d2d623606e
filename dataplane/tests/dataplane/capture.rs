//! What is captured of packets, and what never is.

use std::time::Duration;

use isocast_dataplane::{
    Action, CAPTURE_RECORDS, CaptureError, Captured, CapturedMember, CapturedVerdict, Outcome,
    Protocol, ServiceKey, TunnelHeader, Vip,
};
use isocast_dataplane_common::{
    NO_BACKEND,
    capture::{PACKETS_PER_WINDOW, SNAP_LEN},
};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

use crate::support::{
    node::{Bench, Node, TENANT, address, one_service, ring, vip},
    packet::{ACK, ROUTER_MAC, ethernet, flow, tcp, udp},
};

const LONG: Duration = Duration::from_secs(600);

fn www() -> ServiceKey {
    ServiceKey("www".into())
}

fn captured(bench: &Bench) -> Vec<Captured> {
    bench.dataplane.captured(usize::MAX).expect("records").0
}

#[test]
fn packet_is_captured_as_it_arrives_and_as_it_leaves() {
    let node = Node::new("capture");
    let mut tables = one_service("10.1.0.2");
    for (name, address) in [("b2", "10.1.0.3"), ("b3", "10.1.0.4")] {
        tables.edge.backends.push(crate::support::node::backend(name, address));
    }
    tables.edge.rings = vec![ring(0, &[1, 2])];
    node.with_tables(&tables, |bench| {
        let inner = tcp(flow("198.51.100.7", "192.0.2.10", 443), ACK, 0);
        let arriving = ethernet(bench.mac, ROUTER_MAC, &inner);
        bench.arrive(&inner);
        assert_eq!(captured(bench), [], "nothing is captured unless it is asked for");

        bench.dataplane.capture(&www(), 1, LONG).expect("armed");
        let traced = bench.arrive(&inner);

        let records = captured(bench);
        let [before, after] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((&before.data, &before.verdict), (&arriving, &None));
        let snapped = &traced.packet[..traced.packet.len().min(SNAP_LEN)];
        assert_eq!(after.data, snapped);
        assert_eq!(after.verdict, Some(CapturedVerdict::Went(Action::Transmit)));
        assert_eq!(after.len as usize, traced.packet.len());
        assert_eq!(before.packet, after.packet);
        let current = after.current.as_ref().expect("a backend");
        assert_eq!(current.address, address("10.1.0.2"));
        let key = |it: &CapturedMember| it.key.as_ref().map(|key| key.0.to_string());
        let further: Vec<_> = after.further.iter().map(|it| (key(it), it.address)).collect();
        let wanted = [("b2", "10.1.0.3"), ("b3", "10.1.0.4")];
        assert_eq!(further, wanted.map(|(name, at)| (Some(name.to_owned()), address(at))));
        let header = TunnelHeader::read(&after.data).expect("a tunnel header");
        assert_eq!(header.further_hops, wanted.map(|(_, at)| address(at)));
        assert_eq!((header.tenant, header.flags), (TENANT, 0));
        assert!(after.slot.is_some() && after.at_ns >= before.at_ns);
    });
}

#[test]
fn large_frames_are_cut_and_other_services_are_not_captured() {
    let node = Node::new("capture-cut");
    let mut tables = one_service("10.1.0.2");
    let other = ServiceKey("other".into());
    tables.edge.vips.push(Vip { service: other, ..vip("192.0.2.11", Protocol::Udp, 53) });
    node.with_tables(&tables, |bench| {
        bench.dataplane.capture(&www(), 1, LONG).expect("armed");
        bench.arrive(&udp(flow("198.51.100.7", "192.0.2.11", 53), b"query"));
        bench.arrive(&udp(flow("198.51.100.7", "203.0.113.9", 53), b"query"));
        assert_eq!(captured(bench), []);

        bench.arrive(&udp(flow("2001:db8:c::7", "2001:db8:f::10", 53), &[7; 1000]));

        let records = captured(bench);
        assert_eq!(records.len(), 2);
        assert!(records.iter().all(|it| it.data.len() == SNAP_LEN && it.len > 1000), "{records:?}");
        let unknown = bench.dataplane.capture(&ServiceKey("nobody".into()), 1, LONG);
        assert!(matches!(unknown, Err(CaptureError::NoService)), "{unknown:?}");
    });
}

#[test]
fn dropped_packet_has_its_reason() {
    let node = Node::new("capture-drop");
    let mut tables = one_service("10.1.0.2");
    tables.edge.rings = vec![ring(NO_BACKEND, &[])];
    node.with_tables(&tables, |bench| {
        bench.dataplane.capture(&www(), 1, LONG).expect("armed");
        bench.arrive(&udp(flow("198.51.100.7", "192.0.2.10", 53), b"query"));

        let records = captured(bench);

        let verdicts: Vec<_> = records.iter().map(|record| record.verdict).collect();
        assert_eq!(verdicts, [None, Some(CapturedVerdict::Dropped(Outcome::NoBackend))]);
        assert_eq!((&records[1].current, records[1].further.len()), (&None, 0));
    });
}

#[test]
fn drops_are_counted_by_service_and_begin_anew_with_its_number() {
    let node = Node::new("drops");
    let mut tables = one_service("10.1.0.2");
    tables.edge.rings = vec![ring(NO_BACKEND, &[])];
    node.with_tables(&tables, |bench| {
        let query = udp(flow("198.51.100.7", "192.0.2.10", 53), b"query");
        bench.arrive(&query);
        bench.arrive(&query);
        let drops = |bench: &Bench| bench.dataplane.drops().expect("drops");
        assert_eq!(drops(bench), [(www(), [(Outcome::NoBackend, 2)].into())].into());
        assert_eq!(bench.dataplane.tenants().get(&www()), Some(&TENANT));

        // Twice, for a number is free again one generation after its owner went.
        let named = |name: &str| {
            let mut tables = tables.clone();
            tables.edge.vips.iter_mut().for_each(|vip| vip.service = ServiceKey(name.into()));
            tables
        };
        for name in ["second", "third"] {
            bench.dataplane.apply(&named(name)).expect("tables");
        }
        assert_eq!(drops(bench), [].into());
        bench.arrive(&query);
        let third = ServiceKey("third".into());
        assert_eq!(drops(bench), [(third, [(Outcome::NoBackend, 1)].into())].into());
    });
}

#[test]
fn capture_ends_when_its_time_is_over_and_when_it_is_told_to() {
    let node = Node::new("capture-ends");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let query = udp(flow("198.51.100.7", "192.0.2.10", 53), b"query");
        let goes_on = |bench: &Bench| bench.dataplane.captured(0).expect("state").2;
        bench.dataplane.capture(&www(), 1, Duration::ZERO).expect("armed");
        assert!(goes_on(bench));
        bench.arrive(&query);
        assert!(!goes_on(bench), "the program disarmed itself");
        assert_eq!(captured(bench), []);

        bench.dataplane.capture(&www(), 1, LONG).expect("armed");
        bench.dataplane.prolong_capture(1, Duration::ZERO).expect("shortened");
        bench.arrive(&query);
        assert_eq!((captured(bench), goes_on(bench)), (Vec::new(), false));

        bench.dataplane.capture(&www(), 1, LONG).expect("armed");
        bench.dataplane.end_capture().expect("disarmed");
        bench.arrive(&query);
        assert_eq!(captured(bench), []);
    });
}

#[test]
fn one_packet_in_so_many_is_taken() {
    let node = Node::new("capture-sample");
    node.with_tables(&one_service("10.1.0.2"), |bench| {
        let frame =
            ethernet(bench.mac, ROUTER_MAC, &udp(flow("198.51.100.7", "192.0.2.10", 53), b"query"));
        bench.dataplane.capture(&www(), 10, LONG).expect("armed");
        // Each CPU takes one of its own in so many: all of these are one CPU's.
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu().expect("a CPU")).expect("a CPU of the set");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("stay on it");
        for _ in 0..100 {
            bench.dataplane.trace(&frame, crate::support::node::UPLINK, 1).expect("test run");
        }

        assert_eq!(captured(bench).len(), 2 * 100 / 10);
    });
}

#[test]
fn what_is_beyond_the_rate_or_the_ring_is_counted_and_memory_is_bounded() {
    let node = Node::new("capture-limit");
    let mut tables = one_service("10.1.0.2");
    // Delivered here: repeats of a test run see the packet as it was.
    tables.edge.backends = vec![crate::support::node::backend("b1", crate::support::node::OWN_V4)];
    node.with_tables(&tables, |bench| {
        let frame =
            ethernet(bench.mac, ROUTER_MAC, &udp(flow("198.51.100.7", "192.0.2.10", 53), b"query"));
        bench.dataplane.capture(&www(), 1, LONG).expect("armed");
        let packets = 200_000;
        bench.dataplane.trace(&frame, crate::support::node::UPLINK, packets).expect("test run");

        let (records, losses, _) = bench.dataplane.captured(usize::MAX).expect("records");

        assert!(records.len() <= CAPTURE_RECORDS, "{}", records.len());
        assert!(records.len() as u64 >= 2 * PACKETS_PER_WINDOW, "{}", records.len());
        let accounted = records.len() as u64 + losses.lost + 2 * losses.limited;
        assert_eq!(accounted, 2 * u64::from(packets), "{losses:?}");
        assert!(losses.limited > 0, "{losses:?}");
    });
}
