//! What was at a revision that is past, from the log.
//!
//! No view is kept for it. The changes since then are walked through once, oldest first: the first
//! one of each object says which revision had it before, and that row is still there, because the
//! log keeps what can be read at its floor or later. Everything else is as it is now.
//! Costs what happened since; blocks on the disk, so a few at a time do it, on threads of their own.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
};

use serde_json::Value;

use super::{
    Backend, BackendError, Key, Object, Operation, Range, Revision, View,
    codec::{self, Step},
    reading::Reading,
};
use crate::limits;

/// A state that is past, or why there is none.
pub(super) enum Past {
    /// As it was.
    View(View),
    /// The log begins later.
    Forgotten {
        /// There.
        floor: Revision,
    },
    /// More objects have changed since than are put back at once.
    TooMany,
}

/// The objects of `range` at `revision`, where `now` is a later state.
pub(super) fn past(
    backend: &dyn Backend,
    now: &View,
    range: &Range,
    revision: Revision,
) -> Result<Past, BackendError> {
    let reading = Reading::of(backend)?;
    let floor = reading.head.extent.floor;
    if revision < floor {
        return Ok(Past::Forgotten { floor });
    }
    let mut before: BTreeMap<Key, Revision> = BTreeMap::new();
    let mut newcomers: HashSet<Arc<str>> = HashSet::new();
    let mut is_too_much = false;
    reading.each(revision.next(), &mut |at, _, row| {
        if at > now.revision() {
            return Ok(ControlFlow::Break(()));
        }
        for step in codec::steps(at, row)? {
            if Range::Containers.contains(&step.key)
                && step.operation == Operation::Put
                && (step.previous == Revision(0) || has_moved(&reading, at, &step)?)
            {
                newcomers.insert(step.key.name().into());
            }
            if range.contains(&step.key) {
                before.entry(step.key).or_insert(step.previous);
            }
        }
        is_too_much = before.len() > limits::PAST_OBJECTS;
        Ok(if is_too_much { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if is_too_much {
        return Ok(Past::TooMany);
    }
    let mut objects: Vec<(Key, Option<Object>)> = Vec::new();
    for (key, previous) in before {
        let object = match previous {
            Revision(0) => None,
            previous => Some(reading.object(&key, previous)?),
        };
        objects.push((key, object));
    }
    Ok(Past::View(now.with(revision, objects).without(newcomers)))
}

/// Whether a change of a container brought it elsewhere.
fn has_moved(reading: &Reading<'_>, at: Revision, step: &Step) -> Result<bool, BackendError> {
    let parent = |revision| -> Result<Option<Value>, BackendError> {
        let object = reading.object(&step.key, revision)?;
        Ok(object.glance().pointer("/spec/parent").cloned())
    };
    Ok(parent(at)? != parent(step.previous)?)
}
