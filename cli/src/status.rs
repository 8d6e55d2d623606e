//! `isocast status`: how the platform and its services are, on one screen.

use std::io::Write;

use anyhow::Context;
use isocast_api::{
    meta::{Condition, ConditionStatus, find_condition},
    network::{
        AnycastService, AnycastServiceSpec, BgpPeer, BgpPeerSpec, Datacenter, DatacenterSpec,
        DatacenterState, Node, NodeSpec,
    },
    object::{Object, Spec},
};
use serde_json::{Value, json};

use crate::{
    client::Client,
    options::StatusOutput,
    output,
    resource::{self, Place},
};

/// What the screen shows.
struct Overview {
    datacenters: Vec<Datacenter>,
    nodes: Vec<Node>,
    peers: Vec<BgpPeer>,
    services: Vec<AnycastService>,
}

pub(crate) fn run(client: &Client, form: StatusOutput, out: &mut impl Write) -> anyhow::Result<()> {
    let overview = Overview {
        datacenters: list::<DatacenterSpec>(client)?,
        nodes: list::<NodeSpec>(client)?,
        peers: list::<BgpPeerSpec>(client)?,
        services: list::<AnycastServiceSpec>(client)?,
    };
    match form {
        StatusOutput::Text => overview.write(out),
        StatusOutput::Json => output::json(out, &overview.to_json()),
    }
}

fn list<S: Spec>(client: &Client) -> anyhow::Result<Vec<Object<S>>> {
    let path = resource::path(resource::find(S::KIND.plural)?, Place::All, None);
    let answer = client.get(&path)?;
    let items = answer.get("items").and_then(Value::as_array);
    let items = items.with_context(|| format!("GET {path}: the answer is not a list"))?;
    let decode = |item: &Value| Object::<S>::decode(item).context("is this command too old?");
    items.iter().map(decode).collect()
}

impl Overview {
    fn write(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let text = |cells: &[&str]| cells.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let headings = text(&["DATACENTER", "STATE", "NODES", "SESSIONS", "SERVICES ANNOUNCED"]);
        output::table(out, &headings, &self.datacenter_rows())?;
        writeln!(out).context("cannot write")?;
        if self.services.is_empty() {
            writeln!(out, "No services.").context("cannot write")?;
        } else {
            let headings = text(&["SERVICE", "ADDRESSES", "READY", "ANNOUNCED BY"]);
            output::table(out, &headings, &self.service_rows())?;
        }
        let troubles = self.troubles();
        if !troubles.is_empty() {
            writeln!(out).context("cannot write")?;
        }
        for trouble in troubles {
            writeln!(out, "! {}", output::cell(&json!(trouble))).context("cannot write")?;
        }
        Ok(())
    }

    fn datacenter_rows(&self) -> Vec<Vec<String>> {
        let row = |datacenter: &Datacenter| {
            let name = datacenter.name();
            let nodes: Vec<_> =
                self.nodes.iter().filter(|node| node.spec.datacenter.as_str() == name).collect();
            let connected =
                nodes.iter().filter(|node| holds(&node.status.conditions, "Connected")).count();
            let sessions: Vec<_> = self
                .peers
                .iter()
                .flat_map(|peer| &peer.status.sessions)
                .filter(|session| nodes.iter().any(|node| node.name() == session.node))
                .collect();
            let up = sessions.iter().filter(|session| session.state == "Established").count();
            let announced = self.services.iter().filter(|service| {
                let here = service.status.datacenters.iter().find(|it| it.name == name);
                here.is_some_and(|here| !here.announced_by.is_empty())
            });
            let state = match datacenter.spec.state {
                DatacenterState::Active => "Active",
                DatacenterState::Draining => "Draining",
            };
            vec![
                name.to_owned(),
                state.to_owned(),
                format!("{connected}/{}", nodes.len()),
                format!("{up}/{}", sessions.len()),
                format!("{}/{}", announced.count(), self.services.len()),
            ]
        };
        self.datacenters.iter().map(row).collect()
    }

    fn service_rows(&self) -> Vec<Vec<String>> {
        let row = |service: &AnycastService| {
            let addresses: Vec<_> =
                service.status.addresses.iter().map(ToString::to_string).collect();
            let sites = service.status.datacenters.iter();
            let announcers: Vec<_> = sites
                .filter(|site| !site.announced_by.is_empty())
                .map(|site| format!("{}: {}", site.name, site.announced_by.join(", ")))
                .collect();
            vec![
                qualified(service),
                output::cell(&json!(addresses.join(", "))),
                ready(&service.status.conditions),
                output::cell(&json!(announcers.join("; "))),
            ]
        };
        self.services.iter().map(row).collect()
    }

