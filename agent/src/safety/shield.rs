//! [`shield()`]: what a configuration does not say must not take anything away.
//!
//! Configurations are made by a program from a store, and both have been known to lose things. So
//! absence is no order: a service that an edge had and that is neither configured any more nor
//! named by a tombstone stays in force as it was, and its owner is told. One that *was* removed
//! stays too, but only until the removal budget lets its routes go; so do the addresses that a
//! service gave up. The last routers are kept while there is anything to tell them. A backend that
//! is left without any service goes on with those it had, unless it is said to be idle.
//!
//! Pure. What is kept never stands in the way of what is configured: an address that another
//! service has now is given up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use isocast_api::agent::{Configuration, Entry, EntryError, Node, Role, Service, entry::Value};

use crate::model::{Departures, Refusals, Uid};

/// A configuration with what it must not lose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shielded {
    /// What is to be put in force.
    pub configuration: Configuration,
    /// What of it was not in the configuration received.
    pub kept: Vec<Entry>,
    /// What is missing without a word, for its owners.
    pub errors: Vec<EntryError>,
    /// The services and addresses that are no longer configured.
    pub departures: Departures,
}

/// Puts what is missing in `received`, and was in force `before`, back.
#[must_use]
pub fn shield(received: &Configuration, before: &Configuration) -> Shielded {
    if !is_edge(received) || !is_edge(before) {
        return shield_backend(received, before);
    }
    let mut shielding = Shielding {
        taken: taken(received),
        received,
        before,
        entries: received.entries().map(|entry| (entry.key.clone(), entry.clone())).collect(),
        is_guard_kept: false,
        out: Shielded::default(),
    };
    for (entry, service) in services(before) {
        match received.get(&entry.key) {
            Some(_) => shielding.give_up_addresses(entry, service),
            None => shielding.keep_service(entry, service),
        }
    }
    shielding.keep_the_last_routers();
    shielding.finish()
}

/// Only an edge announces; a backend's services come and go with the pools that name it. But all of
/// them at once, and nobody says that it is meant so: then whoever still sends here is still served.
fn shield_backend(received: &Configuration, before: &Configuration) -> Shielded {
    let is_idle = matches!(own(received), Some(node) if node.idle);
    let is_same_role = is_edge(received) == is_edge(before);
    let mut shielded = Shielded { configuration: received.clone(), ..Shielded::default() };
    if is_idle || !is_same_role || services(received).next().is_some() {
        return shielded;
    }
    for (entry, service) in services(before) {
        let name = format!("{}/{}", service.namespace, service.name);
        shielded.errors.push(missing(&entry.key, name));
    }
    if shielded.errors.is_empty() {
        return shielded;
    }
    let carries = |entry: &&Entry| {
        let value = entry.value.as_ref();
        matches!(value, Some(Value::Service(_) | Value::Pool(_) | Value::Source(_)))
            && received.get(&entry.key).is_none()
    };
    shielded.kept = before.entries().filter(carries).cloned().collect();
    let all = received.entries().chain(&shielded.kept).cloned();
    match Configuration::from_entries(all) {
        Ok(configuration) => Shielded { configuration, ..shielded },
        Err(_) => Shielded { configuration: received.clone(), ..Shielded::default() },
    }
}

struct Shielding<'a> {
    received: &'a Configuration,
    before: &'a Configuration,
    /// Addresses that services have now.
    taken: BTreeSet<&'a str>,
    entries: BTreeMap<String, Entry>,
    /// Whether the node may announce more than it was told.
    is_guard_kept: bool,
    out: Shielded,
}

// === impl Shielding ===

