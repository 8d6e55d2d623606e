//! `isocast-agent explain` and `trace`: what becomes of a packet here.

use std::fmt::Display;

use isocast_api::agent::local::dataplane::{
    EXPLAIN_PATH, ExplainView, FlowQuery, TRACE_PATH, TraceView,
};
use serde::de::DeserializeOwned;

use super::ask;
use crate::options::{FlowOptions, OutputFormat};

/// Shows what the tables make of a packet.
///
/// # Errors
/// No such packet, or no agent answers on the socket.
pub fn explain(options: &FlowOptions) -> anyhow::Result<()> {
    show::<ExplainView>(options, EXPLAIN_PATH)
}

/// Shows what the program makes of a packet.
///
/// # Errors
/// No such packet, or no agent answers on the socket.
pub fn trace(options: &FlowOptions) -> anyhow::Result<()> {
    show::<TraceView>(options, TRACE_PATH)
}

fn show<T: DeserializeOwned + Display>(options: &FlowOptions, path: &str) -> anyhow::Result<()> {
    let flow = FlowQuery::parse(&options.protocol, &options.from, &options.to);
    let flow = flow.map_err(anyhow::Error::msg)?;
    let (syn, payload, socket) = (options.syn, options.payload, options.local_socket);
    let flow = FlowQuery { syn, payload, socket, ..flow };
    // Addresses and numbers alone: nothing in them needs escaping in a query (RFC 3986 §3.4).
    let parameters = flow.parameters();
    let query: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let answer = ask::ask(&options.admin_socket, &format!("{path}?{}", query.join("&")))?;
    let text = match options.output {
        OutputFormat::Json => String::from_utf8_lossy(&answer).into_owned() + "\n",
        OutputFormat::Table => serde_json::from_slice::<T>(&answer)?.to_string(),
    };
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    {
        print!("{text}");
    }
    Ok(())
}
