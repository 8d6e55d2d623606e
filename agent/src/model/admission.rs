//! [`Admission`]: which entries of a configuration come into force.
//!
//! Tenants share a node, so one entry that cannot be taken must not hold up another's change: it is
//! refused by itself, and the version accepted last stays in force in its place, if there is one.
//! Only what nothing can be done without is a reason to refuse the whole: the entry `node`.
//!
//! The decision is a function of the set of entries, the limits and what was in force before
//! ([`Precedent`]); the order of entries means nothing. Deciding again on one's own result gives the
//! same result, so a node that restarts runs what it ran.
//!
//! | an entry | comes into force |
//! |---|---|
//! | malformed | never; its former version stays |
//! | that needs a refused one | never; its former version stays, with what that needs |
//! | unchanged, over a refused one | as before, over the former version of that one |
//! | a service beyond `--max-services` | after those that were in force |
//! | a listener that another service has | after those that were in force |
//! | a former version | unless this configuration gives its addresses or ports to another service |

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use isocast_api::agent::{Configuration, Entry, EntryError, entry::Value};

use super::{
    Limits, NodeModel, Precedent, Protocol, Refusals, Remote, Service, Uid,
    parse::{self, Parsed},
};

/// A decision on a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// What is to be in force.
    pub model: NodeModel,
    /// What of the configuration is not.
    pub refusals: Refusals,
}

/// Decides about `configuration`, given what was in force.
pub(super) fn admit(
    configuration: &Configuration,
    limits: Limits,
    before: Option<&Precedent<'_>>,
) -> Result<Admission, Vec<EntryError>> {
    let node = match configuration.get(NODE) {
        None => Err(("Missing", "there is no node entry".to_owned())),
        Some(entry) => match parse::entry(entry) {
            Ok(Parsed::Node(node)) => Ok(*node),
            Ok(_) => Err((INVALID, "it describes no node".to_owned())),
            Err(message) => Err((INVALID, message)),
        },
    };
    let node = node.map_err(|(reason, message)| vec![refusal(NODE, None, reason, message)])?;
    let mut admitting = Admitting::new(configuration, limits, before, &node);
    admitting.admit_the_needed();
    admitting.admit_the_needy();
    Ok(admitting.finish(node))
}

/// A decision in the making.
struct Admitting<'a> {
    before: Option<&'a Precedent<'a>>,
    limits: Limits,
    own_addresses: Vec<IpAddr>,
    /// Every well-formed entry.
    candidates: BTreeMap<&'a str, Candidate<'a>>,
    in_force: BTreeMap<&'a str, Version<'a>>,
    errors: BTreeMap<&'a str, EntryError>,
    /// Who has which listener now.
    listeners: BTreeSet<Listener>,
    services: usize,
}

/// A well-formed version of an entry.
struct Candidate<'a> {
    entry: &'a Entry,
    parsed: Parsed,
}

/// What is in force under a key.
struct Version<'a> {
    candidate: Candidate<'a>,
    is_former: bool,
}

type Listener = (IpAddr, Protocol, u16);

