//! [`Protection`]: what is in use, or kept by a lien, is not deleted.
//!
//! Two rules, each in the transaction that would delete:
//! - An object that others need is not deleted while they do; which fields need what is declared with
//!   the kinds ([`Reference`]). A user that goes itself does not count: one that waits for its own
//!   dependents, or that stands in the same dying container. Whoever deletes in the foreground is not
//!   refused: the object is marked, and waits for its users as it does for its dependents.
//! - An object that a [`Lien`](isocast_api::resourcemanager::Lien) keeps is not deleted by anybody,
//!   nor is a container above it.
//!
//! A refusal names users only to those who may see them.

mod index;
mod liens;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use isocast_api::{
    reference::Reference,
    resourcemanager::{LienSpec, Restriction},
};
use parking_lot::Mutex;
use serde_json::Value;

use self::index::Index;
use super::lookup::{self, Step, text};
use crate::{
    admission::{Admission, ProposedChange},
    authz::Identity,
    error::{ApiError, Cause},
    gc,
    iam::Access,
    registry::namespaces,
    store::{Event, Key, Object, View},
};

/// Keeps what is in use. Goes last among the admissions: it must see what they make of a write.
pub struct Protection {
    access: Arc<Access>,
    index: Mutex<Index>,
}

/// Users named in a refusal.
const USERS_SHOWN: usize = 5;
/// Users looked at to find some that may be named.
const USERS_SEEN: usize = 64;

impl Protection {
    /// Names users to those whom `access` lets see them.
    #[must_use]
    pub fn new(access: Arc<Access>) -> Self {
        Self { access, index: Mutex::default() }
    }

    fn expect_unused(
        &self,
        index: &Index,
        view: &View,
        change: &ProposedChange,
    ) -> Result<(), ApiError> {
        let (target, old) = (&change.key, change.old_value());
        let (mut count, candidates) = index.candidates(target);
        let mut users: Vec<(&Key, &'static Reference)> = Vec::new();
        for key in candidates.filter(|key| *key != target) {
            let held = view.get(key).and_then(|user| {
                let reference = index.use_of(key, &user.value(), target)?;
                (!goes_as_well(view, user, target, old.map(|old| &**old))).then_some(reference)
            });
            match held {
                Some(reference) => users.push((key, reference)),
                None => count = count.saturating_sub(1),
            }
            if users.len() == USERS_SEEN {
                break;
            }
        }
        if users.is_empty() {
            return Ok(());
        }
        let count = count.max(users.len());
        let mut shown = users;
        shown.retain(|(key, _)| self.may_see(change, key));
        shown.truncate(USERS_SHOWN);
        Err(refusal(target, &shown, count))
    }

    fn may_see(&self, change: &ProposedChange, key: &Key) -> bool {
        match change.actor {
            Identity::Administrator { .. } | Identity::Component { .. } => true,
            _ => self.access.allows(&change.actor, "get", key, change.now),
        }
    }

    fn expect_no_lien(
        &self,
        index: &Index,
        view: &View,
        change: &ProposedChange,
        restriction: Restriction,
    ) -> Result<(), ApiError> {
        let target = &change.key;
        let Some(lien) = liens::find(index, view, target, restriction, change.now) else {
            return Ok(());
        };
        let verb = match restriction {
            Restriction::Delete => "delete",
            Restriction::Update => "update",
        };
        let resource = lookup::resource::<LienSpec>();
        let key = Key::new(resource, Some(lien.namespace()), lien.name());
        Err(liens::refusal(&lien, target, verb, self.may_see(change, &key)))
    }
}

impl Admission for Protection {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        let mut index = self.index.lock();
        index.begin(view);
        if change.key.resource().is_of::<LienSpec>() {
            liens::admit(view, change)?;
        }
        let step = Step::of(change);
        if step.asks_for_deletion() {
            self.expect_no_lien(&index, view, change, Restriction::Delete)?;
            if !change.new.as_ref().is_some_and(gc::is_waiting) {
                self.expect_unused(&index, view, change)?;
            }
        } else if change.old_value().is_some_and(|old| gc::is_waiting(old))
            && !change.new.as_ref().is_some_and(gc::is_waiting)
        {
            self.expect_unused(&index, view, change)?;
        } else if step == Step::Update && changes_spec(change) {
            self.expect_no_lien(&index, view, change, Restriction::Update)?;
        }
        for (key, value) in change.writes() {
            if let Some(value) = value {
                index.propose(key, value);
            }
        }
        Ok(())
    }

    fn open(&self, view: &View) {
        *self.index.lock() = Index::of(view);
    }

    fn follow(&self, events: &[Event], _view: &View) {
        self.index.lock().follow(events);
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection").finish_non_exhaustive()
    }
}

fn changes_spec(change: &ProposedChange) -> bool {
    let new = change.new.as_ref().and_then(|new| new.get("spec"));
    change.subresource.is_none() && change.old_value().and_then(|old| old.get("spec")) != new
}

/// Whether a user is on its way out with what it uses, and so keeps nothing.
fn goes_as_well(view: &View, user: &Object, target: &Key, value: Option<&Value>) -> bool {
    let is_leaving = |value: &Value| text(value, "/metadata/deletionTimestamp").is_some();
    let owners = value.and_then(|value| value.pointer("/metadata/ownerReferences"));
    let itself = user.value();
    let uid = text(&itself, "/metadata/uid");
    let owns = || {
        let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
        owners.any(|owner| uid.is_some() && text(owner, "/uid") == uid)
    };
    if is_leaving(&itself) && owns() {
        return true;
    }
    let Some(container) = user.key.container().filter(|it| target.container() == Some(*it)) else {
        return false;
    };
    let containers = namespaces::containers().map(|kind| Key::new(kind, None, container));
    containers.filter_map(|key| view.get(&key)).any(|container| is_leaving(&container.value()))
}

fn refusal(target: &Key, shown: &[(&Key, &'static Reference)], count: usize) -> ApiError {
    let describe = |key: &Key| {
        let resource = key.resource().plural();
        match key.container().filter(|namespace| target.container() != Some(*namespace)) {
            Some(namespace) => format!("{resource} {:?} in namespace {namespace:?}", key.name()),
            None => format!("{resource} {:?}", key.name()),
        }
    };
    let mut names: Vec<String> = shown.iter().map(|(key, _)| describe(key)).collect();
    match count.saturating_sub(shown.len()) {
        0 => {}
        others if names.is_empty() => names.push(format!("{others} that you may not see")),
        others => names.push(format!("{others} more")),
    }
    let causes = shown
        .iter()
        .map(|(key, reference)| Cause {
            reason: "InUse".to_owned(),
            message: format!("{} names it in {}", describe(key), reference.field()),
            field: String::new(),
        })
        .collect();
    ApiError::conflict(target, &format!("it is in use by {}", names.join(", "))).with_causes(causes)
}
