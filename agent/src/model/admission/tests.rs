//! What is admitted, refused and kept.

use isocast_api::agent::{self as wire, FragmentHandling, Role};
use isocast_dataplane::Fragments;
use isocast_dataplane_common::policy::MAX_SOURCES_PER_SERVICE;
use proptest::prelude::*;

use super::*;
use crate::model::{PacketPolicy, testing};

const MANY: Limits = Limits { services: 100 };
const ONE: Limits = Limits { services: 1 };

/// A version of an entry: its number goes into what the model shows.
#[derive(Clone, Copy, Debug)]
enum Is {
    Good(u8),
    Bad,
}

fn node() -> Entry {
    let node = wire::Node {
        name: "edge-1".into(),
        datacenter: "ams".into(),
        roles: vec![Role::Edge.into()],
        tunnel_addresses: vec!["10.0.0.1".into()],
        asn: 65010,
        router_id: "10.0.0.1".into(),
        keyring: Some(testing::keyring()),
        ..wire::Node::default()
    };
    Entry { key: NODE.into(), value: Some(Value::Node(node)) }
}

/// Service `id` at an address of its own.
fn service(id: u8, pool: Option<u8>, version: Is) -> Entry {
    let check = wire::HealthCheck {
        port: 80,
        interval_ms: 500,
        fast_interval_ms: 100,
        timeout_ms: 300,
        rise: 2,
        fall: 3,
        ..wire::HealthCheck::default()
    };
    let (generation, port) = match version {
        Is::Good(generation) => (generation.into(), 80),
        Is::Bad => (99, 0),
    };
    let port = wire::Port { protocol: wire::Protocol::Tcp.into(), port, ..<_>::default() };
    let service = wire::Service {
        uid: format!("s{id}"),
        namespace: "web".into(),
        name: format!("service-{id}"),
        generation,
        addresses: vec![format!("203.0.113.{id}")],
        ports: vec![port],
        pool_uid: pool.map(|pool| format!("p{pool}")).unwrap_or_default(),
        health_check: Some(check),
        ..wire::Service::default()
    };
    Entry { key: format!("service/s{id}"), value: Some(Value::Service(service)) }
}

fn pool(id: u8, version: Is) -> Entry {
    let (weight, tunnel_address) = match version {
        Is::Good(version) => (version.into(), "10.0.0.9"),
        Is::Bad => (99, "nowhere"),
    };
    let backend = wire::Backend {
        uid: "b".into(),
        tunnel_address: tunnel_address.into(),
        weight,
        ..wire::Backend::default()
    };
    let pool =
        wire::BackendPool { uid: format!("p{id}"), backends: vec![backend], ..<_>::default() };
    Entry { key: format!("pool/p{id}"), value: Some(Value::Pool(pool)) }
}

fn of(entries: impl IntoIterator<Item = Entry>) -> Configuration {
    Configuration::from_entries(entries.into_iter().chain([node()])).unwrap()
}

/// What a node went through: each configuration is judged by what the one before left.
struct History {
    configuration: Configuration,
    refusals: Refusals,
    model: NodeModel,
}

impl History {
    fn begin(limits: Limits, entries: impl IntoIterator<Item = Entry>) -> Self {
        let configuration = of(entries);
        let Admission { model, refusals } = admit(&configuration, limits, None).unwrap();
        Self { configuration, refusals, model }
    }

    fn then(self, limits: Limits, entries: impl IntoIterator<Item = Entry>) -> Self {
        let configuration = of(entries);
        let before = Precedent::new(&self.configuration, &self.refusals);
        let Admission { model, refusals } = admit(&configuration, limits, Some(&before)).unwrap();
        Self { configuration, refusals, model }
    }

    /// Generations of the services in force.
    fn services(&self) -> Vec<(&str, i64)> {
        let services = self.model.services.iter();
        services.map(|(uid, service)| (&**uid, service.generation)).collect()
    }

    /// Versions of the pools in force.
    fn pools(&self) -> Vec<(&str, u32)> {
        let weight = |pool: &crate::model::Pool| pool.backends[0].weight;
        self.model.pools.iter().map(|(uid, pool)| (&**uid, weight(pool))).collect()
    }