/// Reason and message.
type Refusal = (&'static str, String);

// === impl Admitting ===

impl<'a> Admitting<'a> {
    fn new(
        configuration: &'a Configuration,
        limits: Limits,
        before: Option<&'a Precedent<'a>>,
        node: &NodeModel,
    ) -> Self {
        let mut candidates = BTreeMap::new();
        let mut errors = BTreeMap::new();
        for entry in configuration.entries().filter(|entry| entry.key != NODE) {
            match parse::entry(entry).and_then(|parsed| well_keyed(entry, parsed)) {
                Ok(parsed) => {
                    candidates.insert(entry.key.as_str(), Candidate { entry, parsed });
                }
                Err(message) => {
                    let error = refusal(&entry.key, Some(entry), INVALID, message);
                    errors.insert(entry.key.as_str(), error);
                }
            }
        }
        Self {
            before,
            limits,
            own_addresses: node.tunnel_addresses.clone(),
            candidates,
            in_force: BTreeMap::new(),
            errors,
            listeners: BTreeSet::new(),
            services: 0,
        }
    }

    /// Entries that need no other one.
    fn admit_the_needed(&mut self) {
        let stands_alone = |it: &Candidate<'_>| needs(it.entry).is_empty() && !is_service(it);
        let candidates = self.candidates.extract_if(.., |_, it| stands_alone(it));
        self.in_force.extend(candidates.map(|(key, it)| (key, Version::new(it))));
        let remotes: Vec<_> = self.in_force.values().filter_map(Version::remote).collect();
        let formers: Vec<_> = self.errors.keys().filter_map(|key| self.former(key)).collect();
        for former in formers {
            let version = Version::former(former);
            // A neighbour has one session: the new version of another peer may be about it.
            let is_free = version.remote().is_none_or(|remote| !remotes.contains(&remote));
            if stands_alone(&version.candidate) && is_free {
                self.in_force.insert(version.candidate.entry.key.as_str(), version);
            }
        }
    }

    /// Services, and whatever else refers to other entries: first those that were in force, each in
    /// its new version or its former one, then the newcomers.
    fn admit_the_needy(&mut self) {
        let claims = Claims::of(self.candidates.values());
        let keys: BTreeSet<&'a str> =
            self.candidates.keys().chain(self.errors.keys()).copied().collect();
        let (old, new): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| self.before.is_some_and(|it| it.get(key).is_some()));
        for key in old.into_iter().chain(new) {
            if self.in_force.contains_key(key) {
                continue;
            }
            if let Some(candidate) = self.candidates.remove(key) {
                match self.check(&candidate) {
                    Ok(()) => {
                        self.put(key, Version::new(candidate));
                        continue;
                    }
                    Err((reason, message)) => {
                        let error = refusal(key, Some(candidate.entry), reason, message);
                        self.errors.insert(key, error);
                    }
                }
            }
            self.fall_back(key, &claims);
        }
    }

    /// Whether a new version can come into force beside what is in force already.
    fn check(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        let is_unchanged = || {
            let before = self.before.and_then(|before| before.get(&candidate.entry.key));
            before == Some(candidate.entry)
        };
        for key in needs(candidate.entry) {
            match self.in_force.get(key.as_str()) {
                Some(version) if !version.is_former || is_unchanged() => {}
                None if !self.errors.contains_key(key.as_str()) => {
                    return Err(("DependencyMissing", format!("it needs {key}, which is missing")));
                }
                Some(_) | None => {
                    let why = self.errors.get(key.as_str()).map(|error| error.message.as_str());
                    let why = why.unwrap_or_default();
                    let message = format!("it needs {key}, which was refused: {why}");
                    return Err(("DependencyRefused", message));
                }
            }
        }
        self.fit(candidate)
    }

    /// Whether there is room for a service.
    fn fit(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        let Parsed::Service(service) = &candidate.parsed else { return Ok(()) };
        if let Some(own) = service.addresses.iter().find(|it| self.own_addresses.contains(it)) {
            let message = format!("{own} is a tunnel address of this node");
            return Err(("AddressInUse", message));
        }
        let mut own = BTreeSet::new();
        for listener in listeners(service) {
            if self.listeners.contains(&listener) || !own.insert(listener) {
                let (address, protocol, port) = listener;
                let message = format!("{protocol:?} {address} port {port} is another listener's");
                return Err(("PortInUse", message));
            }
        }
        if self.services >= self.limits.services {
            let message = format!("this node takes at most {} services", self.limits.services);
            return Err(("TooManyServices", message));
        }
        Ok(())
    }

    /// Leaves the former version of a refused entry in force, with what it needs.
    fn fall_back(&mut self, key: &'a str, claims: &Claims<'a>) {
        let Some(former) = self.former(key) else { return };
        let mut needed = Vec::new();
        for key in needs(former.entry) {
            if self.in_force.contains_key(key.as_str()) {
                continue;
            }
            match self.former(&key) {
                Some(former) if needs(former.entry).is_empty() => needed.push(former),
                _ => return,
            }
        }
        if claims.contradict(&former) || self.fit(&former).is_err() {
            return;
        }
        for former in needed {
            self.put(former.entry.key.as_str(), Version::former(former));
        }
        self.put(former.entry.key.as_str(), Version::former(former));
    }

    fn put(&mut self, key: &'a str, version: Version<'a>) {
        if let Parsed::Service(service) = &version.candidate.parsed {
            self.services += 1;
            self.listeners.extend(listeners(service));
        }
        self.in_force.insert(key, version);
    }

    /// The version of an entry that was in force, as far as it is still understood.
    fn former(&self, key: &str) -> Option<Candidate<'a>> {
        let entry = self.before?.get(key)?;
        let parsed = parse::entry(entry).and_then(|parsed| well_keyed(entry, parsed)).ok()?;
        Some(Candidate { entry, parsed })
    }

    fn finish(self, mut model: NodeModel) -> Admission {
        let mut kept = Vec::new();
        for Version { candidate, is_former } in self.in_force.into_values() {
            if is_former {
                kept.push(candidate.entry.clone());
            }
            candidate.parsed.join(&mut model);
        }
        let errors = self.errors.into_values().collect();
        // Keys of a map are unique, and these entries were part of a configuration before.
        let kept = Configuration::from_entries(kept).unwrap_or_default();
        Admission { model, refusals: Refusals { errors, kept } }
    }
}

