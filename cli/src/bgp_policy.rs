//! `isocast bgp policy`: see what a policy would do before it does, and let one stay.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use isocast_api::{
    agent::local::{IMPORT_PREVIEW_PATH, ImportPreviewView},
    network::{BgpPolicySpec, CONFIRM},
    object::Spec,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    bgp::clean,
    client::Client,
    local::At,
    options::StatusOutput,
    output,
    resource::{self, Place},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show which prefixes each router would be told of, and which no longer
    Preview(PreviewArguments),
    /// Let the terms on trial stay
    ///
    /// A BGPPolicy with confirmWithin puts its former terms back by itself unless this is said in
    /// time.
    Confirm {
        /// Name of the BGPPolicy
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PreviewArguments {
    /// File with the BGPPolicy as it would be; - is standard input
    pub(crate) file: PathBuf,
    /// Whose routes an import policy would change
    #[command(flatten)]
    pub(crate) at: At,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

/// The server's answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preview {
    prefixes: usize,
    withdrawn: usize,
    withdrawals_allowed: usize,
    peers: Vec<PeerPreview>,
    imported_from: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct PeerPreview {
    name: String,
    gained: Vec<String>,
    lost: Vec<String>,
    changed: Vec<String>,
}

/// No policy within the API's limits is larger.
const FILE_BYTES_MAX: u64 = 4 << 20;

pub(crate) fn run(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    command: &PolicyCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Preview(arguments) => preview(connect, arguments, out),
        PolicyCommand::Confirm { name } => confirm(&connect()?, name, out),
    }
}

fn preview(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    arguments: &PreviewArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let candidate = read(&arguments.file)?;
    let name = candidate.pointer("/metadata/name").and_then(Value::as_str);
    let name = name.context("the policy has no metadata.name")?;
    if arguments.at.is_named() {
        // What routers told an edge, the controller does not know.
        let source = arguments.at.source(connect)?.context("nobody to ask")?;
        let preview: ImportPreviewView = source.post(IMPORT_PREVIEW_PATH, &candidate)?;
        return match arguments.output {
            StatusOutput::Json => output::json(out, &json!(preview)),
            StatusOutput::Text => write_imports(&preview, name, out),
        };
    }
    let answer = connect()?.post(&format!("{}/preview", path(name)?), &candidate)?;
    if arguments.output == StatusOutput::Json {
        return output::json(out, &answer);
    }
    let preview: Preview = serde_json::from_value(answer).context("is this command too old?")?;
    write(&preview, out)
}

/// The one BGPPolicy in `file`.
fn read(file: &Path) -> anyhow::Result<Value> {
    let name = file.display();
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(fs::File::open(file).with_context(|| format!("cannot open {name}"))?)
    };
    let mut text = String::new();
    let bytes = input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    if bytes.with_context(|| format!("cannot read {name}"))? as u64 > FILE_BYTES_MAX {
        bail!("{name} is larger than {FILE_BYTES_MAX} bytes");
    }
    let value: Value = serde_saphyr::from_str(&text)
        .with_context(|| format!("{name} is not one YAML document"))?;
    if value.get("kind").and_then(Value::as_str) != Some(BgpPolicySpec::KIND.kind) {
        bail!("{name} is not a {}", BgpPolicySpec::KIND.kind);
    }
    Ok(value)
}

fn write(preview: &Preview, out: &mut impl Write) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for peer in &preview.peers {
        let changes = [("-", &peer.lost), ("+", &peer.gained), ("~", &peer.changed)];
        for (sign, prefixes) in changes {
            let row = |prefix: &String| vec![peer.name.clone(), sign.to_owned(), prefix.clone()];
            rows.extend(prefixes.iter().map(row));
        }
    }
    if rows.is_empty() {
        writeln!(out, "No router would be told anything else.").context("cannot write")?;
    } else {
        let headings = ["PEER", "", "PREFIX"].map(str::to_owned);
        output::table(out, &headings, &rows)?;
        writeln!(out, "\n- withdrawn   + announced   ~ with other attributes")
            .context("cannot write")?;
    }
    let Preview { prefixes, withdrawn, withdrawals_allowed, .. } = preview;
    if withdrawn > withdrawals_allowed {
        let verdict = format!(
            "Withdraws {withdrawn} of {prefixes} prefixes: refused without the annotation \
             isocast.dev/allow-withdrawals: \"{withdrawn}\"."
        );
        writeln!(out, "{verdict}").context("cannot write")?;
    }
    if !preview.imported_from.is_empty() {
        let routers = preview.imported_from.join(", ");
        let told = "which the controller is not told: ask an edge with --node";
        writeln!(out, "Judges what {routers} send too, {told}.").context("cannot write")?;
    }
    Ok(())
}

