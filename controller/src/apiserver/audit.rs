//! Audit over HTTP: records of what changes nothing, and the search in all of them.
//!
//! Changes are recorded where they are made. Here is recorded who was denied something, whose change was
//! refused, and who was given a secret: the former as soon as may be, the latter before the secret
//! leaves. What was denied and what was refused have room of their own: whoever runs into conflicts all
//! day does not hide what somebody tried that may not. Records are
//! read under rights of their own: `auditrecords.list` in a container for that container and what is
//! below it, and `auditchain.get` on the platform.

use hyper::{Method, Response, StatusCode, header::HeaderName};
use isocast_api::{quota::RequestVerb, resourcemanager};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    request::{ObjectPath, Prefix, Query, Route, verb},
    resources::not_allowed,
    respond::{self, Body},
    service::Service,
};
use crate::{
    audit::{self, Details, Outcome, Pass, Search, holds_secrets},
    authz::{Identity, verb},
    error::{ApiError, Reason},
    limits,
    managers::SYSTEM_NAMESPACE,
    registry::namespaces,
    store::{Audit, Key, Range, Resource, Revision},
};

/// What is asked about records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuditRoute {
    /// Whether they are what was written.
    Chain,
    /// Which there are.
    Records,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    pub(super) identity: &'a Result<Option<Identity>, ApiError>,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) is_watch: bool,
    pub(super) agent: &'a str,
    pub(super) is_dry_run: bool,
    /// Why it was refused, if it was.
    pub(super) refusal: Option<&'a ApiError>,
}

/// Subresources that give secrets out when they are posted to.
const SECRET_SUBRESOURCES: &[&str] = &["certificate", "token"];

/// Where everything is given out, the secrets with it.
const BACKUP: &str = "/backup";

impl AuditRoute {
    pub(super) fn of(group: &str, version: &str, plural: &str) -> Option<Self> {
        match (group, version, plural) {
            (audit::GROUP, audit::VERSION, "auditchain") => Some(Self::Chain),
            (audit::GROUP, audit::VERSION, "auditrecords") => Some(Self::Records),
            _ => None,
        }
    }
}

