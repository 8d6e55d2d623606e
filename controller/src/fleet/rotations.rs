//! From objects and reports to what [`super::rotation`] decides by, and back to status.

use std::collections::BTreeMap;

use isocast_api::{
    meta::{ConditionStatus, Finding, set_condition},
    network::{COMPLETE, FORMER_FOR, KeyRotation, KeyRotationPhase, KeyRotationStatus},
};
use jiff::Timestamp;

use super::{
    compile::World,
    nodes::{Progress, Report},
    rotation::{Held, Keys, Order},
};

/// The orders, in the order of their creation.
pub(super) fn orders(world: &World) -> Vec<Order> {
    let mut rotations: Vec<&KeyRotation> = world.key_rotations.values().collect();
    rotations.sort_by_key(|it| (it.metadata.creation_timestamp, it.name()));
    let order = |it: &KeyRotation| Order {
        uid: it.metadata.uid.clone(),
        what: it.spec.what,
        former_for: it.spec.former_for.unwrap_or(FORMER_FOR).get(),
        skipped: it.spec.skip_nodes.iter().map(ToString::to_string).collect(),
        is_complete: it.status.phase == Some(KeyRotationPhase::Complete),
    };
    rotations.into_iter().map(order).collect()
}

/// What every node holds that has ever joined.
///
/// A keyring counts once the node's data plane works by it *and* the node would go on with it after
/// a crash: it says the one, and acknowledges a configuration when the other is so.
pub(super) fn held(world: &World, report: impl Fn(&str) -> Option<Report>) -> Held {
    let nodes = world.nodes.values().filter_map(|node| {
        let report = report(node.name()).filter(|it| it.uid == node.metadata.uid);
        let has_joined = node.status.agent_version.is_some() || report.is_some();
        let keyring = report.and_then(|report| match report.progress {
            Progress::Applied { .. } | Progress::AppliedInPart { .. } => {
                report.statement.map(|(said, _)| said.keyring.clone())
            }
            Progress::Offered { .. } | Progress::Refused { .. } => None,
        });
        has_joined.then(|| (node.name().to_owned(), keyring))
    });
    nodes.collect()
}

/// What is so of `rotation`.
pub(super) fn status(
    world: &World,
    keys: &Keys,
    rotation: &KeyRotation,
    reports: &BTreeMap<String, Report>,
    now: Timestamp,
) -> KeyRotationStatus {
    let uid = &rotation.metadata.uid;
    let phase = match rotation.status.phase {
        Some(KeyRotationPhase::Complete) => KeyRotationPhase::Complete,
        _ => keys.phase(uid),
    };
    let is_under_way = keys.order_under_way() == Some(uid);
    let waiting_for = if is_under_way {
        keys.waiting_for(&orders(world), &held(world, |node| reports.get(node).cloned()))
    } else {
        Vec::new()
    };
    let complete = match phase {
        KeyRotationPhase::Complete => {
            let message = "every node uses the new key and believes no other";
            Finding::new(COMPLETE, ConditionStatus::True, "Complete", message)
        }
        _ => {
            let message = why(world, keys, phase, &waiting_for);
            Finding::new(COMPLETE, ConditionStatus::False, phase.as_str(), message)
        }
    };
    let mut conditions = rotation.status.conditions.clone();
    set_condition(&mut conditions, complete, rotation.metadata.generation, now);
    KeyRotationStatus { conditions, phase: Some(phase), waiting_for }
}

