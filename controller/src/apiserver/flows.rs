//! [`Flows`]: how many requests a tenant may have under way, so that none keeps the others out.
//!
//! The platform goes before people and programs, and these before what asks for much at once. Nobody
//! waits in line: one too many is told to come back. A tenant is the organization of a service
//! account, or a user.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hyper::Method;
use parking_lot::Mutex;

use super::request::Route;
use crate::{
    authz::Identity,
    error::{ApiError, Reason},
    iam::{Access, SubjectName},
    limits,
};

/// Requests under way, by whom.
#[derive(Debug, Default)]
pub(super) struct Flows(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    flows: HashMap<String, Count, RandomState>,
    all: Count,
}

/// Requests under way.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    requests: usize,
    /// Those of them that ask for much.
    bulk: usize,
}

/// How much a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// All objects of a kind, or their removal.
    Bulk,
    /// Anything else.
    Single,
}

/// Counts one request as long as it is under way.
#[derive(Debug)]
pub(super) struct Turn {
    counts: Arc<Mutex<Counts>>,
    /// None: the platform's own.
    flow: Option<String>,
    weight: Weight,
}

impl Weight {
    /// How much `method` asks for at `route`.
    pub(super) fn of(method: &Method, route: &Route) -> Self {
        let is_collection = match route {
            Route::Objects(path) => path.name.is_none(),
            Route::Namespaces { name } => name.is_none(),
            _ => false,
        };
        if is_collection && *method != Method::POST { Self::Bulk } else { Self::Single }
    }
}

impl Flows {
    /// Lets a request of `identity` in, or says to come back.
    pub(super) fn enter(
        &self,
        access: &Access,
        identity: &Identity,
        weight: Weight,
    ) -> Result<Turn, ApiError> {
        self.take(flow(access, identity), weight)
    }

    fn take(&self, flow: Option<String>, weight: Weight) -> Result<Turn, ApiError> {
        if let Some(flow) = &flow {
            let counts = &mut *self.0.lock();
            let own = counts.flows.entry_ref(flow.as_str()).or_default();
            let bulk = weight == Weight::Bulk;
            let has_room = own.requests < limits::FLOW_REQUESTS
                && counts.all.requests < limits::TENANTS_REQUESTS
                && (!bulk
                    || own.bulk < limits::FLOW_BULK && counts.all.bulk < limits::TENANTS_BULK);
            if !has_room {
                if own.requests == 0 {
                    counts.flows.remove(flow.as_str());
                }
                let message = "too many requests at once, please try again later";
                return Err(ApiError::new(Reason::TooManyRequests, message).with_retry_after(1));
            }
            for count in [own, &mut counts.all] {
                count.requests += 1;
                count.bulk += usize::from(bulk);
            }
        }
        Ok(Turn { counts: Arc::clone(&self.0), flow, weight })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(flow) = &self.flow else { return };
        let counts = &mut *self.counts.lock();
        let bulk = usize::from(self.weight == Weight::Bulk);
        let leave = |count: &mut Count| {
            count.requests = count.requests.saturating_sub(1);
            count.bulk = count.bulk.saturating_sub(bulk);
            count.requests
        };
        leave(&mut counts.all);
        if counts.flows.get_mut(flow.as_str()).is_some_and(|own| leave(own) == 0) {
            counts.flows.remove(flow.as_str());
        }
    }
}

/// Whom a request is counted for; none: the platform.
fn flow(access: &Access, identity: &Identity) -> Option<String> {
    match identity {
        Identity::Administrator { .. } | Identity::Component { .. } => None,
        Identity::Node { name } => Some(format!("node {name}")),
        Identity::Subject(who) => Some(match &who.subject {
            SubjectName::ServiceAccount(namespace, _) => {
                let top = access.organization_of(namespace);
                format!("organization {}", top.as_deref().unwrap_or(namespace))
            }
            subject => format!("user {}", subject.username()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(flows: &Flows, flow: &str, weight: Weight) -> Result<Turn, u16> {
        flows.take(Some(flow.to_owned()), weight).map_err(|refusal| refusal.code())
    }

    #[test]
    fn one_tenant_too_many_is_told_to_come_back_and_others_are_not() {
        let flows = Flows::default();
        let mut turns: Vec<Turn> = (0..limits::FLOW_REQUESTS)
            .map(|_| enter(&flows, "a", Weight::Single).expect("there is room"))
            .collect();

        let refusal = flows.take(Some("a".to_owned()), Weight::Single).expect_err("full");
        assert_eq!((refusal.code(), refusal.retry_after()), (429, Some(1)));
        let other = enter(&flows, "b", Weight::Single).expect("has room of its own");

        turns.pop();
        turns.push(enter(&flows, "a", Weight::Single).expect("one left"));
        drop((turns, other));
        assert!(flows.0.lock().flows.is_empty(), "nobody is remembered");
    }

    #[test]
    fn lists_ask_for_much_and_creates_do_not() {
        let of = |method, path| Weight::of(&method, &Route::parse(path).expect("a route"));
        for path in ["/api/v1/namespaces", "/api/v1/namespaces/web/secrets", "/apis/g/v/nodes"] {
            assert_eq!(of(Method::GET, path), Weight::Bulk, "{path}");
            assert_eq!(of(Method::DELETE, path), Weight::Bulk, "{path}");
            assert_eq!(of(Method::POST, path), Weight::Single, "{path}");
        }
        assert_eq!(of(Method::GET, "/apis/g/v/nodes/a"), Weight::Single);
        assert_eq!(of(Method::GET, "/apis"), Weight::Single);
    }

    #[test]
    fn what_asks_for_much_leaves_room_for_what_does_not() {
        let flows = Flows::default();
        let _lists: Vec<Turn> = (0..limits::FLOW_BULK)
            .map(|_| enter(&flows, "a", Weight::Bulk).expect("there is room"))
            .collect();

        assert_eq!(enter(&flows, "a", Weight::Bulk).err(), Some(429));
        assert!(enter(&flows, "a", Weight::Single).is_ok());
    }

    #[test]
    fn however_many_tenants_there_are_the_platform_gets_in() {
        let flows = Flows::default();
        let mut turns = Vec::new();
        for tenant in 0..limits::TENANTS_REQUESTS {
            turns.push(enter(&flows, &tenant.to_string(), Weight::Single).expect("there is room"));
        }

        assert_eq!(enter(&flows, "late", Weight::Single).err(), Some(429));
        assert!(flows.take(None, Weight::Bulk).is_ok());
    }
}
