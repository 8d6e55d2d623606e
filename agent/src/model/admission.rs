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
//! | a service whose source list, or whose tenant's ceiling, finds no room | after those that were in force |
//! | a listener that another service has | after those that were in force |
//! | a former version | unless this configuration gives its addresses or ports to another service |

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use isocast_api::agent::{Configuration, Entry, EntryError, entry::Value};
use isocast_dataplane_common::policy::{MAX_LIMITED_TENANTS, MAX_SOURCES};

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
    /// Source rules of the services in force.
    source_rules: usize,
    /// Tenants with ceilings on all their services.
    limited_tenants: BTreeSet<u32>,
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
            source_rules: 0,
            limited_tenants: BTreeSet::new(),
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
        if self.source_rules + source_rules(service) > MAX_SOURCES {
            let message = format!("this node takes at most {MAX_SOURCES} prefixes of sources");
            return Err(("TooManySources", message));
        }
        if is_limited(service)
            && !self.limited_tenants.contains(&service.tenant)
            && self.limited_tenants.len() >= MAX_LIMITED_TENANTS
        {
            let message = format!("this node takes at most {MAX_LIMITED_TENANTS} limited tenants");
            return Err(("TooManyLimitedTenants", message));
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
            self.source_rules += source_rules(service);
            if is_limited(service) {
                self.limited_tenants.insert(service.tenant);
            }
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

fn source_rules(service: &Service) -> usize {
    service.policy.sources.as_ref().map(|list| list.rules.len()).unwrap_or_default()
}

fn is_limited(service: &Service) -> bool {
    !service.tenant_ceilings.is_none()
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
mod tests;