fn write_imports(
    preview: &ImportPreviewView,
    policy: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if preview.peers.is_empty() {
        writeln!(out, "No router of this node has {policy:?} as its import policy.")?;
        return Ok(());
    }
    let mut rows = Vec::new();
    for peer in &preview.peers {
        let changes = [("-", &peer.lost), ("+", &peer.gained), ("~", &peer.changed)];
        for (sign, list) in changes {
            let row = |what: String| vec![clean(&peer.name), sign.to_owned(), what];
            rows.extend(list.prefixes.iter().map(|prefix| row(prefix.to_string())));
            let rest = list.count.saturating_sub(list.prefixes.len() as u64);
            rows.extend((rest > 0).then(|| row(format!("and {rest} more"))));
        }
    }
    if !rows.is_empty() {
        let headings = ["PEER", "", "PREFIX"].map(str::to_owned);
        output::table(out, &headings, &rows)?;
        writeln!(out, "\n- no longer taken   + taken   ~ with other attributes")?;
    } else if preview.peers.iter().any(|peer| peer.known) {
        writeln!(out, "No route would be taken otherwise.")?;
    }
    for peer in preview.peers.iter().filter(|peer| !peer.known) {
        let why = "its session is down, or nothing is taken from it and so nothing kept (RFC 8212)";
        writeln!(out, "Of {} nothing is known: {why}.", clean(&peer.name))?;
    }
    Ok(())
}

fn confirm(client: &Client, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let path = path(name)?;
    let policy = client.get(&path)?;
    let deadline = policy.pointer("/status/pendingRollback/deadline").and_then(Value::as_str);
    let Some(deadline) = deadline else {
        bail!("bgppolicy {name:?} has no change on trial: nothing to confirm");
    };
    let generation = policy.pointer("/metadata/generation").and_then(Value::as_i64);
    let generation = generation.context("the policy has no generation")?;
    // By its generation: somebody may change the policy between the two requests.
    let patch = json!({"metadata": {"annotations": {CONFIRM: generation.to_string()}}});
    client.merge(&path, &patch)?;
    writeln!(out, "bgppolicy {name:?} stays as it is; it would have gone back at {deadline}")
        .context("cannot write")
}

fn path(name: &str) -> anyhow::Result<String> {
    Ok(resource::path(resource::find(BgpPolicySpec::KIND.plural)?, Place::All, Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: Value) -> String {
        let mut out = Vec::new();
        write(&serde_json::from_value(value).unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_preview_shows_what_each_router_loses_gains_and_sees_changed() {
        let text = shown(json!({
            "prefixes": 7, "withdrawn": 6, "withdrawalsAllowed": 5, "importedFrom": ["tor1"],
            "peers": [
                {"name": "a", "gained": ["192.0.2.1/32"], "lost": ["192.0.2.2/32"], "changed": []},
                {"name": "b", "gained": [], "lost": [], "changed": ["192.0.2.3/32"]},
            ],
        }));

        let expected = "PEER       PREFIX\n\
                        a      -   192.0.2.2/32\n\
                        a      +   192.0.2.1/32\n\
                        b      ~   192.0.2.3/32\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("Withdraws 6 of 7 prefixes: refused"), "{text}");
        assert!(text.contains("Judges what tor1 send too"), "{text}");
    }

    #[test]
    fn a_preview_of_no_change_says_so() {
        let text = shown(json!({
            "prefixes": 7, "withdrawn": 0, "withdrawalsAllowed": 5, "importedFrom": [], "peers": [],
        }));

        assert_eq!(text, "No router would be told anything else.\n");
    }

    #[test]
    fn a_preview_of_imports_names_prefixes_and_says_what_it_cannot_know() {
        let list = |prefixes: Value, count: u64| json!({"count": count, "prefixes": prefixes});
        let preview = json!({"peers": [
            {"name": "ix1", "known": true, "gained": list(json!(["192.0.2.0/24"]), 3),
             "lost": list(json!(["198.51.100.0/24"]), 1), "changed": list(json!([]), 0)},
            {"name": "ix2", "known": false, "gained": list(json!([]), 0),
             "lost": list(json!([]), 0), "changed": list(json!([]), 0)},
        ]});
        let mut out = Vec::new();

        write_imports(&serde_json::from_value(preview).unwrap(), "from-ix", &mut out).unwrap();

        let text = String::from_utf8(out).unwrap();
        let expected = "PEER       PREFIX\n\
                        ix1    -   198.51.100.0/24\n\
                        ix1    +   192.0.2.0/24\n\
                        ix1    +   and 2 more\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("Of ix2 nothing is known: its session is down"), "{text}");
    }
}
