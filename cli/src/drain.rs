//! `isocast drain`: take a node, a datacenter or a service off the air without losing a flow, and
//! put it back.
//!
//! What it makes are `Drain` objects, which `kubectl` can make as well; this shows how they get on.
//! A drain outlives the command: who interrupts it has cancelled nothing.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use isocast_api::{
    meta::{ConditionStatus, find_condition},
    network::{DRAINED, Drain, DrainNode, DrainSpec, DrainStage, DrainTargetKind},
    object::Spec,
    resourcemanager::SYSTEM_NAMESPACE,
    text,
};
use serde_json::{Value, json};

use crate::{
    client::Client,
    get,
    kubeconfig::Kubeconfig,
    options::{GetArguments, GetOutput, StatusOutput},
    output,
    resource::{self, Place},
    waiting::{Look, until_done},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DrainCommand {
    /// Take an edge off the air
    Node(StartArguments),
    /// Take every edge of a datacenter off the air
    Datacenter(StartArguments),
    /// Take one service off the air, everywhere
    Service(ServiceArguments),
    /// List drains
    List(ListArguments),
    /// Put what was drained back on the air
    Cancel(CancelArguments),
}

#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    /// Name of what is drained
    pub(crate) name: String,
    /// How long routers are told that the routes are going, before they go; less if hardly any
    /// traffic arrives any more
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub(crate) wait: text::Duration,
    /// Why, for whoever lists drains
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Withdraw even what nobody else announces
    #[arg(long)]
    pub(crate) confirm_last_announcer: bool,
    /// How long to watch; the drain goes on after it
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    pub(crate) timeout: text::Duration,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    #[command(flatten)]
    pub(crate) start: StartArguments,
    /// Namespace of the service [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Namespace of the drains [default: all]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: GetOutput,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    /// Name of the drain, or of what it drains
    pub(crate) name: String,
    /// Namespace of the drain [default: the context's, else isocast-system]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// What is drained by whom: nodes and datacenters concern every tenant.
struct Order<'a> {
    kind: DrainTargetKind,
    namespace: &'a str,
    arguments: &'a StartArguments,
}

pub(crate) fn run(
    client: &Client,
    kubeconfig: &Kubeconfig,
    command: &DrainCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let system = |kind, arguments| Order { kind, namespace: SYSTEM_NAMESPACE, arguments };
    match command {
        DrainCommand::Node(it) => start(client, &system(DrainTargetKind::Node, it), out),
        DrainCommand::Datacenter(it) => {
            start(client, &system(DrainTargetKind::Datacenter, it), out)
        }
        DrainCommand::Service(ServiceArguments { start: arguments, namespace }) => {
            let namespace = namespace.as_ref().or(kubeconfig.namespace.as_ref());
            let namespace = namespace.context("services live in namespaces: name one with -n")?;
            start(
                client,
                &Order { kind: DrainTargetKind::AnycastService, namespace, arguments },
                out,
            )
        }
        DrainCommand::List(arguments) => list(client, kubeconfig, arguments, out),
        DrainCommand::Cancel(arguments) => cancel(client, kubeconfig, arguments, out),
    }
}

fn start(client: &Client, order: &Order<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    let there = drains(client, order.namespace)?.into_iter().find(|it| order.is_met_by(it));
    let drain = match there {
        Some(drain) if order.settings_of(&drain) == order.settings() => drain,
        Some(drain) => {
            let path = path(order.namespace, Some(drain.name()))?;
            decode(&client.merge(&path, &json!({"spec": order.settings()}))?)?
        }
        None => decode(&client.post(&path(order.namespace, None)?, &order.object())?)?,
    };
    let done = watch(client, order, drain.name())?;
    if order.arguments.output == StatusOutput::Json {
        return output::json(out, &done);
    }
    let (kind, name) = (word(order.kind), &order.arguments.name);
    writeln!(
        out,
        "{kind} {name:?} is drained; isocast drain cancel {} -n {} puts it back on the air",
        drain.name(),
        order.namespace,
    )
    .context("cannot write")
}

