//! [`Service`]: from a request to its answer: who asks, within which limits, and what was said.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{self, Body as _, Incoming},
    header::{self, HeaderValue},
    http::request,
};
use isocast_api::resourcemanager;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Extension, Metrics, Relayed,
    audit::Answered,
    authenticate::{identify, unauthorized},
    backup::Backups,
    compress::compressed,
    discovery::Discovery,
    flows::{Caller, Flows, Turn, Weight},
    impersonate::impersonated,
    methods::methods,
    openapi::{OpenApi, V2, V2_ASKED_AS},
    paced::{Disconnect, paced},
    request::{Prefix, Query, Route, address},
    resources::{Call, unknown_resource},
    respond::{self, Body, JSON},
    websocket::{Handshake, Slot},
    yaml,
};
use crate::{
    audit::Limiter,
    authz::Identity,
    cabinet::Cabinet,
    error::{ApiError, Reason},
    limits,
    managers::Quota,
    registry::Registry,
    store::{Key, Resource},
};

/// Everything a request needs.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) registry: Arc<Registry>,
    pub(super) quota: Option<Arc<Quota>>,
    pub(super) openapi: OpenApi,
    pub(super) discovery: Discovery,
    pub(super) flows: Flows,
    pub(super) extensions: Vec<Extension>,
    pub(super) relayed: Vec<Relayed>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backups: Backups,
    /// Where the controller's own files are.
    pub(super) files: Option<Arc<dyn Cabinet>>,
    /// How long a client may leave a piece of an answer untaken.
    pub(super) patience: Duration,
    /// How much is recorded of what changes nothing.
    /// Of what was denied and read.
    pub(super) limiter: Mutex<Limiter>,
    /// Of changes that were refused.
    pub(super) refused_limiter: Mutex<Limiter>,
    pub(super) shutdown: CancellationToken,
}

impl Service {
    /// Answers one request of `identity`. Whoever wants a WebSocket finds it in `slot`.
    pub(super) async fn answer(
        &self,
        identity: Option<&Identity>,
        mut request: Request<Incoming>,
        disconnect: Disconnect,
        slot: &Slot,
    ) -> Response<Body> {
        let started = Instant::now();
        let method = request.method().clone();
        if let Some(unescaped) = address::unescaped(request.uri()) {
            *request.uri_mut() = unescaped;
        }
        if *request.method() == Method::GET
            && let Some(today) = address::of_former_watch(request.uri())
        {
            *request.uri_mut() = today;
        }
        let uri = request.uri().clone();
        let query = Query::parse(uri.query().unwrap_or_default());
        let is_watch = query.is_watch();
        let is_dry_run = !query.text("dryRun").is_empty();
        let agent = request.headers().get(header::USER_AGENT).cloned();
        let known_as = self.identify(identity, request.headers());
        let in_yaml = yaml::is_asked_for(request.headers());
        let identity = known_as.as_ref().ok().and_then(Option::as_ref);
        let mut handshake = None;
        let result = match self.metrics.begin_request() {
            Some(_under_way) => {
                let asker = known_as.as_ref().map(Option::as_ref).map_err(ApiError::clone);
                let answered = async {
                    if is_watch {
                        handshake = Handshake::of(&mut request)?;
                    }
                    self.dispatch(asker, request, query, in_yaml).await
                };
                let late = ApiError::new(Reason::Timeout, "the request took too long");
                timeout(limits::REQUEST_TIMEOUT, answered)
                    .await
                    .unwrap_or_else(|_elapsed| Err(late))
            }
            None => Err(ApiError::new(Reason::TooManyRequests, "too many requests at once")
                .with_retry_after(1)),
        };
        let refusal = result.as_ref().err().cloned();
        let response = match result {
            Ok(response) => response,
            Err(error) if in_yaml => yaml::refusal(&error).await,
            Err(error) => respond::refusal(&error),
        };
        let answered = Answered {
            identity: &known_as,
            method: &method,
            path: uri.path(),
            is_watch,
            agent: agent.as_ref().and_then(|agent| agent.to_str().ok()).unwrap_or_default(),
            is_dry_run,
            refusal: refusal.as_ref(),
        };
        let response = self.audited(answered, response).await;
        let response = match method {
            Method::HEAD => respond::without_content(response),
            _ => response,
        };
        // What has no size is streamed, and may be large.
        let size = response.body().size_hint().exact();
        let is_small = |size: u64| size < limits::PACED_FROM as u64;
        let response = match size.is_some_and(is_small) {
            true => response,
            false => response.map(|body| paced(body, disconnect)),
        };
        let response = match handshake {
            Some(handshake) if response.status() == StatusCode::OK => {
                handshake.complete(response, slot)
            }
            _ => response,
        };
        let code = response.status().as_u16();
        let elapsed = started.elapsed();
        self.metrics.answered(known(&method), code, (!is_watch).then_some(elapsed));
        tracing::info!(
            target: "isocast_controller::access",
            actor = identity.map_or_else(|| "anonymous".to_owned(), ToString::to_string),
            %method,
            path = uri.path(),
            query = uri.query().unwrap_or_default(),
            code,
            elapsed_us = micros(elapsed),
            agent = agent.as_ref().and_then(|agent| agent.to_str().ok()).unwrap_or_default(),
            "answered"
        );
        response
    }

