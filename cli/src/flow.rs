//! `isocast explain` and `isocast trace`: what becomes of a packet.

use std::{
    fmt::Display,
    io::{self, Write},
};

use anyhow::{Context, bail};
use clap::Args;
use isocast_api::agent::local::dataplane::{
    EXPLAIN_PATH, ExplainView, FlowQuery, LocalSocket, MemberView, TRACE_PATH, TraceView,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    bgp::{Connect, clean, dash},
    fleet::{Fleet, Reply},
    local::At,
    options::StatusOutput,
    output,
};

#[derive(Debug, Args)]
pub(crate) struct FlowArguments {
    /// tcp, udp or icmp
    pub(crate) protocol: String,
    /// Who sends: 192.0.2.1:4711 or [2001:db8::1]:4711; without a port for icmp
    pub(crate) source: String,
    /// Where to; without a port for icmp
    pub(crate) destination: String,
    /// The TCP packet opens the connection
    #[arg(long)]
    pub(crate) syn: bool,
    /// Bytes after the transport header
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) payload: u16,
    /// Suppose that the node has a socket of its own for the flow; `closed`: what is left of one
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "none",
        default_missing_value = "open",
        num_args = 0..=1,
        require_equals = true
    )]
    pub(crate) local_socket: LocalSocket,
    #[command(flatten)]
    pub(crate) at: At,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

pub(crate) fn explain(
    connect: Connect<'_>,
    arguments: &FlowArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let replies = ask::<ExplainView>(connect, arguments, EXPLAIN_PATH)?;
    show(arguments, &replies, out, row)
}

pub(crate) fn trace(
    connect: Connect<'_>,
    arguments: &FlowArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let replies = ask::<TraceView>(connect, arguments, TRACE_PATH)?;
    show(arguments, &replies, out, |view| {
        let mut row = row(&view.explained);
        let verdict = if view.differences.is_empty() { "agrees" } else { "DISAGREES" };
        row.push(verdict.to_owned());
        row
    })?;
    let disagree = |reply: &Reply<TraceView>| {
        reply.answer.as_ref().is_ok_and(|view| !view.differences.is_empty())
    };
    if replies.iter().any(disagree) {
        bail!("the program does otherwise than the tables say");
    }
    Ok(())
}

fn ask<T: DeserializeOwned + Send>(
    connect: Connect<'_>,
    arguments: &FlowArguments,
    path: &str,
) -> anyhow::Result<Vec<Reply<T>>> {
    let FlowArguments { protocol, source, destination, .. } = arguments;
    let flow = FlowQuery::parse(protocol, source, destination).map_err(anyhow::Error::msg)?;
    let (syn, payload, socket) = (arguments.syn, arguments.payload, arguments.local_socket);
    let parameters = FlowQuery { syn, payload, socket, ..flow }.parameters();
    let query: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Ok(Fleet::of(&arguments.at, || Ok(connect()?.0))?.ask(path, &query))
}

/// One node's answer in full, or a line for each of several.
fn show<T: Display + Serialize>(
    arguments: &FlowArguments,
    replies: &[Reply<T>],
    out: &mut impl Write,
    row: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    let failures =
        replies.iter().filter_map(|reply| Some((&reply.node, reply.answer.as_ref().err()?)));
    for (node, error) in failures.clone() {
        writeln!(io::stderr(), "{}: {error:#}", clean(node)).context("cannot write")?;
    }
    let answers: Vec<&T> = replies.iter().filter_map(|reply| reply.answer.as_ref().ok()).collect();
    if arguments.output == StatusOutput::Json {
        output::json(out, &serde_json::to_value(&answers)?)?;
    } else if let ([answer], true) = (answers.as_slice(), replies.len() == 1) {
        write!(out, "{answer}").context("cannot write")?;
    } else if !answers.is_empty() {
        let mut headings =
            vec!["NODE", "SERVICE", "SLOT", "CURRENT", "FURTHER", "BACKEND", "ACTION", "OUTCOME"];
        let rows: Vec<_> = answers.iter().map(|it| row(it)).collect();
        if rows.iter().any(|row| row.len() > headings.len()) {
            headings.push("PROGRAM");
        }
        output::table(out, &headings.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(), &rows)?;
        writeln!(out, "\n--node NODE has every stage.").context("cannot write")?;
    }
    if answers.len() < replies.len() {
        bail!("{} of {} nodes did not answer", failures.count(), replies.len());
    }
    Ok(())
}

fn row(view: &ExplainView) -> Vec<String> {
    let member = |member: Option<&MemberView>| member.map_or_else(dash, called);
    let service = view.service.as_ref().map(|it| match it.name.as_str() {
        "" => clean(&it.uid),
        name => format!("{}/{}", clean(&it.namespace), clean(name)),
    });
    let slot = view.slot.as_ref();
    let further = slot.map(|slot| slot.further.iter().map(called).collect::<Vec<_>>().join(" "));
    vec![
        clean(&view.node),
        service.unwrap_or_else(dash),
        slot.map_or_else(dash, |slot| slot.slot.to_string()),
        member(slot.and_then(|slot| slot.current.as_ref())),
        further.filter(|names| !names.is_empty()).unwrap_or_else(dash),
        member(view.backend.as_ref()),
        clean(&view.action),
        view.outcome.as_deref().map_or_else(dash, clean),
    ]
}

fn called(member: &MemberView) -> String {
    clean(if member.name.is_empty() { &member.uid } else { &member.name })
}
