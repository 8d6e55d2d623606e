//! `isocast bgp peers|routes|advertisements`: what nodes speak of with their routers.

use std::io::Write;

use anyhow::Context;
use clap::{Args, ValueEnum};
use isocast_api::{
    agent::local::{
        ADVERTISEMENTS_PATH, AdvertisementView, AdvertisementsView, PAGE_MAX, PEERS_PATH, PeerView,
        PeersView, ROUTES_PATH, RouteView, RoutesView, ToldView,
    },
    network::{BgpAdvertisementSpec, BgpSessionSpec},
    object::Spec,
    text::Time,
};
use serde_json::{Value, json};

use crate::{
    client::Client,
    get,
    kubeconfig::Kubeconfig,
    local::{At, Source},
    options::{GetArguments, GetOutput},
    output,
};

/// Arguments of a listing.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) at: At,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: GetOutput,
}

#[derive(Debug, Args)]
#[group(id = "which_node", args = ["node", "socket"], required = true)]
pub(crate) struct RoutesArguments {
    #[command(flatten)]
    pub(crate) at: At,
    /// Of this family [default: both]
    #[arg(long, value_enum)]
    pub(crate) family: Option<Family>,
    /// Of this prefix
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Show no more than about so many
    #[arg(long, default_value_t = 1000, value_name = "NUMBER")]
    pub(crate) limit: usize,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: GetOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    Ipv4Unicast,
    Ipv6Unicast,
}

/// How to get to the controller, if need be.
pub(crate) type Connect<'a> = &'a dyn Fn() -> anyhow::Result<(Client, Kubeconfig)>;

pub(crate) fn peers(
    connect: Connect<'_>,
    arguments: &ListArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let Some(source) = arguments.at.source(|| Ok(connect()?.0))? else {
        return objects(connect, BgpSessionSpec::KIND.plural, arguments.output, out);
    };
    let view: PeersView = source.view(PEERS_PATH, &[])?;
    if arguments.output == GetOutput::Json {
        return output::json(out, &serde_json::to_value(view)?);
    }
    let wide = arguments.output == GetOutput::Wide;
    let mut headings =
        vec!["PEER", "ADDRESS", "ASN", "STATE", "SINCE", "RECEIVED", "SENT", "WITHHELD", "ERROR"];
    if wide {
        headings.extend(["LOCAL", "FAMILIES", "RESTART", "BFD", "FLAPS", "FAULTS", "WAITING"]);
    }
    let rows: Vec<_> = view.peers.iter().map(|peer| peer_row(peer, wide)).collect();
    table(out, &headings, &rows, "No peers.")
}

pub(crate) fn routes(
    connect: Connect<'_>,
    arguments: &RoutesArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let source = arguments.at.source(|| Ok(connect()?.0))?;
    let source = source.context("name a node: --node NAME, or --socket PATH")?;
    let (routes, is_all) = all_routes(&source, arguments)?;
    if arguments.output == GetOutput::Json {
        return output::json(out, &serde_json::to_value(routes)?);
    }
    let wide = arguments.output == GetOutput::Wide;
    let mut headings = vec!["", "PREFIX", "PEER", "NEXT HOP", "AS PATH", "COMMUNITIES"];
    if wide {
        headings.extend(["ORIGIN", "MED", "LOCAL PREF", "VERDICT"]);
    }
    let rows: Vec<_> = routes.iter().map(|route| route_row(route, wide)).collect();
    table(out, &headings, &rows, "No routes.")?;
    if !is_all {
        writeln!(out, "There are more: --limit shows them.").context("cannot write")?;
    }
    Ok(())
}

pub(crate) fn advertisements(
    connect: Connect<'_>,
    arguments: &ListArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let Some(source) = arguments.at.source(|| Ok(connect()?.0))? else {
        return objects(connect, BgpAdvertisementSpec::KIND.plural, arguments.output, out);
    };
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let size = PAGE_MAX.to_string();
        let mut query = vec![("limit", size.as_str())];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: AdvertisementsView = source.view(ADVERTISEMENTS_PATH, &query)?;
        all.extend(page.advertisements);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if arguments.output == GetOutput::Json {
        return output::json(out, &serde_json::to_value(all)?);
    }
    let wide = arguments.output == GetOutput::Wide;
    let mut headings = vec!["PREFIX", "ANNOUNCED", "REASON", "TOLD", "SERVICES"];
    if wide {
        headings.extend(["COMMUNITIES", "WITHHELD"]);
    }
    let rows: Vec<_> = all.iter().map(|it| advertisement_row(it, wide)).collect();
    table(out, &headings, &rows, "Nothing to announce.")
}

/// What nodes have reported, as objects of the API.
fn objects(
    connect: Connect<'_>,
    kind: &str,
    output: GetOutput,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (client, kubeconfig) = connect()?;
    let arguments = GetArguments {
        kind: kind.to_owned(),
        name: None,
        namespace: None,
        all_namespaces: false,
        selector: None,
        output,
    };
    get::run(&client, &kubeconfig, &arguments, out)
}