fn why(world: &World, keys: &Keys, phase: KeyRotationPhase, waiting_for: &[String]) -> String {
    let does = match phase {
        KeyRotationPhase::Distributing => "nodes learn to understand the new key",
        KeyRotationPhase::Switching => "nodes use the new key, and understand the former one",
        KeyRotationPhase::Retiring => "nodes forget the former key",
        KeyRotationPhase::Pending | KeyRotationPhase::Complete => {
            let uid = keys.order_under_way();
            let mut all = world.key_rotations.values();
            let first = all.find(|it| uid == Some(&it.metadata.uid));
            return first
                .map_or_else(String::new, |it| format!("{} is carried out first", it.name()));
        }
    };
    match waiting_for {
        [] => does.to_owned(),
        [node] => format!("{does}; {node} has yet to"),
        [node, others @ ..] => format!("{does}; {node} and {} more have yet to", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isocast_api::agent::NodeStatus;
    use isocast_bgp::origination::Moment;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::fleet::{
        nodes::Link,
        testing::{self, object, objects},
    };

    fn rotation(name: &str, created: &str) -> serde_json::Value {
        let mut rotation = object("network", "KeyRotation", name, json!({"what": "ClusterSecret"}));
        rotation["metadata"]["namespace"] = json!("isocast-system");
        rotation["metadata"]["creationTimestamp"] = json!(created);
        rotation
    }

    fn world() -> World {
        let rotations = [
            rotation("a-second", "2026-11-22T10:00:01Z"),
            rotation("b-first", "2026-11-22T10:00:00Z"),
        ];
        testing::world(&objects().into_iter().chain(rotations).collect::<Vec<_>>())
    }

    fn report(node: &str, progress: Progress, keyring: &str) -> Report {
        let said = NodeStatus { keyring: keyring.into(), ..NodeStatus::default() };
        Report {
            uid: testing::uid(node),
            link: Link::Connected(Instant::now()),
            progress,
            statement: Some((Arc::new(said), Instant::now())),
        }
    }

    #[test]
    fn keyring_counts_when_it_is_in_force_and_kept() {
        let world = world();
        let applied = Progress::Applied { revision: 1 };
        let offered = Progress::Offered { since: Instant::now() };
        let reports = BTreeMap::from([
            ("edge-ams", report("edge-ams", applied.clone(), "new")),
            ("edge-fra", report("edge-fra", offered, "new")),
            ("be-ams-1", Report { uid: "another".into(), ..report("be-ams-1", applied, "new") }),
        ]);

        let held = held(&world, |node| reports.get(node).cloned());

        let expected =
            [("edge-ams".to_owned(), Some("new".to_owned())), ("edge-fra".to_owned(), None)];
        assert_eq!(held, expected.into(), "who never joined is not waited for");
    }

    #[test]
    fn orders_come_by_their_age() {
        let orders = orders(&world());

        let uids: Vec<_> = orders.iter().map(|order| order.uid.as_str()).collect();
        assert_eq!(uids, [testing::uid("b-first"), testing::uid("a-second")]);
        assert_eq!(orders[0].former_for.as_secs(), 24 * 3600);
    }

    #[test]
    fn status_names_the_phase_and_whom_it_waits_for() {
        let world = world();
        let mut keys = Keys::new([1; 32]);
        let applied = Progress::Applied { revision: 1 };
        let reports = BTreeMap::from([
            ("edge-ams".to_owned(), report("edge-ams", applied.clone(), "old")),
            ("edge-fra".to_owned(), report("edge-fra", applied, "old")),
        ]);
        let held = held(&world, |node| reports.get(node).cloned());
        keys.step(&orders(&world), &held, Moment(0), || [2; 32]);

        let of = |name: &str| {
            let it = world.key_rotations.values().find(|it| it.name() == name).unwrap();
            status(&world, &keys, it, &reports, Timestamp::UNIX_EPOCH)
        };
        let (first, second) = (of("b-first"), of("a-second"));

        assert_eq!(first.phase, Some(KeyRotationPhase::Distributing));
        assert_eq!(first.waiting_for, ["edge-ams", "edge-fra"]);
        let says = |status: &KeyRotationStatus| status.conditions[0].message.clone();
        assert!(says(&first).ends_with("edge-ams and 1 more have yet to"), "{first:?}");
        assert_eq!(second.phase, Some(KeyRotationPhase::Pending));
        assert_eq!(says(&second), "b-first is carried out first");
    }
}
