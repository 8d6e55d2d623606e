//! `isocast audit`: who did what, and whether the records are what was written.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{client::Client, options::StatusOutput, output};

const RECORDS: &str = "/apis/audit.isocast.dev/v1alpha1/auditrecords";
const CHAIN: &str = "/apis/audit.isocast.dev/v1alpha1/auditchain";

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print records as JSON, one a line, as Kubernetes' audit.k8s.io/v1 events
    ///
    /// isocast audit export --since 2026-11-01T00:00:00Z > november.jsonl
    Export(SearchArguments),
    /// Find records: who did what to what, and what came of it
    ///
    /// isocast audit search --actor alice --resource anycastservices --verb delete
    ///
    /// With the kubeconfig of an organization (isocast kubeconfig --organization acme): what lies in
    /// it and below, and nothing else.
    Search(SearchArguments),
    /// Check that no record was altered, left out or reordered
    Verify(VerifyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct SearchArguments {
    /// Who: a user, or system:serviceaccount:NAMESPACE:NAME; also who asked as somebody else
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) actor: String,
    /// Plural of the kind: anycastservices, roles.iam.isocast.dev
    #[arg(long, value_name = "PLURAL", default_value = "")]
    pub(crate) resource: String,
    /// Namespace of the object
    #[arg(short, long, value_name = "NAME", default_value = "")]
    pub(crate) namespace: String,
    /// Name of the object
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) name: String,
    /// Identity of the object: a namesake has another
    #[arg(long, value_name = "UID", default_value = "")]
    pub(crate) uid: String,
    /// create, update, patch, delete; of what was denied or read also get, list, watch
    #[arg(long, value_name = "VERB", default_value = "")]
    pub(crate) verb: String,
    /// Changed, Denied, Read (a secret), or Refused: a change that could not be made
    #[arg(long, value_name = "OUTCOME", default_value = "")]
    pub(crate) outcome: String,
    /// The request that answered with this Audit-Id
    #[arg(long, value_name = "ID", default_value = "")]
    pub(crate) id: String,
    /// Not before: 2026-11-22T18:00:00Z
    #[arg(long, value_name = "TIME", default_value = "")]
    pub(crate) since: String,
    /// Before
    #[arg(long, value_name = "TIME", default_value = "")]
    pub(crate) until: String,
    /// At most so many [default: all]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<usize>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// What an earlier check printed, REVISION:HASH: the records up to there must be the same, also
    /// if their changes have left the log since
    #[arg(long, value_name = "REVISION:HASH")]
    pub(crate) anchor: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

pub(crate) fn run(
    client: &Client,
    command: &AuditCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        AuditCommand::Export(arguments) => export(client, arguments, out),
        AuditCommand::Search(arguments) => search(client, arguments, out),
        AuditCommand::Verify(arguments) => verify(client, arguments, out),
    }
}

fn search(
    client: &Client,
    arguments: &SearchArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut records = Vec::new();
    each(client, arguments, |record| {
        records.push(record.clone());
        Ok(())
    })?;
    if arguments.output == StatusOutput::Json {
        return output::json(out, &json!({"items": records}));
    }
    let headings = ["TIME", "ACTOR", "VERB", "OBJECT", "OUTCOME", "SOURCE"].map(str::to_owned);
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            let text = |field: &str| output::cell(record.get(field).unwrap_or(&Value::Null));
            let actor = match record.get("impersonator") {
                Some(by) => format!("{} (by {})", text("actor"), output::cell(by)),
                None => text("actor"),
            };
            vec![text("time"), actor, text("verb"), object(record), text("outcome"), text("source")]
        })
        .collect();
    output::table(out, &headings, &rows)
}

/// `anycastservices web-prod/www/status`
fn object(record: &Value) -> String {
    let text = |field: &str| record.get(field).and_then(Value::as_str).unwrap_or_default();
    let plural = text("resource").split('.').next().unwrap_or_default();
    let mut object = format!("{plural} ");
    for part in ["namespace", "name", "subresource"] {
        if !text(part).is_empty() {
            let slash = if object.ends_with(' ') { "" } else { "/" };
            let _always = write!(object, "{slash}{}", text(part));
        }
    }
    output::cell(&json!(object.trim_end()))
}

fn export(
    client: &Client,
    arguments: &SearchArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    each(client, arguments, |record| {
        let line = serde_json::to_string(&event(record)).context("cannot encode a record")?;
        writeln!(out, "{line}").context("cannot write")
    })
}

/// A record in Kubernetes' words.
fn event(record: &Value) -> Value {
    let text = |field: &str| record.get(field).and_then(Value::as_str).unwrap_or_default();
    let resource = text("resource");
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let user = |actor: &str| actor.split('"').nth(1).unwrap_or(actor).to_owned();
    let (asked_by, taken_for) = match text("impersonator") {
        "" => (user(text("actor")), None),
        by => (user(by), Some(json!({"username": user(text("actor"))}))),
    };
    let source = record.get("source");
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Event",
        "level": "Metadata",
        "auditID": text("id"),
        "stage": "ResponseComplete",
        "verb": text("verb"),
        "user": {"username": asked_by},
        "impersonatedUser": taken_for,
        "sourceIPs": source.map(|source| json!([source])),
        "userAgent": text("agent"),
        "objectRef": {
            "resource": plural, "apiGroup": group, "namespace": text("namespace"),
            "name": text("name"), "uid": text("uid"), "subresource": text("subresource"),
        },
        "responseStatus": {"code": record.get("code").and_then(Value::as_u64).unwrap_or(200)},
        "requestReceivedTimestamp": text("time"),
        "stageTimestamp": text("time"),
        "annotations": {
            "audit.isocast.dev/revision": text("revision"),
            "audit.isocast.dev/outcome": text("outcome"),
            "audit.isocast.dev/scope": text("scope"),
            "audit.isocast.dev/changes": record.get("changes").map(Value::to_string),
        },
    })
}

