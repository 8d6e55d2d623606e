//! `isocast why`: why a prefix is announced, or is not, and what each router was told.

use std::{io::Write, net::IpAddr};

use anyhow::{Context, bail};
use clap::Args;
use ipnet::IpNet;
use isocast_api::{
    agent::local::{GateView, OriginView, PassageView, WHY_PATH, WhyView},
    meta::find_condition,
    network::{BgpAdvertisement, BgpAdvertisementSpec},
    object::{Object, Spec},
};
use serde_json::Value;

use crate::{
    bgp::{Connect, clean, dash, list, route_row, when},
    client::Client,
    local::{At, Source},
    options::StatusOutput,
    output,
    resource::{self, Place},
};

#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    /// Prefix such as 203.0.113.10/32; an address means its host route
    #[arg(value_parser = prefix)]
    pub(crate) prefix: IpNet,
    #[command(flatten)]
    pub(crate) at: At,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

pub(crate) fn run(
    connect: Connect<'_>,
    arguments: &WhyArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match arguments.at.source(|| Ok(connect()?.0))? {
        Some(source) => on_node(&source, arguments, out),
        None => everywhere(&connect()?.0, arguments, out),
    }
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let prefix = text.parse::<IpNet>().ok();
    let prefix = prefix.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let prefix = prefix.ok_or("must be a prefix such as 203.0.113.10/32, or an address")?;
    Ok(prefix.trunc())
}

// === every node that carries it ===

fn everywhere(
    client: &Client,
    arguments: &WhyArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let kind = resource::find(BgpAdvertisementSpec::KIND.plural)?;
    let mut path = resource::path(kind, Place::All, None);
    path.push_str("?fieldSelector=");
    resource::push_escaped(&mut path, &format!("spec.prefix={}", arguments.prefix));
    let answer = client.get(&path)?;
    if arguments.output == StatusOutput::Json {
        return output::json(out, &answer);
    }
    let items = answer.get("items").and_then(Value::as_array);
    let items = items.with_context(|| format!("GET {path}: the answer is not a list"))?;
    let decode =
        |item| Object::<BgpAdvertisementSpec>::decode(item).context("is this command too old?");
    let all = items.iter().map(decode).collect::<anyhow::Result<Vec<_>>>()?;
    if all.is_empty() {
        bail!("no node carries {}", arguments.prefix);
    }
    let headings = ["NODE", "ANNOUNCED", "REASON", "SINCE", "TOLD", "SERVICES", "MESSAGE"];
    let rows: Vec<_> = all.iter().map(row).collect();
    output::table(out, &headings.map(str::to_owned), &rows)?;
    writeln!(out, "\nisocast why {} --node NODE has the whole chain.", arguments.prefix)
        .context("cannot write")
}

fn row(it: &BgpAdvertisement) -> Vec<String> {
    let announced = find_condition(&it.status.conditions, "Announced");
    let told = it.status.peers.iter().filter(|peer| peer.since.is_some());
    let told: Vec<_> = told.map(|peer| peer.name.clone()).collect();
    vec![
        clean(it.spec.node.as_str()),
        announced.map_or_else(dash, |it| format!("{:?}", it.status)),
        announced.map_or_else(dash, |it| clean(&it.reason)),
        announced.map_or_else(dash, |it| it.last_transition_time.to_string()),
        list(&told),
        list(&it.status.services),
        announced.map_or_else(dash, |it| clean(&it.message)),
    ]
}

// === one node, in full ===

fn on_node(
    source: &Source<'_>,
    arguments: &WhyArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let answer = source.ask(WHY_PATH, &[("prefix", &arguments.prefix.to_string())])?;
    if arguments.output == StatusOutput::Json {
        return output::json(out, &answer);
    }
    let why: WhyView = serde_json::from_value(answer).context("is this command too old?")?;
    write(&why, out).context("cannot write")
}

fn write(why: &WhyView, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "{} on node {}", why.prefix, clean(&why.node))?;
    match &why.origin {
        Some(origin) => write_origin(origin, out)?,
        None => writeln!(out, "\nNo service of this node has it.")?,
    }
    if why.paths.is_empty() {
        writeln!(out, "\nThere is no path to it.")?;
    } else {
        writeln!(out)?;
        let headings = ["", "PREFIX", "PEER", "NEXT HOP", "AS PATH", "COMMUNITIES"];
        let more = ["ORIGIN", "MED", "LOCAL PREF", "VERDICT"];
        let headings: Vec<_> = headings.into_iter().chain(more).map(str::to_owned).collect();
        let rows: Vec<_> = why.paths.iter().map(|path| route_row(path, true)).collect();
        output::table(out, &headings, &rows)?;
        if let Some(reason) = &why.best_by {
            writeln!(out, "* is best: {}", clean(reason))?;
        }
    }
    if why.peers.is_empty() {
        writeln!(out, "\nThere are no peers.")?;
        return Ok(());
    }
    writeln!(out)?;
    let headings = ["PEER", "STATE", "TOLD", "SINCE", "NEXT HOP", "POLICY", "TERM", "COMMUNITIES"];
    let rows: Vec<_> = why.peers.iter().map(peer_row).collect();
    output::table(out, &headings.map(str::to_owned), &rows)
}

