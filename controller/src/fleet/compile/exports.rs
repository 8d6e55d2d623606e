//! [`Exports`]: which prefixes of the platform each router is told of, as far as policies decide.
//!
//! What health, drains and sessions add is left out on purpose: a policy must not be called
//! harmless because a site happens to be down. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use isocast_api::network::{
    AnycastService, BgpPeer, BgpPolicy, Connection, DatacenterState, NodeRole,
};
use isocast_bgp::{
    guard::ExportGuard,
    policy::{self, Context, Policy, Preview, Source, builtin_export},
    types::{Asn, PeerKind},
    wire::{attribute::PathAttributes, community::Communities},
};

use super::{World, resolve, speaks_with};

/// The prefixes that every edge of an active datacenter announces.
#[derive(Debug)]
pub struct Exports {
    routes: BTreeMap<IpNet, PathAttributes>,
    own_space: ExportGuard,
}

/// Prefixes by the name of the router that is told of them.
pub type Told = BTreeMap<String, BTreeSet<IpNet>>;

impl Exports {
    /// What the services of `world` come to.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let services = world.services.values();
        let routes: BTreeMap<_, _> =
            services.flat_map(|service| own_routes(world, service)).collect();
        let own_space = ExportGuard::new(routes.keys().copied());
        Self { routes, own_space }
    }

    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// What the routers of `world` are told under the policies of `world`.
    #[must_use]
    pub fn told(&self, world: &World) -> Told {
        let peers = world.peers.values();
        peers.map(|peer| (peer.name().to_owned(), self.told_to(world, peer))).collect()
    }

    /// What the routers that name `candidate` for export would be told otherwise, by their names.
    #[must_use]
    pub fn preview(&self, world: &World, candidate: &BgpPolicy) -> BTreeMap<String, Preview> {
        let new = compiled(candidate);
        let name = candidate.name();
        let old = world.policies.get(name).map_or_else(Policy::reject_all, compiled);
        let peers = world.peers.values();
        let naming = peers.filter(|peer| {
            peer.spec.export_policy.as_ref().is_some_and(|policy| policy.as_str() == name)
        });
        let preview = |peer: &BgpPeer| {
            let routes = self.routes.iter().map(|(prefix, route)| (*prefix, route));
            let context = self.context(world, peer);
            let preview = context.map(|context| policy::preview(&old, &new, routes, &context));
            (peer.name().to_owned(), preview.unwrap_or_default())
        };
        naming.map(preview).collect()
    }

    fn told_to(&self, world: &World, peer: &BgpPeer) -> BTreeSet<IpNet> {
        let Some(context) = self.context(world, peer) else { return BTreeSet::new() };
        let policy = match &peer.spec.export_policy {
            Some(name) => {
                world.policies.get(name.as_str()).map_or_else(Policy::reject_all, compiled)
            }
            None => builtin_export(context.connection),
        };
        let passes = |(prefix, route): &(&IpNet, &PathAttributes)| {
            policy.evaluate(**prefix, route, &context).is_accept()
        };
        self.routes.iter().filter(passes).map(|(prefix, _)| *prefix).collect()
    }

    /// Where the node stands that speaks with `peer`; none if none does.
    fn context(&self, world: &World, peer: &BgpPeer) -> Option<Context<'_>> {
        let speaker = world.nodes.values().find(|node| {
            let datacenter = world.datacenters.get(node.spec.datacenter.as_str());
            node.spec.has_role(NodeRole::Edge)
                && speaks_with(node, peer)
                && datacenter.is_some_and(|it| it.spec.state == DatacenterState::Active)
        });
        let local_asn = speaker?.spec.asn.unwrap_or_default();
        let is_internal = local_asn == peer.spec.peer_asn;
        Some(Context {
            local_asn: Asn(local_asn),
            connection: connection(peer.spec.connection),
            peer_kind: if is_internal { PeerKind::Internal } else { PeerKind::External },
            source: Source::Own,
            next_hop: None,
            own_space: &self.own_space,
        })
    }
}

/// A policy as speakers run it. One that they would refuse leaves the former one in force there;
/// here it counts as one that lets nothing pass.
#[must_use]
fn compiled(policy: &BgpPolicy) -> Policy {
    let terms = serde_json::to_value(&policy.spec.terms).and_then(serde_json::from_value);
    let terms: Vec<policy::Term> = match terms {
        Ok(terms) => terms,
        Err(error) => {
            tracing::error!(policy = policy.name(), %error, "policy not understood by the speaker");
            return Policy::reject_all();
        }
    };
    Policy::compile(policy.name(), &terms).unwrap_or_else(|error| {
        tracing::error!(policy = policy.name(), %error, "policy refused by the speaker");
        Policy::reject_all()
    })
}

fn own_routes(
    world: &World,
    service: &AnycastService,
) -> impl Iterator<Item = (IpNet, PathAttributes)> {
    let texts: Vec<_> = service.spec.communities.iter().map(ToString::to_string).collect();
    let communities = Communities::parse(texts.iter().map(String::as_str)).unwrap_or_default();
    let route = PathAttributes { communities, ..PathAttributes::default() };
    let addresses = resolve::announceable(world, service);
    addresses.into_iter().map(move |address| (address.host_route(), route.clone()))
}