impl Service {
    /// Records what must be recorded of an answer, and names the request in it.
    pub(super) async fn audited(
        &self,
        answered: Answered<'_>,
        mut response: Response<Body>,
    ) -> Response<Body> {
        let code = response.status();
        let is_backup = code.is_success() && answered.path == BACKUP;
        let secret = code.is_success().then(|| secret_read(&answered)).flatten();
        // Who shows nothing is nobody, and was not denied anything.
        let is_nobody = matches!(answered.identity, Ok(None));
        if is_backup || secret.is_some() {
            if let Err(error) = self.record(&answered, secret.as_ref(), Outcome::Read, code).await {
                response = respond::refusal(&error);
            }
        } else if !is_nobody
            && let Some((outcome, path)) = unsuccessful(&answered)
            && let Err(error) = self.record(&answered, path.as_ref(), outcome, code).await
        {
            tracing::warn!(%error, "what was denied or refused cannot be recorded");
        }
        if let Some(call) = audit::current()
            && let Ok(id) = call.id.parse()
        {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        response
    }

    async fn record(
        &self,
        answered: &Answered<'_>,
        path: Option<&ObjectPath>,
        outcome: Outcome,
        code: StatusCode,
    ) -> Result<(), ApiError> {
        let (actor, impersonator) = match answered.identity {
            Ok(Some(identity)) => (identity.to_string(), identity.impersonator()),
            Ok(None) | Err(_) => (UNKNOWN.to_owned(), None),
        };
        let now = Timestamp::now();
        let limiter = match outcome {
            Outcome::Refused => &self.refused_limiter,
            Outcome::Changed | Outcome::Denied | Outcome::Read => &self.limiter,
        };
        let pass = match code {
            // On a full disk there is no room for this either.
            StatusCode::INSUFFICIENT_STORAGE => {
                limiter.lock().suppress(&actor, now);
                Pass::Suppress
            }
            _ => limiter.lock().ask(&actor, now),
        };
        let Pass::Write(suppressed) = pass else {
            self.metrics.audit_suppressed();
            return Ok(());
        };
        let key = match path {
            Some(path) => {
                let resource = Resource::new(&path.plural, &path.group);
                // What was to be made is named by the refusal alone.
                let name = path.name.as_deref().or_else(|| answered.refusal.map(ApiError::name));
                Key::new(resource, path.namespace.as_deref(), name.unwrap_or_default())
            }
            None => Key::new(Resource::new("paths", ""), None, answered.path),
        };
        let subresource = path.and_then(|path| path.subresource.clone()).unwrap_or_default();
        let container = match (key.container(), key.resource()) {
            (Some(namespace), _) => namespace,
            (None, resource) if is_container(resource) => key.name(),
            (None, _) => SYSTEM_NAMESPACE,
        };
        let details = Details {
            subresource,
            impersonator,
            scope: self.registry.access().path(container),
            outcome,
            code: code.as_u16(),
            suppressed,
            ..Details::of(audit::current().as_deref(), &key)
        };
        let audit = Audit {
            actor,
            verb: verb_of(answered, path).to_owned(),
            agent: answered.agent.chars().take(AGENT_CHARS).collect(),
            time_ms: now.as_millisecond(),
            details,
        };
        self.metrics.audit_recorded();
        let store = self.registry.store();
        match outcome {
            Outcome::Denied | Outcome::Refused => store.record_soon(key, audit),
            Outcome::Changed | Outcome::Read => store.record(key, audit).await,
        }
    }

    /// Answers a question about records.
    pub(super) async fn audit(
        &self,
        identity: &Identity,
        route: AuditRoute,
        prefix: Option<&Prefix>,
        (method, query): (&Method, &Query<'_>),
    ) -> Result<Response<Body>, ApiError> {
        if *method != Method::GET {
            return Err(not_allowed());
        }
        match (route, prefix) {
            (AuditRoute::Records, prefix) => self.records(identity, prefix, query).await,
            (AuditRoute::Chain, None) => self.chain(identity, query).await,
            (AuditRoute::Chain, Some(_)) => {
                let message = "the chain of records is the platform's: it is checked as a whole";
                Err(ApiError::new(Reason::NotFound, message))
            }
        }
    }

    async fn records(
        &self,
        identity: &Identity,
        prefix: Option<&Prefix>,
        query: &Query<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let resource = Resource::new("auditrecords", audit::GROUP);
        let place = prefix.map_or(SYSTEM_NAMESPACE, |prefix| &prefix.name);
        let range = Range::Container(resource, place.into());
        let proof = self.registry.authorize::<verb::List, _>(identity, range)?;
        let container = match prefix {
            None => None,
            Some(prefix) => Some((prefix.name.clone(), self.made(identity, &prefix.name)?)),
        };
        let text = |name: &str| query.text(name).to_owned();
        let search = Search {
            actor: text("actor"),
            id: text("id"),
            resource: text("resource"),
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            verb: text("verb"),
            outcome: text("outcome"),
            since: time(query, "since")?,
            until: time(query, "until")?,
            container,
            after: number(query, "continue")?.map(Revision).unwrap_or_default(),
            limit: number(query, "limit")?
                .map_or(limits::AUDIT_ITEMS, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        };
        let past = self.registry.store().records(&proof);
        let page = move || audit::page(&past, &search);
        let page = tokio::task::spawn_blocking(page).await;
        let page = page.map_err(|_panic| ApiError::internal("the search failed"))??;
        Ok(respond::json(StatusCode::OK, &page))
    }

    /// When a container was made: an older one of its name had other owners.
    fn made(&self, identity: &Identity, name: &str) -> Result<Timestamp, ApiError> {
        let proof = self.registry.authorize::<verb::List, _>(identity, Range::Containers)?;
        let namespace = namespaces::get(&self.registry.store().view(&proof), name)?;
        let made = namespace.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        let made = made.and_then(|made| made.parse().ok());
        made.ok_or_else(|| ApiError::internal("a container that was never made"))
    }

    async fn chain(
        &self,
        identity: &Identity,
        query: &Query<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let key = Key::new(Resource::new("auditchain", audit::GROUP), None, "");
        let proof = self.registry.authorize::<verb::Get, _>(identity, key)?;
        let from = number(query, "continue")?.map(Revision).unwrap_or_default();
        let chain = self.registry.store().chain(&proof);
        let until = number(query, "until")?.map(Revision);
        let check = move || chain.check(from, until, limits::AUDIT_SCAN);
        let checked = tokio::task::spawn_blocking(check).await;
        let checked = checked.map_err(|_panic| ApiError::internal("the check failed"))??;
        let goes_on = checked.fault.is_none() && checked.reached < checked.head;
        let metadata = match goes_on {
            true => json!({"continue": checked.reached.to_string()}),
            false => json!({}),
        };
        let answer = json!({
            "apiVersion": format!("{}/{}", audit::GROUP, audit::VERSION),
            "kind": "AuditChain",
            "metadata": metadata,
            "first": checked.first.to_string(),
            "head": checked.head.to_string(),
            "checked": checked.reached.to_string(),
            "link": checked.link,
            "intact": checked.fault.is_none(),
            "fault": checked.fault,
        });
        Ok(respond::json(StatusCode::OK, &answer))
    }
}

/// What was denied, or would have changed something; what it was about, if that is an object.
fn unsuccessful(answered: &Answered<'_>) -> Option<(Outcome, Option<ObjectPath>)> {
    let refusal = answered.refusal?;
    let path = object_path(answered.path);
    if refusal.is_denied() {
        return Some((Outcome::Denied, path));
    }
    let is_change = *answered.method != Method::GET && !answered.is_dry_run && path.is_some();
    is_change.then_some((Outcome::Refused, path))
}

/// What was asked for, if a secret was in the answer.
fn secret_read(answered: &Answered<'_>) -> Option<ObjectPath> {
    // Most requests are told at a glance.
    let may_give = match *answered.method {
        Method::GET => answered.path.contains("/secrets"),
        Method::POST => SECRET_SUBRESOURCES.iter().any(|it| answered.path.ends_with(it)),
        _ => false,
    };
    if !may_give {
        return None;
    }
    let path = object_path(answered.path)?;
    let resource = Resource::new(&path.plural, &path.group);
    let gives = match (answered.method, path.subresource.as_deref()) {
        (&Method::GET, _) => holds_secrets(resource.as_str()),
        (&Method::POST, Some(subresource)) => SECRET_SUBRESOURCES.contains(&subresource),
        _ => false,
    };
    gives.then_some(path)
}

fn object_path(path: &str) -> Option<ObjectPath> {
    match Route::parse(Prefix::split(path).1)? {
        Route::Objects(path) => Some(path),
        _ => None,
    }
}

fn is_container(resource: &Resource) -> bool {
    resourcemanager::is_container(resource.plural(), resource.group())
}

/// The verb of the API that a request is.
fn verb_of(answered: &Answered<'_>, path: Option<&ObjectPath>) -> &'static str {
    let is_one = match path {
        Some(path) => path.name.is_some(),
        None => *answered.method == Method::GET,
    };
    verb(answered.method, is_one, answered.is_watch).map_or("other", RequestVerb::as_str)
}

fn time(query: &Query<'_>, name: &'static str) -> Result<Option<Timestamp>, ApiError> {
    match query.text(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_not_a_time| malformed(name, text)),
    }
}

fn number(query: &Query<'_>, name: &'static str) -> Result<Option<u64>, ApiError> {
    match query.text(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_not_a_number| malformed(name, text)),
    }
}

fn malformed(name: &str, value: &str) -> ApiError {
    ApiError::bad_request(format!("invalid value of {name}: {value:?}"))
}

/// Names a request in its answer.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Who showed a credential that is not good.
const UNKNOWN: &str = "unknown";

/// A client's own name is no longer than that in a record.
const AGENT_CHARS: usize = 128;
