//! Status of a Drain: how far each edge has come, and what keeps it.

use std::collections::BTreeMap;

use isocast_api::{
    agent::DrainStatus as Said,
    meta::{ConditionStatus, Finding},
    network::{DRAINED, Drain, DrainNode, DrainStage, DrainStatus, Node, PROGRESSING},
    text::Time,
};
use jiff::Timestamp;

use super::{Judgement, Voice};
use crate::fleet::compile::{World, drains};

/// What is so of `drain`, by what the nodes concerned say.
#[must_use]
pub fn drain(
    world: &World,
    drain: &Drain,
    voices: &BTreeMap<&str, Voice<'_>>,
    now: Timestamp,
) -> DrainStatus {
    let nodes: Vec<_> = drains::nodes(world, drain)
        .into_iter()
        .map(|node| progress(node, &drain.metadata.uid, voices.get(node.name())))
        .collect();
    let last = nodes.iter().min_by_key(|node| node.stage);
    let stage = last.map(|node| node.stage);
    let (drained, progressing) = match last {
        None if drains::has_target(world, drain) => {
            let why =
                |of, status| Finding::new(of, status, "NothingAnnounced", "no edge is concerned");
            (why(DRAINED, ConditionStatus::True), why(PROGRESSING, ConditionStatus::False))
        }
        None => {
            let target = &drain.spec.target;
            let (kind, name) = (target.kind.as_str(), target.name.as_str());
            let message = format!("there is no {kind} {name:?}");
            let why = |of| Finding::new(of, ConditionStatus::False, "TargetNotFound", &message);
            (why(DRAINED), why(PROGRESSING))
        }
        Some(node) => judge(node, &nodes),
    };
    let mut conditions = drain.status.conditions.clone();
    let generation = drain.metadata.generation;
    let mut judgement = Judgement { conditions: &mut conditions, generation, now };
    judgement.set(progressing);
    judgement.set(drained);
    DrainStatus { conditions, stage, nodes }
}

/// `Drained` and `Progressing`, by the node that is furthest behind.
fn judge(last: &DrainNode, nodes: &[DrainNode]) -> (Finding, Finding) {
    let done = nodes.iter().filter(|node| node.stage == DrainStage::Drained).count();
    let (reason, drained, progressing) = match last.stage {
        DrainStage::Unknown => ("NodeSilent", ConditionStatus::Unknown, ConditionStatus::Unknown),
        DrainStage::Held => ("Held", ConditionStatus::False, ConditionStatus::False),
        DrainStage::Pending => ("Pending", ConditionStatus::False, ConditionStatus::True),
        DrainStage::Signalling => ("Signalling", ConditionStatus::False, ConditionStatus::True),
        DrainStage::Withdrawing => ("Withdrawing", ConditionStatus::False, ConditionStatus::True),
        DrainStage::Drained => ("Drained", ConditionStatus::True, ConditionStatus::False),
    };
    let why = last.message.as_deref().map(|why| format!("; node {}: {why}", last.name));
    let message = format!("{done} of {} nodes are drained{}", nodes.len(), why.unwrap_or_default());
    let of = |condition, status| Finding::new(condition, status, reason, &message);
    (of(DRAINED, drained), of(PROGRESSING, progressing))
}

fn progress(node: &Node, uid: &str, voice: Option<&Voice<'_>>) -> DrainNode {
    let of = |stage, message: Option<String>| DrainNode {
        name: node.name().to_owned(),
        stage,
        since: None,
        held: Vec::new(),
        message,
    };
    let Some(statement) = voice.and_then(|voice| voice.statement) else {
        return of(DrainStage::Unknown, Some("it is silent".to_owned()));
    };
    if let Some(error) = voice.and_then(|voice| voice.refusal_of(&format!("drain/{uid}"))) {
        return of(DrainStage::Held, Some(format!("it refused the order: {}", error.message)));
    }
    match statement.drains.iter().find(|said| said.uid == uid) {
        Some(said) => told(of(DrainStage::Pending, None), said),
        None => of(DrainStage::Pending, None),
    }
}