fn write_origin(origin: &OriginView, out: &mut impl Write) -> anyhow::Result<()> {
    let verdict = if origin.announced { "announced" } else { "not announced" };
    let OriginView { reason, message, withdrawals, .. } = origin;
    writeln!(out, "\n{verdict}: {} ({})", clean(message), clean(reason))?;
    for service in &origin.services {
        let name = format!("{}/{}", clean(&service.namespace), clean(&service.name));
        writeln!(out, "  service  {name}, served by {}", clean(&service.placement))?;
    }
    for gate in &origin.gates {
        writeln!(out, "  gate     {}", of_gate(gate))?;
    }
    if let Some(hold) = &origin.hold {
        writeln!(out, "  held     {}", clean(hold))?;
    }
    let others = match origin.other_announcers {
        None => "the controller has not said who else announces it".to_owned(),
        Some(0) => "no other node announces it".to_owned(),
        Some(others) => format!("{others} or more other nodes announce it"),
    };
    let keeper = if origin.keeper { "; this one must not stop by itself" } else { "" };
    writeln!(out, "  others   {others}{keeper}")?;
    let guard = if origin.permitted { "lets it pass" } else { "stops it: no address grant" };
    writeln!(out, "  guard    the export guard {guard}")?;
    let per = format!("within {} s", withdrawals.window_s);
    writeln!(
        out,
        "  budget   {} of {} withdrawals left {per}",
        withdrawals.left, withdrawals.limit
    )?;
    Ok(())
}

fn of_gate(gate: &GateView) -> String {
    let name = clean(&gate.name);
    if gate.open {
        return format!("{name:<13} open");
    }
    let why = gate.message.as_deref().map_or_else(dash, clean);
    let reason = gate.reason.as_deref().map_or_else(dash, clean);
    format!("{name:<13} closed: {why} ({reason})")
}

fn peer_row(peer: &PassageView) -> Vec<String> {
    let told = match (&peer.withheld, peer.told) {
        (Some(why), true) => format!("yes, until it reads the withdrawal: {}", clean(why)),
        (None, true) => "yes".to_owned(),
        (Some(why), false) => format!("no: {}", clean(why)),
        (None, false) if peer.waiting => "not yet: it does not read".to_owned(),
        (None, false) => "no".to_owned(),
    };
    vec![
        clean(&peer.peer),
        clean(&peer.state),
        told,
        when(peer.since),
        peer.next_hop.map_or_else(dash, |it| it.to_string()),
        clean(&peer.policy),
        peer.term.as_deref().map_or_else(dash, clean),
        list(&peer.communities),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_chain_is_told_from_the_services_to_the_peers() {
        let why: WhyView = serde_json::from_value(json!({
            "node": "edge-1", "prefix": "203.0.113.10/32",
            "origin": {
                "announced": true, "reason": "LastAnnouncer", "message": "kept",
                "services": [{"namespace": "web", "name": "www", "placement": "local backends"}],
                "gates": [
                    {"name": "Lease", "open": true},
                    {"name": "Backends", "open": false, "reason": "NoHealthyBackend",
                     "message": "nothing is announced without a backend"},
                ],
                "hold": "LastAnnouncer", "otherAnnouncers": 0, "keeper": true, "permitted": true,
                "withdrawals": {"left": 4, "limit": 5, "windowS": 60},
            },
            "paths": [
                {"prefix": "203.0.113.10/32", "peer": "tor2", "best": false, "multipath": false,
                 "stale": false, "verdict": "Policy", "term": "own-space", "nextHop": "10.0.0.2",
                 "asPath": [65020], "origin": "igp", "communities": []},
            ],
            "bestBy": null,
            "peers": [
                {"peer": "tor1", "state": "Established", "told": true, "waiting": false,
                 "since": "2026-11-22T02:00:00Z", "nextHop": "10.0.0.1", "policy": "fabric-export",
                 "term": "own", "communities": ["65010:100"]},
                {"peer": "tor2", "state": "Idle", "told": false, "waiting": false,
                 "withheld": "NotEstablished", "policy": "fabric-export", "communities": []},
            ],
        }))
        .unwrap();
        let mut out = Vec::new();

        write(&why, &mut out).unwrap();

        let expected = "\
203.0.113.10/32 on node edge-1

announced: kept (LastAnnouncer)
  service  web/www, served by local backends
  gate     Lease         open
  gate     Backends      closed: nothing is announced without a backend (NoHealthyBackend)
  held     LastAnnouncer
  others   no other node announces it; this one must not stop by itself
  guard    the export guard lets it pass
  budget   4 of 5 withdrawals left within 60 s

    PREFIX            PEER   NEXT HOP   AS PATH   COMMUNITIES   ORIGIN   MED   LOCAL PREF   VERDICT
x   203.0.113.10/32   tor2   10.0.0.2   65020     -             igp      -     -            Policy by own-space

PEER   STATE         TOLD                 SINCE                  NEXT HOP   POLICY          TERM   COMMUNITIES
tor1   Established   yes                  2026-11-22T02:00:00Z   10.0.0.1   fabric-export   own    65010:100
tor2   Idle          no: NotEstablished   -                      -          fabric-export   -      -
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