/// The drain once it is done; says on standard error how it gets on.
fn watch(client: &Client, order: &Order<'_>, name: &str) -> anyhow::Result<Value> {
    let path = path(order.namespace, Some(name))?;
    let undone = format!("drain {name:?} is not done");
    let mut shown = BTreeMap::new();
    until_done(client, &path, order.arguments.timeout, &undone, |value| {
        let drain = decode(value)?;
        if drain.metadata.deletion_timestamp.is_some() {
            bail!("drain {name:?} was cancelled");
        }
        for node in &drain.status.nodes {
            let line = line(node);
            if shown.insert(node.name.clone(), line.clone()).as_ref() != Some(&line) {
                writeln!(io::stderr(), "{line}").context("cannot write")?;
            }
        }
        if is_done(&drain) {
            return Ok(Look::Done);
        }
        let why = find_condition(&drain.status.conditions, DRAINED);
        let why = why.map_or("nothing is known of it", |condition| &condition.message);
        Ok(Look::NotYet(why.to_owned()))
    })
}

/// Whether what is wanted now is done, and not what was wanted before.
fn is_done(drain: &Drain) -> bool {
    let drained = find_condition(&drain.status.conditions, DRAINED);
    drained.is_some_and(|condition| {
        condition.status == ConditionStatus::True
            && condition.observed_generation == Some(drain.metadata.generation)
    })
}

fn line(node: &DrainNode) -> String {
    let DrainNode { name, stage, message, .. } = node;
    let what = match stage {
        DrainStage::Unknown => "silent",
        DrainStage::Held => "held",
        DrainStage::Pending => "has yet to be told",
        DrainStage::Signalling => "tells its routers that the routes are going",
        DrainStage::Withdrawing => "has withdrawn the routes, packets may be on their way",
        DrainStage::Drained => "drained",
    };
    let why = message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{name}: {what}{why}")
}

fn list(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &ListArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let arguments = GetArguments {
        kind: DrainSpec::KIND.plural.to_owned(),
        name: None,
        namespace: arguments.namespace.clone(),
        all_namespaces: arguments.namespace.is_none(),
        selector: None,
        output: arguments.output,
    };
    get::run(client, kubeconfig, &arguments, out)
}

fn cancel(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &CancelArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let namespace = arguments.namespace.as_ref().or(kubeconfig.namespace.as_ref());
    let namespace = namespace.map_or(SYSTEM_NAMESPACE, String::as_str);
    let all = drains(client, namespace)?;
    let drain = one_called(&all, &arguments.name)
        .with_context(|| format!("in namespace {namespace}; isocast drain list shows all"))?;
    client.delete(&path(namespace, Some(drain.name()))?)?;
    let target = &drain.spec.target;
    let (kind, name) = (word(target.kind), target.name.as_str());
    writeln!(out, "drain {:?} is cancelled: {kind} {name:?} goes back on the air", drain.name())
        .context("cannot write")
}

/// The drain of that name, else the only one of what has that name.
fn one_called<'a>(drains: &'a [Drain], name: &str) -> anyhow::Result<&'a Drain> {
    if let Some(drain) = drains.iter().find(|drain| drain.name() == name) {
        return Ok(drain);
    }
    let of_target: Vec<_> =
        drains.iter().filter(|drain| drain.spec.target.name.as_str() == name).collect();
    match of_target.as_slice() {
        [drain] => Ok(drain),
        [] => bail!("there is no drain {name:?}, nor one of anything called so"),
        several => {
            let names: Vec<_> = several.iter().map(|drain| drain.name()).collect();
            bail!("{name:?} is drained by several: {}", names.join(", "))
        }
    }
}

fn drains(client: &Client, namespace: &str) -> anyhow::Result<Vec<Drain>> {
    let answer = client.get(&path(namespace, None)?)?;
    let items = answer.get("items").and_then(Value::as_array);
    items.context("the server's answer is not a list")?.iter().map(decode).collect()
}

fn decode(value: &Value) -> anyhow::Result<Drain> {
    Drain::decode(value).context("is this command too old?")
}

fn path(namespace: &str, name: Option<&str>) -> anyhow::Result<String> {
    let kind = resource::find(DrainSpec::KIND.plural)?;
    Ok(resource::path(kind, Place::Namespace(namespace), name))
}

/// The word of the command line for a kind.
const fn word(kind: DrainTargetKind) -> &'static str {
    match kind {
        DrainTargetKind::AnycastService => "service",
        DrainTargetKind::Datacenter => "datacenter",
        DrainTargetKind::Node => "node",
    }
}

// === impl Order ===