    /// What is not as wanted, in sentences.
    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut add = |what: String, conditions: &[Condition], kind: &str| {
            if let Some(condition) = find_condition(conditions, kind)
                && condition.status != ConditionStatus::True
            {
                let Condition { reason, message, .. } = condition;
                let colon = if message.is_empty() { "" } else { ": " };
                troubles.push(format!("{what} is not {kind} ({reason}){colon}{message}"));
            }
        };
        for node in &self.nodes {
            let conditions = &node.status.conditions;
            // One that is not there cannot have taken anything: that need not be said too.
            let kind = if holds(conditions, "Connected") { "Applied" } else { "Connected" };
            add(format!("node {}", node.name()), conditions, kind);
        }
        for peer in &self.peers {
            add(format!("peer {}", peer.name()), &peer.status.conditions, "Established");
        }
        for service in &self.services {
            add(format!("service {}", qualified(service)), &service.status.conditions, "Ready");
        }
        troubles
    }

    fn to_json(&self) -> Value {
        let datacenters = self
            .datacenters
            .iter()
            .map(|it| json!({"name": it.name(), "state": it.spec.state, "status": it.status}));
        let services = self
            .services
            .iter()
            .map(|it| json!({"namespace": it.namespace(), "name": it.name(), "status": it.status}));
        json!({
            "datacenters": datacenters.collect::<Vec<_>>(),
            "services": services.collect::<Vec<_>>(),
            "troubles": self.troubles(),
        })
    }
}

fn qualified(service: &AnycastService) -> String {
    format!("{}/{}", service.namespace(), service.name())
}

fn holds(conditions: &[Condition], kind: &str) -> bool {
    find_condition(conditions, kind).is_some_and(|it| it.status == ConditionStatus::True)
}

fn ready(conditions: &[Condition]) -> String {
    match find_condition(conditions, "Ready") {
        Some(condition) => format!("{:?}", condition.status),
        None => "Unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: &str, message: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": "Because", "message": message,
            "lastTransitionTime": "2026-11-22T02:00:00Z",
        })
    }

    fn object<S: Spec>(name: &str, spec: Value, status: Value) -> Object<S> {
        let value = json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": S::KIND.kind,
            "metadata": {"name": name, "namespace": "web"}, "spec": spec, "status": status,
        });
        Object::decode(&value).unwrap()
    }

    #[test]
    fn the_screen_counts_and_names_what_is_wrong() {
        let node = |name: &str, connected: &str| {
            let spec = json!({
                "datacenter": "ams", "roles": ["Edge"], "tunnelAddresses": ["10.0.0.1"],
                "uplinks": [{"interface": "eth1"}], "asn": 65010,
            });
            let condition = condition("Connected", connected, "the agent is not connected");
            object::<NodeSpec>(name, spec, json!({"conditions": [condition]}))
        };
        let service = json!({
            "addresses": [{"claim": "a"}], "ports": [{"port": 443}], "backendPool": "www",
        });
        let overview = Overview {
            datacenters: vec![object("ams", json!({}), json!({}))],
            nodes: vec![node("edge-1", "True"), node("edge-2", "False")],
            peers: vec![object(
                "bor",
                json!({"nodes": ["edge-1"], "address": "10.0.0.2", "peerASN": 65001}),
                json!({"sessions": [{"node": "edge-1", "state": "Established"}]}),
            )],
            services: vec![object(
                "www",
                service,
                json!({
                    "addresses": ["203.0.113.1"],
                    "conditions": [condition("Ready", "True", "")],
                    "datacenters": [{"name": "ams", "announcedBy": ["edge-1"]}],
                }),
            )],
        };
        let mut out = Vec::new();

        overview.write(&mut out).unwrap();

        let expected = "\
DATACENTER   STATE    NODES   SESSIONS   SERVICES ANNOUNCED
ams          Active   1/2     1/1        1/1

SERVICE   ADDRESSES     READY   ANNOUNCED BY
web/www   203.0.113.1   True    ams: edge-1

! node edge-2 is not Connected (Because): the agent is not connected
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