impl Shielding<'_> {
    fn keep_service(&mut self, entry: &Entry, service: &Service) {
        let mut service = service.clone();
        service.addresses.retain(|address| !self.taken.contains(address.as_str()));
        if service.addresses.is_empty() {
            return;
        }
        if !self.is_removed(&service.uid) {
            self.out.departures.missing.insert(Uid::from(service.uid.as_str()));
            let name = format!("{}/{}", service.namespace, service.name);
            self.out.errors.push(missing(&entry.key, name));
            self.keep_announceable(&service);
        }
        let pool = format!("pool/{}", service.pool_uid);
        if !self.entries.contains_key(&pool)
            && let Some(pool) = self.before.get(&pool)
        {
            self.keep(pool.clone());
        }
        self.keep(Entry { key: entry.key.clone(), value: Some(Value::Service(service)) });
    }

    /// The export guard is made of the services that are configured, so what is lost with one of
    /// them is its right to be announced, too. It is kept as far as it was there.
    fn keep_announceable(&mut self, service: &Service) {
        let Some(Entry { value: Some(Value::Node(node)), .. }) = self.entries.get_mut("node")
        else {
            return;
        };
        let parsed = |list: &[String]| -> Vec<IpNet> {
            list.iter().filter_map(|prefix| prefix.parse().ok()).collect()
        };
        let had = own(self.before).map(|node| parsed(&node.announceable_prefixes));
        let has = parsed(&node.announceable_prefixes);
        let covers =
            |list: &[IpNet], address: &IpAddr| list.iter().any(|prefix| prefix.contains(address));
        let addresses =
            service.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
        let lost: Vec<String> = addresses
            .filter(|address| covers(had.as_deref().unwrap_or_default(), address))
            .filter(|address| !covers(&has, address))
            .map(|address| IpNet::from(address).to_string())
            .collect();
        if !lost.is_empty() {
            node.announceable_prefixes.extend(lost);
            self.is_guard_kept = true;
        }
    }

    /// A service that is still there goes on at the addresses it no longer has, until their routes
    /// are gone.
    fn give_up_addresses(&mut self, entry: &Entry, service: &Service) {
        let Some(Entry { value: Some(Value::Service(now)), .. }) = self.entries.get_mut(&entry.key)
        else {
            return;
        };
        for address in &service.addresses {
            if self.taken.contains(address.as_str()) || now.addresses.contains(address) {
                continue;
            }
            if let Ok(parsed) = address.parse::<IpAddr>() {
                self.out.departures.addresses.insert(parsed);
                now.addresses.push(address.clone());
            }
        }
    }

    /// Without a router nothing is announced, so to lose all of them is to withdraw everything.
    fn keep_the_last_routers(&mut self) {
        let is_router = |entry: &&Entry| matches!(entry.value, Some(Value::BgpPeer(_)));
        if self.received.entries().any(|entry| is_router(&entry)) {
            return;
        }
        for entry in self.before.entries().filter(is_router) {
            let Some(Value::BgpPeer(peer)) = &entry.value else { continue };
            if !self.is_removed(&peer.uid) {
                self.out.errors.push(missing(&entry.key, peer.name.clone()));
                self.keep(entry.clone());
            }
        }
    }

    fn keep(&mut self, entry: Entry) {
        self.entries.insert(entry.key.clone(), entry.clone());
        self.out.kept.push(entry);
    }

    fn is_removed(&self, uid: &str) -> bool {
        self.received.get(&tombstone(uid)).is_some()
    }

    fn finish(mut self) -> Shielded {
        if self.is_guard_kept {
            self.out.kept.extend(self.entries.get("node").cloned());
        }
        // Keys of a map are unique, and every entry has been in a configuration before.
        let configuration = Configuration::from_entries(self.entries.into_values());
        match configuration {
            Ok(configuration) => Shielded { configuration, ..self.out },
            Err(_) => Shielded { configuration: self.received.clone(), ..Shielded::default() },
        }
    }
}

impl Shielded {
    /// Adds what is kept, and what its owners are to be told, to what was refused.
    pub fn join(&self, refusals: &mut Refusals) {
        refusals.errors.extend(self.errors.iter().cloned());
        let kept: BTreeMap<_, _> =
            self.kept.iter().chain(refusals.kept.entries()).map(|it| (&it.key, it)).collect();
        let kept = Configuration::from_entries(kept.into_values().cloned());
        refusals.kept = kept.unwrap_or_default();
    }