/// What the node says of it.
fn told(node: DrainNode, said: &Said) -> DrainNode {
    let stage = match said.stage.as_str() {
        "Signalling" => DrainStage::Signalling,
        "Withdrawing" if !said.held.is_empty() => DrainStage::Held,
        "Withdrawing" => DrainStage::Withdrawing,
        "Drained" => DrainStage::Drained,
        // A stage of a newer agent.
        _ => DrainStage::Unknown,
    };
    let since = Time::from_unix_ms(said.since_ms);
    let message = said.held.first().map(|prefix| {
        let others = said.held.len() - 1;
        let more = if others > 0 { format!(" and {others} more") } else { String::new() };
        format!("{prefix}{more}: {}", said.held_message)
    });
    DrainNode { stage, since, held: said.held.clone(), message, ..node }
}

#[cfg(test)]
mod tests {
    use isocast_api::{agent::NodeStatus, meta::find_condition};
    use serde_json::json;

    use super::*;
    use crate::fleet::{
        aggregate::{Presence, Progress},
        testing::{self, object, objects},
    };

    /// A drain of the service, which has an edge in each of two datacenters.
    fn world() -> World {
        let target = json!({"kind": "AnycastService", "name": "www", "namespace": "web"});
        let mut drain = object("network", "Drain", "www-off", json!({"target": target}));
        drain["metadata"]["namespace"] = json!("isocast-system");
        testing::world(&objects().into_iter().chain([drain]).collect::<Vec<_>>())
    }

    fn says(stage: &str, held: &[&str]) -> NodeStatus {
        let drain = Said {
            uid: testing::uid("www-off"),
            stage: stage.into(),
            since_ms: 1_000,
            held: held.iter().map(|it| (*it).into()).collect(),
            held_reason: "LastAnnouncer".into(),
            held_message: "kept".into(),
        };
        NodeStatus { drains: vec![drain], ..NodeStatus::default() }
    }

    fn judged(said: &[(&'static str, NodeStatus)]) -> DrainStatus {
        let world = world();
        let it = world.drains.values().next().unwrap();
        let voice = |(node, statement)| Voice {
            node,
            presence: Presence::Connected,
            statement: Some(statement),
            progress: Progress::Applied { revision: 9 },
        };
        let voices = said.iter().map(|(node, statement)| (*node, voice((*node, statement))));
        drain(&world, it, &voices.collect(), Timestamp::UNIX_EPOCH)
    }

    fn condition(status: &DrainStatus, kind: &str) -> String {
        let condition = find_condition(&status.conditions, kind).unwrap();
        format!("{:?} {}: {}", condition.status, condition.reason, condition.message)
    }

    #[test]
    fn a_drain_is_as_far_as_the_node_that_is_furthest_behind() {
        let both = |a, b| judged(&[("edge-ams", says(a, &[])), ("edge-fra", says(b, &[]))]);

        let status = both("Drained", "Signalling");
        assert_eq!(condition(&status, DRAINED), "False Signalling: 1 of 2 nodes are drained");
        assert_eq!(condition(&status, PROGRESSING), "True Signalling: 1 of 2 nodes are drained");
        assert_eq!(status.stage, Some(DrainStage::Signalling));
        let names: Vec<_> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["edge-ams", "edge-fra"], "backends announce nothing");

        let status = both("Drained", "Drained");
        assert_eq!(condition(&status, DRAINED), "True Drained: 2 of 2 nodes are drained");
        assert_eq!(status.nodes[0].since.unwrap().to_string(), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn what_is_held_is_named_with_its_reason_and_progresses_no_more() {
        let held = ["203.0.113.10/32", "203.0.113.11/32"];
        let status =
            judged(&[("edge-ams", says("Withdrawing", &held)), ("edge-fra", says("Drained", &[]))]);

        let words = "0.113.10/32 and 1 more: kept";
        assert!(condition(&status, DRAINED).starts_with("False Held: 1 of 2 nodes are drained;"));
        assert!(condition(&status, PROGRESSING).contains(words), "{status:?}");
        assert_eq!(status.nodes[0].held, held);
    }

    #[test]
    fn a_silent_node_is_never_spoken_for() {
        let status = judged(&[("edge-ams", says("Drained", &[]))]);

        assert!(condition(&status, DRAINED).starts_with("Unknown NodeSilent"), "{status:?}");
    }

    #[test]
    fn a_node_that_has_not_heard_of_it_is_pending() {
        let status =
            judged(&[("edge-ams", says("Drained", &[])), ("edge-fra", NodeStatus::default())]);

        assert!(condition(&status, DRAINED).starts_with("False Pending"), "{status:?}");
    }
}
