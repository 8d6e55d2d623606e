//! What the program makes of the segment sizes that handshakes offer.

use isocast_dataplane::{Action, Outcome, Tables};

use crate::{
    edge::{expected, tunnel, v4, v6},
    support::{
        node::{Node, one_service},
        packet::{ACK, Flow, SYN, tcp_with_options},
    },
};

const NOP: u8 = 1;
const TIMESTAMPS: [u8; 10] = [8, 10, 0, 0, 0, 1, 0, 0, 0, 0];

fn mss(size: u16) -> [u8; 4] {
    let [high, low] = size.to_be_bytes();
    [2, 4, high, low]
}

fn tables(backend_address: &str, largest: u16) -> Tables {
    let mut tables = one_service(backend_address);
    for vip in &mut tables.edge.vips {
        vip.rules.segment_size = Some(largest);
    }
    tables
}

/// What a packet with `before` as its options leaves as is what one with `after` leaves as.
#[test]
fn handshake_offers_what_fits_the_path() {
    // 1600 bytes of uplink less outer headers with three further hops, less IP and TCP.
    for (backend_address, fits_v4, fits_v6) in [
        ("10.1.0.2", 1600 - 52 - 40, 1600 - 52 - 60),
        ("2001:db8:b::2", 1600 - 108 - 40, 1600 - 108 - 60),
    ] {
        let node = Node::new(if backend_address.contains(':') { "mss6" } else { "mss4" });
        node.with_tables(&tables(backend_address, u16::MAX), |bench| {
            for (flow, fits) in [(v4(443), fits_v4), (v6(443), fits_v6)] {
                for (before, after) in [
                    (mss(8960).to_vec(), mss(fits).to_vec()),
                    (mss(fits + 1).to_vec(), mss(fits).to_vec()),
                    (mss(fits).to_vec(), mss(fits).to_vec()),
                    (mss(536).to_vec(), mss(536).to_vec()),
                    ([&[NOP, NOP][..], &TIMESTAMPS, &mss(9000)].concat(), {
                        [&[NOP, NOP][..], &TIMESTAMPS, &mss(fits)].concat()
                    }),
                    // At an odd place.
                    ([&[NOP][..], &mss(9000), &[NOP; 3]].concat(), {
                        [&[NOP][..], &mss(fits), &[NOP; 3]].concat()
                    }),
                    ([&[NOP; 7][..], &mss(9000), &[0]].concat(), {
                        [&[NOP; 7][..], &mss(fits), &[0]].concat()
                    }),
                ] {
                    for flags in [SYN, SYN | 0xc0] {
                        let traced = bench.arrive(&tcp_with_options(flow, flags, &before));
                        let inner = tcp_with_options(flow, flags, &after);
                        let wanted =
                            expected(bench, &traced.packet, &tunnel(backend_address), &inner);
                        assert_eq!(traced.packet, wanted, "{before:?}");
                    }
                }
            }
        });
    }
}

#[test]
fn configured_ceiling_counts_where_it_is_lower() {
    Node::new("mssceil").with_tables(&tables("10.1.0.2", 1200), |bench| {
        for flow in [v4(443), v6(443)] {
            let packet = tcp_with_options(flow, SYN, &mss(1460));
            let counted = vec![Outcome::Encapsulated, Outcome::SegmentSizeClamped];
            assert_eq!(bench.outcome_of(&packet), (Action::Transmit, counted));
            let traced = bench.arrive(&packet);
            let inner = tcp_with_options(flow, SYN, &mss(1200));
            assert_eq!(traced.packet, expected(bench, &traced.packet, &tunnel("10.1.0.2"), &inner));
        }
    });
}

#[test]
fn everything_else_stays_as_it_was() {
    let node = Node::new("mssother");
    let untouched = |tables: &Tables, packets: &[Vec<u8>]| {
        node.with_tables(tables, |bench| {
            for packet in packets {
                let traced = bench.arrive(packet);
                let wanted = expected(bench, &traced.packet, &tunnel("10.1.0.2"), packet);
                assert_eq!(traced.packet, wanted);
            }
            assert_eq!(bench.counters().outcomes[&Outcome::SegmentSizeClamped], 0);
        });
    };
    let flow = v4(443);
    let in_the_data = |header_words: u8| {
        let mut packet = tcp_with_options(flow, SYN, &mss(9000));
        packet[32] = header_words << 4;
        packet
    };
    untouched(
        &tables("10.1.0.2", 1200),
        &[
            // Not a handshake, no such option, or not one that ends within the header.
            tcp_with_options(flow, ACK, &mss(9000)),
            tcp_with_options(flow, SYN, &[]),
            tcp_with_options(flow, SYN, &[0, 0, 0, 0, 2, 4, 0x23, 0x28]),
            tcp_with_options(flow, SYN, &[2, 3, 0x23, 0x28]),
            tcp_with_options(flow, SYN, &[3, 0, 2, 4, 0x23, 0x28, 0, 0]),
            tcp_with_options(flow, SYN, &[3, 255, 2, 4, 0x23, 0x28, 0, 0]),
            tcp_with_options(flow, SYN, &[NOP, NOP, NOP, 2]),
            in_the_data(5),
            in_the_data(0),
            // One option more than are looked at.
            tcp_with_options(flow, SYN, &[&[NOP; 8][..], &mss(9000)].concat()),
        ],
    );
    let as_it_was = tcp_with_options(Flow { source_port: 1, ..flow }, SYN, &mss(9000));
    untouched(&one_service("10.1.0.2"), &[as_it_was]);
}
