//! How announcements are packed and ordered.

use std::sync::Arc;

use isocast_bgp::adj_out::{AdjOut, Desired, SessionTerms};
use isocast_bgp::limits::MESSAGE_BYTES_MAX;
use isocast_bgp::types::{Asn, PerFamily};
use isocast_bgp::wire::community::Communities;
use isocast_bgp::wire::header::{Deframer, MessageType};
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::reader::Reader;
use isocast_bgp::wire::update::{self, Update};

use crate::pair::{desired, guard};
use crate::vectors::EXTERNAL;

fn up(adj_out: &mut AdjOut) {
    let hop = |text: &str| NextHop::new(text.parse().unwrap());
    adj_out.set_guard(guard(&["0.0.0.0/0", "::/0"]));
    adj_out.session_up(SessionTerms {
        codec: EXTERNAL,
        local_asn: Asn(65_010),
        next_hops: PerFamily { ipv4: hop("10.0.0.1"), ipv6: hop("2001:db8::1") },
    });
}

/// All UPDATEs that are due, each as one message of legal size.
fn drain(adj_out: &mut AdjOut) -> Vec<Update> {
    let mut updates = Vec::new();
    loop {
        let mut bytes = Vec::new();
        if !adj_out.transmit(&mut bytes) {
            return updates;
        }
        assert!(bytes.len() <= MESSAGE_BYTES_MAX);
        let mut deframer = Deframer::default();
        let message = deframer.next(&mut Reader::new(&bytes)).unwrap().unwrap();
        assert_eq!(message.kind, MessageType::Update);
        updates.push(update::decode(message.body, &EXTERNAL).unwrap());
    }
}

fn many(count: u32) -> Desired {
    let communities = Arc::new(Communities::default());
    let v4 = (0..count).map(|n| format!("10.{}.{}.{}/32", n >> 16, (n >> 8) & 255, n & 255));
    let v6 = (0..count).map(|n| format!("2001:db8::{n:x}/128"));
    v4.chain(v6).map(|text| (text.parse().unwrap(), Arc::clone(&communities))).collect()
}

#[test]
fn many_prefixes_share_messages_up_to_the_largest() {
    let mut adj_out = AdjOut::default();
    adj_out.set_desired(Arc::new(many(2000)));
    up(&mut adj_out);

    let updates = drain(&mut adj_out);

    let announced: usize =
        updates.iter().flat_map(|update| &update.reach).map(|reach| reach.prefixes.len()).sum();
    assert_eq!(announced, 4000);
    assert_eq!(adj_out.sent().len(), 4000);
    assert!(updates.len() <= 3 + 9, "{} messages", updates.len());

    adj_out.set_desired(Arc::default());
    let withdrawn: usize = drain(&mut adj_out).iter().map(|update| update.withdrawn.len()).sum();
    assert_eq!(withdrawn, 4000);
    assert!(adj_out.sent().is_empty());
}

#[test]
fn withdrawals_go_before_announcements() {
    let mut adj_out = AdjOut::default();
    adj_out.set_desired(desired(&["192.0.2.1/32", "2001:db8::a/128"]));
    up(&mut adj_out);
    drain(&mut adj_out);

    adj_out.set_desired(desired(&["192.0.2.2/32"]));
    let updates = drain(&mut adj_out);

    assert_eq!(updates.len(), 3);
    assert!(updates[0].reach.is_empty() && updates[1].reach.is_empty());
    assert_eq!(updates[2].reach[0].prefixes, ["192.0.2.2/32".parse().unwrap()]);
}

#[test]
fn a_change_of_mind_before_it_is_sent_sends_nothing() {
    let mut adj_out = AdjOut::default();
    adj_out.set_desired(desired(&["192.0.2.1/32"]));
    up(&mut adj_out);
    drain(&mut adj_out);

    adj_out.set_desired(desired(&[]));
    adj_out.set_desired(desired(&["192.0.2.1/32"]));

    assert!(drain(&mut adj_out).is_empty());
}

#[test]
fn changed_communities_replace_the_route_without_a_withdrawal() {
    let mut adj_out = AdjOut::default();
    adj_out.set_desired(desired(&["192.0.2.1/32"]));
    up(&mut adj_out);
    drain(&mut adj_out);

    let draining = Arc::new(Communities::parse(["graceful-shutdown"]).unwrap());
    let prefix = "192.0.2.1/32".parse().unwrap();
    adj_out.set_desired(Arc::new(Desired::from([(prefix, Arc::clone(&draining))])));
    let updates = drain(&mut adj_out);

    assert_eq!(updates.len(), 1);
    assert!(updates[0].withdrawn.is_empty());
    assert_eq!(updates[0].attributes.communities, *draining);
}
