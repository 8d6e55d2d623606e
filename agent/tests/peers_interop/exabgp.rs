//! ExaBGP: no table, but a script's standard input and output: what it hears, and what it says.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tokio::process::Child;

use crate::neighbour::{AsksAgain, COMMUNITIES, Neighbour, Route, Setup, numbers};
use crate::net::eventually;
use crate::place::Place;

/// See the module.
#[derive(Debug)]
pub(crate) struct ExaBgp {
    place: Place,
    process: Child,
    /// A pipe; open at both ends, so that it never ends.
    commands: File,
}

impl ExaBgp {
    /// Has it say something, in its words.
    pub(crate) fn say(&self, command: &str) {
        writeln!(&self.commands, "{command}").unwrap();
    }

    /// What it reported so far, a line each.
    pub(crate) fn events(&self) -> Vec<String> {
        let events = fs::read_to_string(self.place.dir.join("events")).unwrap_or_default();
        events.lines().map(ToOwned::to_owned).collect()
    }

    /// UPDATEs of the last session.
    fn updates(&self) -> Vec<Value> {
        let mut updates = Vec::new();
        for line in self.events() {
            // ExaBGP's reports of refreshes are no JSON.
            let Ok(mut event) = serde_json::from_str::<Value>(&line) else { continue };
            if event["type"] == "state" {
                updates.clear();
            } else if event["type"] == "update" {
                updates.push(event["neighbor"]["message"]["update"].take());
            }
        }
        updates
    }

    fn next_hop(&self, prefix: &str) -> String {
        if prefix.contains(':') {
            self.place.own_v6.to_string()
        } else {
            self.place.own_v4.to_string()
        }
    }
}

impl Neighbour for ExaBgp {
    async fn start(place: &Place, setup: &Setup) -> Self {
        place.clean();
        let path = |file: &str| place.dir.join(file).to_str().unwrap().to_owned();
        let (commands, events, script) = (path("commands"), path("events"), path("steer.sh"));
        mkfifo(commands.as_str(), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let pipe = OpenOptions::new().read(true).write(true).open(&commands).unwrap();
        let text = format!("#!/bin/sh\ncat {commands} &\nexec cat > {events}\n");
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let (edge, own) = if setup.over_ipv6 {
            (place.edge_v6.to_string(), place.own_v6.to_string())
        } else {
            (place.edge_v4.to_string(), place.own_v4.to_string())
        };
        let mut conf = format!(
            "process steer {{ run {script}; encoder json; }}\nneighbor {edge} {{\n\
             router-id {}; local-address {own}; local-as {}; peer-as 65010; hold-time 3;\n\
             passive false; family {{ ipv4 unicast; ipv6 unicast; }}\n\
             api steer {{ processes [ steer ]; neighbor-changes;\n\
             receive {{ parsed; open; update; notification; refresh; }} }}\n",
            place.own_v4, setup.asn
        );
        if let Some(password) = setup.password {
            writeln!(conf, "md5-password '{password}';").unwrap();
        }
        writeln!(conf, "{}\n}}\n{}", setup.session, setup.global).unwrap();
        let file = path("exabgp.conf");
        fs::write(&file, conf).unwrap();
        let settings =
            ["exabgp.daemon.user=root", "exabgp.api.cli=false", "exabgp.daemon.drop=false"];
        let program = [&["env"], &settings[..], &["exabgp", &file]].concat();
        let process = place.spawn("exabgp", &program);
        let exabgp = Self { place: place.clone(), process, commands: pipe };
        eventually("ExaBGP runs its script", async || fs::exists(&events).unwrap()).await;
        exabgp
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    async fn learnt(&self, prefix: &str) -> Option<Route> {
        let names = |list: &Value| {
            list.as_array().is_some_and(|list| list.iter().any(|nlri| nlri["nlri"] == prefix))
        };
        let family = if prefix.contains(':') { "ipv6 unicast" } else { "ipv4 unicast" };
        let mut route = None;
        for update in self.updates() {
            if names(&update["withdraw"][family]) {
                route = None;
            }
            let hops = update["announce"][family].as_object().into_iter().flatten();
            for (next_hop, _) in hops.filter(|(_, list)| names(list)) {
                let attributes = &update["attribute"];
                let parts = |of: &str| {
                    let list = attributes[of].as_array().into_iter().flatten();
                    let joined = |values: &Value| {
                        let words = numbers(values).into_iter().map(|word| word.to_string());
                        words.collect::<Vec<_>>().join(":")
                    };
                    list.map(joined).collect::<Vec<_>>()
                };
                route = Some(Route {
                    next_hop: next_hop.clone(),
                    as_path: numbers(&attributes["as-path"]),
                    communities: [parts("community"), parts("large-community")].concat(),
                    local_pref: attributes["local-preference"]
                        .as_u64()
                        .and_then(|value| value.try_into().ok()),
                });
            }
        }
        route
    }

    async fn announce(&self, prefix: &str) {
        let [standard, large] = COMMUNITIES;
        let next_hop = self.next_hop(prefix);
        self.say(&format!(
            "announce route {prefix} next-hop {next_hop} community [{standard}] large-community [{large}]"
        ));
    }

    async fn withdraw(&self, prefix: &str) {
        self.say(&format!("withdraw route {prefix} next-hop {}", self.next_hop(prefix)));
    }
}

impl AsksAgain for ExaBgp {
    async fn ask_again(&self) {
        self.say("announce route-refresh ipv4 unicast");
    }
}
