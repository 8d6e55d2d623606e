//! GoBGP: one file, one process, and a client that speaks JSON.

use std::fmt::Write as _;

use serde_json::Value;
use tokio::process::Child;

use crate::neighbour::{COMMUNITIES, Neighbour, Route, Setup, community, numbers};
use crate::net::eventually;
use crate::place::Place;

/// See the module.
#[derive(Debug)]
pub(crate) struct GoBgp {
    place: Place,
    edge: String,
    process: Child,
}

/// The sections of both families.
const FAMILIES: [&str; 2] = ["ipv4-unicast", "ipv6-unicast"];

impl GoBgp {
    /// Starts it as one that comes back: its OPEN says so (RFC 4724 §3). It has these prefixes
    /// before it has sessions.
    pub(crate) async fn start_again(place: &Place, setup: &Setup, prefixes: &[&str]) -> Self {
        let gobgp = Self::start_with(place, setup, "admin-down = true\n", &["-r"]).await;
        for prefix in prefixes {
            gobgp.announce(prefix).await;
        }
        gobgp.client(&["neighbor", &gobgp.edge, "enable"]).await;
        gobgp
    }

    async fn start_with(place: &Place, setup: &Setup, more: &str, flags: &[&str]) -> Self {
        place.clean();
        let edge =
            if setup.over_ipv6 { place.edge_v6.to_string() } else { place.edge_v4.to_string() };
        let mut conf = format!(
            "[global.config]\nas = {}\nrouter-id = '{}'\n{}\
             [[neighbors]]\n[neighbors.config]\nneighbor-address = '{edge}'\npeer-as = 65010\n{more}",
            setup.asn, place.own_v4, setup.global
        );
        if let Some(password) = setup.password {
            writeln!(conf, "auth-password = '{password}'").unwrap();
        }
        conf.push_str(
            "[neighbors.timers.config]\nconnect-retry = 1\nhold-time = 3\nkeepalive-interval = 1\n\
             idle-hold-time-after-reset = 1\n",
        );
        conf.push_str(&setup.session);
        for family in FAMILIES {
            if !setup.session.contains(family) {
                let name = format!("afi-safi-name = '{family}'");
                write!(conf, "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\n{name}\n")
                    .unwrap();
            }
        }
        let file = place.dir.join("gobgp.toml");
        std::fs::write(&file, conf).unwrap();
        let program = ["gobgpd", "-f", file.to_str().unwrap(), "--api-hosts", "127.0.0.1:50051"];
        let process = place.spawn("gobgpd", &[&program, flags].concat());
        let gobgp = Self { place: place.clone(), edge, process };
        eventually("GoBGP answers", async || {
            gobgp.place.succeeds(&["gobgp", "neighbor", &gobgp.edge]).await
        })
        .await;
        gobgp
    }

    pub(crate) async fn client(&self, arguments: &[&str]) -> String {
        self.place.run(&[&["gobgp"], arguments].concat()).await
    }

    /// Prefixes it has, of IPv4.
    pub(crate) async fn count(&self) -> u64 {
        let shown = self.client(&["-j", "global", "rib", "summary"]).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["num_destination"].as_u64().unwrap_or_default()
    }

    fn rib(prefix: &str) -> [&'static str; 2] {
        ["-a", if prefix.contains(':') { "ipv6" } else { "ipv4" }]
    }
}

impl Neighbour for GoBgp {
    async fn start(place: &Place, setup: &Setup) -> Self {
        Self::start_with(place, setup, "", &[]).await
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    async fn learnt(&self, prefix: &str) -> Option<Route> {
        let shown = self.client(&[&["-j", "global", "rib"], &Self::rib(prefix)[..]].concat()).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let paths = shown.get(prefix)?.as_array()?;
        let path = paths.iter().find(|path| path["neighbor-ip"] == self.edge.as_str())?;
        let attributes = path["attrs"].as_array()?;
        let of = |kind: u64| attributes.iter().find(|attribute| attribute["type"] == kind);
        let standard = of(8).map(|it| it["communities"].as_array().unwrap().iter().map(community));
        let large = of(32).map(|it| {
            it["value"].as_array().unwrap().iter().map(|value| {
                format!("{}:{}:{}", value["ASN"], value["LocalData1"], value["LocalData2"])
            })
        });
        let next_hop = of(3).or_else(|| of(14))?["nexthop"].as_str()?.to_owned();
        let segments = of(2).and_then(|it| it["as_paths"].as_array()).into_iter().flatten();
        Some(Route {
            next_hop,
            as_path: segments.flat_map(|segment| numbers(&segment["asns"])).collect(),
            communities: standard
                .into_iter()
                .flatten()
                .chain(large.into_iter().flatten())
                .collect(),
            local_pref: of(5).and_then(|it| it["value"].as_u64()?.try_into().ok()),
        })
    }

    async fn announce(&self, prefix: &str) {
        let [standard, large] = COMMUNITIES;
        let own = if prefix.contains(':') {
            // On its own it would name an IPv4 address in IPv6's clothes.
            self.place.own_v6.to_string()
        } else {
            self.place.own_v4.to_string()
        };
        let family = Self::rib(prefix);
        let add = ["global", "rib", "add", prefix, family[0], family[1], "nexthop", &own];
        let marks = ["community", standard, "large-community", large];
        self.client(&[&add[..], &marks[..]].concat()).await;
    }

    async fn withdraw(&self, prefix: &str) {
        let family = Self::rib(prefix);
        self.client(&["global", "rib", "del", prefix, family[0], family[1]]).await;
    }
}