    /// Who asks, and as whom; none: nobody in particular.
    fn identify(
        &self,
        certificate: Option<&Identity>,
        headers: &HeaderMap,
    ) -> Result<Option<Identity>, ApiError> {
        let now = Timestamp::now();
        match identify(self.registry.access(), certificate, headers, now)? {
            Some(identity) => impersonated(&self.registry, identity, headers, now).map(Some),
            None => Ok(None),
        }
    }

    async fn dispatch(
        &self,
        identity: Result<Option<&Identity>, ApiError>,
        request: Request<Incoming>,
        query: Query<'_>,
        in_yaml: bool,
    ) -> Result<Response<Body>, ApiError> {
        let (head, body) = request.into_parts();
        expect_short(&head)?;
        let (prefix, path) = Prefix::split(head.uri.path());
        let route = Route::parse(path);
        match route {
            Some(Route::Health | Route::Version)
                if head.method != Method::GET && head.method != Method::HEAD =>
            {
                return Err(only_read().allowing("GET, HEAD"));
            }
            Some(Route::Health) => {
                return Ok(health(self.registry.store().is_alive(), path, query.has("verbose")));
            }
            Some(Route::Version) => return Ok(respond::json(StatusCode::OK, &version())),
            _ => {}
        }
        let identity = identity?.ok_or_else(unauthorized)?;
        if let Some(prefix) = &prefix {
            self.enter(identity, prefix)?;
        }
        let route = route.ok_or_else(unknown_resource)?;
        if matches!(route, Route::Backup) && prefix.is_none() {
            let (store, files) = (self.registry.store(), self.files.as_ref());
            return self.backups.serve(store, files, identity, &head.method);
        }
        let caller = Caller { access: self.registry.access(), identity };
        expect_plain(&head.headers)?;
        let body = match body.is_end_stream() {
            true => Bytes::new(),
            false => {
                let _room = self.flows.begin_body(caller)?;
                let late = ApiError::new(Reason::Timeout, "the body took too long to arrive");
                timeout(self.patience / 2, read(body)).await.unwrap_or(Err(late))?
            }
        };
        // Whoever waits for it takes no seat.
        if head.method == Method::GET
            && let Ok(Some(version)) = query.version()
        {
            self.registry.store().reach(version.revision()).await;
        }
        let weight = Weight::of(&head.method, &route, query.is_watch());
        let Turn { seat: _seat, answer } = self.flows.enter(caller, weight).await?;
        let call = Call {
            registry: &self.registry,
            quota: self.quota.as_deref(),
            extensions: &self.extensions,
            relayed: &self.relayed,
            metrics: &self.metrics,
            flows: &self.flows,
            shutdown: &self.shutdown,
            identity,
            prefix: prefix.as_ref(),
            method: &head.method,
            headers: &head.headers,
            raw_query: head.uri.query(),
            query,
            body,
        };
        let in_view = call.prefix.is_some();
        let answered = match &route {
            Route::Objects(path) => call.objects(path).await.or_else(|error| call.told(error)),
            Route::Review { review, namespace } => call.review(*review, namespace.as_deref()),
            Route::Audit(route) => {
                self.audit(identity, *route, prefix.as_ref(), (&head.method, &call.query)).await
            }
            Route::Definitions { name } => {
                call.definitions(name.as_deref()).or_else(|error| call.told(error))
            }
            Route::Namespaces { name } => {
                call.namespaces(name.as_deref()).or_else(|error| call.told(error))
            }
            _ if head.method != Method::GET => Err(only_read()),
            Route::CoreVersions => Ok(self.discovery.core(in_view, &head.headers)),
            Route::CoreResources => found(self.discovery.resources(in_view, "", "v1")),
            Route::Groups => Ok(self.discovery.groups(in_view, &head.headers)),
            Route::Group { group } => found(self.discovery.group(in_view, group)),
            Route::GroupVersion { group, version } => {
                found(self.discovery.resources(in_view, group, version))
            }
            Route::Index => Ok(self.discovery.index(in_view)),
            Route::OpenApi => Ok(respond::json(StatusCode::OK, self.openapi.index())),
            Route::OpenApiV2 => self.document_v2(&head.headers),
            Route::OpenApiGroup { path } => {
                self.document(path, call.query.text("hash"), &head.headers)
            }
            Route::Backup | Route::Health | Route::Version => Err(unknown_resource()),
        };
        let answered = answered.map_err(|error| error.allowing(methods(&route, &self.registry)));
        let answered = match in_yaml {
            true => yaml::translated(&head.method, answered?).await?,
            false => answered?,
        };
        let response = compressed(&head.method, &head.headers, answered);
        Ok(match answer {
            Some(seat) => response.map(|body| respond::holding(body, seat)),
            None => response,
        })
    }

