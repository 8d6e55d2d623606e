//! How announcements are packed and ordered.

use isocast_bgp::limits::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use isocast_bgp::wire::community::Communities;
use isocast_bgp::wire::header::MessageType;
use isocast_bgp::wire::update::{self, Update};

use crate::lone::announcements;
use crate::probe::{EXTERNAL_PEER, Probe, probed};
use crate::vectors::EXTERNAL;

fn announcing(prefixes: &[&str]) -> Probe {
    let mut probe = Probe::established(probed(EXTERNAL_PEER), &[]);
    probe.lone.want(probe.now, prefixes);
    probe
}

/// All UPDATEs that are due, each as one message of legal size.
fn drain(probe: &mut Probe) -> Vec<Update> {
    let mut updates = Vec::new();
    loop {
        probe.lone.work(probe.now, &mut Vec::new());
        let said = probe.say();
        if said.is_empty() {
            return updates;
        }
        for (kind, body) in said {
            assert_eq!(kind, MessageType::Update);
            assert!(body.len() + HEADER_BYTES <= MESSAGE_BYTES_MAX);
            updates.push(update::decode(&body, &EXTERNAL).unwrap());
        }
    }
}

fn many(count: u32) -> Vec<String> {
    let v4 = (0..count).map(|n| format!("10.{}.{}.{}/32", n >> 16, (n >> 8) & 255, n & 255));
    let v6 = (0..count).map(|n| format!("2001:db8::{n:x}/128"));
    v4.chain(v6).collect()
}

fn told(probe: &Probe) -> usize {
    let counts = probe.lone.counts();
    usize::try_from(counts.ipv4.told + counts.ipv6.told).unwrap()
}

#[test]
fn many_prefixes_share_messages_up_to_the_largest() {
    let prefixes = many(2000);
    let mut probe = announcing(&prefixes.iter().map(String::as_str).collect::<Vec<_>>());

    let updates = drain(&mut probe);

    let announced: usize =
        updates.iter().flat_map(|update| &update.reach).map(|reach| reach.prefixes.len()).sum();
    assert_eq!((announced, told(&probe)), (4000, 4000));
    // The table looks at 512 prefixes at a time: no more than that share a message.
    assert!(updates.len() <= 2 * 2000_usize.div_ceil(512) * 2, "{} messages", updates.len());

    probe.lone.want(probe.now, &[]);
    let withdrawn: usize = drain(&mut probe).iter().map(|update| update.withdrawn.len()).sum();
    assert_eq!((withdrawn, told(&probe)), (4000, 0));
}

#[test]
fn withdrawals_go_before_announcements() {
    let mut probe = announcing(&["192.0.2.1/32", "2001:db8::a/128"]);
    drain(&mut probe);

    probe.lone.want(probe.now, &["192.0.2.2/32"]);
    let updates = drain(&mut probe);

    let of_ipv4: Vec<_> = updates.iter().filter(|update| !has_ipv6(update)).collect();
    assert_eq!((updates.len(), of_ipv4.len()), (3, 2));
    assert!(of_ipv4[0].reach.is_empty());
    assert_eq!(of_ipv4[1].reach[0].prefixes, ["192.0.2.2/32".parse().unwrap()]);
}

fn has_ipv6(update: &Update) -> bool {
    update.withdrawn.iter().any(|prefix| prefix.addr().is_ipv6())
}

#[test]
fn a_change_of_mind_before_it_is_sent_withdraws_nothing() {
    let mut probe = announcing(&["192.0.2.1/32"]);
    drain(&mut probe);

    probe.lone.want(probe.now, &[]);
    probe.lone.want(probe.now, &["192.0.2.1/32"]);

    let said = drain(&mut probe);
    assert!(said.len() == 1 && said[0].withdrawn.is_empty(), "{said:?}");
    assert_eq!(told(&probe), 1);
}

#[test]
fn changed_communities_replace_the_route_without_a_withdrawal() {
    let mut probe = announcing(&["192.0.2.1/32"]);
    drain(&mut probe);

    probe.lone.speaker.set_local(announcements(&["192.0.2.1/32"], &["graceful-shutdown"]));
    let updates = drain(&mut probe);

    assert_eq!(updates.len(), 1);
    assert!(updates[0].withdrawn.is_empty());
    let draining = Communities::parse(["graceful-shutdown"]).unwrap();
    assert_eq!(updates[0].attributes.communities, draining);
}