    /// Leaves routers the export policies that they had `before`: the new ones would take `lost`
    /// routes away from all of them.
    pub fn keep_policies(&mut self, before: &Configuration, lost: usize) {
        let mut entries: BTreeMap<String, Entry> =
            self.configuration.entries().map(|it| (it.key.clone(), it.clone())).collect();
        for (key, entry) in &mut entries {
            let former = before.get(key).and_then(|entry| entry.value.as_ref());
            let (Some(Value::BgpPeer(now)), Some(Value::BgpPeer(former))) =
                (&mut entry.value, former)
            else {
                continue;
            };
            if now.export_policy == former.export_policy && now.connection == former.connection {
                continue;
            }
            now.export_policy.clone_from(&former.export_policy);
            now.connection = former.connection;
            self.errors.push(EntryError {
                key: key.clone(),
                reason: "WouldWithdraw".to_owned(),
                message: format!("its export policy would withdraw {lost} routes at once"),
                name: now.name.clone(),
            });
            self.kept.push(entry.clone());
        }
        if let Ok(configuration) = Configuration::from_entries(entries.into_values()) {
            self.configuration = configuration;
        }
    }

    /// Without what was removed and is announced no longer; none if there is nothing of the kind.
    #[must_use]
    pub fn released(&self, is_announced: impl Fn(&IpAddr) -> bool) -> Option<Self> {
        let addresses: BTreeSet<IpAddr> =
            self.departures.addresses.iter().filter(|it| !is_announced(it)).copied().collect();
        let is_gone = |entry: &&Entry| {
            matches!(&entry.value, Some(Value::Service(service))
                if self.configuration.get(&tombstone(&service.uid)).is_some()
                    && !service.addresses.iter().filter_map(|it| it.parse().ok()).any(|it| is_announced(&it)))
        };
        let gone: BTreeSet<&str> =
            self.kept.iter().filter(is_gone).map(|entry| entry.key.as_str()).collect();
        if gone.is_empty() && addresses.is_empty() {
            return None;
        }
        let stays = |entry: &&Entry| !gone.contains(entry.key.as_str());
        let entries = self.configuration.entries().filter(stays).cloned().map(|mut entry| {
            if let Some(Value::Service(service)) = &mut entry.value {
                let stays = |it: &String| !it.parse().is_ok_and(|it| addresses.contains(&it));
                service.addresses.retain(stays);
            }
            entry
        });
        let configuration = Configuration::from_entries(entries);
        let mut departures = self.departures.clone();
        departures.addresses.retain(|it| !addresses.contains(it));
        Some(Self {
            configuration: configuration.unwrap_or_else(|_| self.configuration.clone()),
            kept: self.kept.iter().filter(stays).cloned().collect(),
            errors: self.errors.clone(),
            departures,
        })
    }
}

fn tombstone(uid: &str) -> String {
    format!("tombstone/{uid}")
}

fn services(configuration: &Configuration) -> impl Iterator<Item = (&Entry, &Service)> {
    configuration.entries().filter_map(|entry| match &entry.value {
        Some(Value::Service(service)) => Some((entry, service)),
        _ => None,
    })
}

fn taken(configuration: &Configuration) -> BTreeSet<&str> {
    services(configuration).flat_map(|(_, it)| it.addresses.iter().map(String::as_str)).collect()
}

fn own(configuration: &Configuration) -> Option<&Node> {
    match configuration.get("node")?.value.as_ref()? {
        Value::Node(node) => Some(node),
        _ => None,
    }
}

fn is_edge(configuration: &Configuration) -> bool {
    own(configuration).is_some_and(|node| node.roles().any(|role| role == Role::Edge))
}

fn missing(key: &str, name: String) -> EntryError {
    EntryError {
        key: key.to_owned(),
        reason: "MissingFromConfiguration".to_owned(),
        message: "it is missing from the configuration and nobody removed it: it stays as it was"
            .to_owned(),
        name,
    }
}

#[cfg(test)]
mod tests {
    use isocast_api::agent::{self as wire, Tombstone};
    use proptest::prelude::*;

    use super::*;

    fn entry(key: String, value: Value) -> Entry {
        Entry { key, value: Some(value) }
    }

    fn node(role: Role) -> Entry {
        may_announce(role, &[])
    }

    fn may_announce(role: Role, prefixes: &[&str]) -> Entry {
        let announceable_prefixes = prefixes.iter().map(|it| (*it).to_owned()).collect();
        let node = Node { roles: vec![role.into()], announceable_prefixes, ..Node::default() };
        entry("node".into(), Value::Node(node))
    }

