//! `isocast keys`: replace the encapsulation key or the cluster secret, and see how that gets on.
//!
//! What it makes are `KeyRotation` objects, which `kubectl` can make as well. A rotation outlives the
//! command: who interrupts it has stopped nothing.

use std::io::{self, Write};

use anyhow::Context;
use clap::{Args, Subcommand};
use isocast_api::{
    meta::find_condition,
    network::{COMPLETE, KeyKind, KeyRotation, KeyRotationPhase, KeyRotationSpec},
    object::Spec,
    resourcemanager::SYSTEM_NAMESPACE,
    text,
};
use serde_json::{Value, json};

use crate::{
    client::Client,
    options::StatusOutput,
    output,
    resource::{self, Place},
    waiting::{Look, until_done},
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Replace the encapsulation key, or the cluster secret
    Rotate(RotateArguments),
    /// Show what Secrets are sealed with, and which former keys nothing needs any more
    Secrets(StatusArguments),
    /// Show rotations, and what they wait for
    Status(StatusArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RotateArguments {
    /// The cluster secret, and with it the encapsulation key and the key that places flows
    #[arg(long)]
    pub(crate) secret: bool,
    /// How long connections are looked for where the former secret placed them [default: 24h]
    #[arg(long, value_name = "DURATION", requires = "secret")]
    pub(crate) former_for: Option<text::Duration>,
    /// Node that is not waited for; may be given several times
    #[arg(long = "skip-node", value_name = "NAME")]
    pub(crate) skip_nodes: Vec<String>,
    /// Why, for whoever lists rotations
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Wait until it is complete
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait; the rotation goes on after it
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    pub(crate) timeout: text::Duration,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

pub(crate) fn run(
    client: &Client,
    command: &KeysCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        KeysCommand::Rotate(arguments) => rotate(client, arguments, out),
        KeysCommand::Secrets(arguments) => secrets(client, arguments.output, out),
        KeysCommand::Status(arguments) => status(client, arguments.output, out),
    }
}

fn rotate(
    client: &Client,
    arguments: &RotateArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut value = client.post(&path(None)?, &arguments.object())?;
    let rotation = decode(&value)?;
    let (name, what) = (rotation.name(), rotation.spec.what.as_str());
    if arguments.wait {
        value = watch(client, arguments, name)?;
    }
    match (arguments.output, arguments.wait) {
        (StatusOutput::Json, _) => output::json(out, &value),
        (StatusOutput::Text, true) => {
            writeln!(out, "rotation {name:?} of the {what} is complete").context("cannot write")
        }
        (StatusOutput::Text, false) => {
            writeln!(out, "rotation {name:?} of the {what} has begun; isocast keys status shows it")
                .context("cannot write")
        }
    }
}

/// The rotation once it is done; says on standard error how it gets on.
fn watch(client: &Client, arguments: &RotateArguments, name: &str) -> anyhow::Result<Value> {
    let undone = format!("rotation {name:?} is not complete");
    let mut shown = String::new();
    until_done(client, &path(Some(name))?, arguments.timeout, &undone, |value| {
        let rotation = decode(value)?;
        let line = line(&rotation);
        if shown != line {
            writeln!(io::stderr(), "{line}").context("cannot write")?;
            shown.clone_from(&line);
        }
        let is_done = rotation.status.phase == Some(KeyRotationPhase::Complete);
        Ok(if is_done { Look::Done } else { Look::NotYet(line) })
    })
}

fn status(client: &Client, form: StatusOutput, out: &mut impl Write) -> anyhow::Result<()> {
    let list = client.get(&path(None)?)?;
    if form == StatusOutput::Json {
        return output::json(out, &list);
    }
    let items = list.get("items").and_then(Value::as_array);
    let items = items.context("the server's answer is not a list")?;
    let mut rotations: Vec<_> = items.iter().map(decode).collect::<Result<_, _>>()?;
    rotations.sort_by_key(|it| it.metadata.creation_timestamp);
    if rotations.is_empty() {
        return writeln!(out, "no keys were ever replaced").context("cannot write");
    }
    for rotation in rotations {
        let what = rotation.spec.what.as_str();
        writeln!(out, "{} ({what}): {}", rotation.name(), line(&rotation))
            .context("cannot write")?;
        for node in &rotation.status.waiting_for {
            writeln!(out, "  waits for {node}").context("cannot write")?;
        }
    }
    Ok(())
}

fn secrets(client: &Client, form: StatusOutput, out: &mut impl Write) -> anyhow::Result<()> {
    let list = client.get(SEALING)?;
    let found = list.pointer("/items/0/data");
    if form == StatusOutput::Json {
        return output::json(out, &found.cloned().unwrap_or_else(|| json!({})));
    }
    out.write_all(sealing(found).as_bytes()).context("cannot write")
}

/// The ConfigMap in which the controller says it, if it has ever had more than one key.
const SEALING: &str =
    "/api/v1/namespaces/isocast-system/configmaps?fieldSelector=metadata.name%3Dsecret-sealing";

fn sealing(data: Option<&Value>) -> String {
    let Some(data) = data else {
        return "Secrets are sealed with the only key there is\n".to_owned();
    };
    let text = |field: &str| data.get(field).and_then(Value::as_str).unwrap_or_default();
    let names = |field: &str| if text(field).is_empty() { "none" } else { text(field) };
    let until = match text("neededUntilRevision") {
        "" => String::new(),
        revision => format!(", until the log begins at revision {revision}"),
    };
    format!(
        "active key: {}\nSecrets under former keys: {}\nformer keys still needed: {}{until}\nformer keys \
         that can go: {}\n",
        text("active"),
        text("waiting"),
        names("needed"),
        names("unneeded"),
    )
}

fn line(rotation: &KeyRotation) -> String {
    let status = &rotation.status;
    let phase = status.phase.unwrap_or(KeyRotationPhase::Pending).as_str();
    match find_condition(&status.conditions, COMPLETE) {
        Some(condition) if !condition.message.is_empty() => {
            format!("{phase}: {}", condition.message)
        }
        _ => phase.to_owned(),
    }
}

fn decode(value: &Value) -> anyhow::Result<KeyRotation> {
    KeyRotation::decode(value).context("is this command too old?")
}

fn path(name: Option<&str>) -> anyhow::Result<String> {
    let kind = resource::find(KeyRotationSpec::KIND.plural)?;
    Ok(resource::path(kind, Place::Namespace(SYSTEM_NAMESPACE), name))
}

// === impl RotateArguments ===

impl RotateArguments {
    fn what(&self) -> KeyKind {
        if self.secret { KeyKind::ClusterSecret } else { KeyKind::EncapsulationKey }
    }

    /// The server makes up a name.
    fn object(&self) -> Value {
        let prefix = if self.secret { "secret-" } else { "encapsulation-" };
        let mut spec = json!({"what": self.what().as_str()});
        let optional = [
            ("formerFor", self.former_for.map(|it| json!(it.to_string()))),
            ("skipNodes", (!self.skip_nodes.is_empty()).then(|| json!(self.skip_nodes))),
            ("reason", self.reason.as_ref().map(|it| json!(it))),
        ];
        if let Some(fields) = spec.as_object_mut() {
            let given = optional.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?)));
            fields.extend(given);
        }
        json!({
            "apiVersion": format!("{}/{}", KeyRotationSpec::KIND.group, KeyRotationSpec::KIND.version),
            "kind": KeyRotationSpec::KIND.kind,
            "metadata": {"generateName": prefix, "namespace": SYSTEM_NAMESPACE},
            "spec": spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Command, Options};

    #[test]
    fn what_secrets_are_sealed_with_is_said_in_four_lines() {
        let data = json!({
            "active": "2", "waiting": "0", "needed": "1", "unneeded": "", "neededUntilRevision": "91",
        });

        assert_eq!(
            sealing(Some(&data)),
            "active key: 2\nSecrets under former keys: 0\nformer keys still needed: 1, until the log \
             begins at revision 91\nformer keys that can go: none\n"
        );
        assert!(sealing(None).contains("the only key"));
    }

    fn rotate(words: &[&str]) -> RotateArguments {
        let words = ["isocast", "keys", "rotate"].iter().chain(words);
        match Options::try_parse_from(words).unwrap().command {
            Command::Keys { command: KeysCommand::Rotate(arguments) } => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn order_says_what_was_asked_for_and_nothing_else() {
        assert_eq!(rotate(&[]).object()["spec"], json!({"what": "EncapsulationKey"}));

        let words = ["--secret", "--former-for", "1h", "--skip-node", "be-1", "--reason", "theft"];
        let object = rotate(&words).object();

        assert_eq!(
            object["spec"],
            json!({
                "what": "ClusterSecret", "formerFor": "1h", "skipNodes": ["be-1"],
                "reason": "theft",
            })
        );
        assert!(KeyRotation::decode(&object).is_ok());
    }

    #[test]
    fn former_key_is_a_matter_of_the_secret_alone() {
        let words = ["isocast", "keys", "rotate", "--former-for", "1h"];

        assert!(Options::try_parse_from(words).is_err());
    }

    #[test]
    fn line_says_the_phase_and_why() {
        let mut object = rotate(&[]).object();
        object["status"] = json!({
            "phase": "Switching",
            "conditions": [{
                "type": "Complete", "status": "False", "reason": "Switching",
                "message": "nodes use the new key", "lastTransitionTime": "2026-11-22T10:00:00Z",
            }],
        });

        let rotation = KeyRotation::decode(&object).unwrap();

        assert_eq!(line(&rotation), "Switching: nodes use the new key");
    }
}
