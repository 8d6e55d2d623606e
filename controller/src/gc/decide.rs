//! [`decide`]: what becomes of an object, by its owners and dependents. Pure.
//!
//! | the object | its owners | what follows |
//! |---|---|---|
//! | goes as an orphaner | | dependents forget it, then it goes |
//! | goes in the foreground | | it goes once nothing blocks it |
//! | goes otherwise | | others' finalizers decide |
//! | stays | one is there | it forgets those that are not |
//! | stays | all gone or going | it goes: in the foreground if an owner waits and it has dependents |

use serde_json::Value;

use super::{FOREGROUND, ORPHAN, owners::Count};
use crate::registry::{Propagation, metadata};

/// What is known of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// No such object, or one with another uid.
    Absent,
    /// It is there, or is of a kind that is not known here.
    There,
    /// It goes in the foreground: it waits for its dependents.
    Waiting,
}

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes.
    Delete {
        /// And its own dependents.
        propagation: Propagation,
        /// It must not hold its owners back any longer: they wait for each other.
        unblock: bool,
    },
    /// Takes this finalizer away.
    Finish(&'static str),
    /// It forgets these owners, by uid.
    Forget(Vec<String>),
    /// Nothing.
    Keep,
    /// Its dependents forget it.
    Orphan,
}

/// What follows for `object`; `in_circle`: one of its dependents waits for its own dependents.
pub(super) fn decide(
    object: &Value,
    owners: &[(&str, Owner)],
    dependents: Count,
    in_circle: bool,
) -> Action {
    let has = |finalizer| metadata::has_finalizer(object, finalizer);
    if metadata::is_terminating(object) {
        return match (has(ORPHAN), has(FOREGROUND)) {
            (true, _) if dependents.all == 0 => Action::Finish(ORPHAN),
            (true, _) => Action::Orphan,
            (false, true) if dependents.blocking == 0 => Action::Finish(FOREGROUND),
            _ => Action::Keep,
        };
    }
    if owners.is_empty() {
        return Action::Keep;
    }
    if owners.iter().any(|(_, owner)| *owner == Owner::There) {
        let gone = owners.iter().filter(|(_, owner)| *owner != Owner::There);
        let gone: Vec<String> = gone.map(|(uid, _)| (*uid).to_owned()).collect();
        return if gone.is_empty() { Action::Keep } else { Action::Forget(gone) };
    }
    let waits = owners.iter().any(|(_, owner)| *owner == Owner::Waiting);
    let propagation = match (has(ORPHAN), has(FOREGROUND)) {
        _ if waits && dependents.all > 0 => Propagation::Foreground,
        (true, _) => Propagation::Orphan,
        (false, true) => Propagation::Foreground,
        (false, false) => Propagation::Background,
    };
    let unblock = waits && in_circle && dependents.all > 0;
    Action::Delete { propagation, unblock }
}

/// Whether `object` goes in the foreground: it waits for its dependents, and for what uses it.
pub(crate) fn is_waiting(object: &Value) -> bool {
    metadata::is_terminating(object) && metadata::has_finalizer(object, FOREGROUND)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(terminating: bool, finalizers: &[&str]) -> Value {
        let mut object = json!({"metadata": {"finalizers": finalizers}});
        if terminating {
            object["metadata"]["deletionTimestamp"] = json!("2026-11-22T19:00:00Z");
        }
        object
    }

    fn count(all: usize, blocking: usize) -> Count {
        Count { all, blocking }
    }

    fn delete(propagation: Propagation) -> Action {
        Action::Delete { propagation, unblock: false }
    }

    #[test]
    fn an_object_goes_with_its_last_owner() {
        let plain = object(false, &[]);
        let decided = |owners: &[(&str, Owner)]| decide(&plain, owners, count(0, 0), false);

        assert_eq!(decided(&[]), Action::Keep);
        assert_eq!(decided(&[("a", Owner::There)]), Action::Keep);
        assert_eq!(decided(&[("a", Owner::Absent)]), delete(Propagation::Background));
        assert_eq!(decided(&[("a", Owner::Waiting)]), delete(Propagation::Background));
        assert_eq!(
            decided(&[("a", Owner::Absent), ("b", Owner::There), ("c", Owner::Waiting)]),
            Action::Forget(vec!["a".to_owned(), "c".to_owned()]),
        );
    }

    #[test]
    fn an_owner_in_the_foreground_waits_for_those_that_block_it() {
        let owner = object(true, &[FOREGROUND, "example.com/other"]);

        assert_eq!(decide(&owner, &[], count(3, 1), false), Action::Keep);
        assert_eq!(decide(&owner, &[], count(3, 0), false), Action::Finish(FOREGROUND));
    }

    #[test]
    fn a_dependent_of_a_waiting_owner_takes_its_own_dependents_along() {
        let middle = object(false, &[]);
        let owners = [("a", Owner::Waiting)];

        assert_eq!(decide(&middle, &owners, count(1, 0), false), delete(Propagation::Foreground),);
        assert_eq!(
            decide(&middle, &owners, count(1, 1), true),
            Action::Delete { propagation: Propagation::Foreground, unblock: true },
        );
    }

    #[test]
    fn an_orphaner_goes_when_nobody_depends_on_it_any_more() {
        let owner = object(true, &[ORPHAN]);

        assert_eq!(decide(&owner, &[], count(2, 0), false), Action::Orphan);
        assert_eq!(decide(&owner, &[], count(0, 0), false), Action::Finish(ORPHAN));
    }

    #[test]
    fn what_goes_already_is_left_to_its_finalizers() {
        let leaving = object(true, &["example.com/hold"]);

        assert_eq!(decide(&leaving, &[("a", Owner::Absent)], count(0, 0), false), Action::Keep);
    }
}
