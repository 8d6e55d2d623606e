//! A policy's change on trial: begun, confirmed, or put back. Pure.
//!
//! | the change | what becomes of the trial |
//! |---|---|
//! | other terms, with `confirmWithin` | begins; one under way starts anew, and keeps what it would put back |
//! | other terms, without `confirmWithin` | ends: they are there to stay |
//! | the former terms again | ends |
//! | the annotation that confirms, with the generation in force | ends |
//! | anything else | goes on |

use isocast_api::{
    meta::{ConditionStatus, Finding, set_condition},
    network::{BgpPolicy, CONFIRM, CONFIRMED, PendingRollback},
};
use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

/// A confirmation that cannot be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Somebody changed the policy since, or the terms are back already.
    #[error("annotation {CONFIRM} does not name generation {generation}, which is in force")]
    OtherGeneration {
        /// What it should have named.
        generation: i64,
    },
    /// The trial would end beyond all time.
    #[error("confirmWithin reaches beyond what a time can be")]
    Time,
}

/// Makes the status that belongs to `new`, which takes the place of `old`.
pub(super) fn advance(
    old: Option<&BgpPolicy>,
    new: &mut BgpPolicy,
    now: Timestamp,
) -> Result<(), Refusal> {
    let generation = new.metadata.generation;
    let changed = old.filter(|old| old.spec.terms != new.spec.terms);
    let under_way = new.status.pending_rollback.take();
    let pending = match (changed, new.spec.confirm_within) {
        (Some(old), Some(time)) => {
            let former = under_way.map_or_else(|| old.spec.clone(), |pending| pending.spec);
            let deadline = now.checked_add(time.get()).map_err(|_overflow| Refusal::Time)?;
            let is_back = former.terms == new.spec.terms;
            (!is_back).then(|| PendingRollback { deadline: deadline.into(), spec: former })
        }
        (Some(_), None) => None,
        (None, _) => under_way,
    };
    let pending = match new.metadata.annotations.get(CONFIRM) {
        None => pending,
        Some(text) if text.parse() == Ok(generation) && changed.is_none() => None,
        Some(_) => return Err(Refusal::OtherGeneration { generation }),
    };
    let (status, reason, message) = match &pending {
        Some(pending) => {
            let message = format!("the former terms come back at {}", pending.deadline);
            (ConditionStatus::False, "OnTrial", message)
        }
        None => (ConditionStatus::True, "Confirmed", String::new()),
    };
    // What became of the last trial stays to be read until there is other news.
    if pending.is_some() || changed.is_some() || !is_confirmed(new) {
        let finding = Finding::new(CONFIRMED, status, reason, message);
        set_condition(&mut new.status.conditions, finding, generation, now);
    }
    new.status.pending_rollback = pending;
    Ok(())
}

/// The policy as it is after a trial that nobody confirmed; none if there is nothing to put back.
pub(super) fn put_back(mut policy: BgpPolicy, now: Timestamp) -> Option<BgpPolicy> {
    let pending = policy.status.pending_rollback.take()?;
    policy.spec = pending.spec;
    policy.metadata.generation = policy.metadata.generation.saturating_add(1);
    let message = format!("nobody confirmed until {}: the former terms are back", pending.deadline);
    let finding = Finding::new(CONFIRMED, ConditionStatus::True, "RolledBack", message);
    set_condition(&mut policy.status.conditions, finding, policy.metadata.generation, now);
    Some(policy)
}

/// A confirmation is an act, not a state: its trace is the status.
pub(super) fn forget_annotation(value: &mut Value) {
    let annotations = value.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.shift_remove(CONFIRM);
    }
}

fn is_confirmed(policy: &BgpPolicy) -> bool {
    isocast_api::meta::find_condition(&policy.status.conditions, CONFIRMED)
        .is_some_and(|condition| condition.status == ConditionStatus::True)
}

#[cfg(test)]
mod tests {
    use isocast_api::meta::find_condition;
    use serde_json::json;

    use super::*;