    fn refused(&self) -> Vec<(&str, &str)> {
        let errors = self.refusals.errors.iter();
        errors.map(|error| (error.key.as_str(), error.reason.as_str())).collect()
    }
}

#[test]
fn a_malformed_entry_keeps_its_former_version_and_the_others_go_on() {
    let history = History::begin(MANY, [1, 2].map(|id| service(id, None, Is::Good(1))));

    let history = history.then(MANY, [service(1, None, Is::Bad), service(2, None, Is::Good(2))]);

    assert_eq!(history.services(), [("s1", 1), ("s2", 2)]);
    assert_eq!(history.refused(), [("service/s1", "Invalid")]);
    assert_eq!(history.refusals.errors[0].name, "web/service-1");
    assert!(history.refusals.errors[0].message.contains("ports.port: 0"));
}

#[test]
fn rules_for_packets_have_defaults_and_bounds() {
    let with = |fragments, mss_clamp| {
        let mut entry = service(1, None, Is::Good(1));
        if let Some(Value::Service(wire)) = &mut entry.value {
            wire.fragments = fragments;
            wire.mss_clamp = mss_clamp;
        }
        History::begin(MANY, [entry])
    };
    let packets =
        |history: &History| history.model.services.values().next().map(|service| service.packets);
    let fragments = |tcp: FragmentHandling, udp: FragmentHandling| {
        Some(wire::FragmentPolicy { tcp: tcp.into(), udp: udp.into() })
    };

    let silent = with(None, None);
    assert_eq!(packets(&silent), Some(PacketPolicy::default()));

    let all = fragments(FragmentHandling::Hash, FragmentHandling::Drop);
    let told = with(all, Some(wire::MssClamp { largest: 1400 }));
    let expected = PacketPolicy {
        tcp_fragments: Fragments::Hash,
        udp_fragments: Fragments::Drop,
        segment_size: Some(1400),
    };
    assert_eq!(packets(&told), Some(expected));

    let any = with(None, Some(wire::MssClamp { largest: 0 }));
    assert_eq!(packets(&any).unwrap().segment_size, Some(u16::MAX));

    let beyond = with(None, Some(wire::MssClamp { largest: 65_536 }));
    assert_eq!(beyond.refused(), [("service/s1", "Invalid")]);
}

#[test]
fn a_malformed_newcomer_is_absent() {
    let history = History::begin(MANY, [service(1, None, Is::Bad), pool(1, Is::Good(1))]);

    assert_eq!((history.services(), history.pools()), (vec![], vec![("p1", 1)]));
    assert!(history.refusals.kept.is_empty());
}

#[test]
fn a_newcomer_beyond_the_limit_is_refused_whatever_its_uid() {
    for (old, new) in [(1, 2), (2, 1)] {
        let history = History::begin(ONE, [service(old, None, Is::Good(1))]);

        let both = [service(old, None, Is::Good(2)), service(new, None, Is::Good(1))];
        let history = history.then(ONE, both);

        assert_eq!(history.services(), [(format!("s{old}").as_str(), 2)]);
        assert_eq!(history.refused(), [(format!("service/s{new}").as_str(), "TooManyServices")]);
    }
}

#[test]
fn who_waited_for_room_gets_it_once_there_is_some() {
    let both = [1, 2].map(|id| service(id, None, Is::Good(1)));
    let history = History::begin(ONE, both);
    assert_eq!(history.services(), [("s1", 1)]);

    let history = history.then(ONE, [service(2, None, Is::Good(1))]);

    assert_eq!((history.services(), history.refused()), (vec![("s2", 1)], vec![]));
}

