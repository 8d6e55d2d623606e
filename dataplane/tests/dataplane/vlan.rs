//! Frames with an 802.1Q tag: what comes off, what goes on, and what is left alone.

use aya::maps::{Array, Map, MapData};
use isocast_dataplane::{Action, Encap, Outcome, Probe, Protocol, Tables};
use isocast_dataplane_common::{limits::TARGET_POOL, tables::Target};

use crate::{
    probe::ask_with_mark,
    support::{
        node::{
            Bench, Node, OWN_V4, OWN_V6, TENANT, UPLINK, accept, address, one_service, tunnel_from,
        },
        packet::{ACK, ROUTER_MAC, SYN, echo, encapsulate, ethernet, flow, tcp, udp},
        run,
    },
};

/// Priority 5, VLAN 100.
const ARRIVED: u16 = 0xa064;
const OTHER: u16 = 200;

fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0], &tag.to_be_bytes(), rest].concat()
}

/// One service here and far away, and tunnels that end here.
fn tables(backend: &str) -> Tables {
    let mut tables = one_service(backend);
    tables.decap.sources = vec![address("10.9.0.1"), address("10.9.0.3")];
    tables.decap.accepts.push(accept("192.0.2.10", Protocol::Tcp, 443));
    tables
}

fn client_packets() -> Vec<Vec<u8>> {
    let (v4, v6) = (("198.51.100.7", "192.0.2.10"), ("2001:db8:c::7", "2001:db8:f::10"));
    [v4, v6]
        .into_iter()
        .flat_map(|(client, vip)| {
            let of = |port| flow(client, vip, port);
            [tcp(of(443), SYN, 0), tcp(of(443), ACK, 0), udp(of(53), b"q"), echo(of(0), false)]
        })
        .collect()
}

fn tunnelled(inner: &[u8], further: &[&str]) -> Vec<u8> {
    encapsulate(&tunnel_from("10.9.0.1", further), inner)
}

fn arrive(bench: &Bench, frame: &[u8]) -> (Action, Vec<u8>) {
    let traced = bench.dataplane.trace(frame, UPLINK, 1).expect("test run");
    (traced.action, traced.packet)
}

/// As sent by the router.
fn frame(bench: &Bench, packet: &[u8]) -> Vec<u8> {
    ethernet(bench.mac, ROUTER_MAC, packet)
}

/// Sends everything into a VLAN, as if routes led there.
fn route_into(node: &Node, tag: u16) {
    let data =
        MapData::from_pin(run(&format!("find {} -name TARGETS", node.pin_dir.display())).trim());
    let map = Map::Array(data.expect("pinned"));
    let mut targets: Array<_, [u32; 32]> = map.try_into().expect("targets");
    for number in 0..u32::try_from(TARGET_POOL).expect("few") {
        /// Where a target's flags are: see [`Target`].
        const FLAGS: usize = 26;
        let mut target = targets.get(&number, 0).expect("a target");
        if target[FLAGS] & Target::READY != 0 {
            target[FLAGS] |= Target::tag(tag);
            targets.set(number, target, 0).expect("write");
        }
    }
}

#[test]
fn packet_for_a_service_leaves_as_if_it_had_come_without_a_tag() {
    for backend in ["10.1.0.2", "2001:db8:b::2"] {
        Node::new("vlanout").with_tables(&tables(backend), |bench| {
            for packet in client_packets() {
                let frame = frame(bench, &packet);
                let without = arrive(bench, &frame);
                assert_eq!(without.0, Action::Transmit);
                assert_eq!(arrive(bench, &tagged(&frame, ARRIVED)), without);
            }
        });
    }
}

#[test]
fn packet_leaves_with_the_tag_of_its_way_whatever_it_came_with() {
    let node = Node::new("vlanway");
    node.with_tables(&tables("10.1.0.2"), |bench| {
        let stranger = tcp(flow("198.51.100.7", "192.0.2.10", 443), ACK, 0);
        let passed_on = tunnelled(&stranger, &["10.9.0.3"]);
        let packets = [client_packets(), vec![passed_on]].concat();
        let frames: Vec<_> = packets.iter().map(|packet| frame(bench, packet)).collect();
        let untagged: Vec<_> = frames.iter().map(|frame| arrive(bench, frame)).collect();

        route_into(&node, OTHER);

        for (frame, (action, left)) in frames.iter().zip(untagged) {
            assert_eq!(action, Action::Transmit);
            let wanted = (action, tagged(&left, OTHER));
            assert_eq!(arrive(bench, frame), wanted);
            assert_eq!(arrive(bench, &tagged(frame, ARRIVED)), wanted);
        }
    });
}

