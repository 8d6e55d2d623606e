//! [`Sight`]: what of a range its bearer sees, asked object by object as long as it is looked at.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use isocast_api::resourcemanager;
use jiff::Timestamp;

use crate::{
    iam::{Access, Asked, Bearer, Reach, Scope},
    store::{Key, Resource, Revision},
};

/// Sees what the bearer may see now, and what lies below a container if it is limited to one.
pub(crate) struct Sight {
    access: Arc<Access>,
    /// None: somebody whom no binding concerns.
    who: Option<Arc<Bearer>>,
    verb: &'static str,
    resource: Resource,
    scope: Option<Scope>,
    /// The one container that it is about; none: many.
    place: Option<Arc<str>>,
    top: Option<Arc<str>>,
    began: Timestamp,
    /// State of the index that was asked last whether all is as it was.
    generation: AtomicU64,
    /// When a binding expires, in seconds since 1970.
    until: AtomicI64,
    /// It looks at the past: at which revision, and at which containers that came later.
    then: Option<(Revision, Arc<HashSet<Arc<str>>>)>,
}

/// How things are with somebody who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They see what they saw.
    Same,
    /// They may see more or less than before.
    Changed,
    /// They see nothing any more.
    Nothing,
}

/// No state of the index: it has not been asked yet.
const NEVER: u64 = u64::MAX;

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
            place: None,
            top: None,
            began: Timestamp::now(),
            generation: AtomicU64::new(NEVER),
            until: AtomicI64::new(i64::MAX),
            then: None,
        }
    }

    /// The same, of one container.
    pub(super) fn of(self, place: &str) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    /// The same, of a state that is past. What was elsewhere then was others' to see, and so was what
    /// had the name of what came later.
    pub(crate) fn at(&self, revision: Revision, newcomers: Arc<HashSet<Arc<str>>>) -> Self {
        Self { then: Some((revision, newcomers)), ..self.again() }
    }

    /// Everything below a container.
    pub(super) fn below(access: &Arc<Access>, top: &str) -> Self {
        Self {
            access: Arc::clone(access),
            who: None,
            verb: "list",
            resource: Resource::new("namespaces", ""),
            scope: None,
            place: None,
            top: Some(top.into()),
            began: Timestamp::now(),
            generation: AtomicU64::new(NEVER),
            until: AtomicI64::new(i64::MAX),
            then: None,
        }
    }

    /// The same, below a container only.
    pub(super) fn limited(&self, top: &str) -> Self {
        Self { top: Some(top.into()), ..self.again() }
    }

    /// The same, of the present, and to be judged anew.
    fn again(&self) -> Self {
        Self {
            access: Arc::clone(&self.access),
            who: self.who.clone(),
            verb: self.verb,
            resource: self.resource.clone(),
            scope: self.scope,
            place: self.place.clone(),
            top: self.top.clone(),
            began: self.began,
            generation: AtomicU64::new(NEVER),
            until: AtomicI64::new(i64::MAX),
            then: None,
        }
    }

    /// Whether the object shows.
    pub(crate) fn sees(&self, key: &Key) -> bool {
        self.looks(key, None)
    }

    /// Whether what happened to the object at a revision shows, be it that its container is gone
    /// since.
    pub(crate) fn saw(&self, key: &Key, at: Revision) -> bool {
        self.looks(key, Some(at))
    }

    fn looks(&self, key: &Key, at: Option<Revision>) -> bool {
        let container = match key.container() {
            Some(namespace) => namespace,
            None if key.resource().group() == resourcemanager::GROUP => key.name(),
            // What belongs to the platform is below no other container.
            None => crate::managers::SYSTEM_NAMESPACE,
        };
        if let Some((revision, newcomers)) = &self.then
            && container != crate::managers::SYSTEM_NAMESPACE
            && !self.access.was_here(container, *revision, newcomers)
        {
            return false;
        }
        let is_below = |top: &str| match at {
            Some(at) => self.access.was_within(container, top, at),
            None => self.access.is_within(container, top),
        };
        if self.top.as_deref().is_some_and(|top| !is_below(top)) {
            return false;
        }
        let (Some(who), Some(scope)) = (&self.who, self.scope) else { return true };
        self.access.sees(who, scope, container, at, &self.asked(), Timestamp::now())
    }

    /// Whether what is seen is still what was seen at a revision.
    pub(crate) fn standing(&self, since: Revision) -> Standing {
        let now = Timestamp::now();
        let generation = self.access.generation();
        let is_asked = self.generation.swap(generation, Ordering::Relaxed) == generation;
        if is_asked && now.as_second() < self.until.load(Ordering::Relaxed) {
            return Standing::Same;
        }
        let who = self.who.as_deref().zip(self.scope);
        if let Some((who, scope)) = who
            && !self.sees_anything(who, scope, now)
        {
            return Standing::Nothing;
        }
        // Of one container either everything shows or nothing; what it held elsewhere, or what had its
        // name, were others' to see.
        if let Some(place) = &self.place {
            let was_here = self.access.was_here(place, since, &HashSet::new());
            let exists = self.access.exists(place);
            return if was_here || !exists { Standing::Same } else { Standing::Changed };
        }
        let began = (since, self.began);
        match self.access.changes_after(who, self.top.as_deref(), began, now) {
            Some(until) => {
                self.until.store(until, Ordering::Relaxed);
                Standing::Same
            }
            None => Standing::Changed,
        }
    }

    fn sees_anything(&self, who: &Bearer, scope: Scope, now: Timestamp) -> bool {
        match (scope, &self.place) {
            (_, Some(place)) => self.access.sees(who, scope, place, None, &self.asked(), now),
            (Scope::Permitted(permission), None) => {
                let top = self.top.as_deref();
                self.access.reach(who, permission, top, now) != Reach::Nowhere
            }
            (Scope::Known, None) => self.access.is_live(who),
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