#[test]
fn a_change_that_needs_a_refused_pool_stays_back_together_with_it() {
    let history = History::begin(MANY, [pool(1, Is::Good(1)), service(1, Some(1), Is::Good(1))]);

    let history = history.then(MANY, [pool(1, Is::Bad), service(1, Some(1), Is::Good(2))]);

    assert_eq!((history.services(), history.pools()), (vec![("s1", 1)], vec![("p1", 1)]));
    let refused = [("pool/p1", "Invalid"), ("service/s1", "DependencyRefused")];
    assert_eq!(history.refused(), refused);
    assert!(history.refusals.errors[1].message.contains("nowhere"), "says why");
}

#[test]
fn an_unchanged_service_is_not_refused_for_the_sake_of_its_pool() {
    let history = History::begin(MANY, [pool(1, Is::Good(1)), service(1, Some(1), Is::Good(1))]);

    let history = history.then(MANY, [pool(1, Is::Bad), service(1, Some(1), Is::Good(1))]);

    assert_eq!((history.services(), history.pools()), (vec![("s1", 1)], vec![("p1", 1)]));
    assert_eq!(history.refused(), [("pool/p1", "Invalid")]);
}

#[test]
fn a_former_version_keeps_the_pool_that_the_configuration_no_longer_has() {
    let history = History::begin(MANY, [pool(1, Is::Good(1)), service(1, Some(1), Is::Good(1))]);

    let history = history.then(MANY, [pool(2, Is::Bad), service(1, Some(2), Is::Good(2))]);

    assert_eq!((history.services(), history.pools()), (vec![("s1", 1)], vec![("p1", 1)]));
    let gone = history.then(MANY, []);
    assert_eq!((gone.services(), gone.pools()), (vec![], vec![]));
    assert!(gone.refusals.kept.is_empty());
}

#[test]
fn a_former_version_gives_way_to_whom_its_address_was_given() {
    let history = History::begin(MANY, [service(1, None, Is::Good(1))]);
    let mut heir = service(2, None, Is::Good(1));
    let Some(Value::Service(wire)) = &mut heir.value else { unreachable!() };
    wire.addresses = vec!["203.0.113.1".into()];
    wire.tenant_id = 7;
    wire.ports[0].port = 443;

    let history = history.then(MANY, [service(1, None, Is::Bad), heir]);

    assert_eq!(history.services(), [("s2", 1)]);
}

#[test]
fn of_two_services_with_one_listener_the_one_in_force_keeps_it() {
    let history = History::begin(MANY, [service(2, None, Is::Good(1))]);
    let mut rival = service(1, None, Is::Good(1));
    let Some(Value::Service(wire)) = &mut rival.value else { unreachable!() };
    wire.addresses = vec!["203.0.113.2".into()];

    let history = history.then(MANY, [rival, service(2, None, Is::Good(1))]);

    assert_eq!(history.services(), [("s2", 1)]);
    assert_eq!(history.refused(), [("service/s1", "PortInUse")]);
}

#[test]
fn an_address_of_the_node_itself_is_no_services() {
    let mut greedy = service(1, None, Is::Good(1));
    let Some(Value::Service(wire)) = &mut greedy.value else { unreachable!() };
    wire.addresses = vec!["10.0.0.1".into()];

    let history = History::begin(MANY, [greedy, service(2, None, Is::Good(1))]);

    assert_eq!(history.services(), [("s2", 1)]);
    assert_eq!(history.refused(), [("service/s1", "AddressInUse")]);
}

#[test]
fn an_entry_under_a_strange_key_is_refused() {
    let mut stray = service(1, None, Is::Good(1));
    stray.key = "service/other".into();

    let history = History::begin(MANY, [stray, service(1, None, Is::Good(1))]);

    assert_eq!(history.services(), [("s1", 1)]);
    assert_eq!(history.refused(), [("service/other", "Invalid")]);
}

#[test]
fn without_a_usable_node_nothing_is_taken() {
    let none = Configuration::from_entries([service(1, None, Is::Good(1))]).unwrap();
    assert_eq!(admit(&none, MANY, None).unwrap_err()[0].reason, "Missing");

    let mut broken = node();
    let Some(Value::Node(wire)) = &mut broken.value else { unreachable!() };
    wire.router_id = "x".into();
    let broken = Configuration::from_entries([service(1, None, Is::Good(1)), broken]).unwrap();

    assert_eq!(admit(&broken, MANY, None).unwrap_err()[0].key, NODE);
}