fn connection(connection: Connection) -> policy::Connection {
    match connection {
        Connection::Fabric => policy::Connection::Fabric,
        Connection::IXP => policy::Connection::Ixp,
        Connection::PNI => policy::Connection::Pni,
        Connection::RouteServer => policy::Connection::RouteServer,
        Connection::Transit => policy::Connection::Transit,
    }
}

#[cfg(test)]
mod tests {
    use isocast_bgp::policy::limits::{
        ASNS_MAX, COMMUNITY_PATTERNS_MAX, PATH_PATTERN_BYTES_MAX, PATH_PATTERN_ITEMS_MAX,
        PATH_PATTERNS_MAX, PREFIXES_PER_TERM_MAX, PREPEND_MAX, TERM_NAME_BYTES_MAX, TERMS_MAX,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::fleet::testing::{objects, world};

    fn told(change: impl FnOnce(&mut Vec<Value>)) -> Told {
        let mut objects = objects();
        change(&mut objects);
        let world = world(&objects);
        Exports::of(&world).told(&world)
    }

    fn policy(terms: &Value) -> Value {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BGPPolicy",
            "metadata": {"name": "out", "uid": "out", "generation": 1}, "spec": {"terms": terms},
        })
    }

    fn edit<'a>(objects: &'a mut [Value], name: &str) -> &'a mut Value {
        objects.iter_mut().find(|object| object["metadata"]["name"] == name).unwrap()
    }

    #[test]
    fn a_router_is_told_what_its_policy_lets_pass() {
        let all = Told::from([(
            "bor-ams".to_owned(),
            BTreeSet::from(["203.0.113.10/32".parse().unwrap()]),
        )]);
        let none = Told::from([("bor-ams".to_owned(), BTreeSet::new())]);
        let with = |terms: Value| {
            told(|objects| {
                edit(objects, "bor-ams")["spec"]["exportPolicy"] = json!("out");
                objects.push(policy(&terms));
            })
        };
        let carries = |community| json!([{"name": "a", "match": {"communities": [community]}, "then": "Accept"}]);

        assert_eq!(told(|_| {}), all);
        assert_eq!(with(carries("65010:*")), all);
        assert_eq!(with(carries("65011:*")), none);
        assert_eq!(with(json!([])), none);
    }

    #[test]
    fn a_router_of_a_draining_site_is_told_nothing() {
        let told = told(|objects| edit(objects, "ams")["spec"]["state"] = json!("Draining"));

        assert_eq!(told["bor-ams"], BTreeSet::new());
    }

    /// As long as one may be, with every kind of item.
    fn path_pattern() -> String {
        let mut items =
            ["*", "?", "?+", "1", "1..2", "[1,3..4]", "1+", "[1]+"].map(str::to_owned).to_vec();
        items.resize(PATH_PATTERN_ITEMS_MAX, "1".to_owned());
        let rest = PATH_PATTERN_BYTES_MAX - items.join(" ").len() + 1;
        let last = "1,".repeat(rest.div_ceil(2));
        if let Some(item) = items.last_mut() {
            *item = format!("[{}]", &last[..rest.saturating_sub(2)].trim_end_matches(','));
        }
        items.join(" ")
    }

    #[test]
    fn whatever_the_api_accepts_the_speaker_takes() {
        let everything = json!({
            "name": "n".repeat(TERM_NAME_BYTES_MAX),
            "match": {
                "prefixes": vec![json!({"prefix": "10.0.0.0/8", "ge": 9, "le": 16}); PREFIXES_PER_TERM_MAX],
                "communities": vec!["65010:*"; COMMUNITY_PATTERNS_MAX],
                "asPath": {
                    "contains": vec![1; ASNS_MAX], "origin": vec![u32::MAX; ASNS_MAX],
                    "neighbour": vec![2; ASNS_MAX],
                    "patterns": vec![path_pattern(); PATH_PATTERNS_MAX], "lengthMin": 0, "lengthMax": 255,
                    "reserved": true,
                },
                "connections": ["Fabric", "IXP", "PNI", "RouteServer", "Transit"],
                "sessions": ["External", "Internal"], "families": ["IPv4", "IPv6"],
                "origins": ["IGP", "EGP", "Incomplete"],
                "nextHops": vec!["2001:db8::/32"; PREFIXES_PER_TERM_MAX],
                "source": "Learned", "ownSpace": false,
            },
            "set": {
                "localPref": u32::MAX, "med": 0, "prepend": PREPEND_MAX, "nextHop": "2001:db8::1",
                "communities": {
                    "set": vec!["no-export"; COMMUNITY_PATTERNS_MAX],
                    "remove": vec!["rt:*:*"; COMMUNITY_PATTERNS_MAX],
                    "add": vec!["ext:0x0002fde800000064"; COMMUNITY_PATTERNS_MAX],
                },
            },
            "then": "Accept",
        });
        let more = (1..TERMS_MAX).map(|n| {
            let words = ["Self", "Unchanged"];
            let source = ["Own", "Learned"];
            let then = ["Next", "Reject"];
            json!({
                "name": format!("t{n}"), "match": {"source": source[n % 2]},
                "set": {"nextHop": words[n % 2]}, "then": then[n % 2],
            })
        });
        let terms: Vec<_> = std::iter::once(everything).chain(more).collect();
        let objects = [policy(&json!(terms))];

        let policy = compiled(&world(&objects).policies["out"]);

        assert_eq!(policy.name(), "out");
    }
}