    /// A view of a container that one may not know of does not exist.
    fn enter(&self, identity: &Identity, prefix: &Prefix) -> Result<(), ApiError> {
        let access = self.registry.access();
        let known = match identity {
            Identity::Subject(who) => access.knows(who, &prefix.name, Timestamp::now()),
            Identity::Node { .. } => false,
            Identity::Administrator { .. } | Identity::Component { .. } => true,
        };
        if known && access.has_container(&prefix.plural, &prefix.name) {
            return Ok(());
        }
        let resource = Resource::new(&prefix.plural, resourcemanager::GROUP);
        Err(ApiError::not_found(&Key::new(resource, None, &prefix.name)))
    }

    fn document(
        &self,
        path: &str,
        hash: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, ApiError> {
        let document = self.openapi.document(path).ok_or_else(unknown_resource)?;
        let body = document.body.clone();
        let mut response = respond::tagged(headers, &document.hash, JSON, body);
        let headers = response.headers_mut();
        // The hash is in the address: what it leads to never changes.
        let cache = if hash == document.hash { "public, immutable" } else { "no-cache, private" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        Ok(response)
    }

    /// Version 2, in the first form that the client names: protobuf, or JSON.
    fn document_v2(&self, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
        let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let ranges = accepted.unwrap_or("*/*").split(',');
        let mut types = ranges.filter_map(|range| range.split(';').next()).map(str::trim);
        let (document, media_type) = types
            .find_map(|it| match it {
                V2 | V2_ASKED_AS => Some((self.openapi.v2(), HeaderValue::from_static(V2))),
                "application/json" | "application/*" | "*/*" => {
                    Some((self.openapi.swagger(), JSON))
                }
                _ => None,
            })
            .ok_or_else(|| {
                let types = format!("application/json, {V2}");
                let message = format!("only the following media types are accepted: {types}");
                ApiError::new(Reason::NotAcceptable, message)
            })?;
        let mut response =
            respond::tagged(headers, &document.hash, media_type, document.body.clone());
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        Ok(response)
    }
}

fn only_read() -> ApiError {
    ApiError::new(Reason::MethodNotAllowed, "this path can only be read")
}

/// Refuses what no client needs to say before it says what it wants.
fn expect_short(head: &request::Parts) -> Result<(), ApiError> {
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if headers.sum::<usize>() + target <= limits::HEADER_BYTES {
        return Ok(());
    }
    let message = format!("the head of the request is larger than {} bytes", limits::HEADER_BYTES);
    Err(ApiError::new(Reason::RequestHeaderTooLarge, message))
}

/// A body is read as it comes: what a few bytes of gzip can become has no limit.
fn expect_plain(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let message = "the body of a request may not be compressed";
            Err(ApiError::new(Reason::UnsupportedMediaType, message))
        }
        _ => Ok(()),
    }
}

async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, limits::BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {} bytes", limits::BODY_BYTES);
            Err(ApiError::new(Reason::RequestEntityTooLarge, message))
        }
        Err(error) => Err(ApiError::bad_request(format!("the body cannot be read: {error}"))),
    }
}

fn found(value: Option<Value>) -> Result<Response<Body>, ApiError> {
    value.map(|value| respond::json(StatusCode::OK, &value)).ok_or_else(unknown_resource)
}

/// `/healthz`, `/livez` and `/readyz`: a word, or what was looked at.
fn health(is_alive: bool, path: &str, is_verbose: bool) -> Response<Body> {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let name = path.trim_matches('/');
    let (code, body) = match (is_alive, is_verbose) {
        (true, false) => (StatusCode::OK, "ok".to_owned()),
        (true, true) => (StatusCode::OK, format!("[+]store ok\n{name} check passed\n")),
        (false, false) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the store takes no writes".to_owned())
        }
        (false, true) => {
            let body = format!("[-]store failed: it takes no writes\n{name} check failed\n");
            (StatusCode::INTERNAL_SERVER_ERROR, body)
        }
    };
    respond::bytes(code, plain, body)
}

/// `/version`: the Kubernetes API whose conventions are followed, and what this is.
fn version() -> Value {
    json!({
        "major": "1",
        "minor": "37",
        "gitVersion": concat!("v1.37.0+isocast-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": concat!("linux/", "amd64"),
    })
}

/// A method as a label: few values, whatever clients send.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
            method.as_str()
        }
        _ => "other",
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