type World = (BTreeMap<u8, Is>, BTreeMap<u8, (Option<u8>, Is)>);

fn version() -> impl Strategy<Value = Is> {
    prop_oneof![3 => (1_u8..4).prop_map(Is::Good), 1 => Just(Is::Bad)]
}

/// Pools by id, and services with the pool that each names.
fn world() -> impl Strategy<Value = World> {
    let pools = prop::collection::btree_map(0_u8..3, version(), 0..4);
    let service = (prop::option::of(0_u8..3), version());
    (pools, prop::collection::btree_map(1_u8..6, service, 0..6))
}

fn entries((pools, services): &World) -> Vec<Entry> {
    let pools = pools.iter().map(|(id, is)| pool(*id, *is));
    pools.chain(services.iter().map(|(id, (pool, is))| service(*id, *pool, *is))).collect()
}

/// Whether nothing about a service or what it needs is wrong.
fn is_sound((pools, _): &World, (pool, is): &(Option<u8>, Is)) -> bool {
    let pool_is_good = pool.is_none_or(|pool| matches!(pools.get(&pool), Some(Is::Good(_))));
    matches!(is, Is::Good(_)) && pool_is_good
}

proptest! {
    /// Whatever else is wrong, what is right is in force; what is refused runs its former
    /// version or nothing; nothing in force lacks what it needs.
    #[test]
    fn every_valid_entry_is_in_force(worlds in prop::collection::vec(world(), 1..5)) {
        let mut history = History::begin(MANY, []);
        for world in &worlds {
            let before = history.model.clone();
            history = history.then(MANY, entries(world));

            let refused: BTreeSet<_> =
                history.refusals.errors.iter().map(|error| error.key.as_str()).collect();
            for (id, is) in &world.0 {
                let uid = format!("p{id}");
                match is {
                    Is::Good(version) => {
                        let in_force = &history.model.pools[uid.as_str()];
                        prop_assert_eq!(in_force.backends[0].weight, u32::from(*version));
                    }
                    Is::Bad => {
                        let key = format!("pool/{uid}");
                        prop_assert!(refused.contains(key.as_str()));
                    }
                }
            }
            for (id, service) in &world.1 {
                let uid = format!("s{id}");
                let in_force = history.model.services.get(uid.as_str());
                if is_sound(world, service) {
                    let Is::Good(version) = service.1 else { unreachable!() };
                    prop_assert_eq!(in_force.unwrap().generation, i64::from(version));
                } else if refused.contains(format!("service/{uid}").as_str()) {
                    prop_assert_eq!(in_force, before.services.get(uid.as_str()));
                } else {
                    // It was in force as it is, over a pool that stays as it was.
                    prop_assert_eq!(in_force, before.services.get(uid.as_str()));
                    prop_assert!(in_force.is_some());
                }
            }
            for service in history.model.services.values() {
                let needed = service.pool.as_ref();
                prop_assert!(needed.is_none_or(|uid| history.model.pools.contains_key(uid)));
                prop_assert!(world.1.contains_key(&service.uid[1..].parse().unwrap()));
            }
        }
    }

    /// A restart, and a repeated delivery, change nothing: the decision stands on itself.
    #[test]
    fn a_decision_is_the_same_once_it_is_in_force(
        worlds in prop::collection::vec(world(), 1..5),
        services in 0_usize..5,
    ) {
        let limits = Limits { services };
        let mut history = History::begin(MANY, []);
        for world in &worlds {
            history = history.then(limits, entries(world));
            let (model, refusals) = (history.model.clone(), history.refusals.clone());

            history = history.then(limits, entries(world));

            prop_assert!(model.services.len() <= services);
            prop_assert_eq!(&history.model, &model);
            prop_assert_eq!(&history.refusals, &refusals);
        }
    }

    /// Entries are a set.
    #[test]
    fn the_order_of_entries_means_nothing(
        world in world(),
        next in world().prop_flat_map(|next| {
            let entries = entries(&next);
            (Just(entries.clone()), Just(entries).prop_shuffle())
        }),
    ) {
        let [one, other] = [next.0, next.1].map(|next| {
            History::begin(ONE, entries(&world)).then(ONE, next)
        });

        prop_assert_eq!(one.model, other.model);
        prop_assert_eq!(one.refusals, other.refusals);
    }
}