    const START_S: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(START_S + second).unwrap()
    }

    fn policy(term: &str, generation: i64, confirm_within: Option<&str>) -> BgpPolicy {
        let mut spec = json!({"terms": [{"name": term, "then": "Accept"}]});
        if let Some(time) = confirm_within {
            spec["confirmWithin"] = json!(time);
        }
        let value = json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BGPPolicy",
            "metadata": {"name": "p", "generation": generation}, "spec": spec,
        });
        serde_json::from_value(value).unwrap()
    }

    /// `new` in the place of `old`, as the registry hands it over: with the old status.
    fn advanced(old: &BgpPolicy, mut new: BgpPolicy, second: i64) -> BgpPolicy {
        new.status = old.status.clone();
        advance(Some(old), &mut new, at(second)).unwrap();
        new
    }

    fn confirmed(mut policy: BgpPolicy, generation: &str) -> Result<BgpPolicy, Refusal> {
        let old = policy.clone();
        policy.metadata.annotations.insert(CONFIRM.into(), generation.into());
        advance(Some(&old), &mut policy, at(5))?;
        Ok(policy)
    }

    fn reason(policy: &BgpPolicy) -> (ConditionStatus, &str) {
        let condition = find_condition(&policy.status.conditions, CONFIRMED).unwrap();
        (condition.status, &condition.reason)
    }

    #[test]
    fn a_new_policy_is_there_to_stay() {
        let mut new = policy("a", 1, Some("1m"));

        advance(None, &mut new, at(0)).unwrap();

        assert_eq!(new.status.pending_rollback, None);
        assert_eq!(reason(&new), (ConditionStatus::True, "Confirmed"));
    }

    #[test]
    fn other_terms_are_on_trial_and_the_former_are_kept() {
        let first = policy("a", 1, Some("1m"));

        let second = advanced(&first, policy("b", 2, Some("1m")), 0);
        let third = advanced(&second, policy("c", 3, Some("2m")), 10);

        let pending = third.status.pending_rollback.clone().unwrap();
        assert_eq!(pending.spec, first.spec);
        assert_eq!(pending.deadline.timestamp(), at(130));
        assert_eq!(reason(&third), (ConditionStatus::False, "OnTrial"));
    }

    #[test]
    fn the_former_terms_again_or_terms_without_a_trial_end_it() {
        let first = policy("a", 1, Some("1m"));
        let trial = advanced(&first, policy("b", 2, Some("1m")), 0);

        for ending in [policy("a", 3, Some("1m")), policy("c", 3, None)] {
            let ended = advanced(&trial, ending, 1);

            assert_eq!(ended.status.pending_rollback, None);
            assert_eq!(reason(&ended), (ConditionStatus::True, "Confirmed"));
        }
        let goes_on = advanced(&trial, policy("b", 3, None), 1);
        assert_eq!(goes_on.status.pending_rollback, trial.status.pending_rollback);
    }

    #[test]
    fn a_confirmation_names_the_generation_that_is_meant() {
        let trial = advanced(&policy("a", 1, Some("1m")), policy("b", 2, Some("1m")), 0);

        let refused = Err(Refusal::OtherGeneration { generation: 2 });
        for generation in ["1", "3", "yes", ""] {
            assert_eq!(confirmed(trial.clone(), generation), refused);
        }
        let stays = confirmed(trial, "2").unwrap();
        assert_eq!(stays.status.pending_rollback, None);
        assert_eq!(reason(&stays), (ConditionStatus::True, "Confirmed"));
        assert_eq!(put_back(stays, at(60)), None);
    }

    #[test]
    fn a_change_cannot_confirm_itself() {
        let first = policy("a", 1, Some("1m"));
        let mut second = policy("b", 2, Some("1m"));
        second.metadata.annotations.insert(CONFIRM.into(), "2".into());

        let refused = advance(Some(&first), &mut second, at(0));

        assert_eq!(refused, Err(Refusal::OtherGeneration { generation: 2 }));
    }

    #[test]
    fn what_nobody_confirms_is_put_back_and_said_so() {
        let first = policy("a", 1, Some("1m"));
        let trial = advanced(&first, policy("b", 2, Some("1m")), 0);

        let back = put_back(trial, at(60)).unwrap();

        assert_eq!((&back.spec, back.metadata.generation), (&first.spec, 3));
        assert_eq!(back.status.pending_rollback, None);
        assert_eq!(reason(&back), (ConditionStatus::True, "RolledBack"));
        let untouched = advanced(&back, back.clone(), 61);
        assert_eq!(reason(&untouched), (ConditionStatus::True, "RolledBack"));
    }
}
