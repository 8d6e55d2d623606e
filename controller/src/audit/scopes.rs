//! [`Scopes`]: says of each change which containers it lies in.
//!
//! Decided when the change happens, not when it is read about: who audits an organization must find
//! what became of a project after the project is gone.

use std::sync::Arc;

use isocast_api::resourcemanager::{CONTAINERS_ABOVE_MAX, is_container};
use serde_json::Value;

use crate::{
    admission::{Admission, ProposedChange},
    error::ApiError,
    iam::{Access, parent_of},
    managers::SYSTEM_NAMESPACE,
    registry::namespaces,
    store::{Key, View},
};

/// Fills [`ProposedChange::scope`] in, and [`ProposedChange::moved_to`].
#[derive(Debug)]
pub struct Scopes {
    access: Arc<Access>,
}

impl Scopes {
    /// By the tree that `access` keeps.
    #[must_use]
    pub fn new(access: Arc<Access>) -> Self {
        Self { access }
    }

    /// Where `name` is when it is below `above`.
    fn below(&self, view: &View, above: &str, name: &str) -> String {
        match above {
            SYSTEM_NAMESPACE => name.to_owned(),
            above => format!("{}/{name}", self.path(view, above)),
        }
    }

    /// `acme/eng/shop`
    fn path(&self, view: &View, container: &str) -> String {
        if container == SYSTEM_NAMESPACE {
            return String::new();
        }
        let known = self.access.path(container);
        if !known.is_empty() {
            return known;
        }
        // One that came a moment earlier, in the same batch.
        let mut steps = vec![container.to_owned()];
        while steps.len() <= CONTAINERS_ABOVE_MAX
            && let Some(above) = steps.last().and_then(|name| parent(view, name))
        {
            steps.push(above);
        }
        steps.reverse();
        steps.join("/")
    }
}

impl Admission for Scopes {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        let resource = change.key.resource();
        change.scope = match change.key.container() {
            Some(namespace) => self.path(view, namespace),
            None if !is_container(resource.plural(), resource.group()) => String::new(),
            None => {
                let name = change.key.name();
                let above = |value: &Value| parent_of(resource, value).map(str::to_owned);
                let old = change.old_value().and_then(|old| above(old));
                match (change.new.as_ref().and_then(above), old) {
                    (None, _) => self.path(view, name),
                    (Some(new), None) => self.below(view, &new, name),
                    (Some(new), Some(old)) => {
                        if new != old {
                            change.moved_to = self.below(view, &new, name);
                        }
                        self.path(view, name)
                    }
                }
            }
        };
        Ok(())
    }
}

/// The container above; none for one that is below the platform alone, or is not there.
fn parent(view: &View, name: &str) -> Option<String> {
    let places = namespaces::containers().map(|resource| Key::new(resource, None, name));
    let found = places.filter_map(|key| view.get(&key)).next()?;
    let value: &Value = &found.value();
    let above = parent_of(found.key.resource(), value)?;
    (above != SYSTEM_NAMESPACE).then(|| above.to_owned())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::{
        authz::Identity,
        managers::testing::{State, key_of, organization, project},
    };

    fn scope(state: &State, value: Value) -> String {
        let actor = Identity::Component { name: "test" };
        let view = state.view();
        let pair = (view.get(&key_of(&value)).cloned(), Some(value.clone()));
        let now = Timestamp::UNIX_EPOCH;
        let mut change = ProposedChange::new(actor, "create", None, now, key_of(&value), pair);
        Scopes::new(Arc::default()).admit(&view, &mut change).unwrap();
        change.scope
    }

    #[test]
    fn a_change_lies_in_the_containers_above_it() {
        let state = State::default().with(organization("acme")).with(project("web", "acme"));
        let pool = |namespace: &str| json!({"kind": "BackendPool", "metadata": {"name": "www", "namespace": namespace}});

        assert_eq!(scope(&state, pool("web")), "acme/web");
        assert_eq!(scope(&state, pool("isocast-system")), "");
        assert_eq!(scope(&state, project("web", "acme")), "acme/web");
        assert_eq!(scope(&state, project("new", "acme")), "acme/new");
        assert_eq!(scope(&state, organization("globex")), "globex");
        let state = state.with(organization("globex"));
        let actor = Identity::Component { name: "test" };
        let (view, moved) = (state.view(), project("web", "globex"));
        let pair = (view.get(&key_of(&moved)).cloned(), Some(moved.clone()));
        let now = Timestamp::UNIX_EPOCH;
        let mut change = ProposedChange::new(actor, "update", None, now, key_of(&moved), pair);
        Scopes::new(Arc::default()).admit(&view, &mut change).unwrap();
        assert_eq!((&*change.scope, &*change.moved_to), ("acme/web", "globex/web"));
        let site = json!({"kind": "Datacenter", "metadata": {"name": "ams"}});
        assert_eq!(scope(&state, site), "");
    }
}
