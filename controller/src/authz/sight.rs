//! [`Sight`]: what of a range its bearer sees, asked object by object as long as it is looked at.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use isocast_api::resourcemanager;
use jiff::Timestamp;

use crate::{
    iam::{Access, Asked, Bearer, Reach, Scope},
    store::{Key, Resource},
};

/// Sees what the bearer may see now, and what lies below a container if it is limited to one.
pub(crate) struct Sight {
    access: Arc<Access>,
    /// None: somebody whom no binding concerns.
    who: Option<Arc<Bearer>>,
    verb: &'static str,
    resource: Resource,
    scope: Option<Scope>,
    top: Option<Arc<str>>,
    /// State of the index that was asked last whether anything is visible at all.
    generation: AtomicU64,
}

impl Sight {
    pub(super) fn new(
        access: &Arc<Access>,
        who: &Arc<Bearer>,
        verb: &'static str,
        resource: Option<&Resource>,
        scope: Scope,
    ) -> Self {
        Self {
            access: Arc::clone(access),
            who: Some(Arc::clone(who)),
            verb,
            resource: resource.cloned().unwrap_or_else(|| Resource::new("namespaces", "")),
            scope: Some(scope),
            top: None,
            generation: AtomicU64::new(access.generation()),
        }
    }

    /// Everything below a container.
    pub(super) fn below(access: &Arc<Access>, top: &str) -> Self {
        Self {
            access: Arc::clone(access),
            who: None,
            verb: "list",
            resource: Resource::new("namespaces", ""),
            scope: None,
            top: Some(top.into()),
            generation: AtomicU64::new(0),
        }
    }

    /// The same, below a container only.
    pub(super) fn limited(&self, top: &str) -> Self {
        Self {
            access: Arc::clone(&self.access),
            who: self.who.clone(),
            verb: self.verb,
            resource: self.resource.clone(),
            scope: self.scope,
            top: Some(top.into()),
            generation: AtomicU64::new(self.generation.load(Ordering::Relaxed)),
        }
    }

    /// Whether the object shows.
    pub(crate) fn sees(&self, key: &Key) -> bool {
        let container = match key.container() {
            Some(namespace) => namespace,
            None if key.resource().group() == resourcemanager::GROUP => key.name(),
            // What belongs to the platform is below no other container.
            None => crate::managers::SYSTEM_NAMESPACE,
        };
        if let Some(top) = &self.top
            && !self.access.is_within(container, top)
        {
            return false;
        }
        let (Some(who), Some(scope)) = (&self.who, self.scope) else { return true };
        self.access.sees(who, scope, container, &self.asked(), Timestamp::now())
    }

    /// Whether there is still anything to see.
    pub(crate) fn holds(&self) -> bool {
        let Some(who) = &self.who else { return true };
        let generation = self.access.generation();
        if self.generation.swap(generation, Ordering::Relaxed) == generation {
            return true;
        }
        match self.scope {
            Some(Scope::Permitted(permission)) => {
                let top = self.top.as_deref();
                self.access.reach(who, permission, top, Timestamp::now()) != Reach::Nowhere
            }
            Some(Scope::Known) | None => self.access.is_live(who),
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            verb: self.verb,
            resource: &self.resource,
            subresource: "",
            namespace: None,
            name: "",
            parent: None,
        }
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sight")
            .field("who", &self.who)
            .field("top", &self.top)
            .finish_non_exhaustive()
    }
}