/// Shows every record that is asked for, page by page.
fn each(
    client: &Client,
    arguments: &SearchArguments,
    mut show: impl FnMut(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left = arguments.limit.unwrap_or(usize::MAX);
    let mut position = String::new();
    while left > 0 {
        let limit = left.min(PAGE).to_string();
        let parameters = [
            ("actor", &arguments.actor),
            ("resource", &arguments.resource),
            ("namespace", &arguments.namespace),
            ("name", &arguments.name),
            ("uid", &arguments.uid),
            ("verb", &arguments.verb),
            ("outcome", &arguments.outcome),
            ("id", &arguments.id),
            ("since", &arguments.since),
            ("until", &arguments.until),
            ("continue", &position),
            ("limit", &limit),
        ];
        let given = parameters.iter().filter(|(_, value)| !value.is_empty());
        let query: Vec<String> =
            given.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let page = client.get(&format!("{RECORDS}?{}", query.join("&")))?;
        for record in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            show(record)?;
            left = left.saturating_sub(1);
        }
        match page.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(next) => next.clone_into(&mut position),
            None => break,
        }
    }
    Ok(())
}

/// Records asked for at once.
const PAGE: usize = 500;

/// Text as part of a query, RFC 3986 §2.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _always = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn verify(
    client: &Client,
    arguments: &VerifyArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let anchor = arguments.anchor.as_deref().map(|anchor| {
        anchor.split_once(':').context("an anchor is REVISION:HASH, as an earlier check printed it")
    });
    let anchor = anchor.transpose()?;
    let mut position = String::from("0");
    let mut is_anchored = anchor.is_none();
    let checked = loop {
        // A stop at the anchor shows the link there.
        let stop = match anchor {
            Some((revision, _)) if !is_anchored => format!("&until={}", escaped(revision)),
            _ => String::new(),
        };
        let checked = client.get(&format!("{CHAIN}?continue={position}{stop}"))?;
        let text = |field: &str| checked.get(field).and_then(Value::as_str).unwrap_or_default();
        if let Some((revision, hash)) = anchor
            && !is_anchored
            && text("checked") == revision
        {
            if text("link") != hash {
                bail!("the records up to revision {revision} are not those of the anchor");
            }
            is_anchored = true;
        }
        match checked.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(next) => next.clone_into(&mut position),
            None => break checked,
        }
    };
    let text = |field: &str| checked.get(field).and_then(Value::as_str).unwrap_or_default();
    if arguments.output == StatusOutput::Json {
        output::json(out, &checked)?;
    }
    if checked.get("intact").and_then(Value::as_bool) != Some(true) {
        io::stdout().flush().context("cannot write")?;
        bail!("the records are not what was written: {}", text("fault"));
    }
    if !is_anchored {
        bail!(
            "the anchor's revision is not among the records, which reach from {} to {}: what is before \
             was forgotten (--audit-retention), what is after was never written or is lost",
            text("first"),
            text("head")
        );
    }
    if arguments.output != StatusOutput::Json {
        let (first, head, link) = (text("first"), text("head"), text("link"));
        writeln!(out, "intact from revision {first} to {head}").context("cannot write")?;
        writeln!(out, "anchor {head}:{link}").context("cannot write")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Value {
        json!({
            "time": "2026-11-22T19:00:00.000Z", "actor": "user \"alice\"", "verb": "patch",
            "resource": "anycastservices.network.isocast.dev", "namespace": "web", "name": "www",
            "subresource": "status", "outcome": "Changed", "revision": "7", "id": "a-1",
            "source": "192.0.2.1",
        })
    }

    #[test]
    fn an_object_is_one_word_after_its_kind() {
        assert_eq!(object(&record()), "anycastservices web/www/status");
        assert_eq!(object(&json!({"resource": "nodes.x", "name": "a"})), "nodes a");
    }

    #[test]
    fn an_event_is_in_kubernetes_words() {
        let mut impersonated = record();
        impersonated["impersonator"] = json!("user \"root\"");

        let event = event(&impersonated);

        assert_eq!(event["user"]["username"], "root");
        assert_eq!(event["impersonatedUser"]["username"], "alice");
        assert_eq!(event["objectRef"]["apiGroup"], "network.isocast.dev");
        assert_eq!(event["sourceIPs"], json!(["192.0.2.1"]));
    }

    #[test]
    fn what_is_asked_for_is_escaped() {
        assert_eq!(escaped("system:serviceaccount a&b"), "system%3Aserviceaccount%20a%26b");
    }
}