    fn service(uid: &str, addresses: &[&str]) -> Entry {
        let service = Service {
            uid: uid.into(),
            addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
            pool_uid: format!("pool-of-{uid}"),
            ..Service::default()
        };
        entry(format!("service/{uid}"), Value::Service(service))
    }

    fn pool(uid: &str) -> Entry {
        let uid = format!("pool-of-{uid}");
        let pool = wire::BackendPool { uid: uid.clone(), ..wire::BackendPool::default() };
        entry(format!("pool/{uid}"), Value::Pool(pool))
    }

    fn peer(uid: &str) -> Entry {
        let peer = wire::BgpPeer { uid: uid.into(), ..wire::BgpPeer::default() };
        entry(format!("bgppeer/{uid}"), Value::BgpPeer(peer))
    }

    fn tombstone_of(uid: &str) -> Entry {
        let tombstone = Tombstone { uid: uid.into(), ..Tombstone::default() };
        entry(format!("tombstone/{uid}"), Value::Tombstone(tombstone))
    }

    fn configuration(entries: impl IntoIterator<Item = Entry>) -> Configuration {
        Configuration::from_entries(entries).unwrap()
    }

    fn keys(configuration: &Configuration) -> Vec<&str> {
        configuration.entries().map(|entry| entry.key.as_str()).collect()
    }

    fn full() -> Configuration {
        configuration([
            node(Role::Edge),
            peer("r"),
            service("a", &["192.0.2.1"]),
            pool("a"),
            service("b", &["192.0.2.2", "192.0.2.3"]),
            pool("b"),
        ])
    }

    #[test]
    fn an_empty_snapshot_takes_nothing_away_and_is_said_to_miss_everything() {
        let before = full();

        let shielded = shield(&configuration([node(Role::Edge)]), &before);

        assert_eq!(shielded.configuration, before);
        assert_eq!(shielded.kept.len(), 5);
        let missing: Vec<_> = shielded.errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(missing, ["service/a", "service/b", "bgppeer/r"]);
        assert_eq!(shielded.departures.missing.len(), 2);
    }

    #[test]
    fn what_is_missing_may_be_announced_as_far_as_it_might_before() {
        let services = [service("a", &["192.0.2.1"]), service("b", &["198.51.100.1"])];
        let granted = may_announce(Role::Edge, &["192.0.2.0/24"]);
        let before = configuration([granted].into_iter().chain(services));
        let received = configuration([node(Role::Edge)]);
        let announceable = |configuration: &Configuration| {
            own(configuration).unwrap().announceable_prefixes.clone()
        };

        let shielded = shield(&received, &before);
        let again = shield(&received, &shielded.configuration);

        assert_eq!(announceable(&shielded.configuration), ["192.0.2.1/32"]);
        assert_eq!(again, shielded, "nor does it grow, or go with a restart");
    }

    #[test]
    fn a_tombstone_lets_a_service_go_once_its_routes_are_gone() {
        let received = configuration([node(Role::Edge), peer("r"), tombstone_of("a")]);
        let shielded = shield(&received, &full());
        assert!(shielded.configuration.get("service/a").is_some(), "served until withdrawn");
        assert!(!shielded.departures.missing.contains("a"));

        assert_eq!(shielded.released(|_| true), None);
        let shielded = shielded.released(|_| false).expect("a goes");

        assert!(shielded.configuration.get("service/a").is_none());
        assert!(shielded.configuration.get("service/b").is_some(), "nobody removed this one");
        assert_eq!(shielded.released(|_| false), None, "once");
    }

    #[test]
    fn an_address_that_a_service_gave_up_stays_until_its_route_is_gone() {
        let mut received = full();
        received = configuration(received.entries().cloned().map(|it| match it.key.as_str() {
            "service/b" => service("b", &["192.0.2.3"]),
            _ => it,
        }));
        let shielded = shield(&received, &full());
        let address: IpAddr = "192.0.2.2".parse().unwrap();
        assert_eq!(shielded.departures.addresses, BTreeSet::from([address]));

        let shielded = shielded.released(|it| *it != address).expect("the address goes");

        assert_eq!(shielded.configuration, received);
    }

