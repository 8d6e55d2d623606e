//! OpenBGPD: a parent and its three engines, each with fewer rights than the last.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tokio::process::Child;

use crate::neighbour::{AsksAgain, COMMUNITIES, Neighbour, Route, Setup};
use crate::net::{eventually, run};
use crate::place::Place;

/// What its engines see of the file system; its package makes it at boot.
const CHROOT: &str = "/run/openbgpd";

/// See the module.
#[derive(Debug)]
pub(crate) struct OpenBgpd {
    place: Place,
    edge: String,
    process: Child,
}

impl OpenBgpd {
    pub(crate) async fn client(&self, arguments: &[&str]) -> String {
        let socket = self.place.dir.join("bgpd.sock");
        let client = ["bgpctl", "-s", socket.to_str().unwrap()];
        self.place.run(&[&client, arguments].concat()).await
    }

    /// Has it announce many prefixes at once, with one community.
    pub(crate) async fn announce_all(&self, prefixes: &str) {
        let socket = self.place.dir.join("bgpd.sock");
        let netns = ["netns", "exec", &self.place.namespace];
        let client = ["bgpctl", "-s", socket.to_str().unwrap(), "network", "bulk"];
        let marks = ["community", COMMUNITIES[0], "add"];
        run("ip", &[&netns[..], &client[..], &marks[..]].concat(), prefixes).await;
    }

    pub(crate) fn edge(&self) -> &str {
        &self.edge
    }
}

impl Neighbour for OpenBgpd {
    async fn start(place: &Place, setup: &Setup) -> Self {
        place.clean();
        fs::create_dir_all(CHROOT).unwrap();
        let socket = place.dir.join("bgpd.sock");
        let edge =
            if setup.over_ipv6 { place.edge_v6.to_string() } else { place.edge_v4.to_string() };
        let (own_v4, own_v6) = (place.own_v4, place.own_v6);
        let mut conf = format!(
            "AS {asn}\nrouter-id {own_v4}\nsocket \"{socket}\"\nlisten on {own_v4}\n\
             listen on {own_v6}\nfib-update no\nnexthop qualify via default\nconnect-retry 1\n\
             {global}\nneighbor {edge} {{\n remote-as 65010\n announce IPv4 unicast\n \
             announce IPv6 unicast\n holdtime 3\n {session}\n",
            asn = setup.asn,
            socket = socket.display(),
            global = setup.global,
            session = setup.session,
        );
        if let Some(password) = setup.password {
            writeln!(conf, " tcp md5sig password {password}").unwrap();
        }
        // On Linux it does not know its links, and names ::1 as next hop of IPv6 routes of an IPv4
        // session. A next hop that is set stays only where peers may be far away.
        conf.push_str(" multihop 2\n}\nallow from any\nallow to any\n");
        conf.push_str("match to any set nexthop no-modify\n");
        let file = place.dir.join("bgpd.conf");
        fs::write(&file, conf).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let process = place.spawn("bgpd", &["/usr/sbin/bgpd", "-d", "-f", file.to_str().unwrap()]);
        let bgpd = Self { place: place.clone(), edge, process };
        let client = ["bgpctl", "-s", socket.to_str().unwrap(), "show", "summary"];
        eventually("OpenBGPD answers", async || bgpd.place.succeeds(&client).await).await;
        bgpd
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    async fn learnt(&self, prefix: &str) -> Option<Route> {
        let shown = self.client(&["-j", "show", "rib", "detail", prefix]).await;
        let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        let routes = shown.get("rib")?.as_array()?;
        let route = routes.iter().find(|route| {
            route["prefix"] == prefix && route["neighbor"]["remote_addr"] == self.edge.as_str()
        })?;
        let words = |of: &str| {
            let listed = route.get(of).and_then(Value::as_array).into_iter().flatten();
            listed.map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let path = route["aspath"].as_str()?.split_whitespace();
        Some(Route {
            next_hop: route["exit_nexthop"].as_str()?.to_owned(),
            as_path: path.map(|asn| asn.parse().unwrap()).collect(),
            communities: [words("communities"), words("large_communities")].concat(),
            local_pref: route["localpref"].as_u64().and_then(|value| value.try_into().ok()),
        })
    }

    async fn announce(&self, prefix: &str) {
        let [standard, large] = COMMUNITIES;
        let own = if prefix.contains(':') {
            self.place.own_v6.to_string()
        } else {
            self.place.own_v4.to_string()
        };
        let marks = ["community", standard, "large-community", large, "nexthop", &own];
        self.client(&[&["network", "add", prefix], &marks[..]].concat()).await;
    }

    async fn withdraw(&self, prefix: &str) {
        self.client(&["network", "delete", prefix]).await;
    }
}

impl AsksAgain for OpenBgpd {
    async fn ask_again(&self) {
        self.client(&["neighbor", &self.edge, "refresh"]).await;
    }
}