/// Page by page; whether that is all.
fn all_routes(
    source: &Source<'_>,
    arguments: &RoutesArguments,
) -> anyhow::Result<(Vec<RouteView>, bool)> {
    let mut routes = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let left = arguments.limit.saturating_sub(routes.len()).clamp(1, PAGE_MAX).to_string();
        let mut query = vec![("limit", left.as_str())];
        query.extend(arguments.family.map(|family| ("family", name(family))));
        query.extend(arguments.prefix.as_deref().map(|prefix| ("prefix", prefix)));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: RoutesView = source.view(ROUTES_PATH, &query)?;
        routes.extend(page.routes);
        cursor = page.next;
        if cursor.is_none() || routes.len() >= arguments.limit {
            return Ok((routes, cursor.is_none()));
        }
    }
}

const fn name(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast => "ipv4-unicast",
        Family::Ipv6Unicast => "ipv6-unicast",
    }
}

fn table(
    out: &mut impl Write,
    headings: &[&str],
    rows: &[Vec<String>],
    nothing: &str,
) -> anyhow::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "{nothing}").context("cannot write");
    }
    let headings: Vec<_> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    output::table(out, &headings, rows)
}

fn peer_row(peer: &PeerView, wide: bool) -> Vec<String> {
    let mut row = vec![
        clean(&peer.name),
        peer.address.to_string(),
        or_dash(peer.asn.as_ref()),
        clean(&peer.state),
        when(peer.since),
        peer.prefixes_received.to_string(),
        peer.prefixes_sent.to_string(),
        peer.prefixes_withheld.to_string(),
        peer.last_error.as_ref().map_or_else(dash, |error| clean(&error.message)),
    ];
    if wide {
        row.extend([
            or_dash(peer.local_address.as_ref()),
            list(&peer.families),
            peer.graceful_restart.as_deref().map_or_else(dash, clean),
            peer.bfd.as_deref().map_or_else(dash, clean),
            peer.flaps.to_string(),
            peer.faults.to_string(),
            peer.waiting.to_string(),
        ]);
    }
    row
}

/// One path, as `why` shows it too.
pub(crate) fn route_row(route: &RouteView, wide: bool) -> Vec<String> {
    let mark = match route {
        RouteView { best: true, .. } => "*",
        RouteView { multipath: true, .. } => "=",
        RouteView { stale: true, .. } => "s",
        RouteView { verdict, .. } if verdict != "Accepted" => "x",
        _ => "",
    };
    let path: Vec<_> = route.as_path.iter().map(u32::to_string).collect();
    let mut row = vec![
        mark.to_owned(),
        route.prefix.to_string(),
        route.peer.as_deref().map_or_else(|| "(own)".to_owned(), clean),
        route.next_hop.as_ref().map_or_else(|| "self".to_owned(), ToString::to_string),
        if path.is_empty() { dash() } else { path.join(" ") },
        list(&route.communities),
    ];
    if wide {
        row.extend([
            clean(&route.origin),
            or_dash(route.med.as_ref()),
            or_dash(route.local_pref.as_ref()),
            match &route.term {
                Some(term) => format!("{} by {}", clean(&route.verdict), clean(term)),
                None => clean(&route.verdict),
            },
        ]);
    }
    row
}

fn advertisement_row(it: &AdvertisementView, wide: bool) -> Vec<String> {
    let told = it.peers.iter().filter(|peer| peer.since.is_some());
    let told: Vec<_> = told.map(|peer| clean(&peer.peer)).collect();
    let mut row = vec![
        it.prefix.to_string(),
        if it.announced { "yes" } else { "no" }.to_owned(),
        clean(&it.reason),
        list(&told),
        list(&it.services),
    ];
    if wide {
        let withheld = |peer: &ToldView| {
            let why = peer.withheld.as_deref()?;
            Some(format!("{}: {}", clean(&peer.peer), clean(why)))
        };
        let withheld: Vec<_> = it.peers.iter().filter_map(withheld).collect();
        row.extend([list(&it.communities), list(&withheld)]);
    }
    row
}

/// One line without control sequences: a node may say anything.
pub(crate) fn clean(text: &str) -> String {
    output::cell(&Value::String(text.to_owned()))
}

/// Several of them.
pub(crate) fn list(items: &[String]) -> String {
    if items.is_empty() { dash() } else { output::cell(&json!(items)) }
}

pub(crate) fn when(time: Option<Time>) -> String {
    or_dash(time.as_ref())
}

fn or_dash(value: Option<&impl ToString>) -> String {
    value.map_or_else(dash, ToString::to_string)
}

pub(crate) fn dash() -> String {
    "-".to_owned()
}