#[test]
fn what_goes_up_the_stack_keeps_its_tag() {
    let node = Node::new("vlanup");
    node.with_tables(&tables(OWN_V4), |bench| {
        let inner = tcp(flow("198.51.100.7", "192.0.2.10", 443), SYN, 0);
        let client = frame(bench, &inner);
        let tunnel = frame(bench, &tunnelled(&inner, &[]));
        for tag in [ARRIVED, 0] {
            let delivered = (Action::Pass, tagged(&client, tag));
            assert_eq!(arrive(bench, &tagged(&client, tag)), delivered);
            assert_eq!(arrive(bench, &tagged(&tunnel, tag)), delivered, "out of the tunnel");
        }
        let counted = bench.counters().outcomes;
        assert_eq!((counted[&Outcome::DeliveredHere], counted[&Outcome::Decapsulated]), (2, 2));
    });
}

#[test]
fn drops_are_dropped_and_counted_with_a_tag_as_without() {
    Node::new("vlandrop").with_tables(&tables("10.1.0.2"), |bench| {
        let unlisted = frame(bench, &tcp(flow("198.51.100.7", "192.0.2.10", 444), SYN, 0));
        let (action, _) = arrive(bench, &tagged(&unlisted, ARRIVED));
        assert_eq!(action, Action::Drop);
        assert_eq!(bench.counters().outcomes[&Outcome::UnlistedPort], 1);
    });
}

#[test]
fn what_is_not_ours_is_not_touched() {
    Node::new("vlannot").with_tables(&tables("10.1.0.2"), |bench| {
        let elsewhere = [
            tcp(flow("198.51.100.7", "203.0.113.9", 443), ACK, 0),
            udp(flow("2001:db8:c::7", OWN_V6, 53), b"q"),
        ];
        let ours = frame(bench, &client_packets()[0]);
        let mut frames: Vec<_> =
            elsewhere.iter().map(|packet| tagged(&frame(bench, packet), ARRIVED)).collect();
        // Two tags, of either kind.
        let two = tagged(&tagged(&ours, ARRIVED), 7);
        let mut service = two.clone();
        service[12..14].copy_from_slice(&[0x88, 0xa8]);
        let mut arp = tagged(&ours, ARRIVED);
        arp[16..18].copy_from_slice(&[0x08, 0x06]);
        // As long as an Ethernet and an IPv4 header, and no longer.
        let cut_off = tagged(&ours, ARRIVED)[..34].to_vec();
        frames.extend([two, service, arp, cut_off]);
        for frame in frames {
            assert_eq!(arrive(bench, &frame), (Action::Pass, frame.clone()));
        }
        assert!(bench.counters().outcomes.values().all(|count| *count == 0));
    });
}

#[test]
fn probes_leave_with_the_tag_of_their_target() {
    const MARK: u32 = 0x1001;
    let node = Node::new("vlanprobe");
    let mut tables = tables("10.1.0.2");
    let tunnel_address = address("10.1.0.2");
    tables.edge.probes.push(Probe {
        mark: MARK,
        tenant: TENANT,
        tunnel_address,
        encap: Encap::Gue,
    });
    for command in [
        "add table netdev seen".to_owned(),
        "add chain netdev seen in { type filter hook ingress device far0 priority 0 ; }".to_owned(),
        format!("add rule netdev seen in vlan id {OTHER} counter"),
    ] {
        node.namespace.run(&format!("nft {command}"));
    }
    let seen = || node.namespace.run("nft list chain netdev seen in");
    node.with_tables(&tables, |bench| {
        // It has no answer, for nobody is there.
        assert!(ask_with_mark(&node.namespace, "192.0.2.11", MARK).is_err());
        assert!(seen().contains("packets 0"), "{}", seen());
        assert!(bench.counters().outcomes[&Outcome::ProbeSent] > 0);
        route_into(&node, OTHER);
        assert!(ask_with_mark(&node.namespace, "192.0.2.11", MARK).is_err());
        assert!(!seen().contains("packets 0"), "{}", seen());
    });
}