// === impl Version ===

impl<'a> Version<'a> {
    fn new(candidate: Candidate<'a>) -> Self {
        Self { candidate, is_former: false }
    }

    fn former(candidate: Candidate<'a>) -> Self {
        Self { candidate, is_former: true }
    }

    /// Whom a peer's session is with.
    fn remote(&self) -> Option<Remote> {
        match &self.candidate.parsed {
            Parsed::Peer(peer) => Some(peer.remote),
            _ => None,
        }
    }
}

/// What a configuration gives to whom. A former version never holds on to what is another's now.
struct Claims<'a> {
    listeners: BTreeMap<Listener, &'a str>,
    tenants: BTreeMap<IpAddr, u32>,
}

// === impl Claims ===

impl<'a> Claims<'a> {
    fn of<'b>(candidates: impl Iterator<Item = &'b Candidate<'a>>) -> Self
    where
        'a: 'b,
    {
        let mut claims = Self { listeners: BTreeMap::new(), tenants: BTreeMap::new() };
        for Candidate { entry, parsed } in candidates {
            let Parsed::Service(service) = parsed else { continue };
            let key = entry.key.as_str();
            claims.listeners.extend(listeners(service).map(|listener| (listener, key)));
            let tenants = service.addresses.iter().map(|address| (*address, service.tenant));
            claims.tenants.extend(tenants);
        }
        claims
    }

    fn contradict(&self, former: &Candidate<'_>) -> bool {
        let Parsed::Service(service) = &former.parsed else { return false };
        let is_lost = |listener| {
            self.listeners.get(&listener).is_some_and(|owner| *owner != former.entry.key)
        };
        let is_anothers =
            |address| self.tenants.get(address).is_some_and(|tenant| *tenant != service.tenant);
        listeners(service).any(is_lost) || service.addresses.iter().any(is_anothers)
    }
}

fn listeners(service: &Service) -> impl Iterator<Item = Listener> + '_ {
    let of = |address: IpAddr| service.ports.iter().map(move |it| (address, it.protocol, it.port));
    service.addresses.iter().copied().flat_map(of)
}

fn is_service(candidate: &Candidate<'_>) -> bool {
    matches!(candidate.parsed, Parsed::Service(_))
}

/// Keys of the entries that one refers to.
fn needs(entry: &Entry) -> Vec<String> {
    match &entry.value {
        Some(Value::Service(service)) if !service.pool_uid.is_empty() => {
            vec![format!("pool/{}", service.pool_uid)]
        }
        _ => Vec::new(),
    }
}