impl Order<'_> {
    fn object(&self) -> Value {
        let StartArguments { name, wait, reason, confirm_last_announcer, .. } = self.arguments;
        json!({
            "apiVersion": format!("{}/{}", DrainSpec::KIND.group, DrainSpec::KIND.version),
            "kind": DrainSpec::KIND.kind,
            "metadata": {
                "name": format!("{}-{name}", word(self.kind)), "namespace": self.namespace,
            },
            "spec": {
                "target": {"kind": self.kind, "name": name}, "wait": wait, "reason": reason,
                "confirmLastAnnouncer": confirm_last_announcer,
            },
        })
    }

    /// What may be said anew of a drain that is there.
    fn settings(&self) -> Value {
        let StartArguments { wait, reason, confirm_last_announcer, .. } = self.arguments;
        json!({"wait": wait, "reason": reason, "confirmLastAnnouncer": confirm_last_announcer})
    }

    fn settings_of(&self, drain: &Drain) -> Value {
        let DrainSpec { wait, reason, confirm_last_announcer, .. } = &drain.spec;
        json!({"wait": wait, "reason": reason, "confirmLastAnnouncer": confirm_last_announcer})
    }

    fn is_met_by(&self, drain: &Drain) -> bool {
        let target = &drain.spec.target;
        let namespace = target.namespace.as_ref().is_none_or(|it| it.as_str() == self.namespace);
        target.kind == self.kind
            && target.name.as_str() == self.arguments.name
            && namespace
            && drain.metadata.deletion_timestamp.is_none()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Command, Options};

    fn arguments(words: &str) -> StartArguments {
        let options = Options::try_parse_from(words.split(' ')).unwrap();
        match options.command {
            Command::Drain { command: DrainCommand::Node(arguments) } => arguments,
            other => panic!("{other:?}"),
        }
    }

    fn drain(name: &str, target: &str) -> Drain {
        decode(&json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "Drain",
            "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE, "generation": 2},
            "spec": {"target": {"kind": "Node", "name": target}, "wait": "30s"},
        }))
        .unwrap()
    }

    #[test]
    fn an_order_becomes_an_object_that_is_found_again() {
        let arguments = arguments("isocast drain node edge-ams-1 --wait 10s --reason power");
        let order = Order {
            kind: DrainTargetKind::Node,
            namespace: SYSTEM_NAMESPACE,
            arguments: &arguments,
        };

        let object = order.object();

        assert_eq!(object["metadata"]["name"], "node-edge-ams-1");
        let made = decode(&object).unwrap();
        assert_eq!(made.spec.wait.to_string(), "10s");
        assert!(order.is_met_by(&made));
        assert_eq!(order.settings_of(&made), order.settings(), "asked for again, nothing changes");
        assert!(!order.is_met_by(&drain("node-edge-ams-2", "edge-ams-2")));
    }

    #[test]
    fn a_drain_is_cancelled_by_its_name_or_by_what_it_drains() {
        let all = [drain("a", "edge-1"), drain("b", "edge-2"), drain("c", "edge-2")];

        assert_eq!(one_called(&all, "b").unwrap().name(), "b");
        assert_eq!(one_called(&all, "edge-1").unwrap().name(), "a");
        let refusal = one_called(&all, "edge-2").unwrap_err().to_string();
        assert_eq!(refusal, "\"edge-2\" is drained by several: b, c");
        assert!(one_called(&all, "d").is_err());
    }

    #[test]
    fn what_was_done_before_the_latest_change_does_not_count() {
        let mut drain = drain("a", "edge-1");
        let condition = |generation: i64| {
            json!([{
                "type": "Drained", "status": "True", "reason": "Drained", "message": "",
                "observedGeneration": generation, "lastTransitionTime": "2026-11-22T02:00:00Z",
            }])
        };
        assert!(!is_done(&drain));

        drain.status.conditions = serde_json::from_value(condition(1)).unwrap();
        assert!(!is_done(&drain));
        drain.status.conditions = serde_json::from_value(condition(2)).unwrap();
        assert!(is_done(&drain));
    }

    #[test]
    fn a_node_that_is_held_says_why() {
        let node = DrainNode {
            name: "edge-1".into(),
            stage: DrainStage::Held,
            since: None,
            held: vec!["203.0.113.10/32".into()],
            message: Some("203.0.113.10/32: kept".into()),
        };

        assert_eq!(line(&node), "edge-1: held: 203.0.113.10/32: kept");
    }
}