    #[test]
    fn an_address_that_is_anothers_now_is_given_up() {
        let received = configuration([node(Role::Edge), peer("r"), service("c", &["192.0.2.2"])]);

        let shielded = shield(&received, &full());

        let Some(Value::Service(kept)) =
            shielded.configuration.get("service/b").and_then(|entry| entry.value.as_ref())
        else {
            panic!("b is missing, not removed");
        };
        assert_eq!(kept.addresses, ["192.0.2.3"]);
    }

    #[test]
    fn one_router_of_several_may_go_and_the_last_one_only_with_a_tombstone() {
        let before = configuration([node(Role::Edge), peer("r"), peer("s")]);
        let one_less = shield(&configuration([node(Role::Edge), peer("s")]), &before);
        let buried = [node(Role::Edge), tombstone_of("r"), tombstone_of("s")];
        let removed = shield(&configuration(buried.clone()), &before);

        assert_eq!(keys(&one_less.configuration), ["bgppeer/s", "node"]);
        assert_eq!(removed.configuration, configuration(buried));
    }

    fn idle() -> Entry {
        let roles = vec![Role::Backend.into()];
        let node = Node { roles, idle: true, ..Node::default() };
        entry("node".into(), Value::Node(node))
    }

    fn source(address: &str) -> Entry {
        let source = wire::EncapSource { address: address.into(), ..wire::EncapSource::default() };
        entry(format!("source/{address}"), Value::Source(source))
    }

    #[test]
    fn a_backend_loses_services_as_pools_change() {
        let a = [service("a", &["192.0.2.1"]), pool("a")];
        let with =
            configuration([node(Role::Backend), service("b", &["192.0.2.2"])].into_iter().chain(a));
        let fewer = configuration([node(Role::Backend), service("b", &["192.0.2.2"])]);
        let none = configuration([idle()]);

        assert_eq!(shield(&fewer, &with).configuration, fewer);
        assert_eq!(shield(&none, &with).configuration, none);
    }

    #[test]
    fn a_backend_that_is_left_without_a_word_goes_on() {
        let all = [service("a", &["192.0.2.1"]), pool("a"), source("192.0.2.200")];
        let before = configuration([node(Role::Backend)].into_iter().chain(all));

        let shielded = shield(&configuration([node(Role::Backend)]), &before);

        assert_eq!(shielded.configuration, before);
        assert_eq!(shielded.kept.len(), 3);
        assert_eq!(shielded.errors.len(), 1);
    }

    proptest! {
        /// Whatever a configuration leaves out: everything configured is as configured, and
        /// nothing that was there is missing unless it was removed or its addresses taken.
        #[test]
        fn nothing_is_lost_by_silence(
            before in prop::collection::btree_set(0_u8..12, 0..12),
            after in prop::collection::btree_set(0_u8..12, 0..12),
            removed in prop::collection::btree_set(0_u8..12, 0..4),
        ) {
            let of = |ids: &BTreeSet<u8>| -> Vec<Entry> {
                let services = ids.iter().flat_map(|id| {
                    let uid = id.to_string();
                    [service(&uid, &[&format!("192.0.2.{id}")]), pool(&uid)]
                });
                services.chain([node(Role::Edge), peer("r")]).collect()
            };
            let graves = removed.difference(&after).map(|id| tombstone_of(&id.to_string()));
            let received = configuration(of(&after).into_iter().chain(graves));
            let before_it = configuration(of(&before));

            let shielded = shield(&received, &before_it);
            for entry in received.entries() {
                prop_assert_eq!(shielded.configuration.get(&entry.key), Some(entry));
            }
            for id in before.union(&after) {
                let key = format!("service/{id}");
                prop_assert!(shielded.configuration.get(&key).is_some());
            }
            let again = shield(&received, &shielded.configuration);
            prop_assert_eq!(&again.configuration, &shielded.configuration, "a second look keeps the same");

            let shielded = shielded.released(|_| false).unwrap_or(shielded);
            for id in before.difference(&after) {
                let key = format!("service/{id}");
                prop_assert_eq!(shielded.configuration.get(&key).is_none(), removed.contains(id));
            }
        }
    }
}
