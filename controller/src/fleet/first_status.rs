//! [`FirstStatus`]: the status of a backend pool from its first moment.
//!
//! What is so of a pool that no node has seen follows from the nodes there are. Left to the reporter it
//! would be a second write of each creation, and a client would see a pool of which nothing is known.
//! It only begins: whatever becomes of the pool later is the reporter's to say.

use std::{collections::BTreeMap, fmt, sync::Arc};

use isocast_api::{
    meta::ObjectMeta,
    network::{BackendPool, BackendPoolSpec, NodeSpec},
    object::Spec,
};
use parking_lot::Mutex;
use serde::Deserialize;

use super::{aggregate, compile::World};
use crate::{
    admission::{Admission, ProposedChange},
    error::ApiError,
    registry::metadata,
    store::{Document, Event, Key, Operation, Range, Resource, View},
};

/// Gives new backend pools the status that the reporter would.
pub struct FirstStatus {
    pools: Resource,
    nodes: Resource,
    /// The nodes there are, and nothing else.
    world: Mutex<World>,
}

impl Default for FirstStatus {
    fn default() -> Self {
        let resource = |plural, group| Resource::new(plural, group);
        Self {
            pools: resource(BackendPoolSpec::KIND.plural, BackendPoolSpec::KIND.group),
            nodes: resource(NodeSpec::KIND.plural, NodeSpec::KIND.group),
            world: Mutex::default(),
        }
    }
}

impl FirstStatus {
    fn take_in(&self, key: &Key, document: &Arc<Document>, operation: Operation) {
        if let Err(error) = self.world.lock().follow(key, document, operation) {
            tracing::error!(%key, %error, "node left out");
        }
    }
}

impl Admission for FirstStatus {
    fn admit(&self, _view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        let is_first = change.old.is_none() && change.subresource.is_none();
        if !is_first || *change.key.resource() != self.pools {
            return Ok(());
        }
        let Some(new) = &mut change.new else { return Ok(()) };
        let unreadable = |error: serde_json::Error| ApiError::internal(error.to_string());
        let spec = new.get("spec").map(BackendPoolSpec::deserialize);
        let Some(spec) = spec.transpose().map_err(unreadable)? else { return Ok(()) };
        // The rest of the metadata is larger, and says nothing of the status.
        let metadata = ObjectMeta {
            name: change.key.name().to_owned(),
            namespace: change.key.container().map(str::to_owned),
            uid: metadata::text(new, "uid").to_owned(),
            generation: 1,
            ..ObjectMeta::default()
        };
        let pool = BackendPool::new(metadata, spec);
        let (world, nobody) = (self.world.lock(), BTreeMap::new());
        let status = aggregate::backend_pool(&world, &pool, &nobody, change.now);
        let status = serde_json::to_value(status).map_err(unreadable)?;
        if let Some(fields) = new.as_object_mut() {
            fields.insert("status".to_owned(), status);
        }
        Ok(())
    }

    fn open(&self, view: &View) {
        *self.world.lock() = World::default();
        for node in view.range(&Range::Resource(self.nodes.clone())) {
            self.take_in(&node.key, &node.document, Operation::Put);
        }
    }

    fn follow(&self, events: &[Event], _view: &View) {
        for event in events.iter().filter(|event| *event.key.resource() == self.nodes) {
            self.take_in(&event.key, &event.document, event.operation);
        }
    }
}

impl fmt::Debug for FirstStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstStatus").field("world", &self.world).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        authz::Identity,
        fleet::testing::{node, object},
        managers::testing::{State, key_of},
    };

    /// The status of a new pool with one backend, where `be-1` is the only node.
    fn first(backend: &str) -> Value {
        let view = State::default().with(node("be-1", "ams", &["Backend"], &["10.0.0.1"])).view();
        let statuses = FirstStatus::default();
        statuses.open(&view);
        let mut pool =
            object("network", "BackendPool", "www", json!({"backends": [{"node": backend}]}));
        pool["metadata"]["namespace"] = json!("web");
        let actor = Identity::Administrator { name: "admin".into() };
        let (key, now) = (key_of(&pool), Timestamp::UNIX_EPOCH);
        let mut change = ProposedChange::new(actor, "create", None, now, key, (None, Some(pool)));

        statuses.admit(&view, &mut change).unwrap();

        change.new.unwrap()["status"].take()
    }

    #[test]
    fn a_pool_begins_with_what_is_known_of_its_nodes() {
        let known = first("be-1");
        assert_eq!(known["resolvedBackends"], 1);
        assert_eq!(known["conditions"][0]["reason"], "BackendsExist", "{known}");

        let unknown = first("be-2");
        assert_eq!(unknown["resolvedBackends"], 0);
        assert_eq!(unknown["conditions"][0]["reason"], "NodeNotFound", "{unknown}");
        assert_eq!(unknown["conditions"][1]["reason"], "Accepted", "{unknown}");
    }
}
