//! `isocast node token`: the right to join, once.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    client::Client,
    options::{TokenArguments, TokenOutput},
    output,
    resource::{self, Place},
};

pub(crate) fn run(
    client: &Client,
    arguments: &TokenArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let nodes = resource::find("nodes")?;
    let path = format!("{}/token", resource::path(nodes, Place::All, Some(&arguments.name)));
    let answer = client.post(&path, &json!({"ttl": arguments.ttl.to_string()}))?;
    if arguments.output == TokenOutput::Json {
        return output::json(out, &answer);
    }
    let field = |name: &str| answer.get(name).and_then(Value::as_str);
    let token = field("token").context("the server's answer holds no token")?;
    // The token alone, so that `isocast node token NAME > FILE` makes the file that the agent reads.
    writeln!(out, "{token}").context("cannot write")?;
    if let Some(expires_at) = field("expiresAt") {
        let note = format!("good for one join of {} until {expires_at}", arguments.name);
        writeln!(io::stderr(), "{note}").context("cannot write")?;
    }
    Ok(())
}