/// Passes what stands under its own key: two entries can then never mean the same object.
fn well_keyed(entry: &Entry, parsed: Parsed) -> Result<Parsed, String> {
    let of_uid = |kind: &str, uid: &Uid| Some(format!("{kind}/{uid}"));
    let expected = match &parsed {
        Parsed::Node(_) => Some(NODE.to_owned()),
        Parsed::Peer(peer) => of_uid("bgppeer", &peer.uid),
        Parsed::Pool(uid, _) => of_uid("pool", uid),
        Parsed::Service(service) => of_uid("service", &service.uid),
        Parsed::Drain(order) => of_uid("drain", &order.uid),
        Parsed::Tombstone(uid) => of_uid("tombstone", uid),
        // Any text for an address means that address.
        Parsed::Source(_) => None,
    };
    match expected {
        Some(expected) if expected != entry.key => Err(format!("its key should be {expected}")),
        _ => Ok(parsed),
    }
}

fn refusal(key: &str, entry: Option<&Entry>, reason: &str, message: String) -> EntryError {
    let name = entry.map(name).unwrap_or_default();
    EntryError { key: key.to_owned(), reason: reason.to_owned(), message, name }
}

/// What people call the object.
fn name(entry: &Entry) -> String {
    match &entry.value {
        Some(Value::BgpPeer(peer)) => peer.name.clone(),
        Some(Value::Drain(drain)) => drain.name.clone(),
        Some(Value::Pool(pool)) => format!("{}/{}", pool.namespace, pool.name),
        Some(Value::Service(service)) => format!("{}/{}", service.namespace, service.name),
        _ => String::new(),
    }
}

const NODE: &str = "node";
const INVALID: &str = "Invalid";

#[cfg(test)]
mod tests {
    use isocast_api::agent::{self as wire, Role};
    use proptest::prelude::*;

    use super::*;

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
            cluster_secret: vec![1; 32],
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
            let Admission { model, refusals } =
                admit(&configuration, limits, Some(&before)).unwrap();
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

        let history =
            history.then(MANY, [service(1, None, Is::Bad), service(2, None, Is::Good(2))]);

        assert_eq!(history.services(), [("s1", 1), ("s2", 2)]);
        assert_eq!(history.refused(), [("service/s1", "Invalid")]);
        assert_eq!(history.refusals.errors[0].name, "web/service-1");
        assert!(history.refusals.errors[0].message.contains("ports.port: 0"));
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
            assert_eq!(
                history.refused(),
                [(format!("service/s{new}").as_str(), "TooManyServices")]
            );
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
        let history =
            History::begin(MANY, [pool(1, Is::Good(1)), service(1, Some(1), Is::Good(1))]);

        let history = history.then(MANY, [pool(1, Is::Bad), service(1, Some(1), Is::Good(2))]);

        assert_eq!((history.services(), history.pools()), (vec![("s1", 1)], vec![("p1", 1)]));
        let refused = [("pool/p1", "Invalid"), ("service/s1", "DependencyRefused")];
        assert_eq!(history.refused(), refused);
        assert!(history.refusals.errors[1].message.contains("nowhere"), "says why");
    }

    #[test]
    fn an_unchanged_service_is_not_refused_for_the_sake_of_its_pool() {
        let history =
            History::begin(MANY, [pool(1, Is::Good(1)), service(1, Some(1), Is::Good(1))]);

        let history = history.then(MANY, [pool(1, Is::Bad), service(1, Some(1), Is::Good(1))]);

        assert_eq!((history.services(), history.pools()), (vec![("s1", 1)], vec![("p1", 1)]));
        assert_eq!(history.refused(), [("pool/p1", "Invalid")]);
    }

    #[test]
    fn a_former_version_keeps_the_pool_that_the_configuration_no_longer_has() {
        let history =
            History::begin(MANY, [pool(1, Is::Good(1)), service(1, Some(1), Is::Good(1))]);

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
}