/// A service with `count` prefixes of sources.
fn listed(id: u8, count: usize, tenant: u32) -> Entry {
    let mut entry = service(id, None, Is::Good(1));
    if let Some(Value::Service(service)) = &mut entry.value {
        let base = u32::from(id) << 24;
        let prefixes = (0..u32::try_from(count).unwrap())
            .map(|n| format!("{}/32", std::net::Ipv4Addr::from(base | n)));
        service.allowed_sources = prefixes.collect();
        service.tenant_id = tenant;
    }
    entry
}

#[test]
fn a_source_list_that_finds_no_room_is_refused_and_those_in_force_stay() {
    let full = u8::try_from(MAX_SOURCES / MAX_SOURCES_PER_SERVICE).unwrap();
    let all = |last| (1..=last).map(|id| listed(id, MAX_SOURCES_PER_SERVICE, 1));
    let history = History::begin(MANY, all(full));
    assert!(history.refused().is_empty());

    let history = history.then(MANY, [listed(0, 1, 1)].into_iter().chain(all(full)));

    assert_eq!(history.refused(), [("service/s0", "TooManySources")]);
    assert_eq!(history.services().len(), usize::from(full));
    assert!(history.refusals.errors[0].message.contains(&MAX_SOURCES.to_string()));
}

#[test]
fn a_source_list_that_is_none_is_refused_with_its_field() {
    type Change = fn(&mut wire::Service);
    let cases: [(Change, &str); 6] = [
        (|it| it.allowed_sources = vec!["10.0.0.1/8".into()], "allowed_sources: \"10.0.0.1/8\""),
        (|it| it.allowed_sources = vec!["10.0.0.1".into()], "allowed_sources: \"10.0.0.1\""),
        (|it| it.denied_sources = vec!["::/129".into()], "denied_sources: \"::/129\""),
        (
            |it| {
                it.allowed_sources = vec!["10.0.0.0/8".into()];
                it.denied_sources = vec!["10.0.0.0/8".into()];
            },
            "denied_sources: 10.0.0.0/8 is there twice",
        ),
        (|it| it.syn_cookies = true, "syn_cookies"),
        (
            |it| it.denied_sources = vec!["10.0.0.0/8".into(); MAX_SOURCES_PER_SERVICE + 1],
            "2049 prefixes, at most 2048 fit",
        ),
    ];
    for (change, said) in cases {
        let mut entry = service(1, None, Is::Good(1));
        if let Some(Value::Service(service)) = &mut entry.value {
            change(service);
        }
        let history = History::begin(MANY, [entry]);

        assert_eq!(history.refused(), [("service/s1", "Invalid")], "{said}");
        assert!(history.refusals.errors[0].message.contains(said), "{:?}", history.refusals);
    }
}

#[test]
fn one_limited_tenant_too_many_is_refused() {
    const ALL: Limits = Limits { services: 2 * MAX_LIMITED_TENANTS };
    let limited = |n: usize| {
        let mut entry = service(1, None, Is::Good(1));
        if let Some(Value::Service(service)) = &mut entry.value {
            service.uid = format!("t{n:04}");
            service.tenant_id = u32::try_from(n).unwrap();
            service.addresses =
                vec![std::net::Ipv4Addr::from(0xcb00_0000 + service.tenant_id).to_string()];
            service.tenant_limits =
                Some(wire::Ceilings { packets_per_second: 1, ..<_>::default() });
        }
        Entry { key: format!("service/t{n:04}"), ..entry }
    };
    let history = History::begin(ALL, (0..=MAX_LIMITED_TENANTS).map(limited));

    assert_eq!(history.refused(), [("service/t1024", "TooManyLimitedTenants")]);
}
