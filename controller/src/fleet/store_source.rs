//! [`StoreSource`]: the desired state as the store's objects have it.
//!
//! Follows the log, passes over what no node can notice, and compiles the rest anew, several
//! changes at a time. An object that does not decode is left out and said so: it must not hold up
//! the others.

use std::{path::Path, sync::Arc};

use isocast_api::{
    ResourceKind,
    agent::Configuration,
    registry::{self, KindDescriptor},
};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use super::{
    compile::{Compilation, World},
    keys::{KEY_BYTES, KeyError, load_or_make},
    limits::COMPILE_DELAY,
    source::{Desired, Source},
};
use crate::{
    authz::{Authorized, Authorizer, Identity, Verb, verb},
    error::{ApiError, Reason},
    store::{Event, Operation, Range, Revision, Store},
};

/// Compiles the store's objects whenever they change.
#[derive(Debug)]
pub struct StoreSource {
    store: Arc<Store>,
    cluster_secret: [u8; KEY_BYTES],
    compiled: watch::Sender<Arc<Edition>>,
    desired: watch::Sender<Arc<dyn Desired>>,
}

/// A compilation and the revision it was made at.
#[derive(Debug)]
pub(super) struct Edition {
    pub(super) revision: Revision,
    pub(super) compilation: Compilation,
}

impl StoreSource {
    /// Compiles what is in the store now. The cluster's secret is made in the folder `data` when
    /// it is not there yet.
    ///
    /// # Errors
    /// The secret cannot be loaded or made.
    pub fn open(store: Arc<Store>, data: &Path) -> Result<Arc<Self>, KeyError> {
        let cluster_secret = load_or_make(&data.join("cluster.key"))?;
        let first = Arc::new(compile(&store, &cluster_secret));
        let desired: Arc<dyn Desired> = Arc::<Edition>::clone(&first);
        let (compiled, desired) = (watch::Sender::new(first), watch::Sender::new(desired));
        Ok(Arc::new(Self { store, cluster_secret, compiled, desired }))
    }

    /// Follows the log until the store closes.
    pub async fn run(self: Arc<Self>) {
        let mut position = self.compiled.borrow().revision;
        loop {
            let Ok(proof) = right::<verb::Watch>() else { return };
            let mut cursor = match self.store.watch(&proof, position) {
                Ok(cursor) => cursor,
                Err(error) if error.reason() == Reason::Expired => {
                    position = self.publish().await;
                    continue;
                }
                Err(error) => return tracing::error!(%error, "the log cannot be followed"),
            };
            loop {
                match cursor.next().await {
                    Ok(events) => {
                        let is_news = |event: &Event| event.revision > position && matters(event);
                        if events.iter().any(is_news) {
                            sleep(COMPILE_DELAY).await;
                            position = self.publish().await;
                        }
                    }
                    Err(error) if error.reason() == Reason::Expired => {
                        position = self.publish().await;
                        break;
                    }
                    Err(_closed) => return,
                }
            }
        }
    }

    /// The newest compilation.
    pub(super) fn editions(&self) -> watch::Receiver<Arc<Edition>> {
        self.compiled.subscribe()
    }

    async fn publish(self: &Arc<Self>) -> Revision {
        let source = Arc::clone(self);
        let compiling = spawn_blocking(move || compile(&source.store, &source.cluster_secret));
        match compiling.await {
            Ok(edition) => {
                let edition = Arc::new(edition);
                let revision = edition.revision;
                let desired: Arc<dyn Desired> = Arc::<Edition>::clone(&edition);
                self.compiled.send_replace(edition);
                self.desired.send_replace(desired);
                revision
            }
            Err(error) => {
                tracing::error!(%error, "configurations could not be compiled");
                *self.store.revisions().borrow()
            }
        }
    }
}

impl Source for StoreSource {
    fn desired(&self) -> watch::Receiver<Arc<dyn Desired>> {
        self.desired.subscribe()
    }
}

impl Desired for Edition {
    fn revision(&self) -> u64 {
        self.revision.0
    }

    fn node_uid(&self, node: &str) -> Option<String> {
        let node = self.compilation.world().nodes.get(node)?;
        Some(node.metadata.uid.clone())
    }

    fn compile(&self, node: &str) -> Configuration {
        self.compilation.configuration(node).unwrap_or_default()
    }
}

/// The fleet's right to everything there is.
pub(super) fn right<V: Verb>() -> Result<Authorized<V, Range>, ApiError> {
    Authorizer.authorize(&IDENTITY, Range::Everything)
}

/// Who the fleet is to the store.
pub(super) const IDENTITY: Identity = Identity::Component { name: "fleet" };

fn compile(store: &Store, cluster_secret: &[u8; KEY_BYTES]) -> Edition {
    let mut world = World::new(cluster_secret);
    let mut revision = Revision::default();
    if let Ok(proof) = right::<verb::List>() {
        let view = store.view(&proof);
        revision = view.revision();
        for object in view.iter() {
            if let Err(error) = world.insert(&object.value) {
                tracing::error!(key = %object.key, %error, "object left out");
            }
        }
    }
    Edition { revision, compilation: Compilation::new(Arc::new(world)) }
}

/// Whether any node can notice the change: reports of status, which nodes are the source of, come
/// back by the same log.
fn matters(event: &Event) -> bool {
    let resource = event.key.resource();
    let is_its =
        |kind: &&KindDescriptor| (kind.plural, kind.group) == (resource.plural(), resource.group());
    let Some(kind) = registry::kinds().iter().find(is_its) else { return false };
    let (Some(old), true) = (&event.old, is_reported(kind.resource_kind)) else { return true };
    let differs = |path| old.pointer(path) != event.value.pointer(path);
    event.operation == Operation::Delete
        || ["/spec", "/metadata/labels", "/metadata/generation", "/metadata/uid"]
            .into_iter()
            .any(differs)
}

/// Whether the fleet writes the status of such objects.
fn is_reported(kind: ResourceKind) -> bool {
    matches!(
        kind,
        ResourceKind::AnycastService
            | ResourceKind::BackendPool
            | ResourceKind::BgpPeer
            | ResourceKind::Datacenter
            | ResourceKind::Node
    )
}
