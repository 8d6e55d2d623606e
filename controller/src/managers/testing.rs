//! A state to propose changes to, without a store.

use std::sync::Arc;

use isocast_api::registry::{self, Scope};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    admission::ProposedChange,
    authz::Identity,
    error::ApiError,
    store::{Key, Object, Resource, Revision, View},
};

/// Objects that are taken as they are.
#[derive(Debug, Default)]
pub(crate) struct State {
    objects: Vec<Object>,
    now_s: i64,
}

impl State {
    /// The state with one more object, or another in its place.
    pub(crate) fn with(mut self, value: Value) -> Self {
        let key = key_of(&value);
        self.objects.retain(|object| object.key != key);
        self.objects.push(Object { key, revision: Revision(1), value: Arc::new(value) });
        self
    }

    /// The state at another time.
    pub(crate) fn at(mut self, now_s: i64) -> Self {
        self.now_s = now_s;
        self
    }

    /// The state after an accepted change.
    pub(crate) fn after(mut self, change: ProposedChange) -> Self {
        for (key, value) in change.into_writes() {
            self.objects.retain(|object| object.key != key);
            if let Some(value) = value {
                self.objects.push(Object { key, revision: Revision(1), value: Arc::new(value) });
            }
        }
        self
    }

    pub(crate) fn create(&self, value: Value) -> Result<ProposedChange, ApiError> {
        self.propose("create", key_of(&value), Some(value))
    }

    pub(crate) fn update(&self, value: Value) -> Result<ProposedChange, ApiError> {
        self.propose("update", key_of(&value), Some(value))
    }

    pub(crate) fn delete(&self, key: &Key) -> Result<ProposedChange, ApiError> {
        self.propose("delete", key.clone(), None)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.iter().find(|object| object.key == *key).map(|object| &*object.value)
    }

    pub(crate) fn view(&self) -> View {
        self.view_at(Revision(1))
    }

    pub(crate) fn view_at(&self, revision: Revision) -> View {
        View::new(revision, self.objects.clone())
    }

    fn propose(
        &self,
        verb: &'static str,
        key: Key,
        new: Option<Value>,
    ) -> Result<ProposedChange, ApiError> {
        let view = self.view();
        let actor = Identity::Administrator { name: "admin".into() };
        let now = Timestamp::from_second(self.now_s).unwrap();
        let old = view.get(&key).cloned();
        let mut change = ProposedChange::new(actor, verb, None, now, key, (old, new));
        for admission in super::admissions(&Arc::default()) {
            admission.open(&view);
            admission.admit(&view, &mut change)?;
        }
        Ok(change)
    }
}

/// Where an object is kept.
pub(crate) fn key_of(value: &Value) -> Key {
    let kind = registry::kinds().iter().find(|kind| value["kind"] == kind.kind).unwrap();
    let resource = Resource::new(kind.plural, kind.group);
    let namespace = match kind.scope {
        Scope::Cluster => None,
        Scope::Namespaced => value["metadata"]["namespace"].as_str(),
    };
    Key::new(resource, namespace, value["metadata"]["name"].as_str().unwrap())
}

pub(crate) fn organization(name: &str) -> Value {
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Organization",
        "metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": {},
    })
}

/// Status of a pool whose grants are these organizations'.
pub(crate) fn granted(organizations: &[&str]) -> Value {
    let holder = |name: &&str| json!({"organization": name, "uid": format!("uid-{name}")});
    json!({"grants": organizations.iter().map(holder).collect::<Vec<_>>()})
}

pub(crate) fn project(name: &str, organization: &str) -> Value {
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Project",
        "metadata": {"name": name},
        "spec": {"parent": {"kind": "Organization", "name": organization}},
    })
}
